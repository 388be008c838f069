"""Zarr stores over a local directory: one that writes durably, one that reads verified bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore

from pipelines.artifacts.files import FileRecord, write_file


class DurableStore(LocalStore):
    """Writes every value durably and remembers size and hash of what it wrote.

    Attributes:
        written: Record of each value by its key.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.written: dict[str, FileRecord] = {}

    async def set(self, key: str, value: Buffer) -> None:
        """Write one value: temporary file, fsync, rename."""
        self.written[key] = write_file(Path(self.root) / key, value.to_bytes())

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Write a value unless its key is taken."""
        if not (Path(self.root) / key).exists():
            await self.set(key, value)


class VerifiedStore(LocalStore):
    """Reads a published hierarchy; each file's hash is checked before its first use.

    Args:
        root: The ``data.zarr`` directory.
        verify: Called with a key before its bytes are used; raises where they are not the bytes
            that were published. A key that the manifest does not know counts as absent.
    """

    def __init__(self, root: Path, verify: Callable[[str], bool]) -> None:
        super().__init__(root, read_only=True)
        self._verify = verify

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Return a value's bytes, or None where the manifest lists no such file."""
        if not self._verify(key):
            return None
        return await super().get(key, prototype, byte_range)

    async def exists(self, key: str) -> bool:
        """Tell whether the manifest lists the key."""
        return self._verify(key)
