"""Artifacts go to the Hub and come back whole, against a stand-in of its HTTP interface.

The real Hub is not asked by any test; files go by git LFS, not by Xet.
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from pipelines.artifacts.schema import SCHEMA_VERSIONS
from pipelines.hub import MODELS
from tests.cli.support import ROOT, Shell
from vintix_cli.commands import hub as commands

from .standin import TOKEN, Hub, standing_in

pytest.importorskip("huggingface_hub", reason="the extra hub is not installed")

GOLDEN = ROOT / "tests" / "artifacts" / "golden"
RELEASED = ROOT / "tests" / "data" / "conformance" / "base" / "ckpt"
PUSHED = ("repository", "revision", "url", "files", "bytes")
HISTORY = "histories/newest@v1"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with standing_in() as found:
        yield found


@pytest.fixture
def fake(tmp_path: Path, hub: Hub) -> Shell:
    """Commands on a workspace with an artifact of each kind, before the stand-in.

    Its name is `golden`, and version 1, in the manifest; that of the newest schema is at `newest`.
    """
    for kind, schema in SCHEMA_VERSIONS.items():
        for name, version in (("oldest", 1), ("newest", schema)):
            shutil.copytree(GOLDEN / kind / f"v{version}", tmp_path / "work" / kind / name / "v1")
    variables = {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_TOKEN": TOKEN,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "0",
    }
    return Shell(tmp_path / "work", tmp_path, variables)


def elsewhere(shell: Shell, name: str = "other", **variables: str) -> Shell:
    """Return the same commands on an empty workspace."""
    workspace = shell.directory / name
    return replace(shell, workspace=workspace, variables={**shell.variables, **variables})


def succeed(shell: Shell, *arguments: str) -> dict:
    done = shell.vintix(*arguments, "--json", "--quiet")
    assert done.code == 0, done.stderr
    return done.document


def fail(shell: Shell, code: int, *arguments: str) -> dict:
    done = shell.vintix(*arguments, "--json", "--quiet")
    assert done.code == code, done.stderr
    return done.document


def manifest(shell: Shell, reference: str) -> bytes:
    kind, _, rest = reference.partition("/")
    name, _, version = rest.partition("@")
    return (shell.workspace / kind / name / version / "manifest.json").read_bytes()


def test_every_kind_comes_back_with_its_bytes(fake, hub):
    """Of the newest schema of each; what is read on the other side is what was written."""
    other = elsewhere(fake)
    for kind in SCHEMA_VERSIONS:
        sent = succeed(fake, "push", f"{kind}/newest", f"me/{kind}")
        dataset = kind not in MODELS
        assert sent["repository"] == f"{'datasets/' * dataset}me/{kind}@{sent['revision']}"
        assert not sent["up_to_date"]
        assert set(sent) == {*PUSHED, "artifact", "up_to_date"}
        got = succeed(other, "pull", sent["repository"])
        assert got["artifact"]["digest"] == sent["artifact"]["digest"]
        assert got["repository"] == sent["repository"]
        assert manifest(other, f"{kind}/golden@v1") == manifest(fake, f"{kind}/newest@v1")
        repo = hub.repos["dataset" if dataset else "model", f"me/{kind}"]
        assert not repo.private
    done = other.vintix("artifacts", "verify", "--all", "--deep")
    assert done.code == 0, done.stdout


def test_the_card_is_the_manifests(fake, hub):
    """The Hub reads the head, people the rest; the pull in it asks for this content."""
    sent = succeed(fake, "push", HISTORY, "me/golden", "--private")
    repo = hub.repos["dataset", "me/golden"]
    assert repo.private
    text = repo.commits[sent["revision"]]["README.md"].decode()
    _, head, body = text.split("---\n", 2)
    assert yaml.safe_load(head) == {
        "library_name": "vintix",
        "tags": ["vintix", "histories"],
        "task_categories": ["reinforcement-learning"],
    }
    stated = json.loads(manifest(fake, HISTORY))
    assert f"vintix pull datasets/me/golden --digest {stated['digest'][:16]}" in body
    assert f"| digest | {stated['digest']} |" in body
    for parent in stated["parents"]:
        assert parent["digest"] in body


def test_again_is_up_to_date_and_another_artifact_takes_the_place(fake, hub):
    """A repository holds one artifact whole; what it held before is there by its commit."""
    first = succeed(fake, "push", "histories/oldest", "me/golden")
    again = succeed(fake, "push", "histories/oldest", "me/golden")
    assert again == {**first, "up_to_date": True}
    second = succeed(fake, "push", HISTORY, "me/golden")
    commits = hub.repos["dataset", "me/golden"].commits
    stated = json.loads(manifest(fake, HISTORY))
    assert set(commits[second["revision"]]) == {
        *("README.md", ".gitattributes", "manifest.json"),
        *stated["files"],
    }
    other = elsewhere(fake)
    newest = succeed(other, "pull", "datasets/me/golden")
    assert newest["artifact"]["digest"] == second["artifact"]["digest"]
    older = succeed(other, "pull", first["repository"])
    assert older["artifact"]["digest"] == first["artifact"]["digest"]
    same = succeed(other, "pull", "datasets/me/golden@main")
    assert (same["artifact"], same["up_to_date"]) == (newest["artifact"], True)


def test_an_interrupted_push_sends_the_rest_only(fake, hub):
    """Nobody sees a part of an artifact, and nothing that has arrived is sent again."""
    hub.uploads_left = 2
    error = fail(fake, 1, "push", HISTORY, "me/golden")
    assert "goes on from what has arrived" in error["fix"]
    arrived = hub.uploads[:]
    assert len(arrived) == 2
    assert len(hub.repos["dataset", "me/golden"].commits) == 1
    hub.uploads_left = None
    succeed(fake, "push", HISTORY, "me/golden")
    assert not set(arrived) & set(hub.uploads[2:])
    assert len(hub.uploads) > 2


def test_an_interrupted_pull_asks_for_the_rest_only(fake, hub):
    sent = succeed(fake, "push", HISTORY, "me/golden")
    hub.cut = sorted(json.loads(manifest(fake, HISTORY))["files"])[-1]
    other = elsewhere(fake)
    assert fail(other, 1, "pull", "datasets/me/golden")["error"] == "StorageError"
    assert not list(other.workspace.glob("histories/golden/v*"))
    broken, hub.cut = hub.cut, None
    hub.asked.clear()
    got = succeed(other, "pull", "datasets/me/golden")
    assert got["artifact"]["digest"] == sent["artifact"]["digest"]
    asked = {path.partition(f"{sent['revision']}/")[2] for verb, path in hub.asked if verb == "GET"}
    assert broken in asked and len(asked) < sent["files"] / 2


def test_other_bytes_are_never_published(fake, hub):
    """Whatever the server or the way does to a file or to the manifest."""
    sent = succeed(fake, "push", HISTORY, "me/golden")
    files = hub.repos["dataset", "me/golden"].commits[sent["revision"]]
    path, data = next(
        (path, data) for path, data in files.items() if "/c/" in path and len(data) > 4
    )
    files[path] = bytes([data[0] ^ 1]) + data[1:]
    other = elsewhere(fake)
    error = fail(other, 4, "pull", "datasets/me/golden")
    assert error["where"].endswith(path) and "rm -r" in error["fix"]
    files[path] = data
    # The copy in the cache is the damaged one.
    shutil.rmtree(shlex.split(error["fix"].partition(", ")[0])[2])
    wrong = fail(other, 4, "pull", "datasets/me/golden", "--digest", "0" * 16)
    assert wrong["found"] == sent["artifact"]["digest"]
    assert not list(other.workspace.glob("histories/golden/v*"))
    digest = sent["artifact"]["digest"]
    assert not succeed(other, "pull", "datasets/me/golden", "--digest", digest[:12])["up_to_date"]
    files["manifest.json"] = files["manifest.json"].replace(b"golden", b"gilded")
    hub.repos["dataset", "me/golden"].commit(files)
    assert "damaged" in fail(other, 4, "pull", "datasets/me/golden")["message"]


def test_offline_it_is_taken_from_the_cache(fake, hub):
    succeed(fake, "push", "checkpoints/newest", "me/golden")
    succeed(elsewhere(fake), "pull", "me/golden")
    asked = len(hub.asked)
    offline = elsewhere(fake, "third", HF_HUB_OFFLINE="1")
    assert succeed(offline, "pull", "me/golden")["artifact"]["kind"] == "checkpoints"
    assert "HF_HUB_OFFLINE" in fail(offline, 4, "pull", "me/never")["fix"]
    assert (
        fail(offline, 3, "push", "checkpoints/packaged", "me/golden")["fix"]
        == "unset HF_HUB_OFFLINE"
    )
    assert len(hub.asked) == asked


def test_a_taken_version_becomes_the_next(fake, hub):
    """Two people's v1 are two things; neither replaces the other, and the digest stays."""
    sent = succeed(fake, "push", HISTORY, "me/golden")
    other = elsewhere(fake)
    shutil.copytree(GOLDEN / "histories" / "v1", other.workspace / "histories" / "golden" / "v1")
    got = succeed(other, "pull", "datasets/me/golden")["artifact"]
    assert (got["version"], got["digest"]) == (2, sent["artifact"]["digest"])
    renamed = succeed(other, "pull", "datasets/me/golden", "--name", "theirs")["artifact"]
    assert (renamed["name"], renamed["version"]) == ("theirs", 1)
    assert renamed["digest"] == sent["artifact"]["digest"]
    assert other.vintix("artifacts", "verify", "--all", "--deep").code == 0


