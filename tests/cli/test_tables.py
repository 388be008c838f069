"""Tables fit terminals: numbers whole, names told apart, no line too wide; in pipes nothing is cut.

Each table of the command line is printed from rows as its command makes them, without a simulator.
"""

from __future__ import annotations

import ast
import io
import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.cells import cell_len

from pipelines.artifacts.gc import Entry
from pipelines.artifacts.verify import Problem
from pipelines.artifacts.workspace import Workspace
from pipelines.histories.quality import HistoryQuality, Quality
from pipelines.pack.stage import paper_plan
from vintix_cli import layout, render
from vintix_cli.commands import (
    artifacts,
    doctor,
    interchange,
    quickstart,
    report,
    rollout,
    stages,
    tasks,
)
from vintix_cli.layout import Column, arrange, naming_columns
from vintix_cli.options import Place, Run

TASKS = ("hand-catch-over-2-underarm", "hand-catch-over-2-overarm", "ib-100")
DOMAIN = "industrial-benchmark"
WIDTHS = (80, 120, 200)
NUMBER = re.compile(r"(?=\S*\d)[^\s\w]*[\d.,:@%/-]+[^\s\w]*")
_COMMANDS = Path(render.__file__).parent


class _Terminal(io.StringIO):
    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


@dataclass
class Printed:
    """What reached stdout, and the tables that it was made of."""

    text: str = ""
    tables: list[list[Column]] = field(default_factory=list)
    callers: set[tuple[str, str]] = field(default_factory=set)


def _result(**found):
    return SimpleNamespace(report=found)


def _demonstrators():
    played = {"random": {"mean": -1234.5678}, "expert": {"mean": 98765.4321, "std": 1234.5}}
    paper = {"normalized_expert": 1.0123}
    stages.show_demonstrators(
        _result(
            tasks=[
                {"name": name, "policy": "bidexhands-waypoints", "source": "builtin", **played}
                | {"paper": paper}
                for name in TASKS
            ]
        )
    )


def _histories():
    task = {"trajectories": 10, "episodes": 12345, "steps": 4_200_000, "rank_correlation": 0.987}
    task |= {"measured": {"random": -9876.54, "expert": 8765.43}}
    task |= {"first_tenth": -1234.56, "last_tenth": 2345.67}
    stages.show_histories(_result(tasks=[{"task": name, **task} for name in TASKS]))


def _dataset():
    row = {"groups": 3, "tasks": 45, "trajectories": 450, "episodes": 123_456}
    row |= {"steps": 41_850_000, "bytes": 87_600_000_000, "mean_return": -1234.56}
    stages.show_pack(
        _result(card={split: [{"domain": DOMAIN, **row}] for split in ("train", "validation")})
    )


def _checkpoint():
    report_ = {"preset": "paper", "method": "ad_no_reward", "parameters": 332_110_477}
    report_ |= {"steps": 663_000, "tokens": 695_205_888_000, "loss": 0.01234}
    losses = dict.fromkeys((DOMAIN, "metaworld", "mujoco", "bidexhands"), 0.0567)
    stages.show_train(_result(**report_, domains=losses))


def _curves():
    return {
        "tasks": [
            {
                "name": name,
                "seeds": 5,
                "shots": 12,
                "return_first": -12345.678,
                "return_last3": 98765.432,
                "normalized_first": -3.456,
                "normalized_last3": 1.234,
                "returns_by_shot": [0.0] * 12,
                "normalized_by_shot": [number / 12 for number in range(12)],
                "foreign_statistics": None,
            }
            for name in TASKS
        ],
        "tasks_in_mean": 3,
        "mean_normalized_by_shot": [number / 12 for number in range(12)],
        "mean_normalized_first": 0.123,
        "mean_normalized_last3": 0.987,
        "reference": "measured",
    }


