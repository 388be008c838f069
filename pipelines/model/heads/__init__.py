"""Action heads, one file each: from a backbone's outputs to a group's actions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pipelines.errors import VintixError
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
        "categorical": "pipelines.model.heads.categorical:Categorical",
        "headless": "pipelines.model.heads.headless:Headless",
    },
)
DEFAULT = "mse"
"""The paper's."""

DEFAULTS = {"box": DEFAULT, "discrete": "categorical"}
"""The head of the groups that a model's own does not fit, by the kind of their actions."""


def heads_for(kind: str) -> list[str]:
    """Return the names of the heads that fit a kind of actions; those that fail are left out."""
    fitting = []
    for name in HEADS.names:
        try:
            if kind in HEADS.find(name).kinds:
                fitting.append(name)
        except VintixError:
            continue
    return fitting
