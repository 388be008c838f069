"""Fit the noise decays of the catalogue to the package's demonstrators, and compare decays.

    python runs/schedule_fits.py fit                    # all tasks that have a demonstrator
    python runs/schedule_fits.py compare                # then measure what the fits are worth
    python runs/schedule_fits.py compare --domain mujoco reacher

``fit`` runs a pilot of every task whose demonstrator is another than the one that its decay in
``pipelines/tasks/data/schedules.json`` was fitted to, and writes what it finds there: the decay
that the task has by default, and what is compared. Tasks are written as they are done. Then it
prints the means of the R-squared that the pilots predict; with ``--docs``, they go to ``docs``.

``compare`` collects three histories of every task, under linear decay (p = 1, f = 0.1), ``auto``
and ``fitted``, in the workspace ``fits/artifacts``; prints the R-squared of a straight line through
the smoothed return of each, with the standard error by bootstrap over the episodes, as a table in
Markdown; and draws ``fits/histories-<domain>.png`` of the histories with the default decays; with
``--docs``, the table goes to ``docs``, and a picture that the page there shows. Run again, both
commands go on where they stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pages import DOCS, write_table

from pipelines.artifacts.artifact import Artifact
from pipelines.artifacts.workspace import Workspace
from pipelines.demonstrators.config import DemonstratorsConfig
from pipelines.demonstrators.experts import builtin_policy, has_builtin
from pipelines.demonstrators.reader import load_demonstrator
from pipelines.demonstrators.stage import run as demonstrators
from pipelines.distill.config import PILOT_EPISODES, VECTORIZED_PILOT_EPISODES, DistillConfig
from pipelines.distill.pilot import PilotJob, run_pilot
from pipelines.distill.response import (
    LINEAR,
    choose_decay,
    fit_curve,
    fit_family,
    predicted_straightness,
)
from pipelines.distill.stage import run as distill
from pipelines.domains.registry import domain_of, full_catalogue, resolve_options
from pipelines.drawing import save
from pipelines.histories.pictures import draw_domain
from pipelines.histories.quality import BINS, HistoryQuality, binned_means, straightness
from pipelines.histories.report import assess_histories
from pipelines.parallel import run_parallel
from pipelines.policies.base import PolicySpec
from pipelines.policies.storage import policy_attributes
from pipelines.reporter import Advance, NullReporter
from pipelines.rng import stream
from pipelines.tasks.loader import SCHEDULES
from pipelines.tasks.schedule import (
    Decay,
    Schedule,
    schedule_from_json,
    schedule_json,
    schedule_text,
)
from pipelines.tasks.spec import TaskSpec

DATA = Path(__file__).parents[1] / "pipelines" / "tasks" / "data" / SCHEDULES
DOMAINS = ("mujoco", "industrial-benchmark", "metaworld", "bidexhands")
DECAYS = ("linear", "auto", "fitted")

SIZES = {
    "mujoco": (4, 30_000),
    "industrial-benchmark": (20, 6_250),
    "metaworld": (2, 6_000),
    "bidexhands": (4, 15_000),
}
"""Trajectories and steps of each that are compared."""

RESAMPLES = 200
COLOURS = 96


@dataclass(frozen=True)
class Job:
    """What is to be done for one task."""

    task: TaskSpec
    output: Path
    seed: int
    decays: dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("fit", "compare"))
    parser.add_argument("tasks", nargs="*", metavar="TASK", help="default all of the domains")
    parser.add_argument("--domain", action="append", choices=DOMAINS, help="default all")
    parser.add_argument("--every", type=int, default=1, help="only each n-th task of a domain")
    parser.add_argument("--output", type=Path, default=Path("fits"))
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true", help="fit: also what is up to date")
    parser.add_argument("--docs", action="store_true", help="write docs, too")
    # Tasks may stand before the options or after them.
    arguments = parser.parse_intermixed_args()
    tasks = chosen(arguments.tasks, arguments.domain or DOMAINS, arguments.every)
    (fit if arguments.what == "fit" else compare)(tasks, arguments)


def chosen(names: list[str], domains: list[str], every: int) -> list[TaskSpec]:
    """Return the tasks that have a demonstrator, in catalogue order."""
    found = []
    for domain in domains:
        of_domain = full_catalogue().select(tasks=names, domains=[domain])
        found += [task for task in of_domain if has_builtin(task, domain_of(task))][::every]
    return found


def fit(tasks: list[TaskSpec], arguments: argparse.Namespace) -> None:
    """Fit what is not fitted to the demonstrator that the package has now."""
    known = recorded()
    waiting = [
        task
        for task in tasks
        if arguments.again or known.get(task.name, {}).get("demonstrator") != identity(task)
    ]
    say(f"{len(tasks) - len(waiting)} of {len(tasks)} fits are up to date")

    def keep(index: int, outcome: Any) -> None:
        if outcome.error is not None:
            say(f"{waiting[index].name}: {outcome.error}")
            return
        known[waiting[index].name] = outcome.value
        lines = [f"{json.dumps(name)}: {json.dumps(known[name])}" for name in sorted(known)]
        DATA.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
        scores = " ".join(f"{k} {v:.3f}" for k, v in outcome.value["predicted_r_squared"].items())
        say(f"{waiting[index].name}: {scores}, {schedule_text(outcome.value['schedule'])}")

    jobs = [Job(task, arguments.output, arguments.seed, {}) for task in waiting]
    outcomes = run(fit_task, jobs, arguments.workers, keep)
    text = predictions(tasks, known)
    print(text)
    if arguments.docs:
        write_table("schedules.md", "predicted", text)
    sys.exit(any(outcome.error is not None for outcome in outcomes))


def predictions(tasks: list[TaskSpec], known: dict[str, dict[str, Any]]) -> str:
    """Return a line a domain: means of the R-squared that the pilots predict."""
    lines = ["| predicted | " + " | ".join(DECAYS) + " | auto below linear |"]
    lines.append("|---|" + "--:|" * (len(DECAYS) + 1))
    fitted = [task for task in tasks if task.name in known]
    for domain in (*dict.fromkeys(task.domain for task in fitted), None):
        names = [task.name for task in fitted if domain in (task.domain, None)]
        scores = np.array(
            [[known[name]["predicted_r_squared"][decay] for decay in DECAYS] for name in names]
        )
        cells = " | ".join(f"{mean:.3f}" for mean in scores.mean(axis=0))
        worse = int((scores[:, 1] < scores[:, 0]).sum())
        lines.append(f"| {domain or 'all'}, {len(names)} | {cells} | {worse} |")
    return "\n".join(lines)


def fit_task(job: Job, advance: Advance) -> dict[str, Any]:
    """Return the catalogue's entry of a task."""
    artifact = measured(job)
    domain = domain_of(job.task)
    response = run_pilot(
        PilotJob(
            task=job.task,
            options=resolve_options(domain, {}),
            policy=load_demonstrator(artifact, job.task.name).spec,
            seed=job.seed,
            episodes=VECTORIZED_PILOT_EPISODES if domain.vectorized else PILOT_EPISODES,
        ),
        lambda amount=1: None,
    )
    advance(1)
    decays = {"linear": LINEAR, "auto": fit_family(response), "fitted": fit_curve(response)}
    return {
        "schedule": schedule_json(choose_decay(response)),
        "auto": schedule_json(decays["auto"]),
        "fitted": schedule_json(decays["fitted"]),
        "predicted_r_squared": {
            name: round(predicted_straightness(response, decay), 4)
            for name, decay in decays.items()
        },
        "demonstrator": identity(job.task),
    }


