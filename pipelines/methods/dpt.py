"""Decision-Pretrained Transformers (Lee et al., 2023): predict what the demonstrator would do.

A query state and its context are a step and the steps before it, so that every step of a window
trains as the paper's sampled query does. With context from noise-distilled histories this is the
target of Vintix II (arXiv 2604.05112). At rollout the context grows by the model's own steps
(online), or starts with recorded ones (``--prompt``, offline).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.methods.base import Method

if TYPE_CHECKING:
    from pipelines.datasets.reader import DatasetReader


class DPT(Method):
    """Windows of whole trajectories; the target is the demonstrator's own action, without noise.

    ``--set train.context_order=shuffled`` shows the episodes of a window in a random order, as the
    paper does: the context says then what earns reward, and not what came after what.
    """

    title = "DPT"
    target = "demonstrator_action"

    def first_row(self, data: DatasetReader, task: str, trajectory: int) -> int:
        """Return the row before the first: a window may begin as a rollout does."""
        return -1
