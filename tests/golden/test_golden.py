"""What the stages compute, held to the bit: a change of code must not change a number.

    python tests/golden/test_golden.py --write

runs the five stages small and writes ``data/golden.json`` beside this file anew. Do so only in a
commit that changes numbers on purpose and says why.

The file holds, for each array by what it is (artifact, task, trajectory or stream, field) and not
by where it is stored, the SHA-256 of its decoded bytes with dtype and shape, and a few of its
values; and for each artifact the configuration and the tasks' attributes. Another layout or chunk
length on disk changes nothing here.

On the machine type and the versions that the file names, digests have to be equal. Elsewhere the
last digits of floating point differ, and the values are compared with a tolerance.

What each part protects:

- ``demonstrators``: measuring an expert and random play (reacher).
- ``history/<domain>``: noise distillation in each domain, over the limits of shards and episodes,
  MuJoCo with contacts and early ends (hopper), Bi-DexHands as one batch of copies.
- ``history/learner``: a PPO learner recorded over several of its segments.
- ``dataset``: packing all of them: rows, steps within episodes, statistics, weights.
- ``checkpoint``: the data order, model, loss and optimizer of three updates on one thread.
- ``rollout`` and its baselines: playing the model from an empty context, random play, and the
  demonstrator, all on the same episodes.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.artifacts.arrays import write_array
from pipelines.artifacts.artifact import Artifact
from pipelines.artifacts.workspace import Workspace
from pipelines.config import config_class
from pipelines.datasets.reader import DatasetReader
from pipelines.demonstrators.experts import builtin_policy
from pipelines.domains.registry import domain_of, full_catalogue, resolve_options
from pipelines.histories.reader import HistoryReader
from pipelines.model.saved import load_model
from pipelines.playing.fingerprint import fingerprint
from pipelines.policies.storage import policy_attributes, save_policy
from pipelines.reporter import NullReporter

pytestmark = pytest.mark.simulator

GOLDEN = Path(__file__).parent / "data" / "golden.json"
SAMPLES = 5

#: Settings of a history of each domain. Trajectories are a little longer than an episode, or have
#: many short ones; all are cut into several shards but Meta-World's, which are one each.
NOISE = {
    "mujoco": {"tasks": ("hopper",), "steps": 200, "shard_rows": 50},
    "metaworld": {"tasks": ("reach",), "steps": 110, "trajectories": 5},
    "industrial-benchmark": {"tasks": ("ib-20",), "steps": 260, "shard_rows": 50},
    "bidexhands": {"tasks": ("hand-over",), "steps": 90, "shard_rows": 50},
}
LEARNER = ("inverted-pendulum", 150)
TRAIN = {
    "algorithm": "ppo",
    "segment_steps": 40,
    "normalize_observations": True,
    "hyperparameters": {"n_steps": 32, "batch_size": 16, "n_epochs": 2, "net_arch": [8]},
}
MODEL = {
    "layers": 2,
    "heads": 2,
    "width": 32,
    "feed_forward": 64,
    "action_embedding": 15,
    "observation_embedding": 15,
    "reward_embedding": 2,
}
#: Scores that nobody measured: what a history says of its demonstrator is not under test.
CARD = {
    "random": {"mean": 0.0, "std": 1.0, "episodes": 20, "length": 20.0},
    "expert": {"mean": 100.0, "std": 1.0, "episodes": 20, "length": 20.0},
}
#: Part of a task's attributes that say what the data is; the others say how it is stored.
ATTRIBUTES = (
    "task",
    "group",
    "schedule",
    "options",
    "scores",
    "steps",
    "trajectories",
    "source",
    "train",
    "rows",
    "episodes",
    "weights",
    "reward_scale",
    "split",
)


def run_stage(stage: str, workspace: Workspace, **settings: Any) -> Artifact:
    config = config_class(stage)(**settings)
    return import_module(f"pipelines.{stage}.stage").run(config, workspace, NullReporter()).artifact


def make_demonstrators(workspace: Workspace, name: str, task_name: str) -> Artifact:
    """Publish a task's built-in demonstrator without measuring it."""
    task = full_catalogue().get(task_name)
    domain = domain_of(task)
    options = resolve_options(domain, {})
    policy = builtin_policy(task, domain, options)
    attributes = {
        "task": task.as_json(),
        "policy": policy_attributes(policy),
        "source": {"kind": "builtin"},
        "options": options,
        "card": CARD,
    }
    with workspace.stage("demonstrators", name, config={"task": task.name}) as staging:
        with staging.work_item(task.name) as unit:
            unit.group(task.name, attributes)
            save_policy(unit.group(f"{task.name}/policy", {}), policy)
            write_array(unit.group(f"{task.name}/evaluation", {}), "expert_return", np.zeros(20))
        return staging.publish(summary={}, fingerprints={task.name: fingerprint(task, options)})


