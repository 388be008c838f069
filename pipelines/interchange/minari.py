"""Histories as Minari datasets: one a task and history, one episode an episode, nothing lost.

Observations include the one after an episode's last step. Minari's infos have one entry for each
observation, so `noise` and `demonstrator_action` end with NaN, where no action was chosen. Each
episode's attributes say which trajectory it is from, its number there, its seed, its return, and
whether it is complete; the last episode of a trajectory may have been cut off, and then raises no
flag.

A dataset has the spaces of the environment that it was recorded in, the spec that makes this
environment again, the versions of what simulates it, and the reference scores that normalise its
returns, each where Minari looks for it.

Shapes: T steps of an episode, O observation, A action.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pipelines.actions import actions_of
from pipelines.artifacts import files
from pipelines.dependencies import load_extra
from pipelines.distill.job import episode_seed
from pipelines.errors import ArtifactMissingError, ConfigError, VintixError
from pipelines.histories.layout import ORIGINS
from pipelines.histories.reader import HistoryReader
from pipelines.interchange.config import ExportConfig
from pipelines.interchange.output import export_report, output_directory
from pipelines.interchange.tasks import safe_name
from pipelines.rows import HISTORY_EPISODES, HISTORY_ROWS, row_bytes
from pipelines.tasks.names import choose_tasks
from pipelines.text import listed

if TYPE_CHECKING:
    from gymnasium.envs.registration import EnvSpec
    from gymnasium.spaces import Box, Space
    from numpy.typing import NDArray

    from pipelines.artifacts.artifact import Artifact
    from pipelines.artifacts.workspace import Workspace
    from pipelines.reporter import Progress, Reporter

NAMESPACE = "vintix"
SCORES = "measured"
"""The reference whose random and expert returns become Minari's reference scores."""

_ATTRIBUTES = ("task", "schedule", *ORIGINS, "options", "scores")
_OWN = (
    rf"{NAMESPACE}/namespace_metadata\.json|{NAMESPACE}/[^/]+/namespace_metadata\.json"
    rf"|{NAMESPACE}/[^/]+/[^/]+/data/(metadata\.json|main_data\.hdf5)"
)


def dataset_id(task: str, name: str, version: int) -> str:
    """Return the Minari id of a task's history: ``vintix/<task>/<artifact>-v<N>``."""
    return f"{NAMESPACE}/{safe_name(task)}/{safe_name(name)}-v{version}"


def export_minari(config: ExportConfig, workspace: Workspace, reporter: Reporter) -> dict[str, Any]:
    """Write histories as Minari datasets.

    With ``MINARI_DATASETS_PATH`` set to the output, `minari.load_dataset` finds them by their ids.
    Where a task's environment cannot be made here, its dataset has unbounded spaces and no spec.

    Args:
        reporter: Told of progress, and of environments that are not those of the histories.

    Raises:
        ArtifactMissingError: There are no such histories.
        ArtifactCorruptError: They do not have the bytes their manifest promises.
        ConfigError: They were imported from a format that does not record all of it.
        UsageError: They do not hold a task, or the output is there already.
        MissingDependencyError: minari is not installed.
        StorageError: The output cannot be written.
    """
    artifact = workspace.find("histories", config.reference)
    reporter.info(f"histories: {artifact.reference}")
    return _export(artifact, _by_task([HistoryReader(artifact)]), config, reporter)


def export_packed(config: ExportConfig, workspace: Workspace, reporter: Reporter) -> dict[str, Any]:
    """Write a dataset as Minari datasets, from the histories that it was packed from.

    What is packed lacks the last observations of episodes and their flags; the histories have them.

    Raises:
        ArtifactMissingError: There is no such dataset, or its histories are not here with the
            bytes that were packed.
        ConfigError: It was imported, and there are no histories.
        ArtifactCorruptError, UsageError, MissingDependencyError, StorageError: As `export_minari`.
    """
    from pipelines.datasets.reader import DatasetReader

    artifact = workspace.find("datasets", config.reference)
    reporter.info(f"dataset {artifact.reference}")
    parents = [one for one in artifact.manifest.parents if one.kind == "histories"]
    if not parents:
        raise ConfigError(
            "a dataset without histories does not record all that a Minari dataset needs",
            where=f"datasets {artifact.reference}",
            expected="a dataset that vintix pack made of histories",
            found="no histories among what it was made from",
            fix="vintix export dataset --format official",
        )
    ancestors, missing = workspace.lineage([artifact])
    if lost := [one.reference for one in parents if one.reference in missing]:
        raise ArtifactMissingError(
            "the histories that the dataset was packed from are not here",
            where=f"datasets {artifact.reference}",
            expected=f"{listed(lost)}, with the bytes that were packed",
            found=f"none such in {workspace.root}",
            fix="vintix export dataset --format official",
        )
    here = {each.digest: each for each in ancestors}
    readers = [HistoryReader(here[one.digest]) for one in parents]
    packed = DatasetReader(artifact).tasks
    found = {name: held for name, held in _by_task(readers).items() if name in packed}
    return _export(artifact, found, config, reporter)


