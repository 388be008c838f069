"""What a distillation is going to do: tasks and their jobs, steps, bytes and time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pipelines.actions import actions_of
from pipelines.distill import acting
from pipelines.distill.choice import builtin_demonstrators, choose_demonstrators
from pipelines.distill.config import (
    MAX_STEPS,
    PILOT_EPISODES,
    SHARD_ROWS,
    VECTORIZED_PILOT_EPISODES,
    VECTORIZED_SHARD_ROWS,
)
from pipelines.distill.job import Job, TaskDecoys, job_size, most_together, shard_rows
from pipelines.distill.learning import training_rows, training_settings
from pipelines.distill.partition import split
from pipelines.distill.pilot import MOST_LEVELS
from pipelines.distill.schedule import default_noise
from pipelines.domains.goals import check_goals, knowledge_of
from pipelines.errors import ConfigError, UsageError
from pipelines.hardware import available_cores
from pipelines.histories.quality import LEAST_EPISODES_A_TRAJECTORY
from pipelines.learners.settings import HISTORY_LEARNERS, training_rate
from pipelines.rows import row_bytes
from pipelines.stage import JOB_SECONDS, Plan, default_name, run_seconds
from pipelines.tasks.schedule import Decay, EpisodeNoise, schedule_json, schedule_text
from pipelines.text import counted, listed

if TYPE_CHECKING:
    from pipelines.artifacts.artifact import Artifact
    from pipelines.artifacts.workspace import Workspace
    from pipelines.demonstrators.config import DemonstratorsConfig
    from pipelines.demonstrators.reader import Demonstrator
    from pipelines.distill.config import DistillConfig
    from pipelines.distill.partition import Partition
    from pipelines.distill.schedule import Fit
    from pipelines.domains.base import Domain
    from pipelines.policies.base import PolicySpec
    from pipelines.tasks.registry import Catalogue
    from pipelines.tasks.schedule import Noise
    from pipelines.tasks.spec import TaskSpec


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """One task of a distillation.

    Attributes:
        steps_per_second: Environment steps that one worker is expected to make in a second.
        startup_seconds: Time until a process has made and reset its first environment.
        fit: How a pilot finds the decay; until it has run, the jobs have the task's own. None
            where the jobs' decay is the one.
        pilot_episodes: Episodes of the pilot at each level of noise.
        planned_trajectories: Number of trajectories of the whole plan, of which a part has some.
        others: The policies of the tasks that are decoys, by name.
    """

    task: TaskSpec
    jobs: tuple[Job, ...]
    demonstrator: Demonstrator
    steps_per_second: float
    startup_seconds: float
    fit: Fit | None = None
    pilot_episodes: int = 0
    planned_trajectories: int = 0
    others: Mapping[str, PolicySpec] = field(default_factory=dict)

    @property
    def noise(self) -> str:
        """How the noise decays, as text."""
        job = self.jobs[0]
        if job.training is not None:
            return f"none ({job.training.algorithm})"
        if job.checkpoint is not None:
            return f"none ({job.checkpoint})"
        return self.fit or schedule_text(schedule_json(job.schedule))

    def decoys_of(self, job: Job) -> dict[str, PolicySpec]:
        """Return the policies of the other tasks that play in one of the jobs."""
        if job.decoys is None:
            return {}
        drawn = [job.drawn_decoys(copy) for copy in range(len(job.trajectories))]
        names = {job.decoys.tasks[place] for places in drawn for place in places}
        return {name: self.others[name] for name in sorted(names)}

    @property
    def trajectories(self) -> int:
        """Number of trajectories of the jobs."""
        return sum(len(job.trajectories) for job in self.jobs)

    @property
    def total_steps(self) -> int:
        """Environment steps over all trajectories."""
        return sum(job.total_steps for job in self.jobs)

    @property
    def data_bytes(self) -> int:
        """Bytes of all steps before compression."""
        task = self.task
        return self.total_steps * row_bytes("histories", task.observation_dim, task.actions)

    @property
    def pilot_steps(self) -> int:
        """Environment steps of the pilot, at most; 0 without one."""
        return MOST_LEVELS * self.pilot_episodes * self.task.horizon

    @property
    def pilot_seconds(self) -> float:
        """Expected time of the pilot on one worker."""
        if self.fit is None:
            return 0.0
        return self.startup_seconds + JOB_SECONDS + self.pilot_steps / self.steps_per_second

    @property
    def seconds(self) -> float:
        """Expected time on one worker, of which the fingerprint has an environment of its own."""
        return (
            2 * self.startup_seconds
            + len(self.jobs) * JOB_SECONDS
            + self.total_steps / self.steps_per_second
            + self.pilot_seconds
        )

    def as_config(self) -> dict[str, Any]:
        """Return what decides the result, for the artifact's configuration."""
        job = self.jobs[0]
        origin = job.origin or {
            "schedule": {"fit": self.fit, "episodes": self.pilot_episodes}
            if self.fit
            else schedule_json(job.schedule)
        }
        return {
            "trajectories": self.planned_trajectories,
            "steps": job.steps,
            **origin,
            **({} if job.decoys is None else {"decoys": job.decoys.as_json()}),
            "options": dict(job.options),
            "shard_rows": job.shard_rows,
            "block": len(job.trajectories),
        }


