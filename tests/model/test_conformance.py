"""The model agrees with the authors' released code on its own checkpoints and outputs.

The data were made by running that code unmodified on seeded random weights. Weights there are
enlarged so that a wrong GELU, epsilon, bias sign or padding moves outputs by 1e-4 or more.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.model.batch import GroupBatch, TaskSequence, group_sequences
from pipelines.model.cache import Context
from pipelines.model.official import read_official
from pipelines.model.saved import SavedTask
from pipelines.model.vintix import Vintix

ATOL = 2e-5
VARIANTS = ("base", "norm_acs", "rms_llama")
BATCHES = [
    *[(variant, kind) for variant in VARIANTS for kind in ("full", "short")],
    ("base", "long"),
]

Loader = Callable[..., tuple[Vintix, dict[str, SavedTask]]]


@pytest.fixture
def load(conformance: Path) -> Loader:
    def official(variant: str, attention: str = "auto") -> tuple[Vintix, dict[str, SavedTask]]:
        return read_official(conformance / variant / "ckpt", attention=attention)[:2]

    return official


def read_batch(
    path: Path, model: Vintix, tasks: dict[str, SavedTask]
) -> tuple[list[GroupBatch], list[list[int]]]:
    data = np.load(path)
    sequences = []
    for index, name in enumerate(data["tasks"]):
        task = tasks[str(name)]
        fields = (
            torch.from_numpy(data[f"{index}/{field}"])
            for field in ("observation", "prev_action", "prev_reward", "step_num", "action")
        )
        sequences.append(TaskSequence(task.group, task.statistics, *fields))
    return group_sequences(model.config, sequences)


@pytest.mark.parametrize("attention", ["blocked", "reference"])
@pytest.mark.parametrize(("variant", "kind"), BATCHES)
def test_predictions_losses_and_gradient_norms_equal_the_released_ones(
    conformance: Path, load: Loader, variant: str, kind: str, attention: str
) -> None:
    """`long` is longer than the training context: ALiBi extrapolates and nothing is cut."""
    model, tasks = load(variant, attention)
    batches, places = read_batch(conformance / variant / f"batch_{kind}.npz", model, tasks)
    expected = json.loads((conformance / variant / "expected.json").read_text())[kind]
    forward = np.load(conformance / variant / f"forward_{kind}.npz")

    predictions = model(batches)
    for prediction, members in zip(predictions, places, strict=True):
        for row, index in zip(prediction.detach().numpy(), members, strict=True):
            np.testing.assert_allclose(row, forward[f"{index}/pred"], atol=ATOL, rtol=0)

    loss, per_sequence = model.loss(batches)
    sequences = sum(len(members) for members in places)
    # Theirs is the sum over sequences, ours the mean.
    assert loss.item() * sequences == pytest.approx(expected["loss_sum"], abs=ATOL)
    items = expected["logs"]["acs_loss_items"]
    for losses, members in zip(per_sequence, places, strict=True):
        np.testing.assert_allclose(
            losses.detach().numpy(), [items[index] for index in members], atol=ATOL, rtol=0
        )

    (loss * sequences).backward()
    parameters = dict(model.named_parameters())
    assert parameters.keys() == expected["grad_norms"].keys()
    assert [name for name, p in parameters.items() if p.grad is None] == expected["none_grads"]
    for name, norm in expected["grad_norms"].items():
        gradient = parameters[name].grad
        if gradient is not None:
            assert gradient.norm().item() == pytest.approx(norm, abs=ATOL, rel=1e-5), name


def test_gradients_equal_the_released_ones_entry_by_entry(conformance: Path, load: Loader) -> None:
    model, tasks = load("base")
    batches, places = read_batch(conformance / "base" / "batch_full.npz", model, tasks)
    loss, _ = model.loss(batches)
    (loss * sum(len(members) for members in places)).backward()
    expected = np.load(conformance / "base" / "grads_full.npz")
    parameters = dict(model.named_parameters())
    assert len(expected.files) > 20
    for name in expected.files:
        gradient = parameters[name].grad
        assert gradient is not None, name
        np.testing.assert_allclose(gradient.numpy(), expected[name], atol=ATOL, err_msg=name)


def test_tokens_equal_the_released_ones(conformance: Path, load: Loader) -> None:
    """Holds the order observation, action, reward inside a token and the padding vectors."""
    model, tasks = load("base")
    batches, places = read_batch(conformance / "base" / "batch_full.npz", model, tasks)
    expected = np.load(conformance / "base" / "tokens_full.npz")["tokens"]
    order = [index for members in places for index in members]
    tokens = model.encode(batches).detach().numpy()
    np.testing.assert_allclose(tokens, expected[order], atol=ATOL, rtol=0)


class Rollout:
    """A recorded rollout as the sequence of tokens that the model saw.

    The previous action is the recorded one: with these weights a difference of 1e-6 in an action
    that is fed back grows to order 1 within the recording, in any implementation.
    """

    def __init__(self, path: Path, tasks: dict[str, SavedTask]) -> None:
        data = np.load(path)
        task = tasks[str(data["task"])]
        self.actions = data["actions"]
        self.prompt = len(data["prompt_obs"]) if "prompt_obs" in data else 0
        observation, action, reward = data["obs"], data["actions"], data["rew"]
        steps = [int(step) for step in data["prompt_steps"]] if self.prompt else []
        for start in data["ep_start"]:
            steps.append(0 if start else steps[-1] + 1)
        if self.prompt:
            observation = np.concatenate([data["prompt_obs"], observation])
            action = np.concatenate([data["prompt_acs"], action])
            reward = np.concatenate([data["prompt_rews"], reward])
        previous_action = np.concatenate([np.zeros_like(action[:1]), action[:-1]])
        previous_reward = np.concatenate([np.zeros_like(reward[:1]), reward[:-1]])
        self.sequence = TaskSequence(
            task.group,
            task.statistics,
            torch.from_numpy(observation),
            torch.from_numpy(previous_action),
            torch.from_numpy(previous_reward),
            torch.tensor(steps),
        )

    def window(self, model: Vintix, first: int, last: int) -> list[GroupBatch]:
        whole = self.sequence
        part = TaskSequence(
            whole.group,
            whole.statistics,
            whole.observation_LO[first:last],
            whole.previous_action_LA[first:last],
            whole.previous_reward_L[first:last],
            whole.episode_step_L[first:last],
        )
        return group_sequences(model.config, [part])[0]


def cached_actions(model: Vintix, rollout: Rollout, dtype: torch.dtype | None = None) -> np.ndarray:
    return stepped_actions(
        model,
        rollout,
        model.backbone.init_state(1, model.config.context, dtype, torch.device("cpu")),
    )


def stepped_actions(model: Vintix, rollout: Rollout, cache: Context) -> np.ndarray:
    actions = []
    first = 0
    if rollout.prompt:
        # The released code feeds the prompt and the first observation in one pass.
        first = rollout.prompt + 1
        actions.append(model.prefill(rollout.window(model, 0, first), cache)[0][0])
    for step in range(first, len(rollout.sequence.observation_LO)):
        actions.append(model.step(rollout.window(model, step, step + 1), cache)[0][0])
    return torch.stack(actions).numpy()


@pytest.mark.parametrize("variant", VARIANTS)
def test_cached_rollout_of_150_steps_equals_the_released_one(
    conformance: Path, load: Loader, variant: str
) -> None:
    """The ring of 64 slots wraps twice; the released code moves its whole cache at each step."""
    model, tasks = load(variant)
    rollout = Rollout(conformance / variant / "rollout_cache.npz", tasks)
    assert len(rollout.actions) == 150
    assert model.config.context == 64
    np.testing.assert_allclose(cached_actions(model, rollout), rollout.actions, atol=ATOL, rtol=0)


@pytest.mark.parametrize(
    "name", ["prompt40_fresh_cache", "prompt40_cont_cache", "prompt62_fresh_cache"]
)
def test_cached_rollout_after_a_prompt_equals_the_released_one(
    conformance: Path, load: Loader, name: str
) -> None:
    model, tasks = load("base")
    rollout = Rollout(conformance / "base" / f"rollout_{name}.npz", tasks)
    np.testing.assert_allclose(cached_actions(model, rollout), rollout.actions, atol=ATOL, rtol=0)


def test_half_precision_cache_is_as_close_as_the_released_one(
    conformance: Path, load: Loader
) -> None:
    """Their float16 cache moves actions by 7e-4 against float32; so may ours against theirs."""
    model, tasks = load("base")
    rollout = Rollout(conformance / "base" / "rollout_cache_fp16.npz", tasks)
    actions = cached_actions(model, rollout, torch.float16)
    np.testing.assert_allclose(actions, rollout.actions, atol=1.5e-3, rtol=0)


WITHOUT_CACHE = [
    *[(variant, "nocache") for variant in VARIANTS],
    ("base", "prompt40_fresh_nocache"),
    ("base", "prompt62_fresh_nocache"),
    ("base", "prompt100_fresh_nocache"),
]


@pytest.mark.parametrize(("variant", "name"), WITHOUT_CACHE)
def test_a_window_stepped_through_equals_the_released_rollout_without_cache(
    conformance: Path, load: Loader, variant: str, name: str
) -> None:
    """What `vintix rollout --cache none` runs; the longest prompt is longer than the window."""
    model, tasks = load(variant)
    rollout = Rollout(conformance / variant / f"rollout_{name}.npz", tasks)
    actions = stepped_actions(model, rollout, model.make_window(1))
    np.testing.assert_allclose(actions, rollout.actions, atol=ATOL, rtol=0)


@pytest.mark.parametrize(("variant", "name"), WITHOUT_CACHE)
@torch.no_grad()
def test_rollout_without_cache_equals_the_released_one(
    conformance: Path, load: Loader, variant: str, name: str
) -> None:
    """Every action from a full pass over the last 64 tokens."""
    model, tasks = load(variant)
    rollout = Rollout(conformance / variant / f"rollout_{name}.npz", tasks)
    for step, expected in enumerate(rollout.actions):
        last = rollout.prompt + step + 1
        window = rollout.window(model, max(0, last - model.config.context), last)
        action = model(window)[0][0, -1].numpy()
        np.testing.assert_allclose(action, expected, atol=ATOL, rtol=0, err_msg=f"step {step}")
