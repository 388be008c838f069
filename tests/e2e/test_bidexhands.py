"""The card's command for two hands, and the five stages around it, on MuJoCo."""

from __future__ import annotations

import pytest

from e2e.conftest import SMALL

TASKS = ("hand-push-block", "hand-kettle")


@pytest.mark.slow
def test_the_five_stages_as_written(empty):
    """Two tasks of different groups, one of them for validation; nothing is asked for
    but what the card has."""
    commands = (
        [
            "demonstrators",
            "--episodes",
            "20",
            *(word for task in TASKS for word in ("--task", task)),
        ],
        ["distill", "--domain", "bidexhands", "--schedule", "p=0.7,f=0.1"],
        ["pack", *(word for task in TASKS for word in ("--allow", task))],
        ["train"],
        ["rollout", "--task", "hand-push-block"],
    )
    for words in commands:
        done = empty.vintix(*words, variables=SMALL)
        assert done.code == 0, (words, done.stderr)
        assert "wrote: " in done.stdout
    plan = empty.vintix(*commands[1], "--dry-run", "--json", variables=SMALL).document
    assert {row["task"] for row in plan["plan"]} == set(TASKS)


def test_what_was_measured_on_one_simulator_is_not_collected_on_another(empty):
    small = {**SMALL, "VINTIX_ISAACGYM": "python:/no/such/python3.8"}
    done = empty.vintix("demonstrators", "--task", "hand-push-block", "--episodes", "20")
    assert done.code == 0, done.stderr
    before = empty.digests()
    words = ["distill", "--task", "hand-push-block", "--backend", "isaacgym"]
    done = empty.vintix(*words, variables=small)
    assert done.code == 5 and "/no/such/python3.8" in done.stderr
    assert empty.digests() == before
