"""Statistics, their three formulas, and the stacking of sequences by group."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import pipelines
from pipelines.errors import ConfigError
from pipelines.model.batch import GroupBatch, TaskSequence, group_sequences
from pipelines.model.config import ModelConfig
from pipelines.model.encoders import Encoder
from pipelines.model.normalization import ActionUnits, TaskStatistics, is_constant
from pipelines.model.random_map import RandomMap
from pipelines.playing.model import RunningStatistics
from pipelines.rollout.fallback import pooled
from pipelines.train.loader import _Normalizer

MakeConfig = Callable[..., ModelConfig]


def make(
    observations: int = 5, actions: int = 2, shift: float = 0.0, scale: float = 0.5
) -> TaskStatistics:
    return TaskStatistics(
        observation_mean=np.arange(observations) + shift,
        observation_std=np.arange(observations) * 0.5,
        action_mean=np.arange(actions) - 1.0 + shift,
        action_std=np.full(actions, 2.0),
        reward_scale=scale,
    )


def test_formulas_are_the_released_ones() -> None:
    """Epsilon 1e-6 on the deviation going in, none coming out, rewards scaled only.

    But for the first channel, which is constant.
    """
    statistics = make()
    observation = np.array([[1.0, 1.0, 1.0, 1.0, 1.0]], dtype=np.float32)
    expected = (observation - np.arange(5)) / (np.arange(5) * 0.5 + 1e-6)
    expected[:, 0] = 0.0
    np.testing.assert_allclose(statistics.normalize_observation(observation), expected, rtol=1e-6)
    units = ActionUnits(
        *map(torch.tensor, (statistics.action_mean[None], statistics.action_std[None]))
    )
    action = torch.ones(1, 1, 2)
    assert units.normalize(action).flatten().tolist() == pytest.approx([2 / 2.000001, 1 / 2.000001])
    assert units.restore(action).flatten().tolist() == [1.0, 2.0]
    assert statistics.scale_reward(np.array([3.0], dtype=np.float32)).tolist() == [1.5]


@given(
    hnp.arrays(
        np.float64, (3, 5), elements=st.floats(-1e3, 1e3, allow_nan=False, allow_infinity=False)
    )
)
def test_arrays_and_tensors_give_the_same_float32(values: np.ndarray) -> None:
    """Collection works on arrays, training on tensors: both must feed the model the same bits."""
    statistics = make()
    array = statistics.normalize_observation(values)
    assert array.dtype == np.float32
    tensor = statistics.normalize_observation(torch.from_numpy(values.astype(np.float32)))
    assert np.array_equal(array, tensor.numpy())
    reward = statistics.scale_reward(values)
    assert reward.dtype == np.float32
    assert np.array_equal(
        reward, statistics.scale_reward(torch.from_numpy(values.astype(np.float32))).numpy()
    )


#: Mean and deviation of channels whose values are one number, but for rounding.
CONSTANT = [
    (0.0, 0.0),
    (20.0, 0.0),
    (-0.25, 1e-9),
    (0.0, 1e-12),
    (1e4, 1e4 * np.finfo(np.float32).eps),
]


@pytest.mark.parametrize(
    ("mean", "std", "constant"),
    [
        *[(mean, std, True) for mean, std in CONSTANT],
        (0.0, 1e-6, False),
        (1e4, 0.01, False),
        (-1e-3, 5e-7, False),
    ],
)
def test_a_spread_of_no_more_than_rounding_is_none(mean: float, std: float, constant: bool) -> None:
    """A thousandth is one step of float32 beside 10,000, and a thousand of them beside 1."""
    values = np.array([mean], np.float32), np.array([std], np.float32)
    assert is_constant(*values).tolist() == [constant]
    assert is_constant(*map(torch.from_numpy, values)).tolist() == [constant]


@pytest.mark.parametrize("value", [0.1, 20.0, -7.3e5, 1e-4])
def test_however_the_sums_of_a_constant_channel_round_it_is_constant(value: float) -> None:
    """A deviation from a float64 mean of squares is not 0, but it is below the resolution."""
    values = np.full(100_001, value, np.float32).astype(np.float64)
    mean, square = values.mean(), np.square(values).mean()
    for std in (values.std(ddof=1), np.sqrt(abs(square - mean**2))):
        assert is_constant(np.array([mean]), np.array([std])).all()


def _of_group(statistics: TaskStatistics, moved: np.ndarray) -> np.ndarray:
    """By the statistics of several tasks in which each channel stood elsewhere."""
    other = TaskStatistics(
        statistics.observation_mean + 3.0,
        statistics.observation_std,
        statistics.action_mean,
        statistics.action_std,
        1.0,
    )
    return pooled([statistics, other], 1.0).normalize_observation(moved)


def _estimated(statistics: TaskStatistics, moved: np.ndarray) -> np.ndarray:
    running = RunningStatistics(statistics, 1)
    return np.concatenate([running.normalize(np.array([0]), row[None]) for row in moved])


def _for_training(statistics: TaskStatistics, moved: np.ndarray) -> np.ndarray:
    out = np.empty_like(moved)
    _Normalizer(statistics)(moved, out)
    return out


def _mapped(statistics: TaskStatistics, moved: np.ndarray) -> np.ndarray:
    """What a map of observations in the task's units makes of them, beyond their mean."""
    drawn = RandomMap.draw(statistics, np.random.default_rng(0), normalized=False)
    return drawn.observation(moved) - statistics.observation_mean


