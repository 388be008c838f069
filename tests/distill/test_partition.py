"""The split of a plan over machines: a partition that follows from the plan alone."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipelines.config import resolve_config
from pipelines.distill.config import DistillConfig
from pipelines.distill.partition import Partition, split
from pipelines.distill.plan import plan, resolve
from pipelines.errors import ConfigError, UsageError

JOBS = st.dictionaries(
    st.tuples(st.sampled_from(["hopper", "ant", "reach"]), st.integers(0, 50)),
    st.floats(0.01, 1e6),
    max_size=40,
)
CONFIG = {"trajectories": 2, "steps": 90, "shard_rows": 60, "name": "h", "workers": 1}


@given(JOBS, st.integers(1, 50))
def test_every_job_is_in_exactly_one_partition(jobs, count):
    partitions = split(jobs, count)
    assert len(partitions) == count
    assert sorted(key for partition in partitions for key in partition) == sorted(jobs)


@given(JOBS, st.integers(1, 50))
def test_partitions_are_balanced(jobs, count):
    """Two partitions differ by no more than the longest job, and none is empty without need."""
    partitions = split(jobs, count)
    loads = [sum(jobs[key] for key in partition) for partition in partitions]
    assert max(loads) - min(loads) <= max(jobs.values(), default=0.0) * (1 + 1e-9)
    assert sum(not partition for partition in partitions) == max(0, count - len(jobs))


@given(JOBS, st.integers(1, 8), st.randoms(use_true_random=False))
def test_the_order_of_the_jobs_does_not_matter(jobs, count, order: random.Random):
    keys = list(jobs)
    order.shuffle(keys)
    assert split({key: jobs[key] for key in keys}, count) == split(jobs, count)


def test_a_small_split_by_hand():
    """The longest first, onto the least loaded; equal ones by key, equal partitions by number."""
    assert split({"d": 1, "a": 5, "b": 3, "c": 3}, 2) == (("a", "d"), ("b", "c"))
    assert split({"b": 1.0, "a": 1.0}, 3) == (("a",), ("b",), ())


@pytest.mark.parametrize("text", ["0/4", "5/4", "1/0", "", "2", "a/b", "1/4/2", "-1/4", "1.5/4"])
def test_what_is_no_shard_is_wrong_usage(text):
    """On the command line a usage error, in the environment a configuration error; both say how."""
    with pytest.raises(UsageError, match="1/4 to 4/4") as found:
        resolve_config("distill", DistillConfig, command_line={"shard": text}, environment={})
    assert found.value.exit_code == 2
    if text:
        with pytest.raises(ConfigError, match="1/4 to 4/4"):
            resolve_config(
                "distill",
                DistillConfig,
                command_line={},
                environment={"VINTIX_DISTILL_SHARD": text},
            )
    with pytest.raises(ValidationError):
        DistillConfig(shard=text)


def test_shards_are_read_from_every_layer():
    found = resolve_config(
        "distill", DistillConfig, command_line={}, assignments=["distill.shard=2/4"], environment={}
    )
    assert found.shard == Partition(2, 4) == DistillConfig(shard="2/4").shard
    assert str(found.shard) == "2/4"
    assert DistillConfig().shard is None


def test_names_of_parts():
    partition = Partition(2, 4)
    assert partition.part_name("mujoco-1-of-2") == "mujoco-1-of-2-2-of-4"
    assert partition.history_name(partition.part_name("mujoco-2-of-4")) == "mujoco-2-of-4"


def test_the_dry_runs_of_all_shards_add_up_to_the_plan(workspace):
    """Rows, steps and bytes; toy-c is vectorised, so that its trajectories stay together."""
    whole = plan(DistillConfig(**CONFIG), workspace)
    plans = [plan(DistillConfig(**CONFIG, shard=f"{n}/3"), workspace) for n in (1, 2, 3)]
    for field in ("trajectories", "steps", "jobs", "bytes"):
        assert sum(each.totals[field] for each in plans) == whole.totals[field]
    assert [len(each.rows) for each in plans] != [3, 3, 3]
    assert "shard: 2/3 of h" in plans[1].notes


def test_more_shards_than_jobs_are_told(workspace):
    found = plan(DistillConfig(**CONFIG, shard="9/9"), workspace)
    assert found.rows == []
    assert found.totals["steps"] == 0
    assert any(
        "9 shards, but jobs for 5 alone: 4 of them have nothing to do" in each
        for each in found.notes
    )


def test_partitions_do_not_depend_on_the_order_of_the_tasks(workspace):
    """Two machines that name the tasks in another order split alike."""
    one = DistillConfig(**CONFIG, tasks=("toy-a", "toy-b", "toy-c"))
    two = DistillConfig(**CONFIG, tasks=("toy-c", "toy-b", "toy-a"))
    for n in (1, 2):
        partitions = [
            {
                (job.task.name, job.trajectories)
                for each in resolve(config, workspace).of_partition(Partition(n, 2)).tasks
                for job in each.jobs
            }
            for config in (one, two)
        ]
        assert partitions[0] == partitions[1]
