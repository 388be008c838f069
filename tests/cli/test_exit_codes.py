"""Every exit code of the table in the README, produced by the real command.

Each error says what is wrong, where, what was expected against what was found, and what mends it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.artifacts.files import canonical_json

HOLD = """
import sys
from pathlib import Path
from pipelines.artifacts.workspace import Workspace
with Workspace(Path(sys.argv[1])).stage(sys.argv[2], sys.argv[3], config={}):
    print("held", flush=True)
    sys.stdin.read()
"""


def _words(value: object) -> str:
    return " ".join(value[:4]) if isinstance(value, list) else ""


def check(done, code: int, *words: str) -> None:
    """Check code and message; and that there is no traceback, and nothing on stdout."""
    assert done.code == code, (done.code, done.stderr)
    for word in words:
        assert word in done.stderr, done.stderr
    assert "\nerror: " in f"\n{done.stderr}"
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


# 0


def test_0_done_and_0_up_to_date(shell):
    before = shell.digests()
    done = shell.vintix("train", "--config", "run.yaml", "--seed", "5")
    # A log says what is read and where the work lies, and nothing of trouble.
    assert (done.code, "warning" in done.stderr, "error" in done.stderr) == (0, False, False)
    assert "dataset point-mass@v1" in done.stderr
    assert "wrote: checkpoints/point-mass-tiny@v2" in done.stdout
    again = shell.vintix("train", "--config", "run.yaml", "--seed", "5", "--quiet")
    assert (again.code, again.stderr) == (0, "")
    assert "up to date: checkpoints/point-mass-tiny@v2" in again.stdout
    assert len(shell.digests()) == len(before) + 1


# 1


def test_1_unexpected_error_in_somebody_elses_code(faulty):
    done = faulty.vintix("tasks", "grumbling")
    assert done.code == 1
    assert "error: unexpected ZeroDivisionError: a mistake in somebody's plugin" in done.stderr
    assert "--debug" in done.stderr
    assert "Traceback" not in done.stderr


def test_traceback_of_a_worker_with_debug(faulty):
    """What raised in another process is shown with the lines it raised at."""
    words = ["demonstrators", "--domain", "faulty", "--workers", "2"]
    done = faulty.vintix(*words, "--debug")
    assert done.code == 7
    assert "RuntimeError: the simulator fell over" in done.stderr
    assert "faulty_domain.py" in done.stderr
    assert "Traceback" in done.stderr


def test_1_only_task_of_a_run_fails(faulty):
    done = faulty.vintix("demonstrators", "--task", "faulty-raising")
    check(done, 1, "RuntimeError: the simulator fell over", "task faulty-raising", "--debug")


@pytest.mark.parametrize("before", [True, False])
def test_traceback_with_debug_wherever_it_stands(faulty, before):
    words = ["tasks", "grumbling"]
    done = faulty.vintix(*(["--debug", *words] if before else [*words, "--debug"]))
    assert done.code == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert "faulty_domain.py" in done.stderr


def test_1_workspace_that_cannot_be_written(empty):
    (empty.directory / "file").write_text("")
    done = empty.vintix(
        "demonstrators", "--domain", "point-mass", "--workspace", empty.directory / "file" / "work"
    )
    check(done, 1, "cannot write: Not a directory", "where: ", "file/work", "fix: ")


# 2


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["distill", "--stepz", "3"],
            ["No such option: --stepz", "Did you mean --steps?", "fix: vintix distill --steps 3\n"],
        ),
        (["distil"], ["No such command 'distil'", "Did you mean distill?"]),
        (["distill", "--steps", "0"], ["--steps", "found: 0", "equal to 1"]),
        (["distill", "--steps", "many"], ["--steps", "found: many", "integer"]),
        (["rollout", "--shots"], ["--shots", "argument"]),
        (["tasks", "hoper"], ["Unknown task 'hoper'", "fix: vintix tasks hopper\n"]),
        (["tasks", "--domain", "mujco"], ["Unknown domain 'mujco'", "Did you mean mujoco?"]),
        (["distill", "--domain", "mujco"], ["Unknown domain 'mujco'", "point-mass"]),
        (["distill", "--scale", "0"], ["distill.scale", "greater than 0", "0.0"]),
        (["distill", "--schedule", "p=0.7,q=1"], ["distill.schedule", "p=0.7,q=1"]),
        (["train", "--preset", "huge"], ["train.preset", "'tiny', 'small', 'base' or 'paper'"]),
        (["train", "--set", "lr=3"], ["malformed --set", "lr=3", "train.FIELD=VALUE"]),
        (["rollout", "--option", "speed"], ["malformed --option", "NAME=VALUE", "speed"]),
        (["artifacts", "ls", "--kind", "history"], ["history", "histories"]),
        (["artifacts", "verify"], ["say which artifact", "--all"]),
        (["pack", "--plan", "paper"], ["--dry-run --plan paper"]),
    ],
    ids=_words,
)
def test_2_usage(empty, words, expected):
    check(empty.vintix(*words), 2, *expected)


def test_2_tells_json_too(empty):
    done = empty.vintix("distill", "--stepz", "3", "--json")
    assert done.code == done.document["exit_code"] == 2
    assert done.document["where"] == "vintix distill"


# 3


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("train: {stpes: 3}", ["unknown setting", "run.yaml: train.stpes", "steps"]),
        ("tarin: {steps: 3}", ["unknown or malformed section", "run.yaml: tarin", "train"]),
        ("train: {steps: [", ["not valid YAML", "run.yaml"]),
        ("- train", ["not a mapping", "run.yaml", "list"]),
        ("train: {steps: many}", ["integer", "run.yaml: train.steps", "'many'"]),
        ("train: {model: {width: 33}}", ["width", "33"]),
    ],
)
def test_3_configuration_file(shell, content, expected):
    (shell.directory / "run.yaml").write_text(content)
    check(shell.vintix("train", "--config", "run.yaml", "--context", "40"), 3, *expected)


def test_3_configuration_file_that_is_not_there(empty):
    check(empty.vintix("train", "--config", "no.yaml"), 3, "cannot read", "no.yaml", "No such file")


def test_3_context_longer_than_the_trajectories(shell):
    done = shell.vintix("train", "--config", "run.yaml", "--context", "400")
    check(
        done,
        3,
        "the context is longer than a trajectory",
        "point-mass-north-east, trajectory 0",
        "at least 401 rows",
        "found: 400 rows",
        "--context 399",
    )


def test_3_checkpoint_without_the_tasks_group(shell):
    check(
        shell.vintix("rollout", "--task", "reach"),
        3,
        "no group for task 'reach'",
        "39 observation dims, continuous actions of 4 dimensions",
        "point-mass (2 observation dims, continuous actions of 2 dimensions)",
        "fix: vintix ",
    )


# 4


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["distill"], ["no demonstrators artifact", "fix: vintix demonstrators"]),
        (["pack"], ["no histories artifact", "fix: vintix distill"]),
        (["train"], ["no datasets artifact", "fix: vintix distill, then vintix pack, or"]),
        (["rollout", "--checkpoint", "mine"], ["no checkpoints artifact", "then vintix train"]),
        (["rollout", "--checkpoint", "mine@v3"], ["'mine@v3'", "work"]),
        (
            ["distill", "--task", "reach", "--shard", "1/2"],
            ["reach has no demonstrator", "demonstrators --task reach"],
        ),
        (["artifacts", "verify", "datasets/mine"], ["datasets/mine", "vintix artifacts ls"]),
        (["artifacts", "show", "quickstart"], ["'quickstart'", "vintix artifacts ls"]),
    ],
    ids=_words,
)
def test_4_missing(empty, words, expected):
    check(empty.vintix(*words), 4, *expected)


def test_4_corrupt_is_named_and_not_read(shell):
    version = shell.workspace / "datasets/point-mass/v1"
    chunks = [
        path
        for path in version.rglob("*")
        if path.is_file() and "/observation/c/" in str(path) and path.stat().st_size > 100
    ]
    for chunk in chunks:
        data = bytearray(chunk.read_bytes())
        data[50] ^= 1
        chunk.write_bytes(data)
    assert chunks
    before = shell.digests()
    done = shell.vintix("train", "--config", "run.yaml", "--seed", "1")
    check(
        done, 4, "datasets/point-mass/v1/data.zarr/point-mass-", "observation", "expected", "found"
    )
    assert shell.digests() == before


def test_4_newer_schema(shell):
    path = shell.workspace / "datasets/point-mass/v1/manifest.json"
    manifest = json.loads(path.read_bytes())
    manifest |= {"schema_version": 99}
    del manifest["checksum"]
    checksum = hashlib.sha256(canonical_json(manifest)).hexdigest()
    path.write_bytes(canonical_json({**manifest, "checksum": checksum}))
    done = shell.vintix("train", "--config", "run.yaml", "--seed", "1")
    check(done, 4, "newer", "99", "manifest.json", "pip install --upgrade vintix")


# 5


@pytest.mark.parametrize("command", ["demonstrators", "distill"])
def test_5_missing_simulator(empty, command):
    done = empty.vintix(command, "--domain", "bidexhands", "--backend", "isaacgym")
    check(done, 5, "Isaac Gym", "VINTIX_ISAACGYM", "not set", "--backend mujoco")


def test_5_missing_devices(shell):
    import torch

    if torch.cuda.device_count() >= 8:
        pytest.skip("this machine has eight GPUs")
    done = shell.vintix("train", "--gpus", "8", "--context", "40")
    check(done, 5, "does not have the GPUs", "--gpus 8", "expected: 8 CUDA GPUs", "--device cpu")


def test_5_broken_plugin(faulty):
    """A domain that cannot be imported is missing, and no reason to refuse the others."""
    site = faulty.directory / "packages"
    shutil.copytree(faulty.variables["PYTHONPATH"].split(":")[0], site)
    (site / "faulty_domain.py").write_text("import a_package_that_is_not_there\n")
    variables = {"PYTHONPATH": str(site)}
    done = faulty.vintix("demonstrators", "--domain", "faulty", variables=variables)
    check(done, 5, "'faulty' cannot be used", "a_package_that_is_not_there", "vintix-faulty")
    assert faulty.vintix("tasks", "--domain", "point-mass", variables=variables).code == 0


# 6


@pytest.mark.parametrize(
    ("kind", "command"), [("histories", "distill"), ("checkpoints", "train")], ids=str
)
def test_6_locked_by_another_process(shell, kind, command):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(shell.workspace), kind, "busy"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=shell.environment,
        cwd=shell.directory,
    )
    try:
        assert holder.stdout.readline() == "held\n"
        done = shell.vintix(command, "--config", "run.yaml", "--name", "busy")
        check(done, 6, "another process is writing", f"process {holder.pid} on", f"{kind}/busy")
        assert "--name" in done.stderr
        # Under another name there is nothing to wait for.
        assert shell.vintix(command, "--config", "run.yaml", "--name", "free").code == 0
    finally:
        holder.communicate("")
    assert shell.vintix(command, "--config", "run.yaml", "--name", "busy").code == 0


# 7


@pytest.mark.parametrize("workers", [1, 2])
def test_7_some_tasks_failed_and_the_others_are_kept(faulty, workers):
    words = ["demonstrators", "--domain", "faulty", "--workers", workers]
    done = faulty.vintix(*words)
    check(done, 7, "1 of 2 tasks failed", "faulty-raising", "the simulator fell over", "fix: ")
    staged = faulty.vintix("artifacts", "ls", "--json").document["staged"]
    assert [row["units_done"] for row in staged] == [1]
    mended = faulty.vintix(*words, variables={"FAULTY": "0"})
    assert mended.code == 0, mended.stderr
    assert "wrote: demonstrators/faulty@v1" in mended.stdout


def test_7_in_distill(faulty):
    """The demonstrators were measured before the simulator broke."""
    assert faulty.vintix("demonstrators", "--domain", "faulty", variables={"FAULTY": "0"}).code == 0
    words = ["distill", "--config", "run.yaml"]
    done = faulty.vintix(*words)
    check(done, 7, "1 of 2 tasks failed", "faulty-raising", "the simulator fell over", "fix: ")
    assert faulty.vintix(*words, variables={"FAULTY": "0"}).code == 0


# 130, 143

INTERRUPTED = {
    "distill": ("histories", ["--steps", "1200", "--set", "distill.shard_rows=100"]),
    # Checkpoints are left out while the disk is busy: enough steps for a few on a slow one.
    "train": ("checkpoints", ["--steps", "120"]),
}


def _records(base: Path) -> set[str]:
    """Return the names of the units that are durable; old checkpoints are not kept."""
    return {path.name for path in base.glob(".staging-*/progress/*.json")}


@pytest.mark.parametrize("command", INTERRUPTED)
def test_130_and_143_keep_what_is_done(shell, command):
    """Stopped by SIGINT, then by SIGTERM, then left alone: the bytes are an undisturbed run's."""
    kind, options = INTERRUPTED[command]
    words = [command, "--config", "run.yaml", *options, "--name"]
    base = shell.workspace / kind / "stopped"
    known: set[str] = set()
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        process = shell.start(*words, "stopped")
        deadline = time.monotonic() + 120
        while len(_records(base) - known) < 2:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=120)
        assert process.returncode == code, stderr
        assert stdout == ""
        assert "kept" in stderr and "again" in stderr
        assert "Traceback" not in stderr
        staged = shell.vintix("artifacts", "ls", "--json").document["staged"]
        assert [(row["name"], row["held_by"]) for row in staged] == [("stopped", None)]
        assert _records(base) - known
        known = _records(base)
    for name in ("stopped", "undisturbed"):
        done = shell.vintix(*words, name)
        assert done.code == 0, done.stderr
    digests = shell.digests()
    assert digests[f"{kind}/stopped@v1"] == digests[f"{kind}/undisturbed@v1"]
