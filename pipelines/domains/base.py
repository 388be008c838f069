"""What a domain is: tasks, and environments that are driven in batches.

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
from typing import TYPE_CHECKING, Any

from pipelines.domains.batch import BatchEnvironment, StepBatch

if TYPE_CHECKING:
    import gymnasium
    import numpy as np

    from pipelines.domains.goals import HiddenGoals
    from pipelines.policies.base import PolicyBuilder, PolicySpec, RewardPolicy
    from pipelines.tasks.registry import Catalogue
    from pipelines.tasks.spec import TaskSpec

__all__ = ["BatchEnvironment", "Domain", "OptionSpec", "Options", "StepBatch"]

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
            demonstrator; plans, and their split over shards, are made from it (`rate_of`).
        startup_seconds: Until one core has made and reset the first environment of a task in a
            process, roughly; counted in plans.
        simulator_options: Options that choose between simulators. What was recorded or measured
            with one value is never mixed with, or scored against, what was with another.
        picture_steps: Steps of the demonstrator before a picture, where no number is asked for.
        changes: What a rollout may change of its tasks' physics, by the option's name.
        change_keeps_scores: Whether scores that were measured on a task stand for a changed one.
        held_out_are_variations: Whether its held-out tasks are variations of its training tasks.
        selected_by_default: Whether its tasks are taken where neither tasks nor domains are named.
        fixes_goals: Whether, under the default options, a copy keeps something for all episodes of
            a trajectory, such as a goal; then a return is measured over copies and not episodes.
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
    selected_by_default: bool = True
    fixes_goals: bool = False
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

    def rate_of(self, task: TaskSpec) -> float:
        """Return the `steps_per_second` of a task, where not all of the domain are about as fast.

        Args:
            task: One of `tasks`, or a variation of one.
        """
        return self.steps_per_second

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

    def hidden_goals(self, task: TaskSpec, options: Options) -> HiddenGoals | None:
        """Return goals of the kind that a batch has, by which plans see what can be done with them.

        By default those of a batch of one copy, which it makes.

        Args:
            task: One of `tasks`, or a variation of one.
            options: Values of all of `options`.
        """
        batch = self.make_batch(task, 1, options, [0])
        batch.close()
        return batch.hidden_goals

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

    def reward_policies(self, task: TaskSpec) -> tuple[str, ...]:
        """Return names of policies that learn a task from rewards while they play, without a model.

        Such as ``thompson`` and ``ucb`` for a bandit.
        """
        return ()

    def reward_policy(
        self, task: TaskSpec, name: str, generators: Sequence[np.random.Generator]
    ) -> RewardPolicy:
        """Make one of the policies that `reward_policies` names.

        Args:
            task: The task.
            name: Which.
            generators: The random numbers of each copy.
        """
        raise NotImplementedError

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
