"""Names that nothing answers to, told with the nearest ones that something does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pipelines.errors import UsageError, VintixError

_MOST = 3
_SIMILAR = 0.6


def nearest(
    wanted: str, known: Iterable[str], aliases: Mapping[str, str] | None = None
) -> list[str]:
    """Return the names most like the wanted one, at most three; case does not matter.

    `aliases` are further spellings, each with the name that it stands for.
    """
    import difflib

    folded = {_fold(spelling): name for spelling, name in (aliases or {}).items()}
    folded |= {_fold(name): name for name in known}
    close = difflib.get_close_matches(_fold(wanted), folded, n=2 * _MOST, cutoff=_SIMILAR)
    return list(dict.fromkeys(folded[spelling] for spelling in close))[:_MOST]


def did_you_mean(message: str, close: Iterable[str]) -> str:
    """Return a message that ends with a question for the nearest names, if there are any."""
    names = " or ".join(close)
    return f"{message.rstrip('.')}. Did you mean {names}?" if names else message


def unknown(
    message: str,
    wanted: str,
    known: Iterable[str],
    *,
    aliases: Mapping[str, str] | None = None,
    kind: type[VintixError] = UsageError,
    **details: Any,
) -> VintixError:
    """Return the error to raise of a name that is not known, with the nearest of those that are.

    `kind` is its class and `details` are its other arguments; ``found`` is the wanted name unless
    they say otherwise.
    """
    close = nearest(wanted, known, aliases)
    error = kind(did_you_mean(message, close), **{"found": wanted, **details})
    if close:
        error.instead = (wanted, close[0])
    return error


def _fold(name: str) -> str:
    return name.casefold().replace("_", "-")
