"""The five stages on real simulators: MuJoCo, the Industrial-Benchmark and Meta-World."""

from __future__ import annotations

from dataclasses import replace

import pytest

TASKS = ("reacher", "industrial-benchmark-20", "reach")
GROUPS = 3


@pytest.fixture
def run(empty):
    """Run the five stages in a new workspace; returns the commands' shell."""

    def do(name: str, workers: int):
        shell = replace(empty, workspace=empty.directory / name)
        selection = [word for task in TASKS for word in ("--task", task)]
        stages = [
            ["demonstrators", *selection, "--name", "three", "--workers", str(workers)],
            ["distill", "--name", "three", "--workers", str(workers), "--trajectories", "1"],
            ["pack"],
            ["train", "--context", "100", "--steps", "8"],
            ["rollout", "--shots", "2", "--seeds", "1", "--set", "rollout.context=100"],
        ]
        shell.prepare([*stage, "--quiet", "--config", "run.yaml"] for stage in stages)
        return shell

    return do


def test_five_stages_on_real_simulators(run):
    """From nothing to a curve of each task."""
    shell = run("one", 1)
    done = shell.vintix(
        *("rollout", "--shots", "2", "--seeds", "1", "--set", "rollout.context=100"),
        *("--config", "run.yaml", "--json"),
    )
    assert done.code == 0, done.stderr
    report = done.document
    assert report["up_to_date"] is True
    assert sorted(task["name"] for task in report["tasks"]) == sorted(TASKS)
    for task in report["tasks"]:
        assert task["expert"] > task["random"], task["name"]
        assert len(task["normalized_by_shot"]) == 2
    trained = shell.vintix("artifacts", "show", "checkpoints/three-tiny", "--json").document
    assert trained["manifest"]["summary"]["groups"] == GROUPS
    assert sorted(trained["manifest"]["fingerprints"]) == sorted(TASKS)
    packages = shell.vintix("artifacts", "show", "histories/three", "--json").document["manifest"]
    assert {"mujoco", "metaworld"} <= set(packages["packages"])
    assert shell.vintix("artifacts", "verify", "--all", "--deep").code == 0


@pytest.mark.slow
def test_the_bytes_do_not_depend_on_the_number_of_workers(run):
    assert run("two", 2).digests() == run("one", 1).digests()
