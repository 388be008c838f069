"""Environments are checked where they are made, reset and stepped, and end at the horizon."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from pipelines.actions import Discrete
from pipelines.domains.base import BatchEnvironment, Domain, StepBatch
from pipelines.domains.checked import make_batch, make_env, make_rendered_env
from pipelines.errors import ConfigError, VintixError
from pipelines.tasks.spec import TaskSpec

HORIZON = 4
TASK = TaskSpec(
    name="plain-task",
    domain="plain",
    group="plain",
    observation_dim=3,
    action_dim=2,
    horizon=HORIZON,
)
ROOT = Path(__file__).parents[2]


class PlainEnv(gymnasium.Env[Any, Any]):
    """Never truncates; ends for a reason of its own after `length` steps."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 - Gymnasium's own attribute

    def __init__(self, length: int = 1000) -> None:
        self.observation_space = gymnasium.spaces.Box(-9, 9, (3,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
        self.length, self.steps = length, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.steps = 0
        return np.zeros(3, np.float32), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        return np.full(3, self.steps, np.float32), 1.0, self.steps == self.length, False, {}

    def render(self) -> Any:
        return np.zeros((4, 4, 3), np.uint8)


class PlainBatch(BatchEnvironment):
    def __init__(self, size: int) -> None:
        self.size, self.observation_dim = size, 3
        self.action_low_A, self.action_high_A = -np.ones(2, np.float32), np.ones(2, np.float32)

    def reset(self, indices: Any, seeds: Any) -> Any:
        return np.zeros((len(indices), 3), np.float32)

    def step(self, action_BA: Any) -> Any:
        size = self.size
        flags = np.zeros(size, np.bool_)
        observation_BO = np.zeros((size, 3), np.float32)
        return StepBatch(observation_BO, np.ones(size), flags, flags.copy(), None)


class Plain(Domain):
    name = "plain"

    def __init__(self, make: Callable[[], Any] = PlainEnv, batch: Any = None) -> None:
        self.make, self.batch = make, batch

    def tasks(self) -> list[TaskSpec]:
        return [TASK]

    def make_env(self, task: TaskSpec, options: Any) -> Any:
        return self.make()

    def make_batch(self, task: TaskSpec, size: int, options: Any, stream_seeds: Any) -> Any:
        if self.batch is not None:
            return self.batch(size)
        return super().make_batch(task, size, options, stream_seeds)


def test_environments_are_made_in_one_place() -> None:
    """Whoever asks a domain itself gets neither the checks nor the horizon."""
    own = re.compile(r"\.make_(env|batch|rendered_env)\(|LoopBatch\(\[domain")
    found = [
        path.relative_to(ROOT).as_posix()
        for folder in ("pipelines", "vintix_cli", "runs")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if own.search(path.read_text()) and "/domains/" not in path.as_posix()
    ]
    assert found == []


@pytest.mark.parametrize("batch", [None, PlainBatch])
def test_an_episode_ends_at_the_horizon_for_every_copy(batch: Any) -> None:
    copies = make_batch(Plain(batch=batch), TASK, 3, {}, [0, 0, 0])
    copies.reset([0, 1, 2], [0, 0, 0])
    ends = []
    for step in range(3 * HORIZON):
        after = copies.step(np.zeros((3, 2), np.float32))
        ends.append(after.truncated_B.tolist())
        assert not after.terminated_B.any()
        again = np.flatnonzero(after.truncated_B).tolist()
        again = [2] if step == 1 else again
        if again:
            copies.reset(again, [0] * len(again))
    together = [step % HORIZON == HORIZON - 1 for step in range(len(ends))]
    assert [each[:2] for each in ends] == [[over, over] for over in together]
    # Reset in the middle of an episode, it has a whole one before it.
    assert [step for step, each in enumerate(ends) if each[2]] == [5, 9]


def test_what_the_domain_says_of_an_end_stays() -> None:
    copies = make_batch(Plain(lambda: PlainEnv(length=HORIZON)), TASK, 1, {}, [0])
    env = make_env(Plain(lambda: PlainEnv(length=HORIZON)), TASK, {})
    copies.reset([0], [0])
    env.reset(seed=0)
    for _ in range(HORIZON):
        after = copies.step(np.zeros((1, 2), np.float32))
        single = env.step(np.zeros(2, np.float32))
    assert (after.terminated_B[0], after.truncated_B[0]) == (True, False)
    assert single[2:4] == (True, False)


@pytest.mark.parametrize("rendered", [False, True])
def test_a_single_environment_ends_at_the_horizon(rendered: bool) -> None:
    env: Any = (
        make_rendered_env(Plain(), TASK, {}, (4, 4), 0) if rendered else make_env(Plain(), TASK, {})
    )
    for _ in range(2):
        env.reset(seed=0)
        ends = [env.step(np.zeros(2, np.float32))[2:4] for _ in range(HORIZON)]
        assert ends == [(False, False)] * (HORIZON - 1) + [(False, True)]


def _spaces(**changed: Any) -> Callable[[], PlainEnv]:
    def make() -> PlainEnv:
        env = PlainEnv()
        vars(env).update(changed)
        return env

    return make


Box = gymnasium.spaces.Box


@pytest.mark.parametrize(
    "changed",
    [
        {"observation_space": Box(-9, 9, (2,), np.float32)},
        {"observation_space": Box(-9, 9, (3, 1), np.float32)},
        {"observation_space": gymnasium.spaces.Dict({"x": Box(-9, 9, (3,), np.float32)})},
        {"action_space": Box(-1, 1, (3,), np.float32)},
        {"action_space": gymnasium.spaces.Discrete(2)},
        {"action_space": Box(-np.inf, np.inf, (2,), np.float32)},
    ],
)
def test_spaces_that_are_not_the_tasks_are_refused(changed: dict[str, Any]) -> None:
    domain = Plain(_spaces(**changed))
    for make in (
        lambda: make_batch(domain, TASK, 2, {}, [0, 0]),
        lambda: make_env(domain, TASK, {}),
    ):
        with pytest.raises(ConfigError) as caught:
            make()
        assert caught.value.where == "domain plain, task plain-task"
        assert caught.value.expected and caught.value.found


def test_copies_with_discrete_actions_take_whole_numbers() -> None:
    """Gymnasium's environments get plain ones, which is what they index with."""
    given: list[Any] = []

    class Choosing(PlainEnv):
        def step(self, action: Any) -> Any:
            given.append(action)
            return super().step(action)

    class ChoosingBatch(PlainBatch):
        actions = Discrete(3)

        def __init__(self, size: int) -> None:
            self.size, self.observation_dim = size, 3

    task = replace(TASK, action_dim=3, actions=Discrete(3))

    def make_choosing() -> PlainEnv:
        env = Choosing()
        env.action_space = gymnasium.spaces.Discrete(3)
        return env

    for domain in (Plain(make_choosing), Plain(batch=ChoosingBatch)):
        with make_batch(domain, task, 2, {}, [0, 0]) as copies:
            assert copies.actions == Discrete(3)
            copies.reset([0, 1], [0, 0])
            copies.step(np.array([2, 0]))
        with pytest.raises(ConfigError, match="2 copies, 3 observation dims, 3 discrete actions"):
            make_batch(domain, TASK, 2, {}, [0, 0])
    assert given == [2, 0] and {type(each) for each in given} == {int}
    env = make_env(Plain(make_choosing), task, {})
    env.reset(seed=0)
    env.step(env.action_space.sample())
    with pytest.raises(ConfigError, match="starts at 0"):
        make_env(Plain(_spaces(action_space=gymnasium.spaces.Discrete(3, start=1))), task, {})


def _returning(reset: Any = None, step: Any = None) -> Callable[[], PlainEnv]:
    class Env(PlainEnv):
        def reset(self, **given: Any) -> Any:
            found = super().reset(**given)
            return found if reset is None else reset(found)

        def step(self, action: Any) -> Any:
            found = super().step(action)
            return found if step is None or self.steps < 2 else step(found)

    return Env


def _with(index: int, value: Any) -> Callable[[Any], Any]:
    return lambda found: (*found[:index], value, *found[index + 1 :])


NAN = np.array([0, np.nan, 0], np.float32)


@pytest.mark.parametrize(
    ("make", "kind", "said"),
    [
        (_returning(reset=lambda found: found[0]), ConfigError, "2: observation, info"),
        (_returning(reset=_with(0, np.zeros(1, np.float32))), ConfigError, "(3,)"),
        (_returning(reset=_with(0, [0.0, 0.0, 0.0])), ConfigError, "(3,)"),
        (_returning(reset=_with(0, np.zeros(3))), ConfigError, "float32"),
        (_returning(reset=_with(0, NAN)), VintixError, "not finite"),
        (_returning(step=lambda found: found[:4]), ConfigError, "a tuple of 5"),
        (_returning(step=_with(0, np.zeros(1, np.float32))), ConfigError, "(3,)"),
        (_returning(step=_with(0, np.zeros(3, np.complex64))), ConfigError, "complex64"),
        (_returning(step=_with(0, NAN)), VintixError, "not finite"),
        (_returning(step=_with(1, np.ones(1))), ConfigError, "reward"),
        (_returning(step=_with(1, float("inf"))), VintixError, "reward is not finite"),
        (_returning(step=_with(2, None)), ConfigError, "terminated"),
        (_returning(step=_with(3, np.zeros(1, np.bool_))), ConfigError, "truncated"),
        (_returning(step=_with(4, None)), ConfigError, "info"),
    ],
)
def test_what_an_environment_returns_is_checked(
    make: Callable[[], PlainEnv], kind: type[VintixError], said: str
) -> None:
    """At the reset or at the second step; a learner is no remedy for it."""
    copies = make_batch(Plain(make), TASK, 2, {}, [0, 0])
    env = make_env(Plain(make), TASK, {})

    def batch_steps() -> None:
        copies.reset([0, 1], [0, 0])
        for _ in range(2):
            copies.step(np.zeros((2, 2), np.float32))

    def env_steps() -> None:
        env.reset(seed=0)
        for _ in range(2):
            env.step(np.zeros(2, np.float32))

    for steps in (batch_steps, env_steps):
        with pytest.raises(VintixError, match=re.escape(said)) as caught:
            steps()
        assert type(caught.value) is kind
        assert str(caught.value.where).startswith("domain plain, task plain-task")
        assert caught.value.expected and caught.value.found
        assert "learning" not in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "kind", "said"),
    [
        ({"observation_BO": np.zeros((1, 3), np.float32)}, ConfigError, "(2, 3)"),
        ({"observation_BO": np.zeros((2, 3))}, ConfigError, "float32"),
        ({"observation_BO": np.full((2, 3), np.inf, np.float32)}, VintixError, "not finite"),
        ({"reward_B": np.zeros((2, 1))}, ConfigError, "reward_B"),
        ({"reward_B": np.zeros(2, np.float32)}, ConfigError, "float64"),
        ({"reward_B": np.array([0.0, np.nan])}, VintixError, "copy 1, step 1"),
        ({"terminated_B": np.zeros(2)}, ConfigError, "terminated_B"),
        ({"truncated_B": None}, ConfigError, "truncated_B"),
        ({"success_B": np.zeros(2)}, ConfigError, "success_B"),
    ],
)
def test_what_a_batch_returns_is_checked(
    changed: dict[str, Any], kind: type[VintixError], said: str
) -> None:
    class Batch(PlainBatch):
        def step(self, action_BA: Any) -> Any:
            return replace(super().step(action_BA), **changed)

    copies = make_batch(Plain(batch=Batch), TASK, 2, {}, [0, 0])
    copies.reset([0, 1], [0, 0])
    with pytest.raises(VintixError, match=re.escape(said)) as caught:
        copies.step(np.zeros((2, 2), np.float32))
    assert type(caught.value) is kind
    assert "domain plain, task plain-task" in str(caught.value.where)


