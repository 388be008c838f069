"""Jobs: the streams that advance as one batch, and what a rollout keeps and resumes.

A job, not a stream, is what is durable. Its streams take each step together, so all of them are
unfinished until its last steps: there is nothing to keep of single ones before. Playing fewer at a
time would make each stream slower by more than a kill can cost; so would a copy of all caches
(gigabytes for large models) every so often. And a resumed run must give the bytes of an
uninterrupted one, while arithmetic rounds by the number of rows: the streams that are left would
have to be played in the same batch again anyway. Whoever wants smaller jobs at that price sets
`max_streams`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from pipelines.playing.streams import Records, StreamTask
from pipelines.text import counted, listed

if TYPE_CHECKING:
    from pipelines.artifacts.staging import Staging
    from pipelines.artifacts.work import WorkItem
    from pipelines.reporter import Reporter
    from pipelines.rollout.agents import Agent
    from pipelines.rollout.config import RolloutConfig

_TASKS = "tasks"

Job = list[StreamTask]
"""Tasks whose streams advance as one batch."""


def make_jobs(config: RolloutConfig, agent: Agent) -> list[Job]:
    """Pack an agent's tasks in order into jobs; a task is split only where it alone is too large.

    Tasks whose prompts differ in length do not share a job, for its streams share a position.
    """
    from pipelines.domains.registry import domain_of

    jobs: list[Job] = [[]]
    for target in agent.targets:
        view = agent.view(target, config.rewards)
        for start in range(0, config.seeds, config.max_streams):
            streams = tuple(range(start, min(start + config.max_streams, config.seeds)))
            held = sum(len(task.streams) for task in jobs[-1])
            if held + len(streams) > config.max_streams or (
                held and jobs[-1][-1].view.prompt_steps != view.prompt_steps
            ):
                jobs.append([])
            jobs[-1].append(
                StreamTask(
                    spec=target.spec,
                    options=target.options,
                    shots=target.shots + config.episodes_after,
                    streams=streams,
                    view=view,
                    in_workers=domain_of(target.spec).copies_are_separate(target.options),
                )
            )
    return [job for job in jobs if job]


def worker_count(config: RolloutConfig, jobs: Sequence[Job]) -> int:
    """Return how many worker processes step environments; 1 for none but this one.

    There are no more than the copies of the largest job that may live in one.
    """
    from pipelines.hardware import available_cores

    copies = max(
        (sum(len(task.streams) for task in job if task.in_workers) for job in jobs), default=0
    )
    return max(1, min(config.workers or available_cores(), copies))


def play_jobs(
    config: RolloutConfig, agent: Agent, staging: Staging, reporter: Reporter
) -> list[str]:
    """Play the jobs that are not durable yet, then write what the artifact says of each task.

    Returns:
        The work items that the artifact is made of.

    Raises:
        VintixError: As `pipelines.playing.model.roll`, and what environments raise; durable jobs
            are kept.
    """
    from pipelines.hardware import torch_threads
    from pipelines.playing.environments import EnvironmentWorkers

    jobs = make_jobs(config, agent)
    names = [f"block-{index:05d}" for index in range(len(jobs))]
    left = [job for name, job in zip(names, jobs, strict=True) if not staging.done(name)]
    if len(left) < len(jobs):
        reporter.info(f"going on after {counted(len(jobs) - len(left), 'durable block')}")
    count = worker_count(config, left)
    total, remaining = _most_steps(jobs), _most_steps(left)
    has_success: dict[str, bool] = {}
    moved: dict[str, set[int]] = {}
    with (
        EnvironmentWorkers(count) if count > 1 else nullcontext() as workers,
        reporter.progress("rollout", total, "steps", total - remaining) as progress,
        torch_threads(agent.resolved.get("threads", 1)),
    ):
        play = agent.player()
        for name, job in zip(names, jobs, strict=True):
            if not staging.done(name):
                started = time.perf_counter()
                with staging.work_item(name) as item:
                    records = play(job, workers=workers, on_steps=progress.advance)
                    _write_records(item, records)
                    _warn_of_moved(records, moved, reporter)
                    steps = sum(
                        len(one.reward_T)
                        for streams in records.values()
                        for one in streams.values()
                    )
                    # Wall time is not content: the log is left out of the artifact's digest.
                    timing = {"seconds": time.perf_counter() - started, "steps": steps}
                    item.write_log(f"{name}.json", json.dumps(timing).encode())
                # Episodes that ended early took fewer steps than were announced.
                progress.advance(_most_steps([job]) - steps)
            has_success |= staging.data(name)["success"]
    with staging.work_item(_TASKS) as item:
        for target in agent.targets:
            changed = target.changed_options if target.known else {}
            item.group(
                target.spec.name,
                {
                    "task": target.spec.as_json(),
                    "options": target.options,
                    "statistics": target.known or None,
                    "scores": target.scores,
                    "reference": config.reference,
                    "streams": config.seeds,
                    "shots": target.shots,
                    "success": has_success[target.spec.name],
                    **({"converged": config.converged} if config.converged else {}),
                    **({"data_options": changed} if changed else {}),
                },
            )
    return [_TASKS, *names]


def _most_steps(jobs: Sequence[Job]) -> int:
    return sum(task.bound * len(task.streams) for job in jobs for task in job)


def _warn_of_moved(records: Records, told: dict[str, set[int]], reporter: Reporter) -> None:
    """Warn of channels that move and that the model does not see, each once a task."""
    for task, streams in records.items():
        before = told.setdefault(task, set())
        new = sorted({channel for each in streams.values() for channel in each.moved} - before)
        if new:
            before.update(new)
            moves = "channel {} moves" if len(new) == 1 else "channels {} move"
            reporter.warn(
                f"{task}: observation {moves.format(listed(map(str, new)))}, constant in the data "
                "of its statistics: the model does not see that"
            )


def _write_records(item: WorkItem, records: Records) -> None:
    from pipelines.artifacts.arrays import write_array

    success: dict[str, Any] = {}
    for task, streams in records.items():
        for stream, record in streams.items():
            group = item.group(f"{task}/{stream:05d}", {})
            write_array(group, "reward", record.reward_T)
            write_array(group, "episode_return", record.episode_return_E)
            write_array(group, "episode_length", record.episode_length_E)
            if record.success_E is not None:
                write_array(group, "success", record.success_E)
        success[task] = all(record.success_E is not None for record in streams.values())
    item.data["success"] = success
