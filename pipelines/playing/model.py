"""A model that plays streams of many tasks from an empty context (section 2.3.3).

All streams take one step at a time: one forward pass for all of them, one call per task to its
environments. Streams that have played their last shot leave the batch and the cache; what the
others do does not depend on them.

Shapes: S streams of a task, B of them still playing, or those of a group, O observation, A action.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import ConfigError, VintixError
from pipelines.playing.environments import EnvironmentWorkers, MakeBatch, make_batch
from pipelines.playing.episodes import Episodes
from pipelines.playing.streams import (
    REPORT_EVERY,
    Records,
    StreamRecord,
    StreamRecorder,
    StreamTask,
)
from pipelines.rng import stream as random_stream

if TYPE_CHECKING:
    import torch

    from pipelines.actions import ActionSpec
    from pipelines.model.batch import GroupBatch
    from pipelines.model.cache import Context
    from pipelines.model.config import ModelConfig
    from pipelines.model.heads import Act
    from pipelines.model.heads.base import Draws, Embedding
    from pipelines.model.normalization import TaskStatistics
    from pipelines.model.random_map import RandomMap
    from pipelines.model.vintix import Vintix

#: Prompt tokens that are run at once; bounds the memory of activations.
PROMPT_TOKENS = 16_384

# Of one core, for `pass_seconds`: seconds of a layer besides its products, and operations a second.
_LAYER_SECONDS = 2e-4
_PRODUCTS_A_SECOND = 5e10
_CACHED_A_SECOND = 1e10


@dataclass(frozen=True)
class Memory:
    """What a stream keeps in view.

    Attributes:
        context: Steps; the model's training context if None.
        cache: ``window`` for keys and values in a ring; ``none`` for a full pass over the window
            at each step, the exact reference.
        sinks: First steps that stay in view for good.
    """

    context: int | None = None
    cache: Literal["window", "none"] = "window"
    sinks: int = 0

    def make(self, model: Vintix, streams: int) -> Context:
        """Return the empty context of some streams.

        Raises:
            UsageError: The sinks leave no room.
        """
        if self.cache == "none":
            return model.make_window(streams, self.context, self.sinks)
        return model.make_cache(streams, self.context, sinks=self.sinks)


def roll(
    model: Vintix,
    tasks: Sequence[StreamTask],
    *,
    seed: int,
    make_batch: MakeBatch = make_batch,
    memory: Memory | None = None,
    act: Act | None = None,
    workers: EnvironmentWorkers | None = None,
    on_steps: Callable[[int], None] = lambda steps: None,
) -> Records:
    """Play all streams of all tasks to their last shot.

    The previous action is the executed one, clipped to the environment's bounds, and the previous
    reward is scaled as in training. An episode's first token carries episode step 0, where the
    model puts its padding vectors.

    Args:
        model: In evaluation mode, with the groups of all tasks.
        tasks: At least one; no two of one name; all with prompts of one length, or none.
        make_batch: Makes the environments of a task, whose episodes end at the horizon at the
            latest.
        memory: What a stream keeps in view; the model's own context if None.
        act: How the heads choose actions, one of `Head.ways`; their default if None.
        workers: Worker processes for the environments of tasks that may live there.
        on_steps: Called now and then with the stream steps done since the last call.

    Raises:
        VintixError: An action of the model is not a finite number, or as `EnvironmentWorkers`.
        ConfigError: Prompts of several lengths.
    """
    with Player(
        model, tasks, seed=seed, make_batch=make_batch, memory=memory, act=act, workers=workers
    ) as player:
        ticks, reported = 0, 0
        while player.playing:
            player.tick()
            ticks += 1
            if ticks % REPORT_EVERY == 0 or not player.playing:
                on_steps(player.steps - reported)
                reported = player.steps
        return player.records()


class Player:
    """Streams that stand at the first observation of their first episode, and play on by `tick`.

    Args:
        model, tasks, seed, make_batch, memory, act, workers: As of `roll`.

    Attributes:
        playing: The tasks that still have streams to play.
    """

    def __init__(
        self,
        model: Vintix,
        tasks: Sequence[StreamTask],
        *,
        seed: int,
        make_batch: MakeBatch = make_batch,
        memory: Memory | None = None,
        act: Act | None = None,
        workers: EnvironmentWorkers | None = None,
    ) -> None:
        import torch

        self._model, self._seed = model, seed
        self._draws = not model.deterministic if act is None else act == "sample"
        self._everyone: list[TaskStreams] = []
        try:
            for task in tasks:
                self._everyone.append(
                    TaskStreams(
                        task,
                        seed=seed,
                        make_batch=make_batch,
                        workers=workers,
                        normalize=model.config.normalize_observations,
                        embedding=model.config.embedding_of(task.view.group),
                    )
                )
            for streams in self._everyone:
                streams.episodes.begin()
            # Tasks of one group stand together, so that its encoder and head run once a step.
            groups = list(dict.fromkeys(streams.group for streams in self._everyone))
            self.playing = sorted(self._everyone, key=lambda each: groups.index(each.group))
            count = sum(len(streams.playing) for streams in self.playing)
            with torch.inference_mode():
                self._context = (memory or Memory()).make(model, count)
                prefill(model, self._context, self.playing)
            self._table = _Table(model, self.playing)
        except BaseException:
            self.close()
            raise

    @property
    def steps(self) -> int:
        """Steps played so far, over all streams."""
        return sum(streams.recorder.steps for streams in self._everyone)

    def tick(self) -> None:
        """Play one step of every stream that still plays.

        Raises:
            VintixError: As `roll`.
        """
        import torch

        with torch.inference_mode():
            draws = self._table.draws(self._seed) if self._draws else None
            actions = self._model.step(self._table.batches, self._context, draws)
        self._table.act(actions)
        before = [streams.playing for streams in self.playing]
        for streams in self.playing:
            streams.observe()
        for streams in self.playing:
            streams.episodes.begin()
        kept = [
            np.isin(one, streams.playing) for one, streams in zip(before, self.playing, strict=True)
        ]
        if all(one.all() for one in kept):
            self._table.write()
            return
        self.playing = [streams for streams in self.playing if len(streams.playing)]
        if self.playing:
            with torch.inference_mode():
                self._context.keep(np.flatnonzero(np.concatenate(kept)).tolist())
            self._table = _Table(self._model, self.playing)

    def records(self) -> Records:
        """Return the record of each stream by task name and stream number."""
        return {streams.task.spec.name: streams.records() for streams in self._everyone}

    def close(self) -> None:
        """Give back what the environments hold."""
        for streams in self._everyone:
            streams.episodes.batch.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Tokens(NamedTuple):
    """Where the streams still playing put what the model sees next.

    Attributes:
        observation_BO: float32, normalised if the model asks for it, and mapped likewise.
        previous_action_BA: As executed, mapped if the model asks for it.
        previous_reward_B: float32, scaled.
        episode_step_B: int64.
    """

    observation_BO: NDArray[np.float32]
    previous_action_BA: NDArray[Any]
    previous_reward_B: NDArray[np.float32]
    episode_step_B: NDArray[np.int64]

    @classmethod
    def empty(cls, size: int, observation_dim: int, actions: ActionSpec) -> Self:
        """Return zeros for so many streams."""
        return cls(
            np.zeros((size, observation_dim), np.float32),
            np.zeros((size, *actions.row_shape), actions.row_dtype),
            np.zeros(size, np.float32),
            np.zeros(size, np.int64),
        )

    def batch(
        self,
        config: ModelConfig,
        group: str,
        statistics: Sequence[TaskStatistics],
        embeddings: Sequence[NDArray[np.float32]],
    ) -> GroupBatch:
        """Return the tokens as the model takes them, in the same memory.

        Args:
            statistics: Those of each stream's task.
            embeddings: Of each stream's actions; empty where the model knows them by number.
        """
        import torch

        from pipelines.model.batch import GroupBatch, stack_embeddings

        mean = std = None
        if config.normalize_actions and config.groups[group].actions.continuous:
            mean = torch.from_numpy(np.stack([each.action_mean for each in statistics]))
            std = torch.from_numpy(np.stack([each.action_std for each in statistics]))
        observation, action, reward, step = (torch.from_numpy(each)[:, None] for each in self)
        return GroupBatch(
            group,
            observation,
            action,
            reward,
            step,
            action_mean_BA=mean,
            action_std_BA=std,
            embedding_BNE=stack_embeddings(embeddings),
        )


class ModelSide:
    """What a model sees of a task's streams, and what its actions are there.

    Args:
        normalize: Whether the model wants normalised observations.
        embedding: How each stream embeds its actions; None where the model knows them by number.

    Attributes:
        embeddings: The embeddings of each stream's actions (N, E); None for none.
        maps: The random map of each stream; None for none.
        moved_SO: Which channels moved though they were constant in the data of the statistics.
    """

    def __init__(
        self,
        seed: int,
        task: StreamTask,
        *,
        normalize: bool,
        embedding: Embedding | None = None,
    ) -> None:
        view, size = task.view, len(task.streams)
        self.embeddings: list[NDArray[np.float32]] | None = None
        if embedding is not None:
            self.embeddings = [
                embedding.draw(
                    task.spec.actions.width, random_stream(seed, *task.key(copy, "embedding"))
                )
                for copy in range(size)
            ]
        self._statistics, self._normalize = view.statistics, normalize
        self._running = RunningStatistics(view.statistics, size) if view.running else None
        self._constant_O = np.flatnonzero(view.statistics.constant_observation & normalize)
        self.moved_SO = np.zeros((size, task.spec.observation_dim), np.bool_)
        self.maps: list[RandomMap] | None = None
        if view.random_map:
            self.maps = [stream_map(seed, task, copy, normalized=normalize) for copy in range(size)]

    def write(
        self,
        tokens: Tokens,
        streams: NDArray[np.int64],
        observation_BO: NDArray[np.float32],
        action_BA: NDArray[Any],
    ) -> None:
        """Write observations and previous actions as the model sees them.

        Called once for each step: running statistics take every observation in once.

        Args:
            streams: Which streams they are of, distinct (B,).
            observation_BO: The present observations; may be overwritten.
            action_BA: The actions executed before; may be overwritten.
        """
        if len(self._constant_O):
            self._note_moved(streams, observation_BO)
        if self._normalize and self._running is not None:
            observation_BO = self._running.normalize(streams, observation_BO)
        elif self._normalize:
            observation_BO = self._statistics.normalize_observation(observation_BO)
        if self.maps is not None:
            for row, copy in enumerate(streams):
                observation_BO[row] = self.maps[copy].observation(observation_BO[row])
                action_BA[row] = self.maps[copy].action(action_BA[row])
        tokens.observation_BO[...] = observation_BO
        tokens.previous_action_BA[...] = action_BA

    def executed(self, streams: NDArray[np.int64], action_BA: NDArray[Any]) -> NDArray[Any]:
        """Return the model's actions as the environments take them, but for clipping."""
        if self.maps is None:
            return action_BA
        rows = zip(streams, action_BA, strict=True)
        return np.stack([self.maps[copy].executed(one) for copy, one in rows])

    def _note_moved(self, streams: NDArray[np.int64], observation_BO: NDArray[np.float32]) -> None:
        from pipelines.model.normalization import float32_resolution

        mean_C = self._statistics.observation_mean[self._constant_O]
        distance_BC = np.abs(observation_BO[:, self._constant_O] - mean_C)
        # Rounding alone may take a value a few steps of float32 from the mean.
        moved_BC = distance_BC > 10 * float32_resolution(mean_C)
        self.moved_SO[np.ix_(streams, self._constant_O)] |= moved_BC


