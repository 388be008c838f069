"""The stock scripted policies of the package `metaworld`: the kind ``metaworld_script``.

Legend: B copies, O observation, A action.
"""

from __future__ import annotations

import functools
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from pipelines.errors import ConfigError, MissingDependencyError
from pipelines.policies.base import Policy, PolicySpec
from pipelines.policies.validation import box_bounds, check_arrays, parse_config

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipelines.actions import ActionSpec

GOAL = slice(36, 39)
"""Where the observation holds the goal (x, y, z), zeros while it is hidden."""


class MetaWorldScriptConfig(BaseModel):
    """Configuration of the kind ``metaworld_script``.

    Attributes:
        script: Name of the script in ``metaworld.policies.ENV_POLICY_MAP``, such as ``reach-v3``.
        goal: The task's mean goal, metres: what the script reads where the goal is hidden. A
            demonstrator knows what the recorded observation shows and no more.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    script: str
    goal: tuple[float, float, float]


class MetaWorldScriptPolicy(Policy):
    """A stock script, its actions clipped to the action box."""

    def __init__(
        self,
        script: Any,
        goal: tuple[float, float, float],
        action_low_A: NDArray[np.float32],
        action_high_A: NDArray[np.float32],
    ) -> None:
        self._script = script
        self._goal = np.array(goal, dtype=np.float64)
        self._low_A, self._high_A = action_low_A, action_high_A

    def act(self, observation_BO: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return actions (B, 4)."""
        seen_BO = observation_BO.astype(np.float64)
        hidden_B = ~seen_BO[:, GOAL].any(axis=1)
        seen_BO[hidden_B, GOAL] = self._goal
        with warnings.catch_warnings():
            # Scripts warn at every action beyond the box, which is clipped here.
            warnings.simplefilter("ignore")
            action_BA = np.stack([self._script.get_action(row) for row in seen_BO])
        return np.clip(action_BA.astype(np.float32), self._low_A, self._high_A)


def build_metaworld_script(spec: PolicySpec, actions: ActionSpec) -> Policy:
    """Build the kind ``metaworld_script``; it has no arrays.

    Raises:
        ConfigError: There is no such script.
        MissingDependencyError: The package `metaworld` is not there.
    """
    config = parse_config(MetaWorldScriptConfig, spec)
    check_arrays(spec, [])
    try:
        from metaworld.policies import ENV_POLICY_MAP
    except ImportError as error:
        raise MissingDependencyError(
            "The scripted policies of Meta-World are not there.",
            expected="the package metaworld",
            found=str(error),
            fix="pip install metaworld==3.1.1",
        ) from error
    if config.script not in ENV_POLICY_MAP:
        raise ConfigError(
            "Unknown Meta-World script.",
            expected="a name of metaworld.policies.ENV_POLICY_MAP, such as reach-v3",
            found=config.script,
        )
    bounds = box_bounds(spec, actions)
    return MetaWorldScriptPolicy(ENV_POLICY_MAP[config.script](), config.goal, *bounds)


def script_policy(env_id: str) -> PolicySpec | None:
    """Return the stock script of a task, fed the mean goal; None for what is no task of theirs."""
    goal = mean_goals().get(env_id)
    if goal is None:
        return None
    return PolicySpec(kind="metaworld_script", config={"script": env_id, "goal": list(goal)})


@functools.cache
def mean_goals() -> dict[str, tuple[float, float, float]]:
    """Return the mean goal (x, y, z), metres, of each of the 50 tasks by environment id."""
    import yaml

    path = Path(__file__).with_name("metaworld_goals.yaml")
    raw: dict[str, list[float]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {name: (float(x), float(y), float(z)) for name, (x, y, z) in raw.items()}
