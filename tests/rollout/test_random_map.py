"""Rollouts of models that were trained through random maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.model.batch import GroupBatch
from pipelines.model.normalization import STD_EPSILON
from pipelines.model.random_map import RandomMap
from pipelines.model.saved import load_model
from pipelines.model.vintix import Vintix
from pipelines.playing import model as playing
from pipelines.playing.environments import EnvironmentWorkers
from pipelines.playing.model import Memory, roll, stream_map
from pipelines.playing.streams import StreamTask, episode_seed
from pipelines.reporter import NullReporter
from pipelines.rng import stream
from pipelines.rollout.config import RolloutConfig
from pipelines.rollout.stage import run

from .test_prompt import Recorded
from .toy import (
    EVEN,
    UNEVEN,
    WIDE,
    ToyBatch,
    install,
    make_toy,
    saved_task,
    stream_task,
    tiny_model,
    viewed,
    write_checkpoint,
)

SEED = 11


def play(
    model: Vintix, tasks: list[StreamTask], random_map: bool = True, **options: Any
) -> dict[str, Any]:
    shown = [viewed(task, random_map=random_map) for task in tasks]
    return roll(model, shown, make_batch=make_toy, **{"seed": SEED, **options})


def orthogonal(size: int, generator: np.random.Generator) -> np.ndarray:
    q, r = np.linalg.qr(generator.standard_normal((size, size)))
    return q * np.sign(np.diagonal(r))


def maps_by_hand(task: StreamTask, number: int, normalized: bool) -> tuple[Callable, ...]:
    """Return the maps of observations, of actions, and of actions back, from their formulas."""
    generator = stream(SEED, "rollout", task.spec.name, number, "map")
    q_obs = orthogonal(task.spec.observation_dim, generator)
    q_act = orthogonal(task.spec.action_dim, generator)
    one = task.view.statistics
    o_mean, o_scale = one.observation_mean, one.observation_std + STD_EPSILON
    a_mean, a_scale = one.action_mean, one.action_std + STD_EPSILON

    def seen(x: np.ndarray) -> np.ndarray:
        mapped = ((x - o_mean) / o_scale) @ q_obs.T
        return mapped if normalized else o_mean + o_scale * mapped

    return (
        seen,
        lambda a: a_mean + a_scale * (((a - a_mean) / a_scale) @ q_act.T),
        lambda a: a_mean + a_scale * (((a - a_mean) / a_scale) @ q_act),
    )


def play_by_hand(model: Vintix, task: StreamTask, number: int) -> np.ndarray:
    """Play a stream with a full pass over its whole history at each step; return its rewards."""
    spec, one = task.spec, task.view.statistics
    normalized = model.config.normalize_observations
    seen, mapped, back = maps_by_hand(task, number, normalized)
    observations, actions, rewards, steps, received = [], [], [], [], []
    if task.view.prompt is not None:
        rows = task.view.prompt.rows(number)
        observations += list(seen(rows.observation_LO))
        actions += list(mapped(rows.previous_action_LA))
        rewards += list(rows.previous_reward_L * one.reward_scale)
        steps += list(rows.episode_step_L)
    env = ToyBatch(spec, 1, [0])
    action, reward = np.zeros(spec.action_dim, np.float32), 0.0
    for episode in range(task.shots):
        observation = env.reset([0], [episode_seed(SEED, spec, number, episode)])[0]
        for step in range(spec.horizon):
            observations.append(seen(observation))
            actions.append(mapped(action))
            rewards.append(reward * one.reward_scale)
            steps.append(step)
            history = GroupBatch(
                spec.group,
                _one(observations),
                _one(actions),
                _one(rewards),
                torch.tensor(np.array(steps))[None],
                action_mean_BA=_one(one.action_mean),
                action_std_BA=_one(one.action_std),
            )
            with torch.no_grad():
                predicted = model([history])[0][0, -1].numpy()
            action = back(predicted).astype(np.float32)
            action = np.clip(action, *env.actions.bounds)
            result = env.step(action[None])
            observation, reward = result.observation_BO[0], result.reward_B[0]
            received.append(reward)
    return np.array(received)


def _one(values: Any) -> torch.Tensor:
    return torch.tensor(np.array(values), dtype=torch.float32)[None]


@pytest.mark.parametrize(
    ("normalize", "prompt"),
    [
        ({}, 0),
        ({"normalize_actions": True}, 7),
        ({"normalize_observations": False}, 7),
    ],
)
def test_a_stream_is_the_loop_written_by_hand(normalize: dict[str, bool], prompt: int) -> None:
    """Mapped observation and executed action, action mapped back and clipped, one map a stream."""
    model = tiny_model(**normalize)
    tasks = [stream_task(EVEN, 3, [0, 2]), stream_task(WIDE, 3, [1])]
    if prompt:
        tasks = [viewed(task, prompt=Recorded(task.spec, prompt)) for task in tasks]
    found = play(model, tasks)
    plain = play(model, tasks, random_map=False)
    for task in tasks:
        for number in task.streams:
            rewards = found[task.spec.name][number].reward_T
            np.testing.assert_allclose(rewards, play_by_hand(model, task, number), atol=2e-5)
            if task.spec.action_dim > 1:
                others = plain[task.spec.name][number].reward_T
                assert np.abs(rewards - others).max() > 1e-3, "the maps would not matter"


def test_maps_that_do_nothing_give_the_plain_rollout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, prompts and all: nothing but the map is changed by the option."""

    def identity(seed: int, task: StreamTask, copy: int, *, normalized: bool) -> RandomMap:
        actions, observations = (
            np.eye(size, dtype=np.float32)
            for size in (task.spec.action_dim, task.spec.observation_dim)
        )
        zero = np.zeros(task.spec.action_dim, np.float32)
        centre = np.zeros(task.spec.observation_dim, np.float32)
        return RandomMap(observations, centre, actions, actions, zero)

    monkeypatch.setattr(playing, "stream_map", identity)
    model = tiny_model()
    tasks = [
        stream_task(spec, 4, range(3), prompt=Recorded(spec, 5))
        for spec in (UNEVEN, WIDE)
    ]  # fmt: skip
    mapped, plain = play(model, tasks), play(model, tasks, random_map=False)
    for name, records in plain.items():
        for number, record in records.items():
            assert record.reward_T.tobytes() == mapped[name][number].reward_T.tobytes()


