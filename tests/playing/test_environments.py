"""Environments in worker processes: the same bytes, and errors that arrive."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rollout.toy import (
    CRASHING,
    EVEN,
    FAILING,
    UNEVEN,
    WIDE,
    make_toy,
    saved_task,
    stream_task,
    tiny_model,
    write_checkpoint,
)

from pipelines.errors import VintixError
from pipelines.parallel import WorkerError
from pipelines.playing.environments import EnvironmentWorkers
from pipelines.playing.episodes import RandomActor
from pipelines.playing.model import roll
from pipelines.playing.streams import StreamTask, play_streams, random_generators
from pipelines.reporter import NullReporter
from pipelines.rollout.config import RolloutConfig
from pipelines.rollout.jobs import worker_count
from pipelines.rollout.stage import plan, run
from pipelines.tasks.registry import catalogue

pytestmark = pytest.mark.simulator


def in_workers(task: StreamTask) -> StreamTask:
    return replace(task, in_workers=True)


@pytest.fixture(scope="module")
def workers() -> Iterator[EnvironmentWorkers]:
    with EnvironmentWorkers(2, make_toy) as found:
        yield found


@pytest.mark.process
def test_streams_are_the_same_bytes_wherever_their_environments_are(
    workers: EnvironmentWorkers,
) -> None:
    """More copies of a task than workers and fewer; episodes that end at different steps."""
    tasks = [stream_task(UNEVEN, 4, range(5)), stream_task(WIDE, 3, [0]), stream_task(EVEN, 3, [2])]
    model = tiny_model()
    here = roll(model, tasks, seed=4, make_batch=make_toy)
    # One task of the three stays here.
    there = [*map(in_workers, tasks[:2]), tasks[2]]
    for _ in range(2):
        away = roll(model, there, seed=4, make_batch=make_toy, workers=workers)
        for name, streams in here.items():
            for stream, record in streams.items():
                other = away[name][stream]
                assert record.reward_T.tobytes() == other.reward_T.tobytes()
                np.testing.assert_array_equal(record.episode_length_E, other.episode_length_E)
                np.testing.assert_array_equal(record.episode_return_E, other.episode_return_E)
                np.testing.assert_array_equal(record.success_E, other.success_E)
    assert len({len(one.reward_T) for one in here["toy-uneven"].values()}) > 1


@pytest.mark.process
def test_baselines_are_the_same_bytes_too(workers: EnvironmentWorkers) -> None:
    tasks = [stream_task(UNEVEN, 4, range(5)), stream_task(WIDE, 3, [0])]

    def play(tasks: list[StreamTask], workers: EnvironmentWorkers | None) -> Any:
        done: list[int] = []
        records = play_streams(
            tasks,
            lambda task, batch: RandomActor(batch, random_generators(task, 4)),
            seed=4,
            make_batch=make_toy,
            workers=workers,
            on_steps=done.append,
        )
        return records, sum(done)

    (here, steps), (away, others) = play(tasks, None), play([*map(in_workers, tasks)], workers)
    assert steps == others > 0
    for name, streams in here.items():
        for stream, record in streams.items():
            assert record.reward_T.tobytes() == away[name][stream].reward_T.tobytes()
    assert {len(one.episode_return_E) for one in here["toy-uneven"].values()} == {4}


@pytest.mark.process
def test_what_an_environment_raises_arrives_and_the_workers_go_on(
    workers: EnvironmentWorkers,
) -> None:
    model = tiny_model()
    failing = in_workers(stream_task(FAILING, 1, [0, 1]))
    with pytest.raises(VintixError, match="the reset failed"):
        roll(model, [failing], seed=0, make_batch=make_toy, workers=workers)
    again = roll(
        model, [in_workers(stream_task(WIDE, 1, [0]))], seed=0, make_batch=make_toy, workers=workers
    )
    assert len(again["toy-wide"][0].reward_T) == 4


@pytest.mark.process
def test_a_worker_that_ends_is_an_error_that_says_so() -> None:
    with (
        EnvironmentWorkers(1, make_toy) as single,
        pytest.raises(WorkerError, match=r"(?s)worker 0.*exit code"),
    ):
        roll(tiny_model(), [in_workers(stream_task(CRASHING, 1, [0]))], seed=0, make_batch=make_toy,
             workers=single)  # fmt: skip


@pytest.mark.process
def test_workers_are_as_many_as_asked_for_and_not_more_than_the_copies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipelines.hardware.available_cores", lambda: 8)
    blocks = [
        [in_workers(stream_task(UNEVEN, 4, range(5))), stream_task(EVEN, 4, range(9))],
        [in_workers(stream_task(WIDE, 4, [0]))],
    ]
    assert worker_count(RolloutConfig(), blocks) == 1
    assert [worker_count(RolloutConfig(workers=asked), blocks) for asked in (2, 7, 0)] == [2, 5, 5]
    assert worker_count(RolloutConfig(workers=3), [[stream_task(EVEN, 4, range(5))]]) == 1


def test_only_copies_that_are_simulated_one_by_one_live_in_workers() -> None:
    """One batched simulation must not be cut, nor one that has processes of its own."""
    from pipelines.domains.registry import find_domain

    separate = {
        name: find_domain(name).copies_are_separate(options)
        for name, options in (
            ("metaworld", {"goal": "hidden"}),
            ("mujoco", {}),
            ("industrial-benchmark", {}),
            ("bidexhands", {"backend": "mujoco"}),
        )
    }
    assert separate == {
        "metaworld": True, "mujoco": True, "industrial-benchmark": False, "bidexhands": True,
    }  # fmt: skip
    assert not find_domain("bidexhands").copies_are_separate({"backend": "isaacgym"})
    # Workers send what everyone sees.
    assert not find_domain("metaworld").copies_are_separate({"goal": "demonstrator"})


@pytest.mark.slow
def test_an_artifact_does_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    """A real simulator, through the stage: equal digests, and one is up to date for the other."""
    reacher = saved_task(catalogue().get("reacher"))
    digests = []
    for workers in (1, 2):
        workspace = write_checkpoint(tmp_path / str(workers), [reacher])
        asked: dict[str, Any] = {"seeds": 3, "shots": 2, "workers": workers}
        result = run(RolloutConfig(**asked), workspace, NullReporter())
        digests.append(result.artifact.digest)
        again = run(RolloutConfig(**{**asked, "workers": 0}), workspace, NullReporter())
        assert again.up_to_date
    assert digests[0] == digests[1]
    planned = plan(RolloutConfig(seeds=3, shots=2, workers=2), workspace)
    assert any("2 worker processes" in note for note in planned.notes)
