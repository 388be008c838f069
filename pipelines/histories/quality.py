"""How much a history looks like learning: a return that rises smoothly from random to expert.

Everything is told in normalised return, 0 for random play and 1 for the demonstrator as measured
when the demonstrator was made, against progress, the share of a trajectory's steps done. The
smoothed return is the mean over the episodes of all trajectories in bins of progress, as the paper
aggregates trajectories in its Figures 9 to 13.

Shapes: N trajectories, E complete episodes of all of them, C bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipelines.histories.source import HistorySource

BINS = 20
"""Most bins of the smoothed return."""

EPISODES_A_BIN = 5
"""Episodes that a bin has on average, at least; shorter histories have fewer bins."""

MOST_AT_START = 0.5
"""A history that begins more than half of the way up shows no beginner: the first tenth of a
straight line lies at 0.05, and of the paper's Figures 9 to 13 none begins above one half."""

LEAST_AT_END = 0.7
"""A history that ends below this does not show its demonstrator. Even without a noise-free tail
(f = 0), the last tenth of a straight line lies at 0.95."""

LEAST_RANK_CORRELATION = 0.5
"""Over twenty bins without any trend, Spearman's correlation spreads by 0.23: one half is beyond
two such spreads, and far from the 0.9 and more of a return that rises."""

MOST_IN_A_TENTH = 0.75
"""A history with more of its steps than this in one tenth of the way from random to expert stands
still; of a straight line, a tenth of them is there. Under linear decay, the histories that lay
above 0.8 had an R-squared of 0.3 to 0.4, and those below 0.7 one of 0.47 and more; with decays that
were fitted none came above 0.5 (docs/schedules.md)."""

LARGEST_JUMP = 0.75
"""A history whose mean moves by more than this from one tenth of the trajectory to the next shows
a beginner and an expert, and nobody between them; a straight line moves by 0.1."""

LEAST_EPISODES = 100
"""Episodes below which nothing is judged: a tenth of the history then has fewer than ten, whose
mean is off by chance."""

LEAST_EPISODES_A_TRAJECTORY = 10
"""The same for each trajectory: a single episode would span more than a tenth of the noise."""

_SPREADS = 2.0
"""Standard errors by which a start, an end or a jump has to miss its threshold."""

Verdict = Literal["good", "poor", "short", "unmeasured", "unjudged"]


@dataclass(frozen=True, slots=True, eq=False)
class Trajectory:
    """The complete episodes of one trajectory.

    Attributes:
        progress_E: Middle of each episode as a share of the trajectory's steps, in [0, 1].
        returns_E: Return of each episode, unscaled reward or normalised.
    """

    progress_E: NDArray[np.float64]
    returns_E: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Quality:
    """What a history looks like in numbers; None for what too few episodes cannot tell.

    Attributes:
        episodes: Complete episodes of all of them.
        start: Mean normalised return in the first tenth of the steps.
        start_error: Its standard error.
        end: The same in the last tenth.
        end_error: Its standard error.
        rank_correlation: Spearman's, of the smoothed return with progress.
        largest_jump: Largest step up or down of the mean between neighbouring tenths of the
            trajectory; 0.1 for a straight line.
        largest_jump_error: Its standard error.
        shares: Share of the steps at which the smoothed return lies in each tenth from random to
            expert, what lies beyond counted with the outermost; 0.1 each for a straight line.
        r_squared: Of a straight line through the smoothed return; 0 where it falls.
        progress_C: Middles of the bins.
        smoothed_C: Smoothed return.
    """

    trajectories: int
    episodes: int
    progress_C: NDArray[np.float64]
    smoothed_C: NDArray[np.float64]
    start: float | None = None
    start_error: float | None = None
    end: float | None = None
    end_error: float | None = None
    rank_correlation: float | None = None
    largest_jump: float | None = None
    largest_jump_error: float | None = None
    shares: tuple[float, ...] | None = None
    r_squared: float | None = None

    @property
    def short(self) -> bool:
        """Whether there are too few episodes to judge the history by."""
        return (
            self.episodes < LEAST_EPISODES
            or self.episodes < LEAST_EPISODES_A_TRAJECTORY * self.trajectories
        )

    def failures(self) -> list[str]:
        """Name what is wrong with the history, with its numbers; empty where nothing is.

        A start, an end or a jump counts only where it misses its threshold by two standard errors,
        so that no history fails by chance; one of too few episodes never fails.
        """
        if self.short:
            return []
        start, end, rank = _number(self.start), _number(self.end), _number(self.rank_correlation)
        found = []
        if start - _SPREADS * _number(self.start_error) > MOST_AT_START:
            found.append(f"starts at {start:.2f}, above {MOST_AT_START:g}")
        if end + _SPREADS * _number(self.end_error) < LEAST_AT_END:
            found.append(f"ends at {end:.2f}, below {LEAST_AT_END:g}")
        if rank < LEAST_RANK_CORRELATION:
            found.append(f"rank correlation {rank:.2f}, below {LEAST_RANK_CORRELATION:g}")
        shares = self.shares or (0.0,)
        fullest = max(range(len(shares)), key=shares.__getitem__)
        if shares[fullest] > MOST_IN_A_TENTH:
            found.append(
                f"{shares[fullest]:.0%} of the steps between {fullest / 10:g} and "
                f"{(fullest + 1) / 10:g}, above {MOST_IN_A_TENTH:.0%}"
            )
        jump = _number(self.largest_jump)
        if jump - _SPREADS * _number(self.largest_jump_error) > LARGEST_JUMP:
            found.append(f"jumps by {jump:.2f}, above {LARGEST_JUMP:g}")
        return found

    def as_json(self) -> dict[str, Any]:
        """Return all of it as a JSON object; the arrays as lists."""
        return {
            "trajectories": self.trajectories,
            "episodes": self.episodes,
            "start": self.start,
            "start_error": self.start_error,
            "end": self.end,
            "end_error": self.end_error,
            "rank_correlation": self.rank_correlation,
            "largest_jump": self.largest_jump,
            "largest_jump_error": self.largest_jump_error,
            "r_squared": self.r_squared,
            "shares": None if self.shares is None else list(self.shares),
            "progress": self.progress_C.tolist(),
            "smoothed": self.smoothed_C.tolist(),
        }