def test_results_do_not_depend_on_the_batch() -> None:
    """To 1e-5 beyond the context: streams alone, of several tasks, some of which end early."""
    model, memory = tiny_model(), Memory(8)
    tasks = [stream_task(UNEVEN, 4, range(4)), stream_task(EVEN, 6, [1, 5])]
    together = play(model, tasks, memory=memory)
    assert len({len(one.reward_T) for one in together["toy-uneven"].values()}) > 1
    for task in tasks:
        for number in task.streams:
            one = replace(task, streams=(number,))
            alone = play(model, [one], memory=memory)[task.spec.name][number]
            other = together[task.spec.name][number]
            np.testing.assert_allclose(alone.reward_T, other.reward_T, atol=1e-5)


@pytest.mark.process
def test_results_do_not_depend_on_workers() -> None:
    """The maps stay where the model is: the same bytes with environments in other processes."""
    model, tasks = tiny_model(), [stream_task(UNEVEN, 3, range(4))]
    here = play(model, tasks)["toy-uneven"]
    with EnvironmentWorkers(2, make_toy) as workers:
        away = play(model, [replace(tasks[0], in_workers=True)], workers=workers)["toy-uneven"]
    for number, record in here.items():
        assert record.reward_T.tobytes() == away[number].reward_T.tobytes()


def test_each_stream_has_a_map_of_its_own_that_variations_share() -> None:
    """Keyed by seed, base task and stream, as the episodes are."""
    task = stream_task(EVEN, 1, [0])

    def matrix(seed: int = 0, number: int = 0, **changes: Any) -> np.ndarray:
        changed = replace(task, spec=replace(EVEN, **changes), streams=(number,))
        return stream_map(seed, changed, 0, normalized=True).observation_OO

    light = {"name": "toy-light", "variation_of": "toy-even", "variation": {"gravity": 0.5}}
    np.testing.assert_array_equal(matrix(), matrix(**light))
    others = [matrix(seed=1), matrix(number=1), matrix(name="toy-light")]
    for other in others:
        assert not np.allclose(matrix(), other)


def test_the_checkpoint_says_that_it_is_played_through_maps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stage plays one trained through maps by `roll(random_map=True)`, others without."""
    install(monkeypatch)
    config = RolloutConfig(seeds=2, shots=3, tasks=("toy-even",))
    task, found = stream_task(EVEN, 3, range(2)), {}
    for random_map in (False, True):
        workspace = write_checkpoint(
            tmp_path / str(random_map), [saved_task(EVEN)], random_map=random_map
        )
        checkpoint = workspace.find("checkpoints")
        assert load_model(checkpoint).random_map is random_map
        # Checkpoints without maps are the bytes that they have always been.
        assert ("random_map" in checkpoint.group("model").attrs) is random_map
        artifact = run(config, workspace, NullReporter()).artifact
        expected = play(tiny_model(), [task], seed=config.seed, random_map=random_map)["toy-even"]
        for number in range(2):
            found[random_map, number] = artifact.read(f"toy-even/{number:05d}/reward")
            np.testing.assert_allclose(
                found[random_map, number], expected[number].reward_T, atol=1e-5
            )
    assert np.abs(found[True, 0] - found[False, 0]).max() > 1e-3
