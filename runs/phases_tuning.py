"""The search behind metaworld_phases.py: evolution of a task's phases on stored resets.

Each generation draws a few of a pool of stored resets; all candidates play the same ones, the
better half plays a few more, and the losers keep their rank of the first round (racing with common
random numbers). A reset costs as much as twenty steps and a new seed; a stored one costs a fraction
of a step and gives every candidate the same episodes.

Legend: D parameters, P candidates, K phases, O observation.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from pipelines.actions import Box
from pipelines.artifacts.files import write_file, write_json
from pipelines.demonstrators.evaluate import Evaluator
from pipelines.domains.base import BatchEnvironment, StepBatch
from pipelines.domains.checked import make_env
from pipelines.domains.registry import domain_of, resolve_options
from pipelines.domains.sawyer import MODEL_FIELDS
from pipelines.learners.cma import SeparableCMA
from pipelines.playing.episodes import PolicyActor, one_each, play
from pipelines.policies.base import Policy
from pipelines.policies.metaworld_script import script_policy
from pipelines.policies.phases import Measured, Phase, TaskPhases, build_phases, phases_policy
from pipelines.rng import derive_seed, stream
from pipelines.tasks.spec import TaskSpec

_PLAIN = (bool, int, float, str, bytes, np.generic, type(None))


@dataclass(frozen=True, slots=True)
class _Stored:
    state: NDArray[np.float64]
    model: dict[str, NDArray[Any]]
    attributes: dict[str, Any]
    observation_O: NDArray[np.float64]


class StoredResets(BatchEnvironment):
    """Resets of one environment, of the class `pipelines.domains.sawyer.SawyerProtocol`.

    As a batch of one copy, whose seeds are the numbers of the resets.

    Args:
        env: The environment, at its full reset protocol; it is used to play.
        seeds: One seed a reset.
    """

    def __init__(self, env: Any, seeds: Sequence[int]) -> None:
        self.env = env
        self._spec = mujoco.mjtState.mjSTATE_INTEGRATION
        self._stored = [self._store(seed) for seed in seeds]
        self.size, self.observation_dim = 1, len(self._stored[0].observation_O)

    def __len__(self) -> int:
        return len(self._stored)

    def _store(self, seed: int) -> _Stored:
        observation_O, _ = self.env.reset(seed=seed)
        model, data = self.env.model, self.env.data
        state = np.empty(mujoco.mj_stateSize(model, self._spec))
        mujoco.mj_getState(model, data, state, self._spec)
        return _Stored(
            state=state,
            model={name: getattr(model, name).copy() for name in MODEL_FIELDS},
            attributes={
                name: _copy(value) for name, value in vars(self.env).items() if _is_data(value)
            },
            observation_O=observation_O.copy(),
        )

    def restore(self, index: int) -> NDArray[np.float64]:
        """Put the environment where a reset had left it; return its observation (O,)."""
        stored = self._stored[index]
        model, data = self.env.model, self.env.data
        for name, value in stored.model.items():
            getattr(model, name)[:] = value
        mujoco.mj_setState(model, data, stored.state, self._spec)
        vars(self.env).update({name: _copy(value) for name, value in stored.attributes.items()})
        return stored.observation_O.copy()

    def reset(self, indices: Sequence[int], seeds: Sequence[int]) -> NDArray[np.float32]:
        """Begin at a stored reset; see `BatchEnvironment.reset`."""
        return self.restore(seeds[0])[None].astype(np.float32)

    def step(self, action_BA: NDArray[np.float32]) -> StepBatch:
        """Advance by one step; see `BatchEnvironment.step`."""
        observation_O, reward, terminated, truncated, _ = self.env.step(action_BA[0])
        return StepBatch(
            observation_O[None].astype(np.float32),
            np.array([reward], np.float64),
            np.array([terminated], np.bool_),
            np.array([truncated], np.bool_),
            None,
        )

    def play(self, policy: Policy, index: int) -> float:
        """Return the return of one episode of a policy from a stored reset."""
        (episode,) = play(self, PolicyActor(self, policy), one_each([index]))
        return episode.total


def _is_data(value: object) -> bool:
    """Tell whether an attribute is the episode's own, to be copied, or stands for something else.

    The package keeps views into the simulator's memory among its attributes, some of them meant as
    copies (``init_left_pad``): they follow the simulator in the environment, and have to here.
    """
    if isinstance(value, np.ndarray):
        root: Any = value
        while isinstance(root.base, np.ndarray):
            root = root.base
        return root.base is None
    if isinstance(value, (list, tuple)):
        return all(_is_data(each) for each in value)
    return isinstance(value, _PLAIN)


def _copy(value: Any) -> Any:
    return copy.deepcopy(value) if isinstance(value, (np.ndarray, list)) else value


_OFFSET, _GRIPPER, _LOG_GAIN, _LOG_DISTANCE, _LOG_STEPS = 0.02, 0.6, 0.4, 0.5, 0.5
_LEAST_DISTANCE = 1e-4
_SWITCH = ("distance", "steps")


@dataclass(frozen=True, slots=True)
class TuneSettings:
    """How to tune.

    Attributes:
        seed: Base seed of resets and search.
        seconds: Processor time of the search, resumed runs included.
        generations: End after so many, if the time has not; None for no such limit.
        step: Standard deviation at the start, in the units of `encode`.
        population: Candidates in a generation.
        pool: Stored resets.
        first: Resets that all candidates of a generation play.
        second: Further resets that the better half plays.
    """

    seed: int = 1
    seconds: float = 60.0
    generations: int | None = None
    step: float = 0.5
    population: int = 14
    pool: int = 24
    first: int = 3
    second: int = 3


def encode(tuned: TaskPhases) -> NDArray[np.float64]:
    """Return what is searched as a vector (D,), one unit a plausible change of each.

    Per phase: offset (2 cm), gripper (0.6), and the logarithms of gain (0.4), switch distance and
    switch steps (0.5); the last phase has no switch.
    """
    values: list[float] = []
    for index, phase in enumerate(tuned.phases):
        values += [each / _OFFSET for each in phase.offset]
        values += [phase.gripper / _GRIPPER, np.log(phase.gain) / _LOG_GAIN]
        if index < len(tuned.phases) - 1:
            values.append(np.log(max(phase.distance, _LEAST_DISTANCE)) / _LOG_DISTANCE)
            values.append(np.log(phase.steps) / _LOG_STEPS)
    return np.array(values)


def decode(vector_D: NDArray[np.float64], template: TaskPhases) -> TaskPhases:
    """Return the phases of a vector, rounded to what is worth writing down, not yet measured.

    Args:
        vector_D: As from `encode`.
        template: Where anchors, damping, turning and the rule of re-grasping come from.
    """
    rest = iter(vector_D.tolist())
    phases = []
    for index, phase in enumerate(template.phases):
        changed: dict[str, Any] = {
            "anchor": phase.anchor,
            "offset": tuple(round(next(rest) * _OFFSET, 4) for _ in range(3)),
            "gripper": round(min(max(next(rest) * _GRIPPER, -1.0), 1.0), 3),
            "gain": max(round(float(np.exp(next(rest) * _LOG_GAIN)), 2), 0.01),
            "damping": phase.damping,
            "turned": phase.turned,
        }
        if index < len(template.phases) - 1:
            changed["distance"] = round(float(np.exp(next(rest) * _LOG_DISTANCE)), 4)
            changed["steps"] = min(max(round(float(np.exp(next(rest) * _LOG_STEPS))), 1), 1000)
        phases.append(Phase(**changed))
    return TaskPhases(phases=tuple(phases), hold=template.hold)


def race(
    score: Callable[[int, int], float], candidates: int, resets: Sequence[int], first: int
) -> tuple[list[int], float]:
    """Rank candidates by their mean score, spending less on the worse half.

    Args:
        score: Score of a candidate on a reset.
        candidates: How many.
        resets: Which resets to use.
        first: How many of them all candidates play.

    Returns:
        Candidates, best first, and the mean score of the best one over all resets.
    """
    early_P = np.array(
        [np.mean([score(each, i) for i in resets[:first]]) for each in range(candidates)]
    )
    order = np.argsort(-early_P, kind="stable").tolist()
    ahead, behind = order[: candidates // 2 + 1], order[candidates // 2 + 1 :]
    late = {each: [score(each, i) for i in resets[first:]] for each in ahead}
    total = {
        each: (early_P[each] * first + float(np.sum(late[each]))) / len(resets) for each in ahead
    }
    ahead.sort(key=lambda each: -total[each])
    return ahead + behind, float(total[ahead[0]])


@dataclass(frozen=True, slots=True)
class Tuned:
    """The outcome of a search.

    Attributes:
        phases: The best candidate on the pool, the start among them.
        pool_start: Mean return of the start on the pool.
        pool_best: Mean return of the best candidate on the pool.
        curve: Mean return of each generation's best candidate on the resets of its race.
    """

    phases: TaskPhases
    pool_start: float
    pool_best: float
    curve: list[float]


def tune(
    task: TaskSpec,
    starts: Sequence[TaskPhases],
    settings: TuneSettings,
    directory: Path,
    tell: Callable[[str], None] = lambda _: None,
) -> Tuned:
    """Search from the best of some starts, or go on where an earlier run stopped.

    Args:
        task: A Meta-World task.
        starts: Controllers to begin with; the best one on the pool is taken.
        settings: How to search.
        directory: Where the state of the search is kept, a file a task. Generations are keyed by
            their number, so a resumed search equals an uninterrupted one of as many generations.
        tell: Told of progress.
    """
    resets = stored_resets(task, settings.seed, settings.pool)
    everything = range(len(resets))

    def mean(tuned: TaskPhases, which: Sequence[int] = everything) -> float:
        policy = _build(tuned, task)
        return float(np.mean([resets.play(policy, each) for each in which]))

    path = directory / f"{task.name}.json"
    if path.is_file():
        raw = json.loads(path.read_bytes())
        template = TaskPhases.model_validate(raw["template"])
        search = SeparableCMA.from_json(raw["search"])
        spent, curve, bests = raw["seconds"], raw["curve"], raw["bests"]
    else:
        scores = [mean(each) for each in starts]
        template = starts[int(np.argmax(scores))].model_copy(update={"measured": None})
        tell(f"starts {', '.join(f'{each:.1f}' for each in scores)}")
        search = SeparableCMA.start(encode(template), settings.step, settings.population)
        spent, curve, bests = 0.0, [], []
    limit = math.inf if settings.generations is None else settings.generations
    while spent < settings.seconds and search.generation < limit:
        began = time.process_time()
        generator = stream(settings.seed, "phases", task.name, search.generation)
        chosen = generator.permutation(len(resets))[: settings.first + settings.second].tolist()
        vectors_PD = search.ask(generator)
        policies = [_build(decode(each, template), task) for each in vectors_PD]
        order, best = race(
            lambda which, reset, policies=policies: resets.play(policies[which], reset),  # type: ignore[misc]
            len(policies),
            chosen,
            settings.first,
        )
        search.tell(vectors_PD[order])
        curve.append(best)
        bests.append(vectors_PD[order[0]].tolist())
        spent += time.process_time() - began
        tell(f"generation {search.generation}: {best:.1f}, step {search.step:.2f}, {spent:.0f} s")
        _write(
            path,
            {
                "template": template.model_dump(mode="json"),
                "search": search.as_json(),
                "seconds": spent,
                "curve": curve,
                "bests": bests,
            },
        )
    finalists = [template, decode(search.mean_D, template)]
    if bests:
        last = {int(np.argmax(curve)), *range(max(0, len(bests) - 3), len(bests))}
        finalists += [decode(np.array(bests[each]), template) for each in sorted(last)]
    scores = [mean(each) for each in finalists]
    winner = int(np.argmax(scores))
    return Tuned(finalists[winner], scores[0], scores[winner], curve)


def stored_resets(task: TaskSpec, seed: int, pool: int) -> StoredResets:
    """Return the resets that a task is tuned on; the evaluator's seeds are others."""

    domain = domain_of(task)
    env = make_env(domain, task, resolve_options(domain, {}))
    seeds = [derive_seed(seed, "phases", task.name, "reset", each) for each in range(pool)]
    return StoredResets(env.unwrapped, seeds)


