"""What learners share that search over whole episodes: playing candidates, and their settings.

Legend: C candidates, S slots (copies of the environment), O observation, A action.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError

from pipelines.errors import ConfigError
from pipelines.playing.episodes import Episodes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipelines.domains.base import BatchEnvironment, StepBatch
    from pipelines.learners.settings import TrainSettings

Given = TypeVar("Given", bound=BaseModel)

Act = Callable[["NDArray[np.float32]", "NDArray[np.bool_]"], "NDArray[np.float32]"]
"""Returns the actions (S, A) for observations (S, O); is told which slots (S,) are playing."""


class Play(NamedTuple):
    """An episode to be played.

    Attributes:
        candidate: Who plays it.
        episode: Its number among those of a candidate.
        seed: Of the environment's reset.
    """

    candidate: int
    episode: int
    seed: int


class EpisodeLearner:
    """What a search over whole episodes is to the training in segments.

    Attributes:
        batch: The environments, once there are any.
    """

    batch: BatchEnvironment | None = None

    def close(self) -> None:
        """Close the environments."""
        if self.batch is not None:
            self.batch.close()
            self.batch = None

    def dump_transitions(self, since: int) -> dict[str, NDArray[Any]]:
        """Return nothing: whole episodes are all that counts."""
        return {}

    def load_transitions(self, transitions: object) -> None:
        """Take nothing over."""


def read_hyperparameters(
    model: type[Given], settings: TrainSettings, fix: str | None = None
) -> Given:
    """Read the hyperparameters of an algorithm.

    Args:
        model: What they are to be.
        settings: Where they stand.
        fix: What helps where they are not valid.

    Raises:
        ConfigError: One is unknown, missing or out of range.
    """
    try:
        return model.model_validate(settings.hyperparameters)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"The hyperparameters do not fit the algorithm {settings.algorithm}.",
            where=f"demonstrators.train.hyperparameters.{name}".rstrip("."),
            expected=first["msg"],
            found=repr(first["input"])[:200],
            fix=fix,
        ) from error


def play_episodes(
    batch: BatchEnvironment,
    plays: Iterable[Play],
    candidates: int,
    begin: Callable[[int, Play], None],
    act: Act,
    earned: Callable[[StepBatch], NDArray[np.float64]],
) -> tuple[NDArray[np.float64], int]:
    """Play episodes, as many at once as there are slots, the next one where one has ended.

    Args:
        batch: The slots; no more than there are plays.
        plays: The episodes in their order.
        candidates: C.
        begin: Called with slot and play before the first action of each episode.
        act: Acts in all slots.
        earned: Returns what each slot (S,) has earned by a step.

    Returns:
        The sum (C,) of what each candidate earned over its episodes, and the steps of all.
    """
    queue = iter(plays)
    slots: list[Play] = []
    returns_C, steps = np.zeros(candidates), 0

    def seed_of(slot: int, number: int) -> int | None:
        following = next(queue, None)
        if following is None:
            return None
        slots[slot : slot + 1] = [following]
        return following.seed

    def begin_all(copies: list[int], _: NDArray[np.int64]) -> None:
        for slot in copies:
            begin(slot, slots[slot])

    episodes = Episodes(batch, seed_of, begin_all)
    episodes.start()
    while len(playing := episodes.playing):
        running_S = np.zeros(batch.size, np.bool_)
        running_S[playing] = True
        candidate_B = [slots[slot].candidate for slot in playing]
        after = episodes.step(act(episodes.observation_BO, running_S))
        # Before ended copies are reset: what is earned may be read from the simulator's state.
        np.add.at(returns_C, candidate_B, earned(after)[playing])
        steps += len(playing)
        episodes.begin()
    return returns_C, steps
