"""The fields of docs/json.md are frozen: later releases may add some, none goes away."""

from __future__ import annotations

import functools
import json
import re

import pytest

from .support import ROOT
from .test_help import quickstart

TASK = {
    "name": str,
    "aliases": list,
    "domain": str,
    "group": str,
    "env_id": str,
    "split": str,
    "observation_dim": int,
    "action_dim": int,
    "horizon": int,
    "reward_scale": (int, float),
    "episode_sparsity": int,
    "trajectories": int,
    "trajectory_length": int,
    "schedule": dict,
    "scores": dict,
    "inert": bool,
}
ARTIFACT = {
    "kind": str,
    "name": str,
    "version": int,
    "path": str,
    "digest": str,
    "created": str,
}
CURVE = {"name": str, "returns_by_shot": list, "normalized_by_shot": list, "reference": str}
ERROR = ("error", "message", "where", "expected", "found", "fix", "exit_code")
STAGES = ("demonstrators", "distill", "pack", "train", "rollout")


def document(done, code: int = 0):
    """Return the one document, having checked that it is alone and stderr has none."""
    assert done.code == code, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    assert "NaN" not in done.stdout and "Infinity" not in done.stdout
    assert not re.search(r"^[{\[]", done.stderr, re.MULTILINE)
    return found


def check(found, fields) -> None:
    for name, kind in fields.items():
        assert isinstance(found[name], kind), (name, found[name])


@functools.cache
def page() -> dict[str, set[str]]:
    """Return the names in backquotes in the first column of each table of the page."""
    found: dict[str, set[str]] = {}
    title = ""
    for line in (ROOT / "docs" / "json.md").read_text().splitlines():
        if line.startswith("#"):
            title = line.strip("# ").strip("`")
        elif line.startswith("| `"):
            found.setdefault(title, set()).update(re.findall(r"`([^`]+)`", line.split("|")[1]))
    return found


def test_tasks(gallery_shell):
    tasks = document(gallery_shell.vintix("tasks", "--json"))["tasks"]
    bases = [task for task in tasks if task["variation_of"] is None]
    variations = [task for task in tasks if task["variation_of"] is not None]
    benchmarks = [task for task in bases if task["domain"] != "hidden-goal"]
    assert (len(benchmarks), len(variations)) == (102, 44)
    assert len({task["name"] for task in tasks}) == len(tasks)
    for task in tasks:
        check(task, TASK)
        assert set(task) - {"actions", "set_group"} == page()["vintix tasks --json"]
        assert task["split"] in ("train", "validation")
        assert set(task["schedule"]) == {"p", "f"}
        assert task["noise_curve"] is None or set(task["noise_curve"]) == {"progress", "noise"}
        for score in task["scores"].values():
            assert isinstance(score["random"], float) and isinstance(score["expert"], float)
    names = {task["name"] for task in bases}
    assert {task["variation_of"] for task in variations} <= names
    one = document(gallery_shell.vintix("tasks", "hopper", "reach", "--json"))["tasks"]
    assert [task["name"] for task in one] == ["hopper", "reach"]


def test_artifacts(shell):
    found = document(shell.vintix("artifacts", "ls", "--json"))
    assert found["staged"] == []
    assert len(found["artifacts"]) == 5
    digests = shell.digests()
    for row in found["artifacts"]:
        check(row, ARTIFACT)
        assert row["digest"] == digests[f"{row['kind']}/{row['name']}@v{row['version']}"]


