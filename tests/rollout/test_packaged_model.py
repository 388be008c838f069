"""The model that comes with the package: whole, small, and able to play what it says it can."""

from __future__ import annotations

import pytest

from pipelines.artifacts.verify import verify
from pipelines.artifacts.workspace import Workspace, packaged
from pipelines.domains.registry import full_catalogue
from pipelines.errors import ConfigError
from pipelines.model.saved import load_model
from pipelines.reporter import NullReporter
from pipelines.rollout.config import RolloutConfig
from pipelines.rollout.selection import select_targets
from pipelines.rollout.stage import run
from pipelines.tasks.registry import catalogue

pytestmark = pytest.mark.simulator

MOST_BYTES = 10_000_000


@pytest.fixture(scope="module")
def artifact():
    return packaged().find("checkpoints")


@pytest.fixture(scope="module")
def model(artifact):
    return load_model(artifact)


def test_it_is_intact_small_and_alone(artifact):
    """The wheel carries one version, without the optimizer, and nothing that its writer left."""
    assert verify(artifact, deep=True) == []
    directory = artifact.path.parent
    assert [path.name for path in directory.iterdir()] == [artifact.path.name]
    names = [path for path in artifact.path.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in names) <= MOST_BYTES
    assert not any("optimizer" in str(path) for path in names)


def test_its_card_has_a_score_for_every_task_it_was_trained_on(artifact, model):
    trained = {name for name, saved in model.tasks.items() if saved.trained}
    training = {task.name for task in catalogue().select(splits=["train"])}
    assert trained == training
    assert set(artifact.manifest.summary["scores"]) == trained


def test_every_task_and_variation_whose_group_it_has_can_be_chosen(model):
    """What it has statistics of plays as it is; nothing has to be borrowed."""
    known = {saved.task["group"] for saved in model.tasks.values()}
    played = [task for task in catalogue().select(variations=True) if task.group in known]
    assert {task.group for task in catalogue().select(splits=["train"])} <= known
    assert sum(task.variation_of is not None for task in played) == 44
    for task in played:
        (target,) = select_targets(RolloutConfig(tasks=(task.name,)), model, catalogue())
        assert target.known in (task.name, task.variation_of)


def test_a_task_without_a_group_is_told_in_a_few_short_lines(model):
    """Of 21 groups it names those of the task's domain, or the first ones."""

    def expected(task: str) -> str:
        config = RolloutConfig(tasks=(task,))
        with pytest.raises(ConfigError, match=f"no group for task '{task}'") as told:
            select_targets(config, model, full_catalogue())
        return str(told.value.expected)

    hands, bandits = expected("hand-over"), expected("bernoulli-bandit-20")
    assert hands.startswith(
        "a task of its 21 groups, of which 8 of bidexhands: bidexhands-blocks, "
    )
    assert "mujoco" not in hands
    assert bandits.startswith("a task of its 21 groups: ")
    assert bandits.endswith(" and 13 more")
    assert max(len(hands), len(bandits)) < 300


class Told(NullReporter):
    """Keeps what is told."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def info(self, message):
        self.lines.append(message)


def test_it_plays_in_an_empty_workspace(tmp_path):
    told = Told()
    config = RolloutConfig(tasks=("inverted-pendulum",), shots=2, seeds=1)
    result = run(config, Workspace(tmp_path), told)
    assert any("comes with vintix" in line for line in told.lines)
    (row,) = result.report["tasks"]
    # A pendulum that nobody balances falls within a few steps.
    assert max(row["returns_by_shot"]) > 20
