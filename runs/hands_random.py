"""Writes what random play returns under several base dampings into docs/bidexhands.md.

python runs/hands_random.py --episodes 40 --damping 4.5 --damping 6 --damping 9
"""

import argparse

import numpy as np
from pages import write_table

from pipelines.domains.checked import make_batch
from pipelines.domains.registry import domain_of, resolve_options
from pipelines.rng import derive_seed, stream
from pipelines.tasks.registry import catalogue
from pipelines.tasks.spec import TaskSpec

SIZE = 20
TOLERANCE = 0.25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--episodes", type=int, default=40, help="a multiple of 20")
    parser.add_argument("--damping", type=float, action="append", help="may be repeated")
    given = parser.parse_args()
    dampings = given.damping or [6.0]
    heads = " | ".join(f"damping {damping:g} (steps)" for damping in dampings)
    lines = [
        f"| Task | {heads} | release | paper |",
        "|---|" + "--:|" * (len(dampings) + 2),
    ]
    near = dict.fromkeys(dampings, 0)
    tasks = catalogue().select(domains=["bidexhands"])
    for task in tasks:
        cells = []
        release, paper = task.scores["release"], task.scores["paper"]
        for damping in dampings:
            returns_E, lengths_E = play(task, damping, given.episodes)
            mean = returns_E.mean()
            # The release prints no spread; the paper's stands for it.
            slack = max(TOLERANCE * abs(release.random), paper.random_std or 0.0)
            near[damping] += bool(abs(mean - release.random) <= slack)
            cells.append(f"{mean:.1f} ± {returns_E.std():.1f} ({lengths_E.mean():.0f})")
        lines.append(
            f"| {task.name} | {' | '.join(cells)} | {release.random:g} "
            f"| {paper.random:.1f} ± {paper.random_std:.1f} |"
        )
        print(lines[-1], flush=True)
    told = ", ".join(f"{count} at damping {damping:g}" for damping, count in near.items())
    lines += [
        "",
        f"{given.episodes} episodes each, uniform actions. Within 25 % of the release's random "
        f"return, or within the paper's spread of it: of {len(tasks)} tasks {told}.",
    ]
    write_table("bidexhands.md", "random", "\n".join(lines))


def play(task: TaskSpec, damping: float, episodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return returns and lengths (E,) of episodes of uniform actions."""
    domain = domain_of(task)
    options = resolve_options(domain, {"base_damping": damping})
    batch = make_batch(domain, task, SIZE, options, [0] * SIZE)
    returns_E, lengths_E = np.zeros(episodes), np.zeros(episodes)
    for first in range(0, episodes, SIZE):
        rows = slice(first, first + SIZE)
        seeds = [derive_seed(0, "hands-random", task.name, first + k) for k in range(SIZE)]
        generator = stream(0, "hands-random", task.name, "actions", first)
        batch.reset(range(SIZE), seeds)
        running_B = np.ones(SIZE, np.bool_)
        while running_B.any():
            action_BA = generator.uniform(-1, 1, (SIZE, task.action_dim)).astype(np.float32)
            after = batch.step(action_BA)
            returns_E[rows] += np.where(running_B, after.reward_B, 0.0)
            lengths_E[rows] += running_B
            running_B &= ~(after.terminated_B | after.truncated_B)
    batch.close()
    return returns_E, lengths_E


if __name__ == "__main__":
    main()
