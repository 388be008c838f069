"""Tasks that the checkpoint was not trained on: borrowed statistics, and suites."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipelines.domains.registry import full_catalogue
from pipelines.errors import ConfigError, UsageError
from pipelines.model.normalization import STD_EPSILON
from pipelines.playing.model import RunningStatistics
from pipelines.rollout.config import RolloutConfig
from pipelines.rollout.fallback import pooled
from pipelines.rollout.scores import part_of
from pipelines.rollout.selection import absent_tasks, select_targets
from pipelines.tasks.registry import catalogue

from .toy import EVEN, UNEVEN, WIDE, install, saved_task, statistics, tiny_model

HOPPER = catalogue().get("hopper")


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)


def model_of(*known: Any) -> Any:
    saved = {spec.name: saved_task(spec) for spec in known}
    return SimpleNamespace(config=tiny_model().config, tasks=saved)


def select(config: dict[str, Any], *known: Any) -> Any:
    return select_targets(RolloutConfig(**config), model_of(*known), full_catalogue())


def test_pooled_statistics_are_those_of_the_data_together() -> None:
    generator = np.random.default_rng(0)
    data = [generator.normal(shift, 1 + shift, size=(500, 3)) for shift in (0, 2)]
    each = [statistics(EVEN) for _ in data]
    for one, values in zip(each, data, strict=True):
        object.__setattr__(one, "observation_mean", values.mean(axis=0).astype(np.float32))
        object.__setattr__(one, "observation_std", values.std(axis=0).astype(np.float32))
    found = pooled(each, 0.25)
    both = np.concatenate(data)
    np.testing.assert_allclose(found.observation_mean, both.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found.observation_std, both.std(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found.action_std, statistics(EVEN).action_std, rtol=1e-5)
    assert found.reward_scale == 0.25


def test_an_unseen_task_takes_the_groups_statistics() -> None:
    (target,) = select({"tasks": ("toy-unseen",), "stats": "group"}, EVEN, UNEVEN, WIDE)
    expected = pooled([statistics(EVEN), statistics(UNEVEN)], 0.5)
    assert target.known == "group:toy"
    np.testing.assert_array_equal(target.saved.statistics.observation_std, expected.observation_std)
    assert target.saved.statistics.reward_scale == 0.5, "the catalogue's, of the task itself"
    assert target.options == {"goal": "hidden"}, "as the data of the group was collected"
    assert set(target.scores) == {"paper"}, "what was measured on other tasks says nothing"


def test_an_unseen_task_takes_a_named_tasks_statistics() -> None:
    settings = {"tasks": ("toy-unseen",), "stats": "task:Toy_Uneven"}
    (target,) = select(settings, EVEN, UNEVEN, WIDE)
    assert target.known == "toy-uneven"
    np.testing.assert_array_equal(
        target.saved.statistics.observation_mean, statistics(UNEVEN).observation_mean
    )
    assert target.saved.statistics.reward_scale == UNEVEN.reward_scale
    with pytest.raises(UsageError, match="toy-even, toy-uneven"):
        select({"tasks": ("toy-unseen",), "stats": "task:toy-wide"}, EVEN, UNEVEN, WIDE)


def test_known_tasks_keep_their_own_statistics() -> None:
    (target,) = select({"tasks": ("toy-even",), "stats": "group"}, EVEN, UNEVEN)
    assert target.known == "toy-even"
    np.testing.assert_array_equal(
        target.saved.statistics.observation_mean, statistics(EVEN).observation_mean
    )


def test_without_a_word_on_statistics_the_error_says_how_to_choose() -> None:
    with pytest.raises(ConfigError) as caught:
        select({"tasks": ("toy-unseen",)}, EVEN)
    assert "--stats group" in str(caught.value.fix)
    with pytest.raises(ConfigError, match=r"toy \(3 observation dims, .* 2 dim.*toy-wide \(4"):
        select({"tasks": ("toy-foreign",), "stats": "group"}, EVEN)


def test_a_source_of_statistics_that_is_none_is_refused() -> None:
    for wrong in ("task", "nonsense", ""):
        with pytest.raises(ValueError, match="task:NAME"):
            RolloutConfig(stats=wrong)
    assert RolloutConfig(stats="task:reach").stats == "task:reach"


def test_a_split_holds_unseen_tasks_once_they_have_statistics() -> None:
    settings = {"splits": ("validation",), "domains": ("toy",)}
    with pytest.raises(UsageError, match="no task is left"):
        select(settings, EVEN)
    assert [each.spec.name for each in select({**settings, "stats": "running"}, EVEN)] == [
        "toy-unseen"
    ]


def test_running_statistics_are_those_of_prior_and_stream_together() -> None:
    prior = statistics(EVEN)
    running = RunningStatistics(prior, 2)
    seen = np.random.default_rng(1).normal(3, 2, size=(40, 3)).astype(np.float32)
    for observation_O in seen[:-1]:
        running.normalize(np.array([1]), observation_O[None])
    found = running.normalize(np.array([1]), seen[-1:])
    n, m = RunningStatistics.PRIOR_STEPS, len(seen)
    mean = (n * prior.observation_mean + seen.sum(axis=0)) / (n + m)
    within = n * (prior.observation_std**2 + (prior.observation_mean - mean) ** 2)
    std = np.sqrt((within + ((seen - mean) ** 2).sum(axis=0)) / (n + m))
    np.testing.assert_allclose(found[0], (seen[-1] - mean) / (std + STD_EPSILON), rtol=1e-4)
    # The other stream has seen nothing of this.
    first = running.normalize(np.array([0]), seen[-1:])
    fresh = RunningStatistics(prior, 1).normalize(np.array([0]), seen[-1:])
    np.testing.assert_array_equal(first, fresh)


def test_the_papers_suite_is_everything_the_paper_reports() -> None:
    model = model_of(HOPPER, catalogue().get("reach"))
    config = RolloutConfig(suite="paper")
    played = select_targets(config, model, full_catalogue())
    absent = absent_tasks(config, model, full_catalogue())
    tasks = [each.spec.as_json() for each in [*played, *absent]]
    parts = {
        (domain, part): sum((one["domain"], part_of(one)) == (domain, part) for one in tasks)
        for domain, part in {(one["domain"], part_of(one)) for one in tasks}
    }
    assert parts == {
        ("mujoco", "training"): 11,
        ("mujoco", "variations"): 44,
        ("metaworld", "training"): 45,
        ("metaworld", "unseen"): 5,
        ("industrial-benchmark", "training"): 16,
        ("industrial-benchmark", "variations"): 5,
        ("bidexhands", "training"): 15,
        ("bidexhands", "unseen"): 5,
    }
    # A group that the model has, but no task of, is no use: Reacher's here.
    names = {each.spec.name for each in played}
    assert {"hopper", "hopper-gravity-1.1", "reach"} < names
    assert "reacher" not in names
    assert all("knows no task of the group" in each.reason for each in absent)
    assert "bidexhands" not in {each.spec.domain for each in played}


def test_a_suite_can_be_narrowed_but_not_varied() -> None:
    narrow = select({"suite": "paper", "domains": ("mujoco",), "splits": ("validation",)}, HOPPER)
    assert {"hopper-gravity-0.9", "hopper-viscosity-0.1"} < {each.spec.name for each in narrow}
    with pytest.raises(UsageError, match="own variations"):
        select({"suite": "paper", "gravity": 1.1}, HOPPER)
    with pytest.raises(ConfigError, match="no group"):
        select({"tasks": ("hopper",), "stats": "group"}, EVEN)
