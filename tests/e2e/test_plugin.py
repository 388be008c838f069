"""A user's own domain, installed from a package of its own, through all five stages."""

from __future__ import annotations

import shlex
from importlib import metadata

import pytest
from cli.support import ROOT

#: What keeps the documented commands, which are run as they stand, to a few seconds.
SMALL = {
    "VINTIX_DISTILL_STEPS": "400",
    "VINTIX_TRAIN_BATCH_SIZE": "1",
    "VINTIX_TRAIN_THREADS": "1",
    "VINTIX_TRAIN_MODEL": "{layers: 1, heads: 2, width: 32, feed_forward: 32, "
    "action_embedding: 15, observation_embedding: 15, reward_embedding: 2}",
    "VINTIX_ROLLOUT_SEEDS": "1",
}


def documented() -> list[list[str]]:
    """Return the commands of the first code block of the page."""
    page = (ROOT / "docs" / "domains.md").read_text()
    block = page.partition("```bash\n")[2].partition("```")[0]
    return [shlex.split(line) for line in block.splitlines() if line.strip()]


def test_package_is_installed_beside_and_not_within(site):
    """The distribution is found by its entry point alone, as any user's would be."""
    found = list(metadata.distributions(path=[str(site / "packages")]))
    assert [each.metadata["Name"] for each in found] == ["point-mass-domain"]
    points = [point for point in found[0].entry_points if point.group == "vintix.domains"]
    assert [(point.name, point.value) for point in points] == [
        ("point-mass", "point_mass_domain:PointMass")
    ]


def test_documented_commands_run_all_five_stages(empty):
    install, *commands = documented()
    assert install == ["pip", "install", "./examples/point_mass"]
    assert (ROOT / install[-1] / "pyproject.toml").is_file()
    stages = [command[1] for command in commands]
    assert stages == ["tasks", "demonstrators", "distill", "pack", "train", "rollout"]
    for command in commands:
        done = empty.vintix(*command[1:], variables=SMALL)
        assert done.code == 0, (command, done.stderr)
        assert "point-mass" in done.stdout
    done = empty.vintix(*commands[-1][1:], "--json", variables=SMALL)
    assert done.code == 0
    report = done.document
    assert report["up_to_date"] is True
    assert [task["name"] for task in report["tasks"]] == [
        "point-mass-north-east",
        "point-mass-south-west",
    ]
    for task in report["tasks"]:
        assert task["reference"] == "measured"
        assert len(task["returns_by_shot"]) == len(task["normalized_by_shot"]) == 10
        scale = task["expert"] - task["random"]
        assert scale > 10
        for value, normalized in zip(
            task["returns_by_shot"], task["normalized_by_shot"], strict=True
        ):
            assert normalized == pytest.approx((value - task["random"]) / scale)
    assert len(report["mean_normalized_by_shot"]) == 10
    checked = empty.vintix("artifacts", "verify", "--all", "--deep", "--json")
    assert (checked.code, checked.document["problems"]) == (0, [])
    assert len(checked.document["checked"]) == 5
    shown = empty.vintix("artifacts", "show", "histories/point-mass", "--json").document
    assert shown["manifest"]["packages"]["point-mass-domain"] == "0.1.0"


def test_option_of_the_plugin_reaches_its_environment(shell):
    words = ["demonstrators", "--domain", "point-mass", "--json"]
    slow = shell.vintix(*words, "--option", "speed=0.01", "--name", "slow")
    assert slow.code == 0, slow.stderr
    usual = shell.vintix(*words)
    assert usual.document["up_to_date"] is True
    for task, faster in zip(slow.document["tasks"], usual.document["tasks"], strict=True):
        assert task["expert"]["mean"] < faster["expert"]["mean"]
    refused = shell.vintix(*words, "--option", "sped=0.01")
    assert refused.code == refused.document["exit_code"] == 2
    assert "speed" in refused.document["expected"]
