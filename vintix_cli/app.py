"""The ``vintix`` command."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from vintix_cli.commands import (
    artifacts,
    demonstrators,
    distill,
    doctor,
    pack,
    quickstart,
    rollout,
    tasks,
    train,
)

app = typer.Typer(
    name="vintix",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

_STAGES, _AROUND = "The five stages", "Around them"

app.command("demonstrators", epilog=demonstrators.EPILOG, rich_help_panel=_STAGES)(
    demonstrators.demonstrators
)
app.command("distill", epilog=distill.EPILOG, rich_help_panel=_STAGES)(distill.distill)
app.command("pack", epilog=pack.EPILOG, rich_help_panel=_STAGES)(pack.pack)
app.command("train", epilog=train.EPILOG, rich_help_panel=_STAGES)(train.train)
app.command("rollout", epilog=rollout.EPILOG, rich_help_panel=_STAGES)(rollout.rollout)
app.command("quickstart", epilog=quickstart.EPILOG, rich_help_panel=_AROUND)(quickstart.quickstart)
app.command("tasks", epilog=tasks.EPILOG, rich_help_panel=_AROUND)(tasks.tasks)
app.add_typer(artifacts.app, name="artifacts", rich_help_panel=_AROUND)
app.command("doctor", epilog=doctor.EPILOG, rich_help_panel=_AROUND)(doctor.doctor)


def _version(wanted: bool) -> None:
    if wanted:
        from pipelines import __version__

        typer.echo(f"vintix {__version__}")
        raise typer.Exit


@app.callback(epilog="Start here:  vintix quickstart  ·  vintix tasks  ·  vintix COMMAND --help")
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
    app(args=arguments)
