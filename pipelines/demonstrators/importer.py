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
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pipelines import foreign
from pipelines.artifacts import files
from pipelines.errors import (
    ArtifactCorruptError,
    ArtifactError,
    ArtifactMissingError,
    ConfigError,
    UnsafeContentError,
    UnsupportedContentError,
)
from pipelines.learners.sb3_data import read_data
from pipelines.learners.sb3_weights import Normalization, find_actor, policy_spec
from pipelines.policies.registry import build_policy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipelines.demonstrators.config import Activation
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


def import_policy(
    path: Path,
    task: TaskSpec,
    action_low_A: NDArray[np.float32],
    action_high_A: NDArray[np.float32],
    *,
    normalization_path: Path | None = None,
    activation: Activation | None = None,
) -> PolicySpec:
    """Read the actor of a Stable-Baselines3 zip as a policy of a task.

    Args:
        path: The zip.
        task: The task it is for.
        action_low_A: Lower action bounds of the task.
        action_high_A: Upper action bounds.
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
        said = read_data(
            _parse_data(members[_DATA], path),
            task.observation_dim,
            action_low_A,
            action_high_A,
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
            action_dim=task.action_dim,
        )
        # Checks that the layers fit each other, and that folding left finite numbers.
        build_policy(spec, action_low_A, action_high_A)
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
    import numpy as np

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
