"""Way-points for two hands: the policy kind ``hand_waypoints``.

A way-point says, for each hand, where its base is to be (relative to where it began, or to a
thing that the observation shows), how it is to be turned, and what its servos are to hold. Between
two way-points everything moves in a straight line in time. The base is pulled towards its place in
closed loop, so that the noise mixed into actions displaces it for a moment only; servos hold
angles in closed loop by themselves.

B copies, O observation, A action, K way-points, W entries of a way-point of one hand: position 3,
turn 3 (a rotation vector), servos 20. N sets of way-points: a search tries many at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipelines.domains.bidexhands.geometry import Array, about, conjugate, multiply
from pipelines.domains.bidexhands.hand import INERTIA, JOINTS, MASS, MOUNT, SERVOS, joint_names
from pipelines.domains.bidexhands.scene import FORCE, NOMINAL_DAMPING, TORQUE
from pipelines.domains.bidexhands.snapshot import SPAN_J, SUM_J, hand_width
from pipelines.errors import ConfigError
from pipelines.policies.base import Policy
from pipelines.policies.validation import box_bounds, check_arrays, parse_config

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipelines.actions import ActionSpec
    from pipelines.domains.bidexhands.tasks.base import HandTask
    from pipelines.policies.base import PolicySpec

KIND = "hand_waypoints"
WIDTH = 6 + SERVOS

ANCHORS = ("start", "world", "object", "point-1", "point-2", "point-3")
"""What a position is relative to: where the hand began, the origin, or a place that the observation
shows: of the object, and of the three points after its 13 entries."""

_PLACES = {"object": 0, "point-1": 13, "point-2": 16, "point-3": 19}
# Entries of a hand: after the joints come the last links, of 13 entries each, the first finger's
# quaternion at the fourth; after links and forces comes the base's position.
_LINK_QUATERNION = 3 * JOINTS + 3
_BASE_POSITION = 3 * JOINTS + 19 * 5


class WaypointsConfig(BaseModel):
    """Configuration of the kind.

    Attributes:
        fixed_base: Whether the hands' bases are fixed.
        anchors: Of each way-point, the right and the left hand's; see `ANCHORS`.
        speed: Speed of a base under a full force, metres a second.
        turn_speed: Turn rate of a base under a full torque, radians a second.
        gain: Speed asked for by a metre of distance, 1/s.
        turn_gain: Turn rate asked for by a radian, 1/s.
        lag: How far a base may be behind before the clock waits for it, metres: up to there it runs
            in full, from twice that it stands. None for a clock that never waits.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fixed_base: bool
    anchors: tuple[tuple[str, str], ...] = Field(min_length=1)
    speed: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    turn_speed: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    gain: float = Field(default=8.0, gt=0, allow_inf_nan=False)
    turn_gain: float = Field(default=6.0, gt=0, allow_inf_nan=False)
    lag: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for pair in self.anchors:
            for anchor in pair:
                if anchor not in ANCHORS:
                    raise ValueError(f"unknown anchor {anchor!r}; there are {', '.join(ANCHORS)}")
        return self


