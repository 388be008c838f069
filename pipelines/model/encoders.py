"""From observations, previous actions and previous rewards to tokens.

Each group has its own three encoders; the padding vectors are shared by all groups. A token is
[observation | previous action | previous reward], the order of the released checkpoints.

Shapes: B batch, L sequence, D model, O observation, A action; actions are (B, L, A) of a box and
(B, L) of discrete ones, which their encoder is shown one-hot, or by the embeddings of their stream.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipelines.model.batch import GroupBatch
from pipelines.model.config import EPISODE_POSITIONS, ModelConfig
from pipelines.model.initialization import (
    NORM_EPS,
    Embedding,
    Generators,
    Linear,
    draw_normal,
)


class VectorEncoder(nn.Module):
    """Two layers of Linear, LeakyReLU, LayerNorm: for observations and for actions."""

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            Linear(channels, embedding),
            nn.LeakyReLU(),
            nn.LayerNorm(embedding, eps=NORM_EPS),
            Linear(embedding, embedding),
            nn.LeakyReLU(),
            nn.LayerNorm(embedding, eps=NORM_EPS),
        )

    def forward(self, values: Tensor) -> Tensor:
        """Map (..., channels) to (..., embedding)."""
        return self.layers(values)


class RewardEncoder(nn.Module):
    """Linear and LeakyReLU on one number."""

    def __init__(self, embedding: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(Linear(1, embedding), nn.LeakyReLU())

    def forward(self, reward: Tensor) -> Tensor:
        """Map (..., 1) to (..., embedding)."""
        return self.layers(reward)


class Encoder(nn.Module):
    """The encoders of every group and what they share (section 2.3.1)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.normalize_actions = config.normalize_actions
        self.actions = {group: dims.actions for group, dims in config.groups.items()}
        #: How streams embed their actions, of the groups whose streams do.
        self.embeddings = {
            group: embedding
            for group in config.groups
            if (embedding := config.embedding_of(group)) is not None
        }
        self.obs_encoders = nn.ModuleDict(
            {
                group: VectorEncoder(dims.observation_dim, config.observation_embedding)
                for group, dims in config.groups.items()
            }
        )
        self.acs_encoders = nn.ModuleDict(
            {
                group: Linear(self.embeddings[group].channels, config.action_embedding)
                if group in self.embeddings
                else VectorEncoder(dims.actions.width, config.action_embedding)
                for group, dims in config.groups.items()
            }
        )
        self.rews_encoders = nn.ModuleDict(
            {group: RewardEncoder(config.reward_embedding) for group in config.groups}
        )
        self.prev_acs_padding = nn.Parameter(torch.empty(1, config.action_embedding))
        self.prev_rew_padding = nn.Parameter(torch.empty(1, config.reward_embedding))
        self.trans_ep_pos_emb = (
            Embedding(EPISODE_POSITIONS, config.width) if config.inner_episode_position else None
        )

    def draw_parameters(self, generators: Generators) -> None:
        """Draw the padding vectors from a standard normal, as released."""
        for name in ("prev_acs_padding", "prev_rew_padding"):
            draw_normal(getattr(self, name), 1.0, generators(name))

    def forward(self, batch: GroupBatch) -> Tensor:
        """Return the tokens (B, L, D) of a group's sequences."""
        dtype = self.prev_acs_padding.dtype
        if batch.group in self.embeddings:
            previous_action = batch.embed(batch.previous_action_BLA)
        else:
            previous_action = self.actions[batch.group].encode(batch.previous_action_BLA)
        if batch.units is not None and self.normalize_actions:
            previous_action = batch.units.normalize(previous_action)
        reward_BL1 = batch.previous_reward_BL.reshape(batch.batch_size, batch.length, 1)
        observation = self.obs_encoders[batch.group](batch.observation_BLO.to(dtype))
        action = self.acs_encoders[batch.group](previous_action.to(dtype))
        reward = self.rews_encoders[batch.group](reward_BL1.to(dtype))
        # An episode's first step has no action and no reward before it, whatever is stored there.
        first_BL1 = (batch.episode_step_BL == 0).unsqueeze(-1)
        action = torch.where(first_BL1, self.prev_acs_padding.to(action.dtype), action)
        reward = torch.where(first_BL1, self.prev_rew_padding.to(reward.dtype), reward)
        tokens_BLD = torch.cat([observation, action, reward], dim=-1)
        if self.trans_ep_pos_emb is not None:
            # The released code clamps to one past the table's end and fails there.
            step_BL = batch.episode_step_BL.clamp(0, EPISODE_POSITIONS - 1)
            tokens_BLD = tokens_BLD + self.trans_ep_pos_emb(step_BL)
        return tokens_BLD
