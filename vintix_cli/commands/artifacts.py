"""``vintix artifacts``: what is in a workspace."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from vintix_cli import options, values
from vintix_cli.help import Command, Group, examples
from vintix_cli.render import (
    ConsoleReporter,
    print_json,
    print_table,
    print_text,
    size_text,
)
from vintix_cli.run import command

EPILOG = examples("vintix artifacts ls --kind histories", "vintix artifacts gc --keep 2 --yes")

app = typer.Typer(
    help="List, show, verify, merge and clean up artifacts.",
    cls=Group,
    rich_markup_mode=None,
    epilog=EPILOG,
)

_Kind = Annotated[
    str | None,
    typer.Option(help="Of this kind only.", autocompletion=values.kinds),
]
_Reference = Annotated[
    str,
    typer.Argument(
        metavar="ARTIFACT",
        help="KIND/NAME, KIND/NAME@v3 or a path.",
        autocompletion=values.references,
    ),
]


@app.command(
    "ls", cls=Command, epilog=examples("vintix artifacts ls", "vintix artifacts ls --json")
)
@command
def ls(
    kind: _Kind = None,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of this name only.", callback=options.check_name),
    ] = None,
    workspace: options.Workspace = None,
    json: options.Json = False,
) -> None:
    """List published versions, staged work that a command would continue, and packaged models."""
    from pipelines.artifacts.listing import list_artifacts, list_staged
    from pipelines.artifacts.workspace import packaged

    space = _workspace(workspace)
    artifacts = list_artifacts(space, kind, name)
    staged = list_staged(space, kind, name)
    brought = list_artifacts(packaged(), kind, name)
    if json:
        print_json({"artifacts": artifacts, "staged": staged, "packaged": brought})
        return
    rows: list[dict[str, Any]] = [
        {
            "kind": row["kind"],
            "artifact": f"{row['name']}@v{row['version']}",
            "size": size_text(row["size_bytes"]),
            "digest": (row["digest"] or "damaged")[:12],
            "created": (row["created"] or "")[:19].replace("T", " "),
            "made_from": "comes with vintix" if row in brought else ", ".join(row["parents"]),
        }
        for row in (*brought, *artifacts)
    ]
    rows += [
        {
            "kind": row["kind"],
            "artifact": row["name"],
            "size": size_text(row["size_bytes"]),
            "digest": "staged",
            "created": row["modified"][:19].replace("T", " "),
            "made_from": f"{row['units_done']} units done"
            + (f", held by {row['held_by']}" if row["held_by"] else ""),
        }
        for row in staged
    ]
    if rows:
        print_table(rows)
    if not artifacts and not staged:
        print_text(f"nothing in {space.root} yet; begin with vintix quickstart")


@app.command(
    "show",
    cls=Command,
    epilog=examples(
        "vintix artifacts show datasets/quickstart",
        "vintix artifacts show checkpoints/quickstart@v1 --json",
    ),
)
@command
def show(
    reference: _Reference,
    workspace: options.Workspace = None,
    json: options.Json = False,
) -> None:
    """Show where an artifact came from and what it holds."""
    import yaml

    from pipelines.artifacts.listing import show_artifact

    document = show_artifact(_workspace(workspace).locate(reference))
    if json:
        print_json(document)
        return
    manifest = document["manifest"]
    files = manifest.pop("files")
    fingerprints = manifest.pop("fingerprints")
    print_text(f"{document['reference']}  {document['path']}")
    print_text(
        f"{len(files)} files, {size_text(document['size_bytes'])}; "
        f"fingerprints of {len(fingerprints)} environments (--json shows them)"
    )
    for line in yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True).rstrip().split("\n"):
        print_text(line)


@app.command(
    "verify",
    cls=Command,
    epilog=examples(
        "vintix artifacts verify rollouts/quickstart", "vintix artifacts verify --all --deep"
    ),
)
@command
def verify(
    reference: Annotated[
        str | None,
        typer.Argument(
            metavar="ARTIFACT",
            help="KIND/NAME, KIND/NAME@v3 or a path.",
            autocompletion=values.references,
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every artifact.")] = False,
    deep: Annotated[
        bool, typer.Option(help="Also decode every array and check its values.")
    ] = False,
    workspace: options.Workspace = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Compare artifacts with their manifests, byte by byte; exit code 4 if one is damaged."""
    from pipelines.artifacts.listing import list_artifacts
    from pipelines.artifacts.verify import verify as check
    from pipelines.errors import ArtifactCorruptError, UsageError

    if everything == (reference is not None):
        raise UsageError("say which artifact", expected="a reference, or --all")
    if everything:
        paths = [Path(row["path"]) for row in list_artifacts(_workspace(workspace))]
    else:
        paths = [_workspace(workspace).locate(str(reference))]
    reporter = ConsoleReporter(quiet)
    problems = [
        {"artifact": str(path), **problem.as_dict()}
        for path in paths
        for problem in check(path, deep=deep, reporter=reporter)
    ]
    reporter.end()
    if problems and not json:
        print_table(problems)
    if json:
        print_json({"checked": [str(path) for path in paths], "problems": problems})
    elif not problems:
        print_text(f"intact: {len(paths)} artifact{'s' * (len(paths) != 1)}")
    if problems:
        error = ArtifactCorruptError(
            f"{len(problems)} problems in {len(paths)} artifacts",
            where=f"{problems[0]['artifact']}/{problems[0]['path']}",
            expected=problems[0]["expected"],
            found=problems[0]["found"],
            fix="restore the files from a copy, or delete the version and run its stage again",
        )
        if json:
            # The document above already tells everything; only the exit code is missing.
            raise typer.Exit(error.exit_code)
        raise error