@dataclass(frozen=True, slots=True, eq=False)
class HistoryQuality:
    """The quality of one task's history.

    Attributes:
        quality: The numbers; None for a history without measured scores.
        trajectories: Its episodes, normalised; not normalised without measured scores.
        schedule: The decay of its noise, as recorded; None where unknown, or where there is none.
        history: Reference of the artifact, where it stands beside others.
        knowledge: What its demonstrators knew of a hidden goal, ``decoy`` where some were another
            task's, ``model`` where none acted; None where nothing is hidden.
    """

    task: str
    domain: str
    quality: Quality | None
    trajectories: tuple[Trajectory, ...]
    schedule: dict[str, Any] | None
    history: str | None = None
    knowledge: str | None = None

    @property
    def episodes(self) -> int:
        """Number of complete episodes."""
        return sum(len(each.returns_E) for each in self.trajectories)

    @property
    def verdict(self) -> Verdict:
        """``good``, ``poor``, ``short`` (too few episodes to tell), ``unmeasured`` or ``unjudged``.

        Not judged is a history whose return is not meant to rise from random play to an expert: by
        demonstrators that are not shown the goal, with noise that is drawn, or by a model.
        """
        if self.quality is None:
            return "unmeasured"
        if self.knowledge in ("decoy", "belief", "model") or "per" in (self.schedule or {}):
            return "unjudged"
        if self.quality.short:
            return "short"
        return "poor" if self.quality.failures() else "good"

    def as_json(self) -> dict[str, Any]:
        """Return the entry of a report."""
        return {
            **({} if self.history is None else {"history": self.history}),
            "task": self.task,
            "domain": self.domain,
            "verdict": self.verdict,
            "failures": self.quality.failures()
            if self.quality is not None and self.verdict == "poor"
            else [],
            "schedule": self.schedule,
            **({} if self.quality is None else self.quality.as_json()),
        }


