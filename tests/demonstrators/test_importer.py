from __future__ import annotations

import base64
import io
import json
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from demonstrators.conftest import get
from pipelines.demonstrators.importer import import_policy, read_statistics
from pipelines.errors import ConfigError, UnsafeContentError
from pipelines.learners.sb3_weights import find_actor, policy_spec
from pipelines.policies.registry import build_policy

_SMALL = {"net_arch": [16, 8]}


def library():
    import contextlib

    with contextlib.redirect_stderr(io.StringIO()):
        import sb3_contrib
        import stable_baselines3
    return stable_baselines3, sb3_contrib


def make(algorithm, policy_kwargs=None, train=0):
    from pipelines.domains.checked import make_env

    sb3, contrib = library()
    task, domain, options = get("tiny-a")
    env = make_env(domain, task, options)
    module = contrib if algorithm in ("TQC", "TRPO", "ARS") else sb3
    more = {"n_steps": 64, "batch_size": 32} if algorithm == "PPO" else {}
    kind = "MlpPolicy"
    if algorithm == "ARS-linear":
        algorithm, module, kind, policy_kwargs = "ARS", contrib, "LinearPolicy", {}
    if algorithm == "ARS":
        more = {"zero_policy": False}
    # The library writes into the dictionary it is given.
    kwargs = dict(_SMALL if policy_kwargs is None else policy_kwargs)
    model = getattr(module, algorithm)(kind, env, seed=0, policy_kwargs=kwargs, **more)
    if train:
        # Its default logger makes a directory in /tmp.
        model.set_logger(sb3.common.logger.Logger(folder=None, output_formats=[]))
        model.learn(train)
    return model, task


def observations():
    return np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32) * 3


def assert_same(model, spec):
    low, high = model.action_space.low, model.action_space.high
    found = build_policy(spec, low, high).act(observations())
    expected = model.predict(observations(), deterministic=True)[0]
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_trained_ppo_acts_the_same_after_the_round_trip(tmp_path):
    model, task = make("PPO", train=64)
    model.save(tmp_path / "model.zip")
    spec = import_policy(tmp_path / "model.zip", task)
    assert spec.config["activation"] == "tanh"
    assert_same(model, spec)


@pytest.mark.parametrize(
    "algorithm", ["A2C", "TRPO", "SAC", "TQC", "TD3", "DDPG", "ARS", "ARS-linear"]
)
def test_every_family_acts_the_same(tmp_path, algorithm):
    model, task = make(algorithm)
    model.save(tmp_path / "model.zip")
    assert_same(model, import_policy(tmp_path / "model.zip", task))


def test_the_activation_is_read_off_the_file_or_given(tmp_path):
    import torch

    model, task = make("PPO", {**_SMALL, "activation_fn": torch.nn.ReLU})
    model.save(tmp_path / "model.zip")
    assert_same(model, import_policy(tmp_path / "model.zip", task))
    given = import_policy(tmp_path / "model.zip", task, activation="tanh")
    assert given.config["activation"] == "tanh"
    model, _ = make("PPO", {**_SMALL, "activation_fn": torch.nn.ELU})
    model.save(tmp_path / "elu.zip")
    with pytest.raises(ConfigError, match="activation"):
        import_policy(tmp_path / "elu.zip", task)


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_normalisation_comes_from_numbers(tmp_path, suffix):
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    model, task = make("PPO", train=64)
    statistics = VecNormalize(DummyVecEnv([lambda: model.env.envs[0]]), clip_obs=2.0)
    statistics.obs_rms.mean = np.array([0.5, -1.0, 2.0])
    statistics.obs_rms.var = np.array([4.0, 0.25, 1.0])
    values = {"mean": statistics.obs_rms.mean, "var": statistics.obs_rms.var, "clip_obs": 2.0}
    path = tmp_path / f"normalization{suffix}"
    if suffix == ".npz":
        np.savez(path, **values)
    else:
        path.write_text(json.dumps({k: np.asarray(v).tolist() for k, v in values.items()}))
    model.save(tmp_path / "model.zip")
    spec = import_policy(tmp_path / "model.zip", task, normalization_path=path)
    low, high = model.action_space.low, model.action_space.high
    expected = model.predict(statistics.normalize_obs(observations()), deterministic=True)[0]
    found = build_policy(spec, low, high).act(observations())
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_pickled_statistics_are_refused_unread(tmp_path):
    path = tmp_path / "vecnormalize.pkl"
    path.write_bytes(pickle.dumps(Boom(tmp_path / "boom")))
    with pytest.raises(UnsafeContentError, match="pickle"):
        read_statistics(path)
    npz = tmp_path / "objects.npz"
    np.savez(npz, mean=np.array([Boom(tmp_path / "boom")]), var=np.ones(1))
    with pytest.raises(ConfigError):
        read_statistics(npz)
    assert not (tmp_path / "boom").exists()


