"""Configuration of the stage ``demonstrators``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipelines.learners.settings import Activation, TrainSettings
from pipelines.options import (
    ConflictError,
    Domains,
    EnvironmentOptions,
    Name,
    Seed,
    Tasks,
    Workers,
    option,
    setting,
)

Source = Literal["builtin", "train", "import"]


class DemonstratorsConfig(BaseModel):
    """Which experts ``vintix demonstrators`` makes and measures."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tasks: Tasks = ()
    domains: Domains = ()
    options: EnvironmentOptions = Field(default_factory=dict)
    source: Source = option(
        "builtin (comes with the package), train (as the packaged one was, unless told otherwise) "
        "or import.",
        "builtin",
    )
    episodes: int = option("Episodes to measure each return over.", 20, ge=20)
    # None: as the task's expert in this package was trained (`pipelines.demonstrators.experts`), or
    # the defaults where it has none.
    train: TrainSettings | None = option(
        "How a learner trains.", None, lead="With --source train: "
    )
    import_path: Path | None = option(
        "With --source import: a Stable-Baselines3 zip; only weights are read.",
        None,
        flags=("--path",),
        metavar="FILE",
    )
    evaluate: str | None = option(
        "Measure the policies of this artifact again, instead.",
        None,
        metavar="ARTIFACT",
        values=("demonstrators",),
    )
    name: Name = None
    seed: Seed = 0
    workers: Workers = 0
    normalization_path: Path | None = setting(
        "Observation statistics of an imported policy, .npz or .json.", None
    )
    activation: Activation | None = setting(
        "Activation of an imported network where its file does not tell.", None
    )

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if self.evaluate is None and (self.source == "import") != (self.import_path is not None):
            raise ConflictError(
                "source 'import' and import_path (the zip, --path) belong together",
                fix="vintix demonstrators ... --source import --path "
                + shlex.quote(str(self.import_path or "FILE.zip")),
                source=self.source,
                import_path=self.import_path,
            )
        if self.normalization_path is not None and self.import_path is None:
            raise ConflictError(
                "normalization_path belongs to source 'import'",
                fix="vintix demonstrators ... --source import --path FILE.zip, or leave "
                "{normalization_path} out",
                source=self.source,
                normalization_path=self.normalization_path,
            )
        if self.source == "train" and self.evaluate is None and not (self.tasks or self.domains):
            raise ConflictError(
                "source 'train' needs a choice of tasks or domains",
                fix="vintix demonstrators ... --source train --task NAME",
                source=self.source,
            )
        return self