@pytest.mark.parametrize("stage", STAGES)
def test_stages(shell, stage):
    """Each stage's document, first where it is up to date and then where it makes something."""
    words = [stage, "--config", "run.yaml", "--json"]
    if stage == "demonstrators":
        words += ["--domain", "point-mass"]
    if stage == "distill":
        words += ["--domain", "point-mass"]
    made = [row["name"] for row in document(shell.vintix("artifacts", "ls", "--json"))["artifacts"]]
    again = document(shell.vintix(*words))
    check(again["artifact"], {key: kind for key, kind in ARTIFACT.items() if key != "created"})
    assert again["up_to_date"] is True
    assert again["artifact"]["name"] in made
    anew = document(shell.vintix(*words, "--name", "anew"))
    assert anew["up_to_date"] is False
    assert anew["artifact"]["name"] == "anew"
    assert anew["artifact"]["digest"] == again["artifact"]["digest"]
    # But for who and when, a report is the same whether the work was done just now or before.
    assert set(anew) == set(again)


def test_import_and_export(gallery_shell):
    written = document(
        gallery_shell.vintix("export", "checkpoint", "quickstart", "--output", "out", "--json")
    )
    assert written["exported"] == "checkpoints/quickstart@v1"
    assert written["format"] == "official"
    assert {"path", "bytes"} <= set(written["files"][0])
    assert (gallery_shell.directory / "out").samefile(written["output"])
    read = document(gallery_shell.vintix("import", "checkpoint", "out", "--json"))
    check(read["artifact"], {key: kind for key, kind in ARTIFACT.items() if key != "created"})
    assert read["up_to_date"] is False
    assert (gallery_shell.directory / "out").samefile(read["source"])
    assert read["unmatched"] == {}
    assert {task["task"] for task in read["tasks"]} == {"hopper", "reach"}


@pytest.mark.parametrize("stage", STAGES)
def test_plans(shell, stage):
    words = ["--domain", "point-mass"] if stage == "demonstrators" else []
    plan = document(
        shell.vintix(stage, *words, "--config", "run.yaml", "--dry-run", "--json", "--seed", "7")
        if stage != "pack"
        else shell.vintix(stage, "--dry-run", "--json")
    )
    assert {"stage", "plan", "totals", "notes"} <= set(plan)
    assert plan["stage"] == stage
    assert isinstance(plan["plan"], list) and isinstance(plan["totals"], dict)
    assert all(isinstance(note, str) for note in plan["notes"])
    assert shell.digests().keys() == {key for key in shell.digests() if key.endswith("@v1")}, (
        "a plan makes nothing"
    )


def check_curves(report) -> None:
    for field in page()["Stages"] - {"artifact", "up_to_date", "seconds"}:
        assert field.removeprefix("tasks[].") in report["tasks"][0], field
    assert isinstance(report["seconds"], float)
    assert [task["name"] for task in report["tasks"]] == [
        "point-mass-north-east",
        "point-mass-south-west",
    ]
    for task in report["tasks"]:
        check(task, CURVE)
        assert len(task["returns_by_shot"]) == len(task["normalized_by_shot"]) == 3
        assert all(isinstance(value, float) for value in task["normalized_by_shot"])
        assert task["reference"] == "measured"


def test_rollout(shell):
    check_curves(document(shell.vintix("rollout", "--config", "run.yaml", "--json")))


def test_quickstart(empty):
    first = document(quickstart(empty, "quickstart", "--json"))
    check_curves(first)
    assert set(first["artifacts"]) == set(first["seconds_by_stage"]) == set(STAGES)
    used = first["reward_use"]
    assert used["task"] == "point-ring"
    assert len(used["true"]) == len(used["zero"]) == 3
    second = document(quickstart(empty, "quickstart", "--json", "--quiet"))
    assert second["tasks"] == first["tasks"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["tasks", "hoper"], 2),
        (["tasks", "--opt"], 2),
        (["train", "--config", "no.yaml"], 3),
        (["rollout", "--checkpoint", "none"], 4),
        (["distill", "--domain", "bidexhands", "--backend", "isaacgym"], 5),
        (["artifacts", "show", "datasets/none"], 4),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_errors(empty, words, code):
    done = empty.vintix(*words, "--json")
    found = document(done, code)
    assert set(found) == set(ERROR) == page()["JSON output"]
    assert found["exit_code"] == code
    assert found["message"]
    assert found["message"] in done.stderr
