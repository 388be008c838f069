"""A small domain plugin for tests: episodes of many lengths, both endings, a policy with memory.

It is copied beside an entry point of its own and found like any user's domain, by this process
and by spawned workers.
"""

from __future__ import annotations

import os

import gymnasium
import numpy as np

from pipelines.domains.base import Domain, OptionSpec
from pipelines.policies.base import Policy, PolicySpec
from pipelines.tasks.spec import Schedule, TaskSpec

HORIZON = 23
LOW = np.array([-1.0, -0.5], np.float32)
HIGH = np.array([1.0, 2.0], np.float32)


class ToyEnv(gymnasium.Env):
    """A noisy point that is pushed about; far from the origin an episode terminates."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = gymnasium.spaces.Box(LOW, HIGH, dtype=np.float32)

    def __init__(self, radius=1.2, drift=0.0):
        self.radius, self.drift = radius, drift

    def reset(self, *, seed=None, options=None):
        self.rng = np.random.default_rng(seed)
        self.x = self.rng.normal(size=2) * 0.3
        self.steps = 0
        return self._observe(), {}

    def step(self, action):
        if not (np.all(action >= LOW) and np.all(action <= HIGH)):
            raise ValueError(f"action {action} is out of bounds")
        if os.environ.get("VINTIX_TOY_BREAKS") == str(self.steps):
            raise RuntimeError("the toy broke")
        self.x = 0.9 * self.x + 0.3 * action + 0.1 * self.rng.normal(size=2) + self.drift
        self.steps += 1
        reward = float(action[0] - np.sum(self.x**2))
        terminated = bool(np.sum(self.x**2) > self.radius**2)
        # Working in place on what it is given is an environment's right.
        action *= 0
        return self._observe(), reward, terminated, self.steps >= HORIZON and not terminated, {}

    def _observe(self):
        return np.array([*self.x, self.steps / HORIZON], np.float32)


class ToyPolicy(Policy):
    """Pushes towards the origin, and swings with the number of steps since the last reset."""

    def __init__(self, swing=0.3):
        self.steps, self.swing = {}, np.float32(swing)

    def reset(self, indices):
        for index in indices:
            self.steps[index] = 0

    def act(self, observation_BO):
        swing = np.array([[np.sin(self.steps[i])] for i in range(len(observation_BO))], np.float32)
        for index in range(len(observation_BO)):
            self.steps[index] += 1
        return np.clip(self.swing * swing - observation_BO[:, :2], LOW, HIGH)


class Toy(Domain):
    name = "toy"
    packages = ("numpy",)

    def tasks(self):
        return [self._task(name) for name in ("toy-a", "toy-b")]

    def _task(self, name, **changes):
        fields = {
            "name": name,
            "domain": self.name,
            "aliases": (name.replace("-", "+"),),
            "group": "toy",
            "observation_dim": 3,
            "action_dim": 2,
            "horizon": HORIZON,
            "reward_scale": 0.5,
            "trajectories": 3,
            "trajectory_length": 200,
            "schedule": Schedule(p=1.5, f=0.2),
        }
        return TaskSpec(**{**fields, **changes})

    def options(self):
        return (OptionSpec("radius", 1.2, "Where an episode ends."),)

    def make_env(self, task, options):
        drift = float(os.environ.get("VINTIX_TOY_DRIFT", "0"))
        return ToyEnv(options["radius"], drift)

    def policies(self):
        return {"toy": lambda spec, actions: ToyPolicy(**spec.config)}

    def demonstrator(self, task):
        return PolicySpec("toy", {"swing": 0.5} if task.name == "toy-b" else {})


class ToyBlocks(Toy):
    name = "toy-blocks"
    vectorized = True

    def tasks(self):
        return [self._task("toy-c", split="validation", episode_sparsity=2)]
