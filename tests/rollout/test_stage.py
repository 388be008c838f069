from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.artifacts.workspace import Workspace
from pipelines.errors import ArtifactMissingError, ConfigError
from pipelines.reporter import NullReporter
from pipelines.rollout.config import RolloutConfig
from pipelines.rollout.stage import plan, rollout_report, run

from .toy import (
    EVEN,
    UNEVEN,
    WIDE,
    Toy,
    ToyBatch,
    install,
    saved_task,
    statistics,
    write_checkpoint,
)

KNOWN = [saved_task(EVEN), saved_task(UNEVEN), saved_task(WIDE)]
# Two blocks: the two tasks of the group `toy`, then `toy-wide`.
SMALL: dict[str, Any] = {"seeds": 2, "shots": 4, "max_streams": 4}

REPORT_FIELDS = {
    "tasks", "mean_normalized_by_shot", "tasks_in_mean", "mean_normalized_first",
    "mean_normalized_first_stderr", "mean_normalized_last3", "mean_normalized_last3_stderr",
    "mean_normalized_best", "mean_normalized_best_stderr", "reference", "seconds", "steps",
    "checkpoint", "artifact", "agent", "method", "rewards", "act", "scores", "absent", "reported",
}  # fmt: skip
TASK_FIELDS = {
    "name", "domain", "group", "variation_of", "seeds", "shots", "reference", "random", "expert",
    "returns_by_shot", "returns_stderr_by_shot", "return_first", "return_last3", "return_best",
    "normalized_by_shot", "normalized_stderr_by_shot", "normalized_first", "normalized_last3",
    "normalized_best", "best_shot", "success_by_shot", "episode_length_by_shot",
    "part", "statistics", "foreign_statistics", "converged", "reported",
}  # fmt: skip


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Toy:
    return install(monkeypatch)


def go(workspace: Workspace, reporter: NullReporter | None = None, **config: Any) -> Any:
    settings = RolloutConfig(**{**SMALL, **config})
    return run(settings, workspace, reporter or NullReporter())


def test_the_report_has_exactly_the_promised_fields(toy: Toy, tmp_path: Path) -> None:
    """`--json` is read by scripts: fields are added knowingly or not at all."""
    result = go(write_checkpoint(tmp_path, KNOWN))
    report = result.report
    assert set(report) == REPORT_FIELDS
    assert [set(task) for task in report["tasks"]] == [TASK_FIELDS] * 3
    assert [task["name"] for task in report["tasks"]] == ["toy-even", "toy-uneven", "toy-wide"]
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert (report["checkpoint"], report["artifact"]) == ("model@v1", "model@v1")
    assert report["tasks"][0]["success_by_shot"] is not None
    assert report["tasks"][1]["success_by_shot"] is None


def test_the_artifact_holds_what_was_played_and_the_report_follows_from_it(
    toy: Toy, tmp_path: Path
) -> None:
    result = go(write_checkpoint(tmp_path, KNOWN))
    artifact, report = result.artifact, result.report
    (batch,) = toy.played("toy-uneven")
    task = report["tasks"][1]
    returns = []
    for stream in range(2):
        path = f"toy-uneven/{stream:05d}"
        reward = artifact.read(f"{path}/reward")
        assert reward.dtype == np.float32
        np.testing.assert_allclose(reward, batch.seen[stream].rewards[: len(reward)], rtol=1e-6)
        lengths = artifact.read(f"{path}/episode_length")
        assert lengths.dtype == np.int32
        episodes = np.split(
            np.array(batch.seen[stream].rewards)[: len(reward)], np.cumsum(lengths)[:-1]
        )
        returns.append([episode.sum() for episode in episodes])
        np.testing.assert_allclose(artifact.read(f"{path}/episode_return"), returns[-1])
    np.testing.assert_allclose(task["returns_by_shot"], np.mean(returns, axis=0))
    np.testing.assert_allclose(task["normalized_by_shot"], (np.mean(returns, axis=0) - 1) / 4)
    assert artifact.manifest.parents[0].kind == "checkpoints"
    assert report["steps"] == sum(
        sum(len(artifact.read(f"{name}/{stream:05d}/reward")) for stream in range(2))
        for name in ("toy-even", "toy-uneven", "toy-wide")
    )


