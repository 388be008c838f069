"""Errors that reach the user, each with the exit code of the README's table.

Every message answers four questions: what is wrong, where, what was expected against what was
found, and which command puts it right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_MOST, _SIMILAR = 3, 0.6
"""Names that are suggested, at most, and how alike they must be."""


class Reported(BaseException):
    """Base of what ends a command with a message and an exit code of its own.

    Args:
        message: What is wrong, in one sentence.
        where: Path, task, step or option the error is about.
        expected: What would have been right.
        found: What was there instead.
        fix: A command or action that puts it right.
    """

    exit_code = 1
    instead: tuple[str, str] | None = None
    """What was given and what was probably meant, for the command line to put into the fix."""

    def __init__(
        self,
        message: str,
        *,
        where: object = None,
        expected: object = None,
        found: object = None,
        fix: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.where = None if where is None else str(where)
        self.expected = None if expected is None else str(expected)
        self.found = None if found is None else str(found)
        self.fix = fix

    def __str__(self) -> str:
        return "\n  ".join(self.parts())

    def parts(self) -> list[str]:
        """Return the message, then each other part there is with its label before it."""
        labels = ("where", "expected", "found", "fix")
        told = [(label, getattr(self, label)) for label in labels]
        return [self.message, *(f"{label}: {text}" for label, text in told if text is not None)]

    def as_dict(self) -> dict[str, object]:
        """Return the error as one JSON object, as printed under ``--json``."""
        return {
            "error": type(self).__name__,
            "message": self.message,
            "where": self.where,
            "expected": self.expected,
            "found": self.found,
            "fix": self.fix,
            "exit_code": self.exit_code,
        }


class VintixError(Reported, Exception):
    """Base of all expected errors."""


class UsageError(VintixError):
    """Unknown option, task or domain, or a value out of range."""

    exit_code = 2


class ConfigError(VintixError):
    """Bad configuration file, or a configuration that does not fit its artifacts."""

    exit_code = 3


class ArtifactError(VintixError):
    """Base for artifacts that are missing, invalid or corrupt."""

    exit_code = 4


class ArtifactMissingError(ArtifactError):
    """No published artifact answers to the reference."""


class ArtifactCorruptError(ArtifactError):
    """A file of an artifact does not have the bytes its manifest promises."""


class ArtifactSchemaError(ArtifactError):
    """The artifact was written by a newer schema, or is not an artifact."""


class UnsafeContentError(ArtifactError):
    """Reading a foreign file would run code that it brings, or read files that it names."""


class UnsupportedContentError(ArtifactError):
    """A foreign file means something that cannot be taken over."""


class StorageError(VintixError):
    """Reading or writing failed (disk full, I/O error, no permission); staged work is kept."""

    exit_code = 1


class MissingDependencyError(VintixError):
    """A package, simulator or device is not there."""

    exit_code = 5


class LockedError(VintixError):
    """Another process is writing under the same name."""

    exit_code = 6


class TasksFailedError(VintixError):
    """Some tasks failed while the others were done and kept."""

    exit_code = 7


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


def tasks_failed(
    failed: Mapping[str, VintixError], total: int, *, where: object, fix: str
) -> VintixError:
    """Return the error to raise where tasks failed and what the others did is kept.

    It is a refused write, or the error of a run's only task: each tells more than "some tasks
    failed". Otherwise it is a `TasksFailedError`.
    """
    for name, error in failed.items():
        if total == 1 and error.where is None:
            error.where = f"task {name}"
        if total == 1 or isinstance(error, StorageError):
            return error
    told = TasksFailedError(
        f"{len(failed)} of {total} tasks failed; what the others did is kept",
        where=where,
        expected="every task to be done",
        found="; ".join(f"{name}: {error.message}" for name, error in failed.items()),
        fix=fix,
    )
    for error in failed.values():
        for note in getattr(error, "__notes__", ()):
            told.add_note(note)
    return told


class InterruptedRunError(Reported):
    """The run was interrupted by a signal; durable work is kept and resumable.

    No `Exception`, like `KeyboardInterrupt`: it may be raised between any two lines, and a handler
    that takes whatever a plugin or a library raises must not take it for their fault.
    """

    exit_code = 130

    def __init__(self, message: str, *, signal_number: int = 2, **details: object) -> None:
        super().__init__(message, **details)  # type: ignore[arg-type]
        self.exit_code = 128 + signal_number