def history_arrays(artifact: Artifact) -> Iterator[tuple[str, np.ndarray]]:
    reader = HistoryReader(artifact)
    for task in reader.tasks():
        for trajectory in reader.trajectories(task):
            (rows,) = reader.blocks(task, trajectory, rows=reader.rows(task, trajectory))
            for name, values in {**rows, **reader.episodes(task, trajectory)}.items():
                yield f"{task}/{trajectory}/{name}", values


def dataset_arrays(artifact: Artifact) -> Iterator[tuple[str, np.ndarray]]:
    reader = DatasetReader(artifact)
    for name, task in reader.tasks.items():
        for field, values in task.statistics.items():
            yield f"{name}/{field}", values
        for trajectory, steps in enumerate(task.rows):
            rows = reader.window(name, trajectory, 0, steps)
            rows["episode_start"] = reader.episode_starts(name, trajectory)
            for field, values in rows.items():
                yield f"{name}/{trajectory}/{field}", values


def checkpoint_arrays(artifact: Artifact) -> Iterator[tuple[str, np.ndarray]]:
    for name, values in load_model(artifact).model.state_dict().items():
        yield name, values.numpy()


def stored_arrays(artifact: Artifact) -> Iterator[tuple[str, np.ndarray]]:
    for path, array in artifact.root.members(max_depth=None):
        if hasattr(array, "dtype"):
            yield path, np.asarray(array[...])


def history_attributes(artifact: Artifact) -> dict[str, Any]:
    reader = HistoryReader(artifact)
    return {name: reader.task(name) for name in reader.tasks()}


def dataset_attributes(artifact: Artifact) -> dict[str, Any]:
    return {name: dict(task.attributes) for name, task in DatasetReader(artifact).tasks.items()}


def checkpoint_attributes(artifact: Artifact) -> dict[str, Any]:
    return {"model": dict(artifact.group("model").attrs)}


Arrays = Callable[[Artifact], Iterator[tuple[str, np.ndarray]]]
READERS: dict[str, tuple[Arrays, Callable[[Artifact], Mapping[str, Any]]]] = {
    "demonstrators": (stored_arrays, lambda artifact: {}),
    "histories": (history_arrays, history_attributes),
    "datasets": (dataset_arrays, dataset_attributes),
    "checkpoints": (checkpoint_arrays, checkpoint_attributes),
    "rollouts": (stored_arrays, lambda artifact: {}),
}


def make(root: Path) -> dict[str, Artifact]:
    """Run the stages and return their artifacts by the names of the docstring."""
    workspace = Workspace(root)
    made = {
        "demonstrators": run_stage(
            "demonstrators", workspace, name="measured", tasks=("reacher",), seed=1, workers=1
        )
    }
    for domain, settings in NOISE.items():
        demonstrators = make_demonstrators(workspace, domain, settings["tasks"][0])
        common = {"trajectories": 2, "schedule": "p=2,f=0.2", "seed": 1, "workers": 1}
        made[f"history/{domain}"] = run_stage(
            "distill",
            workspace,
            name=domain,
            demonstrators=demonstrators.reference,
            **{**common, **settings},
        )
    task, steps = LEARNER
    made["history/learner"] = run_stage(
        "distill",
        workspace,
        name="learner",
        demonstrators=make_demonstrators(workspace, "learner", task).reference,
        source="learning-history",
        train=TRAIN,
        steps=steps,
        trajectories=1,
        seed=1,
        workers=1,
    )
    made["dataset"] = run_stage(
        "pack",
        workspace,
        name="all",
        histories=[made[name].reference for name in made if name.startswith("history/")],
        allow=("all",),
        chunk_rows=64,
    )
    made["checkpoint"] = run_stage(
        "train",
        workspace,
        name="model",
        dataset=made["dataset"].reference,
        model=MODEL,
        context=24,
        steps=3,
        batch_size=3,
        gradient_accumulation=2,
        seed=1,
        device="cpu",
        threads=1,
    )
    made["rollout"] = run_stage(
        "rollout",
        workspace,
        name="played",
        checkpoint=made["checkpoint"].reference,
        tasks=("reach", "ib-20"),
        seed=1,
        seeds=2,
        shots=1,
        threads=1,
        device="cpu",
        baselines=("random", "demonstrator"),
    )
    for baseline in ("random", "demonstrator"):
        (found,) = [path for path in (root / "rollouts").iterdir() if path.name.endswith(baseline)]
        made[f"rollout/{baseline}"] = workspace.find("rollouts", found.name)
    return made


