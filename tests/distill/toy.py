"""Makes workspaces with the toy domain of `vintix_toy.py`."""

from __future__ import annotations

import importlib
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path

from pipelines.artifacts.arrays import write_array
from pipelines.artifacts.work import WorkItem
from pipelines.artifacts.workspace import Workspace
from pipelines.errors import StorageError


def refuse_commits(monkeypatch, after, until=None):
    """Let the disk refuse units that are to be made durable.

    Args:
        monkeypatch: Undoes it.
        after: Units that are still made durable.
        until: Units after which the disk has room again; None for never.

    Returns:
        A list that grows by one with every attempt.
    """
    attempts, original = [], WorkItem._commit

    def commit(unit):
        attempts.append(unit.name)
        if len(attempts) > after and (until is None or len(attempts) <= until):
            raise StorageError("no room")
        original(unit)

    monkeypatch.setattr(WorkItem, "_commit", commit)
    return attempts


CARD = {
    "random": {"mean": -30.0, "std": 5.0, "episodes": 20, "length": 20.0},
    "expert": {"mean": -5.0, "std": 1.0, "episodes": 20, "length": 23.0},
}


@contextmanager
def toy_installed(directory: Path):
    """Install the plugin in a directory that this process and its workers import from."""
    from pipelines.domains import registry

    shutil.copy(Path(__file__).with_name("vintix_toy.py"), directory)
    info = directory / "vintix_toy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vintix-toy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[vintix.domains]\ntoy = vintix_toy:Toy\ntoy-blocks = vintix_toy:ToyBlocks\n"
    )
    sys.path.insert(0, str(directory))
    importlib.invalidate_caches()
    registry._discover.cache_clear()
    try:
        yield
    finally:
        sys.path.remove(str(directory))
        sys.modules.pop("vintix_toy", None)
        importlib.invalidate_caches()
        registry._discover.cache_clear()


def make_demonstrators(
    workspace: Workspace,
    tasks=("toy-a", "toy-b", "toy-c"),
    name="toys",
    options=None,
    fingerprints=None,
):
    """Publish a demonstrators artifact, of the toy tasks or of others."""
    from pipelines.demonstrators.experts import builtin_policy
    from pipelines.domains.registry import domain_of, full_catalogue, resolve_options
    from pipelines.playing.fingerprint import fingerprint
    from pipelines.policies.storage import policy_attributes, save_policy

    found = {}
    with workspace.stage(
        "demonstrators", name, config={"tasks": list(tasks), "options": options}
    ) as staging:
        for task in tasks:
            spec = full_catalogue().get(task)
            domain = domain_of(spec)
            resolved = resolve_options(domain, options or {})
            policy = builtin_policy(spec, domain, resolved)
            found[task] = fingerprint(spec, resolved)
            with staging.work_item(task) as unit:
                unit.group(
                    task,
                    {
                        "task": spec.as_json(),
                        "policy": policy_attributes(policy),
                        "source": {"kind": "builtin"},
                        "options": resolved,
                        "card": CARD,
                    },
                )
                save_policy(unit.group(f"{task}/policy", {}), policy)
                evaluation = unit.group(f"{task}/evaluation", {})
                import numpy as np

                write_array(evaluation, "expert_return", np.zeros(20))
        return staging.publish(summary={}, fingerprints=fingerprints or found)
