"""Trains the experts that come with the package and writes pipelines/demonstrators/data.

The runs are in runs/experts.yaml and runs/hand_experts.yaml: tasks, seeds and settings of `vintix
demonstrators --source train`. Each task and seed of a run is one artifact in the workspace,
`<task>-<run>-<seed>`: what was interrupted goes on from its last checkpoint, what is finished is
found again. Of all finished trainings of a task, the policy with the best evaluation return while
training is packed, where it beats what the package has for the task without training; it is then
measured on other episodes, those of `vintix demonstrators --episodes 50`.

    python runs/train_experts.py               # all runs, then pack
    python runs/train_experts.py --run hopper  # one of them, then pack what is finished
    python runs/train_experts.py --run none    # pack what is finished

A training takes one core. On more of them, start the command once for each, with other runs and
--no-pack, and pack at the end.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from filelock import FileLock

from pipelines.artifacts.artifact import Artifact
from pipelines.artifacts.workspace import Workspace
from pipelines.demonstrators import stage
from pipelines.demonstrators.config import DemonstratorsConfig
from pipelines.demonstrators.evaluate import Evaluator
from pipelines.demonstrators.experts import (
    DATA,
    Expert,
    builtin_policy,
    read_experts,
    write_experts,
)
from pipelines.demonstrators.reader import demonstrator_tasks, load_demonstrator
from pipelines.domains.registry import domain_of, full_catalogue, resolve_options
from pipelines.errors import ArtifactMissingError, InterruptedRunError, VintixError
from pipelines.policies.base import PolicySpec
from pipelines.reporter import NullReporter

RUNS = [Path(__file__).with_name(name) for name in ("experts.yaml", "hand_experts.yaml")]
EPISODES = 50


def configurations(chosen: list[str]) -> Iterator[tuple[str, DemonstratorsConfig]]:
    """Yield the trainings of the files with the names of their runs, seed after seed."""
    runs: dict[str, dict[str, Any]] = {}
    for path in RUNS:
        runs |= yaml.safe_load(path.read_text(encoding="utf-8"))
    for name, run in runs.items():
        if chosen and name not in chosen:
            continue
        for seed in run["seeds"]:
            for task in run["tasks"]:
                yield (
                    name,
                    DemonstratorsConfig(
                        name=f"{task}-{name}-{seed}",
                        tasks=(task,),
                        seed=seed,
                        source="train",
                        episodes=EPISODES,
                        workers=1,
                        train=run["train"],
                    ),
                )


def train(options: argparse.Namespace, workspace: Workspace) -> bool:
    """Train what is chosen; a training that fails does not stop the others."""
    well = True
    for _, config in configurations(options.run):
        say(f"{config.name} ...")
        try:
            result = stage.run(config, workspace, NullReporter())
        except VintixError as error:
            say(f"{config.name}: {error}")
            well = False
            continue
        for row in result.report["tasks"]:
            say(f"  {row['name']}: {row['expert']['mean']:.1f}")
    return well


def finished(workspace: Workspace) -> Iterator[tuple[str, int, Artifact]]:
    """Yield the trainings that are finished: name of the run, seed, artifact."""
    for name, config in configurations([]):
        try:
            yield name, config.seed, workspace.find("demonstrators", str(config.name))
        except ArtifactMissingError:
            continue


def pack(workspace: Workspace) -> None:
    """Choose among the finished runs and write the files of their domains."""
    best: dict[str, tuple[float, dict[str, Any], PolicySpec]] = {}
    for name, seed, artifact in finished(workspace):
        for task in demonstrator_tasks(artifact):
            found = load_demonstrator(artifact, task)
            score = max(value for _, value in found.source["curve"])
            if task not in best or score > best[task][0]:
                training = {
                    "run": name,
                    "seed": seed,
                    "steps": found.source["steps"],
                    "settings": found.source["settings"],
                    "command": f"vintix demonstrators --source train --task {task} --seed {seed}",
                }
                best[task] = (score, training, float32(found.spec))
    catalogue = full_catalogue()
    for domain in sorted({catalogue.get(task).domain for task in best}):
        experts = dict(read_experts(domain))
        for task, (_, training, policy) in sorted(best.items()):
            if catalogue.get(task).domain == domain:
                before = experts.get(task)
                if before is None or before.training != training or differs(before, policy):
                    experts.pop(task, None)
                    expert = measure(task, training, policy)
                    if expert is not None:
                        experts[task] = expert
        write_experts(domain, experts)
        size = sum(path.stat().st_size for path in DATA.glob(f"{domain}.*"))
        say(f"{domain}: {len(experts)} experts, {size:,} bytes")


def measure(name: str, training: dict[str, Any], policy: PolicySpec) -> Expert | None:
    """Measure a policy as the stage measures it; None where the package has a better one."""
    task = full_catalogue().get(name)
    domain = domain_of(task)
    options = resolve_options(domain, {})
    with Evaluator(task, domain, options, seed=0) as evaluator:
        returns = evaluator.policy(policy, EPISODES)
        random = evaluator.random(EPISODES)
        untrained = builtin_policy(task, domain, options, trained=False)
        if untrained is not None:
            other = evaluator.policy(untrained, EPISODES).returns_E.mean()
            if other >= returns.returns_E.mean():
                say(f"  {name}: {returns.returns_E.mean():.1f} trained, {other:.1f} without")
                return None
    card = stage.score_card(random, returns, task.scores.get("paper"))
    paper = card["paper"]
    beside = "" if paper is None else f", {paper['normalized_expert']:.3f} of the paper's"
    say(f"  {name}: {card['expert']['mean']:.1f}{beside}")
    return Expert(policy, training, card)


def float32(policy: PolicySpec) -> PolicySpec:
    """Return a policy with the precision that it is packed with."""
    arrays = {name: np.asarray(a, dtype=np.float32) for name, a in policy.arrays.items()}
    return PolicySpec(policy.kind, policy.config, arrays)


def differs(before: Expert, policy: PolicySpec) -> bool:
    """Tell whether a packed policy has other weights than this one."""
    return any(not np.array_equal(before.policy.arrays[n], a) for n, a in policy.arrays.items())


def say(text: str) -> None:
    sys.stderr.write(text + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", action="append", default=[], help="a run of the file, again")
    parser.add_argument("--workspace", type=Path, default=Path("experts"))
    parser.add_argument("--no-pack", action="store_true", help="only train")
    options = parser.parse_args()
    workspace = Workspace(options.workspace)
    try:
        well = train(options, workspace)
    except InterruptedRunError as error:
        say(str(error))
        sys.exit(error.exit_code)
    if not options.no_pack:
        # Runs may be trained by several processes at once.
        with FileLock(options.workspace / ".pack.lock"):
            pack(workspace)
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
