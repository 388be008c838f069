"""The authors' data release into histories or a dataset, and a dataset into its layout.

Shapes: T steps of a trajectory, O observation, A action.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.actions import Box
from pipelines.artifacts import files
from pipelines.artifacts.arrays import create_rows, write_array
from pipelines.artifacts.row_arrays import balanced_rows
from pipelines.dependencies import load_extra
from pipelines.errors import ArtifactCorruptError
from pipelines.histories.layout import trajectory_path
from pipelines.histories.storage import join_trajectories, staged_trajectories
from pipelines.interchange.config import ExportConfig, ImportDatasetConfig
from pipelines.interchange.official_files import FIELDS, GROUP_ROWS
from pipelines.interchange.official_source import DESCRIPTION, FORMAT, OfficialSource
from pipelines.interchange.output import export_report, output_directory
from pipelines.interchange.tasks import check_continuous, description_of, safe_name
from pipelines.pack.config import CHUNK_BYTES
from pipelines.rows import row_layout
from pipelines.stage import StageResult
from pipelines.tasks.names import choose_tasks

if TYPE_CHECKING:
    from pipelines.artifacts.artifact import Artifact
    from pipelines.artifacts.staging import Staging
    from pipelines.artifacts.workspace import Workspace
    from pipelines.datasets.reader import DatasetReader, DatasetTask
    from pipelines.reporter import Progress, Reporter
    from pipelines.signals import StopSignal

_STOPPED = "interrupted; trajectories that were imported are kept"
_GO_ON = "run the same command again: it goes on from there"
_OWN = rf"{DESCRIPTION}|[^/]+/[^/]+/[^/]+\.(h5|json)"


def import_dataset(
    config: ImportDatasetConfig, workspace: Workspace, reporter: Reporter
) -> StageResult:
    """Import the authors' data, or go on where an earlier import stopped.

    Memory does not grow with the data: one group of 10,000 rows and one chunk are held.

    Returns:
        The published histories or dataset, and what it holds.

    Raises:
        ArtifactMissingError: There is no data.
        ArtifactCorruptError: A file is damaged or laid out otherwise.
        ConfigError: The description beside the data cannot be used.
        UsageError: A task is not in the data.
        MissingDependencyError: h5py is not installed.
        InterruptedRunError: A signal stopped the run; whole trajectories are staged.
        StorageError, LockedError: The workspace cannot be written.
    """
    from pipelines.domains.registry import full_catalogue
    from pipelines.pack.config import PackConfig
    from pipelines.pack.plan import arrange
    from pipelines.pack.stage import pack_tasks
    from pipelines.signals import StopSignal

    with StopSignal() as stop:
        root = config.path.expanduser().absolute()
        source = OfficialSource(root, full_catalogue(), config.order)
        for name, reason in sorted(source.notes.items()):
            reporter.warn(f"{name} is imported as a task of its own: {reason}")
        packing = PackConfig(
            tasks=config.tasks,
            chunk_rows=config.chunk_rows,
            allow_validation=config.allow_validation,
        )
        tasks = arrange(packing, [source])
        names = [task.name for task in tasks]
        kind = "datasets" if config.as_kind == "dataset" else "histories"
        content = {
            "import": FORMAT,
            "order": config.order,
            "chunk_rows": config.chunk_rows,
            "tasks": names,
            "description": {key: dict(value) for key, value in source.description.items()},
            "files": _hashes(source, names, reporter, stop),
        }
        if kind == "datasets":
            content["allow_validation"] = config.allow_validation
        name = config.name or safe_name(root.name)
        with workspace.stage(kind, name, config=content) as staging:
            if staging.published is not None:
                return _result(staging.published, True, source)
            reporter.info(staging.place())
            if kind == "datasets":
                artifact = pack_tasks(tasks, staging, reporter, stop)
            else:
                artifact = _write_histories(
                    source, names, config.chunk_rows, staging, reporter, stop
                )
    return _result(artifact, False, source)


def export_dataset(
    config: ExportConfig, workspace: Workspace, reporter: Reporter
) -> dict[str, Any]:
    """Write a dataset in the layout of the authors' release.

    The layout has no place for the noise, groups and reward scales; what the catalogue would not
    say is written beside it, into ``vintix.json``, where an import finds it.

    Raises:
        ArtifactMissingError: There is no such dataset.
        ArtifactCorruptError: It does not have the bytes its manifest promises.
        ConfigError: A task's actions are not continuous.
        UsageError: It does not hold a task, or the output is there already.
        MissingDependencyError: h5py is not installed.
        StorageError: The output cannot be written.
    """
    from pipelines.datasets.reader import DatasetReader

    load_extra("h5py", "h5")
    artifact = workspace.find("datasets", config.reference)
    reporter.info(f"dataset {artifact.reference}")
    reader = DatasetReader(artifact)
    tasks = _selected(reader, config.tasks)
    for task in tasks:
        check_continuous(task.actions, f"task {task.name}", "--format minari")
    total = sum(sum(task.rows) for task in tasks)
    needed = sum(
        4 * sum(task.rows) * (task.observation_dim + task.actions.width + 2) for task in tasks
    )
    with (
        output_directory(
            config.output, overwrite=config.overwrite, own=_OWN, needed=needed
        ) as output,
        reporter.progress("export", total, "steps") as progress,
    ):
        described = {}
        for task in tasks:
            specification = task.attributes["task"]
            imported = task.attributes.get("imported", {})
            name = str(imported.get("task_name", task.name))
            folder = output.directory / safe_name(specification["domain"]) / safe_name(name)
            files.make_directory(folder)
            _write_json(
                folder / f"{folder.name}.json",
                {
                    "task_name": name,
                    "observation_shape": {"proprio": [task.observation_dim]},
                    "action_dim": task.actions.width,
                    "action_type": "continuous",
                },
            )
            described[name] = description_of(specification)
            for number, file_name in enumerate(_file_names(task)):
                _write_trajectory(reader, task, number, folder / file_name, progress)
        _write_json(output.directory / DESCRIPTION, {"tasks": described})
    return export_report(
        reader.artifact,
        config.output,
        output,
        "official",
        tasks=[
            {"task": task.name, "trajectories": len(task.rows), "steps": sum(task.rows)}
            for task in tasks
        ],
    )


def _write_histories(
    source: OfficialSource,
    names: list[str],
    most: int,
    staging: Staging,
    reporter: Reporter,
    stop: StopSignal,
) -> Artifact:
    total = sum(sum(source.lengths(name)) for name in names)
    done = sum(
        rows
        for name in names
        for trajectory, rows in enumerate(source.lengths(name))
        if staging.done(trajectory_path(name, trajectory))
    )
    reports: list[dict[str, Any]] = []
    with reporter.progress("import", total, "steps", done) as progress:
        for name in names:
            attributes = source.task(name)
            trajectories = range(attributes["trajectories"])
            for trajectory in trajectories:
                _write_history(source, name, trajectory, most, staging, progress, stop)
            if not staging.done(name):
                items = [trajectory_path(name, each) for each in trajectories]
                staged = staged_trajectories(staging, name, items, trajectories)
                with staging.work_item(name) as item:
                    join_trajectories(item, staging, attributes, items, staged)
            reports.append(_report(source, name))
    return staging.publish(
        summary={"tasks": reports, "steps": total, "imported": FORMAT},
        work_items=names,
        packages=["h5py"],
    )


def _write_history(
    source: OfficialSource,
    name: str,
    trajectory: int,
    most: int,
    staging: Staging,
    progress: Progress,
    stop: StopSignal,
) -> None:
    path, rows = trajectory_path(name, trajectory), source.lengths(name)[trajectory]
    if staging.done(path):
        return
    task = source.files(name)
    layout = row_layout("histories", task.observation_dim, Box(task.action_dim))
    by_bytes = CHUNK_BYTES // (4 * task.observation_dim)
    chunk = balanced_rows(rows, max(1, min(most, by_bytes)))
    fields = source.fields(name)
    with staging.work_item(path) as unit:
        group = unit.group(path, {})
        arrays = {
            field: create_rows(
                group, field, (rows, *layout[field][0]), layout[field][1], chunk_rows=chunk
            )
            for field in fields
        }
        begin = 0
        for block in source.blocks(name, trajectory, fields, chunk):
            end = begin + len(block["reward"])
            for field, array in arrays.items():
                array[begin:end] = block[field]
            progress.advance(end - begin)
            stop.raise_if_requested(_STOPPED, fix=_GO_ON)
            begin = end
        for field, values in source.episodes(name, trajectory).items():
            write_array(group, field, values)


def _report(source: OfficialSource, name: str) -> dict[str, Any]:
    attributes = source.task(name)
    episodes = [source.episodes(name, k) for k in range(attributes["trajectories"])]
    return {
        "task": name,
        "task_name": attributes["imported"]["task_name"],
        "group": attributes["task"]["group"],
        "trajectories": attributes["trajectories"],
        "steps": sum(attributes["rows"]),
        "episodes": sum(len(each["episode_start"]) for each in episodes),
    }


def _result(artifact: Artifact, up_to_date: bool, source: OfficialSource) -> StageResult:
    return StageResult(
        artifact,
        up_to_date,
        {**artifact.manifest.summary, "source": str(source.root), "unmatched": dict(source.notes)},
    )


def _hashes(
    source: OfficialSource, names: list[str], reporter: Reporter, stop: StopSignal
) -> dict[str, Any]:
    """Return the SHA-256 of every file, so that changed data is never taken for the same."""
    listed = {
        path.relative_to(source.root).as_posix(): path
        for name in names
        for path in source.files(name).files
    }
    found = {}
    with reporter.progress("hash files", len(listed), "files") as progress:
        for (relative, path), record in zip(
            listed.items(),
            files.hash_files((path.resolve(), None) for path in listed.values()),
            strict=True,
        ):
            if isinstance(record, OSError):
                files.raise_if_failing(record, path)
                raise ArtifactCorruptError(
                    "a file of the data cannot be read",
                    where=path,
                    found=record.strerror or str(record),
                    fix="allow reading it, or download it again",
                )
            found[relative] = record.sha256
            progress.advance(1)
            stop.raise_if_requested(_STOPPED, fix=_GO_ON)
    return found


def _selected(reader: DatasetReader, wanted: tuple[str, ...]) -> list[DatasetTask]:
    names = choose_tasks(
        wanted,
        [task.attributes["task"] for task in reader.tasks.values()],
        among="the dataset holds",
        where=reader.artifact.reference,
    )
    return [reader.tasks[name] for name in names]


def _file_names(task: DatasetTask) -> list[str]:
    """Return the name of each trajectory's file: those that were imported, if they still fit.

    They are numbers where several imports were joined, and where a dataset from elsewhere has
    names that lead out of the directory.
    """
    names = [str(each) for each in task.attributes.get("imported", {}).get("files", ())]
    plain = all(Path(name).name == name and name.endswith(".h5") for name in names)
    if plain and len(set(names)) == len(task.rows):
        return names
    return [f"{number}.h5" for number in range(len(task.rows))]


def _write_trajectory(
    reader: DatasetReader, task: DatasetTask, number: int, path: Path, progress: Progress
) -> None:
    h5py = load_extra("h5py", "h5")
    try:
        with h5py.File(path, "w") as file:
            for first in range(0, task.rows[number], GROUP_ROWS):
                length = min(GROUP_ROWS, task.rows[number] - first)
                rows = reader.window(task.name, number, first, length, tuple(FIELDS))
                group = file.create_group(f"{first}-{first + length - 1}")
                for field, (name, dtype) in FIELDS.items():
                    group.create_dataset(name, data=np.ascontiguousarray(rows[field], dtype))
                progress.advance(length)
    except OSError as error:
        raise files.storage_error(error, path) from error


def _write_json(path: Path, value: Any) -> None:
    files.write_file(path, json.dumps(value, ensure_ascii=False).encode())
