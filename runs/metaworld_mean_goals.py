"""Measures the mean goal of each Meta-World task: pipelines/policies/metaworld_goals.yaml.

The goal is hidden from the recorded observation and from the demonstrator alike, so a stock script
that reads it is fed the mean goal of its task. The mean is taken over resets of the environment's
own generator, each from its own fixed seed: running this again gives the same file.

    python runs/metaworld_mean_goals.py
"""

import sys
from pathlib import Path

import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS

import pipelines.policies
from pipelines.rng import derive_seed

RESETS = 64
TARGET = Path(pipelines.policies.__file__).parent / "metaworld_goals.yaml"
HEADER = f"""\
# Mean goal (x, y, z in metres) of each Meta-World v3 task: what a stock script is fed in place of
# observation[36:39], which the protocol hides. Mean of the environment's own `_target_pos` over
# {RESETS} resets with fixed seeds; made by runs/metaworld_mean_goals.py (metaworld 3.1.1).
"""


def mean_goal(name: str) -> np.ndarray:
    env = ALL_V3_ENVIRONMENTS[name](reward_function_version="v2")
    env._freeze_rand_vec = False
    env.seeded_rand_vec = True
    env._set_task_called = True
    goals = []
    for index in range(RESETS):
        env.seed(derive_seed(0, "metaworld-mean-goals", name, index))
        env.reset()
        goals.append(np.array(env._target_pos))
    env.close()
    return np.mean(goals, axis=0)


def main() -> None:
    lines = []
    for name in sorted(ALL_V3_ENVIRONMENTS):
        x, y, z = mean_goal(name)
        lines.append(f"{name}: [{x:.4f}, {y:.4f}, {z:.4f}]\n")
        print(lines[-1], end="", file=sys.stderr)
    TARGET.write_text(HEADER + "".join(lines).replace("-0.0000", "0.0000"))


if __name__ == "__main__":
    main()
