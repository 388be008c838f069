"""Histories of demonstrators that know less than the goal, or less than the task."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from distill.toy import refuse_commits
from pipelines.artifacts.workspace import Workspace
from pipelines.distill.collect import collect_job
from pipelines.distill.job import Job, TaskDecoys, find_position
from pipelines.distill.schedule import draw_level, epsilons
from pipelines.domains.batch import BatchEnvironment, StepBatch
from pipelines.domains.goals import HiddenGoals
from pipelines.errors import ConfigError, StorageError
from pipelines.histories.storage import staged_trajectories
from pipelines.policies.base import Policy
from pipelines.rng import derive_seed, stream
from pipelines.rows import ALL_HISTORY_EPISODES, HISTORY_EPISODES, HISTORY_ROWS
from pipelines.tasks.schedule import EpisodeNoise, HistoryNoise, Schedule
from pipelines.tasks.spec import TaskSpec

TASK = TaskSpec(
    name="line",
    domain="line",
    aliases=(),
    group="line",
    observation_dim=2,
    action_dim=1,
    horizon=11,
    reward_scale=1.0,
    trajectories=3,
    trajectory_length=100,
)
HIT = 0.15


class Line(BatchEnvironment):
    """Points on [-1, 1] with a goal for each stream; episodes end after 5 to 11 steps."""

    observation_dim = 2

    def __init__(self, streams, knowledge, dense=True):
        self.size = len(streams)
        self.action_low_A, self.action_high_A = np.float32([-1]), np.float32([1])
        self.goal_B = np.float32([np.random.default_rng(s).uniform(-1, 1) for s in streams])
        self.x_B, self.left_B = np.zeros(self.size), np.zeros(self.size, np.int64)
        self.hidden_goals = LineGoals(self, knowledge, dense)

    def reset(self, indices, seeds):
        for index, seed in zip(indices, seeds, strict=True):
            rng = np.random.default_rng(seed)
            self.x_B[index], self.left_B[index] = rng.uniform(-0.1, 0.1), rng.integers(5, 12)
        return self._observe()[list(indices)]

    def step(self, action_BA):
        self.x_B = np.clip(self.x_B + 0.3 * action_BA[:, 0], -1, 1)
        self.left_B -= 1
        reward_B = self.hidden_goals.rewards(self.goal_B[:, None, None])[:, 0]
        ended_B = self.left_B == 0
        return StepBatch(self._observe(), reward_B, ended_B & False, ended_B, None)

    def _observe(self):
        return np.stack([self.x_B, self.left_B / 11], axis=1).astype(np.float32)


class LineGoals(HiddenGoals):
    dim = 1

    def __init__(self, line, knowledge, dense):
        self.line, self.knowledge, self.dense = line, knowledge, dense
        self.reward_spread, self.count = (0.05 if dense else 0.0), 200

    def current(self):
        return self.line.goal_B[:, None].copy()

    def draw(self, generator, count):
        return generator.uniform(-1, 1, (count, 1)).astype(np.float32)

    def show(self, observation_BO, goal_BG):
        return np.concatenate([observation_BO, goal_BG], axis=1)

    def rewards(self, goal_BPG):
        away_BP = np.abs(self.line.x_B[:, None] - goal_BPG[..., 0].astype(np.float64))
        return -away_BP if self.dense else (away_BP < HIT).astype(np.float64)


class Seeking(Policy):
    """Goes to the goal, and swings with the steps since its last reset."""

    def __init__(self):
        self.steps = {}

    def reset(self, indices):
        self.steps.update(dict.fromkeys(indices, 0))

    def act(self, seen_BO):
        swing_B = np.float32([0.1 * np.sin(self.steps[copy]) for copy in range(len(seen_BO))])
        for copy in range(len(seen_BO)):
            self.steps[copy] += 1
        return np.clip(3 * (seen_BO[:, 2:] - seen_BO[:, :1]) + swing_B[:, None], -1, 1)


class Heading(Policy):
    """The demonstrator of another task: goes one way, and swings with the steps, too."""

    def __init__(self, name):
        self.way, self.steps = float(OTHERS.index(name) - 1.5) / 3, {}

    def reset(self, indices):
        self.steps.update(dict.fromkeys(indices, 0))

    def act(self, seen_BO):
        steps = [self.steps.get(copy, 0) for copy in range(len(seen_BO))]
        self.steps.update({copy: each + 1 for copy, each in enumerate(steps)})
        return np.float32([[self.way + 0.2 * np.sin(0.7 * each)] for each in steps])


OTHERS = ("left", "leftish", "rightish", "right")


def make_job(knowledge, trajectories=(0, 1), rows=30, steps=90, schedule=None, decoys=None):
    options = {"goal": knowledge}
    return Job(
        TASK,
        tuple(trajectories),
        steps,
        rows,
        schedule or Schedule(1, 0.2),
        options,
        5,
        decoys=TaskDecoys(OTHERS, decoys) if decoys else None,
    )


def collect(directory, job, dense=True, name="whole"):
    line = Line(job.trajectories, job.options["goal"], dense)
    others = {name: Heading(name) for name in OTHERS}
    policies = {"decoy": Seeking(), "others": others}
    with Workspace(directory / name).stage("histories", "h", config={}) as staging:
        position = find_position(staging, job)
        collect_job(job, line, Seeking(), staging.directory, **policies, position=position)
        return {each: read(staging, job, each) for each in job.trajectories}


def read(staging, job, trajectory):
    (group,) = staged_trajectories(staging, job.task.name, job.units(), [trajectory])
    known = HISTORY_EPISODES if job.decoys is None else ALL_HISTORY_EPISODES
    return {name: np.asarray(group[name][...]) for name in (*HISTORY_ROWS, *known)}


def assert_equal(found, expected):
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def demonstrated(rows, goal_of_episode, player=lambda episode: Seeking()):
    """What those who play do in a whole trajectory: a goal and a policy of each episode."""
    found, starts = [], rows["episode_start"].tolist()
    for step, observation_O in enumerate(rows["observation"]):
        if step in starts:
            goal, policy = goal_of_episode(starts.index(step)), player(starts.index(step))
            policy.reset([0])
        found.append(policy.act(np.append(observation_O, goal)[None].astype(np.float32))[0])
    return np.array(found)


def test_a_decoy_acts_and_the_demonstrator_of_the_true_goal_is_recorded(tmp_path):
    """Executed is, up to noise, what a demonstrator of a goal that changes each episode does."""
    job = make_job("decoy")
    for trajectory, rows in collect(tmp_path, job).items():
        goals = Line([trajectory], "decoy").hidden_goals
        true = goals.current()[0]
        np.testing.assert_array_equal(
            rows["demonstrator_action"], demonstrated(rows, lambda episode, true=true: true)
        )

        def decoy(episode, trajectory=trajectory, goals=goals):
            generator = stream(job.seed, "distill", "line", trajectory, "decoy", episode)
            return goals.draw(generator, 1)[0]

        acted, clean = demonstrated(rows, decoy), rows["noise"] == 0
        assert clean.sum() >= 10
        np.testing.assert_array_equal(rows["action"][clean], acted[clean])
        # Algorithm 1 around the decoy: what is left of the action is noise within the bounds.
        share = rows["noise"][~clean, None]
        drawn = (rows["action"][~clean] - (1 - share) * acted[~clean]) / share
        assert (np.abs(drawn) <= 1.001).all() and drawn.std() > 0.4
        assert not np.allclose(acted, rows["demonstrator_action"], atol=0.3)


@pytest.mark.parametrize("dense", [True, False])
def test_a_belief_finds_the_goal_by_rewards_alone(tmp_path, monkeypatch, dense):
    """It is never told the goal; one that keeps its first guess would stay away from it."""
    job = make_job("belief", trajectories=range(12), rows=150, steps=150, schedule=Schedule(1, 0.9))
    line = Line(job.trajectories, "belief", dense)
    with Workspace(tmp_path).stage("histories", "h", config={}) as staging:
        collect_job(job, line, Seeking(), staging.directory)
        found = [read(staging, job, each) for each in job.trajectories]
    for rows in found:
        clean = rows["noise"] == 0
        np.testing.assert_array_equal(rows["action"][clean], rows["demonstrator_action"][clean])
    last = np.stack([rows["episode_final_observation"][-4:-1, 0] for rows in found])
    away = np.abs(last - line.goal_B[:, None])
    near = 0.1 if dense else HIT + 0.1
    assert (away < near).mean() > 0.9
    first = np.stack([rows["episode_final_observation"][:1, 0] for rows in found])
    assert (np.abs(first - line.goal_B[:, None]) < near).mean() < (0.9 if dense else 0.7)


def test_a_belief_does_not_look_at_the_goal(tmp_path, monkeypatch):
    """It knows it by the rewards, of which it is told after each step, and by nothing else."""
    monkeypatch.setattr(LineGoals, "current", lambda self: 1 / 0)
    job = make_job("belief", trajectories=[0], steps=40)
    told = collect(tmp_path, job, name="a")[0]
    monkeypatch.setattr(LineGoals, "rewards", blind(LineGoals.rewards))
    untold = collect(tmp_path, job, name="b")[0]
    assert_equal(
        {"observation": untold["observation"][:1]}, {"observation": told["observation"][:1]}
    )
    assert not np.array_equal(untold["demonstrator_action"], told["demonstrator_action"])
    starts = untold["episode_start"]
    aims = untold["demonstrator_action"][starts, 0] / 3 + untold["observation"][starts, 0]
    assert len(set(aims.tolist())) == len(starts), "a guess of each episode, and no more"


def blind(rewards):
    """Rewards that are the same under all goals but the environment's own."""
    return lambda self, goal_BPG: (
        rewards(self, goal_BPG)
        if goal_BPG.shape[1] == 1
        else np.repeat(rewards(self, self.line.goal_B[:, None, None]), goal_BPG.shape[1], axis=1)
    )


