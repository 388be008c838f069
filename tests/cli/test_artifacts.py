"""``vintix artifacts``: what is in a workspace, whether it is intact, and what may go."""

from __future__ import annotations

import shutil

import pytest

from pipelines.artifacts.files import write_sealed
from pipelines.artifacts.staging import PARENTS

from .support import Shell

KINDS = ["checkpoints", "datasets", "demonstrators", "histories", "rollouts"]


def files(shell: Shell) -> dict[str, bytes]:
    return {
        str(path.relative_to(shell.workspace)): path.read_bytes()
        for path in sorted(shell.workspace.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def stage_something(shell: Shell) -> None:
    """Leave staged work behind, as an interrupted run does."""
    version = shell.workspace / "histories/point-mass/v1"
    staged = shell.workspace / "histories/left/.staging-0123456789abcdef"
    shutil.copytree(version / "data.zarr", staged / "data.zarr")
    write_sealed(staged / PARENTS, {"parents": []})


def test_ls_of_an_empty_workspace(empty):
    done = empty.vintix("artifacts", "ls")
    assert (done.code, done.stderr) == (0, "")
    assert "vintix quickstart" in done.stdout
    document = empty.vintix("artifacts", "ls", "--json").document
    assert (document["artifacts"], document["staged"]) == ([], [])
    assert not empty.workspace.exists()


def test_ls(shell):
    stage_something(shell)
    done = shell.vintix("artifacts", "ls")
    assert (done.code, done.stderr) == (0, "")
    for kind in KINDS:
        assert kind in done.stdout
    assert "point-mass-tiny@v1" in done.stdout
    assert "staged" in done.stdout
    assert "…" not in done.stdout
    only = shell.vintix("artifacts", "ls", "--kind", "datasets", "--json").document
    assert [row["kind"] for row in only["artifacts"]] == ["datasets"]
    assert only["staged"] == []
    named = shell.vintix("artifacts", "ls", "--name", "left", "--json").document
    assert (named["artifacts"], len(named["staged"])) == ([], 1)


def test_show(shell):
    done = shell.vintix("artifacts", "show", "checkpoints/point-mass-tiny")
    assert (done.code, done.stderr) == (0, "")
    for words in (
        "checkpoints",
        "point-mass-tiny",
        "parents",
        "datasets",
        "learning_rate",
        "torch",
    ):
        assert words in done.stdout
    by_path = shell.vintix(
        "artifacts", "show", shell.workspace / "checkpoints/point-mass-tiny/v1", "--json"
    )
    by_version = shell.vintix("artifacts", "show", "checkpoints/point-mass-tiny@v1", "--json")
    assert by_path.document == by_version.document
    assert by_path.document["manifest"]["digest"]


def test_verify_names_the_file_of_a_flipped_bit(shell):
    assert shell.vintix("artifacts", "verify", "--all").stdout == "intact: 5 artifacts\n"
    damaged = next(
        path
        for path in sorted((shell.workspace / "datasets/point-mass/v1").rglob("c/*"))
        if path.is_file()
    )
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 4
    damaged.write_bytes(data)
    relative = str(damaged.relative_to(shell.workspace / "datasets/point-mass/v1"))
    for words in (["datasets/point-mass"], ["datasets/point-mass@v1"], ["--all"]):
        done = shell.vintix("artifacts", "verify", *words)
        assert done.code == 4
        assert relative in done.stdout
        assert relative in done.stderr
        assert "fix: " in done.stderr
    document = shell.vintix("artifacts", "verify", "--all", "--json")
    assert document.code == 4
    assert [problem["path"] for problem in document.document["problems"]] == [relative]
    assert shell.vintix("artifacts", "verify", "histories/point-mass").code == 0


@pytest.mark.parametrize("what", ["missing", "added", "manifest"])
def test_verify_names_what_else_is_wrong(shell, what):
    version = shell.workspace / "rollouts/point-mass-tiny/v1"
    if what == "missing":
        path = next(path for path in sorted(version.rglob("c/*")) if path.is_file())
        path.unlink()
    elif what == "added":
        path = version / "data.zarr" / "stowaway"
        path.write_bytes(b"")
    else:
        path = version / "manifest.json"
        path.write_bytes(path.read_bytes().replace(b'"seed": 0', b'"seed": 1', 1))
    done = shell.vintix("artifacts", "verify", "rollouts/point-mass-tiny", "--json")
    assert done.code == 4
    assert path.name in str(done.document["problems"])


def test_gc_dry_run_touches_nothing(shell):
    stage_something(shell)
    before = files(shell)
    done = shell.vintix("artifacts", "gc", "--keep", "1", "--dry-run", "--json")
    assert done.code == 0, done.stderr
    assert [candidate["path"] for candidate in done.document["candidates"]] == [
        str(shell.workspace / "histories/left/.staging-0123456789abcdef")
    ]
    assert "would free" in shell.vintix("artifacts", "gc", "--dry-run").stdout
    assert files(shell) == before


def test_gc_keeps_what_something_kept_was_made_from(shell):
    distill = ("distill", "--domain", "point-mass", "--config", "run.yaml")
    for seed in ("1", "2"):
        assert shell.vintix(*distill, "--seed", seed).code == 0
    stage_something(shell)
    done = shell.vintix("artifacts", "gc", "--keep", "1", "--json")
    assert done.code == 0, done.stderr
    old = str(shell.workspace / "histories/point-mass/v2")
    staged = str(shell.workspace / "histories/left/.staging-0123456789abcdef")
    # What a command would go on from is shown, as are published versions.
    assert {key: [row["path"] for row in rows] for key, rows in done.document.items()} == {
        "removed": [],
        "candidates": [staged, old],
        "kept": [str(shell.workspace / "histories/point-mass/v1")],
    }
    assert "was made from it" in done.document["kept"][0]["why"]
    shown = shell.vintix("artifacts", "gc", "--keep", "1").stdout
    assert "would be deleted" in shown and "--yes" in shown and old in shown
    # The advice to one whose disk is full: what was staged stays.
    done = shell.vintix("artifacts", "gc", "--no-staging", "--keep", "1", "--json")
    assert [row["path"] for row in done.document["candidates"]] == [old]
    done = shell.vintix("artifacts", "gc", "--yes", "--json")
    assert [row["path"] for row in done.document["removed"]] == [staged]
    done = shell.vintix("artifacts", "gc", "--keep", "1", "--yes", "--json")
    assert [row["path"] for row in done.document["removed"]] == [old]
    assert done.document["candidates"] == []
    # v1 is what the dataset was made from, v3 is the newest.
    assert {"histories/point-mass@v1", "histories/point-mass@v3"} <= set(shell.digests())
    assert shell.vintix("artifacts", "verify", "--all").code == 0
    young = shell.vintix(
        "artifacts", "gc", "--keep", "1", "--older-than-days", "1", "--yes", "--json"
    )
    assert young.document["removed"] == []
