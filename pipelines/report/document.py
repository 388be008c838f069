"""The whole content of a report as one JSON document, before anybody draws it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.artifacts.workspace import STAGE_OF_KIND
from pipelines.domains.registry import load_domains
from pipelines.report.figures import (
    Figure,
    compare,
    history_figures,
    rollout_figures,
    training_figure,
)
from pipelines.report.sources import Entry, Sources, domains_of, models_of, scored
from pipelines.rollout.prompt import KINDS as PROMPTS
from pipelines.rollout.report import act_of, rewards_of
from pipelines.rollout.scores import (
    LAST,
    best_shot,
    by_shot,
    mean_curve,
    summarize_curves,
    task_scores,
)
from pipelines.rollout.statistics import bootstrap_interval
from pipelines.tasks.registry import catalogue

if TYPE_CHECKING:
    from pipelines.artifacts.artifact import Artifact

#: Normalised return that counts as having got there.
GOAL = 0.9
_OPTIONS = {
    "demonstrators": "--demonstrators",
    "histories": "--histories",
    "datasets": "--dataset",
    "checkpoints": "--checkpoint",
}
"""The option that names a parent of each kind."""
_SEEDED = ("histories", "checkpoints", "rollouts")
_CHANGES = {"gravity", "viscosity", "setpoint"}
"""What `vintix rollout` changes in tasks by an option."""


def report_document(sources: Sources, reference: str | None = None) -> dict[str, Any]:
    """Return all numbers, curves and provenance of a report; JSON.

    Args:
        reference: The score reference it opens with; None for the artifacts' own.

    Returns:
        ``rollouts`` (references), ``reference``, ``goal`` (the normalised return that
        ``shots_to_goal`` counts to), ``views`` (by score reference: ``headline``, ``tables`` and
        ``figures``), ``comparison`` and ``figures`` (which no choice of reference touches),
        ``absent`` (tasks that could not be played), ``domains``, ``tasks``, ``film`` (null; see
        `pipelines.report.stage`) and ``provenance``.

    Raises:
        ArtifactCorruptError: The bytes of an artifact differ from its manifest's.
        ConfigError: No task has scores under the reference.
    """
    chosen = sources.chosen_reference(reference)
    references = sources.references or [chosen]
    training = training_figure(sources)
    return {
        "rollouts": [artifact.reference for artifact in sources.rollouts],
        "reference": chosen,
        "goal": GOAL,
        "views": {name: _view(sources, name) for name in references},
        "comparison": compare(sources.entries),
        "figures": [*history_figures(sources), *([] if training is None else [training])],
        "absent": sources.absent,
        "domains": domains_of(sources.entries),
        "tasks": list(dict.fromkeys(entry.name for entry in sources.entries)),
        "film": None,
        "provenance": provenance(sources, reference),
    }


def _view(sources: Sources, reference: str) -> dict[str, Any]:
    entries = [entry.under(reference) for entry in sources.entries]
    return {
        "headline": headline(sources, entries),
        "tables": domain_tables(entries),
        "figures": rollout_figures(entries, reference),
    }


def figures_of(document: dict[str, Any]) -> list[Figure]:
    """Return the figures as the document opens: by its own reference, and the others."""
    return [*document["views"][document["reference"]]["figures"], *document["figures"]]


def summary_document(document: dict[str, Any]) -> dict[str, Any]:
    """Return the tables and the provenance of a report, without its curves' drawings."""
    view = document["views"][document["reference"]]
    return {
        "rollouts": document["rollouts"],
        "reference": document["reference"],
        "goal": document["goal"],
        "headline": view["headline"],
        "domains": view["tables"],
        "comparison": document["comparison"],
        "absent": document["absent"],
        "figures": [
            {"id": figure["id"], "title": figure["title"], "paper": figure["paper"]}
            for figure in figures_of(document)
        ],
        "provenance": document["provenance"],
    }


