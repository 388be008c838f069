"""Way-point controllers for Meta-World's arm: the kind ``phases``.

A controller is a sequence of phases. Each pulls the hand towards a point that is given axis by
axis relative to something the observation shows, with a gripper command and a gain, and ends when
the hand is near enough or enough steps have passed. The way-points are data: where they come from
is told in ``data/metaworld_phases.yaml``, and runs/metaworld_phases.py improves them.

Legend: B copies, O observation, A action, K phases.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipelines.errors import ConfigError
from pipelines.policies.base import Policy, PolicySpec
from pipelines.policies.metaworld_script import GOAL, mean_goals
from pipelines.policies.validation import box_bounds, check_arrays, parse_config

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipelines.actions import ActionSpec

ANCHORS = "cigah2"
"""What an axis of a way-point is relative to, one letter each.

``c`` the first object now, ``i`` the first object at the start of the episode, ``g`` the task's
mean goal, ``a`` the origin, ``h`` the hand at the start of the phase, ``2`` the second object now.
"""

_HAND, _OBJECT, _SECOND = slice(0, 3), slice(4, 7), slice(11, 14)
_QUATERNION = slice(7, 11)
_HAND_BEFORE = slice(18, 21)

Finite = Annotated[float, Field(allow_inf_nan=False)]
Point = tuple[Finite, Finite, Finite]


class Phase(BaseModel):
    """One way-point.

    Attributes:
        anchor: Three letters of `ANCHORS`, for x, y and z.
        offset: Way-point minus anchor, metres. Coordinates are those of the hand body; the point
            between the fingertips is 45 mm below.
        gripper: Command of the gripper: -1 opens, 1 closes.
        gain: Action per metre of distance.
        distance: The phase ends when the hand is nearer than this, metres. Not of the last phase.
        steps: The phase ends after so many steps. Not of the last phase.
        damping: The action aims from where the hand will be after so many steps at its present
            speed. The hand lags behind what it is told by about five steps, and overshoots a
            way-point without. None for none.
        turned: Whether x and y of the offset turn with the first object about the vertical; they
            are then those at its yaw of 0. For tasks whose observation gives the quaternion as
            (w, x, y, z). None for no.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    anchor: str = Field(pattern=f"^[{ANCHORS}]{{3}}$")
    offset: Point
    gripper: float = Field(ge=-1, le=1)
    gain: float = Field(gt=0, allow_inf_nan=False)
    distance: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    steps: int = Field(default=100, ge=1)
    damping: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    turned: bool | None = None


