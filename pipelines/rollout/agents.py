"""Who plays: a checkpoint, random play or the demonstrators; each makes an artifact of its own.

The agents of one call play the same episodes. An artifact is the same whether its agent was called
alone or with others, so a call goes on from what earlier calls have made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pipelines.domains.goals import check_goals, knowledge_of
from pipelines.errors import ConfigError, MissingDependencyError, UsageError
from pipelines.model.heads import HEADS, Act
from pipelines.playing.belief import BeliefActor, BlindActor
from pipelines.playing.episodes import (
    Actor,
    PolicyActor,
    RandomActor,
    RewardActor,
    policy_for,
)
from pipelines.playing.streams import (
    ModelView,
    Records,
    StreamTask,
    play_streams,
    random_generators,
)
from pipelines.rng import stream
from pipelines.rollout.config import Baseline, RolloutConfig
from pipelines.rollout.mean_rewards import mean_rewards
from pipelines.rollout.prompt import RecordedPrompt, find_prompts
from pipelines.rollout.reward_use import check_sees_rewards
from pipelines.rollout.selection import Absent, Target, absent_tasks, select_targets
from pipelines.text import listed

if TYPE_CHECKING:
    import numpy as np

    from pipelines.artifacts.artifact import Artifact
    from pipelines.artifacts.workspace import Workspace
    from pipelines.domains.base import BatchEnvironment
    from pipelines.model.config import ModelConfig
    from pipelines.model.saved import SavedModel
    from pipelines.playing.model import Memory
    from pipelines.policies.base import PolicySpec
    from pipelines.reporter import Reporter

#: Width up to which a second thread costs more than it gains (measured on two cores).
ONE_THREAD_WIDTH = 256

HIDDEN_GOALS: tuple[Baseline, ...] = ("blind", "belief")
"""Baselines of tasks with a hidden goal: demonstrators that are not shown it."""

REWARD_POLICIES: tuple[Baseline, ...] = ("thompson", "ucb")
"""Baselines of tasks whose domain has a policy that learns them from rewards while it plays."""

Play = Callable[..., Records]
"""Plays streams: (tasks, workers=, on_steps=) of `pipelines.playing.streams.play_streams`."""


@dataclass(frozen=True)
class Agent:
    """One that plays the tasks of a rollout.

    Attributes:
        label: For people: the checkpoint's reference, or the baseline's name.
        checkpoint: The checkpoint, for a baseline the one whose tasks it plays.
        model: The loaded checkpoint; None for a baseline.
        method: How the checkpoint was trained, or the baseline's name.
        absent: Tasks of a suite that it cannot play.
        resolved: The artifact's configuration: what the content follows from, nothing else.
        memory: What its streams keep in view; None for a baseline, which keeps nothing.
        prompts: What its streams start with, by task; empty for an empty context.
        mean_rewards: The mean reward of the data, by task, where that is shown; else empty.
    """

    label: str
    checkpoint: Artifact
    model: SavedModel | None
    method: str
    name: str
    parents: Sequence[Artifact]
    targets: Sequence[Target]
    absent: Sequence[Absent]
    resolved: Mapping[str, Any]
    player: Callable[[], Play]
    memory: Memory | None = None
    prompts: Mapping[str, RecordedPrompt] = field(default_factory=dict)
    mean_rewards: Mapping[str, float] = field(default_factory=dict)

    def view(self, target: Target, rewards: str) -> ModelView:
        """Return what the model is shown of a task; see `pipelines.rollout.config`."""
        name = target.spec.name
        mean = self.mean_rewards.get(name, 0.0)
        return target.view(self.model, rewards, self.prompts.get(name), mean)


def model_agent(config: RolloutConfig, workspace: Workspace, reference: str | None) -> Agent:
    """Return the agent of a checkpoint, of the newest one where no reference is given.

    Raises:
        UsageError, ConfigError: As `pipelines.rollout.selection.select_targets` and
            `pipelines.rollout.prompt.find_prompts`; the sinks leave no room in the context; or
            other rewards are to be shown to a checkpoint that never sees any.
        ArtifactMissingError: There is no such checkpoint or prompt, or no data where its mean
            reward is to be shown.
        MissingDependencyError: The device is not there.
    """
    from pipelines.domains.registry import full_catalogue
    from pipelines.model.saved import load_model

    checkpoint = workspace.find("checkpoints", reference)
    model = load_model(checkpoint)
    if config.rewards != "true":
        check_sees_rewards(checkpoint.reference, model, f"--rewards {config.rewards}")
    targets = select_targets(config, model, full_catalogue())
    if any(_borrows(target) for target in targets):
        at_hand = demonstrators_at_hand(checkpoint, workspace)
        targets = [_with_measured(target, at_hand) for target in targets]
    absent = absent_tasks(config, model, full_catalogue())
    act, default = chosen_act(config, model), ways_to_act(model.config)[0]
    memory = _memory(config, model)
    prompted, prompts = find_prompts(config, workspace, targets, _context(config, model))
    means = mean_rewards(checkpoint, model, workspace, targets) if config.rewards == "mean" else {}
    resolved = _resolved(config, model, targets, absent, prompts, act)
    if means:
        resolved["mean_rewards"] = means
    return Agent(
        label=checkpoint.reference,
        checkpoint=checkpoint,
        model=model,
        method=model.method,
        name=_name(config, checkpoint, targets)
        + ("" if config.rewards == "true" else f"-{config.rewards}-rewards")
        + ("" if act == default else f"-{act}"),
        parents=[checkpoint] if prompted is None else [checkpoint, prompted],
        targets=targets,
        absent=absent,
        resolved=resolved,
        player=lambda: _model_player(config, resolved, model, memory),
        memory=memory,
        prompts=prompts,
        mean_rewards=means,
    )


def ways_to_act(config: ModelConfig) -> tuple[Act, ...]:
    """Return how a model can choose actions, the default first.

    Where some groups' heads draw and others do not, it is the former that are asked.
    """
    names = dict.fromkeys(config.head_of(group)[0] for group in config.groups)
    ways = [HEADS.find(name).ways() for name in names]
    first, *others = [each for each in ways if "sample" in each] or ways
    return tuple(act for act in first if all(act in each for each in others))


def chosen_act(config: RolloutConfig, model: SavedModel) -> Act:
    """Return how a model is to choose actions.

    Raises:
        UsageError: It cannot do so.
    """
    ways = ways_to_act(model.config)
    if config.act is None:
        return ways[0]
    if config.act not in ways:
        heads = dict.fromkeys(model.config.head_of(group)[0] for group in model.config.groups)
        raise UsageError(
            f"the head {' and '.join(heads)} of the checkpoint cannot act so",
            where=f"--act {config.act}",
            expected=" or ".join(ways),
            found=config.act,
            fix=f"vintix rollout --act {ways[0]}",
        )
    return config.act


def baseline_agent(
    config: RolloutConfig,
    baseline: Baseline,
    first: Agent,
    workspace: Workspace,
    reporter: Reporter,
) -> Agent:
    """Return the agent of a baseline, which plays what the first checkpoint's agent plays.

    Raises:
        ConfigError: No task has a demonstrator, or, for `HIDDEN_GOALS`, a hidden goal; for
            `REWARD_POLICIES`, such a policy; or, for ``belief``, a task's goals do not stay, or
            its domain cannot say rewards for a goal.
    """
    from pipelines.domains.registry import domain_of

    targets = list(first.targets)
    tasks = {
        target.spec.name: {
            "shots": target.shots,
            "options": target.options,
            "variation": dict(target.spec.variation or {}),
            # The scores come from the first checkpoint, which is no parent.
            "scores": target.scores,
        }
        for target in targets
    }
    parents: dict[str, Artifact] = {}
    policies = {}
    if baseline in HIDDEN_GOALS:
        targets = [each for each in targets if knowledge_of(each.options) is not None]
        tasks = {each.spec.name: tasks[each.spec.name] for each in targets}
        if not targets:
            raise ConfigError(
                "none of the tasks hides a goal that demonstrators know",
                where=f"--baseline {baseline}",
                expected="tasks with a hidden goal",
                found=listed([each.spec.name for each in first.targets]),
                fix="vintix rollout --option goal=demonstrator"
                if any("goal" in each.options for each in first.targets)
                else "leave the baseline out",
            )
    if baseline in REWARD_POLICIES:
        targets = [
            each for each in targets if baseline in domain_of(each.spec).reward_policies(each.spec)
        ]
        tasks = {each.spec.name: tasks[each.spec.name] for each in targets}
        if not targets:
            raise ConfigError(
                f"none of the tasks is played by {baseline}",
                where=f"--baseline {baseline}",
                expected="bandits, such as bernoulli-bandit-20",
                found=listed([each.spec.name for each in first.targets]),
                fix="leave the baseline out",
            )
    elif baseline != "random":
        at_hand = demonstrators_at_hand(first.checkpoint, workspace)
        for target in tuple(targets):
            name = target.spec.name
            found = measured_demonstrator(target, at_hand) or builtin_demonstrator(target)
            if found is None:
                targets.remove(target)
                del tasks[name]
                continue
            policies[name] = found.spec
            tasks[name]["demonstrator"] = found.as_json()
            if found.artifact is not None:
                parents[found.artifact.digest] = found.artifact
        without = [target.spec.name for target in first.targets if target not in targets]
        if not targets:
            raise ConfigError(
                "none of the tasks has a demonstrator",
                where=f"--baseline {baseline}",
                expected="a demonstrators artifact, or one that comes with the package",
                found=listed(without),
                fix="vintix demonstrators, or leave the baseline out",
            )
        hidden = [each.spec.name for each in targets if _hides_from_demonstrators(each)]
        if baseline == "demonstrator" and hidden:
            reporter.warn(
                f"the demonstrator of {listed(hidden)} is not shown the goal under goal=hidden: it "
                "plays without it"
            )
        if without:
            reporter.warn(f"no demonstrator of {listed(without)}: left out of that baseline")

    if baseline == "belief":
        for target in targets:
            goals = domain_of(target.spec).hidden_goals(target.spec, target.options)
            check_goals(goals, "belief", f"task {target.spec.name}", stage="rollout")

    def actor_of(task: StreamTask, batch: BatchEnvironment) -> Actor:
        if baseline == "random":
            return RandomActor(batch, random_generators(task, config.seed))
        if baseline in REWARD_POLICIES:
            copies = range(batch.size)
            generators = [stream(config.seed, *task.key(copy, baseline)) for copy in copies]
            return RewardActor(domain_of(task.spec).reward_policy(task.spec, baseline, generators))
        policy = policy_for(batch, policies[task.spec.name], domain_of(task.spec))
        if baseline == "blind":
            return BlindActor(batch, policy)
        if baseline == "belief":

            def generator_of(copy: int, *key: str | int) -> np.random.Generator:
                return stream(config.seed, *task.key(copy, "belief", *key))

            return BeliefActor(batch, policy, generator_of, f"task {task.spec.name}")
        return PolicyActor(batch, policy)

    return Agent(
        label=baseline,
        checkpoint=first.checkpoint,
        model=None,
        method=baseline,
        name=f"{first.name}-{baseline}",
        parents=list(parents.values()),
        # Nothing is normalised, so no statistics are named.
        targets=[replace(target, known="") for target in targets],
        absent=(),
        resolved={
            "agent": baseline,
            "seed": config.seed,
            "seeds": config.seeds,
            "tasks": tasks,
            "reference": config.reference,
            "max_streams": config.max_streams,
            **({"converged": config.converged} if config.converged else {}),
        },
        player=lambda: partial(play_streams, actor_of=actor_of, seed=config.seed),
    )


def _hides_from_demonstrators(target: Target) -> bool:
    """Tell whether an option hides a goal from demonstrators that know it by default."""
    from pipelines.domains.registry import domain_of

    usual = {spec.name: spec.default for spec in domain_of(target.spec).options()}
    return knowledge_of(usual) is not None and target.options.get("goal") == "hidden"


def _model_player(
    config: RolloutConfig, resolved: Mapping[str, Any], model: SavedModel, memory: Memory
) -> Play:
    from pipelines.playing.model import roll

    vintix = model.model.to(resolved["device"])
    if resolved["device"] == "cpu":
        vintix.lay_out_for_steps()

    return partial(roll, vintix, seed=config.seed, memory=memory, act=resolved.get("act"))


@dataclass(frozen=True)
class TaskDemonstrator:
    """The demonstrator of a task and where it was found.

    Attributes:
        source: Reference of the demonstrators artifact, or ``builtin``.
        artifact: That artifact; None for one that comes with the package.
        card: Its measured scores (`pipelines.demonstrators.reader.Demonstrator`); None likewise.
    """

    spec: PolicySpec
    source: str
    artifact: Artifact | None
    card: Mapping[str, Any] | None

    def as_json(self) -> dict[str, str]:
        """Return where it is from and what it is, by digest."""
        from pipelines.artifacts.files import canonical_json
        from pipelines.policies.storage import arrays_digest, policy_attributes

        attributes = canonical_json(policy_attributes(self.spec))
        return {"source": self.source, "sha256": arrays_digest(self.spec, attributes)}


def demonstrators_at_hand(checkpoint: Artifact, workspace: Workspace) -> list[Artifact]:
    """Return demonstrators artifacts: what a checkpoint descends from, then the newest first."""
    newest = sorted(
        workspace.artifacts("demonstrators"),
        key=lambda artifact: artifact.manifest.created_at,
        reverse=True,
    )
    descended, _ = workspace.lineage([checkpoint])
    return [*(each for each in descended if each.kind == "demonstrators"), *newest]


def measured_demonstrator(target: Target, at_hand: Sequence[Artifact]) -> TaskDemonstrator | None:
    """Return the first demonstrator at hand of a task under its simulator, None without one.

    A variation has that of its base task, as in the paper (Appendix A.2.1).
    """
    from pipelines.demonstrators.reader import load_demonstrator
    from pipelines.domains.registry import domain_of, simulators

    domain = domain_of(target.spec)
    simulator = simulators(domain, target.options)
    for artifact in at_hand:
        for name in dict.fromkeys((target.spec.name, target.spec.variation_of)):
            if name is not None and name in artifact.root:
                found = load_demonstrator(artifact, name)
                if simulators(domain, found.options) == simulator:
                    return TaskDemonstrator(found.spec, artifact.reference, artifact, found.card)
    return None


def builtin_demonstrator(target: Target) -> TaskDemonstrator | None:
    """Return the demonstrator that comes with the package, of the base task of a variation."""
    from pipelines.demonstrators.experts import base_policy

    policy = base_policy(target.spec, target.options)
    return None if policy is None else TaskDemonstrator(policy, "builtin", None, None)


def _resolved(
    config: RolloutConfig,
    model: SavedModel,
    targets: Sequence[Target],
    absent: Sequence[Absent],
    prompts: Mapping[str, RecordedPrompt],
    act: Act,
) -> dict[str, Any]:
    """Return a checkpoint's configuration; what is not asked for leaves no trace in it."""
    resolved: dict[str, Any] = {
        "seed": config.seed,
        "seeds": config.seeds,
        "tasks": {
            target.spec.name: {
                "shots": target.shots,
                "statistics": target.known,
                "options": target.options,
                "variation": dict(target.spec.variation or {}),
                **({"measured": target.measured} if target.measured else {}),
            }
            for target in targets
        },
        "context": _context(config, model),
        "reference": config.reference,
        "max_streams": config.max_streams,
        "threads": _threads(config, model),
        "device": _device(config.device),
    }
    if config.converged:
        resolved["converged"] = config.converged
    if config.suite:
        resolved["suite"] = config.suite
        resolved["absent"] = [task.spec.name for task in absent]
    usual = {"rewards": "true", "cache": "window", "sinks": 0}
    for name, value in usual.items():
        if getattr(config, name) != value:
            resolved[name] = getattr(config, name)
    if act != "mean":
        resolved["act"] = act
    if prompts:
        resolved["prompt"] = {task: prompt.as_config() for task, prompt in prompts.items()}
    return resolved


