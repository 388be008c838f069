"""What a report is made from: which tasks have which role, what models are called, and lineage."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines.artifacts.workspace import Workspace
from pipelines.errors import ConfigError, UsageError
from pipelines.report.document import provenance
from pipelines.report.sources import Sources, read_sources
from pipelines.report.stage import ReportRequest, make_report
from pipelines.reporter import NullReporter
from pipelines.rollout.report import compare_rollouts, rollout_report

from .made import TASKS, returns, rising, write_lineage, write_rollouts


def names(sources: Sources, part: str) -> set[str]:
    return {entry.name for entry in sources.entries if entry.curve.part == part}


def test_roles(sources: Sources) -> None:
    """A mistake here would put a task among those whose mean the paper's Figure 4 shows."""
    industrial = {f"industrial-benchmark-{setpoint}" for setpoint in (0, 50)}
    assert names(sources, "training") == {*TASKS, *industrial}
    assert names(sources, "unseen") == {"door-unlock", "bin-picking"}
    varied = names(sources, "variations")
    assert {"industrial-benchmark-80", "hopper-gravity-1.1", "walker2d-viscosity-0.05"} <= varied
    assert len(varied) == 2 + 2 * 4


def test_models_are_named_by_how_they_were_trained(sources: Sources) -> None:
    """Figure 8 tells AD, ED and AD without rewards apart; one checkpoint is one model."""
    by_artifact = {entry.artifact: entry.model for entry in sources.entries}
    assert by_artifact == {
        "model-ad@v1": "AD",
        "model-ed@v1": "ED",
        "model-ad-no-reward@v1": "AD without rewards",
        "unseen@v1": "AD",
    }


def test_models_of_one_method_are_named_by_checkpoint_and_reruns_by_artifact(
    tmp_path: Path,
) -> None:
    workspace = Workspace(tmp_path)
    curves = {"hopper": returns("hopper", rising(0, 1))}
    first = write_lineage(workspace, "one", tasks=["hopper"])
    second = write_lineage(workspace, "two", tasks=["hopper"])
    for number, checkpoint in enumerate((first, second, second)):
        config = {"context": number}
        write_rollouts(workspace, checkpoint, curves, name=f"r{number}", config=config)
    found = read_sources(workspace, ["r0", "r1", "r2"])
    assert [entry.model for entry in found.entries] == [
        "AD, one@v1",
        "AD, two@v1, r1@v1",
        "AD, two@v1, r2@v1",
    ]


def test_what_a_model_was_shown_as_rewards_is_part_of_its_name(tmp_path: Path) -> None:
    """The suite reward-use plays one checkpoint four times, and Figure 8 shows all four."""
    workspace = Workspace(tmp_path)
    curves = {"hopper": returns("hopper", rising(0, 1))}
    checkpoint = write_lineage(workspace, "one", tasks=["hopper"])
    write_rollouts(workspace, checkpoint, curves, name="r0")
    for rewards in ("zero", "flipped"):
        config = {"rewards": rewards}
        write_rollouts(workspace, checkpoint, curves, name=rewards, config=config)
    found = read_sources(workspace, ["r0", "zero", "flipped"])
    assert [entry.model for entry in found.entries] == [
        "AD", "AD, zero rewards", "AD, flipped rewards"
    ]  # fmt: skip


def test_the_baselines_of_a_call_are_models_too(tmp_path: Path) -> None:
    """Random play has no checkpoint among its parents; its summary says what it is."""
    workspace = Workspace(tmp_path)
    curves = {"hopper": returns("hopper", rising(0, 0))}
    write_rollouts(workspace, None, curves, summary={"method": "random", "absent": []})
    assert read_sources(workspace).entries[0].model == "random play"


def test_the_command_of_a_baseline_is_that_of_the_rollout_beside_it(tmp_path: Path) -> None:
    """There is no option that takes a demonstrators artifact; `--baseline` finds them."""
    workspace = Workspace(tmp_path)
    curves = {"hopper": returns("hopper", rising(0, 0))}
    config = {"agent": "demonstrator"}
    write_rollouts(workspace, None, curves, name="hopper-demonstrator", config=config)
    (record,) = provenance(read_sources(workspace))["artifacts"]
    command = "vintix rollout --name hopper --baseline demonstrator --task hopper "
    assert record["command"].startswith(command)


