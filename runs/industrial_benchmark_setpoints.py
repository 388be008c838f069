"""Finds the targets of the Industrial Benchmark's setpoint controller by the cross-entropy method.

Writes pipelines/domains/industrial_benchmark/setpoints.yaml. Each of the 21 setpoints is searched
from several starts on our vectorised environment; the best target by fresh episodes is kept and
measured on other fresh episodes. The same seed gives the same file; about a minute on one core.

    python runs/industrial_benchmark_setpoints.py            # rewrite the file
    python runs/industrial_benchmark_setpoints.py --output - # print it
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.domains.industrial_benchmark import SETPOINTS_FILE, IndustrialBenchmark
from pipelines.domains.industrial_benchmark.environment import HORIZON, IndustrialBenchmarkBatch
from pipelines.domains.industrial_benchmark.policy import TARGETS, steer
from pipelines.rng import derive_seed, stream

HEADER = """\
# Targets of the setpoint controller of each setpoint, and its return as measured here beside the
# paper's expert (Table 10). Written by runs/industrial_benchmark_setpoints.py{arguments}.
#
# mean_return, std_return: over {episodes} episodes with seeds of their own, classic reward / 100;
# paper_score: normalised by the paper's random and expert returns.
setpoints:
"""


def play(setpoint: float, target_NA: NDArray[np.float64], seeds: Sequence[int]) -> NDArray:
    """Return the returns (N, len(seeds)) of N target triples over the same episodes."""
    candidates, episodes = len(target_NA), len(seeds)
    batch = IndustrialBenchmarkBatch([setpoint] * (candidates * episodes))
    target_BA = np.repeat(target_NA, episodes, axis=0).astype(np.float32)
    observation_BO = batch.reset(range(batch.size), list(seeds) * candidates)
    total_B = np.zeros(batch.size)
    for _ in range(HORIZON):
        action_BA = steer(observation_BO, target_BA, *batch.actions.bounds)
        after = batch.step(action_BA)
        observation_BO = after.observation_BO
        total_B += after.reward_B
    return total_B.reshape(candidates, episodes)


def search(setpoint: float, start: int, options: argparse.Namespace) -> NDArray[np.float64]:
    """Return the target triple (A,) that one run of the cross-entropy method ends at."""
    key = ("setpoint search", setpoint, start)
    generator = stream(options.seed, *key)
    mean_A = np.full(3, 50.0) if start == 0 else generator.uniform(0, 100, 3)
    std_A = np.full(3, 30.0)
    elite = max(options.candidates // 8, 2)
    for iteration in range(options.iterations):
        target_NA = generator.normal(mean_A, std_A, (options.candidates, 3)).clip(0, 100)
        target_NA[0] = mean_A
        seeds = [
            derive_seed(options.seed, *key, iteration, episode)
            for episode in range(options.episodes_per_candidate)
        ]
        returns_N = play(setpoint, target_NA, seeds).mean(axis=1)
        best_NA = target_NA[np.argsort(-returns_N, kind="stable")[:elite]]
        mean_A = best_NA.mean(axis=0)
        # A falling floor keeps the search from stopping early. It ends low because the best
        # shift lies at the very edge of the safe zone, with a cliff behind it.
        floor = 5 * (1 - (iteration + 1) / options.iterations) + 0.01
        std_A = np.maximum(best_NA.std(axis=0), floor)
    return mean_A


def fit(setpoint: float, options: argparse.Namespace) -> tuple[NDArray, NDArray]:
    """Return the best target triple (A,) of a setpoint and its returns on fresh episodes."""
    found = [search(setpoint, start, options) for start in range(options.starts)]
    target_NA = np.array(found).round(3)
    chosen = play(setpoint, target_NA, _seeds(options, setpoint, "choice", 64)).mean(axis=1)
    target_A = target_NA[int(chosen.argmax())]
    measured = _seeds(options, setpoint, "measurement", options.episodes)
    return target_A, play(setpoint, target_A[None], measured)[0]


def row(task_setpoint: int, target_A: NDArray, returns: NDArray, paper) -> str:
    fields = {name: f"{value:.3f}" for name, value in zip(TARGETS, target_A, strict=True)}
    fields["mean_return"] = f"{returns.mean():.2f}"
    fields["std_return"] = f"{returns.std():.2f}"
    fields["paper_expert"] = f"{paper.expert:.1f}"
    fields["paper_score"] = f"{paper.normalize(returns.mean()):.3f}"
    inner = ", ".join(f"{name}: {value}" for name, value in fields.items())
    return f"  {task_setpoint}: {{{inner}}}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--candidates", type=int, default=64, help="targets an iteration")
    parser.add_argument("--episodes-per-candidate", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=30)
    parser.add_argument("--starts", type=int, default=3, help="runs of the search a setpoint")
    parser.add_argument("--episodes", type=int, default=256, help="of the measurement")
    parser.add_argument("--output", default=str(SETPOINTS_FILE), help="a path, or - to print")
    options = parser.parse_args()

    given = [argument for argument in sys.argv[1:] if argument != "--output"]
    given = [argument for argument in given if argument != options.output]
    arguments = "".join(f" {argument}" for argument in given)
    text = HEADER.format(arguments=arguments, episodes=options.episodes)
    for task in IndustrialBenchmark().tasks():
        setpoint = task.simulator["setpoint"]
        line = row(setpoint, *fit(setpoint, options), task.scores["paper"])
        sys.stderr.write(line)
        text += line
    if options.output == "-":
        sys.stdout.write(text)
    else:
        Path(options.output).write_text(text, encoding="utf-8")


def _seeds(options: argparse.Namespace, setpoint: float, purpose: str, count: int) -> list[int]:
    return [derive_seed(options.seed, purpose, setpoint, episode) for episode in range(count)]


if __name__ == "__main__":
    main()