@pytest.mark.parametrize("wrong", [np.zeros((1, 3), np.float32), np.zeros((2, 3)), None])
def test_what_a_batch_begins_with_is_checked(wrong: Any) -> None:
    class Batch(PlainBatch):
        def reset(self, indices: Any, seeds: Any) -> Any:
            return wrong

    copies = make_batch(Plain(batch=Batch), TASK, 2, {}, [0, 0])
    with pytest.raises(ConfigError, match=r"\(2, 3\), float32"):
        copies.reset([0, 1], [0, 0])


@pytest.mark.parametrize(
    "changed",
    [
        {"size": 3},
        {"observation_dim": 4},
        {"action_low_A": np.zeros(3)},
        {"action_high_A": np.full(2, np.nan)},
    ],
)
def test_a_batch_that_does_not_fit_is_refused(changed: dict[str, Any]) -> None:
    def make(size: int) -> PlainBatch:
        batch = PlainBatch(size)
        vars(batch).update(changed)
        return batch

    with pytest.raises(ConfigError, match="plain-task"):
        make_batch(Plain(batch=make), TASK, 2, {}, [0, 0])


def test_large_rewards_are_numbers() -> None:
    class Batch(PlainBatch):
        def step(self, action_BA: Any) -> Any:
            return replace(super().step(action_BA), reward_B=np.full(self.size, 1.7e308))

    copies = make_batch(Plain(batch=Batch), TASK, 2, {}, [0, 0])
    copies.reset([0, 1], [0, 0])
    assert copies.step(np.zeros((2, 2), np.float32)).reward_B[0] == 1.7e308


def test_an_action_that_is_no_number_is_not_the_environments_fault() -> None:
    class Batch(PlainBatch):
        def step(self, action_BA: Any) -> Any:
            return replace(super().step(action_BA), reward_B=action_BA.sum(axis=1, dtype=float))

    copies = make_batch(Plain(batch=Batch), TASK, 1, {}, [0])
    copies.reset([0], [0])
    with pytest.raises(VintixError, match="An action is not finite"):
        copies.step(np.full((1, 2), np.nan, np.float32))
