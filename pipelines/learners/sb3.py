"""A Stable-Baselines3 learner whose whole state can be written down without a pickle.

What a learner is between two segments of training: the tensors of its networks and optimizers,
counters, running statistics, and, off-policy, the transitions in its replay buffer. Everything
else (environment, random generators, rollout storage) begins anew with every segment, also in a
run that is never interrupted.
"""

from __future__ import annotations

import contextlib
import copy
import io
import traceback
from collections.abc import Callable, Mapping
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.errors import ConfigError, MissingDependencyError, VintixError
from pipelines.learners.sb3_weights import Normalization, find_actor, policy_spec, widened
from pipelines.learners.settings import LIBRARY_LEARNERS

if TYPE_CHECKING:
    import gymnasium

    from pipelines.learners.settings import TrainSettings
    from pipelines.policies.base import PolicySpec
    from pipelines.reporter import Advance
    from pipelines.tasks.spec import TaskSpec

_OF_POLICY = ("net_arch", "activation_fn", "log_std_init")
# What this module sets, and what it could not write down.
_TAKEN = (
    "env",
    "seed",
    "device",
    "verbose",
    "tensorboard_log",
    "policy_kwargs",
    "optimize_memory_usage",
    "replay_buffer_class",
    "replay_buffer_kwargs",
    "rollout_buffer_class",
    "rollout_buffer_kwargs",
    "_init_setup_model",
)
_BUFFER = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
_COUNTERS = ("num_timesteps", "_n_updates", "_episode_num")


