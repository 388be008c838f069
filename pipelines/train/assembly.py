"""Puts a run together: which rows, which windows, the model, what is measured, what is saved."""

from __future__ import annotations

import shlex
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.utils.checkpoint import checkpoint

from pipelines.artifacts import files
from pipelines.artifacts.schema import config_digest
from pipelines.artifacts.work import LOG
from pipelines.errors import ConfigError
from pipelines.hardware import torch_threads
from pipelines.methods import cut_tasks
from pipelines.methods.windows import Sampler, Subsequence, WindowSampler
from pipelines.model.saved import SavedModel, SavedTask, layout, save_model
from pipelines.model.vintix import Vintix
from pipelines.reporter import Reporter
from pipelines.rng import derive_seed
from pipelines.text import counted
from pipelines.train.checkpoint import State, take_snapshot, write_optimizer
from pipelines.train.data import in_set_groups
from pipelines.train.loader import BatchLoader, task_statistics
from pipelines.train.loop import Measure, Trainer, train
from pipelines.train.measure import (
    WINDOWS_AT_ONCE,
    HeldOutLoss,
    ShortRollout,
    split_trajectories,
)
from pipelines.train.metrics import NAME
from pipelines.train.planning import installed_bytes, required_bytes
from pipelines.train.processes import ProcessGroup, shard
from pipelines.train.run import MODEL_UNIT, Run, copy_weights
from pipelines.train.tracking import open_tracker

if TYPE_CHECKING:
    from pipelines.artifacts.staging import Staging
    from pipelines.hardware import Hardware
    from pipelines.signals import StopSignal
    from pipelines.train.config import TrainConfig

Subsequences = dict[str, list[Subsequence]]

#: Where trackers keep their files, beside the artifacts.
_TRACKING = "tracking"


def cut_subsequences(prepared: Run, *, held_out: bool = False) -> Subsequences:
    """Return what is trained on, or what is set aside, by task.

    Raises:
        ConfigError: A trajectory is shorter than a window.
    """
    config = prepared.config
    kept, aside = split_trajectories(prepared.tasks, config.validation_fraction, config.seed)
    chosen = aside if held_out else kept
    return cut_tasks(
        prepared.data,
        [task for task in prepared.tasks if task.name in chosen],
        context=config.context,
        method=config.method,
        fidelity=config.fidelity,
        episode_sparsity=config.episode_sparsity,
        last_fraction=config.last_fraction,
        trajectories=chosen,
    )


def cut_held_out(prepared: Run) -> Subsequences:
    """Return what is set aside and has room for a window, by task.

    Raises:
        ConfigError: There is none.
    """
    cut = cut_subsequences(prepared, held_out=True)
    if not cut:
        raise ConfigError(
            "no task has a trajectory to set aside",
            where="train.validation_fraction",
            expected="a task with two trajectories or more",
            found=f"{len(prepared.tasks)} tasks with one each",
            fix="collect more trajectories, or train with train.validation_fraction=0",
        )
    context = prepared.config.context
    fitting = {
        name: [one for one in each if one.rows - one.begin > context] for name, each in cut.items()
    }
    if not any(fitting.values()):
        raise ConfigError(
            "what is set aside has no room for a window",
            where="train.validation_fraction",
            expected=f"a trajectory with {context + 1:,} rows or more",
            found=[one.rows - one.begin for each in cut.values() for one in each],
            fix="train with a shorter --context, or with train.validation_fraction=0",
        )
    return {name: each for name, each in fitting.items() if each}


def thinned_tasks(subsequences: Subsequences) -> dict[str, int]:
    """Return every which episode is kept, of the tasks that are thinned."""
    return {
        name: each[0].every for name, each in subsequences.items() if each and each[0].every > 1
    }