@dataclass(frozen=True, slots=True)
class Distillation:
    """A resolved configuration.

    Attributes:
        name: Name of the artifact to be made.
        notes: What the user should know about the choice.
        checkpoint: The model that plays; None where demonstrators or learners do.
    """

    name: str
    seed: int
    demonstrators: Artifact
    tasks: tuple[TaskPlan, ...]
    notes: tuple[str, ...] = ()
    checkpoint: Artifact | None = None

    def as_config(self) -> dict[str, Any]:
        """Return the artifact's configuration."""
        tasks = {each.task.name: each.as_config() for each in self.tasks}
        return {"seed": self.seed, "tasks": tasks}

    def of_partition(self, partition: Partition | None) -> Distillation:
        """Return what one partition collects: some of the jobs, and the tasks that have any.

        Args:
            partition: Which; None for everything.
        """
        if partition is None:
            return self
        seconds = {
            (each.task.name, job.trajectories[0]): job.total_steps / each.steps_per_second
            for each in self.tasks
            for job in each.jobs
        }
        chosen = set(split(seconds, partition.count)[partition.index - 1])
        tasks = [
            replace(
                each,
                jobs=tuple(
                    job for job in each.jobs if (each.task.name, job.trajectories[0]) in chosen
                ),
            )
            for each in self.tasks
        ]
        spare = partition.count - len(seconds)
        note = (
            f"{partition.count} shards, but jobs for {len(seconds)} alone: {spare} of them have "
            "nothing to do"
        )
        return replace(
            self,
            tasks=tuple(each for each in tasks if each.jobs),
            notes=(*self.notes, *([note] if spare > 0 else [])),
        )


def resolve(config: DistillConfig, workspace: Workspace) -> Distillation:
    """Resolve a configuration against the demonstrators there are.

    Raises:
        UsageError: A task, domain or option is unknown.
        ArtifactMissingError: Tasks have no demonstrator.
        MissingDependencyError: They have none, and their simulator is not there either.
    """
    from pipelines.demonstrators.reader import demonstrator_tasks, load_demonstrator
    from pipelines.domains.registry import (
        check_simulators,
        domain_of,
        full_catalogue,
        split_options,
    )

    catalogue = full_catalogue()
    artifact, names, notes = choose_demonstrators(config, workspace, catalogue)
    specs = [catalogue.get(name) for name in names]
    _check_scale(config, specs)
    domains = {spec.domain: domain_of(spec) for spec in specs}
    split_options(domains.values(), config.options)
    if config.options:
        check_simulators(specs, config.options)
    player = acting.Checkpoint.of(config, workspace)
    held = demonstrator_tasks(artifact) if config.decoys else names
    known = {name: load_demonstrator(artifact, name) for name in {*names, *held}}
    plans = []
    for spec in specs:
        domain = domains[spec.domain]
        each = _plan_task(config, spec, domain, known[spec.name], player)
        _check_simulator(each, domain, known[spec.name], artifact.reference)
        if config.decoys:
            each = _with_decoys(config, each, domain, known, catalogue, artifact.reference)
        plans.append(each)
    name = config.name or default_name(
        sorted(domains) if config.domains else [],
        [catalogue.get(name).name for name in config.tasks],
    ) + (f"-{config.source}" if config.source != "noise" else "")
    notes += _options_of_demonstrators(config, plans, domains, artifact.reference)
    notes += _few_episodes(config, plans)
    checkpoint = None if player is None else player.artifact
    return Distillation(name, config.seed, artifact, tuple(plans), tuple(notes), checkpoint)


