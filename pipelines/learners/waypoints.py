"""A search over way-points for two hands, for ``--algorithm waypoints``.

Separable CMA-ES (`pipelines.learners.cma`) over the way-points of
`pipelines.domains.bidexhands.policy`, beginning at a rough script. Fingers move together along a
few synergies: searching servos one by one finds no throw. All candidates of a generation play the
same episodes; some of them with noise mixed into the actions as in distillation, so that what is
found degrades softly.

Legend: C candidates, D parameters, K way-points, G synergies, W entries of a way-point of one hand,
S slots (copies of the environment), A action.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipelines.artifacts.arrays import from_npz, to_npz
from pipelines.domains.bidexhands.hand import joint_names, joint_ranges, servo_joints
from pipelines.domains.bidexhands.policy import KIND, WIDTH, WaypointsConfig, WaypointsPolicy
from pipelines.errors import ConfigError
from pipelines.learners.cma import SeparableCMA
from pipelines.learners.episodes import EpisodeLearner, Play, play_episodes, read_hyperparameters
from pipelines.policies.base import PolicySpec
from pipelines.rng import derive_seed, stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipelines.domains.base import BatchEnvironment, Domain, Options, StepBatch
    from pipelines.learners.settings import TrainSettings
    from pipelines.tasks.spec import TaskSpec

SYNERGIES: dict[str, tuple[str, ...]] = {
    "wrist-side": ("WRJ1",),
    "wrist-nod": ("WRJ0",),
    "spread": ("FFJ3", "RFJ3", "LFJ3"),
    "first-root": ("FFJ2",),
    "others-root": ("MFJ2", "RFJ2", "LFJ2"),
    "first-curl": ("FFJ1",),
    "others-curl": ("MFJ1", "RFJ1", "LFJ1"),
    "little-palm": ("LFJ4",),
    "thumb-turn": ("THJ4",),
    "thumb-root": ("THJ3",),
    "thumb-hub": ("THJ2",),
    "thumb-side": ("THJ1",),
    "thumb-curl": ("THJ0",),
}
"""Servos that move together, by name; the ring and little finger spread away from the first one.
Values are actions: -1 is the lower end of the joints' range, 1 the upper one."""

# One unit of the search in metres, radians, action, and logarithm of a duration.
_POSITION, _TURN, _SYNERGY, _DURATION = 0.03, 0.2, 0.4, 0.2
_SLOTS = 16


class HandWaypoint(BaseModel):
    """One hand at one way-point.

    Attributes:
        anchor: What the position is relative to (`pipelines.domains.bidexhands.policy.ANCHORS`);
            not searched.
        position: Metres along the world's axes.
        turn: Rotation vector from where the base began, radians, world's axes.
        fingers: Actions by synergy; those left out hold the joints at zero.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    anchor: str = "start"
    position: tuple[float, float, float] = (0.0, 0.0, 0.0)
    turn: tuple[float, float, float] = (0.0, 0.0, 0.0)
    fingers: dict[str, float] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if unknown := sorted(set(self.fingers) - set(SYNERGIES)):
            raise ValueError(f"unknown synergy {unknown[0]!r}; there are {', '.join(SYNERGIES)}")
        return self


class Waypoint(BaseModel):
    """Both hands at one time.

    Attributes:
        at: Step of the episode.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: float = Field(ge=0)
    right: HandWaypoint = HandWaypoint()
    left: HandWaypoint = HandWaypoint()


