"""What goes into the model: sequences of one group, stacked, and how to stack them.

Shapes: B sequences, L steps, O observation, A action. Actions are as they are stored: float32
(B, L, A) of a box, int64 (B, L) where they are discrete.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.errors import ConfigError
from pipelines.model.config import ModelConfig
from pipelines.model.normalization import ActionUnits, TaskStatistics


@dataclass(frozen=True)
class GroupBatch:
    """Sequences of one group, one token per step, ready for the model.

    Attributes:
        observation_BLO: Normalised observations, float32.
        previous_action_BLA: The action executed one step before, in the environment's units;
            ignored where the episode step is 0.
        previous_reward_BL: The scaled reward received with the observation, (B, L) or (B, L, 1);
            ignored where the episode step is 0.
        episode_step_BL: Step within the episode, int64; 0 marks an episode's first step.
        action_BLA: The actions to predict, in the environment's units; None at inference.
        weight_BL: Weight of each step in the loss; None where all weigh the same.
        action_mean_BA: Per sequence, the task's action mean; needed with `normalize_actions` where
            actions are continuous.
        action_std_BA: Per sequence, the task's action standard deviation, likewise.
        embedding_BNE: Per sequence, the embeddings of its actions (`pipelines.model.heads.base`),
            zeros beyond its own; needed by heads that tell actions by them.
    """

    group: str
    observation_BLO: Tensor
    previous_action_BLA: Tensor
    previous_reward_BL: Tensor
    episode_step_BL: Tensor
    action_BLA: Tensor | None = None
    weight_BL: Tensor | None = None
    action_mean_BA: Tensor | None = None
    action_std_BA: Tensor | None = None
    embedding_BNE: Tensor | None = None

    def embed(self, action_BL: Tensor) -> Tensor:
        """Return the embeddings (B, L, E) of its discrete actions."""
        assert self.embedding_BNE is not None
        row_BLE = action_BL[..., None].expand(-1, -1, self.embedding_BNE.shape[-1])
        return self.embedding_BNE.gather(1, row_BLE)

    @property
    def units(self) -> ActionUnits | None:
        """The action statistics of its sequences' tasks, if there are any."""
        if self.action_mean_BA is None or self.action_std_BA is None:
            return None
        return ActionUnits(self.action_mean_BA, self.action_std_BA)

    @property
    def batch_size(self) -> int:
        """Sequences in the batch."""
        return self.observation_BLO.shape[0]

    @property
    def length(self) -> int:
        """Steps of each sequence."""
        return self.observation_BLO.shape[1]

    def part(self, start: int, stop: int) -> GroupBatch:
        """Return sequences [start, stop) of the batch, without copying."""
        return self._with(lambda value: value[start:stop])

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> GroupBatch:
        """Return the batch with every tensor on a device."""
        return self._with(lambda value: value.to(device, non_blocking=non_blocking))

    def _with(self, change: Callable[[Tensor], Tensor]) -> GroupBatch:
        changed: dict[str, Any] = {
            name: change(value) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **changed)


@dataclass(frozen=True)
class TaskSequence:
    """One sequence of one task in the environment's own units, before any normalisation.

    Attributes:
        previous_action_LA: The action executed one step before.
        previous_reward_L: The unscaled reward received with the observation, (L,) or (L, 1).
        episode_step_L: Step within the episode, int64.
        action_LA: The actions to predict, or None.
        embedding_NE: The embeddings of its actions, where the model needs them.
    """

    group: str
    statistics: TaskStatistics
    observation_LO: Tensor
    previous_action_LA: Tensor
    previous_reward_L: Tensor
    episode_step_L: Tensor
    action_LA: Tensor | None = None
    embedding_NE: NDArray[np.float32] | None = None


def stack_embeddings(
    members: Sequence[NDArray[np.float32] | None],
) -> Tensor | None:
    """Return the embeddings of several sequences (B, N, E), zeros beyond those of a smaller set.

    Args:
        members: Of each sequence (N, E); None, of all of them, where there are none.
    """
    given = [each for each in members if each is not None]
    if not given:
        return None
    most = max(len(each) for each in given)
    stacked_BNE = np.zeros((len(given), most, given[0].shape[1]), np.float32)
    for row, each in enumerate(given):
        stacked_BNE[row, : len(each)] = each
    return torch.from_numpy(stacked_BNE)


def group_sequences(
    config: ModelConfig, sequences: Sequence[TaskSequence]
) -> tuple[list[GroupBatch], list[list[int]]]:
    """Normalise sequences of any tasks and stack those of one group.

    Args:
        config: The model's configuration; it says what is normalised.

    Returns:
        One batch per group, in the order the groups first appear, and for each batch the places
        its sequences had in `sequences`.

    Raises:
        ConfigError: Some sequences of a group have target actions and others have not.
    """
    places: dict[str, list[int]] = {}
    for index, sequence in enumerate(sequences):
        places.setdefault(sequence.group, []).append(index)
    batches = [
        _stack(config, group, [sequences[index] for index in members])
        for group, members in places.items()
    ]
    return batches, list(places.values())


def _stack(config: ModelConfig, group: str, members: Sequence[TaskSequence]) -> GroupBatch:
    observations, actions, means, stds = [], [], [], []
    for member in members:
        statistics = member.statistics
        observations.append(
            statistics.normalize_observation(member.observation_LO)
            if config.normalize_observations
            else member.observation_LO
        )
        if member.action_LA is not None:
            actions.append(member.action_LA)
        if config.normalize_actions and config.groups[group].actions.continuous:
            means.append(torch.from_numpy(statistics.action_mean))
            stds.append(torch.from_numpy(statistics.action_std))
    if len(actions) not in (0, len(members)):
        raise ConfigError(
            "some sequences of a batch have target actions and others have not",
            where=f"group {group}",
            expected=f"0 or {len(members)} with targets",
            found=len(actions),
        )
    device = members[0].observation_LO.device
    embedding_BNE = stack_embeddings([member.embedding_NE for member in members])
    return GroupBatch(
        group=group,
        observation_BLO=torch.stack(observations),
        previous_action_BLA=torch.stack([member.previous_action_LA for member in members]),
        previous_reward_BL=torch.stack(
            [
                member.statistics.scale_reward(member.previous_reward_L.reshape(-1))
                for member in members
            ]
        ),
        episode_step_BL=torch.stack([member.episode_step_L for member in members]),
        action_BLA=torch.stack(actions) if actions else None,
        action_mean_BA=torch.stack(means).to(device) if means else None,
        action_std_BA=torch.stack(stds).to(device) if stds else None,
        embedding_BNE=None if embedding_BNE is None else embedding_BNE.to(device),
    )