def plan(config: DistillConfig, workspace: Workspace) -> Plan:
    """Return what ``--dry-run`` prints.

    Raises:
        UsageError: A task, domain or option is unknown.
        ArtifactMissingError: Tasks have no demonstrator.
        MissingDependencyError: They have none, and their simulator is not there either.
    """
    from pipelines.demonstrators.selection import plan as plan_demonstrators

    builtin = builtin_demonstrators(config, workspace)
    before = 0.0
    if builtin is None:
        distillation = resolve(config, workspace).of_partition(config.shard)
        tasks, notes = distillation.tasks, list(distillation.notes)
        if config.shard is not None:
            notes.insert(0, f"shard: {config.shard} of {distillation.name}")
        origin = distillation.demonstrators.reference
    else:
        tasks, notes = plan_builtin(config, builtin, workspace)
        before = plan_demonstrators(builtin, workspace).totals["seconds"]
        origin = "those of the package, measured and published first; the time is with that"
    workers = config.workers or available_cores()
    pilots = any(each.fit for each in tasks)
    rows: list[dict[str, Any]] = [
        {
            "task": each.task.name,
            "domain": each.task.domain,
            "trajectories": each.trajectories,
            "steps": each.total_steps,
            **({"pilot_steps": each.pilot_steps} if pilots else {}),
            "schedule": each.noise,
            "jobs": len(each.jobs),
            "bytes": each.data_bytes,
            "seconds": round(each.seconds, 1),
        }
        for each in tasks
    ]
    totals: dict[str, Any] = {
        "task": counted(len(rows), "task"),
        "domain": "",
        "trajectories": sum(each.trajectories for each in tasks),
        "steps": sum(each.total_steps for each in tasks),
        **({"pilot_steps": sum(each.pilot_steps for each in tasks)} if pilots else {}),
        "schedule": "",
        "jobs": sum(len(each.jobs) for each in tasks),
        "bytes": sum(each.data_bytes for each in tasks),
        "seconds": round(before + _seconds(tasks, workers), 1),
    }
    return Plan(
        rows,
        totals,
        [
            f"demonstrators: {origin}",
            f"time: each task on one core; the total on {workers}; from declared step rates and "
            "the start of processes and environments",
            "bytes: before compression",
            *(["pilots: counted in the time, at most; nothing is kept of their steps"] * pilots),
            *notes,
        ],
    )


def _seconds(tasks: Sequence[TaskPlan], workers: int) -> float:
    """Return how long all tasks take on some workers, the pilots before the collection."""
    jobs = [
        (each.seconds - each.pilot_seconds) / len(each.jobs) for each in tasks for _ in each.jobs
    ]
    # Each worker makes the first environment of a task anew.
    again = sum(
        each.startup_seconds * (min(workers, len(each.jobs)) - 1) / workers for each in tasks
    )
    pilots = [each.pilot_seconds for each in tasks]
    longest = max(max(pilots, default=0.0), sum(pilots) / workers)
    return run_seconds(jobs, workers) + again + longest


