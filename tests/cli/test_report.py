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


def test_several_side_by_side(shell):
    """Each row tells which artifact it is of, also in the picture and in the means."""
    words = ["distill", "--config", "run.yaml", "--task", TASKS[0], "--seed", "3", "--quiet"]
    assert shell.vintix(*words, "--name", "other").code == 0
    first = shell.vintix("report", "histories", "other", "--json").document
    assert "history" not in first["tasks"][0]
    others = [path.name for path in (shell.workspace / "histories").iterdir()]
    name = next(each for each in others if each != "other")
    words = ["report", "histories", "other", name, "--task", TASKS[0]]
    found = shell.vintix(*words, "--json", "--plot", "both.png").document
    assert found["histories"] == f"other@v1, {name}@v1"
    assert [each["history"] for each in found["tasks"]] == ["other@v1", f"{name}@v1"]
    assert [each["history"] for each in found["domains"]] == ["other@v1", f"{name}@v1"]
    assert {**found["tasks"][0], "history": None} == {**first["tasks"][0], "history": None}
    table = shell.vintix(*words).stdout
    assert "other@v1" in table and f"{name}@v1" in table
    assert shell.vintix("report", "histories", "other", "elsewhere").code == 4