def test_the_same_command_again_is_up_to_date_and_reads_its_seconds_back(
    toy: Toy, tmp_path: Path
) -> None:
    workspace = write_checkpoint(tmp_path, KNOWN)
    first = go(workspace)
    made = len(toy.batches)
    again = go(workspace)
    assert (first.up_to_date, again.up_to_date) == (False, True)
    assert again.report == first.report
    assert len(toy.batches) == made, "nothing may be simulated again"
    other = go(workspace, seed=1)
    assert other.artifact.reference == "model@v2"


def test_an_interrupted_run_goes_on_and_gives_the_same_digest(toy: Toy, tmp_path: Path) -> None:
    whole = go(write_checkpoint(tmp_path / "whole", KNOWN)).artifact
    workspace = write_checkpoint(tmp_path / "cut", KNOWN)
    toy.batches.clear()
    # Two streams of this task are a batch of the second block; its fingerprint is taken before.
    fingerprinted = toy.make_batch

    def cut(task: Any, size: int, *rest: Any) -> Any:
        if task.name == "toy-wide" and size > 1:
            raise KeyboardInterrupt
        return fingerprinted(task, size, *rest)

    toy.make_batch = cut  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        go(workspace)
    assert workspace.versions("rollouts", "model") == []
    del toy.make_batch
    toy.batches.clear()
    resumed = go(workspace).artifact
    assert toy.played("toy-even") == [], "the durable block may not be played again"
    assert len(toy.played("toy-wide")) == 1
    assert resumed.digest == whole.digest


