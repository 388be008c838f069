"""Batches hold the right rows in the right places, in the same order at any speed."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch

from pipelines.errors import ConfigError
from pipelines.methods import DEFAULT, cut_tasks, find_method
from pipelines.methods.base import Method
from pipelines.methods.windows import Window, WindowSampler
from pipelines.model.batch import TaskSequence, group_sequences
from pipelines.rng import stream
from pipelines.train.data import group_dims, select_tasks
from pipelines.train.loader import BatchLoader, Prefetcher, task_statistics
from pipelines.train.run import model_config

from .support import TASKS, MemoryData, ToyTask, small_config


def make_loader(
    tasks=TASKS,
    *,
    accumulation=1,
    method=DEFAULT,
    map_seed=None,
    rank=0,
    world=1,
    batch_size=8,
    **changes,
):
    data = MemoryData(tasks)
    config = small_config(**changes)
    chosen = select_tasks(data)
    subsequences = cut_tasks(data, chosen, context=config.context)
    sampler = WindowSampler(
        subsequences,
        context=config.context,
        batch_size=batch_size,
        seed=config.seed,
        accumulation=accumulation,
    )
    loader = BatchLoader(
        data,
        chosen,
        subsequences,
        sampler,
        model_config(config, chosen),
        method=find_method(method),
        map_seed=map_seed,
        rank=rank,
        world=world,
    )
    return data, loader, sampler


def test_tokens_carry_the_row_before_them():
    """Token t: observation and target of row start + 1 + t, action and reward of the row before."""
    data, loader, _ = make_loader()
    start = 37  # not an episode's first step
    batch = loader.assemble([Window("toy-b", 1, start, 1)]).batches[0]
    rows = data.window("toy-b", 1, start, 33)
    statistics = task_statistics(data.tasks["toy-b"])
    expected = statistics.normalize_observation(rows["observation"][1:])
    assert torch.equal(batch.observation_BLO[0], torch.from_numpy(expected))
    assert torch.equal(batch.previous_action_BLA[0], torch.from_numpy(rows["action"][:-1]))
    assert torch.equal(batch.action_BLA[0], torch.from_numpy(rows["action"][1:]))
    assert torch.equal(batch.previous_reward_BL[0], 2.0 * torch.from_numpy(rows["reward"][:-1]))
    assert batch.episode_step_BL[0].tolist() == rows["episode_step"][1:].tolist()
    assert batch.episode_step_BL[0, 0] == (start + 1) % 20


@pytest.mark.parametrize("normalize", [True, False])
def test_batches_equal_those_of_group_sequences(normalize):
    """The fast assembly and the model's own, sequence by sequence, give the same bits."""
    model = {
        **small_config().model,
        "normalize_actions": normalize,
        "normalize_observations": normalize,
    }
    data, loader, sampler = make_loader(model=model)
    windows = sampler.batch(3)
    sequences = []
    for window in windows:
        rows = data.window(window.task, window.trajectory, window.start, 33)
        tensor = {name: torch.from_numpy(values.copy()) for name, values in rows.items()}
        task = data.tasks[window.task]
        sequences.append(
            TaskSequence(
                group=task.group,
                statistics=task_statistics(task),
                observation_LO=tensor["observation"][1:],
                previous_action_LA=tensor["action"][:-1],
                previous_reward_L=tensor["reward"][:-1],
                episode_step_L=tensor["episode_step"][1:].long(),
                action_LA=tensor["action"][1:],
            )
        )
    chosen = select_tasks(data)
    config = model_config(small_config(model=model), chosen)
    expected, places = group_sequences(config, sequences)
    by_group = {batch.group: batch for batch in expected}
    micro = loader.assemble(windows)
    for batch in micro.batches:
        for name, value in vars(batch).items():
            other = getattr(by_group[batch.group], name)
            assert torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other
    domain_of_group = {"alpha": "toys", "beta": "gyms"}
    assert micro.domains == [
        domain_of_group[batch.group] for batch in micro.batches for _ in range(batch.batch_size)
    ]
    assert sum(len(each) for each in places) == len(micro.domains)


