"""A package outside the tree adds a method, a head and a backbone: one file each, nothing else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipelines.artifacts.artifact import Artifact
from pipelines.artifacts.workspace import Workspace
from pipelines.config import choices_of
from pipelines.errors import ConfigError, UsageError
from pipelines.methods import METHODS
from pipelines.model.backbones import BACKBONES
from pipelines.model.heads import HEADS
from pipelines.model.saved import load_model
from pipelines.reporter import NullReporter
from pipelines.rollout.config import RolloutConfig
from pipelines.rollout.stage import run as rollout
from pipelines.train.config import TrainConfig
from pipelines.train.stage import plan
from pipelines.train.stage import run as train
from tests.cli.support import install_metadata
from tests.train.support import SMALL_MODEL, ToyTask, small_config, write_dataset

pytestmark = pytest.mark.simulator
METHOD = '''
from pipelines.methods.base import Method


class Quiet(Method):
    """Rows weigh as much as the demonstrator decided their action."""

    title = "quiet"
    fields = ("noise",)

    def loss_weights(self, rows):
        return 1 - rows["noise"]
'''
HEAD = """
import torch

from pipelines.model.heads.base import Head
from pipelines.model.initialization import Linear


class Gaussian(Head):
    deterministic = False

    def __init__(self, width, actions, *, spread: float = 1.0):
        super().__init__(width, actions)
        self.spread = spread
        self.out = Linear(width, 2 * actions.width)

    def loss(self, hidden, target, units):
        mean, log_std = self.out(hidden).chunk(2, dim=-1)
        return 0.5 * ((target - mean) / log_std.exp()).square() + log_std

    def act(self, hidden, units, draws):
        mean, log_std = self.out(hidden).chunk(2, dim=-1)
        if draws is None:
            return mean
        return mean + self.spread * log_std.exp() * draws.normal(1, mean.shape[-1])
"""
BACKBONE = """
import torch

from pipelines.model.backbones.base import Backbone
from pipelines.model.cache import Context


class Hidden(Context):
    stored = ("hidden",)
    axis = 1

    def __init__(self, layers, size, width, context):
        super().__init__(context)
        self.hidden = torch.zeros(layers, size, width)


class GRU(Backbone):
    def __init__(self, config, *, attention="auto"):
        super().__init__(config)
        self.layers = config.layers
        self.gru = torch.nn.GRU(config.width, config.width, config.layers, batch_first=True)

    def forward(self, tokens):
        return self.gru(tokens)[0]

    def init_state(self, batch_size, context, dtype, device, sinks=0):
        return Hidden(self.layers, batch_size, self.width, context)

    def step(self, token, state):
        out, hidden = self.gru(token, state.hidden)
        state.hidden.copy_(hidden)
        state.advance()
        return out
"""
KINDS = (METHODS, HEADS, BACKBONES)


def forget() -> None:
    for kind in KINDS:
        vars(kind).pop("_installed", None)
    for name in ("extra_quiet", "extra_gaussian", "extra_gru"):
        sys.modules.pop(name, None)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    site = tmp_path / "site"
    site.mkdir()
    for name, text in (("quiet", METHOD), ("gaussian", HEAD), ("gru", BACKBONE)):
        (site / f"extra_{name}.py").write_text(text)
    install_metadata(
        site,
        "vintix-extra",
        "1.0",
        {
            "vintix.methods": {"quiet": "extra_quiet:Quiet"},
            "vintix.heads": {"gaussian": "extra_gaussian:Gaussian"},
            "vintix.backbones": {"gru": "extra_gru:GRU"},
        },
    )
    monkeypatch.syspath_prepend(site)
    forget()
    yield site
    forget()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    found = Workspace(tmp_path / "artifacts")
    task = ToyTask("inverted-pendulum", "mujoco-inverted-pendulum", "mujoco", 4, 1, options={})
    write_dataset(found, tasks=[task])
    return found


def trained(workspace: Workspace, name: str, **changes: object) -> Artifact:
    config = small_config(**{"name": name, "steps": 3, **changes})
    artifact = train(config, workspace, NullReporter()).artifact
    assert artifact is not None
    return artifact


def returns(workspace: Workspace, checkpoint: str, **changes: object) -> list[float]:
    config = RolloutConfig(
        checkpoint=checkpoint, tasks=("inverted-pendulum",), shots=2, seeds=2, **changes
    )
    artifact = rollout(config, workspace, NullReporter()).artifact
    assert artifact is not None
    (name,) = artifact.manifest.summary["tasks"]
    return artifact.read(f"{name}/00000/reward").tolist()


def test_a_method_of_another_package_trains_and_plays(package: Path, workspace: Workspace) -> None:
    """Its weights change what is learnt; it is offered as the project's own are."""
    assert "quiet" in choices_of(TrainConfig.model_fields["method"])
    found = trained(workspace, "quiet", method="quiet")
    plain = trained(workspace, "plain")
    one, other = (load_model(each).model.state_dict() for each in (found, plain))
    assert one.keys() == other.keys()
    assert any(not np.array_equal(one[name], other[name]) for name in one)
    assert returns(workspace, "quiet")
    with pytest.raises(ValueError, match="no fidelity release"):
        small_config(method="quiet", fidelity="release")


@pytest.mark.parametrize(("kind", "name"), [("head", "gaussian"), ("backbone", "gru")])
def test_a_part_of_the_model_of_another_package_trains_and_plays(
    package: Path, workspace: Workspace, kind: str, name: str
) -> None:
    """The same seed repeats its numbers, also those that a head draws at rollout."""
    model = {**SMALL_MODEL, kind: name}
    rows = {row["part"] for row in plan(small_config(model=model), workspace).rows}
    assert rows == {"encoders", "gru" if kind == "backbone" else "transformer", "heads"}
    found, again = (trained(workspace, each, model=model) for each in ("first", "second"))
    one, other = (load_model(each).model.state_dict() for each in (found, again))
    assert all(np.array_equal(one[key], other[key]) for key in one)
    assert found.config["model"][kind] == name
    played = returns(workspace, "first", name="a")
    assert played == returns(workspace, "second", name="b")
    if kind == "head":
        assert played != returns(workspace, "first", name="c", seed=1)
        assert found.config["model"]["head_options"] == {"spread": 1.0}
        narrow = {**model, "head_options": {"spread": 0.0}}
        trained(workspace, "narrow", model=narrow)
        assert returns(workspace, "narrow", name="d") != played
        with pytest.raises(ConfigError, match="no option 'wide': it has spread"):
            plan(small_config(model={**model, "head_options": {"wide": 1}}), workspace)


def test_a_reader_without_the_package_is_told_which_brings_it(
    package: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = trained(workspace, "quiet", method="quiet", model={**SMALL_MODEL, "backbone": "gru"})
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each != str(package)])
    forget()
    with pytest.raises(UsageError, match="pip install vintix-extra") as caught:
        load_model(artifact)
    assert caught.value.where == f"checkpoint {artifact.reference}"
