"""Models in artifacts of kind `checkpoints`: weights as Zarr arrays, the rest as JSON.

Layout: group ``model`` with attributes ``config`` (the architecture), ``step`` (optimizer steps),
``method`` (such as ``ad``), ``tasks``, ``parameters`` (name and number of elements of each, named
as in the released checkpoints) and, of a model that was trained with random maps, ``random_map``,
and of one whose method, head or backbone another package brings, ``packages``, which says which by
entry-point group; all parameters one behind the other in that order in the flat array
``model/weights``, float32, or float16 in the model that comes with the package. Schema version 1
had one array a parameter under the group ``model/weights``; it is read as before.

Shapes: N all parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from pipelines.artifacts.arrays import write_flat
from pipelines.errors import ArtifactCorruptError, VintixError, unknown
from pipelines.methods import DEFAULT, METHODS, find_method
from pipelines.model.backbones import BACKBONES
from pipelines.model.backbones import DEFAULT as PAPERS_BACKBONE
from pipelines.model.config import ModelConfig
from pipelines.model.heads import DEFAULT as PAPERS_HEAD
from pipelines.model.heads import HEADS
from pipelines.model.normalization import TaskStatistics
from pipelines.model.vintix import Vintix
from pipelines.text import listed

if TYPE_CHECKING:
    from pipelines.artifacts.artifact import Artifact
    from pipelines.artifacts.work import WorkItem

_VECTORS = ("observation_mean", "observation_std", "action_mean", "action_std")


@dataclass(frozen=True)
class SavedTask:
    """What a model keeps of a task of its dataset.

    Attributes:
        name: Canonical name.
        group: Its group: which encoders and head it goes through.
        statistics: Normalisation of its observations and actions, and its reward scale. Always
            use these at inference, never ones computed anew.
        trained: Whether the model was trained on it; tasks of the dataset's validation split are
            kept for their statistics.
        task: The specification, as the catalogue's JSON.
        options: Options of the domain under which its data was collected.
        scores: Score references by name.
    """

    name: str
    group: str
    statistics: TaskStatistics
    trained: bool = True
    task: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the attributes of the task; `from_json` gives back equal bits."""
        vectors = {name: getattr(self.statistics, name).tolist() for name in _VECTORS}
        return {
            "task": dict(self.task),
            "group": self.group,
            "trained": self.trained,
            "reward_scale": self.statistics.reward_scale,
            "options": dict(self.options),
            "scores": dict(self.scores),
            **vectors,
        }

    @classmethod
    def from_json(cls, name: str, attributes: Mapping[str, Any]) -> SavedTask:
        """Read what `as_json` gave.

        Raises:
            KeyError: A field is missing.
            TypeError, ValueError: A field is of another type.
            ConfigError: The statistics are not usable.
        """
        return cls(
            name=name,
            group=str(attributes["group"]),
            statistics=TaskStatistics(
                **{vector: np.array(attributes[vector], np.float32) for vector in _VECTORS},
                reward_scale=attributes["reward_scale"],
            ),
            trained=bool(attributes["trained"]),
            task=dict(attributes["task"]),
            options=dict(attributes["options"]),
            scores=dict(attributes["scores"]),
        )


@dataclass(frozen=True)
class SavedModel:
    """A model as an artifact holds it.

    Attributes:
        model: The model; in evaluation mode where it was read.
        tasks: The tasks of its dataset that it has a group for, by name.
        step: Optimizer steps it was trained for.
        random_map: Whether it was trained on trajectories seen through random maps and has to be
            run through them (`pipelines.model.random_map`).
    """

    model: Vintix
    tasks: Mapping[str, SavedTask]
    step: int
    method: str
    random_map: bool = False

    @property
    def config(self) -> ModelConfig:
        """Its architecture."""
        return self.model.config

    @property
    def masks_rewards(self) -> bool:
        """Whether the model was trained with rewards of 0 and has to be run with them."""
        return find_method(self.method).masks_rewards

    def task(self, name: str) -> SavedTask:
        """Return a task by its name.

        Raises:
            UsageError: The model does not know it.
        """
        if name not in self.tasks:
            raise unknown(
                "the model does not know this task",
                name,
                self.tasks,
                where=name,
                expected=listed(sorted(self.tasks)),
                fix="choose one of these tasks, or train on a dataset that holds it",
            )
        return self.tasks[name]


def layout(model: nn.Module) -> list[list[Any]]:
    """Return name and number of elements of each parameter, in the model's order; JSON."""
    return [[name, parameter.numel()] for name, parameter in model.named_parameters()]


