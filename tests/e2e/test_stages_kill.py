"""SIGKILL at random moments of each stage: the resumed bytes equal an uninterrupted run's."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from pipelines.artifacts.verify import verify
from pipelines.artifacts.workspace import STAGE_OF_KIND, Workspace

KINDS = {stage: kind for kind, stage in STAGE_OF_KIND.items()} | {"merge": "histories"}
WORDS = {
    "demonstrators": ["--domain", "point-mass"],
    "distill": [],
    "pack": [],
    "train": ["--steps", "12"],
    "rollout": ["--set", "rollout.max_streams=1"],
}
FAST, SEEDS = 1, 20


@pytest.fixture
def runs(shell):
    """Start a stage on a copy of the prepared workspace; returns a function to do so."""

    def start(stage: str, name: str, workers: int):
        if stage == "merge":
            words = ["artifacts", "merge", "point-mass", "--name", name, "--quiet"]
        else:
            words = [stage, *WORDS[stage], "--config", "run.yaml", "--name", name, "--quiet"]
        if stage in ("demonstrators", "distill"):
            words += ["--workers", str(workers)]
        return shell.start(*words)

    return start


def _finish(process) -> float:
    begun = time.perf_counter()
    assert process.wait(120) == 0, process.communicate()
    return time.perf_counter() - begun


def _kill(process, seconds: float) -> bool:
    """Kill the process group after some time; tells whether it was still at work."""
    end = time.perf_counter() + seconds
    while process.poll() is None and time.perf_counter() < end:
        time.sleep(0.001)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def _check(runs, shell, stage: str, seeds: range, workers: int = 1) -> None:
    workspace, kind = Workspace(shell.workspace), KINDS[stage]
    seconds = _finish(runs(stage, "undisturbed", workers))
    expected = workspace.find(kind, "undisturbed").digest
    killed, wanted = 0, max(1, len(seeds) // 2)
    for seed in itertools.count(seeds.start):
        if seed >= seeds.stop and (killed >= wanted or seed >= seeds.stop + 10):
            break
        name = f"seed-{seed}"
        moments = random.Random(f"{stage} {seed}")
        for _ in range(1 + seed % 2):
            # The first tenth is the start of the program.
            hit = _kill(runs(stage, name, workers), moments.uniform(0.1, 1) * seconds)
            killed += hit
            # Too late: the machine was slower when the time was taken.
            seconds /= 1 if hit else 2
            for version in workspace.taken_versions(kind, name):
                # What can be seen is whole.
                assert verify(workspace.path(kind, name, version), deep=True) == []
        _finish(runs(stage, name, workers))
        found = workspace.find(kind, name)
        assert found.digest == expected, (stage, seed)
        assert workspace.versions(kind, name) == [1]
        assert not list(found.path.parent.glob(".staging-*")), seed
        shutil.rmtree(found.path.parent)
    assert killed >= wanted


@pytest.mark.parametrize("stage", WORDS)
def test_killed_stage_resumes_to_equal_bytes(runs, shell, stage):
    _check(runs, shell, stage, range(FAST))


@pytest.mark.slow
@pytest.mark.parametrize("stage", WORDS)
def test_killed_stage_resumes_to_equal_bytes_many_times(runs, shell, stage):
    _check(runs, shell, stage, range(FAST, FAST + SEEDS))


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["demonstrators", "distill"])
def test_killed_workers_resume_to_equal_bytes(runs, shell, stage):
    """The same with two spawned workers that are killed along."""
    _check(runs, shell, stage, range(5), workers=2)


def test_killed_merge_resumes_to_equal_bytes(runs, shell):
    """And to those of one machine's collection."""
    command = ["distill", "--config", "run.yaml", "--quiet", "--name", "point-mass"]
    shell.prepare([*command, "--shard", f"{shard}/2"] for shard in (1, 2))
    _check(runs, shell, "merge", range(1))
    digests = shell.digests()
    assert digests["histories/undisturbed@v1"] == digests["histories/point-mass@v1"]


def test_workers_die_with_their_parent(shell):
    """Only the parent is killed; nothing is left that would go on writing."""
    words = ["distill", "--config", "run.yaml", "--steps", "40000", "--workers", "2"]
    words += ["--name", "orphans"]
    process = shell.start(*words)
    try:
        deadline = time.monotonic() + 120
        staging = shell.workspace / "histories" / "orphans"
        while not list(staging.glob(".staging-*/progress/*point-mass*00000*00000*.json")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert len(_group(process.pid) - {process.pid}) >= 2
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        deadline = time.monotonic() + 30
        while _group(process.pid):
            assert time.monotonic() < deadline, "workers outlive their parent"
            time.sleep(0.05)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    staged = shell.vintix("artifacts", "ls", "--json").document["staged"]
    assert [(row["name"], row["held_by"]) for row in staged] == [("orphans", None)]


def _group(leader: int) -> set[int]:
    """Return the live processes of a process group."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, group = path.read_text().rpartition(")")[2].split()[:3]
            if int(group) == leader and state not in "ZX":
                found.add(int(path.parent.name))
    return found
