"""A task as it is played: its demonstrator makes some steps, and the environment draws itself.

Shapes: H and W pixels, C colours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.errors import UsageError
from pipelines.playing.episodes import (
    Actor,
    Episode,
    PolicyActor,
    RandomActor,
    one_each,
    play,
    policy_for,
)
from pipelines.rng import derive_seed, stream

if TYPE_CHECKING:
    import gymnasium
    from numpy.typing import NDArray

    from pipelines.domains.base import BatchEnvironment, Domain, Options
    from pipelines.tasks.spec import TaskSpec

SIZE = (640, 480)
#: Pixels, of width and of height. MuJoCo's frame buffer takes no more on every driver.
SMALLEST, LARGEST = 160, 4096

DEMONSTRATOR, RANDOM = "demonstrator", "random"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A picture of a task and how it came about.

    Attributes:
        image_HWC: uint8 (H, W, 3), red, green and blue.
        seed: The base seed that the episode came from.
        steps: Steps made before the picture; fewer than asked for where the episode ended.
        ended: Whether the episode ended with the last of them.
        policy: ``demonstrator``, or ``random`` for a task that has none in the package.
        episode_return: Sum of the unscaled rewards of these steps.
    """

    image_HWC: NDArray[np.uint8]
    task: str
    seed: int
    steps: int
    ended: bool
    policy: str
    episode_return: float

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.image_HWC.shape[1], self.image_HWC.shape[0]

    @property
    def caption(self) -> str:
        """What is shown, in a line."""
        actor = "its demonstrator" if self.policy == DEMONSTRATOR else "random actions"
        text = f"{self.task} after {self.steps} step{'' if self.steps == 1 else 's'} of {actor}"
        if self.steps == 0:
            text = f"{self.task} at the start of an episode"
        return f"{text}, where the episode ended" if self.ended else text


def take_snapshot(
    task: TaskSpec,
    options: Mapping[str, Any] | None = None,
    *,
    size: tuple[int, int] = SIZE,
    seed: int = 0,
    steps: int | None = None,
) -> Snapshot:
    """Play the beginning of an episode and draw where it has come to.

    Args:
        task: A task or a variation of one.
        options: Some of its domain's options, as typed or as numbers.
        size: Width and height in pixels, each of `SMALLEST` to `LARGEST`.
        seed: Base seed of the episode and, without a demonstrator, of the actions.
        steps: Steps before the picture, >= 0; None for the domain's own number. The episode is
            not played beyond its end.

    Raises:
        UsageError: The size, an option or its value is not allowed, or the domain draws nothing.
        MissingDependencyError: The simulator, or what it draws with, is not there.
    """
    from pipelines.domains.checked import make_rendered_env
    from pipelines.domains.loop import LoopBatch
    from pipelines.domains.registry import domain_of, resolve_options

    check_size(size)
    domain = domain_of(task)
    resolved = resolve_options(domain, options or {})
    wanted = domain.picture_steps if steps is None else steps
    # First of all, since it may choose what the simulator draws with before that is imported.
    env = make_rendered_env(domain, task, resolved, size)
    with LoopBatch([env]) as batch:
        batch.hidden_goals = getattr(env.unwrapped, "hidden_goals", None)
        policy, actor = _actor(task, domain, resolved, batch, seed)
        ended: list[Episode] = []
        (episode,) = play(
            batch,
            actor,
            one_each([derive_seed(seed, "picture", task.name)]),
            on_end=lambda _, episodes: ended.extend(episodes),
            steps=wanted,
        ) or (None,)
        image_HWC = frame(env, task.name)
    return Snapshot(
        image_HWC=image_HWC,
        task=task.name,
        seed=seed,
        steps=0 if episode is None else episode.length,
        ended=bool(ended),
        policy=policy,
        episode_return=0.0 if episode is None else episode.total,
    )


def frame(env: gymnasium.Env[Any, Any], where: str) -> NDArray[np.uint8]:
    """Return what an environment looks like now, as uint8 (H, W, 3), a copy.

    Args:
        env: Made by `Domain.make_rendered_env`, and reset.
        where: What an error names, such as the task.

    Raises:
        UsageError: Its `render` gives something else.
    """
    drawn: Any = env.render()
    if not isinstance(drawn, np.ndarray) or drawn.ndim != 3 or drawn.shape[2] != 3:
        found = getattr(drawn, "shape", None)
        raise UsageError(
            "The environment's render() gives no picture.",
            where=where,
            expected="an array (height, width, 3) of uint8",
            found=type(drawn).__name__ if found is None else f"an array of shape {found}",
            fix="let the domain's make_rendered_env return one that does (docs/domains.md)",
        )
    return np.array(drawn, dtype=np.uint8)


def check_size(size: tuple[int, int]) -> None:
    """Check the width and the height of a picture.

    Raises:
        UsageError: One is not within `SMALLEST` and `LARGEST`.
    """
    if not all(SMALLEST <= pixels <= LARGEST for pixels in size):
        raise UsageError(
            "pictures of this size are not drawn",
            expected=f"{SMALLEST} to {LARGEST} pixels each way",
            found=f"{size[0]}x{size[1]}",
            fix="--size 640x480",
        )


def _actor(
    task: TaskSpec, domain: Domain, options: Options, batch: BatchEnvironment, seed: int
) -> tuple[str, Actor]:
    from pipelines.demonstrators.experts import base_policy

    spec = base_policy(task, options)
    if spec is None:
        generator = stream(seed, "picture actions", task.name)
        return RANDOM, RandomActor(batch, lambda copy, number: generator)
    return DEMONSTRATOR, PolicyActor(batch, policy_for(batch, spec, domain))
