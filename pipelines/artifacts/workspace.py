"""The workspace: where artifacts live, how references find them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.artifacts import files
from pipelines.artifacts.artifact import Artifact
from pipelines.artifacts.references import (
    NAME,
    VERSION,
    Reference,
    check_kind,
    check_name,
    parse_reference,
)
from pipelines.artifacts.schema import MANIFEST, SCHEMA_VERSIONS
from pipelines.errors import ArtifactError, ArtifactMissingError, UsageError, VintixError, unknown

if TYPE_CHECKING:
    from pipelines.artifacts.schema import Manifest
    from pipelines.artifacts.staging import Staging

_JOIN = "join it with the other parts: vintix artifacts merge NAME, the name of the history"

STAGE_OF_KIND = {
    "demonstrators": "demonstrators",
    "parts": "distill --shard I/N",
    "histories": "distill",
    "datasets": "pack",
    "checkpoints": "train",
    "rollouts": "rollout",
}
"""The command that makes each kind."""

_MADE_FROM = {"datasets": "histories", "checkpoints": "datasets", "rollouts": "checkpoints"}

PACKAGE = Path(__file__).parents[1] / "packaged"
"""Artifacts that come with the package, laid out as in a workspace."""


class Workspace:
    """A directory of artifacts: ``<root>/<kind>/<name>/v<N>/``.

    Args:
        root: The directory; made on the first write.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    @classmethod
    def resolve(cls, option: str | Path | None = None) -> Workspace:
        """Return the workspace of ``--workspace``, else ``VINTIX_WORKSPACE``, else ./artifacts.

        Raises:
            UsageError: There is something else than a directory.
        """
        root = Path(option or os.environ.get("VINTIX_WORKSPACE") or "artifacts").expanduser()
        if files.is_there(root) and not root.is_dir():
            raise UsageError(
                "the workspace is not a directory",
                where=root,
                expected="a directory, or a name that is free",
                found="a file",
                fix="--workspace with another directory",
            )
        return cls(root)

    def versions(self, kind: str, name: str) -> list[int]:
        """Return the published version numbers of a name, ascending."""
        return [
            version
            for version in self.taken_versions(kind, name)
            # Not only files: what is in the place of one is for `Artifact` to name.
            if files.is_there(self.path(kind, name, version) / MANIFEST)
        ]

    def taken_versions(self, kind: str, name: str) -> list[int]:
        """Return the numbers of all version directories, also without a manifest, ascending."""
        found = files.list_directory(self.root / kind / check_name(name))
        return sorted(int(match[1]) for path in found if (match := VERSION.fullmatch(path.name)))

    def next_version(self, kind: str, name: str) -> int:
        """Return the number of the next version to publish."""
        return max(self.taken_versions(kind, name), default=0) + 1

    def names(self, kind: str) -> list[str]:
        """Return the names under a kind that have at least one published version."""
        return [name for name in self.all_names(kind) if self.versions(kind, name)]

    def all_names(self, kind: str) -> list[str]:
        """Return the names under a kind, also those with nothing but staged work."""
        return [
            path.name
            for path in files.list_directory(self.root / check_kind(kind))
            if NAME.fullmatch(path.name) and path.is_dir()
        ]

    def artifacts(self, kind: str, damaged: list[str] | None = None) -> Iterator[Artifact]:
        """Open every published artifact of a kind, by name and version, but for damaged ones.

        Args:
            damaged: Gets the references of those.
        """
        for name in self.names(kind):
            for version in self.versions(kind, name):
                try:
                    artifact = Artifact(self.path(kind, name, version))
                except ArtifactError:
                    if damaged is not None:
                        damaged.append(f"{kind}/{name}@v{version}")
                    continue
                yield artifact

    def path(self, kind: str, name: str, version: int) -> Path:
        """Return the directory of a version, whether it exists or not."""
        return self.root / kind / check_name(name) / f"v{version}"

    def find(self, kind: str, reference: str | None = None) -> Artifact:
        """Open the artifact a reference means.

        Args:
            reference: ``name`` (its newest version), ``name@v3``, either with ``kind/`` before
                it, or the path of a version; None for the newest published artifact of the kind.
                Where the workspace has none, that of the package is meant, if it has one.

        Raises:
            ArtifactMissingError: Nothing published answers to it.
            ArtifactCorruptError: Its manifest is damaged.
            StorageError: It cannot be read.
            UsageError: The reference is malformed, or means another kind.
        """
        check_kind(kind)
        if reference is None:
            return self._newest(kind)
        parsed = parse_reference(reference)
        if parsed.path is None and parsed.kind in (None, kind):
            found = self._choose(kind, parsed, self.versions(kind, parsed.name))
            if found is not None:
                return Artifact(found)
            if self.root != PACKAGE and parsed.name in packaged().names(kind):
                return packaged().find(kind, reference)
            raise self._missing(kind, reference)
        artifact = Artifact(parsed.path) if parsed.path else None
        found_kind = artifact.kind if artifact else parsed.kind
        if artifact is None or found_kind != kind:
            raise UsageError(
                "wrong kind of artifact",
                where=reference,
                expected=kind,
                found=found_kind,
                fix=_JOIN if (found_kind, kind) == ("parts", "histories") else None,
            )
        return artifact

    def lineage(self, artifacts: Iterable[Artifact]) -> tuple[list[Artifact], list[str]]:
        """Return artifacts with all that they descend from, as far as the workspace holds it.

        Returns:
            The artifacts, then their ancestors, nearest first, each once; and the references of
            ancestors that are not here with the bytes that they had.
        """
        found = {artifact.digest: artifact for artifact in artifacts}
        missing: dict[str, None] = {}
        waiting = list(found.values())
        while waiting:
            for parent in waiting.pop(0).manifest.parents:
                if parent.digest in found:
                    continue
                ancestor = None
                # An artifact may have been copied here without what it came from.
                with contextlib.suppress(ArtifactError):
                    ancestor = self.find(parent.kind, f"{parent.name}@v{parent.version}")
                if ancestor is None or ancestor.digest != parent.digest:
                    missing[parent.reference] = None
                    continue
                found[parent.digest] = ancestor
                waiting.append(ancestor)
        return list(found.values()), list(missing)

    def locate(self, reference: str) -> Path:
        """Return the directory that a reference of any kind means, damaged or not.

        Args:
            reference: ``kind/name``, ``kind/name@v3``, the path of a version, or ``name`` or
                ``name@v3`` where only one kind has the name.

        Raises:
            ArtifactMissingError: Nothing answers to it.
            UsageError: The reference is malformed, or several kinds have the name.
        """
        parsed = parse_reference(reference)
        found: Path | None = None
        if parsed.path is not None:
            found = parsed.path.absolute() if parsed.path.is_dir() else None
        else:
            kinds = [parsed.kind] if parsed.kind else list(SCHEMA_VERSIONS)
            taken = {kind: self.taken_versions(kind, parsed.name) for kind in kinds}
            having = [kind for kind in kinds if taken[kind]]
            if len(having) > 1:
                raise UsageError(
                    "several kinds of artifact have this name",
                    where=reference,
                    expected=" or ".join(f"{kind}/{reference}" for kind in having),
                )
            if having:
                found = self._choose(having[0], parsed, taken[having[0]])
            elif self.root != PACKAGE:
                with contextlib.suppress(ArtifactMissingError):
                    found = packaged().locate(reference)
        if found is None:
            raise unknown(
                f"no artifact {reference!r}",
                reference,
                self._spellings(parsed),
                kind=ArtifactMissingError,
                where=self.root,
                fix="vintix artifacts ls",
            )
        return found

    def find_whole(
        self, kind: str, name: str, wanted: Callable[[Manifest], bool]
    ) -> Artifact | None:
        """Return the newest version whose manifest is wanted and that has all its files."""
        for version in reversed(self.versions(kind, name)):
            # What is damaged is not what is wanted; `verify` names it.
            with contextlib.suppress(ArtifactError):
                artifact = Artifact(self.path(kind, name, version))
                if wanted(artifact.manifest) and artifact.has_all_files():
                    return artifact
        return None

    def stage(self, kind: str, name: str, **details: Any) -> Staging:
        """Open the staging area of a name for writing; see `Staging`."""
        from pipelines.artifacts.staging import Staging

        return Staging(self, check_kind(kind), check_name(name), **details)

    def _choose(self, kind: str, reference: Reference, versions: list[int]) -> Path | None:
        wanted = reference.version or (versions[-1] if versions else None)
        if wanted is None or wanted not in versions:
            return None
        return self.path(kind, reference.name, wanted)

    def _newest(self, kind: str) -> Artifact:
        newest = [
            Artifact(self.path(kind, name, self.versions(kind, name)[-1]))
            for name in self.names(kind)
        ]
        if newest:
            return max(newest, key=lambda artifact: artifact.manifest.created_at)
        if self.root != PACKAGE and packaged().names(kind):
            return packaged().find(kind)
        raise self._missing(kind, None)

    def _missing(self, kind: str, reference: str | None) -> VintixError:
        known = [
            f"{name}@v{version}"
            for name in self.names(kind)
            for version in self.versions(kind, name)
        ]
        if kind == "histories" and reference in self.names("parts"):
            fix = _JOIN
        elif known:
            fix = f"vintix artifacts ls --kind {kind}"
        else:
            fix = f"{self._stages_to(kind)}, or point --workspace to where it is"
        parsed = parse_reference(reference) if reference else None
        return unknown(
            f"no {kind} artifact" + (f" {reference!r}" if reference else ""),
            reference or "",
            self._spellings(parsed, kind) if parsed else (),
            kind=ArtifactMissingError,
            where=self.root,
            expected=f"a published artifact of kind {kind}",
            found=", ".join(known[-8:]) if known else f"no {kind} at all",
            fix=fix,
        )

    def _stages_to(self, kind: str) -> str:
        """Return the commands that make a kind, from the first whose input is not here either."""
        needed = _MADE_FROM.get(kind)
        last = f"vintix {STAGE_OF_KIND[kind]}"
        if needed is None or self.names(needed) or packaged().names(needed):
            return last
        return f"{self._stages_to(needed)}, then {last}"

    def _spellings(self, reference: Reference, kind: str | None = None) -> list[str]:
        """Return what there is, spelled as a reference was: with kind and newest version or not."""
        kinds = [kind or reference.kind] if kind or reference.kind else list(SCHEMA_VERSIONS)
        found = []
        for each in kinds:
            for place in dict.fromkeys([self.root, PACKAGE]):
                for name in Workspace(place).names(str(each)):
                    newest = Workspace(place).versions(str(each), name)[-1]
                    version = f"@v{newest}" if reference.version else ""
                    found.append((f"{each}/" if "/" in reference.text else "") + name + version)
        return list(dict.fromkeys(found))


def packaged() -> Workspace:
    """Return the artifacts that come with the package; to be read only."""
    return Workspace(PACKAGE)


def is_packaged(artifact: Artifact) -> bool:
    """Tell whether an artifact comes with the package."""
    return artifact.path.is_relative_to(PACKAGE)
