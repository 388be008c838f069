"""A domain plugin for the tests of demonstrators, installed beside an entry point of its own."""

from __future__ import annotations

import os
from pathlib import Path

import gymnasium
import numpy as np

from pipelines.domains.base import Domain, OptionSpec
from pipelines.policies.base import PolicySpec
from pipelines.tasks.spec import ScoreReference, TaskSpec

LOW, HIGH = np.array([-2.0], np.float32), np.array([1.0], np.float32)


class TinyEnv(gymnasium.Env):
    """A swinging point; actions must be in bounds, episodes end after 12 to 20 steps."""

    observation_space = gymnasium.spaces.Box(-10, 10, (3,), np.float64)
    action_space = gymnasium.spaces.Box(LOW, HIGH, dtype=np.float32)

    def __init__(self, name, pull):
        self.name, self.pull = name, pull
        self.rng = np.random.default_rng(0)

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.rng = np.random.default_rng(seed)
        self.x, self.v, self.steps = self.rng.normal(), 0.0, 0
        self.length = int(self.rng.integers(12, 21))
        return self._observe(), {}

    def step(self, action):
        if not (action >= LOW).all() or not (action <= HIGH).all():
            raise ValueError("action out of bounds")
        if self.steps == 3 and Path(os.environ.get("VINTIX_TINY_FAIL", "/nowhere")).is_file():
            failing = Path(os.environ["VINTIX_TINY_FAIL"]).read_text().split()
            if self.name in failing:
                raise RuntimeError("the tiny simulator broke")
        self.v += 0.2 * float(action[0]) - 0.2 * self.pull * self.x
        self.x += 0.2 * self.v
        self.steps += 1
        info = {"success": abs(self.x) < 0.1}
        return self._observe(), -(self.x**2), False, self.steps >= self.length, info

    def _observe(self):
        return np.array([self.x, self.v, self.steps / 20])


class Tiny(Domain):
    name = "tiny"
    packages = ("numpy",)

    def tasks(self):
        return [
            TaskSpec(
                name=f"tiny-{letter}",
                domain="tiny",
                group="tiny",
                observation_dim=3,
                action_dim=1,
                horizon=20,
                scores={"paper": ScoreReference(random=-20.0, expert=-5.0)},
            )
            for letter in ("a", "b", "c", "bare")
        ]

    def options(self):
        return (OptionSpec("pull", 1.0, "Strength of the spring."),)

    def make_env(self, task, options):
        return TinyEnv(task.name, options["pull"])

    def demonstrator(self, task):
        if task.name == "tiny-bare":
            return None
        return PolicySpec("linear", {}, {"matrix": np.array([[0.5, -1.5, 0.0]])})
