"""The whole model: encoders, backbone, heads, step-by-step inference and the loss.

Shapes: B batch over all groups, L sequence, D model, O observation, A action.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pipelines.errors import ConfigError, UsageError
from pipelines.model.backbones import BACKBONES
from pipelines.model.backbones.base import Backbone
from pipelines.model.batch import GroupBatch
from pipelines.model.cache import Context, TokenWindow
from pipelines.model.config import ModelConfig
from pipelines.model.encoders import Encoder
from pipelines.model.heads import HEADS
from pipelines.model.heads.base import Draws, Head
from pipelines.model.initialization import Linear, init_weights
from pipelines.model.normalization import ActionUnits
from pipelines.text import listed

#: Tokens that are run at once where a window is run again; bounds the memory of activations.
RECOMPUTED_TOKENS = 32_768


class GroupHeads(nn.Module):
    """The heads of all groups."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        chosen = {group: config.head_of(group) for group in config.groups}
        self.acs_decoders = nn.ModuleDict(
            {
                group: HEADS.find(name)(config.width, config.groups[group].actions, **options)
                for group, (name, options) in chosen.items()
            }
        )
        kinds = [HEADS.find(name) for name, _ in chosen.values()]
        self.deterministic = all(kind.deterministic for kind in kinds)
        self.random_loss = any(kind.random_loss for kind in kinds)

    def of(self, group: str) -> Head:
        """Return the head of a group."""
        head = self.acs_decoders[group]
        assert isinstance(head, Head)
        return head


