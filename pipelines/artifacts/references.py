"""References to artifacts: ``name``, ``name@v3``, ``kind/name@v3`` or a path."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pipelines.artifacts.schema import SCHEMA_VERSIONS
from pipelines.errors import UsageError, unknown
from pipelines.values import path_problem

MAX_NAME = 255
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
VERSION = re.compile(r"v([1-9][0-9]{0,8})")


@dataclass(frozen=True, slots=True)
class Reference:
    """A parsed reference: a name, maybe with kind and version, or the path of a directory."""

    text: str
    kind: str | None = None
    name: str = ""
    version: int | None = None
    path: Path | None = None


def parse_reference(text: str) -> Reference:
    """Read a reference; what has a slash and is not ``kind/name`` is a path.

    Raises:
        UsageError: It is malformed.
    """
    kind, slash, rest = text.partition("/")
    if slash and (kind not in SCHEMA_VERSIONS or "/" in rest):
        path = Path(text).expanduser()
        problem = path_problem(path)
        if problem is not None:
            raise UsageError(
                "malformed artifact reference", where=text, expected="a path", found=problem
            )
        return Reference(text, path=path)
    name, at, tail = (rest if slash else text).partition("@")
    match = VERSION.fullmatch(tail)
    if (at and match is None) or not NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise UsageError(
            "malformed artifact reference",
            where=text,
            expected="name, name@v3, kind/name@v3 or a path",
            fix="vintix artifacts ls",
        )
    return Reference(
        text, kind=kind if slash else None, name=name, version=int(match[1]) if match else None
    )


def check_kind(kind: str) -> str:
    """Return the kind; raises a `UsageError` where there is none such."""
    if kind not in SCHEMA_VERSIONS:
        raise unknown(
            "unknown kind of artifact", kind, SCHEMA_VERSIONS, expected=", ".join(SCHEMA_VERSIONS)
        )
    return kind


def check_name(name: str) -> str:
    """Return the name; raises a `UsageError` where not every file system could have it."""
    if not NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise UsageError(
            "malformed artifact name",
            expected=f"at most {MAX_NAME} letters, digits, '.', '_' and '-', not starting with a "
            "sign",
            found=repr(name),
        )
    return name
