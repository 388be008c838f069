"""Environments that are made again where they are copied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class RemadeWhenCopied:
    """Stands before an environment's class; a copy or a pickle is made again by what made it.

    The simulators' state is memory of other libraries. Gymnasium's own environments remember the
    arguments of their constructor for it (`gymnasium.utils.EzPickle`), and so forget what is set
    afterwards. A copy begins anew: it has to be reset, and plays the episodes of the original from
    then on, unseeded ones included.

    Attributes:
        made_by: A function of a module, and the arguments that it made the environment with.
        kept: Names of the attributes that a copy takes over.
    """

    made_by: tuple[Callable[..., Any], tuple[Any, ...]]
    kept: tuple[str, ...] = ("spec", "render_mode", "_np_random", "_np_random_seed")

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what `copy` and `pickle` go by."""
        state = {name: vars(self)[name] for name in self.kept if name in vars(self)}
        return (*self.made_by, state)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over what is kept."""
        vars(self).update(state)
