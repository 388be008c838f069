"""Artifacts of made-up rows, for tests that need size rather than meaning."""

from __future__ import annotations

import numpy as np

from pipelines.actions import Box
from pipelines.artifacts.arrays import create_rows, write_array
from pipelines.distill.job import shard_rows
from pipelines.histories.layout import trajectory_path
from pipelines.rows import row_layout
from pipelines.tasks.spec import TaskSpec


def make_histories(
    workspace, *, observation_dim, action_dim, steps, count, episode=250, seed=0, task=None
):
    """Publish a histories artifact of one task with `count` trajectories of random rows."""
    task = task or TaskSpec(
        name="made-up",
        domain="none",
        group="none",
        observation_dim=observation_dim,
        action_dim=action_dim,
        horizon=episode,
    )
    rows = shard_rows(task, steps, 1, 65_536)
    rng = np.random.default_rng(seed)
    starts = np.arange(0, steps, episode)
    lengths = np.minimum(episode, steps - starts)
    with workspace.stage("histories", "made-up", config={"steps": steps, "seed": seed}) as staging:
        for k in range(count):
            path = trajectory_path(task.name, k)
            with staging.work_item(path) as unit:
                group = unit.group(path, {})
                for name, (shape, dtype) in row_layout(
                    "histories", observation_dim, Box(action_dim)
                ).items():
                    array = create_rows(group, name, (steps, *shape), dtype, chunk_rows=rows)
                    for begin in range(0, steps, rows):
                        end = min(begin + rows, steps)
                        values = rng.random((end - begin, *shape), dtype=np.float32)
                        array[begin:end] = values > 0.99 if dtype == "bool" else values
                write_array(group, "episode_start", starts)
                write_array(group, "episode_length", lengths.astype(np.int32))
                write_array(group, "episode_return", rng.random(len(starts)))
                write_array(
                    group,
                    "episode_final_observation",
                    np.zeros((len(starts), observation_dim), np.float32),
                )
        with staging.work_item(task.name) as unit:
            unit.group(
                task.name,
                {
                    "task": task.as_json(),
                    "schedule": {"p": 1.0, "f": 0.1},
                    "options": {},
                    "scores": {},
                    "steps": steps,
                    "trajectories": count,
                    "shard_rows": rows,
                    "last_episode_complete": [True] * count,
                },
            )
        return staging.publish(summary={})