def _encoded(statistics: TaskStatistics, moved: np.ndarray) -> np.ndarray:
    """What a model that normalises actions gives its encoder of previous actions."""
    width = len(statistics.observation_mean)
    config = ModelConfig.model_validate(
        {
            "groups": {"g": {"observation_dim": 1, "action_dim": width}},
            "layers": 1,
            "heads": 1,
            "width": 12,
            "feed_forward": 4,
            "action_embedding": 4,
            "observation_embedding": 4,
            "reward_embedding": 4,
            "context": len(moved),
            "normalize_actions": True,
        }
    )
    encoder, seen = Encoder(config), []
    encoder.acs_encoders["g"].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    length = len(moved)
    encoder(
        GroupBatch(
            group="g",
            observation_BLO=torch.zeros(1, length, 1),
            previous_action_BLA=torch.from_numpy(moved)[None],
            previous_reward_BL=torch.zeros(1, length),
            episode_step_BL=torch.arange(length)[None],
            action_mean_BA=torch.from_numpy(statistics.observation_mean)[None],
            action_std_BA=torch.from_numpy(statistics.observation_std)[None],
        )
    )
    return seen[0][0].numpy()


WAYS: list[Callable[[TaskStatistics, np.ndarray], np.ndarray]] = [
    lambda statistics, moved: statistics.normalize_observation(moved),
    lambda statistics, moved: statistics.normalize_observation(torch.from_numpy(moved)).numpy(),
    _of_group,
    _estimated,
    _for_training,
    _mapped,
    _encoded,
]


@pytest.mark.parametrize("way", WAYS)
def test_a_constant_channel_that_moves_contributes_nothing(
    way: Callable[[TaskStatistics, np.ndarray], np.ndarray],
) -> None:
    """Divided by 1e-6, the slightest move of it would drown all other channels."""
    means, stds = map(list, zip(*CONSTANT, (5.0, 2.0), strict=True))
    statistics = TaskStatistics(means, stds, [0.0], [1.0], 1.0)
    still = np.tile(statistics.observation_mean, (6, 1))
    still[:, -1] += np.arange(6)
    moved = still.copy()
    moved[:, :-1] += np.linspace(0.001, 50, 6, dtype=np.float32)[:, None]
    found = way(statistics, moved)
    np.testing.assert_allclose(found, way(statistics, still), atol=1e-5)
    assert np.abs(found[1:, -1]).min() > 0.1, "the other channel still counts"
    assert np.abs(found).max() < 10


