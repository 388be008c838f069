"""The HDF5 files of the authors' data release, read group by group.

    <root>/.../<task>/<task>.json      task_name, observation_shape, action_dim, action_type
    <root>/.../<task>/<n>.h5           one trajectory
        0-9999, 10000-19999, ...       groups of rows, named by their first and last row
            proprio_observation        float32 (n, O)
            action                     float32 (n, A)
            reward                     float32 (n,)
            step_num                   int32 (n,), 0 at an episode's first step

Names that end one past the last row (``0-10000``) are read too: the numbers of rows tell which.

Shapes: n rows of a group, O observation, A action.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pipelines.artifacts.files import raise_if_failing
from pipelines.dependencies import load_extra
from pipelines.errors import (
    ArtifactCorruptError,
    ArtifactMissingError,
    UnsafeContentError,
    UsageError,
)
from pipelines.foreign import read_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

Order = Literal["natural", "official"]

#: Dataset of the file for each field of a history, with its dtype.
FIELDS = {
    "observation": ("proprio_observation", "float32"),
    "action": ("action", "float32"),
    "reward": ("reward", "float32"),
    "episode_step": ("step_num", "int32"),
}
GROUP_ROWS = 10_000
#: Most bytes of one array of a group. A group is held in memory as a whole.
GROUP_BYTES = 1 << 30
_GROUP = re.compile(r"([0-9]{1,15})-([0-9]{1,15})")
#: Filters that HDF5 and h5py bring (H5Z_FILTER_*); any other would be loaded from a plug-in.
_FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32", 4: "szip", 5: "nbit", 6: "scaleoffset"}
_FILTERS[32_000] = "lzf"
_LAYOUT = "<root>/<task>/<task>.json and <root>/<task>/<n>.h5"


@dataclass(frozen=True)
class OfficialTaskFiles:
    """One task of a release.

    Attributes:
        name: `task_name` of its JSON.
        files: Its trajectories, in the order they are numbered.
    """

    name: str
    folder: Path
    observation_dim: int
    action_dim: int
    files: tuple[Path, ...]


def find_tasks(root: Path, order: Order) -> list[OfficialTaskFiles]:
    """Return the tasks below a directory, by name.

    Args:
        root: The release, or the folder of one task.
        order: How trajectories are numbered: ``natural`` puts 2.h5 before 10.h5, ``official``
            after it, as the release sorts them.

    Raises:
        ArtifactMissingError: There is no such directory, or no task in it.
        ArtifactCorruptError: A task's JSON is damaged or not as expected, or its files are missing.
        UsageError: Two folders hold the same task.
    """
    if not root.is_dir():
        raise ArtifactMissingError(
            "there is no such directory", where=root, expected=_LAYOUT, fix="give the data's folder"
        )
    folders = [root, *sorted(path for path in root.rglob("*") if path.is_dir())]
    found = [
        _read_task(folder, order)
        for folder in folders
        if (folder / f"{folder.resolve().name}.json").is_file()
    ]
    if not found:
        raise ArtifactMissingError(
            "there is no task of the authors' data layout here",
            where=root,
            expected=_LAYOUT,
            found=", ".join(sorted(path.name for path in root.iterdir())[:8]) or "nothing",
            fix="give the folder the data was downloaded to, or that of one task",
        )
    names: dict[str, Path] = {}
    for task in found:
        other = names.setdefault(task.name, task.folder)
        if other != task.folder:
            raise UsageError(
                f"two folders hold the task {task.name!r}",
                where=f"{other} and {task.folder}",
                expected="every task once",
                fix="import one of the folders by itself",
            )
    return sorted(found, key=lambda task: task.name)


def read_groups(
    task: OfficialTaskFiles, path: Path, fields: Sequence[str]
) -> Iterator[tuple[int, dict[str, NDArray[Any]]]]:
    """Yield first row and arrays of each group of a trajectory, in the order of rows.

    Raises:
        ArtifactCorruptError: The file cannot be read, its groups do not follow one another, or an
            array is missing or of another shape or kind.
        MissingDependencyError: h5py is not installed.
    """
    with _opened(path) as file:
        for first, name, rows in _groups(file, path):
            group, where = file[name], f"{path}:/{name}"
            yield first, {field: _read(group, task, field, rows, where) for field in fields}


def count_rows(path: Path) -> int:
    """Return the rows of a trajectory, from the names and sizes of its groups alone.

    Raises:
        ArtifactCorruptError: As `read_groups`.
        MissingDependencyError: h5py is not installed.
    """
    with _opened(path) as file:
        return sum(rows for _, _, rows in _groups(file, path))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open an HDF5 file; what the library says of a damaged one becomes an error of ours."""
    h5py = load_extra("h5py", "h5")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError) as error:
        raise_if_failing(error, path)
        raise ArtifactCorruptError(
            "an HDF5 file cannot be read",
            where=path,
            expected="a whole HDF5 file of the authors' data layout",
            found=next(iter(str(error).splitlines()), type(error).__name__)[:300],
            fix="download the file again, or leave the task out",
        ) from error


