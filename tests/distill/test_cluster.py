"""``--executor ray`` on a test cluster of two nodes of this machine: the bytes of a local run."""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from distill.toy import make_demonstrators
from pipelines.artifacts.verify import verify
from pipelines.artifacts.workspace import Workspace
from pipelines.cluster import RETRIES, RayCluster
from pipelines.distill.config import DistillConfig
from pipelines.distill.stage import run
from pipelines.errors import (
    ConfigError,
    InterruptedRunError,
    MissingDependencyError,
    TasksFailedError,
    UsageError,
)
from pipelines.parallel import WorkerError, run_parallel
from pipelines.reporter import NullReporter

pytest.importorskip("ray", reason="ray is not installed")
pytestmark = pytest.mark.slow

TESTS = Path(__file__).parents[1]
CONFIG = {"trajectories": 2, "steps": 90, "shard_rows": 60, "name": "h"}
LONG = {"trajectories": 2, "steps": 20_000, "shard_rows": 500, "name": "h"}


class Watching(NullReporter):
    """Counts the progress of one label and calls something at each step of it."""

    def __init__(self, label, act=lambda count: None):
        super().__init__()
        self.label, self.act, self.count = label, act, 0.0

    @contextmanager
    def progress(self, label, total, unit=""):
        yield self if label == self.label else NullCount()

    def advance(self, amount=1, **fields):
        self.count += amount
        self.act(self.count)


class NullCount:
    def advance(self, amount=1, **fields):
        pass


def distill(workspace, reporter=None, **changes):
    return run(DistillConfig(**{**CONFIG, **changes}), workspace, reporter or NullReporter())


@pytest.fixture
def reference(tmp_path, toy_domain):
    """The digest that a local run gives."""
    other = Workspace(tmp_path / "reference")
    make_demonstrators(other)
    return lambda **changes: distill(other, **changes).artifact.digest


@pytest.fixture(scope="module")
def cluster(toy_domain):
    """A cluster of one node with one processor; tests add another one."""
    from ray.cluster_utils import Cluster

    paths = [str(toy_domain), str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
    with pytest.MonkeyPatch.context() as patch:
        # What pip would have installed on a node.
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in paths if path))
        found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        patch.setenv("RAY_ADDRESS", found.address)
        yield found
        found.shutdown()


@pytest.fixture
def second(cluster):
    """A second node, for one test."""
    node = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield node
    if node in cluster.list_all_nodes():
        cluster.remove_node(node, allow_graceful=False)


