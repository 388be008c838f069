"""Named sizes of the model and the number of parameters a configuration has."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pipelines.errors import unknown
from pipelines.model.config import GroupDims, ModelConfig


def _size(layers: int, heads: int, width: int, context: int) -> Mapping[str, int]:
    """Return a size with the paper's proportions."""
    return {
        "layers": layers,
        "heads": heads,
        "width": width,
        "feed_forward": 4 * width,
        "action_embedding": width // 2 - 1,
        "observation_embedding": width // 2 - 1,
        "reward_embedding": 2,
        "context": context,
    }


#: Sizes by name. `paper` is Table 2 of the paper, its embeddings those of the released
#: configuration; the other three keep its proportions (feed-forward of four widths, two channels
#: for the reward, the rest shared equally by action and observation).
PRESETS: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "tiny": _size(layers=4, heads=4, width=128, context=512),
        "small": _size(layers=6, heads=8, width=256, context=1024),
        "base": _size(layers=12, heads=12, width=768, context=4096),
        "paper": _size(layers=20, heads=16, width=1024, context=8192),
    }
)


def preset(name: str, groups: Mapping[str, GroupDims], **overrides: Any) -> ModelConfig:
    """Return the configuration of a named size for the given groups.

    Args:
        name: `tiny`, `small`, `base` or `paper`.
        groups: Dimensions by group name, in the order the parameters are to have.
        **overrides: Fields of :class:`ModelConfig` that replace the preset's.

    Raises:
        UsageError: There is no preset of that name.
        ConfigError: The overrides do not fit the preset.
    """
    if name not in PRESETS:
        raise unknown(
            "there is no such preset",
            name,
            PRESETS,
            where="preset",
            expected=", ".join(PRESETS),
            fix="choose one of the presets above",
        )
    return ModelConfig.model_validate({"groups": dict(groups), **PRESETS[name], **overrides})


def parameter_count(config: ModelConfig) -> int:
    """Return the number of parameters of a configuration without allocating any of them."""
    import torch

    from pipelines.model.vintix import Vintix

    with torch.device("meta"):
        model = Vintix(config)
    return sum(parameter.numel() for parameter in model.parameters())