def _context(config: RolloutConfig, model: SavedModel) -> int:
    return config.context or model.config.context


def _memory(config: RolloutConfig, model: SavedModel) -> Memory:
    from pipelines.model.cache import check_size
    from pipelines.playing.model import Memory

    context = _context(config, model)
    check_size(config.max_streams, context, config.sinks)
    return Memory(context, config.cache, config.sinks)


def _borrows(target: Target) -> bool:
    """Tell whether the checkpoint knows neither the task nor its base task."""
    return target.saved.name == target.spec.name != target.known


def _with_measured(target: Target, at_hand: Sequence[Artifact]) -> Target:
    """Give a task without data the scores that were measured of its demonstrator, if any were."""
    found = measured_demonstrator(target, at_hand) if _borrows(target) else None
    if found is None or found.artifact is None or found.card is None:
        return target
    measured = {name: found.card[name]["mean"] for name in ("random", "expert")}
    return replace(
        target,
        scores={**target.scores, "measured": measured},
        measured=f"{found.source} {found.artifact.digest}",
    )


def _threads(config: RolloutConfig, model: SavedModel) -> int:
    from pipelines.hardware import available_threads

    if config.threads:
        return config.threads
    return 1 if model.config.width <= ONE_THREAD_WIDTH else available_threads()


