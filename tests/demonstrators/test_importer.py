from __future__ import annotations

import base64
import io
import json
import os
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from demonstrators.conftest import get
from pipelines.actions import Box, Discrete
from pipelines.demonstrators import importer
from pipelines.demonstrators.importer import read_statistics
from pipelines.errors import (
    ArtifactCorruptError,
    ArtifactError,
    ArtifactMissingError,
    ConfigError,
    UnsafeContentError,
    UnsupportedContentError,
)
from pipelines.learners.sb3_weights import find_actor, policy_spec
from pipelines.policies.registry import build_policy

_SMALL = {"net_arch": [16, 8]}
LOW, HIGH = np.array([-2.0], np.float32), np.array([1.0], np.float32)


def import_policy(path, task, **more):
    """Import for the bounds of the tiny tasks."""
    return importer.import_policy(path, task, Box.between(LOW, HIGH), **more)


def library():
    import contextlib

    with contextlib.redirect_stderr(io.StringIO()):
        import sb3_contrib
        import stable_baselines3
    return stable_baselines3, sb3_contrib


def tiny_env():
    from pipelines.domains.checked import make_env

    task, domain, options = get("tiny-a")
    return task, make_env(domain, task, options)


class Spaces(gymnasium.Env):
    """An environment of any spaces; nothing happens in it."""

    def __init__(self, observation_space=None, action_space=None):
        self.observation_space = observation_space or spaces.Box(-10, 10, (3,))
        self.action_space = action_space or spaces.Box(LOW, HIGH)

    def reset(self, seed=None, options=None):
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, True, {}


def make(algorithm, policy_kwargs=None, train=0, env=None, **more):
    sb3, contrib = library()
    task, own = tiny_env()
    env = env or own
    module = contrib if algorithm in ("TQC", "TRPO", "ARS", "CrossQ") else sb3
    if algorithm == "PPO":
        more |= {"n_steps": 64, "batch_size": 32}
    kind = "MlpPolicy"
    if algorithm == "ARS-linear":
        algorithm, module, kind, policy_kwargs = "ARS", contrib, "LinearPolicy", {}
    if algorithm == "ARS":
        more |= {"zero_policy": False}
    # The library writes into the dictionary it is given.
    kwargs = {**({} if kind == "LinearPolicy" else _SMALL), **(policy_kwargs or {})}
    kind = more.pop("policy", kind)
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
    found = build_policy(spec, Box.between(low, high)).act(observations())
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
    "algorithm", ["A2C", "TRPO", "SAC", "TQC", "CrossQ", "TD3", "DDPG", "ARS", "ARS-linear"]
)
def test_every_family_acts_the_same(tmp_path, algorithm):
    model, task = make(algorithm)
    model.save(tmp_path / "model.zip")
    assert_same(model, import_policy(tmp_path / "model.zip", task))


@pytest.mark.parametrize("algorithm", ["PPO", "ARS"])
def test_a_policy_of_discrete_actions_acts_the_same(tmp_path, algorithm):
    model, task = make(algorithm, env=Spaces(action_space=spaces.Discrete(3)))
    model.save(tmp_path / "model.zip")
    task = replace(task, action_dim=3, actions=Discrete(3))
    spec = importer.import_policy(tmp_path / "model.zip", task, task.actions)
    assert spec.config["output"] == "argmax"
    found = build_policy(spec, task.actions).act(observations())
    np.testing.assert_array_equal(found, model.predict(observations(), deterministic=True)[0])
    assert algorithm == "ARS" or np.ptp(found) > 0
    four = replace(task, action_dim=4, actions=Discrete(4))
    with pytest.raises(UnsupportedContentError, match="another task"):
        importer.import_policy(tmp_path / "model.zip", four, four.actions)


