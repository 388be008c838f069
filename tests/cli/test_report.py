"""``vintix report histories``: the document, the table, the picture, and what it refuses."""

from __future__ import annotations

TASKS = ["point-mass-north-east", "point-mass-south-west"]


def test_the_document(shell):
    done = shell.vintix("report", "histories", "--json", "--plot", "picture.png")
    assert done.code == 0, done.stderr
    found = done.document
    assert set(found) == {"histories", "tasks", "domains", "pictures"}
    assert [task["task"] for task in found["tasks"]] == TASKS
    for task in found["tasks"]:
        assert task["verdict"] in ("good", "short")
        assert task["failures"] == []
        assert set(task["schedule"]) == {"p", "f"}
        assert isinstance(task["episodes"], int)
        assert len(task["progress"]) == len(task["smoothed"])
    assert [row["domain"] for row in found["domains"]] == ["point-mass"]
    assert found["pictures"] == ["picture.png"]
    assert (shell.directory / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_the_table_and_a_selection(shell):
    done = shell.vintix("report", "histories", "--task", TASKS[0])
    assert done.code == 0, done.stderr
    assert TASKS[0] in done.stdout and TASKS[1] not in done.stdout


def test_what_it_refuses(shell):
    assert shell.vintix("report", "histories", "--task", "hopper").code == 2
    assert shell.vintix("report", "histories", "--plot", "picture.bmp").code == 2
    assert shell.vintix("report", "histories", "elsewhere").code == 4
    shell.workspace.rename(shell.directory / "moved")
    assert shell.vintix("report", "histories").code == 4
