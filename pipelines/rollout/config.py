"""What a rollout is asked to do."""

from __future__ import annotations

from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipelines.model.heads import Act
from pipelines.options import (
    ENVIRONMENT_OPTION,
    ConflictError,
    Domains,
    Name,
    Seed,
    Strict,
    Tasks,
    Workers,
    option,
    setting,
)
from pipelines.tasks.spec import Reference

Baseline = Literal["random", "demonstrator", "blind", "belief", "thompson", "ucb"]
Rewards = Literal["true", "zero", "mean", "shuffled", "other", "flipped"]

#: All kinds of rewards that a stream may be shown.
REWARDS: tuple[Rewards, ...] = get_args(Rewards)

#: Steps that a stream plays where the number of shots is not given, within the bounds below.
DEFAULT_STREAM_STEPS = 2000
DEFAULT_SHOTS_MIN = 8
DEFAULT_SHOTS_MAX = 20


class RolloutConfig(BaseModel):
    """What ``vintix rollout`` plays."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tasks: Tasks = ()
    domains: Domains = ()
    checkpoint: str | None = option(
        "Checkpoint artifact; default the newest. Several are compared.",
        None,
        metavar="ARTIFACT",
        values=("checkpoints",),
        rest="also",
    )
    also: tuple[str, ...] = setting(
        "Further checkpoint artifacts, played on the same episodes.", ()
    )
    baselines: tuple[Baseline, ...] = option(
        "A policy to play the same episodes, beside the model.", (), flags=("--baseline",)
    )
    # reward-use: `pipelines.rollout.reward_use`. paper: tasks that the checkpoint has no group for
    # are scored 0.
    suite: Literal["paper", "reward-use"] | None = option(
        "paper: everything that the paper reports. reward-use: with each kind of --rewards, and "
        "what is lost without the true ones.",
        None,
    )
    # zero: 0. mean: that of the data. flipped: with the other sign. shuffled: one of those that the
    # stream has had so far, drawn anew at each step, so that rewards are as large as they should be
    # and tell nothing of which action earned them. other: those of the next stream of the task, at
    # the same step.
    rewards: Rewards = option(
        "Rewards that the model is shown; scores are of the true ones.", "true"
    )
    act: Act | None = option(
        "How the model's head chooses an action: sample (the default of heads that can), greedy "
        "(the most likely one) or mean (of heads that predict one action).",
        None,
    )
    shots: int | None = option(
        "Episodes from an empty context on; default 2,000 steps of them, at least 8 and at most "
        "20.",
        None,
        ge=1,
    )
    converged: int | None = option(
        "Further episodes, for the converged score; the paper: 100.", None, ge=1
    )
    seeds: int = option("Independent streams a task.", 3, ge=1)
    splits: tuple[str, ...] = option(
        "Tasks of this split only.", (), flags=("--split",), values=("splits",)
    )
    options: Annotated[dict[str, str | float], ENVIRONMENT_OPTION] = Field(default_factory=dict)
    # Paper, Appendix A.2.1.
    gravity: float | None = option(
        "MuJoCo: factor on gravity, such as 1.1 or 1.1x.",
        None,
        metavar="FACTOR",
        text=True,
        ge=0,
        allow_inf_nan=False,
    )
    viscosity: float | None = option(
        "MuJoCo: viscosity of the medium, such as 0.05.", None, ge=0, allow_inf_nan=False
    )
    setpoint: float | None = option(
        "Industrial-Benchmark: setpoint, such as 85.", None, ge=0, le=100
    )
    reference: Reference = option("Scores to normalise by.", "measured")
    # group: pooled over the group's tasks; running: estimated in context, from those of the group
    # on. None makes such a task an error, and is group for a suite.
    stats: str | None = option(
        "Normalisation of unseen tasks of a known group.",
        None,
        metavar="group|task:NAME|running",
        values=("statistics",),
    )
    context: int | None = option("Steps kept in view; default the model's.", None, ge=1)
    cache: Literal["window", "none"] = option(
        "window (keys and values in a ring, as the paper) or none (the whole window again at each "
        "step: exact and slow).",
        "window",
    )
    sinks: int = option("First steps that are never forgotten.", 0, ge=0)
    prompt: str | None = option(
        "Start with the end of recorded trajectories in view: a histories or datasets artifact.",
        None,
        metavar="ARTIFACT",
        values=("histories", "datasets"),
    )
    prompt_steps: int | None = option("Steps of the prompt; default the context.", None, ge=1)
    workers: Workers = 1
    name: Name = None
    seed: Seed = 0
    strict: Strict = False
    max_streams: int = setting(
        "Most streams that advance as one batch. It fixes which streams share a batch "
        "and a unit of resumable work; results depend on it by float rounding alone.",
        64,
        ge=1,
    )
    threads: int = setting(
        "CPU threads of the model's arithmetic; 0 for one up to a width of 256 "
        "channels and all the process may use beyond. Rounding depends on their number.",
        0,
        ge=0,
    )
    device: Literal["auto", "cpu", "cuda"] = setting("Where the model runs.", "auto")

    @field_validator("gravity", mode="before")
    @classmethod
    def _read_factor(cls, value: object) -> object:
        return value.strip().removesuffix("x") if isinstance(value, str) else value

    @field_validator("stats")
    @classmethod
    def _known_source(cls, value: str | None) -> str | None:
        if value in (None, "group", "running") or (value and value.removeprefix("task:") != value):
            return value
        raise ConflictError(
            "should be group, running, or task:NAME with a task of the group that the checkpoint "
            "knows, such as task:door-open",
            fix="vintix rollout ... --stats group (or running, or task:NAME)",
        )

    @model_validator(mode="after")
    def _rewards_of_its_own(self) -> Self:
        if self.suite == "reward-use" and self.rewards != "true":
            raise ConflictError(
                "the suite reward-use has rewards of its own",
                fix="vintix rollout ... --rewards true, or leave {suite} out",
                suite=self.suite,
                rewards=self.rewards,
            )
        if self.prompt is not None and (self.suite == "reward-use" or self.rewards != "true"):
            raise ConflictError(
                "a prompt shows true rewards",
                fix="vintix rollout ... --rewards true, or leave {prompt} out"
                if self.suite is None
                else "leave {prompt} out, or {suite}",
                prompt=self.prompt,
                **{"rewards": self.rewards} if self.suite is None else {"suite": self.suite},
            )
        if self.rewards == "other" and not self.streams_have_others:
            # One more leaves no stream alone, unless each is.
            seeds = self.seeds + 1 if self.max_streams > 1 else max(2, self.seeds)
            batch = f" --set rollout.max_streams={seeds}" if self.max_streams == 1 else ""
            raise ConflictError(
                "the rewards of another stream need seeds 2 or more, and no block with one stream",
                fix=f"vintix rollout ... --seeds {seeds}{batch}",
                rewards=self.rewards,
                seeds=self.seeds,
                max_streams=self.max_streams,
            )
        return self

    @property
    def streams_have_others(self) -> bool:
        """Whether each stream of a task plays beside another one of it."""
        return self.max_streams > 1 and self.seeds > 1 and self.seeds % self.max_streams != 1

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
