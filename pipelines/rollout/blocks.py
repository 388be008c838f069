"""Blocks of streams: the units in which a rollout is played, kept and resumed.

A block, not a stream, is what is durable. The streams of a block take each step together, so that
all of them are unfinished until the last steps of the block: there is nothing to keep of single
ones before. Playing fewer at a time would make smaller units, and each stream slower by more than a
kill can cost; so would a copy of all caches (gigabytes for large models) every so often. And a
resumed run must give the bytes of an uninterrupted one, while arithmetic rounds by the number of
rows: the streams that are left would have to be played in the same batch again anyway. Whoever
wants smaller units at that price sets `max_streams`, by which blocks are made.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from pipelines.rollout.config import RolloutConfig
from pipelines.rollout.selection import Target
from pipelines.rollout.streams import StreamRecord, StreamTask
from pipelines.text import listed

if TYPE_CHECKING:
    from pipelines.artifacts.staging import Staging
    from pipelines.artifacts.work import WorkItem
    from pipelines.domains.base import BatchEnvironment
    from pipelines.model.saved import SavedModel
    from pipelines.reporter import Reporter
    from pipelines.rollout.crew import Crew
    from pipelines.rollout.engine import Memory
    from pipelines.rollout.prompt import Prompt
    from pipelines.tasks.spec import TaskSpec

_TASKS = "tasks"

Block = list[StreamTask]
"""Tasks whose streams advance as one batch."""

Records = Mapping[str, Mapping[int, StreamRecord]]
"""The record of each stream by task and number."""

Play = Callable[[Block, "Crew | None", Callable[[int], None]], Records]
"""Plays a block; is given worker processes for its environments, None for none but this one, and a
function to be told of the stream steps done."""


def make_blocks(
    config: RolloutConfig,
    targets: Sequence[Target],
    prompts: Mapping[str, Prompt] | None = None,
) -> list[Block]:
    """Pack tasks in order into blocks; a task is split only where it alone is too large.

    Tasks whose prompts differ in length do not share a block, for its streams share a position.
    """
    from pipelines.domains.registry import domain_of

    prompts = prompts or {}
    blocks: list[Block] = [[]]
    for target in targets:
        prompt = prompts.get(target.spec.name)
        for start in range(0, config.seeds, config.max_streams):
            streams = tuple(range(start, min(start + config.max_streams, config.seeds)))
            held = sum(len(task.streams) for task in blocks[-1])
            if held + len(streams) > config.max_streams or (
                held and _steps(blocks[-1][-1].prompt) != _steps(prompt)
            ):
                blocks.append([])
            blocks[-1].append(
                StreamTask(
                    target.spec,
                    target.saved.statistics,
                    target.options,
                    target.shots + config.episodes_after,
                    streams,
                    target.saved.group,
                    prompt,
                    domain_of(target.spec).copies_are_separate(target.options),
                    target.running,
                    config.rewards,
                )
            )
    return [block for block in blocks if block]


def _bound(blocks: Sequence[Block]) -> int:
    """Return the most steps that blocks can take."""
    return sum(task.bound * len(task.streams) for block in blocks for task in block)


def worker_count(config: RolloutConfig, blocks: Sequence[Block]) -> int:
    """Return how many worker processes step environments; 1 for none but this one.

    There are no more than the copies of the largest block that may live in one.
    """
    from pipelines.hardware import available_cores

    copies = max(
        (sum(len(task.streams) for task in block if task.apart) for block in blocks), default=0
    )
    return max(1, min(config.workers or available_cores(), copies))


def play_blocks(
    config: RolloutConfig,
    resolved: Mapping[str, Any],
    play: Play,
    targets: Sequence[Target],
    staging: Staging,
    reporter: Reporter,
    prompts: Mapping[str, Prompt] | None = None,
) -> list[str]:
    """Play the blocks that are not durable yet, then write what the artifact says of each task.

    Args:
        config: What to play.
        resolved: The artifact's configuration.
        play: Plays a block: the model, or a baseline.
        targets: The tasks.
        staging: Where the work is kept.
        reporter: Told about progress, in stream steps.
        prompts: What the streams of each task start with; none if None.

    Returns:
        The units that the artifact is made of.

    Raises:
        VintixError: As `pipelines.rollout.engine.roll`, and what environments raise; durable
            blocks are kept.
    """
    from pipelines.hardware import torch_threads
    from pipelines.rollout.crew import Crew

    blocks = make_blocks(config, targets, prompts)
    left = [block for index, block in enumerate(blocks) if not staging.done(_unit(index))]
    workers = worker_count(config, left)
    total, remaining = _bound(blocks), _bound(left)
    has_success: dict[str, bool] = {}
    moved: dict[str, set[int]] = {}
    with (
        Crew(workers, make_batch) if workers > 1 else nullcontext() as crew,
        reporter.progress("rollout", total, "steps", total - remaining) as progress,
        torch_threads(resolved.get("threads", 1)),
    ):
        for index, block in enumerate(blocks):
            name = _unit(index)
            if not staging.done(name):
                started, steps = time.perf_counter(), 0

                def count(done: int) -> None:
                    nonlocal steps
                    steps += done
                    progress.advance(done)

                with staging.work_item(name) as unit:
                    records = play(block, crew, count)
                    _write_block(unit, records)
                    _warn_of_moved(records, moved, reporter)
                    # Wall time is not content: the log is left out of the artifact's digest.
                    timing = {"seconds": time.perf_counter() - started, "steps": steps}
                    unit.write_log(f"{name}.json", json.dumps(timing).encode())
                # Episodes that ended early took fewer steps than were announced.
                progress.advance(_bound([block]) - steps)
            has_success |= staging.data(name)["success"]
    with staging.work_item(_TASKS) as unit:
        for target in targets:
            changed = target.changed_options if target.known else {}
            unit.group(
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
    return [_TASKS, *(_unit(index) for index in range(len(blocks)))]


def model_player(
    config: RolloutConfig, resolved: Mapping[str, Any], model: SavedModel, memory: Memory
) -> Play:
    """Return what plays blocks with a checkpoint.

    Args:
        config: What to play.
        resolved: The artifact's configuration.
        model: The checkpoint.
        memory: What a stream keeps in view.
    """
    from pipelines.rollout.engine import roll

    vintix = model.model.to(resolved["device"])
    if resolved["device"] == "cpu":
        vintix.lay_out_for_steps()

    def play(block: Block, crew: Crew | None, on_steps: Callable[[int], None]) -> Records:
        return roll(
            vintix,
            block,
            seed=config.seed,
            make_batch=make_batch,
            memory=memory,
            mask_rewards=model.masks_rewards,
            random_map=model.random_map,
            crew=crew,
            on_steps=on_steps,
        )

    return play


def make_batch(
    spec: TaskSpec, size: int, options: Mapping[str, Any], stream_seeds: Sequence[int]
) -> BatchEnvironment:
    """Make copies of a task by its domain; see `pipelines.domains.base.Domain.make_batch`."""
    from pipelines.domains.checked import make_batch as make_checked
    from pipelines.domains.registry import domain_of

    return make_checked(domain_of(spec), spec, size, options, stream_seeds)


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


def _unit(index: int) -> str:
    return f"block-{index:05d}"


def _steps(prompt: Prompt | None) -> int:
    return 0 if prompt is None else prompt.steps


def _write_block(unit: WorkItem, records: Records) -> None:
    from pipelines.artifacts.arrays import write_array

    for task, streams in records.items():
        for stream, record in streams.items():
            group = unit.group(f"{task}/{stream:05d}", {})
            write_array(group, "reward", record.reward_T)
            write_array(group, "episode_return", record.episode_return_E)
            write_array(group, "episode_length", record.episode_length_E)
            if record.success_E is not None:
                write_array(group, "success", record.success_E)
    unit.data["success"] = {
        task: all(record.success_E is not None for record in streams.values())
        for task, streams in records.items()
    }