def save_model(
    unit: WorkItem,
    saved: SavedModel,
    *,
    weights_N: npt.NDArray[np.float32] | None = None,
    dtype: npt.DTypeLike = np.float32,
) -> None:
    """Write a model into a unit of a checkpoints artifact.

    Args:
        weights_N: Its parameters concatenated (N,), where they are at hand; a model whose
            parameters are sharded cannot give them.
        dtype: float32, or float16 for half the bytes and eleven significant bits.

    Raises:
        StorageError: The file system refused.
    """
    if weights_N is None:
        flat = [one.detach().float().reshape(-1).cpu() for one in saved.model.parameters()]
        weights_N = torch.cat(flat).numpy()
    config, method = saved.config, saved.method
    packages = {
        kind.group: package
        for kind, name in ((METHODS, method), (HEADS, config.head), (BACKBONES, config.backbone))
        if (package := kind.package(name)) is not None
    }
    attributes = {
        "config": config.model_dump(mode="json"),
        "step": saved.step,
        "method": method,
        "tasks": {name: task.as_json() for name, task in sorted(saved.tasks.items())},
        "parameters": layout(saved.model),
        **({"random_map": True} if saved.random_map else {}),
        **({"packages": packages} if packages else {}),
    }
    write_flat(unit.group("model", attributes), "weights", weights_N.astype(dtype, copy=False))


def load_model(artifact: Artifact) -> SavedModel:
    """Read a model from a checkpoints artifact onto the CPU.

    Args:
        artifact: An artifact of kind ``checkpoints``.

    Raises:
        ArtifactCorruptError: A file is damaged, or the weights are not those of the architecture.
        UsageError: Its method, head or backbone is of a package that is not installed.
        MissingDependencyError: It is installed and cannot be used.
    """
    attributes: dict[str, Any] = dict(artifact.group("model").attrs)
    _check_packages(artifact, attributes)
    try:
        config = ModelConfig.model_validate(attributes["config"])
        tasks = {name: SavedTask.from_json(name, one) for name, one in attributes["tasks"].items()}
        step, method = int(attributes["step"]), str(attributes["method"])
        random_map = bool(attributes.get("random_map", False))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _corrupt(artifact, "model", "config, step, method, tasks", repr(error)) from error
    with torch.device("meta"):
        model = Vintix(config)
    if "parameters" in attributes:
        state = _read_flat(artifact, model, attributes["parameters"])
    else:
        state = {
            name: torch.from_numpy(_read_one(artifact, name, tuple(parameter.shape)))
            for name, parameter in model.named_parameters()
        }
    model.load_state_dict(state, strict=True, assign=True)
    return SavedModel(model.eval(), tasks, step, method, random_map)


def _check_packages(artifact: Artifact, attributes: Mapping[str, Any]) -> None:
    """Fail with the package that brings what a model was made with, if it is not there."""
    config, packages = attributes.get("config"), attributes.get("packages", {})
    if isinstance(config, Mapping) and isinstance(packages, Mapping):
        for kind, name in (
            (METHODS, attributes.get("method", DEFAULT)),
            (HEADS, config.get("head", PAPERS_HEAD)),
            (BACKBONES, config.get("backbone", PAPERS_BACKBONE)),
        ):
            try:
                kind.find(str(name), packages.get(kind.group))
            except VintixError as error:
                error.where = ", ".join(
                    filter(None, [f"checkpoint {artifact.reference}", error.where])
                )
                raise


def _read_flat(artifact: Artifact, model: Vintix, recorded: Any) -> dict[str, torch.Tensor]:
    expected = dict(layout(model))
    try:
        sizes = {str(name): int(size) for name, size in recorded}
    except (TypeError, ValueError):
        sizes = {}
    # The order is that of the model that was saved, whose groups may have come in another one.
    if sizes != expected:
        raise _corrupt(
            artifact,
            "model",
            f"the {len(expected)} parameters of the architecture",
            f"{len(sizes)} parameters, not the same",
        )
    path, total = "model/weights", sum(sizes.values())
    values = artifact.read(path)
    if values.shape != (total,) or values.dtype not in (np.float32, np.float16):
        raise _corrupt(
            artifact, path, f"float32 ({total},)", f"{values.dtype} of shape {values.shape}"
        )
    # A copy: Zarr may hand out memory that must not be written to.
    parts = torch.from_numpy(values.astype(np.float32)).split(list(sizes.values()))
    flat = dict(zip(sizes, parts, strict=True))
    return {name: flat[name].view(one.shape) for name, one in model.named_parameters()}


def _read_one(artifact: Artifact, name: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Read a parameter of an artifact of schema version 1."""
    path = f"model/weights/{name}"
    values = artifact.read(path)
    if values.shape != shape or values.dtype != np.float32:
        raise _corrupt(
            artifact, path, f"float32 of shape {shape}", f"{values.dtype} of shape {values.shape}"
        )
    # Zarr may hand out memory that must not be written to.
    return np.array(values)


def _corrupt(artifact: Artifact, path: str, expected: str, found: str) -> ArtifactCorruptError:
    return ArtifactCorruptError(
        f"the model of {artifact.reference} cannot be read",
        where=artifact.path / "data.zarr" / path,
        expected=expected,
        found=found,
        fix=f"vintix artifacts verify {artifact.kind}/{artifact.reference}",
    )
