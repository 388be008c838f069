"""Which code and which packages made an artifact."""

from __future__ import annotations

import functools
import platform
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import pipelines

_ALWAYS = ("numpy", "zarr")


def package_versions(names: Iterable[str] = ()) -> dict[str, str]:
    """Return the versions of Python, this toolkit, and the named distributions that are there."""
    versions = {"python": platform.python_version(), "vintix": pipelines.__version__}
    for name in sorted({*_ALWAYS, *names}):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


@functools.cache
def git_revision() -> str | None:
    """Return the revision of the checkout this code runs from, or None outside of one."""
    source = Path(pipelines.__file__).parent.parent
    if not (source / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=source,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
