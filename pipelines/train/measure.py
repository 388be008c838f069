"""What is measured on the current weights while training: a held-out loss, and short rollouts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipelines.errors import ConfigError
from pipelines.rng import derive_seed, stream
from pipelines.train.metrics import mean_by_domain

if TYPE_CHECKING:
    import torch

    from pipelines.datasets.reader import DatasetTask
    from pipelines.model.saved import SavedTask
    from pipelines.train.loader import BatchLoader
    from pipelines.train.loop import Trainer

WINDOWS_AT_ONCE = 8
"""Windows of one forward pass of a measurement."""


def split_trajectories(
    tasks: Sequence[DatasetTask], fraction: float, seed: int
) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Return each task's trajectories to train on, and those of the tasks that set some aside.

    Whole trajectories are set aside, since windows of one trajectory overlap. Of a task with two
    or more at least one is, and at least one stays; of a task with a single one none is. Which
    ones is drawn from a stream keyed by the task.

    Args:
        fraction: Part to set aside, in [0, 1).
    """
    kept, aside = {}, {}
    for task in tasks:
        count = len(task.rows)
        number = min(count - 1, max(1, round(fraction * count))) if fraction and count > 1 else 0
        order = stream(seed, "train", "validation", "trajectories", task.name).permutation(count)
        kept[task.name] = sorted(int(one) for one in order[number:])
        if number:
            aside[task.name] = sorted(int(one) for one in order[:number])
    return kept, aside


class HeldOutLoss:
    """The loss on fixed windows of trajectories that are not trained on.

    Args:
        loader: Gives the windows as its step 0.
        device: Where the model is.
    """

    def __init__(self, trainer: Trainer, loader: BatchLoader, device: torch.device) -> None:
        self._trainer, self._loader, self._device = trainer, loader, device
        self._seed = trainer.config.seed

    def __call__(self, step: int) -> dict[str, Any]:
        """Return ``loss`` and ``domains``, its means over all windows and over each domain's."""
        import torch

        losses: list[float] = []
        domains: list[str] = []
        with self._trainer.evaluation() as model:
            if model.random_loss:
                # The same numbers each time; training seeds its own for each step.
                torch.manual_seed(derive_seed(self._seed, "train", "validation", "loss"))
            for micro in self._loader.step(0):
                micro = micro.to(self._device)
                _, each = model.loss(micro.batches)
                losses.extend(value for one in each for value in one.tolist())
                domains.extend(micro.domains)
        return {
            "loss": math.fsum(losses) / len(losses),
            "domains": mean_by_domain(losses, domains),
        }


class ShortRollout:
    """A cold-start rollout of a few hundred steps on the current weights, one stream a task.

    Every time the same episodes are played. Tasks that no domain of this installation makes are
    left out.

    Args:
        tasks: What the model knows of the tasks it is trained on.
        steps: Environment steps of each task, rounded up to whole episodes.
        mask_rewards: Show the model rewards of 0.
        random_map: Play through random maps.

    Raises:
        ConfigError: There is none that can be played.
        MissingDependencyError: A simulator is not installed.
    """

    def __init__(
        self,
        trainer: Trainer,
        tasks: Sequence[SavedTask],
        *,
        steps: int,
        seed: int,
        mask_rewards: bool,
        random_map: bool = False,
    ) -> None:
        from pipelines.domains.registry import check_simulators, full_catalogue
        from pipelines.playing.streams import ModelView, StreamTask
        from pipelines.tasks.spec import score_of

        known = {spec.name: spec for spec in full_catalogue().tasks}
        playable = [task for task in tasks if task.name in known]
        if not playable:
            raise ConfigError(
                "no task that is trained on can be played",
                where="train.rollout_every",
                expected="a task of vintix tasks",
                found=", ".join(task.name for task in tasks),
                fix="install the tasks' domain, or train with train.rollout_every=0",
            )
        check_simulators(known[task.name] for task in playable)
        self._trainer = trainer
        self._seed = derive_seed(seed, "train", "rollout")
        self._scores = {task.name: score_of(task.scores, "measured") for task in playable}
        self._tasks = [
            StreamTask(
                spec=known[task.name],
                options=task.options,
                shots=max(1, -(-steps // known[task.name].horizon)),
                streams=(0,),
                view=ModelView(
                    task.group,
                    task.statistics,
                    mask_rewards=mask_rewards,
                    random_map=random_map,
                ),
            )
            for task in playable
        ]

    def __call__(self, step: int) -> dict[str, Any]:
        """Return each task's mean ``return`` of an episode, and its ``score`` where there is one.

        Raises:
            VintixError: An action of the model is not a finite number.
        """
        from pipelines.playing.model import roll

        with self._trainer.evaluation() as model:
            records = roll(model, self._tasks, seed=self._seed)
        found: dict[str, Any] = {}
        for name, streams in records.items():
            mean = float(streams[0].episode_return_E.mean())
            found[name] = {"return": mean}
            score = self._scores[name]
            if score is not None:
                found[name]["score"] = float(score.normalize(mean))
        return found