def _by_task(readers: Iterable[HistoryReader]) -> dict[str, list[HistoryReader]]:
    found: dict[str, list[HistoryReader]] = {}
    for reader in readers:
        for name in reader.tasks():
            found.setdefault(name, []).append(reader)
    return found


def _export(
    artifact: Artifact,
    readers: Mapping[str, Sequence[HistoryReader]],
    config: ExportConfig,
    reporter: Reporter,
) -> dict[str, Any]:
    load_extra("minari", "minari")
    load_extra("h5py", "minari")
    names = choose_tasks(
        config.tasks,
        [held[0].task(name)["task"] for name, held in readers.items()],
        among=f"the {artifact.kind} hold",
        where=artifact.reference,
    )
    chosen = [(name, reader) for name in names for reader in readers[name]]
    for name, reader in chosen:
        _check_complete(reader, name)
    total = sum(sum(reader.lengths(name)) for name, reader in chosen)
    needed = sum(_bytes(reader, name) for name, reader in chosen)
    exported = []
    with (
        output_directory(
            config.output, overwrite=config.overwrite, own=_OWN, needed=needed
        ) as output,
        reporter.progress("export", total, "steps") as progress,
    ):
        for name, reader in chosen:
            manifest = reader.artifact.manifest
            identity = dataset_id(name, manifest.name, manifest.version)
            environment = _environment(reader, name, reporter)
            episodes = _write_task(reader, name, identity, environment, output.directory, progress)
            exported.append(
                {
                    "task": name,
                    "dataset_id": identity,
                    "episodes": episodes,
                    "steps": sum(reader.lengths(name)),
                }
            )
    return export_report(artifact, config.output, output, "minari", tasks=exported)


def _bytes(reader: HistoryReader, name: str) -> int:
    task = reader.task(name)["task"]
    return sum(reader.lengths(name)) * row_bytes(
        "histories", task["observation_dim"], actions_of(task)
    )


class _Environment(NamedTuple):
    """What Minari is told of a task's environment.

    Attributes:
        spec: What makes it again; None where it cannot be made here.
        requirements: What pip would install to have it as it was recorded.
    """

    observation_space: Box
    action_space: Space[Any]
    spec: EnvSpec | None = None
    requirements: Sequence[str] = ()


def _environment(reader: HistoryReader, name: str, reporter: Reporter) -> _Environment:
    """Make the environment of a history and compare it with the recorded one."""
    from gymnasium.spaces import Box

    from pipelines.domains import gym
    from pipelines.domains.registry import domain_of, full_catalogue
    from pipelines.playing.fingerprint import compare_fingerprints, fingerprint

    attributes = reader.task(name)
    options = attributes["options"]
    dims = (attributes["task"]["observation_dim"], actions_of(attributes["task"]))
    recorded = reader.fingerprint(name) or {}
    try:
        task = full_catalogue().get(name)
        if (task.observation_dim, task.actions) != dims:
            raise ConfigError(
                "the task of this name has other dimensions",
                expected=f"{dims[0]} observation dims, {dims[1]}",
                found=f"{task.observation_dim} observation dims, {task.actions}",
            )
        spec = gym.environment_spec(task, options)
        env: Any = gym.make(**spec.kwargs)
        spaces = (env.observation_space, env.action_space)
        env.close()
        differences = compare_fingerprints(recorded, fingerprint(task, options))
    except VintixError as error:
        reporter.warn(
            f"{name}: its environment cannot be made here, so that its Minari dataset has "
            f"unbounded spaces and no env_spec: {'; '.join(error.parts())}"
        )
        endless = (Box(-np.inf, np.inf, (size,), np.float32) for size in (dims[0], dims[1].width))
        observation_space, action_space = endless
        return _Environment(
            observation_space, action_space if dims[1].continuous else dims[1].space
        )
    if differences:
        reporter.warn(
            f"{name}: the environment here is not the one that was recorded: "
            + "; ".join(differences)
        )
    versions = {"vintix": reader.artifact.manifest.packages["vintix"]}
    # Those of a simulator in another Python are not for this one's pip.
    own = domain_of(task).packages
    versions |= {
        key: version for key, version in recorded.get("packages", {}).items() if key in own
    }
    return _Environment(*spaces, spec, [f"{key}=={version}" for key, version in versions.items()])


def _reference_scores(task: Mapping[str, Any]) -> dict[str, float]:
    """Return the two scores that `minari.get_normalized_score` reads, if there are."""
    from pipelines.tasks.spec import score_of

    score = score_of(task["scores"], SCORES)
    return {} if score is None else {"ref_min_score": score.random, "ref_max_score": score.expert}


