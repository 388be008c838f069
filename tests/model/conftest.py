"""Models and batches that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from pipelines.model.batch import GroupBatch
from pipelines.model.config import GroupDims, ModelConfig

GROUPS = {
    "reach": GroupDims(observation_dim=5, action_dim=2),
    "walk": GroupDims(observation_dim=7, action_dim=3),
    "turn": GroupDims(observation_dim=3, action_dim=1),
}

SMALL = {
    "groups": GROUPS,
    "layers": 2,
    "heads": 4,
    "width": 32,
    "feed_forward": 48,
    "action_embedding": 13,
    "observation_embedding": 17,
    "reward_embedding": 2,
    "context": 16,
}


@pytest.fixture
def config() -> Callable[..., ModelConfig]:
    """A function that makes a small configuration with the given fields replaced."""

    def make(**fields: object) -> ModelConfig:
        return ModelConfig.model_validate({**SMALL, **fields})

    return make


@pytest.fixture
def batch() -> Callable[..., GroupBatch]:
    """A function that makes a random batch of a group, with an episode every five steps."""

    def make(group: str, size: int, length: int, seed: int = 0) -> GroupBatch:
        generator = torch.Generator().manual_seed(seed)
        dims = GROUPS[group]

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=generator)

        start = torch.randint(0, 5, (size, 1), generator=generator)
        return GroupBatch(
            group=group,
            observation_BLO=normal(size, length, dims.observation_dim),
            previous_action_BLA=normal(size, length, dims.action_dim),
            previous_reward_BL=normal(size, length),
            episode_step_BL=(start + torch.arange(length)) % 5,
            action_BLA=normal(size, length, dims.action_dim),
            action_mean_BA=normal(size, dims.action_dim),
            action_std_BA=normal(size, dims.action_dim).abs() + 0.1,
        )

    return make


@pytest.fixture
def slice_steps() -> Callable[[GroupBatch, int, int], GroupBatch]:
    """A function that returns steps [first, last) of a batch."""

    def cut(whole: GroupBatch, first: int, last: int) -> GroupBatch:
        return GroupBatch(
            group=whole.group,
            observation_BLO=whole.observation_BLO[:, first:last],
            previous_action_BLA=whole.previous_action_BLA[:, first:last],
            previous_reward_BL=whole.previous_reward_BL[:, first:last],
            episode_step_BL=whole.episode_step_BL[:, first:last],
            action_BLA=None if whole.action_BLA is None else whole.action_BLA[:, first:last],
            action_mean_BA=whole.action_mean_BA,
            action_std_BA=whole.action_std_BA,
        )

    return cut


@pytest.fixture
def slice_rows() -> Callable[[GroupBatch, int, int], GroupBatch]:
    """A function that returns sequences [first, last) of a batch."""

    def cut(whole: GroupBatch, first: int, last: int) -> GroupBatch:
        parts = {
            name: value[first:last]
            for name, value in vars(whole).items()
            if isinstance(value, torch.Tensor)
        }
        return GroupBatch(group=whole.group, **parts)

    return cut
