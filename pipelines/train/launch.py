"""Starts the processes of a run on this machine and reports for them.

PyTorch's elastic launch starts them, meets the other machines, and ends all when one fails. What
it does not do is done here, through files in a directory of this run: rank 0's messages and
progress come to this process's reporter, an error comes with its exit code, and a signal to this
process becomes a request to stop that all of them agree on (`pipelines.train.processes`), so that
they make a checkpoint and end.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.artifacts.files import failure_of
from pipelines.errors import InterruptedRunError, Reported, VintixError
from pipelines.signals import (
    StopReader,
    StopWriter,
    handlers_kept,
    signals_for_parent_blocked,
)
from pipelines.train.processes import error_from

if TYPE_CHECKING:
    from pipelines.artifacts.workspace import Workspace
    from pipelines.reporter import Progress, Reporter
    from pipelines.train.config import TrainConfig

#: What every process calls: with a configuration, a workspace and a reporter, and `stop`.
Run = Callable[..., Any]

_STOP, _EVENTS = "stop", "events.jsonl"
_POLL_SECONDS = 0.2
_FORWARDED_SIGNAL = "SIGQUIT"


def launch(
    run: Run, config: TrainConfig, workspace: Workspace, reporter: Reporter, processes: int
) -> dict[str, Any]:
    """Run a stage's function in several processes.

    Args:
        config: The run; `nodes` and `rendezvous` say where the other machines are.
        workspace: Where; the same directory on every machine.
        reporter: Shows what rank 0 reports.
        processes: Processes of this machine.

    Returns:
        ``path`` of the published artifact, and ``up_to_date``.

    Raises:
        InterruptedRunError: A signal came; the state is durable.
        VintixError: What a process raised, or that one was killed.
    """
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    with ExitStack() as stack:
        control = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vintix-train-")))
        stack.enter_context(_quiet_launcher())
        stack.enter_context(_EventReader(control / _EVENTS, reporter))
        stop = stack.enter_context(StopWriter(control / _STOP))
        options = LaunchConfig(
            min_nodes=config.nodes,
            max_nodes=config.nodes,
            nproc_per_node=processes,
            run_id="vintix-train",
            rdzv_backend="c10d",
            rdzv_endpoint=config.rendezvous or "127.0.0.1:0",
            local_addr=None if config.rendezvous else "127.0.0.1",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=str(control / "logs")),
            start_method="spawn",
            # The others are ours: a request to stop is passed on, and is not a reason to kill.
            signals_to_handle=_FORWARDED_SIGNAL,
        )
        arguments = (run, config.model_dump_json(), str(workspace.root), str(control))
        try:
            # This thread starts the processes; the one that follows the events takes the signals.
            with signals_for_parent_blocked():
                outcomes = elastic_launch(options, work)(*arguments)
        except ChildFailedError as failure:
            if stop.number is not None:
                raise InterruptedRunError(
                    "training was interrupted before its state could be kept",
                    signal_number=stop.number,
                    fix="run the same command again: it goes on from the last checkpoint",
                ) from failure
            raise _root_cause(control, failure) from failure
    outcome: dict[str, Any] = outcomes[min(outcomes)]
    if "interrupted" in outcome:
        raise error_from(outcome["interrupted"])
    return outcome


def work(run: Run, config_json: str, root: str, control: str) -> dict[str, Any]:
    """Be one of the processes; the launcher's environment says which.

    An interrupted run is an outcome and not a failure, since a process that fails is a reason to
    kill the others.
    """
    from pipelines.artifacts.workspace import Workspace
    from pipelines.reporter import NullReporter
    from pipelines.train.config import TrainConfig

    rank, directory = int(os.environ["RANK"]), Path(control)
    reporter: Reporter = _EventWriter(directory / _EVENTS) if rank == 0 else NullReporter()
    try:
        with StopReader(directory / _STOP) as stop:
            result = run(
                TrainConfig.model_validate_json(config_json),
                Workspace(Path(root)),
                reporter,
                stop=stop,
            )
        return {"path": str(result.artifact.path), "up_to_date": result.up_to_date}
    except InterruptedRunError as error:
        return {"interrupted": error.as_dict()}
    except VintixError as error:
        _leave_error(directory, rank, error.as_dict())
        sys.exit(error.exit_code)
    except Exception as error:
        refused = failure_of(error)
        if refused is not None:
            _leave_error(directory, rank, refused.as_dict())
            sys.exit(refused.exit_code)
        document = {
            "error": "VintixError",
            "message": f"unexpected {type(error).__name__} in a training process: {error}",
            "where": f"rank {rank}",
            "expected": None,
            "found": traceback.format_exc(),
            "fix": "run again with --debug and report what it prints",
            "exit_code": 1,
            "unexpected": True,
        }
        _leave_error(directory, rank, document)
        sys.exit(1)


def _leave_error(directory: Path, rank: int, document: Mapping[str, Any]) -> None:
    path = directory / f"error-{rank}.json"
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps({"time": time.time(), **document}))
    partial.replace(path)


def _root_cause(control: Path, failure: Any) -> Reported:
    """Return what ended the run first: losing a peer makes the others fail as well."""
    documents = [json.loads(path.read_bytes()) for path in sorted(control.glob("error-*.json"))]
    documents.sort(key=lambda document: (document.get("unexpected", False), document["time"]))
    killed = {
        rank: -one.exitcode for rank, one in sorted(failure.failures.items()) if one.exitcode < 0
    }
    if documents and (not documents[0].get("unexpected") or not killed):
        return error_from(documents[0])
    rank, number = next(iter(killed.items()), (None, None))
    return VintixError(
        "a training process ended before its work was done, and the others with it",
        where="training" if rank is None else f"rank {rank}",
        expected="a process that finishes",
        found="no word from it" if number is None else f"killed by {signal.Signals(number).name}",
        fix="run the same command again: it goes on from the last checkpoint; if the system killed "
        "it for its memory, train with a smaller batch or context",
    )


class _EventWriter:
    """A reporter that writes to a file, a few times a second."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting, self._fields, self._written_at = 0.0, {}, 0.0  # type: ignore[var-annotated]

    def info(self, message: str) -> None:
        """Pass a message on."""
        self._write({"info": message})

    def warn(self, message: str) -> None:
        """Pass a warning on."""
        self._write({"warn": message})

    @contextmanager
    def progress(
        self, label: str, total: float, unit: str = "", done: float = 0
    ) -> Iterator[Progress]:
        """Pass a count on."""
        self._write({"progress": [label, total, unit, done]})
        try:
            yield self
        finally:
            self._written_at = 0.0
            self.advance(0)
            self._write({"end": True})

    def advance(self, amount: float = 1, **fields: object) -> None:
        """Add up, and pass on when the last time is a while ago."""
        self._waiting += amount
        self._fields = fields or self._fields
        if time.monotonic() - self._written_at >= _POLL_SECONDS:
            self._write({"advance": self._waiting, "fields": self._fields})
            self._waiting, self._written_at = 0.0, time.monotonic()

    def _write(self, event: Mapping[str, Any]) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(event) + "\n")