class TaskStreams:
    """The streams of one task: between its environments and what the model sees and does.

    Args:
        task, seed, make_batch, workers: As of `roll`.
        normalize: Whether the model wants normalised observations.
        embedding: How each stream embeds its actions; None where the model knows them by number.

    Attributes:
        episodes: Of the streams; asked to start.
        model_side: What the model sees of them.
    """

    def __init__(
        self,
        task: StreamTask,
        *,
        seed: int,
        make_batch: MakeBatch,
        workers: EnvironmentWorkers | None = None,
        normalize: bool,
        embedding: Embedding | None = None,
    ) -> None:
        view, size = task.view, len(task.streams)
        self.task, self.group = task, view.group
        self.model_side = ModelSide(seed, task, normalize=normalize, embedding=embedding)
        self._draws: list[np.random.Generator] = []
        if view.rewards == "shuffled":
            self._draws = [random_stream(seed, *task.key(copy, "rewards")) for copy in range(size)]
        batch = task.make(seed, make_batch, workers)
        self._actions = batch.actions
        # What a copy is stepped with once its stream is over is without meaning.
        self._action_SA = self._actions.idle(size)
        self._last_reward_S = np.zeros(size, np.float32)
        self._steps_S = np.zeros(size, np.int64)
        self.recorder = StreamRecorder(task)
        self.episodes = Episodes(batch, task.episode_seeds(seed), on_end=self.recorder.end)
        self.episodes.ask_start()

    @property
    def playing(self) -> NDArray[np.int64]:
        """Which streams still play, ascending indices (B,)."""
        return self.episodes.playing

    def write(self, tokens: Tokens) -> None:
        """Write what the model sees next into the places of the playing streams, once a step."""
        playing = self.playing
        observation_BO = self.episodes.observation_BO[playing]
        self.model_side.write(tokens, playing, observation_BO, self._action_SA[playing])
        tokens.previous_reward_B[...] = self._last_reward_S[playing]
        tokens.episode_step_B[...] = self.episodes.now - self.episodes.start_B[playing]

    def act(self, action_BA: NDArray[Any]) -> None:
        """Ask for one step of the model's actions, which are clipped to a box's bounds.

        Raises:
            VintixError: An action is not a finite number, or none of the task's.
        """
        if self._actions.find_fault(action_BA) is not None:
            raise self._unusable(action_BA)
        executed_BA = self.model_side.executed(self.playing, action_BA)
        self._action_SA[self.playing] = self._actions.decode(executed_BA)
        self.episodes.ask(self._action_SA)

    def observe(self) -> None:
        """Take and record the step that was asked for."""
        playing, after = self.playing, self.episodes.observe()
        self.recorder.step(playing, after)
        self._steps_S[playing] += 1
        if not self.task.view.mask_rewards:
            shown_B = self._shown_rewards(playing, after.reward_B[playing])
            self._last_reward_S[playing] = self.task.view.statistics.scale_reward(shown_B)

    def records(self) -> dict[int, StreamRecord]:
        """Return the record of each stream by its number."""
        moved = [tuple(np.flatnonzero(moved_O).tolist()) for moved_O in self.model_side.moved_SO]
        records = self.recorder.records().items()
        return {
            number: replace(record, moved=channels)
            for (number, record), channels in zip(records, moved, strict=True)
        }

    def _shown_rewards(
        self, playing: NDArray[np.int64], reward_B: NDArray[np.float64]
    ) -> NDArray[Any]:
        """Return what the playing streams are shown in place of their latest rewards (B,)."""
        rewards = self.task.view.rewards
        if rewards == "true":
            return reward_B
        if rewards == "zero":
            return np.zeros_like(reward_B)
        if rewards == "mean":
            return np.full_like(reward_B, self.task.view.mean_reward)
        if rewards == "flipped":
            return -reward_B
        if rewards == "other":
            other = (playing + 1) % len(self._steps_S)
            # One that is over already begins again.
            same = (self.episodes.now - 1) % self._steps_S[other]
            others_B: NDArray[Any] = self.recorder.reward_TS[same, other]
            return others_B
        # The latest one is recorded already and may be drawn, too.
        steps = [int(self._draws[copy].integers(self.episodes.now)) for copy in playing]
        drawn_B: NDArray[Any] = self.recorder.reward_TS[steps, playing]
        return drawn_B

    def _unusable(self, action_BA: NDArray[Any]) -> VintixError:
        find = self._actions.find_fault
        row, found = next(
            (row, fault) for row, one in enumerate(action_BA) if (fault := find(one)) is not None
        )
        number = self.task.streams[self.playing[row]]
        return VintixError(
            "the model's action cannot be executed",
            where=f"task {self.task.spec.name}, stream {number}, step {self.episodes.now}",
            expected=self._actions,
            found=found,
            fix="train the checkpoint anew with a lower learning rate",
        )


