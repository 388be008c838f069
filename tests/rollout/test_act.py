"""How a head chooses actions in a rollout: what may be asked for, recorded and told apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.actions import Discrete
from pipelines.artifacts.artifact import Artifact
from pipelines.artifacts.workspace import Workspace
from pipelines.errors import UsageError
from pipelines.model.config import GroupDims
from pipelines.model.presets import preset
from pipelines.playing.model import roll
from pipelines.report.sources import models_of, read_sources
from pipelines.reporter import NullReporter
from pipelines.rollout.agents import ways_to_act
from pipelines.rollout.config import RolloutConfig
from pipelines.rollout.stage import plan, run

from .toy import EVEN, WIDE, Toy, install, saved_task, stream_task, tiny_model
from .toy import write_checkpoint as checkpoint

KNOWN = [saved_task(EVEN), saved_task(WIDE)]
SMALL: dict[str, Any] = {"seeds": 2, "shots": 3, "max_streams": 4}


def go(workspace: Workspace, **config: Any) -> Any:
    return run(RolloutConfig(**{**SMALL, **config}), workspace, NullReporter())


def rewards(artifact: Artifact) -> list[float]:
    return artifact.read(f"{EVEN.name}/00000/reward").tolist()


def test_a_head_that_draws_can_be_asked_for_its_most_likely_actions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which of the two it was is in the artifact, its name and its report."""
    install(monkeypatch)
    workspace = checkpoint(tmp_path, KNOWN, head="bins")
    drawn, greedy = go(workspace), go(workspace, act="greedy")
    assert go(workspace, act="sample").up_to_date
    assert [each.artifact.config["act"] for each in (drawn, greedy)] == ["sample", "greedy"]
    assert [each.report["act"] for each in (drawn, greedy)] == ["sample", "greedy"]
    assert [each.artifact.manifest.name for each in (drawn, greedy)] == ["model", "model-greedy"]
    assert rewards(drawn.artifact) != rewards(greedy.artifact)
    names = models_of(read_sources(workspace, ["model", "model-greedy"]).entries)
    assert names == ["AD", "AD, greedy"]
    with pytest.raises(UsageError, match=r"(?s)head bins.*--act mean.*sample or greedy"):
        go(workspace, act="mean")
    suite = {"suite": "reward-use", "act": "greedy"}
    rows = plan(RolloutConfig(**SMALL, **suite), workspace).rows
    assert {row["agent"] for row in rows} >= {
        "model@v1, greedy", "model@v1, zero rewards, greedy"
    }  # fmt: skip


def test_the_mean_of_a_head_that_predicts_one_action_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch)
    workspace = checkpoint(tmp_path, KNOWN)
    plain = go(workspace)
    assert "act" not in plain.artifact.config and plain.report["act"] == "mean"
    assert go(workspace, act="mean").up_to_date
    for act in ("sample", "greedy"):
        with pytest.raises(UsageError, match=f"(?s)--act {act}.*mean"):
            go(workspace, act=act)
    baseline = go(workspace, baselines=("random",))
    assert [each["act"] for each in baseline.report["comparison"]] == ["mean", None]


@pytest.mark.parametrize("head", ["bins", "flow"])
def test_what_a_stream_draws_does_not_depend_on_its_neighbours(head: str) -> None:
    """Numbers are keyed by seed, task, stream and step."""
    model = tiny_model(head=head)

    def play(streams: list[int], seed: int = 1, **options: Any) -> dict[int, np.ndarray]:
        records = roll(
            model,
            [stream_task(EVEN, 3, streams)],
            seed=seed,
            make_batch=Toy().make_batch,
            **options,
        )
        return {number: one.reward_T for number, one in records[EVEN.name].items()}

    together, alone = play([0, 1, 2]), play([2])
    np.testing.assert_allclose(alone[2], together[2], atol=1e-4)
    for number, reward_T in play([0, 1, 2], act="sample").items():
        np.testing.assert_array_equal(reward_T, together[number])
    assert not np.allclose(play([2], act="greedy")[2], together[2])


def test_where_some_heads_draw_they_are_the_ones_that_are_asked() -> None:
    """A group of discrete actions has a head of its own beside the model's."""
    box = GroupDims(observation_dim=3, action_dim=2)
    arms = GroupDims.of(3, Discrete(5))
    for groups, expected in (
        ({"box": box}, ("mean",)),
        ({"arms": arms}, ("sample", "greedy")),
        ({"box": box, "arms": arms}, ("sample", "greedy")),
    ):
        assert ways_to_act(preset("tiny", groups)) == expected
