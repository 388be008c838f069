"""What a manifest says, and how old manifests are brought up to date."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from pipelines.artifacts.files import CHECKSUM, canonical_json, checksum, unseal
from pipelines.errors import ArtifactCorruptError, ArtifactSchemaError

MANIFEST = "manifest.json"
DATA = "data.zarr"

SCHEMA_VERSIONS: dict[str, int] = {
    "demonstrators": 1,
    "parts": 1,
    "histories": 2,
    "datasets": 2,
    "checkpoints": 2,
    "rollouts": 1,
}
"""The kinds of artifacts and the schema version this release writes for each."""

Upgrade = Callable[[dict[str, Any]], dict[str, Any]]
UPGRADES: dict[tuple[str, int], Upgrade] = {
    # Weights became one flat array; the manifest says the same, and the reader knows both.
    ("checkpoints", 1): dict,
    # The trajectories of a task share arrays.
    ("histories", 1): dict,
    # So do those of a dataset, and the demonstrator's actions are kept.
    ("datasets", 1): dict,
}
"""Pure functions from the manifest of (kind, version) to that of (kind, version + 1)."""

_NOT_CONTENT = {"created_at", "git_revision", "packages", "version", "name", "digest", CHECKSUM}


class FileEntry(BaseModel):
    """Size and hash of one file; logs hold timings and do not count for the content's digest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    log: bool = False


class Parent(BaseModel):
    """An artifact this one was made from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    name: str
    version: int
    digest: str

    @property
    def reference(self) -> str:
        """``kind/name@vN``."""
        return f"{self.kind}/{self.name}@v{self.version}"


class Manifest(BaseModel):
    """The content of ``manifest.json``; written last, so its presence means complete.

    Attributes:
        config: Fully resolved configuration of the stage that wrote the artifact.
        parents: Artifacts it was made from, pinned by digest.
        files: Every other file of the artifact by relative path.
        summary: What ``vintix artifacts show`` prints; small, JSON.
        packages: Versions of the packages and simulators that took part.
        digest: SHA-256 of the content: everything but name, version, time and machine, so that
            two runs of one configuration on one machine have one digest.
        checksum: SHA-256 of the whole manifest without this field.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    schema_version: int = Field(ge=1)
    name: str
    version: int = Field(ge=1)
    config: dict[str, Any]
    seeds: dict[str, int]
    parents: list[Parent]
    files: dict[str, FileEntry]
    fingerprints: dict[str, Any]
    summary: dict[str, Any]
    packages: dict[str, str]
    git_revision: str | None
    created_at: str
    digest: str
    checksum: str

    @field_validator("files")
    @classmethod
    def _stay_inside(cls, files: dict[str, FileEntry]) -> dict[str, FileEntry]:
        for path in files:
            check_relative(path)
        return files


def check_relative(path: str) -> str:
    """Return a path; raises a `ValueError` where it leaves the directory it is relative to."""
    if "\\" in path or "\0" in path or any(part in ("", ".", "..") for part in path.split("/")):
        raise ValueError(f"not a path inside of an artifact: {path!r}")
    return path


def config_digest(kind: str, config: Mapping[str, Any], parents: list[Parent]) -> str:
    """Return what makes two runs the same work: kind, schema, configuration, parents' content."""
    return checksum(
        {
            "kind": kind,
            "schema_version": SCHEMA_VERSIONS[kind],
            "config": dict(config),
            "parents": sorted(parent.digest for parent in parents),
        }
    )


def content_digest(fields: Mapping[str, Any]) -> str:
    """Return the SHA-256 of what the fields of a manifest say of the content."""
    content = {key: value for key, value in fields.items() if key not in _NOT_CONTENT}
    content["files"] = {
        path: entry for path, entry in content["files"].items() if not entry.get("log")
    }
    content["parents"] = sorted(parent["digest"] for parent in content["parents"])
    return checksum(content)


def seal(fields: dict[str, Any]) -> Manifest:
    """Add digest and checksum to the fields of a manifest."""
    sealed = {**fields, "digest": content_digest(fields)}
    return Manifest(**sealed, checksum=checksum(sealed))


def dump_manifest(manifest: Manifest) -> bytes:
    """Return the bytes of ``manifest.json``."""
    return canonical_json(manifest.model_dump(mode="json"))


def parse_manifest(
    data: bytes, where: object, upgrades: Mapping[tuple[str, int], Upgrade] = UPGRADES
) -> Manifest:
    """Read the bytes of a ``manifest.json``, of this schema version or an older one.

    Raises:
        ArtifactCorruptError: The bytes are not what was written.
        ArtifactSchemaError: A newer release wrote it, or its kind is unknown.
    """
    try:
        raw, sealed = unseal(data)
    except ValueError as error:
        raise _damaged(where, str(error)) from error
    kind: Any = raw.get("kind")
    version = raw.get("schema_version")
    if kind not in list(SCHEMA_VERSIONS) or not isinstance(version, int) or version < 1:
        raise ArtifactSchemaError(
            "not an artifact of this toolkit",
            where=where,
            expected=f"a kind among {', '.join(SCHEMA_VERSIONS)}",
            found=f"kind {kind!r}, schema version {version!r}",
        )
    current = SCHEMA_VERSIONS[kind]
    if version > current:
        raise ArtifactSchemaError(
            "the artifact was written by a newer release",
            where=where,
            expected=f"{kind} schema {current} or older",
            found=f"schema {version}",
            fix="pip install --upgrade vintix",
        )
    try:
        # Of the manifest as it was written: an upgrade keeps the digest by which children know it.
        digest = content_digest(raw)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _damaged(where, "fields of another form") from error
    if raw.get("digest") != digest:
        raise _damaged(where, "a digest that is not that of the content")
    while version < current:
        upgrade = upgrades.get((kind, version))
        if upgrade is None:
            raise ArtifactSchemaError(
                "no way to read this schema version", where=where, found=f"{kind} {version}"
            )
        raw = {**upgrade(raw), "schema_version": version + 1}
        version += 1
    try:
        return Manifest(**raw, checksum=sealed)
    except ValidationError as error:
        first = error.errors()[0]
        found = f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
        raise _damaged(where, found) from error


def _damaged(where: object, found: str) -> ArtifactCorruptError:
    return ArtifactCorruptError(
        "the manifest is damaged",
        where=where,
        expected="the bytes that were written when the artifact was published",
        found=found,
        fix="restore the file from a copy, or delete the version and run its stage again",
    )