def test_a_guess_is_kept_for_an_episode_until_rewards_exclude_it(tmp_path):
    """With sparse reward a guess is only given up where the point has come by it."""
    job = make_job("belief", trajectories=range(6), rows=120, steps=120, schedule=Schedule(1, 0.99))
    kept = 0
    for rows in collect(tmp_path, job, dense=False).values():
        ends = rows["episode_start"][1:] - 1
        inner = np.setdiff1d(np.arange(119), ends)
        swing = np.concatenate([np.arange(n) for n in rows["episode_length"]])
        aim = (rows["demonstrator_action"][:, 0] - 0.1 * np.sin(swing)) / 3 + rows["observation"][
            :, 0
        ]
        free = np.abs(rows["demonstrator_action"][:, 0]) < 1
        both = inner[free[inner] & free[inner + 1]]
        changed = np.abs(aim[both + 1] - aim[both]) > 1e-3
        kept += (~changed).sum()
        # Where the aim moves without a reward, the point stood within reach of the old one.
        for step in both[changed]:
            reached = rows["observation"][step + 1, 0]
            if rows["reward"][step] == 0:
                assert abs(reached - aim[step]) < HIT + 1e-3
    assert kept > 100


@pytest.mark.parametrize("knowledge", ["decoy", "belief"])
@pytest.mark.parametrize("dense", [True, False])
def test_resumed_after_a_failure_at_any_unit(tmp_path, monkeypatch, knowledge, dense):
    """Wherever it fails, the resumed job has the bytes of an uninterrupted one."""
    job = make_job(knowledge, trajectories=[0, 1], rows=11, steps=33)
    whole = collect(tmp_path, job, dense)
    for failing in (2, 5):
        name = f"after{failing}"
        with monkeypatch.context() as patch, pytest.raises(StorageError):
            refuse_commits(patch, failing)
            collect(tmp_path, job, dense, name)
        again = collect(tmp_path, job, dense, name)
        for trajectory, rows in whole.items():
            assert_equal(again[trajectory], rows)