def _groups(file: Any, path: Path) -> list[tuple[int, str, int]]:
    """Return first row, name and number of rows of each group, ascending."""
    h5py = load_extra("h5py", "h5")
    named = []
    for name in file:
        match = _GROUP.fullmatch(name)
        group = _member(file, name, f"{path}:")
        if match is None or not isinstance(group, h5py.Group) or "reward" not in group:
            raise _wrong(path, "groups named by their rows, such as 0-9999", f"/{name}")
        reward = _array(group, "reward", f"{path}:/{name}")
        rows = int(reward.shape[0]) if reward.shape else 0
        named.append((int(match[1]), int(match[2]), name, rows))
    named.sort()
    following = 0
    for first, last, name, rows in named:
        if first != following or rows < 1 or rows not in (last - first + 1, last - first):
            raise _wrong(
                f"{path}:/{name}",
                f"a group that begins at row {following:,} and holds the rows of its name",
                f"rows {first:,} to {last:,} by its name, {rows:,} rows of reward",
            )
        following += rows
    if not named:
        raise _wrong(path, "groups named by their rows, such as 0-9999", "no group")
    return [(first, name, rows) for first, _, name, rows in named]


def _read(group: Any, task: OfficialTaskFiles, field: str, rows: int, where: str) -> NDArray[Any]:
    name, dtype = FIELDS[field]
    shapes = {"observation": (rows, task.observation_dim), "action": (rows, task.action_dim)}
    shape = shapes.get(field, (rows,))
    if name not in group:
        raise _wrong(where, f"an array {name}", ", ".join(group) or "nothing")
    array = _array(group, name, where)
    # A float64 or int64 array would lose digits without anybody being told.
    if array.shape != shape or not np.can_cast(array.dtype, dtype, "same_kind"):
        raise _wrong(f"{where}/{name}", f"{dtype} {shape}", f"{array.dtype} {array.shape}")
    if array.nbytes > GROUP_BYTES:
        raise _wrong(f"{where}/{name}", f"at most {GROUP_BYTES:,} bytes", f"{array.nbytes:,} bytes")
    _check_stored(array, f"{where}/{name}")
    values = array[...]
    converted: NDArray[Any] = values.astype(dtype, copy=False)
    if converted.dtype != values.dtype and not np.array_equal(converted, values):
        raise _wrong(
            f"{where}/{name}", f"numbers that fit {dtype}", f"{values.dtype} with more digits"
        )
    if converted.dtype.kind == "f" and not np.isfinite(converted).all():
        place = np.argwhere(~np.isfinite(converted))[0]
        raise _wrong(
            f"{where}/{name}", "finite numbers", f"{converted[tuple(place)]} at {place.tolist()}"
        )
    return converted


def _member(group: Any, name: str, where: str) -> Any:
    """Return a member of a group that is in the group itself, not where a link leads to."""
    h5py = load_extra("h5py", "h5")
    link = group.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise _elsewhere(f"{where}/{name}", _link_text(link))
    return group[name]


