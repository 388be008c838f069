"""An evolution strategy over whole episodes, for ``--algorithm es``.

Salimans et al. 2017, "Evolution Strategies as a Scalable Alternative to Reinforcement Learning"
(arXiv:1703.03864): pairs of opposite perturbations of the parameters, their returns as centred
ranks, Adam. What makes augmented random search of it (Mania et al. 2018, arXiv:1803.07055) are
options: its rule, observations normalised by running statistics, and the alive bonus left out of
the return while training.

All candidates of an iteration play the same episodes. In a domain whose batches cost less than
their copies they all play at once; elsewhere one after the other, since stepping ended copies
beside running ones would be the greater cost.

Legend: C candidates, D parameters, E episodes of a candidate, S slots (copies of the environment),
O observation, A action, H units of a layer.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from pipelines.actions import box_of
from pipelines.artifacts.arrays import from_npz, to_npz
from pipelines.errors import ConfigError, VintixError
from pipelines.learners.episodes import EpisodeLearner, Play, play_episodes, read_hyperparameters
from pipelines.mean_variance import MeanVariance
from pipelines.policies.base import PolicySpec
from pipelines.rng import derive_seed, stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipelines.domains.base import BatchEnvironment, Domain, Options
    from pipelines.learners.settings import TrainSettings
    from pipelines.tasks.spec import TaskSpec

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.99, 1e-8
_OBSERVATION_CLIP = 10.0
# A component that has never moved says nothing; dividing by its spread would.
_SMALLEST_STD = 1e-6


class EvolutionSettings(BaseModel):
    """``demonstrators.train.hyperparameters`` of the algorithm ``es``.

    Attributes:
        policy: A ``linear`` policy without bias, or an ``mlp`` with tanh between layers.
        hidden: Units of the hidden layers of an mlp.
        output: ``clip`` or ``tanh_squash``, as of the policies.
        pairs: Pairs of opposite perturbations an iteration.
        noise: Standard deviation of the perturbations at the start.
        rule: What is made of the returns: ``adam``, a step of Adam along their centred ranks, or
            ``ars``, a plain step along the differences of the best pairs, divided by the spread
            of their returns (Mania et al. 2018, algorithm 2).
        top: With ``ars``, how many pairs count, the best by the better of the two; None for all.
        learning_rate: Size of the step at the start.
        final: What both have shrunk to, as a share of themselves, when training ends; linear in
            the steps.
        initial: Scale of the initial weights of hidden layers, times 1 / sqrt(inputs); the last
            layer begins at a tenth of it, a linear policy at 0.
        alive_bonus: What is taken off the reward of every step while training.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: Literal["linear", "mlp"] = "mlp"
    hidden: tuple[int, ...] = (16,)
    output: Literal["clip", "tanh_squash"] = "clip"
    pairs: int = Field(default=64, ge=1)
    copies: int = Field(default=4, ge=1)
    noise: float = Field(default=0.1, gt=0)
    rule: Literal["adam", "ars"] = "adam"
    top: int | None = Field(default=None, ge=1)
    learning_rate: float = Field(default=0.05, gt=0)
    final: float = Field(default=0.1, gt=0, le=1)
    initial: float = Field(default=1.0, ge=0)
    alive_bonus: float = 0.0


def evolution_settings(settings: TrainSettings) -> EvolutionSettings:
    """Read the hyperparameters of the algorithm ``es``.

    Raises:
        ConfigError: One is unknown or out of range, or rewards are to be normalised.
    """
    if settings.normalize_rewards:
        raise ConfigError(
            "The algorithm es ranks whole returns; it has no use for normalised rewards.",
            where="demonstrators.train.normalize_rewards",
            expected="false",
        )
    return read_hyperparameters(EvolutionSettings, settings)


class Layout:
    """Where the layers of a policy are in a vector of parameters."""

    def __init__(self, given: EvolutionSettings, observation_dim: int, action_dim: int) -> None:
        hidden = given.hidden if given.policy == "mlp" else ()
        sizes = [observation_dim, *hidden, action_dim]
        self.shapes = list(itertools.pairwise(sizes))
        self._biased = given.policy == "mlp"
        self.size = sum(i * o + o * self._biased for i, o in self.shapes)

    def layers(self, parameters_CD: NDArray[Any]) -> list[tuple[NDArray[Any], NDArray[Any] | None]]:
        """Return weights (C, inputs, outputs) and biases (C, outputs) of each layer, as views."""
        found, start = [], 0
        for inputs, outputs in self.shapes:
            end = start + inputs * outputs
            weight = parameters_CD[:, start:end].reshape(-1, inputs, outputs)
            start = end + outputs * self._biased
            found.append((weight, parameters_CD[:, end:start] if self._biased else None))
        return found

    def initial(self, scale: float, generator: np.random.Generator) -> NDArray[np.float64]:
        """Draw a vector (D,): a linear policy of zeros, or a network that acts softly."""
        parameters_D = np.zeros(self.size)
        if self._biased:
            layers = self.layers(parameters_D[None])
            for index, (weight, _) in enumerate(layers):
                soft = 0.1 if index == len(layers) - 1 else 1.0
                spread = soft * scale / np.sqrt(weight.shape[1])
                weight[0] = spread * generator.standard_normal(weight.shape[1:])
        return parameters_D


