"""The stage ``demonstrators``: get an expert policy for each task and measure it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.demonstrators.experts import expert_training, train_settings
from pipelines.demonstrators.selection import Selection, plan, select, skipped_note
from pipelines.errors import UsageError, tasks_failed
from pipelines.learners.settings import EPISODE_LEARNERS
from pipelines.parallel import Outcome, run_parallel
from pipelines.stage import StageResult
from pipelines.text import counted

if TYPE_CHECKING:
    from pipelines.artifacts.artifact import Artifact
    from pipelines.artifacts.staging import Staging
    from pipelines.artifacts.workspace import Workspace
    from pipelines.demonstrators.config import DemonstratorsConfig
    from pipelines.demonstrators.evaluate import Evaluation, Evaluator
    from pipelines.demonstrators.reader import Demonstrator
    from pipelines.policies.base import PolicySpec
    from pipelines.reporter import Advance, Reporter
    from pipelines.tasks.spec import ScoreReference, TaskSpec

__all__ = ["plan", "run"]


@dataclass(frozen=True, slots=True)
class _Job:
    task: TaskSpec
    options: dict[str, Any]
    training_options: dict[str, Any]
    config: DemonstratorsConfig
    staging: Path
    measured: Demonstrator | None
    builtin: PolicySpec | None


def run(config: DemonstratorsConfig, workspace: Workspace, reporter: Reporter) -> StageResult:
    """Get a demonstrator for each chosen task, measure it and random play, and publish them.

    Args:
        reporter: Told of progress and of tasks that are left out.

    Returns:
        The published artifact; its report has a row for each task and the tasks left out.

    Raises:
        UsageError: A task, domain or option is unknown, or the source has nothing for a task.
        ConfigError: The settings of training or a policy do not fit.
        ArtifactError: An imported file is missing, damaged, or does not fit the task.
        TasksFailedError: Some tasks failed; the others are kept.
        StorageError: The workspace cannot be written; finished tasks are kept.
        InterruptedRunError: A signal came; finished tasks and checkpoints are kept.
        LockedError: Another process writes under the name.
    """
    selection = select(config, workspace)
    reporter.info(f"demonstrators of {counted(len(selection.tasks), 'task')} as {selection.name}")
    if selection.skipped:
        reporter.warn(skipped_note(config, selection.skipped))
    policies = _builtin_policies(config, selection)
    with workspace.stage(
        "demonstrators",
        selection.name,
        config=_artifact_config(config, selection, policies),
        parents=[selection.measured] if selection.measured else [],
        seeds={"seed": config.seed},
    ) as staging:
        if staging.published is not None:
            return _result(staging.published, selection, up_to_date=True)
        reporter.info(staging.place())
        _make_all(config, selection, policies, staging, reporter)
        rows = [staging.data(task.name) for task in selection.tasks]
        artifact = staging.publish(
            summary={"tasks": [row["report"] for row in rows]},
            work_items=[task.name for task in selection.tasks],
            fingerprints={
                task.name: row["fingerprint"]
                for task, row in zip(selection.tasks, rows, strict=True)
            },
            packages=_packages(config, selection),
        )
    return _result(artifact, selection, up_to_date=False)


def _make_all(
    config: DemonstratorsConfig,
    selection: Selection,
    policies: dict[str, PolicySpec],
    staging: Staging,
    reporter: Reporter,
) -> None:
    jobs = [
        _Job(
            task=task,
            options=selection.options_of(task),
            training_options=_training_options(config, selection, task),
            config=config,
            staging=staging.directory,
            measured=_measured(selection, task),
            builtin=policies.get(task.name),
        )
        for task in selection.tasks
        if not staging.done(task.name)
    ]
    if len(jobs) < len(selection.tasks):
        reporter.info(f"done already: {counted(len(selection.tasks) - len(jobs), 'task')}")

    def warn_of(index: int, outcome: Outcome[None]) -> None:
        if outcome.error is not None:
            reporter.warn(f"{jobs[index].task.name} failed: {outcome.error.message}")

    outcomes = run_parallel(
        _make_one,
        jobs,
        config.workers,
        reporter,
        label="demonstrators",
        # Episodes, and as much again for training.
        total=len(jobs) * 2 * config.episodes * (2 if selection.training else 1),
        on_done=warn_of,
    )
    failed = {
        job.task.name: outcome.error
        for job, outcome in zip(jobs, outcomes, strict=True)
        if outcome.error is not None
    }
    if failed:
        raise tasks_failed(
            failed,
            len(selection.tasks),
            where=staging.directory,
            fix="put the cause right and run the same command again: it goes on from there",
        )


def _make_one(job: _Job, advance: Advance) -> None:
    """Get, measure and write the demonstrator of one task; runs in a worker."""
    from pipelines.artifacts.work import SCRATCH, WorkItem
    from pipelines.demonstrators.evaluate import Evaluator
    from pipelines.domains.registry import domain_of, resolve_options
    from pipelines.playing.fingerprint import fingerprint
    from pipelines.policies.storage import policy_attributes, save_policy

    task, config = job.task, job.config
    domain = domain_of(task)
    evaluator = Evaluator(
        task,
        domain,
        job.options,
        config.seed,
        per_episode_copies=domain.fixes_goals or job.options != resolve_options(domain, {}),
    )
    logs: dict[str, bytes] = {}

    def played(amount: float = 1) -> None:
        """Count the shares of an episode that steps are."""
        advance(amount / task.horizon)

    with evaluator:
        spec, source = _policy(job, evaluator, job.staging / SCRATCH / task.name, advance, logs)
        random = evaluator.random(config.episodes, played)
        expert = evaluator.policy(spec, config.episodes, advance=played)
    card = score_card(random, expert, task.scores.get("paper"))
    with WorkItem(job.staging, task.name) as unit:
        unit.group(
            task.name,
            {
                "task": task.as_json(),
                "policy": policy_attributes(spec),
                "source": source,
                "options": job.options,
                "card": card,
            },
        )
        save_policy(unit.group(f"{task.name}/policy", {}), spec)
        _save_evaluation(unit.group(f"{task.name}/evaluation"), random, expert)
        for name, content in logs.items():
            unit.write_log(name, content)
        unit.data["fingerprint"] = fingerprint(task, job.options)
        unit.data["report"] = {
            "name": task.name,
            "domain": task.domain,
            "source": source["kind"],
            "policy": spec.kind,
            **card,
        }


def _policy(
    job: _Job, evaluator: Evaluator, scratch: Path, advance: Advance, logs: dict[str, bytes]
) -> tuple[PolicySpec, dict[str, Any]]:
    """Return the policy of a job and where it came from, both JSON and the same on each run."""
    task, config = job.task, job.config
    if job.measured is not None:
        return job.measured.spec, job.measured.source
    if config.source == "import":
        return _imported(config, evaluator)
    if config.source == "train":
        from pipelines.demonstrators.train import train_policy

        settings = train_settings(config.train, task)
        share = 2 * config.episodes / settings.total_steps
        trained = train_policy(
            settings,
            evaluator,
            job.training_options,
            scratch,
            lambda steps=1: advance(share * steps),
        )
        lines = [json.dumps({"seconds": round(each, 3)}) for each in trained.seconds]
        logs[f"training-{task.name}.jsonl"] = ("\n".join(lines) + "\n").encode()
        return trained.policy, {
            "kind": "train",
            "settings": settings.model_dump(mode="json"),
            "steps": trained.steps,
            "curve": [list(point) for point in trained.curve],
        }
    if job.builtin is None:
        raise _no_builtin(task)
    source = {"kind": "builtin", "policy": job.builtin.kind}
    training = expert_training(task)
    return job.builtin, source if training is None else {**source, "training": training}


def _imported(
    config: DemonstratorsConfig, evaluator: Evaluator
) -> tuple[PolicySpec, dict[str, Any]]:
    from pipelines.demonstrators.importer import file_digest, import_policy

    if config.import_path is None:
        raise UsageError("An import needs a file.", fix="vintix demonstrators --path MODEL.zip")
    spec = import_policy(
        config.import_path,
        evaluator.task,
        evaluator.actions(),
        normalization_path=config.normalization_path,
        activation=config.activation,
    )
    source = {
        "kind": "import",
        "file": config.import_path.name,
        "sha256": file_digest(config.import_path),
    }
    if config.normalization_path is not None:
        source["normalization"] = config.normalization_path.name
        source["normalization_sha256"] = file_digest(config.normalization_path)
    return spec, source


def _measured(selection: Selection, task: TaskSpec) -> Demonstrator | None:
    """Return the demonstrator to measure again, its source saying so; None where there is none."""
    from pipelines.demonstrators.reader import load_demonstrator

    if selection.measured is None:
        return None
    found = load_demonstrator(selection.measured, task.name)
    return replace(found, source={**found.source, "measured_again": selection.measured.digest})


def _training_options(
    config: DemonstratorsConfig, selection: Selection, task: TaskSpec
) -> dict[str, Any]:
    from pipelines.domains.goals import shown_to_learners
    from pipelines.domains.registry import domain_of, resolve_options

    settings = train_settings(config.train, task)
    given = {**selection.options_of(task), **settings.environment_options}
    return shown_to_learners(resolve_options(domain_of(task), given))


def _artifact_config(
    config: DemonstratorsConfig, selection: Selection, policies: dict[str, PolicySpec]
) -> dict[str, Any]:
    """Return what decides the content: no paths, no worker count, the selection spelled out."""
    from pipelines.demonstrators.importer import file_digest
    from pipelines.policies.storage import arrays_digest, policy_attributes

    resolved: dict[str, Any] = {
        "seed": config.seed,
        "tasks": [task.name for task in selection.tasks],
        "episodes": config.episodes,
        "options": dict(selection.options),
        "source": "evaluate" if selection.measured else config.source,
    }
    if selection.training:
        resolved["train"] = _settings_json(config, selection)
    if selection.measured is None and config.import_path is not None:
        resolved["import"] = {
            "sha256": file_digest(config.import_path),
            "normalization_sha256": None
            if config.normalization_path is None
            else file_digest(config.normalization_path),
            "activation": config.activation,
        }
    if policies:
        # A better expert in a later release is other work, not "up to date".
        resolved["policies"] = {
            name: {**policy_attributes(spec), "arrays": arrays_digest(spec)}
            for name, spec in policies.items()
        }
    return resolved


def _settings_json(config: DemonstratorsConfig, selection: Selection) -> dict[str, Any]:
    """Return the settings of all tasks, by task where they are not the same for all."""
    settings = {
        task.name: train_settings(config.train, task).model_dump(mode="json")
        for task in selection.tasks
    }
    first, *others = settings.values()
    return {"by_task": settings} if any(each != first for each in others) else first


def _builtin_policies(config: DemonstratorsConfig, selection: Selection) -> dict[str, PolicySpec]:
    from pipelines.demonstrators.experts import builtin_policy
    from pipelines.domains.registry import domain_of

    if selection.measured is not None or config.source != "builtin":
        return {}
    policies = {}
    for task in selection.tasks:
        spec = builtin_policy(task, domain_of(task), selection.options_of(task))
        if spec is None:
            raise _no_builtin(task)
        policies[task.name] = spec
    return policies


def _no_builtin(task: TaskSpec) -> UsageError:
    return UsageError(
        f"There is no demonstrator built in for the task {task.name}.",
        fix=f"vintix demonstrators --source train --task {task.name}",
    )


def score_card(
    random: Evaluation, expert: Evaluation, paper: ScoreReference | None
) -> dict[str, Any]:
    """Return both returns and, where the paper has the task, how they compare with its own."""
    card: dict[str, Any] = {"random": random.summary(), "expert": expert.summary(), "paper": None}
    if paper is not None:
        card["paper"] = {
            "random": paper.random,
            "expert": paper.expert,
            "normalized_random": paper.normalize(card["random"]["mean"]),
            "normalized_expert": paper.normalize(card["expert"]["mean"]),
        }
    return card


def _save_evaluation(group: Any, random: Evaluation, expert: Evaluation) -> None:
    from pipelines.artifacts.arrays import write_array

    for label, evaluation in (("random", random), ("expert", expert)):
        write_array(group, f"{label}_return", evaluation.returns_E)
        write_array(group, f"{label}_length", evaluation.lengths_E)
        if evaluation.success_E is not None:
            write_array(group, f"{label}_success", evaluation.success_E)


def _packages(config: DemonstratorsConfig, selection: Selection) -> list[str]:
    from pipelines.domains.registry import simulator_packages

    names = simulator_packages(selection.tasks)
    algorithms = {train_settings(config.train, task).algorithm for task in selection.tasks}
    if selection.training and not algorithms <= set(EPISODE_LEARNERS):
        names |= {"stable-baselines3", "sb3-contrib", "torch"}
    return sorted(names)


def _result(artifact: Artifact, selection: Selection, *, up_to_date: bool) -> StageResult:
    report = {
        "artifact": artifact.reference,
        "digest": artifact.digest,
        "tasks": artifact.manifest.summary["tasks"],
        "skipped": list(selection.skipped),
    }
    return StageResult(artifact=artifact, up_to_date=up_to_date, report=report)
