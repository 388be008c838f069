"""The workspace: where artifacts live, how references find them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.artifacts.artifact import Artifact
from pipelines.artifacts.schema import MANIFEST, SCHEMA_VERSIONS
from pipelines.errors import ArtifactMissingError, UsageError

if TYPE_CHECKING:
    from pipelines.artifacts.staging import Staging

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_VERSION = re.compile(r"v([1-9][0-9]*)")
STAGE_OF_KIND = {
    "demonstrators": "demonstrators",
    "histories": "distill",
    "datasets": "pack",
    "checkpoints": "train",
    "rollouts": "rollout",
}
"""The command that makes each kind."""


class Workspace:
    """A directory of artifacts: ``<root>/<kind>/<name>/v<N>/``.

    Args:
        root: The directory; made on the first write.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    @classmethod
    def resolve(cls, option: str | Path | None = None) -> Workspace:
        """Return the workspace of ``--workspace``, else ``VINTIX_WORKSPACE``, else ./artifacts."""
        return cls(Path(option or os.environ.get("VINTIX_WORKSPACE") or "artifacts").expanduser())

    def versions(self, kind: str, name: str) -> list[int]:
        """Return the published version numbers of a name, ascending."""
        check_name(name)
        directory = self.root / kind / name
        if not directory.is_dir():
            return []
        return sorted(
            int(match[1])
            for child in directory.iterdir()
            if (match := _VERSION.fullmatch(child.name)) and (child / MANIFEST).is_file()
        )

    def names(self, kind: str) -> list[str]:
        """Return the names under a kind that have at least one published version."""
        directory = self.root / kind
        if not directory.is_dir():
            return []
        return sorted(
            child.name
            for child in directory.iterdir()
            if _NAME.fullmatch(child.name) and self.versions(kind, child.name)
        )

    def artifacts(self, kind: str | None = None, name: str | None = None) -> Iterator[Artifact]:
        """Open every published artifact, by kind, name and version.

        Raises:
            ArtifactCorruptError: A manifest is damaged.
        """
        for each_kind in [check_kind(kind)] if kind else list(SCHEMA_VERSIONS):
            for each_name in [name] if name else self.names(each_kind):
                for version in self.versions(each_kind, each_name):
                    yield Artifact(self.path(each_kind, each_name, version))

    def path(self, kind: str, name: str, version: int) -> Path:
        """Return the directory of a version, whether it exists or not."""
        return self.root / kind / check_name(name) / f"v{version}"

    def find(self, kind: str, reference: str | None = None) -> Artifact:
        """Open the artifact a reference means.

        Args:
            kind: The kind that is needed.
            reference: ``name`` (its newest version), ``name@v3``, or the path of a version;
                None for the newest published artifact of the kind.

        Raises:
            ArtifactMissingError: Nothing published answers to it.
            UsageError: The reference is malformed, or the path holds another kind.
        """
        check_kind(kind)
        if reference is None:
            return self._newest(kind)
        if "/" in reference or Path(reference).is_dir():
            artifact = Artifact(Path(reference))
            if artifact.kind != kind:
                raise UsageError(
                    "wrong kind of artifact", where=reference, expected=kind, found=artifact.kind
                )
            return artifact
        name, _, tail = reference.partition("@")
        versions = self.versions(kind, name)
        if not tail:
            if versions:
                return Artifact(self.path(kind, name, versions[-1]))
            raise self._missing(kind, reference)
        match = _VERSION.fullmatch(tail)
        if match is None:
            raise UsageError(
                "malformed artifact reference",
                where=reference,
                expected="name, name@v3 or a path",
                fix="vintix artifacts ls",
            )
        if int(match[1]) not in versions:
            raise self._missing(kind, reference)
        return Artifact(self.path(kind, name, int(match[1])))

    def stage(self, kind: str, name: str, **details: Any) -> Staging:
        """Open the staging area of a name for writing; see `Staging`."""
        from pipelines.artifacts.staging import Staging

        return Staging(self, check_kind(kind), check_name(name), **details)

    def _newest(self, kind: str) -> Artifact:
        newest: Artifact | None = None
        for name in self.names(kind):
            artifact = Artifact(self.path(kind, name, self.versions(kind, name)[-1]))
            if newest is None or artifact.manifest.created_at > newest.manifest.created_at:
                newest = artifact
        if newest is None:
            raise self._missing(kind, None)
        return newest

    def _missing(self, kind: str, reference: str | None) -> ArtifactMissingError:
        known = [
            f"{name}@v{version}"
            for name in self.names(kind)
            for version in self.versions(kind, name)
        ]
        return ArtifactMissingError(
            f"no {kind} artifact" + (f" {reference!r}" if reference else ""),
            where=self.root,
            expected=f"a published artifact of kind {kind}",
            found=", ".join(known[-8:]) if known else f"no {kind} at all",
            fix=f"vintix {STAGE_OF_KIND[kind]}, or point --workspace to where it is",
        )


def check_kind(kind: str) -> str:
    """Return the kind.

    Raises:
        UsageError: It is none of the five.
    """
    if kind not in SCHEMA_VERSIONS:
        raise UsageError(
            "unknown kind of artifact", expected=", ".join(SCHEMA_VERSIONS), found=kind
        )
    return kind


def check_name(name: str) -> str:
    """Return the name.

    Raises:
        UsageError: It could not be a directory's name on every file system.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            "malformed artifact name",
            expected="letters, digits, '.', '_' and '-', not starting with a sign",
            found=repr(name),
        )
    return name
