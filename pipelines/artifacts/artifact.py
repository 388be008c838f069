"""A published artifact, read only, every byte checked against its manifest before use."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.artifacts.files import hash_file
from pipelines.artifacts.schema import DATA, MANIFEST, Manifest, Parent, parse_manifest
from pipelines.errors import ArtifactCorruptError, ArtifactMissingError

if TYPE_CHECKING:
    import numpy as np
    import zarr


class Artifact:
    """One published version.

    Args:
        path: Its directory, ``<workspace>/<kind>/<name>/v<N>``.

    Raises:
        ArtifactMissingError: There is no manifest.
        ArtifactCorruptError: The manifest is damaged.
        ArtifactSchemaError: A newer release wrote it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            data = (path / MANIFEST).read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ArtifactMissingError(
                "no published artifact here",
                where=path,
                expected=f"a directory with {MANIFEST}",
                fix="vintix artifacts ls",
            ) from error
        self.manifest: Manifest = parse_manifest(data, where=path / MANIFEST)
        self._checked: set[str] = set()

    @property
    def kind(self) -> str:
        """One of the five kinds."""
        return self.manifest.kind

    @property
    def reference(self) -> str:
        """``name@vN``."""
        return f"{self.manifest.name}@v{self.manifest.version}"

    @property
    def digest(self) -> str:
        """SHA-256 of the content."""
        return self.manifest.digest

    @property
    def config(self) -> dict[str, Any]:
        """Resolved configuration of the stage that wrote it."""
        return self.manifest.config

    def as_parent(self) -> Parent:
        """Return how a child's manifest names this artifact."""
        return Parent(
            kind=self.kind,
            name=self.manifest.name,
            version=self.manifest.version,
            digest=self.digest,
        )

    @cached_property
    def root(self) -> zarr.Group:
        """The Zarr hierarchy, read only and verified on first touch of each file."""
        import zarr

        from pipelines.artifacts.zarr_stores import VerifiedStore

        store = VerifiedStore(self.path / DATA, self._verify_key)
        return zarr.open_group(store=store, mode="r", zarr_format=3)

    def group(self, path: str) -> zarr.Group:
        """Open a group of the hierarchy.

        Raises:
            ArtifactCorruptError: The group is not there, or its metadata is damaged.
        """
        import zarr

        found = self.root.get(path)
        if not isinstance(found, zarr.Group):
            raise self._corrupt(f"{DATA}/{path}", "a Zarr group", "nothing of the kind")
        return found

    def read(self, path: str) -> np.ndarray[Any, Any]:
        """Read a whole array.

        Raises:
            ArtifactCorruptError: The array is not there or damaged.
        """
        import numpy as np
        import zarr

        found = self.root.get(path)
        if not isinstance(found, zarr.Array):
            raise self._corrupt(f"{DATA}/{path}", "a Zarr array", "nothing of the kind")
        return np.asarray(found[...])

    def file(self, relative: str) -> Path:
        """Return the path of one file after checking its bytes, for readers that map files.

        Raises:
            ArtifactCorruptError: The file is not listed, missing or damaged.
        """
        if relative not in self.manifest.files:
            raise self._corrupt(relative, "a file listed in the manifest", "none")
        self.check_file(relative)
        return self.path / relative

    def check_file(self, relative: str) -> None:
        """Compare one file with its manifest entry, once per process.

        Raises:
            ArtifactCorruptError: Missing or different bytes.
        """
        if relative in self._checked:
            return
        entry = self.manifest.files[relative]
        try:
            record = hash_file(self.path / relative)
        except OSError as error:
            raise self._corrupt(
                relative, f"{entry.size:,} bytes", error.strerror or str(error)
            ) from error
        if (record.size, record.sha256) != (entry.size, entry.sha256):
            raise self._corrupt(
                relative,
                f"{entry.size:,} bytes with SHA-256 {entry.sha256[:16]}...",
                f"{record.size:,} bytes with SHA-256 {record.sha256[:16]}...",
            )
        self._checked.add(relative)

    def _verify_key(self, key: str) -> bool:
        relative = f"{DATA}/{key}"
        if relative not in self.manifest.files:
            return False
        self.check_file(relative)
        return True

    def _corrupt(self, relative: str, expected: str, found: str) -> ArtifactCorruptError:
        return ArtifactCorruptError(
            f"artifact {self.kind} {self.reference} is damaged",
            where=self.path / relative,
            expected=expected,
            found=found,
            fix=f"vintix artifacts verify {self.kind}/{self.reference}",
        )