def compare(tasks: list[TaskSpec], arguments: argparse.Namespace) -> None:
    """Collect the histories, and print and draw them."""
    known = recorded()
    missing = [task.name for task in tasks if task.name not in known]
    if missing:
        sys.exit(f"no fits of {', '.join(missing)}: python runs/schedule_fits.py fit")
    found: dict[str, dict[str, HistoryQuality]] = {}

    def keep(index: int, outcome: Any) -> None:
        name = tasks[index].name
        if outcome.error is not None:
            say("\n".join([f"{name}: {outcome.error}", *getattr(outcome.error, "__notes__", [])]))
            return
        found[name] = outcome.value
        say(f"{name}: " + " ".join(f"{k} {score(v):.3f}" for k, v in outcome.value.items()))

    jobs = [Job(task, arguments.output, arguments.seed, known[task.name]) for task in tasks]
    outcomes = run(compare_task, jobs, arguments.workers, keep)
    for domain in dict.fromkeys(task.domain for task in tasks):
        names = [each.name for each in tasks if each.domain == domain and each.name in found]
        if names:
            text = table(names, found, known)
            print(f"\n{domain}\n\n{text}")
            drawn = [found[name][default_of(known[name])] for name in names]
            picture = save(draw_domain(drawn), arguments.output / f"histories-{domain}.png")
            say(f"{picture}: {shrink(picture):,} bytes")
            if arguments.docs:
                write_table("schedules.md", domain, text)
                if picture.name in (DOCS / "schedules.md").read_text(encoding="utf-8"):
                    (DOCS / picture.name).write_bytes(picture.read_bytes())
    sys.exit(any(outcome.error is not None for outcome in outcomes))


