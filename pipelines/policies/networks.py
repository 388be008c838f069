"""Feed-forward policies: ``mlp`` (any number of hidden layers) and ``linear``.

Legend: B copies, O observation, A action, H hidden units.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from pipelines.actions import Discrete
from pipelines.errors import ConfigError
from pipelines.policies.base import Policy
from pipelines.policies.rowwise import RowwiseLinear
from pipelines.policies.validation import box_bounds, check_arrays, parse_config

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from pipelines.actions import ActionSpec
    from pipelines.policies.base import PolicySpec

Output = Literal["tanh_squash", "clip", "argmax"]


class LinearConfig(BaseModel):
    """Configuration of the kind ``linear``.

    Attributes:
        output: How the network's output becomes an action: ``clip`` to the bounds, or
            ``tanh_squash``: tanh, then stretched from [-1, 1] to the bounds; ``argmax``: the
            discrete action with the largest output.
        normalize: Whether observations are normalised by the arrays ``observation_mean`` and
            ``observation_std`` first.
        observation_clip: Bound of the normalised observation; None for none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    output: Output = "clip"
    normalize: bool = False
    observation_clip: float | None = Field(default=None, gt=0)


class MLPConfig(LinearConfig):
    """Configuration of the kind ``mlp``.

    Attributes:
        layers: Number of weight matrices, hidden layers plus one.
        activation: Non-linearity after every layer but the last.
    """

    layers: int = Field(ge=1, le=64)
    activation: Literal["tanh", "relu"] = "tanh"


class NetworkPolicy(Policy):
    """A feed-forward network, computed in float32.

    Args:
        config: How observations go in and actions come out.
        activation: Applied between layers.
        normalization: Mean and standard deviation (O,) of observations, or None.
        bounds: Of continuous actions, lower and upper; None where they are discrete.
    """

    def __init__(
        self,
        layers: list[RowwiseLinear],
        config: LinearConfig,
        activation: Callable[[NDArray[Any]], NDArray[Any]],
        normalization: tuple[NDArray[Any], NDArray[Any]] | None,
        bounds: tuple[NDArray[np.float32], NDArray[np.float32]] | None,
    ) -> None:
        self._layers = layers
        self._config = config
        self._activation = activation
        self._normalization = normalization
        if bounds is not None:
            self._low_A, self._high_A = (np.asarray(each, np.float32) for each in bounds)

    def act(self, observation_BO: NDArray[np.float32]) -> NDArray[Any]:
        """Return actions, (B, A) or, discrete, (B,)."""
        hidden_BH: NDArray[Any] = observation_BO
        if self._normalization is not None:
            mean_O, std_O = self._normalization
            hidden_BH = (hidden_BH - mean_O) / std_O
            if self._config.observation_clip is not None:
                bound = self._config.observation_clip
                hidden_BH = np.clip(hidden_BH, -bound, bound)
        for index, layer in enumerate(self._layers):
            hidden_BH = layer(self._activation(hidden_BH) if index else hidden_BH)
        if self._config.output == "argmax":
            return hidden_BH.argmax(axis=1)
        if self._config.output == "tanh_squash":
            half_A = np.float32(0.5) * (self._high_A - self._low_A)
            hidden_BH = self._low_A + half_A * (np.tanh(hidden_BH) + np.float32(1))
        return np.clip(hidden_BH, self._low_A, self._high_A).astype(np.float32, copy=False)


