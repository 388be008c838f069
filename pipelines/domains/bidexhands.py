"""Bi-DexHands: its 20 tasks are in the catalogue, their simulator is not part of this release.

The reference runs on Isaac Gym, which NVIDIA distributes for Python 3.8 and CUDA only.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NoReturn

from pipelines.domains.base import Domain, Options
from pipelines.errors import MissingDependencyError

if TYPE_CHECKING:
    import gymnasium

    from pipelines.domains.base import BatchEnvironment
    from pipelines.tasks.spec import TaskSpec


class BiDexHands(Domain):
    """The paper's 20 bimanual tasks (Table 4), without environments."""

    name = "bidexhands"

    def tasks(self) -> Sequence[TaskSpec]:
        """Return the 20 tasks."""
        from pipelines.tasks.registry import catalogue

        return catalogue().select(domains=[self.name])

    def make_env(self, task: TaskSpec, options: Options) -> gymnasium.Env[Any, Any]:
        """Raise, since there is no simulator.

        Raises:
            MissingDependencyError: Always.
        """
        _missing(task)

    def make_batch(
        self, task: TaskSpec, size: int, options: Options, stream_seeds: Sequence[int]
    ) -> BatchEnvironment:
        """Raise, since there is no simulator.

        Raises:
            MissingDependencyError: Always.
        """
        _missing(task)


def _missing(task: TaskSpec) -> NoReturn:
    isaac = "Isaac Gym is installed" if find_spec("isaacgym") else "no Isaac Gym"
    raise MissingDependencyError(
        "Bi-DexHands cannot be simulated: no simulator backend for it is part of this release.",
        where=f"task {task.name}",
        expected="a backend for Isaac Gym, which exists for Python 3.8 with CUDA only",
        found=f"Python {platform.python_version()}, {isaac}, no backend",
        fix="choose another --domain: mujoco, metaworld or industrial-benchmark",
    )