def compare_task(job: Job, advance: Advance) -> dict[str, HistoryQuality]:
    """Return the quality of a task's history under each decay."""
    artifact = measured(job)
    trajectories, steps = SIZES[job.task.domain]
    workspace = Workspace(job.output / "artifacts")
    found: dict[str, HistoryQuality] = {}
    done: dict[Decay, HistoryQuality] = {}
    for name in DECAYS:
        decay = LINEAR if name == "linear" else schedule_from_json(job.decays[name])
        if decay in done:
            found[name] = done[decay]
            continue
        config = DistillConfig(
            name=f"{job.task.name}-{name}",
            tasks=(job.task.name,),
            demonstrators=artifact.reference,
            schedule=decay,
            trajectories=trajectories,
            steps=steps,
            seed=job.seed,
            workers=1,
        )
        history = distill(config, workspace, NullReporter()).artifact
        _, (found[name],) = assess_histories(workspace, history.reference)
        done[decay] = found[name]
    advance(1)
    return found


def measured(job: Job) -> Artifact:
    """Return the demonstrators artifact of a task."""
    config = DemonstratorsConfig(
        name=job.task.name, tasks=(job.task.name,), seed=job.seed, workers=1
    )
    return demonstrators(config, Workspace(job.output / "artifacts"), NullReporter()).artifact


def run(function: Any, jobs: list[Job], workers: int, keep: Any) -> list[Any]:
    """Do all jobs and say what it took."""
    started, spent = time.monotonic(), time.process_time()
    outcomes = run_parallel(
        function, jobs, workers, NullReporter(), label="tasks", total=len(jobs), on_done=keep
    )
    say(
        f"{len(jobs)} tasks, {time.monotonic() - started:.0f} s, "
        f"{time.process_time() - spent:.0f} s of processor time in this process"
    )
    return outcomes


