"""Curves of returns against shots, normalised by one named reference, and their summary numbers.

Shapes: S streams (seeds) of a task, E shots.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import ConfigError
from pipelines.rollout.fallback import foreign_source
from pipelines.rollout.statistics import standard_error, summarize
from pipelines.tasks.spec import REFERENCES, ScoreReference, score_of

if TYPE_CHECKING:
    import zarr

    from pipelines.artifacts.artifact import Artifact

OpenGroup = Callable[[str], "zarr.Group"]
"""Opens a group of a hierarchy by its path."""

Kind = Literal["first", "best", "last", "converged"]
"""Which episodes of a stream a score is taken from; see `task_scores`."""

LAST = 3
"""Shots at the end of a curve whose mean counts as where it has arrived."""

ALL = "all"
"""Stands for every domain, or every part."""

PARTS = ("training", "variations", "unseen")
"""Training tasks (Figure 4), changed parameters (Figure 6), new tasks (Figure 7)."""


@dataclass(frozen=True)
class TaskCurve:
    """What the streams of one task reached at each shot.

    Attributes:
        return_SE: float64, episode returns, unscaled.
        length_SE: int32, episode lengths, steps.
        success_SE: bool, or None where the domain knows no success.
        reference: Name of the score reference that `score` is.
        score: Random and expert return; None where the reference does not have the task.
        further_SE: float64, returns of the episodes played after the curve's shots for the
            converged score, (S, N); None where none were.
        further_success_SE: bool, their success; None where either is not known.
        split: ``train`` or ``validation``, as the catalogue has it.
        statistics: Whose normalisation statistics it was played with: a task of the checkpoint, or
            ``group:NAME`` or ``running:NAME``; None where nothing is normalised.
        data_options: Options that the data of the statistics was recorded under, where they are
            not those it was played under; None where they are.
    """

    name: str
    domain: str
    group: str
    variation_of: str | None
    return_SE: NDArray[np.float64]
    length_SE: NDArray[np.int32]
    success_SE: NDArray[np.bool_] | None
    reference: str
    score: ScoreReference | None
    further_SE: NDArray[np.float64] | None = None
    further_success_SE: NDArray[np.bool_] | None = None
    split: str = "train"
    statistics: str | None = None
    data_options: Mapping[str, Any] | None = None

    @property
    def seeds(self) -> int:
        """Independent streams."""
        return int(self.return_SE.shape[0])

    @property
    def shots(self) -> int:
        """Episodes of each stream."""
        return int(self.return_SE.shape[1])

    @property
    def normalized(self) -> NDArray[np.float64] | None:
        """Normalised returns, 0 random play and 1 the expert; None without a score."""
        return None if self.score is None else self.score.normalize(self.return_SE)

    @property
    def part(self) -> str:
        """Which of the paper's evaluations the task belongs to; see `PARTS`."""
        return part_of(vars(self))

    @property
    def base(self) -> str:
        """What keys the seeds of the task's episodes."""
        return self.variation_of or self.name


def part_of(task: Mapping[str, Any]) -> str:
    """Return the part of the paper's evaluations that a task, as JSON, belongs to."""
    from pipelines.domains.base import Domain
    from pipelines.domains.registry import load_domains

    if task["variation_of"] is not None:
        return "variations"
    if task["split"] == "train":
        return "training"
    domain = load_domains().get(task["domain"], Domain)
    return "variations" if domain.held_out_are_variations else "unseen"


