"""Trains a demonstrator in segments, each durable, and keeps the best policy on the way."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.artifacts import files
from pipelines.artifacts.arrays import from_npz, to_npz
from pipelines.artifacts.work import all_intact
from pipelines.learners.settings import EPISODE_LEARNERS, one_thread, segment_length
from pipelines.policies.base import PolicySpec
from pipelines.policies.storage import policy_attributes
from pipelines.rng import derive_seed

if TYPE_CHECKING:
    from pipelines.demonstrators.evaluate import Evaluator
    from pipelines.learners.episodes import EpisodeLearner
    from pipelines.learners.sb3 import Learner
    from pipelines.learners.settings import TrainSettings
    from pipelines.reporter import Advance


_STATE = "state.json"


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained policy.

    Attributes:
        steps: Environment steps of training when it was measured.
        curve: Steps and mean evaluation return after each segment.
        seconds: Wall time of each segment that this process trained, for logs.
    """

    policy: PolicySpec
    steps: int
    curve: list[tuple[int, float]]
    seconds: list[float]


def train_policy(
    settings: TrainSettings,
    evaluator: Evaluator,
    training_options: dict[str, Any],
    directory: Path,
    advance: Advance | None = None,
) -> Trained:
    """Train a policy for the task of an evaluator, or go on where an earlier run stopped.

    Args:
        evaluator: Measures the policy after each segment; names task, domain and seed.
        training_options: Values of all options of the domain in the training environment.
        directory: Where checkpoints are, of this run and of the interrupted one.

    Raises:
        ConfigError: A hyperparameter is not valid.
        VintixError: The training broke down.
    """
    checkpoint = _Checkpoint(directory, "npz" if settings.algorithm in EPISODE_LEARNERS else "pt")
    curve: list[tuple[int, float]] = [(int(s), float(r)) for s, r in checkpoint.state["curve"]]
    seconds: list[float] = []
    transitions: list[dict[str, np.ndarray[Any, Any]]] = checkpoint.transitions(len(curve))
    if advance is not None and curve:
        advance(curve[-1][0])
    while not curve or curve[-1][0] < settings.total_steps:
        started = time.monotonic()
        segment = len(curve)
        done = curve[-1][0] if curve else 0
        with one_thread(settings):
            learner = _make_learner(settings, evaluator, training_options, segment)
            try:
                if segment:
                    learner.load(checkpoint.learner(segment))
                    for each in transitions:
                        learner.load_transitions(each)
                until = min(done + segment_length(settings), settings.total_steps)
                learner.learn(until, advance)
                fresh = learner.dump_transitions(done)
                if fresh:
                    transitions.append(fresh)
                policy = learner.policy()
                dumped, steps = learner.dump(), learner.steps
            finally:
                learner.close()
            measured = evaluator.policy(policy, settings.evaluation_episodes, "train-evaluation")
        mean = float(measured.returns_E.mean())
        best = not curve or mean > max(value for _, value in curve)
        curve.append((steps, mean))
        checkpoint.write(segment + 1, dumped, fresh, curve, policy if best else None)
        seconds.append(time.monotonic() - started)
    best_index = int(np.argmax([value for _, value in curve]))
    return Trained(checkpoint.best(), curve[best_index][0], curve, seconds)


def _make_learner(
    settings: TrainSettings, evaluator: Evaluator, options: dict[str, Any], segment: int
) -> Learner | EpisodeLearner:
    task, domain = evaluator.task, evaluator.domain
    key = ("demonstrators", task.name, "train")
    if settings.algorithm in EPISODE_LEARNERS:
        # They key what they draw by the iteration, and have no need of a seed for each segment.
        seed = derive_seed(evaluator.seed, *key)
        kind: type[EpisodeLearner] = resolve_name(EPISODE_LEARNERS[settings.algorithm])
        return kind(settings, task, domain, options, seed)
    from pipelines.domains.checked import make_env
    from pipelines.learners.sb3 import Learner

    seed = derive_seed(evaluator.seed, *key, segment)
    return Learner(settings, task, lambda: make_env(domain, task, options), seed)


class _Checkpoint:
    """Files of one training; ``state.json`` is replaced last and names what is valid.

    It holds the hash of each file. What is not as it was written makes the training begin again.
    """

    def __init__(self, directory: Path, suffix: str) -> None:
        self._directory, self._suffix = directory, suffix
        found = files.read_sealed(directory / _STATE)
        if found is None or not all_intact(directory, found["files"]):
            found = {"curve": [], "best": None, "files": {}}
        self.state: dict[str, Any] = found

    def learner(self, segments: int) -> bytes:
        return self._read(self._learner_name(segments))

    def transitions(self, segments: int) -> list[dict[str, np.ndarray[Any, Any]]]:
        names = [_transitions_name(segment) for segment in range(1, segments + 1)]
        return [from_npz(self._read(name)) for name in names if name in self.state["files"]]

    def best(self) -> PolicySpec:
        stored = self.state["best"]
        return PolicySpec(stored["kind"], stored["config"], from_npz(self._read(stored["file"])))

    def write(
        self,
        segments: int,
        learner: bytes,
        transitions: dict[str, np.ndarray[Any, Any]],
        curve: list[tuple[int, float]],
        best: PolicySpec | None,
    ) -> None:
        before = self._learner_name(segments - 1)
        written = {self._learner_name(segments): learner}
        if transitions:
            written[_transitions_name(segments)] = to_npz(transitions)
        state = {**self.state, "curve": curve}
        if best is not None:
            name = f"best-{segments:05d}.npz"
            written[name] = to_npz(best.arrays)
            state["best"] = {**policy_attributes(best), "file": name}
        state["files"] = {
            **{name: entry for name, entry in self.state["files"].items() if name != before},
            **{
                name: asdict(files.write_file(self._directory / name, data))
                for name, data in written.items()
            },
        }
        files.write_sealed(self._directory / _STATE, state)
        files.sync_directories([self._directory])
        self.state = state
        files.remove_file(self._directory / before)

    def _learner_name(self, segments: int) -> str:
        return f"learner-{segments:05d}.{self._suffix}"

    def _read(self, name: str) -> bytes:
        path = self._directory / name
        try:
            return files.read_file(path, self.state["files"][name]["size"])
        except OSError as error:
            raise files.reading_error(error, path) from error


def _transitions_name(segment: int) -> str:
    return f"transitions-{segment:05d}.npz"
