"""From what a step leaves on the device to a line of the log."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from pipelines.errors import VintixError
from pipelines.train.config import TrainConfig
from pipelines.train.loader import BatchLoader
from pipelines.train.metrics import MetricsLog
from pipelines.train.optimizer import learning_rate
from pipelines.train.reduction import agreed_signal

if TYPE_CHECKING:
    from pipelines.reporter import Progress
    from pipelines.train.tracking import Tracker

#: Steps whose mean loss is the run's final loss: single steps differ by what they drew.
RECENT_STEPS = 50


@dataclass(frozen=True)
class StepOutcome:
    """What a step leaves on the device, to be read when it is no longer in the way.

    Attributes:
        losses: Loss of each sequence of the global batch.
        domains: Domain of each sequence: names, or their places in the loader's list.
        gradient_norm: Global norm before clipping, a scalar.
        stops: How many processes got each of the stop signals; None in a world of one.
    """

    losses: Tensor
    domains: list[str] | Tensor
    gradient_norm: Tensor
    stops: Tensor | None = None


@dataclass(frozen=True)
class Pending:
    """A step whose outcome has not been read.

    Attributes:
        step: Its number, from 0.
        outcome: What it left.
        seconds: Time since training began, over all runs.
        elapsed: Time the step took.
        extra: Further entries of its line.
    """

    step: int
    outcome: StepOutcome
    seconds: float
    elapsed: float
    extra: dict[str, Any] = field(default_factory=dict)


class Recorder:
    """Turns outcomes into lines of the log, one step late, so that nothing waits for the device.

    Args:
        log: Where the lines go; None in a process that does not write.
        progress: Told about each step.
        config: The run.
        recent: Losses of the last steps of an earlier run.
        loader: Knows how many tokens a step has, and the names of the domains.
        tracker: Given the lines, too.

    Attributes:
        recent: Loss and loss by domain of the last steps, oldest first.
        agreed: The signal at which all processes stop, as of the last step that was read.
    """

    def __init__(
        self,
        log: MetricsLog | None,
        progress: Progress,
        config: TrainConfig,
        recent: list[dict[str, Any]],
        loader: BatchLoader,
        tracker: Tracker | None = None,
    ) -> None:
        self._log, self._progress, self._config = log, progress, config
        self._loader, self._tracker = loader, tracker
        self.recent: deque[dict[str, Any]] = deque(recent, maxlen=RECENT_STEPS)
        self.agreed: int | None = None
        self._pending: Pending | None = None

    def add(self, pending: Pending) -> None:
        """Take in a step and write the line of the one before."""
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
        outcome = pending.outcome
        if outcome.stops is not None:
            self.agreed = self.agreed or agreed_signal(outcome.stops)
        losses = outcome.losses.tolist()
        norm = float(outcome.gradient_norm)
        loss = math.fsum(losses) / len(losses)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise VintixError(
                "training diverged: the loss or its gradient is not a finite number",
                where=f"step {pending.step + 1}",
                expected="a finite loss and gradient norm",
                found=f"loss {loss}, gradient norm {norm}",
                fix=f"vintix train --learning-rate {self._config.learning_rate / 3:.1e}, "
                "or --set train.clip_norm=1",
            )
        domains = mean_by_domain(losses, self._names(outcome.domains))
        rate = len(losses) * self._config.context / max(pending.elapsed, 1e-9)
        row = {
            "step": pending.step + 1,
            "loss": loss,
            "domains": domains,
            "learning_rate": learning_rate(pending.step, self._config),
            "gradient_norm": norm,
            "tokens": self._loader.tokens(pending.step),
            "tokens_per_second": round(rate, 1),
            "seconds": round(pending.seconds, 3),
            **pending.extra,
        }
        if self._log is not None:
            self._log.add(row)
        if self._tracker is not None:
            self._tracker.log(row)
        self.recent.append({"loss": loss, "domains": domains})
        self._progress.advance(1, loss=loss, tokens_per_second=rate)

    def sync(self) -> None:
        """Make the lines written so far durable.

        Raises:
            StorageError: The file system refused.
        """
        if self._log is not None:
            self._log.sync()
        if self._tracker is not None:
            self._tracker.flush()

    def _names(self, domains: list[str] | Tensor) -> list[str]:
        if isinstance(domains, list):
            return domains
        return [self._loader.domains[round(place)] for place in domains.tolist()]


def mean_by_domain(losses: list[float], domains: list[str]) -> dict[str, float]:
    """Return the mean loss of each domain, sorted by name."""
    by_domain: dict[str, list[float]] = {}
    for domain, value in zip(domains, losses, strict=True):
        by_domain.setdefault(domain, []).append(value)
    return {domain: math.fsum(each) / len(each) for domain, each in sorted(by_domain.items())}
