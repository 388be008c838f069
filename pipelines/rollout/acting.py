"""A trained model as an agent in environments that somebody else steps.

Shapes: S streams, O observation, A numbers of an action.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.actions import ActionSpec, Box, Discrete
from pipelines.config import resolve_config
from pipelines.errors import UsageError, VintixError
from pipelines.playing.model import Memory, ModelSide, Tokens
from pipelines.playing.streams import StreamTask
from pipelines.rng import stream as random_stream
from pipelines.rollout.agents import chosen_act
from pipelines.rollout.config import RolloutConfig
from pipelines.rollout.selection import select_targets

if TYPE_CHECKING:
    import gymnasium
    from numpy.typing import ArrayLike, NDArray

    from pipelines.model.saved import SavedModel


class Agent:
    """Acts in environments of yours and remembers what it is shown, over episodes.

    Made by `vintix.load`. Each of S streams is an environment of its own; they share nothing but
    the model. The weights never change: what improves over episodes does so in context.

        agent = vintix.load("packaged")
        agent.reset("hopper", env.action_space)
        observation, _ = env.reset()
        action = agent.act(observation)
        for _ in range(10_000):
            observation, reward, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                observation, _ = env.reset()
            action = agent.act(observation, reward, terminated, truncated)

    Args:
        model: A loaded checkpoint.
    """

    def __init__(self, model: SavedModel) -> None:
        self._saved = model
        self._task: StreamTask | None = None

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that it was trained on, by name."""
        return tuple(name for name, task in self._saved.tasks.items() if task.trained)

    def reset(
        self,
        task: str,
        action_space: gymnasium.Space[Any] | None = None,
        *,
        streams: int = 1,
        seed: int = 0,
        context: int | None = None,
        act: str | None = None,
        stats: str | None = None,
        options: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Forget everything and make ready for a task.

        Args:
            task: A task that the model knows, a variation of one, or another one of its group with
                `stats`; see ``vintix rollout --task``.
            action_space: Of the environment; continuous actions are clipped to it. None for actions
                as the model gives them.
            streams: S, environments that are stepped together.
            seed: Of what is random in how a head acts, and of random maps.
            context: Steps that stay in view; None for the context of the model's training.
            act: ``sample``, ``greedy`` or ``mean``, as ``vintix rollout --act``.
            stats: Whose statistics an unknown task uses, as ``vintix rollout --stats``.
            options: Options of the domain, as ``vintix rollout --option``.

        Raises:
            UsageError: The task or a setting is unknown, or the space is not the task's.
            ConfigError: The model has no statistics or no group for the task.
        """
        import torch

        from pipelines.domains.registry import full_catalogue

        if streams < 1:
            raise UsageError(
                "too few streams",
                where="streams",
                expected="1 or more",
                found=streams,
                fix=f"agent.reset({task!r}, streams=1)",
            )
        given = {"tasks": (task,), "act": act, "stats": stats, "context": context, "seed": seed}
        config = resolve_config(
            "rollout",
            RolloutConfig,
            command_line={**given, "options": dict(options)},
            environment={},
        )
        saved = self._saved
        (target,) = select_targets(config, saved, full_catalogue())
        self._sample = not saved.model.deterministic and chosen_act(config, saved) == "sample"
        view = target.view(saved, "true", None)
        self._task = StreamTask(target.spec, target.options, 1, tuple(range(streams)), view)
        self._actions = _actions_of(target.spec.actions, action_space, task)
        normalize = saved.config.normalize_observations
        embedding = saved.config.embedding_of(view.group)
        self._side = ModelSide(seed, self._task, normalize=normalize, embedding=embedding)
        self._seed, self._size, self._now = seed, streams, 0
        with torch.inference_mode():
            self._context = Memory(context=context).make(saved.model, streams)
        self._tokens = Tokens.empty(streams, target.spec.observation_dim, target.spec.actions)
        self._action_SA = np.zeros_like(self._tokens.previous_action_BA)

    def act(
        self,
        observation: ArrayLike,
        reward: ArrayLike | None = None,
        terminated: ArrayLike = False,
        truncated: ArrayLike = False,
    ) -> NDArray[Any]:
        """Return what to do next.

        Where an episode has ended, the observation is the first of the next one, as after
        ``env.reset()`` or from a vector environment that resets itself within the step.

        Args:
            observation: (O,) of one stream, or (S, O).
            reward: Of the last action, unscaled, a number or (S,); None before the first.
            terminated: Whether the last action ended the episode, a flag for all streams or (S,).
            truncated: Whether it was cut off, likewise.

        Returns:
            (A,) or (S, A), float32 in the environment's units; int64 scalars or (S,) where actions
            are discrete.

        Raises:
            UsageError: There was no `reset`, no reward after the first step, or an array has
                another shape than (S, ...).
            VintixError: The model's action is not a finite number.
        """
        import torch

        task = self._task
        if task is None:
            raise UsageError(
                "the agent does not know its task yet",
                where="Agent.act",
                expected="Agent.reset(task) before",
                fix=f"agent.reset({next(iter(self._saved.tasks))!r})",
            )
        if (reward is None) != (self._now == 0):
            raise UsageError(
                "every step but the first has a reward",
                where=f"Agent.act, step {self._now}",
                expected="no reward" if self._now == 0 else "the reward of the last action",
                found="none" if reward is None else "one",
                fix="agent.reset(task) begins anew",
            )
        size, everyone = self._size, np.arange(self._size)
        given = np.asarray(observation, np.float32)
        seen_SO = self._shaped("observation", given, (size, task.spec.observation_dim)).copy()
        steps_S = self._tokens.episode_step_B
        if reward is not None:
            flags = np.asarray(terminated, np.bool_) | np.asarray(truncated, np.bool_)
            # One flag for all streams, such as the default.
            flags = np.broadcast_to(flags, (size,)) if flags.ndim == 0 else flags
            ended_S = self._shaped("terminated and truncated", flags, (size,))
            steps_S[...] = np.where(ended_S, 0, steps_S + 1)
            reward_S = self._shaped("reward", np.asarray(reward, np.float64), (size,))
            if not task.view.mask_rewards:
                self._tokens.previous_reward_B[...] = task.view.statistics.scale_reward(reward_S)
        self._side.write(self._tokens, everyone, seen_SO, self._action_SA.copy())
        with torch.inference_mode():
            (chosen,) = self._saved.model.step([self._batch()], self._context, self._draws())
        array = (chosen.float() if chosen.is_floating_point() else chosen).cpu().numpy()
        fault = self._actions.find_fault(array)
        if fault is not None:
            raise VintixError(
                "the model's action cannot be executed",
                where=f"Agent.act, step {self._now}",
                expected=self._actions,
                found=fault,
                fix="check that observations and rewards are finite numbers",
            )
        executed_SA = self._side.executed(everyone, array)
        bounded = not isinstance(self._actions, Box) or self._actions.low_A is not None
        self._action_SA = self._actions.decode(executed_SA) if bounded else executed_SA
        self._now += 1
        action: NDArray[Any] = self._action_SA[0] if given.ndim == 1 else self._action_SA
        return action.copy()

    def _batch(self) -> Any:
        """Return the present token of every stream."""
        assert self._task is not None
        saved, view = self._saved, self._task.view
        statistics, embeddings = [view.statistics] * self._size, self._side.embeddings or ()
        batch = self._tokens.batch(saved.config, view.group, statistics, embeddings)
        return batch.to(saved.model.encoder.prev_acs_padding.device)

    def _draws(self) -> Any:
        """Return random numbers for the next actions, those of ``vintix rollout``."""
        from pipelines.model.heads.base import Draws

        if not self._sample or self._task is None:
            return None
        keys = [self._task.key(copy, "act", self._now) for copy in range(self._size)]
        return [Draws([random_stream(self._seed, *key) for key in keys])]

    def _shaped(self, name: str, values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        """Return values (S, ...), of which one stream may leave the first dimension out."""
        if shape[0] == 1 and values.shape == shape[1:]:
            return values[None]
        if values.shape != shape:
            raise UsageError(
                f"{name} of another shape than the task's",
                where="Agent.act",
                expected=shape if shape[0] > 1 else f"{shape[1:]} or {shape}",
                found=values.shape,
                fix="agent.reset(task, streams=S) with as many streams as there are environments",
            )
        return values


def _actions_of(actions: ActionSpec, space: gymnasium.Space[Any] | None, task: str) -> ActionSpec:
    """Return the task's actions with the bounds of a space, which has to be of the same kind."""
    import gymnasium

    if space is None:
        return actions
    found: ActionSpec | None = None
    if isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 1:
        found = Box.between(space.low.astype(np.float32), space.high.astype(np.float32))
    elif isinstance(space, gymnasium.spaces.Discrete):
        found = Discrete(int(space.n))
    if found != actions:
        raise UsageError(
            "the action space is not the task's",
            where=f"Agent.reset({task!r})",
            expected=actions,
            found=space if found is None else found,
            fix=f"agent.reset({task!r}), for actions as the model gives them",
        )
    return actions if found is None else found
