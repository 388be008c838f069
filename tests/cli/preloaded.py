"""Run scripts in forks of one process that has the slow imports behind it.

The standard streams of this program carry a message a line: for a command, a JSON object, the
process id of its fork goes out; for a process id, the wait status of that fork, -1 before its end.
Each fork is a process as any other, with its own environment, working directory, streams, signals
and process group; it only need not import torch again, and does not wait for the disk.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import sys
import threading
from typing import Any

STAGES = ("demonstrators", "distill", "pack", "train", "rollout")
MODULES = (
    *("gymnasium.envs.mujoco", "metaworld", "mujoco", "numcodecs", "rich.console", "rich.table"),
    *("scipy.linalg", "torch._dynamo", "torch.utils._device", "yaml", "zarr"),
    *("concurrent.futures.process", "filelock", "pydantic.type_adapter", "vintix_cli.app"),
    *(f"pipelines.{stage}.stage" for stage in STAGES),
    *("pipelines.demonstrators.evaluate", "pipelines.distill.collect", "pipelines.distill.merge"),
    *("matplotlib.backends.backend_agg", "matplotlib.figure"),
    *("pipelines.model.saved", "pipelines.playing.model", "pipelines.train.loop"),
)


def serve() -> dict[str, Any] | None:
    """Fork for each command that comes in; returns the command in the fork, None at the end."""
    messages = os.fdopen(os.dup(0), "rb")
    answers = os.dup(1)
    os.dup2(2, 1)
    for line in messages:
        message: Any = json.loads(line)
        if isinstance(message, int):
            ended, status = os.waitpid(message, os.WNOHANG)
            os.write(answers, b"%d\n" % (status if ended else -1))
            continue
        pid = os.fork()
        if pid == 0:
            messages.close()
            os.close(answers)
            found: dict[str, Any] = message
            return found
        os.write(answers, b"%d\n" % pid)
    return None


def become(command: dict[str, Any], path: list[str]) -> None:
    """Take over what a new process would be given."""
    if command["session"]:
        os.setsid()
    for number, name, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, command["stdout"], os.O_WRONLY | os.O_APPEND),
        (2, command["stderr"], os.O_WRONLY | os.O_APPEND),
    ):
        opened = os.open(name, flags)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(command["directory"])
    os.environ.clear()
    os.environ.update(command["environment"])
    added = [each for each in command["environment"].get("PYTHONPATH", "").split(":") if each]
    sys.path[:] = [os.path.dirname(command["script"]), *added, *path]  # noqa: PTH120 - no imports
    importlib.invalidate_caches()
    sys.argv[:] = [command["script"], *command["arguments"]]


def run(script: str) -> None:
    """Run a script as Python does, but leave it to the system to free the memory of torch."""
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            raise
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code or 0)


def main() -> None:
    """Import, serve, and run the command of each fork to its end."""
    given = os.environ.get("PYTHONPATH", "").split(":")
    path = [each for each in sys.path[1:] if each not in given]
    for name in MODULES:
        importlib.import_module(name)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A power failure is not tested, and each file would cost milliseconds.
    os.fsync = lambda descriptor: None
    gc.freeze()
    command = serve()
    if command is not None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        become(command, path)
        run(command["script"])


if __name__ == "__main__":
    main()