def test_the_activation_is_read_off_the_file_or_given(tmp_path):
    import torch

    model, task = make("PPO", {**_SMALL, "activation_fn": torch.nn.ReLU})
    model.save(tmp_path / "model.zip")
    assert_same(model, import_policy(tmp_path / "model.zip", task))
    with pytest.raises(UnsupportedContentError, match="another one than was given"):
        import_policy(tmp_path / "model.zip", task, activation="tanh")

    class Tanh(torch.nn.ReLU):
        """A class of the user's own may compute anything, whatever its name is."""

    for activation in (torch.nn.ELU, Tanh):
        model, _ = make("PPO", {**_SMALL, "activation_fn": activation})
        model.save(tmp_path / "other.zip")
        with pytest.raises(UnsupportedContentError, match="activation"):
            import_policy(tmp_path / "other.zip", task)
    assert_same(model, import_policy(tmp_path / "other.zip", task, activation="relu"))


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
    found = build_policy(spec, Box.between(low, high)).act(observations())
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_pickled_statistics_are_refused_unread(tmp_path):
    path = tmp_path / "vecnormalize.pkl"
    path.write_bytes(pickle.dumps(Boom(tmp_path / "boom")))
    with pytest.raises(UnsafeContentError, match="pickle"):
        read_statistics(path)
    npz = tmp_path / "objects.npz"
    np.savez(npz, mean=np.array([Boom(tmp_path / "boom")]), var=np.ones(1))
    with pytest.raises(ArtifactCorruptError):
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
    with pytest.raises((UnsafeContentError, ArtifactCorruptError)):
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
    with pytest.raises(ArtifactMissingError, match="no such file"):
        import_policy(tmp_path / "none.zip", task)
    (tmp_path / "text.zip").write_text("hello")
    with pytest.raises(ArtifactCorruptError, match="no intact zip"):
        import_policy(tmp_path / "text.zip", task)
    with pytest.raises(ArtifactCorruptError, match="no model"):
        import_policy(rewrite(path, tmp_path / "bare.zip", **{"policy.pth": None}), task)
    truncated = tmp_path / "truncated.zip"
    truncated.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ArtifactCorruptError):
        import_policy(truncated, task)


def test_a_policy_of_another_task_is_refused(saved):
    path, task = saved
    with pytest.raises(UnsupportedContentError, match="another task") as caught:
        import_policy(path, replace(task, observation_dim=4))
    assert caught.value.expected == "a Box of shape (4,)"
    assert "shape (3,)" in caught.value.found


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
            actions=Box(1),
        )


def save(tmp_path, algorithm="PPO", **more):
    model, task = make(algorithm, **more)
    model.save(tmp_path / "model.zip")
    return model, tmp_path / "model.zip", task


def box(low, high, size=1):
    return Spaces(action_space=spaces.Box(low, high, (size,)))


def own_policy():
    from stable_baselines3.common.policies import ActorCriticPolicy

    class Backwards(ActorCriticPolicy):
        def _predict(self, observation, deterministic=False):
            return -super()._predict(observation, deterministic)

    return Backwards


def own_extractor():
    from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

    class Doubled(BaseFeaturesExtractor):
        def __init__(self, space):
            super().__init__(space, 3)

        def forward(self, observation):
            return 2 * observation

    return {"features_extractor_class": Doubled}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"env": Spaces(action_space=spaces.Discrete(3))}, r"(?s)no vector of real.*Discrete"),
        ({"env": Spaces(action_space=spaces.MultiDiscrete([2]))}, r"(?s)no vector.*MultiDiscrete"),
        ({"env": Spaces(action_space=spaces.MultiBinary(1))}, r"(?s)no vector.*MultiBinary"),
        ({"env": box(-0.3, 0.3)}, r"(?s)bounded otherwise.*from \[-2.\] to \[1.\].*\[-0.3\]"),
        ({"env": box(0, 5), "algorithm": "SAC"}, r"(?s)bounded otherwise.*high \[5.\]"),
        ({"env": box(-2, 1, 2)}, r"(?s)another task.*shape \(2,\)"),
        (
            {"env": Spaces(spaces.Dict(x=spaces.Box(-1, 1, (3,)))), "policy": "MultiInputPolicy"},
            r"(?s)observations are no vector.*Dict",
        ),
        ({"env": Spaces(spaces.Box(-1, 1, (1, 3)))}, r"(?s)observations are no vector.*\(1, 3\)"),
        ({"env": Spaces(spaces.Discrete(3))}, r"(?s)observations are no vector.*Discrete"),
        ({"env": Spaces(spaces.MultiDiscrete([1, 2]))}, r"(?s)observations.*MultiDiscrete"),
        (lambda: {"policy": own_policy()}, r"(?s)a class that is not known here.*test_importer"),
        (lambda: {"policy_kwargs": own_extractor()}, r"(?s)extractor of their own.*Doubled"),
        ({"algorithm": "SAC", "use_sde": True}, r"(?s)bounded before the tanh.*found: 2"),
        (
            {"algorithm": "SAC", "use_sde": True, "policy_kwargs": {"net_arch": []}},
            "bounded before the tanh",
        ),
    ],
)
def test_what_means_something_else_is_refused_with_the_reason(tmp_path, more, message):
    """Real files of the library, whose shapes fit the task or could be made to."""
    _, path, task = save(tmp_path, **(more() if callable(more) else more))
    with pytest.raises(UnsupportedContentError, match=message) as caught:
        import_policy(path, task)
    assert caught.value.exit_code == 4
    assert str(path) in caught.value.where


