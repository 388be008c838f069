"""The ``vintix`` command."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from vintix_cli.commands import (
    artifacts,
    doctor,
    hub,
    interchange,
    quickstart,
    report,
    rollout,
    stages,
    tasks,
)
from vintix_cli.help import WIDTH, Command, Group, examples
from vintix_cli.render import print_error
from vintix_cli.run import report_usage
from vintix_cli.streams import end_streams, open_streams

app = typer.Typer(
    name="vintix",
    cls=Group,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDTH},
)

# Typer exports this one of its parser's errors; its base stands for all of them.
_PARSER_ERROR: Any = typer.BadParameter.__base__

_STAGES, _AROUND = "The five stages", "Around them"

for name in ("demonstrators", "distill", "pack", "train"):
    add = app.command(name, cls=Command, epilog=stages.EPILOGS[name], rich_help_panel=_STAGES)
    add(getattr(stages, name))
for module in (rollout, quickstart, tasks, doctor):
    name = module.__name__.rpartition(".")[2]
    panel = _STAGES if module is rollout else _AROUND
    add = app.command(name, cls=Command, epilog=module.EPILOG, rich_help_panel=panel)
    add(getattr(module, name))
for name, epilog in (("push", hub.PUSH_EPILOG), ("pull", hub.PULL_EPILOG)):
    add = app.command(name, cls=Command, epilog=epilog, rich_help_panel=_AROUND)
    add(getattr(hub, name))
for name, group in (
    ("artifacts", artifacts.app),
    ("report", report.app),
    ("import", interchange.import_app),
    ("export", interchange.export_app),
):
    app.add_typer(group, name=name, rich_help_panel=_AROUND)


def _version(wanted: bool) -> None:
    if wanted:
        from pipelines import __version__

        typer.echo(f"vintix {__version__}")
        raise typer.Exit


@app.callback(
    epilog=examples(
        "vintix quickstart", "vintix tasks", "vintix distill --help", title="Start here"
    )
)
def _main(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_version, is_eager=True),
    ] = False,
    debug: Annotated[
        bool,
        typer.Option("--debug", help="Show tracebacks; also after COMMAND.", envvar="VINTIX_DEBUG"),
    ] = False,
) -> None:
    """In-context reinforcement learning, end to end.

    Five stages, each from artifact to artifact: demonstrators, distill, pack, train, rollout.
    Running a command again continues what was interrupted, or says that it is up to date.
    """
    if debug:
        os.environ["VINTIX_DEBUG"] = "1"


def main() -> None:
    """Run the command line; ``--debug`` counts wherever it stands."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    if len(arguments) < len(sys.argv) - 1:
        arguments.insert(0, "--debug")
    open_streams()
    code = run(arguments)
    refused = end_streams()
    if refused is not None and code == 0:
        print_error(refused)
        code = refused.exit_code
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run a command in this process; returns its exit code."""
    try:
        return app(args=list(arguments), standalone_mode=False) or 0
    except _PARSER_ERROR as error:
        return report_usage(error, arguments, as_json="--json" in arguments)
