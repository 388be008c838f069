"""Turns the weights of a Stable-Baselines3 policy into a policy of ours.

The names of the tensors give the architecture (stable_baselines3.common.policies,
stable_baselines3.sac.policies, stable_baselines3.td3.policies, sb3_contrib.ars.policies):

============  ==========================================================  =================
family        tensors of the actor, in order                              action
============  ==========================================================  =================
on-policy     mlp_extractor.policy_net.<i>, action_net                    clipped
(PPO, TRPO,
A2C)
SAC, TQC      actor.latent_pi.<i>, actor.mu                               tanh, stretched
CrossQ        the same, with batch renormalisation before each      tanh, stretched
TD3, DDPG     actor.mu.<i>                                                tanh, stretched
ARS           action_net.<i> (action_net of old linear policies)          see `policy_spec`
============  ==========================================================  =================
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pipelines.errors import ConfigError
from pipelines.learners.settings import Activation
from pipelines.policies.base import PolicySpec
from pipelines.text import listed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipelines.actions import ActionSpec

Family = Literal["on-policy", "sac", "td3", "ars"]
RENORM_EPSILON = 1e-3
"""Default of sb3_contrib's ``batch_norm_eps`` (CrossQ)."""


@dataclass(frozen=True, slots=True)
class Normalization:
    """How observations were normalised in training: ``clip((x - mean) / std, -clip, clip)``.

    Attributes:
        mean_O: float64.
        std_O: float64, > 0; the square root of variance plus epsilon.
        clip: Bound, or None.
    """

    mean_O: NDArray[np.float64]
    std_O: NDArray[np.float64]
    clip: float | None


@dataclass(frozen=True, slots=True)
class Actor:
    """The actor of a policy.

    Attributes:
        weights: One (inputs, outputs) a layer, float32.
        biases: One (outputs,) a layer, or None for a layer without.
    """

    family: Family
    weights: list[NDArray[np.float32]]
    biases: list[NDArray[np.float32] | None]


def find_actor(state: Mapping[str, NDArray[Any]], renorm_epsilon: float = RENORM_EPSILON) -> Actor:
    """Find the layers of the actor among the tensors of a policy.

    Args:
        state: Tensors by name, as in ``policy.state_dict()``.
        renorm_epsilon: Added to the variance by CrossQ's batch renormalisation.

    Raises:
        ConfigError: It is no feed-forward policy over a vector observation that we know.
    """
    if any("features_extractor" in name or "mlp_extractor.shared_net" in name for name in state):
        raise _unknown(state, "feature extractors and shared layers")
    if any("lstm" in name for name in state):
        raise _unknown(state, "recurrent layers")
    if "actor.latent_pi.0.weight" in state or "actor.mu.weight" in state:
        if "actor.mu.weight" not in state:
            raise _unknown(state, "state-dependent exploration (use_sde)")
        layers = [*_sequence(state, "actor.latent_pi"), "actor.mu"]
        return _actor("sac", _fold_normalization(state, renorm_epsilon), layers)
    if any(name.startswith("actor.mu.") for name in state):
        return _actor("td3", state, _sequence(state, "actor.mu"))
    if "action_net.weight" in state and "value_net.weight" in state:
        layers = [*_sequence(state, "mlp_extractor.policy_net"), "action_net"]
        return _actor("on-policy", state, layers)
    layers = ["action_net"] if "action_net.weight" in state else _sequence(state, "action_net")
    if layers:
        return _actor("ars", state, layers)
    raise _unknown(state, "no actor that is known here")


def policy_spec(
    actor: Actor,
    *,
    activation: Activation | None,
    squash: bool | None,
    normalization: Normalization | None,
    observation_dim: int,
    actions: ActionSpec,
) -> PolicySpec:
    """Make the policy of an actor.

    Args:
        activation: Between layers; None for the family's default (tanh on-policy, else relu).
        squash: Whether actions are squashed by tanh and stretched to the bounds; None for the
            family's default: SAC and TD3 do, on-policy does not, ARS does with hidden layers and
            does not without (sb3_contrib's MlpPolicy and LinearPolicy).
        normalization: Of observations, or None.
        actions: Of the task. Of discrete ones the network chooses that with the largest output.

    Raises:
        ConfigError: The dimensions are not the task's.
    """
    found = (len(actor.weights[0]), actor.weights[-1].shape[1])
    if found != (observation_dim, actions.width):
        raise ConfigError(
            "The policy was made for another task.",
            expected=f"{observation_dim} observation and {actions.width} action dimensions",
            found=f"{found[0]} and {found[1]}",
            fix="import it for its own task; MuJoCo tasks here have Gymnasium's v5 observations",
        )
    if normalization is not None and len(normalization.mean_O) != observation_dim:
        raise ConfigError(
            "The observation statistics were made for another task.",
            expected=f"{observation_dim} dimensions",
            found=len(normalization.mean_O),
        )
    if squash is None:
        squash = actor.family in ("sac", "td3") or (
            actor.family == "ars" and len(actor.weights) > 1
        )
    config: dict[str, Any] = {
        "output": "argmax" if not actions.continuous else "tanh_squash" if squash else "clip",
        "normalize": normalization is not None,
        "observation_clip": None if normalization is None else normalization.clip,
    }
    arrays: dict[str, NDArray[Any]] = {}
    if normalization is not None:
        arrays["observation_mean"] = normalization.mean_O
        arrays["observation_std"] = normalization.std_O
    if len(actor.weights) == 1 and actor.biases[0] is None:
        arrays["matrix"] = np.ascontiguousarray(actor.weights[0].T)
        return PolicySpec(kind="linear", config=config, arrays=arrays)
    config["layers"] = len(actor.weights)
    config["activation"] = activation or ("tanh" if actor.family == "on-policy" else "relu")
    for index, (weight, bias) in enumerate(zip(actor.weights, actor.biases, strict=True)):
        arrays[f"weight_{index}"] = weight
        arrays[f"bias_{index}"] = np.zeros(weight.shape[1], np.float32) if bias is None else bias
    return PolicySpec(kind="mlp", config=config, arrays=arrays)


