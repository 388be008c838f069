from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from rollout.toy import (
    EVEN,
    UNEVEN,
    WIDE,
    Toy,
    ToyBatch,
    statistics,
    stream_task,
    tiny_model,
    viewed,
)

from pipelines.domains.base import StepBatch
from pipelines.errors import VintixError
from pipelines.model.batch import TaskSequence, group_sequences
from pipelines.model.vintix import Vintix
from pipelines.playing.model import Memory, roll
from pipelines.playing.streams import StreamTask, episode_seed, stream_seed
from pipelines.tasks.spec import TaskSpec


def play(
    model: Vintix, tasks: list[StreamTask], **options: object
) -> tuple[dict, dict[str, ToyBatch]]:
    toy = Toy()
    records = roll(model, tasks, make_batch=toy.make_batch, **{"seed": 11, **options})
    return records, {batch.task.name: batch for batch in toy.batches}


def full_pass_actions(model: Vintix, spec: TaskSpec, batch: ToyBatch, copy: int) -> torch.Tensor:
    """Predict every action of a stream from its whole history at once, without a cache."""
    seen = batch.seen[copy]
    actions = np.array(seen.actions)
    sequence = TaskSequence(
        group=spec.group,
        statistics=statistics(spec),
        observation_LO=torch.from_numpy(np.array(seen.observations)),
        previous_action_LA=torch.from_numpy(np.vstack([np.zeros_like(actions[:1]), actions[:-1]])),
        previous_reward_L=torch.tensor([0.0, *seen.rewards[:-1]]),
        episode_step_L=torch.tensor(seen.episode_steps),
    )
    batches, _ = group_sequences(model.config, [sequence])
    with torch.no_grad():
        return model(batches)[0][0]


@pytest.mark.parametrize("normalize_actions", [False, True])
def test_every_action_is_the_full_models_prediction_of_the_stream_so_far(
    normalize_actions: bool,
) -> None:
    """Cold start, executed and clipped previous action, scaled reward, padding at episodes."""
    model = tiny_model(normalize_actions=normalize_actions)
    tasks = [stream_task(EVEN, 4, [0, 1]), stream_task(WIDE, 5, [0, 1])]
    _, batches = play(model, tasks)
    clipped = 0
    for spec in (EVEN, WIDE):
        batch = batches[spec.name]
        for copy in range(2):
            expected = full_pass_actions(model, spec, batch, copy).numpy()
            found = np.array(batch.seen[copy].actions)
            bounded = np.clip(expected, *batch.actions.bounds)
            np.testing.assert_allclose(found, bounded, atol=1e-5)
            clipped += int((bounded != expected).sum())
            assert found.std() > 0.02, "constant actions would not tell right from wrong"
    assert normalize_actions or clipped > 0, "no action was clipped: nothing was tested there"


def test_a_stream_is_the_same_alone_and_among_others() -> None:
    """Neighbours, their number and their end change nothing beyond rounding."""
    model = tiny_model()
    tasks = [
        stream_task(WIDE, 3, [0, 1, 2]),
        stream_task(UNEVEN, 4, [0, 1, 2, 3]),
        stream_task(EVEN, 6, [0, 1]),
    ]
    together, _ = play(model, tasks)
    ends = {len(record.reward_T) for record in together["toy-uneven"].values()}
    assert len(ends) > 1, "the streams of the uneven task must end at different steps"
    for task in tasks:
        for stream in task.streams:
            alone, _ = play(model, [stream_task(task.spec, task.shots, [stream])])
            one, other = alone[task.spec.name][stream], together[task.spec.name][stream]
            np.testing.assert_allclose(one.reward_T, other.reward_T, atol=1e-5)
            np.testing.assert_array_equal(one.episode_length_E, other.episode_length_E)


def test_streams_stay_equal_after_the_context_has_overflowed() -> None:
    model = tiny_model(context=8)
    tasks = [stream_task(EVEN, 9, [0, 1, 2]), stream_task(UNEVEN, 3, [0, 1])]
    together, _ = play(model, tasks)
    assert len(together["toy-even"][0].reward_T) == 45
    alone, _ = play(model, [stream_task(EVEN, 9, [1])])
    np.testing.assert_allclose(
        alone["toy-even"][1].reward_T, together["toy-even"][1].reward_T, atol=1e-5
    )
    longer, _ = play(model, [stream_task(EVEN, 9, [1])], memory=Memory(64))
    first, later = longer["toy-even"][1].reward_T, alone["toy-even"][1].reward_T
    np.testing.assert_allclose(first[:8], later[:8], atol=1e-5)
    assert np.abs(first[8:] - later[8:]).max() > 1e-4


def test_records_are_the_episodes_that_were_played() -> None:
    records, batches = play(tiny_model(), [stream_task(UNEVEN, 4, [0, 1, 2])])
    for copy, record in records["toy-uneven"].items():
        seen = batches["toy-uneven"].seen[copy]
        steps = len(record.reward_T)
        np.testing.assert_allclose(record.reward_T, seen.rewards[:steps], rtol=1e-6)
        assert record.episode_length_E.sum() == steps
        starts = np.concatenate([[0], np.cumsum(record.episode_length_E)[:-1]])
        assert [seen.episode_steps[start] for start in starts] == [0] * 4
        np.testing.assert_allclose(
            record.episode_return_E, np.add.reduceat(np.array(seen.rewards[:steps]), starts)
        )
        assert record.success_E is None


