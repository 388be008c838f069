"""The windows of a dataset as training sees them, for a training loop of somebody else.

Shapes: L steps, O observation, A numbers of an action.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import Dataset

from pipelines.methods import cut_tasks
from pipelines.methods.windows import Window, WindowSampler
from pipelines.train.loader import BatchLoader
from pipelines.train.run import prepare

if TYPE_CHECKING:
    import torch

    from pipelines.artifacts.workspace import Workspace
    from pipelines.train.config import TrainConfig


class Windows(Dataset[dict[str, Any]]):
    """Every window of a dataset, tasks one behind the other; observations are normalised.

    A window is a dictionary of tensors: ``observation`` (L, O), ``previous_action`` (L, A) as
    executed, ``previous_reward`` (L,) scaled, ``episode_step`` (L,), and ``action`` (L, A), the
    target of the method; discrete actions are (L,). ``task`` is the task's name. Batches of tasks
    with other dimensions do not stack: choose tasks of one group, or batch by `group`.

    Args:
        config: Dataset, tasks, context and method; what else it says plays no part.
        workspace: Where artifacts lie.

    Attributes:
        context: L.
        tasks: The tasks, in their order.
        group: The group of each.

    Raises:
        ArtifactMissingError: There is no such dataset.
        ConfigError: A trajectory is shorter than a window, or a field of the method is not there.
    """

    def __init__(self, config: TrainConfig, workspace: Workspace) -> None:
        run = prepare(config, workspace, planned=True)
        subsequences = cut_tasks(
            run.data,
            run.tasks,
            context=config.context,
            method=config.method,
            fidelity=config.fidelity,
            episode_sparsity=config.episode_sparsity,
            last_fraction=config.last_fraction,
        )
        sampler = WindowSampler(subsequences, context=config.context, batch_size=1, seed=0)
        self._loader = BatchLoader(
            run.data, run.tasks, subsequences, sampler, run.model, method=config.learner
        )
        self.context = config.context
        self.tasks = tuple(subsequences)
        self.group = {task.name: task.group for task in run.tasks}
        # Task, number of the subsequence and of its trajectory.
        self._places = [
            (name, number, one.trajectory)
            for name, each in subsequences.items()
            for number, one in enumerate(each)
        ]
        counts = [one.rows - config.context for each in subsequences.values() for one in each]
        self._ends = np.cumsum(counts, dtype=np.int64)

    def __len__(self) -> int:
        """Return how many windows there are: one begins at every step that a whole one fits to."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> dict[str, torch.Tensor | str]:
        """Return a window.

        Raises:
            IndexError: There are not so many.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        index %= len(self)
        place = int(np.searchsorted(self._ends, index, side="right"))
        task, number, trajectory = self._places[place]
        start = index - (int(self._ends[place - 1]) if place else 0)
        (batch,) = self._loader.assemble([Window(task, trajectory, start, number)]).batches
        assert batch.action_BLA is not None
        return {
            "task": task,
            "observation": batch.observation_BLO[0],
            "previous_action": batch.previous_action_BLA[0],
            "previous_reward": batch.previous_reward_BL[0],
            "episode_step": batch.episode_step_BL[0],
            "action": batch.action_BLA[0],
        }
