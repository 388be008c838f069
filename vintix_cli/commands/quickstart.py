"""``vintix quickstart``: all five stages, small."""

from __future__ import annotations

EPILOG = ""


def quickstart() -> None:
    """Placeholder until the pipeline stands."""