class WaypointSettings(BaseModel):
    """``demonstrators.train.hyperparameters`` of the algorithm ``waypoints``.

    Attributes:
        start: The rough script that the search begins at, its first way-point at step 0.
        population: Candidates in a generation.
        noise: Share of uniform noise in the actions, one number for each episode of a candidate.
        guidance: Weight of the task's guidance (`HandTask.guidance`) beside the reward.
        rehearsal_steps: For so many environment steps every candidate plays one and the same
            episode, without noise. What is hard to find at all is found there first; then the
            search begins again around it with half its step, on `noise`.
        step: Standard deviation at the start; a unit is 3 cm, 0.2 rad, 0.4 of an action, or 20 % of
            a duration.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: tuple[Waypoint, ...] = Field(min_length=1)
    population: int = Field(default=24, ge=4)
    noise: tuple[float, ...] = Field(default=(0.0,), min_length=1)
    guidance: float = Field(default=0.0, ge=0)
    rehearsal_steps: int = Field(default=0, ge=0)
    step: float = Field(default=0.5, gt=0)
    gain: float = Field(default=8.0, gt=0)
    turn_gain: float = Field(default=6.0, gt=0)
    lag: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        times = [each.at for each in self.start]
        if times[0] != 0 or any(b <= a for a, b in itertools.pairwise(times)):
            raise ValueError("the way-points begin at step 0, and each comes after the one before")
        if any(not 0 <= share <= 1 for share in self.noise):
            raise ValueError("a share of noise is in [0, 1]")
        return self


def waypoint_settings(settings: TrainSettings) -> WaypointSettings:
    """Read the hyperparameters of the algorithm ``waypoints``.

    Raises:
        ConfigError: One is unknown, missing or out of range, or something is to be normalised.
    """
    if settings.normalize_rewards or settings.normalize_observations:
        raise ConfigError(
            "The algorithm waypoints has no use for normalised rewards or observations.",
            where="demonstrators.train",
            expected="normalize_rewards and normalize_observations left out",
        )
    return read_hyperparameters(
        WaypointSettings,
        settings,
        "a packaged example: vintix demonstrators --source train --task hand-push-block",
    )


class WaypointCode:
    """Way-points as a vector of the search.

    Args:
        start: The script, which has the times' order and the anchors.
        fixed_base: Whether bases are fixed; then positions and turns are not searched.
    """

    def __init__(self, start: tuple[Waypoint, ...], *, fixed_base: bool) -> None:
        self._count, self._fixed = len(start), fixed_base
        self._basis_GU, self._rest_G = _synergies()
        self.start_D = self._encode(start)

    def _encode(self, start: tuple[Waypoint, ...]) -> NDArray[np.float64]:
        names = list(SYNERGIES)
        values: list[float] = []
        for before, each in itertools.pairwise(start):
            values.append(float(np.log(each.at - before.at)) / _DURATION)
        for each in start:
            for hand in (each.right, each.left):
                if not self._fixed:
                    values += [x / _POSITION for x in hand.position]
                    values += [x / _TURN for x in hand.turn]
                values += [
                    hand.fingers.get(name, rest) / _SYNERGY
                    for name, rest in zip(names, self._rest_G, strict=True)
                ]
        return np.array(values)

    def decode(
        self, vectors_CD: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return times (C, K) and way-points (C, K, 2, W) as the policy has them."""
        count, rows = self._count, len(vectors_CD)
        durations = np.exp(np.clip(vectors_CD[:, : count - 1] * _DURATION, 0.0, 7.0))
        times_CK = np.concatenate([np.zeros((rows, 1)), np.cumsum(durations, axis=1)], axis=1)
        hands = vectors_CD[:, count - 1 :].reshape(rows, count, 2, -1)
        knots = np.zeros((rows, count, 2, WIDTH))
        if not self._fixed:
            knots[..., :3] = hands[..., :3] * _POSITION
            knots[..., 3:6] = hands[..., 3:6] * _TURN
            hands = hands[..., 6:]
        knots[..., 6:] = np.clip(hands * _SYNERGY @ self._basis_GU, -1.0, 1.0)
        return times_CK, knots


