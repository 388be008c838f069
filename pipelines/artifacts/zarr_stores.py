"""Zarr stores over a local directory: one that writes durably, one that reads verified bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from functools import cached_property
from pathlib import Path

import zarr
from zarr.abc.store import (
    ByteRequest,
    OffsetByteRequest,
    RangeByteRequest,
    Store,
    SuffixByteRequest,
)
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.storage import LocalStore

from pipelines.artifacts import files


class StagedStore(LocalStore):
    """Reads a staged hierarchy; what cannot be read is a `StorageError`, not absent."""

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Return a value's bytes, or None where there are none."""
        return await asyncio.to_thread(
            self.get_sync, key, prototype=prototype, byte_range=byte_range
        )

    def get_sync(
        self,
        key: str,
        *,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """As `get`."""
        data = files.read_if_there(Path(self.root) / key, any_size=True)
        return None if data is None else _buffer(data, prototype, byte_range)

    async def exists(self, key: str) -> bool:
        """Tell whether a key has a value."""
        return files.is_there(Path(self.root) / key)


def open_staged(directory: Path, path: str) -> zarr.Group:
    """Open a group of a staged hierarchy, which has its root at `directory`, for reading."""
    store = StagedStore(directory, read_only=True)
    return zarr.open_group(store, path=path, mode="r", zarr_format=3)


class DurableStore(StagedStore):
    """Writes every value durably and remembers size and hash of what it wrote.

    Args:
        kept: Returns the keys that must survive when Zarr clears a directory to create an array
            in it: the chunks that other work items wrote there before.

    Attributes:
        written: Record of each value by its key. Metadata of parent groups that Zarr adds by
            itself is not in it.
    """

    def __init__(self, root: Path, kept: Callable[[], Collection[str]] = tuple) -> None:
        super().__init__(root)
        self.written: dict[str, files.FileRecord] = {}
        self._kept = kept

    async def set(self, key: str, value: Buffer) -> None:
        """Write one value: temporary file, fsync, rename."""
        self.set_sync(key, value)

    def set_sync(self, key: str, value: Buffer) -> None:
        """As `set`."""
        self.written[key] = files.write_file(Path(self.root) / key, value.to_bytes())

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Write a value unless its key is taken, by this process or another."""
        files.write_new_file(Path(self.root) / key, value.to_bytes())

    async def delete(self, key: str) -> None:
        """Delete one value."""
        self.delete_sync(key)

    def delete_sync(self, key: str) -> None:
        """As `delete`."""
        self.written.pop(key, None)
        files.remove_file(Path(self.root) / key)

    async def delete_dir(self, prefix: str) -> None:
        """Delete what is below a prefix, except for what others wrote."""
        directory = Path(self.root) / prefix
        if not directory.is_dir():
            return
        below = f"{prefix}/" if prefix else ""
        kept = {key.removeprefix(below) for key in self._kept() if key.startswith(below)}
        files.keep_only(directory, kept)
        for key in [key for key in self.written if key.startswith(below)]:
            del self.written[key]


class VerifiedStore(Store):
    """Reads a published hierarchy, and only what its manifest lists.

    It implements the abstract store rather than changing Zarr's local one, so that no method
    which a later Zarr adds can read a file around the check.

    Args:
        read: Returns the checked bytes of a key; raises where they are not those that were
            published.
        sizes: Bytes of each key that the manifest lists.
    """

    supports_writes = False
    supports_deletes = False
    supports_listing = True

    def __init__(self, read: Callable[[str], bytes], sizes: Mapping[str, int], where: Path) -> None:
        super().__init__(read_only=True)
        self._read = read
        self._sizes = sizes
        self._where = where

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VerifiedStore) and self._where == other._where

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return str(self._where)

    def with_read_only(self, read_only: bool = False) -> VerifiedStore:
        """Return the store itself, or raise a `ValueError`: there is no writable form."""
        if not read_only:
            raise ValueError("a published artifact is read only")
        return self

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Return a value's bytes, or None where the manifest lists no such file."""
        if key not in self._sizes:
            return None
        return _buffer(await asyncio.to_thread(self._read, key), prototype, byte_range)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Return parts of several values."""
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    async def exists(self, key: str) -> bool:
        """Tell whether the manifest lists the key."""
        return key in self._sizes

    async def getsize(self, key: str) -> int:
        """Return the bytes of a value."""
        if key not in self._sizes:
            raise FileNotFoundError(key)
        return self._sizes[key]

    async def set(self, key: str, value: Buffer) -> None:
        """Refuse."""
        self._check_writable()

    async def delete(self, key: str) -> None:
        """Refuse."""
        self._check_writable()

    async def delete_dir(self, prefix: str) -> None:
        """Refuse."""
        self._check_writable()

    async def list(self) -> AsyncIterator[str]:
        """Yield every listed key."""
        for key in self._sizes:
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Yield the listed keys below a prefix."""
        for key in self._sizes:
            if key.startswith(prefix):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names directly below a prefix."""
        for name in self._children.get(prefix.rstrip("/"), ()):
            yield name

    @cached_property
    def _children(self) -> dict[str, dict[str, None]]:
        """The names directly below each prefix, in order."""
        children: dict[str, dict[str, None]] = {}
        for key in self._sizes:
            while key:
                parent, _, name = key.rpartition("/")
                children.setdefault(parent, {})[name] = None
                key = parent
        return children


def _buffer(
    data: bytes, prototype: BufferPrototype | None, byte_range: ByteRequest | None
) -> Buffer:
    if isinstance(byte_range, RangeByteRequest):
        data = data[byte_range.start : byte_range.end]
    elif isinstance(byte_range, OffsetByteRequest):
        data = data[byte_range.offset :]
    elif isinstance(byte_range, SuffixByteRequest):
        data = data[max(0, len(data) - byte_range.suffix) :]
    return (prototype or default_buffer_prototype()).buffer.from_bytes(data)
