"""Where a workspace has no demonstrators of the chosen tasks, those of the package are taken."""

from __future__ import annotations

from itertools import pairwise

import pytest

from pipelines.artifacts.workspace import Workspace
from pipelines.demonstrators.config import DemonstratorsConfig
from pipelines.demonstrators.selection import plan as demonstrators_plan
from pipelines.distill import stage
from pipelines.distill.config import DistillConfig
from pipelines.distill.plan import plan
from pipelines.errors import ArtifactMissingError, ConfigError, UsageError
from pipelines.reporter import NullReporter

pytestmark = pytest.mark.simulator

TASK = "industrial-benchmark-100"


def config(**changes):
    given = {"tasks": (TASK,), "trajectories": 1, "steps": 2500, "workers": 1}
    return DistillConfig(**{**given, **changes})


def test_the_chosen_tasks_are_measured_published_and_distilled(tmp_path):
    workspace = Workspace(tmp_path)
    first = plan(config(), workspace)
    assert not tmp_path.exists() or not any(tmp_path.iterdir())
    artifact = stage.run(config(), workspace, NullReporter()).artifact
    (parent,) = artifact.manifest.parents
    assert parent.reference == f"demonstrators/{TASK}@v1"
    assert workspace.find("demonstrators").digest == parent.digest
    then = plan(config(), workspace)
    assert (first.rows, first.totals["steps"]) == (then.rows, then.totals["steps"])
    assert first.totals["seconds"] > then.totals["seconds"], "measuring takes a while, too"
    assert stage.run(config(), workspace, NullReporter()).up_to_date


@pytest.mark.parametrize(
    ("task", "options", "error"),
    [(TASK, {"goal": "belief"}, UsageError), ("reach", {"goal": "belief"}, ConfigError)],
)
def test_what_cannot_be_distilled_is_refused_before_anything_is_measured(
    tmp_path, task, options, error
):
    class Heard(NullReporter):
        def info(self, message):
            raise AssertionError(message)

    with pytest.raises(error) as refused:
        stage.run(config(tasks=(task,), options=options), Workspace(tmp_path), Heard())
    if error is UsageError:
        assert refused.value.fix.startswith("leave the option goal out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "fixed"),
    [
        ({"tasks": ("ant-direction",)}, "--source train --task ant-direction"),
        (
            {"tasks": ("point-ring", "ant-direction")},
            "--source train --task point-ring --task ant-direction",
        ),
        ({"tasks": (TASK,), "shard": "1/2"}, f"--task {TASK}"),
        ({"domains": ("mujoco",), "tasks": (), "shard": "1/2"}, "--domain mujoco"),
    ],
)
def test_the_command_that_gets_demonstrators_is_one_that_works(tmp_path, given, fixed):
    """It is planned here, which looks whether there is anything to take."""
    with pytest.raises(ArtifactMissingError) as refused:
        plan(config(**given), Workspace(tmp_path))
    assert refused.value.fix == f"vintix demonstrators {fixed}"
    words = fixed.split()
    found = demonstrators_plan(
        DemonstratorsConfig(
            source="train" if "--source" in words else "builtin",
            tasks=[word for name, word in pairwise(words) if name == "--task"],
            domains=[word for name, word in pairwise(words) if name == "--domain"],
        ),
        Workspace(tmp_path),
    )
    assert found.rows


@pytest.mark.parametrize(
    "changes", [{"tasks": ()}, {"demonstrators": "mine"}, {"shard": "1/2"}], ids=str
)
def test_not_where_they_have_to_be_there(tmp_path, changes):
    """Nothing was chosen, others are named, or several shards would make them at once."""
    with pytest.raises(ArtifactMissingError):
        stage.run(config(**changes), Workspace(tmp_path), NullReporter())


def test_those_of_the_workspace_come_first(tmp_path):
    """Who has demonstrators of some of the tasks is told of the others, as before."""
    workspace = Workspace(tmp_path)
    stage.run(config(), workspace, NullReporter())
    with pytest.raises(ArtifactMissingError, match="industrial-benchmark-95 has no demonstrator"):
        stage.run(config(tasks=(TASK, "industrial-benchmark-95")), workspace, NullReporter())
