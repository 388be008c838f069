"""A head for action sets of any size, which tells an action by its embedding.

Headless-AD (Sinii et al. 2023, arXiv:2312.13327): actions are random orthonormal vectors, drawn
anew for each stream, so that nothing can be learnt of an action but from its context, and nothing
depends on how many there are. The head predicts a vector; how likely an action is follows from the
product with its embedding, and the loss is contrastive (InfoNCE, van den Oord et al. 2018,
arXiv:1807.03748): the action that was taken against all others of the stream's set.

Unlike the paper's, the model is not shown the set at the beginning of its context: an action that
was never taken has a product of about 0, whichever it is.

Shapes: B sequences, L steps, D model, N actions of the largest set, E channels of an embedding.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from pipelines.actions import ActionSpec
from pipelines.model.heads.base import Draws, Embedding, Head, at_least_float32, choose
from pipelines.model.initialization import Linear
from pipelines.model.normalization import ActionUnits
from pipelines.model.random_map import haar


class Headless(Head):
    """One linear layer to a vector, whose products with the embeddings are the scores.

    It has no parameters for single actions. The embeddings have length 1 and the vector may have
    any, so that the model can say how sure it is.
    """

    kinds = ("discrete",)
    deterministic = False

    def __init__(
        self,
        width: int,
        actions: ActionSpec,
        *,
        embedding: Annotated[int, Field(ge=2, le=4096)] = 64,
    ) -> None:
        """Make the head.

        Args:
            actions: Discrete; how many there are does not matter.
            embedding: E, the most actions that a set can have.
        """
        super().__init__(width, actions)
        self.out = Linear(width, embedding)

    @classmethod
    def embedding(cls, **options: Any) -> Embedding:
        """Return the embedding of its actions."""
        return Orthonormal(options["embedding"])

    def scores(self, hidden_BLD: Tensor, embedding_BNE: Tensor) -> Tensor:
        """Return logarithms of probabilities, up to a constant (B, L, N).

        Minus infinity beyond a sequence's own actions, whose embeddings are zeros.
        """
        wanted_BLE = at_least_float32(self.out(hidden_BLD))
        embedding_BNE = embedding_BNE.to(wanted_BLE.dtype)
        scores_BLN = wanted_BLE @ embedding_BNE.mT
        absent_BN = (embedding_BNE == 0).all(-1)
        return scores_BLN.masked_fill(absent_BN[:, None], -torch.inf)

    def loss(
        self,
        hidden_BLD: Tensor,
        target_BLA: Tensor,
        units: ActionUnits | None,
        *,
        embedding_BNE: Tensor | None = None,
    ) -> Tensor:
        """Return the InfoNCE loss of each step (B, L)."""
        assert embedding_BNE is not None
        scores_BLN = self.scores(hidden_BLD, embedding_BNE)
        return functional.cross_entropy(
            scores_BLN.flatten(0, 1), target_BLA.flatten(), reduction="none"
        ).view(target_BLA.shape)

    def act(
        self,
        hidden_BLD: Tensor,
        units: ActionUnits | None,
        draws: Draws | None,
        *,
        embedding_BNE: Tensor | None = None,
    ) -> Tensor:
        """Return the actions that are drawn (B, L), or the most likely ones."""
        assert embedding_BNE is not None
        scores_BLN = self.scores(hidden_BLD, embedding_BNE)
        number_BL = None if draws is None else draws.uniform(1).to(scores_BLN.device)
        return choose(scores_BLN, number_BL)


class Orthonormal(Embedding):
    """Vectors of length 1 that are orthogonal to each other, uniformly drawn."""

    def draw(self, count: int, generator: np.random.Generator) -> NDArray[np.float32]:
        """Return the embeddings (count, E)."""
        return haar(self.channels, generator, count).T.astype(np.float32)
