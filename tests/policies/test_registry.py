from __future__ import annotations

import numpy as np
import pytest
import zarr

from pipelines.actions import Box
from pipelines.errors import ArtifactCorruptError, ConfigError
from pipelines.policies.base import Policy, PolicySpec
from pipelines.policies.registry import KINDS, build_policy
from pipelines.policies.storage import load_policy, policy_attributes, save_policy

LOW, HIGH = np.array([-1.0], np.float32), np.array([1.0], np.float32)


class Still(Policy):
    def act(self, observation_BO):
        return np.zeros((len(observation_BO), 1), np.float32)


def test_an_unknown_kind_names_the_known_ones():
    with pytest.raises(ConfigError) as caught:
        build_policy(PolicySpec("magic"), Box.between(LOW, HIGH), {"own": lambda *_: Still()})
    for kind in (*KINDS, "own"):
        assert kind in caught.value.expected


def test_a_domain_adds_kinds_and_cannot_replace_any():
    made = build_policy(PolicySpec("own"), Box.between(LOW, HIGH), {"own": lambda *_: Still()})
    assert isinstance(made, Still)
    with pytest.raises(ConfigError, match="already there"):
        build_policy(PolicySpec("mlp"), Box.between(LOW, HIGH), {"mlp": lambda *_: Still()})


def test_a_stored_policy_is_the_same_policy():
    """Bytes and dtypes of arrays, and the configuration, survive an artifact's group."""
    spec = PolicySpec(
        "linear",
        {"normalize": True, "observation_clip": 10.0},
        {
            "matrix": np.random.default_rng(0).standard_normal((1, 3)).astype(np.float32),
            "observation_mean": np.arange(3.0),
            "observation_std": np.ones(3),
        },
    )
    root = zarr.group()
    group = root.create_group("policy")
    save_policy(group, spec)
    loaded = load_policy(policy_attributes(spec), group)
    assert (loaded.kind, loaded.config) == (spec.kind, spec.config)
    assert loaded.arrays.keys() == spec.arrays.keys()
    for name, array in spec.arrays.items():
        assert loaded.arrays[name].dtype == array.dtype
        assert loaded.arrays[name].tobytes() == array.tobytes()
    observation = np.random.default_rng(1).standard_normal((4, 3)).astype(np.float32)
    before, after = (
        build_policy(each, Box.between(LOW, HIGH)).act(observation) for each in (spec, loaded)
    )
    assert before.tobytes() == after.tobytes()


def test_an_array_name_cannot_leave_its_group():
    with pytest.raises(ConfigError):
        save_policy(zarr.group(), PolicySpec("linear", {}, {"../weights": np.zeros(1)}))


def test_attributes_of_something_else_are_refused():
    with pytest.raises(ArtifactCorruptError):
        load_policy({"kind": "mlp"}, None)