def make_loader(
    prepared: Run, subsequences: Subsequences, group: ProcessGroup
) -> tuple[BatchLoader, Sampler]:
    """Return what gives the micro-batches of a step in one process, and its sampler.

    Raises:
        ConfigError: There is too little data for a batch.
    """
    config = prepared.config
    sampler = config.rules.sampler(
        subsequences,
        context=config.context,
        batch_size=config.batch_size,
        accumulation=config.gradient_accumulation,
        seed=config.seed,
        sampling=config.sampling,
    )
    loader = BatchLoader(
        prepared.data,
        prepared.tasks,
        subsequences,
        sampler,
        prepared.model,
        method=config.learner,
        map_seed=config.seed if config.random_map else None,
        order_seed=config.seed if config.context_order == "shuffled" else None,
        embedding_seed=config.seed,
        pin=prepared.hardware.device == "cuda",
        rank=group.rank,
        world=group.size,
    )
    return loader, sampler


def make_model(prepared: Run, group: ProcessGroup) -> Vintix:
    """Return the model with its first weights, on its device, as the configuration runs it."""
    config, hardware = prepared.config, prepared.hardware
    model = Vintix(prepared.model, attention=config.attention, seed=config.seed)
    if prepared.init is not None:
        copy_weights(prepared.init, model)
    model.to(hardware.torch_device)
    if config.gradient_checkpointing:
        for block in model.backbone.sections:
            # Around forward and not around the block, whose name and parameters stay as they are.
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)  # type: ignore[assignment]
    if config.shard:
        shard(model, group, hardware.device)
    if config.compile:
        model.backbone.compile(dynamic=False)
    return model


def train_model(
    prepared: Run,
    staging: Staging | None,
    reporter: Reporter,
    stop: StopSignal,
    group: ProcessGroup,
    root: Path,
) -> None:
    """Train to the last step and make the model a durable unit.

    Args:
        staging: Where; None in processes that do not write.
        root: The workspace's directory, for trackers' files.

    Raises:
        ConfigError: The configuration does not fit the dataset.
        InterruptedRunError: A signal came; the state is durable.
        VintixError: The loss is not finite.
        StorageError: Something could not be written.
    """
    config, hardware = prepared.config, prepared.hardware
    subsequences = cut_subsequences(prepared)
    loader, sampler = make_loader(prepared, subsequences, group)
    empty = [name for name, share in sampler.shares().items() if not share]
    if empty:
        reporter.warn("too short for a window: " + ", ".join(empty))
    model = make_model(prepared, group)
    reporter.info(
        f"{sum(one.numel() for one in model.parameters()):,} parameters on {hardware.device} "
        f"({hardware.precision}, {counted(hardware.threads, 'thread')}, attention "
        f"{prepared.content()['attention']}"
        + ("" if group.alone else f", {group.size} processes")
        + ")"
    )
    _warn_of_memory(model, config, hardware, reporter)
    trainer = Trainer(model, config, hardware, group, loader.domains)
    track = None
    if config.track is not None and staging is not None:
        # A version's number is given when it is published, so the digest of the configuration
        # tells versions apart.
        digest = config_digest(staging.kind, staging.config, staging.parents)
        run = f"{staging.name}-{digest[:8]}"
        reporter.info(f"{config.track}: run {run}, files in {root / _TRACKING}")
        track = partial(
            open_tracker,
            config.track,
            run=run,
            directory=root / _TRACKING,
            config=staging.config,
            facts=_facts(staging, digest),
        )
    with torch_threads(hardware.threads):
        measures = _measures(prepared, trainer, group)
        recent = train(trainer, loader, staging, reporter, stop, measures, track)
    if staging is None and not trainer.gathers:
        return
    state = take_snapshot(model, trainer.optimizer)
    if staging is not None:
        summary = {
            "preset": config.preset,
            "method": config.method,
            **({"random_map": True} if config.random_map else {}),
            "parameters": len(state.weights_N),
            "steps": config.steps,
            "tokens": loader.tokens(config.steps - 1),
            "context": config.context,
            "tasks": len(prepared.tasks),
            "groups": len(prepared.model.groups),
            "shares": sampler.shares(),
            "episode_sparsity": thinned_tasks(subsequences),
            "loss": _mean([row["loss"] for row in recent]),
            "domains": _recent_by_domain(recent),
        }
        _write_model(prepared, staging, model, state, summary)