@pytest.mark.parametrize(
    "more",
    [
        {"algorithm": "PPO", "use_sde": True},
        {"algorithm": "PPO", "use_sde": True, "policy_kwargs": {"squash_output": True}},
        {"algorithm": "PPO", "policy_kwargs": {"normalize_images": False, "ortho_init": False}},
        {"algorithm": "PPO", "policy_kwargs": {"net_arch": []}},
        {"algorithm": "PPO", "policy_kwargs": {"net_arch": {"pi": [8, 8, 8], "vf": [4]}}},
        {"algorithm": "SAC", "policy_kwargs": {"net_arch": []}},
        {"algorithm": "SAC", "use_sde": True, "policy_kwargs": {"clip_mean": 0.0}},
        {"algorithm": "TD3", "policy_kwargs": {"net_arch": []}},
        {"algorithm": "CrossQ", "policy_kwargs": {"batch_norm_eps": 0.1}},
        {"algorithm": "CrossQ", "policy_kwargs": {"batch_norm": False}},
        {"algorithm": "ARS", "policy_kwargs": {"squash_output": False}},
        {"algorithm": "ARS-linear", "policy_kwargs": {"squash_output": True}},
        {"algorithm": "ARS-linear", "policy_kwargs": {"with_bias": True}},
    ],
)
def test_settings_that_change_the_action_are_honoured(tmp_path, more):
    import torch

    torch.manual_seed(0)
    model, task = make(**more)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.copy_(torch.randn_like(parameter) / 4)
        for name, buffer in model.policy.named_buffers():
            if name.endswith("ra_var"):
                buffer.copy_(torch.rand_like(buffer))
    model.save(tmp_path / "model.zip")
    assert_same(model, import_policy(tmp_path / "model.zip", task))


def test_a_policy_of_normalised_observations_needs_their_statistics(tmp_path):
    """On-policy files tell that there was a VecNormalize."""
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    normalized = VecNormalize(DummyVecEnv([lambda: tiny_env()[1]]))
    model, path, task = save(tmp_path, env=normalized, train=64)
    with pytest.raises(UnsupportedContentError, match=r"(?s)VecNormalize.*normalization_path"):
        import_policy(path, task)
    values = {"mean": normalized.obs_rms.mean, "var": normalized.obs_rms.var}
    np.savez(tmp_path / "n.npz", **values)
    spec = import_policy(path, task, normalization_path=tmp_path / "n.npz")
    expected = model.predict(normalized.normalize_obs(observations()), deterministic=True)[0]
    found = build_policy(spec, Box.between(LOW, HIGH)).act(observations())
    np.testing.assert_allclose(found, expected, atol=1e-5)


def with_data(path, target, **fields):
    with zipfile.ZipFile(path) as archive:
        data = json.loads(archive.read("data"))
    data = {key: value for key, value in {**data, **fields}.items() if value != "left out"}
    return rewrite(path, target, data=json.dumps(data).encode())