def plan_builtin(
    config: DistillConfig, builtin: DemonstratorsConfig, workspace: Workspace
) -> tuple[tuple[TaskPlan, ...], list[str]]:
    """Return the tasks as they will be once the package's demonstrators are an artifact, and notes.

    Raises:
        UsageError, ConfigError, MissingDependencyError: As `resolve` will, then.
    """
    from pipelines.demonstrators.experts import builtin_policy
    from pipelines.demonstrators.reader import Demonstrator
    from pipelines.demonstrators.selection import select, skipped_note
    from pipelines.domains.registry import domain_of, full_catalogue

    selection = select(builtin, workspace)
    _check_scale(config, selection.tasks)
    player = acting.Checkpoint.of(config, workspace)
    known = {}
    for spec in selection.tasks:
        options = selection.options_of(spec)
        policy = builtin_policy(spec, domain_of(spec), options)
        if policy is not None:
            unmeasured = Demonstrator(policy, options, {}, {"kind": "builtin"}, spec.as_json())
            known[spec.name] = unmeasured
    plans = []
    for spec in selection.tasks:
        if spec.name in known:
            domain = domain_of(spec)
            each = _plan_task(config, spec, domain, known[spec.name], player)
            if config.decoys:
                each = _with_decoys(
                    config, each, domain, known, full_catalogue(), "those of the package"
                )
            plans.append(each)
    skipped = [skipped_note(builtin, selection.skipped)] if selection.skipped else []
    return tuple(plans), [*skipped, *_few_episodes(config, plans)]


def _check_scale(config: DistillConfig, tasks: Iterable[TaskSpec]) -> None:
    """Refuse trajectories longer than `MAX_STEPS`.

    Raises:
        UsageError: The longest one is.
    """
    too_long = [each for each in tasks if each.trajectory_length * config.scale > MAX_STEPS]
    if too_long:
        longest = max(too_long, key=lambda task: task.trajectory_length)
        raise UsageError(
            "the scale makes trajectories that are too long",
            where=f"distill.scale, task {longest.name}",
            expected=f"{MAX_STEPS:,} steps a trajectory at most",
            found=f"{longest.trajectory_length:,} steps times {config.scale:g}",
            fix=f"vintix distill ... --scale {MAX_STEPS // longest.trajectory_length}",
        )


def _plan_task(
    config: DistillConfig,
    task: TaskSpec,
    domain: Domain,
    demonstrator: Demonstrator,
    player: acting.Checkpoint | None,
) -> TaskPlan:
    from pipelines.domains.registry import own_options, resolve_options

    given = own_options(domain, config.options)
    options = resolve_options(domain, {**demonstrator.options, **given})
    trajectories = config.trajectories or task.trajectories
    steps = config.steps or max(round(task.trajectory_length * config.scale), task.horizon)
    training = training_settings(config, task, steps)
    knowledge = knowledge_of(options)
    if config.source != "noise" and knowledge in ("decoy", "belief"):
        raise ConfigError(
            "Who acts is a learner or a model, not a demonstrator.",
            where=f"task {task.name}",
            expected="goal=demonstrator, whose action is recorded beside the other's",
            found=f"goal={knowledge}",
            fix=f"vintix distill --source {config.source} --option goal=demonstrator",
        )
    rate = domain.rate_of(task) if training is None else training_rate(training, domain, task)
    if knowledge in ("decoy", "belief"):
        goals = check_goals(domain.hidden_goals(task, options), knowledge, f"task {task.name}")
        if knowledge == "belief":
            every = goals.every()
            count = goals.count if every is None else len(every)
            rate = 1 / (1 / rate + count / goals.goals_per_second)
    together = (domain.vectorized or domain.batched) and training is None
    size = job_size(task, steps, trajectories) if together else 1
    if player is not None or (training and training.algorithm in HISTORY_LEARNERS):
        size = most_together(task, steps, trajectories)
    if player is not None:
        player.check(task, options)
        rate, rows = player.rate(rate, size), steps
    elif training is not None:
        rows = training_rows(training)
    else:
        most = VECTORIZED_SHARD_ROWS if domain.vectorized else SHARD_ROWS
        rows = shard_rows(task, steps, size, config.shard_rows or most)
    # Until its pilot has run, a task that is to be fitted has a schedule of the kind.
    fit = config.schedule if isinstance(config.schedule, str) else None
    if player is not None:
        schedule: Noise = EpisodeNoise(max=0.0)
    elif fit:
        schedule = EpisodeNoise() if fit == "playable" else task.decay
    elif config.schedule is None:
        schedule = default_noise(task.decay, "decoy" if config.decoys else knowledge)
    else:
        schedule = config.schedule  # type: ignore[assignment]
    usual = VECTORIZED_PILOT_EPISODES if domain.vectorized else PILOT_EPISODES
    return TaskPlan(
        task,
        tuple(
            Job(
                task=task,
                trajectories=tuple(range(first, min(first + size, trajectories))),
                steps=steps,
                shard_rows=rows,
                schedule=schedule,
                options=options,
                seed=config.seed,
                training=training,
                part=config.shard is not None,
                checkpoint=None if player is None else player.artifact.reference,
            )
            for first in range(0, trajectories, size)
        ),
        demonstrator,
        steps_per_second=rate,
        startup_seconds=domain.startup_seconds,
        fit=fit,
        pilot_episodes=(config.pilot_episodes or usual) if fit else 0,
        planned_trajectories=trajectories,
    )