class WaypointsPolicy(Policy):
    """Follows way-points in each of B copies; remembers the time and where each hand began.

    Time is in steps; with a `WaypointsConfig.lag` it waits for the bases, which noise slows down.

    Args:
        times_NK: Step at which each way-point is reached, growing.
        knots_NK2W: The way-points, right hand first.
    """

    def __init__(self, config: WaypointsConfig, times_NK: Array, knots_NK2W: Array) -> None:
        self._config = config
        self._times_NK, self._knots_NK2W = times_NK, knots_NK2W
        self._anchor_K2 = np.array([[ANCHORS.index(a) for a in pair] for pair in config.anchors])
        self._width = hand_width(fixed_base=config.fixed_base)
        self._set_B = np.zeros(0, np.int64)
        self._time_B = np.zeros(0)
        self._fresh_B = np.zeros(0, np.bool_)
        self._began_B23 = np.zeros((0, 2, 3))
        self._turned_B24 = np.zeros((0, 2, 4))

    def use(self, indices: Sequence[int], sets: Sequence[int]) -> None:
        """Choose which set of way-points some copies follow."""
        self._grow(max(indices, default=-1) + 1)
        self._set_B[list(indices)] = list(sets)

    def reset(self, indices: Sequence[int]) -> None:
        """Forget the episode of some copies."""
        self._grow(max(indices, default=-1) + 1)
        self._time_B[list(indices)] = 0.0
        self._fresh_B[list(indices)] = True

    def act(self, observation_BO: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return actions (B, A): 40 entries with fixed bases, 52 with free ones."""
        size = len(observation_BO)
        self._grow(size)
        seen_BO = observation_BO.astype(np.float64)
        time_B, set_B = self._time_B[:size], self._set_B[:size]
        times_BK = self._times_NK[set_B]
        last = times_BK.shape[1] - 1
        # The last way-point that has been reached, and how far it is on to the next.
        before_B = np.clip((times_BK <= time_B[:, None]).sum(axis=1) - 1, 0, last)
        after_B = np.minimum(before_B + 1, last)
        rows = np.arange(size)
        begin_B, end_B = times_BK[rows, before_B], times_BK[rows, after_B]
        share_B = np.clip((time_B - begin_B) / np.maximum(end_B - begin_B, 1e-9), 0.0, 1.0)
        share_B11 = share_B[:, None, None]
        knot_B2W = (1 - share_B11) * self._knots_NK2W[set_B, before_B] + share_B11 * (
            self._knots_NK2W[set_B, after_B]
        )
        pace_B = np.ones(size)
        if self._config.fixed_base:
            action_BA = knot_B2W[:, :, 6:].reshape(size, 2 * SERVOS)
        else:
            base_B26, behind_B = self._drive_bases(seen_BO, knot_B2W, before_B, after_B, share_B)
            if self._config.lag is not None:
                pace_B = np.clip(2.0 - behind_B / self._config.lag, 0.0, 1.0)
            action_BA = np.concatenate([base_B26, knot_B2W[:, :, 6:]], axis=-1).reshape(size, -1)
        self._time_B[:size] += pace_B
        self._fresh_B[:size] = False
        return np.clip(action_BA, -1.0, 1.0).astype(np.float32)

    def _drive_bases(
        self,
        seen_BO: Array,
        knot_B2W: Array,
        before_B: NDArray[np.int64],
        after_B: NDArray[np.int64],
        share_B: Array,
    ) -> tuple[Array, Array]:
        """Return the bases' actions (B, 2, 6), and how far the one further behind is, (B,)."""
        size, config = len(seen_BO), self._config
        fresh_B = self._fresh_B[:size]
        parts = []
        behind_B = np.zeros(size)
        for side in (0, 1):
            hand_BH = seen_BO[:, side * self._width : (side + 1) * self._width]
            here_B3 = hand_BH[:, _BASE_POSITION : _BASE_POSITION + 3]
            turned_B4 = base_quaternion(hand_BH)
            self._began_B23[:size, side][fresh_B] = here_B3[fresh_B]
            self._turned_B24[:size, side][fresh_B] = turned_B4[fresh_B]
            places = self._places(seen_BO, side)
            anchor_K = self._anchor_K2[:, side]
            from_B3 = np.choose(anchor_K[before_B][:, None], places)
            to_B3 = np.choose(anchor_K[after_B][:, None], places)
            target_B3 = (
                (1 - share_B[:, None]) * from_B3 + share_B[:, None] * to_B3 + knot_B2W[:, side, :3]
            )
            behind_B = np.maximum(behind_B, np.linalg.norm(target_B3 - here_B3, axis=-1))
            wanted_B4 = multiply(
                quaternion_of(knot_B2W[:, side, 3:6]), self._turned_B24[:size, side]
            )
            turn_B3 = rotation_vector(multiply(wanted_B4, conjugate(turned_B4)))
            parts.append(
                np.concatenate(
                    [
                        config.gain / config.speed * (target_B3 - here_B3),
                        config.turn_gain / config.turn_speed * turn_B3,
                    ],
                    axis=-1,
                )
            )
        return np.stack(parts, axis=1), behind_B

    def _places(self, seen_BO: Array, side: int) -> list[Array]:
        """Return what each of `ANCHORS` is now, (B, 3)."""
        size, objects = len(seen_BO), 2 * self._width
        places = [self._began_B23[:size, side], np.zeros((size, 3))]
        for offset in _PLACES.values():
            start = objects + offset
            known = start + 3 <= seen_BO.shape[1]
            places.append(seen_BO[:, start : start + 3] if known else np.zeros((size, 3)))
        return places

    def _grow(self, size: int) -> None:
        more = size - len(self._time_B)
        if more > 0:
            self._set_B = np.pad(self._set_B, (0, more))
            self._time_B = np.pad(self._time_B, (0, more))
            self._fresh_B = np.pad(self._fresh_B, (0, more), constant_values=True)
            self._began_B23 = np.pad(self._began_B23, ((0, more), (0, 0), (0, 0)))
            self._turned_B24 = np.pad(self._turned_B24, ((0, more), (0, 0), (0, 0)))


def base_quaternion(hand_BH: Array) -> Array:
    """Return the orientation (B, 4) of a hand's base, w first, from its part of an observation.

    The Euler angles that the observation has are cut off at 5; the first finger's last link and
    the joints between it and the base determine it.
    """
    angle_BJ = (hand_BH[:, :JOINTS] * SPAN_J + SUM_J) / 2.0
    link_B4 = hand_BH[:, _LINK_QUATERNION : _LINK_QUATERNION + 4][:, [3, 0, 1, 2]]
    chain_B4 = multiply(
        multiply(about(1, angle_BJ[:, _JOINT["WRJ1"]]), about(0, angle_BJ[:, _JOINT["WRJ0"]])),
        multiply(
            about(1, angle_BJ[:, _JOINT["FFJ3"]]),
            about(0, angle_BJ[:, [_JOINT[f"FFJ{n}"] for n in (2, 1, 0)]].sum(axis=1)),
        ),
    )
    return multiply(multiply(link_B4, conjugate(chain_B4)), conjugate(MOUNT))


def base_speeds(task: type[HandTask], base_damping: float) -> tuple[float, float]:
    """Return the speeds of a base under full force (m/s) and full torque (rad/s); 1 if fixed.

    Args:
        base_damping: The domain's option.
    """
    if task.fixed_base:
        return 1.0, 1.0
    rate = NOMINAL_DAMPING * base_damping
    return (FORCE * task.force_scale / (rate * MASS), TORQUE * task.torque_scale / (rate * INERTIA))


def quaternion_of(vector: Array) -> Array:
    """Return the quaternions (..., 4) of rotation vectors (..., 3)."""
    angle = np.sqrt((vector**2).sum(axis=-1, keepdims=True))
    # sin(x / 2) / x, whose limit at 0 is a half.
    scale = np.sinc(angle / (2 * np.pi)) / 2
    return np.concatenate([np.cos(angle / 2), scale * vector], axis=-1)


def rotation_vector(quaternion: Array) -> Array:
    """Return the rotation vectors (..., 3) of quaternions (..., 4), the shorter way round."""
    shorter = np.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    length = np.sqrt((shorter[..., 1:] ** 2).sum(axis=-1, keepdims=True))
    angle = 2 * np.arctan2(length, shorter[..., :1])
    scale = np.where(length > 1e-9, angle / np.maximum(length, 1e-9), 2.0)
    vector: Array = scale * shorter[..., 1:]
    return vector


def build_waypoints(spec: PolicySpec, actions: ActionSpec) -> Policy:
    """Build the kind ``hand_waypoints``.

    Arrays: ``times`` (K,) and ``knots`` (K, 2, 26).

    Raises:
        ConfigError: The spec is not valid, or the task has other actions.
    """
    config = parse_config(WaypointsConfig, spec)
    arrays = check_arrays(spec, ["knots", "times"])
    count = len(config.anchors)
    expected: dict[str, Any] = {"times": (count,), "knots": (count, 2, WIDTH)}
    for name, shape in expected.items():
        if arrays[name].shape != shape:
            raise ConfigError(
                f"An array of a policy of kind {KIND!r} has another shape than its anchors need.",
                where=name,
                expected=shape,
                found=arrays[name].shape,
            )
    width = 2 * (SERVOS if config.fixed_base else WIDTH)
    box_bounds(spec, actions, width)
    times_K = arrays["times"].astype(np.float64)
    return WaypointsPolicy(config, times_K[None], arrays["knots"].astype(np.float64)[None])


_JOINT = {name: index for index, name in enumerate(joint_names())}