@pytest.mark.parametrize(
    "fields",
    [
        {"action_space": "left out"},
        {"action_space": None},
        {"action_space": []},
        {"action_space": {":type:": "<class 'gymnasium.spaces.box.Box'>"}},
        {
            "action_space": {
                ":type:": "<class 'gymnasium.spaces.box.Box'>",
                "dtype": "float32",
                "_shape": [1],
                "low": "[-2. ... -2.]",
                "high": "[1.]",
            }
        },
        {"observation_space": "left out"},
        {"policy_class": "left out"},
        {"policy_class": {"__module__": ["a list"]}},
        {"policy_class": {"__module__": "stable_baselines3.td3.policies"}},
        {"policy_kwargs": "left out"},
        {"policy_kwargs": {"net_arch": [16, 8], "dueling": True}},
        {"policy_kwargs": {"squash_output": "yes"}},
        {"policy_kwargs": {"batch_norm_eps": float("nan")}},
        {"policy_kwargs": {"features_extractor_kwargs": {"scale": 2}}},
        {"policy_kwargs": {"features_extractor_class": ["a list"]}},
        {"policy_kwargs": {"activation_fn": {"a": "dictionary"}}},
    ],
)
def test_what_is_not_said_or_not_known_is_refused(saved, tmp_path, fields):
    path, task = saved
    with pytest.raises(UnsupportedContentError):
        import_policy(with_data(path, tmp_path / "bad.zip", **fields), task)


def pickled(value):
    import torch

    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def squeezed(torch):
    """A compressed archive, whose members may unpack to any size."""
    plain, packed = io.BytesIO(pickled({"a": torch.zeros(4)})), io.BytesIO()
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, bytes(2**20) if "/data/" in name else old.read(name))
    return packed.getvalue()


def deep():
    value = []
    for _ in range(100):
        value = [value]
    return value


