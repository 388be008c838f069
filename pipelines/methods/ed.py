"""Expert Distillation (Appendix C.1): imitate the noise-free end of the histories only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipelines.errors import ConfigError
from pipelines.methods.ad import AD

if TYPE_CHECKING:
    from pipelines.datasets.reader import DatasetReader

_BLOCK_ROWS = 1 << 16


class ED(AD):
    """As `AD`, on the rows after the last one with noise."""

    title = "ED"
    part = "the noise-free end of a trajectory"
    longer = ", with a larger f (--schedule p=1,f=0.2): the part that is free of noise"

    def first_row(self, data: DatasetReader, task: str, trajectory: int) -> int:
        """Return the row after the last one with noise, reading from the end.

        Raises:
            ConfigError: The noise is not known.
        """
        stop = data.tasks[task].rows[trajectory]
        while stop > 0:
            start = max(0, stop - _BLOCK_ROWS)
            rows = data.window(task, trajectory, start, stop - start)
            if "noise" not in rows:
                raise ConfigError(
                    "the noise of a task's actions is not known, so neither is its noise-free end",
                    where=f"task {task}, trajectory {trajectory}",
                    expected="a dataset packed from histories that this toolkit collected",
                    found="data imported from a format that does not record the noise",
                    fix="--set train.last_fraction=0.1, or leave the task out",
                )
            noisy = np.flatnonzero(rows["noise"])
            if len(noisy):
                return start + int(noisy[-1]) + 1
            stop = start
        return 0