def widened(spec: PolicySpec, more: int) -> PolicySpec:
    """Return a policy of `policy_spec` for observations with more entries, which it ignores."""
    arrays = dict(spec.arrays)
    for name, axis, value in (
        ("matrix", 1, 0.0),
        ("weight_0", 0, 0.0),
        ("observation_mean", 0, 0.0),
        ("observation_std", 0, 1.0),
    ):
        if name in arrays:
            widths = [(0, more if each == axis else 0) for each in range(arrays[name].ndim)]
            arrays[name] = np.pad(arrays[name], widths, constant_values=value)
    return PolicySpec(spec.kind, spec.config, arrays)


def _actor(family: Family, state: Mapping[str, NDArray[Any]], layers: list[str]) -> Actor:
    weights, biases = [], []
    for layer in layers:
        weight, bias = state.get(f"{layer}.weight"), state.get(f"{layer}.bias")
        if weight is None or weight.ndim != 2 or (bias is not None and bias.ndim != 1):
            raise _unknown(state, f"{layer} is no linear layer")
        weights.append(np.ascontiguousarray(weight.T, dtype=np.float32))
        biases.append(None if bias is None else bias.astype(np.float32))
    return Actor(family, weights, biases)


def _fold_normalization(
    state: Mapping[str, NDArray[Any]], epsilon: float
) -> dict[str, NDArray[Any]]:
    """Put the batch renormalisation of CrossQ's actor into the linear layers that follow it.

    When it acts, a layer of it is ``scale (x - mean) / sqrt(variance + eps) + bias`` with running
    statistics (sb3_contrib.common.torch_layers.BatchRenorm).
    """
    folded = dict(state)
    pattern = re.compile(r"actor\.latent_pi\.(\d+)\.ra_var")
    numbers = sorted(int(match[1]) for name in state if (match := pattern.fullmatch(name)))
    linear = [*_sequence(state, "actor.latent_pi"), "actor.mu"]
    if not numbers:
        return folded
    # One before each of them, as the library builds it.
    if len(numbers) != len(linear):
        raise _unknown(state, "not one batch renormalisation before each layer")
    for number, layer in zip(numbers, linear, strict=True):
        names = [f"{layer}.weight", f"{layer}.bias"]
        names += [
            f"actor.latent_pi.{number}.{name}" for name in ("scale", "bias", "ra_mean", "ra_var")
        ]
        if missing := [name for name in names if name not in state]:
            raise _unknown(state, f"there is no {', '.join(missing)}")
        weight, before, scale, bias, mean, variance = (
            state[name].astype(np.float64) for name in names
        )
        if {each.shape for each in (scale, bias, mean, variance)} != {weight.shape[1:]}:
            raise _unknown(state, f"the renormalisation before {layer} has another size")
        if (variance < 0).any():
            raise _unknown(state, f"a variance before {layer} is negative")
        factor = scale / np.sqrt(variance + epsilon)
        folded[f"{layer}.weight"] = weight * factor
        folded[f"{layer}.bias"] = before + weight @ (bias - mean * factor)
    return folded


def _sequence(state: Mapping[str, NDArray[Any]], prefix: str) -> list[str]:
    """Return the linear layers of an ``nn.Sequential``, in their order.

    Between two of them the library has an activation, and before each the batch renormalisation of
    CrossQ.
    """
    pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.weight")
    numbers = sorted(int(match[1]) for name in state if (match := pattern.fullmatch(name)))
    renormalised = f"{prefix}.0.ra_var" in state
    first, step = (1, 3) if renormalised else (0, 2)
    if numbers != list(range(first, first + step * len(numbers), step)):
        raise _unknown(state, f"the layers of {prefix} are numbered {numbers}")
    return [f"{prefix}.{number}" for number in numbers]


def _unknown(state: Mapping[str, NDArray[Any]], what: str) -> ConfigError:
    return ConfigError(
        f"This policy cannot be taken over: {what}.",
        expected="a feed-forward policy of PPO, A2C, TRPO, SAC, TQC, CrossQ, TD3, DDPG or ARS",
        found=listed(sorted(state)),
    )
