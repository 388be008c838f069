"""The Industrial Benchmark (Hein et al. 2017): 21 setpoints of one industrial control problem.

Paper: Appendix A.2.3, Table 10. Observations are setpoint, velocity, gain, shift, fatigue and
consumption; actions change velocity, gain and shift. What can go wrong and why is in the modules:
`dynamics` (the equations), `noise` (the randomness), `environment`, `reference`, `policy`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.domains.base import BatchEnvironment, Domain, Options, OptionSpec
from pipelines.errors import ConfigError

if TYPE_CHECKING:
    import gymnasium

    from pipelines.policies.base import PolicyBuilder, PolicySpec
    from pipelines.tasks.registry import Catalogue
    from pipelines.tasks.spec import TaskSpec

SETPOINTS_FILE = Path(__file__).with_name("setpoints.yaml")


class IndustrialBenchmark(Domain):
    """The domain plugin."""

    name = "industrial-benchmark"
    packages = ("numpy", "industrial-benchmark-python")
    vectorized = True
    steps_per_second = 150_000.0
    startup_seconds = 0.02
    picture_steps = 250
    changes = ("setpoint",)
    # Returns at one setpoint say nothing about those at another.
    change_keeps_scores = False
    held_out_are_variations = True
    histories_figure, returns_figure = "Figure 12", "Figure 17"

    def options(self) -> Sequence[OptionSpec]:
        """Return the backend and the kind of reward."""
        backend = "Our vectorised dynamics, or those of industrial-benchmark-python."
        reward = "-(3 fatigue + consumption) / 100, or its change since the last step."
        return (
            OptionSpec("backend", "vectorized", backend, ("vectorized", "reference")),
            OptionSpec("reward", "classic", reward, ("classic", "delta")),
        )

    def make_batch(
        self, task: TaskSpec, size: int, options: Options, stream_seeds: Sequence[int]
    ) -> BatchEnvironment:
        """Make copies of a task; nothing is fixed over a trajectory, so no stream seed is used.

        Raises:
            ConfigError: The task has no setpoint in [0, 100].
            MissingDependencyError: The package of the reference backend is not installed.
        """
        setpoints = [_setpoint(task)] * size
        delta_reward = options.get("reward") == "delta"
        if options.get("backend") == "reference":
            from pipelines.domains.industrial_benchmark.reference import ReferenceBatch

            return ReferenceBatch(setpoints, delta_reward=delta_reward)
        from pipelines.domains.industrial_benchmark.environment import IndustrialBenchmarkBatch

        return IndustrialBenchmarkBatch(setpoints, delta_reward=delta_reward)

    def make_env(self, task: TaskSpec, options: Options) -> gymnasium.Env[Any, Any]:
        """Make one task as a plain Gymnasium environment: a batch of one; see `make_batch`."""
        from pipelines.domains.industrial_benchmark.environment import IndustrialBenchmarkEnv

        return IndustrialBenchmarkEnv(self.make_batch(task, 1, options, [0]))

    def make_rendered_env(
        self, task: TaskSpec, options: Options, size: tuple[int, int] = (640, 480)
    ) -> gymnasium.Env[Any, Any]:
        """Make a task that draws the curves of its episode; see `Domain.make_rendered_env`."""
        from pipelines.domains.industrial_benchmark.environment import IndustrialBenchmarkEnv

        batch = self.make_batch(task, 1, options, [0])
        return IndustrialBenchmarkEnv(batch, render_mode="rgb_array", size=size)

    def changed(
        self,
        tasks: Sequence[TaskSpec],
        values: Mapping[str, float],
        catalogue: Catalogue,
        *,
        chosen: bool,
    ) -> list[TaskSpec]:
        """Return the tasks with another setpoint.

        All of them are one environment: where the user has chosen none, the nearest is changed,
        whose statistics are likely to fit best.
        """
        setpoint = values["setpoint"]
        if not chosen:
            tasks = [min(tasks, key=lambda task: abs(_setpoint(task) - setpoint))]
        twin = [
            task
            for task in catalogue.select(domains=[self.name])
            if math.isclose(_setpoint(task), setpoint)
        ]
        return [
            task
            if math.isclose(_setpoint(task), setpoint)
            else replace(
                task,
                name=f"{task.name}-setpoint-{setpoint:g}",
                aliases=(),
                split="validation",
                scores=twin[0].scores if twin else {},
                simulator={**task.simulator, "setpoint": setpoint},
                variation_of=task.name,
                variation={"setpoint": setpoint},
            )
            for task in tasks
        ]

    def policies(self) -> Mapping[str, PolicyBuilder]:
        """Return the setpoint controller."""
        from pipelines.domains.industrial_benchmark import policy

        return {policy.KIND: policy.build_setpoint_policy}

    def demonstrator(self, task: TaskSpec) -> PolicySpec | None:
        """Return the setpoint controller with the targets of ``setpoints.yaml``.

        None where the file has no row for the task's setpoint.
        """
        import yaml

        from pipelines.domains.industrial_benchmark import policy
        from pipelines.policies.base import PolicySpec

        rows = yaml.safe_load(SETPOINTS_FILE.read_text(encoding="utf-8"))["setpoints"]
        row = rows.get(_setpoint(task))
        if row is None:
            return None
        return PolicySpec(policy.KIND, {name: float(row[name]) for name in policy.TARGETS})


def _setpoint(task: TaskSpec) -> float:
    value = task.simulator.get("setpoint")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
        raise ConfigError(
            "The task has no valid setpoint.",
            where=f"task {task.name!r}, simulator.setpoint",
            expected="a number from 0 to 100",
            found=repr(value),
        )
    return value
