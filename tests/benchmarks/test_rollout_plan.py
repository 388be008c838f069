"""The seconds that ``vintix rollout --dry-run`` guesses for the model, beside what it takes.

In processor time of one thread, of forward passes with nothing and with everything in view.
"""

from __future__ import annotations

import statistics
import time

import pytest
import torch

from pipelines.hardware import torch_threads
from pipelines.model.batch import GroupBatch
from pipelines.model.config import GroupDims
from pipelines.model.presets import preset
from pipelines.model.vintix import Vintix
from pipelines.playing.model import Memory, pass_seconds

from .support import show

pytestmark = pytest.mark.benchmark

DIMS = GroupDims(observation_dim=39, action_dim=4)
STEPS = 8


def pass_times(model: Vintix, streams: int, context: int) -> tuple[float, float]:
    token = GroupBatch(
        group="mw",
        observation_BLO=torch.randn(streams, 1, 39),
        previous_action_BLA=torch.randn(streams, 1, 4),
        previous_reward_BL=torch.randn(streams, 1),
        episode_step_BL=torch.ones(streams, 1, dtype=torch.int64),
        action_mean_BA=torch.zeros(streams, 4),
        action_std_BA=torch.ones(streams, 4),
    )
    cache = model.make_cache(streams, context)

    def median() -> float:
        taken = []
        for _ in range(STEPS):
            begin = time.process_time()
            model.step([token], cache)
            taken.append(time.process_time() - begin)
        return statistics.median(taken)

    model.step([token], cache)
    empty = median()
    cache.assume_full()
    return empty, median()


@pytest.mark.parametrize(
    ("name", "context", "streams"),
    [
        ("tiny", 512, 1),
        ("tiny", 512, 10),
        ("tiny", 512, 100),
        ("small", 1024, 1),
        ("small", 1024, 50),
    ],
)
def test_the_guess_is_within_a_factor_of_three(capsys, name, context, streams) -> None:
    """Of another machine, too: here it was within a factor of two."""
    with torch_threads(1), torch.inference_mode():
        model = Vintix(preset(name, {"mw": DIMS}, context=context)).eval()
        model.lay_out_for_steps()
        taken = pass_times(model, streams, context)
    guessed = [pass_seconds(model, streams, view, Memory(context)) for view in (0, context)]
    show(
        capsys,
        f"{name}, context {context}, {streams} streams: a pass takes "
        + " and ".join(f"{1e3 * each:.2f} ms" for each in taken)
        + ", guessed "
        + " and ".join(f"{1e3 * each:.2f}" for each in guessed),
    )
    for mine, real in zip(guessed, taken, strict=True):
        assert 1 / 3 < mine / real < 3
