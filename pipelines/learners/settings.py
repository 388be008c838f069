"""How learners train, and how fast."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

from pipelines.errors import ConfigError
from pipelines.options import ConflictError, option, setting

if TYPE_CHECKING:
    from pipelines.domains.base import Domain
    from pipelines.tasks.spec import TaskSpec

Activation = Literal["tanh", "relu"]
Algorithm = Literal[
    "ppo",
    "sac",
    "td3",
    "tqc",
    "crossq",
    "trpo",
    "ars",
    "q-learning",
    "thompson",
    "ucb",
    "es",
    "waypoints",
]

EPISODE_LEARNERS = {
    "es": "pipelines.learners.evolution:EvolutionLearner",
    "waypoints": "pipelines.learners.waypoints:WaypointLearner",
}
"""Searches over whole episodes, which need no torch, as ``module:class``."""


@dataclass(frozen=True, slots=True)
class LibraryLearner:
    """A learner of Stable-Baselines3 or sb3-contrib.

    Attributes:
        steps_per_second: Steps that it makes in a second of one core's time with its default
            settings, beside an environment that takes none; measured on inverted-pendulum. For
            plans.
    """

    module: str
    name: str
    steps_per_second: float
    off_policy: bool = False
    kinds: tuple[str, ...] = ("box",)


BOTH = ("box", "discrete")

LIBRARY_LEARNERS = {
    "ppo": LibraryLearner("stable_baselines3", "PPO", 950, kinds=BOTH),
    "trpo": LibraryLearner("sb3_contrib", "TRPO", 1300, kinds=BOTH),
    "sac": LibraryLearner("stable_baselines3", "SAC", 45, off_policy=True),
    "td3": LibraryLearner("stable_baselines3", "TD3", 55, off_policy=True),
    "tqc": LibraryLearner("sb3_contrib", "TQC", 30, off_policy=True),
    "crossq": LibraryLearner("sb3_contrib", "CrossQ", 15, off_policy=True),
    "ars": LibraryLearner("sb3_contrib", "ARS", 6500, kinds=BOTH),
}

HISTORY_LEARNERS: dict[str, str] = {
    "q-learning": "pipelines.learners.q_learning:QLearner",
    "thompson": "pipelines.learners.steps:BanditLearner",
    "ucb": "pipelines.learners.steps:BanditLearner",
}
"""Learners of discrete actions that are trained for their histories alone, which need no torch, as
``module:class``. All but q-learning are policies of a task's domain (`Domain.reward_policies`)."""

_SINGLE_COPY = 10_000.0
"""Steps a second of one copy of a vectorised environment: such a learner steps one."""


