"""The authors' data release as learning histories, without a copy in between.

The release keeps neither the noise nor the demonstrator's actions, nor whether an episode was
terminated or truncated, nor the observation after its last step. Histories made from it say so in
their attributes ``fields`` and ``episode_fields``.

Shapes: T steps of a trajectory, E episodes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.artifacts.files import raise_if_failing
from pipelines.errors import ArtifactCorruptError, ConfigError, UsageError
from pipelines.foreign import read_json
from pipelines.histories.blocks import regroup
from pipelines.interchange.official_files import (
    GROUP_ROWS,
    OfficialTaskFiles,
    Order,
    count_rows,
    find_tasks,
    read_groups,
)
from pipelines.interchange.tasks import describe_task, match_task, unknown_task

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipelines.tasks.registry import Catalogue
    from pipelines.tasks.spec import TaskSpec

FORMAT = "official-hdf5"
#: Beside the data: settings of tasks that the catalogue does not have, or has otherwise.
DESCRIPTION = "vintix.json"
ROW_FIELDS = ("observation", "action", "reward")
EPISODE_FIELDS = ("episode_start", "episode_length", "episode_return")


class OfficialSource:
    """A release's data; a `pipelines.histories.source.HistorySource`.

    Args:
        root: Its directory, or that of one task.
        catalogue: The tasks that names are looked up in.
        order: How trajectories are numbered, see `find_tasks`.

    Raises:
        ArtifactMissingError: There is no data.
        ArtifactCorruptError: A file is damaged or laid out otherwise.
        ConfigError: The description beside the data cannot be used, or two tasks have one name.
        MissingDependencyError: h5py is not installed.
    """

    def __init__(self, root: Path, catalogue: Catalogue, order: Order = "natural") -> None:
        self.root = root
        self.order = order
        self.notes: dict[str, str] = {}
        self._catalogue = catalogue
        self._files: dict[str, OfficialTaskFiles] = {}
        self._attributes: dict[str, dict[str, Any]] = {}
        self._lengths: dict[str, list[int]] = {}
        self._episodes: dict[tuple[str, int], dict[str, NDArray[Any]]] = {}
        self.description = _read_description(root / DESCRIPTION)
        for task in find_tasks(root, order):
            # The horizon is known once the data is read; names and groups are settled now.
            name = self._specification(task, horizon=1).name
            if name in self._files:
                raise ConfigError(
                    f"two tasks of the data are {name!r} of the catalogue",
                    where=f"{self._files[name].folder} and {task.folder}",
                    expected="every task once",
                    fix=f"give one of them another name in {root / DESCRIPTION}",
                )
            self._files[name] = task
        for name, task in self._files.items():
            self._lengths[name] = [count_rows(path) for path in task.files]

    @property
    def reference(self) -> str:
        """The directory."""
        return str(self.root)

    def tasks(self) -> list[str]:
        """Return the names of the tasks, sorted."""
        return sorted(self._files)

    def files(self, name: str) -> OfficialTaskFiles:
        """Return where a task's data is.

        Raises:
            UsageError: There is no such task.
        """
        if name not in self._files:
            raise UsageError(
                f"the data holds no task {name!r}",
                where=self.root,
                expected=", ".join(self.tasks()),
                found=name,
            )
        return self._files[name]

    def fields(self, name: str) -> tuple[str, ...]:
        """Return the per-step arrays that the release has."""
        return ROW_FIELDS

    def lengths(self, name: str) -> list[int]:
        """Return the number of steps of each trajectory."""
        self.files(name)
        return self._lengths[name]

    def fingerprint(self, name: str) -> dict[str, Any] | None:
        """Return None: the release says nothing about its environments."""
        return None

    def task(self, name: str) -> dict[str, Any]:
        """Return a task's attributes; reads the step numbers of its trajectories once.

        Raises:
            ArtifactCorruptError: A file is damaged or laid out otherwise.
        """
        if name not in self._attributes:
            task = self.files(name)
            episodes = [self.episodes(name, number) for number in range(len(task.files))]
            horizon = max(int(each["episode_length"].max()) for each in episodes)
            spec = self._specification(task, horizon)
            lengths = self._lengths[name]
            self._attributes[name] = {
                "task": spec.as_json(),
                "schedule": None,
                "options": {},
                "scores": {key: score.as_json() for key, score in spec.scores.items()},
                "steps": max(lengths),
                "rows": lengths,
                "trajectories": len(task.files),
                # Nothing is recorded; only an episode as long as any can be is surely whole.
                "last_episode_complete": [
                    bool(each["episode_length"][-1] >= spec.horizon) for each in episodes
                ],
                "fields": list(ROW_FIELDS),
                "episode_fields": list(EPISODE_FIELDS),
                "imported": {
                    "format": FORMAT,
                    "task_name": task.name,
                    "files": [path.name for path in task.files],
                    "order": self.order,
                },
            }
        return self._attributes[name]

    def blocks(
        self,
        name: str,
        trajectory: int,
        fields: Sequence[str] = ROW_FIELDS,
        rows: int | None = None,
    ) -> Iterator[dict[str, NDArray[Any]]]:
        """Yield consecutive blocks of rows, holding no more than a group and a block in memory.

        Raises:
            ArtifactCorruptError: The file is damaged or laid out otherwise.
        """
        task = self.files(name)
        groups = (arrays for _, arrays in read_groups(task, task.files[trajectory], fields))
        yield from regroup(groups, min(rows or GROUP_ROWS, self._lengths[name][trajectory]))

    def episodes(self, name: str, trajectory: int) -> dict[str, NDArray[Any]]:
        """Return start int64, length int32 and return float64 of each episode, (E,).

        Raises:
            ArtifactCorruptError: The file is damaged or laid out otherwise, or its step numbers do
                not count the steps of episodes.
        """
        key = (name, trajectory)
        if key not in self._episodes:
            self._episodes[key] = self._read_episodes(self.files(name), trajectory)
        return self._episodes[key]

    def _read_episodes(self, task: OfficialTaskFiles, trajectory: int) -> dict[str, NDArray[Any]]:
        path = task.files[trajectory]
        starts: list[NDArray[np.int64]] = []
        returns: list[NDArray[np.float64]] = []
        before, total = -1, 0
        for first, arrays in read_groups(task, path, ("episode_step", "reward")):
            step, reward = arrays["episode_step"], arrays["reward"]
            _check_steps(step, before, first, path)
            begin = np.flatnonzero(step == 0)
            starts.append(begin + first)
            # Rows before the group's first start go on with the episode of the group before.
            episode = np.searchsorted(begin, np.arange(len(step)), side="right")
            sums = np.zeros(len(begin) + 1)
            np.add.at(sums, episode, reward.astype(np.float64))
            if returns:
                returns[-1][-1] += sums[0]
            if len(begin):
                returns.append(sums[1:])
            before, total = int(step[-1]), first + len(step)
        start = np.concatenate(starts)
        length = np.diff(np.append(start, total)).astype(np.int32)
        return {
            "episode_start": start,
            "episode_length": length,
            "episode_return": np.concatenate(returns),
        }

    def _specification(self, task: OfficialTaskFiles, horizon: int) -> TaskSpec:
        known, reason = match_task(
            task.name, task.observation_dim, task.action_dim, self._catalogue
        )
        spec = known or unknown_task(task.name, task.observation_dim, task.action_dim, horizon)
        description = self.description.get(task.name)
        if description is not None:
            return describe_task(spec, description, f"{self.root / DESCRIPTION}: {task.name}")
        if reason is not None:
            self.notes[task.name] = reason
        return spec


def _check_steps(step: NDArray[np.int32], before: int, first: int, path: Path) -> None:
    """Check that every row begins an episode or is one step after the row before it."""
    previous = np.append(np.int32(before), step[:-1])
    wrong = np.flatnonzero((step != 0) & (step != previous + 1))
    if first == 0 and step[0] != 0:
        wrong = np.array([0])
    if len(wrong):
        row = int(wrong[0])
        expected = "0" if first + row == 0 else f"0 or {int(previous[row]) + 1}"
        raise ArtifactCorruptError(
            "step numbers do not count the steps of episodes",
            where=f"{path}: row {first + row:,} of step_num",
            expected=expected,
            found=int(step[row]),
            fix="download the file again, or leave the task out",
        )


def _read_description(path: Path) -> Mapping[str, Mapping[str, Any]]:
    if not path.is_file():
        return {}
    try:
        tasks = read_json(path)["tasks"]
        usable = isinstance(tasks, dict) and all(isinstance(v, dict) for v in tasks.values())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise_if_failing(error, path)
        raise ConfigError(
            "the description of the data cannot be read",
            where=path,
            expected='JSON: {"tasks": {"<task_name>": {"group": ..., "reward_scale": ...}}}',
            found=f"{type(error).__name__}: {error}",
        ) from error
    if not usable:
        raise ConfigError(
            "the description of the data is not one",
            where=path,
            expected='{"tasks": {"<task_name>": {"group": ..., "reward_scale": ...}}}',
        )
    return dict(tasks)
