"""How a training dataset is laid out in an artifact.

    card                      attributes: the rows of the paper's Table 1 for this data
    <task>                    attributes: task, group, split, reward_scale, rows, weights, ...
    <task>/observation_mean   float64 (O,), and observation_std, action_mean, action_std
    <task>/<trajectory>/
        observation           float32 (T, O)
        action                float32 (T, A)
        reward                float32 (T,), unscaled
        episode_step          int32 (T,), 0 at the first step of an episode
        noise                 float32 (T,)
        episode_start         int64 (E,)
        episode_return        float64 (E,)

The per-step arrays are uncompressed little-endian rows, so a chunk file is the memory image of its
rows and can be mapped. A task that was imported from a format which does not record the noise
names the arrays it has in its attribute ``fields``, and where it came from in ``imported``.
"""

from __future__ import annotations

from typing import Any

CARD = "card"
ROW_FIELDS = ("observation", "action", "reward", "episode_step", "noise")
STATISTICS = ("observation_mean", "observation_std", "action_mean", "action_std")


def row_layout(observation_dim: int, action_dim: int) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Return the shape of one row and the NumPy dtype name of every per-step array."""
    return {
        "observation": ((observation_dim,), "float32"),
        "action": ((action_dim,), "float32"),
        "reward": ((), "float32"),
        "episode_step": ((), "int32"),
        "noise": ((), "float32"),
    }


def row_bytes(observation_dim: int, action_dim: int) -> int:
    """Return the bytes of one step over all per-step arrays."""
    return 4 * (observation_dim + action_dim + 3)
