"""The shell scripts of examples/, which people paste into their CI, on the point mass."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from cli.support import ROOT, TIMEOUT, Shell

SCRIPTS = sorted((ROOT / "examples").glob("*.sh"))
BASH = shutil.which("bash")
TINY = {
    "VINTIX_TRAIN_CONTEXT": "40",
    "VINTIX_TRAIN_BATCH_SIZE": "2",
    "VINTIX_TRAIN_THREADS": "1",
    "VINTIX_TRAIN_MODEL": "{layers: 1, heads: 2, width: 32, feed_forward: 32, "
    "action_embedding: 15, observation_embedding: 15, reward_embedding: 2}",
    "VINTIX_ROLLOUT_SEEDS": "1",
    "DOMAIN": "point-mass",
}

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(BASH is None, reason="bash is not installed"),
]


@pytest.fixture
def scripts(empty):
    """Run a script with ``vintix`` and ``python3`` as they are found on a user's path."""
    tools = empty.directory / "bin"
    tools.mkdir()
    (tools / "python3").symlink_to(sys.executable)
    path = os.pathsep.join([empty.environment["PATH"], str(tools)])
    variables = {
        **empty.variables,
        **TINY,
        "PATH": path,
        "WORKSPACE": str(empty.workspace),
        "VINTIX_WORKSPACE": "",
    }
    return Shell(empty.workspace, empty.directory, variables)


def run(shell: Shell, name: str, **variables: str):
    return shell.run([str(BASH), str(ROOT / "examples" / name)], variables)


def check_all(shell: Shell) -> None:
    """Check that everything in the workspace is intact."""
    done = shell.vintix("artifacts", "verify", "--all", "--workspace", shell.workspace)
    assert done.code == 0, done.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_bash_and_stop_at_the_first_error(script):
    subprocess.run([str(BASH), "-n", str(script)], check=True)
    text = script.read_text()
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "\nset -euo pipefail\n" in text
    assert os.access(script, os.X_OK)


def test_all_scripts_are_run_here():
    assert [path.name for path in SCRIPTS] == ["array_job.sh", "nightly.sh"]


@pytest.mark.slow
def test_nightly(scripts):
    """Collects, packs, trains and evaluates; the second night finds everything done."""
    small = {"SCALE": "0.1", "STEPS": "3", "SHOTS": "2"}
    done = run(scripts, "nightly.sh", **small)
    assert done.code == 0, done.stderr
    report = json.loads((scripts.workspace / "nightly.json").read_text())
    assert len(report["tasks"]) == 2
    assert all(len(task["normalized_by_shot"]) == 2 for task in report["tasks"])
    pictures = list(scripts.workspace.glob("nightly*.png"))
    assert pictures and all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
    assert "intact: 1 artifact" in done.stdout
    digests = scripts.digests()
    assert sorted(digests) == [
        f"{kind}/nightly@v1"
        for kind in ("checkpoints", "datasets", "demonstrators", "histories", "rollouts")
    ]
    again = run(scripts, "nightly.sh", **small)
    assert again.code == 0, again.stderr
    assert again.stdout.count("up to date: ") == 4
    assert scripts.digests() == digests
    check_all(scripts)


def test_nightly_stops_at_the_first_failure(scripts):
    done = run(scripts, "nightly.sh", DOMAIN="nowhere")
    assert done.code == 2
    assert "nowhere" in done.stderr
    assert not scripts.digests()


def test_array_job_collects_one_task_an_element(scripts):
    for index in ("0", "1"):
        done = run(scripts, "array_job.sh", SCALE="0.1", SLURM_ARRAY_TASK_ID=index)
        assert done.code == 0, done.stderr
    names = ("point-mass-north-east", "point-mass-south-west")
    assert sorted(scripts.digests()) == [
        f"{kind}/{name}@v1" for kind in ("demonstrators", "histories") for name in names
    ]
    packed = scripts.run(
        [str(BASH), "-c", pack_command()], {"VINTIX_WORKSPACE": str(scripts.workspace)}
    )
    assert packed.code == 0, packed.stderr
    assert "datasets/all@v1" in scripts.digests()
    check_all(scripts)


def test_array_job_trains_experts_and_collects_by_them(scripts):
    """The histories of a task find the expert that an earlier element trained."""
    small = {
        "SOURCE": "train",
        "SCALE": "0.1",
        "VINTIX_DEMONSTRATORS_TRAIN": "{algorithm: ppo, total_steps: 64, "
        "hyperparameters: {n_steps: 32, batch_size: 32}}",
        "VINTIX_DEMONSTRATORS_EPISODES": "20",
    }
    done = run(scripts, "array_job.sh", STAGE="experts", **small)
    assert done.code == 0, done.stderr
    digests = scripts.digests()
    assert sorted(digests) == ["demonstrators/point-mass-north-east@v1"]
    done = run(scripts, "array_job.sh", **small)
    assert done.code == 0, done.stderr
    assert "up to date: demonstrators/point-mass-north-east@v1" in done.stdout
    assert digests.items() <= scripts.digests().items()


def test_array_job_plays_one_task_an_element(scripts):
    """What is played is named after checkpoint and task; here there is no such checkpoint."""
    done = run(scripts, "array_job.sh", STAGE="rollouts", CHECKPOINT="nowhere")
    assert done.code == 4 and "nowhere" in done.stderr
    done = run(scripts, "array_job.sh", STAGE="everything")
    assert done.code == 2 and "expected: experts, histories or rollouts" in done.stderr


def pack_command() -> str:
    """Return the command in the script's comment that packs what its elements made."""
    lines = (ROOT / "examples" / "array_job.sh").read_text().splitlines()
    first = next(index for index, line in enumerate(lines) if line.startswith("#   vintix pack"))
    last = next(index for index, line in enumerate(lines) if line.endswith("--name all"))
    return "\n".join(line.removeprefix("#   ") for line in lines[first : last + 1])


def test_array_job_that_the_scheduler_stops_is_resumed(scripts):
    """SIGTERM to the script alone ends its command too, with the code that says: run me again."""
    variables = {**scripts.environment, "SCALE": "20", "VINTIX_DISTILL_SHARD_ROWS": "200"}
    process = subprocess.Popen(
        [str(BASH), str(ROOT / "examples" / "array_job.sh")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=scripts.directory,
        env=variables,
        start_new_session=True,
    )
    base = scripts.workspace / "histories" / "point-mass-north-east"
    deadline = time.monotonic() + 120
    while len(list(base.glob(".staging-*/progress/*.json"))) < 3:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 143, stderr
    assert "kept" in stderr
    listed = scripts.vintix("artifacts", "ls", "--json", "--workspace", scripts.workspace)
    staged = listed.document["staged"]
    assert [(row["name"], row["held_by"]) for row in staged] == [("point-mass-north-east", None)]
    assert staged[0]["units_done"] >= 3