def measure(task: TaskSpec, tuned: TaskPhases, seed: int, episodes: int) -> TaskPhases:
    """Return the phases with their measured return and the stock script's beside it.

    A script's return that is there from the same seed and episodes is taken over.
    """

    domain, script = domain_of(task), script_policy(task.env_id)
    known = tuned.measured
    with Evaluator(task, domain, resolve_options(domain, {}), seed) as evaluator:
        if known is not None and (known.seed, known.episodes) == (seed, episodes):
            script_return = known.script
        elif script is not None:
            script_return = float(evaluator.policy(script, episodes).returns_E.mean())
        else:
            script_return = float(evaluator.random(episodes).returns_E.mean())
        phases_return = float(
            evaluator.policy(phases_policy(tuned, task.env_id), episodes).returns_E.mean()
        )
    measured = Measured(
        seed=seed,
        episodes=episodes,
        script=round(script_return, 2),
        phases=round(phases_return, 2),
    )
    return tuned.model_copy(update={"measured": measured})


def write_phases(path: Path, tuned: Mapping[str, TaskPhases], header: str) -> None:
    """Write phases by environment id, one line a phase, for `pipelines.policies.phases` to read.

    Args:
        path: The file; it is replaced as a whole.
        tuned: The phases.
        header: Comment lines, each beginning with #.
    """

    lines = [header.rstrip("\n")]
    for name, each in sorted(tuned.items()):
        lines.append(f"{name}:")
        if each.measured is not None:
            lines.append(f"  measured: {_flow(each.measured.model_dump(mode='json'))}")
        if each.hold is not None:
            lines.append(f"  hold: {each.hold}")
        lines.append("  phases:")
        for index, phase in enumerate(each.phases):
            raw = phase.model_dump(mode="json", exclude_none=True)
            if index == len(each.phases) - 1:
                raw = {key: value for key, value in raw.items() if key not in _SWITCH}
            lines.append(f"    - {_flow(raw)}")
    write_file(path, ("\n".join(lines) + "\n").encode())


def _flow(raw: dict[str, Any]) -> str:
    # An anchor such as 222 would be read as a number.
    parts = (f"{key}: {json.dumps(value)}" for key, value in raw.items())
    return "{" + ", ".join(parts) + "}"


def _build(tuned: TaskPhases, task: TaskSpec) -> Any:

    one_A = np.ones(4, np.float32)
    return build_phases(phases_policy(tuned, task.env_id), Box.between(-one_A, one_A))


def _write(path: Path, value: dict[str, Any]) -> None:

    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, value)