def test_nobody_divides_by_a_deviation_of_its_own() -> None:
    """Whoever normalises takes `divisor`, which knows constant channels."""
    root = Path(pipelines.__file__).parent
    users = [path for path in root.rglob("*.py") if "STD_EPSILON" in path.read_text()]
    # A random map leaves constant channels as they are.
    assert sorted(path.name for path in users) == ["normalization.py", "random_map.py"]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("observation_std", [1.0, -1.0], "do not fit together"),
        ("action_std", [1.0, 1.0], r"(?s)lengths 1 and 2"),
        ("action_mean", [float("nan")], "not finite"),
        ("observation_mean", 1.0, "vector"),
        ("reward_scale", 0.0, "reward scale"),
        ("reward_scale", float("inf"), "reward scale"),
    ],
)
def test_unusable_statistics_are_refused(field: str, value: object, message: str) -> None:
    fields: dict[str, object] = {
        "observation_mean": [0.0, 0.0],
        "observation_std": [1.0, 1.0],
        "action_mean": [0.0],
        "action_std": [1.0],
        "reward_scale": 1.0,
    }
    with pytest.raises(ConfigError, match=message):
        TaskStatistics(**{**fields, field: value})  # type: ignore[arg-type]


def sequence(group: str, dims: tuple[int, int], seed: int, **fields: object) -> TaskSequence:
    generator = torch.Generator().manual_seed(seed)
    values: dict[str, object] = {
        "group": group,
        "statistics": make(*dims, shift=float(seed), scale=0.1 * (seed + 1)),
        "observation_LO": torch.randn(4, dims[0], generator=generator),
        "previous_action_LA": torch.randn(4, dims[1], generator=generator),
        "previous_reward_L": torch.randn(4, 1, generator=generator),
        "episode_step_L": torch.arange(4),
        "action_LA": torch.randn(4, dims[1], generator=generator),
    }
    return TaskSequence(**{**values, **fields})  # type: ignore[arg-type]


def test_sequences_are_stacked_by_group_with_their_own_statistics(config: MakeConfig) -> None:
    """Two tasks of one group keep their own means, deviations and reward scales."""
    sequences = [
        sequence("reach", (5, 2), 0),
        sequence("walk", (7, 3), 1),
        sequence("reach", (5, 2), 2),
    ]
    batches, places = group_sequences(config(normalize_actions=True), sequences)
    assert [batch.group for batch in batches] == ["reach", "walk"]
    assert places == [[0, 2], [1]]
    assert batches[0].batch_size == 2
    assert batches[0].length == 4
    for row, index in enumerate(places[0]):
        source = sequences[index]
        statistics = source.statistics
        assert torch.equal(
            batches[0].observation_BLO[row], statistics.normalize_observation(source.observation_LO)
        )
        assert torch.equal(
            batches[0].previous_reward_BL[row],
            statistics.scale_reward(source.previous_reward_L[:, 0]),
        )
        assert torch.equal(batches[0].previous_action_BLA[row], source.previous_action_LA)
        assert batches[0].action_mean_BA is not None
        assert batches[0].action_mean_BA[row].tolist() == statistics.action_mean.tolist()


def test_observations_stay_raw_if_the_configuration_says_so(config: MakeConfig) -> None:
    source = sequence("reach", (5, 2), 0, action_LA=None)
    batches, _ = group_sequences(config(normalize_observations=False), [source])
    assert torch.equal(batches[0].observation_BLO[0], source.observation_LO)
    assert batches[0].action_BLA is None
    assert batches[0].action_mean_BA is None


def test_targets_for_some_sequences_only_are_refused(config: MakeConfig) -> None:
    sequences = [sequence("reach", (5, 2), 0), sequence("reach", (5, 2), 1, action_LA=None)]
    with pytest.raises(ConfigError, match=r"(?s)expected: 0 or 2.*found: 1"):
        group_sequences(config(), sequences)


def test_moving_a_batch_moves_every_tensor(config: MakeConfig) -> None:
    batches, _ = group_sequences(config(), [sequence("reach", (5, 2), 0)])
    moved = batches[0].to("meta")
    assert moved.group == "reach"
    assert all(value.is_meta for value in vars(moved).values() if isinstance(value, torch.Tensor))