def jobs_of(node) -> list[int]:
    """Return the processes of a node that are at a job."""
    (raylet,) = node.all_processes["raylet"]
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            title = (path.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == raylet.process.pid and title.startswith(b"ray::_run_job"):
            found.append(int(path.parent.name))
    return found


def work(job, advance):
    for _ in range(10):
        advance(0.5)
    if job == "usage":
        raise UsageError("no", where="here", fix="do it")
    if job == "unexpected":
        raise RuntimeError("a surprise")
    if job == "threads":
        return os.environ["OMP_NUM_THREADS"], os.environ["MKL_NUM_THREADS"]
    if isinstance(job, Path):
        with job.open("a") as file:
            file.write("x")
        if len(job.read_text()) <= int(job.name):
            os._exit(9)
        return job.read_text()
    return job, os.getpid()


def test_outcomes(cluster, second, tmp_path):
    """Order, errors and progress are those of local workers; one thread each."""
    reporter = Watching("x")
    jobs = [1, "usage", 2, "unexpected", "threads", 3]
    seen = []
    outcomes = run_parallel(
        work,
        jobs,
        RayCluster(tmp_path),
        reporter,
        label="x",
        total=5 * len(jobs),
        on_done=lambda index, outcome: seen.append(index),
    )
    assert [outcomes[index].value[0] for index in (0, 2, 5)] == [1, 2, 3]
    assert isinstance(outcomes[1].error, UsageError)
    assert outcomes[1].error.fix == "do it"
    assert isinstance(outcomes[3].error, WorkerError)
    assert "a surprise" in outcomes[3].error.message
    assert outcomes[4].value == ("1", "1")
    assert os.getpid() not in {outcomes[index].value[1] for index in (0, 2, 5)}
    assert sorted(seen) == list(range(6))
    assert reporter.count == 5 * len(jobs)
    assert list(tmp_path.iterdir()) == []
    assert run_parallel(work, [], RayCluster(tmp_path), reporter, label="x", total=0) == []


def test_a_job_whose_process_dies_is_run_again_and_not_for_ever(cluster, tmp_path):
    """A file is named after the number of times that its job dies."""
    base = tmp_path / "shared"
    base.mkdir()
    outcomes = run_parallel(
        work,
        [tmp_path / "2", tmp_path / str(RETRIES + 1)],
        RayCluster(base),
        NullReporter(),
        label="x",
        total=1,
    )
    assert outcomes[0].value == "xxx"
    assert isinstance(outcomes[1].error, WorkerError)
    assert "lost" in outcomes[1].error.message
    assert (tmp_path / str(RETRIES + 1)).read_text() == "x" * (RETRIES + 1)


@pytest.mark.parametrize("schedule", [None, "fitted"])
def test_two_nodes_write_what_one_machine_writes(cluster, second, workspace, reference, schedule):
    changes = {"schedule": schedule, "pilot_episodes": 2}
    found = distill(workspace, executor="ray", **changes)
    assert found.artifact.digest == reference(**changes)
    assert verify(found.artifact, deep=True) == []
    assert distill(workspace, **changes).up_to_date


def test_a_shard_on_a_cluster(cluster, workspace):
    """The two ways beyond one machine together."""
    on_ray = distill(workspace, executor="ray", shard="1/2").artifact.digest
    assert distill(workspace, shard="1/2", name="local").artifact.digest == on_ray


def test_a_node_that_dies_leaves_its_jobs_to_the_others(cluster, second, workspace, reference):
    killed = []

    def kill(count):
        if count > 5_000 and not killed and jobs_of(second):
            killed.extend(jobs_of(second))
            cluster.remove_node(second, allow_graceful=False)

    reporter = Watching("distill", kill)
    found = distill(workspace, reporter, executor="ray", **LONG)
    assert killed
    assert found.artifact.digest == reference(**LONG)
    assert verify(found.artifact, deep=True) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_jobs_and_keeps_the_work(cluster, second, workspace, reference, number):
    """Nothing writes any more when the command has ended; a local run goes on from there."""

    def interrupt(count):
        if count > 5_000:
            signal.raise_signal(number)

    with pytest.raises(InterruptedRunError) as found:
        distill(workspace, Watching("distill", interrupt), executor="ray", **LONG)
    assert found.value.exit_code == 128 + number
    staged = sorted((workspace.root / "histories").rglob("progress/*"))
    assert any("toy" in path.name and "00000" in path.name for path in staged)
    time.sleep(1.0)
    assert sorted((workspace.root / "histories").rglob("progress/*")) == staged
    assert distill(workspace, **LONG).artifact.digest == reference(**LONG)


def test_a_directory_that_a_node_does_not_share_is_told(cluster, tmp_path, monkeypatch):
    """A path that means another directory on the second node, as one on a local disk does."""
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.setattr("pipelines.cluster.PATIENCE_SECONDS", 0.5)
    monkeypatch.chdir(tmp_path / "there")
    node = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    try:
        monkeypatch.chdir(tmp_path / "here")
        with pytest.raises(ConfigError, match="not on a file system that all nodes") as found:
            pool = RayCluster(Path("/proc/self/cwd"))
            run_parallel(work, [1], pool, NullReporter(), label="x", total=1)
        assert "on node" in found.value.where
        assert "no sign of" in found.value.found
        assert "--shard 1/N" in found.value.fix
        assert list((tmp_path / "here").iterdir()) == []
    finally:
        cluster.remove_node(node, allow_graceful=False)


def test_another_environment_on_a_node_is_refused(cluster, workspace, monkeypatch):
    """The nodes have the simulator as it is; this process leads with another one."""
    monkeypatch.setenv("VINTIX_TOY_DRIFT", "0.1")
    with pytest.raises((ConfigError, TasksFailedError), match="environment on a node") as found:
        distill(workspace, executor="ray", tasks=("toy-a",))
    assert "reference rollout" in str(found.value)


def test_an_address_where_no_cluster_is(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_ADDRESS", "nonsense")
    with pytest.raises(MissingDependencyError, match="no Ray cluster answers") as found:
        run_parallel(work, [1], RayCluster(tmp_path), NullReporter(), label="x", total=1)
    assert found.value.exit_code == 5
