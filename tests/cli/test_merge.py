"""``vintix distill --shard`` and ``vintix artifacts merge`` as an array job runs them."""

from __future__ import annotations

import shutil

import pytest

DISTILL = ("distill", "--config", "run.yaml", "--name", "array")


@pytest.fixture
def split(shell):
    """A workspace with both parts of a history, each made by a command of its own."""
    shell.prepare([*DISTILL, "--quiet", "--shard", f"{shard}/2"] for shard in (1, 2))
    return shell


def test_a_plan_in_two_parts(shell):
    """Shards, merge, and the command without a shard, which finds everything done."""
    plan = shell.vintix(*DISTILL, "--shard", "1/2", "--dry-run", "--json").document
    assert "shard: 1/2 of array" in plan["notes"]
    for shard in (1, 2):
        done = shell.vintix(*DISTILL, "--shard", f"{shard}/2", "--json", "--quiet")
        assert (done.code, done.stderr) == (0, "")
        document = done.document
        assert document["artifact"]["kind"] == "parts"
        assert document["artifact"]["name"] == f"array-{shard}-of-2"
        if shard == 1:
            assert document["steps"] == plan["totals"]["steps"]
    again = shell.vintix(*DISTILL, "--shard", "2/2")
    assert (again.code, "up to date: parts/array-2-of-2@v1" in again.stdout) == (0, True)
    merged = shell.vintix("artifacts", "merge", "array", "--json", "--quiet")
    assert (merged.code, merged.stderr) == (0, "")
    document = merged.document
    assert document["up_to_date"] is False
    assert document["parts"] == ["parts/array-1-of-2@v1", "parts/array-2-of-2@v1"]
    assert document["artifact"]["digest"] == shell.digests()["histories/point-mass@v1"]
    whole = shell.vintix(*DISTILL, "--json").document
    assert whole["up_to_date"] is True
    assert {**whole, "parts": document["parts"], "up_to_date": False} == document


def test_output(split):
    done = split.vintix("artifacts", "merge", "parts/array-2-of-2", "parts/array-1-of-2")
    assert done.code == 0
    assert done.stderr.startswith("parts: array-2-of-2@v1, array-1-of-2@v1\nmaking ")
    assert "rank correlation" in done.stdout
    assert done.stdout.endswith("wrote: histories/array@v1\n")
    quiet = split.vintix("artifacts", "merge", "array", "--quiet")
    assert (quiet.code, quiet.stdout) == (0, "up to date: histories/array@v1\n")
    verified = split.vintix("artifacts", "verify", "histories/array", "--deep")
    assert verified.code == 0
    named = split.vintix("artifacts", "merge", "array", "--name", "other", "--json").document
    assert named["artifact"]["name"] == "other"
    packed = split.vintix("pack", "--histories", "parts/array-1-of-2")
    assert packed.code == 2
    assert "wrong kind" in packed.stderr


def test_wrong_shards_and_wrong_parts(split):
    """Each with its exit code, and what to do."""
    for text in ("0/4", "5/4", "two"):
        done = split.vintix(*DISTILL, "--shard", text)
        assert done.code == 2
        assert "1/4 to 4/4" in done.stderr
    assert split.vintix("artifacts", "merge").code == 2
    missing = split.vintix("artifacts", "merge", "nothing", "--json")
    assert (missing.code, missing.document["error"]) == (4, "ArtifactMissingError")
    one = split.vintix("artifacts", "merge", "array-2-of-2", "--json")
    assert one.code == 4
    assert "vintix distill ... --name array --shard 1/2" in one.document["fix"]
    twice = split.vintix("artifacts", "merge", "array-1-of-2", "array-1-of-2@v1")
    assert twice.code == 2
    shutil.rmtree(split.workspace / "parts/array-1-of-2")
    assert split.vintix(*DISTILL, "--shard", "1/2", "--seed", "7").code == 0
    other = split.vintix("artifacts", "merge", "array", "--json")
    assert (other.code, other.document["error"]) == (3, "ConfigError")
    assert other.document["found"] == "seed: 0"
    assert "as in" in other.document["expected"]
    damaged = next(
        path
        for path in sorted((split.workspace / "parts/array-2-of-2/v1").rglob("c/*"))
        if path.is_file()
    )
    assert split.vintix(*DISTILL, "--shard", "1/2").code == 0
    damaged.write_bytes(b"")
    corrupt = split.vintix("artifacts", "merge", "array")
    assert corrupt.code == 4
    assert str(damaged) in corrupt.stderr
    assert "histories/array@v1" not in split.digests()
