"""How the rows of a learning history are laid out in an artifact.

    <task>                    attributes: task, schedule, options, scores, steps, trajectories, ...
    <task>/trajectory_start   int64 (N,), first row of each trajectory in the arrays of steps
    <task>/trajectory_length  int64 (N,), its steps; what lies between trajectories is padding
    <task>/trajectory_episodes int64 (N,), number of its episodes
    <task>/<field>            (rows, ...) per step and (E, ...) per episode, as `pipelines.rows` has
                              them; ``episode_start`` counts the steps of its own trajectory

A part of a history (``vintix distill --shard``) has the arrays of each trajectory in a group of its
own, ``<task>/<trajectory>/<field>``, as long trajectories are staged and as schema version 1 of
histories was; that is read as before.

The history of a learner (``vintix distill --source learning-history``) has the same arrays, its
noise 0, and says so in its task's attributes: ``source`` is ``learning-history``, ``train`` how the
learner was trained, ``schedule`` None. So does what a model played (``--source model``): ``source``
is ``model``, ``checkpoint`` who.

A history that was imported from a format which does not record all of this says so in its task's
attributes: ``fields`` and ``episode_fields`` name the arrays there are, ``rows`` the steps of each
trajectory where they differ, ``imported`` where it came from. Without these attributes a history
is complete and its trajectories are ``steps`` long.
"""

from __future__ import annotations

from collections.abc import Sequence

LEARNING_HISTORY, MODEL = "learning-history", "model"
"""Sources of histories that no demonstrator played."""

ORIGINS = ("imported", "source", "checkpoint", "train", "knowledge", "decoys")
"""Attributes of a task's history that not all have: where it comes from, what its demonstrators
know, who plays beside them or in their place."""


def trajectory_path(task: str, trajectory: int) -> str:
    """Return the group of a trajectory, such as ``hopper/00003``."""
    return f"{task}/{trajectory:05d}"


def trajectories_path(task: str, trajectories: Sequence[int]) -> str:
    """Return the group of trajectories that are staged together, such as ``hopper/00000-00999``."""
    return f"{trajectory_path(task, trajectories[0])}-{trajectories[-1]:05d}"


def shard_unit(task: str, trajectory: int, shard: int) -> str:
    """Return the unit of a shard, such as ``hopper/00003/00000``."""
    return f"{trajectory_path(task, trajectory)}/{shard:05d}"
