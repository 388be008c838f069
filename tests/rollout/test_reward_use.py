"""What a model is shown as rewards, and how much of its rise depends on it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from pipelines.artifacts.workspace import Workspace
from pipelines.errors import ArtifactMissingError, UsageError
from pipelines.model.saved import SavedModel, save_model
from pipelines.playing.model import TaskStreams, Tokens, roll
from pipelines.playing.streams import StreamRecord, StreamTask
from pipelines.reporter import NullReporter
from pipelines.rollout.config import REWARDS, Rewards, RolloutConfig
from pipelines.rollout.curves import draw_overview
from pipelines.rollout.report import other_rewards
from pipelines.rollout.reward_use import share_lost
from pipelines.rollout.scores import load_curves
from pipelines.rollout.stage import plan, run
from tests.train.support import ToyTask, rows_of, write_dataset
from vintix_cli.commands.rollout import show_rollout

from .test_statistics import curve
from .toy import EVEN, UNEVEN, WIDE, Toy, install, saved_task, stream_task, tiny_model, viewed
from .toy import write_checkpoint as checkpoint

#: What the suite plays where the workspace does not hold the data.
PLAYED = [rewards for rewards in REWARDS if rewards != "mean"]
KNOWN = [saved_task(EVEN), saved_task(UNEVEN), saved_task(WIDE)]
SMALL: dict[str, Any] = {"seeds": 2, "shots": 4, "max_streams": 4}


def go(workspace: Workspace, **config: Any) -> Any:
    return run(RolloutConfig(**{**SMALL, **config}), workspace, NullReporter())


def shown(task: StreamTask, steps: int = 30) -> tuple[np.ndarray, dict[int, StreamRecord]]:
    """Return what each stream is shown after each step (T, S), and the records."""
    streams = TaskStreams(task, seed=3, make_batch=Toy().make_batch, normalize=False)
    streams.episodes.begin()
    size, dims = len(task.streams), task.spec
    tokens = Tokens(
        np.zeros((size, dims.observation_dim), np.float32),
        np.zeros((size, dims.action_dim), np.float32),
        np.zeros(size, np.float32),
        np.zeros(size, np.int64),
    )
    seen = []
    generator = np.random.default_rng(0)
    for _ in range(steps):
        action = generator.uniform(-0.5, 0.5, (1, dims.action_dim))
        streams.act(np.tile(action, (size, 1)).astype(np.float32))
        streams.observe()
        streams.episodes.begin()
        streams.write(tokens)
        seen.append(tokens.previous_reward_B.copy())
    return np.array(seen), streams.records()


@pytest.mark.parametrize("rewards", REWARDS)
def test_a_stream_is_shown_the_rewards_that_were_asked_for(rewards: Rewards) -> None:
    """And what is recorded are the true ones, whatever it is shown."""
    task = stream_task(EVEN, 40, [0, 1], rewards=rewards, mean_reward=0.7)
    seen_TS, records = shown(task)
    true_TS = np.stack([records[stream].reward_T for stream in (0, 1)], axis=1)
    assert len(np.unique(true_TS)) > 50
    scaled_TS = EVEN.reward_scale * true_TS
    if rewards == "shuffled":
        for stream in (0, 1):
            for step in range(30):
                assert seen_TS[step, stream] in scaled_TS[: step + 1, stream]
        later = seen_TS[10:] == scaled_TS[10:]
        assert later.mean() < 0.3, "most rewards must be another step's"
        assert not np.array_equal(
            seen_TS[:, 0] == scaled_TS[:, 0], seen_TS[:, 1] == scaled_TS[:, 1]
        )
    elif rewards == "other":
        np.testing.assert_allclose(seen_TS, scaled_TS[:, ::-1], rtol=1e-6)
    elif rewards == "mean":
        np.testing.assert_allclose(seen_TS, EVEN.reward_scale * 0.7, rtol=1e-6)
    else:
        factor = {"true": 1.0, "zero": 0.0, "flipped": -1.0}[rewards]
        np.testing.assert_allclose(seen_TS, factor * scaled_TS, rtol=1e-6)


def test_shuffled_rewards_of_a_stream_do_not_depend_on_its_neighbours() -> None:
    """Nor on how many streams share a batch."""
    task = stream_task(EVEN, 40, [0, 1, 2], rewards="shuffled")
    together, _ = shown(task)
    alone, _ = shown(replace(task, streams=(2,)))
    np.testing.assert_array_equal(alone[:, 0], together[:, 2])


def test_the_rewards_of_a_stream_that_is_over_begin_again() -> None:
    """Streams of a task take other numbers of steps; each has rewards to show the other one."""
    task = stream_task(UNEVEN, 2, [0, 1], rewards="other")
    streams = TaskStreams(task, seed=3, make_batch=Toy().make_batch, normalize=False)
    streams.episodes.begin()
    seen: list[list[float]] = [[], []]
    while len(streams.playing):
        playing = streams.playing
        streams.act(np.zeros((len(playing), 2), np.float32))
        streams.observe()
        for copy in playing:
            seen[copy].append(float(streams._last_reward_S[copy]))
        streams.episodes.begin()
    rewards = [streams.records()[stream].reward_T for stream in (0, 1)]
    lengths = [len(each) for each in rewards]
    assert lengths[0] != lengths[1]
    for copy in (0, 1):
        expected = np.resize(rewards[1 - copy], lengths[copy]) * UNEVEN.reward_scale
        np.testing.assert_allclose(seen[copy], expected, rtol=1e-6)


def test_the_mean_reward_is_that_of_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the task's own; of a task without data that of its group; of no data at all, an error."""
    install(monkeypatch)
    workspace = Workspace(tmp_path)
    data = [
        ToyTask(name=name, group="toy", observation_dim=3, rows=rows)
        for name, rows in (("toy-even", (300, 100)), ("toy-other", (200,)))
    ]
    dataset = write_dataset(workspace, tasks=data)
    tasks = {one.name: one for one in (saved_task(EVEN), saved_task(UNEVEN))}
    for name, parents in (("model", [dataset]), ("orphan", [])):
        config = {"orphan": not parents}
        with workspace.stage("checkpoints", name, config=config, parents=parents) as staging:
            with staging.work_item("model") as unit:
                save_model(unit, SavedModel(tiny_model(), tasks, step=1, method="ad"))
            staging.publish(summary={})
    mean = go(workspace, checkpoint="model", rewards="mean")
    even, other = (
        np.concatenate([rows_of(one, k)["reward"] for k in range(len(one.rows))]).mean(dtype=float)
        for one in data
    )
    assert mean.artifact.config["mean_rewards"] == pytest.approx(
        {"toy-even": even, "toy-uneven": (even + other) / 2}
    )
    assert mean.artifact.manifest.name == "model-mean-rewards"
    zero = go(workspace, checkpoint="model", rewards="zero")
    path = f"{EVEN.name}/00000/reward"
    assert not np.array_equal(mean.artifact.read(path), zero.artifact.read(path))
    with pytest.raises(ArtifactMissingError, match=r"--rewards mean, checkpoint orphan"):
        go(workspace, checkpoint="orphan", rewards="mean")
    planned = plan(RolloutConfig(**SMALL, checkpoint="model", suite="reward-use"), workspace)
    assert planned.totals["tasks"] == len(REWARDS) * 2
    assert len([note for note in planned.notes if note.startswith("checkpoint")]) == 1


