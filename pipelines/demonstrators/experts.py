"""The demonstrators that come with the package: trained experts, then the domains' own.

Trained experts are two files a domain in ``pipelines/demonstrators/data``, written by
runs/train_experts.py: ``<domain>.json`` has each task's kind of policy, its configuration, training
and scores, ``<domain>.npz`` the weights, float32, as ``<task>/<array>``. Which tasks have an expert
is answered from the JSON alone.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.artifacts.files import raise_if_failing
from pipelines.errors import ArtifactCorruptError
from pipelines.policies.base import PolicySpec

if TYPE_CHECKING:
    from pipelines.domains.base import Domain, Options
    from pipelines.learners.settings import TrainSettings
    from pipelines.tasks.spec import TaskSpec

DATA = Path(__file__).with_name("data")
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Expert:
    """A trained policy and where it came from.

    Attributes:
        policy: The policy, its arrays float32.
        training: How it was trained: ``settings``, ``seed``, ``steps`` and ``command``.
        card: Random and expert return as measured, and the paper's; as in a demonstrators artifact.
    """

    policy: PolicySpec
    training: dict[str, Any]
    card: dict[str, Any]


def has_expert(task: TaskSpec, directory: Path = DATA) -> bool:
    """Tell whether a task has a trained expert; a variation of a task has none of its own."""
    return task.name in _records(directory, task.domain)


def expert_policy(task: TaskSpec, directory: Path = DATA) -> PolicySpec | None:
    """Return the trained policy of a task, or None.

    Raises:
        ArtifactCorruptError: The weights are not those that the record names.
    """
    record = _records(directory, task.domain).get(task.name)
    return None if record is None else _policy(task.name, record, _arrays(directory, task.domain))


def expert_training(task: TaskSpec, directory: Path = DATA) -> dict[str, Any] | None:
    """Return how the expert of a task was trained, or None where it has none."""
    record = _records(directory, task.domain).get(task.name)
    return None if record is None else dict(record["training"])


def has_builtin(task: TaskSpec, domain: Domain) -> bool:
    """Tell whether `builtin_policy` gives one, without loading weights or an environment."""
    return has_expert(task) or domain.has_demonstrator(task)


def builtin_policy(
    task: TaskSpec, domain: Domain, options: Options, *, trained: bool = True
) -> PolicySpec | None:
    """Return the demonstrator of a task that comes with the package, or None.

    A trained expert comes first, being there only where it is better than the domain's own.

    Args:
        task: The task, or a variation of one.
        options: Values of all options of the domain.
    """
    expert = expert_policy(task) if trained else None
    return expert or domain.demonstrator_under(task, options)


def base_policy(task: TaskSpec, options: Options) -> PolicySpec | None:
    """Return `builtin_policy` of a task, and for a variation that of its base task.

    Changed physics has no demonstrator of its own (paper, Appendix A.2.1).
    """
    from pipelines.domains.registry import domain_of, full_catalogue

    base = full_catalogue().get(task.variation_of) if task.variation_of else task
    return builtin_policy(base, domain_of(base), options)


def train_settings(given: TrainSettings | None, task: TaskSpec) -> TrainSettings:
    """Return how to train a task: as given, as its expert was, or by the defaults."""
    from pipelines.learners.settings import TrainSettings

    if given is not None:
        return given
    training = expert_training(task)
    return TrainSettings() if training is None else TrainSettings(**training["settings"])


def read_experts(domain: str, directory: Path = DATA) -> dict[str, Expert]:
    """Return all trained experts of a domain by task.

    Raises:
        ArtifactCorruptError: The weights are not those that the records name.
    """
    records = _records(directory, domain)
    arrays = _arrays(directory, domain) if records else {}
    return {
        name: Expert(_policy(name, record, arrays), record["training"], record["card"])
        for name, record in records.items()
    }


def write_experts(domain: str, experts: Mapping[str, Expert], directory: Path = DATA) -> None:
    """Write all trained experts of a domain; the same experts give the same bytes.

    Args:
        experts: Experts by task; their arrays are written as float32.
    """
    import numpy as np

    from pipelines.artifacts import files
    from pipelines.policies.storage import policy_attributes

    arrays = {
        f"{task}/{name}": np.asarray(values, dtype=np.float32)
        for task, expert in sorted(experts.items())
        for name, values in sorted(expert.policy.arrays.items())
    }
    packed = io.BytesIO()
    # Compressed: what networks of one domain have in common, such as zeros, takes no room.
    np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]
    records = {
        task: {
            "policy": {**policy_attributes(expert.policy), "arrays": sorted(expert.policy.arrays)},
            "training": expert.training,
            "card": expert.card,
        }
        for task, expert in sorted(experts.items())
    }
    directory.mkdir(parents=True, exist_ok=True)
    files.write_file(directory / f"{domain}.npz", packed.getvalue())
    files.write_json(directory / f"{domain}.json", {"format": FORMAT, "tasks": records})
    _records.cache_clear()
    _arrays.cache_clear()


@lru_cache(maxsize=16)
def _records(directory: Path, domain: str) -> dict[str, Any]:
    path = directory / f"{domain}.json"
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    try:
        read = json.loads(content)
        known = read["format"] == FORMAT
        tasks: dict[str, Any] = read["tasks"]
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactCorruptError(
            "The record of the trained experts cannot be read.",
            where=path,
            found=error,
            fix="install the package again",
        ) from error
    if not known:
        raise ArtifactCorruptError(
            "The record of the trained experts has another format.",
            where=path,
            expected=FORMAT,
            found=read["format"],
        )
    return tasks


@lru_cache(maxsize=4)
def _arrays(directory: Path, domain: str) -> dict[str, Any]:
    import zipfile

    import numpy as np

    path = directory / f"{domain}.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise_if_failing(error, path)
        raise ArtifactCorruptError(
            "The weights of the trained experts cannot be read.",
            where=path,
            found=error,
            fix="install the package again",
        ) from error
    for array in arrays.values():
        # They are shared by all who ask.
        array.flags.writeable = False
    return arrays


def _policy(task: str, record: Mapping[str, Any], arrays: Mapping[str, Any]) -> PolicySpec:
    policy = record["policy"]
    missing = [name for name in policy["arrays"] if f"{task}/{name}" not in arrays]
    if missing:
        raise ArtifactCorruptError(
            "Weights of a trained expert are missing.",
            where=f"task {task}",
            expected=", ".join(policy["arrays"]),
            found=f"no {', '.join(missing)}",
            fix="install the package again",
        )
    own = {name: arrays[f"{task}/{name}"] for name in policy["arrays"]}
    return PolicySpec(kind=policy["kind"], config=policy["config"], arrays=own)