class Boom:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "executed")


def rewrite(source, target, **members):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            if members.get(name, b"") is not None:
                new.writestr(name, members.get(name) or old.read(name))
        for name in set(members) - set(old.namelist()):
            new.writestr(name, members[name])
    return target


@pytest.fixture
def saved(tmp_path):
    model, task = make("PPO")
    model.save(tmp_path / "model.zip")
    return tmp_path / "model.zip", task


def test_code_in_the_data_member_is_not_executed(saved, tmp_path):
    """Proven by the same bytes, which do execute when the library decodes them."""
    path, task = saved
    with zipfile.ZipFile(path) as archive:
        data = json.loads(archive.read("data"))
    bomb = base64.b64encode(pickle.dumps(Boom(tmp_path / "boom"))).decode()
    for value in data.values():
        if isinstance(value, dict) and ":serialized:" in value:
            value[":serialized:"] = bomb
    bad = rewrite(path, tmp_path / "bad.zip", data=json.dumps(data).encode())
    import_policy(bad, task)
    assert not (tmp_path / "boom").exists()
    pickle.loads(base64.b64decode(bomb))
    assert (tmp_path / "boom").exists()


def test_code_in_the_weights_is_not_executed(saved, tmp_path):
    import torch

    path, task = saved
    file = io.BytesIO()
    torch.save({"action_net.weight": Boom(tmp_path / "boom")}, file)
    bad = rewrite(path, tmp_path / "bad.zip", **{"policy.pth": file.getvalue()})
    with pytest.raises(UnsafeContentError):
        import_policy(bad, task)
    bad = rewrite(
        path, tmp_path / "raw.zip", **{"policy.pth": pickle.dumps(Boom(tmp_path / "boom"))}
    )
    with pytest.raises((UnsafeContentError, ConfigError)):
        import_policy(bad, task)
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "a\\..\\..\\outside"])
def test_a_path_out_of_the_archive_is_refused(saved, tmp_path, name):
    path, task = saved
    bad = rewrite(path, tmp_path / "bad.zip", **{name: b"x"})
    with pytest.raises(UnsafeContentError):
        import_policy(bad, task)


def test_a_bomb_is_refused_before_it_fills_the_memory(saved, tmp_path, monkeypatch):
    from pipelines.demonstrators import importer

    path, task = saved
    monkeypatch.setitem(importer._LIMITS, "policy.pth", 1000)
    with pytest.raises(UnsafeContentError, match="harm"):
        import_policy(path, task)


def test_other_files_are_named_for_what_they_are(saved, tmp_path):
    path, task = saved
    with pytest.raises(ConfigError, match="Cannot read"):
        import_policy(tmp_path / "none.zip", task)
    (tmp_path / "text.zip").write_text("hello")
    with pytest.raises(ConfigError, match="no intact zip"):
        import_policy(tmp_path / "text.zip", task)
    with pytest.raises(ConfigError, match="no model"):
        import_policy(rewrite(path, tmp_path / "bare.zip", **{"policy.pth": None}), task)
    truncated = tmp_path / "truncated.zip"
    truncated.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ConfigError):
        import_policy(truncated, task)


def test_a_policy_of_another_task_is_refused(saved):
    path, task = saved
    with pytest.raises(ConfigError, match="another task") as caught:
        import_policy(path, replace(task, observation_dim=4))
    assert (caught.value.expected, caught.value.found) == (
        "4 observation and 1 action dimensions",
        "3 and 1",
    )


@pytest.mark.parametrize(
    "names",
    [
        ["features_extractor.cnn.0.weight", "action_net.weight", "value_net.weight"],
        ["lstm_actor.weight_ih_l0", "action_net.weight", "value_net.weight"],
        ["actor.latent_pi.0.weight", "actor.mu.0.weight"],
        ["q_net.q_net.0.weight"],
    ],
)
def test_networks_that_are_not_feed_forward_are_refused(names):
    with pytest.raises(ConfigError, match="cannot be taken over"):
        find_actor({name: np.ones((2, 2), np.float32) for name in names})


def test_statistics_of_another_size_are_refused():
    from pipelines.learners.sb3_weights import Actor, Normalization

    actor = Actor("ars", [np.ones((3, 1), np.float32)], [None])
    with pytest.raises(ConfigError, match="statistics"):
        policy_spec(
            actor,
            activation=None,
            squash=None,
            normalization=Normalization(np.zeros(2), np.ones(2), None),
            observation_dim=3,
            action_dim=1,
        )
