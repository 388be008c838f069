"""The values that options can take: for the shell's completion, for help and for hints.

No simulator, torch or zarr is imported for them: a shell asks at every press of a key.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any

import typer

from pipelines.errors import VintixError

Values = Callable[[typer.Context, str], Iterable[str]]


def fixed(*choices: str) -> Values:
    """Return what lists these values."""
    return lambda ctx, incomplete: choices


def _of(module: str, read: Callable[[Any], Iterable[str]]) -> Values:
    """Return what reads values off a module, which is imported when they are asked for."""
    return lambda ctx, incomplete: read(import_module(module))


def _task_names(registry: Any) -> Iterable[str]:
    catalogue = registry.full_catalogue()
    return [task.name for task in (*catalogue.tasks, *catalogue.variations)]


tasks = _of("pipelines.domains.registry", _task_names)
domains = _of("pipelines.domains.registry", lambda registry: registry.full_catalogue().domains)
groups = _of("pipelines.domains.registry", lambda registry: registry.full_catalogue().groups)
splits = _of("pipelines.tasks.spec", lambda spec: spec.SPLITS)
score_references = _of("pipelines.tasks.spec", lambda spec: spec.REFERENCES)
kinds = _of("pipelines.artifacts.schema", lambda schema: schema.SCHEMA_VERSIONS)


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


def references(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return a reference with its kind to each artifact of the workspace."""
    found = kinds(ctx, incomplete)
    return [f"{kind}/{name}" for kind in found for name in artifacts(kind)(ctx, "")]


def assignments(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the settings of the command's stage as ``--set`` takes them."""
    from pipelines.config import config_class

    stage = str(ctx.command.name)
    return [f"{stage}.{field}=" for field in config_class(stage).model_fields]


def statistics(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return whose statistics a task without its own can take."""
    named = tasks(ctx, incomplete) if incomplete.startswith("task:") else ("",)
    return ["group", "running", *(f"task:{name}" for name in named)]


LISTS: Mapping[str, Values] = {
    "tasks": tasks,
    "domains": domains,
    "splits": splits,
    "statistics": statistics,
    "score_references": score_references,
    "references": references,
}
"""What fields of configurations name as the values of their options, besides kinds of artifact."""
