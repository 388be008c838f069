"""A demonstrator that remembers within an episode: resumed collection restores its memory."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from pipelines.actions import Box
from pipelines.artifacts.workspace import Workspace
from pipelines.distill.collect import collect_job
from pipelines.distill.job import Job, find_position
from pipelines.domains.registry import domain_of, resolve_options
from pipelines.policies.phases import tuned_policy
from pipelines.policies.registry import build_policy
from pipelines.tasks.registry import catalogue
from pipelines.tasks.spec import Schedule


@pytest.mark.simulator
def test_way_points_go_on_where_an_interrupted_collection_stopped(tmp_path):
    """Shards end within episodes, in the middle of a grasp: phase, steps and latched places have
    to come back by replaying the episode's observations."""
    task = next(each for each in catalogue().tasks if each.env_id == "stick-push-v3")
    domain, one_A = domain_of(task), np.ones(4, np.float32)
    options = resolve_options(domain, {})
    job = Job(
        task=task,
        trajectories=(0, 1),
        steps=240,
        shard_rows=47,
        schedule=Schedule(p=1.0, f=0.5),
        options=options,
        seed=5,
    )

    def collect(directory, position, limit=float("inf")):
        seen = 0.0

        def progress(steps):
            nonlocal seen
            seen += steps
            if seen > limit:
                raise InterruptedError

        with contextlib.closing(domain.make_batch(task, 2, options, [0, 1])) as batch:
            collect_job(
                job,
                batch,
                build_policy(tuned_policy(task.env_id), Box.between(-one_A, one_A)),
                directory,
                position=position,
                progress=progress,
            )

    with Workspace(tmp_path / "whole").stage("histories", "h", config={"x": 1}) as staging:
        collect(staging.directory, find_position(staging, job))
        whole = staging.publish(summary={})
    stops = []
    while True:
        with Workspace(tmp_path / "parts").stage("histories", "h", config={"x": 1}) as staging:
            position = find_position(staging, job)
            stops.append(position.shard)
            with contextlib.suppress(InterruptedError):
                collect(staging.directory, position, limit=150)
            if find_position(staging, job).shard == job.shards:
                parts = staging.publish(summary={})
                break
    assert len(set(stops)) > 2
    assert parts.digest == whole.digest