def stream_map(seed: int, task: StreamTask, copy: int, *, normalized: bool) -> RandomMap:
    """Return the map that a copy's stream is seen through, for a model of `normalized`
    observations; a variation's is drawn as its base task's.
    """
    from pipelines.model.random_map import RandomMap

    generator = random_stream(seed, *task.key(copy, "map"))
    statistics, actions = task.view.statistics, task.spec.actions
    return RandomMap.draw(statistics, generator, actions, normalized=normalized)


def prefill(model: Vintix, context: Context, everyone: Sequence[TaskStreams]) -> None:
    """Put the prompts of all streams, in their order, into an empty context, a few at a time.

    Raises:
        ConfigError: Prompts of several lengths.
        UsageError: There are sinks and the prompts are longer than the context.
    """
    lengths = sorted({streams.task.view.prompt_steps for streams in everyone})
    if len(lengths) > 1:
        raise ConfigError(
            "streams that advance together have prompts of several lengths",
            where="prompts of one batch",
            expected="one length",
            found=", ".join(map(str, lengths)),
        )
    if lengths == [0]:
        return
    some, row = max(1, PROMPT_TOKENS // lengths[0]), 0
    for streams in everyone:
        for start in range(0, len(streams.task.streams), some):
            part = range(start, min(start + some, len(streams.task.streams)))
            batches = _prompt_batches(model, streams, part)
            model.prefill(batches, context.part(row, row + len(part)))
            row += len(part)
    context.advance(lengths[0])


def _prompt_batches(model: Vintix, streams: TaskStreams, part: Sequence[int]) -> list[GroupBatch]:
    import torch

    from pipelines.model.batch import TaskSequence, group_sequences

    view, embeddings = streams.task.view, streams.model_side.embeddings
    sequences = []
    for index in part:
        rows = view.prompt.rows(streams.task.streams[index])  # type: ignore[union-attr]
        reward_L = rows.previous_reward_L
        if view.mask_rewards:
            reward_L = np.zeros_like(reward_L)
        sequences.append(
            TaskSequence(
                group=view.group,
                statistics=view.statistics,
                observation_LO=torch.from_numpy(rows.observation_LO),
                previous_action_LA=torch.from_numpy(rows.previous_action_LA),
                previous_reward_L=torch.from_numpy(reward_L),
                episode_step_L=torch.from_numpy(rows.episode_step_L),
                embedding_NE=None if embeddings is None else embeddings[index],
            )
        )
    batches = group_sequences(model.config, sequences)[0]
    maps = streams.model_side.maps
    if maps is not None:
        # The sequences of one task are one batch, stacked into memory of its own.
        observations, actions = batches[0].observation_BLO, batches[0].previous_action_BLA
        for row, index in enumerate(part):
            maps[index].apply(observations[row].numpy(), actions[row].numpy())
    device = model.encoder.prev_acs_padding.device
    return [batch.to(device) for batch in batches]


class _Table:
    """The tokens of all playing streams: one batch a group, with a slice for each task.

    The tensors are made once and share their memory with the arrays that the tasks write into.
    """

    def __init__(self, model: Vintix, playing: Sequence[TaskStreams]) -> None:
        self._device = model.encoder.prev_acs_padding.device
        self._groups: list[tuple[GroupBatch, list[tuple[TaskStreams, slice, Tokens]]]] = []
        for group in dict.fromkeys(streams.group for streams in playing):
            members = [streams for streams in playing if streams.group == group]
            self._groups.append(self._place(model, group, members))

    @property
    def batches(self) -> list[GroupBatch]:
        """One token of every playing stream, by group."""
        if self._device.type == "cpu":
            return [batch for batch, _ in self._groups]
        return [batch.to(self._device) for batch, _ in self._groups]

    def draws(self, seed: int) -> list[Draws]:
        """Return random numbers for the next actions, of each group's streams."""
        from pipelines.model.heads.base import Draws

        return [
            Draws(
                [
                    random_stream(seed, *streams.task.key(copy, "act", streams.episodes.now))
                    for streams, _, _ in places
                    for copy in streams.playing
                ]
            )
            for _, places in self._groups
        ]

    def act(self, actions: Sequence[torch.Tensor]) -> None:
        """Ask the environments for a step of the model's actions, group by group."""
        for action_BA, (_, places) in zip(actions, self._groups, strict=True):
            # NumPy does not know bfloat16.
            array_BA = (action_BA.float() if action_BA.is_floating_point() else action_BA).cpu()
            for streams, rows, _ in places:
                streams.act(array_BA.numpy()[rows])

    def write(self) -> None:
        """Write what every stream sees next."""
        for _, places in self._groups:
            for streams, _, tokens in places:
                streams.write(tokens)

    def _place(
        self, model: Vintix, group: str, members: Sequence[TaskStreams]
    ) -> tuple[GroupBatch, list[tuple[TaskStreams, slice, Tokens]]]:
        size = sum(len(streams.playing) for streams in members)
        dims = model.config.groups[group]
        together = Tokens.empty(size, dims.observation_dim, dims.actions)
        places, start = [], 0
        statistics: list[TaskStatistics] = []
        embeddings: list[NDArray[np.float32]] = []
        for streams in members:
            rows = slice(start, start + len(streams.playing))
            tokens = Tokens._make(each[rows] for each in together)
            streams.write(tokens)
            places.append((streams, rows, tokens))
            statistics += [streams.task.view.statistics] * len(streams.playing)
            drawn = streams.model_side.embeddings
            if drawn is not None:
                embeddings += [drawn[copy] for copy in streams.playing]
            start = rows.stop
        return together.batch(model.config, group, statistics, embeddings), places


def pass_seconds(model: Vintix, streams: int, view: float, memory: Memory) -> float:
    """Guess how long a forward pass takes on a CPU, without environments and without trying.

    With the packaged model and with preset `small`, 1 to 200 streams, it was within a factor of two
    of what one core took.

    Args:
        streams: How many take the step together.
        view: Steps in view of each.
        memory: How they are kept in view; a window that is recomputed is a pass over all of it.
    """
    backbone = type(model.backbone)
    parameters = sum(each.numel() for each in model.backbone.parameters())
    others = sum(each.numel() for part in (model.encoder, model.head) for each in part.parameters())
    met = 2 * others / len(model.config.groups)

    def operations(average_view: float) -> float:
        # A training step is three forward passes, whose tokens see half of the context on average.
        config = model.config.model_copy(update={"context": round(2 * average_view)})
        return met + backbone.flops_per_token(config, parameters) / 3

    if memory.cache == "none":
        tokens = streams * max(1.0, view)
        seconds = tokens * operations(view / 2) / _PRODUCTS_A_SECOND
    else:
        # What has to be read for each stream is the bound of cached attention, not products.
        attention = operations(view) - operations(0)
        seconds = streams * (operations(0) / _PRODUCTS_A_SECOND + attention / _CACHED_A_SECOND)
    return model.config.layers * _LAYER_SECONDS + seconds


class RunningStatistics:
    """Observation statistics that the streams of one task estimate as they go.

    They begin as those of the group, counted as `PRIOR_STEPS` steps, because a first observation
    alone has no spread; each observation that a stream sees moves that stream's estimate. What the
    context holds already keeps the values it was given when it was new. Channels that are constant
    in the group stay so, whatever the stream sees: the model has learned nothing about them.

    Args:
        prior: Where the estimates begin.
    """

    #: Steps that the group's statistics count as.
    PRIOR_STEPS = 100

    def __init__(self, prior: TaskStatistics, streams: int) -> None:
        shape = (streams, len(prior.observation_mean))
        self._count_S = np.full(streams, float(self.PRIOR_STEPS))
        self._mean_SO = np.broadcast_to(prior.observation_mean.astype(np.float64), shape).copy()
        variance_O = prior.observation_std.astype(np.float64) ** 2
        self._squares_SO = np.broadcast_to(self.PRIOR_STEPS * variance_O, shape).copy()
        self._constant_O = prior.constant_observation

    def normalize(
        self, streams: NDArray[np.int64], observation_BO: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Take in one new observation of some streams, distinct (B,); return it normalised."""
        from pipelines.model.normalization import divisor

        self._count_S[streams] += 1
        count_B1 = self._count_S[streams, None]
        before_BO = observation_BO - self._mean_SO[streams]
        before_BO[:, self._constant_O] = 0.0
        self._mean_SO[streams] += before_BO / count_B1
        after_BO = observation_BO - self._mean_SO[streams]
        self._squares_SO[streams] += before_BO * after_BO
        std_BO = np.sqrt(self._squares_SO[streams] / count_B1)
        return (after_BO / divisor(self._mean_SO[streams], std_BO)).astype(np.float32)