def test_masked_rewards_are_zero_and_nothing_else_changes():
    _, plain, _ = make_loader()
    _, masked, _ = make_loader(method="ad-no-reward")
    for one, other in zip(plain.step(0)[0].batches, masked.step(0)[0].batches, strict=True):
        assert one.previous_reward_BL.any() and not other.previous_reward_BL.any()
        assert torch.equal(one.observation_BLO, other.observation_BLO)
        assert torch.equal(one.action_BLA, other.action_BLA)


class Imitate(Method):
    """Predicts what the demonstrator would have done, as Decision-Pretrained Transformers do."""

    title = "imitate"
    fields = ("noise",)
    target = "demonstrator_action"

    def loss_weights(self, rows):
        return 1 - rows["noise"]


def test_a_method_chooses_its_target_and_weighs_its_steps():
    """Each token has the demonstrator's action of its own row, and that row's weight."""
    data = MemoryData()
    for rows in data._rows.values():
        rows["demonstrator_action"] = -3 * rows["action"]
    tasks = select_tasks(data)
    cut = cut_tasks(data, tasks, context=32)
    sampler = WindowSampler(cut, context=32, batch_size=4, seed=0)
    model = model_config(small_config(), tasks)
    plain = BatchLoader(data, tasks, cut, sampler, model).step(0)[0].batches
    found = BatchLoader(data, tasks, cut, sampler, model, method=Imitate()).step(0)[0].batches
    for one, other in zip(plain, found, strict=True):
        assert torch.equal(other.action_BLA, -3 * one.action_BLA)
        assert torch.equal(other.previous_action_BLA, one.previous_action_BLA)
        assert one.weight_BL is None
    window = Window("toy-b", 1, 37, 1)
    loader = BatchLoader(data, tasks, cut, sampler, model, method=Imitate())
    noise = data.window("toy-b", 1, 38, 32)["noise"]
    assert loader.assemble([window]).batches[0].weight_BL[0].tolist() == (1 - noise).tolist()


def test_dpt_shows_what_was_done_and_asks_for_what_the_demonstrator_would_do():
    _, plain, _ = make_loader()
    data, dpt, _ = make_loader(method="dpt")
    for rows in data._rows.values():
        rows["demonstrator_action"] = -3 * rows["action"]
    for one, other in zip(plain.step(0)[0].batches, dpt.step(0)[0].batches, strict=True):
        assert torch.equal(other.action_BLA, -3 * one.action_BLA)
        assert torch.equal(other.previous_action_BLA, one.previous_action_BLA)
        assert torch.equal(other.previous_reward_BL, one.previous_reward_BL)


def test_a_window_of_dpt_may_begin_where_a_rollout_does():
    """With a trajectory's first step, before which there is no action and no reward."""
    data = MemoryData()
    for rows in data._rows.values():
        rows["demonstrator_action"] = rows["action"]
    fields = (*data.fields("toy-b"), "demonstrator_action")
    data.fields = lambda task: fields
    tasks = select_tasks(data)
    cut = cut_tasks(data, tasks, context=32, method="dpt")
    assert cut["toy-b"][1].rows == data.tasks["toy-b"].rows[1] + 1
    sampler = WindowSampler(cut, context=32, batch_size=4, seed=0)
    model = model_config(small_config(), tasks)
    loader = BatchLoader(data, tasks, cut, sampler, model, method=find_method("dpt"))
    (batch,) = loader.assemble([Window("toy-b", 1, 0, 1)]).batches
    rows = data.window("toy-b", 1, 0, 32)
    assert torch.equal(batch.action_BLA[0], torch.from_numpy(rows["action"]))
    assert batch.episode_step_BL[0].tolist() == rows["episode_step"].tolist()
    assert torch.equal(batch.previous_action_BLA[0, 1:], batch.action_BLA[0, :-1])
    assert not batch.previous_action_BLA[0, 0].any() and not batch.previous_reward_BL[0, 0]


def test_a_dataset_without_what_a_method_reads_is_refused():
    data = MemoryData()
    with pytest.raises(ConfigError, match=r"(?s)dpt.*demonstrator_action"):
        cut_tasks(data, select_tasks(data), context=32, method="dpt")


