"""Reads policies that Stable-Baselines3 saved, without running any code they bring.

A zip of Stable-Baselines3 holds pickles twice over: base64 in the JSON member ``data``, and inside
``policy.pth``. The first are never decoded; the second is read by torch's unpickler for weights
alone, which constructs nothing but tensors and plain containers.
"""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines import foreign
from pipelines.actions import ActionSpec, Discrete, box_of
from pipelines.artifacts import files
from pipelines.errors import (
    ArtifactCorruptError,
    ArtifactError,
    ArtifactMissingError,
    ConfigError,
    UnsafeContentError,
    UnsupportedContentError,
)
from pipelines.learners.sb3_weights import (
    RENORM_EPSILON,
    Family,
    Normalization,
    find_actor,
    policy_spec,
)
from pipelines.policies.registry import build_policy
from pipelines.text import listed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipelines.learners.settings import Activation
    from pipelines.policies.base import PolicySpec
    from pipelines.tasks.spec import TaskSpec

_WEIGHTS = "policy.pth"
_DATA = "data"
_LIMITS = {_WEIGHTS: 512 * 2**20, _DATA: 64 * 2**20}
_MEMBERS = 64
#: What zipfile and its decompressors raise on damaged archives.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    NotImplementedError,
    RuntimeError,
    EOFError,
    ValueError,
    OverflowError,
)


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
_DISCRETE = tuple(f"<class '{each}.spaces.discrete.Discrete'>" for each in ("gymnasium", "gym"))
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
#: Default of ``clip_mean``, which bounds the mean action under state-dependent exploration.
_CLIP_MEAN = 2.0