HOSTILE = {
    "sparse": lambda t: t.eye(4).to_sparse(),
    "csr": lambda t: t.eye(4).to_sparse_csr(),
    "meta": lambda t: t.empty(2, 2, device="meta"),
    "nested": lambda t: t.nested.nested_tensor([t.zeros(2), t.zeros(3)]),
    "quantized": lambda t: t.quantize_per_tensor(t.ones(3), 1.0, 0, t.qint8),
    "complex": lambda t: t.zeros(2, dtype=t.complex64),
    "terabytes": lambda t: t.zeros(1).expand(2**20, 2**20),
    "nan": lambda t: t.tensor([0.0, float("nan")]),
    "infinite": lambda t: t.tensor([float("inf")]),
    "beyond float32": lambda t: t.tensor([1e300], dtype=t.float64),
    "no tensor": lambda t: "text",
    "list": lambda t: pickled([t.zeros(2)]),
    "numbered": lambda t: pickled({1: t.zeros(2)}),
    "deep": lambda t: pickled(deep()),
    "cut": lambda t: pickled({"a": t.zeros(1)})[:-7],
    "squeezed": squeezed,
    "text": lambda t: b"hello",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", HOSTILE)
def test_weights_that_are_no_finite_dense_tensors_are_refused(saved, tmp_path, name):
    import torch

    path, task = saved
    value = HOSTILE[name](torch)
    content = value if isinstance(value, bytes) else pickled({"a": value})
    bad = rewrite(path, tmp_path / "bad.zip", **{"policy.pth": content})
    with pytest.raises(ArtifactError) as caught:
        import_policy(bad, task)
    assert caught.value.exit_code == 4


def test_one_weight_that_is_not_finite_is_named(tmp_path):
    import torch

    model, task = make("PPO")
    with torch.no_grad():
        model.policy.action_net.weight[0, 3] = float("nan")
    model.save(tmp_path / "model.zip")
    with pytest.raises(ArtifactCorruptError, match=r"(?s)action_net\.weight.*1 of 8 are NaN"):
        import_policy(tmp_path / "model.zip", task)


@pytest.mark.parametrize("change", ["drop", "rename", "widen", "flat", "more"])
def test_layers_under_other_names_or_sizes_are_refused(saved, tmp_path, change):
    import torch

    path, task = saved
    with zipfile.ZipFile(path) as archive:
        state = torch.load(io.BytesIO(archive.read("policy.pth")), weights_only=True)
    name = "mlp_extractor.policy_net.2.weight"
    value = state.pop(name)
    if change == "rename":
        state["mlp_extractor.policy_net.3.weight"] = value
    elif change == "widen":
        state[name] = torch.zeros(8, 17)
    elif change == "flat":
        state[name] = value.flatten()
    elif change == "more":
        state |= {name: value, "mlp_extractor.policy_net.1.weight": torch.ones(16)}
    bad = rewrite(path, tmp_path / "bad.zip", **{"policy.pth": pickled(state)})
    with pytest.raises(UnsupportedContentError):
        import_policy(bad, task)


def test_deep_json_and_pipes_are_refused(saved, tmp_path):
    path, task = saved
    for data in (b"[" * 100_000, b'{"a":' * 100_000, b"3", b"\xff\xfe"):
        with pytest.raises(ArtifactCorruptError, match="not JSON"):
            import_policy(rewrite(path, tmp_path / "bad.zip", data=data), task)
    os.mkfifo(tmp_path / "pipe.zip")
    with pytest.raises(ArtifactCorruptError, match=r"(?s)intact zip.*a pipe"):
        import_policy(tmp_path / "pipe.zip", task)
    with pytest.raises(ArtifactCorruptError, match="a pipe"):
        importer.file_digest(tmp_path / "pipe.zip")


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), 997])
def test_a_damaged_zip_is_told_as_such_wherever_it_is_damaged(saved, tmp_path, step):
    """Cut or overwritten at any place: an error with the code 4, or a policy of finite numbers."""
    path, task = saved
    whole = path.read_bytes()
    # All of the directory at the end; the members at every place of the step's.
    places = [*range(0, len(whole) - 600, 7 * step), *range(len(whole) - 600, len(whole), step)]
    bad = tmp_path / "bad.zip"
    refused = 0
    for place in places:
        flipped = bytes([whole[place] ^ 0x55])
        for damaged in (whole[:place], whole[:place] + flipped + whole[place + 1 :]):
            bad.write_bytes(damaged)
            try:
                spec = import_policy(bad, task)
            except ArtifactError as error:
                refused += error.exit_code == 4
            else:
                assert all(np.isfinite(array).all() for array in spec.arrays.values())
    assert refused > len(places)


def endless_npz(path):
    """An archive of a few bytes whose array claims a terabyte."""
    file = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": (2**37,)}
    np.lib.format.write_array_header_1_0(file, header)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mean.npy", file.getvalue())
        archive.writestr("var.npy", file.getvalue())


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("endless.npz", endless_npz),
        ("cut.npz", lambda path: path.write_bytes(b"PK\x03\x04" + bytes(50))),
        ("empty.npz", lambda path: path.write_bytes(b"")),
        ("words.npz", lambda path: np.savez(path, mean=["a"], var=[1.0])),
        ("nan.npz", lambda path: np.savez(path, mean=[np.nan], var=[1.0])),
        ("below.npz", lambda path: np.savez(path, mean=[0.0], var=[-1.0])),
        ("flat.npz", lambda path: np.savez(path, mean=0.0, var=1.0)),
        ("infinite.json", lambda path: path.write_text('{"mean": [Infinity], "std": [1]}')),
        ("clip.json", lambda path: path.write_text('{"mean": [0], "std": [1], "clip_obs": NaN}')),
        (
            "negative.json",
            lambda path: path.write_text('{"mean": [0], "std": [1], "clip_obs": -1}'),
        ),
        ("ragged.json", lambda path: path.write_text('{"mean": [[0], [1, 2]], "std": [1]}')),
        ("deep.json", lambda path: path.write_text("[" * 100_000)),
        ("list.json", lambda path: path.write_text("[1]")),
        ("pipe.json", os.mkfifo),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_statistics_that_are_no_finite_vectors_are_refused(tmp_path, name, write):
    write(tmp_path / name)
    with pytest.raises(ArtifactCorruptError) as caught:
        read_statistics(tmp_path / name)
    assert caught.value.exit_code == 4
