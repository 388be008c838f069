"""Runs ``vintix`` as a user does, and installs plugins the way pip leaves them."""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
POINT_MASS = ROOT / "examples" / "point_mass"
TIMEOUT = 300.0
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_SCRIPT = Path(sys.executable).with_name("vintix")
VINTIX: list[str] = [str(_SCRIPT)] if _SCRIPT.exists() else [sys.executable, "-m", "vintix_cli"]

TINY_RUN = """
demonstrators: {workers: 1}
distill: {trajectories: 2, steps: 400, shard_rows: 100, workers: 1}
pack: {chunk_rows: 200}
train:
  context: 40
  steps: 6
  batch_size: 2
  threads: 1
  checkpoint_every: 2
  model:
    layers: 1
    heads: 2
    width: 32
    feed_forward: 32
    action_embedding: 15
    observation_embedding: 15
    reward_embedding: 2
rollout: {shots: 3, seeds: 2, context: 40, threads: 1}
"""
"""A run file under which every stage takes a second."""


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.stdout)


class Preloaded:
    """The process of preloaded.py, and ``vintix`` in forks of it."""

    def __init__(self) -> None:
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith("VINTIX_")
        }
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("preloaded.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**environment, **dict.fromkeys(THREADS, "1")},
        )
        atexit.register(self._end)

    def _end(self) -> None:
        self._process.stdin.close()
        self._process.wait()

    def ask(self, message: object) -> int:
        """Send a message and return the answer."""
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@functools.cache
def preloaded() -> Preloaded:
    """Return the one of this test process."""
    return Preloaded()


class Fork:
    """A command that runs in a fork of the preloaded process."""

    def __init__(
        self,
        arguments: list[str],
        directory: Path,
        environment: dict[str, str],
        *,
        script: Path = _SCRIPT,
        session: bool = False,
    ) -> None:
        self._outputs = tempfile.TemporaryDirectory()
        self._files = [Path(self._outputs.name, name) for name in ("stdout", "stderr")]
        for path in self._files:
            path.touch()
        stdout, stderr = map(str, self._files)
        self.returncode: int | None = None
        self.pid = preloaded().ask(
            {
                "script": str(script),
                "arguments": arguments,
                "directory": str(directory),
                "environment": environment,
                "session": session,
                "stdout": stdout,
                "stderr": stderr,
            }
        )

    def poll(self) -> int | None:
        """Return the exit code, None before the end."""
        if self.returncode is None:
            status = preloaded().ask(self.pid)
            self.returncode = None if status == -1 else os.waitstatus_to_exitcode(status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal if it has not ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def wait(self, timeout: float = TIMEOUT) -> int:
        """Return the exit code; a process that takes longer is killed."""
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(0.005)
        return code

    def communicate(self, timeout: float = TIMEOUT) -> tuple[str, str]:
        """Wait for the end, and return what was written to stdout and stderr."""
        self.wait(timeout)
        return self._files[0].read_text(), self._files[1].read_text()


@dataclass(frozen=True)
class Shell:
    """Where commands run: a workspace, a working directory and variables."""

    workspace: Path
    directory: Path
    variables: Mapping[str, str]

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the commands: nothing of ours but what is said here."""
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith("VINTIX_") and key != "COLUMNS"
        }
        return {
            **kept,
            **dict.fromkeys(THREADS, "1"),
            "PATH": os.pathsep.join([str(Path(VINTIX[0]).parent), kept.get("PATH", "")]),
            "VINTIX_WORKSPACE": str(self.workspace),
            **self.variables,
        }

    def vintix(self, *arguments: object, variables: Mapping[str, str] | None = None) -> Done:
        """Run ``vintix`` to its end, in a process that need not import torch again."""
        if not _SCRIPT.exists():
            return self.run([*VINTIX, *map(str, arguments)], variables)
        environment = {**self.environment, **(variables or {})}
        fork = Fork([*map(str, arguments)], self.directory, environment)
        stdout, stderr = fork.communicate()
        return Done(fork.wait(), stdout, stderr)

    def script(self, code: str, *arguments: object) -> Done:
        """Run a program of Python, with the arguments of ``vintix``, in such a process."""
        file = self.directory / "program.py"
        file.write_text(code)
        fork = Fork([*map(str, arguments)], self.directory, self.environment, script=file)
        stdout, stderr = fork.communicate()
        return Done(fork.wait(), stdout, stderr)

    def run(self, command: Sequence[str], variables: Mapping[str, str] | None = None) -> Done:
        """Run any command to its end."""
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            cwd=self.directory,
            env={**self.environment, **(variables or {})},
            timeout=TIMEOUT,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def start(
        self, *arguments: object, variables: Mapping[str, str] | None = None
    ) -> Fork | subprocess.Popen[str]:
        """Start ``vintix`` in a process group of its own."""
        environment = {**self.environment, **(variables or {})}
        if _SCRIPT.exists():
            return Fork([*map(str, arguments)], self.directory, environment, session=True)
        return subprocess.Popen(
            [*VINTIX, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            cwd=self.directory,
            env=environment,
            start_new_session=True,
        )

    def prepare(self, commands: Iterable[Sequence[str]]) -> None:
        """Run commands that have to succeed."""
        for command in commands:
            done = self.vintix(*command)
            if done.code != 0:
                raise RuntimeError(f"{command} ended with {done.code}: {done.stderr}")

    def digests(self) -> dict[str, str]:
        """Return the digest of every published artifact by its reference."""
        return {
            f"{path.parts[-4]}/{path.parts[-3]}@{path.parts[-2]}": json.loads(path.read_bytes())[
                "digest"
            ]
            for path in sorted(self.workspace.glob("*/*/v*/manifest.json"))
        }


def install_point_mass(site: Path) -> None:
    """Install the example's distribution in a directory: with pip, or as pip would leave it."""
    try:
        import hatchling  # noqa: F401 - asks whether it can be built here
    except ImportError:
        install_by_hand(POINT_MASS, site)
        return
    source = site.parent / f"{site.name}-source"
    shutil.copytree(POINT_MASS, source)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(site), str(source)], check=True, timeout=TIMEOUT)


def install_by_hand(package: Path, site: Path) -> None:
    """Copy the modules of a package and write the metadata that installers write."""
    project = tomllib.loads((package / "pyproject.toml").read_text())
    for module in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        shutil.copytree(package / module, site / module)
    install_metadata(
        site,
        project["project"]["name"],
        project["project"]["version"],
        project["project"]["entry-points"],
    )


def install_metadata(
    site: Path, name: str, version: str, entry_points: Mapping[str, Mapping[str, str]]
) -> None:
    """Write the ``.dist-info`` of a distribution."""
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [
        line
        for group, entries in entry_points.items()
        for line in (f"[{group}]", *(f"{key} = {value}" for key, value in entries.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
