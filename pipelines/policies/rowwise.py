"""Matrix products whose rows do not depend on the batch they are in.

BLAS picks its kernel, and with it the order of additions, by the shape of the whole product and
the number of threads: the action of one copy would change in its last bit with the number of
copies beside it, and with it the bytes of a recorded trajectory.

Legend: B rows, I inputs, O outputs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class RowwiseLinear:
    """``x @ weight + bias``, each row on its own and in the order of the inputs.

    Args:
        weight_IO: Weights, one row an input.
        bias_O: Bias, or None.
    """

    def __init__(self, weight_IO: NDArray[Any], bias_O: NDArray[Any] | None = None) -> None:
        self._outputs = weight_IO.shape[1]
        # With one output column, einsum would reduce along the contiguous axis in vector lanes;
        # with two or more it adds input after input, whatever the batch.
        if self._outputs == 1:
            weight_IO = np.concatenate([weight_IO, np.zeros_like(weight_IO)], axis=1)
        self._weight_IO = np.ascontiguousarray(weight_IO)
        self._bias_O = bias_O

    def __call__(self, x_BI: NDArray[Any]) -> NDArray[Any]:
        """Return the product (B, O), in the dtype of the weights."""
        x_BI = np.ascontiguousarray(x_BI, dtype=self._weight_IO.dtype)
        product_BO = np.einsum("bi,io->bo", x_BI, self._weight_IO, optimize=False)
        product_BO = product_BO[:, : self._outputs]
        return product_BO if self._bias_O is None else product_BO + self._bias_O
