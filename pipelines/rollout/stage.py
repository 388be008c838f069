"""The stage ``rollout``: from checkpoints to ``rollouts`` artifacts, one for each agent.

The tasks are packed into jobs of at most `max_streams` streams, which advance together. A run that
was killed goes on with the first job that is not durable (`pipelines.rollout.jobs` says why). Which
streams share a job follows from the configuration alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.artifacts.workspace import is_packaged
from pipelines.rollout.agents import Agent, baseline_agent, model_agent
from pipelines.rollout.checks import check_fingerprints, warn_of_input
from pipelines.rollout.config import REWARDS, RolloutConfig
from pipelines.rollout.jobs import Job, make_jobs, play_jobs, worker_count
from pipelines.rollout.report import compare_rollouts, plot_artifact, rollout_report
from pipelines.rollout.reward_use import REWARD_USE, check_sees_rewards, reward_use
from pipelines.rollout.scores import part_of
from pipelines.rollout.unseen import foreign_statistics_note
from pipelines.stage import PROCESS_SECONDS, Plan, StageResult

if TYPE_CHECKING:
    from pipelines.artifacts.artifact import Artifact
    from pipelines.artifacts.staging import Staging
    from pipelines.artifacts.workspace import Workspace
    from pipelines.model.saved import SavedModel
    from pipelines.playing.model import Memory
    from pipelines.reporter import NullReporter, Reporter

__all__ = ["plan", "plot_artifact", "rollout_report", "run"]


def run(config: RolloutConfig, workspace: Workspace, reporter: Reporter) -> StageResult:
    """Play the chosen tasks from an empty context and record every return.

    Args:
        config: What to play.
        workspace: Where the checkpoints are and the rollouts artifacts go.
        reporter: Told about progress and doubtful input.

    Returns:
        The first checkpoint's artifact with its report; see `rollout_report`. With further
        checkpoints or baselines, each of which has an artifact too, the report has ``comparison``
        besides (`pipelines.rollout.report.compare_rollouts`), and it is up to date if all are.
        With the suite ``reward-use`` it has ``reward_use`` (`pipelines.rollout.reward_use`).

    Raises:
        UsageError: Unknown tasks, or a changed physics they do not have.
        ConfigError: A checkpoint does not fit the tasks, or, under `strict`, the environments
            differ from those its data came from.
        ArtifactMissingError: There is no such checkpoint or prompt.
        MissingDependencyError: A simulator or the device is not there.
        LockedError: Another process writes under the name.
    """
    first: Agent | None = None
    results = []
    told: set[str] = set()
    for mine, agent in _model_agents(config, workspace):
        newest = config.checkpoint is None and first is None
        if newest and is_packaged(agent.checkpoint):
            reporter.info(
                f"no checkpoint in {workspace.root}: playing {agent.label}, which comes with vintix"
            )
        elif agent.label not in told:
            reporter.info(f"checkpoint {agent.label}" + (", the newest" if newest else ""))
        told.add(agent.label)
        results.append(_roll(mine, agent, workspace, reporter))
        first = first or agent
    for baseline in config.baselines:
        if first is not None:
            agent = baseline_agent(config, baseline, first, workspace, reporter)
            results.append(_roll(config, agent, workspace, reporter))
    main, *others = results
    if not others:
        return main
    artifacts = [each.artifact for each in results]
    report = {**main.report, "comparison": compare_rollouts(artifacts)}
    if config.suite == REWARD_USE:
        report["reward_use"] = reward_use(artifacts)
    return StageResult(main.artifact, all(result.up_to_date for result in results), report)


def _model_agents(
    config: RolloutConfig, workspace: Workspace
) -> Iterator[tuple[RolloutConfig, Agent]]:
    """Yield the agents of the checkpoints, each with what it is to play.

    In the suite `REWARD_USE` each has one for each kind of rewards. They play plain rollouts, so
    that those are found again that were played without the suite.
    """
    settings = [config]
    if config.suite == REWARD_USE:
        settings = [
            config.model_copy(update={"suite": None, "rewards": rewards}) for rewards in REWARDS
        ]
    for reference in (config.checkpoint, *config.also):
        for mine in settings:
            agent = model_agent(mine, workspace, reference)
            if config.suite == REWARD_USE:
                check_sees_rewards(agent.label, agent.model)
            yield mine, agent


def _roll(
    config: RolloutConfig, agent: Agent, workspace: Workspace, reporter: Reporter
) -> StageResult:
    if agent.model is not None:
        warn_of_input(config, agent.model, agent.targets, reporter)
        if agent.absent:
            reporter.warn(
                f"{agent.label} has no group for {len(agent.absent)} tasks of the suite: they are "
                "scored 0, as random play"
            )
    with workspace.stage(
        "rollouts",
        agent.name,
        config=agent.resolved,
        parents=agent.parents,
        seeds={"rollout": config.seed},
    ) as staging:
        published = staging.published
        up_to_date = published is not None
        if published is None:
            reporter.info(staging.place())
            fingerprints = check_fingerprints(
                config, workspace, agent.checkpoint, agent.targets, reporter
            )
            if staging.resumed_items:
                reporter.info(f"going on after {staging.resumed_items} durable blocks")
            units = play_jobs(config, agent, staging, reporter)
            published = _publish(staging, agent, units, fingerprints)
    return StageResult(published, up_to_date, rollout_report(published))


def plan(config: RolloutConfig, workspace: Workspace) -> Plan:
    """Return what `run` would play; steps and seconds are upper bounds.

    Raises:
        UsageError, ConfigError, ArtifactMissingError: As `run`.
    """
    from pipelines.domains.registry import domain_of
    from pipelines.reporter import NullReporter

    silent: NullReporter = NullReporter()
    agents = [agent for _, agent in _model_agents(config, workspace)]
    agents += [
        baseline_agent(config, baseline, agents[0], workspace, silent)
        for baseline in config.baselines
    ]
    rows = [row for agent in agents for row in _plan_rows(config, agent, several=len(agents) > 1)]
    jobs = [make_jobs(config, agent) for agent in agents]
    workers = [worker_count(config, mine) for mine in jobs]
    seconds = sum(
        _model_seconds(agent.model, agent.resolved, agent.memory, job)
        for agent, mine in zip(agents, jobs, strict=True)
        if agent.model is not None and agent.memory is not None
        for job in mine
    )
    # One environment for the fingerprint, and the first of those that are played.
    startup = sum(
        2 * domain_of(target.spec).startup_seconds for agent in agents for target in agent.targets
    )
    seconds += PROCESS_SECONDS * (2 if max(workers) > 1 else 1) + startup
    seconds += sum(
        _steps(config, target.shots, target.spec.horizon)
        / domain_of(target.spec).steps_per_second
        / (count if domain_of(target.spec).copies_are_separate(target.options) else 1)
        for agent, count in zip(agents, workers, strict=True)
        for target in agent.targets
    )
    notes = [
        f"checkpoint {agent.label}, context {agent.resolved['context']}"
        for agent in agents
        if agent.model is not None
    ]
    foreign = {
        target.spec.name: target.foreign_statistics for agent in agents for target in agent.targets
    }
    notes += filter(None, [foreign_statistics_note(foreign)])
    most = max(workers)
    notes += [
        f"{most} worker processes step the environments"
        if most > 1
        else "the environments are stepped in this process",
        "steps are the most there can be: an episode may end before its horizon",
        "the model's share of the seconds is measured here; the simulators' and the start of "
        "processes and environments are typical",
    ]
    absent = sum(len(agent.absent) for agent in agents)
    if absent:
        notes.append(
            f"{absent} tasks without streams are not played: the checkpoint has no group for them, "
            "and they are scored 0, as random play"
        )
    return Plan(
        rows=rows,
        totals={
            "tasks": len(rows),
            "streams": sum(row["streams"] for row in rows),
            "steps": sum(row["steps"] for row in rows),
            "bytes": sum(row["bytes"] for row in rows),
            "seconds": round(seconds, 1),
        },
        notes=notes,
    )


def _plan_rows(config: RolloutConfig, agent: Agent, several: bool) -> list[dict[str, Any]]:
    rewards = agent.resolved.get("rewards")
    label = agent.label if rewards is None else f"{agent.label}, {rewards} rewards"
    who = {"agent": label} if several else {}
    rows = []
    for target in agent.targets:
        episodes = target.shots + config.episodes_after
        rows.append(
            {
                **who,
                "task": target.spec.name,
                "domain": target.spec.domain,
                "part": part_of(target.spec.as_json()),
                "statistics": target.known,
                "streams": config.seeds,
                "shots": episodes,
                "steps": _steps(config, target.shots, target.spec.horizon),
                "bytes": 4 * config.seeds * episodes * (target.spec.horizon + 4),
            }
        )
    nothing = {"statistics": "", "streams": 0, "shots": 0, "steps": 0, "bytes": 0}
    for absent in agent.absent:
        task = absent.spec.as_json()
        rows.append(
            {
                **who,
                "task": absent.spec.name,
                "domain": absent.spec.domain,
                "part": part_of(task),
                **nothing,
            }
        )
    return rows


def _steps(config: RolloutConfig, shots: int, horizon: int) -> int:
    return config.seeds * (shots + config.episodes_after) * horizon


def _publish(
    staging: Staging, agent: Agent, units: Sequence[str], fingerprints: Mapping[str, Any]
) -> Artifact:
    from pipelines.domains.registry import domain_of
    from pipelines.rollout.scores import read_curve, summary

    curves = [read_curve(staging.group, target.spec.name) for target in agent.targets]
    means = summary(curves)
    told: dict[str, Any] = {
        "tasks": [curve.name for curve in curves],
        "streams": curves[0].seeds,
        "reference": curves[0].reference,
        "method": agent.method,
        "mean_normalized_first": means["mean_normalized_first"],
        "mean_normalized_last3": means["mean_normalized_last3"],
    }
    if "rewards" in agent.resolved:
        told["rewards"] = agent.resolved["rewards"]
    if agent.absent:
        told["absent"] = [
            {
                "name": absent.spec.name,
                "domain": absent.spec.domain,
                "group": absent.spec.group,
                "variation_of": absent.spec.variation_of,
                "split": absent.spec.split,
                "reason": absent.reason,
            }
            for absent in agent.absent
        ]
    packages = {name for target in agent.targets for name in domain_of(target.spec).packages}
    return staging.publish(
        summary=told,
        work_items=units,
        fingerprints=fingerprints,
        packages=sorted(packages | ({"torch"} if agent.model is not None else {"numpy"})),
    )


def _model_seconds(
    model: SavedModel, resolved: Mapping[str, Any], memory: Memory, job: Job
) -> float:
    """Time a few steps of the model for a job and scale them to its longest stream."""
    from pipelines.hardware import torch_threads
    from pipelines.playing.model import time_steps

    with torch_threads(resolved["threads"]):
        empty, full = time_steps(model.model, job, memory)
    steps, context = max(task.bound for task in job), resolved["context"]
    filled = job[0].view.prompt_steps
    filling = max(0, min(steps, context - filled))
    # A step's time grows with what is in view, up to the context.
    middle = min(1.0, (filled + filling / 2) / context)
    return filling * (empty + middle * (full - empty)) + (steps - filling) * full