def build_mlp(spec: PolicySpec, actions: ActionSpec) -> Policy:
    """Build the kind ``mlp``: arrays ``weight_<i>`` (inputs, outputs) and ``bias_<i>`` (outputs,).

    Raises:
        ConfigError: The configuration or the arrays do not fit each other or the task.
    """
    config = parse_config(MLPConfig, spec)
    names = [f"{part}_{index}" for index in range(config.layers) for part in ("weight", "bias")]
    arrays = check_arrays(spec, names + _normalization_names(config))
    weights = [arrays[f"weight_{index}"] for index in range(config.layers)]
    biases = [arrays[f"bias_{index}"] for index in range(config.layers)]
    bounds = _bounds(spec, config, actions)
    _check_chain(spec, weights, biases, actions.width)
    return NetworkPolicy(
        [
            RowwiseLinear(weight.astype(np.float32), bias.astype(np.float32))
            for weight, bias in zip(weights, biases, strict=True)
        ],
        config,
        np.tanh if config.activation == "tanh" else _relu,
        _normalization(spec, config, arrays, len(weights[0])),
        bounds,
    )


def build_linear(spec: PolicySpec, actions: ActionSpec) -> Policy:
    """Build the kind ``linear``: array ``matrix`` (A, O), applied to (normalised) observations.

    Raises:
        ConfigError: The configuration or the arrays do not fit each other or the task.
    """
    config = parse_config(LinearConfig, spec)
    arrays = check_arrays(spec, ["matrix", *_normalization_names(config)])
    matrix_AO = arrays["matrix"]
    bounds = _bounds(spec, config, actions)
    _check_chain(spec, [matrix_AO.T], None, actions.width)
    return NetworkPolicy(
        [RowwiseLinear(matrix_AO.T.astype(np.float32))],
        config,
        np.tanh,
        _normalization(spec, config, arrays, matrix_AO.shape[1]),
        bounds,
    )


def _bounds(
    spec: PolicySpec, config: LinearConfig, actions: ActionSpec
) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """Return the bounds of continuous actions; None where the output chooses among discrete ones.

    Raises:
        ConfigError: The output is not for the actions of the task.
    """
    if config.output == "argmax" and isinstance(actions, Discrete):
        return None
    if config.output == "argmax":
        raise ConfigError(
            f"A policy of kind {spec.kind!r} chooses among discrete actions.",
            expected=Discrete.kind,
            found=actions,
        )
    return box_bounds(spec, actions)


def _relu(x: NDArray[Any]) -> NDArray[Any]:
    return np.maximum(x, np.float32(0))


def _normalization_names(config: LinearConfig) -> list[str]:
    return ["observation_mean", "observation_std"] if config.normalize else []


def _normalization(
    spec: PolicySpec, config: LinearConfig, arrays: Mapping[str, NDArray[Any]], width: int
) -> tuple[NDArray[Any], NDArray[Any]] | None:
    if not config.normalize:
        return None
    mean_O, std_O = (
        arrays[name].astype(np.float64) for name in ("observation_mean", "observation_std")
    )
    if mean_O.shape != (width,) or std_O.shape != (width,) or not (std_O > 0).all():
        raise ConfigError(
            f"Policy of kind {spec.kind!r}: the observation normalisation does not fit.",
            expected=f"observation_mean and observation_std > 0 of shape ({width},)",
            found=f"shapes {mean_O.shape} and {std_O.shape}, smallest std {std_O.min(initial=1)}",
        )
    return mean_O, std_O


def _check_chain(
    spec: PolicySpec,
    weights: list[NDArray[Any]],
    biases: list[NDArray[Any]] | None,
    action_dim: int,
) -> None:
    shapes = [weight.shape for weight in weights]
    fits = all(len(shape) == 2 for shape in shapes) and all(
        before[1] == after[0] for before, after in itertools.pairwise(shapes)
    )
    fits = fits and shapes[-1][1] == action_dim
    if biases is not None:
        fits = fits and all(
            bias.shape == shape[1:] for bias, shape in zip(biases, shapes, strict=True)
        )
    if not fits:
        raise ConfigError(
            f"Policy of kind {spec.kind!r}: the weights do not fit each other or the task.",
            expected=f"a chain of (inputs, outputs) that ends in {action_dim} actions",
            found=" -> ".join(str(shape) for shape in shapes),
        )
