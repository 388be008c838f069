"""Which tasks a distillation is of, and where their demonstrators come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipelines.demonstrators.reader import demonstrator_tasks
from pipelines.errors import ArtifactMissingError, UsageError
from pipelines.text import counted, listed

if TYPE_CHECKING:
    from pipelines.artifacts.artifact import Artifact
    from pipelines.artifacts.workspace import Workspace
    from pipelines.demonstrators.config import DemonstratorsConfig
    from pipelines.distill.config import DistillConfig
    from pipelines.tasks.registry import Catalogue
    from pipelines.tasks.spec import TaskSpec


def builtin_demonstrators(
    config: DistillConfig, workspace: Workspace
) -> DemonstratorsConfig | None:
    """Return how to get the package's own demonstrators, where the workspace has none of the tasks.

    They are made by `pipelines.demonstrators.stage.run` first; not without a choice of tasks, which
    would be days of work, and not by shards, several of which would do it at the same time.

    Returns:
        None where a demonstrators artifact is named, holds one of the tasks, or has to be there,
        the package having none.
    """
    from pipelines.demonstrators.config import DemonstratorsConfig
    from pipelines.demonstrators.experts import has_builtin
    from pipelines.domains.registry import domain_of, full_catalogue

    chosen = config.tasks or config.domains
    if not chosen or config.demonstrators is not None or config.shard is not None:
        return None
    selected = list(full_catalogue().select(tasks=config.tasks, domains=config.domains))
    served = [spec for spec in selected if has_builtin(spec, domain_of(spec))]
    if not served or (config.tasks and len(served) < len(selected)):
        return None
    wanted = {spec.name for spec in selected}
    if any(
        wanted.intersection(demonstrator_tasks(artifact))
        for artifact in workspace.artifacts("demonstrators")
    ):
        return None
    return DemonstratorsConfig(
        tasks=config.tasks, domains=config.domains, options=config.options, workers=config.workers
    )


def choose_demonstrators(
    config: DistillConfig, workspace: Workspace, catalogue: Catalogue
) -> tuple[Artifact, list[str], list[str]]:
    """Return the demonstrators artifact, the tasks to distill, and notes on what is left out.

    Raises:
        UsageError: The selection is empty.
        ArtifactMissingError: Tasks have no demonstrator.
        MissingDependencyError: They have none, and their simulator is not there either.
    """
    from pipelines.domains.registry import check_simulators

    if not config.tasks and not config.domains:
        artifact = workspace.find("demonstrators", config.demonstrators)
        held = set(demonstrator_tasks(artifact))
        ordered = [spec.name for spec in (*catalogue.tasks, *catalogue.variations)]
        # An unknown name comes last; the catalogue refuses it.
        names = [name for name in ordered if name in held] + sorted(held - set(ordered))
        return artifact, names, []
    wanted = [spec.name for spec in catalogue.select(tasks=config.tasks, domains=config.domains)]
    if not wanted:
        raise UsageError(
            "the selection is empty: none of these tasks is of these domains",
            found=", ".join((*config.tasks, *config.domains)),
            fix="vintix tasks",
        )
    damaged: list[str] = []
    if config.demonstrators is not None:
        candidates = [workspace.find("demonstrators", config.demonstrators)]
    else:
        candidates = sorted(
            workspace.artifacts("demonstrators", damaged),
            key=lambda artifact: artifact.manifest.created_at,
            reverse=True,
        )
    found = [
        (artifact, [name for name in wanted if name in held])
        for artifact in candidates
        for held in [set(demonstrator_tasks(artifact))]
    ]
    notes = [f"left out, as it is damaged: {each} (vintix artifacts verify)" for each in damaged]
    domains = {catalogue.get(name).domain for name in wanted}
    for artifact, names in found:
        if names == wanted:
            return artifact, wanted, notes
    for artifact, names in found if not config.tasks else ():
        # A whole domain was asked for: what there is of it is what can be distilled.
        if {catalogue.get(name).domain for name in names} == domains:
            note = (
                f"left out, as {artifact.reference} has no demonstrator for it: "
                f"{len(wanted) - len(names)} of {counted(len(wanted), 'task')}"
            )
            return artifact, names, [*notes, note]
    # Where a simulator is missing, demonstrators cannot be made: that is what is wrong.
    check_simulators((catalogue.get(name) for name in wanted), config.options)
    most = max((names for _, names in found), key=len, default=[])
    missing = [name for name in wanted if name not in most]
    raise ArtifactMissingError(
        f"{len(missing)} of the selected tasks have no demonstrator"
        if len(missing) > 1
        else f"task {missing[0]} has no demonstrator",
        where=config.demonstrators or workspace.root,
        expected="one demonstrators artifact with " + listed(wanted),
        found="none with " + listed(missing),
        fix=_command(config, [catalogue.get(name) for name in wanted]),
    )


def _command(config: DistillConfig, wanted: Sequence[TaskSpec]) -> str:
    """Return the command that gets an artifact with demonstrators of all wanted tasks.

    Of a whole domain, what the package has of it is enough.
    """
    from pipelines.demonstrators.experts import has_builtin
    from pipelines.domains.registry import domain_of

    served = [has_builtin(spec, domain_of(spec)) for spec in wanted]
    whole = bool(config.domains) and not config.tasks
    enough = any(served) if whole else all(served)
    selection = (
        [f"--domain {name}" for name in config.domains]
        if whole
        else [f"--task {spec.name}" for spec in wanted]
    )
    return " ".join(["vintix demonstrators", *([] if enough else ["--source train"]), *selection])
