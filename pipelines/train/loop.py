"""The training loop: steps, metrics, checkpoints, and stopping without losing work."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pipelines.artifacts.staging import LOG
from pipelines.errors import VintixError
from pipelines.model.vintix import Vintix, action_loss
from pipelines.reporter import Reporter
from pipelines.rng import derive_seed
from pipelines.signals import StopSignal
from pipelines.train.checkpoint import load_checkpoint, save_checkpoint
from pipelines.train.config import TrainConfig
from pipelines.train.device import Hardware
from pipelines.train.loader import BatchLoader, MicroBatch, Prefetcher
from pipelines.train.metrics import NAME, MetricsLog
from pipelines.train.optimizer import learning_rate, make_optimizer, set_learning_rate

if TYPE_CHECKING:
    from pipelines.artifacts.staging import Staging

#: Steps whose mean loss is the run's final loss: single steps differ by what they drew.
RECENT_STEPS = 50


@dataclass(frozen=True)
class StepOutcome:
    """What a step leaves on the device, to be read when it is no longer in the way.

    Attributes:
        losses: Loss of each sequence, as the micro-batches have them.
        domains: Domain of each sequence.
        gradient_norm: Global norm before clipping, a scalar.
    """

    losses: Tensor
    domains: list[str]
    gradient_norm: Tensor


class Trainer:
    """Makes optimizer steps.

    Args:
        model: The model, on its device, in training mode.
        config: Optimizer, schedule, clipping and seed.
        hardware: Device and precision.
    """

    def __init__(self, model: Vintix, config: TrainConfig, hardware: Hardware) -> None:
        self.model = model
        self.config = config
        self.optimizer = make_optimizer(model, config)
        self._device = hardware.torch_device
        self._bfloat16 = hardware.precision == "bfloat16"
        self._parameters = list(model.parameters())
        architecture = model.config
        self._random = architecture.attention_dropout > 0 or architecture.residual_dropout > 0

    def step(self, step: int, micro_batches: list[MicroBatch]) -> StepOutcome:
        """Make one optimizer step on the mean loss over all sequences of its micro-batches.

        The released code sums over sequences and does not divide the last micro-step (quirks 16
        and 17); here a step's loss is a mean however it is split.
        """
        total = sum(len(micro.domains) for micro in micro_batches)
        losses: list[Tensor] = []
        domains: list[str] = []
        if self._random:
            torch.manual_seed(derive_seed(self.config.seed, "train", "dropout", step))
        for micro in micro_batches:
            micro = micro.to(self._device)
            with self._autocast():
                predictions = self.model(micro.batches)
            loss, each = action_loss(predictions, micro.batches)
            share = len(micro.domains) / total
            (loss if share == 1 else loss * share).backward()
            losses.extend(one.detach() for one in each)
            domains.extend(micro.domains)
        gradients = [one.grad for one in self._parameters if one.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients, foreach=True)
        if self.config.clip_norm > 0:
            torch.nn.utils.clip_grads_with_norm_(
                self._parameters, self.config.clip_norm, norm, foreach=True
            )
        set_learning_rate(self.optimizer, learning_rate(step, self.config))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return StepOutcome(torch.cat(losses), domains, norm)

    def _autocast(self) -> Any:
        if self._bfloat16:
            return torch.autocast(self._device.type, dtype=torch.bfloat16)
        return nullcontext()


@dataclass(frozen=True)
class _Pending:
    step: int
    outcome: StepOutcome
    seconds: float
    elapsed: float


class _Recorder:
    """Turns outcomes into lines of the log, one step late, so that nothing waits for the device."""

    def __init__(
        self, log: MetricsLog, progress: Any, config: TrainConfig, recent: list[dict[str, Any]]
    ) -> None:
        self._log, self._progress, self._config = log, progress, config
        self.recent: deque[dict[str, Any]] = deque(recent, maxlen=RECENT_STEPS)
        self._pending: _Pending | None = None

    def add(self, pending: _Pending) -> None:
        self.flush()
        self._pending = pending

    def flush(self) -> None:
        """Write the line that waits, if one does.

        Raises:
            VintixError: Its loss is not finite.
        """
        pending, self._pending = self._pending, None
        if pending is None:
            return
        losses = pending.outcome.losses.tolist()
        norm = float(pending.outcome.gradient_norm)
        loss = math.fsum(losses) / len(losses)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise VintixError(
                "training diverged: the loss or its gradient is not a finite number",
                where=f"step {pending.step + 1}",
                expected="a finite loss and gradient norm",
                found=f"loss {loss}, gradient norm {norm}",
                fix=f"vintix train --set train.learning_rate={self._config.learning_rate / 3:.1e}, "
                "or --set train.clip_norm=1",
            )
        by_domain: dict[str, list[float]] = {}
        for domain, value in zip(pending.outcome.domains, losses, strict=True):
            by_domain.setdefault(domain, []).append(value)
        domains = {
            domain: math.fsum(values) / len(values) for domain, values in sorted(by_domain.items())
        }
        tokens = self._config.tokens_per_step
        rate = tokens / max(pending.elapsed, 1e-9)
        self._log.add(
            {
                "step": pending.step + 1,
                "loss": loss,
                "domains": domains,
                "learning_rate": learning_rate(pending.step, self._config),
                "gradient_norm": norm,
                "tokens": (pending.step + 1) * tokens,
                "tokens_per_second": round(rate, 1),
                "seconds": round(pending.seconds, 3),
            }
        )
        self.recent.append({"loss": loss, "domains": domains})
        self._progress.advance(1, loss=loss, tokens_per_second=rate)


def train(
    model: Vintix,
    loader: BatchLoader,
    config: TrainConfig,
    hardware: Hardware,
    staging: Staging,
    reporter: Reporter,
    stop: StopSignal,
) -> tuple[torch.optim.Optimizer, list[dict[str, Any]]]:
    """Train from the newest durable checkpoint, or from the start, to the last step.

    Args:
        model: The model with its first weights, on its device.
        loader: Gives the micro-batches of a step.
        config: The run.
        hardware: Device and precision.
        staging: Where checkpoints and the log go.
        reporter: Told about progress.
        stop: Looked at between steps.

    Returns:
        The optimizer, and loss and loss by domain of the last steps, oldest first.

    Raises:
        InterruptedRunError: A signal came; the state is in a durable checkpoint.
        VintixError: The loss is not finite.
        StorageError: A checkpoint or the log could not be written.
    """
    model.train()
    trainer = Trainer(model, config, hardware)
    done, recent = load_checkpoint(staging, model, trainer.optimizer)
    if done:
        reporter.info(f"resuming after step {done:,} of {config.steps:,}")
    with (
        _own_random_state(hardware),
        MetricsLog(staging.directory / LOG / NAME, steps=done) as log,
        reporter.progress("train", config.steps, "steps") as progress,
        Prefetcher(loader.step, done, config.steps) as prefetched,
    ):
        if done:
            progress.advance(done)
        recorder = _Recorder(log, progress, config, recent or [])
        before = log.last["seconds"] if log.last else 0.0
        begin = last = time.perf_counter()
        for step in range(done, config.steps):
            outcome = trainer.step(step, prefetched.get())
            now = time.perf_counter()
            recorder.add(_Pending(step, outcome, before + now - begin, now - last))
            last = now
            stopping = stop.requested
            finished = step + 1 == config.steps
            if not finished and (stopping or (step + 1) % config.checkpoint_every == 0):
                recorder.flush()
                log.sync()
                save_checkpoint(staging, model, trainer.optimizer, step + 1, list(recorder.recent))
                last = time.perf_counter()
            if stopping and not finished:
                stop.raise_if_requested(
                    "training was interrupted; its state is kept",
                    where=f"step {step + 1:,} of {config.steps:,}",
                    fix="run the same command again: it goes on from this step",
                )
        recorder.flush()
        log.sync()
    return trainer.optimizer, list(recorder.recent)


@contextmanager
def _own_random_state(hardware: Hardware) -> Iterator[None]:
    """Leave PyTorch's global generators as they were: dropout seeds them at each step."""
    devices = [torch.cuda.current_device()] if hardware.device == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield
