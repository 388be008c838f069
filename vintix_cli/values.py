"""The values that options can take: for the shell's completion, for help and for hints.

No simulator, torch or zarr is imported for them: a shell asks at every press of a key.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping

import typer

from pipelines.errors import VintixError

Values = Callable[[typer.Context, str], Iterable[str]]


def tasks(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the names of all tasks and variations."""
    from pipelines.domains.registry import full_catalogue

    catalogue = full_catalogue()
    return [task.name for task in (*catalogue.tasks, *catalogue.variations)]


def domains(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    """Return the names of the domains that have tasks."""
    from pipelines.domains.registry import full_catalogue

    return full_catalogue().domains


def groups(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    """Return the names of the encoder groups."""
    from pipelines.domains.registry import full_catalogue

    return full_catalogue().groups()


def splits(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    """Return the names of the splits."""
    from pipelines.tasks.spec import SPLITS

    return SPLITS


def kinds(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    """Return the kinds of artifact."""
    from pipelines.artifacts.schema import SCHEMA_VERSIONS

    return SCHEMA_VERSIONS


def references(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return a reference with its kind to each artifact of the workspace."""
    found = kinds(ctx, incomplete)
    return [f"{kind}/{name}" for kind in found for name in artifacts(kind)(ctx, "")]


def artifacts(*wanted: str) -> Values:
    """Return what lists the artifacts of some kinds, with their versions after an ``@``."""

    def names(ctx: typer.Context, incomplete: str) -> Iterable[str]:
        from pipelines.artifacts.workspace import Workspace, packaged

        found: dict[str, None] = {}
        # A workspace that cannot be read is an error of the command itself.
        with contextlib.suppress(VintixError):
            for space in (Workspace.resolve(ctx.params.get("workspace")), packaged()):
                for kind in wanted:
                    for name in space.names(kind):
                        versions = space.versions(kind, name) if "@" in incomplete else ()
                        found |= dict.fromkeys([name, *(f"{name}@v{each}" for each in versions)])
        return found

    return names


def fixed(*choices: str) -> Values:
    """Return what lists these values."""

    def values(ctx: typer.Context, incomplete: str) -> Iterable[str]:
        return choices

    return values


def score_references(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    """Return the names of the score references."""
    from pipelines.tasks.spec import REFERENCES

    return REFERENCES


def assignments(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the settings of the command's stage as ``--set`` takes them."""
    from pipelines.config import config_class

    stage = str(ctx.command.name)
    return [f"{stage}.{field}=" for field in config_class(stage).model_fields]


def statistics(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return whose statistics a task without its own can take."""
    named: Iterable[str] = tasks(ctx, incomplete) if incomplete.startswith("task:") else ("",)
    return ["group", "running", *(f"task:{name}" for name in named)]


LISTS: Mapping[str, Values] = {
    each.__name__: each for each in (tasks, domains, splits, statistics, score_references)
}
"""What fields of configurations name as the values of their options, besides kinds of artifact."""