def import_policy(
    path: Path,
    task: TaskSpec,
    actions: ActionSpec,
    *,
    normalization_path: Path | None = None,
    activation: Activation | None = None,
) -> PolicySpec:
    """Read the actor of a Stable-Baselines3 zip as a policy of a task.

    Args:
        actions: What the actions of the task are, with their bounds.
        normalization_path: Its observation statistics as .npz or .json, with ``mean`` and ``var``
            (and ``epsilon``, default 1e-8) or ``std``, and ``clip_obs`` (default 10).
        activation: What a class of the user's own between its layers computes.

    Raises:
        ArtifactMissingError: There is no such file.
        ArtifactCorruptError: The file is damaged, or is no such zip.
        UnsupportedContentError: It says something that cannot be taken over, or does not fit.
        UnsafeContentError: Reading it would need unpickling, or it looks built to do harm.
    """
    members = _read_members(path)
    missing = [name for name in _LIMITS if name not in members]
    if missing:
        raise ArtifactCorruptError(
            "The file is no model of Stable-Baselines3.",
            where=path,
            expected=f"a zip with {' and '.join(_LIMITS)}",
            found=f"no {', '.join(missing)}",
        )
    statistics = None if normalization_path is None else read_statistics(normalization_path)
    try:
        said = _read_data(
            _parse_data(members[_DATA], path),
            task.observation_dim,
            actions,
            activation,
        )
        if said.normalized and statistics is None:
            raise ConfigError(
                "The policy was trained on normalised observations (VecNormalize).",
                expected="its statistics",
                found="none",
                fix="--set demonstrators.normalization_path=FILE.npz (or .json) with mean, var and "
                "clip_obs; with mean 0, std 1 and clip_obs null where only rewards were normalised",
            )
        weights = foreign.load_tensors(members[_WEIGHTS], path / _WEIGHTS, _LIMITS[_WEIGHTS])
        state = {name: weight.detach().float().numpy() for name, weight in weights.items()}
        actor = find_actor(state, said.renorm_epsilon)
        if actor.family != said.family:
            raise ConfigError(
                "The weights are not those of the policy's class.",
                expected=f"the layers of {said.family}",
                found=f"those of {actor.family}",
            )
        spec = policy_spec(
            actor,
            activation=said.activation,
            squash=said.squash,
            normalization=statistics,
            observation_dim=task.observation_dim,
            actions=actions,
        )
        # Checks that the layers fit each other, and that folding left finite numbers.
        build_policy(spec, actions)
    except ConfigError as error:
        raise UnsupportedContentError(
            error.message,
            where=error.where or f"{path} for task {task.name}",
            expected=error.expected,
            found=error.found,
            fix=error.fix,
        ) from error
    return spec


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        ArtifactMissingError: There is no such file.
        ArtifactCorruptError: It cannot be read.
    """
    try:
        foreign.check_file(path)
        return files.hash_file(path.resolve()).sha256
    except (OSError, RuntimeError, ValueError) as error:
        raise _unreadable(path, error) from error


def read_statistics(path: Path) -> Normalization:
    """Read observation statistics from .npz or .json.

    Raises:
        ArtifactMissingError: There is no such file.
        ArtifactCorruptError: They are malformed, or not finite.
        UnsafeContentError: The file is a pickle, as Stable-Baselines3 saves them.
    """
    if path.suffix not in (".npz", ".json"):
        raise UnsafeContentError(
            "Observation statistics are not read from a pickle.",
            where=path,
            expected=".npz or .json with mean, var and clip_obs",
            found=path.suffix or "no suffix",
            fix="where you trust the file, in Python: v = pickle.load(open('vecnormalize.pkl', "
            "'rb')); numpy.savez('normalization.npz', mean=v.obs_rms.mean, var=v.obs_rms.var, "
            "epsilon=v.epsilon, clip_obs=v.clip_obs)",
        )
    try:
        foreign.check_file(path)
        raw = _read_npz(path) if path.suffix == ".npz" else dict(foreign.read_json(path))
        mean_O = np.asarray(raw["mean"], dtype=np.float64)
        if "std" in raw:
            std_O = np.asarray(raw["std"], dtype=np.float64)
        else:
            epsilon = float(raw.get("epsilon", 1e-8))
            std_O = np.sqrt(np.asarray(raw["var"], dtype=np.float64) + epsilon)
        clip = raw.get("clip_obs", 10.0)
        clip = None if clip is None else float(clip)
    except OSError as error:
        raise _unreadable(path, error) from error
    except (KeyError, TypeError, AttributeError, MemoryError, *_DAMAGE) as error:
        raise ArtifactCorruptError(
            "The observation statistics cannot be read.",
            where=path,
            expected="numbers under mean, and var or std",
            found=f"{type(error).__name__}: {error}",
        ) from error
    fits = mean_O.ndim == 1 and mean_O.shape == std_O.shape and bool((std_O > 0).all())
    fits = fits and (clip is None or 0 < clip < np.inf)
    if not (fits and np.isfinite(mean_O).all() and np.isfinite(std_O).all()):
        raise ArtifactCorruptError(
            "The observation statistics are not those of a vector.",
            where=path,
            expected="mean and std > 0, finite, of one shape (O,), and clip_obs > 0",
            found=f"shapes {mean_O.shape} and {std_O.shape}, clip_obs {clip}",
        )
    return Normalization(mean_O, std_O, clip)


def _read_npz(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > _LIMITS[_DATA]:
        raise ValueError(f"unpacks to {size:,} bytes")
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _read_members(path: Path) -> dict[str, bytes]:
    """Read the two members that are needed into memory; nothing is ever extracted to a path."""
    try:
        foreign.check_file(path)
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries]
            if len(names) > _MEMBERS or len(set(names)) != len(names):
                raise _unsafe(path, f"at most {_MEMBERS} members with different names", len(names))
            for entry in entries:
                inside = PurePosixPath(entry.filename.replace("\\", "/"))
                if inside.is_absolute() or ".." in inside.parts:
                    raise _unsafe(path, "members inside the archive", entry.filename)
            return {
                entry.filename: _read_member(archive, entry, path)
                for entry in entries
                if entry.filename in _LIMITS
            }
    except _DAMAGE as error:
        raise ArtifactCorruptError(
            "The file is no intact zip.",
            where=path,
            expected="a model saved by Stable-Baselines3 (model.save)",
            found=str(error) or type(error).__name__,
            fix="copy or download it again",
        ) from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _read_member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> bytes:
    limit = _LIMITS[entry.filename]
    with archive.open(entry) as file:
        # The directory's size is only a claim.
        content = file.read(limit + 1)
    if len(content) > limit:
        raise _unsafe(path, f"{entry.filename} of at most {limit:,} bytes", "more")
    return content


def _parse_data(data: bytes, path: Path) -> dict[str, Any]:
    try:
        parsed = foreign.parse_json(data)
        if not isinstance(parsed, dict):
            raise ValueError(f"a {type(parsed).__name__}")
    except ValueError as error:
        raise ArtifactCorruptError(
            "The member 'data' of the zip is not JSON.",
            where=path,
            expected="a JSON object",
            found=error,
        ) from error
    return parsed


def _unreadable(path: Path, error: Exception) -> ArtifactError:
    files.raise_if_failing(error, path)
    if isinstance(error, FileNotFoundError):
        return ArtifactMissingError("There is no such file.", where=path, fix="give its path")
    return ArtifactCorruptError(
        "Cannot read the file.", where=path, expected="a file that can be read", found=error
    )


def _unsafe(path: Path, expected: str, found: object) -> UnsafeContentError:
    return UnsafeContentError(
        "The zip looks built to do harm and is not read.",
        where=path,
        expected=expected,
        found=found,
    )


@dataclass(frozen=True, slots=True)
class _SavedPolicy:
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


def _read_data(
    data: Mapping[str, Any],
    observation_dim: int,
    actions: ActionSpec,
    activation: Activation | None = None,
) -> _SavedPolicy:
    """Read the fields that say what the weights mean; refuse what is no policy of this task."""
    _check_observations(_fields(data, "observation_space"), observation_dim)
    _check_actions(_fields(data, "action_space"), actions)
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
    return _SavedPolicy(
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


def _check_actions(space: Mapping[str, Any], actions: ActionSpec) -> None:
    if isinstance(actions, Discrete):
        said = (space.get(":type:") in _DISCRETE, str(space.get("n")), str(space.get("start", 0)))
        if said != (True, str(actions.n), "0"):
            raise _other_task(f"a Discrete of {actions.n} from 0 on", _space_text(space))
        return
    low_A, high_A = box_of(actions, "an imported policy").bounds
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
