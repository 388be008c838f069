"""Tasks in which only reward tells the goal: stepping, goals, the split of goals, and scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.demonstrators.config import DemonstratorsConfig
from pipelines.demonstrators.experts import builtin_policy
from pipelines.demonstrators.selection import select
from pipelines.domains import checked
from pipelines.domains.hidden_goal import SIMULATED, HiddenGoal
from pipelines.domains.hidden_goal.bandit import uniform
from pipelines.domains.hidden_goal.batch import GOAL_SETS, held_out
from pipelines.domains.mujoco import make_changed
from pipelines.domains.registry import resolve_options
from pipelines.playing.episodes import policy_for
from pipelines.report.snapshot import take_snapshot
from pipelines.rng import stream
from pipelines.tasks.registry import catalogue

DOMAIN = HiddenGoal()
TASKS = {task.name: task for task in DOMAIN.tasks()}
PLAIN = [name for name in TASKS if name not in SIMULATED]
plain_task = pytest.mark.parametrize("name", PLAIN)
simulated_task = pytest.mark.parametrize("name", SIMULATED)
every_task = pytest.mark.parametrize(
    "name", [*PLAIN, *(pytest.param(name, marks=pytest.mark.simulator) for name in SIMULATED)]
)
any_task = st.sampled_from(sorted(PLAIN))
seed = st.integers(0, 2**31 - 1)


def make(name: str, streams: list[int], **options: Any) -> Any:
    resolved = resolve_options(DOMAIN, options)
    return checked.make_batch(DOMAIN, TASKS[name], len(streams), resolved, streams)


def random_actions(
    name: str, batch: Any, key: int, steps: int, *, apart: bool = False
) -> np.ndarray:
    """Actions (T, B, A): the same for all copies, or of each its own."""
    actions = batch.actions
    return actions.draw(
        [stream(key, "actions", copy if apart else 0) for copy in range(batch.size)], steps
    )


def observations(batch: Any, actions_TBA: np.ndarray, episode: int) -> tuple[Any, Any]:
    """Play one episode; return what was seen (T + 1, B, O) and paid (T, B)."""
    seen, paid = [batch.reset(range(batch.size), [episode] * batch.size)], []
    for action_BA in actions_TBA:
        after = batch.step(action_BA)
        seen.append(after.observation_BO)
        paid.append(after.reward_B)
    return np.array(seen), np.array(paid)


def total(name: str, batch: Any, act: Any) -> np.ndarray:
    """Return what an episode of each copy pays (B,)."""
    observation_BO = batch.reset(range(batch.size), list(range(batch.size)))
    total_B = np.zeros(batch.size)
    for step in range(TASKS[name].horizon):
        after = batch.step(act(step, observation_BO))
        observation_BO = after.observation_BO
        total_B += after.reward_B
    return total_B


def demonstrator(name: str, batch: Any) -> Any:
    spec = builtin_policy(TASKS[name], DOMAIN, resolve_options(DOMAIN, {}))
    assert spec is not None
    return policy_for(batch, spec, DOMAIN)


@settings(max_examples=60, deadline=None)
@given(any_task, st.lists(seed, min_size=1, max_size=4), seed, seed)
def test_a_step_pays_what_rewards_says_of_its_goal(
    name: str, streams: list[int], episode: int, key: int
) -> None:
    """To the last bit, of the true goal among others."""
    batch = make(name, streams)
    goals = batch.hidden_goals
    true_BG = goals.current()
    assert true_BG.shape == (len(streams), goals.dim) and true_BG.dtype == np.float32
    others_PG = goals.draw(stream(key, "others"), 5)
    goal_BPG = np.concatenate(
        [true_BG[:, None], np.broadcast_to(others_PG, (len(streams), 5, goals.dim))], axis=1
    )
    batch.reset(range(batch.size), [episode + copy for copy in range(batch.size)])
    for action_BA in random_actions(name, batch, key, TASKS[name].horizon):
        after = batch.step(action_BA)
        reward_BP = goals.rewards(goal_BPG)
        assert reward_BP.shape == (len(streams), 6) and reward_BP.dtype == np.float64
        np.testing.assert_array_equal(reward_BP[:, 0], after.reward_B)
    assert after.truncated_B.all() and not after.terminated_B.any()
    np.testing.assert_array_equal(goals.current(), true_BG)


@settings(max_examples=30, deadline=None)
@given(any_task, st.lists(seed, min_size=2, max_size=4), seed, seed)
def test_a_copy_does_the_same_alone_and_in_its_second_episode(
    name: str, streams: list[int], episode: int, key: int
) -> None:
    batch, last = make(name, streams), make(name, streams[-1:])
    actions_TBA = random_actions(name, batch, key, TASKS[name].horizon)
    together = observations(batch, actions_TBA, episode)
    observations(last, actions_TBA[:, -1:], episode + 1)
    alone = observations(last, actions_TBA[:, -1:], episode)
    for every, one in zip(together, alone, strict=True):
        np.testing.assert_array_equal(every[:, -1:], one)


@plain_task
def test_two_goals_differ_in_reward_alone(name: str) -> None:
    """The same episodes and actions look the same to the byte; some pay other rewards."""
    first, second = make(name, [1] * 64), make(name, list(range(64)))
    np.testing.assert_array_equal(first.hidden_goals.current()[0], first.hidden_goals.current()[1])
    assert len(np.unique(second.hidden_goals.current(), axis=0)) > 32
    policy, paid = demonstrator(name, first), []
    seen, also_seen = (batch.reset(range(64), [7] * 64) for batch in (first, second))
    for _ in range(TASKS[name].horizon):
        np.testing.assert_array_equal(seen, also_seen)
        action_BA = policy.act(first.demonstrator_view(seen))
        after, also_after = first.step(action_BA), second.step(action_BA)
        seen, also_seen = after.observation_BO, also_after.observation_BO
        paid.append(after.reward_B - also_after.reward_B)
    assert np.any(paid)


@every_task
def test_who_is_shown_the_goal(name: str) -> None:
    """The options change what is seen, and nothing else."""
    streams = list(range(8))
    told = make(name, streams, goal="demonstrator")
    actions_TBA = random_actions(name, told, 0, 5)
    seen, paid = observations(told, actions_TBA, 7)
    view_BO = told.demonstrator_view(seen[-1])
    assert (view_BO != seen[-1]).any()
    for goal in ("decoy", "belief"):
        assert make(name, streams, goal=goal).hidden_goals.knowledge == goal
    hidden = make(name, streams, goal="hidden")
    assert hidden.hidden_goals is None
    visible = make(name, streams, goal="visible")
    assert visible.hidden_goals is None
    for batch, expected in ((hidden, seen[-1]), (visible, view_BO)):
        also_seen, also_paid = observations(batch, actions_TBA, 7)
        np.testing.assert_array_equal(also_seen[-1], expected)
        np.testing.assert_array_equal(also_paid, paid)
    other_BG = told.hidden_goals.draw(stream(0, "other"), 8)
    assert (told.hidden_goals.show(seen[-1], other_BG) != view_BO).any()


@every_task
def test_a_fifth_of_the_goals_is_held_out(name: str) -> None:
    """Training and held-out goals have no cell in common, and all are theirs together."""
    cells = {}
    for goals in ("training", "held-out", "all"):
        batch = make(name, list(range(5)), goals=goals)
        drawn_NG = batch.hidden_goals.draw(stream(0, "goals"), 2000)
        cells[goals] = batch.unwrapped.cells(
            np.concatenate([drawn_NG, batch.hidden_goals.current()])
        )
    assert not held_out(cells["training"]).any()
    assert held_out(cells["held-out"]).all()
    assert 0.15 < held_out(cells["all"]).mean() < 0.25


@plain_task
def test_the_shipped_scores_are_those_of_today(name: str) -> None:
    """Mean returns of 400 goals, of random play and of the demonstrator."""
    score = TASKS[name].scores["measured"]
    batch = make(name, list(range(1000, 1400)))
    actions_TBA = random_actions(name, batch, 0, TASKS[name].horizon, apart=True)
    policy = demonstrator(name, batch)
    for act, mean, std in (
        (lambda step, _: actions_TBA[step], score.random, score.random_std),
        (
            lambda _, seen: policy.act(batch.demonstrator_view(seen)),
            score.expert,
            score.expert_std,
        ),
    ):
        found_B = total(name, batch, act)
        assert abs(found_B.mean() - mean) <= 4 * std / np.sqrt(400) + 1e-3


@plain_task
def test_a_demonstrator_that_is_told_another_goal_is_worse(name: str) -> None:
    """What it does follows from the goal that it is shown."""
    batch = make(name, list(range(300)))
    goals, policy = batch.hidden_goals, demonstrator(name, batch)
    score = TASKS[name].scores["measured"]

    def shown(goal_BG: np.ndarray) -> float:
        return total(name, batch, lambda _, seen: policy.act(goals.show(seen, goal_BG))).mean()

    assert score.normalize(shown(goals.current())) > 0.9
    assert score.normalize(shown(goals.draw(stream(0, "other"), batch.size))) < 0.5


@pytest.mark.filterwarnings("ignore::UserWarning")
@every_task
def test_a_plain_environment_draws_a_goal_at_each_reset_until_it_is_fixed(name: str) -> None:
    env: Any = checked.make_env(DOMAIN, TASKS[name], resolve_options(DOMAIN, {}))
    check_env(env, skip_render_check=True)

    def goal(seed: int | None) -> tuple[float, ...]:
        env.reset(seed=seed)
        return tuple(env.unwrapped.hidden_goals.current()[0].tolist())

    assert goal(1) == goal(1)
    assert len({goal(1), goal(2), goal(3), goal(None), goal(None)}) >= 3
    DOMAIN.begin_stream(env, {}, 5)
    batch = make(name, [5])
    kept = tuple(batch.hidden_goals.current()[0].tolist())
    assert {goal(1), goal(None), goal(2)} == {kept}


@pytest.mark.parametrize(
    "name", ["point-ring", "dark-room", "dark-key-to-door", "bernoulli-bandit-5"]
)
def test_a_picture_shows_the_goal_and_the_demonstrator_reaches_it(name: str) -> None:
    """The demonstrator of a picture sees what the observation does not show."""
    task = TASKS[name]
    taken = take_snapshot(task, size=(320, 240))
    assert taken.image_HWC.shape == (240, 320, 3) and taken.image_HWC.std() > 5
    assert task.scores["measured"].normalize(taken.episode_return) > 0.5
    other = take_snapshot(task, size=(320, 240), seed=1)
    assert (taken.image_HWC != other.image_HWC).any()


@pytest.mark.simulator
@simulated_task
def test_a_body_moves_as_without_a_goal_and_pays_for_it(name: str) -> None:
    """Observations are the simulator's to the byte whatever the goal is; rewards are exact."""
    batch, other = make(name, [1, 2, 3]), make(name, [4, 5, 6])
    goals, env_id = batch.hidden_goals, batch.unwrapped.env_id
    bare = make_changed(env_id, {}, batch.unwrapped.arguments)
    seen, _ = batch.reset([0, 1, 2], [7, 8, 9]), bare.reset(seed=7)
    also_seen = other.reset([0, 1, 2], [7, 8, 9])
    goal_BPG = np.concatenate(
        [goals.current()[:, None], goals.draw(stream(0, "other"), 12).reshape(3, 4, -1)], axis=1
    )
    for action_BA in random_actions(name, batch, 0, 25, apart=True):
        np.testing.assert_array_equal(seen, also_seen)
        after, also_after = batch.step(action_BA), other.step(action_BA)
        observation_O, reward, *_, info = bare.step(action_BA[0])
        seen, also_seen = after.observation_BO, also_after.observation_BO
        assert (after.reward_B != also_after.reward_B).all()
        np.testing.assert_array_equal(goals.rewards(goal_BPG)[:, 0], after.reward_B)
        if env_id == "Reacher-v5":
            kept = [0, 1, 2, 3, 6, 7]
            np.testing.assert_array_equal(seen[0, kept], observation_O[kept].astype(np.float32))
            target = np.array(observation_O[None, None, 4:6], np.float32).repeat(3, axis=0)
            assert goals.rewards(target)[0, 0] == pytest.approx(reward, abs=1e-7)
        else:
            size = len(observation_O)
            np.testing.assert_array_equal(seen[0, :size], observation_O.astype(np.float32))
            velocity = [info["x_velocity"], info.get("y_velocity", 0.0)]
            cost = float(np.square(action_BA[0].astype(float)).sum())
            goal_G = goals.current()[0].astype(float)
            expected = {
                "HalfCheetah-v5": -abs(velocity[0] - goal_G[0]) - 0.05 * cost,
                "Ant-v5": float(np.dot(velocity, goal_G[:2])) + 1 - 0.5 * cost
                if len(goal_G) == 2
                else 0.0,
            }
            assert after.reward_B[0] == pytest.approx(expected[env_id])
    assert set(batch.packages) == {"gymnasium", "mujoco"}