def _device(choice: str) -> str:
    import torch

    if choice == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if choice == "cuda" and not torch.cuda.is_available():
        raise MissingDependencyError(
            "this machine has no CUDA GPU",
            where="--device cuda",
            expected="a CUDA GPU that PyTorch sees",
            found="none",
            fix="vintix rollout --set rollout.device=cpu",
        )
    return choice


def _name(config: RolloutConfig, checkpoint: Artifact, targets: Sequence[Target]) -> str:
    if config.name is not None:
        return config.name
    from pipelines.stage import default_name

    if config.suite is not None:
        chosen = default_name(config.domains, [target.spec.name for target in targets])
        whole = not (config.tasks or config.domains or config.splits)
        if whole or config.domains:
            chosen = "-".join(sorted(config.domains))
        return "-".join(part for part in (config.suite, chosen, *sorted(config.splits)) if part)
    if not (config.tasks or config.domains or config.splits) and all(
        target.spec.variation is None for target in targets
    ):
        return checkpoint.manifest.name
    if config.tasks or len(targets) == 1:
        return default_name((), [target.spec.name for target in targets])
    changed = {
        "gravity": config.gravity,
        "viscosity": config.viscosity,
        "setpoint": config.setpoint,
    }
    return "-".join(
        [
            default_name(sorted({target.spec.domain for target in targets}), ()),
            *sorted(config.splits),
            *(f"{key}-{value:g}" for key, value in changed.items() if value is not None),
        ]
    )
