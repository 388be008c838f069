"""How the rows of a learning history are laid out in an artifact.

<task>                    attributes: task, schedule, options, scores, steps, trajectories, ...
<task>/<trajectory>/
    observation           float32 (T, O)
    action                float32 (T, A), as executed
    reward                float32 (T,), unscaled
    terminated, truncated bool (T,)
    noise                 float32 (T,), epsilon
    demonstrator_action   float32 (T, A)
    episode_start         int64 (E,)
    episode_length        int32 (E,)
    episode_return        float64 (E,)
    episode_final_observation  float32 (E, O)

The history of a learner (``vintix distill --source learning-history``) has the same arrays, its
noise 0, and says so in its task's attributes: ``source`` is ``learning-history``, ``train`` how the
learner was trained, ``schedule`` None.

A history that was imported from a format which does not record all of this says so in its task's
attributes: ``fields`` and ``episode_fields`` name the arrays there are, ``rows`` the steps of each
trajectory where they differ, ``imported`` where it came from. Without these attributes a history
is complete and its trajectories are ``steps`` long.
"""

from __future__ import annotations


def trajectory_path(task: str, trajectory: int) -> str:
    """Return the group of a trajectory, such as ``hopper/00003``."""
    return f"{task}/{trajectory:05d}"


def shard_unit(task: str, trajectory: int, shard: int) -> str:
    """Return the unit of a shard, such as ``hopper/00003/00000``."""
    return f"{trajectory_path(task, trajectory)}/{shard:05d}"
