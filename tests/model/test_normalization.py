"""Statistics, their three formulas, and the stacking of sequences by group."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipelines.errors import ConfigError
from pipelines.model.batch import TaskSequence, group_sequences
from pipelines.model.config import ModelConfig
from pipelines.model.normalization import TaskStatistics

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
    """Epsilon 1e-6 on the deviation going in, none coming out, rewards scaled only."""
    statistics = make()
    observation = np.array([[1.0, 1.0, 1.0, 1.0, 1.0]], dtype=np.float32)
    expected = (observation - np.arange(5)) / (np.arange(5) * 0.5 + 1e-6)
    np.testing.assert_allclose(statistics.normalize_observation(observation), expected, rtol=1e-6)
    assert statistics.normalize_action(
        np.array([1.0, 1.0], dtype=np.float32)
    ).tolist() == pytest.approx([2 / 2.000001, 1 / 2.000001])
    assert statistics.unnormalize_action(np.array([1.0, 1.0], dtype=np.float32)).tolist() == [
        1.0,
        2.0,
    ]
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


def test_a_constant_channel_stays_finite() -> None:
    out = make().normalize_observation(np.zeros((2, 5)))
    assert np.isfinite(out).all()
    assert out[0, 0] == 0.0


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
