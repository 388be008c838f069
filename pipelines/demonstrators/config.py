"""Configuration of the stage ``demonstrators``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipelines.learners.settings import TrainSettings

Source = Literal["builtin", "train", "import"]
Activation = Literal["tanh", "relu"]


class DemonstratorsConfig(BaseModel):
    """What `pipelines.demonstrators.stage.run` does.

    Attributes:
        name: Name of the artifact; None to derive it from the selection.
        seed: Base seed of training and measuring.
        tasks: Names or aliases of tasks.
        domains: Names of domains, for all of their tasks that the source can serve.
        source: ``builtin`` (controllers without training), ``train``, or ``import`` (a
            Stable-Baselines3 zip).
        episodes: Episodes for each of the random and the expert return.
        options: Options of the environments, as in ``--option``.
        workers: Processes over the tasks, 0 for one on each core; does not change the result.
        train: How to train; None for what the task's expert in this package was trained with
            (`pipelines.demonstrators.experts`), or the defaults where it has none.
        import_path: The zip of ``--source import``.
        normalization_path: Observation statistics of an imported policy, .npz or .json.
        activation: Activation of an imported network where its file does not tell.
        evaluate: Reference of a demonstrators artifact whose policies are measured again, in
            place of a source.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = None
    seed: int = Field(default=0, ge=0)
    tasks: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    source: Source = "builtin"
    episodes: int = Field(default=20, ge=20)
    options: dict[str, Any] = Field(default_factory=dict)
    workers: int = Field(default=0, ge=0)
    train: TrainSettings | None = None
    import_path: Path | None = None
    normalization_path: Path | None = None
    activation: Activation | None = None
    evaluate: str | None = None

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if self.evaluate is None and (self.source == "import") != (self.import_path is not None):
            raise ValueError("source 'import' and import_path (the zip) belong together")
        if self.normalization_path is not None and self.import_path is None:
            raise ValueError("normalization_path belongs to source 'import'")
        if self.source == "train" and self.evaluate is None and not (self.tasks or self.domains):
            raise ValueError("source 'train' needs a choice: --task or --domain")
        return self