def headline(sources: Sources, entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return a line for each model; JSON.

    Args:
        sources: The rollouts, and what they came from.
        entries: Their tasks, normalised by one reference.

    Returns:
        Objects with ``model``, ``checkpoint`` (its reference; null for a baseline), ``preset``,
        ``parameters``, ``data`` (references of its datasets), ``date`` (of the rollout, UTC),
        ``reference``, ``part`` (``training``, or ``all`` where no training task has a score),
        ``tasks``, ``seeds`` (the fewest of a task), and means over the tasks of the ``first`` shot
        and the ``last`` three with ``first_interval`` and ``last_interval``. Null is what the
        workspace does not say, and the means of a model none of whose tasks has a score.
    """
    lines = []
    for model in models_of(entries):
        mine = [entry for entry in entries if entry.model == model]
        known = scored(entry for entry in mine if entry.trained)
        part = "training" if known else "all"
        chosen = known or scored(mine)
        scores = summarize_curves([entry.curve for entry in chosen])
        artifact = next(each for each in sources.rollouts if each.reference == mine[0].artifact)
        lines.append(
            {
                "model": model,
                **_trained(sources, artifact),
                "date": artifact.manifest.created_at[:10],
                "reference": mine[0].curve.reference,
                "part": part,
                "tasks": len(chosen),
                "seeds": min((entry.curve.seeds for entry in chosen), default=0),
                "first": scores["first"]["mean"],
                "first_interval": scores["first"]["mean_interval"],
                "last": scores["last"]["mean"],
                "last_interval": scores["last"]["mean_interval"],
            }
        )
    return lines


def _trained(sources: Sources, rollout: Artifact) -> dict[str, Any]:
    parents = {parent.digest for parent in rollout.manifest.parents}
    found = [each for each in sources.of_kind("checkpoints") if each.digest in parents]
    if not found:
        named = [each for each in rollout.manifest.parents if each.kind == "checkpoints"]
        reference = f"{named[0].name}@v{named[0].version}" if named else None
        return {"checkpoint": reference, "preset": None, "parameters": None, "data": []}
    (checkpoint,) = found
    summary = checkpoint.manifest.summary
    return {
        "checkpoint": checkpoint.reference,
        "preset": summary.get("preset"),
        "parameters": summary.get("parameters"),
        "data": [
            f"{parent.name}@v{parent.version}"
            for parent in checkpoint.manifest.parents
            if parent.kind == "datasets"
        ],
    }


def domain_tables(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return a table for each domain and model; JSON.

    Args:
        entries: Tasks as played, normalised by one reference.

    Returns:
        Objects with ``domain``, ``model``, ``reference``, ``tasks`` (see `task_row`) and ``mean``:
        ``tasks`` in it, ``curve`` (mean by shot), ``shots_to_goal`` of it, and by ``first``,
        ``best``, ``last`` and maybe ``converged`` what `pipelines.rollout.statistics.summarize`
        gives. Only training tasks count in the mean, or all where there are none.
    """
    tables = []
    for domain in domains_of(entries):
        for model in models_of(entry for entry in entries if entry.domain == domain):
            part = [each for each in entries if (each.domain, each.model) == (domain, model)]
            tables.append(
                {
                    "domain": domain,
                    "model": model,
                    "reference": part[0].curve.reference,
                    "tasks": [task_row(entry) for entry in part],
                    "mean": _mean([entry for entry in part if entry.trained] or part),
                }
            )
    return tables


def task_row(entry: Entry) -> dict[str, Any]:
    """Return the row of a task: its returns, and its normalised scores where it has any.

    Returns:
        ``task``, ``part`` (``training``, ``variations`` or ``unseen``), ``artifact``, ``seeds``,
        ``shots``, ``random``, ``expert``, ``return_first``, ``return_last``; normalised
        ``first``, ``best``, ``last`` (means over seeds; ``last`` over three shots), their
        ``first_interval`` and so on (95 %, over seeds; null for one seed), ``best_shot``,
        ``shots_to_goal`` (the first shot whose mean over seeds is at least `GOAL`; null if none),
        ``curve`` (by shot) and ``success_last`` (share of episodes; null where there is none).
    """
    curve = entry.curve
    values_SE = curve.return_SE if curve.normalized is None else curve.normalized
    curve_E = by_shot(values_SE)
    row: dict[str, Any] = {
        "task": entry.name,
        "part": curve.part,
        "artifact": entry.artifact,
        "seeds": curve.seeds,
        "shots": curve.shots,
        "random": None if curve.score is None else curve.score.random,
        "expert": None if curve.score is None else curve.score.expert,
        "return_first": float(curve.return_SE[:, 0].mean()),
        "return_last": float(curve.return_SE[:, -LAST:].mean()),
        "success_last": None
        if curve.success_SE is None
        else float(curve.success_SE[:, -LAST:].mean()),
        "best_shot": best_shot(curve) + 1,
        "curve": curve_E.tolist(),
    }
    for kind in ("first", "best", "last"):
        scores_S = None if curve.score is None else task_scores(curve, kind)  # type: ignore[arg-type]
        row[kind] = None if scores_S is None else float(scores_S.mean())
        row[f"{kind}_interval"] = (
            list(bootstrap_interval([scores_S], np.mean))
            if scores_S is not None and len(scores_S) > 1
            else None
        )
    row["shots_to_goal"] = None if curve.score is None else shots_to_reach(curve_E, GOAL)
    return row


def shots_to_reach(curve_E: NDArray[np.float64], level: float) -> int | None:
    """Return the first shot, from 1, at which a curve is at least at a level; None if never."""
    reached = np.flatnonzero(np.asarray(curve_E) >= level)
    return int(reached[0]) + 1 if len(reached) else None


def _mean(entries: Sequence[Entry]) -> dict[str, Any]:
    known = [entry.curve for entry in entries if entry.curve.score is not None]
    curve_E = mean_curve(known)
    return {
        "tasks": len(known),
        "curve": curve_E.tolist(),
        "shots_to_goal": shots_to_reach(curve_E, GOAL),
        **summarize_curves(known),
    }


def provenance(sources: Sources, reference: str | None = None) -> dict[str, Any]:
    """Return what made a report; JSON.

    Args:
        reference: The score reference that was asked for.

    Returns:
        ``vintix`` (the version that made it), ``command`` (that makes it again), ``artifacts``,
        rollouts first, each with ``reference``, ``digest``, ``created_at``, ``git_revision``,
        ``packages``, ``seeds``, ``parents`` (``reference`` and ``digest``), ``command`` and
        ``config``, and ``missing``: references of ancestors that are not in the workspace.
    """
    from pipelines import __version__

    words = ["vintix", "report", *(artifact.reference for artifact in sources.rollouts)]
    shown = dict.fromkeys(entry.name for entry in sources.entries)
    if not all(shown.keys() >= {*each.manifest.summary["tasks"]} for each in sources.rollouts):
        words += [word for name in shown for word in ("--task", name)]
    if reference is not None:
        words += ["--reference", reference]
    return {
        "vintix": __version__,
        "command": shlex.join(words),
        "artifacts": [_record(artifact) for artifact in sources.lineage],
        "missing": list(sources.missing),
    }


def _record(artifact: Artifact) -> dict[str, Any]:
    manifest = artifact.manifest
    return {
        "reference": f"{artifact.kind}/{artifact.reference}",
        "digest": manifest.digest,
        "created_at": manifest.created_at,
        "git_revision": manifest.git_revision,
        "packages": dict(sorted(manifest.packages.items())),
        "seeds": dict(manifest.seeds),
        "parents": [
            {"reference": parent.reference, "digest": parent.digest} for parent in manifest.parents
        ],
        "command": _command(artifact),
        "config": manifest.config,
    }


def _command(artifact: Artifact) -> str:
    """Return the command that makes an artifact from these parents; other settings: ``config``."""
    manifest = artifact.manifest
    words = ["vintix", *STAGE_OF_KIND[artifact.kind].split()]
    for parent in manifest.parents:
        if artifact.kind == "rollouts" and parent.kind in PROMPTS:
            words += ["--prompt", parent.reference]
        elif artifact.kind == "rollouts" and parent.kind == "demonstrators":
            # A baseline finds them by itself.
            continue
        elif parent.kind in _OPTIONS:
            words += [_OPTIONS[parent.kind], f"{parent.name}@v{parent.version}"]
    agent, name = manifest.config.get("agent"), manifest.name
    if agent is None:
        # What the command puts behind the name by itself.
        if act_of(artifact) == "greedy":
            name = name.removesuffix("-greedy")
        words += ["--name", name.removesuffix(f"-{rewards_of(artifact)}-rewards")]
    else:
        # Beside the rollout of the checkpoint whose tasks it plays, which is no parent of it.
        words += ["--name", name.removesuffix(f"-{agent}"), "--baseline", agent]
    if artifact.kind == "rollouts":
        words += _rollout_options(artifact)
    if artifact.kind in _SEEDED and isinstance(manifest.config.get("seed"), int):
        words += ["--seed", str(manifest.config["seed"])]
    return shlex.join(words)


def _rollout_options(artifact: Artifact) -> list[str]:
    """Return the options of ``vintix rollout`` that choose what a rollout played, and how."""
    config = artifact.manifest.config
    tasks: dict[str, Any] = config.get("tasks", {})
    played: dict[str, dict[str, Any]] = {name: dict(artifact.group(name).attrs) for name in tasks}
    words = _chosen_tasks(config, played)
    shots = {each.get("shots") for each in tasks.values()}
    if len(shots) == 1 and None not in shots:
        words += ["--shots", str(shots.pop())]
    words += ["--seeds", str(config.get("seeds", 1))]
    for name, value in _domain_options(tasks, played).items():
        words += ["--option", f"{name}={value}"]
    sources = {
        each["statistics"]
        for name, each in tasks.items()
        if each.get("statistics") not in (None, name, played[name]["task"]["variation_of"])
    }
    stats = {each.partition(":")[0] if ":" in each else f"task:{each}" for each in sources}
    if len(stats) == 1:
        words += ["--stats", stats.pop()]
    for name in ("suite", "rewards", "act", "context", "cache", "sinks", "converged"):
        if config.get(name):
            words += [f"--{name}", str(config[name])]
    if config.get("reference", "measured") != "measured":
        words += ["--reference", config["reference"]]
    return words


def _chosen_tasks(config: Mapping[str, Any], played: Mapping[str, Any]) -> list[str]:
    """Return the options that choose tasks: by name, or base tasks and what is changed in them."""
    names = [*played, *config.get("absent", ())]
    whole = {each.name for each in (*catalogue().tasks, *catalogue().variations)}
    if config.get("suite") and set(names) == whole:
        return []
    changes = [config["tasks"][name].get("variation") or {} for name in played]
    shared = changes[0] if changes and all(each == changes[0] for each in changes) else {}
    if not shared or not set(shared) <= _CHANGES or config.get("suite"):
        return [word for name in names for word in ("--task", name)]
    bases = [each["task"]["variation_of"] for each in played.values()]
    words = [word for name in bases for word in ("--task", name)]
    for name, value in shared.items():
        words += [f"--{name}", str(value).removesuffix("x")]
    return words


def _domain_options(tasks: Mapping[str, Any], played: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of domains that are neither the default nor those of the data.

    Those that only some tasks had are the data's: a command sets an option for all tasks alike.
    """
    values: dict[str, list[Any]] = {}
    given = set()
    for name, each in tasks.items():
        domain = load_domains().get(played[name]["task"]["domain"])
        usual = {} if domain is None else {spec.name: spec.default for spec in domain.options()}
        for option, value in (each.get("options") or {}).items():
            if option in (each.get("variation") or {}):
                continue
            values.setdefault(option, []).append(value)
            if value != usual.get(option) or option in played[name].get("data_options", ()):
                given.add(option)
    return {
        option: found[0]
        for option, found in values.items()
        if option in given and all(value == found[0] for value in found)
    }