def test_success_of_an_episode_is_kept_where_the_domain_knows_it() -> None:
    records, batches = play(tiny_model(), [stream_task(EVEN, 4, [0, 1])])
    for copy, record in records["toy-even"].items():
        last = np.array(batches["toy-even"].seen[copy].rewards)[4::5]
        np.testing.assert_array_equal(record.success_E, last > 0.9)


def test_seeds_follow_from_task_stream_and_episode_alone() -> None:
    _, batches = play(tiny_model(), [stream_task(EVEN, 3, [4, 2])])
    batch = batches["toy-even"]
    assert batch.stream_seeds == [stream_seed(11, EVEN, 4), stream_seed(11, EVEN, 2)]
    assert batch.seen[0].resets[:3] == [episode_seed(11, EVEN, 4, e) for e in range(3)]
    assert batch.seen[1].resets[:3] == [episode_seed(11, EVEN, 2, e) for e in range(3)]
    assert len({seed for seen in batch.seen for seed in seen.resets}) == 6


def test_two_runs_give_the_same_bytes_and_another_seed_does_not() -> None:
    model, tasks = tiny_model(), [stream_task(UNEVEN, 3, [0, 1]), stream_task(WIDE, 3, [0])]
    first, again, other = (play(model, tasks, seed=seed)[0] for seed in (1, 1, 2))
    for name, streams in first.items():
        for stream, record in streams.items():
            assert record.reward_T.tobytes() == again[name][stream].reward_T.tobytes()
    assert not np.array_equal(first["toy-wide"][0].reward_T, other["toy-wide"][0].reward_T)


def test_a_model_trained_without_rewards_is_shown_none() -> None:
    """Appendix C.2: actions cannot depend on the reward scale if rewards are masked."""
    model = tiny_model()
    louder = stream_task(EVEN, 3, [0])
    object.__setattr__(louder.view.statistics, "reward_scale", 50.0)
    quiet = stream_task(EVEN, 3, [0])
    masked = [play(model, [viewed(task, mask_rewards=True)])[0] for task in (quiet, louder)]
    shown = [play(model, [task])[0] for task in (quiet, louder)]
    rewards = [[run["toy-even"][0].reward_T for run in pair] for pair in (masked, shown)]
    np.testing.assert_array_equal(*rewards[0])
    assert not np.array_equal(*rewards[1])


def test_progress_counts_every_step_and_environments_are_closed() -> None:
    counted: list[int] = []
    records, batches = play(
        tiny_model(), [stream_task(UNEVEN, 4, [0, 1, 2])], on_steps=counted.append
    )
    assert sum(counted) == sum(len(each.reward_T) for each in records["toy-uneven"].values())
    assert all(batch.closed for batch in batches.values())


def test_an_action_that_is_no_number_names_task_stream_and_step() -> None:
    model = tiny_model()
    with torch.no_grad():
        next(iter(model.head.parameters())).fill_(float("nan"))
    with pytest.raises(VintixError, match=r"task toy-even, stream 5, step 0"):
        play(model, [stream_task(EVEN, 1, [5])])


class ShowingBatch(ToyBatch):
    """Shows a number of its own as the last observation channel, on which nothing depends."""

    shown = 20.0

    def reset(self, indices: Sequence[int], seeds: Sequence[int]) -> np.ndarray:
        observation_BO = super().reset(indices, seeds)
        observation_BO[:, -1] = self.shown
        return observation_BO

    def step(self, action_BA: np.ndarray) -> StepBatch:
        result = super().step(action_BA)
        result.observation_BO[:, -1] = self.shown
        return result


@pytest.mark.parametrize(
    ("running", "options"),
    [
        (False, {}),
        (True, {}),
        (False, {"normalize_actions": True}),
        (False, {"random_map": True}),
        (False, {"random_map": True, "normalize_observations": False}),
    ],
)
def test_a_channel_without_information_changes_nothing_when_it_moves(
    running: bool, options: dict[str, bool]
) -> None:
    """A set point of 20.001 must play as one of 20 for a model that has only seen 20."""
    random_map = options.pop("random_map", False)
    model = tiny_model(**options)
    known = statistics(EVEN)
    known.observation_mean[-1], known.observation_std[-1] = 20.0, 0.0
    task = stream_task(EVEN, 4, [0, 1], statistics=known, running=running, random_map=random_map)
    played = []
    for shown in (20.0, 20.001, 50.0):

        def make_batch(
            spec: TaskSpec, size: int, _: object, seeds: Sequence[int], shown: float = shown
        ) -> ShowingBatch:
            batch = ShowingBatch(spec, size, seeds)
            batch.shown = shown
            return batch

        records = roll(model, [task], seed=11, make_batch=make_batch)
        played.append(records["toy-even"])
    for stream in (0, 1):
        still, *moved = (records[stream] for records in played)
        assert still.moved == ()
        for each in moved:
            np.testing.assert_allclose(each.reward_T, still.reward_T, atol=1e-6)
            assert each.moved == ((2,) if model.config.normalize_observations else ())
