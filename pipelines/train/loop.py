"""The training loop: steps, metrics, checkpoints, and stopping without losing work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pipelines.artifacts.files import FileRecord
from pipelines.artifacts.work import LOG
from pipelines.errors import InterruptedRunError
from pipelines.hardware import Hardware
from pipelines.model.saved import layout
from pipelines.model.vintix import Vintix
from pipelines.reporter import Reporter
from pipelines.rng import derive_seed
from pipelines.signals import StopSignal
from pipelines.train.checkpoint import (
    CheckpointWriter,
    broadcast_state,
    empty_state,
    put_back,
    read_checkpoint,
)
from pipelines.train.config import TrainConfig
from pipelines.train.loader import BatchLoader, MicroBatch, Prefetcher
from pipelines.train.metrics import (
    NAME,
    MetricsLog,
    MetricsLogger,
    Pending,
    StepOutcome,
    Tracker,
)
from pipelines.train.planning import sequences_at_once
from pipelines.train.processes import ProcessGroup, StepReducer

if TYPE_CHECKING:
    from pipelines.artifacts.staging import Staging

ALONE = ProcessGroup()

#: Something measured on the current weights after a step: a name in the log, and its numbers.
Measure = Callable[[int], dict[str, Any]]


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """Return AdamW with weight decay on the weights of linear layers only.

    Biases, norms, padding vectors and position tables are not decayed, as in the released code.
    Parameters of groups that a batch does not hold get no gradient, and AdamW leaves them and
    their moments as they are.
    """
    decayed = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear)}
    parameters = list(model.parameters())
    return torch.optim.AdamW(
        [
            {
                "params": [one for one in parameters if id(one) in decayed],
                "weight_decay": config.weight_decay,
            },
            {
                "params": [one for one in parameters if id(one) not in decayed],
                "weight_decay": 0.0,
            },
        ],
        lr=config.learning_rate,
        betas=config.betas,
        fused=True,
    )


class Trainer:
    """Makes optimizer steps.

    Args:
        model: The model, on its device, in training mode.
        config: Optimizer, schedule, clipping and seed.
        group: The processes that make the step together.
        domains: All domains there are; needed where there are several processes.
    """

    def __init__(
        self,
        model: Vintix,
        config: TrainConfig,
        hardware: Hardware,
        group: ProcessGroup = ALONE,
        domains: Sequence[str] = (),
    ) -> None:
        self.model = model
        self.config = config
        self.optimizer = make_optimizer(model, config)
        self.device = hardware.torch_device
        self._bfloat16 = hardware.precision == "bfloat16"
        self._parameters = list(model.parameters())
        self.group = group
        self._domains = list(domains)
        self._sharded = any(hasattr(one, "full_tensor") for one in self._parameters)
        self._reduce = StepReducer(self._parameters, group, sharded=self._sharded)
        architecture = model.config
        self._at_once = sequences_at_once(architecture, config, hardware)
        dropout = max(architecture.attention_dropout, architecture.residual_dropout)
        self._random = dropout > 0 or model.random_loss

    def step(
        self, step: int, micro_batches: list[MicroBatch], signal: int | None = None
    ) -> StepOutcome:
        """Make one optimizer step on the mean loss over all sequences of its micro-batches.

        The released code sums over sequences and does not divide the last micro-step (quirks 16
        and 17); here a step's loss is a mean however it is split, over micro-batches and over
        processes, unless the configuration asks for the released rules.

        Args:
            step: Number of the step, from 0.
            micro_batches: This process's share of the step.
            signal: The signal this process was sent, to tell the others.
        """
        rules = self.config.rules
        weights = rules.loss_weights(
            [len(micro.domains) for micro in micro_batches],
            accumulation=self.config.gradient_accumulation,
            world=self.group.size,
        )
        losses: list[Tensor] = []
        domains: list[str] = []
        if self._random:
            # Rank 0 has the stream of a single process; the others must not repeat its numbers.
            others = [self.group.rank] if self.group.rank else []
            torch.manual_seed(derive_seed(self.config.seed, "train", "dropout", step, *others))
        for micro, weight in zip(micro_batches, weights, strict=True):
            for part in micro.split(self._at_once):
                part = part.to(self.device)
                with self._autocast():
                    loss, each = self.model.loss(part.batches)
                share = weight * len(part.domains) / len(micro.domains)
                (loss if share == 1 else loss * share).backward()
                losses.extend(one.detach() for one in each)
                domains.extend(part.domains)
        outcome = self._reduced(torch.cat(losses), domains, signal)
        rate = rules.learning_rate(step, self.config.schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return outcome

    @property
    def gathers(self) -> bool:
        """Whether every process is needed to see the whole state: parameters are sharded."""
        return self._sharded

    @contextmanager
    def evaluation(self) -> Iterator[Vintix]:
        """Give the model in evaluation mode for a while, without gradients."""
        self.model.eval()
        try:
            with torch.no_grad(), self._autocast():
                yield self.model
        finally:
            self.model.train()

    def _reduced(self, losses: Tensor, domains: list[str], signal: int | None) -> StepOutcome:
        """Sum over processes, clip, and return what the global batch gave."""
        if self.group.alone:
            return StepOutcome(losses, domains, self._clip())
        places = [self._domains.index(domain) for domain in domains]
        losses, everyones, stops = self._reduce(losses, places, signal)
        return StepOutcome(losses, everyones, self._clip(), stops)

    def _clip(self) -> Tensor:
        gradients = [one.grad for one in self._parameters if one.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients, foreach=True)
        if hasattr(norm, "full_tensor"):
            norm = norm.full_tensor()
        if self.config.clip_norm > 0:
            torch.nn.utils.clip_grads_with_norm_(
                self._parameters, self.config.clip_norm, norm, foreach=True
            )
        return norm

    def _autocast(self) -> Any:
        if self._bfloat16:
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()


def train(
    trainer: Trainer,
    loader: BatchLoader,
    staging: Staging | None,
    reporter: Reporter,
    stop: StopSignal,
    measures: Sequence[tuple[int, str, Measure]],
    track: Callable[[MetricsLog], Tracker] | None,
) -> list[dict[str, Any]]:
    """Train from the newest durable checkpoint, or from the start, to the last step.

    Args:
        trainer: Makes the steps; its model has its first weights.
        staging: Where checkpoints and the log go; None in processes that do not write.
        measures: After every so many steps (and the last) a function of the number of steps made,
            whose result goes into the log under a name.
        track: Opens what is given the lines of the log, too.

    Returns:
        Loss and loss by domain of the last steps, oldest first.

    Raises:
        InterruptedRunError: A signal came; the state is in a durable checkpoint.
        VintixError: The loss is not finite.
        StorageError: A checkpoint or the log could not be written.
    """
    config, group = trainer.config, trainer.group
    trainer.model.train()
    done, note = _resume(trainer, staging)
    kept = None if note is None else FileRecord(**note["log"])
    if done:
        reporter.info(f"resuming after step {done:,} of {config.steps:,}")
    with ExitStack() as stack:
        stack.enter_context(_own_random_state(trainer.device))
        log = tracker = None
        if staging is not None:
            path = staging.directory / LOG / NAME
            reporter.info(f"log of the steps: {path}")
            log = stack.enter_context(MetricsLog(path, steps=done, kept=kept))
            if log.damaged:
                reporter.warn(f"the log of the first {done:,} steps is damaged and left out")
            if track is not None:
                tracker = track(log)
                stack.callback(tracker.close)
        progress = stack.enter_context(reporter.progress("train", config.steps, "steps", done))
        writer = stack.enter_context(
            CheckpointWriter(staging, keep_last=config.keep_last, keep_every=config.keep_every)
        )
        prefetched = stack.enter_context(
            Prefetcher(loader.step, done, config.steps, threads=config.loader_threads)
        )
        recent = [] if note is None else note["recent"]
        logger = MetricsLogger(log, progress, config, recent, loader, tracker)
        before = 0.0 if note is None else note["seconds"]
        begin = last = time.perf_counter()
        due = False
        for step in range(done, config.steps):
            asked = None if group.alone else _now(stop)
            outcome = trainer.step(step, prefetched.get(), asked)
            made, finished = step + 1, step + 1 == config.steps
            now = time.perf_counter()
            extra = {
                name: measure(made)
                for every, name, measure in measures
                if made % every == 0 or finished
            }
            logger.add(Pending(step, outcome, before + now - begin, now - last, extra))
            last = time.perf_counter() if extra else now
            # Alone a run stops at once, and together when all know that one of them was asked to.
            stopping = logger.agreed if not group.alone else _now(stop)
            writer.check()
            due = (due or made % config.checkpoint_every == 0) and not finished
            # Rank 0 alone saves, once the checkpoint before is written. Sharded parameters need
            # every process for a snapshot: then all save, at the very step.
            saves = staging is not None or trainer.gathers
            ready = trainer.gathers or not writer.busy
            if saves and not finished and (stopping or (due and ready)):
                logger.flush()
                written = None if log is None else _note(logger, log, before + now - begin)
                writer.save(trainer.model, trainer.optimizer, made, written, before=logger.sync)
                due = False
                last = time.perf_counter()
            if stopping and not finished:
                writer.wait()
                group.broadcast_json(None)
                raise InterruptedRunError(
                    "training was interrupted; its state is kept",
                    signal_number=stopping,
                    where=f"step {made:,} of {config.steps:,}",
                    fix="run the same command again: it goes on from this step",
                )
        logger.flush()
        logger.sync()
    return list(logger.recent)


def _note(logger: MetricsLogger, log: MetricsLog, seconds: float) -> dict[str, Any]:
    """Return what a checkpoint keeps beside the state: losses, time, and the log so far."""
    return {
        "recent": list(logger.recent),
        "seconds": round(seconds, 3),
        "log": asdict(log.record),
    }


def _resume(trainer: Trainer, staging: Staging | None) -> tuple[int, dict[str, Any] | None]:
    """Put the newest checkpoint, which rank 0 reads, into every process; return step and note."""
    model, held = trainer.model, []

    def read() -> list[Any]:
        found = None if staging is None else read_checkpoint(staging, layout(model))
        if found is None:
            return [0, None]
        held.append(found[2])
        return [found[0], found[1]]

    done, note = trainer.group.on_rank_0(read)
    if done:
        state = held[0] if held else empty_state(model)
        if not trainer.group.alone:
            broadcast_state(state, trainer.group, trainer.device)
        put_back(state, model, trainer.optimizer)
    return done, note


def _now(stop: StopSignal) -> int | None:
    return stop.number if stop.requested else None


@contextmanager
def _own_random_state(device: torch.device) -> Iterator[None]:
    """Leave PyTorch's global generators as they were: dropout seeds them at each step."""
    devices = [torch.cuda.current_device()] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield
