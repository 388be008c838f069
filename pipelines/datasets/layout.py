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

CARD = "card"
STATISTICS = ("observation_mean", "observation_std", "action_mean", "action_std")
