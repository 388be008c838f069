"""A small synthetic dataset: in memory for the loader, as an artifact for the stage.

Each task's action is a fixed function of its observation, so that a model that works fits it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from pipelines.actions import Box
from pipelines.artifacts.arrays import create_rows, write_array
from pipelines.artifacts.artifact import Artifact
from pipelines.artifacts.workspace import Workspace
from pipelines.datasets.reader import DatasetReader
from pipelines.methods.windows import Subsequence
from pipelines.model.saved import layout
from pipelines.rng import stream
from pipelines.train.checkpoint import CheckpointWriter, put_back, read_checkpoint
from pipelines.train.config import TrainConfig

ROW_FIELDS = ("observation", "action", "reward", "episode_step", "noise")

#: A model that trains in a blink.
SMALL_MODEL = {
    "layers": 2,
    "heads": 2,
    "width": 32,
    "feed_forward": 64,
    "action_embedding": 15,
    "observation_embedding": 15,
    "reward_embedding": 2,
}


@dataclass(frozen=True)
class ToyTask:
    name: str = "toy-a"
    group: str = "alpha"
    domain: str = "toys"
    observation_dim: int = 5
    action_dim: int = 2
    reward_scale: float = 0.5
    split: str = "train"
    allowed: bool = False
    episode_sparsity: int = 1
    rows: tuple[int, ...] = (600, 600)
    episode_length: int = 20
    noise_free: float = 0.3
    options: dict[str, Any] = field(default_factory=lambda: {"backend": "toy"})


TASKS = (
    ToyTask(),
    ToyTask(name="toy-b", reward_scale=2.0),
    ToyTask(name="gym-c", group="beta", domain="gyms", observation_dim=3, action_dim=1),
)


@dataclass(frozen=True)
class MemoryTask:
    name: str
    group: str
    observation_dim: int
    action_dim: int
    reward_scale: float
    split: str
    episode_sparsity: int
    rows: tuple[int, ...]
    statistics: dict[str, np.ndarray]
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def actions(self) -> Box:
        return Box(self.action_dim)


def rows_of(task: ToyTask, trajectory: int) -> dict[str, np.ndarray]:
    """Rows of a trajectory: the action a function of the observation, the reward pure noise."""
    count = task.rows[trajectory]
    draw = stream(7, "toy", task.name, trajectory)
    mixing = stream(7, "toy", task.name).normal(size=(task.observation_dim, task.action_dim))
    observation = (3.0 + 2.0 * draw.normal(size=(count, task.observation_dim))).astype(np.float32)
    action = np.tanh((observation - 3.0) / 2.0 @ mixing * 0.5)
    quiet = int(count * (1 - task.noise_free))
    noise = np.clip(1.0 - np.arange(count) / max(1, quiet), 0.0, 1.0)
    return {
        "observation": observation,
        "action": action.astype(np.float32),
        "reward": draw.normal(size=count).astype(np.float32),
        "episode_step": (np.arange(count) % task.episode_length).astype(np.int32),
        "noise": noise.astype(np.float32),
    }


def statistics_of(task: ToyTask) -> dict[str, np.ndarray]:
    every = [rows_of(task, k) for k in range(len(task.rows))]
    observation = np.concatenate([one["observation"] for one in every]).astype(np.float64)
    action = np.concatenate([one["action"] for one in every]).astype(np.float64)
    return {
        "observation_mean": observation.mean(0),
        "observation_std": observation.std(0),
        "action_mean": action.mean(0),
        "action_std": action.std(0),
    }


def task_json(task: ToyTask) -> dict[str, Any]:
    return {
        "name": task.name,
        "aliases": [f"{task.name}-alias"],
        "domain": task.domain,
        "split": task.split,
        "group": task.group,
        "observation_dim": task.observation_dim,
        "action_dim": task.action_dim,
        "horizon": task.episode_length,
        "reward_scale": task.reward_scale,
        "env_id": task.name,
        "variation_of": None,
        "episode_sparsity": task.episode_sparsity,
        "trajectories": len(task.rows),
        "trajectory_length": max(task.rows, default=1),
        "schedule": {"p": 1.0, "f": task.noise_free},
        "scores": {},
        "inert": False,
    }


class MemoryData:
    """A dataset that holds its rows in memory, with the reader's interface."""

    artifact = SimpleNamespace(reference="memory@v1")

    def __init__(self, tasks: Sequence[ToyTask] = TASKS) -> None:
        self.tasks = {
            task.name: MemoryTask(
                task.name,
                task.group,
                task.observation_dim,
                task.action_dim,
                task.reward_scale,
                task.split,
                task.episode_sparsity,
                task.rows,
                statistics_of(task),
                {"task": task_json(task), "options": {}, "scores": {}},
            )
            for task in tasks
        }
        self._rows = {
            (task.name, k): rows_of(task, k) for task in tasks for k in range(len(task.rows))
        }

    def window(self, task: str, trajectory: int, start: int, length: int) -> dict[str, np.ndarray]:
        rows = self._rows[task, trajectory]
        assert start >= 0 and start + length <= len(rows["reward"])
        return {name: values[start : start + length] for name, values in rows.items()}

    def pieces(
        self, task: str, trajectory: int, start: int, length: int, fields: Collection[str]
    ) -> Iterator[dict[str, np.ndarray]]:
        """In parts of seven rows, as if files ended there."""
        for row in range(start, start + length, 7):
            found = self.window(task, trajectory, row, min(7, start + length - row))
            yield {name: found[name] for name in fields}

    def fields(self, task: str) -> tuple[str, ...]:
        return ROW_FIELDS

    def episode_starts(self, task: str, trajectory: int) -> np.ndarray:
        return np.flatnonzero(self._rows[task, trajectory]["episode_step"] == 0)