def best_pairs_direction(
    returns_C: NDArray[np.float64], step_PD: NDArray[np.float64], top: int | None
) -> NDArray[np.float64]:
    """Return the mean direction (D,) of the best pairs, weighed by what their returns differ by.

    Args:
        returns_C: Returns of the candidates: all steps forth, then the same steps back.
        step_PD: The steps of the pairs.
        top: How many pairs count, the best by the better of the two; None for all.
    """
    return_2P = returns_C.reshape(2, -1)
    best = np.argsort(-return_2P.max(axis=0), kind="stable")[:top]
    weight_P = return_2P[0, best] - return_2P[1, best]
    spread = len(best) * (return_2P[:, best].std() + _EPSILON)
    direction_D: NDArray[np.float64] = np.einsum("p,pd->d", weight_P, step_PD[best]) / spread
    return direction_D


@dataclass(slots=True)
class _State:
    """The centre of the search, Adam's running means, and statistics of all observations so far."""

    parameters_D: NDArray[np.float64]
    first_D: NDArray[np.float64]
    second_D: NDArray[np.float64]
    mean_O: NDArray[np.float64]
    square_O: NDArray[np.float64]
    observations: int = 0
    iteration: int = 0


class EvolutionLearner(EpisodeLearner):
    """An evolution strategy on one task; see `EpisodeLearner`.

    Raises:
        ConfigError: A hyperparameter is not valid.
    """

    def __init__(
        self, settings: TrainSettings, task: TaskSpec, domain: Domain, options: Options, seed: int
    ) -> None:
        super().__init__(settings, task, domain, options, seed)
        self._given = evolution_settings(settings)
        self._layout = Layout(self._given, task.observation_dim, task.action_dim)
        size, width = self._layout.size, task.observation_dim
        self._state = _State(
            parameters_D=self._layout.initial(self._given.initial, stream(seed, "initial")),
            first_D=np.zeros(size),
            second_D=np.zeros(size),
            mean_O=np.zeros(width),
            square_O=np.zeros(width),
        )

    def dump(self) -> bytes:
        """Return the state as the bytes of an .npz file."""
        state = {each.name: getattr(self._state, each.name) for each in fields(_State)}
        return to_npz({**state, "steps": self.steps})

    def load(self, dumped: bytes) -> None:
        """Take over what `dump` returned."""
        state: dict[str, Any] = {**from_npz(dumped)}
        self.steps = int(state.pop("steps"))
        self._state = _State(
            **{name: value if value.ndim else int(value) for name, value in state.items()}  # type: ignore[arg-type]
        )

    def policy(self) -> PolicySpec:
        """Return the policy at the centre of the search, in float32."""
        layers = self._layout.layers(self._state.parameters_D[None].astype(np.float32))
        config: dict[str, Any] = {
            "output": self._given.output,
            "normalize": self._settings.normalize_observations,
            "observation_clip": _OBSERVATION_CLIP
            if self._settings.normalize_observations
            else None,
        }
        arrays: dict[str, NDArray[Any]] = {}
        if self._given.policy == "linear":
            arrays["matrix"] = layers[0][0][0].T.copy()
        else:
            config |= {"layers": len(layers), "activation": "tanh"}
            for index, (weight, bias) in enumerate(layers):
                arrays[f"weight_{index}"] = weight[0].copy()
                if bias is not None:
                    arrays[f"bias_{index}"] = bias[0].copy()
        if self._settings.normalize_observations:
            mean_O, std_O = self._normalization()
            arrays["observation_mean"], arrays["observation_std"] = mean_O, std_O
        return PolicySpec(self._given.policy, config, arrays)

    def iterate(self) -> None:
        """Move the centre by one generation."""
        state, given = self._state, self._given
        progress = min(self.steps / self._settings.total_steps, 1.0)
        shrink = 1 - (1 - given.final) * progress
        noise = given.noise * shrink
        generator = stream(self._seed, "perturbations", state.iteration)
        step_PD = generator.standard_normal((given.pairs, self._layout.size))
        candidates_CD = state.parameters_D + noise * np.concatenate([step_PD, -step_PD])
        if self._settings.normalize_observations and not state.observations:
            # Without statistics a first step would be in the units of the simulator.
            self._play(candidates_CD)
        returns_C = self._play(candidates_CD)
        rate = given.learning_rate * shrink
        state.iteration += 1
        if given.rule == "adam":
            state.parameters_D = state.parameters_D + rate * self._adam(returns_C, step_PD, noise)
        else:
            state.parameters_D = state.parameters_D + rate * best_pairs_direction(
                returns_C, step_PD, given.top
            )

    def _adam(
        self, returns_C: NDArray[np.float64], step_PD: NDArray[np.float64], noise: float
    ) -> NDArray[np.float64]:
        """Return a step of Adam (D,) of size one up the gradient of the ranks."""
        state, pairs = self._state, self._given.pairs
        rank_C = _centred_ranks(returns_C)
        weight_P = rank_C[:pairs] - rank_C[pairs:]
        gradient_D = np.einsum("p,pd->d", weight_P, step_PD) / (pairs * noise)
        state.first_D = _BETA_1 * state.first_D + (1 - _BETA_1) * gradient_D
        state.second_D = _BETA_2 * state.second_D + (1 - _BETA_2) * gradient_D**2
        first_D = state.first_D / (1 - _BETA_1**state.iteration)
        second_D = state.second_D / (1 - _BETA_2**state.iteration)
        adam_D: NDArray[np.float64] = first_D / (np.sqrt(second_D) + _EPSILON)
        return adam_D

    def _play(self, candidates_CD: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the mean return (C,) of each candidate over the iteration's episodes."""
        state, copies = self._state, self._given.copies
        seeds = [
            derive_seed(self._seed, "episode", state.iteration, copy) for copy in range(copies)
        ]
        # One copy alone is played on where copies are simulated one by one.
        slots = len(candidates_CD) * copies if self._domain.vectorized else 1
        batch = self.make_copies([derive_seed(self._seed, "copy", slot) for slot in range(slots)])
        plays = [
            Play(candidate, episode, seed)
            for candidate in range(len(candidates_CD))
            for episode, seed in enumerate(seeds)
        ]
        rounded_CD = candidates_CD.astype(np.float32)
        parameters_SD = rounded_CD[[play.candidate for play in plays[: batch.size]]]
        respond = self._actor(parameters_SD, batch)
        seen: list[NDArray[np.float32]] = []

        def begin(slot: int, play: Play) -> None:
            parameters_SD[slot] = rounded_CD[play.candidate]

        def act(
            observation_SO: NDArray[np.float32], running_S: NDArray[np.bool_]
        ) -> NDArray[np.float32]:
            if self._settings.normalize_observations:
                seen.append(observation_SO[running_S])
            return respond(observation_SO)

        returns_C, steps = play_episodes(
            batch,
            plays,
            len(candidates_CD),
            begin,
            act,
            lambda after: after.reward_B - self._given.alive_bonus,
        )
        self.steps += steps
        if not np.isfinite(returns_C).all():
            raise VintixError(
                f"task {self._task.name}: the training broke down",
                where=f"es, after {self.steps:,} steps",
                expected="finite returns",
                fix="a smaller noise or learning_rate in demonstrators.train.hyperparameters",
            )
        if seen:
            self._observe(np.concatenate(seen))
        return returns_C / copies

    def _actor(
        self, parameters_SD: NDArray[np.float32], batch: BatchEnvironment
    ) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
        """Return what acts in all slots at once; it sees later changes of the parameters."""
        layers = self._layout.layers(parameters_SD)
        low_A, high_A = box_of(batch.actions, "a search over whole episodes").bounds
        half_A = np.float32(0.5) * (high_A - low_A)
        normalize = self._settings.normalize_observations
        squash = self._given.output == "tanh_squash"
        mean_O, std_O = (each.astype(np.float32) for each in self._normalization())

        def act(observation_SO: NDArray[np.float32]) -> NDArray[np.float32]:
            hidden_SH: NDArray[Any] = observation_SO
            if normalize:
                hidden_SH = (hidden_SH - mean_O) / std_O
                hidden_SH = hidden_SH.clip(-_OBSERVATION_CLIP, _OBSERVATION_CLIP)
            for index, (weight, bias) in enumerate(layers):
                hidden_SH = np.tanh(hidden_SH) if index else hidden_SH
                hidden_SH = np.einsum("si,sih->sh", hidden_SH, weight, optimize=False)
                if bias is not None:
                    hidden_SH = hidden_SH + bias
            if squash:
                hidden_SH = low_A + half_A * (np.tanh(hidden_SH) + np.float32(1))
            action_SA: NDArray[np.float32] = hidden_SH.clip(low_A, high_A)
            return action_SA

        return act

    def _normalization(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        state = self._state
        std_O = np.sqrt(state.square_O / max(state.observations, 1))
        return state.mean_O, np.where(std_O < _SMALLEST_STD, 1.0, std_O)

    def _observe(self, observation_NO: NDArray[np.float32]) -> None:
        """Merge observations into the running statistics."""
        state = self._state
        exact_NO = observation_NO.astype(np.float64)
        mean_O = exact_NO.mean(axis=0)
        new = MeanVariance(len(exact_NO), mean_O, ((exact_NO - mean_O) ** 2).sum(axis=0))
        joined = MeanVariance(state.observations, state.mean_O, state.square_O).merge(new)
        state.observations, state.mean_O = joined.count, joined.mean_C
        state.square_O = joined.squares_C


def _centred_ranks(values_C: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ranks in [-0.5, 0.5]; equal values keep their order."""
    rank_C = np.empty(len(values_C))
    rank_C[np.argsort(values_C, kind="stable")] = np.arange(len(values_C))
    return rank_C / (len(values_C) - 1) - 0.5
