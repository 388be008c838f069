"""What an action head is: a distribution over a group's actions for each output of the backbone.

Actions are as they are stored: (B, L, A) floats of a box, (B, L) int64 of discrete actions, which a
head neither gets nor gives one-hot.

Shapes: B sequences, L steps, D model, A numbers of a stored action, C further dimensions, N
choices.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipelines.actions import ActionSpec
from pipelines.model.heads import Act
from pipelines.model.initialization import Linear
from pipelines.model.normalization import ActionUnits


class Draws:
    """Random numbers for one step of B streams.

    Args:
        generators: One for each stream and step, keyed by (seed, task, stream, step).
    """

    def __init__(self, generators: Sequence[np.random.Generator]) -> None:
        self._generators = generators

    def uniform(self, *shape: int) -> Tensor:
        """Return numbers (B, *shape), uniform in [0, 1), float32, on the CPU."""
        return self._stacked([each.random(shape, np.float32) for each in self._generators])

    def normal(self, *shape: int) -> Tensor:
        """Return standard normal numbers (B, *shape), float32, on the CPU."""
        return self._stacked([each.standard_normal(shape, np.float32) for each in self._generators])

    @staticmethod
    def _stacked(numbers: list[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack(numbers))


@dataclass(frozen=True)
class Embedding(ABC):
    """Embeddings of discrete actions, which each stream draws anew.

    Attributes:
        channels: Length of an embedding, E, and the most actions that a set can have.
    """

    channels: int

    @abstractmethod
    def draw(self, count: int, generator: np.random.Generator) -> NDArray[np.float32]:
        """Return the embeddings of a stream's actions (count, E), none of them 0.

        Args:
            count: How many actions it has, at most `channels`.
            generator: Keyed by the stream, or by the window in training.
        """


class Head(nn.Module, ABC):
    """The head of one group; the parameters of each group are its own.

    A head derives from this class and is named by an entry point of the group ``vintix.heads``.
    Its linear layers are best made of `pipelines.model.initialization.Linear`. Keyword-only
    parameters of its constructor are options (``--set train.model.head_options.NAME=VALUE``; see
    `pipelines.plugins.Kind.options`).

    Attributes:
        kinds: Kinds of actions that it predicts, as `ActionSpec.kind`.
        deterministic: Whether `act` needs no random numbers.
        needs_bounds: Whether it has to know the bounds of the actions: those of what it is trained
            to predict, which the model's configuration keeps for each group.
        random_loss: Whether `loss` draws from PyTorch's own generator, which training seeds for
            each step.
    """

    kinds: ClassVar[tuple[str, ...]] = ("box",)
    deterministic: ClassVar[bool] = True
    needs_bounds: ClassVar[bool] = False
    random_loss: ClassVar[bool] = False

    def __init__(self, width: int, actions: ActionSpec) -> None:
        """Make the head.

        Args:
            width: Channels of the backbone's outputs, D.
            actions: What the actions of the group are.
        """
        super().__init__()

    @classmethod
    def embedding(cls, **options: Any) -> Embedding | None:
        """Return how each stream embeds its actions; None for a head that knows them by number.

        With an embedding the model is shown it in place of the action, and `loss` and `act` are
        given ``embedding_BNE`` besides: those of each sequence's actions, float32, zeros beyond its
        own. Sets may have any size then, and groups that differ in that alone are one
        (`TaskSpec.set_group`).

        Args:
            **options: All options of the head.
        """
        return None

    @classmethod
    def ways(cls) -> tuple[Act, ...]:
        """Return how it can choose an action, the default first.

        One that draws can be asked for its most likely action; the single prediction of one that
        does not is the mean.
        """
        return ("mean",) if cls.deterministic else ("sample", "greedy")

    @abstractmethod
    def loss(self, hidden_BLD: Tensor, target_BLA: Tensor, units: ActionUnits | None) -> Tensor:
        """Return the loss of each step (B, L), or of each step's parts (B, L, C), at least float32.

        Args:
            hidden_BLD: Outputs of the backbone.
            target_BLA: Actions to predict, as they are stored: (B, L) where they are discrete.
            units: How the model normalises actions; None where it does not.
        """

    @abstractmethod
    def act(self, hidden_BLD: Tensor, units: ActionUnits | None, draws: Draws | None) -> Tensor:
        """Return actions (B, L, A) as the environment takes them, but for clipping.

        They are int64 (B, L) where the actions are discrete.

        Args:
            hidden_BLD: Outputs of the backbone.
            units: As of `loss`.
            draws: Random numbers, for L = 1; None for the most likely actions.
        """


def choose(scores_BLN: Tensor, number_BL: Tensor | None) -> Tensor:
    """Return a choice among N by their scores, int64 (B, L).

    Args:
        scores_BLN: Logarithms of probabilities, up to a constant.
        number_BL: A uniform number in [0, 1) for each choice; None for the most likely ones.
    """
    if number_BL is None:
        return scores_BLN.argmax(-1)
    below_BLN = scores_BLN.softmax(-1).cumsum(-1) <= number_BL[..., None]
    # The sum of all may be a rounding below 1, and a number above it: that is the last one's whose
    # score is not minus infinity.
    place_N = torch.arange(scores_BLN.shape[-1], device=scores_BLN.device)
    last_BL = torch.where(scores_BLN > -torch.inf, place_N, 0).amax(-1)
    return below_BLN.sum(-1).minimum(last_BL)


def perceptron(width: int, outputs: int) -> nn.Sequential:
    """Return three hidden layers of the model's width with LeakyReLU, and a linear one after them.

    The released head's (section 2.3.1), which heads of one prediction share.
    """
    hidden = [module for _ in range(3) for module in (Linear(width, width), nn.LeakyReLU())]
    return nn.Sequential(*hidden, Linear(width, outputs))


def at_least_float32(values: Tensor) -> Tensor:
    """Return values as float32, or as they are in float64."""
    return values if values.dtype == torch.float64 else values.float()