@pytest.mark.parametrize(
    ("name", "tasks", "config", "command"),
    [
        (
            "heavy",
            {"hopper-gravity-1.1": {"variation": {"gravity": "1.1x"}}},
            {},
            "--name heavy --task hopper --gravity 1.1 --seeds 3",
        ),
        (
            "mixed",
            {"hopper": {}, "hopper-gravity-1.1": {"variation": {"gravity": "1.1x"}}},
            {},
            "--name mixed --task hopper --task hopper-gravity-1.1 --seeds 3",
        ),
        (
            "mine-zero-rewards-greedy",
            {"hopper": {"options": {"gravity": "1.2x", "viscosity": "default"}}},
            {"rewards": "zero", "act": "greedy"},
            "--name mine --task hopper --seeds 3 --option gravity=1.2x --rewards zero --act greedy",
        ),
        (
            "part",
            {"hopper": {}},
            {"suite": "paper", "absent": ["reach"]},
            "--name part --task hopper --task reach --seeds 3 --suite paper",
        ),
        (
            "new",
            {"hopper": {"statistics": "group:mujoco-hopper"}},
            {"reference": "paper", "converged": 5, "context": 7},
            "--name new --task hopper --seeds 3 --stats group --context 7 --converged 5 "
            "--reference paper",
        ),
    ],
)
def test_the_command_of_a_rollout_plays_the_same(
    tmp_path: Path, name: str, tasks: dict[str, Any], config: dict[str, Any], command: str
) -> None:
    """Variations, options, statistics, rewards and how the head acts are all of it."""
    workspace = Workspace(tmp_path)
    curves = {task: returns("hopper", rising(0, 1)) for task in tasks}
    write_rollouts(workspace, None, curves, name=name, config={"tasks": tasks, **config})
    (record,) = provenance(read_sources(workspace))["artifacts"]
    found = record["command"].removesuffix(" --seed 0")
    assert found == f"vintix rollout {command}"


def test_the_command_of_a_report_has_what_was_asked_for(sources: Sources) -> None:
    part = replace(sources, entries=sources.entries[:1])
    command = provenance(part, "paper")["command"]
    assert command.endswith(" --task hopper --reference paper")
    assert "--" not in provenance(sources)["command"]


def test_rollouts_beside_each_other_are_normalised_by_the_same_scores(tmp_path: Path) -> None:
    """The data of the second checkpoint has a weaker demonstrator; its returns are no better."""
    workspace, reporter = Workspace(tmp_path), NullReporter()
    curves = {"hopper": returns("hopper", rising(0, 1))}
    weak = {"measured": {"random": 10.0, "expert": 60.0}}
    for name, scores in (("one", None), ("two", weak)):
        checkpoint = write_lineage(workspace, name, tasks=["hopper"])
        write_rollouts(workspace, checkpoint, curves, name=name, scores=scores)
    first, second = read_sources(workspace, ["one", "two"]).entries
    assert first.curve.score == second.curve.score and first.scores == second.scores
    request = ReportRequest(references=("one", "two"), output=tmp_path / "page.html")
    make_report(request, workspace, reporter)
    assert [each for each in reporter.warnings if "scores of hopper: all are normalised" in each]
    artifacts = [workspace.find("rollouts", name) for name in ("one", "two")]
    one, two = (each["scores"] for each in compare_rollouts(artifacts))
    assert one == two
    alone = NullReporter()
    make_report(request.model_copy(update={"references": ("two",)}), workspace, alone)
    assert alone.warnings == []


def test_lineage_goes_back_to_the_histories(sources: Sources) -> None:
    kinds = [artifact.kind for artifact in sources.lineage]
    assert kinds[:4] == ["rollouts"] * 4
    assert (kinds.count("checkpoints"), kinds.count("datasets"), kinds.count("histories")) == (
        3,
        3,
        1,
    )
    assert sources.missing == ()


def test_what_is_gone_is_named_and_nothing_else_fails(
    everything: Workspace, tmp_path: Path
) -> None:
    """A rollout may be copied to a machine without its data, and is still worth a page."""
    for kind in ("rollouts", "checkpoints"):
        shutil.copytree(everything.root / kind, tmp_path / kind)
    found = read_sources(Workspace(tmp_path), ["model-ad"])
    assert found.missing == ("datasets/model-ad@v1",)
    assert found.of_kind("histories") == []


def test_a_reference_that_no_task_has_is_refused(sources: Sources) -> None:
    assert sources.references == ["measured", "paper", "release"]
    assert sources.chosen_reference(None) == "measured"
    assert sources.chosen_reference("paper") == "paper"
    with pytest.raises(ConfigError, match="elsewhere") as caught:
        sources.chosen_reference("elsewhere")
    assert caught.value.fix == "vintix report --reference measured"
    with pytest.raises(ConfigError, match="elsewhere") as caught:
        rollout_report(sources.rollouts[0], "elsewhere")
    assert caught.value.fix == "--reference measured"


def test_a_selection_keeps_these_tasks_in_all_rollouts(everything: Workspace) -> None:
    found = read_sources(everything, ["model-ad", "model-ed"], ["Hopper", "reach"])
    assert [(entry.model, entry.name) for entry in found.entries] == [
        ("AD", "hopper"),
        ("AD", "reach"),
        ("ED", "hopper"),
        ("ED", "reach"),
    ]
    with pytest.raises(UsageError, match="ant"):
        read_sources(everything, ["model-ad"], ["ant"])


def test_a_rollout_named_twice_is_refused(everything: Workspace) -> None:
    """Each of its tasks would count twice in every mean."""
    with pytest.raises(UsageError, match="twice"):
        read_sources(everything, ["model-ad", "model-ad@v1"])
