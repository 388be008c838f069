"""Configuration of distillation."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipelines.distill.schedule import FITS, Fit
from pipelines.distill.shard import Shard
from pipelines.errors import ConfigError, UsageError
from pipelines.learners.settings import TrainSettings
from pipelines.tasks.schedule import NoiseCurve, Schedule, schedule_from_json

SHARD_ROWS = 65_536
"""Most steps of a shard: a few seconds of a fast simulator, a minute of a slow one."""

VECTORIZED_SHARD_ROWS = 131_072
"""The same for vectorised domains, whose shards take seconds: writing one costs some 50 ms of
processor time whatever its length, which a fast simulator would feel."""

PILOT_EPISODES, VECTORIZED_PILOT_EPISODES = 8, 64
"""Episodes of a pilot at each level of noise."""


class DistillConfig(BaseModel):
    """What ``vintix distill`` collects.

    Attributes:
        name: Name of the artifact; None for one made from the selection.
        seed: Base seed of noise and episodes.
        tasks: Names or aliases; with `domains`, only those tasks of these domains.
        domains: Names of domains. Neither: all tasks of the demonstrators artifact.
        demonstrators: Reference of the demonstrators artifact; None for the newest that fits.
        source: Where a history comes from: ``noise``, the demonstrator under annealed noise, or
            ``learning-history``, a learner that is recorded while it trains from scratch.
        train: How that learner trains; part of the artifact only where there is one. The steps in
            all are those of the trajectory, and ``evaluation_episodes`` plays no part.
        schedule: Decay of the noise for all tasks, also as text (``p=0.7,f=0.1``); ``auto`` for the
            p and f, ``fitted`` for the curve, that a pilot finds for each; lists of ``progress``
            and ``noise`` for a curve of one's own; None for each task's own.
        pilot_episodes: Episodes of the pilot at each level of noise; None for 8, and 64 in
            vectorised domains. Part of the artifact only where there is a pilot.
        trajectories: Trajectories of each task; None for the catalogue's number.
        steps: Steps of each trajectory; None for the catalogue's length times `scale`.
        scale: Factor on the catalogue's trajectory lengths; at least one full episode is kept.
        options: Environment options by name; those not given are the demonstrators' own.
        shard_rows: Most steps of a shard, the unit that a resumed run does not repeat; None for
            65,536, and twice that for vectorised domains.
        shard: Which share of the plan to collect, also as text (``2/4``), as a part that
            ``vintix artifacts merge`` joins with the others; None for all of it.
        workers: Processes, 0 for one on each core; no part of the artifact.
        executor: Where the jobs run: ``local``, or ``ray`` for the nodes of a Ray cluster that
            share the workspace; no part of the artifact.
        strict: Whether an environment that differs from the demonstrators' is an error instead of
            a warning; no part of the artifact.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    name: str | None = None
    seed: int = Field(0, ge=0)
    tasks: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    demonstrators: str | None = None
    source: Literal["noise", "learning-history"] = "noise"
    train: TrainSettings = TrainSettings()
    schedule: Schedule | NoiseCurve | Fit | None = None
    pilot_episodes: int | None = Field(None, ge=2, le=1000)
    trajectories: int | None = Field(None, ge=1, le=100_000)
    steps: int | None = Field(None, ge=1)
    scale: float = Field(1.0, gt=0, allow_inf_nan=False)
    options: dict[str, Any] = Field(default_factory=dict)
    shard_rows: int | None = Field(None, ge=1)
    shard: Shard | None = None
    workers: int = Field(0, ge=0)
    executor: Literal["local", "ray"] = "local"
    strict: bool = False

    @field_validator("schedule", mode="before")
    @classmethod
    def _read_schedule(cls, value: Any) -> Any:
        from pipelines.distill.schedule import parse_schedule

        if isinstance(value, dict) and not value.keys() <= {"p", "f"}:
            try:
                return schedule_from_json(value)
            except ConfigError as error:
                raise ValueError(
                    f"{error.message} Expected {error.expected}, found {error.found}"
                ) from error
        if isinstance(value, dict):
            value = ",".join(f"{name}={number}" for name, number in value.items())
        if isinstance(value, str) and value not in FITS:
            try:
                return parse_schedule(value)
            except UsageError as error:
                # As a ValueError it is told with the file, variable or option it came from.
                raise ValueError(
                    f"{error.message}: expected {error.expected}, or {' or '.join(FITS)}, found "
                    f"{error.found}"
                ) from error
        return value

    @field_validator("shard", mode="before")
    @classmethod
    def _read_shard(cls, value: Any) -> Any:
        return value if value is None or isinstance(value, Shard) else Shard.parse(str(value))

    @model_validator(mode="after")
    def _one_length(self) -> DistillConfig:
        if self.steps is not None and self.scale != 1.0:
            raise ValueError("steps and scale both set the length: give one of them")
        return self

    @model_validator(mode="after")
    def _settings_of_the_source(self) -> DistillConfig:
        if self.source == "noise":
            if "train" in self.model_fields_set:
                raise ValueError("train belongs to the source learning-history: add --source")
            return self
        if self.schedule is not None:
            raise ValueError(
                "a learning history has no schedule: its learner goes from random to expert by "
                "learning, not by less and less noise"
            )
        if self.shard_rows is not None:
            raise ValueError(
                "the shards of a learning history follow the learner's segments: give "
                "train.segment_steps in place of shard_rows"
            )
        if self.train.environment_options:
            raise ValueError(
                "a learning history records what its learner sees: train.environment_options would "
                "record the rewards of another environment; options (--option) hold for both"
            )
        return self
