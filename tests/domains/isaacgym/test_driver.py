"""The stage that collects, driving fake workers: what it promises holds for this backend too."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from domains.isaacgym.conftest import Fake
from pipelines.artifacts.workspace import Workspace
from pipelines.distill.collect import collect_job
from pipelines.distill.job import Job, find_position
from pipelines.domains.isaacgym.batch import IsaacGymBatch
from pipelines.domains.isaacgym.settings import IsaacGymError
from pipelines.policies.base import Policy
from pipelines.tasks.registry import catalogue

TASK = catalogue().get("hand-push-block")
BLOCK = Job(
    task=TASK,
    trajectories=(0, 1, 2),
    steps=150,
    shard_rows=40,
    schedule=TASK.schedule,
    options={"backend": "isaacgym"},
    seed=3,
)


class Follow(Policy):
    """Acts on what it sees, so that one wrong observation changes all that follows."""

    def reset(self, indices):
        pass

    def act(self, observation_BO):
        return np.tanh(observation_BO[:, :52]).astype(np.float32)


def collect(tmp_path: Path, name: str, batch: IsaacGymBatch) -> str | None:
    """Collect what is left of the block; return the digest, or None where a worker was lost."""
    with Workspace(tmp_path / name).stage("histories", "h", config={"x": 1}) as staging:
        position = find_position(staging, BLOCK)
        try:
            collect_job(BLOCK, batch, Follow(), staging.directory, position=position)
        except IsaacGymError:
            return None
        finally:
            batch.close()
        return staging.publish(summary={}).digest


def test_a_history_does_not_depend_on_lost_workers_or_on_who_shares(tmp_path: Path, fake: Fake):
    """A run whose workers die goes on to the bytes of one whose workers do not."""
    whole = collect(tmp_path, "whole", IsaacGymBatch(TASK, 3, fake()))
    assert whole is not None
    assert collect(tmp_path, "lost", IsaacGymBatch(TASK, 3, fake("die-after=100"))) is None
    assert collect(tmp_path, "lost", IsaacGymBatch(TASK, 3, fake())) == whole
    assert collect(tmp_path, "shared", IsaacGymBatch(TASK, 3, fake(), 2)) == whole


def test_the_block_has_resets_in_mid_run():
    """Guards the test above: episodes end at different steps in different copies."""
    from pipelines.rng import derive_seed

    seeds = [derive_seed(3, "distill", TASK.name, k, "episode", 0) for k in range(3)]
    assert len({seed % 11 if seed % 3 == 0 else None for seed in seeds}) > 1, seeds