def _rollout():
    score = {"tasks": 45, "mean": -0.123, "mean_interval": (-0.234, 1.345), "iqm": 0.456}
    score |= {"iqm_interval": (-0.321, 0.543), "success": {"mean": 0.765}}
    kinds = dict.fromkeys(("first", "last", "best", "converged"), score)
    scores = [{"domain": DOMAIN, "part": part, "scores": kinds} for part in ("training", "unseen")]
    agents = ("bidexhands-and-metaworld@v12", "bidexhands-and-metaworld@v13", "random")
    compared = [
        {"agent": "random" if each == "random" else "model", "checkpoint": each, "method": "ad"}
        | {"rewards": "zero", "act": "greedy", "tasks": TASKS, "scores": scores}
        | {"regret": {task: {"mean": 12.345, "stderr": 0.678} for task in TASKS}}
        for each in agents
    ]
    reported = {"label": "reported", "domain": DOMAIN, "part": "training", "tasks": 45}
    reported |= {"mean": 0.945, "score_reference": "JAT's", "ours": 1.0678}
    reported |= {"ours_kind": "converged", "ours_reference": "paper"}
    used = {"domain": DOMAIN, "tasks": 45, "first": 0.234, "last": 0.876, "share": 0.345}
    used |= {"rise_interval": (0.123, 0.456), "last_without": 0.765, "share_interval": (-0.1, 0.9)}
    used |= {"lost": 0.111, "lost_interval": (0.012, 0.345)}
    rollout.show_rollout(
        _result(
            **_curves(),
            scores=scores,
            absent=["hopper"],
            comparison=compared,
            reported=[{**reported, "source": source} for source in ("Vintix", "REGENT", "JAT")],
            reward_use=[
                {**used, "checkpoint": each, "rewards": rewards}
                for each in agents[:2]
                for rewards in ("zero", "shuffled", "flipped")
            ],
        )
    )


def _quickstart():
    rollout.print_curves(_curves())
    picture = {**_curves(), "plots": ["/home/a-user/a/long/way/to/a/workspace/quickstart.png"]}
    picture["reward_use"] = {"task": "point-ring", "true": [0.1] * 10, "zero": [-0.1] * 10}
    for line in quickstart._explain(picture):
        render.print_wrapped(line)


def _reports():
    interval = (0.123, 1.456)
    row = {"part": "training", "seeds": 5, "first": -3.456, "first_interval": interval}
    row |= {"last": 0.876, "last_interval": interval, "best": 1.234, "best_shot": 11}
    row |= {"shots_to_goal": 12, "curve": [0.1] * 40, "shots": 40}
    whole = {"mean": 0.765, "mean_interval": interval, "iqm": 0.8, "iqm_interval": interval}
    mean = {"tasks": 3, "first": whole, "last": whole, "best": whole, "shots_to_goal": 9}
    report._print_domain(
        {
            "domain": DOMAIN,
            "model": "a-model-of-many-tasks@v3",
            "reference": "measured",
            "tasks": [{"task": name, **row} for name in TASKS],
            "mean": {**mean, "curve": [0.2] * 40},
        },
        0.9,
    )
    compared = {"domain": DOMAIN, "model": "a-model-of-many-tasks@v3", "ours": 1.0678}
    compared |= {"ours_kind": "converged", "reference": "measured", "vintix_reported": 0.945}
    compared |= {"regent_reported": 0.876, "jat_reported": 0.765}
    report._print_comparison([{"task": name, **compared} for name in TASKS])


def _plans():
    found = {"domain": DOMAIN, "episodes": 200, "steps": 41_850_000, "bytes": 87_600_000_000}
    found |= {"seconds": 123_456.7, "trajectories": 195, "jobs": 20, "weight_by_window": 0.1234}
    curve = "curve 1@0% 0.58@19% 0.15@48% 0.097@76% 0@95%"
    for columns in (
        ("domain", "source", "episodes", "steps", "bytes", "seconds"),
        ("domain", "trajectories", "steps", "schedule", "jobs", "bytes", "seconds"),
        ("domain", "split", "trajectories", "steps", "history", "weight_by_window", "bytes"),
        ("agent", "domain", "part", "statistics", "streams", "shots", "steps", "bytes"),
    ):
        given = {**found, "schedule": curve, "source": "builtin", "split": "validation"}
        given |= {"history": "unmeasured", "agent": "a-checkpoint-of-many-tasks@v12, zero rewards"}
        given |= {"part": "training", "statistics": "a-group-of-the-hands", "streams": 5}
        given |= {"shots": 120}
        yield [{"task": name, **{key: given[key] for key in columns}} for name in TASKS]
    parts = {"encoders": 13_561_004, "transformer": 251_931_648, "heads": 66_617_825}
    yield [{"part": part, "parameters": count} for part, count in parts.items()]