class PhasesConfig(BaseModel):
    """Configuration of the kind ``phases``.

    Attributes:
        goal: The task's mean goal, metres, for the anchor ``g``.
        sees_goal: Aim at the goal that the observation shows, and at the mean one only where it
            shows none. Otherwise the episode's own goal is not used, shown or hidden.
        hold: From this phase on (counted from 0) the object is in the hand; if it is lost, the
            controller begins again. None for tasks without a grasp.
        lost: Distance between hand and first object from which on it is lost, metres.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    phases: tuple[Phase, ...] = Field(min_length=1)
    goal: Point | None = None
    sees_goal: bool = False
    hold: int | None = Field(default=None, ge=1)
    lost: float = Field(default=0.12, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.goal is None and any("g" in phase.anchor for phase in self.phases):
            raise ValueError("an anchor 'g' needs a goal")
        if self.hold is not None and self.hold >= len(self.phases):
            raise ValueError("hold is beyond the last phase")
        return self


class PhasesPolicy(Policy):
    """Follows the phases in each of B copies; remembers phase, steps and latched places.

    The first object's start is latched at the second observation of an episode: in some tasks
    (window-open) the first one shows it where the reset's discarded draw had put it (see
    `pipelines.domains.sawyer.SawyerProtocol`).
    """

    def __init__(
        self,
        config: PhasesConfig,
        action_low_A: NDArray[np.float32],
        action_high_A: NDArray[np.float32],
    ) -> None:
        phases = config.phases
        self._config = config
        self._low_A, self._high_A = action_low_A, action_high_A
        self._last = len(phases) - 1
        self._anchor_K3 = np.array([[ANCHORS.index(c) for c in each.anchor] for each in phases])
        self._offset_K3 = np.array([each.offset for each in phases], dtype=np.float64)
        self._gripper_K = np.array([each.gripper for each in phases], dtype=np.float64)
        self._gain_K = np.array([each.gain for each in phases], dtype=np.float64)
        self._distance_K = np.array([each.distance for each in phases], dtype=np.float64)
        self._steps_K = np.array([each.steps for each in phases])
        self._damping_K = np.array([each.damping or 0.0 for each in phases], dtype=np.float64)
        self._turned_K = np.array([each.turned or False for each in phases])
        self._goal_3 = np.array(config.goal or (0.0, 0.0, 0.0), dtype=np.float64)
        self._phase_B = np.zeros(0, np.int64)
        self._here_B = np.zeros(0, np.int64)
        self._seen_B = np.zeros(0, np.int64)
        self._start_B3 = np.zeros((0, 3))
        self._began_B3 = np.zeros((0, 3))

    def _grow(self, size: int) -> None:
        more = size - len(self._phase_B)
        if more > 0:
            self._phase_B = np.pad(self._phase_B, (0, more))
            self._here_B = np.pad(self._here_B, (0, more))
            self._seen_B = np.pad(self._seen_B, (0, more))
            self._start_B3 = np.pad(self._start_B3, ((0, more), (0, 0)))
            self._began_B3 = np.pad(self._began_B3, ((0, more), (0, 0)))

    def reset(self, indices: Sequence[int]) -> None:
        """Forget the episode of some copies."""
        rows = list(indices)
        self._grow(max(rows, default=-1) + 1)
        self._phase_B[rows] = 0
        self._here_B[rows] = 0
        self._seen_B[rows] = 0

    def act(self, observation_BO: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return actions (B, 4)."""
        size = len(observation_BO)
        self._grow(size)
        seen_BO = observation_BO.astype(np.float64)
        hand_B3, object_B3 = seen_BO[:, _HAND], seen_BO[:, _OBJECT]
        fresh_B = self._seen_B[:size] == 0
        self._began_B3[:size][fresh_B] = hand_B3[fresh_B]
        unsettled_B = self._seen_B[:size] <= 1
        self._start_B3[:size][unsettled_B] = object_B3[unsettled_B]
        self._seen_B[:size] += 1

        error_B3 = self._error(seen_BO)
        while True:
            phase_B = self._phase_B[:size]
            over_B = (phase_B < self._last) & (
                (_length(error_B3) < self._distance_K[phase_B])
                | (self._here_B[:size] >= self._steps_K[phase_B])
            )
            if not over_B.any():
                break
            self._enter(over_B, phase_B[over_B] + 1, hand_B3)
            error_B3 = self._error(seen_BO)
        if self._config.hold is not None:
            lost_B = (self._phase_B[:size] >= self._config.hold) & (
                _length(hand_B3 - object_B3) > self._config.lost
            )
            if lost_B.any():
                self._enter(lost_B, 0, hand_B3)
                error_B3 = self._error(seen_BO)
        self._here_B[:size] += 1
        phase_B = self._phase_B[:size]
        action_BA = np.empty((size, 4), np.float64)
        if self._damping_K.any():
            speed_B3 = hand_B3 - seen_BO[:, _HAND_BEFORE]
            error_B3 = error_B3 - self._damping_K[phase_B, None] * speed_B3
        action_BA[:, :3] = self._gain_K[phase_B, None] * error_B3
        action_BA[:, 3] = self._gripper_K[phase_B]
        return np.clip(action_BA.astype(np.float32), self._low_A, self._high_A)

    def _goal(self, seen_BO: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return where each copy takes the goal to be (B, 3), metres."""
        goal_B3 = np.tile(self._goal_3, (len(seen_BO), 1))
        if self._config.sees_goal:
            shown_B = seen_BO[:, GOAL].any(axis=1)
            goal_B3[shown_B] = seen_BO[shown_B, GOAL]
        return goal_B3

    def _enter(self, which_B: NDArray[np.bool_], phase: Any, hand_B3: NDArray[Any]) -> None:
        rows = np.flatnonzero(which_B)
        self._phase_B[rows] = phase
        self._here_B[rows] = 0
        self._began_B3[rows] = hand_B3[rows]

    def _error(self, seen_BO: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return way-point minus hand (B, 3), metres."""
        size = len(seen_BO)
        phase_B = self._phase_B[:size]
        hand_B3 = seen_BO[:, _HAND]
        # In the order of ANCHORS.
        places = (
            seen_BO[:, _OBJECT],
            self._start_B3[:size],
            self._goal(seen_BO),
            np.zeros((size, 3)),
            self._began_B3[:size],
            seen_BO[:, _SECOND],
        )
        anchor_B3: NDArray[np.float64] = np.choose(self._anchor_K3[phase_B], places)
        offset_B3 = self._offset_K3[phase_B]
        if self._turned_K.any():
            turned_B3 = _turn(offset_B3, seen_BO[:, _QUATERNION])
            offset_B3 = np.where(self._turned_K[phase_B, None], turned_B3, offset_B3)
        return anchor_B3 + offset_B3 - hand_B3


def _turn(
    offset_B3: NDArray[np.float64], quaternion_B4: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return offsets (B, 3) turned about the vertical by the yaw of a quaternion (w, x, y, z)."""
    w_B, x_B, y_B, z_B = quaternion_B4.T
    # Where the rotation takes the x axis, seen from above.
    along_B, across_B = 1 - 2 * (y_B * y_B + z_B * z_B), 2 * (x_B * y_B + w_B * z_B)
    length_B = np.maximum(np.sqrt(along_B * along_B + across_B * across_B), 1e-9)
    cos_B, sin_B = along_B / length_B, across_B / length_B
    ahead_B, left_B = offset_B3[:, 0], offset_B3[:, 1]
    turned_B3: NDArray[np.float64] = np.stack(
        [cos_B * ahead_B - sin_B * left_B, sin_B * ahead_B + cos_B * left_B, offset_B3[:, 2]],
        axis=1,
    )
    return turned_B3


def _length(vector_B3: NDArray[np.float64]) -> NDArray[np.float64]:
    # Spelled out: the order of additions in a reduction may depend on the size of the batch.
    x_B, y_B, z_B = vector_B3[:, 0], vector_B3[:, 1], vector_B3[:, 2]
    length_B: NDArray[np.float64] = np.sqrt(x_B * x_B + y_B * y_B + z_B * z_B)
    return length_B


def build_phases(spec: PolicySpec, actions: ActionSpec) -> Policy:
    """Build the kind ``phases``; it has no arrays.

    Raises:
        ConfigError: The configuration is not valid, or the task has other than four actions.
    """
    config = parse_config(PhasesConfig, spec)
    check_arrays(spec, [])
    return PhasesPolicy(config, *box_bounds(spec, actions, 4))


class Measured(BaseModel):
    """Mean returns of a task's two controllers on the same episodes of the real environment.

    Attributes:
        seed: Base seed of the evaluator.
        script: Mean return of the stock script fed the mean goal.
        phases: Mean return of the phases.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(ge=0)
    episodes: int = Field(ge=1)
    script: Finite
    phases: Finite


class TaskPhases(BaseModel):
    """The phases of one task, as in ``data/metaworld_phases.yaml``.

    Attributes:
        measured: How they compare with the stock script; None until that is measured.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    phases: tuple[Phase, ...] = Field(min_length=1)
    hold: int | None = None
    measured: Measured | None = None

    @property
    def better(self) -> bool:
        """Whether the phases were measured to beat the stock script."""
        return self.measured is not None and self.measured.phases > self.measured.script

    def config(self, goal: Point, *, sees_goal: bool = False) -> PhasesConfig:
        """Return the configuration of the policy.

        Args:
            goal: The task's mean goal, metres.
            sees_goal: Whether the observation shows the episode's own.
        """
        needs_goal = any("g" in phase.anchor for phase in self.phases)
        return PhasesConfig(
            phases=self.phases,
            goal=goal if needs_goal else None,
            sees_goal=needs_goal and sees_goal,
            hold=self.hold,
        )


DATA = Path(__file__).with_name("data") / "metaworld_phases.yaml"
"""The tuned phases that are part of the package."""


@functools.cache
def metaworld_phases() -> Mapping[str, TaskPhases]:
    """Return the tuned phases of Meta-World tasks by environment id."""
    return read_phases(DATA)


def tuned_policy(
    env_id: str, *, measured_better: bool = False, sees_goal: bool = False
) -> PolicySpec | None:
    """Return the tuned phases of a task, or None.

    Args:
        measured_better: Only where they were measured to beat the stock script.
        sees_goal: Whether they are to aim at the episode's own goal, which the domain's option
            ``goal=demonstrator`` shows to them.
    """
    tuned = metaworld_phases().get(env_id)
    if tuned is None or (measured_better and not tuned.better):
        return None
    return phases_policy(tuned, env_id, sees_goal=sees_goal)


def phases_policy(tuned: TaskPhases, env_id: str, *, sees_goal: bool = False) -> PolicySpec:
    """Return a task's phases as a policy, with the task's mean goal where they need it."""
    config = tuned.config(mean_goals()[env_id], sees_goal=sees_goal)
    written = config.model_dump(mode="json", exclude_none=True)
    if not config.sees_goal:
        # As policies were written down before there was the choice.
        del written["sees_goal"]
    return PolicySpec(kind="phases", config=written)


def read_phases(path: Path) -> dict[str, TaskPhases]:
    """Read phases by environment id from a file such as `DATA`.

    Raises:
        ConfigError: An entry is not valid.
    """
    import yaml
    from pydantic import ValidationError

    raw: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    found = {}
    for name, entry in raw.items():
        try:
            found[name] = TaskPhases.model_validate(entry)
        except ValidationError as error:
            first = error.errors()[0]
            raise ConfigError(
                f"The phases of {name} are not valid.",
                where=f"{path}: {'.'.join(str(part) for part in first['loc'])}",
                expected=first["msg"],
                found=repr(first["input"]),
            ) from error
    return found
