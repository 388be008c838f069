"""A model that tells actions by embeddings, from histories of Thompson sampling to its rollouts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines.artifacts.workspace import Workspace
from pipelines.distill.config import DistillConfig
from pipelines.distill.stage import run as distill
from pipelines.errors import ConfigError
from pipelines.interchange.checkpoints import import_checkpoint
from pipelines.interchange.config import ExportConfig, ImportCheckpointConfig
from pipelines.interchange.safetensors_checkpoint import export_safetensors
from pipelines.model.saved import load_model
from pipelines.model.vintix import Vintix
from pipelines.pack.config import PackConfig
from pipelines.pack.stage import run as pack
from pipelines.reporter import NullReporter
from pipelines.rollout.config import RolloutConfig
from pipelines.rollout.stage import run as rollout
from pipelines.train.assembly import cut_subsequences, make_loader
from pipelines.train.config import TrainConfig
from pipelines.train.processes import ProcessGroup
from pipelines.train.run import copy_weights, kept_groups, prepare
from pipelines.train.stage import run as train

pytestmark = pytest.mark.stage

TASKS = ("bernoulli-bandit-5", "bernoulli-bandit-20")
MODEL = {
    "layers": 2,
    "heads": 2,
    "width": 64,
    "feed_forward": 128,
    "action_embedding": 48,
    "observation_embedding": 4,
    "reward_embedding": 12,
    "head": "headless",
    "head_options": {"embedding": 64},
}
TRAIN = {"context": 40, "batch_size": 32, "learning_rate": 5e-3, "device": "cpu", "threads": 1}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Histories of both tasks, packed."""
    found, quiet = Workspace(tmp_path_factory.mktemp("headless")), NullReporter()
    config = DistillConfig(
        source="learning-history",
        tasks=TASKS,
        trajectories=400,
        steps=40,
        name="arms",
        workers=1,
        train={"algorithm": "thompson"},
    )
    distill(config, found, quiet)
    pack(PackConfig(histories=("arms",), name="arms"), found, quiet)
    return found


def train_for(workspace, steps, name):
    config = TrainConfig(dataset="arms", method="dpt", name=name, steps=steps, model=MODEL, **TRAIN)
    train(config, workspace, NullReporter())


@pytest.fixture(scope="module")
def trained(workspace):
    """A checkpoint that has hardly been trained."""
    train_for(workspace, 2, "arms")
    return workspace


def test_both_sizes_are_one_group_and_histories_have_their_learner(workspace, trained):
    model = load_model(trained.find("checkpoints", "arms"))
    assert list(model.config.groups) == ["bernoulli-bandit"]
    assert {saved.group for saved in model.tasks.values()} == {"bernoulli-bandit"}
    assert set(model.tasks) == set(TASKS)


@pytest.mark.slow
def test_it_beats_random_play_on_larger_sets_than_it_was_trained_on(workspace):
    """On goals that were held out; the demonstrator pulls the best arm, so its regret is 0.

    With 50 arms 40 pulls tell little: what is saved there is small, and as sure as two errors.
    """
    train_for(workspace, 500, "long")
    config = RolloutConfig(
        checkpoint="long",
        tasks=("bernoulli-bandit-5", "bernoulli-bandit-50"),
        options={"goals": "held-out"},
        stats="group",
        seeds=256,
        shots=2,
        baselines=("random", "demonstrator", "thompson"),
    )
    compared = rollout(config, workspace, NullReporter()).report["comparison"]
    model, random, demonstrator, thompson = (each["regret"] for each in compared)
    for task in config.tasks:
        error = np.hypot(model[task]["stderr"], random[task]["stderr"])
        errors = 4 if task == "bernoulli-bandit-5" else 1
        assert model[task]["mean"] < random[task]["mean"] - errors * error, task
        assert demonstrator[task]["mean"] == 0 < thompson[task]["mean"] < random[task]["mean"]