@pytest.mark.parametrize("knowledge", ["decoy", "belief"])
def test_a_trajectory_does_not_depend_on_its_neighbours_or_shards(tmp_path, knowledge):
    job = make_job(knowledge)
    together = collect(tmp_path, job)
    alone = collect(tmp_path, dataclasses.replace(job, trajectories=(1,)), name="alone")
    assert_equal(alone[1], together[1])


def test_all_goals_are_weighed_where_they_can_be_listed(tmp_path, monkeypatch):
    every = np.linspace(-1, 1, 21, dtype=np.float32)[:, None]
    monkeypatch.setattr(LineGoals, "every", lambda self: every)
    monkeypatch.setattr(LineGoals, "draw", lambda self, generator, count: 1 / 0)
    job = make_job("belief", trajectories=[0], steps=60, schedule=Schedule(1, 0.99))
    rows = collect(tmp_path, job, dense=True)[0]
    assert abs(rows["episode_final_observation"][-2, 0] - Line([0], "belief").goal_B[0]) < 0.1


def test_a_reward_that_no_goal_explains_is_not_counted(tmp_path, monkeypatch):
    """With few goals the true one lies between them: the last that are left are kept."""
    monkeypatch.setattr(LineGoals, "every", lambda self: np.float32([[-0.95], [0.95]]))
    line = Line([0], "belief", dense=False)
    line.goal_B[:] = 0.0
    job = make_job("belief", trajectories=[0], steps=60)
    with Workspace(tmp_path).stage("histories", "h", config={}) as staging:
        collect_job(job, line, Seeking(), staging.directory)
        rows = read(staging, job, 0)
    assert rows["reward"].sum() > 0 and np.isfinite(rows["action"]).all()