def _stages(monkeypatch):
    for rows in _plans():
        totals = {**rows[-1], "estimated_seconds": 1.6e11, next(iter(rows[0])): "3 tasks"}
        plan = SimpleNamespace(rows=rows, totals=totals, notes=["histories: mujoco@v2"])
        monkeypatch.setattr(
            stages, "import_module", lambda _, plan=plan: SimpleNamespace(plan=lambda *_: plan)
        )
        stages.run_stage("pack", {}, Run(dry_run=True), print)


def _quality(task, history):
    numbers = dict.fromkeys(("start", "end", "rank_correlation", "largest_jump"), 0.1234)
    quality = Quality(
        trajectories=10,
        episodes=12345,
        progress_C=np.zeros(1),
        smoothed_C=np.zeros(1),
        shares=(0.1,) * 10,
        r_squared=0.987,
        **numbers,
    )
    trajectories = (SimpleNamespace(returns_E=[0.0] * 12345),)
    return HistoryQuality(task, DOMAIN, quality, trajectories, None, history)


def _workspace(monkeypatch):
    """Have the commands on a workspace find what is made here."""
    root = "/home/a-user/a/long/way/to/a/workspace"
    listed = [
        {"kind": kind, "name": name, "version": version, "size_bytes": 12_345_678}
        | {"digest": f"{version}a1b2c3d4e5f6" * 4, "created": "2026-11-29T10:11:12.5+00:00"}
        | {
            "parents": [f"demonstrators/{name}@v{version}"],
            "path": f"{root}/{kind}/{name}/v{version}",
        }
        for kind, name in (("checkpoints", "a-model-of-many-tasks"), ("histories", TASKS[0]))
        for version in (1, 12)
    ]
    staged = [
        {"kind": "rollouts", "name": name, "size_bytes": 98_765, "units_done": 1234}
        | {"modified": "2026-11-29T10:11:12", "held_by": "process 12345 on a-machine-of-many"}
        for name in TASKS[:2]
    ]
    module = "pipelines.artifacts"
    own = Workspace(Path(root))
    monkeypatch.setattr(Place, "space", own)
    monkeypatch.setattr(
        f"{module}.listing.list_artifacts",
        lambda space, *_: listed if space is own else [{**listed[0], "name": "packaged"}],
    )
    monkeypatch.setattr(f"{module}.listing.list_staged", lambda *_: staged)
    wrong = [
        Problem(f"data.zarr/{name}/reward/c/0", "sha256 " + "1a" * 32, "sha256 " + "2b" * 32)
        for name in TASKS
    ]
    monkeypatch.setattr(f"{module}.verify.verify", lambda *_, **__: wrong)
    entries = [
        Entry(
            Path(f"{root}/checkpoints/a-model-of-many-tasks/v{each}"),
            10**each,
            "its dataset was made from it",
        )
        for each in range(1, 9)
    ]
    plan = SimpleNamespace(leftovers=[], staged=[], versions=entries[:4], kept=entries[4:])
    monkeypatch.setattr(f"{module}.gc.plan_gc", lambda *_, **__: plan)
    monkeypatch.setattr(f"{module}.gc.collect", lambda _, chosen: (chosen, []))
    histories = [_quality(task, f"mujoco@v{each}") for task in TASKS for each in (1, 2)]
    references = ["mujoco@v1", "mujoco@v2"]
    found = "pipelines.histories.report.compare_histories"
    monkeypatch.setattr(found, lambda *_: (references, histories))
    files = [{"path": f"{DOMAIN}/{name}/{name}-0.h5", "bytes": 123_456_789} for name in TASKS]
    exported = {"files": files, "exported": "datasets/all@v1", "output": "exported"}
    monkeypatch.setattr(
        "pipelines.interchange.official_dataset.export_dataset", lambda *_: exported
    )
    monkeypatch.setattr(
        doctor,
        "_domains",
        lambda _: [
            {"what": name, "ok": name == DOMAIN, "detail": f"{name} 1.2.3, and " * 12}
            for name in ("bidexhands", DOMAIN)
        ],
    )


def _verify():
    with pytest.raises(BaseException, match="4"):
        artifacts.verify(everything=True)


