"""Which tasks a rollout plays, and where their normalisation comes from.

The checkpoint knows the tasks it was trained on, each with its statistics. A variation that it
does not know uses those of its base task; other unseen tasks fall back on those of other tasks,
where the user says whose (`pipelines.rollout.fallback`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.errors import ConfigError, UsageError
from pipelines.rollout.config import RolloutConfig, default_shots
from pipelines.rollout.fallback import (
    RUNNING,
    can_play,
    fallback_statistics,
    foreign_source,
    known_task,
)
from pipelines.text import listed

if TYPE_CHECKING:
    from pipelines.model.saved import SavedModel, SavedTask
    from pipelines.playing.streams import ModelView, Prompt
    from pipelines.tasks.registry import Catalogue
    from pipelines.tasks.spec import TaskSpec


@dataclass(frozen=True)
class Target:
    """One task to play.

    Attributes:
        known: Whose statistics it uses: a task of the checkpoint, or ``group:NAME`` or
            ``running:NAME`` of one of its groups.
        saved: What the checkpoint keeps of that task, or would.
        scores: Score references by name, JSON.
        measured: Reference and digest of the demonstrators artifact that the measured scores of
            an unseen task are from; None where they are the checkpoint's.
    """

    spec: TaskSpec
    known: str
    saved: SavedTask
    options: dict[str, Any]
    shots: int
    scores: dict[str, Any]
    measured: str | None = None

    @property
    def own_statistics(self) -> bool:
        """Whether it is normalised by the statistics of its own data, or of its base task's."""
        return self.known in (self.spec.name, self.spec.variation_of)

    def view(
        self,
        model: SavedModel | None,
        rewards: str,
        prompt: Prompt | None,
        mean_reward: float = 0.0,
    ) -> ModelView:
        """Return what a model is shown of it, any where there is none."""
        from pipelines.playing.streams import ModelView

        return ModelView(
            group=self.saved.group,
            statistics=self.saved.statistics,
            mask_rewards=model is not None and model.masks_rewards,
            random_map=model is not None and model.random_map,
            rewards=rewards,
            mean_reward=mean_reward,
            running=self.known.startswith(RUNNING),
            prompt=prompt,
        )

    @property
    def changed_options(self) -> dict[str, Any]:
        """Options that its data was recorded under, where it is played under others."""
        return {
            name: value
            for name, value in self.saved.options.items()
            if name in self.options and self.options[name] != value
        }

    @property
    def foreign_statistics(self) -> str | None:
        """What its statistics are of, where that is not the task as it is played; else None."""
        return foreign_source(self.spec.name, self.known, self.changed_options)


@dataclass(frozen=True)
class Absent:
    """A task of a suite that the checkpoint cannot play; it is scored 0, as random play.

    Attributes:
        reason: Why, a sentence.
    """

    spec: TaskSpec
    reason: str


def select_targets(config: RolloutConfig, model: SavedModel, catalogue: Catalogue) -> list[Target]:
    """Return the tasks to play, in catalogue order.

    Raises:
        UsageError: Unknown tasks, domains, splits or options; a changed physics that the chosen
            tasks do not have, or that an option names too; or nothing is left to play.
        ConfigError: The checkpoint has no statistics or no group for a task.
    """
    specs = [spec for spec in _specs(config, model, catalogue) if _plays(config, spec, model)]
    if not specs:
        raise UsageError(
            "no task is left to play",
            where="--task, --domain, --split",
            expected=f"among the checkpoint's tasks: {listed(model.tasks)}",
            fix="vintix tasks, or leave the filters out",
        )
    stats = config.stats or ("group" if config.suite else None)
    sources: dict[str, tuple[str, SavedTask]] = {}
    for spec in specs:
        known = known_task(spec, model)
        sources[spec.name] = (
            (known, model.tasks[known]) if known else fallback_statistics(spec, model, stats)
        )
    options = _options(config, specs, {name: saved for name, (_, saved) in sources.items()})
    return [
        Target(
            spec=spec,
            known=sources[spec.name][0],
            saved=sources[spec.name][1],
            options=options[spec.name],
            shots=config.shots or default_shots(spec.horizon),
            scores=_scores(spec, sources[spec.name][1], options[spec.name]),
        )
        for spec in specs
    ]


def absent_tasks(config: RolloutConfig, model: SavedModel, catalogue: Catalogue) -> list[Absent]:
    """Return the tasks of a suite that the checkpoint has no group for (Appendix A.2.3).

    Without a suite there are none: asking for such a task is an error then.

    Raises:
        UsageError: As `select_targets`.
    """
    return [
        Absent(spec, f"the checkpoint knows no task of the group {spec.group}")
        for spec in _specs(config, model, catalogue)
        if not _plays(config, spec, model)
    ]


def _specs(config: RolloutConfig, model: SavedModel, catalogue: Catalogue) -> list[TaskSpec]:
    """Return the chosen tasks, with the physics that the options change."""
    from pipelines.domains.registry import load_domains

    specs = _chosen(config, model, catalogue)
    changes = _changes(config)
    present = {spec.domain for spec in specs}
    for domain in sorted(load_domains().values(), key=lambda each: each.name not in present):
        values = {name: changes.pop(name) for name in domain.changes if name in changes}
        if values:
            fitting = _of_domain(config, model, specs, domain.name, f"--{next(iter(values))}")
            chosen = bool(config.tasks or config.domains)
            specs = domain.changed(fitting, values, catalogue, chosen=chosen)
    for name in changes:
        raise UsageError(
            f"no domain that works here has tasks with another {name}",
            where=f"--{name}",
            fix="vintix doctor lists the domains",
        )
    return specs