def _facts(staging: Staging, digest: str) -> dict[str, str]:
    """Return what leads from a tracker's page to the artifact, and to what it was made from."""
    version = staging.workspace.next_version(staging.kind, staging.name)
    program, *arguments = sys.argv
    return {
        "artifact": f"{staging.kind}/{staging.name}@v{version}",
        "configuration": digest,
        "command": shlex.join([Path(program).name, *arguments]),
        **{parent.reference: parent.digest for parent in staging.parents},
    }


def _warn_of_memory(
    model: Vintix, config: TrainConfig, hardware: Hardware, reporter: Reporter
) -> None:
    """Say before the first step that the system may kill the run."""
    parameters = sum(one.numel() for one in model.parameters())
    needed = config.local_processes * required_bytes(parameters, model.config, config, hardware)
    there = installed_bytes()
    if hardware.device == "cpu" and there is not None and needed > there:
        reporter.warn(
            f"this takes about {needed / 1e9:.0f} GB of memory, and the machine has "
            f"{there / 1e9:.0f} GB: --set train.gradient_checkpointing=true or a shorter --context "
            "takes less"
        )


def saved_tasks(prepared: Run) -> dict[str, SavedTask]:
    """Return every task of the dataset that the model has a group for."""
    trained = {task.name for task in prepared.tasks}
    saved = {}
    chosen = {"head": prepared.model.head, "head_options": prepared.model.head_options}
    for task in in_set_groups(prepared.data.tasks.values(), chosen):
        if not prepared.model.fits(task.group, task.observation_dim, task.actions):
            continue
        saved[task.name] = SavedTask(
            name=task.name,
            group=task.group,
            statistics=task_statistics(task),
            trained=task.name in trained,
            task=task.attributes.get("task", {}),
            options=task.attributes.get("options", {}),
            scores=task.attributes.get("scores", {}),
        )
    return saved


def _measures(
    prepared: Run, trainer: Trainer, group: ProcessGroup
) -> list[tuple[int, str, Measure]]:
    """Return what is measured while training, and how often.

    The held-out loss is measured in every process, which sharded parameters need; rollouts are
    played by the one that writes, and the others wait for its next step.
    """
    config, hardware = prepared.config, prepared.hardware
    measures: list[tuple[int, str, Measure]] = []
    if config.validation_fraction > 0:
        held_out = cut_held_out(prepared)
        seed = derive_seed(config.seed, "train", "validation")
        loader = BatchLoader(
            prepared.data,
            prepared.tasks,
            held_out,
            WindowSampler(
                held_out,
                context=config.context,
                batch_size=config.validation_windows,
                seed=seed,
                accumulation=-(-config.validation_windows // WINDOWS_AT_ONCE),
            ),
            prepared.model,
            method=config.learner,
            map_seed=seed if config.random_map else None,
            order_seed=seed if config.context_order == "shuffled" else None,
            embedding_seed=seed,
        )
        measure = HeldOutLoss(trainer, loader, hardware.torch_device)
        measures.append((config.validation_every, "validation", measure))
    if config.rollout_every and group.writes:
        rollout = ShortRollout(
            trainer,
            [task for task in saved_tasks(prepared).values() if task.trained],
            steps=config.rollout_steps,
            seed=config.seed,
            mask_rewards=config.learner.masks_rewards,
            random_map=config.random_map,
        )
        measures.append((config.rollout_every, "rollout", rollout))
    return measures


def _write_model(
    prepared: Run, staging: Staging, model: Vintix, state: State, summary: dict[str, Any]
) -> None:
    config = prepared.config
    with staging.work_item(MODEL_UNIT) as unit:
        saved = SavedModel(
            model, saved_tasks(prepared), config.steps, config.method, config.random_map
        )
        save_model(unit, saved, weights_N=state.weights_N)
        group = unit.group("optimizer", {"step": config.steps, "parameters": layout(model)})
        write_optimizer(group, state)
        # Until now it grew; from here on it is a file of the unit like any other.
        log = files.read_if_there(staging.directory / LOG / NAME, any_size=True)
        unit.write_log(NAME, log or b"")
        unit.data["summary"] = summary


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _recent_by_domain(rows: list[dict[str, Any]]) -> dict[str, float]:
    domains = sorted({domain for row in rows for domain in row["domains"]})
    return {
        domain: _mean([row["domains"][domain] for row in rows if domain in row["domains"]])
        for domain in domains
    }
