"""A package outside the tree brings a domain with discrete actions, a method, a head and a
backbone: all five stages run with them, in this process."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from pipelines.actions import Discrete
from pipelines.artifacts.artifact import Artifact
from pipelines.artifacts.workspace import Workspace
from pipelines.datasets.reader import DatasetReader
from pipelines.demonstrators.config import DemonstratorsConfig
from pipelines.demonstrators.reader import load_demonstrator
from pipelines.demonstrators.stage import run as demonstrators
from pipelines.distill.config import DistillConfig
from pipelines.distill.stage import run as distill
from pipelines.domains import registry
from pipelines.errors import ConfigError
from pipelines.histories.reader import HistoryReader
from pipelines.interchange.config import (
    ExportCheckpointConfig,
    ExportDatasetConfig,
    ExportHistoriesConfig,
)
from pipelines.interchange.minari import export_minari
from pipelines.interchange.official_checkpoint import export_official
from pipelines.interchange.official_dataset import export_dataset
from pipelines.interchange.safetensors_checkpoint import export_safetensors, read_safetensors
from pipelines.model.saved import load_model
from pipelines.pack.config import PackConfig
from pipelines.pack.stage import run as pack
from pipelines.reporter import NullReporter
from pipelines.rollout.config import RolloutConfig
from pipelines.rollout.stage import run as rollout
from pipelines.train.stage import plan
from pipelines.train.stage import run as train
from tests.cli.support import install_metadata
from tests.test_third_party import BACKBONE, METHOD, forget
from tests.train.support import SMALL_MODEL, small_config

DOMAIN = '''
import gymnasium
import numpy as np

from pipelines.actions import Discrete
from pipelines.domains.base import Domain
from pipelines.policies.base import Policy, PolicySpec
from pipelines.tasks.spec import TaskSpec

LENGTH = 7


class CorridorEnv(gymnasium.Env):
    """Places in a row; actions: left, stay, right. It ends at the last place."""

    metadata = {"render_modes": []}

    def __init__(self):
        self.observation_space = gymnasium.spaces.Box(0, LENGTH, (1,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = int(self.np_random.integers(3))
        return np.float32([self.place]), {}

    def step(self, action):
        self.place = max(self.place + (-1, 0, 1)[action], 0)
        there = self.place == LENGTH - 1
        return np.float32([self.place]), float(there) - 1.0, there, False, {"success": there}


class Rightward(Policy):
    def act(self, observation):
        return np.full(len(observation), 2)


class Corridors(Domain):
    name = "corridors"

    def tasks(self):
        return [
            TaskSpec(
                name="corridor",
                domain="corridors",
                group="corridor",
                observation_dim=1,
                actions=Discrete(3),
                horizon=20,
                trajectories=2,
                trajectory_length=1500,
            )
        ]

    def make_env(self, task, options):
        return CorridorEnv()

    def policies(self):
        return {"rightward": lambda spec, actions: Rightward()}

    def demonstrator(self, task):
        return PolicySpec("rightward")
'''
HEAD = '''
from pipelines.model.heads.categorical import Categorical


class Tempered(Categorical):
    """Scores over a temperature."""

    def __init__(self, width, actions, *, temperature: float = 1.0):
        super().__init__(width, actions)
        self.temperature = temperature

    def act(self, hidden, units, draws):
        return super().act(hidden / self.temperature, units, draws)
'''
PARTS = {"domain": DOMAIN, "quiet": METHOD, "tempered": HEAD, "gru": BACKBONE}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    site = tmp_path_factory.mktemp("site")
    for name, text in PARTS.items():
        (site / f"extra_{name}.py").write_text(text)
    entries = {
        "vintix.domains": {"corridors": "extra_domain:Corridors"},
        "vintix.methods": {"quiet": "extra_quiet:Quiet"},
        "vintix.heads": {"tempered": "extra_tempered:Tempered"},
        "vintix.backbones": {"gru": "extra_gru:GRU"},
    }
    install_metadata(site, "vintix-extra", "1.0", entries)
    sys.path.insert(0, str(site))
    importlib.invalidate_caches()
    forget()
    registry._discover.cache_clear()
    yield site
    sys.path.remove(str(site))
    for name in PARTS:
        sys.modules.pop(f"extra_{name}", None)
    forget()
    registry._discover.cache_clear()


@pytest.fixture(scope="module")
def workspace(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Demonstrators, histories and a dataset of the package's task."""
    found, quiet = Workspace(tmp_path_factory.mktemp("work")), NullReporter()
    demonstrators(DemonstratorsConfig(domains=("corridors",), workers=1), found, quiet)
    distill(DistillConfig(domains=("corridors",), workers=1), found, quiet)
    pack(PackConfig(), found, quiet)
    return found


def trained(workspace: Workspace, name: str, **changes: Any) -> Artifact:
    config = small_config(
        **{"name": name, "dataset": None, "context": 30, "checkpoint_every": 1000, **changes}
    )
    artifact = train(config, workspace, NullReporter()).artifact
    assert artifact is not None
    return artifact


def played(workspace: Workspace, checkpoint: str, **changes: Any) -> dict[str, Any]:
    config = RolloutConfig(
        checkpoint=checkpoint, tasks=("corridor",), shots=4, seeds=4, name=checkpoint, **changes
    )
    return rollout(config, workspace, NullReporter()).report


def test_discrete_actions_are_whole_numbers_in_every_artifact(workspace: Workspace) -> None:
    history = HistoryReader(workspace.find("histories"))
    rows = next(history.blocks("corridor", 0, rows=1500))
    assert rows["action"].dtype == np.int64 and rows["action"].shape == (1500,)
    assert set(rows["action"]) == {0, 1, 2} and set(rows["demonstrator_action"]) == {2}
    dataset = DatasetReader(workspace.find("datasets"))
    task = dataset.tasks["corridor"]
    assert task.actions == Discrete(3)
    np.testing.assert_array_equal(task.statistics["action_mean"], np.zeros(3))
    np.testing.assert_array_equal(task.statistics["action_std"], np.ones(3))
    np.testing.assert_array_equal(
        dataset.window("corridor", 0, 3, 50)["action"], rows["action"][3:53]
    )


