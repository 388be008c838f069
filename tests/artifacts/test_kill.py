"""SIGKILL at random moments: what is published later equals an uninterrupted run's bytes."""

from __future__ import annotations

import multiprocessing
import random
import signal
import time

import pytest

from pipelines.artifacts.verify import verify
from pipelines.artifacts.workspace import Workspace
from pipelines.errors import ArtifactMissingError

from .helpers import check_tiny, quick_directory, run_tiny

pytestmark = pytest.mark.process

SEEDS = 24
SLICES = 4


def _work(root, started):
    started.send(True)
    run_tiny(root)
    started.send(True)


def _run_until(context, root, seconds):
    """Run the tiny stage in a process, killed after some time from its first action.

    Returns:
        Its exit code, and how long it worked.
    """
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(root, sender))
    process.start()
    receiver.recv()
    begun = time.perf_counter()
    receiver.poll(seconds)
    worked = time.perf_counter() - begun
    if seconds is not None:
        process.kill()
    process.join()
    return process.exitcode, worked


@pytest.fixture(scope="module")
def context():
    # Forked from a server that has imported everything and has no threads: a start costs
    # milliseconds, and a moment of the run can be hit.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


@pytest.mark.parametrize(
    "part", [0, *(pytest.param(part, marks=pytest.mark.slow) for part in range(1, SLICES))]
)
def test_killed_runs_resume_to_equal_bytes(context, part):
    """Each seed kills its run once or twice, anywhere, then lets it end."""
    killed = 0
    with quick_directory() as directory:
        undisturbed = run_tiny(directory / "undisturbed")
        _, seconds = _run_until(context, directory / "measured", None)
        for seed in range(part, SEEDS, SLICES):
            moments = random.Random(seed)
            root = directory / f"seed-{seed}"
            for _ in range(1 + seed % 2):
                code, _ = _run_until(context, root, moments.uniform(0, seconds))
                killed += code == -signal.SIGKILL
                try:
                    check_tiny(Workspace(root).find("histories"))
                except ArtifactMissingError:
                    assert not list(root.glob("histories/tiny/v*"))
            final = run_tiny(root)
            assert final.digest == undisturbed.digest, seed
            assert verify(final, deep=True) == []
            assert [path.name for path in final.path.parent.glob("v*")] == ["v1"]
    assert killed >= SEEDS // SLICES