@pytest.mark.simulator
def test_an_ant_that_is_not_well_ends_its_episode_and_is_paid_less() -> None:
    batch = make("ant-direction", [1, 2])
    batch.reset([0, 1], [1, 2])
    body = batch.unwrapped._envs[0]
    position = body.data.qpos.copy()
    position[2] = 5.0
    body.set_state(position, body.data.qvel.copy())
    after = batch.step(np.zeros((2, 8), np.float32))
    assert after.terminated_B.tolist() == [True, False]
    assert after.reward_B[0] < after.reward_B[1]


@pytest.mark.simulator
@pytest.mark.parametrize("name", ["reacher-hidden", "half-cheetah-velocity"])
def test_the_shipped_scores_of_bodies_are_those_of_today(name: str) -> None:
    score, batch = TASKS[name].scores["measured"], make(name, list(range(1000, 1030)))
    policy = demonstrator(name, batch)
    found_B = total(name, batch, lambda _, seen: policy.act(batch.demonstrator_view(seen)))
    assert abs(found_B.mean() - score.expert) <= 4 * score.expert_std / np.sqrt(30)
    blind_B = total(name, batch, lambda _, seen: policy.act(seen))
    assert score.normalize(blind_B.mean()) < 0.9 * score.normalize(found_B.mean())


