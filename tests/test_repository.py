"""Workflows, citation, containers and hooks say what the project's own files say."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import pipelines

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
CONTAINERS = sorted((ROOT / "docs").glob("c*.Containerfile"))


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def nox_tables() -> tuple[set[str], set[str]]:
    """Return the names of the sessions and of the extras that have one, without importing nox."""
    tree = ast.parse((ROOT / "noxfile.py").read_text())
    sessions = {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.decorator_list
    }
    (extras,) = (
        set(ast.literal_eval(node.value))
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "EXTRAS"
    )
    return sessions, extras


def jobs() -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{path.name}: {name}", job)
        for path in WORKFLOWS
        for name, job in read(path)["jobs"].items()
    ]


def test_versions_agree():
    """What is cited, what is installed and what the program says of itself is one version."""
    citation = read(ROOT / "CITATION.cff")
    assert PROJECT["version"] == citation["version"] == pipelines.__version__
    assert PROJECT["license"] == citation["license"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_and_may_read_only(path):
    """A tag that is moved, or a stolen token of a job, changes nothing."""
    used = re.findall(r"uses: (.*)", path.read_text())
    assert used
    for each in used:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each), each
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert job.get("permissions", {}) == ({"id-token": "write"} if name == "publish" else {})
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout"):
                assert step["with"] == {"persist-credentials": False}


def test_workflows_run_sessions_that_there_are():
    sessions, extras = nox_tables()
    ran = set()
    for job in dict(jobs()).values():
        matrix = job.get("strategy", {}).get("matrix", {})
        for step in job["steps"]:
            for name in re.findall(r"nox -s \"?(\S+?)\"?(?=\s|$)", step.get("run", "")):
                variable = re.search(r"matrix\.(\w+)", step["run"])
                ran.update(matrix[variable[1]] if variable else [name])
    assert {"slow", "quickstart", "release"} <= ran
    assert ran <= sessions | extras


def test_each_python_and_each_extra_has_a_job():
    """What pyproject.toml promises is what is tried."""
    matrices = dict(jobs())
    versions = [
        each.rpartition(" ")[2] for each in PROJECT["classifiers"] if "Python :: 3." in each
    ]
    assert matrices["checks.yml: nox"]["strategy"]["matrix"]["python"] == versions
    _, extras = nox_tables()
    assert set(matrices["checks.yml: extra"]["strategy"]["matrix"]["extra"]) == extras
    assert extras | {"flash"} == set(PROJECT["optional-dependencies"])


def test_hooks_use_the_linter_of_the_constraints():
    pinned = re.search(r"^ruff==.*$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    (repository,) = read(ROOT / ".pre-commit-config.yaml")["repos"]
    for hook in repository["hooks"]:
        assert hook["additional_dependencies"] == [pinned[0]]


@pytest.mark.parametrize("path", CONTAINERS, ids=lambda path: path.name)
def test_containers_copy_what_is_installed(path):
    copied = {
        name
        for line in re.findall(r"^COPY (.*) \S+$", path.read_text(), re.MULTILINE)
        for name in line.split()
    }
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    needed = {"pyproject.toml", "constraints.txt", PROJECT["readme"], *PROJECT["license-files"]}
    assert copied == needed | set(packages["targets"]["wheel"]["packages"])


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.name
)
def test_forms_are_what_the_host_takes(path):
    """A form without these parts is not shown at all."""
    form = read(path)
    if path.name == "config.yml":
        assert set(form) == {"blank_issues_enabled"}
        return
    assert {"name", "description", "body"} <= set(form)
    names = [part["id"] for part in form["body"]]
    assert len(set(names)) == len(names)
    for part in form["body"]:
        assert part["type"] in {"textarea", "input"} and part["attributes"]["label"]


def test_each_page_stands_in_the_sites_navigation():
    """The site is built strictly: a page that it leaves out ends the build."""
    _, _, navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")
    named = set(re.findall(r": (\S+\.md)$", navigation, re.MULTILINE))
    above = {"index.md", "contributing.md", "changelog.md"}
    assert named == above | {path.name for path in (ROOT / "docs").glob("*.md")}