@app.command(
    "merge",
    cls=Command,
    epilog=examples(
        "vintix artifacts merge hopper",
        "vintix artifacts merge parts/hopper-1-of-2 parts/hopper-2-of-2 --name joined",
    ),
)
@command
def merge(
    parts: Annotated[
        list[str],
        typer.Argument(
            metavar="PARTS...",
            help="parts/NAME, parts/NAME@v3 or paths, of all parts; or the name of their history.",
            show_default=False,
            autocompletion=values.artifacts("parts"),
        ),
    ],
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Name of the history; default that of the parts.",
            callback=options.check_name,
        ),
    ] = None,
    workspace: options.Workspace = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Join the parts that vintix distill --shard made into one history.

    Each file is checked against its part's manifest. The history equals the one that a single
    machine collects; the parts are no longer needed then.
    """
    from pipelines.distill.merge import merge as join
    from vintix_cli.commands.distill import show_histories
    from vintix_cli.stages import tell

    reporter = ConsoleReporter(quiet)
    result = join(parts, _workspace(workspace), reporter, name)
    tell(result, reporter, json=json, quiet=quiet, show=show_histories)


@app.command(
    "gc",
    cls=Command,
    epilog=examples(
        "vintix artifacts gc --keep 2", "vintix artifacts gc --keep 2 --older-than-days 7 --yes"
    ),
)
@command
def gc(
    keep: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Versions to keep of each name, the newest; default all. Others are listed, and "
            "deleted with --yes.",
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Delete the versions that --keep lists.")
    ] = False,
    staging: Annotated[bool, typer.Option(help="Delete staged work that no process holds.")] = True,
    older_than_days: Annotated[
        float | None, typer.Option(min=0, max=36_500, help="Leave alone what is younger.")
    ] = None,
    workspace: options.Workspace = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list.")] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Delete abandoned work and, with --keep and --yes, old versions that nothing needs.

    A version is needed by a process that reads it, by staged work, and by a kept artifact that was
    made from it.
    """
    from pipelines.artifacts.gc import collect, plan_gc

    space = _workspace(workspace)
    age = None if older_than_days is None else timedelta(days=older_than_days)
    plan = plan_gc(space, keep=keep, staging=staging, older_than=age)
    chosen, candidates = plan.leftovers, plan.versions
    if dry_run:
        chosen, candidates = [], chosen + candidates
    elif yes:
        chosen, candidates = chosen + candidates, []
    removed, in_use = collect(space, chosen)
    kept = plan.kept + in_use
    if json:
        told = {"removed": removed, "candidates": candidates, "kept": kept}
        print_json({key: [entry.as_dict() for entry in entries] for key, entries in told.items()})
        return
    rows = [("deleted", entry) for entry in removed]
    rows += [("would be deleted", entry) for entry in candidates]
    rows += [("kept", entry) for entry in ([] if quiet else kept)]
    if rows:
        print_table(
            [
                {"path": entry.path, "size": size_text(entry.bytes), "done": done, "why": entry.why}
                for done, entry in rows
            ]
        )
    if not dry_run:
        print_text(f"freed {size_text(sum(entry.bytes for entry in removed))}")
    if candidates:
        would = size_text(sum(entry.bytes for entry in candidates))
        print_text(f"would free {would}" + ("" if dry_run else " more with --yes"))


def _workspace(option: Path | None) -> Any:
    from pipelines.artifacts.workspace import Workspace

    return Workspace.resolve(option)
