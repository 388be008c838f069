"""``--executor ray`` where Ray is not installed: told before anything is simulated."""

from __future__ import annotations

import builtins

import pytest

from pipelines.distill.config import DistillConfig
from pipelines.distill.stage import run
from pipelines.errors import MissingDependencyError, UsageError
from pipelines.reporter import NullReporter


@pytest.fixture
def without_ray(monkeypatch):
    """Importing ray fails, installed or not."""
    original = builtins.__import__

    def refuse(name, *rest):
        if name.partition(".")[0] == "ray":
            raise ModuleNotFoundError("No module named 'ray'")
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    monkeypatch.setattr(
        "pipelines.dependencies.import_module", lambda name: refuse(name, {}, {}, (), 0)
    )


def test_without_ray_it_says_what_to_install(workspace, without_ray):
    config = DistillConfig(trajectories=1, steps=60, name="h", executor="ray")
    with pytest.raises(MissingDependencyError, match="--executor ray") as found:
        run(config, workspace, NullReporter())
    assert found.value.exit_code == 5
    assert found.value.fix == "pip install 'vintix[cluster]'"
    assert workspace.names("histories") == []


def test_a_finished_history_needs_no_ray(workspace, without_ray):
    """The executor is no part of the artifact, and what is up to date asks for nothing."""
    fields = {"trajectories": 1, "steps": 60, "name": "h", "workers": 1}
    run(DistillConfig(**fields), workspace, NullReporter())
    assert run(DistillConfig(**fields, executor="ray"), workspace, NullReporter()).up_to_date


def test_another_executor_is_wrong_usage():
    from pipelines.config import resolve_config

    with pytest.raises(UsageError, match="'local' or 'ray'"):
        resolve_config("distill", DistillConfig, command_line={"executor": "spark"}, environment={})
