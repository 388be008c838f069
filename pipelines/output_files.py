"""Single files that commands write where a user says: pages, pictures and films.

Each carries a mark. A file of that name that is there already is replaced only if it has it too:
what vintix did not make is never lost to a name.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from pipelines.errors import UsageError

#: Stands in every file that is written here, as its format has a place for it.
MARK = "made by vintix"


def check_output(path: Path, formats: tuple[str, ...]) -> None:
    """Check, before the work, that a file can be written under this name.

    Args:
        path: The file; links are followed.
        formats: The suffixes that its kind of file can have.

    Raises:
        UsageError: Its suffix is none of them, there is something that vintix did not make, or its
            directory is not there.
    """
    check_suffix(path, formats)
    _check_made_here(_followed(path))
    _check_parent(path)


def check_suffix(path: Path, formats: tuple[str, ...]) -> None:
    """Raise a `UsageError` where a file's suffix is none of the formats, or a directory has it."""
    if path.is_dir():
        raise UsageError(
            "a directory is in the place of the file",
            where=path,
            expected="a file name that ends in " + " or ".join(formats),
            found="a directory",
        )
    if path.suffix.lower() not in formats:
        raise UsageError(
            "pictures of this kind are not drawn",
            where=path,
            expected=" or ".join(formats),
            found=path.suffix or "no suffix",
            fix=f"name it {path.with_suffix(formats[0]).name}",
        )


def check_output_directory(path: Path) -> None:
    """Raise a `UsageError`, before the work, where no files can be written into a directory."""
    if path.exists() and not path.is_dir():
        raise UsageError(
            "the output is a file", where=path, expected="a directory, or nothing there"
        )
    _check_parent(path)


def _check_parent(path: Path) -> None:
    parent = _followed(path).parent
    if not parent.is_dir():
        raise UsageError(
            "the directory to write into is not there",
            where=path,
            expected="a directory that exists",
            found=f"nothing at {parent}" if not parent.exists() else f"a file at {parent}",
            fix=shlex.join(["mkdir", "-p", str(parent)]) + ", or correct the path",
        )


def write_output(path: Path, data: bytes) -> Path:
    """Write a file that carries the mark, durably and as a whole.

    Raises:
        UsageError: There is something that vintix did not make.
        StorageError: The file system refused.
    """
    from pipelines.artifacts import files

    target = _followed(path)
    if not files.write_new_file(target, data):
        _check_made_here(target)
        files.write_file(target, data)
    return path


def _followed(path: Path) -> Path:
    try:
        return path.expanduser().resolve()
    except (OSError, RuntimeError) as error:
        raise UsageError("the output cannot be used", where=path, found=error) from error


def _check_made_here(path: Path) -> None:
    try:
        if not path.exists():
            return
        found = "a file without the mark of vintix" if path.is_file() else "no file"
        if path.is_file() and MARK.encode() in path.read_bytes():
            return
    except OSError as error:
        found = error.strerror or str(error)
    raise UsageError(
        "what is there was not made by vintix, and is not replaced",
        where=path,
        expected="nothing there, or a file that vintix made",
        found=found,
        fix="choose another name, or move it away",
    )
