"""Random play and demonstrators on the episodes that the model plays.

Every stream resets its environment with the seeds of the model's streams, so a baseline differs in
its actions alone. It has no context, so neither prompts nor what is kept in view concern it.

Shapes: S streams of a task, A action.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.rng import stream
from pipelines.rollout.streams import STAGE, MakeBatch, StreamRecord, StreamTask, TaskStreams

if TYPE_CHECKING:
    from pipelines.artifacts.artifact import Artifact
    from pipelines.artifacts.workspace import Workspace
    from pipelines.policies.base import PolicySpec
    from pipelines.rollout.crew import Crew
    from pipelines.rollout.selection import Target

#: Steps of the streams of a task between two calls of `on_steps`.
REPORT_EVERY = 16

Act = Callable[[], NDArray[np.float32]]
"""Returns the next actions (S, A) of all copies of a task's environment."""


@dataclass(frozen=True)
class TaskDemonstrator:
    """The demonstrator of a task and where it was found.

    Attributes:
        spec: Its policy.
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


def play_random(
    block: Sequence[StreamTask],
    *,
    seed: int,
    make_batch: MakeBatch,
    on_steps: Callable[[int], None],
    crew: Crew | None = None,
) -> dict[str, dict[int, StreamRecord]]:
    """Play uniformly random actions; each episode has a stream of random numbers of its own."""

    def begin(task: StreamTask, streams: TaskStreams) -> Act:
        base = task.spec.variation_of or task.spec.name
        low_A, high_A = streams.action_bounds
        draws: dict[int, np.random.Generator] = {}

        def act() -> NDArray[np.float32]:
            for index in streams.fresh.tolist():
                key = (task.streams[index], "random", int(streams.completed[index]))
                draws[index] = stream(seed, STAGE, base, *key)
            unit_SA = np.stack([draws[index].random(len(low_A)) for index in sorted(draws)])
            # Rounding to float32 may step over a bound by one unit in the last place.
            return np.clip((low_A + (high_A - low_A) * unit_SA).astype("f4"), low_A, high_A)

        return act

    return _play(block, begin, seed, make_batch, on_steps, crew)


def play_demonstrators(
    block: Sequence[StreamTask],
    policies: Mapping[str, PolicySpec],
    *,
    seed: int,
    make_batch: MakeBatch,
    on_steps: Callable[[int], None],
    crew: Crew | None = None,
) -> dict[str, dict[int, StreamRecord]]:
    """Play each task's demonstrator.

    Args:
        block: The tasks.
        policies: By the tasks' names.
        seed: Base seed.
        make_batch: Makes the environments.
        on_steps: Told of the stream steps done.
        crew: Worker processes for the environments of tasks that are `apart`.

    Raises:
        ConfigError: A policy does not fit its task.
    """

    def begin(task: StreamTask, streams: TaskStreams) -> Act:
        from pipelines.domains.registry import domain_of
        from pipelines.policies.registry import build_policy

        policy = build_policy(
            policies[task.spec.name], *streams.action_bounds, domain_of(task.spec).policies()
        )

        def act() -> NDArray[np.float32]:
            if len(fresh := streams.fresh):
                policy.reset(fresh.tolist())
            return policy.act(streams.demonstrator_view)

        return act

    return _play(block, begin, seed, make_batch, on_steps, crew)


def _play(
    block: Sequence[StreamTask],
    begin: Callable[[StreamTask, TaskStreams], Act],
    seed: int,
    make_batch: MakeBatch,
    on_steps: Callable[[int], None],
    crew: Crew | None,
) -> dict[str, dict[int, StreamRecord]]:
    def exchange() -> None:
        if crew is not None:
            crew.exchange()

    records = {}
    for task in block:
        # Neither normalisation nor rewards: nobody looks at what a model would see.
        streams = TaskStreams(
            task, seed=seed, make_batch=make_batch, crew=crew, normalize=False, mask_rewards=True
        )
        try:
            exchange()
            streams.begin()
            act, tick, reported = begin(task, streams), 0, 0
            while len(streams.playing):
                streams.act(act()[streams.playing])
                exchange()
                streams.observe()
                exchange()
                streams.begin()
                tick += 1
                if tick % REPORT_EVERY == 0 or not len(streams.playing):
                    on_steps(streams.steps - reported)
                    reported = streams.steps
            records[task.spec.name] = streams.records()
        finally:
            streams.close()
    return records


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

    Args:
        target: The task as it is played.
        at_hand: Where to look, in order.
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
