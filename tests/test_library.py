"""The names that users of the library build on, and that they do what the commands do."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
import torch

import vintix
from pipelines.artifacts.workspace import Workspace
from pipelines.errors import ArtifactMissingError, ConfigError, UsageError, VintixError
from pipelines.methods import METHODS
from pipelines.methods.ad import AD
from pipelines.model.backbones import BACKBONES
from pipelines.model.backbones.base import Backbone
from pipelines.model.heads import HEADS
from pipelines.model.heads.mse import MSE
from pipelines.model.saved import SavedModel
from pipelines.playing.model import roll
from pipelines.playing.streams import episode_seed
from pipelines.rollout.acting import Agent
from pipelines.train.loader import BatchLoader
from pipelines.train.windows import Windows
from tests.rollout.toy import EVEN, UNEVEN, ToyBatch, install, saved_task, stream_task, tiny_model
from tests.train.support import write_dataset

SPACE = gymnasium.spaces.Box(-0.75, 0.6, (2,), np.float32)
STREAMS, SHOTS, SEED = 3, 3, 5
NAMES = vintix.__all__


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    return install(monkeypatch)


def make_agent(method="ad", random_map=False, **overrides):
    model = tiny_model(**overrides)
    tasks = {spec.name: saved_task(spec) for spec in (EVEN, UNEVEN)}
    return Agent(SavedModel(model, tasks, 7, method, random_map))


def test_the_names_stay():
    """A script that was written for one release runs with the next."""
    stages = ("demonstrators", "distill", "pack", "rollout", "train")
    assert {name: list(inspect.signature(getattr(vintix, name)).parameters) for name in NAMES} == {
        "dataset": ["name", "workspace", "fields"],
        "load": ["checkpoint", "workspace", "device"],
        "make": ["task", "options"],
        "register": ["name", "added"],
        "register_task": ["name", "env", "demonstrator", "fields"],
        **{stage: ["workspace", "fields"] for stage in stages},
    }
    assert list(inspect.signature(Agent.act).parameters) == [
        "self",
        "observation",
        "reward",
        "terminated",
        "truncated",
    ]
    assert list(inspect.signature(Agent.reset).parameters)[:3] == ["self", "task", "action_space"]


@pytest.mark.parametrize(
    ("changes", "settings", "view"),
    [
        ({}, {}, {}),
        ({"method": "ad-no-reward"}, {}, {"mask_rewards": True}),
        ({"head": "bins"}, {}, {}),
        ({"head": "flow", "normalize_actions": True}, {"act": "greedy"}, {}),
        ({"random_map": True}, {}, {"random_map": True}),
        ({"backbone": "s5"}, {}, {}),
    ],
)
@pytest.mark.parametrize("spec", [EVEN, UNEVEN], ids=lambda spec: spec.name)
def test_an_agent_does_in_a_loop_of_yours_what_a_rollout_does(spec, changes, settings, view):
    """Streams whose episodes end at different steps; rewards, actions and draws alike."""
    agent = make_agent(**changes)
    batches = []

    def make_batch(task, size, options, seeds):
        batches.append(ToyBatch(task, size, seeds))
        return batches[0]

    task = stream_task(spec, SHOTS, range(STREAMS), **view)
    model = agent._saved.model
    roll(model, [task], seed=SEED, make_batch=make_batch, act=settings.get("act"))
    agent.reset(spec.name, SPACE, streams=STREAMS, seed=SEED, **settings)
    batch = ToyBatch(spec, STREAMS, batches[0].stream_seeds)
    everyone, number_S, played_S = range(STREAMS), [0] * STREAMS, [0] * STREAMS
    seeds = [episode_seed(SEED, spec, stream, 0) for stream in everyone]
    action_SA = agent.act(batch.reset(everyone, seeds))
    for step in range(SHOTS * spec.horizon):
        after = batch.step(action_SA)
        observation_SO = after.observation_BO
        for stream in np.flatnonzero(after.terminated_B | after.truncated_B).tolist():
            number_S[stream] += 1
            if number_S[stream] == SHOTS:
                played_S[stream] = step + 1
            seed = episode_seed(SEED, spec, stream, number_S[stream])
            observation_SO[stream] = batch.reset([stream], [seed])[0]
        action_SA = agent.act(observation_SO, after.reward_B, after.terminated_B, after.truncated_B)
    for ours, rolled, played in zip(batch.seen, batches[0].seen, played_S, strict=True):
        assert played >= 2 * SHOTS
        # A rollout's batch gets smaller as streams end, which rounds differently.
        np.testing.assert_allclose(ours.actions[:played], rolled.actions[:played], atol=1e-6)


def test_one_stream_has_no_first_dimension():
    agent = make_agent()
    agent.reset("toy-even", SPACE)
    action = agent.act(np.zeros(3))
    assert (action.shape, action.dtype) == ((2,), np.float32)
    again = agent.act(np.zeros((1, 3)), 1.0, False, True)
    assert again.shape == (1, 2)
    assert agent.tasks == ("toy-even", "toy-uneven")


def test_flags_that_are_left_out_hold_for_all_streams():
    agent = make_agent()
    agent.reset("toy-even", SPACE, streams=2)
    agent.act(np.zeros((2, 3)))
    assert agent.act(np.zeros((2, 3)), [1.0, 2.0]).shape == (2, 2)
    assert agent.act(np.zeros((2, 3)), [1.0, 2.0], truncated=True).shape == (2, 2)


def test_reset_forgets_everything():
    agent = make_agent()
    first = []
    for _ in range(2):
        agent.reset("toy-even", SPACE)
        first.append([agent.act(np.ones(3)), agent.act(np.zeros(3), 1.0)])
    np.testing.assert_array_equal(first[0], first[1])


def test_what_does_not_fit_is_told():
    agent = make_agent()
    with pytest.raises(UsageError, match="does not know its task"):
        agent.act(np.zeros(3))
    with pytest.raises(UsageError, match="action space"):
        agent.reset("toy-even", gymnasium.spaces.Discrete(2))
    with pytest.raises(UsageError):
        agent.reset("toy-evne", SPACE)
    with pytest.raises(UsageError, match="streams"):
        agent.reset("toy-even", SPACE, streams=0)
    for wrong in ({"seed": -1}, {"act": "gredy"}, {"context": 0}):
        with pytest.raises(UsageError, match=f"rollout.{next(iter(wrong))}"):
            agent.reset("toy-even", SPACE, **wrong)
    agent.reset("toy-even", SPACE)
    with pytest.raises(VintixError, match="cannot be executed"):
        agent.act(np.full(3, np.nan))
    agent.reset("toy-even", SPACE, streams=2)
    with pytest.raises(UsageError, match="observation"):
        agent.act(np.zeros(3))
    with pytest.raises(UsageError, match="reward"):
        agent.act(np.zeros((2, 3)), np.zeros(2))
    agent.act(np.zeros((2, 3)))
    with pytest.raises(UsageError, match="reward"):
        agent.act(np.zeros((2, 3)))
    with pytest.raises(UsageError, match="terminated"):
        agent.act(np.zeros((2, 3)), np.zeros(2), np.zeros(3, np.bool_))


def test_windows_are_those_of_training(tmp_path):
    """All of them, in order, as the loader of a run assembles them."""
    workspace = Workspace(tmp_path)
    write_dataset(workspace)
    windows = vintix.dataset(workspace=tmp_path, context=32)
    assert isinstance(windows, Windows) and windows.context == 32
    total, loader = 0, windows._loader
    assert isinstance(loader, BatchLoader)
    for task in windows.tasks:
        total += sum(rows - 32 for rows in loader._tasks[task].rows)
    assert len(windows) == total
    first, last = windows[0], windows[-1]
    assert first["task"] == windows.tasks[0] and last["task"] == windows.tasks[-1]
    # The observation of a step is the next window's one step before.
    torch.testing.assert_close(windows[1]["observation"][:-1], first["observation"][1:])
    assert first["observation"].shape[0] == first["action"].shape[0] == 32
    with pytest.raises(IndexError):
        windows[total]
    with pytest.raises(ConfigError):
        vintix.dataset(workspace=tmp_path, context=10**6)


def test_windows_stack_into_batches(tmp_path):
    write_dataset(Workspace(tmp_path))
    task = vintix.dataset(workspace=tmp_path, context=16).tasks[0]
    windows = vintix.dataset(workspace=tmp_path, context=16, tasks=(task,))
    batch = next(iter(torch.utils.data.DataLoader(windows, batch_size=4, shuffle=True)))
    assert batch["observation"].shape[:2] == (4, 16)
    assert batch["task"] == [task] * 4


SMALL = {
    "width": 16,
    "heads": 2,
    "feed_forward": 32,
    "action_embedding": 7,
    "observation_embedding": 7,
}
FIELDS = {"steps": 2, "batch_size": 2, "context": 16, "device": "cpu", "model": SMALL}


def test_a_script_brings_a_method_a_head_and_a_backbone_of_its_own(tmp_path, monkeypatch):
    """They are trained and saved by their names, and an agent of them plays."""
    for kind in (METHODS, HEADS, BACKBONES):
        monkeypatch.setitem(vars(kind), "_added", {})
    seen = []

    class Late(AD):
        title = "late"

        def loss_weights(self, rows):
            seen.append(len(rows["reward"]))
            return np.linspace(0, 1, len(rows["reward"]), dtype=np.float32)

    class Plain(MSE):
        def loss(self, hidden, target, units):
            seen.append("head")
            return super().loss(hidden, target, units)

    class Sums(Backbone):
        def forward(self, tokens):
            seen.append("backbone")
            return tokens.cumsum(dim=1)

    for name, added in (("late", Late), ("plain", Plain), ("sums", Sums)):
        vintix.register(name, added)
    write_dataset(Workspace(tmp_path))
    model = {**SMALL, "head": "plain", "backbone": "sums"}
    vintix.train(workspace=tmp_path, name="mine", method="late", **{**FIELDS, "model": model})
    assert {17, "head", "backbone"} <= {*seen}
    assert isinstance(vintix.load("mine", workspace=tmp_path), Agent)
    # Another process, which has not registered them, says what is missing.
    vars(BACKBONES)["_added"].clear()
    with pytest.raises(VintixError, match="there is no backbone 'sums'"):
        vintix.load("mine", workspace=tmp_path)
    with pytest.raises(UsageError, match="already"):
        vintix.register("mse", Plain)
    with pytest.raises(UsageError, match="nothing that can be registered"):
        vintix.register("number", int)


def test_stages_are_functions(tmp_path):
    """They write the artifacts that the commands write, and find them again."""
    write_dataset(Workspace(tmp_path))
    done = vintix.train(workspace=tmp_path, name="mine", **FIELDS)
    assert done.artifact.kind == "checkpoints" and not done.up_to_date
    assert vintix.train(workspace=tmp_path, name="mine", **FIELDS).up_to_date
    assert isinstance(vintix.load("mine", workspace=tmp_path), Agent)
    with pytest.raises(ArtifactMissingError):
        vintix.load("yours", workspace=tmp_path)
    with pytest.raises(UsageError, match="unknown setting"):
        vintix.pack(workspace=tmp_path, histroies=("all",))


@pytest.mark.process
def test_importing_the_library_imports_nothing_heavy():
    code = "import sys, json, vintix; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not {"torch", "numpy", "zarr", "gymnasium"} & set(json.loads(done.stdout))


@pytest.mark.simulator
def test_the_packaged_model_balances_a_pendulum():
    """The lines of the README, in Gymnasium's own loop."""
    env = vintix.make("inverted-pendulum")
    agent = vintix.load("packaged")
    agent.reset("inverted-pendulum", env.action_space)
    observation, _ = env.reset(seed=0)
    action, steps, episodes = agent.act(observation), 0, 0
    while episodes < 2:
        observation, reward, terminated, truncated, _ = env.step(action)
        steps += 1
        if terminated or truncated:
            episodes += 1
            observation, _ = env.reset()
        action = agent.act(observation, reward, terminated, truncated)
    # One that nobody balances falls within a few steps.
    assert steps > 40
    env.close()
