"""Algorithm 1: histories equal a naive loop, whatever the shards and wherever it was resumed."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import weakref
from types import SimpleNamespace

import numpy as np
import pytest

from distill.toy import refuse_commits
from pipelines.actions import Box, Discrete
from pipelines.artifacts.workspace import Workspace
from pipelines.distill.collect import collect_job
from pipelines.distill.job import Job, Position, find_position, shard_rows
from pipelines.distill.schedule import epsilons
from pipelines.domains.base import BatchEnvironment, StepBatch
from pipelines.domains.loop import LoopBatch
from pipelines.errors import StorageError, VintixError
from pipelines.histories.storage import staged_trajectories
from pipelines.playing.episodes import ReplayError
from pipelines.policies.base import Policy
from pipelines.rng import derive_seed, stream
from pipelines.rows import HISTORY_EPISODES, HISTORY_ROWS
from pipelines.tasks.spec import Schedule, TaskSpec

pytestmark = pytest.mark.usefixtures("toy_domain")

STEPS = 150


def make_job(trajectories=(0, 1, 2), rows=40, steps=STEPS, schedule=None):
    from vintix_toy import Toy

    return Job(
        task=Toy().tasks()[0],
        trajectories=tuple(trajectories),
        steps=steps,
        shard_rows=rows,
        schedule=schedule or Schedule(p=1.5, f=0.2),
        options={"radius": 1.2},
        seed=5,
    )


def parts(job, environment=None):
    from vintix_toy import ToyEnv, ToyPolicy

    environment = environment or LoopBatch([ToyEnv() for _ in job.trajectories])
    return environment, ToyPolicy()


def staged(tmp_path, name="x"):
    return Workspace(tmp_path / name).stage("histories", "h", config={"x": 1})


def naive(job, trajectory):
    """Algorithm 1 as the paper writes it: one environment, one step at a time, lists."""
    from vintix_toy import HIGH, LOW, ToyEnv, ToyPolicy

    key = ("distill", job.task.name, trajectory)
    epsilon_T = epsilons(job.steps, job.schedule.p, job.schedule.f).astype(np.float32)
    env, policy = ToyEnv(), ToyPolicy()
    rows = {name: [] for name in HISTORY_ROWS}
    episodes = {name: [] for name in HISTORY_EPISODES}
    episode, start, total = 0, 0, 0.0
    observation, _ = env.reset(seed=derive_seed(job.seed, *key, "episode", episode))
    policy.reset([0])
    for t in range(job.steps):
        if t % job.shard_rows == 0:
            rng = stream(job.seed, *key, "noise", t // job.shard_rows)
            length = min(job.shard_rows, job.steps - t)
            noise = rng.random((length, 2), dtype=np.float32) * (HIGH - LOW) + LOW
        expert = policy.act(observation[None])[0]
        share = epsilon_T[t]
        action = (1 - share) * expert + share * noise[t % job.shard_rows]
        action = np.clip(action, LOW, HIGH)
        for name, value in zip(
            ("observation", "action", "noise", "demonstrator_action"),
            (observation, action.copy(), share, expert),
            strict=True,
        ):
            rows[name].append(value)
        observation, reward, terminated, truncated, _ = env.step(action)
        rows["reward"].append(np.float32(reward))
        rows["terminated"].append(terminated)
        rows["truncated"].append(truncated)
        total += reward
        if terminated or truncated or t == job.steps - 1:
            for name, value in zip(
                HISTORY_EPISODES, (start, t + 1 - start, total, observation), strict=True
            ):
                episodes[name].append(value)
            episode, start, total = episode + 1, t + 1, 0.0
            observation, _ = env.reset(seed=derive_seed(job.seed, *key, "episode", episode))
            policy.reset([0])
    return {name: np.array(values) for name, values in {**rows, **episodes}.items()}


def read(staging, job, trajectory):
    (group,) = staged_trajectories(staging, job.task.name, job.units(), [trajectory])
    return {name: np.asarray(group[name][...]) for name in (*HISTORY_ROWS, *HISTORY_EPISODES)}


def assert_equal(found, expected):
    for name, values in expected.items():
        assert found[name].shape == values.shape, name
        np.testing.assert_array_equal(found[name], values, err_msg=name)


class Corridor(BatchEnvironment):
    """Places 0 to 8; actions: left, stay, right. Ends at 8; starts where the seed says."""

    actions = Discrete(3)

    def __init__(self, size):
        self.size, self.observation_dim = size, 1
        self.place_B = np.zeros(size)

    def reset(self, indices, seeds):
        self.place_B[indices] = np.array(seeds) % 5
        return self.place_B[indices, None].astype(np.float32)

    def step(self, action_B):
        assert action_B.dtype == np.int64 and action_B.shape == (self.size,)
        self.place_B = np.clip(self.place_B + action_B - 1, 0, 8)
        ended_B = self.place_B == 8
        observation_BO = self.place_B[:, None].astype(np.float32)
        return StepBatch(observation_BO, -1.0 * ~ended_B, ended_B, ~ended_B & False, None)


class CountedName:
    """The name of a shard; `most` is how many there were at once."""

    now = most = 0

    def __init__(self):
        CountedName.now += 1
        CountedName.most = max(CountedName.most, CountedName.now)

    def __del__(self):
        CountedName.now -= 1


class Rightward(Policy):
    def act(self, observation_BO):
        return np.full(len(observation_BO), 2)


def test_discrete_actions_are_recorded_with_noise_in_their_place(tmp_path):
    """AD-epsilon: whole numbers, random ones as often as the schedule says, whatever the shards."""
    task = TaskSpec(
        name="corridor",
        domain="corridor",
        group="corridor",
        observation_dim=1,
        actions=Discrete(3),
        horizon=1000,
    )
    job = dataclasses.replace(make_job(rows=70, steps=700), task=task, options={})
    with staged(tmp_path) as staging:
        collect_job(job, Corridor(3), Rightward(), staging.directory)
        found = [read(staging, job, trajectory) for trajectory in job.trajectories]
    for rows in found:
        assert rows["action"].dtype == rows["demonstrator_action"].dtype == np.int64
        assert rows["action"].shape == (700,) and set(rows["action"]) == {0, 1, 2}
        assert (rows["demonstrator_action"] == 2).all()
        places = rows["observation"][:, 0]
        moved = np.clip(places[:-1] + rows["action"][:-1] - 1, 0, 8)
        inside = ~rows["terminated"][:-1]
        np.testing.assert_array_equal(places[1:][inside], moved[inside])
    other = np.concatenate([rows["action"] != 2 for rows in found])
    noise = np.concatenate([rows["noise"] for rows in found])
    for low, high in ((0.0, 1e-6), (0.2, 0.5), (0.5, 0.8)):
        chosen = (noise >= low) & (noise < high)
        expected = noise[chosen].mean() * 2 / 3
        np.testing.assert_allclose(other[chosen].mean(), expected, atol=0.06)

    with staged(tmp_path, "resumed") as staging:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(StorageError):
            refuse_commits(patch, 7)
            collect_job(job, Corridor(3), Rightward(), staging.directory)
        position = find_position(staging, job)
        assert position.shard > 0
        collect_job(job, Corridor(3), Rightward(), staging.directory, position=position)
        for trajectory, rows in zip(job.trajectories, found, strict=True):
            assert_equal(read(staging, job, trajectory), rows)


def test_a_policy_without_choices_is_refused(tmp_path):
    class Wrong(Rightward):
        def act(self, observation_BO):
            return np.full(len(observation_BO), 3)

    job = dataclasses.replace(
        make_job(), task=dataclasses.replace(make_job().task, action_dim=3, actions=Discrete(3))
    )
    with staged(tmp_path) as staging, pytest.raises(VintixError, match="demonstrator_action"):
        collect_job(job, Corridor(3), Wrong(), staging.directory)


@pytest.mark.parametrize(("rows", "steps"), [(1, 8), (17, STEPS), (50, STEPS), (STEPS, STEPS)])
def test_history_equals_a_naive_loop(tmp_path, rows, steps):
    """Bit for bit, with episodes across shards, both endings, and a last episode cut off."""
    job = make_job(rows=rows, steps=steps)
    with staged(tmp_path) as staging:
        collect_job(job, *parts(job), staging.directory)
        for trajectory in job.trajectories:
            found, expected = read(staging, job, trajectory), naive(job, trajectory)
            assert_equal(found, expected)
            assert found["action"].dtype == found["observation"].dtype == np.float32
            assert found["episode_return"].dtype == np.float64


def test_simulators_go_with_their_job(tmp_path):
    """Not with the next garbage collection: some hold megabytes, which a worker would pile up."""
    job = make_job()
    environment, policy = parts(job)
    left = weakref.ref(environment)
    gc.disable()
    try:
        with staged(tmp_path) as staging:
            collect_job(job, environment, policy, staging.directory)
        del environment
        assert left() is None
    finally:
        gc.enable()


def test_the_toy_exercises_every_case():
    """Guards the test above: its trajectories do hold all that it claims to compare."""
    found = [naive(make_job(), trajectory) for trajectory in range(3)]
    assert any(each["terminated"].any() for each in found)
    assert any(each["truncated"].any() for each in found)
    assert any(not (each["terminated"][-1] or each["truncated"][-1]) for each in found)
    assert len(set(np.concatenate([each["episode_length"] for each in found]).tolist())) > 4


def test_a_job_equals_single(tmp_path):
    """A trajectory does not depend on its neighbours in the job."""
    for trajectory in range(3):
        single = make_job([trajectory])
        with staged(tmp_path, f"single{trajectory}") as staging:
            collect_job(single, *parts(single), staging.directory)
            alone = read(staging, single, trajectory)
        assert_equal(alone, naive(make_job(), trajectory))
    job = make_job()
    with staged(tmp_path, "block") as staging:
        collect_job(job, *parts(job), staging.directory)
        assert_equal(read(staging, job, 2), alone)


@pytest.mark.parametrize("failing", range(8))
def test_resumed_after_a_failure_at_any_unit(tmp_path, monkeypatch, failing):
    """Wherever it fails, the resumed job has the bytes of an uninterrupted one."""
    job = make_job([0, 1], rows=17, steps=60)  # 4 shards of 2 trajectories
    with staged(tmp_path) as staging:
        reference = {k: naive(job, k) for k in job.trajectories}
        with monkeypatch.context() as patch:
            refuse_commits(patch, failing, failing + 1)
            with pytest.raises(StorageError, match="no room"):
                collect_job(job, *parts(job), staging.directory)
    with staged(tmp_path) as staging:
        position = find_position(staging, job)
        assert position.shard == failing // 2
        collect_job(job, *parts(job), staging.directory, position=position)
        for trajectory in job.trajectories:
            assert_equal(read(staging, job, trajectory), reference[trajectory])
        assert find_position(staging, job).shard == job.shards


def test_resumed_files_have_equal_bytes(tmp_path):
    """Not just equal arrays: every published file of a job resumed three times is the same."""
    job = make_job(rows=31)
    with staged(tmp_path, "whole") as staging:
        collect_job(job, *parts(job), staging.directory)
        whole = staging.publish(summary={})

    class StopError(Exception):
        pass

    done, finished = 0, False
    while not finished:
        seen = 0

        def progress(steps, limit=done + 140):
            nonlocal seen
            seen += steps
            if seen > limit:
                raise StopError

        with staged(tmp_path, "parts") as staging, contextlib.suppress(StopError):
            position = find_position(staging, job)
            collect_job(job, *parts(job), staging.directory, position=position, progress=progress)
            finished = True
            pieces = staging.publish(summary={})
        done += 1
    assert done > 1
    assert pieces.digest == whole.digest


def test_demonstrators_may_see_more_than_is_recorded(tmp_path):
    """They act on what they are told, also while a resumed episode is replayed."""
    from vintix_toy import ToyEnv, ToyPolicy

    class Telling(LoopBatch):
        def demonstrator_view(self, observation_BO):
            return observation_BO + 1

    class Remembering(ToyPolicy):
        def act(self, observation_BO):
            seen.extend(observation_BO.copy())
            return super().act(observation_BO)

    job = make_job([0], rows=16, steps=48)

    def collect(staging, position=None):
        seen.clear()
        batch = Telling([ToyEnv()])
        collect_job(job, batch, Remembering(), staging.directory, position=position)
        return read(staging, job, 0), np.array(seen)

    seen = []
    with staged(tmp_path) as staging:
        rows, told = collect(staging)
    np.testing.assert_array_equal(told, rows["observation"] + 1)
    expert = ToyPolicy()
    expert.reset([0])
    np.testing.assert_array_equal(rows["demonstrator_action"][0], expert.act(told[:1])[0])
    with staged(tmp_path, "again") as staging:
        with contextlib.suppress(StorageError), pytest.MonkeyPatch.context() as patch:
            refuse_commits(patch, 1)
            collect(staging)
        position = find_position(staging, job)
        assert position.shard == 1
        again, told = collect(staging, position)
        np.testing.assert_array_equal(told[-32:], rows["observation"][16:] + 1)
    assert_equal(again, rows)


def test_a_gap_drops_what_follows_it(tmp_path):
    """A shard lost by the disk takes later ones of its trajectory along, and all come back."""
    job = make_job(rows=50)
    with staged(tmp_path) as staging:
        collect_job(job, *parts(job), staging.directory)
        staging.work_items()
        staging.drop("toy-a/00001/00000")
        position = find_position(staging, job)
        assert position.durable == (3, 0, 3)
        assert position.shard == 0
        assert not staging.done("toy-a/00001/00002")
        collect_job(job, *parts(job), staging.directory, position=position)
        for trajectory in job.trajectories:
            assert_equal(read(staging, job, trajectory), naive(job, trajectory))


def test_an_environment_that_does_not_repeat_itself_is_noticed(tmp_path):
    """Resuming an episode in another environment must not continue it as if nothing had been."""
    from vintix_toy import ToyEnv

    job = make_job([0], rows=17)
    with staged(tmp_path) as staging:
        collect_job(job, *parts(job), staging.directory)
        staging.work_items()
        for shard in range(4, job.shards):
            staging.drop(f"toy-a/00000/{shard:05d}")
        position = find_position(staging, job)
        assert position.marks[0].start < 4 * 17, "the test needs an episode across the boundary"
        environment = LoopBatch([ToyEnv(drift=0.01)])
        with pytest.raises(ReplayError):
            collect_job(job, *parts(job, environment), staging.directory, position=position)


@pytest.mark.parametrize("p", [0.3, 1.0, 4.0])
def test_actions_stay_in_the_box(tmp_path, p):
    """The mix is inside the bounds, and is what Algorithm 1 says up to float32."""
    job = make_job(rows=64, schedule=Schedule(p=p, f=0.1))
    with staged(tmp_path) as staging:
        collect_job(job, *parts(job), staging.directory)
        for trajectory in job.trajectories:
            found = read(staging, job, trajectory)
            low, high = parts(job)[0].actions.bounds
            assert (found["action"] >= low).all()
            assert (found["action"] <= high).all()
            free = found["noise"] == 0
            assert free.sum() >= STEPS * 0.1 - 1
            np.testing.assert_array_equal(found["action"][free], found["demonstrator_action"][free])
            # What is left after taking the demonstrator's share away is noise of the box.
            noise = found["noise"][:, None]
            rest = found["action"] - (1 - noise) * found["demonstrator_action"]
            assert (rest >= noise * low - 1e-6).all()
            assert (rest <= noise * high + 1e-6).all()


def test_an_episode_that_ends_with_the_trajectory_is_complete(tmp_path):
    """No empty episode follows when the last step ends one."""
    full = naive(make_job([0]), 0)
    steps = int(full["episode_start"][3])
    job = make_job([0], rows=17, steps=steps, schedule=Schedule(p=1000.0, f=0.0))
    with staged(tmp_path) as staging:
        collect_job(job, *parts(job), staging.directory)
        assert_equal(read(staging, job, 0), naive(job, 0))
        found = read(staging, job, 0)
        assert found["episode_length"].sum() == steps
        assert (found["episode_length"] > 0).all()


def test_noise_is_keyed_by_shard_not_by_history(tmp_path):
    """Another seed changes everything, the same seed nothing."""
    job = make_job([0], rows=40)
    actions = []
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        each = dataclasses.replace(job, seed=seed)
        with staged(tmp_path, name) as staging:
            collect_job(each, *parts(each), staging.directory)
            actions.append(read(staging, each, 0)["action"])
    np.testing.assert_array_equal(actions[0], actions[1])
    assert (actions[0] != actions[2]).any(axis=1)[: STEPS // 2].all()


def test_not_a_number_is_an_error_that_says_where(tmp_path):
    from vintix_toy import ToyEnv

    class Broken(ToyEnv):
        def step(self, action):
            observation, reward, *rest = super().step(action)
            return observation, np.nan if self.steps == 3 else reward, *rest

    job = make_job([0])
    with (
        staged(tmp_path) as staging,
        pytest.raises(VintixError, match="reward is not finite") as found,
    ):
        collect_job(job, *parts(job, LoopBatch([Broken()])), staging.directory)
    assert "step 2" in found.value.where


def test_nothing_to_do(tmp_path):
    job = make_job([0])
    position = Position(job.shards, (job.shards,), ())
    with staged(tmp_path) as staging:
        collect_job(job, *parts(job), staging.directory, position=position)
        assert staging.work_items() == []


def test_shards_are_bounded_in_bytes():
    """64 MiB a trajectory and 128 a job whatever the width; no padding for round lengths."""
    narrow, wide = make_job().task, None
    wide = dataclasses.replace(narrow, observation_dim=428, action_dim=52, actions=Box(52))
    assert shard_rows(narrow, 100_000, 1, 65_536) == 50_000
    assert shard_rows(narrow, 2_000, 1, 65_536) == 2_000
    assert shard_rows(narrow, 100_000, 1, 4_000) == 4_000
    row = 4 * (428 + 104 + 2) + 2
    for size, most in ((1, 64 << 20), (15, 128 << 20)):
        rows = shard_rows(wide, 1_000_000, size, 65_536)
        assert 0.93 * most < rows * size * row <= most


def test_the_names_of_all_shards_are_never_held_at_once(monkeypatch):
    job = make_job(rows=1, steps=50_000)
    monkeypatch.setattr("pipelines.distill.job.shard_unit", lambda task, *number: CountedName())
    staging = SimpleNamespace(done=lambda name: False)
    CountedName.most = 0
    assert find_position(staging, job) == Position.start(job)
    assert 0 < CountedName.most < 10


def test_short_trajectories_are_one_work_item_that_is_whole_or_made_again(tmp_path, monkeypatch):
    """Of a job of one shard; in a part of a plan each keeps a work item of its own."""
    job = make_job(rows=STEPS)
    assert len(job.units()) == 1
    assert len(dataclasses.replace(job, part=True).units()) == 3
    with staged(tmp_path) as staging:
        with monkeypatch.context() as patch:
            refuse_commits(patch, 0, 1)
            with pytest.raises(StorageError, match="no room"):
                collect_job(job, *parts(job), staging.directory)
        assert find_position(staging, job) == Position.start(job)
        collect_job(job, *parts(job), staging.directory)
        assert find_position(staging, job).shard == job.shards
        assert_equal(read(staging, job, 1), naive(job, 1))