def _options_of_demonstrators(
    config: DistillConfig,
    plans: Sequence[TaskPlan],
    domains: Mapping[str, Domain],
    reference: str,
) -> list[str]:
    """Return notes on options that come from the demonstrators, and on those that differ from them.

    What a demonstrator knows of the goal is meant to differ.
    """
    from pipelines.domains.registry import resolve_options

    inherited: dict[str, None] = {}
    differing: dict[str, None] = {}
    tasks: dict[str, None] = {}
    for each in plans:
        usual = resolve_options(domains[each.task.domain], {})
        measured = each.demonstrator.options
        for name, value in each.jobs[0].options.items():
            if name not in measured or name == "goal":
                continue
            if value != measured[name]:
                differing[f"--option {name}={value}"] = tasks[each.task.name] = None
            elif value != usual[name] and name not in config.options:
                inherited[f"{name}={value}"] = None
    notes = []
    if inherited:
        notes.append(f"options of the demonstrators {reference}: {listed(inherited)}")
    if differing:
        options = " ".join(differing)
        notes.append(
            f"the scores of the demonstrators {reference} were measured without {options}, and "
            f"this history may reach others: {listed(tasks)}; "
            f"vintix demonstrators --task {next(iter(tasks))} {options} measures them so"
        )
    return notes


def _few_episodes(config: DistillConfig, plans: Sequence[TaskPlan]) -> list[str]:
    """Return a note on the tasks whose trajectories are short, and what would make them longer.

    Episodes are counted by the task's horizon: there are more where episodes end before it.
    Where noise is drawn, a trajectory may be as short as a model's context.
    """
    least = LEAST_EPISODES_A_TRAJECTORY
    short = [
        each.task
        for each in plans
        if each.jobs[0].steps < least * each.task.horizon
        and isinstance(each.jobs[0].schedule, Decay)
    ]
    if not short:
        return []
    if config.steps is not None:
        longer = f"--steps {least * max(task.horizon for task in short)}"
    else:
        scale = max(least * task.horizon / task.trajectory_length for task in short)
        # Rounded up to two digits, so that no task falls short by a rounding.
        digit = 10.0 ** (math.floor(math.log10(scale)) - 1)
        longer = f"--scale {math.ceil(scale / digit) * digit:.2g}"
    return [
        f"fewer than {least} episodes of full length in a trajectory, too few to show learning, in "
        f"{len(short)} of {counted(len(plans), 'task')}: {listed(task.name for task in short)}; "
        f"{longer} gives {least} to each"
    ]


