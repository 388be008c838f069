"""``vintix report``: the documents, the tables, the page, the pictures, and what it refuses."""

from __future__ import annotations

import json

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


ROLLOUT = "point-mass-tiny"
REPORT_FIELDS = {
    "rollouts", "reference", "goal", "headline", "domains", "comparison", "absent", "figures",
    "provenance",
    "page", "pictures", "video",
}  # fmt: skip
ROW_FIELDS = {
    "task", "part", "artifact", "seeds", "shots", "random", "expert", "return_first",
    "return_last", "success_last", "best_shot", "curve", "first", "first_interval", "best",
    "best_interval", "last", "last_interval", "shots_to_goal",
}  # fmt: skip


def test_a_rollout_gives_a_page_and_its_document(shell):
    """``vintix report ROLLOUT`` and ``vintix report rollouts ROLLOUT`` are one command."""
    done = shell.vintix("report", ROLLOUT, "--json", "--figures", "pictures")
    assert done.code == 0, done.stderr
    found = done.document
    assert set(found) == REPORT_FIELDS
    assert found["rollouts"] == [f"{ROLLOUT}@v1"]
    (table,) = found["domains"]
    assert [row["task"] for row in table["tasks"]] == TASKS
    assert all(set(row) == ROW_FIELDS for row in table["tasks"])
    assert found["video"] is None and found["comparison"] == []
    page = (shell.directory / found["page"]).read_text()
    assert found["page"] == "report.html" and page.startswith("<!doctype html>")
    made = [shell.directory / path for path in found["pictures"]]
    assert {path.suffix for path in made} == {".png", ".svg"} and all(map(_holds, made))
    shown = {each["id"] for each in found["figures"]}
    assert {path.stem for path in made} == shown
    assert {"domains", "demonstrators", "tasks-point-mass", "histories", "training"} <= shown
    again = shell.vintix("report", "rollouts", ROLLOUT, "--output", "other.html", "--json")
    assert {**again.document, "page": 0, "pictures": 0} == {**found, "page": 0, "pictures": 0}
    assert (shell.directory / "other.html").read_text() == page, "the same bytes"


def test_the_numbers_are_those_of_the_rollout(shell):
    """The page and ``vintix rollout --json`` may not disagree."""
    report = shell.vintix("report", "--json").document
    rollout = shell.vintix("rollout", "--json", "--config", "run.yaml", "--name", ROLLOUT).document
    assert rollout["up_to_date"], "nothing is played for this"
    for row, task in zip(report["domains"][0]["tasks"], rollout["tasks"], strict=True):
        assert row["curve"] == task["normalized_by_shot"]
        assert row["best_shot"] == task["best_shot"]


def test_the_table_of_a_rollout(shell):
    done = shell.vintix("report", ROLLOUT, "--task", TASKS[0])
    assert done.code == 0, done.stderr
    assert TASKS[0] in done.stdout and TASKS[1] not in done.stdout
    assert "shots to 0.9" in done.stdout and "first 95%" in done.stdout
    assert done.stdout.splitlines()[-1] == "page: report.html"


def test_options_may_stand_first(shell):
    """Without a name it is the newest rollout, wherever the options stand."""
    done = shell.vintix("report", "--output", "page.html", "--quiet")
    assert done.code == 0, done.stderr
    assert done.stdout == "page: page.html\n"
    text = (shell.directory / "page.html").read_text().split('id="report">')[1]
    assert json.loads(text.split("</script>")[0])["rollouts"] == [f"{ROLLOUT}@v1"]


def test_what_a_page_refuses(shell):
    assert shell.vintix("report", ROLLOUT, "--output", "page.pdf").code == 2
    assert shell.vintix("report", ROLLOUT, "--task", "hopper").code == 2
    assert shell.vintix("report", ROLLOUT, ROLLOUT).code == 2
    assert shell.vintix("report", ROLLOUT, "--video", "film.avi").code == 2
    assert shell.vintix("report", ROLLOUT, "--reference", "paper").code == 3
    assert shell.vintix("report", "elsewhere").code == 4
    assert not (shell.directory / "report.html").exists()


def _holds(path):
    return path.stat().st_size > 1000
