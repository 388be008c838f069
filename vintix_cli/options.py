"""Options that several commands share, spelled and explained once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.errors import UsageError
from pipelines.nearest import unknown
from vintix_cli import values


def check_name(name: str | None) -> str | None:
    """Return what ``--name`` was given, if an artifact can be called so."""
    from pipelines.artifacts import references

    if name is not None:
        try:
            references.check_name(name)
        except UsageError as error:
            raise typer.BadParameter(f"{error.message}, expected {error.expected}") from error
    return name


_RUN, _SELECT, _OUTPUT = "Run", "Selection", "Output"

Workspace = Annotated[
    Path | None,
    typer.Option(
        metavar="DIRECTORY",
        help="Directory of artifacts; default $VINTIX_WORKSPACE, else ./artifacts.",
        rich_help_panel=_RUN,
    ),
]
Name = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Name of the artifact; default after the selection.",
        callback=check_name,
        rich_help_panel=_RUN,
    ),
]
Seed = Annotated[
    int | None, typer.Option(min=0, help="Base seed of every random stream.", rich_help_panel=_RUN)
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Worker processes; 0 for one a core. Results do not depend on it.",
        rich_help_panel=_RUN,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Run file (YAML) with a section a stage.",
        rich_help_panel=_RUN,
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="STAGE.FIELD=VALUE",
        help="Set any setting, such as train.lr=3e-4.",
        autocompletion=values.assignments,
        rich_help_panel=_RUN,
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the plan and stop.", rich_help_panel=_RUN)
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Fail where an environment is not the one that was recorded.",
        rich_help_panel=_RUN,
    ),
]
Tasks = Annotated[
    list[str] | None,
    typer.Option(
        "--task",
        "-t",
        metavar="TASK",
        help="Task, by name or alias.",
        autocompletion=values.tasks,
        rich_help_panel=_SELECT,
    ),
]
Domains = Annotated[
    list[str] | None,
    typer.Option(
        "--domain",
        "-d",
        metavar="DOMAIN",
        help="Domain; vintix tasks lists them.",
        autocompletion=values.domains,
        rich_help_panel=_SELECT,
    ),
]
EnvironmentOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        "-o",
        metavar="NAME=VALUE",
        help="Option of the environments, such as goal=visible; see vintix tasks NAME.",
        rich_help_panel=_SELECT,
    ),
]
Backend = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Simulator of the environments, for --option backend=NAME: mujoco or isaacgym for "
        "bidexhands.",
        rich_help_panel=_SELECT,
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="One JSON document on stdout and nothing else there.",
        rich_help_panel=_OUTPUT,
    ),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Only warnings and errors.", rich_help_panel=_OUTPUT)
]


def parse_pairs(texts: list[str] | None, option: str = "--option") -> dict[str, str] | None:
    """Read NAME=VALUE texts; None where none were given.

    Raises:
        UsageError: A text has no equals sign or no name.
    """
    if not texts:
        return None
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"malformed {option}", expected="NAME=VALUE", found=text)
        pairs[name.strip()] = value.strip()
    return pairs


def environment_options(
    texts: list[str] | None, backend: str | None = None
) -> dict[str, str] | None:
    """Read ``--option`` and ``--backend``; None where neither was given.

    Raises:
        UsageError: A text is no NAME=VALUE, or the backend is given twice.
    """
    pairs = parse_pairs(texts)
    if backend is None:
        return pairs
    if pairs and "backend" in pairs:
        raise UsageError(
            "the backend is given twice",
            where="--backend and --option",
            found=f"{backend} and {pairs['backend']}",
            fix="leave one of them out",
        )
    return {**(pairs or {}), "backend": backend}


def check_choice(option: str, value: str, choices: tuple[str, ...]) -> None:
    """Check that an option has one of its values.

    Raises:
        UsageError: It has not.
    """
    if value not in choices:
        raise unknown(f"{option} has no such value", value, choices, expected=" or ".join(choices))