def test_a_stream_does_not_depend_on_the_sets_beside_it(trained):
    """50 arms beside 5 pad the embeddings of the 5."""
    both = {"checkpoint": "arms", "stats": "group", "seeds": 3, "shots": 1}
    alone = rollout(RolloutConfig(tasks=TASKS[:1], **both), trained, NullReporter())
    beside = rollout(
        RolloutConfig(tasks=(TASKS[0], "bernoulli-bandit-50"), **both), trained, NullReporter()
    )
    for stream in range(3):
        path = f"{TASKS[0]}/{stream:05d}/reward"
        np.testing.assert_array_equal(alone.artifact.read(path), beside.artifact.read(path))


def test_a_checkpoint_over_several_sizes_round_trips_through_safetensors(trained, tmp_path):
    output = tmp_path / "out"
    export_safetensors(ExportConfig(reference="arms", output=output), trained, NullReporter())
    into = Workspace(tmp_path / "other")
    config = ImportCheckpointConfig(path=output)
    back = load_model(import_checkpoint(config, into, NullReporter()).artifact)
    own = load_model(trained.find("checkpoints", "arms"))
    assert {name: each.as_json() for name, each in back.tasks.items()} == {
        name: each.as_json() for name, each in own.tasks.items()
    }


def test_a_group_of_larger_sets_keeps_the_encoder_and_head(workspace, trained):
    """Neither depends on how many actions there are."""
    config = TrainConfig(
        dataset="arms", method="dpt", tasks=TASKS[:1], init="arms", steps=1, model=MODEL, **TRAIN
    )
    prepared = prepare(config, workspace)
    assert kept_groups(prepared.init, prepared.model) == ["bernoulli-bandit"]
    model = Vintix(prepared.model)
    copy_weights(prepared.init, model)
    own = load_model(prepared.init).model.state_dict()
    assert all(torch.equal(each, own[name]) for name, each in model.state_dict().items())


def test_random_maps_permute_the_actions_of_a_task_s_own_set(workspace):
    """The group has 20, of which a task of 5 has no embeddings but its own."""
    config = TrainConfig(dataset="arms", method="dpt", random_map=True, model=MODEL, **TRAIN)
    prepared = prepare(config, workspace)
    loader, _ = make_loader(prepared, cut_subsequences(prepared), ProcessGroup())
    (batch,) = loader.step(0)[0].batches
    count_B = batch.embedding_BNE.any(-1).sum(-1)
    assert set(count_B.tolist()) == {5, 20}
    for actions_BL in (batch.action_BLA, batch.previous_action_BLA):
        assert (actions_BL < count_B[:, None]).all()


def test_sets_that_do_not_fit(workspace, trained):
    quiet = NullReporter()
    small = {**MODEL, "head_options": {"embedding": 10}}
    with pytest.raises(ConfigError, match="cannot tell so many actions apart") as found:
        train(TrainConfig(dataset="arms", steps=2, model=small, **TRAIN), workspace, quiet)
    assert found.value.fix == "--set train.model.head_options.embedding=20"
    # One that is not trained on is no reason; the model does not know it.
    one = TrainConfig(dataset="arms", method="dpt", tasks=TASKS[:1], steps=1, model=small, **TRAIN)
    alone = train(one.model_copy(update={"name": "five"}), workspace, quiet).artifact
    assert set(load_model(alone).tasks) == {TASKS[0]}
    # The embeddings of 100 arms do not fit into 64 channels; contexts are other observations.
    for task in ("bernoulli-bandit-100", "contextual-bandit-5"):
        config = RolloutConfig(checkpoint="arms", tasks=(task,), stats="group")
        with pytest.raises(ConfigError, match="no group") as found:
            rollout(config, trained, quiet)
        assert "up to 64 actions" in found.value.expected


def test_baselines_that_play_no_task(trained):
    """Only bandits are played by Thompson sampling."""
    from pipelines.domains.hidden_goal import HiddenGoal

    config = RolloutConfig(
        checkpoint="arms", tasks=TASKS, seeds=2, shots=1, baselines=("thompson", "ucb")
    )
    assert [
        each["regret"] for each in rollout(config, trained, NullReporter()).report["comparison"]
    ] == [None, None, None]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HiddenGoal, "reward_policies", lambda self, task: ())
        with pytest.raises(ConfigError, match="none of the tasks is played by ucb"):
            rollout(config.model_copy(update={"baselines": ("ucb",)}), trained, NullReporter())