class _EventReader:
    """Reads what rank 0 wrote down and tells the launcher's reporter, in a thread."""

    def __init__(self, path: Path, reporter: Reporter) -> None:
        self._path, self._reporter = path, reporter
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="events", daemon=True)
        self._place = 0
        self._shown = ExitStack()
        self._progress: Progress | None = None

    def __enter__(self) -> _EventReader:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._closing.set()
        self._thread.join()

    def _follow(self) -> None:
        with self._shown:
            while not self._closing.wait(_POLL_SECONDS):
                self._read()
            self._read()

    def _read(self) -> None:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._place)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._place += len(line)
                self._report(json.loads(line))

    def _report(self, event: Mapping[str, Any]) -> None:
        if "info" in event:
            self._reporter.info(event["info"])
        elif "warn" in event:
            self._reporter.warn(event["warn"])
        elif "progress" in event:
            self._progress = self._shown.enter_context(self._reporter.progress(*event["progress"]))
        elif "advance" in event and self._progress is not None:
            self._progress.advance(event["advance"], **event["fields"])
        elif "end" in event:
            self._shown.pop_all().close()


@contextmanager
def _quiet_launcher() -> Iterator[None]:
    """Keep the launcher's own reports off the terminal, and put back what it changes."""
    loggers = [logging.getLogger(f"torch.distributed.{name}") for name in ("elastic", "launcher")]
    levels = [logger.level for logger in loggers]
    names = ("TORCHELASTIC_SIGNALS_TO_HANDLE", "TORCH_CPP_LOG_LEVEL")
    before = {name: os.environ.get(name) for name in names}
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with handlers_kept([getattr(signal, _FORWARDED_SIGNAL)]):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
