"""Makes a tiny artifact of each kind as this release writes it, to be read by every later one.

    python tests/artifacts/make_golden.py

writes ``golden/<kind>/v<schema version>/`` beside this file for each kind whose current schema
version has none yet. What is there is never written again: it is what that release wrote.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.artifacts.arrays import create_rows, write_array, write_flat
from pipelines.artifacts.artifact import Artifact
from pipelines.artifacts.row_arrays import RowLayout, RowWriter, write_trajectories
from pipelines.artifacts.schema import SCHEMA_VERSIONS
from pipelines.artifacts.work import WorkItem
from pipelines.artifacts.workspace import Workspace

Arrays = dict[str, np.ndarray[Any, Any]]
GOLDEN = Path(__file__).parent / "golden"
STEPS, CHUNK_ROWS, OBSERVATION, ACTION = 6, 3, 4, 1
TASK = {
    "name": "inverted-pendulum",
    "domain": "mujoco",
    "group": "inverted-pendulum",
    "split": "train",
    "env_id": "InvertedPendulum-v5",
    "observation_dim": OBSERVATION,
    "action_dim": ACTION,
    "horizon": 1000,
    "reward_scale": 1.0,
}
SCORES = {"measured": {"random": 6.0, "expert": 1000.0}, "paper": {"random": 6.1, "expert": 1000.0}}
STARTS, LENGTHS = np.array([0, 4]), np.array([4, 2], dtype=np.int32)


def steps(*shape: int) -> np.ndarray[Any, Any]:
    """Return the f32 numbers that golden arrays of a shape hold."""
    return (np.arange(np.prod(shape), dtype=np.float32) / 8 - 1).reshape(shape)


def _demonstrators(item: WorkItem) -> None:
    item.group(
        "inverted-pendulum",
        {
            "task": TASK,
            "policy": {"kind": "linear", "config": {"gain": "gain"}},
            "source": {"kind": "builtin", "name": "lqr"},
            "options": {},
            "card": {
                "random": {"mean": 6.0, "std": 1.0, "episodes": 2, "length": 6.0},
                "expert": {"mean": 1000.0, "std": 0.0, "episodes": 2, "length": 1000.0},
            },
        },
    )
    write_array(item.group("inverted-pendulum/policy"), "gain", steps(ACTION, OBSERVATION))
    evaluation = item.group("inverted-pendulum/evaluation")
    write_array(evaluation, "random_return", np.array([5.0, 7.0]))
    write_array(evaluation, "random_length", np.array([5, 7], dtype=np.int32))
    write_array(evaluation, "expert_return", np.array([1000.0, 1000.0]))
    write_array(evaluation, "expert_length", np.array([1000, 1000], dtype=np.int32))


def _parts(item: WorkItem) -> None:
    """The second of two trajectories."""
    attributes = {"schedule": {"p": 0.5, "f": 0.1}, "options": {}, "scores": SCORES}
    counts = {"steps": STEPS, "trajectories": 2, "shard_rows": CHUNK_ROWS}
    share = {"last_episode_complete": [False], "part": {"trajectories": [1], "place": 0}}
    item.group("inverted-pendulum", {"task": TASK, **attributes, **counts, **share})
    _history_rows(item.group("inverted-pendulum/00001", {}))


def _histories(item: WorkItem) -> None:
    attributes = {"schedule": {"p": 0.5, "f": 0.1}, "options": {}, "scores": SCORES}
    counts = {"steps": STEPS, "trajectories": 1, "last_episode_complete": [False]}
    item.group("inverted-pendulum", {"task": TASK, **attributes, **counts})
    fields, episodes = _history_fields()
    layout = RowLayout((STEPS,), CHUNK_ROWS)
    _joined(item.group("inverted-pendulum"), layout, fields, episodes, mapped=False)
    item.write_log("timing.jsonl", b'{"seconds": 0.5}\n')


def _history_rows(group: Any) -> None:
    fields, episodes = _history_fields()
    _rows(group, fields, mapped=False)
    for name, values in episodes.items():
        write_array(group, name, values)


def _history_fields() -> tuple[Arrays, Arrays]:
    fields = {
        "observation": steps(STEPS, OBSERVATION),
        "action": steps(STEPS, ACTION),
        "reward": steps(STEPS),
        "terminated": np.array([False, False, False, True, False, False]),
        "truncated": np.zeros(STEPS, dtype=bool),
        "noise": np.linspace(1, 0, STEPS, dtype=np.float32),
        "demonstrator_action": -steps(STEPS, ACTION),
    }
    episodes = {
        "episode_start": STARTS,
        "episode_length": LENGTHS,
        "episode_return": np.array([-2.0, -0.5]),
        "episode_final_observation": steps(2, OBSERVATION),
    }
    return fields, episodes


def _datasets(item: WorkItem) -> None:
    attributes = {"group": "inverted-pendulum", "reward_scale": 1.0, "split": "train"}
    counts = {"episode_sparsity": 1, "options": {}, "trajectories": 1, "rows": [STEPS]}
    task = item.group("inverted-pendulum", {"task": TASK, "scores": SCORES, **attributes, **counts})
    write_array(task, "observation_mean", np.arange(OBSERVATION, dtype=np.float64))
    write_array(task, "observation_std", np.ones(OBSERVATION))
    write_array(task, "action_mean", np.zeros(ACTION))
    write_array(task, "action_std", np.ones(ACTION))
    fields = {
        "observation": steps(STEPS, OBSERVATION),
        "action": steps(STEPS, ACTION),
        "reward": steps(STEPS),
        "episode_step": np.array([0, 1, 2, 3, 0, 1], dtype=np.int32),
        "noise": np.linspace(1, 0, STEPS, dtype=np.float32),
        "demonstrator_action": -steps(STEPS, ACTION),
    }
    episodes = {"episode_start": STARTS, "episode_return": np.array([-2.0, -0.5])}
    _joined(task, RowLayout((STEPS,), CHUNK_ROWS), fields, episodes, mapped=True)
    item.group("card", {"rows": [{"domain": "mujoco", "tasks": 1, "timesteps": STEPS}]})


def _checkpoints(item: WorkItem) -> None:
    statistics = {"observation_mean": [0.0] * 4, "observation_std": [1.0] * 4}
    statistics |= {"action_mean": [0.0], "action_std": [1.0]}
    task = {"task": TASK, "group": "inverted-pendulum", "reward_scale": 1.0, "options": {}}
    item.group(
        "model",
        {
            "config": {"layers": 1, "width": 2},
            "step": 7,
            "tasks": {"inverted-pendulum": {**task, "scores": SCORES, **statistics}},
            "parameters": [["blocks.0.attention.weight", 4], ["scale", 1]],
        },
    )
    write_flat(item.group("model"), "weights", np.append(steps(4), np.float32(0.5)))
    write_array(item.group("optimizer", {"step": 7}), "moment", steps(2, 2))
    item.write_log("metrics.jsonl", b'{"step": 7, "loss": 0.25}\n')


def _rollouts(item: WorkItem) -> None:
    attributes = {"options": {}, "scores": SCORES, "reference": "measured"}
    item.group("inverted-pendulum", {"task": TASK, **attributes})
    group = item.group("inverted-pendulum/00000", {})
    write_array(group, "reward", steps(STEPS))
    write_array(group, "episode_return", np.array([-2.0, -0.5]))
    write_array(group, "episode_length", LENGTHS)
    write_array(group, "success", np.array([False, True]))


def _joined(
    group: Any, layout: RowLayout, fields: Arrays, episodes: Arrays, *, mapped: bool
) -> None:
    kinds = {name: (values.shape[1:], values.dtype) for name, values in fields.items()}
    writer = RowWriter(group, layout, kinds, mapped=mapped)
    writer.create()
    writer.begin(0)
    writer.write(fields)
    writer.flush()
    write_trajectories(group, layout, [episodes])


def _rows(group: Any, fields: dict[str, np.ndarray[Any, Any]], *, mapped: bool) -> None:
    for name, values in fields.items():
        array = create_rows(
            group, name, values.shape, values.dtype, chunk_rows=CHUNK_ROWS, mapped=mapped
        )
        for start in range(0, STEPS, CHUNK_ROWS):
            array[start : start + CHUNK_ROWS] = values[start : start + CHUNK_ROWS]


WRITERS: dict[str, tuple[Callable[[WorkItem], None], str | None]] = {
    "demonstrators": (_demonstrators, None),
    "parts": (_parts, "demonstrators"),
    "histories": (_histories, "demonstrators"),
    "datasets": (_datasets, "histories"),
    "checkpoints": (_checkpoints, "datasets"),
    "rollouts": (_rollouts, "checkpoints"),
}
"""How each kind is filled, and the kind of its parent."""


def make(root: Path) -> dict[str, Artifact]:
    """Write one artifact of each kind into a workspace."""
    made: dict[str, Artifact] = {}
    for kind, (fill, parent) in WRITERS.items():
        parents = [made[parent]] if parent else []
        with Workspace(root).stage(
            kind, "golden", config={"name": "golden", "seed": 1}, parents=parents, seeds={"seed": 1}
        ) as staging:
            with staging.work_item("all") as item:
                fill(item)
            made[kind] = staging.publish(
                summary={"steps": STEPS},
                fingerprints={"inverted-pendulum": {"env_id": TASK["env_id"], "dims": [4, 1]}},
            )
    return made


def main() -> None:
    """Write what is missing beside this file."""
    with tempfile.TemporaryDirectory() as directory:
        for kind, artifact in make(Path(directory)).items():
            target = GOLDEN / kind / f"v{SCHEMA_VERSIONS[kind]}"
            if not target.exists():
                shutil.copytree(artifact.path, target)
                sys.stderr.write(f"{target}: digest {artifact.digest}\n")


if __name__ == "__main__":
    main()
