"""Manifests: what the digest covers, old versions, newer versions, and hostile ones."""

from __future__ import annotations

import hashlib
import json

import pytest

from pipelines.artifacts.files import canonical_json
from pipelines.artifacts.schema import (
    MANIFEST,
    SCHEMA_VERSIONS,
    config_digest,
    content_digest,
    dump_manifest,
    parse_manifest,
    seal,
)
from pipelines.artifacts.workspace import Workspace
from pipelines.errors import ArtifactCorruptError, ArtifactSchemaError

from .helpers import CONFIG, publish_tiny, run_tiny, write_item

FILE = {"size": 3, "sha256": "a" * 64, "log": False}


def _fields(**changes):
    return {
        "kind": "histories",
        "schema_version": 1,
        "name": "tiny",
        "version": 1,
        "config": {"rows": 1},
        "seeds": {"seed": 1},
        "parents": [],
        "files": {"data.zarr/zarr.json": FILE},
        "fingerprints": {},
        "summary": {},
        "packages": {},
        "git_revision": None,
        "created_at": "2026-01-01T00:00:00.000000+00:00",
        **changes,
    }


def _parent(**changes):
    return {"kind": "demonstrators", "name": "p", "version": 1, "digest": "b" * 64, **changes}


def _sign(fields):
    """Return the bytes of a manifest whose checksum fits, whatever it says."""
    checksum = hashlib.sha256(canonical_json(fields)).hexdigest()
    return canonical_json({**fields, "checksum": checksum})