WAYS = {
    "demonstrators": _demonstrators,
    "distill": _histories,
    "pack": _dataset,
    "pack's plan of the paper": lambda: stages.print_plan("pack", paper_plan(), json=False),
    "train": _checkpoint,
    "rollout": _rollout,
    "quickstart": _quickstart,
    "report rollouts": _reports,
    "report histories": report.histories,
    "tasks": tasks.tasks,
    "tasks NAME": lambda: tasks.tasks(names=["hand-kettle", "hopper"]),
    "artifacts ls": artifacts.ls,
    "artifacts verify": _verify,
    "artifacts gc": lambda: artifacts.gc(keep=1, older_than_days=0.5),
    "doctor": doctor.doctor,
    "export": lambda: interchange.export_dataset(format="official"),
    "import": lambda: interchange.show_import(
        _result(tasks=[{"task": name, "trajectories": 10, "steps": 12_345_678} for name in TASKS])
    ),
}


@pytest.fixture
def printed(monkeypatch):
    """Return what prints in one of the ways, at a width, or to a pipe where that is None."""
    _workspace(monkeypatch)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "stderr", io.StringIO())

    def show(way, width):
        found = Printed()
        own = layout.arrange

        def spy(columns, width):
            found.tables.append(list(columns))
            code = sys._getframe(2).f_code
            found.callers.add((Path(code.co_filename).name, code.co_name))
            return own(columns, width)

        stream = io.StringIO() if width is None else _Terminal()
        with monkeypatch.context() as patch:
            patch.setenv("COLUMNS", str(width or ""))
            patch.setattr(layout, "arrange", spy)
            patch.setattr(sys, "stdout", stream)
            _stages(patch) if way == "plans" else WAYS[way]()
        found.text = re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue())
        return found

    return show


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("way", [*WAYS, "plans"])
def test_a_table_fits_the_terminal_and_loses_nothing(printed, way, width):
    found = printed(way, width)
    lines = found.text.splitlines()
    # What is to be copied is left to the terminal to wrap.
    longest = max((line for line in lines if ": /" not in line), key=cell_len)
    assert cell_len(longest) <= width, longest
    seen = Counter(found.text.split())
    for columns in found.tables:
        for number, count in Counter(_numbers(columns)).items():
            assert seen[number] >= count, (number, found.text)
        for part in arrange(columns, width):
            texts = {column: column.fitted(taken)[1] for column, taken in part}
            names = naming_columns(columns)
            shown = list(zip(*(texts[column] for column in names if column in texts), strict=True))
            meant = list(zip(*(column.cells for column in names if column in texts), strict=True))
            assert len(set(shown)) == len(set(meant)) == len(meant), shown


@pytest.mark.parametrize("way", [*WAYS, "plans"])
def test_in_a_pipe_a_table_is_as_wide_as_it_is(printed, way):
    found = printed(way, None)
    assert "…" not in found.text
    lines = [" ".join(line.split()) for line in found.text.splitlines()]
    for columns in found.tables:
        for row in zip(*(column.cells for column in columns), strict=True):
            assert " ".join(" ".join(row).split()) in lines


def test_every_table_is_looked_at(printed):
    """A table that is new needs a way above."""
    printing = {
        (path.name, function.name)
        for path in _COMMANDS.rglob("*.py")
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef)
        for each in ast.walk(function)
        if isinstance(each, ast.Call) and getattr(each.func, "id", "") == "print_table"
    }
    assert printing == set().union(*(printed(way, 80).callers for way in [*WAYS, "plans"]))


def test_reported_scores_stand_beside_converged_ones_only(capsys):
    """What others report is after convergence: a first or a last shot is something else."""
    row = {"source": "JAT", "label": "reported", "domain": DOMAIN, "part": "training", "tasks": 1}
    row |= {"mean": 0.34, "score_reference": "JAT's", "ours": 0.606, "ours_reference": "paper"}
    for kind, shown in (("converged", True), ("last", False)):
        report = {"scores": [], "absent": [], "reported": [{**row, "ours_kind": kind}]}
        rollout.print_scores(report)
        told = capsys.readouterr().out
        assert ("JAT (reported)" in told, "0.606" in told) == (shown, shown)
        assert ("--converged 100" in told) != shown


def test_names_that_would_look_alike_are_folded_and_not_shortened():
    names = [f"the-beginning-{each}-and-the-end-of-it" for each in ("one", "two", "three")]
    column = Column("name", names, number=False)
    assert column.fitted(20)[1] == names
    assert column.fitted(34)[1][1] == "the-beginning-two…nd-the-end-of-it"


def _numbers(columns):
    return [
        word
        for column in columns
        for cell in column.cells
        for word in cell.split()
        if NUMBER.fullmatch(word)
    ]