class TrainSettings(BaseModel):
    """How a learner trains."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Of Stable-Baselines3 and sb3-contrib; or es, the evolution strategy of
    # `pipelines.learners.evolution`, or waypoints, the search of `pipelines.learners.waypoints` for
    # the tasks of Bi-DexHands; for learning histories also q-learning and, of bandits, thompson and
    # ucb.
    algorithm: Algorithm = option("the learner.", "ppo")
    total_steps: int = option("environment steps.", 100_000, ge=1)
    segment_steps: int | None = setting(
        "Steps between two checkpoints. Each segment starts from its checkpoint with "
        "fresh episodes and its own random streams, so that a resumed run equals an uninterrupted "
        "one; default a twentieth of the total, at least 2000.",
        None,
        ge=1,
    )
    evaluation_episodes: int = setting(
        "Episodes that the policy is measured on after each segment; the best one is kept.", 5, ge=1
    )
    normalize_observations: bool = setting(
        "Normalise observations by running statistics, which become part of the policy.", False
    )
    normalize_rewards: bool = setting(
        "Divide rewards by the running spread of the discounted return while training.", False
    )
    environment_options: dict[str, Any] = setting(
        "Options of the domain that hold in training only, such as a delta reward.",
        default_factory=dict,
    )
    observation_prefix: int | None = setting(
        "How many entries of the observation, from the first, the policy looks at; "
        "default all. For bodies whose contact forces, last in Gymnasium's observations, keep "
        "learners from what matters. Not for es and waypoints.",
        None,
        ge=1,
    )
    hyperparameters: dict[str, Any] = setting(
        "Arguments of the learner's constructor by their names there, numbers and "
        "texts; also net_arch, activation_fn (tanh, relu) and log_std_init of its policy, policy "
        "(MlpPolicy, LinearPolicy), action_noise (a standard deviation) and learning_rate_end, to "
        "which the rate falls linearly over the training. Everything else is the library's "
        "default; other schedules are constant. Those of es are the fields of "
        "pipelines.learners.evolution.EvolutionSettings, those of waypoints of "
        "pipelines.learners.waypoints.WaypointSettings, those of q-learning of "
        "pipelines.learners.q_learning.QSettings.",
        default_factory=dict,
    )

    @model_validator(mode="after")
    def _prefix_has_a_learner(self) -> Self:
        if self.observation_prefix is not None and self.algorithm in EPISODE_LEARNERS:
            raise ConflictError(
                f"{self.algorithm} takes no observation_prefix",
                fix="leave {observation_prefix} out, or choose another algorithm",
                algorithm=self.algorithm,
                observation_prefix=self.observation_prefix,
            )
        return self

    def result_json(self) -> dict[str, Any]:
        """Return what decides the result beside the steps and the length of a segment."""
        deciding = {"algorithm", "normalize_observations", "normalize_rewards", "hyperparameters"}
        if self.observation_prefix is not None:
            deciding.add("observation_prefix")
        return self.model_dump(mode="json", include=deciding)


def check_learner(settings: TrainSettings, task: TaskSpec, section: str) -> None:
    """Check that a learner learns actions of a task's kind.

    Args:
        section: Where the settings are in a configuration, for messages.

    Raises:
        ConfigError: It does not.
    """
    histories = section.startswith("distill")
    if settings.algorithm in HISTORY_LEARNERS and not histories:
        raise ConfigError(
            f"{settings.algorithm} learns for its history alone and gives no demonstrator",
            where=f"{section}.algorithm",
            expected=", ".join([*LIBRARY_LEARNERS, *EPISODE_LEARNERS]),
            found=settings.algorithm,
            fix="vintix distill --source learning-history "
            f"--set distill.train.algorithm={settings.algorithm}",
        )
    fitting = history_learners(task) if histories else _library_learners(task)
    if task.actions.kind == "box":
        fitting += EPISODE_LEARNERS
    if settings.algorithm in fitting:
        return
    raise ConfigError(
        f"the learner {settings.algorithm} does not fit the actions of task {task.name}",
        where=f"{section}.algorithm",
        expected=", ".join(fitting) or "an imported policy",
        found=f"{settings.algorithm}, for {task.actions}",
        fix=f"--set {section}.algorithm={fitting[0]}" if fitting else "--source import",
    )


def history_learners(task: TaskSpec) -> list[str]:
    """Return the learners whose training on a task is a single trajectory."""
    from pipelines.domains.registry import domain_of

    learners = _library_learners(task)
    if task.actions.kind == "discrete":
        learners += ["q-learning", *domain_of(task).reward_policies(task)]
    return learners


def _library_learners(task: TaskSpec) -> list[str]:
    return [name for name, each in LIBRARY_LEARNERS.items() if task.actions.kind in each.kinds]


def segment_length(settings: TrainSettings) -> int:
    """Return the steps between two checkpoints."""
    return settings.segment_steps or max(2000, -(-settings.total_steps // 20))


def training_rate(settings: TrainSettings, domain: Domain, task: TaskSpec) -> float:
    """Return the steps of training on a task that one core is expected to make in a second."""
    if settings.algorithm in EPISODE_LEARNERS:
        # It computes next to nothing beside the environments, and steps all of them at once.
        return domain.rate_of(task)
    simulated = min(domain.rate_of(task), _SINGLE_COPY if domain.vectorized else math.inf)
    if settings.algorithm in HISTORY_LEARNERS:
        return simulated / 2
    return 1 / (1 / LIBRARY_LEARNERS[settings.algorithm].steps_per_second + 1 / simulated)


@contextmanager
def one_thread(settings: TrainSettings) -> Iterator[None]:
    """Compute with one thread: more would change the sums, and workers have one as well."""
    if settings.algorithm not in LIBRARY_LEARNERS:
        # It uses no library with threads of its own, and needs no torch.
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