def test_manifest_survives_writing_and_reading():
    current = SCHEMA_VERSIONS["histories"]
    manifest = seal(_fields(schema_version=current, parents=[_parent()]))
    assert parse_manifest(dump_manifest(manifest), where="here") == manifest


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"version": 9},
        {"created_at": "2027-01-01T00:00:00.000000+00:00"},
        {"packages": {"numpy": "9"}},
        {"git_revision": "abc"},
        {"files": {"data.zarr/zarr.json": FILE, "log/a.jsonl": {**FILE, "log": True}}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_digest_ignores_what_is_not_content(changes):
    assert seal(_fields(**changes)).digest == seal(_fields()).digest
    assert seal(_fields(**changes)).checksum != seal(_fields()).checksum


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "datasets"},
        {"config": {"rows": 2}},
        {"seeds": {"seed": 2}},
        {"parents": [_parent()]},
        {"files": {"data.zarr/zarr.json": {**FILE, "sha256": "c" * 64}}},
        {"files": {"data.zarr/zarr.json": FILE, "data.zarr/a": FILE}},
        {"fingerprints": {"a": 1}},
        {"summary": {"a": 1}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_digest_covers_content(changes):
    assert seal(_fields(**changes)).digest != seal(_fields()).digest


def test_parents_count_by_content_and_in_any_order():
    """A parent that was renamed is the same parent; so are two in another order."""
    one, two = _parent(), _parent(digest="d" * 64)
    renamed = _parent(name="q", version=4)
    assert seal(_fields(parents=[one, two])).digest == seal(_fields(parents=[two, renamed])).digest


def test_two_runs_have_one_digest(tmp_path):
    """Made under another name, at another time, with other timings in its log."""
    first, second = run_tiny(tmp_path, "one"), run_tiny(tmp_path, "two")
    log = "log/timing.jsonl"
    assert first.manifest.files[log].sha256 != second.manifest.files[log].sha256
    assert first.manifest.created_at != second.manifest.created_at
    assert first.digest == second.digest


def test_work_is_told_apart_by_kind_configuration_and_parents():
    base = config_digest("histories", {"a": 1}, [])
    assert config_digest("histories", {"a": 1}, []) == base
    assert config_digest("datasets", {"a": 1}, []) != base
    assert config_digest("histories", {"a": 2}, []) != base


def test_order_of_work_items_does_not_matter(tmp_path):
    """Digests rest on what was written, not on when."""
    with Workspace(tmp_path).stage("histories", "tiny", config=CONFIG, seeds={"seed": 3}) as s:
        for item in (
            "toy/00000/00000",
            "toy/00000/00002",
            "toy/00000/00001",
            "toy",
        ):
            write_item(s, item)
        shuffled = publish_tiny(s)
    assert shuffled.digest == run_tiny(tmp_path / "other").digest


def test_newer_schema_is_refused_with_the_command_that_helps(tmp_path):
    version = SCHEMA_VERSIONS["histories"] + 1
    artifact = run_tiny(tmp_path)
    raw = json.loads((artifact.path / MANIFEST).read_bytes())
    del raw["checksum"]
    future = {**raw, "schema_version": version, "a_field_of_the_future": 1}
    (artifact.path / MANIFEST).write_bytes(_sign(future))
    with pytest.raises(ArtifactSchemaError) as caught:
        Workspace(tmp_path).find("histories", "tiny")
    error = caught.value
    assert error.exit_code == 4
    assert error.fix == "pip install --upgrade vintix"
    assert error.found == f"schema {version}"
    assert error.where == str(artifact.path / MANIFEST)


def test_older_schema_goes_through_every_upgrade(monkeypatch):
    """Version 1 to 3 by two pure functions; digest and checksum stay those that were written."""
    monkeypatch.setitem(SCHEMA_VERSIONS, "histories", 3)
    old = _fields()
    del old["fingerprints"]
    old["setup"] = old.pop("config")
    old["digest"] = content_digest(old)
    seen = []

    def to_second(raw):
        seen.append(dict(raw))
        return {
            **{key: value for key, value in raw.items() if key != "setup"},
            "conf": raw["setup"],
        }

    def to_third(raw):
        seen.append(dict(raw))
        rest = {key: value for key, value in raw.items() if key != "conf"}
        return {**rest, "config": raw["conf"], "fingerprints": {}}

    upgrades = {("histories", 1): to_second, ("histories", 2): to_third}
    data = _sign(old)
    manifest = parse_manifest(data, where="here", upgrades=upgrades)
    assert [raw["schema_version"] for raw in seen] == [1, 2]
    assert manifest.schema_version == 3
    assert manifest.config == {"rows": 1}
    assert manifest.digest == old["digest"]
    assert manifest.checksum == json.loads(data)["checksum"]


def test_older_schema_without_an_upgrade_is_refused(monkeypatch):
    monkeypatch.setitem(SCHEMA_VERSIONS, "histories", 2)
    with pytest.raises(ArtifactSchemaError, match="no way to read"):
        parse_manifest(dump_manifest(seal(_fields())), where="here", upgrades={})


def test_damage_to_an_old_manifest_is_seen_before_upgrading(monkeypatch):
    monkeypatch.setitem(SCHEMA_VERSIONS, "histories", 2)
    data = dump_manifest(seal(_fields())).replace(b'"rows": 1', b'"rows": 2')
    with pytest.raises(ArtifactCorruptError):
        parse_manifest(data, where="here", upgrades={("histories", 1): pytest.fail})


@pytest.mark.parametrize(
    "path",
    ["../x", "/etc/passwd", "data.zarr/../../x", "a//b", "./a", "a/", "", "a\\..\\b", "a\0b"],
)
def test_manifest_cannot_reach_outside(path):
    """Even with a checksum that fits."""
    hostile = _fields(files={path: FILE})
    hostile["digest"] = content_digest(hostile)
    with pytest.raises(ArtifactCorruptError) as caught:
        parse_manifest(_sign(hostile), where="here")
    assert "inside" in (caught.value.found or "")


@pytest.mark.parametrize("digest", ["e" * 64, None, 1])
def test_digest_of_a_manifest_is_computed(digest):
    """A digest that the content does not have would be believed by every child."""
    with pytest.raises(ArtifactCorruptError) as caught:
        parse_manifest(_sign({**_fields(), "digest": digest}), where="here")
    assert "digest" in (caught.value.found or "")


@pytest.mark.parametrize("field", ["files", "parents"])
@pytest.mark.parametrize("value", [None, 1, ["x"], {"x": 1}])
def test_content_of_another_form_is_damage(field, value):
    with pytest.raises(ArtifactCorruptError):
        parse_manifest(_sign(_fields(**{field: value})), where="here")


@pytest.mark.parametrize("change", [{"kind": "datasets"}, {"version": 2}])
def test_kind_and_version_are_those_of_the_place(tmp_path, change):
    """A manifest that is whole, but of another artifact, is not taken for this one."""
    artifact = run_tiny(tmp_path)
    fields = artifact.manifest.model_dump(exclude={"digest", "checksum"})
    (artifact.path / MANIFEST).write_bytes(dump_manifest(seal({**fields, **change})))
    with pytest.raises(ArtifactCorruptError) as caught:
        Workspace(tmp_path).find("histories", "tiny")
    assert caught.value.expected == "histories, v1"
    assert run_tiny(tmp_path).digest == artifact.digest


@pytest.mark.parametrize("kind", ["histories ", "unknown", None, [], 1])
def test_unknown_kind_is_no_artifact(kind):
    with pytest.raises(ArtifactSchemaError):
        parse_manifest(_sign(_fields(kind=kind)), where="here")


@pytest.mark.parametrize("version", [0, -1, "1", None])
def test_impossible_schema_version_is_refused(version):
    with pytest.raises(ArtifactSchemaError):
        parse_manifest(_sign(_fields(schema_version=version)), where="here")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b'{"a": "\\ud800"}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
    ids=range(9),
)
def test_bytes_that_are_no_manifest(data):
    """Nothing that the JSON parser lets through crashes the reader."""
    with pytest.raises(ArtifactCorruptError) as caught:
        parse_manifest(data, where="the path")
    assert caught.value.where == "the path"
    assert caught.value.exit_code == 4


def test_every_flipped_byte_of_a_manifest_is_seen():
    data = dump_manifest(seal(_fields()))
    for position in range(len(data)):
        for bit in (0x01, 0x20, 0x80):
            damaged = bytearray(data)
            damaged[position] ^= bit
            with pytest.raises(ArtifactCorruptError):
                parse_manifest(bytes(damaged), where="here")
