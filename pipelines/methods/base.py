"""What a training method is, and the rules by which a run of it goes.

Shapes: N rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from pipelines.methods.windows import (
    ContextOrder,
    Sampler,
    Sampling,
    Subsequence,
    WindowSampler,
    last_part,
    too_short,
    whole_phases,
)

if TYPE_CHECKING:
    from pipelines.datasets.reader import DatasetReader, DatasetTask


@dataclass(frozen=True)
class Schedule:
    """What a learning rate is a function of, besides the step.

    Attributes:
        steps: Optimizer steps of the run.
        accumulation: Micro-batches of a step.
        peak: Largest rate.
        warmup_fraction: Part of the run in which the rate rises linearly.
        final_fraction: Where the cosine ends, as a part of the peak.
    """

    steps: int
    accumulation: int
    peak: float
    warmup_fraction: float
    final_fraction: float

    def cosine(self, progress: float) -> float:
        """Return the rate at a part of the cosine, in [0, 1]."""
        cosine = 0.5 * (1.0 + math.cos(math.pi * progress))
        return self.peak * (self.final_fraction + (1.0 - self.final_fraction) * cosine)


class Rules:
    """How windows are cut and drawn, losses weighted and rates set: the project's own rules.

    Attributes:
        defaults: Settings that have these values unless they are given.
        by_process: Whether the result depends on how many processes train together.
    """

    defaults: ClassVar[Mapping[str, object]] = {}
    by_process: ClassVar[bool] = False

    def check(self, *, sampling: Sampling, random_map: bool, context_order: ContextOrder) -> None:
        """Refuse settings that do not fit these rules.

        Raises:
            ValueError: They do not.
        """

    def cut(
        self,
        method: Method,
        data: DatasetReader,
        task: DatasetTask,
        trajectories: Sequence[int],
        *,
        context: int,
        thin: bool,
        last_fraction: float | None,
    ) -> list[Subsequence]:
        """Return the subsequences of a task that windows are cut from.

        Args:
            method: Says which part of a trajectory is used.
            data: The dataset.
            task: The task.
            trajectories: Numbers of its trajectories.
            context: Sequence length; a window is one row longer.
            thin: Whether to keep every k-th episode only, of a task that has such a k.
            last_fraction: Last part of each trajectory to use; None for the method's own part.

        Raises:
            ConfigError: A trajectory, or its part, is shorter than a window.
        """
        found = []
        for trajectory in trajectories:
            rows, part = task.rows[trajectory], method.part
            if last_fraction is None:
                first = method.first_row(data, task.name, trajectory)
            else:
                first = last_part(rows, last_fraction)
                part = f"the last {last_fraction:g} of a trajectory"
            if rows - first < context + 1:
                advice = method.longer if last_fraction is None else ""
                raise too_short(task.name, trajectory, rows - first, context + 1, part, advice)
            found.append(Subsequence(task.name, trajectory, first, rows - first))
        return whole_phases(data, found, task.episode_sparsity if thin else 1, context + 1)

    def sampler(
        self,
        subsequences: Mapping[str, Sequence[Subsequence]],
        *,
        context: int,
        batch_size: int,
        accumulation: int,
        seed: int,
        sampling: Sampling,
    ) -> Sampler:
        """Return what says which windows a step has."""
        return WindowSampler(
            subsequences,
            context=context,
            batch_size=batch_size * accumulation,
            seed=seed,
            sampling=sampling,
            accumulation=accumulation,
        )

    def dealt(self, batch_size: int, accumulation: int) -> int:
        """Return how many windows at a time are dealt out to the processes."""
        return batch_size * accumulation

    def loss_weights(
        self, sizes: Sequence[int], *, accumulation: int, world: int = 1
    ) -> list[float]:
        """Return the factor on the mean loss of each micro-batch of an update in this process.

        They make the mean over the sequences of all processes.

        Args:
            sizes: Sequences of each micro-batch of this process.
            accumulation: Micro-batches of an update, not counting those left over by an epoch.
            world: Processes, whose gradients are summed.
        """
        total = sum(sizes) * world
        return [size / total for size in sizes]

    def learning_rate(self, step: int, schedule: Schedule) -> float:
        """Return the rate of an optimizer step: linear warm-up, then a cosine.

        It rises from 1 / warm-up and ends at `final_fraction` on the last step. A run of one step
        has the peak.

        Args:
            step: Optimizer step, in [0, schedule.steps).
            schedule: Peak, warm-up, end and number of steps.
        """
        warmup = round(schedule.warmup_fraction * schedule.steps)
        if schedule.steps == 1:
            return schedule.peak
        if step < warmup:
            return schedule.peak * (step + 1) / warmup
        return schedule.cosine((step - warmup + 1) / max(1, schedule.steps - warmup))


class Method:
    """How a model is trained on histories, and what holds when it plays.

    A method derives from this class, or from another method, and is named by an entry point of the
    group ``vintix.methods``. It holds no state.

    Attributes:
        title: What reports call it.
        fields: Per-step fields that it reads besides observation, action, reward and episode step.
        target: The field whose values the model is to predict: an action of each step.
        masks_rewards: Whether the model is shown rewards of 0, in training and when it plays.
        part: What is cut into windows, in messages.
        longer: Advice, after "distill longer trajectories", on what makes that part longer.
        rules: By which rules it can be trained, by the value of ``fidelity``.
    """

    title: ClassVar[str]
    fields: ClassVar[tuple[str, ...]] = ()
    target: ClassVar[str] = "action"
    masks_rewards: ClassVar[bool] = False
    part: ClassVar[str] = "a trajectory"
    longer: ClassVar[str] = ""
    rules: ClassVar[Mapping[str, Rules]] = {"corrected": Rules()}

    def first_row(self, data: DatasetReader, task: str, trajectory: int) -> int:
        """Return the row of a trajectory from which on it is cut into windows.

        Raises:
            ConfigError: The dataset does not hold what decides it.
        """
        return 0

    def loss_weights(self, rows: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32] | None:
        """Return the weight (N,) of each row's loss, or None where all weigh 1.

        Args:
            rows: Consecutive rows of a trajectory, by field.
        """
        return None
