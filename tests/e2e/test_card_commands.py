"""The commands that have to run as written, with no other flag."""

from __future__ import annotations

import pytest

from e2e.conftest import SMALL

DISTILL = ["distill", "--domain", "metaworld", "--schedule", "p=0.7,f=0.1"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["demonstrators", "--domain", "metaworld"], ["assembly", "window-open", "50 tasks"]),
        (DISTILL, ["reach", "p=0.7,f=0.1", "1,500,000"]),
        (["train"], ["transformer", "cpu"]),
        (["rollout", "--task", "reach"], ["reach", "metaworld", "checkpoint quickstart@v1"]),
        (["rollout", "--task", "hopper", "--gravity", "1.1"], ["hopper-gravity-1.1"]),
    ],
    ids=" ".join,
)
def test_planned_as_written(gallery_shell, words, expected):
    done = gallery_shell.vintix(*words, "--dry-run")
    assert done.code == 0, done.stderr
    for word in expected:
        assert word in done.stdout
    plan = gallery_shell.vintix(*words, "--dry-run", "--json").document
    assert plan["stage"] == words[0]
    assert plan["plan"]
    if words[0] in ("distill", "rollout"):
        assert plan["totals"]["steps"] > 0
        assert plan["totals"]["seconds"] > 0


def test_run_as_written_with_small_settings(gallery_shell):
    """The same without --dry-run: variables keep it small, the commands are whole."""
    for words in (
        DISTILL,
        ["pack"],
        ["train"],
        ["rollout", "--task", "reach"],
    ):
        done = gallery_shell.vintix(*words, variables=SMALL)
        assert done.code == 0, (words, done.stderr)
        assert "wrote: " in done.stdout


def test_hopper_without_a_hopper_in_the_checkpoint(shell):
    done = shell.vintix("rollout", "--task", "hopper", "--gravity", "1.1")
    assert done.code == 3
    for word in ("hopper-gravity-1.1", "mujoco-hopper", "point-mass", "fix: vintix "):
        assert word in done.stderr


def test_bidexhands_on_an_isaac_gym_that_is_not_there(empty):
    words = ["distill", "--domain", "bidexhands", "--schedule", "p=0.7,f=0.1"]
    done = empty.vintix(*words, "--backend", "isaacgym")
    assert (done.code, done.stdout) == (5, "")
    for word in ("Isaac Gym", "VINTIX_ISAACGYM", "docs/isaac-gym.md"):
        assert word in done.stderr


def test_many_gpus_on_a_machine_without(gallery_shell):
    import torch

    if torch.cuda.device_count() >= 8:
        pytest.skip("this machine has eight GPUs")
    done = gallery_shell.vintix("train", "--gpus", "8")
    assert (done.code, done.stdout) == (5, "")
    assert "8 CUDA GPUs" in done.stderr
    assert "--device cpu" in done.stderr
