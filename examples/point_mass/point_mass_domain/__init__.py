"""A complete domain in one file: two tasks, an environment and an expert.

A point starts near the middle of a square and is paid for being close to a corner. The corner is
not in the observation: it has to be found out from rewards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from pipelines.domains.base import Domain, Options, OptionSpec
from pipelines.policies.base import Policy, PolicyBuilder, PolicySpec
from pipelines.tasks.spec import TaskSpec

CORNERS = {"point-mass-north-east": (1.0, 1.0), "point-mass-south-west": (-1.0, -1.0)}


class PointMassEnv(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """Observation: position (2,), in [-1, 1]. Action: velocity (2,), in [-1, 1]."""

    def __init__(self, corner: tuple[float, float], speed: float, horizon: int) -> None:
        self.corner = np.array(corner)
        self.speed = speed
        self.horizon = horizon
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start near the middle."""
        super().reset(seed=seed)
        self._position = self.np_random.uniform(-0.1, 0.1, 2)
        self._steps = 0
        return self._position.astype(np.float32), {}

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Move; the reward is one at the corner and less by the distance to it."""
        self._position = np.clip(self._position + self.speed * np.asarray(action, float), -1, 1)
        self._steps += 1
        distance = float(np.linalg.norm(self._position - self.corner))
        truncated = self._steps >= self.horizon
        return self._position.astype(np.float32), 1 - distance, False, truncated, {}


class ToCorner(Policy):
    """Goes straight to a corner."""

    def __init__(self, corner: Sequence[float], gain: float) -> None:
        self._corner_A = np.array(corner, np.float32)
        self._gain = np.float32(gain)

    def act(self, observation_BO: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return velocities (B, 2) towards the corner."""
        return np.clip(self._gain * (self._corner_A - observation_BO), -1, 1).astype(np.float32)


class PointMass(Domain):
    """The domain that the entry point of pyproject.toml names."""

    name = "point-mass"
    packages = ("point-mass-domain",)

    def tasks(self) -> Sequence[TaskSpec]:
        """Return both tasks; one group, since both mean the same by each channel."""
        return [
            TaskSpec(
                name=name,
                domain=self.name,
                group="point-mass",
                observation_dim=2,
                action_dim=2,
                horizon=20,
                trajectories=2,
                trajectory_length=4000,
            )
            for name in CORNERS
        ]

    def options(self) -> Sequence[OptionSpec]:
        """Return the one option: ``--option speed=0.2``."""
        return [OptionSpec("speed", 0.1, "Distance of a full step.")]

    def make_env(self, task: TaskSpec, options: Options) -> PointMassEnv:
        """Make one environment."""
        return PointMassEnv(CORNERS[task.name], float(options["speed"]), task.horizon)

    def policies(self) -> Mapping[str, PolicyBuilder]:
        """Return how the expert is built from its configuration."""
        return {
            "point_mass_to_corner": lambda spec, actions: ToCorner(
                spec.config["corner"], spec.config["gain"]
            )
        }

    def demonstrator(self, task: TaskSpec) -> PolicySpec:
        """Return the expert, as data."""
        return PolicySpec("point_mass_to_corner", {"corner": CORNERS[task.name], "gain": 3.0})
