"""Configuration of distillation."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipelines.distill.partition import Partition
from pipelines.distill.schedule import FITS, Fit
from pipelines.errors import ConfigError, UsageError
from pipelines.learners.settings import TrainSettings
from pipelines.options import (
    ConflictError,
    Domains,
    EnvironmentOptions,
    Name,
    Seed,
    Strict,
    Tasks,
    Workers,
    option,
    setting,
)
from pipelines.tasks.schedule import (
    EpisodeNoise,
    HistoryNoise,
    NoiseCurve,
    Schedule,
    schedule_from_json,
    schedule_json,
    schedule_text,
)

SHARD_ROWS = 65_536
"""Most steps of a shard: a few seconds of a fast simulator, a minute of a slow one."""

VECTORIZED_SHARD_ROWS = 131_072
"""The same for vectorised domains, whose shards take seconds: writing one costs some 50 ms of
processor time whatever its length, which a fast simulator would feel."""

MAX_STEPS = 10**9
"""Most steps of a trajectory, a thousand times the paper's: the noise of each is in memory."""

PILOT_EPISODES, VECTORIZED_PILOT_EPISODES = 8, 64
"""Episodes of a pilot at each level of noise."""


class DistillConfig(BaseModel):
    """What ``vintix distill`` collects."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    tasks: Tasks = ()
    domains: Domains = ()
    options: EnvironmentOptions = Field(default_factory=dict)
    demonstrators: str | None = option(
        "Demonstrators artifact; default the newest that has the tasks.",
        None,
        metavar="ARTIFACT",
        values=("demonstrators",),
    )
    source: Literal["noise", "learning-history", "model"] = option(
        "noise; learning-history: record a learner (PPO of Stable-Baselines3 by default, see "
        "distill.train) that trains from scratch in each trajectory; or model: a checkpoint plays, "
        "and what the demonstrator would do is recorded as demonstrator_action.",
        "noise",
    )
    checkpoint: str | None = option(
        "With --source model, who plays; default the newest.",
        None,
        metavar="ARTIFACT",
        values=("checkpoints",),
    )
    schedule: Schedule | NoiseCurve | EpisodeNoise | HistoryNoise | Fit | None = option(
        "Noise: a decay, p=0.7,f=0.1, or what a pilot finds: auto (p and f), fitted (any shape) or "
        "playable (max and pure of levels that are drawn for each episode); "
        "or a level drawn for each episode, per=episode,max=0.5,pure=0.1 (a tenth all noise), or "
        "for each trajectory, per=history,max=1,p=1,f=0.1; default each task's own decay, and with "
        "decoys or goal=belief those two.",
        None,
        metavar="p=P,f=F|per=...|auto|fitted|playable",
    )
    decoys: Literal["task"] | None = option(
        "task: some episodes are played by the demonstrators of other tasks of the group, and what "
        "the task's own would do is recorded as demonstrator_action.",
        None,
    )
    decoy_tasks: int = option(
        "With decoys, how many other tasks a trajectory draws; each plays as often as its own.",
        1,
        ge=1,
    )
    trajectories: int | None = option(
        "Trajectories a task; default the paper's.", None, ge=1, le=100_000
    )
    steps: int | None = option("Steps a trajectory; default the paper's.", None, ge=1, le=MAX_STEPS)
    scale: float = option(
        "Multiply the paper's trajectory lengths by this.", 1.0, gt=0, allow_inf_nan=False
    )
    shard: Partition | None = option(
        "Collect the I-th of N shares, for array jobs; vintix artifacts merge joins them.",
        None,
        metavar="I/N",
    )
    executor: Literal["local", "ray"] = option(
        "Run the jobs here, or on a Ray cluster whose nodes share the workspace.", "local"
    )
    name: Name = None
    seed: Seed = 0
    workers: Workers = 0
    strict: Strict = False
    train: TrainSettings = setting(
        "How the learner of a learning history trains; part of the artifact only where "
        "there is one. The steps in all are those of the trajectory, and evaluation_episodes plays "
        "no part.",
        TrainSettings(),
    )
    pilot_episodes: int | None = setting(
        "Episodes of the pilot at each level of noise; default 8, and 64 in vectorised "
        "domains. Part of the artifact only where there is a pilot.",
        None,
        ge=2,
        le=1000,
    )
    shard_rows: int | None = setting(
        "Most steps of a shard, the unit that a resumed run does not repeat; default "
        "65,536, and twice that for vectorised domains.",
        None,
        ge=1,
    )

    @field_validator("schedule", mode="before")
    @classmethod
    def _read_schedule(cls, value: Any) -> Any:
        from pipelines.distill.schedule import parse_schedule

        if isinstance(value, dict) and value.keys() & {"progress", "noise"}:
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
                # As a ConflictError it is told with the file, variable or option it came from.
                raise ConflictError(
                    f"{error.message}: expected {error.expected}, or {' or '.join(FITS)}, found "
                    f"{error.found}",
                    fix=f"vintix distill ... {error.fix}",
                ) from error
        return value

    @field_validator("shard", mode="before")
    @classmethod
    def _read_shard(cls, value: Any) -> Any:
        return (
            value if value is None or isinstance(value, Partition) else Partition.parse(str(value))
        )

    @model_validator(mode="after")
    def _one_length(self) -> DistillConfig:
        if self.steps is not None and self.scale != 1.0:
            raise ConflictError(
                "steps and scale both set the length: give one of them",
                fix="leave {scale} out, or {steps}",
                steps=self.steps,
                scale=self.scale,
            )
        return self

    @model_validator(mode="after")
    def _decoys_that_fit(self) -> DistillConfig:
        if self.decoys is None:
            if "decoy_tasks" in self.model_fields_set:
                raise ConflictError(
                    "decoy_tasks belongs to decoys of tasks",
                    fix="vintix distill ... --decoys task, or leave {decoy_tasks} out",
                    decoy_tasks=self.decoy_tasks,
                )
        elif self.source != "noise":
            raise ConflictError(
                "decoys are demonstrators, which act with the source noise alone",
                fix="vintix distill ... --source noise, or leave {decoys} out",
                decoys=self.decoys,
                source=self.source,
            )
        return self

    @model_validator(mode="after")
    def _settings_of_the_source(self) -> DistillConfig:
        if self.source != "learning-history" and "train" in self.model_fields_set:
            raise ConflictError(
                "train belongs to the source learning-history",
                fix="vintix distill ... --source learning-history, or leave {train} out",
                train=self.train.model_dump(exclude_unset=True),
                source=self.source,
            )
        if self.source != "model" and self.checkpoint is not None:
            raise ConflictError(
                "checkpoint belongs to the source model",
                fix="vintix distill ... --source model, or leave {checkpoint} out",
                checkpoint=self.checkpoint,
                source=self.source,
            )
        if self.source == "noise":
            return self
        if self.schedule is not None:
            raise ConflictError(
                "noise is mixed into a demonstrator's actions alone: a learner or a model acts "
                "without a schedule",
                fix="vintix distill ... --source noise, or leave {schedule} out",
                source=self.source,
                schedule=self.schedule
                if isinstance(self.schedule, str)
                else schedule_text(schedule_json(self.schedule)),
            )
        if self.shard_rows is not None:
            learned = self.source == "learning-history"
            raise ConflictError(
                "the shards of a learning history follow the learner's segments"
                if learned
                else "a shard of what a model plays is a whole trajectory",
                fix="leave {shard_rows} out"
                + f", and give --set distill.train.segment_steps={self.shard_rows}" * learned,
                source=self.source,
                shard_rows=self.shard_rows,
            )
        if self.train.environment_options:
            raise ConflictError(
                "a learning history records what its learner sees: train.environment_options would "
                "record the rewards of another environment; options (--option) hold for both",
                fix="give --option NAME=VALUE in place of {train.environment_options}",
                **{"train.environment_options": self.train.environment_options},
            )
        return self
