"""What a domain is: tasks, environments driven in batches, and a fingerprint of each.

A domain is a class with a no-argument constructor, found by the entry-point group
``vintix.domains``; the paper's four are registered the same way as a user's own
(docs/domains.md). A new domain implements `tasks` and `make_env`; everything else has a default.
Who steps an environment has it made by `pipelines.domains.checked`.

Shapes: B copies of an environment, O observation, A action.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import gymnasium
    import numpy as np
    from numpy.typing import NDArray

    from pipelines.policies.base import PolicyBuilder, PolicySpec
    from pipelines.tasks.registry import Catalogue
    from pipelines.tasks.spec import TaskSpec

Options = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class OptionSpec:
    """An option of a domain's environments, as given by ``--option name=value``.

    Attributes:
        name: Its name.
        default: Its value where none is given.
        help: One line.
        choices: The allowed values; None for a free one.
        parse: Brings a free value to the one form that artifacts record, so that two ways to write
            it are one configuration; a ValueError with what is expected rejects it. None for a
            number.
    """

    name: str
    default: str | float | None
    help: str
    choices: tuple[str, ...] | None = None
    parse: Callable[[Any], str | float] | None = None


@dataclass(frozen=True, slots=True)
class StepBatch:
    """One step of B environments.

    Attributes:
        observation_BO: float32, the observation after the step, also where an episode ended.
        reward_B: float64, unscaled.
        terminated_B: bool, the episode ended for a reason of the task.
        truncated_B: bool, the episode ended by its time limit; set at the task's horizon by
            `pipelines.domains.checked`, whatever the domain says.
        success_B: bool, or None where the domain knows no success.
    """

    observation_BO: NDArray[np.float32]
    reward_B: NDArray[np.float64]
    terminated_B: NDArray[np.bool_]
    truncated_B: NDArray[np.bool_]
    success_B: NDArray[np.bool_] | None


class BatchEnvironment(ABC):
    """B independent copies of one task, stepped together.

    There is no automatic reset: whoever drives the batch resets the copies whose episode ended
    before the next step. What a copy does depends on its own seeds and actions alone, never on
    the size of the batch or on its neighbours.

    Attributes:
        size: B.
        observation_dim: O.
        action_low_A: float32, lower bound of each action dimension.
        action_high_A: float32, upper bound.
        packages: Versions of what simulates, where that is not the domain's packages; for the
            fingerprint.
    """

    packages: Mapping[str, str] | None = None
    size: int
    observation_dim: int
    action_low_A: NDArray[np.float32]
    action_high_A: NDArray[np.float32]

    @property
    def unwrapped(self) -> BatchEnvironment:
        """The domain's own batch, inside of what checks it (`pipelines.domains.checked`)."""
        return self

    @abstractmethod
    def reset(self, indices: Sequence[int], seeds: Sequence[int]) -> NDArray[np.float32]:
        """Begin an episode in some copies.

        Args:
            indices: Which copies.
            seeds: The seed of each one's episode, in [0, 2**31); the same seed, the same bytes.

        Returns:
            First observations (len(indices), O), float32.
        """

    @abstractmethod
    def step(self, action_BA: NDArray[np.float32]) -> StepBatch:
        """Advance all copies by one step; actions (B, A) are within the bounds."""

    def demonstrator_view(self, observation_BO: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what demonstrators see of the present step.

        It is the observation, unless an option of the domain shows them more: then what they do is
        recorded, and not all that they see.

        Args:
            observation_BO: The latest observations of all copies (B, O).
        """
        return observation_BO

    def reset_async(
        self, indices: Sequence[int], seeds: Sequence[int]
    ) -> Callable[[], NDArray[np.float32]]:
        """Ask for a reset; the function that is returned makes it, or waits for it."""
        return partial(self.reset, indices, seeds)

    def step_async(self, action_BA: NDArray[np.float32]) -> Callable[[], StepBatch]:
        """Ask for a step; the function that is returned makes it, or waits for it."""
        return partial(self.step, action_BA)

    def close(self) -> None:  # noqa: B027 - most batches hold nothing to give back
        """Give back what the copies hold."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Domain(ABC):
    """A family of tasks that share a simulator.

    Attributes:
        name: As in ``--domain``.
        packages: Distributions whose versions are recorded with every artifact of the domain.
        vectorized: Whether a batch costs much less than its copies one by one, so that the
            trajectories of a task are best collected together.
        batched: Whether a step of a batch costs less than the steps of its copies, though each is
            simulated for itself: the trajectories of a task are best collected together then, too.
        steps_per_second: Steps of all copies that one core makes in a second, roughly, with a
            demonstrator; plans, and their split over shards, are made from it.
        startup_seconds: Until one core has made and reset the first environment of a task in a
            process, roughly; counted in plans.
        simulator_options: Options that choose between simulators. What was recorded or measured
            with one value is never mixed with, or scored against, what was with another.
        picture_steps: Steps of the demonstrator before a picture, where no number is asked for.
        changes: What a rollout may change of its tasks' physics, by the option's name.
        change_keeps_scores: Whether scores that were measured on a task stand for a changed one.
        held_out_are_variations: Whether its held-out tasks are variations of its training tasks.
        histories_figure: Where the paper shows histories of its tasks.
        returns_figure: Where the paper shows returns of its tasks against shots.
    """

    name: str
    packages: tuple[str, ...] = ()
    vectorized: bool = False
    steps_per_second: float = 2_000.0
    startup_seconds: float = 0.05
    batched: bool = False
    simulator_options: tuple[str, ...] = ()
    picture_steps: int = 50
    changes: tuple[str, ...] = ()
    change_keeps_scores: bool = True
    held_out_are_variations: bool = False
    histories_figure: str = "Appendix E"
    returns_figure: str = "Appendix F"

    def tasks(self) -> Sequence[TaskSpec]:
        """Return the domain's tasks without their variations; by default the catalogue's of it."""
        from pipelines.tasks.registry import catalogue

        return catalogue().select(domains=[self.name])

    @abstractmethod
    def make_env(self, task: TaskSpec, options: Options) -> gymnasium.Env[Any, Any]:
        """Make one task as a plain Gymnasium environment.

        Args:
            task: One of `tasks`, or a variation of one.
            options: Values of all of `options`.

        Raises:
            MissingDependencyError: The simulator is not there.
        """

    def options(self) -> Sequence[OptionSpec]:
        """Return the options of the domain's environments."""
        return ()

    def make_batch(
        self, task: TaskSpec, size: int, options: Options, stream_seeds: Sequence[int]
    ) -> BatchEnvironment:
        """Make copies of a task to be stepped together.

        Args:
            task: One of `tasks`, or a variation of one.
            size: How many copies.
            options: Values of all of `options`.
            stream_seeds: A seed for each copy that stays over its episodes, for what an option
                fixes for a whole trajectory.
        """
        from pipelines.domains.loop import LoopBatch

        return LoopBatch([self.make_env(task, options) for _ in range(size)])

    def begin_stream(  # noqa: B027 - most domains fix nothing
        self, env: gymnasium.Env[Any, Any], options: Options, seed: int
    ) -> None:
        """Fix in an environment what an option keeps for all episodes of a trajectory.

        Args:
            env: As `make_env` or `make_rendered_env` made it.
            options: Values of all of `options`.
            seed: As one of the stream seeds of `make_batch`.
        """

    def copies_are_separate(self, options: Options) -> bool:
        """Return whether copies of a task are simulated one by one, in the calling process.

        Then a batch may be spread over worker processes, to be stepped at the same time.

        Args:
            options: Values of all of `options`.
        """
        return not self.vectorized

    def make_rendered_env(
        self, task: TaskSpec, options: Options, size: tuple[int, int] = (640, 480)
    ) -> gymnasium.Env[Any, Any]:
        """Make one task as `make_env` does, with a `render` that returns pictures.

        Seeds and actions make the same episodes as there. What is drawn with MuJoCo (`packages`
        names it) is given off-screen OpenGL. An environment whose mode of rendering is fixed when
        it is made, or that draws in more than one size, needs a method of its own.

        Args:
            task: One of `tasks`, or a variation of one.
            options: Values of all of `options`.
            size: Width and height in pixels; this default leaves the size to the environment.

        Returns:
            After a reset and after each step, its `render()` gives uint8 (height, width, 3).

        Raises:
            UsageError: The domain's environments draw nothing.
            MissingDependencyError: The simulator, or what it draws with, is not there.
        """
        from pipelines.errors import UsageError

        if "mujoco" in self.packages:
            from pipelines.domains.opengl import prepare_opengl

            prepare_opengl()
        env = self.make_env(task, options)
        modes = env.metadata.get("render_modes", ())
        if "rgb_array" not in modes:
            env.close()
            raise UsageError(
                f"Tasks of the domain {self.name} cannot be drawn.",
                where=f"task {task.name}",
                expected="environments with the render mode rgb_array",
                found=", ".join(map(str, modes)) or "environments without any",
                fix="give them one; docs/domains.md tells how",
            )
        env.unwrapped.render_mode = "rgb_array"
        return env

    def policies(self) -> Mapping[str, PolicyBuilder]:
        """Return the domain's own kinds of policies by name."""
        return {}

    def demonstrator(self, task: TaskSpec) -> PolicySpec | None:
        """Return an expert that needs no training, or None."""
        return None

    def has_demonstrator(self, task: TaskSpec) -> bool:
        """Tell whether there is a `demonstrator`; needs no environment."""
        return self.demonstrator(task) is not None

    def demonstrator_under(self, task: TaskSpec, options: Options) -> PolicySpec | None:
        """Return the expert for the values of all of `options`; by default `demonstrator`."""
        return self.demonstrator(task)

    def changed(
        self,
        tasks: Sequence[TaskSpec],
        values: Mapping[str, float],
        catalogue: Catalogue,
        *,
        chosen: bool,
    ) -> list[TaskSpec]:
        """Return variations of some tasks, or tasks of the catalogue that are the same.

        Args:
            tasks: Tasks of the domain.
            values: Some of `changes` with their values.
            catalogue: All tasks and variations there are.
            chosen: Whether the user has named these tasks, or their domain.

        Raises:
            UsageError: A task cannot be changed.
        """
        raise NotImplementedError(f"domain {self.name} changes {', '.join(self.changes)}")
