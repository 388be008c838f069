"""Throughput of noise distillation against bare loops, as ratios in one run."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest

from pipelines.artifacts.workspace import Workspace
from pipelines.demonstrators.experts import builtin_policy
from pipelines.distill.collect import collect_job
from pipelines.distill.config import SHARD_ROWS, VECTORIZED_SHARD_ROWS
from pipelines.distill.job import Job, shard_rows
from pipelines.distill.schedule import epsilons
from pipelines.domains.checked import make_batch
from pipelines.domains.registry import domain_of, full_catalogue, resolve_options
from pipelines.parallel import run_parallel
from pipelines.policies.registry import build_policy
from pipelines.reporter import NullReporter
from pipelines.rng import derive_seed

pytestmark = pytest.mark.benchmark

ROUNDS = 3


def make_block(name, steps, trajectories):
    task = full_catalogue().get(name)
    domain = domain_of(task)
    most = VECTORIZED_SHARD_ROWS if domain.vectorized else SHARD_ROWS
    return Job(
        task=task,
        trajectories=tuple(range(trajectories)),
        steps=steps,
        shard_rows=shard_rows(task, steps, trajectories, most),
        schedule=task.schedule,
        options=resolve_options(domain, {}),
        seed=0,
    )


def make_parts(block):
    domain = domain_of(block.task)
    seeds = list(block.trajectories)
    environment = make_batch(domain, block.task, len(seeds), block.options, seeds)
    spec = builtin_policy(block.task, domain, block.options)
    return environment, build_policy(spec, environment.actions, domain.policies())


def bare_loop(block, environment, policy):
    """The same steps, policy calls and noise, kept in memory."""
    low_A, high_A = environment.actions.bounds
    everyone = list(range(environment.size))
    epsilon_T = epsilons(block.steps, block.schedule.p, block.schedule.f).astype(np.float32)
    noise = np.random.default_rng(0).random((block.steps, len(everyone), len(low_A)), np.float32)
    noise = noise * (high_A - low_A) + low_A
    episodes, kept = 0, []

    def reset(indices):
        nonlocal episodes
        seeds = [derive_seed(0, block.task.name, i, episodes) for i in indices]
        episodes += 1
        policy.reset(indices)
        return environment.reset(indices, seeds)

    observation_BO = reset(everyone)
    for epsilon, noise_BA in zip(epsilon_T, noise, strict=True):
        expert_BA = policy.act(observation_BO)
        action_BA = (1 - epsilon) * expert_BA + epsilon * noise_BA
        action_BA = np.minimum(np.maximum(action_BA, low_A), high_A)
        result = environment.step(action_BA)
        kept.append((observation_BO, action_BA, expert_BA, result))
        observation_BO = result.observation_BO
        ended_B = result.terminated_B | result.truncated_B
        if ended_B.any():
            ended = np.flatnonzero(ended_B).tolist()
            observation_BO = observation_BO.copy()
            observation_BO[ended] = reset(ended)
    return kept


@pytest.mark.parametrize(
    ("name", "steps", "trajectories"),
    [
        ("inverted-pendulum", 65_536, 1),
        ("reach", 10_000, 1),
        ("industrial-benchmark-50", 100_000, 15),
    ],
)
def test_one_worker_against_a_bare_loop(tmp_path, capsys, name, steps, trajectories):
    """Issue 2, section 6: at least 0.85 of a bare loop, durable writing included."""
    block = make_block(name, steps, trajectories)
    workspace = Workspace(tmp_path)
    seconds = {"bare": [], "distill": []}
    for round_ in range(ROUNDS):
        environment, policy = make_parts(block)
        begun = time.perf_counter()
        bare_loop(block, environment, policy)
        seconds["bare"].append(time.perf_counter() - begun)
        environment.close()
        environment, policy = make_parts(block)
        with workspace.stage("histories", f"h{round_}", config={}) as staging:
            begun = time.perf_counter()
            collect_job(block, environment, policy, staging.directory)
            seconds["distill"].append(time.perf_counter() - begun)
        environment.close()
    best = {label: min(found) for label, found in seconds.items()}
    ratio = best["bare"] / best["distill"]
    with capsys.disabled():
        rate = block.total_steps / best["distill"]
        print(f"\n{name}: {rate:,.0f} steps/s durable, {ratio:.2f} of a bare loop")  # noqa: T201
    assert ratio >= 0.85


def _collect(job, advance):
    """Collect a block and return when that began and ended, by the clock of the machine."""
    block, directory = job
    environment, policy = make_parts(block)
    begun = time.monotonic()
    collect_job(block, environment, policy, directory, progress=advance)
    ended = time.monotonic()
    environment.close()
    return begun, ended


def rate(block, workspace, workers, jobs):
    """Steps per second from the first job's first step to the last one's end."""
    blocks = [dataclasses.replace(block, trajectories=(k,)) for k in range(jobs)]
    with workspace.stage("histories", "h", config={}) as staging:
        outcomes = run_parallel(
            _collect,
            [(each, staging.directory) for each in blocks],
            workers,
            NullReporter(),
            label="bench",
            total=1,
        )
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error
    begun, ended = zip(*(outcome.value for outcome in outcomes), strict=True)
    return jobs * block.steps / (max(ended) - min(begun))


def test_two_workers_against_one(tmp_path, capsys):
    """Issue 2, section 6: two workers at least 1.7 times one, apart from the pool's start."""
    block = make_block("reach", 5_000, 1)
    _collect((block, tmp_path / "warm"), lambda amount=1: None)
    rates = {1: [], 2: []}
    for round_ in range(ROUNDS):
        for workers, found in rates.items():
            workspace = Workspace(tmp_path / f"{round_}-{workers}")
            found.append(rate(block, workspace, workers, 4 * workers))
    one, two = max(rates[1]), max(rates[2])
    with capsys.disabled():
        print(f"\none worker {one:,.0f} steps/s, two workers {two:,.0f}: {two / one:.2f}")  # noqa: T201
    assert two >= 1.7 * one