def test_a_resumed_run_does_not_go_on_with_another_simulator(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = write_checkpoint(tmp_path, KNOWN)
    make = toy.make_batch

    def cut(task: Any, size: int, *rest: Any) -> Any:
        if task.name == "toy-wide" and size > 1:
            raise KeyboardInterrupt
        return make(task, size, *rest)

    toy.make_batch = cut  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        go(workspace)
    del toy.make_batch
    step = ToyBatch.step

    def changed(self: ToyBatch, action_BA: np.ndarray) -> Any:
        after = step(self, action_BA)
        return replace(after, reward_B=2 * after.reward_B)

    with monkeypatch.context() as patch:
        patch.setattr(ToyBatch, "step", changed)
        with pytest.raises(ConfigError, match="staged part of this rollout") as caught:
            go(workspace)
    assert "task toy-even" in str(caught.value.where) and "delete" in str(caught.value.fix)
    told: list[str] = []
    monkeypatch.setattr(NullReporter, "info", lambda self, message: told.append(message))
    go(workspace)
    assert "going on after 1 durable block" in told


def test_blocks_do_not_change_what_a_stream_does(toy: Toy, tmp_path: Path) -> None:
    """Beyond rounding; a task may even be split over blocks."""
    workspace = write_checkpoint(tmp_path, KNOWN)
    large = go(workspace, seeds=3, max_streams=64).artifact
    small = go(workspace, seeds=3, max_streams=2).artifact
    for task in ("toy-even", "toy-uneven", "toy-wide"):
        for stream in range(3):
            path = f"{task}/{stream:05d}/reward"
            np.testing.assert_allclose(large.read(path), small.read(path), atol=1e-5)


def test_a_variation_plays_its_bases_episodes(tmp_path: Path, monkeypatch: Any) -> None:
    """Curves of a task and its variation are paired: same seeds, same first observations."""
    varied = replace(
        EVEN, name="toy-even-heavy", split="validation", variation_of="toy-even",
        variation={"mass": 2.0},
    )  # fmt: skip
    toy = install(monkeypatch, varied)
    workspace = write_checkpoint(tmp_path, KNOWN)
    result = go(workspace, tasks=("toy-even", "toy-even-heavy"))
    seeds = [
        [seen.resets for seen in toy.played(name)[0].seen]
        for name in ("toy-even", "toy-even-heavy")
    ]
    assert seeds[0] == seeds[1]
    assert [task["variation_of"] for task in result.report["tasks"]] == [None, "toy-even"]
    assert result.report["tasks"][0]["returns_by_shot"] == pytest.approx(
        result.report["tasks"][1]["returns_by_shot"], abs=1e-4
    )


def test_scores_are_of_the_reference_that_was_asked_for(toy: Toy, tmp_path: Path) -> None:
    workspace, reporter = write_checkpoint(tmp_path, KNOWN), NullReporter()
    report = go(workspace, reporter, reference="paper").report
    even, _, wide = report["tasks"]
    assert (even["random"], even["expert"], even["reference"]) == (-2.0, 6.0, "paper")
    assert (wide["normalized_by_shot"], report["tasks_in_mean"]) == (None, 2)
    assert any("no paper scores for toy-wide" in warning for warning in reporter.warnings)
    artifact = workspace.find("rollouts")
    measured = rollout_report(artifact, "measured")
    assert [task["random"] for task in measured["tasks"]] == [1.0] * 3
    with pytest.raises(ConfigError, match="release"):
        rollout_report(artifact, "release")


def test_a_longer_context_than_in_training_is_allowed_and_warned_of(
    toy: Toy, tmp_path: Path
) -> None:
    reporter = NullReporter()
    go(write_checkpoint(tmp_path, KNOWN), reporter, context=65, tasks=("toy-even",))
    assert any("longer than the 64" in warning for warning in reporter.warnings)


def test_a_different_environment_warns_and_is_an_error_under_strict(
    toy: Toy, tmp_path: Path
) -> None:
    from pipelines.playing.fingerprint import fingerprint

    recorded = fingerprint(EVEN, {"goal": "hidden"})
    changed = {**recorded, "observation_dim": 99}
    workspace = write_checkpoint(
        tmp_path, KNOWN, fingerprints={"toy-even": changed, "toy-uneven": "not played"}
    )
    with pytest.raises(ConfigError, match="toy-even"):
        go(workspace, tasks=("toy-even",), strict=True)
    reporter = NullReporter()
    assert not go(workspace, reporter, tasks=("toy-even",)).up_to_date
    assert any("'toy-even' is not the one" in warning for warning in reporter.warnings)
    same = write_checkpoint(tmp_path / "same", KNOWN, fingerprints={"toy-even": recorded})
    silent = NullReporter()
    go(same, silent, tasks=("toy-even",), strict=True)
    assert silent.warnings == []


def test_a_model_trained_without_rewards_is_run_without_them(toy: Toy, tmp_path: Path) -> None:
    with_rewards = go(write_checkpoint(tmp_path / "a", KNOWN), tasks=("toy-even",))
    without = go(
        write_checkpoint(tmp_path / "b", KNOWN, method="ad-no-reward"), tasks=("toy-even",)
    )
    path = "toy-even/00000/reward"
    assert not np.array_equal(with_rewards.artifact.read(path), without.artifact.read(path))
    assert statistics(EVEN).reward_scale != 0


def test_names_say_what_was_played(toy: Toy, tmp_path: Path) -> None:
    workspace = write_checkpoint(tmp_path, KNOWN, name="base")
    assert go(workspace).artifact.manifest.name == "base"
    assert go(workspace, tasks=("toy-even",)).artifact.manifest.name == "toy-even"
    assert go(workspace, domains=("toy",)).artifact.manifest.name == "toy"
    assert go(workspace, name="mine").artifact.manifest.name == "mine"


def test_no_checkpoint_is_an_artifact_error(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(ArtifactMissingError, match="vintix train"):
        go(Workspace(tmp_path), checkpoint="mine")


def test_the_plan_counts_streams_steps_and_starts_and_plays_nothing(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = write_checkpoint(tmp_path, KNOWN)
    planned = plan(RolloutConfig(**SMALL), workspace)
    assert [(row["task"], row["steps"]) for row in planned.rows] == [
        ("toy-even", 2 * 4 * 5), ("toy-uneven", 2 * 4 * 9), ("toy-wide", 2 * 4 * 4),
    ]  # fmt: skip
    assert planned.totals["steps"] == 144
    from pipelines.domains.base import Domain

    monkeypatch.setattr(Domain, "startup_seconds", 1000.0)
    slower = plan(RolloutConfig(**SMALL), workspace).totals["seconds"]
    assert slower > 3 * 1000.0 > planned.totals["seconds"] > 0
    assert toy.batches == []
    assert workspace.names("rollouts") == []
