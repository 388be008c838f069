"""What a learning history looks like in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def describe_returns(returns: Sequence[NDArray[np.float64]]) -> dict[str, Any]:
    """Describe the returns of a task's trajectories.

    Args:
        returns: Return of each complete episode (E,), for every trajectory.

    Returns:
        ``episodes``: their number; ``first_tenth`` and ``last_tenth``: mean return of the first
        and last tenth of a trajectory's episodes (at least one), mean over trajectories;
        ``rank_correlation``: Spearman's, of return with episode number, mean over trajectories
        of at least three episodes. None where no episode was completed.
    """
    import numpy as np

    from pipelines.histories.quality import rank_correlation

    full = [each for each in returns if len(each)]
    tenths = [max(1, len(each) // 10) for each in full]
    correlations = [rank_correlation(each) for each in full if len(each) >= 3]
    first = [each[:n].mean() for each, n in zip(full, tenths, strict=True)]
    last = [each[-n:].mean() for each, n in zip(full, tenths, strict=True)]
    return {
        "episodes": int(sum(len(each) for each in returns)),
        "first_tenth": float(np.mean(first)) if full else None,
        "last_tenth": float(np.mean(last)) if full else None,
        "rank_correlation": float(np.mean(correlations)) if correlations else None,
    }