def walk(batch: Any, moves: str) -> list[float]:
    batch.reset([0], [0])
    return [float(batch.step(np.array(["-udlr".index(move)])).reward_B[0]) for move in moves]


def test_a_door_opens_once_and_after_the_key() -> None:
    """Key one to the right of the middle, door one below it."""
    batch = make("dark-key-to-door", [0])
    batch.unwrapped.goal_BG[0] = 5, 4, 4, 3
    # To the door without key, the key, it again, the door, it again, and back to both.
    assert walk(batch, "dur-lddu-ulr") == [0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]
    assert walk(batch, "rl") == [1, 0]
    # Walls: nothing moves on.
    assert walk(batch, "rlluuuuuuuuuu") == [1] + [0] * 12
    seen = batch.unwrapped.observe()[0]
    assert (seen[:9].argmax(), seen[9:18].argmax()) == (3, 8)


def test_finite_goals_are_all_told() -> None:
    """A belief over them holds each once, those of the set alone."""
    counts = {
        name: [len(make(name, [0], goals=goals).hidden_goals.every()) for goals in GOAL_SETS]
        for name in ("dark-room", "dark-key-to-door")
    }
    assert counts["dark-room"][2] == 81 and counts["dark-key-to-door"][2] == 81 * 80
    assert all(training + held == every for training, held, every in counts.values())
    assert make("point-ring", [0]).hidden_goals.every() is None