def test_the_mean_reward_of_a_group_is_that_of_the_models_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sets of actions of other sizes are groups of their own in the data, and one in the model."""
    install(monkeypatch)
    workspace = Workspace(tmp_path)
    data = ToyTask(name="toy-small", group="toy-of-five", observation_dim=3, rows=(300,))
    dataset = write_dataset(workspace, tasks=[data])
    smaller = replace(saved_task(EVEN), name="toy-small")
    for name, known in (("model", [smaller]), ("stranger", [])):
        tasks = {one.name: one for one in [*known, saved_task(UNEVEN)]}
        config = {"tasks": list(tasks)}
        with workspace.stage("checkpoints", name, config=config, parents=[dataset]) as staging:
            with staging.work_item("model") as unit:
                save_model(unit, SavedModel(tiny_model(), tasks, step=1, method="ad"))
            staging.publish(summary={})
    wanted = {"tasks": ("toy-uneven",), "rewards": "mean"}
    mean = go(workspace, checkpoint="model", **wanted).artifact.config["mean_rewards"]
    assert mean == pytest.approx({"toy-uneven": rows_of(data, 0)["reward"].mean(dtype=float)})
    with pytest.raises(ArtifactMissingError, match="tasks of the group toy in"):
        go(workspace, checkpoint="stranger", **wanted)


def test_zero_rewards_are_what_a_model_trained_without_them_is_shown() -> None:
    model, task = tiny_model(), stream_task(WIDE, 4, [0, 1])
    options: dict[str, Any] = {"seed": 1, "make_batch": Toy().make_batch}
    masked = roll(model, [viewed(task, mask_rewards=True)], **options)
    zero = roll(model, [viewed(task, rewards="zero")], **options)
    true = roll(model, [task], **options)
    for stream in (0, 1):
        name = WIDE.name
        np.testing.assert_array_equal(zero[name][stream].reward_T, masked[name][stream].reward_T)
        assert not np.array_equal(zero[name][stream].reward_T, true[name][stream].reward_T)


def test_the_suite_plays_each_kind_of_rewards_and_finds_plain_rollouts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch)
    workspace = checkpoint(tmp_path, KNOWN)
    plain = go(workspace)
    result = go(workspace, suite="reward-use")
    assert result.artifact.digest == plain.artifact.digest and not result.up_to_date
    assert go(workspace, suite="reward-use").up_to_date
    told = result.report["comparison"]
    assert [each["rewards"] for each in told] == PLAYED
    assert len({each["artifact"] for each in told}) == 5
    rows = result.report["reward_use"]
    assert [(row["domain"], row["rewards"]) for row in rows] == [
        ("toy", rewards) for rewards in PLAYED[1:]
    ]
    assert all(row["tasks"] == 3 and row["seeds"] == 2 for row in rows)
    for row, each in zip(rows, told[1:], strict=True):
        (scores,) = each["scores"]
        assert row["last_without"] == pytest.approx(scores["scores"]["last"]["mean"])
    assert json.loads(json.dumps(result.report, allow_nan=False)) == result.report
    alone = go(workspace, rewards="flipped")
    assert alone.up_to_date and alone.report["rewards"] == "flipped"
    assert alone.artifact.manifest.name == "model-flipped-rewards"
    planned = plan(RolloutConfig(**SMALL, suite="reward-use"), workspace)
    assert planned.totals["tasks"] == 5 * 3
    assert any("left out (--rewards mean" in note for note in planned.notes)
    alone_planned = plan(RolloutConfig(**{**SMALL, "seeds": 1}, suite="reward-use"), workspace)
    assert any("no rewards of another stream" in note for note in alone_planned.notes)
    assert not RolloutConfig(seeds=1).streams_have_others
    assert {row["agent"] for row in planned.rows} == {
        "model@v1", *(f"model@v1, {rewards} rewards" for rewards in PLAYED[1:])
    }  # fmt: skip
    show_rollout(result)
    printed = capsys.readouterr()
    assert "what true rewards are worth" in printed.out + printed.err
    others = other_rewards(result.report, workspace)
    assert list(others) == [f"{rewards} rewards" for rewards in PLAYED[1:]]
    assert not other_rewards(plain.report, workspace)
    loaded = {label: load_curves(each) for label, each in others.items()}
    panels = [
        axes for axes in draw_overview(load_curves(result.artifact), loaded).axes if axes.lines
    ]
    assert len(panels) == 1 + 3
    for axes in panels:
        drawn = {line.get_gid(): line.get_ydata() for line in axes.lines}
        assert {"true rewards", *others} <= set(drawn)
        assert not np.allclose(drawn["true rewards"], drawn["flipped rewards"])


def test_a_share_by_hand() -> None:
    """Two tasks: a rise from 0.2 to 0.8 in the mean, of which 0.3 is left without rewards."""
    true = [curve([[0.0, 0.6, 0.6, 0.6]] * 2), replace(curve([[0.4, 1, 1, 1]] * 2), name="other")]
    without = [
        curve([[0.1, 0.0, 0.0, 0.0]] * 2),
        replace(curve([[0.0, 1.0, 1.0, 1.0]] * 2), name="other"),
    ]
    told = share_lost(true, {each.name: each for each in without})
    expected = {
        "first": 0.2, "last": 0.8, "rise": 0.6, "last_without": 0.5, "lost": 0.3, "share": 0.5,
    }  # fmt: skip
    assert {name: told[name] for name in expected} == pytest.approx(expected)
    assert told["share_interval"] == pytest.approx([0.5, 0.5])
    assert (told["tasks"], told["seeds"]) == (2, 2)


def test_the_interval_of_a_share_draws_the_same_seeds_for_both() -> None:
    """Each seed loses exactly half of its rise, so however they are drawn the share is a half."""
    rises = np.array([0.2, 0.5, 1.0, 0.3])
    true = curve([[0.0, rise, rise, rise] for rise in rises])
    without = curve([[0.0, rise / 2, rise / 2, rise / 2] for rise in rises])
    told = share_lost([true], {without.name: without})
    assert told["share_interval"] == pytest.approx([0.5, 0.5])
    assert told["rise_interval"][0] < told["rise"] < told["rise_interval"][1]


def test_no_share_is_told_of_a_rise_that_may_be_none() -> None:
    true = curve([[0.0, 0.5, 0.5, 0.5], [0.5, 0.0, 0.0, 0.0], [0.0, 0.2, 0.2, 0.2]])
    without = curve([[0.0, 0.0, 0.0, 0.0]] * 3)
    told = share_lost([true], {without.name: without})
    assert told["rise"] > 0 > told["rise_interval"][0]
    assert told["share"] is None and told["share_interval"] is None
    falling = curve([[0.5, 0.0, 0.0, 0.0]])
    told = share_lost([falling], {without.name: curve([[0.0, 0.0, 0.0, 0.0]])})
    assert told["share"] is None and told["rise_interval"] is None


def test_a_share_has_no_interval_where_a_resample_neither_rises_nor_loses() -> None:
    """One seed of four stays where it is; some resamples draw nothing but that one."""
    true = curve([[0.0, level, level, level] for level in (0.8, 0.9, 0.7, 0.0)])
    without = curve([[0.0, level, level, level] for level in (0.1, 0.0, 0.0, 0.0)])
    told = share_lost([true], {without.name: without})
    assert told["rise_interval"][0] > 0 and 0.9 < told["share"] < 1
    assert told["share_interval"] is None
    assert json.loads(json.dumps(told, allow_nan=False)) == told


def test_what_makes_no_sense_together_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for wrong in (
        {"suite": "reward-use", "rewards": "zero"},
        {"suite": "reward-use", "prompt": "histories"},
        {"rewards": "flipped", "prompt": "histories"},
        {"rewards": "none"},
        {"rewards": "other", "seeds": 1},
        {"rewards": "other", "seeds": 5, "max_streams": 4},
    ):
        with pytest.raises(ValidationError):
            RolloutConfig(**wrong)  # type: ignore[arg-type]
    install(monkeypatch)
    workspace = checkpoint(tmp_path, KNOWN, method="ad-no-reward")
    with pytest.raises(UsageError, match="never sees rewards"):
        go(workspace, suite="reward-use")
    with pytest.raises(UsageError, match="--rewards flipped, checkpoint model"):
        go(workspace, rewards="flipped")
