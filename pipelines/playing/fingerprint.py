"""What identifies an environment across machines: dims, versions, and a short reference rollout.

Simulators are not identical to the bit between processors, so the rollout is kept as numbers and
compared within a tolerance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pipelines.errors import ConfigError

if TYPE_CHECKING:
    from pipelines.artifacts.staging import Staging
    from pipelines.tasks.spec import TaskSpec

STEPS = 8
"""Steps of the reference rollout; it stops earlier where the episode does."""

DIGITS = 9
"""Significant digits kept of each number; more than a float32 observation has."""

TOLERANCE = 1e-4
"""Allowed difference of two numbers, relative to the larger one and absolute.

In eight steps rounding grows to well below this, contacts included, while a gravity that is off by
a tenth, or a viscosity of 0.05, moves every body that it acts on at all by 2e-4 or more.
"""


def fingerprint(task: TaskSpec, options: Mapping[str, Any]) -> dict[str, Any]:
    """Make the fingerprint of a task on this machine.

    Returns:
        A JSON object: ``env_id``, ``observation_dim``, ``action_dim``, ``options``, ``packages``
        (versions of what the domain names) and ``rollout``, with ``observations`` (first one
        included) and ``rewards`` of up to 8 steps of random actions, which task and step alone
        decide.

    Raises:
        MissingDependencyError: The simulator is not there.
    """
    from pipelines.artifacts.provenance import package_versions
    from pipelines.domains.registry import domain_of
    from pipelines.playing.environments import make_batch
    from pipelines.playing.episodes import Episodes, one_each
    from pipelines.rng import derive_seed, stream

    seed = derive_seed(0, "fingerprint", task.name)
    with make_batch(task, 1, options, [seed]) as batch:
        episodes = Episodes(batch, one_each([seed]))
        episodes.start()
        observations, rewards = [episodes.observation_BO[0].copy()], []
        while len(episodes.playing) and episodes.now < STEPS:
            generator = stream(0, "fingerprint", task.name, episodes.now)
            after = episodes.step(batch.actions.draw([generator], 1)[0])
            observations.append(after.observation_BO[0].copy())
            rewards.append(float(after.reward_B[0]))
            episodes.begin()
        own = domain_of(task).packages
        packages = batch.packages
        if packages is None:
            found = package_versions(own)
            packages = {name: version for name, version in found.items() if name in own}
        return {
            "env_id": task.env_id,
            "observation_dim": batch.observation_dim,
            "action_dim": batch.actions.width,
            "options": dict(options),
            "packages": dict(packages),
            "rollout": {
                "observations": [[_rounded(x) for x in row] for row in observations],
                "rewards": [_rounded(reward) for reward in rewards],
            },
        }


def compare_fingerprints(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Tell in words how two fingerprints of a task differ.

    Args:
        recorded: The artifact's.
        now: This machine's.

    Returns:
        One sentence a difference; empty where the environments agree.
    """
    differences = [
        f"{label} is {now.get(key)!r} here, {recorded.get(key)!r} in the artifact"
        for key, label in (
            ("env_id", "environment id"),
            ("observation_dim", "observation dimension"),
            ("action_dim", "action dimension"),
        )
        if recorded.get(key) != now.get(key)
    ]
    for field, label in (("options", "option"), ("packages", "version of")):
        old, new = recorded.get(field, {}), now.get(field, {})
        differences += [
            f"{label} {name} is {new.get(name, 'missing')} here, "
            f"{old.get(name, 'missing')} in the artifact"
            for name in sorted({*old, *new})
            if old.get(name) != new.get(name)
        ]
    return [*differences, *_compare_rollouts(recorded.get("rollout", {}), now.get("rollout", {}))]


def check_same_environment(
    recorded: Mapping[str, Any],
    now: Mapping[str, Any],
    message: str,
    *,
    where: str,
    fix: str,
    expected: str = "equal fingerprints",
    warn: Callable[[str], None] | None = None,
) -> None:
    """Raise an error where two fingerprints of a task differ, or call `warn` with its message.

    Args:
        recorded: The artifact's.
        now: This machine's.
        where, fix, expected: As of the error.
        warn: Called instead of raising; None to raise.

    Raises:
        ConfigError: They differ, and there is no `warn`.
    """
    found = "; ".join(compare_fingerprints(recorded, now))
    if not found:
        return
    if warn is None:
        raise ConfigError(message, where=where, expected=expected, found=found, fix=fix)
    warn(f"{message}: {found}")


def check_staged_environment(
    staging: Staging, task: str, now: Mapping[str, Any], message: str
) -> None:
    """Keep the fingerprint of a task's first staged work; refuse to go on with another simulator.

    Args:
        now: This machine's.
        message: Of the error.

    Raises:
        ConfigError: The staged work was made in another environment.
    """
    item = staged_environment(task)
    if not staging.done(item):
        with staging.work_item(item) as record:
            record.data["fingerprint"] = dict(now)
        return
    check_same_environment(
        staging.data(item)["fingerprint"],
        now,
        message,
        where=f"task {task}, {staging.directory}",
        expected="the environment of the first part",
        fix=f"restore the packages, or delete {staging.directory} to begin again",
    )


def staged_environment(task: str) -> str:
    """Return the work item that keeps the fingerprint of a task's staged work."""
    return f"environment/{task}"


def _compare_rollouts(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    import numpy as np

    for field in ("observations", "rewards"):
        old, new = (np.array(each.get(field, []), np.float64) for each in (recorded, now))
        if len(old) != len(new):
            yield f"the reference rollout has {len(new)} {field} here, {len(old)} in the artifact"
        if old.shape != new.shape or not old.size:
            continue
        excess = np.abs(old - new) / (1.0 + np.maximum(np.abs(old), np.abs(new)))
        # A number against not-a-number counts as a difference.
        excess[np.isnan(excess)] = np.inf
        if excess.max() > TOLERANCE:
            place = np.unravel_index(excess.argmax(), excess.shape)
            entry = f", entry {place[1]}" if field == "observations" else ""
            yield (
                f"{field} of the reference rollout differ by more than {TOLERANCE:g}, most at "
                f"step {place[0]}{entry}: {new[place]:.9g} here, {old[place]:.9g} in the artifact"
            )


def _rounded(value: Any) -> float:
    return float(f"{float(value):.{DIGITS}g}")
