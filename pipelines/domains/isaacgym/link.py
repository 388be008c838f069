"""A worker from the client's side: its process, the connection to it, and how it is stopped.

The process may be an interpreter of the user's, ``conda run``, or a container. It listens at a Unix
socket in a directory that only this user can enter, answers only to its own random token, and
leaves when its standard input or the connection ends, hence also when this process is killed.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pipelines.domains.isaacgym import worker as protocol
from pipelines.domains.isaacgym.settings import (
    ARGUMENTS,
    LAUNCH,
    PAGE,
    STARTUP_SECONDS,
    STEP_SECONDS,
    IsaacGymError,
    IsaacGymSettings,
)
from pipelines.errors import MissingDependencyError, VintixError

if TYPE_CHECKING:
    from numpy.typing import NDArray

WORKER_FILE = Path(protocol.__file__)
_TAIL_BYTES = 4000
_LEAVE_SECONDS = 5.0
_POLL_SECONDS = 0.02
# A path of a Unix socket has at most 107 bytes.
_LONGEST_DIRECTORY = 90


def launch_command(settings: IsaacGymSettings, directory: Path, name: str) -> list[str]:
    """Return the command that starts a worker listening at ``<directory>/socket``.

    Args:
        name: A name for the container.
    """
    options = ["--watch-stdin", *settings.arguments]
    if settings.kind in ("python", "conda"):
        conda = ["conda", "run", "-n", settings.target, "--no-capture-output", "python"]
        run = [settings.target] if settings.kind == "python" else conda
        return [*run, str(WORKER_FILE), "--endpoint", f"unix:{directory / 'socket'}", *options]
    run = [settings.kind, "run", "--rm", "-i", "--name", name, "--network", "none"]
    on_gpu = settings.device != "cpu"
    if settings.kind == "docker":
        run += ["--user", f"{os.getuid()}:{os.getgid()}", *(["--gpus", "all"] * on_gpu)]
    else:
        run += ["--userns", "keep-id", "--security-opt", "label=disable"]
        run += ["--device", "nvidia.com/gpu=all"] * on_gpu
    # The token goes by name, so that its value is in no list of processes.
    run += ["-e", protocol.TOKEN_VARIABLE, "-e", "HOME=/tmp", "-v", f"{directory}:/run/vintix"]
    run += ["-v", f"{WORKER_FILE}:/opt/vintix/worker.py:ro", settings.target]
    run += ["python", "/opt/vintix/worker.py", "--endpoint", "unix:/run/vintix/socket"]
    return [*run, *options]


class Worker:
    """One worker; begins to start as it is made.

    Args:
        settings: How it is started and waited for.

    Raises:
        MissingDependencyError: The program that starts it is not there.
    """

    def __init__(self, settings: IsaacGymSettings) -> None:
        self._settings = settings
        self._connection: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._directory: Path | None = None
        self._log: IO[bytes] | None = None
        self._launched = f"{LAUNCH}={settings.kind}:{settings.target}"
        self._token = settings.token
        self._sequence = 0
        self._began = time.monotonic()
        if settings.kind != "connect":
            self._start()

    @property
    def pid(self) -> int | None:
        """Process id of what was started, or None."""
        return None if self._process is None else self._process.pid

    def greet(self, task: str | None, copies: int) -> None:
        """Connect and ask for a simulation of this many copies; `greeting` returns the answer.

        Args:
            task: Name of the class in bidexhands; None for the versions alone.
            copies: Copies of the task in the simulation.

        Raises:
            IsaacGymError: The worker ended, or did not listen in time.
        """
        self._connect()
        fields = {"token": self._token, "protocol": protocol.PROTOCOL, "task": task}
        self.send(protocol.HELLO, {**fields, "num_envs": copies, "device": self._settings.device})

    def greeting(self) -> dict[str, Any]:
        """Return the answer to `greet`: dims, longest episode and versions.

        Raises:
            MissingDependencyError: Isaac Gym or bidexhands cannot be imported by the worker.
            IsaacGymError: The worker failed, is of another version, or takes too long.
        """
        left = self._began + self._settings.startup_seconds - time.monotonic()
        return self.receive(max(left, 0.01), "start", STARTUP_SECONDS).fields

    def send(
        self,
        opcode: int,
        fields: Mapping[str, Any] | None = None,
        arrays: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        """Send a request; raises an `IsaacGymError` where the worker is gone, or does not read."""
        connection = self._connected("a request")
        self._sequence = (self._sequence + 1) & 0xFFFF_FFFF
        frame = protocol.Frame(opcode, self._sequence, dict(fields or {}), dict(arrays or {}))
        self._opcode = opcode
        try:
            connection.settimeout(self._settings.step_seconds)
            connection.sendall(protocol.encode(frame))
        except OSError as error:
            raise self._lost("ended before a request reached it", error) from error

    def receive(
        self, seconds: float | None = None, doing: str = "answer", variable: str = STEP_SECONDS
    ) -> protocol.Frame:
        """Return the reply to the last request.

        Args:
            seconds: How long to wait; default the settings' time for a step.
            doing: What the worker is waited for.
            variable: The environment variable that allows more time.

        Raises:
            MissingDependencyError: See `greeting`.
            IsaacGymError: The worker failed, broke off, sent something else, or takes too long;
                it has been stopped.
        """
        connection = self._connected("its reply")
        seconds = self._settings.step_seconds if seconds is None else seconds
        try:
            frame = protocol.read_frame(connection, time.monotonic() + seconds)
        except TimeoutError as late:
            raise self._late(doing, variable) from late
        except (protocol.FrameError, OSError) as broken:
            raise self._lost("broke off", broken) from broken
        if frame is None:
            raise self._lost("ended before it replied", None)
        if frame.opcode == protocol.ERROR:
            error = self._error_of(str(frame.fields.get("kind")), frame.fields)
            error.add_note(f"in the worker:\n{frame.fields.get('traceback')}")
            raise error
        if (frame.opcode, frame.sequence) != (self._opcode, self._sequence):
            raise self._lost(
                "answered another request than the last",
                f"opcode {frame.opcode}, number {frame.sequence}",
            )
        return frame

    def leave(self) -> None:
        """Tell the worker to leave, by the end of its connection and of its standard input."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def stop(self) -> None:
        """Stop the worker; again does nothing."""
        self.leave()
        if self._process is not None:
            self._end_process(self._process)
            self._process = None
        if self._log is not None:
            self._log.close()
            self._log = None
        self._remove_directory()

    def _start(self) -> None:
        base = tempfile.gettempdir()
        self._directory = Path(
            tempfile.mkdtemp(
                prefix="vintix-isaacgym-", dir="/tmp" if len(base) > _LONGEST_DIRECTORY else base
            )
        )
        self._token = secrets.token_hex(16)
        self._name = f"vintix-isaacgym-{secrets.token_hex(6)}"
        command = launch_command(self._settings, self._directory, self._name)
        variables = {**os.environ, protocol.TOKEN_VARIABLE: self._token}
        # The interpreter is another one, with packages of its own.
        for name in ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP"):
            variables.pop(name, None)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop()
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._log,
                env=variables,
                # Ctrl-C is for this process, which then ends the worker in its own way.
                start_new_session=True,
            )
        except OSError as error:
            self.stop()
            raise MissingDependencyError(
                "The Isaac Gym worker cannot be started.",
                where=self._launched,
                expected=f"{command[0]} to be a program that can be run",
                found=error,
                fix=f"set {LAUNCH} as {PAGE} says",
            ) from error

    def _connect(self) -> None:
        deadline = self._began + self._settings.startup_seconds
        if self._settings.kind == "connect":
            host, _, port = self._settings.target.rpartition(":")
            try:
                self._connection = socket.create_connection((host, int(port)), timeout=10)
            except OSError as error:
                raise self._lost("cannot be reached", error) from error
            self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return
        assert self._directory is not None and self._process is not None
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise self._lost("ended before it listened", None)
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.connect(str(self._directory / "socket"))
            except OSError:
                connection.close()
                time.sleep(_POLL_SECONDS)
                continue
            self._connection = connection
            # It has served; so nothing is left behind, however this process ends.
            self._remove_directory()
            return
        raise self._late("start", STARTUP_SECONDS)

    def _remove_directory(self) -> None:
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def _connected(self, what: str) -> socket.socket:
        if self._connection is None:
            raise self._lost(f"was not there for {what}", None)
        return self._connection

    def _end_process(self, process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_LEAVE_SECONDS)
        if process.poll() is None and self._settings.kind in ("docker", "podman"):
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run(
                    [self._settings.kind, "kill", self._name],
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    timeout=_LEAVE_SECONDS,
                    check=False,
                )
        if process.poll() is None:
            # Its group is its own: what it started, as `conda run` does, ends with it.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _stopped(
        self, message: str, expected: str, found: str, fix: str = f"see {PAGE}"
    ) -> IsaacGymError:
        """Stop the worker and return the error to raise."""
        self.stop()
        return IsaacGymError(
            f"The Isaac Gym worker {message}",
            where=self._launched,
            expected=expected,
            found=found,
            fix=fix,
        )

    def _lost(self, how: str, error: object) -> IsaacGymError:
        return self._stopped(
            f"{how}; what it was doing is lost.",
            "a worker that answers until it is told to leave",
            self._found(error),
            f"run the command again, which resumes; if it comes again, see {PAGE}",
        )

    def _late(self, doing: str, variable: str) -> IsaacGymError:
        return self._stopped(
            f"did not {doing} in time; what it was doing is lost.",
            f"at most the seconds of {variable}",
            self._found(None, "no answer"),
            f"export {variable} with more seconds, or see {PAGE}",
        )

    def _error_of(self, kind: str, fields: Mapping[str, Any]) -> VintixError:
        """Return the error that an ERROR reply reports."""
        message = str(fields.get("message"))
        if kind == "protocol":
            return self._stopped(
                "is of another version than this package.",
                f"protocol {protocol.PROTOCOL}",
                f"protocol {fields.get('protocol')}",
                f"start the worker from {WORKER_FILE}",
            )
        if kind == "token":
            return self._stopped(
                "refused the token.",
                "the token that the worker was started with",
                "another one",
                f"export {protocol.TOKEN_VARIABLE} with the same value on both sides",
            )
        if kind == "missing":
            self.stop()
            return MissingDependencyError(
                "The worker's Python cannot import Isaac Gym, bidexhands or what they need.",
                where=self._launched,
                expected="a Python 3.8 with isaacgym, torch and bidexhands",
                found=message,
                fix=f"set it up as {PAGE} says; {ARGUMENTS}=--fake tries the rest without it",
            )
        return self._stopped("failed.", "a simulation that goes on", self._found(message))

    def _found(self, *parts: object) -> str:
        """Return what is known of the worker's end: status, given parts, tail of its stderr."""
        words = [str(part) for part in parts if part is not None]
        if self._process is not None:
            # A connection ends an instant before its process does.
            with contextlib.suppress(subprocess.TimeoutExpired):
                words.insert(0, f"exit status {self._process.wait(0.2)}")
        if self._log is not None:
            # Read in place: the worker writes at the file's offset, which is shared.
            number = self._log.fileno()
            begin = max(0, os.fstat(number).st_size - _TAIL_BYTES)
            text = os.pread(number, _TAIL_BYTES, begin).decode("utf-8", "replace").strip()
            words.append(f"its last words:\n{text}" if text else "it said nothing")
        return "; ".join(words) or "the connection ended"
