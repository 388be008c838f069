"""What a rollout is asked to do."""

from __future__ import annotations

from typing import Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipelines.tasks.spec import Reference

Baseline = Literal["random", "demonstrator"]
Rewards = Literal["true", "zero", "shuffled", "flipped"]

#: All kinds of rewards that a stream may be shown.
REWARDS: tuple[Rewards, ...] = get_args(Rewards)

#: Steps that a stream plays where the number of shots is not given, within the bounds below.
DEFAULT_STREAM_STEPS = 2000
DEFAULT_SHOTS_MIN = 8
DEFAULT_SHOTS_MAX = 20


class RolloutConfig(BaseModel):
    """Options of ``vintix rollout``.

    Attributes:
        name: Name of the artifact; None for the tasks' or the checkpoint's.
        seed: Base seed of the episodes.
        seeds: Independent streams of each task, each with an empty context at its start.
        shots: Episodes of each stream. None chooses by the task's horizon H (see `default_shots`):
            20 up to 100 steps, 8 from 250 steps.
        tasks: Names or aliases of tasks and variations; all that the checkpoint knows if empty.
        domains: Only tasks of these domains.
        splits: Only tasks of these splits (``train``, ``validation``).
        checkpoint: Reference of the checkpoint; the newest one if None.
        context: Tokens the cache keeps; the model's training context if None.
        gravity: Factor on the gravity of MuJoCo tasks (paper, Appendix A.2.1), also as text with a
            trailing ``x``.
        viscosity: Viscosity of the medium of MuJoCo tasks, a value.
        setpoint: Setpoint of Industrial-Benchmark tasks, in [0, 100].
        options: Options of the domains' environments that replace those the data was recorded
            with.
        reference: Score reference that normalises the returns.
        max_streams: Most streams that advance as one batch. It fixes which streams share a
            batch and a unit of resumable work; results depend on it by float rounding alone.
        threads: CPU threads of the model's arithmetic; 0 for one up to a width of 256 channels and
            all the process may use beyond. Rounding depends on their number.
        device: Where the model runs.
        cache: ``window`` keeps keys and values of the context in a ring; ``none`` runs the whole
            window again at each step, which is exact and slow (see `pipelines.model.cache`).
        sinks: First steps of a stream that are never overwritten, fewer than the context.
        prompt: Artifact of kind ``histories`` or ``datasets``; every stream starts with the end of
            one of its trajectories in view. None for an empty context.
        prompt_steps: Steps of the prompt; None for the context, or the task's shortest trajectory
            where that is shorter.
        workers: Processes that step environments which are simulated one by one: 1 for this one
            alone, 0 for one a core. Results do not depend on it. All wait for the slowest at each
            step, so that it pays for slow simulators, many streams and idle cores.
        strict: Make a differing environment fingerprint an error instead of a warning.
        suite: ``paper`` plays everything the paper reports instead of a selection; tasks that the
            checkpoint has no group for are scored 0. ``reward-use`` plays the selection once with
            each of `REWARDS` and tells how much of the rise with shots is lost without the true
            ones (`pipelines.rollout.reward_use`).
        rewards: What a stream is shown as its previous reward; what is recorded and scored are
            always the true ones. ``zero``: 0. ``flipped``: with the other sign. ``shuffled``: one
            of those that the stream has had so far, drawn anew at each step, so that rewards are
            as large as they should be and tell nothing of which action earned them.
        converged: Episodes of each stream after its shots, for the converged score; None for none.
        stats: Whose normalisation statistics an unseen task of a known group takes: ``group``
            (pooled over the group's tasks), ``task:NAME`` or ``running`` (estimated in context
            from those of the group on). None makes such a task an error, and is ``group`` for a
            suite.
        also: References of further checkpoints, played on the same episodes.
        baselines: Policies played on the same episodes: ``random``, ``demonstrator``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = None
    seed: int = Field(default=0, ge=0)
    seeds: int = Field(default=3, ge=1)
    shots: int | None = Field(default=None, ge=1)
    tasks: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    checkpoint: str | None = None
    context: int | None = Field(default=None, ge=1)
    gravity: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    viscosity: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    setpoint: float | None = Field(default=None, ge=0, le=100)
    options: dict[str, str | float] = Field(default_factory=dict)
    reference: Reference = "measured"
    max_streams: int = Field(default=64, ge=1)
    threads: int = Field(default=0, ge=0)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    strict: bool = False
    suite: Literal["paper", "reward-use"] | None = None
    rewards: Rewards = "true"
    converged: int | None = Field(default=None, ge=1)
    stats: str | None = None
    also: tuple[str, ...] = ()
    baselines: tuple[Baseline, ...] = ()
    cache: Literal["window", "none"] = "window"
    sinks: int = Field(default=0, ge=0)
    prompt: str | None = None
    prompt_steps: int | None = Field(default=None, ge=1)
    workers: int = Field(default=1, ge=0)

    @field_validator("gravity", mode="before")
    @classmethod
    def _read_factor(cls, value: object) -> object:
        return value.strip().removesuffix("x") if isinstance(value, str) else value

    @field_validator("stats")
    @classmethod
    def _known_source(cls, value: str | None) -> str | None:
        if value in (None, "group", "running") or (value and value.removeprefix("task:") != value):
            return value
        raise ValueError(
            "should be group, running, or task:NAME with a task of the group that the checkpoint "
            "knows, such as task:door-open"
        )

    @model_validator(mode="after")
    def _rewards_of_its_own(self) -> Self:
        if self.suite == "reward-use" and self.rewards != "true":
            raise ValueError("the suite reward-use has rewards of its own: leave --rewards out")
        if self.prompt is not None and (self.suite == "reward-use" or self.rewards != "true"):
            raise ValueError("a prompt shows true rewards: leave --prompt out")
        return self

    @property
    def episodes_after(self) -> int:
        """Episodes of each stream after its shots."""
        return self.converged or 0


def default_shots(horizon: int) -> int:
    """Return the episodes a stream plays by default: 2000 steps of them, at least 8, at most 20.

    Improvement in context goes by steps as much as by episodes: small models converge within a
    thousand or two, so that short episodes need more shots to show it.

    Args:
        horizon: Most steps of an episode, >= 1.
    """
    return min(DEFAULT_SHOTS_MAX, max(DEFAULT_SHOTS_MIN, DEFAULT_STREAM_STEPS // horizon))