def test_what_the_domain_cannot_do_is_refused_with_what_fits(tmp_path, monkeypatch):
    job = make_job("belief")
    with monkeypatch.context() as patch:
        patch.setattr(LineGoals, "rewards", HiddenGoals.rewards)
        with pytest.raises(ConfigError, match="for another goal") as refused:
            collect(tmp_path, job, name="none")
        assert "goal=decoy" in refused.value.fix and refused.value.exit_code == 3
    with monkeypatch.context() as patch:
        rewards = LineGoals.rewards
        patch.setattr(
            LineGoals, "rewards", lambda self, g: None if g.shape[1] > 1 else rewards(self, g)
        )
        with pytest.raises(ConfigError, match="for another goal"):
            collect(tmp_path, job, name="later")
    with monkeypatch.context() as patch:
        patch.setattr(Line, "hidden_goals", None)
        patch.setattr(Line, "__init__", plain(Line.__init__))
        with pytest.raises(ConfigError, match="no hidden goal"):
            collect(tmp_path, make_job("decoy"), name="plain")


def plain(make):
    def made(self, *arguments):
        make(self, *arguments)
        del self.hidden_goals

    return made


def test_episode_seeds_are_those_of_other_histories(tmp_path):
    rows = collect(tmp_path, make_job("decoy"))[1]
    starts = rows["observation"][rows["episode_start"], 0]
    expected = [
        np.random.default_rng(derive_seed(5, "distill", "line", 1, "episode", each)).uniform(
            -0.1, 0.1
        )
        for each in range(len(starts))
    ]
    np.testing.assert_array_equal(starts, np.float32(expected))


@pytest.mark.parametrize("knowledge", ["demonstrator", "decoy"])
def test_noise_is_drawn_once_an_episode(tmp_path, knowledge):
    """The recorded noise is what was used; it stays within an episode and differs between them."""
    schedule = EpisodeNoise(0.5, 0.3)
    job = make_job(knowledge, schedule=schedule, rows=90)
    for trajectory, rows in collect(tmp_path, job).items():
        levels = []
        for number, (start, length) in enumerate(
            zip(rows["episode_start"], rows["episode_length"], strict=True)
        ):
            found = np.unique(rows["noise"][start : start + length])
            generator = stream(5, "distill", "line", trajectory, "level", number)
            assert found.tolist() == [np.float32(draw_level(schedule, generator))]
            levels.append(found[0])
        assert 1.0 in levels and len(set(levels)) > 3
        assert all(level <= 0.5 or level == 1 for level in levels)
        if knowledge == "demonstrator":
            share = rows["noise"][:, None]
            off = rows["action"] - (1 - share) * rows["demonstrator_action"]
            assert (np.abs(off) <= share + 1e-6).all()


def test_noise_is_drawn_once_a_history(tmp_path):
    schedule = HistoryNoise(0.8, 1.0, 0.5)
    job = make_job("belief", schedule=schedule)
    for trajectory, rows in collect(tmp_path, job).items():
        level = draw_level(schedule, stream(5, "distill", "line", trajectory, "level"))
        expected = np.float32(level) * epsilons(90, 1.0, 0.5).astype(np.float32)
        np.testing.assert_array_equal(rows["noise"], expected)
        clean = rows["noise"] == 0
        np.testing.assert_array_equal(rows["action"][clean], rows["demonstrator_action"][clean])


