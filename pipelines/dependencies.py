"""Packages that only an extra of this distribution installs."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from pipelines.errors import MissingDependencyError


def load_extra(module: str, extra: str, needed_for: str = "this format") -> Any:
    """Import a module of an optional dependency.

    Args:
        extra: The extra of this distribution that installs it.

    Raises:
        MissingDependencyError: It is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f"the package {module.partition('.')[0]} is needed for {needed_for}",
            where=f"extra {extra!r}",
            expected=f"{module.partition('.')[0]} to be installed",
            found=str(error),
            fix=f"pip install 'vintix[{extra}]'",
        ) from error
