"""What the project knows about a task before it has ever been simulated.

Plain frozen dataclasses: the command line reads the catalogue at start, and a validation library
would cost more time than the whole catalogue.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, get_args

from pipelines.actions import ActionSpec, Box
from pipelines.errors import ConfigError
from pipelines.tasks.schedule import Decay, NoiseCurve, Schedule, schedule_json

if TYPE_CHECKING:
    import numpy as np

SPLITS = ("train", "validation")

Split = Literal["train", "validation"]
Reference = Literal["measured", "paper", "release"]
REFERENCES: tuple[Reference, ...] = get_args(Reference)
"""The score references that returns may be normalised by, in the order they are offered."""

Value = TypeVar("Value")
Return = TypeVar("Return", float, "np.ndarray")

_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_VARIATION_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class FrozenMap(Mapping[str, Value], Generic[Value]):
    """A read-only mapping that, unlike ``types.MappingProxyType``, reaches a spawned worker."""

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, Value] | None = None) -> None:
        self._items = dict(items or {})

    def __getitem__(self, key: str) -> Value:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return f"FrozenMap({self._items!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreReference:
    """Random and expert returns that one source gives for a task.

    Attributes:
        random: Mean episode return of uniformly random actions, unscaled reward.
        expert: Mean episode return of the demonstrator, unscaled reward.
        random_std: Spread of the random return over episodes, None where the source has none.
        expert_std: Spread of the expert return over episodes, None where the source has none.

    Raises:
        ConfigError: A score is not finite, or random and expert are equal.
    """

    random: float
    expert: float
    random_std: float | None = None
    expert_std: float | None = None

    def __post_init__(self) -> None:
        for label in ("random", "expert", "random_std", "expert_std"):
            if getattr(self, label) is not None:
                object.__setattr__(self, label, float(getattr(self, label)))
        if not (math.isfinite(self.random) and math.isfinite(self.expert)):
            raise ConfigError(
                "A score reference needs finite scores.",
                found=f"random {self.random}, expert {self.expert}",
            )
        if self.random == self.expert:
            raise ConfigError(
                "A score reference cannot normalise: random and expert scores are equal.",
                expected="two different returns",
                found=self.random,
            )

    def normalize(self, value: Return) -> Return:
        """Return ``(value - random) / (expert - random)``: 0 is random play, 1 the expert.

        Args:
            value: An episode return, or an array of them of any shape, unscaled reward.

        Returns:
            The normalised score, of the shape of `value` (paper, Appendix H).
        """
        return (value - self.random) / (self.expert - self.random)

    def as_json(self) -> dict[str, float | None]:
        """Return the four numbers as a JSON object."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}