def by_shot(values_SE: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean over seeds at each shot (E,)."""
    return np.asarray(values_SE, np.float64).mean(axis=0)


def last_mean(curve_E: NDArray[np.float64]) -> float:
    """Return the mean of the last three shots, or of all where there are fewer."""
    return float(curve_E[-LAST:].mean())


def mean_curve(curves: Sequence[TaskCurve]) -> NDArray[np.float64]:
    """Return the normalised return at each shot, averaged over tasks.

    Every task counts once, by its mean over seeds. The curve ends with the fewest shots of any
    task: beyond it the mean would be over other tasks than before.

    Returns:
        (E,), empty where no task has a score.
    """
    normalized = [curve.normalized for curve in curves]
    known = [by_shot(values) for values in normalized if values is not None]
    if not known:
        return np.empty(0)
    shots = min(len(curve_E) for curve_E in known)
    return np.mean([curve_E[:shots] for curve_E in known], axis=0)


def task_report(curve: TaskCurve) -> dict[str, Any]:
    """Return the JSON object of one task; `normalized_*` are null where it has no score.

    Fields ending in ``_by_shot`` have one number a shot, the mean over seeds.
    """
    report: dict[str, Any] = {
        "name": curve.name,
        "domain": curve.domain,
        "group": curve.group,
        "variation_of": curve.variation_of,
        "part": curve.part,
        "statistics": curve.statistics,
        "foreign_statistics": foreign_source(curve.name, curve.statistics, curve.data_options),
        "seeds": curve.seeds,
        "shots": curve.shots,
        "reference": curve.reference,
        "random": None if curve.score is None else curve.score.random,
        "expert": None if curve.score is None else curve.score.expert,
        **_columns("returns", "return", curve.return_SE),
        "episode_length_by_shot": by_shot(curve.length_SE).tolist(),
        "success_by_shot": (
            None if curve.success_SE is None else by_shot(curve.success_SE).tolist()
        ),
    }
    report["best_shot"] = best_shot(curve) + 1
    report["converged"] = _converged(curve)
    normalized_SE = curve.normalized
    if normalized_SE is not None:
        return {**report, **_columns("normalized", "normalized", normalized_SE)}
    empty = dict.fromkeys(_columns("normalized", "normalized", curve.return_SE))
    return {**report, **empty}


def _converged(curve: TaskCurve) -> dict[str, Any] | None:
    """Return what a task did after shot k, or None where no further episodes were played."""
    if curve.further_SE is None:
        return None
    return {
        "episodes": curve.further_SE.shape[1],
        "return": float(_of_kind(curve, "converged", curve.return_SE, curve.further_SE).mean()),
        "normalized": float(task_scores(curve, "converged").mean()) if curve.score else None,
        "success": (
            None if curve.success_SE is None else float(success_rates(curve, "converged").mean())
        ),
    }


def regret(curve: TaskCurve, best: TaskCurve) -> dict[str, float | None]:
    """Return what an agent earned less than the demonstrator over all shots of a stream; JSON.

    The two have played the same episodes. Of a bandit, whose demonstrator pulls the best arm, it is
    the regret after all pulls.

    Returns:
        ``mean`` over seeds, in units of return, and its ``stderr`` over seeds, null for one seed.
    """
    lost_S1 = (best.return_SE - curve.return_SE).sum(axis=1, keepdims=True)
    error = standard_error(lost_S1)
    return {"mean": float(lost_S1.mean()), "stderr": None if error is None else float(error[0])}


def summary(curves: Sequence[TaskCurve]) -> dict[str, Any]:
    """Return the numbers over all tasks that have a score.

    First, last three and best are taken per task, over its own shots, and then averaged; the
    standard errors are over tasks.
    """
    known = [curve for curve in curves if curve.score is not None]
    reports = [task_report(curve) for curve in known]
    result: dict[str, Any] = {
        "mean_normalized_by_shot": mean_curve(known).tolist(),
        "tasks_in_mean": len(known),
    }
    for field in ("first", "last3", "best"):
        values = np.array([report[f"normalized_{field}"] for report in reports])
        error = standard_error(values)
        result[f"mean_normalized_{field}"] = float(values.mean()) if known else None
        result[f"mean_normalized_{field}_stderr"] = None if error is None else float(error)
    return result


def task_scores(curve: TaskCurve, kind: Kind) -> NDArray[np.float64]:
    """Return one normalised score of each seed of a task, (S,).

    Args:
        curve: With a score reference.
        kind: ``first``: the first shot, from an empty context. ``best``: the shot k at which the
            mean over seeds is highest, the same k for all seeds (the best k-shot performance of
            section 3.2). Because k is chosen after the fact, its mean is above what one would see
            at k again. ``last``: the mean of the last three shots. ``converged``: the mean of the
            episodes recorded after shot k (section 3.2: 100 of them), which had no say in k.

    Raises:
        ValueError: The task has no score reference, or no episodes after convergence.
    """
    if curve.score is None:
        raise ValueError(f"task {curve.name} has no score reference {curve.reference!r}")
    further_SE = None if curve.further_SE is None else curve.score.normalize(curve.further_SE)
    return _of_kind(curve, kind, curve.score.normalize(curve.return_SE), further_SE)


def success_rates(curve: TaskCurve, kind: Kind) -> NDArray[np.float64]:
    """Return the share of successful episodes of each seed of a task, (S,).

    Args:
        curve: With success.
        kind: As in `task_scores`; shot k is the one with the best return, not the best success.

    Raises:
        ValueError: The domain knows no success, or there are no episodes after convergence.
    """
    if curve.success_SE is None:
        raise ValueError(f"task {curve.name} knows no success")
    return _of_kind(curve, kind, curve.success_SE, curve.further_success_SE)


def best_shot(curve: TaskCurve) -> int:
    """Return the index of the shot whose mean over seeds is best, the first of equals."""
    score = curve.score
    # A reference may have its expert below random play; the best shot is then the lowest.
    values_SE = curve.return_SE if score is None else score.normalize(curve.return_SE)
    return int(values_SE.mean(axis=0).argmax())


def _of_kind(
    curve: TaskCurve, kind: Kind, shots_SE: NDArray[Any], further_SE: NDArray[Any] | None
) -> NDArray[np.float64]:
    """Return the mean (S,) over the episodes of a kind."""
    best, shots = best_shot(curve), shots_SE.shape[1]
    episodes = {
        "first": slice(1),
        "last": slice(max(0, shots - LAST), None),
        "best": slice(best, best + 1),
    }
    if kind in episodes:
        return np.asarray(shots_SE[:, episodes[kind]], np.float64).mean(axis=1)
    if further_SE is None:
        raise ValueError(f"task {curve.name} has no episodes after convergence")
    played_SE = np.concatenate([shots_SE, further_SE], axis=1).astype(np.float64)
    return played_SE[:, best + 1 : best + 1 + further_SE.shape[1]].mean(axis=1)


def summarize_curves(curves: Sequence[TaskCurve], zeros: int = 0) -> dict[str, dict[str, Any]]:
    """Return `summarize` of each kind of score over the tasks that have a score reference.

    Args:
        curves: Tasks; those without a score are left out.
        zeros: Further tasks that count as 0, as random play does: the model cannot play them.

    Returns:
        By kind, ``first``, ``best``, ``last`` and, where every task has it, ``converged``. Each
        has ``success`` besides: `summarize` of the success rates of the tasks that know it, or
        null without any.
    """
    known = [curve for curve in curves if curve.score is not None]
    with_success = [curve for curve in curves if curve.success_SE is not None]
    seeds = max((curve.seeds for curve in known), default=1)
    bases = [curve.base for curve in known] + [f"zero {index}" for index in range(zeros)]
    report: dict[str, dict[str, Any]] = {}
    for kind in score_kinds(curves):
        samples = [task_scores(curve, kind) for curve in known] + [np.zeros(seeds)] * zeros
        rates = [success_rates(curve, kind) for curve in with_success]
        success = (
            summarize(rates, together=[curve.base for curve in with_success]) if rates else None
        )
        report[kind] = {**summarize(samples, together=bases), "success": success}
    return report


def score_kinds(curves: Sequence[TaskCurve]) -> tuple[Kind, ...]:
    """Return the kinds of scores that all of some tasks have."""
    if curves and all(curve.further_SE is not None for curve in curves):
        return ("first", "best", "last", "converged")
    return ("first", "best", "last")


def score_rows(
    curves: Sequence[TaskCurve], absent: Sequence[Mapping[str, Any]] = ()
) -> list[dict[str, Any]]:
    """Return the aggregate scores of a rollout; JSON.

    Args:
        absent: Tasks of a suite that could not be played, as the artifact names them; each counts
            as 0, the score of random play (Appendix A.2.3).

    Returns:
        A row for each domain and part that has tasks, for each of several parts over several
        domains, and, where there is more than one row, a last one over all. Each has ``domain``,
        ``part``, ``tasks`` (those with a score, zeros included), ``zeros``, and ``scores``, by
        kind as `summarize_curves` has them.
    """
    absent_at = [(task["domain"], part_of(task)) for task in absent]
    found = dict.fromkeys([(curve.domain, curve.part) for curve in curves] + absent_at)
    domains = list(dict.fromkeys(domain for domain, _ in found))
    places = sorted(found, key=lambda place: (domains.index(place[0]), PARTS.index(place[1])))
    several = len({part for _, part in found}) > 1
    for part in PARTS:
        if several and sum(at == part for _, at in found) > 1:
            places.append((ALL, part))
    if len(found) > 1:
        places.append((ALL, ALL))
    rows = []
    for domain, part in places:
        zeros = sum(domain in (ALL, at[0]) and part in (ALL, at[1]) for at in absent_at)
        played = [
            curve for curve in curves if domain in (ALL, curve.domain) and part in (ALL, curve.part)
        ]
        scores = summarize_curves(played, zeros)
        tasks = scores["first"]["tasks"]
        rows.append(
            {"domain": domain, "part": part, "tasks": tasks, "zeros": zeros, "scores": scores}
        )
    return rows


def load_curves(artifact: Artifact, reference: str | None = None) -> list[TaskCurve]:
    """Read the curves of a rollouts artifact, in the order they were played.

    Args:
        artifact: Of kind ``rollouts``.
        reference: Another score reference than the one it was made with.

    Raises:
        ArtifactCorruptError: A file is damaged.
        ConfigError: None of its tasks has scores under that reference.
    """
    curves = [
        read_curve(artifact.group, task, reference) for task in artifact.manifest.summary["tasks"]
    ]
    if reference is not None and all(curve.score is None for curve in curves):
        known = [
            name
            for name in REFERENCES
            if any(read_curve(artifact.group, curve.name, name).score for curve in curves)
        ]
        raise ConfigError(
            f"no task of the rollout has a score reference {reference!r}",
            where=artifact.reference,
            expected=" or ".join(known) or "a task with scores",
            found=reference,
            fix=f"--reference {known[0]}" if known else "leave --reference out",
        )
    return curves


def _columns(prefix: str, short: str, values_SE: NDArray[Any]) -> dict[str, Any]:
    curve_E, error_E = by_shot(values_SE), standard_error(values_SE)
    return {
        f"{prefix}_by_shot": curve_E.tolist(),
        f"{prefix}_stderr_by_shot": None if error_E is None else error_E.tolist(),
        f"{short}_first": float(curve_E[0]),
        f"{short}_last3": last_mean(curve_E),
        f"{short}_best": float(curve_E.max()),
    }


def read_curve(open_group: OpenGroup, task: str, reference: str | None = None) -> TaskCurve:
    """Read one task's curve from a hierarchy of the kind ``rollouts``, published or staged.

    Args:
        task: Its name.
        reference: Another score reference than the recorded one.
    """
    attributes: dict[str, Any] = dict(open_group(task).attrs)
    streams = [open_group(f"{task}/{stream:05d}") for stream in range(attributes["streams"])]
    chosen = reference or attributes["reference"]
    # Those after the curve's own, where there are any, are for the converged score alone.
    shots = attributes["shots"]
    return_SE = _stack(streams, "episode_return")
    success_SE = _stack(streams, "success") if attributes["success"] else None
    further = bool(attributes.get("converged"))
    return TaskCurve(
        name=task,
        domain=attributes["task"]["domain"],
        group=attributes["task"]["group"],
        variation_of=attributes["task"]["variation_of"],
        return_SE=return_SE[:, :shots],
        length_SE=_stack(streams, "episode_length")[:, :shots],
        success_SE=None if success_SE is None else success_SE[:, :shots],
        reference=chosen,
        score=score_of(attributes["scores"], chosen),
        further_SE=return_SE[:, shots:] if further else None,
        further_success_SE=success_SE[:, shots:] if further and success_SE is not None else None,
        split=attributes["task"].get("split", "train"),
        statistics=attributes.get("statistics"),
        data_options=attributes.get("data_options"),
    )


def _stack(streams: Sequence[zarr.Group], name: str) -> NDArray[Any]:
    return np.stack([np.asarray(stream[name][...]) for stream in streams])  # type: ignore[index]
