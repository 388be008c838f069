"""The stage ``rollout``: from checkpoints to ``rollouts`` artifacts, one for each agent.

The tasks are packed into jobs of at most `max_streams` streams, which advance together. A run that
was killed goes on with the first job that is not durable (`pipelines.rollout.jobs` says why). Which
streams share a job follows from the configuration alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.artifacts.workspace import is_packaged
from pipelines.errors import ArtifactError, ArtifactMissingError, UsageError
from pipelines.reporter import NullReporter
from pipelines.rollout.agents import Agent, baseline_agent, model_agent
from pipelines.rollout.config import REWARDS, RolloutConfig
from pipelines.rollout.fallback import foreign_statistics_note
from pipelines.rollout.jobs import Job, make_jobs, play_jobs, worker_count
from pipelines.rollout.report import (
    common_scores,
    compare_rollouts,
    plot_artifact,
    rollout_report,
)
from pipelines.rollout.reward_use import REWARD_USE, check_sees_rewards, reward_use
from pipelines.rollout.scores import part_of
from pipelines.stage import PROCESS_SECONDS, Plan, StageResult
from pipelines.tasks.spec import score_of
from pipelines.text import counted, listed

if TYPE_CHECKING:
    from pipelines.artifacts.artifact import Artifact
    from pipelines.artifacts.staging import Staging
    from pipelines.artifacts.workspace import Workspace
    from pipelines.model.saved import SavedModel
    from pipelines.playing.model import Memory
    from pipelines.reporter import Reporter
    from pipelines.rollout.selection import Target
    from pipelines.tasks.spec import TaskSpec

__all__ = ["plan", "plot_artifact", "rollout_report", "run"]


def run(config: RolloutConfig, workspace: Workspace, reporter: Reporter) -> StageResult:
    """Play the chosen tasks from an empty context and record every return.

    Args:
        workspace: Where the checkpoints are and the rollouts artifacts go.
        reporter: Told about progress and doubtful input.

    Returns:
        The first checkpoint's artifact with its report; see `rollout_report`. With further
        checkpoints or baselines, each of which has an artifact too, the report has ``comparison``
        besides (`pipelines.rollout.report.compare_rollouts`), and it is up to date if all are.
        With the suite ``reward-use`` it has ``reward_use`` (`pipelines.rollout.reward_use`).

    Raises:
        UsageError: Unknown tasks, a changed physics they do not have, or an agent named twice.
        ConfigError: A checkpoint does not fit the tasks; an environment has changed since the
            staged part was played; or, under `strict`, the environments differ from those its data
            came from.
        ArtifactMissingError: There is no such checkpoint or prompt.
        MissingDependencyError: A simulator or the device is not there.
        LockedError: Another process writes under the name.
    """
    _check_repeated(config, workspace)
    if config.also:
        # What is wrong with the last checkpoint is told before the first one plays.
        for _ in _model_agents(config, workspace, NullReporter()):
            pass
    first: Agent | None = None
    baselines: list[Agent] = []
    results = []
    announced: set[str] = set()
    for mine, agent in _model_agents(config, workspace, reporter):
        newest = config.checkpoint is None and first is None
        if newest and is_packaged(agent.checkpoint):
            reporter.info(
                f"no checkpoint in {workspace.root}: playing {agent.label}, which comes with vintix"
            )
        elif agent.label not in announced:
            reporter.info(f"checkpoint {agent.label}" + (", the newest" if newest else ""))
        announced.add(agent.label)
        if first is None:
            first = agent
            baselines = [
                baseline_agent(config, baseline, agent, workspace, reporter)
                for baseline in config.baselines
            ]
        results.append(_roll(mine, agent, workspace, reporter))
    results += [_roll(config, agent, workspace, reporter) for agent in baselines]
    main, *others = results
    if not others:
        return main
    artifacts = [each.artifact for each in results]
    _, differing = common_scores(artifacts)
    if differing is not None:
        reporter.warn(differing)
    report = {**main.report, "comparison": compare_rollouts(artifacts)}
    if config.suite == REWARD_USE:
        report["reward_use"] = reward_use(artifacts)
    return StageResult(main.artifact, all(result.up_to_date for result in results), report)


def _check_repeated(config: RolloutConfig, workspace: Workspace) -> None:
    """Refuse an agent that is named twice."""
    named = {"--baseline": list[str](config.baselines)}
    if config.also:
        each = (config.checkpoint, *config.also)
        named["--checkpoint"] = [workspace.find("checkpoints", one).reference for one in each]
    for option, names in named.items():
        twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
        if twice is not None:
            raise UsageError(
                f"a {option.removeprefix('--')} is named twice",
                where=option,
                expected="each once",
                found=twice,
                fix=f"name {option} {twice} once",
            )


def _model_agents(
    config: RolloutConfig, workspace: Workspace, reporter: Reporter
) -> Iterator[tuple[RolloutConfig, Agent]]:
    """Yield the agents of the checkpoints, each with what it is to play.

    In the suite `REWARD_USE` each has one for each kind of rewards that there can be. They play
    plain rollouts, so that those are found again that were played without the suite.
    """
    if config.suite != REWARD_USE:
        for reference in (config.checkpoint, *config.also):
            yield config, model_agent(config, workspace, reference)
        return
    for reference in (config.checkpoint, *config.also):
        for rewards in REWARDS:
            if rewards == "other" and not config.streams_have_others:
                reporter.warn("a stream has no other one beside it: no rewards of another stream")
                continue
            mine = config.model_copy(update={"suite": None, "rewards": rewards})
            try:
                agent = model_agent(mine, workspace, reference)
            except ArtifactMissingError as error:
                if rewards != "mean":
                    raise
                reporter.warn(f"{error.message}: left out ({error.where})")
                continue
            check_sees_rewards(agent.label, agent.model, f"--suite {REWARD_USE}")
            yield mine, agent


def _roll(
    config: RolloutConfig, agent: Agent, workspace: Workspace, reporter: Reporter
) -> StageResult:
    from pipelines.playing.fingerprint import check_staged_environment

    if agent.model is not None:
        _warn_of_input(config, agent.model, agent.targets, reporter)
        if agent.absent:
            reporter.warn(
                f"{agent.label} has no group for {counted(len(agent.absent), 'task')} of the "
                "suite: scored 0, as random play"
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
            fingerprints = _check_fingerprints(
                config, workspace, agent.checkpoint, agent.targets, reporter
            )
            for name, fingerprint in fingerprints.items():
                check_staged_environment(
                    staging,
                    name,
                    fingerprint,
                    "the environment has changed since the staged part of this rollout was played",
                )
            units = play_jobs(config, agent, staging, reporter)
            published = _publish(staging, agent, units, fingerprints)
    return StageResult(published, up_to_date, rollout_report(published))


def _warn_of_input(
    config: RolloutConfig, model: SavedModel, targets: Sequence[Target], reporter: Reporter
) -> None:
    """Warn of what makes the results mean something else than one might think."""
    if config.context is not None and config.context > model.config.context:
        reporter.warn(
            f"context {config.context} is longer than the {model.config.context} steps the model "
            "was trained with: ALiBi allows it, the results are an extrapolation"
        )
    for note in _unused_statistics(config, targets):
        reporter.warn(note)
    for target in targets:
        if target.spec.inert_reason is not None:
            reporter.warn(
                f"{target.spec.name} plays like {target.spec.variation_of}: "
                f"{target.spec.inert_reason}"
            )
    without = [
        target.spec.name for target in targets if score_of(target.scores, config.reference) is None
    ]
    if without:
        reporter.warn(
            f"no {config.reference} scores for {listed(without)}: their returns are not normalised "
            "and do not count in the mean"
        )


def _unused_statistics(config: RolloutConfig, targets: Sequence[Target]) -> list[str]:
    """Return what is to be said where `--stats` is given and every task has its own."""
    if config.stats is None or not all(target.own_statistics for target in targets):
        return []
    return [
        f"--stats {config.stats} changes nothing: the checkpoint has statistics of each of these "
        "tasks"
    ]


def _check_fingerprints(
    config: RolloutConfig,
    workspace: Workspace,
    checkpoint: Artifact,
    targets: Sequence[Target],
    reporter: Reporter,
) -> dict[str, Any]:
    """Return the fingerprint of every task as played, compared with what the data recorded."""
    from pipelines.playing.fingerprint import check_same_environment, fingerprint

    recorded = _recorded_fingerprints(checkpoint, workspace)
    now = {}
    for target in targets:
        name = target.spec.name
        now[name] = fingerprint(target.spec, target.options)
        if name not in recorded or target.options != dict(target.saved.options):
            continue
        check_same_environment(
            recorded[name],
            now[name],
            f"the environment of task {name!r} is not the one the checkpoint's data came from",
            where=f"fingerprint recorded with {checkpoint.reference}",
            fix="install the simulator versions of the manifest, or leave --strict out",
            warn=None if config.strict else reporter.warn,
        )
    return now


def _recorded_fingerprints(artifact: Artifact, workspace: Workspace) -> Mapping[str, Any]:
    """Return the fingerprints kept with an artifact or, where it has none, with its ancestors."""
    if artifact.manifest.fingerprints:
        return artifact.manifest.fingerprints
    found: dict[str, Any] = {}
    for parent in artifact.manifest.parents:
        try:
            ancestor = workspace.find(parent.kind, f"{parent.name}@v{parent.version}")
        except ArtifactError:
            # A checkpoint may have been copied here without its data; there is nothing to compare.
            continue
        if ancestor.digest == parent.digest:
            found |= _recorded_fingerprints(ancestor, workspace)
    return found


def plan(config: RolloutConfig, workspace: Workspace) -> Plan:
    """Return what `run` would play; steps and seconds are upper bounds.

    Raises:
        UsageError, ConfigError, ArtifactMissingError: As `run`.
    """
    from pipelines.domains.registry import domain_of

    _check_repeated(config, workspace)
    silent = NullReporter()
    agents = [agent for _, agent in _model_agents(config, workspace, silent)]
    agents += [
        baseline_agent(config, baseline, agents[0], workspace, silent)
        for baseline in config.baselines
    ]
    rows = [row for agent in agents for row in _plan_rows(config, agent, several=len(agents) > 1)]
    most, seconds = 1, 0.0
    for agent in agents:
        jobs = make_jobs(config, agent)
        workers = worker_count(config, jobs)
        most = max(most, workers)
        if agent.model is not None and agent.memory is not None:
            for job in jobs:
                seconds += _model_seconds(agent.model, agent.resolved, agent.memory, job)
        for target in agent.targets:
            domain = domain_of(target.spec)
            spread = workers if domain.copies_are_separate(target.options) else 1
            # One environment for the fingerprint, and the first of those that are played.
            seconds += 2 * domain.startup_seconds
            seconds += _steps(config, target) / domain.rate_of(target.spec) / spread
    seconds += PROCESS_SECONDS * (2 if most > 1 else 1)
    # A suite plays one checkpoint several times.
    notes = list(
        dict.fromkeys(
            f"checkpoint {agent.label}, context {agent.resolved['context']}"
            for agent in agents
            if agent.model is not None
        )
    )
    notes += dict.fromkeys(silent.warnings)
    notes += _unused_statistics(config, [target for each in agents for target in each.targets])
    foreign = {
        target.spec.name: target.foreign_statistics for agent in agents for target in agent.targets
    }
    notes += filter(None, [foreign_statistics_note(foreign)])
    notes += [
        f"{most} worker processes step the environments"
        if most > 1
        else "the environments are stepped in this process",
        "steps are the most there can be: an episode may end before its horizon",
        "the seconds are typical of a CPU, not measured on this one",
    ]
    if absent := sum(len(agent.absent) for agent in agents):
        notes.append(
            f"without streams, as the checkpoint has no group for it: {counted(absent, 'task')}, "
            "not played and scored 0, as random play"
        )
    totals = {name: sum(row[name] for row in rows) for name in ("streams", "steps", "bytes")}
    return Plan(rows, {"tasks": len(rows), **totals, "seconds": round(seconds, 1)}, notes)


def _plan_rows(config: RolloutConfig, agent: Agent, several: bool) -> list[dict[str, Any]]:
    label = agent.label
    if "rewards" in agent.resolved:
        label += f", {agent.resolved['rewards']} rewards"
    if agent.resolved.get("act") == "greedy":
        label += ", greedy"

    def row(spec: TaskSpec, **numbers: Any) -> dict[str, Any]:
        who = {"agent": label} if several else {}
        part = part_of(spec.as_json())
        return {**who, "task": spec.name, "domain": spec.domain, "part": part, **numbers}

    rows = []
    for target in agent.targets:
        episodes = target.shots + config.episodes_after
        rows.append(
            row(
                target.spec,
                statistics=target.known,
                streams=config.seeds,
                shots=episodes,
                steps=_steps(config, target),
                bytes=4 * config.seeds * episodes * (target.spec.horizon + 4),
            )
        )
    for absent in agent.absent:
        rows.append(row(absent.spec, statistics="", streams=0, shots=0, steps=0, bytes=0))
    return rows


def _steps(config: RolloutConfig, target: Target) -> int:
    return config.seeds * (target.shots + config.episodes_after) * target.spec.horizon


def _publish(
    staging: Staging, agent: Agent, units: Sequence[str], fingerprints: Mapping[str, Any]
) -> Artifact:
    from pipelines.domains.registry import simulator_packages
    from pipelines.rollout.scores import read_curve, summary

    curves = [read_curve(staging.group, target.spec.name) for target in agent.targets]
    means = summary(curves)
    description: dict[str, Any] = {
        "tasks": [curve.name for curve in curves],
        "streams": curves[0].seeds,
        "reference": curves[0].reference,
        "method": agent.method,
        "mean_normalized_first": means["mean_normalized_first"],
        "mean_normalized_last3": means["mean_normalized_last3"],
    }
    if "rewards" in agent.resolved:
        description["rewards"] = agent.resolved["rewards"]
    if agent.absent:
        description["absent"] = [
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
    packages = simulator_packages(target.spec for target in agent.targets)
    return staging.publish(
        summary=description,
        work_items=units,
        fingerprints=fingerprints,
        packages=sorted(packages | ({"torch"} if agent.model is not None else {"numpy"})),
    )


def _model_seconds(
    model: SavedModel, resolved: Mapping[str, Any], memory: Memory, job: Job
) -> float:
    """Guess how long the model's passes for a job's longest stream take."""
    from pipelines.playing.model import pass_seconds

    streams = sum(len(task.streams) for task in job)
    steps, context = max(task.bound for task in job), resolved["context"]
    filled = job[0].view.prompt_steps
    filling = max(0, min(steps, context - filled))
    growing = pass_seconds(model.model, streams, filled + filling / 2, memory)
    return filling * growing + (steps - filling) * pass_seconds(
        model.model, streams, context, memory
    )
