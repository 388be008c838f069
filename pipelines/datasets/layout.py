"""How a training dataset is laid out in an artifact.

    card                      attributes: the rows of the paper's Table 1 for this data
    <task>                    attributes: task, group, split, reward_scale, rows, weights, ...
    <task>/observation_mean   float64 (O,), and observation_std, action_mean, action_std
    <task>/trajectory_start   int64 (N,), first row of each trajectory in the arrays below
    <task>/trajectory_length  int64 (N,), its steps; what lies between trajectories is padding
    <task>/trajectory_episodes int64 (N,), number of its episodes
    <task>/<field>            (rows, ...), per step, as `pipelines.rows` lists them
    <task>/episode_start      int64 (E,), step of the trajectory that each episode begins with
    <task>/episode_return     float64 (E,)

The per-step arrays are uncompressed little-endian rows, so a chunk file is the memory image of its
rows and can be mapped. A task that was imported from a format which does not record all of them
lacks arrays, names those it has in its attribute ``fields``, and where it came from in
``imported``.

In schema version 1 each trajectory had a group of its own, ``<task>/<trajectory>/<field>``, and
there was no ``demonstrator_action``. It is read as before.
"""

from __future__ import annotations

CARD = "card"
STATISTICS = ("observation_mean", "observation_std", "action_mean", "action_std")