@pytest.mark.parametrize("schedule", [EpisodeNoise(0.5, 0.3), HistoryNoise()])
def test_drawn_noise_is_resumed(tmp_path, monkeypatch, schedule):
    """A resumed run has the same levels, in episodes that go on and in those that begin."""
    job = make_job("decoy", trajectories=[0], rows=8, steps=32, schedule=schedule)
    whole = collect(tmp_path, job)[0]
    with monkeypatch.context() as patch, pytest.raises(StorageError):
        refuse_commits(patch, 2)
        collect(tmp_path, job, name="again")
    assert_equal(collect(tmp_path, job, name="again")[0], whole)


@pytest.mark.parametrize("count", [1, 3])
def test_another_tasks_demonstrator_plays_and_the_tasks_own_is_recorded(tmp_path, count):
    """Up to noise, executed is what the demonstrator that the history names does in an episode."""
    job = make_job(
        "demonstrator", trajectories=range(6), decoys=count, schedule=EpisodeNoise(0.4, 0.1)
    )
    shares, drawn = [], set()
    for trajectory, rows in collect(tmp_path, job).items():
        true = Line([trajectory], "demonstrator").hidden_goals.current()[0]
        own = demonstrated(rows, lambda _, true=true: true)
        np.testing.assert_array_equal(rows["demonstrator_action"], own)
        players = rows["episode_demonstrator"]
        assert players.dtype == np.int16 and len(players) == len(rows["episode_start"])
        others = set(players.tolist()) - {0}
        assert len(others) <= count and others <= set(range(1, len(OTHERS) + 1))
        drawn.add(tuple(sorted(job.drawn_decoys(trajectory))))
        assert {player - 1 for player in others} <= set(job.drawn_decoys(trajectory))

        def player(episode, players=players):
            place = players[episode]
            return Heading(OTHERS[place - 1]) if place else Seeking()

        acted = demonstrated(rows, lambda _, true=true: true, player)
        share = rows["noise"][:, None]
        off = rows["action"] - (1 - share) * acted
        assert (np.abs(off) <= share + 1e-6).all()
        shares += (players > 0).tolist()
    # Each of those who play in a trajectory plays as often.
    assert np.mean(shares) == pytest.approx(count / (count + 1), abs=0.15)
    assert len(drawn) > 1, "trajectories draw different tasks"


def test_who_plays_does_not_tell_the_task(tmp_path):
    """Over episodes the task's own demonstrator is drawn no more often than the other one."""
    job = make_job("demonstrator", trajectories=range(8), steps=400, rows=400, decoys=1)
    players = [rows["episode_demonstrator"] for rows in collect(tmp_path, job).values()]
    own = np.array([np.mean(each == 0) for each in players])
    # Each trajectory has 50 episodes: four standard errors of a coin.
    assert (np.abs(own - 0.5) < 4 * 0.5 / np.sqrt(45)).all()


@pytest.mark.parametrize("schedule", [Schedule(1, 0.2), EpisodeNoise(0.5, 0.1)])
@pytest.mark.parametrize("failing", [1, 2, 3, 5])
def test_histories_with_other_tasks_are_resumed(tmp_path, monkeypatch, schedule, failing):
    """In the middle of an episode of anyone's, and with the table of who played."""
    job = make_job("demonstrator", rows=13, steps=39, schedule=schedule, decoys=2)
    whole = collect(tmp_path, job)
    with monkeypatch.context() as patch, pytest.raises(StorageError):
        refuse_commits(patch, failing)
        collect(tmp_path, job, name="again")
    again = collect(tmp_path, job, name="again")
    for trajectory, rows in whole.items():
        assert_equal(again[trajectory], rows)
    assert {0} < set(np.concatenate([each["episode_demonstrator"] for each in whole.values()]))


def test_another_tasks_demonstrator_begins_each_of_its_episodes_anew(tmp_path):
    """Neighbours whose episodes begin at other steps, and shards, leave a trajectory as it is."""
    job = make_job("demonstrator", trajectories=range(4), decoys=2)
    together = collect(tmp_path, job)
    for trajectory in (0, 3):
        alone = dataclasses.replace(job, trajectories=(trajectory,), shard_rows=90)
        found = collect(tmp_path, alone, name=f"alone{trajectory}")[trajectory]
        # Noise is keyed by the shard: what is executed follows only in the same shards.
        same = collect(
            tmp_path, dataclasses.replace(alone, shard_rows=30), name=f"same{trajectory}"
        )[trajectory]
        assert_equal(same, together[trajectory])
        players = together[trajectory]["episode_demonstrator"]
        np.testing.assert_array_equal(found["episode_demonstrator"], players)
