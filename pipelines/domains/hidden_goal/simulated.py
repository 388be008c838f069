"""Bodies of MuJoCo with a hidden goal: the standard tasks of meta-reinforcement-learning.

* ``reacher-hidden``: Reacher-v5 of Gymnasium, whose target and distance to it are not observed.
* ``half-cheetah-velocity``: HalfCheetah-v5 is to run at a velocity, uniform in [0, 3] m/s. Finn et
  al. 2017 (MAML, arXiv:1703.03400, section 5.3), with the range and the cost of control of Rakelly
  et al. 2019 (PEARL, arXiv:1903.08254).
* ``ant-direction``: Ant-v5 is to run in a direction, uniform on the circle, with the reward of
  PEARL: velocity in that direction, 1 for being well, minus the cost of control. An episode ends
  when the body is not.

The goal is nowhere in the simulation but for the mark of Reacher's target, which touches nothing.

Shapes: see `batch`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pipelines.domains.hidden_goal.batch import HiddenGoalBatch, Setting, Trace, arcs
from pipelines.domains.mujoco import make_changed, place_camera, viewed

if TYPE_CHECKING:
    from numpy.typing import NDArray

PACKAGES = ("gymnasium", "mujoco")


class Simulated(HiddenGoalBatch):
    """B bodies, each simulated for itself; see `HiddenGoalBatch`."""

    env_id: str
    arguments: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, setting: Setting) -> None:
        from pipelines.artifacts.provenance import package_versions

        found = package_versions(PACKAGES)
        self.packages = {name: found[name] for name in PACKAGES if name in found}
        view = {} if setting.picture_size is None else viewed(setting.picture_size)
        self._envs: list[Any] = [
            make_changed(self.env_id, {}, {**self.arguments, **view}) for _ in setting.stream_seeds
        ]
        if setting.picture_size is not None:
            for env in self._envs:
                place_camera(env, self.env_id)
        space = self._envs[0].action_space
        self.action_low_A = np.asarray(space.low, np.float32)
        self.action_high_A = np.asarray(space.high, np.float32)
        size = len(self._envs)
        self._body_BO = np.zeros((size, *self._envs[0].observation_space.shape))
        self._cost_B = np.zeros(size)
        self._ended_B = np.zeros(size, np.bool_)
        super().__init__(setting)

    def begin(self, where: NDArray[np.intp], seeds: Sequence[int]) -> None:
        """Reset bodies."""
        for copy, seed in zip(where.tolist(), seeds, strict=True):
            self._body_BO[copy], _ = self._envs[copy].reset(seed=int(seed))
        self._ended_B[where] = False

    def move(self, action_BA: NDArray[Any]) -> None:
        """Step all bodies."""
        self._ended_B = np.zeros(self.size, np.bool_)
        for copy, env in enumerate(self._envs):
            self._body_BO[copy], _, self._ended_B[copy], _, info = env.step(action_BA[copy])
            self.note(copy, env, info)
        self._cost_B = np.square(action_BA.astype(np.float64)).sum(axis=1)

    def ended(self) -> NDArray[np.bool_]:
        """Tell which bodies are not well."""
        return self._ended_B

    @abstractmethod
    def note(self, copy: int, env: Any, info: Mapping[str, Any]) -> None:
        """Keep of a step what rewards are made of."""

    def picture(self, title: str, trail: Sequence[Trace]) -> NDArray[np.uint8]:
        """Return what the camera sees."""
        drawn: NDArray[np.uint8] = self._envs[0].render()
        return drawn

    def close(self) -> None:
        """Close the environments."""
        for env in self._envs:
            env.close()


class HiddenReacher(Simulated):
    """The goal is the target, uniform in a disk of 0.2 m, which is cut into squares of 4 cm.

    O = 10: Reacher-v5's, with the place of the fingertip instead of its distance to the target, and
    two entries for the target. The reward is Reacher-v5's.
    """

    env_id = "Reacher-v5"
    goal_dim, observation_dim = 2, 10
    reward_spread = 0.01
    _RADIUS, _CELL = 0.2, 0.04

    def __init__(self, setting: Setting) -> None:
        self._tip_BX = np.zeros((len(setting.stream_seeds), 2))
        super().__init__(setting)

    def any_goals(self, generator: np.random.Generator, count: int) -> NDArray[np.float32]:
        """Draw points of the disk."""
        radius_N, turn_N = generator.random((2, count))
        radius_N, angle_N = self._RADIUS * np.sqrt(radius_N), 2 * np.pi * turn_N
        goal_NG = radius_N * np.stack([np.cos(angle_N), np.sin(angle_N)])
        return goal_NG.T.astype(np.float32)

    def cells(self, goal_NG: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return column and row of the square, 0 to 9."""
        place_NG = (goal_NG.astype(np.float64) + self._RADIUS) / self._CELL
        return np.clip(np.floor(place_NG), 0, 9).astype(np.int64)

    def begin(self, where: NDArray[np.intp], seeds: Sequence[int]) -> None:
        """Reset arms, and put the mark of the target to the goal."""
        super().begin(where, seeds)
        for copy in where.tolist():
            env = self._envs[copy]
            position = env.data.qpos.copy()
            position[2:] = self.goal_BG[copy]
            env.set_state(position, env.data.qvel.copy())
            self.note(copy, env, {})

    def note(self, copy: int, env: Any, info: Mapping[str, Any]) -> None:
        """Keep where the fingertip is."""
        self._tip_BX[copy] = env.get_body_com("fingertip")[:2]

    def observe(self) -> NDArray[np.float32]:
        """Return joints and fingertips, and zeros for the target."""
        observation_BO = self._body_BO.astype(np.float32)
        observation_BO[:, 4:6] = 0
        observation_BO[:, 8:] = self._tip_BX
        return observation_BO

    def show(self, observation_BO: NDArray[np.float32], goal_BG: NDArray[np.float32]) -> None:
        """Write the targets to where Reacher-v5 has them."""
        observation_BO[:, 4:6] = goal_BG

    def rewards(self, goal_BPG: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return minus the distance of the fingertip, and minus the squared action."""
        apart_BPG = self._tip_BX[:, None] - goal_BPG
        distance_BP = np.sqrt(apart_BPG[..., 0] ** 2 + apart_BPG[..., 1] ** 2)
        return -distance_BP - self._cost_B[:, None]


class CheetahVelocity(Simulated):
    """The goal is a velocity, in cells of 0.1 m/s; the reward is minus the distance to it."""

    env_id = "HalfCheetah-v5"
    goal_dim, observation_dim = 1, 18
    reward_spread = 0.1
    _FASTEST, _CELL, _CONTROL = 3.0, 0.1, 0.05

    def __init__(self, setting: Setting) -> None:
        self._velocity_B = np.zeros(len(setting.stream_seeds))
        super().__init__(setting)

    def any_goals(self, generator: np.random.Generator, count: int) -> NDArray[np.float32]:
        """Draw velocities."""
        return generator.uniform(0, self._FASTEST, (count, 1)).astype(np.float32)

    def cells(self, goal_NG: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return tenths of a metre a second."""
        return np.floor(goal_NG.astype(np.float64) / self._CELL).astype(np.int64)

    def note(self, copy: int, env: Any, info: Mapping[str, Any]) -> None:
        """Keep the velocity."""
        self._velocity_B[copy] = info["x_velocity"]

    def observe(self) -> NDArray[np.float32]:
        """Return HalfCheetah-v5's observations, and a zero for the velocity to run at."""
        return np.pad(self._body_BO.astype(np.float32), ((0, 0), (0, 1)))

    def show(self, observation_BO: NDArray[np.float32], goal_BG: NDArray[np.float32]) -> None:
        """Write into the last entry how much faster than the middle of all velocities."""
        observation_BO[:, -1:] = goal_BG - self._FASTEST / 2

    def rewards(self, goal_BPG: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return minus the difference of the velocities, and minus 0.05 of the squared action."""
        off_BP = np.abs(self._velocity_B[:, None] - goal_BPG[..., 0])
        return -off_BP - self._CONTROL * self._cost_B[:, None]


class AntDirection(Simulated):
    """The goal is a direction, a point of the unit circle, which is cut into 40 arcs."""

    env_id = "Ant-v5"
    # Without contact forces, as meta-reinforcement-learning has it: 27 entries.
    arguments: ClassVar[Mapping[str, Any]] = {"include_cfrc_ext_in_observation": False}
    goal_dim, observation_dim = 2, 29
    reward_spread = 0.1
    _ARCS, _CONTROL = 40, 0.5

    def __init__(self, setting: Setting) -> None:
        self._velocity_BX = np.zeros((len(setting.stream_seeds), 2))
        super().__init__(setting)

    def any_goals(self, generator: np.random.Generator, count: int) -> NDArray[np.float32]:
        """Draw directions."""
        angle_N = generator.uniform(0, 2 * np.pi, count)
        return np.stack([np.cos(angle_N), np.sin(angle_N)], axis=1).astype(np.float32)

    def cells(self, goal_NG: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the arc, 0 to 39."""
        return arcs(goal_NG, self._ARCS)

    def note(self, copy: int, env: Any, info: Mapping[str, Any]) -> None:
        """Keep the velocity."""
        self._velocity_BX[copy] = info["x_velocity"], info["y_velocity"]

    def observe(self) -> NDArray[np.float32]:
        """Return Ant-v5's observations, and zeros for the direction."""
        return np.pad(self._body_BO.astype(np.float32), ((0, 0), (0, 2)))

    def show(self, observation_BO: NDArray[np.float32], goal_BG: NDArray[np.float32]) -> None:
        """Write the directions into the last two entries."""
        observation_BO[:, -2:] = goal_BG

    def rewards(self, goal_BPG: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the velocity in the direction, 1 where well, and minus half the squared action."""
        along_BP = (
            self._velocity_BX[:, None, 0] * goal_BPG[..., 0]
            + self._velocity_BX[:, None, 1] * goal_BPG[..., 1]
        )
        well_B1 = 1.0 - self._ended_B[:, None]
        return along_BP + well_B1 - self._CONTROL * self._cost_B[:, None]