def _with_decoys(
    config: DistillConfig,
    each: TaskPlan,
    domain: Domain,
    known: Mapping[str, Demonstrator],
    catalogue: Catalogue,
    reference: str,
) -> TaskPlan:
    """Return the plan of a task in whose histories other tasks' demonstrators play, too.

    They are those of the training tasks of its group and domain that there are demonstrators of,
    chosen for the run or not, so that a task's history does not depend on what is made beside it.
    Held-out tasks do not play: what they ask for is not to be seen in training.

    Args:
        config: Says how many play in a trajectory.

    Raises:
        ConfigError: There are too few, they are of another simulator or of other dims, or the goal
            is a decoy or a belief, too.
    """
    task, job = each.task, each.jobs[0]
    where = f"task {task.name}, {reference}"
    if (knowledge := knowledge_of(job.options)) in ("decoy", "belief"):
        raise ConfigError(
            "The other tasks' demonstrators act for the goal there is: it cannot be a decoy or a "
            "guess at the same time.",
            where=where,
            expected="goal=demonstrator, or another value that leaves the goal true",
            found=f"goal={knowledge} and decoys of tasks",
            fix="vintix distill --decoys task without --option goal, or --option goal=decoy alone",
        )
    others = [
        spec
        for spec in catalogue.tasks
        if spec.name in known
        and (spec.domain, spec.group, spec.split) == (task.domain, task.group, "train")
        and spec.name not in (task.name, task.variation_of)
    ]
    if len(others) < config.decoy_tasks:
        alike = sum(
            (spec.domain, spec.group, spec.split) == (task.domain, task.group, "train")
            and spec.name not in (task.name, task.variation_of)
            for spec in catalogue.tasks
        )
        raise ConfigError(
            "There are too few tasks that look alike to draw decoys from."
            if alike >= config.decoy_tasks
            else f"The group {task.group} has too few tasks to draw decoys from.",
            where=where,
            expected=f"demonstrators of {config.decoy_tasks} other training tasks of the group "
            f"{task.group}, which has {alike}",
            found=listed(spec.name for spec in others) or "none",
            fix=f"vintix demonstrators --domain {task.domain}, and vintix distill --demonstrators "
            "with what it makes"
            if alike >= config.decoy_tasks
            else "leave --decoys out" + (f", or --decoy-tasks {alike}" if alike else ""),
        )
    for spec in others:
        _check_simulator(each, domain, known[spec.name], reference, spec.name)
        _check_alike(task, known[spec.name].task, reference)
    decoys = TaskDecoys(tuple(spec.name for spec in others), config.decoy_tasks)
    return replace(
        each,
        jobs=tuple(replace(job, decoys=decoys) for job in each.jobs),
        others={spec.name: known[spec.name].spec for spec in others},
    )


def _check_alike(task: TaskSpec, other: Mapping[str, Any], reference: str) -> None:
    """Refuse another task's demonstrator that was made for other observations or actions."""
    found = (other["observation_dim"], actions_of(other))
    if found != (task.observation_dim, task.actions):
        raise ConfigError(
            f"The tasks {task.name} and {other['name']} do not look alike.",
            where=reference,
            expected=f"observations of {task.observation_dim} numbers, actions {task.actions}",
            found=f"the demonstrator of {other['name']} was made for {found[0]} numbers and "
            f"actions {found[1]}",
            fix=f"vintix demonstrators --task {other['name']}",
        )


def _check_simulator(
    each: TaskPlan, domain: Domain, demonstrator: Demonstrator, reference: str, of: str = ""
) -> None:
    """Refuse a demonstrator, the task's or that `of` another, measured on another simulator."""
    from pipelines.domains.registry import simulators

    name = of or each.task.name
    wanted = simulators(domain, each.jobs[0].options)
    measured = simulators(domain, demonstrator.options)
    if demonstrator.options and wanted != measured:
        flags = " ".join(f"--option {name}={value}" for name, value in wanted.items())
        raise ConfigError(
            "the demonstrator was measured on another simulator",
            where=f"task {name}, {reference}",
            expected=", ".join(f"{name}={value}" for name, value in wanted.items()),
            found=", ".join(f"{name}={value}" for name, value in measured.items()),
            fix=f"vintix demonstrators --task {name} {flags}",
        )