class Learner:
    """A learner for one segment of training.

    Args:
        seed: Seeds the networks, the environment and all generators of the segment.
        section: Where the settings are in a configuration, for messages.

    Raises:
        ConfigError: A hyperparameter is unknown or not valid.
        MissingDependencyError: The library is not there.
    """

    def __init__(
        self,
        settings: TrainSettings,
        task: TaskSpec,
        make_env: Callable[[], gymnasium.Env[Any, Any]],
        seed: int,
        section: str = "demonstrators.train",
    ) -> None:
        _import_library()
        from stable_baselines3.common.logger import Logger
        from stable_baselines3.common.monitor import Monitor
        from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

        self.settings, self.task, self.section = settings, task, section
        self._observed = settings.observation_prefix or task.observation_dim
        if self._observed > task.observation_dim:
            raise ConfigError(
                f"task {task.name} has a shorter observation.",
                where=f"{section}.observation_prefix",
                expected=f"at most {task.observation_dim}",
                found=self._observed,
                fix=f"leave it out, or --set {section}.observation_prefix=N",
            )
        env: Any = DummyVecEnv([lambda: Monitor(self._prefixed(make_env()))])
        self._statistics: Any = None
        if settings.normalize_observations or settings.normalize_rewards:
            env = self._statistics = VecNormalize(
                env,
                norm_obs=settings.normalize_observations,
                norm_reward=settings.normalize_rewards,
                gamma=float(settings.hyperparameters.get("gamma", 0.99)),
            )
        self.model = _make_model(settings, env, seed, section)
        # Without one, the library makes a directory for its logs with every call of learn.
        self.model.set_logger(Logger(folder=None, output_formats=[]))
        # The constructor has used up some of the seed's numbers.
        self.model.set_random_seed(seed)

    def _prefixed(self, env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
        from gymnasium.spaces import Box
        from gymnasium.wrappers import TransformObservation

        if self._observed == self.task.observation_dim:
            return env
        full: Any = env.observation_space
        seen = Box(full.low[: self._observed], full.high[: self._observed], dtype=full.dtype)
        return TransformObservation(env, lambda row_O: row_O[: self._observed], seen)

    @property
    def steps(self) -> int:
        """Environment steps trained so far, over all segments."""
        return int(self.model.num_timesteps)

    def learn(self, until: int, advance: Advance | None = None) -> None:
        """Train until at least this many steps; learners finish the rollout they are in."""
        from stable_baselines3.common.callbacks import BaseCallback

        reported = self.steps

        class Tell(BaseCallback):
            def _on_step(self) -> bool:
                nonlocal reported
                if advance is not None and self.num_timesteps > reported:
                    advance(self.num_timesteps - reported)
                    reported = self.num_timesteps
                return True

        try:
            self.model.learn(
                until - self.steps, callback=Tell(), log_interval=None, reset_num_timesteps=False
            )
        except ValueError as error:
            if _of_environment(error):
                raise
            raise VintixError(
                f"task {self.task.name}: the training broke down",
                where=f"{self.settings.algorithm}, after {self.steps:,} steps",
                found=str(error).splitlines()[0],
                fix=f"a smaller learning_rate or normalize_observations in {self.section}",
            ) from error

    def close(self) -> None:
        """Close the environment."""
        self.model.get_env().close()

    def dump(self) -> bytes:
        """Return the state without the replay buffer: tensors and plain numbers alone."""
        import torch
        from stable_baselines3.common.save_util import recursive_getattr

        names, variables = self.model._get_torch_save_params()
        state: dict[str, Any] = {
            "modules": {name: recursive_getattr(self.model, name).state_dict() for name in names},
            "variables": {
                name: recursive_getattr(self.model, name).detach().clone()
                for name in variables or ()
            },
            "counters": {name: int(getattr(self.model, name, 0)) for name in _COUNTERS},
            "statistics": self._dump_statistics(),
        }
        file = io.BytesIO()
        torch.save(state, file)
        return file.getvalue()

    def load(self, dumped: bytes) -> None:
        """Take over what `dump` returned."""
        import torch
        from stable_baselines3.common.save_util import recursive_getattr

        state = torch.load(io.BytesIO(dumped), weights_only=True)
        self.model.set_parameters(state["modules"], exact_match=True, device="cpu")
        for name, value in state["variables"].items():
            recursive_getattr(self.model, name).data.copy_(value)
        for name, value in state["counters"].items():
            setattr(self.model, name, value)
        if self.settings.algorithm == "ars":
            parameters = self.model.policy.parameters()
            self.model.weights = torch.nn.utils.parameters_to_vector(parameters).detach()
        self._load_statistics(state["statistics"])

    def dump_transitions(self, since: int) -> dict[str, np.ndarray[Any, Any]]:
        """Return the transitions that the replay buffer took in since a step; empty on-policy."""
        if not LIBRARY_LEARNERS[self.settings.algorithm].off_policy:
            return {}
        buffer = self.model.replay_buffer
        count = min(self.steps - since, buffer.buffer_size)
        rows = np.arange(buffer.pos - count, buffer.pos) % buffer.buffer_size
        return {name: getattr(buffer, name)[rows] for name in _BUFFER}

    def load_transitions(self, transitions: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Append what `dump_transitions` returned to the replay buffer."""
        if not transitions:
            return
        buffer = self.model.replay_buffer
        count = len(transitions["rewards"])
        rows = np.arange(buffer.pos, buffer.pos + count) % buffer.buffer_size
        for name in _BUFFER:
            getattr(buffer, name)[rows] = transitions[name]
        buffer.full = bool(buffer.full or buffer.pos + count >= buffer.buffer_size)
        buffer.pos = int((buffer.pos + count) % buffer.buffer_size)

    def policy(self) -> PolicySpec:
        """Return the deterministic policy as it is now.

        Raises:
            VintixError: It does not act as the learner does.
        """
        state = {name: t.detach().numpy() for name, t in self.model.policy.state_dict().items()}
        spec = policy_spec(
            find_actor(state),
            activation=_activation(self.model.policy),
            squash=bool(self.model.policy.squash_output),
            normalization=self._normalization(),
            observation_dim=self._observed,
            actions=self.task.actions,
        )
        spec = widened(spec, self.task.observation_dim - self._observed)
        self._check(spec)
        return spec

    def _check(self, spec: PolicySpec) -> None:
        from pipelines.actions import Box
        from pipelines.domains.loop import actions_of_space
        from pipelines.policies.registry import build_policy

        actions = actions_of_space(self.model.action_space)
        unit_BO = np.random.default_rng(0).standard_normal((64, self.task.observation_dim))
        mean_O, std_O = self._usual_observations()
        seen_BO = (mean_O + std_O * unit_BO[:, : self._observed]).astype(np.float32)
        observation_BO = np.hstack([seen_BO, unit_BO[:, self._observed :]]).astype(np.float32)
        if self._statistics is not None:
            seen_BO = self._statistics.normalize_obs(seen_BO)
        expected_BA = self.model.predict(seen_BO, deterministic=True)[0]
        found_BA = build_policy(spec, actions).act(observation_BO)
        if isinstance(actions, Box):
            apart_BA = np.abs((expected_BA - found_BA) / np.ptp(actions.bounds, axis=0))
            difference, most = float(apart_BA.max()), 1e-4
            expected = "actions that agree to 1e-4 of the action range"
        else:
            # Where two outputs are nearly equal, rounding chooses.
            difference, most = float((expected_BA != found_BA).mean()), 0.05
            expected = "equal actions at 95 % of the observations"
        if not difference <= most:
            raise VintixError(
                f"task {self.task.name}: the extracted policy does not act as the learner does",
                expected=expected,
                found=difference,
            )

    def _usual_observations(self) -> tuple[Any, Any]:
        """Return mean and spread of the observations, as far as the learner keeps account of them.

        Far from them a network that divides by a small spread would magnify rounding.
        """
        normalization = self._normalization()
        if normalization is not None:
            return normalization.mean_O, normalization.std_O
        if self.settings.algorithm == "crossq":
            first = self.model.policy.actor.latent_pi[0]
            return first.ra_mean.numpy(), np.sqrt(first.ra_var.numpy())
        return 0.0, 1.0

    def _normalization(self) -> Normalization | None:
        if not self.settings.normalize_observations:
            return None
        running = self._statistics.obs_rms
        std_O = np.sqrt(running.var + self._statistics.epsilon)
        return Normalization(running.mean.copy(), std_O, float(self._statistics.clip_obs))

    def _dump_statistics(self) -> dict[str, Any]:
        import torch

        if self._statistics is None:
            return {}
        dumped = {}
        for name in ("obs_rms", "ret_rms"):
            running = getattr(self._statistics, name, None)
            if running is not None:
                dumped[name] = {
                    "mean": torch.as_tensor(np.asarray(running.mean)).clone(),
                    "var": torch.as_tensor(np.asarray(running.var)).clone(),
                    "count": float(running.count),
                }
        return dumped

    def _load_statistics(self, dumped: Mapping[str, Any]) -> None:
        for name, values in dumped.items():
            running = getattr(self._statistics, name)
            running.mean, running.var = values["mean"].numpy(), values["var"].numpy()
            running.count = values["count"]


def _of_environment(error: Exception) -> bool:
    """Tell whether the environment raised an error, which no setting of the learner mends."""
    from stable_baselines3.common.vec_env import dummy_vec_env

    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_globals is vars(dummy_vec_env) for frame, _ in frames)


def _import_library() -> None:
    try:
        # It looks for the old package gym, which greets on stderr with a notice about itself.
        with contextlib.redirect_stderr(io.StringIO()):
            import sb3_contrib  # noqa: F401
            import stable_baselines3  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "The training library is not there.",
            expected="stable-baselines3 and sb3-contrib",
            found=error,
            fix="pip install stable-baselines3 sb3-contrib",
        ) from error


def _make_model(settings: TrainSettings, env: Any, seed: int, section: str) -> Any:
    if taken := sorted(set(settings.hyperparameters) & set(_TAKEN)):
        raise ConfigError(
            "These hyperparameters cannot be set.",
            where=f"{section}.hyperparameters",
            expected=f"none of {', '.join(_TAKEN)}",
            found=", ".join(taken),
        )
    known = LIBRARY_LEARNERS[settings.algorithm]
    # The library writes into what it is given.
    given = copy.deepcopy(settings.hyperparameters)
    policy = given.pop("policy", "LinearPolicy" if settings.algorithm == "ars" else "MlpPolicy")
    policy_kwargs = {key: given.pop(key) for key in _OF_POLICY if key in given}
    end = given.pop("learning_rate_end", None)
    try:
        if "activation_fn" in policy_kwargs:
            policy_kwargs["activation_fn"] = _activation_class(policy_kwargs["activation_fn"])
        if "action_noise" in given:
            from stable_baselines3.common.noise import NormalActionNoise

            width = len(env.action_space.low)
            spread = float(given["action_noise"])
            given["action_noise"] = NormalActionNoise(np.zeros(width), np.full(width, spread))
        model = resolve_name(f"{known.module}:{known.name}")(
            policy, env, seed=seed, device="cpu", verbose=0, policy_kwargs=policy_kwargs, **given
        )
        if end is not None:
            begin, end = model.lr_schedule(1.0), float(end)
            # By the steps of the whole training: the library counts those of a segment.
            model.lr_schedule = lambda remaining: (
                begin + (end - begin) * min(1.0, model.num_timesteps / settings.total_steps)
            )
        return model
    except (TypeError, ValueError, AssertionError) as error:
        raise ConfigError(
            f"The hyperparameters do not fit the learner {known.name}.",
            where=f"{section}.hyperparameters",
            expected=f"arguments of {known.module}.{known.name}",
            found=str(error).splitlines()[0] if str(error) else type(error).__name__,
        ) from error


def _activation_class(name: object) -> Any:
    import torch

    classes = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}
    if name not in classes:
        raise ValueError(f"activation_fn is tanh or relu, not {name!r}")
    return classes[str(name)]


def _activation(policy: Any) -> Any:
    import torch

    return "tanh" if policy.activation_fn is torch.nn.Tanh else "relu"