def assess(trajectories: Sequence[Trajectory]) -> Quality:
    """Compute the quality of a history.

    Args:
        trajectories: Complete episodes of each trajectory, returns normalised.
    """
    import numpy as np

    progress_E = np.concatenate([np.empty(0), *(each.progress_E for each in trajectories)])
    returns_E = np.concatenate([np.empty(0), *(each.returns_E for each in trajectories)])
    count = len(returns_E)
    bins = min(BINS, count // EPISODES_A_BIN)
    if bins < 2:
        return Quality(len(trajectories), count, np.empty(0), np.empty(0))
    smoothed_C = binned_means(progress_E, returns_E, bins)
    progress_C = (np.arange(bins) + 0.5) / bins
    start, start_error = _tenth(progress_E, returns_E, first=True)
    end, end_error = _tenth(progress_E, returns_E, first=False)
    jump, jump_error = _largest_jump(progress_E, returns_E, min(10, bins))
    return Quality(
        trajectories=len(trajectories),
        episodes=count,
        start=start,
        start_error=start_error,
        end=end,
        end_error=end_error,
        rank_correlation=rank_correlation(smoothed_C),
        largest_jump=jump,
        largest_jump_error=jump_error,
        shares=_shares(progress_C, smoothed_C),
        r_squared=straightness(progress_C, smoothed_C),
        progress_C=progress_C,
        smoothed_C=smoothed_C,
    )


def history_quality(source: HistorySource, task: str) -> HistoryQuality:
    """Compute the quality of a task's history; reads its episodes alone, not its steps.

    Raises:
        UsageError: There is no such task.
        ArtifactCorruptError: Its bytes differ from the manifest's.
    """
    attributes = source.task(task)
    knowledge = attributes.get("knowledge")
    if "decoys" in attributes:
        knowledge = "decoy"
    elif attributes.get("source") == "model":
        knowledge = "model"
    measured = (attributes.get("scores") or {}).get("measured")
    random, expert = (0.0, 1.0) if measured is None else (measured["random"], measured["expert"])
    # Where a demonstrator is no better than chance there is nothing to normalise by.
    known = measured is not None and random != expert
    trajectories = []
    for number, rows in enumerate(source.lengths(task)):
        episodes = source.episodes(task, number)
        whole = episodes["complete"]
        starts_E, returns_E = episodes["episode_start"][whole], episodes["episode_return"][whole]
        ends_E = starts_E + _lengths(episodes, rows)[whole]
        middle_E = (starts_E + ends_E) / (2.0 * rows)
        normalized_E = (returns_E - random) / (expert - random) if known else returns_E
        trajectories.append(Trajectory(middle_E, normalized_E))
    return HistoryQuality(
        task=task,
        domain=str(attributes["task"]["domain"]),
        quality=assess(trajectories) if known else None,
        trajectories=tuple(trajectories),
        schedule=attributes.get("schedule"),
        knowledge=knowledge,
    )


def binned_means(
    progress_E: NDArray[np.float64], values_E: NDArray[np.float64], bins: int
) -> NDArray[np.float64]:
    """Return the mean of values in equal bins of progress.

    Args:
        progress_E: In [0, 1]; at least one.
        values_E: One for each.
        bins: C.

    Returns:
        (C,); a bin without values gets the straight line between its neighbours.
    """
    import numpy as np

    index_E = np.minimum((progress_E * bins).astype(np.int64), bins - 1)
    counts_C = np.bincount(index_E, minlength=bins)
    sums_C = np.bincount(index_E, weights=values_E, minlength=bins)
    filled = np.flatnonzero(counts_C)
    return np.interp(np.arange(bins), filled, sums_C[filled] / counts_C[filled])


def rank_correlation(values: NDArray[np.float64]) -> float:
    """Return Spearman's rank correlation of values (E,) with their position.

    Ties share their mean rank; equal values throughout give 0.
    """
    import numpy as np

    if np.ptp(values) == 0:
        return 0.0
    # Not `scipy.stats.spearmanr`: the import takes longer than a short collection.
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positions = np.arange(1.0, len(values) + 1)
    return float(np.corrcoef(np.stack([ranks, positions], axis=1), rowvar=False)[1, 0])


def straightness(progress_C: NDArray[np.float64], values_C: NDArray[np.float64]) -> float:
    """Return R-squared of the least-squares line through values over progress.

    Returns:
        In [0, 1]; 0 where the values are all equal, or where the line falls: a straight way down
        is no learning.
    """
    import numpy as np

    spread = values_C - values_C.mean()
    if np.abs(spread).max() <= 1e-12 * max(1.0, float(np.abs(values_C).max())):
        return 0.0
    correlation = float(np.corrcoef(progress_C, values_C)[0, 1])
    return min(max(correlation, 0.0) ** 2, 1.0)


def _lengths(episodes: dict[str, NDArray[Any]], rows: int) -> NDArray[np.int64]:
    """Return the length of each episode; imported histories may record the starts alone."""
    import numpy as np

    if "episode_length" in episodes:
        return np.asarray(episodes["episode_length"], dtype=np.int64)
    return np.diff(np.append(episodes["episode_start"], rows)).astype(np.int64)


def _tenth(
    progress_E: NDArray[np.float64], values_E: NDArray[np.float64], *, first: bool
) -> tuple[float, float | None]:
    """Return mean and standard error in the first or last tenth; no error for a single episode.

    Where no episode has its middle there, those nearest to it stand for it.
    """
    import numpy as np

    distance_E = progress_E if first else 1 - progress_E
    chosen = values_E[distance_E <= max(0.1, float(distance_E.min()))]
    if len(chosen) < 2:
        return float(chosen.mean()), None
    return float(chosen.mean()), float(chosen.std(ddof=1) / np.sqrt(len(chosen)))


def _largest_jump(
    progress_E: NDArray[np.float64], values_E: NDArray[np.float64], bins: int
) -> tuple[float, float | None]:
    """Return the largest step between the means of neighbouring bins, and its standard error.

    Without an error where a bin beside the step has a single value, or none.
    """
    import numpy as np

    steps = np.abs(np.diff(binned_means(progress_E, values_E, bins)))
    at = int(steps.argmax())
    index_E = np.minimum((progress_E * bins).astype(np.int64), bins - 1)
    beside = [values_E[index_E == each] for each in (at, at + 1)]
    if min(len(values) for values in beside) < 2:
        return float(steps[at]), None
    variance = sum(float(values.var(ddof=1)) / len(values) for values in beside)
    return float(steps[at]), float(np.sqrt(variance))


def _shares(progress_C: NDArray[np.float64], smoothed_C: NDArray[np.float64]) -> tuple[float, ...]:
    import numpy as np

    fine = np.interp((np.arange(1000) + 0.5) / 1000, progress_C, smoothed_C)
    # A value on a boundary must not fall below it by a rounding of the interpolation.
    tenth = np.clip(np.floor(fine * 10 + 1e-9).astype(np.int64), 0, 9)
    return tuple((np.bincount(tenth, minlength=10) / 1000).tolist())


def _number(value: float | None) -> float:
    return 0.0 if value is None else value
