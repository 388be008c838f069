"""Whether reward drives the rise with shots: what is lost when it is hidden or falsified.

A checkpoint plays the same episodes with true rewards and with others (`Rewards` in
`pipelines.rollout.config`). A rise that stays without true reward is no reinforcement: the model
may read how good its actions were off the actions themselves, for noise shows.

Shapes: T tasks, S seeds of a task, R resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.errors import UsageError
from pipelines.rollout.report import checkpoint_of, rewards_of
from pipelines.rollout.scores import ALL, task_scores
from pipelines.rollout.statistics import bootstrap_draws, interval

if TYPE_CHECKING:
    from pipelines.artifacts.artifact import Artifact
    from pipelines.model.saved import SavedModel
    from pipelines.rollout.scores import TaskCurve

REWARD_USE = "reward-use"
"""Name of the suite."""


def check_sees_rewards(label: str, model: SavedModel | None, option: str) -> None:
    """Refuse a checkpoint that was trained without rewards.

    Args:
        option: What asks for rewards, for the error.

    Raises:
        UsageError: It was.
    """
    if model is not None and model.masks_rewards:
        raise UsageError(
            "the checkpoint never sees rewards, so none can be taken from it",
            where=f"{option}, checkpoint {label}",
            expected="a checkpoint of a method with rewards, such as ad or dpt",
            found=model.method,
            fix="--checkpoint with another one",
        )


def reward_use(artifacts: Sequence[Artifact]) -> list[dict[str, Any]]:
    """Return how much of the rise each checkpoint loses without true rewards; JSON.

    Args:
        artifacts: Rollouts; those of one checkpoint differ in what it was shown as rewards. Those
            of baselines, and of checkpoints that did not play with true ones, are left out.

    Returns:
        A row for each checkpoint, domain and kind of rewards other than the true ones, and where
        there are several domains for all together; see `share_lost`, besides ``checkpoint``,
        ``domain`` and ``rewards``. Tasks without a score reference are left out.

    Raises:
        ArtifactCorruptError: A file is damaged.
    """
    from pipelines.rollout.scores import load_curves

    played: dict[str, dict[str, list[TaskCurve]]] = {}
    for artifact in artifacts:
        checkpoint = checkpoint_of(artifact)
        if checkpoint is not None:
            curves = [curve for curve in load_curves(artifact) if curve.score is not None]
            played.setdefault(checkpoint, {})[rewards_of(artifact)] = curves
    rows = []
    for checkpoint, conditions in played.items():
        true = conditions.pop("true", [])
        domains = list(dict.fromkeys(curve.domain for curve in true))
        for domain in [*domains, *([ALL] if len(domains) > 1 else [])]:
            for rewards, others in conditions.items():
                mine = [curve for curve in true if domain in (ALL, curve.domain)]
                lost = share_lost(mine, {curve.name: curve for curve in others})
                rows.append(
                    {"checkpoint": checkpoint, "domain": domain, "rewards": rewards, **lost}
                )
    return rows


def share_lost(true: Sequence[TaskCurve], others: Mapping[str, TaskCurve]) -> dict[str, Any]:
    """Return which share of the rise with shots is lost under other rewards; JSON.

    Args:
        true: Curves of tasks, with scores, under true rewards; at least one.
        others: The same tasks and seeds under other ones, by name.

    Returns:
        ``tasks``, ``seeds``; ``first`` and ``last``, the mean scores of the first and of the last
        three shots under true rewards; ``rise``, their difference; ``last_without``, the last
        three under the others; ``lost``, what it is less; ``share``, ``lost / rise``. ``rise``,
        ``lost`` and ``share`` have ``_interval``, the 95 % interval of a bootstrap over seeds,
        drawn alike for both: they play the same episodes; null with one seed. ``share`` and its
        interval are null where the interval of the rise reaches 0, as there is no rise then of
        which a share could be given; the interval also where a resample has neither rise nor loss.
    """
    parts = [
        np.stack(
            [
                task_scores(curve, "first"),
                task_scores(curve, "last"),
                task_scores(others[curve.name], "last"),
            ]
        )
        for curve in true
    ]
    seeds = min(part.shape[1] for part in parts)
    first, last, without = (
        float(each) for each in np.mean([p.mean(axis=1) for p in parts], axis=0)
    )
    rise, lost = last - first, last - without
    report: dict[str, Any] = {
        "tasks": len(parts),
        "seeds": seeds,
        "first": first,
        "last": last,
        "rise": rise,
        "last_without": without,
        "lost": lost,
        "share": lost / rise if rise > 0 else None,
        **dict.fromkeys(("rise_interval", "lost_interval", "share_interval")),
    }
    if seeds > 1:
        drawn = bootstrap_draws([p.shape[1] for p in parts], [curve.base for curve in true])
        # Three scores of each resample, (3, R).
        means = [p[:, index].mean(axis=2) for p, index in zip(parts, drawn, strict=True)]
        resampled = np.mean(means, axis=0)
        rise_R, lost_R = resampled[1] - resampled[0], resampled[1] - resampled[2]
        report |= {"rise_interval": interval(rise_R), "lost_interval": interval(lost_R)}
        if report["rise_interval"][0] > 0:
            # Among the resamples that the interval of the rise leaves out, one may rise by nothing.
            with np.errstate(divide="ignore", invalid="ignore"):
                bounds = interval(lost_R / rise_R)
            report["share_interval"] = bounds if np.isfinite(bounds).all() else None
        else:
            report["share"] = None
    return report
