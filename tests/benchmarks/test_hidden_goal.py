"""Speed of the vectorised tasks with hidden goals against the same tasks, a copy at a time."""

from __future__ import annotations

import time
from typing import Any

import pytest

from pipelines.domains import checked
from pipelines.domains.hidden_goal import SIMULATED, HiddenGoal
from pipelines.domains.loop import LoopBatch
from pipelines.domains.registry import resolve_options
from pipelines.rng import stream

from .support import show

DOMAIN = HiddenGoal()
PLAIN = [task for task in DOMAIN.tasks() if task.name not in SIMULATED]
COPIES, SECONDS, ROUNDS = 256, 0.2, 5


def steps_per_second(task: Any, batch: Any) -> float:
    """Best rate of whole episodes, resets included, in process CPU time."""
    generators = [stream(0, copy) for copy in range(batch.size)]
    actions_TBA = batch.actions.draw(generators, task.horizon)
    everyone, best = list(range(batch.size)), 0.0
    for _ in range(ROUNDS):
        steps, begin = 0, time.process_time()
        while time.process_time() - begin < SECONDS:
            batch.reset(everyone, [steps + copy for copy in everyone])
            for action_BA in actions_TBA:
                batch.step(action_BA)
            steps += task.horizon * batch.size
        best = max(best, steps / (time.process_time() - begin))
    return best


@pytest.mark.benchmark
@pytest.mark.parametrize("task", PLAIN, ids=lambda task: task.name)
def test_a_batch_is_many_times_its_copies(task, record_property, capsys):
    """On one core, both checked as the stages have them, both in this run."""
    options = resolve_options(DOMAIN, {})
    together = checked.make_batch(DOMAIN, task, COPIES, options, range(COPIES))
    alone = LoopBatch([checked.make_env(DOMAIN, task, options)])
    rates = {
        name: steps_per_second(task, each) for name, each in (("batch", together), ("alone", alone))
    }
    for name, rate in rates.items():
        record_property(name, rate)
    show(
        capsys,
        f"{task.name}: {rates['batch']:,.0f} steps a second in a batch of {COPIES}, "
        f"{rates['alone']:,.0f} alone",
    )
    assert rates["batch"] >= 20 * rates["alone"], rates
    assert rates["batch"] >= 100_000
