"""Reads JSON and tensors of files that other programs wrote, which may be damaged or hostile.

Nothing but tensors and plain containers is unpickled, and nothing is built that is larger than the
file it comes from.
"""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.artifacts.files import raise_if_failing
from pipelines.errors import ArtifactCorruptError, UnsafeContentError

if TYPE_CHECKING:
    from torch import Tensor

#: Most bytes of a JSON file. Those of the authors' release have some KB a task.
JSON_BYTES = 64 << 20


def parse_json(data: bytes, **options: Any) -> Any:
    """Return the value of a JSON text, read by `json.loads` with options.

    Raises:
        ValueError: It is not JSON, or is nested too deeply.
    """
    try:
        return json.loads(data, **options)
    except RecursionError as error:
        raise ValueError("the JSON is nested too deeply") from error


def read_json(path: Path) -> Any:
    """Return the value of a JSON file; it holds no NaN and no infinity.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not JSON, no file, or too large.
    """
    check_size(path, JSON_BYTES)
    return parse_json(path.read_bytes(), parse_constant=_refuse)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number of JSON")


def check_file(path: Path) -> None:
    """Raise a `ValueError` for what is no file, before opening a pipe or a device would block."""
    if path.exists() and not path.is_file():
        raise ValueError("a directory" if path.is_dir() else "a pipe, a socket or a device")


def check_size(path: Path, most: int) -> None:
    """Raise a `ValueError` for what is no file, or has more bytes than there is a use for."""
    check_file(path)
    size = path.stat().st_size
    if size > most:
        raise ValueError(f"{size:,} bytes, where at most {most:,} are read")


def load_tensors(source: Path | bytes, where: Path, most: int) -> dict[str, Tensor]:
    """Read what ``torch.save(model.state_dict(), ...)`` wrote, onto the CPU.

    Args:
        most: Most bytes of the file.

    Raises:
        OSError: The file cannot be read.
        ArtifactCorruptError: It is damaged, or is not finite numbers by name.
        UnsafeContentError: It holds more than tensors.
    """
    import torch

    if isinstance(source, Path):
        try:
            check_size(source, most)
        except ValueError as error:
            raise _corrupt(where, error) from error
    size = source.stat().st_size if isinstance(source, Path) else len(source)
    _check_archive(source, size, where)
    try:
        weights = torch.load(
            source if isinstance(source, Path) else io.BytesIO(source),
            map_location="cpu",
            weights_only=True,
        )
    except pickle.UnpicklingError as error:
        raise UnsafeContentError(
            "a weights file holds more than tensors, or is not one",
            where=where,
            expected="a dictionary of tensors",
            found=str(error).splitlines()[0],
            fix="save it again with torch.save(model.state_dict(), path)",
        ) from error
    except Exception as error:
        raise_if_failing(error, where)
        # On damaged files torch raises errors of many kinds.
        raise _corrupt(where, str(error)[:300] or type(error).__name__) from error
    if not isinstance(weights, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in weights.items()
    ):
        raise ArtifactCorruptError(
            "a weights file is not a dictionary of tensors",
            where=where,
            expected="parameter names and tensors",
            found=type(weights).__name__,
        )
    _check_dense(weights, size, where)
    check_finite(weights, where)
    return weights


def check_finite(weights: Mapping[str, Tensor], where: Path) -> None:
    """Check that no weight is NaN or infinite in float32.

    Raises:
        ArtifactCorruptError: One is.
    """
    for name, weight in weights.items():
        wrong = weight.numel() - int(weight.float().isfinite().sum())
        if wrong:
            raise ArtifactCorruptError(
                "weights are not finite numbers",
                where=f"{where}: {name}",
                expected="finite float32 numbers",
                found=f"{wrong:,} of {weight.numel():,} are NaN or infinite",
                fix="take an earlier checkpoint: a training that breaks down leaves such weights",
            )


def _check_archive(source: Path | bytes, size: int, where: Path) -> None:
    """Check that what a file unpacks to is not larger than the file, which torch never compresses.

    Files of PyTorch before 1.6 are no archives.
    """
    stream: Any = source if isinstance(source, Path) else io.BytesIO(source)
    if not zipfile.is_zipfile(stream):
        return
    try:
        with zipfile.ZipFile(stream) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise _corrupt(where, error) from error
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > size or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise _corrupt(where, f"{size:,} bytes that unpack to {unpacked:,}")


def _check_dense(weights: Mapping[str, Tensor], size: int, where: Path) -> None:
    import torch

    total = 0
    for name, weight in weights.items():
        kind = "a dense tensor of numbers"
        if weight.is_nested or weight.layout is not torch.strided:
            found = f"layout {weight.layout}"
        elif weight.device.type != "cpu" or weight.is_quantized or weight.dtype.is_complex:
            found = f"{weight.dtype} on device {weight.device}"
        else:
            total += weight.numel() * weight.element_size()
            if total <= size:
                continue
            kind, found = f"tensors of at most the file's {size:,} bytes", f"{total:,} bytes"
        raise ArtifactCorruptError(
            "a tensor cannot be taken over", where=f"{where}: {name}", expected=kind, found=found
        )


def _corrupt(where: Path, found: object) -> ArtifactCorruptError:
    return ArtifactCorruptError(
        "a weights file cannot be read", where=where, expected="a PyTorch file", found=found
    )
