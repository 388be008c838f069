"""Speed of hand-catch-underarm: a batch against MuJoCo's own stepping of the same model."""

from __future__ import annotations

import time

import mujoco
import numpy as np
import pytest

from pipelines.demonstrators.experts import builtin_policy
from pipelines.domains.bidexhands.batch import HandsBatch
from pipelines.domains.bidexhands.quirks import Quirks
from pipelines.domains.bidexhands.tasks import make_task
from pipelines.domains.registry import domain_of, full_catalogue, resolve_options
from pipelines.policies.registry import build_policy

from . import support

SIZE, STEPS, ROUNDS = 16, 40, 7


@pytest.mark.benchmark
def test_observations_and_rewards_cost_less_than_the_simulation(record_property, capsys):
    """Both in turns, in processor time: at most twice bare stepping, and 1500 steps a second."""
    batch = HandsBatch(make_task("ShadowHandCatchUnderarm", Quirks()), SIZE, 10_000)
    model, substeps = batch.scene.model, batch.scene.substeps
    datas = [mujoco.MjData(model) for _ in range(SIZE)]
    actions = np.random.default_rng(0).uniform(-1, 1, (STEPS, SIZE, model.nu)).astype(np.float32)
    controls = batch.scene.centre_A + batch.scene.half_A * actions
    bare, ours = [], []
    for _ in range(ROUNDS):
        batch.reset(range(SIZE), range(SIZE))
        for data, source in zip(datas, batch.datas, strict=True):
            mujoco.mj_resetData(model, data)
            data.qpos[:], data.qvel[:] = source.qpos, source.qvel
        begin = time.process_time()
        for control_BA in controls:
            for data, control_A in zip(datas, control_BA, strict=True):
                data.ctrl[:] = control_A
                mujoco.mj_step(model, data, nstep=substeps)
        bare.append(time.process_time() - begin)
        begin = time.process_time()
        for action_BA in actions:
            batch.step(action_BA)
        ours.append(time.process_time() - begin)
    rate = STEPS * SIZE / min(ours)
    ratio = support.paired_ratio(ours, bare)
    record_property("steps per second", rate)
    record_property("times bare stepping", ratio)
    support.show(capsys, f"hands: {rate:,.0f} steps/s, {ratio:.2f} times bare stepping")
    assert rate >= 1500
    assert ratio <= 2.0


@pytest.mark.benchmark
def test_trajectories_together_cost_less_than_one_by_one(record_property, capsys):
    """Demonstrator and simulation of ten copies against ten times those of one, in turns."""
    task = full_catalogue().get("hand-push-block")
    domain = domain_of(task)
    options = resolve_options(domain, {})
    spec = builtin_policy(task, domain, options)
    assert spec is not None
    playing = {}
    for size in (10, 1):
        batch = domain.make_batch(task, size, options, list(range(size)))
        playing[size] = (batch, build_policy(spec, batch.actions, domain.policies()))

    def seconds(size: int) -> float:
        batch, policy = playing[size]
        observation_BO = batch.reset(range(size), range(size))
        policy.reset(range(size))
        begin = time.process_time()
        for _ in range(STEPS):
            observation_BO = batch.step(policy.act(observation_BO)).observation_BO
        return time.process_time() - begin

    seconds(10)
    together, apart = [], []
    for _ in range(ROUNDS):
        together.append(seconds(10))
        apart.append(10 * seconds(1))
    ratio = support.paired_ratio(apart, together)
    record_property("times one by one", ratio)
    rate = 10 * STEPS / min(together)
    support.show(capsys, f"hands: ten together {rate:,.0f} steps/s, {ratio:.2f} times one by one")
    assert ratio >= 2.0