def table(
    names: list[str],
    found: dict[str, dict[str, HistoryQuality]],
    known: dict[str, dict[str, Any]],
) -> str:
    """Return a line a task: measured R-squared and, in brackets, the predicted one."""
    lines = ["| task | " + " | ".join(DECAYS) + " | auto - linear | auto | default |"]
    lines.append("|---|" + "--:|" * (len(DECAYS) + 1) + "---|---|")
    scores, errors, predicted = [], [], []
    for name in names:
        entry = known[name]
        row = [score(found[name][decay]) for decay in DECAYS]
        spread = [bootstrap_error(found[name][decay]) for decay in DECAYS]
        foreseen = [entry["predicted_r_squared"][decay] for decay in DECAYS]
        scores.append(row)
        errors.append(spread)
        predicted.append(foreseen)
        cells = " | ".join(f"{a:.3f} ({b:.3f})" for a, b in zip(row, foreseen, strict=True))
        same = entry["auto"] == schedule_json(LINEAR)
        error = 0.0 if same else np.hypot(spread[0], spread[1])
        difference = "same" if same else f"{row[1] - row[0]:+.3f} ± {error:.3f}"
        auto, default = schedule_text(entry["auto"]), default_of(entry)
        lines.append(f"| {name} | {cells} | {difference} | {auto} | {default} |")
    mean, foreseen_mean = np.mean(scores, axis=0), np.mean(predicted, axis=0)
    cells = " | ".join(f"{a:.3f} ({b:.3f})" for a, b in zip(mean, foreseen_mean, strict=True))
    lines.append(f"| mean of {len(names)} | {cells} | {mean[1] - mean[0]:+.3f} | | |")
    difference = np.array(scores)[:, 1] - np.array(scores)[:, 0]
    error = np.hypot(np.array(errors)[:, 0], np.array(errors)[:, 1])
    for label, chosen_tasks in (
        ("Auto below linear", difference < 0),
        ("By more than two standard errors", difference < -2 * error),
    ):
        listed = ", ".join(name for name, at in zip(names, chosen_tasks, strict=True) if at)
        lines.append(f"\n{label}: {int(chosen_tasks.sum())} of {len(names)}. {listed}".rstrip())
    return "\n".join(lines)


def shrink(picture: Path) -> int:
    """Keep the colours of a picture that lines and text need, and return its bytes."""
    from PIL import Image

    with Image.open(picture) as image:
        few = image.convert("RGB").quantize(
            COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
        )
    few.save(picture, optimize=True)
    return picture.stat().st_size


def score(entry: HistoryQuality) -> float:
    """Return the R-squared of a straight line through the smoothed return."""
    value = None if entry.quality is None else entry.quality.r_squared
    return float("nan") if value is None else value


def bootstrap_error(entry: HistoryQuality) -> float:
    """Return the standard error of the R-squared, by resampling the episodes."""
    progress_E = np.concatenate([each.progress_E for each in entry.trajectories])
    returns_E = np.concatenate([each.returns_E for each in entry.trajectories])
    random = stream(0, "bootstrap", entry.task)
    middles = (np.arange(BINS) + 0.5) / BINS
    found = []
    for _ in range(RESAMPLES):
        index = random.integers(0, len(returns_E), len(returns_E))
        found.append(straightness(middles, binned_means(progress_E[index], returns_E[index], BINS)))
    return float(np.std(found))


def default_of(entry: dict[str, Any]) -> str:
    """Return which of the compared decays a task has by default."""
    return "auto" if isinstance(schedule_from_json(entry["schedule"]), Schedule) else "fitted"


def recorded() -> dict[str, dict[str, Any]]:
    """Return the catalogue's fits by task."""
    found: dict[str, dict[str, Any]] = json.loads(DATA.read_text(encoding="utf-8"))
    return found


def identity(task: TaskSpec) -> str:
    """Return a digest of the demonstrator that the package has for a task."""
    domain = domain_of(task)
    policy: PolicySpec | None = builtin_policy(task, domain, resolve_options(domain, {}))
    if policy is None:
        sys.exit(f"{task.name} has no demonstrator")
    digest = hashlib.sha256(json.dumps(policy_attributes(policy), sort_keys=True).encode())
    for name, values in sorted(policy.arrays.items()):
        digest.update(name.encode() + np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()[:16]


def say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
