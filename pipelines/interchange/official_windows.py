"""Which windows the authors' data loader cuts, in its order.

A trajectory is thinned to episodes 0, k, 2k, ... and the kept rows are numbered anew. Windows of
`context` + 1 kept rows start at every `stride`-th of them; with `last_fraction`, only where the
start lies in the last part of the trajectory as it was before thinning. The last start that would
just fit is left out. Trajectories follow one another, and tasks follow one another.

Shapes: T steps of a trajectory, E episodes, N windows, L context.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipelines.datasets.reader import DatasetReader

#: `trajectory_sparsity` of the released configuration.
STRIDE = 257


def kept_rows(episode_start_E: NDArray[Any], rows: int, sparsity: int) -> NDArray[np.int64]:
    """Return the rows of every `sparsity`-th episode from the first on, ascending.

    Args:
        episode_start_E: First row of each episode, ascending from 0.
        rows: T.
        sparsity: Every which episode is kept, >= 1.
    """
    length_E = np.diff(np.append(episode_start_E, rows))
    kept_E = np.arange(len(episode_start_E)) % sparsity == 0
    return np.flatnonzero(np.repeat(kept_E, length_E))


def window_starts(
    kept: NDArray[np.int64],
    rows: int,
    context: int,
    *,
    stride: int = STRIDE,
    last_fraction: float | None = None,
) -> NDArray[np.int64]:
    """Return the starts (N,) of a trajectory's windows, as places among its kept rows.

    Args:
        kept: What `kept_rows` gave.
        rows: T, before thinning.
        context: L; a window has one row more.
        stride: Kept rows between two starts.
        last_fraction: Keep windows that start in this last part of the trajectory; None for all.
    """
    starts = np.arange(0, max(0, len(kept) - (context + 1)), stride)
    if last_fraction is not None:
        starts = starts[kept[starts] >= (1 - last_fraction) * rows]
    return starts


@dataclass(frozen=True, eq=False)
class _Trajectory:
    task: str
    number: int
    kept: NDArray[np.int64]
    starts: NDArray[np.int64]


class OfficialWindows:
    """All windows of an epoch of the release's loader, by its own numbering.

    The release shuffles these numbers with a sampler of its own; which window a number stands for
    is what this class reproduces.

    Args:
        reader: A dataset, its trajectories in the order the release has them (imported with
            ``order="official"``).
        tasks: Names of its tasks, in the order of the release's configuration.
        context: L.
        sparsity: Episode sparsity by task; None for what the dataset says.
        stride: `trajectory_sparsity` of the release.
        last_fraction: `last_frac` of the release, for all tasks.

    Raises:
        UsageError: The dataset does not hold a task.
        ConfigError: A number is out of range.
    """

    def __init__(
        self,
        reader: DatasetReader,
        tasks: Sequence[str],
        *,
        context: int,
        sparsity: Sequence[int] | None = None,
        stride: int = STRIDE,
        last_fraction: float | None = None,
    ) -> None:
        unknown = [name for name in tasks if name not in reader.tasks]
        if unknown:
            raise UsageError(
                "the dataset does not hold these tasks",
                where=reader.artifact.reference,
                expected=", ".join(reader.tasks),
                found=", ".join(unknown),
            )
        every = list(sparsity or (reader.tasks[name].episode_sparsity for name in tasks))
        fraction_fits = last_fraction is None or 0 < last_fraction <= 1
        if len(every) != len(tasks) or min([*every, context, stride]) < 1 or not fraction_fits:
            raise ConfigError(
                "windows cannot be cut like this",
                expected="one sparsity >= 1 a task, context >= 1, stride >= 1, fraction in (0, 1]",
                found=f"sparsity {every} for {len(tasks)} tasks, context {context}, "
                f"stride {stride}, fraction {last_fraction}",
            )
        self.context = context
        self._reader = reader
        self._trajectories: list[_Trajectory] = []
        for name, each in zip(tasks, every, strict=True):
            for number, rows in enumerate(reader.tasks[name].rows):
                kept = kept_rows(reader.episode_starts(name, number), rows, each)
                starts = window_starts(
                    kept, rows, context, stride=stride, last_fraction=last_fraction
                )
                self._trajectories.append(_Trajectory(name, number, kept, starts))
        counts = [len(trajectory.starts) for trajectory in self._trajectories]
        self._ends = np.cumsum(counts, dtype=np.int64)

    def __len__(self) -> int:
        """Return N, the windows of an epoch."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def counts(self) -> dict[str, int]:
        """Return the windows of each task."""
        found: dict[str, int] = {}
        for trajectory in self._trajectories:
            found[trajectory.task] = found.get(trajectory.task, 0) + len(trajectory.starts)
        return found

    def place(self, index: int) -> tuple[str, int, NDArray[np.int64]]:
        """Return task, trajectory and rows (L + 1,) of a window.

        Raises:
            IndexError: There is no such window.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        which = int(np.searchsorted(self._ends, index, side="right"))
        trajectory = self._trajectories[which]
        start = trajectory.starts[index - (self._ends[which] - len(trajectory.starts))]
        return (
            trajectory.task,
            trajectory.number,
            trajectory.kept[start : start + self.context + 1],
        )

    def read(self, index: int) -> tuple[str, dict[str, NDArray[Any]]]:
        """Return task and tokens of a window, as the release feeds them to the model.

        Returns:
            The task's name, and ``observation`` (L, O), ``prev_action`` (L, A), ``prev_reward``
            (L, 1), unscaled, ``action`` (L, A) float32 and ``step_num`` (L,) int32. The first row
            gives nothing but the first token's previous action and reward.

        Raises:
            IndexError: There is no such window.
            ArtifactCorruptError: A file does not have the bytes its manifest promises.
        """
        task, number, rows = self.place(index)
        first, last = int(rows[0]), int(rows[-1])
        span = self._reader.window(task, number, first, last - first + 1)
        found = {name: values[rows - first] for name, values in span.items()}
        return task, {
            "observation": found["observation"][1:],
            "prev_action": found["action"][:-1],
            "prev_reward": found["reward"][:-1, None],
            "action": found["action"][1:],
            "step_num": found["episode_step"][1:],
        }
