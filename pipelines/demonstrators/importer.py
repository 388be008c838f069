"""Reads policies that Stable-Baselines3 saved, without running any code they bring.

A zip of Stable-Baselines3 holds pickles twice over: base64 in the JSON member ``data``, and inside
``policy.pth``. The first are never decoded; the second is read by torch's unpickler for weights
alone, which constructs nothing but tensors and plain containers.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pipelines.errors import ConfigError, UnsafeContentError
from pipelines.learners.sb3_weights import Normalization, find_actor, policy_spec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipelines.demonstrators.config import Activation
    from pipelines.policies.base import PolicySpec
    from pipelines.tasks.spec import TaskSpec

_WEIGHTS = "policy.pth"
_DATA = "data"
_LIMITS = {_WEIGHTS: 512 * 2**20, _DATA: 64 * 2**20}
_MEMBERS = 64


def import_policy(
    path: Path,
    task: TaskSpec,
    *,
    normalization_path: Path | None = None,
    activation: Activation | None = None,
) -> PolicySpec:
    """Read the actor of a Stable-Baselines3 zip as a policy of a task.

    Args:
        path: The zip.
        task: The task it is for.
        normalization_path: Its observation statistics as .npz or .json, with ``mean`` and ``var``
            (and ``epsilon``, default 1e-8) or ``std``, and ``clip_obs`` (default 10).
        activation: Between its layers; None for what the file says, or the algorithm's default.

    Raises:
        ConfigError: The file is missing or no such zip, or does not fit the task.
        UnsafeContentError: Reading it would need unpickling, or it looks built to do harm.
    """
    members = _read_members(path)
    weights = members.get(_WEIGHTS)
    if weights is None:
        raise ConfigError(
            "The file is no model of Stable-Baselines3.",
            where=path,
            expected=f"a zip with {_WEIGHTS}",
            found=", ".join(members) or "none of its members",
        )
    plain = _plain_fields(members.get(_DATA, b"{}"), path)
    policy_kwargs = plain.get("policy_kwargs")
    policy_kwargs = policy_kwargs if isinstance(policy_kwargs, dict) else {}
    squash = policy_kwargs.get("squash_output")
    try:
        return policy_spec(
            find_actor(_load_tensors(weights, path)),
            activation=activation or _activation_of(policy_kwargs, path),
            squash=squash if isinstance(squash, bool) else None,
            normalization=None
            if normalization_path is None
            else read_statistics(normalization_path),
            observation_dim=task.observation_dim,
            action_dim=task.action_dim,
        )
    except ConfigError as error:
        error.where = error.where or f"{path} for task {task.name}"
        raise


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError("Cannot read the file.", where=path, found=error.strerror) from error


def read_statistics(path: Path) -> Normalization:
    """Read observation statistics from .npz or .json.

    Raises:
        ConfigError: They are missing or malformed.
        UnsafeContentError: The file is a pickle, as Stable-Baselines3 saves them.
    """
    import numpy as np

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
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                raw: dict[str, Any] = {name: file[name] for name in file.files}
        else:
            raw = dict(json.loads(path.read_text(encoding="utf-8")))
        mean_O = np.asarray(raw["mean"], dtype=np.float64)
        if "std" in raw:
            std_O = np.asarray(raw["std"], dtype=np.float64)
        else:
            epsilon = float(raw.get("epsilon", 1e-8))
            std_O = np.sqrt(np.asarray(raw["var"], dtype=np.float64) + epsilon)
        clip = raw.get("clip_obs", 10.0)
        clip = None if clip is None else float(clip)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise ConfigError(
            "The observation statistics cannot be read.",
            where=path,
            expected="numbers under mean, and var or std",
            found=f"{type(error).__name__}: {error}",
        ) from error
    fits = mean_O.ndim == 1 and mean_O.shape == std_O.shape and bool((std_O > 0).all())
    if not (fits and np.isfinite(mean_O).all() and np.isfinite(std_O).all()):
        raise ConfigError(
            "The observation statistics are not those of a vector.",
            where=path,
            expected="mean and std > 0, finite, of one shape (O,)",
            found=f"shapes {mean_O.shape} and {std_O.shape}",
        )
    return Normalization(mean_O, std_O, clip)


def _read_members(path: Path) -> dict[str, bytes]:
    """Read the two members that are needed into memory; nothing is ever extracted to a path."""
    try:
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
    except OSError as error:
        raise ConfigError("Cannot read the file.", where=path, found=error.strerror) from error
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise ConfigError(
            "The file is no intact zip.",
            where=path,
            expected="a model saved by Stable-Baselines3 (model.save)",
            found=str(error),
        ) from error


def _read_member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> bytes:
    limit = _LIMITS[entry.filename]
    with archive.open(entry) as file:
        # The directory's size is only a claim.
        content = file.read(limit + 1)
    if len(content) > limit:
        raise _unsafe(path, f"{entry.filename} of at most {limit:,} bytes", "more")
    return content


def _plain_fields(data: bytes, path: Path) -> dict[str, Any]:
    """Return the JSON fields of ``data``; serialized objects stay undecoded and are left out."""
    try:
        raw = json.loads(data)
    except ValueError as error:
        raise ConfigError(
            "The member 'data' of the zip is not JSON.", where=path, found=str(error)
        ) from error
    return _without_serialized(raw) if isinstance(raw, dict) else {}


def _without_serialized(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_serialized(v) for k, v in value.items() if k != ":serialized:"}
    return value


def _activation_of(policy_kwargs: Mapping[str, Any], path: Path) -> Activation | None:
    """Read the activation off the text that stands beside the serialized class."""
    text = policy_kwargs.get("activation_fn")
    if not isinstance(text, str):
        return None
    name = text.rstrip("'>").rpartition(".")[2]
    if name == "Tanh":
        return "tanh"
    if name == "ReLU":
        return "relu"
    raise ConfigError(
        "The activation of the network is not supported.",
        where=path,
        expected="Tanh or ReLU",
        found=name,
    )


def _load_tensors(weights: bytes, path: Path) -> dict[str, NDArray[Any]]:
    import torch

    try:
        state = torch.load(io.BytesIO(weights), weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        raise UnsafeContentError(
            f"The member {_WEIGHTS} holds more than weights.",
            where=path,
            expected="tensors by name",
            found=str(error).splitlines()[0],
            fix="save the model again with Stable-Baselines3 (model.save)",
        ) from error
    except Exception as error:
        # torch raises many types on damaged input; none of them says more than this.
        raise ConfigError(
            f"The member {_WEIGHTS} cannot be read.", where=path, found=str(error)[:200]
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in state.items()
    ):
        raise ConfigError(
            f"The member {_WEIGHTS} is no set of weights.",
            where=path,
            expected="tensors by name",
            found=type(state).__name__,
        )
    return {name: tensor.detach().float().numpy() for name, tensor in state.items()}


def _unsafe(path: Path, expected: str, found: object) -> UnsafeContentError:
    return UnsafeContentError(
        "The zip looks built to do harm and is not read.",
        where=path,
        expected=expected,
        found=found,
    )
