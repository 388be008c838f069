"""Backbones, one file each: what turns a sequence of tokens into a sequence of outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.plugins import Kind

if TYPE_CHECKING:
    from pipelines.model.backbones.base import Backbone

BACKBONES: Kind[Backbone] = Kind(
    group="vintix.backbones",
    noun="backbone",
    base="pipelines.model.backbones.base:Backbone",
    option="--set train.model.backbone",
    own={
        "transformer": "pipelines.model.backbones.transformer:Transformer",
        "s5": "pipelines.model.backbones.s5:S5",
    },
    reserved=("attention",),
)
DEFAULT = "transformer"
"""The paper's."""
