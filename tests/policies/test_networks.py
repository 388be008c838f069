from __future__ import annotations

import itertools

import numpy as np
import pytest

from pipelines.actions import Box, Discrete
from pipelines.errors import ConfigError
from pipelines.policies.base import PolicySpec
from pipelines.policies.registry import build_policy

LOW = np.array([-1.0, -0.4], np.float32)
HIGH = np.array([1.0, 2.0], np.float32)


def mlp(activation="tanh", output="clip", *, normalize=False, observation_clip=None, sizes=(5, 7)):
    generator = np.random.default_rng(3)
    sizes = (*sizes, 2)
    arrays = {}
    for index, (before, after) in enumerate(itertools.pairwise(sizes)):
        arrays[f"weight_{index}"] = generator.standard_normal((before, after)).astype(np.float32)
        arrays[f"bias_{index}"] = generator.standard_normal(after).astype(np.float32)
    if normalize:
        arrays["observation_mean"] = generator.standard_normal(sizes[0])
        arrays["observation_std"] = generator.uniform(0.1, 2.0, sizes[0])
    config = {
        "layers": len(sizes) - 1,
        "activation": activation,
        "output": output,
        "normalize": normalize,
        "observation_clip": observation_clip,
    }
    return PolicySpec("mlp", config, arrays)


def torch_mlp(spec, observation):
    """The same network out of torch's own modules, in float64."""
    import torch

    x = torch.as_tensor(observation, dtype=torch.float64)
    if spec.config["normalize"]:
        x = (x - torch.as_tensor(spec.arrays["observation_mean"])) / torch.as_tensor(
            spec.arrays["observation_std"]
        )
        if spec.config["observation_clip"] is not None:
            x = x.clamp(-spec.config["observation_clip"], spec.config["observation_clip"])
    for index in range(spec.config["layers"]):
        if index:
            x = torch.tanh(x) if spec.config["activation"] == "tanh" else torch.relu(x)
        weight = torch.as_tensor(spec.arrays[f"weight_{index}"]).double()
        x = torch.nn.functional.linear(
            x, weight.T, torch.as_tensor(spec.arrays[f"bias_{index}"]).double()
        )
    low, high = torch.as_tensor(LOW).double(), torch.as_tensor(HIGH).double()
    if spec.config["output"] == "tanh_squash":
        return (low + 0.5 * (torch.tanh(x) + 1) * (high - low)).numpy()
    return x.clamp(low, high).numpy()


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("output", ["clip", "tanh_squash"])
@pytest.mark.parametrize("sizes", [(5,), (5, 7), (5, 64, 32)])
def test_an_mlp_equals_torch(activation, output, sizes):
    spec = mlp(activation, output, normalize=True, observation_clip=1.5, sizes=sizes)
    observation = np.random.default_rng(4).standard_normal((20, 5)).astype(np.float32) * 3
    found = build_policy(spec, Box.between(LOW, HIGH)).act(observation)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, torch_mlp(spec, observation), atol=2e-5)


@pytest.mark.parametrize("output", ["clip", "tanh_squash"])
def test_actions_stay_in_the_box(output):
    spec = mlp(output=output)
    observation = np.random.default_rng(5).standard_normal((500, 5)).astype(np.float32) * 100
    action = build_policy(spec, Box.between(LOW, HIGH)).act(observation)
    assert (action >= LOW).all() and (action <= HIGH).all()
    assert (action.max(axis=0) > LOW).all()


def test_an_action_does_not_depend_on_the_batch():
    spec = mlp("tanh", "tanh_squash", normalize=True, sizes=(5, 64, 64))
    policy = build_policy(spec, Box.between(LOW, HIGH))
    observation = np.random.default_rng(6).standard_normal((33, 5)).astype(np.float32)
    whole = policy.act(observation)
    for size in (1, 2, 7, 16):
        assert policy.act(observation[5 : 5 + size]).tobytes() == whole[5 : 5 + size].tobytes()


def test_a_linear_policy_is_matrix_times_normalised_observation():
    generator = np.random.default_rng(7)
    matrix = generator.standard_normal((2, 4))
    mean, std = generator.standard_normal(4), generator.uniform(0.5, 2, 4)
    spec = PolicySpec(
        "linear",
        {"normalize": True},
        {"matrix": matrix, "observation_mean": mean, "observation_std": std},
    )
    observation = generator.standard_normal((6, 4)).astype(np.float32)
    expected = np.clip((observation - mean) / std @ matrix.T, LOW, HIGH)
    np.testing.assert_allclose(
        build_policy(spec, Box.between(LOW, HIGH)).act(observation), expected, atol=1e-5
    )


def change(spec, config=None, **arrays):
    kept = {k: v for k, v in {**spec.arrays, **arrays}.items() if v is not None}
    return PolicySpec(spec.kind, {**spec.config, **(config or {})}, kept)


@pytest.mark.parametrize(
    "broken",
    [
        change(mlp(), {"activation": "gelu"}),
        change(mlp(), {"layers": 0}),
        change(mlp(), {"unknown": 1}),
        change(mlp(), bias_1=None),
        change(mlp(), extra=np.zeros(2)),
        change(mlp(), bias_0=np.zeros(3, np.float32)),
        change(mlp(), weight_0=np.zeros((5, 6), np.float32)),
        change(mlp(), weight_1=np.full((7, 2), np.nan, np.float32)),
        change(mlp(), {"normalize": True}),
        change(mlp(normalize=True), observation_std=np.zeros(5)),
        change(mlp(normalize=True), observation_mean=np.zeros(4)),
        PolicySpec("linear", {}, {"matrix": np.zeros((3, 4))}),
        PolicySpec("linear", {}, {"matrix": np.zeros(4)}),
    ],
)
def test_what_does_not_fit_is_refused(broken):
    with pytest.raises(ConfigError):
        build_policy(broken, Box.between(LOW, HIGH))


def test_the_largest_output_is_the_discrete_action():
    matrix = np.array([[1.0, 0], [0, 1], [-1, -1]], np.float32)
    spec = PolicySpec("linear", {"output": "argmax"}, {"matrix": matrix})
    policy = build_policy(spec, Discrete(3))
    observation = np.array([[2, 0], [0, 2], [-2, -2]], np.float32)
    assert policy.act(observation).tolist() == [0, 1, 2]
    clipped = PolicySpec("linear", {}, {"matrix": matrix})
    high = np.ones(3, np.float32)
    for wrong, actions in ((spec, Box.between(-high, high)), (clipped, Discrete(3))):
        with pytest.raises(ConfigError, match=r"discrete|does not fit"):
            build_policy(wrong, actions)
    with pytest.raises(ConfigError, match="do not fit"):
        build_policy(spec, Discrete(4))
