"""``vintix artifacts``: what is in a workspace."""

from __future__ import annotations

import typer

app = typer.Typer(help="List, show, verify and clean up artifacts.", no_args_is_help=True)
