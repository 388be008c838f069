"""Reads what a zip of Stable-Baselines3 says about its policy in plain text.

Its member ``data`` is JSON. Of an object that JSON cannot hold there is a pickle, which is never
decoded, and beside it the type and the fields as text
(stable_baselines3.common.save_util.data_to_json). What is said there and changes what the weights
mean is returned or refused; it is never passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pipelines.errors import ConfigError
from pipelines.text import listed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipelines.demonstrators.config import Activation

Family = Literal["on-policy", "sac", "td3", "ars"]

#: The module of a policy's class gives the family; a class of any other module is another network.
_FAMILIES: dict[str, Family] = {
    "stable_baselines3.common.policies": "on-policy",
    "stable_baselines3.sac.policies": "sac",
    "sb3_contrib.tqc.policies": "sac",
    "sb3_contrib.crossq.policies": "sac",
    "stable_baselines3.td3.policies": "td3",
    "sb3_contrib.ars.policies": "ars",
}
_BOX = ("<class 'gymnasium.spaces.box.Box'>", "<class 'gym.spaces.box.Box'>")
_ACTIVATIONS: dict[str, Activation] = {
    "<class 'torch.nn.modules.activation.Tanh'>": "tanh",
    "<class 'torch.nn.modules.activation.ReLU'>": "relu",
}
_EXTRACTOR = "<class 'stable_baselines3.common.torch_layers.FlattenExtractor'>"
#: Arguments of policies that the deterministic action of a vector does not depend on, or that
#: show in the weights.
_WITHOUT_MEANING = frozenset(
    {
        "batch_norm",
        "batch_norm_momentum",
        "full_std",
        "log_std_init",
        "n_critics",
        "n_quantiles",
        "net_arch",
        # Of image spaces alone, which are no vectors.
        "normalize_images",
        "optimizer_class",
        "optimizer_kwargs",
        "ortho_init",
        "renorm_warmup_steps",
        "sde_net_arch",
        "share_features_extractor",
        "use_expln",
        "with_bias",
    }
)
#: Default of sb3_contrib's ``batch_norm_eps`` (CrossQ).
RENORM_EPSILON = 1e-3
#: Default of ``clip_mean``, which bounds the mean action under state-dependent exploration.
_CLIP_MEAN = 2.0


@dataclass(frozen=True, slots=True)
class SavedPolicy:
    """What a zip says about its policy.

    Attributes:
        family: Which tensors are its actor.
        activation: Between its layers.
        squash: Whether actions are squashed by tanh; None for the family's default.
        renorm_epsilon: Added to the variance by CrossQ's batch renormalisation.
        normalized: Whether it was certainly trained in a VecNormalize. False may mean that the
            file does not say: of off-policy learners none does.
    """

    family: Family
    activation: Activation
    squash: bool | None
    renorm_epsilon: float
    normalized: bool


def read_data(
    data: Mapping[str, Any],
    observation_dim: int,
    action_low_A: NDArray[np.float32],
    action_high_A: NDArray[np.float32],
    activation: Activation | None = None,
) -> SavedPolicy:
    """Read the fields of ``data`` that say what the weights mean.

    Args:
        data: The JSON of the member ``data``.
        observation_dim: Of the task.
        action_low_A: Lower action bounds of the task.
        action_high_A: Upper action bounds.
        activation: What a class of the user's own between the layers computes.

    Raises:
        ConfigError: It says that the policy is not a feed-forward network from a vector of this
            task to actions of this task, or does not say what it is.
    """
    _check_observations(_fields(data, "observation_space"), observation_dim)
    _check_actions(_fields(data, "action_space"), action_low_A, action_high_A)
    family = _family(_fields(data, "policy_class"))
    settings = dict(_fields(data, "policy_kwargs"))
    for hidden in (":type:", ":serialized:"):
        settings.pop(hidden, None)
    uses_sde = True in (data.get("use_sde"), settings.pop("use_sde", False))
    clip_mean = settings.pop("clip_mean", _CLIP_MEAN)
    if family == "sac" and uses_sde and not (_is_number(clip_mean) and clip_mean <= 0):
        raise _refused(
            "its mean action is bounded before the tanh (use_sde)", "clip_mean=0", clip_mean
        )
    squash = settings.pop("squash_output", None)
    if squash is not None and not isinstance(squash, bool):
        raise _refused("squash_output is neither true nor false", "true or false", squash)
    epsilon = settings.pop("batch_norm_eps", RENORM_EPSILON)
    if not _is_number(epsilon) or not 0 < epsilon < 1:
        raise _refused("its batch_norm_eps is not usable", "a number from 0 to 1", epsilon)
    extractor = settings.pop("features_extractor_class", _EXTRACTOR)
    arguments = settings.pop("features_extractor_kwargs", None)
    if extractor != _EXTRACTOR or arguments:
        raise _refused(
            "observations go through an extractor of their own before the network",
            "observations as they are (FlattenExtractor)",
            extractor if extractor != _EXTRACTOR else arguments,
        )
    used = _activation(family, settings.pop("activation_fn", None), activation)
    if strange := sorted(set(settings) - _WITHOUT_MEANING):
        raise _refused(
            "an argument of its class is not known here", "those of the library", ", ".join(strange)
        )
    return SavedPolicy(
        family,
        used,
        squash,
        float(epsilon),
        data.get("_last_original_obs") is not None and family in ("on-policy", "ars"),
    )


def _fields(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = data.get(name)
    if not isinstance(value, dict):
        raise ConfigError(
            f"The file does not say what its {name} is.",
            expected=f"{name} in the member data, as Stable-Baselines3 saves it",
            found=listed(data) or "nothing" if value is None else repr(value)[:100],
            fix="save the model again with a current Stable-Baselines3 (model.save)",
        )
    return value


def _check_observations(space: Mapping[str, Any], observation_dim: int) -> None:
    expected = f"a Box of shape ({observation_dim},)"
    shape = _shape(space)
    if space.get(":type:") not in _BOX or len(shape) != 1:
        raise _refused("its observations are no vector of numbers", expected, _space_text(space))
    if shape != [observation_dim]:
        raise _other_task(expected, _space_text(space))


def _check_actions(
    space: Mapping[str, Any], low_A: NDArray[np.float32], high_A: NDArray[np.float32]
) -> None:
    expected = f"a Box from {_bound_text(low_A)} to {_bound_text(high_A)}"
    found = _space_text(space)
    if (
        space.get(":type:") not in _BOX
        or len(_shape(space)) != 1
        or not str(space.get("dtype")).startswith("float")
    ):
        raise _refused("its actions are no vector of real numbers", expected, found)
    if _shape(space) != [len(low_A)]:
        raise _other_task(expected, found)
    for name, bound_A in (("low", low_A), ("high", high_A)):
        said_A = _numbers(space.get(name))
        # Printed with 8 digits.
        if said_A is None or said_A.shape != bound_A.shape:
            raise _refused("the bounds of its actions cannot be read", expected, found)
        if not np.allclose(said_A, bound_A, rtol=1e-5, atol=1e-6):
            raise _refused(
                "its actions are bounded otherwise than the task's, so that they mean others",
                expected,
                found,
                fix="import it for a task with its own bounds, or train it on the task itself",
            )


def _family(policy_class: Mapping[str, Any]) -> Family:
    module = str(policy_class.get("__module__"))
    if module not in _FAMILIES:
        raise _refused(
            "its policy is a class that is not known here",
            f"a class of {', '.join(_FAMILIES)}",
            f"one of {module}",
        )
    return _FAMILIES[module]


def _activation(family: Family, text: object, given: Activation | None) -> Activation:
    default: Activation = "tanh" if family == "on-policy" else "relu"
    said = default if text is None else _ACTIVATIONS.get(str(text))
    if said is None and given is None:
        raise _refused(
            "the activation of the network is not supported",
            "Tanh or ReLU of torch.nn",
            text,
            fix="--set demonstrators.activation=tanh (or relu), where the class computes that",
        )
    if said is not None and given not in (None, said):
        raise _refused("the activation is another one than was given", given, said)
    return said or given or default


def _shape(space: Mapping[str, Any]) -> list[Any]:
    shape = space.get("_shape", space.get("shape"))
    return shape if isinstance(shape, list) else []


def _numbers(text: object) -> NDArray[np.float64] | None:
    """Return the numbers of an array that NumPy printed, or None."""
    if not isinstance(text, str) or not (text.startswith("[") and text.endswith("]")):
        return None
    try:
        return np.array([float(word) for word in text[1:-1].split()], np.float64)
    except ValueError:
        return None


def _space_text(space: Mapping[str, Any]) -> str:
    name = str(space.get(":type:")).rstrip("'>").rpartition(".")[2]
    said = {key: space[key] for key in ("n", "nvec", "low", "high", "dtype") if key in space}
    shape = f"shape {tuple(_shape(space))}" if _shape(space) else ""
    return ", ".join(
        [name, *filter(None, [shape]), *(f"{key} {str(each)[:80]}" for key, each in said.items())]
    )


def _bound_text(bound_A: NDArray[np.float32]) -> str:
    return np.array2string(bound_A, threshold=12, precision=4)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _refused(why: str, expected: object, found: object, fix: str | None = None) -> ConfigError:
    return ConfigError(
        f"This policy cannot be taken over: {why}.", expected=expected, found=found, fix=fix
    )


def _other_task(expected: str, found: str) -> ConfigError:
    return ConfigError(
        "The policy was made for another task.",
        expected=expected,
        found=found,
        fix="import it for its own task; MuJoCo tasks here have Gymnasium's v5 observations",
    )
