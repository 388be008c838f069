"""``vintix artifacts``: what is in a workspace."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.text import counted
from vintix_cli import values
from vintix_cli.help import add, group
from vintix_cli.options import Place, Work, check_name, command
from vintix_cli.render import print_json, print_table, print_text, size_text

app = group(
    "List, show, verify, merge and clean up artifacts.",
    "vintix artifacts ls --kind histories",
    "vintix artifacts gc --keep 2 --yes",
)
_ARTIFACT: Any = typer.Argument(
    metavar="ARTIFACT",
    help="KIND/NAME, KIND/NAME@v3 or a path.",
    autocompletion=values.references,
)


@add(app, "vintix artifacts ls", "vintix artifacts ls --json")
@command
def ls(
    place: Place,
    kind: Annotated[
        str | None, typer.Option(help="Of this kind only.", autocompletion=values.kinds)
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of this name only.", callback=check_name)
    ] = None,
) -> None:
    """List published versions, staged work that a command would continue, and packaged models."""
    from pipelines.artifacts.listing import list_artifacts, list_staged
    from pipelines.artifacts.workspace import packaged

    space = place.space
    artifacts = list_artifacts(space, kind, name)
    staged = list_staged(space, kind, name)
    brought = list_artifacts(packaged(), kind, name)
    if place.json:
        print_json({"artifacts": artifacts, "staged": staged, "packaged": brought})
        return
    rows = []
    for row in (*brought, *artifacts):
        made_from = "comes with vintix" if row in brought else ", ".join(row["parents"])
        digest, created = (row["digest"] or "damaged")[:12], row["created"] or ""
        rows.append(_row(row, f"{row['name']}@v{row['version']}", digest, created, made_from))
    for row in staged:
        made_from = f"{row['units_done']} units done"
        made_from += f", held by {row['held_by']}" if row["held_by"] else ""
        rows.append(_row(row, row["name"], "staged", row["modified"], made_from))
    if rows:
        print_table(rows)
    if not artifacts and not staged:
        print_text(f"nothing in {space.root} yet; begin with vintix quickstart")


def _row(
    found: dict[str, Any], artifact: str, digest: str, created: str, made_from: str
) -> dict[str, Any]:
    return {
        "kind": found["kind"],
        "artifact": artifact,
        "size": size_text(found["size_bytes"]),
        "digest": digest,
        "created": created[:19].replace("T", " "),
        "made_from": made_from,
    }


@add(
    app,
    "vintix artifacts show datasets/quickstart",
    "vintix artifacts show checkpoints/quickstart@v1 --json",
)
@command
def show(place: Place, reference: Annotated[str, _ARTIFACT]) -> None:
    """Show where an artifact came from and what it holds."""
    import yaml

    from pipelines.artifacts.listing import show_artifact

    document = show_artifact(place.space.locate(reference))
    if place.json:
        print_json(document)
        return
    manifest = document["manifest"]
    files, fingerprints = manifest.pop("files"), manifest.pop("fingerprints")
    print_text(f"{document['reference']}  {document['path']}")
    print_text(f"configuration {document['configuration']}")
    print_text(
        f"{counted(len(files), 'file')}, {size_text(document['size_bytes'])}; "
        f"fingerprints of {counted(len(fingerprints), 'environment')} (--json shows them)"
    )
    for line in yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True).rstrip().split("\n"):
        print_text(line)


@add(app, "vintix artifacts verify rollouts/quickstart", "vintix artifacts verify --all --deep")
@command
def verify(
    work: Work,
    reference: Annotated[str | None, _ARTIFACT] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every artifact.")] = False,
    deep: Annotated[
        bool, typer.Option(help="Also decode every array and check its values.")
    ] = False,
) -> None:
    """Compare artifacts with their manifests, byte by byte; exit code 4 if one is damaged."""
    from pipelines.artifacts.listing import list_artifacts
    from pipelines.artifacts.verify import verify as check
    from pipelines.errors import ArtifactCorruptError, UsageError

    if everything == (reference is not None):
        raise UsageError(
            "say which artifact",
            expected="a reference, or --all",
            fix="vintix artifacts verify --all" if reference is None else "leave --all out",
        )
    if everything:
        paths = [Path(row["path"]) for row in list_artifacts(work.space)]
    else:
        paths = [work.space.locate(str(reference))]
    problems = [
        {"artifact": str(path), **problem.as_dict()}
        for path in paths
        for problem in check(path, deep=deep, reporter=work.reporter)
    ]
    work.reporter.end()
    if work.json:
        print_json({"checked": [str(path) for path in paths], "problems": problems})
    elif problems:
        print_table(problems)
    else:
        print_text(f"intact: {counted(len(paths), 'artifact')}")
    if problems:
        error = ArtifactCorruptError(
            f"{counted(len(problems), 'problem')} in {counted(len(paths), 'artifact')}",
            where=f"{problems[0]['artifact']}/{problems[0]['path']}",
            expected=problems[0]["expected"],
            found=problems[0]["found"],
            fix="restore the files from a copy, or delete the version and run its stage again",
        )
        if work.json:
            # The document above already says everything; only the exit code is missing.
            raise typer.Exit(error.exit_code)
        raise error


@add(
    app,
    "vintix artifacts merge hopper",
    "vintix artifacts merge parts/hopper-1-of-2 parts/hopper-2-of-2 --name joined",
)
@command
def merge(
    work: Work,
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
            callback=check_name,
        ),
    ] = None,
) -> None:
    """Join the parts that vintix distill --shard made into one history.

    Each file is checked against its part's manifest. The history equals the one that a single
    machine collects; the parts are no longer needed then.
    """
    from pipelines.distill.merge import merge as join
    from vintix_cli.commands.stages import print_result, show_histories

    print_result(join(parts, work.space, work.reporter, name), work, show_histories)


@add(app, "vintix artifacts gc --keep 2", "vintix artifacts gc --keep 2 --older-than-days 7 --yes")
@command
def gc(
    work: Work,
    keep: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Versions to keep of each name, the newest; default all.",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete what is else only listed.")] = False,
    staging: Annotated[bool, typer.Option(help="List staged work that no process holds.")] = True,
    older_than_days: Annotated[
        float | None, typer.Option(min=0, max=36_500, help="Leave alone what is younger.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Delete nothing.")] = False,
) -> None:
    """Delete what killed processes left; list staged work and, with --keep, old versions.

    With --yes these are deleted, too. Staged work is what an interrupted command goes on from when
    it is run again. A version is needed by a process that reads it, by staged work, and by a kept
    artifact that was made from it.
    """
    from pipelines.artifacts.gc import collect, plan_gc

    age = None if older_than_days is None else timedelta(days=older_than_days)
    plan = plan_gc(work.space, keep=keep, staging=staging, older_than=age)
    chosen, candidates = plan.leftovers, plan.staged + plan.versions
    if dry_run:
        chosen, candidates = [], chosen + candidates
    elif yes:
        chosen, candidates = chosen + candidates, []
    removed, in_use = collect(work.space, chosen)
    kept = plan.kept + in_use
    if work.json:
        lists = {"removed": removed, "candidates": candidates, "kept": kept}
        print_json({key: [entry.as_dict() for entry in entries] for key, entries in lists.items()})
        return
    shown = {"deleted": removed, "would be deleted": candidates, "kept": [] if work.quiet else kept}
    rows = [
        {"path": entry.path, "size": size_text(entry.bytes), "done": done, "why": entry.why}
        for done, entries in shown.items()
        for entry in entries
    ]
    if rows:
        print_table(rows)
    if not dry_run:
        print_text(f"freed {size_text(sum(entry.bytes for entry in removed))}")
    if candidates:
        would = size_text(sum(entry.bytes for entry in candidates))
        print_text(f"would free {would}" + ("" if dry_run else " more with --yes"))