def describe(artifact: Artifact) -> dict[str, Any]:
    """Return what the golden file holds of an artifact."""
    arrays, attributes = READERS[artifact.kind]
    tasks = {
        name: {key: value for key, value in each.items() if key in ATTRIBUTES}
        for name, each in attributes(artifact).items()
    }
    return {
        "config": artifact.config,
        "seeds": artifact.manifest.seeds,
        "tasks": tasks,
        "arrays": {path: describe_array(values) for path, values in sorted(arrays(artifact))},
    }


def describe_array(values: np.ndarray) -> dict[str, Any]:
    flat = np.ascontiguousarray(values).reshape(-1)
    header = f"{values.dtype.str} {values.shape} "
    picked = np.linspace(0, max(len(flat) - 1, 0), min(SAMPLES, len(flat))).astype(int)
    return {
        "sha256": hashlib.sha256(header.encode() + flat.tobytes()).hexdigest(),
        "dtype": values.dtype.str,
        "shape": list(values.shape),
        "values": flat[picked].tolist(),
    }


def machine() -> dict[str, str]:
    """Return what the digests of floating point depend on besides the code."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    vendors = [line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")]
    packages = ("numpy", "torch", "mujoco", "gymnasium", "metaworld", "stable-baselines3")
    return {
        "vendor": vendors[0] if vendors else "unknown",
        "capability": torch.backends.cpu.get_cpu_capability(),
        **{name: version(name) for name in packages},
    }


def to_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    return json.loads(GOLDEN.read_text())


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    made = make(tmp_path_factory.mktemp("golden"))
    return {name: to_json(describe(artifact)) for name, artifact in made.items()}


PARTS = (
    "demonstrators",
    *(f"history/{domain}" for domain in NOISE),
    "history/learner",
    "dataset",
    "checkpoint",
    "rollout",
    "rollout/random",
    "rollout/demonstrator",
)


@pytest.mark.parametrize("part", PARTS)
def test_configuration_and_attributes(part, found, golden):
    """What an artifact says of its content: what `up to date` and its readers go by."""
    expected = golden["artifacts"][part]
    assert found[part]["config"] == without_machine(expected["config"], found[part]["config"])
    assert found[part]["seeds"] == expected["seeds"]
    assert found[part]["tasks"] == expected["tasks"]


def without_machine(expected: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """Take what a configuration says of the machine from what was found: attention, threads."""
    return {
        key: found[key] if key == "attention" and key in found else value
        for key, value in expected.items()
    }


@pytest.mark.parametrize("part", PARTS)
def test_numbers(part, found, golden):
    """Every array, to the bit where floating point is that of the golden file."""
    arrays, expected = found[part]["arrays"], golden["artifacts"][part]["arrays"]
    assert arrays.keys() == expected.keys()
    if machine() == golden["machine"]:
        changed = [path for path in expected if arrays[path] != expected[path]]
        assert changed == []
        return
    # A model acts on what its own rounding led to, step after step: reach's return, of 100 steps,
    # is 0.4 % another between an AMD processor with AVX2 and an Intel one with AVX-512.
    near = 0.02 if part == "rollout" else 1e-3
    for path, each in expected.items():
        assert (arrays[path]["dtype"], arrays[path]["shape"]) == (each["dtype"], each["shape"])
        np.testing.assert_allclose(
            arrays[path]["values"], each["values"], rtol=near, atol=near, err_msg=path
        )


def main() -> None:
    if sys.argv[1:] != ["--write"]:
        raise SystemExit("usage: python tests/golden/test_golden.py --write")
    with tempfile.TemporaryDirectory() as directory:
        artifacts = {name: describe(each) for name, each in make(Path(directory)).items()}
    GOLDEN.parent.mkdir(exist_ok=True)
    text = json.dumps({"machine": machine(), "artifacts": artifacts}, indent=None, sort_keys=True)
    # An array a line, so that a difference can be read.
    GOLDEN.write_text(text.replace('}, "', '},\n"') + "\n")


if __name__ == "__main__":
    main()