def read_subsequence(
    subsequence: Subsequence, data: DatasetReader, start: int, length: int
) -> dict[str, np.ndarray]:
    """Rows of a subsequence in one piece."""
    pieces = list(subsequence.pieces(data, start, length, data.fields(subsequence.task)))
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def write_dataset(
    workspace: Workspace, name: str = "toys", tasks: Sequence[ToyTask] = TASKS
) -> Artifact:
    """Publish a datasets artifact in the layout that `pack` writes."""
    config = {"tasks": [task_json(task) for task in tasks]}
    with workspace.stage("datasets", name, config=config) as staging:
        for task in tasks:
            starts: list[np.ndarray] = []
            for k, count in enumerate(task.rows):
                rows = rows_of(task, k)
                with staging.work_item(f"{task.name}/{k:05d}") as unit:
                    group = unit.group(f"{task.name}/{k:05d}")
                    for field_name in ROW_FIELDS:
                        values = rows[field_name]
                        array = create_rows(
                            group,
                            field_name,
                            values.shape,
                            values.dtype,
                            chunk_rows=256,
                            mapped=True,
                        )
                        array[...] = values
                    starts.append(np.flatnonzero(rows["episode_step"] == 0).astype(np.int64))
                    ends = np.append(starts[-1][1:], count)
                    returns = [
                        rows["reward"][a:b].sum() for a, b in zip(starts[-1], ends, strict=True)
                    ]
                    write_array(group, "episode_start", starts[-1])
                    write_array(group, "episode_return", np.array(returns, dtype=np.float64))
            with staging.work_item(task.name) as unit:
                group = unit.group(
                    task.name,
                    {
                        "task": task_json(task),
                        "group": task.group,
                        "reward_scale": task.reward_scale,
                        "split": task.split,
                        "episode_sparsity": task.episode_sparsity,
                        "schedule": {"p": 1.0, "f": task.noise_free},
                        "options": task.options,
                        "scores": {"measured": {"random": 0.0, "expert": 1.0}},
                        "trajectories": len(task.rows),
                        "rows": list(task.rows),
                        "episodes": [len(each) for each in starts],
                        "weights": dict.fromkeys(
                            ("by_task", "by_window"),
                            float(task.split == "train" or task.allowed) / len(tasks),
                        ),
                    },
                )
                for each, values in statistics_of(task).items():
                    write_array(group, each, values)
        with staging.work_item("card") as unit:
            unit.group("card", {"rows": []})
        return staging.publish(
            summary={}, fingerprints={task.name: {"env_id": task.name} for task in tasks}
        )


def small_config(**changes: Any) -> TrainConfig:
    """A run of a few seconds on one thread."""
    values: dict[str, Any] = {
        "model": SMALL_MODEL,
        "context": 32,
        "steps": 12,
        "batch_size": 4,
        "checkpoint_every": 4,
        "device": "cpu",
        "threads": 1,
    }
    return TrainConfig(**{**values, **changes})


def save_checkpoint(staging, model, optimizer, step, note=None):
    """Make a state durable and wait for it."""
    with CheckpointWriter(staging) as writer:
        writer.save(model, optimizer, step, note)


def load_checkpoint(staging, model, optimizer):
    """Put the newest checkpoint into model and optimizer; return its step and note."""
    found = read_checkpoint(staging, layout(model))
    if found is None:
        return 0, None
    step, note, state = found
    put_back(state, model, optimizer)
    return step, note


def learning_rate(step, config):
    return config.rules.learning_rate(step, config.schedule)
