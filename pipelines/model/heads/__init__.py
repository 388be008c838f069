"""Action heads, one file each: from a backbone's outputs to a group's actions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pipelines.plugins import Kind

if TYPE_CHECKING:
    from pipelines.model.heads.base import Head

Act = Literal["sample", "greedy", "mean"]
"""How an action is chosen: drawn, the most likely one, or the mean."""

HEADS: Kind[Head] = Kind(
    group="vintix.heads",
    noun="action head",
    base="pipelines.model.heads.base:Head",
    option="--set train.model.head",
    own={
        "mse": "pipelines.model.heads.mse:MSE",
        "bins": "pipelines.model.heads.bins:Bins",
        "flow": "pipelines.model.heads.flow:Flow",
    },
)
DEFAULT = "mse"
"""The paper's."""