def test_the_authors_checkpoint_is_imported(fake, hub):
    """What `vintix import checkpoint` makes of the same files."""
    files = {path.name: path.read_bytes() for path in RELEASED.iterdir()}
    hub.add("model", "dunnolab/Vintix", {**files, "README.md": b"hello"})
    got = succeed(fake, "pull", "dunnolab/Vintix")
    assert (got["artifact"]["kind"], got["artifact"]["name"]) == ("checkpoints", "Vintix")
    shutil.copytree(RELEASED, fake.directory / "ckpt")
    same = succeed(elsewhere(fake), "import", "checkpoint", "ckpt", "--name", "Vintix")
    assert got["artifact"]["digest"] == same["artifact"]["digest"]
    assert got["repository"].startswith("dunnolab/Vintix@")
    assert succeed(fake, "pull", "dunnolab/Vintix")["up_to_date"]


@pytest.mark.parametrize("verbose", [(), ("--debug",)])
def test_the_token_is_used_and_nowhere_to_be_read(fake, hub, verbose):
    """Not in artifacts, the cache, messages or tracebacks, even if a server sends it back."""
    succeed(fake, "push", "checkpoints/newest", "me/golden", "--private")
    succeed(elsewhere(fake), "pull", "me/golden")
    hub.forbidden = True
    done = fake.vintix("push", HISTORY, "me/more", *verbose)
    assert done.code == 3 and "HF_TOKEN" in done.stderr
    said = done.stdout + done.stderr
    assert TOKEN not in said and "may not write" in said
    for path in fake.directory.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path
    assert not any(TOKEN.encode() in body for body in hub.bodies)


