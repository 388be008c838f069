"""Which tasks a run is about, and what it will cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.demonstrators.experts import has_builtin, train_settings
from pipelines.demonstrators.reader import demonstrator_tasks, load_demonstrator
from pipelines.errors import ConfigError, UsageError
from pipelines.learners.settings import check_learner, training_rate
from pipelines.stage import JOB_SECONDS, Plan, default_name, run_seconds
from pipelines.text import counted, listed

if TYPE_CHECKING:
    from pipelines.artifacts.artifact import Artifact
    from pipelines.artifacts.workspace import Workspace
    from pipelines.demonstrators.config import DemonstratorsConfig
    from pipelines.tasks.spec import TaskSpec

_BYTES_OF_A_TASK = 16 * 1024


@dataclass(frozen=True, slots=True)
class Selection:
    """What a run is about.

    Attributes:
        options: Values of all options of each domain that takes part, by domain.
        skipped: Tasks of a chosen domain that the source has nothing for.
        measured: The artifact whose policies are measured again, or None.
    """

    name: str
    tasks: tuple[TaskSpec, ...]
    options: Mapping[str, dict[str, Any]]
    skipped: tuple[str, ...]
    measured: Artifact | None
    training: bool = False

    def options_of(self, task: TaskSpec) -> dict[str, Any]:
        """Return the options of a task's environments."""
        return self.options[task.domain]


def select(config: DemonstratorsConfig, workspace: Workspace) -> Selection:
    """Resolve what a configuration chooses.

    Raises:
        UsageError: A task, domain or option is unknown, or the source has nothing for a task.
        ArtifactMissingError: The artifact to be measured again is not there.
        ConfigError: A learner does not learn actions of a task's kind.
        MissingDependencyError: A domain or its simulator is not there.
    """
    from pipelines.domains.registry import check_simulators, full_catalogue, load_domains

    catalogue = full_catalogue()
    measured = workspace.find("demonstrators", config.evaluate) if config.evaluate else None
    named = bool(config.tasks or config.domains)
    chosen = list(catalogue.select(tasks=config.tasks, domains=config.domains))
    explicit = {catalogue.get(name).name for name in config.tasks}
    missing = sorted(explicit - {task.name for task in chosen})
    if missing:
        raise UsageError(
            "The chosen tasks are not in the chosen domains.",
            expected=f"tasks of {', '.join(config.domains)}",
            found=listed(missing),
        )
    if not named:
        # A domain that does not work is no reason to refuse the others.
        usual = {name for name, domain in load_domains().items() if domain.selected_by_default}
        chosen = [task for task in chosen if task.domain in usual]
    served = [task for task in chosen if _serves(config, task, measured)]
    left_out = [task for task in chosen if task not in served]
    refused = [task.name for task in left_out if task.name in explicit]
    if config.options or (measured is None and (refused or not served or config.source == "train")):
        # Where a simulator is missing, no other source would help.
        check_simulators(chosen, config.options)
    if refused or not served:
        raise _refusal(config, refused or [task.name for task in left_out], measured)
    if config.source == "import" and measured is None and len(served) != 1:
        raise UsageError(
            "An imported policy is for one task.",
            expected="one --task",
            found=listed(task.name for task in served),
        )
    training = config.source == "train" and measured is None
    for task in served if training else ():
        check_learner(train_settings(config.train, task), task, "demonstrators.train")
    served.sort(key=lambda task: task.name)
    name = config.name or default_name(
        config.domains, [catalogue.get(t).name for t in config.tasks]
    )
    return Selection(
        name=name,
        tasks=tuple(served),
        options=_options(config, served, measured),
        skipped=tuple(task.name for task in left_out) if named else (),
        measured=measured,
        training=training,
    )


def plan(config: DemonstratorsConfig, workspace: Workspace) -> Plan:
    """Return what a run would do; steps and time are upper bounds, of full-length episodes.

    Raises:
        UsageError, ArtifactMissingError, ConfigError, MissingDependencyError: As `select`.
    """
    from pipelines.domains.registry import domain_of
    from pipelines.hardware import available_cores

    selection = select(config, workspace)
    rows: list[dict[str, Any]] = []
    for task in selection.tasks:
        steps = 2 * config.episodes * task.horizon
        domain = domain_of(task)
        # One for the episodes, one for the fingerprint.
        seconds = 2 * domain.startup_seconds + JOB_SECONDS + steps / domain.rate_of(task)
        if selection.training:
            settings = train_settings(config.train, task)
            steps += settings.total_steps
            seconds += settings.total_steps / training_rate(settings, domain, task)
        rows.append(
            {
                "task": task.name,
                "domain": task.domain,
                "source": "evaluate" if selection.measured else config.source,
                "episodes": 2 * config.episodes,
                "steps": steps,
                "bytes": _BYTES_OF_A_TASK,
                "seconds": round(seconds, 1),
            }
        )
    workers = min(config.workers or available_cores(), len(rows))
    notes = [
        "steps and time assume full-length episodes; time is an estimate from step rates and the "
        "start of processes and environments"
    ]
    if selection.skipped:
        notes.append(skipped_note(config, selection.skipped))
    return Plan(
        rows=rows,
        totals={
            "task": counted(len(rows), "task"),
            "domain": "",
            "source": "",
            "episodes": sum(row["episodes"] for row in rows),
            "steps": sum(row["steps"] for row in rows),
            "bytes": sum(row["bytes"] for row in rows),
            "seconds": round(run_seconds([row["seconds"] for row in rows], workers), 1),
        },
        notes=notes,
    )


def skipped_note(config: DemonstratorsConfig, skipped: tuple[str, ...]) -> str:
    """Say which tasks are left out and how to get them."""
    what = "in the artifact" if config.evaluate else "built in"
    return (
        f"no demonstrator {what} for {len(skipped)} of the chosen tasks: {', '.join(skipped)} "
        f"(vintix demonstrators --source train --task {skipped[0]})"
    )


def _serves(config: DemonstratorsConfig, task: TaskSpec, measured: Artifact | None) -> bool:
    from pipelines.domains.registry import domain_of

    if measured is not None:
        return task.name in demonstrator_tasks(measured)
    return config.source != "builtin" or has_builtin(task, domain_of(task))


def _refusal(
    config: DemonstratorsConfig, names: list[str], measured: Artifact | None
) -> UsageError:
    where = f"artifact {measured.reference}" if measured else f"source {config.source}"
    return UsageError(
        "There is no demonstrator "
        + ("in the artifact" if measured else "built in")
        + " for these tasks.",
        where=where,
        expected="tasks with one",
        found=listed(names) or "no tasks at all",
        fix=f"vintix demonstrators --source train --task {names[0]}" if names else "vintix tasks",
    )


def _options(
    config: DemonstratorsConfig, tasks: list[TaskSpec], measured: Artifact | None
) -> dict[str, dict[str, Any]]:
    """Give each domain those of the given options that it knows; each must be known to one."""
    from pipelines.domains.registry import domain_of, resolve_options, split_options

    domains = {task.domain: domain_of(task) for task in tasks}
    given = split_options(domains.values(), config.options)
    resolved = {}
    for name, domain in domains.items():
        base: dict[str, Any] = {}
        if measured is not None:
            recorded = [
                load_demonstrator(measured, task.name).options
                for task in tasks
                if task.domain == name
            ]
            if any(each != recorded[0] for each in recorded):
                raise ConfigError(
                    "The artifact's tasks were measured under different options.",
                    where=measured.reference,
                    fix="measure them again one --task at a time",
                )
            base = recorded[0]
        resolved[name] = resolve_options(domain, {**base, **given[domain.name]})
    return resolved