def _changes(config: RolloutConfig) -> dict[str, float]:
    given = {"gravity": config.gravity, "viscosity": config.viscosity, "setpoint": config.setpoint}
    return {name: value for name, value in given.items() if value is not None}


def _plays(config: RolloutConfig, spec: TaskSpec, model: SavedModel) -> bool:
    """Tell whether a task is played; only a suite leaves out what the model has no group for."""
    return config.suite is None or can_play(spec, model)


def _chosen(config: RolloutConfig, model: SavedModel, catalogue: Catalogue) -> list[TaskSpec]:
    if config.suite is not None:
        return _suite(config)
    if config.tasks:
        return list(
            catalogue.select(tasks=config.tasks, domains=config.domains, splits=config.splits)
        )
    # Without names: what the checkpoint has statistics for.
    missing = [name for name in model.tasks if not _declares(catalogue, name)]
    if missing and not config.domains:
        raise ConfigError(
            "the checkpoint knows tasks that no installed domain declares",
            where=listed(missing),
            expected="the domain plugin the checkpoint was trained with",
            fix="install the plugin, or call vintix.register_task first where a program registered "
            "them, or choose --task or --domain",
        )
    specs = catalogue.select(
        domains=config.domains, splits=config.splits, variations="validation" in config.splits
    )
    known = set(model.tasks)
    if not config.splits:
        # A dataset may hold further tasks that the model was not trained on.
        known = {name for name, saved in model.tasks.items() if saved.trained} or known
    return [
        spec
        for spec in specs
        if {spec.name, spec.variation_of} & known
        # With fallback statistics, new tasks of the known groups can be played too.
        or (config.splits and config.stats is not None and can_play(spec, model))
    ]


def _suite(config: RolloutConfig) -> list[TaskSpec]:
    """Return what the paper reports: its 102 tasks of both splits and the 44 variations."""
    from pipelines.tasks.registry import catalogue

    for option, value in _changes(config).items():
        raise UsageError(
            "a suite has its own variations",
            where=f"--suite {config.suite} and --{option}",
            found=f"--{option} {value:g}",
            fix=f"leave --{option} out, or --suite",
        )
    return list(
        catalogue().select(
            tasks=config.tasks, domains=config.domains, splits=config.splits, variations=True
        )
    )


def _declares(catalogue: Catalogue, name: str) -> bool:
    try:
        catalogue.get(name)
    except UsageError:
        return False
    return True


def _of_domain(
    config: RolloutConfig,
    model: SavedModel,
    specs: Sequence[TaskSpec],
    domain: str,
    option: str,
) -> list[TaskSpec]:
    fitting = [spec for spec in specs if spec.domain == domain]
    # Where the user has named tasks or domains, dropping some would not be what was asked for.
    if not fitting or ((config.tasks or config.domains) and len(fitting) < len(specs)):
        other = next((spec for spec in specs if spec.domain != domain), None)
        known = (name for name, saved in model.tasks.items() if saved.task.get("domain") == domain)
        name = next((spec.name for spec in fitting), None) or next(known, None)
        choice = f"--domain {domain}" if config.domains else ""
        if config.tasks:
            choice = f"--task {name} {choice}".rstrip() if name else ""
        raise UsageError(
            f"{option} changes tasks of domain {domain} alone",
            where=option,
            expected=f"tasks of domain {domain}",
            found="none among the tasks" if other is None else f"{other.name} ({other.domain})",
            fix=(f"vintix rollout {choice}, or " if choice else "") + f"leave {option} out",
        )
    return fitting


def _options(
    config: RolloutConfig, specs: Sequence[TaskSpec], saved: Mapping[str, SavedTask]
) -> dict[str, dict[str, Any]]:
    from pipelines.domains.registry import domain_of, own_options, resolve_options, split_options

    domains = {spec.domain: domain_of(spec) for spec in specs}
    given = split_options(domains.values(), config.options)
    resolved = {}
    for spec in specs:
        domain, changed = domains[spec.domain], spec.variation or {}
        for name in changed:
            if name in given[domain.name]:
                raise UsageError(
                    f"the {name} of task {spec.name!r} is what makes it a variation",
                    where=f"--option {name}",
                    expected=f"its {name} {changed[name]}",
                    found=given[domain.name][name],
                    fix=f"leave --option {name} out",
                )
        recorded = own_options(domain, saved[spec.name].options)
        # The data may have been recorded under another value of what a variation changes.
        kept = {name: value for name, value in recorded.items() if name not in changed}
        resolved[spec.name] = resolve_options(domain, {**kept, **given[domain.name]})
    return resolved


def _scores(spec: TaskSpec, saved: SavedTask, options: Mapping[str, Any]) -> dict[str, Any]:
    from pipelines.domains.registry import domain_of, simulators

    named = {name: score.as_json() for name, score in spec.scores.items()}
    # What was measured on the base task stands for changed physics, as the paper has it
    # (Appendix A.2.1), where the domain does not say otherwise, but not for another simulator.
    domain = domain_of(spec)
    if (spec.variation and not domain.change_keeps_scores) or (
        saved.options and simulators(domain, options) != simulators(domain, saved.options)
    ):
        return named
    return {**named, **dict(saved.scores)}