def test_what_is_wrong_has_its_exit_code_and_its_way_out(fake, hub):
    missing = fail(fake, 4, "pull", "me/nothing")
    assert "vintix pull datasets/me/nothing" in missing["fix"]
    succeed(fake, "push", "checkpoints/newest", "me/golden", "--private")
    assert "no such revision" in fail(fake, 4, "pull", "me/golden@v9")["message"]
    stranger = elsewhere(fake, HF_TOKEN="hf_somebody")
    assert "HF_TOKEN" in fail(stranger, 4, "pull", "me/golden")["fix"]
    refused = fail(stranger, 3, "push", "checkpoints/packaged", "me/more")
    assert refused["error"] == "ConfigError"
    assert fail(fake, 2, "push", "checkpoints/newest", "datasets/me/golden")["expected"] == (
        "me/golden"
    )
    assert fail(fake, 2, "push", HISTORY, "me/golden@v1")["exit_code"] == 2
    assert fail(fake, 2, "pull", "golden")["exit_code"] == 2
    assert fail(fake, 4, "push", "histories/none", "me/golden")["exit_code"] == 4
    hub.add("model", "me/empty", {"README.md": b"hello"})
    assert "holds no artifact" in fail(fake, 4, "pull", "me/empty")["message"]
    gone = elsewhere(fake, HF_ENDPOINT="http://127.0.0.1:9")
    assert fail(gone, 1, "pull", "me/elsewhere")["error"] == "StorageError"


def test_a_damaged_artifact_is_not_sent(fake, hub):
    stated = json.loads(manifest(fake, HISTORY))
    damaged = fake.workspace / "histories" / "newest" / "v1" / sorted(stated["files"])[0]
    damaged.write_bytes(damaged.read_bytes() + b"!")
    assert "artifacts verify" in fail(fake, 4, "push", HISTORY, "me/golden")["fix"]
    assert not hub.asked


@pytest.mark.parametrize(
    "example", [*commands.PUSH_EPILOG.splitlines()[1:], *commands.PULL_EPILOG.splitlines()[1:]]
)
def test_examples_run(fake, hub, example):
    """As help prints them."""
    for name in ("quickstart", "metaworld"):
        for kind in ("checkpoints", "histories"):
            shutil.copytree(fake.workspace / kind / "newest", fake.workspace / kind / name)
    files = {path.name: path.read_bytes() for path in RELEASED.iterdir()}
    hub.add("model", "dunnolab/Vintix", files)
    succeed(fake, "push", "checkpoints/newest", "me/quickstart")
    succeed(fake, "push", HISTORY, "me/metaworld")
    done = fake.vintix(*shlex.split(example)[1:])
    assert done.code == 0, done.stderr
    assert done.stdout.strip()