def score_of(scores: Mapping[str, Any], reference: str) -> ScoreReference | None:
    """Return a reference's scores of a task, or None where it has none that can normalise.

    Args:
        scores: By reference name, objects with ``random`` and ``expert``, numbers or (as a
            demonstrator's card has them) objects with ``mean``.
    """
    entry = scores.get(reference)
    if entry is None:
        return None
    random, expert = (
        float(value["mean"] if isinstance(value, Mapping) else value)
        for value in (entry["random"], entry["expert"])
    )
    return None if random == expert else ScoreReference(random=random, expert=expert)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec:
    """One task, or one variation of a task.

    Domains outside this project construct it themselves: only the first five fields are needed,
    the horizon, and `action_dim` or `actions`.

    Attributes:
        name: Canonical id (letters, digits, ``-``, ``_``; a variation may hold dots).
        domain: Name of the domain plugin that makes the environment.
        group: Tasks of one group share observation and action dimensions and the meaning of the
            channels, and with them one encoder and one head. No dots: it is a module's name.
        observation_dim: Length of the observation vector, >= 1.
        action_dim: Length of the action vector, >= 1; of other actions than those of a box, the
            channels that a model sees, which need not be given.
        horizon: Most steps recorded in one episode, >= 1.
        env_id: What the domain calls the environment; the name where not given.
        aliases: Other names the task answers to.
        split: ``train`` or ``validation`` (paper, Appendix A.2).
        reward_scale: Factor on the reward before the model sees it (paper, Appendix G).
        episode_sparsity: Training windows keep every k-th episode (the authors' configuration).
        trajectories: Number of noise-distilled trajectories (paper, Appendix G).
        trajectory_length: Steps in one trajectory (paper, Appendix G).
        mean_episode_length: Steps per episode over the trajectories (paper, Appendix G); None
            where nobody has measured it.
        schedule: Noise decay of the paper's family (Appendix A.3).
        scores: Score references by name: ``paper`` (Tables 7 to 10), ``release`` (the authors'
            YAML). What we measure lives in demonstrators artifacts, and here (``measured``) only of
            tasks that nobody has published scores of.
        simulator: What else the domain needs to make the task, such as ``{"setpoint": 50}``.
        observation_dim_v4: Observation dims under Gymnasium's v4 MuJoCo environments where they
            differ; the published parameter count is made with these.
        variation_of: Canonical name of the base task; None for a task of its own.
        variation: What is changed: a value (``{"viscosity": 0.05}``) or, as text ending in x, a
            factor on the default (``{"gravity": "1.1x"}``). None for a task of its own.
        inert_reason: Why the variation changes nothing; None where it does change something.
        noise_curve: Noise decay in place of `schedule`, for tasks that the family does not suit.
        actions: What the actions are; a box of `action_dim` where not given.
        set_group: What groups that differ in the number of their discrete actions alone have in
            common; they are one group for heads that take sets of any size. None where there are
            no others.

    Raises:
        ConfigError: A field is out of range.
    """

    name: str
    domain: str
    group: str
    observation_dim: int
    action_dim: int = 0
    horizon: int
    env_id: str = ""
    aliases: tuple[str, ...] = ()
    split: Split = "train"
    reward_scale: float = 1.0
    episode_sparsity: int = 1
    trajectories: int = 10
    trajectory_length: int = 100_000
    mean_episode_length: float | None = None
    schedule: Schedule = field(default_factory=Schedule)
    scores: Mapping[str, ScoreReference] = field(default_factory=FrozenMap, hash=False)
    simulator: Mapping[str, Any] = field(default_factory=FrozenMap, hash=False)
    observation_dim_v4: int | None = None
    variation_of: str | None = None
    variation: Mapping[str, float | str] | None = field(default=None, hash=False)
    inert_reason: str | None = None
    noise_curve: NoiseCurve | None = None
    actions: ActionSpec = None  # type: ignore[assignment]
    set_group: str | None = None

    def __post_init__(self) -> None:
        freeze = object.__setattr__
        self._check_names()
        if isinstance(self.actions, ActionSpec):
            freeze(self, "action_dim", self.action_dim or self.actions.width)
        elif self.actions is not None:
            self._reject("actions", "a Box or a Discrete of pipelines.actions", self.actions)
        self._check_numbers()
        freeze(self, "actions", self.actions or Box(self.action_dim))
        if self.actions.width != self.action_dim:
            self._reject("action_dim", self.actions.width, self.action_dim)
        freeze(self, "env_id", self.env_id or self.name)
        freeze(self, "reward_scale", float(self.reward_scale))
        freeze(self, "aliases", tuple(self.aliases))
        freeze(self, "scores", FrozenMap(self.scores))
        freeze(self, "simulator", FrozenMap(self.simulator))
        if self.variation is not None:
            freeze(self, "variation", FrozenMap(self.variation))

    @property
    def inert(self) -> bool:
        """Whether this is a variation that leaves the dynamics as they are."""
        return self.inert_reason is not None

    @property
    def decay(self) -> Decay:
        """The noise decay that the task has by default."""
        return self.noise_curve or self.schedule

    @property
    def timesteps(self) -> int:
        """Steps over all trajectories of the task."""
        return self.trajectories * self.trajectory_length

    @property
    def episodes(self) -> float:
        """Expected episodes over all trajectories; full-length ones where no mean is known."""
        return self.timesteps / (self.mean_episode_length or self.horizon)

    def as_json(self) -> dict[str, Any]:
        """Return the object that ``vintix tasks --json`` prints for the task.

        The first eleven fields are frozen; scripts rely on them. ``variation_of`` is null for a
        task of its own. ``actions`` is there where they are no box, and ``set_group`` where there
        is one.
        """
        other: dict[str, Any] = {}
        if not isinstance(self.actions, Box):
            other["actions"] = self.actions.as_json()
        if self.set_group is not None:
            other["set_group"] = self.set_group
        return {
            "name": self.name,
            "aliases": list(self.aliases),
            "domain": self.domain,
            "split": self.split,
            "group": self.group,
            "observation_dim": self.observation_dim,
            "action_dim": self.action_dim,
            "horizon": self.horizon,
            "reward_scale": self.reward_scale,
            "env_id": self.env_id,
            "variation_of": self.variation_of,
            "episode_sparsity": self.episode_sparsity,
            "trajectories": self.trajectories,
            "trajectory_length": self.trajectory_length,
            "schedule": schedule_json(self.schedule),
            "scores": {name: score.as_json() for name, score in self.scores.items()},
            "inert": self.inert,
            "noise_curve": schedule_json(self.noise_curve) if self.noise_curve else None,
            **other,
        }

    def _check_names(self) -> None:
        pattern = _IDENTIFIER if self.variation_of is None else _VARIATION_IDENTIFIER
        for label, value, allowed in (
            ("name", self.name, pattern),
            ("domain", self.domain, _IDENTIFIER),
            ("group", self.group, _IDENTIFIER),
            ("set_group", self.set_group or self.group, _IDENTIFIER),
        ):
            if not isinstance(value, str) or not allowed.fullmatch(value):
                self._reject(label, "letters, digits, '-' and '_'", value)
        if isinstance(self.aliases, str):
            self._reject("aliases", "a sequence of names", self.aliases)
        for alias in self.aliases:
            if not isinstance(alias, str) or not alias or any(c.isspace() for c in alias):
                self._reject("aliases", "names without white space", alias)
        if self.split not in SPLITS:
            self._reject("split", " or ".join(SPLITS), self.split)
        if (self.variation_of is None) != (self.variation is None):
            self._reject("variation", "variation_of and variation together", self.variation)
        if self.inert and self.variation_of is None:
            self._reject("inert_reason", "a variation", self.inert_reason)

    def _check_numbers(self) -> None:
        counts = ["observation_dim", "action_dim", "horizon", "episode_sparsity"]
        counts += ["trajectories", "trajectory_length"]
        if self.observation_dim_v4 is not None:
            counts.append("observation_dim_v4")
        for label in counts:
            value = getattr(self, label)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                self._reject(label, "a whole number >= 1", value)
        if not (math.isfinite(self.reward_scale) and self.reward_scale > 0):
            self._reject("reward_scale", "> 0", self.reward_scale)
        if self.mean_episode_length is not None and not (
            1 <= self.mean_episode_length <= self.horizon
        ):
            self._reject(
                "mean_episode_length",
                f"1 to the horizon ({self.horizon})",
                self.mean_episode_length,
            )

    def _reject(self, label: str, expected: object, found: object) -> None:
        raise ConfigError(
            f"Task specification: {label} is not valid.",
            where=f"task {self.name!r} of domain {self.domain!r}",
            expected=expected,
            found=repr(found),
        )
