"""A backbone of diagonal state spaces: a step of a rollout costs the same however long the context.

S5 (Smith et al., 2023, arXiv 2208.04933), as Lu et al. (2023, arXiv 2303.03982) use it for
in-context reinforcement learning. A layer keeps complex numbers x for each stream,

    x_t = exp(L s) x_(t-1) + ((exp(L s) - 1) / L) B u_t,    y_t = 2 Re(C x_t) + D u_t,

with learned poles L, steps s and matrices; conjugate pairs are kept once, hence the factor 2. In
training all x of a sequence come from one parallel scan. Where the authors scale the learning rate
of L and s down, this has one rate for all.

Shapes: B sequences or streams, L sequence, D model, P complex numbers of a layer's state.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from pipelines.errors import UsageError
from pipelines.model.backbones.base import Backbone
from pipelines.model.backbones.transformer import GptNeoxMLP, LlamaMLP
from pipelines.model.cache import Context
from pipelines.model.config import ModelConfig
from pipelines.model.initialization import Generators, Linear, draw_normal, make_norm

#: Range of the first steps s, log-uniform: with poles at -1/2 it remembers for 20 to 2,000 steps.
FIRST_STEPS = (1e-3, 1e-1)


def scan(pole_P: Tensor, input_BLP: Tensor, keep_BL1: Tensor | None) -> Tensor:
    """Return x (B, L, P) of ``x_t = pole keep_t x_(t-1) + input_t``, from x = 0.

    Neighbours are joined in pairs, the half as many pairs are scanned, and what lies between is
    filled in: log2 L levels and about two multiplications a number. No power of a pole is divided
    by, so that with poles in the unit circle nothing grows.

    Args:
        pole_P: Complex.
        input_BLP: Complex.
        keep_BL1: 0 where the state is forgotten before a step, else 1; None for never.
    """
    length = input_BLP.shape[1]
    state_BLP = torch.empty_like(input_BLP)
    state_BLP[:, 0] = input_BLP[:, 0]
    if length == 1:
        return state_BLP
    even, odd = slice(0, length - 1, 2), slice(1, length, 2)
    pole_even: Tensor = pole_P if keep_BL1 is None else pole_P * keep_BL1[:, odd]
    joined = torch.addcmul(input_BLP[:, odd], pole_even, input_BLP[:, even])
    both = None if keep_BL1 is None else keep_BL1[:, odd] * keep_BL1[:, even]
    state_BLP[:, odd] = scan(pole_P * pole_P, joined, both)
    if length > 2:
        later = slice(2, length, 2)
        before = state_BLP[:, 1 : length - 1 : 2]
        pole_odd: Tensor = pole_P if keep_BL1 is None else pole_P * keep_BL1[:, later]
        state_BLP[:, later] = torch.addcmul(input_BLP[:, later], pole_odd, before)
    return state_BLP


class Scan(torch.autograd.Function):
    """`scan` with a gradient, which is a scan from the end; it keeps nothing but the states."""

    @staticmethod
    def forward(ctx: Any, pole_P: Tensor, input_BLP: Tensor, keep_BL1: Tensor | None) -> Tensor:
        """Return the states (B, L, P)."""
        state_BLP = scan(pole_P, input_BLP, keep_BL1)
        ctx.save_for_backward(pole_P, state_BLP, keep_BL1)
        return state_BLP

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        """Return the gradients of pole and input."""
        pole_P, state_BLP, keep_BL1 = ctx.saved_tensors
        backward_keep = None
        if keep_BL1 is not None:
            # What leads from step t to t + 1 leads back over it.
            backward_keep = torch.cat([keep_BL1[:, :1], keep_BL1[:, 1:].flip(1)], dim=1)
        input_BLP = scan(pole_P.conj(), gradients[0].flip(1), backward_keep).flip(1)
        before_BLP = state_BLP[:, :-1]
        if keep_BL1 is not None:
            before_BLP = before_BLP * keep_BL1[:, 1:]
        pole = (before_BLP.conj() * input_BLP[:, 1:]).sum(dim=(0, 1))
        return pole, input_BLP, None


class StateSpace(nn.Module):
    """One S5 layer with the authors' gate, from (B, L, D) to (B, L, D)."""

    def __init__(self, width: int, state: int) -> None:
        super().__init__()
        self.log_decay_P = nn.Parameter(torch.empty(state))
        self.frequency_P = nn.Parameter(torch.empty(state))
        self.log_step_P = nn.Parameter(torch.empty(state))
        self.skip_D = nn.Parameter(torch.empty(width))
        # Real and imaginary parts take turns.
        self.into = Linear(width, 2 * state, bias=False, std=math.sqrt(0.5 / width))
        self.out = Linear(2 * state, width, bias=False, std=math.sqrt(0.5 / state))
        self.gate = Linear(width, width)

    @torch.no_grad()
    def draw_parameters(self, generators: Generators) -> None:
        """Set poles at ``-1/2 + i pi n`` (S4D-Lin; Gu et al., 2022), near those of HiPPO-N."""
        self.log_decay_P.fill_(math.log(0.5))
        count = len(self.frequency_P)
        self.frequency_P.copy_(math.pi * torch.arange(count, dtype=torch.float32))
        low, high = map(math.log, FIRST_STEPS)
        drawn = torch.rand(count, generator=generators("log_step_P"))
        self.log_step_P.copy_(low + (high - low) * drawn)
        draw_normal(self.skip_D, 1.0, generators("skip_D"))

    def forward(self, u_BLD: Tensor, keep_BL1: Tensor | None) -> Tensor:
        """Return the outputs of whole sequences that begin with no state."""
        return self.run(u_BLD, keep_BL1)[0]

    def run(self, u_BLD: Tensor, keep_BL1: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the outputs and the state (B, P) after the last step."""
        pole_P, scaled_BLP = self._driven(u_BLD)
        state_BLP = Scan.apply(pole_P, scaled_BLP, keep_BL1)
        return self._read(state_BLP, u_BLD), state_BLP[:, -1]

    def step(self, u_B1D: Tensor, state_BP: Tensor, keep_B11: Tensor | None) -> Tensor:
        """Return the outputs of one more step, and write the state after it into `state_BP`."""
        pole_P, scaled_B1P = self._driven(u_B1D)
        if keep_B11 is not None:
            state_BP.mul_(keep_B11[:, 0])
        state_BP.mul_(pole_P).add_(scaled_B1P[:, 0])
        return self._read(state_BP[:, None], u_B1D)

    def _driven(self, u_BLD: Tensor) -> tuple[Tensor, Tensor]:
        """Return the discretised poles (zero-order hold) and what they are driven by."""
        dtype = torch.float64 if u_BLD.dtype == torch.float64 else torch.float32
        pole_P = torch.complex(-self.log_decay_P.to(dtype).exp(), self.frequency_P.to(dtype))
        discrete_P = (pole_P * self.log_step_P.to(dtype).exp()).exp()
        input_BLP = torch.view_as_complex(self.into(u_BLD).to(dtype).unflatten(-1, (-1, 2)))
        return discrete_P, input_BLP * ((discrete_P - 1) / pole_P)

    def _read(self, state_BLP: Tensor, u_BLD: Tensor) -> Tensor:
        real_BLQ = torch.view_as_real(state_BLP).flatten(-2).to(u_BLD.dtype)
        y_BLD = functional.gelu(self.out(real_BLQ) + self.skip_D * u_BLD)
        return y_BLD * self.gate(y_BLD).sigmoid()


class Block(nn.Module):
    """Pre-norm block: the state space in the place of attention, then the MLP."""

    def __init__(self, config: ModelConfig, state: int) -> None:
        super().__init__()
        self.norm1 = make_norm(config.norm, config.width)
        self.norm2 = make_norm(config.norm, config.width)
        self.space = StateSpace(config.width, state)
        self.drop = nn.Dropout(config.residual_dropout)
        self.mlp = LlamaMLP(config) if config.mlp == "llama" else GptNeoxMLP(config)

    def forward(self, x_BLD: Tensor, keep_BL1: Tensor | None) -> Tensor:
        """Return the residual stream (B, L, D) after the block."""
        return self._after(x_BLD, self.space(self.norm1(x_BLD), keep_BL1))

    def run(self, x_BLD: Tensor, keep_BL1: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the same, and the state (B, P) at the end."""
        mixed_BLD, state_BP = self.space.run(self.norm1(x_BLD), keep_BL1)
        return self._after(x_BLD, mixed_BLD), state_BP

    def step(self, x_B1D: Tensor, state_BP: Tensor, keep_B11: Tensor | None) -> Tensor:
        """Return the residual stream of one more step; the state is changed in place."""
        return self._after(x_B1D, self.space.step(self.norm1(x_B1D), state_BP, keep_B11))

    def _after(self, x_BLD: Tensor, mixed_BLD: Tensor) -> Tensor:
        x_BLD = x_BLD + self.drop(mixed_BLD)
        return x_BLD + self.mlp(self.norm2(x_BLD))


class States(Context):
    """The state of each layer: complex (layers, B, P). It forgets as it has learned to.

    Args:
        batch_size: B, at least 1.
        state: P.
        context: Tokens that a stream is said to hold.
        dtype: Floating type of the parts.
    """

    stored = ("layers",)
    axis = 1

    def __init__(
        self,
        layers: int,
        batch_size: int,
        state: int,
        context: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        super().__init__(context)
        kind = torch.complex128 if dtype == torch.float64 else torch.complex64
        self.layers = torch.zeros(layers, batch_size, state, dtype=kind, device=device)


class S5(Backbone):
    """Layers of state spaces; of the configuration it uses layers, width, feed-forward, MLP, norm,
    bias and residual dropout.

    A stream remembers what its state holds, whatever the context: nothing leaves a window. With
    `reset` it forgets everything at the first step of an episode.
    """

    prefix = "s5"

    def __init__(
        self,
        config: ModelConfig,
        *,
        attention: str = "auto",
        state: Annotated[int, Field(ge=1, le=65_536)] = 64,
        reset: bool = False,
    ) -> None:
        """Make the backbone.

        Args:
            attention: Means nothing here.
            state: P of each layer.
            reset: Whether the state is forgotten at the first step of each episode.
        """
        super().__init__(config, attention=attention)
        self.state, self.sees_starts = state, reset
        self.blocks = nn.ModuleList(Block(config, state) for _ in range(config.layers))
        self.ln_f = make_norm(config.norm, config.width)

    def forward(self, tokens_BLD: Tensor) -> Tensor:
        """Return the outputs (B, L, D) of whole sequences."""
        tokens_BLD, keep_BL1 = self._parted(tokens_BLD)
        for block in self.blocks:
            tokens_BLD = block(tokens_BLD, keep_BL1)
        return self.ln_f(tokens_BLD)

    @property
    def sections(self) -> Iterable[nn.Module]:
        """The blocks."""
        return self.blocks

    def init_state(
        self,
        batch_size: int,
        context: int,
        dtype: torch.dtype,
        device: torch.device,
        sinks: int = 0,
    ) -> States:
        """Return states of 0.

        Raises:
            UsageError: There are sinks.
        """
        if sinks:
            raise UsageError(
                "a state has no slots in which first steps could be kept",
                where="--sinks",
                expected="0 for the backbone s5",
                found=sinks,
                fix="leave --sinks out",
            )
        return States(len(self.blocks), batch_size, self.state, context, dtype, device)

    def step(self, tokens_B1D: Tensor, state: Context) -> Tensor:
        """Return the outputs (B, 1, D) of one more token per stream, and keep it in the state."""
        assert isinstance(state, States)
        tokens_B1D, keep_B11 = self._parted(tokens_B1D)
        for block, state_BP in zip(self.blocks, state.layers, strict=True):
            assert isinstance(block, Block)
            tokens_B1D = block.step(tokens_B1D, state_BP, keep_B11)
        state.advance()
        return self.ln_f(tokens_B1D)

    def prefill(self, tokens_BLD: Tensor, state: Context) -> Tensor:
        """Return the outputs (B, L, D) of a prompt and keep what it leaves in an empty state."""
        assert isinstance(state, States)
        length = tokens_BLD.shape[1]
        tokens_BLD, keep_BL1 = self._parted(tokens_BLD)
        for block, state_BP in zip(self.blocks, state.layers, strict=True):
            assert isinstance(block, Block)
            tokens_BLD, last_BP = block.run(tokens_BLD, keep_BL1)
            state_BP.copy_(last_BP)
        state.advance(length)
        return self.ln_f(tokens_BLD)

    @classmethod
    def activation_bytes_per_token(cls, config: ModelConfig, *, recomputed: bool = False) -> int:
        """Return those of a transformer's block, and the complex inputs and states of a layer."""
        states = 1 if recomputed else config.layers
        held = 4 * 2 * 8 * int(config.backbone_options["state"]) * states
        return super().activation_bytes_per_token(config, recomputed=recomputed) + held

    def _parted(self, tokens_BLD: Tensor) -> tuple[Tensor, Tensor | None]:
        """Part tokens from the flag behind them, and return where the state is kept."""
        if not self.sees_starts:
            return tokens_BLD, None
        return tokens_BLD[..., :-1], 1 - tokens_BLD[..., -1:]