class WaypointLearner(EpisodeLearner):
    """The search on one task of Bi-DexHands; see `EpisodeLearner`.

    Raises:
        ConfigError: A hyperparameter is not valid, or the task has no hands.
    """

    def __init__(
        self, settings: TrainSettings, task: TaskSpec, domain: Domain, options: Options, seed: int
    ) -> None:
        from pipelines.domains.bidexhands.policy import base_speeds
        from pipelines.domains.bidexhands.tasks import task_classes

        super().__init__(settings, task, domain, options, seed)
        self._given = waypoint_settings(settings)
        if task.domain != "bidexhands":
            raise ConfigError(
                "The algorithm waypoints moves two hands.",
                where=f"task {task.name}",
                expected="a task of the domain bidexhands",
                found=f"domain {task.domain}",
                fix="another --algorithm",
            )
        hands = task_classes()[task.env_id]
        speed, turn_speed = base_speeds(hands, float(options["base_damping"]))
        self._config = WaypointsConfig(
            fixed_base=hands.fixed_base,
            anchors=tuple((w.right.anchor, w.left.anchor) for w in self._given.start),
            speed=speed,
            turn_speed=turn_speed,
            gain=self._given.gain,
            turn_gain=self._given.turn_gain,
            lag=self._given.lag,
        )
        self._code = WaypointCode(self._given.start, fixed_base=hands.fixed_base)
        self._search = SeparableCMA.start(
            self._code.start_D, self._given.step, self._given.population
        )

    def iterate(self) -> None:
        """Play one generation and move the search by it."""
        before, generation = self.steps, self._search.generation
        candidates_CD = self._search.ask(stream(self._seed, "candidates", generation))
        returns_C = self._play(candidates_CD, generation)
        self._search.tell(candidates_CD[np.argsort(-returns_C, kind="stable")])
        if before < self._given.rehearsal_steps <= self.steps:
            self._search = SeparableCMA.start(
                self._search.mean_D, self._given.step / 2, self._given.population
            )

    def dump(self) -> bytes:
        """Return the state as the bytes of an .npz file."""
        return to_npz({"total_steps": self.steps, **self._search.as_json()})

    def load(self, dumped: bytes) -> None:
        """Take over what `dump` returned."""
        state: dict[str, Any] = {
            name: value if value.ndim else value.item() for name, value in from_npz(dumped).items()
        }
        self.steps = state.pop("total_steps")
        self._search = SeparableCMA.from_json(state)

    def policy(self) -> PolicySpec:
        """Return the policy at the centre of the search, in float32."""
        times_CK, knots = self._code.decode(self._search.mean_D[None])
        return PolicySpec(
            KIND,
            self._config.model_dump(mode="json", exclude_none=True),
            {"times": times_CK[0].astype(np.float32), "knots": knots[0].astype(np.float32)},
        )

    def _play(self, candidates_CD: NDArray[np.float64], generation: int) -> NDArray[np.float64]:
        """Return the mean return (C,) of each candidate over the generation's episodes."""
        shares, which = self._given.noise, generation
        if self.steps < self._given.rehearsal_steps:
            shares, which = (0.0,), -1
        seeds = [derive_seed(self._seed, "episode", which, number) for number in range(len(shares))]
        plays = [
            Play(candidate, episode, seed)
            for candidate in range(len(candidates_CD))
            for episode, seed in enumerate(seeds)
        ]
        batch = self.make_copies(list(range(min(_SLOTS, len(plays)))))
        policy = WaypointsPolicy(self._config, *self._code.decode(candidates_CD))
        width = batch.actions.width
        # What each slot mixes into its actions: how much, and from which stream.
        noises: list[tuple[float, np.random.Generator]] = []

        def begin(slot: int, play: Play) -> None:
            noise = stream(self._seed, "noise", generation, play.episode)
            noises[slot : slot + 1] = [(shares[play.episode], noise)]
            policy.use([slot], [play.candidate])
            policy.reset([slot])

        def act(
            observation_SO: NDArray[np.float32], running_S: NDArray[np.bool_]
        ) -> NDArray[np.float32]:
            action_SA = policy.act(observation_SO)
            for slot, (share, noise) in enumerate(noises):
                if share:
                    drawn_A = noise.uniform(-1.0, 1.0, width)
                    action_SA[slot] = (1 - share) * action_SA[slot] + share * drawn_A
            return action_SA

        def earned(after: StepBatch) -> NDArray[np.float64]:
            if not self._given.guidance:
                return after.reward_B
            # Only the hands' own batch knows; Isaac Gym has the reference's reward alone.
            return after.reward_B + self._given.guidance * _guidance(batch)

        returns_C, steps = play_episodes(batch, plays, len(candidates_CD), begin, act, earned)
        self.steps += steps
        return returns_C / len(shares)


def _guidance(batch: BatchEnvironment) -> NDArray[np.float64]:
    from pipelines.domains.bidexhands.batch import HandsBatch

    own = batch.unwrapped
    if not isinstance(own, HandsBatch):
        raise ConfigError(
            "This simulator has no guidance for a search.",
            where="demonstrators.train.hyperparameters.guidance",
            expected="0, or --backend mujoco",
        )
    return own.task.guidance(own.snapshot(), own.goals)


def _synergies() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the servos (G, 20) that each synergy moves, and its action for joints at zero (G,)."""
    low_J, high_J = joint_ranges()
    servos = [joint_names()[index] for index in servo_joints()]
    rest = {
        name: -(low + high) / (high - low)
        for name, low, high in zip(joint_names(), low_J, high_J, strict=True)
    }
    basis_GU = np.zeros((len(SYNERGIES), len(servos)))
    for row, (name, joints) in enumerate(SYNERGIES.items()):
        for joint in joints:
            away = name == "spread" and joint != "FFJ3"
            basis_GU[row, servos.index(joint)] = -1.0 if away else 1.0
    # Nothing in SYNERGIES moves the middle finger sideways; it stays in the middle.
    return basis_GU, np.array([rest[joints[0]] for joints in SYNERGIES.values()])
