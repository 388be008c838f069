"""What learners share that search over whole episodes: playing candidates, and their settings.

Legend: C candidates, S slots (copies of the environment), O observation, A action.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError

from pipelines.errors import ConfigError
from pipelines.playing.episodes import Episodes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipelines.domains.base import BatchEnvironment, Domain, Options, StepBatch
    from pipelines.learners.settings import TrainSettings
    from pipelines.policies.base import PolicySpec
    from pipelines.reporter import Advance
    from pipelines.tasks.spec import TaskSpec

Given = TypeVar("Given", bound=BaseModel)

Act = Callable[["NDArray[np.float32]", "NDArray[np.bool_]"], "NDArray[np.float32]"]
"""Returns the actions (S, A) for observations (S, O); is given which slots (S,) are playing."""


class Play(NamedTuple):
    """An episode to be played.

    Attributes:
        episode: Its number among those of a candidate.
        seed: Of the environment's reset.
    """

    candidate: int
    episode: int
    seed: int


class EpisodeLearner(ABC):
    """A search over whole episodes, trained in segments as `pipelines.learners.sb3.Learner` is.

    Every number it draws is keyed by the iteration, so that segments leave no trace in a run.

    Args:
        options: Values of all options of the domain.

    Attributes:
        steps: Environment steps trained so far, over all segments.
    """

    steps = 0
    batch: BatchEnvironment | None = None

    def __init__(
        self, settings: TrainSettings, task: TaskSpec, domain: Domain, options: Options, seed: int
    ) -> None:
        self._settings, self._task, self._seed = settings, task, seed
        self._domain, self._options = domain, options

    @abstractmethod
    def iterate(self) -> None:
        """Play one iteration of candidates, learn from it and count its steps."""

    @abstractmethod
    def policy(self) -> PolicySpec:
        """Return the policy at the centre of the search, in float32."""

    @abstractmethod
    def dump(self) -> bytes:
        """Return the state as the bytes of an .npz file."""

    @abstractmethod
    def load(self, dumped: bytes) -> None:
        """Take over what `dump` returned."""

    def learn(self, until: int, advance: Advance | None = None) -> None:
        """Train until at least this many steps; an iteration is finished."""
        while self.steps < until:
            before = self.steps
            self.iterate()
            if advance is not None:
                advance(self.steps - before)

    def make_copies(self, seeds: Sequence[int]) -> BatchEnvironment:
        """Return at most as many copies of the environment as there are seeds, kept if they fit."""
        if self.batch is not None and self.batch.size > len(seeds):
            self.close()
        if self.batch is None:
            from pipelines.domains.checked import make_batch

            self.batch = make_batch(self._domain, self._task, len(seeds), self._options, seeds)
        return self.batch

    def close(self) -> None:
        """Close the environments."""
        if self.batch is not None:
            self.batch.close()
            self.batch = None

    def dump_transitions(self, since: int) -> dict[str, NDArray[Any]]:
        """Return nothing: whole episodes are all that counts."""
        return {}

    def load_transitions(self, transitions: object) -> None:  # noqa: B027 - there are none
        """Take nothing over."""


def read_hyperparameters(
    model: type[Given],
    settings: TrainSettings,
    fix: str | None = None,
    section: str = "demonstrators.train",
) -> Given:
    """Read the hyperparameters of an algorithm.

    Args:
        fix: What helps where they are not valid.
        section: Where the settings are in a configuration.

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
            where=f"{section}.hyperparameters.{name}".rstrip("."),
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
        plays: The episodes in their order, of C candidates.
        begin: Called with slot and play before the first action of each episode.
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
