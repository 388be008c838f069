"""The 20 tasks of Bi-DexHands, one class each, by what the catalogue calls their environment."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from pipelines.errors import UsageError

if TYPE_CHECKING:
    from pipelines.domains.bidexhands.quirks import Quirks
    from pipelines.domains.bidexhands.tasks.base import HandTask

_MODULES = ("throwing", "reorientation", "blocks", "vessels", "doors", "tools")


def task_classes() -> dict[str, type[HandTask]]:
    """Return the classes by environment id, such as ``ShadowHandPushBlock``."""
    from pipelines.domains.bidexhands.tasks.base import HandTask

    classes: dict[str, type[HandTask]] = {}
    for name in _MODULES:
        module = importlib.import_module(f"{__name__}.{name}")
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, HandTask) and "stem" in vars(value):
                classes[f"ShadowHand{value.stem}"] = value
    return classes


def make_task(env_id: str, quirks: Quirks) -> HandTask:
    """Make a task.

    Raises:
        UsageError: There is no such environment.
    """
    classes = task_classes()
    if env_id not in classes:
        raise UsageError(
            f"Bi-DexHands has no environment {env_id!r}.", expected=", ".join(classes), found=env_id
        )
    return classes[env_id](quirks)