@pytest.mark.parametrize("maps", [{}, {"map_seed": 3}])
def test_episodes_of_a_window_in_random_order_stay_whole(maps):
    """Every step keeps its target, its past, its weight and its map; each window has an order."""
    data = MemoryData()
    tasks = select_tasks(data)
    for rows in data._rows.values():
        rows["demonstrator_action"] = rows["action"]
    cut = cut_tasks(data, tasks, context=96)
    config = model_config(small_config(context=96), tasks)

    def rows(place, **seeds):
        sampler = WindowSampler(cut, context=96, batch_size=1, seed=0)
        loader = BatchLoader(data, tasks, cut, sampler, config, method=Imitate(), **seeds)
        batch = loader.assemble([Window("toy-b", 1, 36, 1, *place)]).batches[0]
        values = [each for each in vars(batch).values() if isinstance(each, torch.Tensor)]
        return torch.cat([each[0].reshape(96, -1).double() for each in values], dim=1).tolist()

    # Row 37 is step 17 of its episode: 3 steps, four episodes of 20, and 13 steps.
    parts = np.split(np.arange(96), [3, 23, 43, 63, 83])
    orders = set()
    for place in ((0, 0), (0, 1), (1, 0), (2, 0)):
        recorded, shuffled = rows(place, **maps), rows(place, order_seed=1, **maps)
        order = [recorded.index(row) for row in shuffled]
        starts = [index for index, row in enumerate(order) if row in [part[0] for part in parts]]
        found = np.split(np.array(order), starts[1:])
        assert sorted(each.tolist() for each in found) == [part.tolist() for part in parts]
        assert shuffled == rows(place, order_seed=1, **maps)
        orders.add(tuple(order))
    assert len(orders) == 4


@pytest.mark.parametrize("map_seed", [None, 3])
def test_accumulation_and_ranks_split_the_same_sequences(map_seed):
    """Two micro-batches, or two ranks, hold what one batch holds, through maps or not."""

    def contents(loaders):
        return sorted(
            (float(action.sum()), float(observation.sum()))
            for loader in loaders
            for micro in loader.step(5)
            for batch in micro.batches
            for action, observation in zip(batch.action_BLA, batch.observation_BLO, strict=True)
        )

    def make(**places):
        return make_loader(map_seed=map_seed, **places)[1]

    whole = contents([make()])
    assert len(whole) == 8
    assert contents([make(accumulation=2)]) == whole
    assert contents([make(rank=rank, world=2) for rank in range(2)]) == whole


@pytest.mark.parametrize("normalize", [True, False])
def test_a_mapped_batch_is_the_batch_times_the_maps(normalize):
    """By the formulas, drawn by (seed, step, place); rewards, steps and statistics stay."""
    step, size = 4, 8
    model = {**small_config().model, "normalize_observations": normalize}
    data, plain, sampler = make_loader(model=model)
    _, mapped, _ = make_loader(model=model, map_seed=3)
    windows = [(index, sampler.window(step, index)) for index in range(size)]
    seen = 0
    for one, other in zip(plain.step(step)[0].batches, mapped.step(step)[0].batches, strict=True):
        for name in ("previous_reward_BL", "episode_step_BL"):
            assert torch.equal(getattr(one, name), getattr(other, name))
        members = [pair for pair in windows if data.tasks[pair[1].task].group == one.group]
        for row, (index, window) in enumerate(members):
            draw = stream(3, "train", "map", step, index)
            matrices = []
            for dim in (one.observation_BLO.shape[-1], one.action_BLA.shape[-1]):
                q, r = np.linalg.qr(draw.standard_normal((dim, dim)))
                matrices.append(q * np.sign(np.diagonal(r)))
            statistics = task_statistics(data.tasks[window.task])

            def by_formula(values, matrix, mean, std):
                return mean + (std + 1e-6) * (((values - mean) / (std + 1e-6)) @ matrix.T)

            observation = one.observation_BLO[row].numpy()
            expected = (
                observation @ matrices[0].T
                if normalize
                else by_formula(
                    observation,
                    matrices[0],
                    statistics.observation_mean,
                    statistics.observation_std,
                )
            )
            np.testing.assert_allclose(other.observation_BLO[row], expected, atol=2e-5)
            for name in ("previous_action_BLA", "action_BLA"):
                actions = getattr(one, name)[row].numpy()
                expected = by_formula(
                    actions, matrices[1], statistics.action_mean, statistics.action_std
                )
                np.testing.assert_allclose(getattr(other, name)[row], expected, atol=2e-5)
            seen += 1
    assert seen == size


