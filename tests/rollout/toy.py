"""A domain of tiny tasks that remembers what it was asked to do, and a tiny checkpoint."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines.artifacts.workspace import Workspace
from pipelines.domains import registry
from pipelines.domains.base import BatchEnvironment, Domain, OptionSpec, StepBatch
from pipelines.errors import VintixError
from pipelines.model.config import GroupDims
from pipelines.model.heads import HEADS
from pipelines.model.normalization import TaskStatistics
from pipelines.model.presets import preset
from pipelines.model.saved import SavedModel, SavedTask, save_model
from pipelines.model.vintix import Vintix
from pipelines.playing.streams import ModelView, StreamTask
from pipelines.tasks.registry import catalogue
from pipelines.tasks.spec import ScoreReference, TaskSpec

PAPER = {"paper": ScoreReference(random=-2.0, expert=6.0)}

EVEN = TaskSpec(
    name="toy-even",
    domain="toy",
    group="toy",
    observation_dim=3,
    action_dim=2,
    horizon=5,
    reward_scale=0.5,
    scores=PAPER,
)
UNEVEN = replace(EVEN, name="toy-uneven", horizon=9, reward_scale=0.1)
WIDE = TaskSpec(
    name="toy-wide", domain="toy", group="toy-wide", observation_dim=4, action_dim=1, horizon=4
)
UNSEEN = replace(EVEN, name="toy-unseen", split="validation")
FOREIGN = replace(WIDE, name="toy-foreign", group="toy-foreign")
# What goes wrong in them tells how errors come out of worker processes.
CRASHING = replace(WIDE, name="toy-crashing")
FAILING = replace(WIDE, name="toy-failing")
TASKS = (EVEN, UNEVEN, WIDE, UNSEEN, FOREIGN)


@dataclass
class Seen:
    """What one copy was given and what it gave back."""

    resets: list[int] = field(default_factory=list)
    observations: list[np.ndarray] = field(default_factory=list)
    actions: list[np.ndarray] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    episode_steps: list[int] = field(default_factory=list)


class ToyBatch(BatchEnvironment):
    """Copies with a state that drifts with the action; `toy-uneven` ends episodes early."""

    def __init__(self, task: TaskSpec, size: int, stream_seeds: Sequence[int]) -> None:
        self.task, self.size = task, size
        self.stream_seeds = list(stream_seeds)
        self.observation_dim = task.observation_dim
        self.action_low_A = np.full(task.action_dim, -0.75, np.float32)
        self.action_high_A = np.full(task.action_dim, 0.6, np.float32)
        self.state_SO = np.zeros((size, task.observation_dim), np.float32)
        self.step_S = np.zeros(size, np.int64)
        self.length_S = np.full(size, task.horizon)
        self.alive_S = np.zeros(size, np.bool_)
        self.seen = [Seen() for _ in range(size)]
        self.closed = False

    def reset(self, indices: Sequence[int], seeds: Sequence[int]) -> np.ndarray:
        if self.task.name == "toy-crashing":
            raise SystemExit("the simulator crashed")
        if self.task.name == "toy-failing":
            raise VintixError("the reset failed", where="toy-failing")
        for index, seed in zip(indices, seeds, strict=True):
            generator = np.random.default_rng(seed)
            self.state_SO[index] = generator.normal(size=self.observation_dim)
            if self.task.name == "toy-uneven":
                self.length_S[index] = generator.integers(2, self.task.horizon + 1)
            self.step_S[index] = 0
            self.alive_S[index] = True
            self.seen[index].resets.append(seed)
        return self.state_SO[list(indices)].copy()

    def step(self, action_BA: np.ndarray) -> StepBatch:
        if not self.alive_S.all():
            raise AssertionError("a copy was stepped after its episode had ended")
        if (action_BA < self.action_low_A).any() or (action_BA > self.action_high_A).any():
            raise AssertionError("an action was out of bounds")
        reward_B = np.zeros(self.size)
        for index, action_A in enumerate(action_BA):
            seen = self.seen[index]
            seen.observations.append(self.state_SO[index].copy())
            seen.actions.append(action_A.copy())
            seen.episode_steps.append(int(self.step_S[index]))
            self.state_SO[index] = 0.5 * self.state_SO[index] + action_A.sum()
            reward_B[index] = 1.0 + action_A.sum() + 0.1 * self.state_SO[index, 0]
            seen.rewards.append(reward_B[index])
            self.step_S[index] += 1
        over_S = self.step_S >= self.length_S
        self.alive_S &= ~over_S
        early_S = self.length_S < self.task.horizon
        return StepBatch(
            self.state_SO.copy(),
            reward_B,
            over_S & early_S,
            over_S & ~early_S,
            over_S & (reward_B > 0.9) if self.task.name == "toy-even" else None,
        )

    def close(self) -> None:
        self.closed = True


def make_toy(
    task: TaskSpec, size: int, options: Mapping[str, Any], stream_seeds: Sequence[int]
) -> ToyBatch:
    """Make copies in whatever process this is called."""
    return ToyBatch(task, size, stream_seeds)


class Toy(Domain):
    name = "toy"

    def __init__(self) -> None:
        self.batches: list[ToyBatch] = []
        self.fail_at: str | None = None

    def tasks(self) -> Sequence[TaskSpec]:
        return TASKS

    def options(self) -> Sequence[OptionSpec]:
        return (OptionSpec("goal", "hidden", "where the goal is", choices=("hidden", "visible")),)

    def make_env(self, task: TaskSpec, options: Mapping[str, Any]) -> Any:
        raise NotImplementedError

    def make_batch(
        self, task: TaskSpec, size: int, options: Mapping[str, Any], stream_seeds: Sequence[int]
    ) -> ToyBatch:
        if task.name == self.fail_at:
            raise RuntimeError("pulled the plug")
        batch = ToyBatch(task, size, stream_seeds)
        self.batches.append(batch)
        return batch

    def played(self, task: str) -> list[ToyBatch]:
        """Return the batches of a task that were rolled out, not those of its fingerprint."""
        return [batch for batch in self.batches if batch.task.name == task and batch.size > 1]


_PUBLISHED = tempfile.TemporaryDirectory()


def install(monkeypatch: Any, *specs: TaskSpec) -> Toy:
    """Make the toy domain one of the installed ones, next to the real domains."""
    toy = Toy()
    found = registry._discover()
    monkeypatch.setattr(
        registry,
        "_discover",
        lambda: found._replace(
            domains={**found.domains, "toy": toy},
            catalogue=catalogue().extended((*TASKS, *specs)),
        ),
    )
    return toy


def tiny_model(context: int = 64, **overrides: Any) -> Vintix:
    """Return a small model of the toy groups whose actions differ from step to step."""
    bounded = HEADS.find(overrides.get("head", "mse")).needs_bounds
    groups = {
        name: GroupDims(
            observation_dim=observation,
            action_dim=action,
            action_bounds=((-1.0,) * action, (1.0,) * action) if bounded else None,
        )
        for name, observation, action in (
            ("toy", 3, 2),
            ("toy-wide", 4, 1),
            ("mujoco-reacher", 10, 2),
            ("hidden-goal-point", 4, 2),
        )
    }
    config = preset(
        "tiny",
        groups,
        layers=2,
        heads=2,
        width=16,
        feed_forward=32,
        action_embedding=7,
        observation_embedding=7,
        context=context,
        **overrides,
    )
    model = Vintix(config, seed=3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Fresh weights give nearly constant actions, which would hide mistakes.
            if name.startswith("transformer") and parameter.ndim == 2:
                parameter.mul_(2.0)
            if name.startswith("head"):
                parameter.mul_(2.0 if parameter.ndim == 2 else 0.0)
    return model.eval()


def statistics(spec: TaskSpec) -> TaskStatistics:
    generator = np.random.default_rng(len(spec.name))
    return TaskStatistics(
        observation_mean=generator.normal(size=spec.observation_dim),
        observation_std=generator.uniform(0.5, 2, size=spec.observation_dim),
        action_mean=generator.normal(0, 0.1, size=spec.action_dim),
        action_std=generator.uniform(0.1, 0.5, size=spec.action_dim),
        reward_scale=spec.reward_scale,
    )


def stream_task(spec: TaskSpec, shots: int, streams: Sequence[int], **view: Any) -> StreamTask:
    """Return streams of a task; `view` changes what the model is shown."""
    shown = ModelView(spec.group, **{"statistics": statistics(spec), **view})
    return StreamTask(spec, {"goal": "hidden"}, shots, tuple(streams), shown)


def viewed(task: StreamTask, **view: Any) -> StreamTask:
    """Return a task of which the model is shown something else."""
    return replace(task, view=replace(task.view, **view))


def saved_task(spec: TaskSpec, *, measured: bool = True, trained: bool = True) -> SavedTask:
    scores = {name: score.as_json() for name, score in spec.scores.items()}
    if measured:
        scores["measured"] = {"random": 1.0, "expert": 5.0}
    return SavedTask(
        name=spec.name,
        group=spec.group,
        statistics=statistics(spec),
        trained=trained,
        task=spec.as_json(),
        options={"goal": "hidden"} if spec.domain == "toy" else {},
        scores=scores,
    )


def write_checkpoint(
    root: Any,
    tasks: Sequence[SavedTask],
    *,
    name: str = "model",
    method: str = "ad",
    random_map: bool = False,
    fingerprints: Mapping[str, Any] | None = None,
    **model: Any,
) -> Workspace:
    """Publish a checkpoint of `tiny_model` in a new workspace."""
    # Each file is made durable: written once a session and copied from then on.
    config = {"method": method, "tasks": {one.name: one.as_json() for one in tasks}}
    key = json.dumps([name, config, random_map, fingerprints, model], sort_keys=True)
    source = Workspace(Path(_PUBLISHED.name) / hashlib.sha256(key.encode()).hexdigest())
    if not source.root.exists():
        with source.stage("checkpoints", name, config=config) as staging:
            with staging.work_item("model") as unit:
                known = {one.name: one for one in tasks}
                save_model(unit, SavedModel(tiny_model(**model), known, 7, method, random_map))
            staging.publish(summary={}, fingerprints=fingerprints)
    shutil.copytree(source.root, root, dirs_exist_ok=True)
    return Workspace(root)