def _write_task(
    reader: HistoryReader,
    name: str,
    identity: str,
    environment: _Environment,
    target: Path,
    progress: Progress,
) -> int:
    minari = load_extra("minari", "minari")
    buffer_class = load_extra("minari.data_collector", "minari").EpisodeBuffer
    storage_class = load_extra("minari.dataset.minari_storage", "minari").MinariStorage
    task = reader.task(name)
    folder = target / identity / "data"
    files.make_directory(folder)
    for parent in (target / NAMESPACE, (target / identity).parent):
        files.write_file(parent / "namespace_metadata.json", b"{}")
    count = 0
    try:
        storage = storage_class.new(
            folder,
            observation_space=environment.observation_space,
            action_space=environment.action_space,
            env_spec=environment.spec,
            data_format="hdf5",
        )
        storage.update_metadata(
            {
                "dataset_id": identity,
                "minari_version": minari.__version__,
                "algorithm_name": _algorithm(task),
                "description": f"Learning history of {name}, histories {reader.reference}. "
                f"Reference scores: {SCORES} means of random play and of the demonstrator.",
                "requirements": list(environment.requirements),
                "vintix": json.dumps({key: task[key] for key in _ATTRIBUTES if key in task}),
                **_reference_scores(task),
            }
        )
        for trajectory in reader.trajectories(name):
            details: list[dict[str, Any]] = []

            def buffers(
                trajectory: int = trajectory, details: list[dict[str, Any]] = details
            ) -> Iterator[Any]:
                for rows, detail in _episodes(reader, name, trajectory):
                    details.append(detail)
                    progress.advance(len(rows["rewards"]))
                    yield buffer_class(**rows)

            storage.update_episodes(buffers())
            storage.update_episode_metadata(details, range(count, count + len(details)))
            count += len(details)
    except OSError as error:
        raise files.storage_error(error, folder) from error
    return count


def _algorithm(task: Mapping[str, Any]) -> str:
    """Name what made a history: noise distillation, or the learner whose history it is."""
    return str(task["train"]["algorithm"]) if "train" in task else "noise distillation"


def _episodes(
    reader: HistoryReader, name: str, trajectory: int
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield the arrays of each episode and what is said about it, holding a block and an episode.

    Episodes are cut from blocks; one that goes over the end of a block is put together first.
    """
    table = reader.episodes(name, trajectory)
    base = reader.artifact.manifest.seeds["seed"]
    parts: list[dict[str, NDArray[Any]]] = []
    have, number = 0, 0
    for block in reader.blocks(name, trajectory, HISTORY_ROWS):
        offset, length = 0, len(block["reward"])
        while offset < length:
            wanted = int(table["episode_length"][number]) - have
            taken = min(wanted, length - offset)
            # Copied, because the block's memory is used again.
            parts.append(
                {field: rows[offset : offset + taken].copy() for field, rows in block.items()}
            )
            offset, have = offset + taken, have + taken
            if taken == wanted:
                seed = episode_seed(base, name, trajectory, number)
                yield _episode(parts, table, number, trajectory, seed)
                parts, have, number = [], 0, number + 1


def _episode(
    parts: list[dict[str, NDArray[Any]]],
    table: dict[str, NDArray[Any]],
    number: int,
    trajectory: int,
    seed: int,
) -> tuple[dict[str, Any], dict[str, Any]]:
    rows = {field: np.concatenate([part[field] for part in parts]) for field in HISTORY_ROWS}
    final_O = table["episode_final_observation"][number]
    # There is none at the last observation.
    last_A = rows["demonstrator_action"][:1]
    nothing_A = np.full_like(last_A, np.nan if last_A.dtype.kind == "f" else -1)
    return (
        {
            "seed": seed,
            "observations": np.concatenate([rows["observation"], final_O[None]]),
            "actions": rows["action"],
            "rewards": rows["reward"],
            "terminations": rows["terminated"],
            "truncations": rows["truncated"],
            "infos": {
                "noise": np.append(rows["noise"], np.float32(np.nan)),
                "demonstrator_action": np.concatenate([rows["demonstrator_action"], nothing_A]),
            },
        },
        {
            "trajectory": trajectory,
            "episode": number,
            "return": float(table["episode_return"][number]),
            "complete": bool(table["complete"][number]),
        },
    )


def _check_complete(reader: HistoryReader, name: str) -> None:
    attributes = reader.task(name)
    missing = [field for field in HISTORY_ROWS if field not in reader.fields(name)]
    missing += [
        field
        for field in HISTORY_EPISODES
        if field not in attributes.get("episode_fields", HISTORY_EPISODES)
    ]
    if missing:
        raise ConfigError(
            "a history does not record all that a Minari dataset needs",
            where=f"histories {reader.reference}, task {name}",
            expected="histories that vintix distill collected",
            found=f"no {', '.join(missing)}: imported from "
            f"{attributes.get('imported', {}).get('format', 'another format')}",
            fix="vintix pack and vintix export dataset --format official, or choose other "
            "tasks with --task",
        )