def test_a_window_drawn_twice_has_two_maps():
    """One for each place in the run that it is drawn for; the same place gives the same."""
    _, loader, _ = make_loader(map_seed=3)

    def assemble(step, index):
        window = Window("toy-a", 1, 40, 1, step, index)
        return loader.assemble([window]).batches[0].observation_BLO

    assert torch.equal(assemble(2, 5), assemble(2, 5))
    for place in ((3, 5), (2, 6), (5, 2)):
        assert not torch.allclose(assemble(2, 5), assemble(*place))
    assert Window("toy-a", 1, 40, 1, 2, 5) == Window("toy-a", 1, 40, 1), "it is the same window"


def test_maps_do_not_depend_on_the_threads_that_load():
    def steps(threads):
        _, loader, _ = make_loader(map_seed=3)
        with Prefetcher(loader.step, 0, 12, threads=threads) as ahead:
            return [batch for _ in range(12) for micro in ahead.get() for batch in micro.batches]

    for one, other in zip(steps(1), steps(4), strict=True):
        assert torch.equal(one.observation_BLO, other.observation_BLO)
        assert torch.equal(one.previous_action_BLA, other.previous_action_BLA)
        assert torch.equal(one.action_BLA, other.action_BLA)


def test_groups_come_in_the_models_order_and_absent_ones_are_left_out():
    _, loader, _ = make_loader()
    windows = [Window("gym-c", 0, 3, 0), Window("toy-a", 0, 5, 0), Window("toy-b", 0, 5, 0)]
    assert [batch.group for batch in loader.assemble(windows).batches] == ["alpha", "beta"]
    assert [batch.group for batch in loader.assemble(windows[:1]).batches] == ["beta"]


def test_tasks_of_one_group_share_its_dimensions():
    data = MemoryData([ToyTask(), ToyTask(name="odd", observation_dim=4)])
    with pytest.raises(Exception, match="different dimensions"):
        group_dims(list(data.tasks.values()))


@pytest.mark.parametrize("threads", [1, 4])
def test_prefetching_keeps_the_order_whatever_the_speed(threads):
    def slow(number):
        time.sleep(0.002 * (number % 3))
        return number

    with Prefetcher(slow, 5, 25, depth=2, threads=threads) as ahead:
        assert [ahead.get() for _ in range(20)] == list(range(5, 25))


def test_prefetching_runs_ahead_but_not_far():
    made = []
    with Prefetcher(lambda number: made.append(number) or number, 0, 100, depth=2) as ahead:
        ahead.get()
        time.sleep(0.1)
        assert 2 <= len(made) <= 4


def test_an_error_of_the_reader_reaches_the_step():
    def broken(number):
        raise OSError("unreadable")

    with Prefetcher(broken, 0, 3) as ahead, pytest.raises(OSError, match="unreadable"):
        ahead.get()


def test_leaving_early_ends_the_thread():
    before = threading.active_count()
    with Prefetcher(lambda number: number, 0, 10**9, depth=2) as ahead:
        ahead.get()
    assert threading.active_count() == before


def test_every_rank_has_the_groups_of_the_whole_step():
    """Those of other processes with no sequence, whose gradients are zeros and not missing."""
    from pipelines.model.vintix import Vintix

    data, _, sampler = make_loader(batch_size=2)
    groups = {name: task.group for name, task in data.tasks.items()}
    mixed = [
        step
        for step in range(20)
        if len({groups[window.task] for window in sampler.batch(step)}) == 2
    ]
    alone = [step for step in range(20) if step not in mixed]
    for rank in range(2):
        _, one, _ = make_loader(batch_size=2, rank=rank, world=2)
        for step in (alone[0], mixed[0]):
            (micro,) = one.step(step)
            whole = {groups[window.task] for window in sampler.batch(step)}
            assert {batch.group for batch in micro.batches} == whole
            assert sum(batch.batch_size for batch in micro.batches) == len(micro.domains) == 1
        model = Vintix(model_config(small_config(), select_tasks(data)))
        loss, _ = model.loss(micro.batches)
        loss.backward()
        empty = next(batch.group for batch in micro.batches if not batch.batch_size)
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            if f".{empty}." in name:
                assert not parameter.grad.any(), name