@pytest.mark.parametrize("name", ["bernoulli-bandit-5", "contextual-bandit-5"])
def test_a_belief_about_arms_does_not_know_the_chance(name: str) -> None:
    """Equal rewards say the same, whatever the episode's chance was that made them."""
    batch = make(name, [0])
    goals = batch.hidden_goals
    goal_BPG = goals.draw(stream(0, "goals"), 50)[None]
    told = []
    for episode in range(20):
        batch.reset([0], [episode])
        batch.unwrapped._context_BX = np.ones((1, 2))
        batch.step(np.array([3]))
        told.append(goals.log_likelihoods(goal_BPG, np.ones(1)))
    np.testing.assert_array_equal(told, [told[0]] * 20)
    assert np.ptp(told[0]) > 1


def test_chance_is_uniform_and_its_channels_and_steps_are_independent() -> None:
    seed_B, step_B = np.arange(20_000, dtype=np.uint64), np.zeros(20_000, np.int64)
    drawn = np.array(
        [uniform(seed_B, step_B + step, channel) for step in (0, 1) for channel in (0, 1)]
    )
    assert (drawn >= 0).all() and (drawn < 1).all()
    for row in drawn:
        counts, _ = np.histogram(row, 20, (0, 1))
        assert abs(counts - 1000).max() < 160
    between = np.corrcoef(drawn) - np.eye(4)
    assert abs(between).max() < 0.03
    assert abs(np.corrcoef(drawn[0][:-1], drawn[0][1:])[0, 1]) < 0.03


def test_they_are_beside_the_tasks_of_the_paper(tmp_path: Any) -> None:
    """In no table of the paper's, and not among what is taken where nothing is named."""
    from pipelines.artifacts.workspace import Workspace

    assert not {task.name for task in catalogue().tasks} & set(TASKS)
    workspace = Workspace(tmp_path)
    assert not {task.name for task in select(DemonstratorsConfig(), workspace).tasks} & set(TASKS)
    chosen = select(DemonstratorsConfig(domains=("hidden-goal",)), workspace)
    assert {task.name for task in chosen.tasks} == set(TASKS) - set(chosen.skipped)
    assert set(chosen.skipped) == {"ant-direction"}