def test_a_model_learns_the_choices_of_its_demonstrator(workspace: Workspace) -> None:
    """Its head is the one that fits; played, it is as good as the demonstrator, or nearly."""
    artifact = trained(workspace, "own", steps=100, method="dpt")
    saved = load_model(artifact)
    assert saved.config.head == "categorical" and saved.config.groups["corridor"].action_dim == 3
    report = played(workspace, "own", baselines=("random", "demonstrator"))
    levels = {
        row["agent"]: row["scores"][0]["scores"]["last"]["iqm"] for row in report["comparison"]
    }
    assert levels["demonstrator"] == pytest.approx(1, abs=0.1)
    assert levels["model"] > 0.8 and abs(levels["random"]) < 0.5


def test_the_packages_parts_run_together(workspace: Workspace) -> None:
    model = {**SMALL_MODEL, "head": "tempered", "backbone": "gru"}
    artifact = trained(workspace, "extra", steps=3, model=model, method="quiet")
    assert artifact.config["model"]["head_options"] == {"temperature": 1.0}
    assert load_model(artifact).method == "quiet"
    report = played(workspace, "extra")
    assert report["method"] == "quiet" and report["scores"][0]["tasks"] == 1


@pytest.mark.parametrize("head", ["mse", "bins"])
def test_a_head_of_other_actions_is_refused(workspace: Workspace, head: str) -> None:
    with pytest.raises(ConfigError, match="does not fit") as caught:
        plan(small_config(dataset=None, model={**SMALL_MODEL, "head": head}), workspace)
    assert caught.value.exit_code == 3
    assert "categorical" in str(caught.value.expected) and "tempered" in str(caught.value.expected)


def test_a_model_trained_through_permuted_actions_plays_through_them(workspace: Workspace) -> None:
    trained(workspace, "mapped", steps=3, random_map=True)
    report = played(workspace, "mapped", prompt="corridors", prompt_steps=20)
    assert report["scores"][0]["tasks"] == 1


def test_a_learner_of_discrete_actions_is_trained_and_recorded(
    workspace: Workspace, tmp_path: Path
) -> None:
    """PPO is; one for continuous actions is refused, with those that fit."""
    quiet = NullReporter()
    ppo = {"algorithm": "ppo", "hyperparameters": {"n_steps": 64}}
    made = demonstrators(
        DemonstratorsConfig(
            tasks=("corridor",),
            source="train",
            train={**ppo, "total_steps": 64, "evaluation_episodes": 1},
            name="ppo",
            workers=1,
        ),
        workspace,
        quiet,
    ).artifact
    assert made is not None
    policy = load_demonstrator(made, "corridor").spec
    assert policy.config["output"] == "argmax"
    found = distill(
        DistillConfig(
            tasks=("corridor",),
            demonstrators="ppo",
            source="learning-history",
            train=ppo,
            steps=128,
            trajectories=1,
            name="learner",
            workers=1,
        ),
        workspace,
        quiet,
    ).artifact
    rows = next(HistoryReader(found).blocks("corridor", 0, rows=128))
    assert rows["action"].dtype == np.int64 and set(rows["action"]) == {0, 1, 2}
    moved = np.clip(rows["observation"][:-1, 0] + rows["action"][:-1] - 1, 0, 6)
    inside = ~(rows["terminated"] | rows["truncated"])[:-1]
    np.testing.assert_array_equal(rows["observation"][1:, 0][inside], moved[inside])
    common: dict[str, Any] = {"tasks": ("corridor",), "workers": 1}
    for refused in (
        lambda: distill(
            DistillConfig(source="learning-history", train={"algorithm": "sac"}, **common),
            workspace,
            quiet,
        ),
        lambda: demonstrators(
            DemonstratorsConfig(source="train", train={"algorithm": "es"}, **common),
            workspace,
            quiet,
        ),
    ):
        with pytest.raises(ConfigError, match="does not fit") as caught:
            refused()
        assert caught.value.exit_code == 3 and "ppo" in str(caught.value.expected)


def test_minari_has_the_choices_and_the_authors_formats_refuse_them(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    minari = pytest.importorskip("minari")
    output, quiet = tmp_path / "minari", NullReporter()
    exported = export_minari(
        ExportHistoriesConfig(reference="corridors", output=output), workspace, quiet
    )
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(output))
    found = minari.load_dataset(exported["tasks"][0]["dataset_id"])
    assert found.spec.action_space == gymnasium.spaces.Discrete(3)
    episode = next(found.iterate_episodes([1]))
    assert episode.actions.dtype == np.int64 and set(episode.actions) <= {0, 1, 2}
    assert episode.infos["demonstrator_action"].tolist() == [2] * len(episode.actions) + [-1]
    trained(workspace, "official", steps=2)
    for export, config in (
        (export_dataset, ExportDatasetConfig(output=tmp_path / "dataset")),
        (
            export_official,
            ExportCheckpointConfig(reference="official", output=tmp_path / "checkpoint"),
        ),
    ):
        with pytest.raises(ConfigError) as caught:
            export(config, workspace, quiet)
        assert caught.value.exit_code == 3
    export_safetensors(
        ExportCheckpointConfig(reference="official", output=tmp_path / "safe"), workspace, quiet
    )
    read = read_safetensors(tmp_path / "safe")
    assert read.saved.config.groups["corridor"].actions == Discrete(3)
