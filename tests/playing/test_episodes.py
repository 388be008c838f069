"""The engine: episodes from keyed seeds, what is told of them, and replays of running ones."""

from __future__ import annotations

import numpy as np
import pytest
from rollout.toy import EVEN, UNEVEN, ToyBatch

from pipelines.errors import VintixError
from pipelines.playing.episodes import (
    Actor,
    Episode,
    Episodes,
    RandomActor,
    ReplayError,
    one_each,
    play,
)


class Constant(Actor):
    """Does the same at every step and remembers the episodes that it was told of."""

    def __init__(self, value: float = 0.1) -> None:
        self.value = value
        self.begun: list[tuple[int, int]] = []

    def begin(self, copies: list[int], number_B: np.ndarray) -> None:
        self.begun += [(copy, int(number_B[copy])) for copy in copies]

    def act(self, observation_BO: np.ndarray) -> np.ndarray:
        return np.full((len(observation_BO), 2), self.value, np.float32)


def seed_of(copy: int, number: int) -> int | None:
    """Three episodes of copy 0, one of any other."""
    return 10 * copy + number if number < (1 if copy else 3) else None


def test_episodes_are_those_of_copies_that_play_alone() -> None:
    """Whatever plays beside them, and whenever others end; of copies at rest nothing is told."""
    batch, actor = ToyBatch(UNEVEN, 3, [0, 1, 2]), Constant()
    seen: list[int] = []
    found = play(batch, actor, seed_of, on_step=lambda playing, after: seen.append(len(playing)))
    assert [each[:2] for each in found] == [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0)]
    assert sorted(actor.begun) == [each[:2] for each in found]
    assert sum(seen) == sum(each.length for each in found)
    for each in found:
        seed = seed_of(each.copy, each.number)
        assert seed is not None
        alone = ToyBatch(UNEVEN, 1, [0])
        (expected,) = play(alone, Constant(), one_each([seed]))
        assert (each.total, each.length) == (expected.total, expected.length)
        assert each.total == sum(alone.seen[0].rewards)
        np.testing.assert_array_equal(each.final_observation_O, expected.final_observation_O)
    assert len({each.length for each in found}) > 1


def test_a_limit_of_steps_cuts_the_running_episodes() -> None:
    ended: list[Episode] = []
    batch = ToyBatch(EVEN, 2, [0, 1])
    found = play(
        batch,
        Constant(),
        lambda copy, number: number,
        on_end=lambda _, episodes: ended.extend(episodes),
        steps=8,
    )
    assert [(each.copy, each.start, each.length) for each in found] == [
        (0, 0, 5), (0, 5, 3), (1, 0, 5), (1, 5, 3),
    ]  # fmt: skip
    assert [each.start for each in ended] == [0, 0]
    assert [len(seen.resets) for seen in batch.seen] == [2, 2]
    play(batch, Constant(), lambda copy, number: number, steps=5)
    assert [len(seen.resets) for seen in batch.seen] == [3, 3], "none begins at the limit"


def test_success_is_that_of_any_step_of_the_episode() -> None:
    (low,) = play(ToyBatch(EVEN, 1, [0]), Constant(-0.7), one_each([1]))
    (high,) = play(ToyBatch(EVEN, 1, [0]), Constant(0.5), one_each([1]))
    (unknown,) = play(ToyBatch(UNEVEN, 1, [0]), Constant(), one_each([1]))
    assert (low.success, high.success, unknown.success) == (False, True, None)


def test_random_actions_follow_from_the_generator_of_each_episode() -> None:
    batch = ToyBatch(EVEN, 2, [0, 1])
    play(
        batch,
        RandomActor(batch, lambda copy, number: np.random.default_rng([copy, number])),
        lambda copy, number: 0 if number < 2 else None,
    )
    low_A, high_A = batch.actions.bounds
    for copy in range(2):
        draws = [np.random.default_rng([copy, number]).random((5, 2)) for number in range(2)]
        expected = (low_A + (high_A - low_A) * np.concatenate(draws)).astype(np.float32)
        np.testing.assert_array_equal(batch.seen[copy].actions, expected)


def test_an_action_that_is_no_number_is_an_error_where_it_is_asked_for() -> None:
    with pytest.raises(VintixError, match=r"(?s)task x: an action is not.*step 0"):
        play(ToyBatch(EVEN, 1, [0]), Constant(np.nan), one_each([1]), where="task x")


class Played:
    """Four copies of the uneven task after a number of steps, and all that was recorded."""

    def __init__(self, steps: int) -> None:
        self.batch = ToyBatch(UNEVEN, 4, range(4))
        self.rows: list[tuple[np.ndarray, np.ndarray]] = []
        self.episodes = Episodes(self.batch, lambda copy, number: 100 * copy + number)
        self.episodes.start()
        self.go(steps)

    def go(self, steps: int) -> None:
        for step in range(self.episodes.now, self.episodes.now + steps):
            self.episodes.begin()
            action_BA = np.full((4, 2), 0.05 * (step % 7), np.float32)
            self.rows.append((self.episodes.observation_BO.copy(), action_BA))
            self.episodes.step(action_BA)

    def recorded(self) -> list[dict[str, np.ndarray]]:
        """Return the rows of each copy's running episode."""
        return [
            {
                "observation": np.array([row[0][copy] for row in self.rows[start:]]),
                "action": np.array([row[1][copy] for row in self.rows[start:]]),
                "demonstrator_action": np.zeros((self.episodes.now - start, 2), np.float32),
            }
            for copy, start in enumerate(self.episodes.start_B)
        ]


def demonstrate(observation_BO: np.ndarray) -> np.ndarray:
    return np.zeros((len(observation_BO), 2), np.float32)


@pytest.mark.parametrize("steps", [0, 1, 7, 13, 26])
def test_a_replay_brings_every_copy_to_where_it_was(steps: int) -> None:
    """Whatever the lengths of the running episodes; it then goes on as if never interrupted."""
    before = Played(steps)
    episodes, after = before.episodes, Played(0)
    arguments = (steps, episodes.number_B, episodes.start_B, before.recorded())
    after.episodes.replay(*arguments, demonstrate, lambda copy, step: "")
    after.go(20)
    before.go(20)
    for (found, _), (expected, _) in zip(after.rows, before.rows[steps:], strict=True):
        np.testing.assert_array_equal(found, expected)
    for name in ("number_B", "start_B", "return_B"):
        np.testing.assert_array_equal(getattr(after.episodes, name), getattr(before.episodes, name))


@pytest.mark.parametrize("changed", ["observation", "demonstrator_action"])
def test_a_replay_that_differs_names_copy_and_step(changed: str) -> None:
    before = Played(13)
    recorded = before.recorded()
    copy = int(np.argmin(before.episodes.start_B))
    recorded[copy][changed][1] += 1
    with pytest.raises(ReplayError, match=f"copy {copy}, step {before.episodes.start_B[copy] + 1}"):
        Played(0).episodes.replay(
            13,
            before.episodes.number_B,
            before.episodes.start_B,
            recorded,
            demonstrate,
            lambda copy, step: f"copy {copy}, step {step}",
        )
