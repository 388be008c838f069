"""The Industrial Benchmark: our dynamics against the package's, and the contracts of its batch."""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
import yaml

from pipelines.actions import Box
from pipelines.domains.industrial_benchmark import SETPOINTS_FILE, IndustrialBenchmark, noise
from pipelines.domains.industrial_benchmark.dynamics import Dynamics
from pipelines.domains.industrial_benchmark.environment import (
    HORIZON,
    IndustrialBenchmarkBatch,
    IndustrialBenchmarkEnv,
)
from pipelines.domains.industrial_benchmark.policy import build_setpoint_policy
from pipelines.domains.industrial_benchmark.reference import ReferenceBatch, reference_class
from pipelines.domains.registry import resolve_options
from pipelines.errors import ConfigError, MissingDependencyError, UsageError
from pipelines.policies.base import PolicySpec
from pipelines.tasks.spec import TaskSpec

pytestmark = pytest.mark.simulator

DOMAIN = IndustrialBenchmark()
TASKS = {task.simulator["setpoint"]: task for task in DOMAIN.tasks()}
BATCHES = [IndustrialBenchmarkBatch, ReferenceBatch]
BOUND = np.ones(3, dtype=np.float32)


def uniform_actions(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def rollout(batch, actions_TBA, seeds):
    """All observations and rewards as one array (T + 1, B, 7), the first reward being 0."""
    rows = [np.column_stack((batch.reset(range(batch.size), seeds), np.zeros(batch.size)))]
    for action_BA in actions_TBA:
        after = batch.step(action_BA)
        rows.append(np.column_stack((after.observation_BO, after.reward_B)))
    return np.array(rows)


# --- Equality with the package ------------------------------------------------------------------


class Recorder:
    """A RandomState that notes every draw the package makes."""

    def __init__(self) -> None:
        self._random = np.random.RandomState()
        self.log: list[tuple[str, float]] = []

    def __getattr__(self, name: str):
        method = getattr(self._random, name)

        def draw(*arguments):
            value = method(*arguments)
            if name != "seed":
                self.log.append((name, value))
            return value

        return draw

    def take_step(self) -> np.ndarray:
        """The draws since the last call, in the order of `noise.DRAWS`."""
        values: dict[str, list[float]] = {}
        for name, value in self.log:
            values.setdefault(name, []).append(float(value))
        self.log.clear()
        (cap,) = values.get("normal", [2.4])
        (consumption,) = values["randn"]
        # The package draws for the gain first. A trial that succeeded is a uniform of 0.
        return np.array(
            [
                *values["exponential"][::-1],
                *values["rand"][-2:][::-1],
                *(1 - success for success in values["binomial"][::-1]),
                (cap - 2.4) / 0.4,
                consumption,
            ]
        )


REGIMES = {
    "uniform": lambda rng, steps: rng.uniform(-1, 1, (steps, 3)),
    "bang-bang": lambda rng, steps: rng.choice([-1.0, 1.0], (steps, 3)),
    "up": lambda rng, steps: rng.uniform(-0.5, 1, (steps, 3)),
    "down": lambda rng, steps: rng.uniform(-1, 0.5, (steps, 3)),
    "still": lambda rng, steps: 0.05 * rng.standard_normal((steps, 3)),
    "waves": lambda rng, steps: np.sin(
        np.arange(steps)[:, None] * rng.uniform(0.02, 0.4, 3) + rng.uniform(0, 6, 3)
    ),
    "beyond bounds": lambda rng, steps: rng.uniform(-3, 3, (steps, 3)),
}


def test_equals_the_reference_on_the_same_draws():
    """5 setpoints x 7 kinds of actions x 1000 steps, every branch visited, within 1e-9."""
    steps = 1000
    setpoints, actions, draws, expected, directions = [], [], [], [], []
    for setpoint in (0, 25, 50, 75, 100):
        for number, regime in enumerate(REGIMES.values()):
            actions_TA = regime(np.random.default_rng([setpoint, number]), steps)
            recorder = Recorder()
            reference = reference_class(recorder)(p=setpoint, inital_seed=100 * setpoint + number)
            state = reference.state
            names = ("p", "v", "g", "h", "f", "c", "hv", "hg")
            rows, taken = [[state[name] for name in names]], [recorder.take_step()]
            for action_A in actions_TA:
                reference.step(action_A)
                rows.append([state[name] for name in names])
                taken.append(recorder.take_step())
                directions.append(state["gs_phi_idx"])
            setpoints.append(setpoint)
            actions.append(np.vstack((np.zeros(3), actions_TA)))
            draws.append(noise.prepare(np.array(taken).T))
            expected.append(rows)

    expected_TBS = np.array(expected).swapaxes(0, 1)
    draws_TKB = np.ascontiguousarray(np.array(draws).transpose(2, 1, 0))
    dynamics = Dynamics(np.array(setpoints))
    ours = dynamics.initial_state()
    for step in range(steps + 1):
        dynamics.step(ours, np.array([run[step] for run in actions]), draws_TKB[step])
        found_BS = np.concatenate((ours.visible_6B, ours.hidden_2B)).T
        np.testing.assert_allclose(found_BS, expected_TBS[step], rtol=0, atol=1e-9)

    hidden = expected_TBS[:, :, 6:]
    assert (hidden.max(axis=2) == 5.0).sum() > 500, "the capped fatigue was not visited"
    assert ((hidden >= 1.2) & (hidden < 5.0)).any(), "the runaway fatigue was not visited"
    assert set(directions) == set(range(-6, 7)), "not all directions were visited"


def test_reference_backend_is_the_package_under_its_own_seeding(monkeypatch):
    """Bytes of the package as released, run with `np.float` put back and the global generator."""
    from industrial_benchmark_python.IDS import IDS

    actions = uniform_actions(3, 60, 1, 3)
    ours = rollout(ReferenceBatch([40]), actions, [1234])
    monkeypatch.setattr(np, "float", float, raising=False)
    state = np.random.get_state()
    try:
        package = IDS(p=40, inital_seed=1234)
        for row, action_A in zip(ours[1:, 0], actions[:, 0], strict=True):
            package.step(action_A.astype(np.float64))
            np.testing.assert_array_equal(row[:6], package.visibleState()[:6].astype(np.float32))
            assert row[6] == -package.state["cost"] / 100
    finally:
        np.random.set_state(state)


def test_reference_backend_leaves_numpy_alone():
    """Neither the global generator nor NumPy's names are touched, at no call."""
    had_float = hasattr(np, "float")
    before = np.random.get_state()
    rollout(ReferenceBatch([50, 60]), uniform_actions(0, 20, 2, 3), [1, 2])
    after = np.random.get_state()
    assert before[0] == after[0] and before[2:] == after[2:]
    np.testing.assert_array_equal(before[1], after[1])
    assert hasattr(np, "float") == had_float


def test_missing_package_names_the_install_command(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="pip install industrial-benchmark-python"):
        ReferenceBatch([50])


# --- Randomness ---------------------------------------------------------------------------------


def test_raw_draws_have_their_distributions():
    raw = noise.draw(7, 200_000)
    np.testing.assert_allclose(raw[:2].mean(axis=1), 0.1, atol=1e-3)
    np.testing.assert_allclose(raw[:2].std(axis=1), 0.1, atol=1e-3)
    assert raw[2:6].min() >= 0 and raw[2:6].max() < 1
    np.testing.assert_allclose(raw[2:6].mean(axis=1), 0.5, atol=3e-3)
    np.testing.assert_allclose(raw[6:].mean(axis=1), 0, atol=1e-2)
    np.testing.assert_allclose(raw[6:].std(axis=1), 1, atol=1e-2)
    correlation = np.corrcoef(raw) - np.eye(8)
    assert np.abs(correlation).max() < 0.01


@pytest.mark.parametrize(
    ("effective", "probability"), [(0.0, 0.001), (0.3, 0.3), (0.9985, 0.9985), (1.0, 0.999)]
)
def test_trial_succeeds_with_the_clipped_effective_action(effective, probability):
    """The clipping moved into the noise is the package's clip(effective, 0.001, 0.999)."""
    trial = noise.prepare(noise.draw(11, 400_000))[noise.TRIAL]
    spread = np.sqrt(probability * (1 - probability) / trial.size)
    assert abs((trial < effective).mean() - probability) < 5 * spread


def test_batch_equals_its_copies_one_by_one_bit_for_bit():
    """Sizes around the widths of vector instructions: rounding must not know the neighbours."""
    for size in (2, 3, 7, 8, 9, 15, 16, 33):
        setpoints = np.linspace(0, 100, size)
        actions = uniform_actions(size, HORIZON, size, 3)
        together = rollout(IndustrialBenchmarkBatch(setpoints), actions, range(50, 50 + size))
        for copy in range(size):
            single = IndustrialBenchmarkBatch(setpoints[copy : copy + 1])
            alone = rollout(single, actions[:, copy : copy + 1], [50 + copy])
            np.testing.assert_array_equal(together[:, copy], alone[:, 0])


@pytest.mark.parametrize("batch_class", BATCHES)
def test_reset_of_some_copies_leaves_the_others_untouched(batch_class):
    """Copies 1 and 3 begin anew at step 97; the others run on, and the new episodes are their
    own, whatever the age of the batch."""
    setpoints, actions = [10, 30, 50, 70, 90], uniform_actions(1, HORIZON + 97, 5, 3)
    if batch_class is ReferenceBatch:
        actions = actions[: 97 + 40]
    plain = rollout(batch_class(setpoints), actions[:HORIZON], range(5))
    fresh = batch_class([30, 70])
    expected = rollout(fresh, actions[97:, [1, 3]], [8, 9])

    batch = batch_class(setpoints)
    batch.reset(range(5), range(5))
    for step, action_BA in enumerate(actions):
        if step == 97:
            first = batch.reset([3, 1], [9, 8])
            np.testing.assert_array_equal(first, expected[0, ::-1, :6])
        if step == HORIZON:
            batch.reset([0, 2, 4], [1, 1, 1])
        after = batch.step(action_BA)
        row = np.column_stack((after.observation_BO, after.reward_B))
        if step < HORIZON:
            np.testing.assert_array_equal(row[[0, 2, 4]], plain[step + 1, [0, 2, 4]])
        if step >= 97:
            np.testing.assert_array_equal(row[[1, 3]], expected[step - 96])
        ends = [step == HORIZON - 1, step == HORIZON + 96]
        assert after.truncated_B.tolist() == [ends[0], ends[1], ends[0], ends[1], ends[0]]


@pytest.mark.parametrize("batch_class", BATCHES)
def test_seed_alone_decides_the_episode(batch_class):
    """The second episode of a copy equals the first one of another under the same seed."""
    actions = uniform_actions(5, 30, 2, 3)
    batch = batch_class([20, 20])
    first = rollout(batch, actions, [3, 4])
    again = rollout(batch, actions[:, ::-1], [4, 3])
    np.testing.assert_array_equal(first, again[:, ::-1])
    assert not np.array_equal(first[0, 0], first[0, 1])


# --- Episodes and rewards -----------------------------------------------------------------------


@pytest.mark.parametrize("batch_class", BATCHES)
def test_episode_is_truncated_at_250_steps_and_never_terminated(batch_class):
    batch = batch_class([50, 50])
    with pytest.raises(gymnasium.error.ResetNeeded):
        batch.step(np.zeros((2, 3), dtype=np.float32))
    batch.reset([0, 1], [1, 2])
    for step in range(1, HORIZON + 1):
        after = batch.step(np.zeros((2, 3), dtype=np.float32))
        assert not after.terminated_B.any()
        assert after.truncated_B.tolist() == [step == HORIZON] * 2
    with pytest.raises(gymnasium.error.ResetNeeded, match=r"\[0, 1\]"):
        batch.step(np.zeros((2, 3), dtype=np.float32))


@pytest.mark.parametrize("batch_class", BATCHES)
def test_rewards_are_those_of_the_observation(batch_class):
    """Classic: -(3 fatigue + consumption) / 100. Delta: its change, from the reset state on."""
    actions = uniform_actions(2, 40, 3, 3)
    classic = rollout(batch_class([0, 50, 100]), actions, [1, 2, 3])
    delta = rollout(batch_class([0, 50, 100], delta_reward=True), actions, [1, 2, 3])
    np.testing.assert_array_equal(classic[:, :, :6], delta[:, :, :6])
    cost = 3 * classic[:, :, 4] + classic[:, :, 5]
    np.testing.assert_allclose(classic[1:, :, 6], -cost[1:] / 100, rtol=1e-5)
    np.testing.assert_allclose(delta[1:, :, 6], -np.diff(cost, axis=0) / 100, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(delta[2:, :, 6], np.diff(classic[1:, :, 6], axis=0))


@pytest.mark.parametrize("setpoint", list(TASKS))
def test_random_return_agrees_with_the_papers_table_10(setpoint):
    """256 episodes of uniform actions; within the spread that the paper gives."""
    paper = TASKS[setpoint].scores["paper"]
    batch = DOMAIN.make_batch(TASKS[setpoint], 256, {}, range(256))
    total = rollout(batch, uniform_actions(setpoint, HORIZON, 256, 3), range(256))[:, :, 6].sum(0)
    assert abs(total.mean() - paper.random) < paper.random_std
    assert 0.5 < total.std() / paper.random_std < 2.5


# --- The plain environment ----------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["vectorized", "reference"])
@pytest.mark.parametrize("reward", ["classic", "delta"])
@pytest.mark.filterwarnings("ignore:.*infinity.*:UserWarning")
def test_gymnasiums_checker_passes(backend, reward):
    from gymnasium.utils.env_checker import check_env

    env = DOMAIN.make_env(TASKS[50], {"backend": backend, "reward": reward})
    check_env(env, skip_render_check=True)


def test_plain_environment_is_the_batch_of_one():
    env, batch = DOMAIN.make_env(TASKS[35], {}), IndustrialBenchmarkBatch([35])
    observation, _ = env.reset(seed=77)
    np.testing.assert_array_equal(observation, batch.reset([0], [77])[0])
    for action_A in uniform_actions(4, HORIZON, 3):
        observation, reward, terminated, truncated, _ = env.step(action_A)
        after = batch.step(action_A[None])
        np.testing.assert_array_equal(observation, after.observation_BO[0])
        assert observation in env.observation_space
        assert (reward, terminated, truncated) == (after.reward_B[0], False, after.truncated_B[0])
    assert truncated
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.zeros(3, dtype=np.float32))


@pytest.mark.parametrize("batch_class", BATCHES)
def test_reset_seeding_is_exact(batch_class):
    """The same seed gives the same bytes, later resets too; without a seed episodes differ."""

    def digests(env):
        env.reset(seed=5)
        found = []
        for _ in range(3):
            rows = [env.reset()[0]]
            rows += [env.step(action_A)[0] for action_A in uniform_actions(6, 20, 3)]
            found.append(hashlib.sha256(np.array(rows).tobytes()).hexdigest())
        return found

    first = digests(IndustrialBenchmarkEnv(batch_class([50])))
    assert first == digests(IndustrialBenchmarkEnv(batch_class([50])))
    assert len(set(first)) == 3


# --- The domain ---------------------------------------------------------------------------------


def test_domain_lists_the_21_setpoints_of_the_catalogue():
    assert list(TASKS) == list(range(0, 101, 5))
    for task in TASKS.values():
        assert (task.observation_dim, task.action_dim, task.horizon) == (6, 3, HORIZON)
        batch = DOMAIN.make_batch(task, 2, {"backend": "vectorized", "reward": "classic"}, [0, 1])
        first = batch.reset([0, 1], [0, 1])
        assert first.dtype == np.float32 and first.shape == (2, 6)
        assert (first[:, 0] == task.simulator["setpoint"]).all()


def test_options_reach_the_batch_and_wrong_ones_are_refused():
    assert isinstance(DOMAIN.make_batch(TASKS[0], 1, {"backend": "reference"}, [0]), ReferenceBatch)
    for option in ({"backend": "fast"}, {"reward": "sparse"}):
        with pytest.raises(UsageError, match="cannot be"):
            resolve_options(DOMAIN, option)


@pytest.mark.parametrize("simulator", [{}, {"setpoint": 101}, {"setpoint": "50"}])
def test_task_without_a_valid_setpoint_is_refused(simulator):
    task = TaskSpec(
        name="ib-odd",
        domain="industrial-benchmark",
        group="industrial-benchmark",
        observation_dim=6,
        action_dim=3,
        horizon=HORIZON,
        simulator=simulator,
    )
    with pytest.raises(ConfigError, match="setpoint"):
        DOMAIN.make_batch(task, 1, {}, [0])


@pytest.mark.process
def test_importing_the_domain_is_cheap():
    """The command line imports the plugin; Gymnasium and the package wait for an environment."""
    code = (
        "import sys; from pipelines.domains.industrial_benchmark import IndustrialBenchmark;"
        "IndustrialBenchmark().options();"
        "sys.exit(any(n in sys.modules for n in ('gymnasium', 'gym', 'torch', 'numpy', 'yaml')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- The demonstrator ---------------------------------------------------------------------------


def play(setpoint: int, size: int, seed: int) -> np.ndarray:
    task = TASKS[setpoint]
    batch = DOMAIN.make_batch(task, size, {}, range(size))
    spec = DOMAIN.demonstrator(task)
    policy = DOMAIN.policies()[spec.kind](spec, batch.actions)
    observation = batch.reset(range(size), range(seed, seed + size))
    policy.reset(range(size))
    total = np.zeros(size)
    for _ in range(HORIZON):
        action = policy.act(observation)
        assert action.dtype == np.float32 and np.abs(action).max() <= 1
        after = batch.step(action)
        observation, total = after.observation_BO, total + after.reward_B
    return total


@pytest.mark.parametrize("setpoint", list(TASKS))
def test_demonstrator_earns_what_its_file_says(setpoint):
    """On episodes that neither the search nor its measurement has seen."""
    row = yaml.safe_load(SETPOINTS_FILE.read_text())["setpoints"][setpoint]
    returns = play(setpoint, 128, 40_000)
    error = row["std_return"] * np.sqrt(1 / 128 + 1 / 256)
    assert abs(returns.mean() - row["mean_return"]) < 5 * error + 0.005
    score = TASKS[setpoint].scores["paper"].normalize(returns.mean())
    assert score == pytest.approx(row["paper_score"], abs=0.02)
    assert score > 0.75


def test_demonstrator_acts_alike_in_any_batch_size():
    spec = DOMAIN.demonstrator(TASKS[20])
    policy = build_setpoint_policy(spec, Box.between(-BOUND, BOUND))
    observation = np.random.default_rng(0).uniform(0, 100, (37, 6)).astype(np.float32)
    alone = np.concatenate([policy.act(row[None]) for row in observation])
    np.testing.assert_array_equal(policy.act(observation), alone)


def test_demonstrator_reaches_its_targets():
    """One step from near a target lands on it; far from it the action is at its bound."""
    spec = PolicySpec("industrial_benchmark_setpoint", {"velocity": 50.5, "gain": 0, "shift": 48})
    policy = build_setpoint_policy(spec, Box.between(-BOUND, BOUND))
    batch = IndustrialBenchmarkBatch([50])
    observation = batch.reset([0], [0])
    after = batch.step(policy.act(observation)).observation_BO
    np.testing.assert_allclose(after[0, 1:4], [50.5, 40, 48], rtol=1e-6)


@pytest.mark.parametrize(
    "config",
    [
        {"velocity": 1, "gain": 2},
        {"velocity": 1, "gain": 2, "shift": 101},
        {"velocity": 1, "gain": 2, "shift": "3"},
        {"velocity": 1, "gain": 2, "shift": 3, "more": 4},
    ],
)
def test_bad_policy_configuration_is_refused(config):
    with pytest.raises(ConfigError, match="setpoint policy"):
        build_setpoint_policy(
            PolicySpec("industrial_benchmark_setpoint", config), Box.between(-BOUND, BOUND)
        )