def _array(group: Any, name: str, where: str) -> Any:
    """Return an array of a group whose numbers are all in the file that was opened.

    External storage, virtual datasets and links read other files, or other parts of this one; the
    filters of plug-ins are foreign code that HDF5 would load.
    """
    h5py = load_extra("h5py", "h5")
    array, place = _member(group, name, where), f"{where}/{name}"
    if not isinstance(array, h5py.Dataset):
        raise _wrong(place, "an array", type(array).__name__.lower())
    if array.external:
        raise _elsewhere(place, f"external storage in {array.external[0][0]!r}")
    if array.is_virtual:
        raise _elsewhere(place, "a virtual dataset")
    settings = array.id.get_create_plist()
    for number in range(settings.get_nfilters()):
        code, _, _, text = settings.get_filter(number)
        if code not in _FILTERS:
            raise UnsafeContentError(
                "reading an array would load a plug-in of HDF5",
                where=place,
                expected=f"no filter but {', '.join(_FILTERS.values())}",
                found=f"filter {code} {text.decode(errors='replace')}".strip(),
                fix="write the file again with h5repack -f GZIP=4, or without filters",
            )
    return array


def _check_stored(array: Any, where: str) -> None:
    """Check that every number of an array was written; HDF5 gives zeros for those that were not."""
    if array.chunks is None:
        stored, expected, unit = array.id.get_storage_size(), array.nbytes, "bytes"
    else:
        stored, unit = array.id.get_num_chunks(), "chunks"
        expected = math.prod(
            -(-length // chunk) for length, chunk in zip(array.shape, array.chunks, strict=True)
        )
    if stored < expected:
        raise _wrong(where, f"{expected:,} {unit} in the file", f"{stored:,}")


def _link_text(link: Any) -> str:
    kind = type(link).__name__.removesuffix("Link").lower()
    file = getattr(link, "filename", None)
    return f"a {kind} link to {link.path!r}" + (f" of {file!r}" if file else "")


def _elsewhere(where: str, found: str) -> UnsafeContentError:
    return UnsafeContentError(
        "the numbers of an array are not in its own place in the file",
        where=where,
        expected="an array inside the file, without links",
        found=found,
        fix="copy the data into one file (h5repack), or leave the task out",
    )


def _read_task(folder: Path, order: Order) -> OfficialTaskFiles:
    path = folder / f"{folder.resolve().name}.json"
    try:
        content = read_json(path)
        name, shape = content["task_name"], content["observation_shape"]
        action_dim, kind = content["action_dim"], content["action_type"]
        usable = (
            isinstance(name, str)
            and list(shape) == ["proprio"]
            and len(shape["proprio"]) == 1
            and kind == "continuous"
            and all(isinstance(n, int) and n > 0 for n in (shape["proprio"][0], action_dim))
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _wrong(
            path,
            "JSON with task_name, observation_shape, action_dim, action_type",
            f"{type(error).__name__}: {error}",
        ) from error
    if not usable:
        raise _wrong(
            path,
            'observation_shape {"proprio": [n]}, action_type continuous',
            f"observation_shape {shape}, action_dim {action_dim}, action_type {kind}",
        )
    files = sorted(folder.glob("*.h5"), key=_natural if order == "natural" else lambda p: p.name)
    if not files:
        raise _wrong(folder, "trajectories named <n>.h5", "none")
    for each in files:
        if not each.is_file():
            raise _wrong(each, "a file", "something else, or a broken link")
    return OfficialTaskFiles(name, folder, int(shape["proprio"][0]), int(action_dim), tuple(files))


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    parts = [part for part in re.split(r"(\d+)", path.stem) if part]
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts], path.name


def _wrong(where: object, expected: object, found: object) -> ArtifactCorruptError:
    return ArtifactCorruptError(
        "data is not laid out as the authors' release is",
        where=where,
        expected=expected,
        found=found,
        fix="download the files again, or lay them out as docs/interchange.md says",
    )
