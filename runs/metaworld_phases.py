"""Tunes and measures Meta-World way-points: pipelines/policies/data/metaworld_phases.yaml.

    python runs/metaworld_phases.py --task lever-pull --seconds 120   tune one task
    python runs/metaworld_phases.py --seconds 60                      tune every task with phases
    python runs/metaworld_phases.py --measure                         measure all of them

A search begins at the best of the current phases and of the hand-set ones in
runs/metaworld_starts.yaml, on stored resets. Its result replaces the current phases only if its
mean return over fresh episodes of the real environment is higher. A search that was interrupted
goes on when the same command runs again; its state is kept under --state, and another --seed is
another search. The stock script's return on the same episodes is written beside it: whichever is
higher is what `vintix demonstrators` gives.
"""

import argparse
import sys
from pathlib import Path

from phases_tuning import TuneSettings, measure, tune, write_phases

from pipelines.policies.phases import DATA, TaskPhases, read_phases
from pipelines.tasks.registry import catalogue
from pipelines.tasks.spec import TaskSpec

STARTS = Path(__file__).with_name("metaworld_starts.yaml")
HEADER = """\
# Way-points of Meta-World v3 tasks for policies of the kind `phases` (offsets in metres, gains in
# action per metre; see pipelines/policies/phases.py). `measured` holds the mean returns of these
# and of the stock script over the same episodes of the real environment, seeded by `seed`: the
# higher one is the task's demonstrator. Tuned, measured and written by runs/metaworld_phases.py
# (metaworld 3.1.1, mujoco 3.3.0).
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--task", action="append", help="a task's name; all with phases if none")
    parser.add_argument("--seconds", type=float, default=60.0, help="processor time of a search")
    parser.add_argument("--seed", type=int, default=1, help="of resets and search")
    parser.add_argument("--step", type=float, default=0.5, help="standard deviation at the start")
    parser.add_argument("--start", type=int, help="begin at this hand-set start, counted from 0")
    parser.add_argument("--episodes", type=int, default=50, help="of a measurement")
    parser.add_argument("--measure-seed", type=int, default=4242, help="of a measurement")
    parser.add_argument("--measure", action="store_true", help="measure the current phases only")
    parser.add_argument("--state", type=Path, default=Path("artifacts/metaworld-phases"))
    given = parser.parse_args()

    starts = read_starts()
    tasks = {task.name: task for task in catalogue().select(domains=["metaworld"])}
    having = [name for name, task in tasks.items() if task.env_id in read_phases(DATA)]
    for name in given.task or having:
        if name not in tasks:
            parser.error(f"unknown task {name}")
        task = tasks[name]
        current = read_phases(DATA).get(task.env_id)
        if given.measure:
            if current is None:
                parser.error(f"the task {name} has no phases")
            keep(task, measure(task, current, given.measure_seed, given.episodes))
            continue
        own = (
            [starts[task.env_id][given.start]]
            if given.start is not None
            else [
                *([current] if current is not None else []),
                *starts.get(task.env_id, []),
            ]
        )
        if not own:
            parser.error(f"the task {name} has neither phases nor a start in {STARTS.name}")
        settings = TuneSettings(seed=given.seed, seconds=given.seconds, step=given.step)
        begin = "best" if given.start is None else f"start-{given.start}"
        state = given.state / f"seed-{given.seed}-{begin}"
        found = tune(task, own, settings, state, lambda line, name=name: say(f"{name}: {line}"))
        say(f"{name}: pool {found.pool_start:.1f} -> {found.pool_best:.1f}")
        candidate = measure(task, found.phases, given.measure_seed, given.episodes)
        if current is not None and not measured_as(current, given):
            current = measure(task, current, given.measure_seed, given.episodes)
        if current is None or candidate.measured.phases > current.measured.phases:
            keep(task, candidate)
        else:
            say(f"{name}: {candidate.measured.phases} is not better than {current.measured.phases}")


def measured_as(tuned: TaskPhases, given: argparse.Namespace) -> bool:
    """Return whether the phases have been measured on the episodes that are asked for."""
    known = tuned.measured
    return known is not None and (known.seed, known.episodes) == (
        given.measure_seed,
        given.episodes,
    )


def read_starts() -> dict[str, list[TaskPhases]]:
    """Return the hand-set starts; names such as handle-pull-v3/2 are further starts of a task."""
    found: dict[str, list[TaskPhases]] = {}
    for name, each in read_phases(STARTS).items():
        found.setdefault(name.split("/")[0], []).append(each)
    return found


def keep(task: TaskSpec, tuned: TaskPhases) -> None:
    """Write the phases of a task, and leave the others as they are in the file by now."""
    write_phases(DATA, {**read_phases(DATA), task.env_id: tuned}, HEADER)
    paper, measured = task.scores["paper"], tuned.measured
    script, phases = paper.normalize(measured.script), paper.normalize(measured.phases)
    say(
        f"{task.name}: script {measured.script} ({script:.2f}),"
        f" phases {measured.phases} ({phases:.2f})"
    )


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
