"""Vintix as a library: trained agents, environments, the stages and their data, by stable names.

    import vintix

    env = vintix.make("hopper", gravity="1.1x")
    agent = vintix.load("packaged")
    agent.reset("hopper", env.action_space)

Everything here is documented where it is defined, and stays from release to release; the packages
`pipelines` and `vintix_cli` behind it may change. Nothing heavy is imported before it is used.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import gymnasium

    from pipelines.rollout.acting import Agent
    from pipelines.stage import StageResult
    from pipelines.train.windows import Windows

__all__ = [
    "dataset",
    "demonstrators",
    "distill",
    "load",
    "make",
    "pack",
    "register",
    "register_task",
    "rollout",
    "train",
]

Location = str | Path | None
"""Where artifacts lie: a directory; None for ``$VINTIX_WORKSPACE``, else ``./artifacts``."""


def _take_pipelines() -> None:
    """Import the package `pipelines` that belongs to this one, whatever else has that name.

    A folder ``pipelines`` of the user's, where a program or an interpreter starts, comes first on
    Python's path and would be taken for it.

    Raises:
        ImportError: Another one has been imported already.
    """
    from importlib.machinery import PathFinder

    root = Path(__file__).parent.parent
    first = PathFinder.find_spec("pipelines")
    sys.path.insert(0, str(root))
    try:
        import pipelines
    finally:
        sys.path.remove(str(root))
    taken = Path(pipelines.__file__ or next(iter(pipelines.__path__)))
    own = root / "pipelines" / "__init__.py"
    if not taken.samefile(own):
        raise ImportError(
            f"vintix needs a package 'pipelines' of its own, and {taken} has been imported by that "
            "name. Rename yours, or import vintix in a process that does not import yours."
        )
    if first is not None and first.origin is not None and not taken.samefile(first.origin):
        warnings.warn(
            f"{first.origin} has the name of a package that comes with vintix: in this process "
            "'import pipelines' means that of vintix. Rename yours to use both.",
            stacklevel=3,
        )


_take_pipelines()


def load(
    checkpoint: str | None = None, *, workspace: Location = None, device: str = "cpu"
) -> Agent:
    """Return the agent of a trained checkpoint.

    Args:
        checkpoint: ``packaged`` for the model that comes with vintix, a name, ``name@v3``, or the
            path of a version; None for the newest of the workspace, or the packaged one.
        workspace: Where artifacts lie.
        device: Of PyTorch.

    Raises:
        ArtifactMissingError: There is no such checkpoint.
        ArtifactCorruptError: It is damaged.
    """
    from pipelines.artifacts.workspace import Workspace
    from pipelines.model.saved import load_model
    from pipelines.rollout.acting import Agent

    saved = load_model(Workspace.resolve(workspace).find("checkpoints", checkpoint))
    saved.model.to(device)
    return Agent(saved)


def make(task: str, **options: Any) -> gymnasium.Env[Any, Any]:
    """Return a task's environment as the stages run it: seeds, limits, float32 observations.

    Args:
        task: A task's name, as ``vintix tasks`` lists them.
        **options: Options of its domain, such as ``gravity="1.1x"``.

    Raises:
        UsageError: The task, an option or its value is not known.
        MissingDependencyError: The simulator is not there.
    """
    from pipelines.domains.gym import make as make_task

    return make_task(task, **options)


def register_task(
    name: str,
    env: str | Callable[[], gymnasium.Env[Any, Any]],
    *,
    demonstrator: Callable[[Any], Any] | None = None,
    **fields: Any,
) -> None:
    """Make an environment of yours a task that `make` and the stages of this process know.

    Its domain is ``registered``. Dimensions and actions are the environment's. Worker processes
    know the task where a script or a module registers it at its top level.

    Args:
        name: The task's name. One that was registered by this name before is replaced.
        env: An id of Gymnasium, or a function that returns an environment.
        demonstrator: An expert: from an observation, float32 (O,), to an action; numbers are kept
            within the bounds. None where one is trained (``source="train"``).
        **fields: Further fields of `pipelines.tasks.spec.TaskSpec`, such as ``horizon`` (of an id,
            its own by default), ``group`` (the name), ``trajectories`` and ``trajectory_length``.

    Raises:
        ConfigError: The environment is none that the stages can use, a field is wrong, or the name
            is another task's.
        gymnasium.error.Error: There is no such id.
    """
    from pipelines.domains.registered import registration_of
    from pipelines.domains.registry import register_task as register

    register(registration_of(name, env, demonstrator, fields))


def dataset(name: str | None = None, *, workspace: Location = None, **fields: Any) -> Windows:
    """Return the windows of a packed dataset, for a `torch.utils.data.DataLoader`.

    Args:
        name: The dataset; None for the newest.
        workspace: Where artifacts lie.
        **fields: Fields of `pipelines.train.config.TrainConfig`, such as ``context``, ``tasks`` and
            ``method``.

    Raises:
        ArtifactMissingError: There is no such dataset.
        ConfigError: A field is wrong, or the dataset does not have what the method reads.
    """
    from pipelines.artifacts.workspace import Workspace
    from pipelines.train.windows import Windows

    config = _config("train", {"dataset": name, **fields})
    return Windows(config, Workspace.resolve(workspace))


def register(name: str, added: type[Any]) -> None:
    """Give a training method, an action head or a backbone of your own a name in this process.

    `train` and `rollout` know it then, as they know those that packages bring by entry points. A
    checkpoint keeps the name: whoever plays it registers the class first.

    Args:
        name: What ``method``, ``model.head`` or ``model.backbone`` chooses it by.
        added: A class derived from `pipelines.methods.base.Method`,
            `pipelines.model.heads.base.Head` or `pipelines.model.backbones.base.Backbone`.

    Raises:
        UsageError: The class derives from none of them, or vintix has one of that name itself.
    """
    from pkgutil import resolve_name

    from pipelines.errors import UsageError
    from pipelines.methods import METHODS
    from pipelines.model.backbones import BACKBONES
    from pipelines.model.heads import HEADS

    kinds: tuple[Any, ...] = (METHODS, HEADS, BACKBONES)
    for kind in kinds:
        if isinstance(added, type) and issubclass(added, resolve_name(kind.base)):
            kind.add(name, added)
            return
    raise UsageError(
        "this is nothing that can be registered",
        where=f"register({name!r}, ...)",
        expected=f"a class derived from {', '.join(kind.base.replace(':', '.') for kind in kinds)}",
        found=repr(added),
        fix="see CONTRIBUTING.md for an example of each",
    )


def demonstrators(*, workspace: Location = None, **fields: Any) -> StageResult:
    """Get an expert policy a task and measure it: ``vintix demonstrators``.

    Args:
        workspace: Where artifacts lie.
        **fields: Fields of `pipelines.demonstrators.config.DemonstratorsConfig`.

    Returns:
        The artifact, whether it had been there already, and what ``--json`` prints.

    Raises:
        VintixError: As the command, whose exit code and fix it has.
    """
    return _run("demonstrators", workspace, fields)


def distill(*, workspace: Location = None, **fields: Any) -> StageResult:
    """Collect histories: ``vintix distill``; `pipelines.distill.config.DistillConfig`.

    Args, returns and errors are those of `demonstrators`.
    """
    return _run("distill", workspace, fields)


def pack(*, workspace: Location = None, **fields: Any) -> StageResult:
    """Make a dataset of histories: ``vintix pack``; `pipelines.pack.config.PackConfig`.

    Args, returns and errors are those of `demonstrators`.
    """
    return _run("pack", workspace, fields)


def train(*, workspace: Location = None, **fields: Any) -> StageResult:
    """Train in this process: ``vintix train``; `pipelines.train.config.TrainConfig`.

    Args, returns and errors are those of `demonstrators`.
    """
    return _run("train", workspace, fields)


def rollout(*, workspace: Location = None, **fields: Any) -> StageResult:
    """Play a model: ``vintix rollout``; `pipelines.rollout.config.RolloutConfig`.

    Args, returns and errors are those of `demonstrators`.
    """
    return _run("rollout", workspace, fields)


def _config(stage: str, fields: dict[str, Any]) -> Any:
    from pipelines.config import config_class, resolve_config

    return resolve_config(stage, config_class(stage), command_line=fields)


def _run(stage: str, workspace: Location, fields: dict[str, Any]) -> StageResult:
    from importlib import import_module

    from pipelines.artifacts.workspace import Workspace
    from pipelines.reporter import NullReporter

    config = _config(stage, fields)
    implementation = import_module(f"pipelines.{stage}.stage")
    result: StageResult = implementation.run(config, Workspace.resolve(workspace), NullReporter())
    return result