class Vintix(nn.Module):
    """Next-action model over multi-episode sequences (section 2.3 of the paper).

    The names of its parameters are those of the released code, so that checkpoints of either load
    into the other.

    Args:
        attention: Attention backend, `auto` for the fastest exact one.
        seed: Seed of the first weights; making a model draws nothing from PyTorch's own generator.

    Raises:
        ConfigError: No such attention backend, or a group's name cannot name a module.
    """

    def __init__(self, config: ModelConfig, *, attention: str = "auto", seed: int = 0) -> None:
        super().__init__()
        modules = nn.ModuleDict()
        taken = [name for name in config.groups if hasattr(modules, name)]
        if taken:
            raise ConfigError(
                "a group has a name that PyTorch keeps for itself",
                where="model.groups",
                expected="names that are no attribute of torch.nn.ModuleDict",
                found=", ".join(taken),
                fix="rename the group",
            )
        self.config = config
        self.encoder = Encoder(config)
        # What another package's layers draw when they are made, `init_weights` draws anew.
        with torch.random.fork_rng(devices=[]):
            backbone = BACKBONES.find(config.backbone)(
                config, attention=attention, **config.backbone_options
            )
            head = GroupHeads(config)
        #: Whether all of its heads act, and have a loss, without random numbers.
        self.deterministic, self.random_loss = head.deterministic, head.random_loss
        self._prefix = backbone.prefix
        self.add_module(backbone.prefix, backbone)
        self.head = head
        if not self.encoder.prev_acs_padding.is_meta:
            init_weights(self, seed)

    @property
    def backbone(self) -> Backbone:
        """What the tokens go through; in `named_parameters` it has a name of its own."""
        found: Backbone = getattr(self, self._prefix)
        return found

    def encode(self, batches: Sequence[GroupBatch]) -> Tensor:
        """Return the tokens (B, L, D) of all groups' sequences, in the order of `batches`.

        With a backbone that sees starts they have its channel for them behind the others.

        Raises:
            ConfigError: A group is unknown, a batch's dimensions are not its group's, the lengths
                differ, or action statistics are missing where the configuration needs them.
        """
        self._check(batches)
        tokens = [self.encoder(batch) for batch in batches]
        if self.backbone.sees_starts:
            starts = [(batch.episode_step_BL == 0).unsqueeze(-1) for batch in batches]
            tokens = [
                torch.cat([each, start.to(each.dtype)], dim=-1)
                for each, start in zip(tokens, starts, strict=True)
            ]
        return tokens[0] if len(tokens) == 1 else torch.cat(tokens, dim=0)

    def decode(
        self,
        batches: Sequence[GroupBatch],
        hidden_BLD: Tensor,
        draws: Sequence[Draws] | None = None,
    ) -> list[Tensor]:
        """Return per group the actions (B_g, L, A) for the backbone's outputs."""
        numbers = [None] * len(batches) if draws is None else draws
        return [
            self.head.of(batch.group).act(hidden, self._units(batch), own, **self._set_of(batch))
            for batch, hidden, own in zip(
                batches, self._parted(batches, hidden_BLD), numbers, strict=True
            )
        ]

    def forward(self, batches: Sequence[GroupBatch]) -> list[Tensor]:
        """Return per group the most likely actions (B_g, L, A) in the environment's units.

        Encoders and heads run once per group and the backbone once over everything.

        Raises:
            ConfigError: As :meth:`encode`.
        """
        return self.decode(batches, self.backbone(self.encode(batches)))

    def loss(self, batches: Sequence[GroupBatch]) -> tuple[Tensor, list[Tensor]]:
        """Return the loss of the heads on the target actions.

        Returns:
            The mean over steps, parts of a step's loss and then sequences, a scalar, float32
            (float64 for a model in float64), and per group the loss of each sequence (B_g,). The
            released code sums over sequences instead: its loss is this one times their number.

        Raises:
            ConfigError: A batch has no target actions, or as :meth:`encode`.
        """
        for batch in batches:
            if batch.action_BLA is None:
                raise ConfigError(
                    "a batch has no target actions to compare predictions with",
                    where=f"group {batch.group}",
                    expected="action_BLA",
                    found="None",
                )
        hidden_BLD, losses = self.backbone(self.encode(batches)), []
        for batch, hidden in zip(batches, self._parted(batches, hidden_BLD), strict=True):
            head = self.head.of(batch.group)
            each = head.loss(
                hidden,
                batch.action_BLA,  # type: ignore[arg-type]
                self._units(batch),
                **self._set_of(batch),
            )
            if batch.weight_BL is not None:
                each = each * batch.weight_BL.view(*batch.weight_BL.shape, *[1] * (each.ndim - 2))
            losses.append(each.mean(dim=tuple(range(1, each.ndim))))
        return torch.cat(losses).mean(), losses

    def make_cache(self, batch_size: int, context: int | None = None, sinks: int = 0) -> Context:
        """Return what streams that advance together remember before their first token.

        Args:
            batch_size: Streams, over all groups.
            context: Tokens kept; the training context if None.
            sinks: First tokens of a stream that are never overwritten.

        Raises:
            UsageError: A size below 1, or sinks that leave no slot for the newest token.
        """
        weight = self.encoder.prev_acs_padding
        return self.backbone.init_state(
            batch_size,
            self.config.context if context is None else context,
            weight.dtype,
            weight.device,
            sinks,
        )

    def lay_out_for_steps(self) -> Vintix:
        """Store matrices with more rows than columns by columns, and return the model.

        Shapes and values stay. On a CPU a step of a few streams multiplies by them about a quarter
        faster this way; by the other matrices it would not (measured; 768 and 1024 rows of 256),
        and whole sequences run as before. Sums round differently in the last digit.
        """
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, Linear) and module.out_features > module.in_features:
                    module.weight.data = module.weight.data.t().contiguous().t()
        return self

    def make_window(
        self, batch_size: int, context: int | None = None, sinks: int = 0
    ) -> TokenWindow:
        """Return an empty window, in place of a cache: each step is a full pass over it.

        Arguments and errors are those of :meth:`make_cache`.
        """
        weight = self.encoder.prev_acs_padding
        return TokenWindow(
            batch_size=batch_size,
            width=self.backbone.token_width,
            context=self.config.context if context is None else context,
            dtype=weight.dtype,
            device=weight.device,
            sinks=sinks,
        )

    @torch.no_grad()
    def step(
        self,
        batches: Sequence[GroupBatch],
        cache: Context,
        draws: Sequence[Draws] | None = None,
    ) -> list[Tensor]:
        """Feed one token to every stream and return per group the actions (B_g, A).

        Args:
            batches: One step (L = 1) of every stream; groups and streams in the same order at
                every call.
            cache: Context of the streams; holds the token afterwards. With a window the action is
                that of a full pass over it.
            draws: Random numbers of each group's streams; None for the most likely actions.

        Raises:
            ConfigError: As :meth:`encode`.
            UsageError: More than one step, another number of streams than the cache has, or the
                model is in training mode.
        """
        tokens_B1D = self._encode_for(cache, batches, single=True)
        if isinstance(cache, TokenWindow):
            hidden_B1D = self._last_of(cache.append(tokens_B1D))
        else:
            hidden_B1D = self.backbone.step(tokens_B1D, cache)
        return [action[:, 0] for action in self.decode(batches, hidden_B1D, draws)]

    @torch.no_grad()
    def prefill(self, batches: Sequence[GroupBatch], cache: Context) -> list[Tensor]:
        """Feed a prompt to every stream of an empty cache and return the last actions (B_g, A).

        A prompt may be longer than the cache: the result and the cache are those of its tokens fed
        one by one, each attending to the last `context` of them.

        Raises:
            ConfigError: As :meth:`encode`.
            UsageError: The cache is not empty, a prompt is longer than one with sinks, or as
                :meth:`step`.
        """
        if cache.position:
            raise UsageError(
                "a prompt can only be put into an empty cache",
                where="prefill",
                expected="0 tokens in the cache",
                found=cache.position,
                fix="call cache.reset() first",
            )
        tokens_BLD = self._encode_for(cache, batches, single=False)
        if isinstance(cache, TokenWindow):
            cache.store(tokens_BLD)
            cache.advance(tokens_BLD.shape[1])
            hidden_BLD = self._last_of(cache.tokens)
        else:
            hidden_BLD = self.backbone.prefill(tokens_BLD, cache)
        return [action[:, 0] for action in self.decode(batches, hidden_BLD[:, -1:])]

    def _last_of(self, window_BLD: Tensor) -> Tensor:
        """Return the outputs (B, 1, D) of the windows' last tokens, a few streams at a time."""
        rows = max(1, RECOMPUTED_TOKENS // window_BLD.shape[1])
        return torch.cat([self.backbone(part)[:, -1:] for part in window_BLD.split(rows)])

    def _units(self, batch: GroupBatch) -> ActionUnits | None:
        return batch.units if self.config.normalize_actions else None

    def _set_of(self, batch: GroupBatch) -> dict[str, Any]:
        """Return what a head of a group with embeddings is given besides."""
        if batch.group not in self.encoder.embeddings:
            return {}
        return {"embedding_BNE": batch.embedding_BNE}

    @staticmethod
    def _parted(batches: Sequence[GroupBatch], hidden_BLD: Tensor) -> tuple[Tensor, ...]:
        return hidden_BLD.split([batch.batch_size for batch in batches])

    def _encode_for(self, cache: Context, batches: Sequence[GroupBatch], *, single: bool) -> Tensor:
        if self.training:
            raise UsageError(
                "a model in training mode cannot be run step by step",
                where="Vintix.step" if single else "Vintix.prefill",
                expected="evaluation mode",
                found="training mode",
                fix="call model.eval() first",
            )
        tokens_BLD = self.encode(batches)
        streams, length = tokens_BLD.shape[:2]
        if streams != cache.batch_size or (single and length != 1):
            raise UsageError(
                "the batch does not fit the cache",
                where="Vintix.step" if single else "Vintix.prefill",
                expected=f"{cache.batch_size} streams" + (", 1 step" if single else ""),
                found=f"{streams} streams, {length} steps",
                fix="make a cache for this number of streams, or use prefill for prompts",
            )
        return tokens_BLD

    def _check(self, batches: Sequence[GroupBatch]) -> None:
        if not batches:
            raise ConfigError(
                "there is nothing to encode", where="batches", expected="at least 1", found=0
            )
        for batch in batches:
            where = f"group {batch.group}"
            dims = self.config.groups.get(batch.group)
            if dims is None:
                raise ConfigError(
                    "a batch belongs to a group that the model does not have",
                    where=where,
                    expected=listed(self.config.groups),
                    found=batch.group,
                    fix="train a model on a dataset that holds this group",
                )
            actions = self.encoder.actions[batch.group]
            expected = (dims.observation_dim, actions.row_shape, batches[0].length)
            found = (
                batch.observation_BLO.shape[-1],
                tuple(batch.previous_action_BLA.shape[2:]),
                batch.length,
            )
            if expected != found:
                raise ConfigError(
                    "a batch does not have its group's dimensions or the others' length",
                    where=where,
                    expected="observation {}, action {}, steps {}".format(*expected),
                    found="observation {}, action {}, steps {}".format(*found),
                )
            if self.config.normalize_actions and actions.continuous and batch.units is None:
                raise ConfigError(
                    "the model normalises actions and a batch has no action statistics",
                    where=where,
                    expected="action_mean_BA and action_std_BA",
                    found="None",
                )
            if batch.group in self.encoder.embeddings and batch.embedding_BNE is None:
                raise ConfigError(
                    "the model tells actions by embeddings and a batch has none",
                    where=where,
                    expected="embedding_BNE",
                    found="None",
                )
