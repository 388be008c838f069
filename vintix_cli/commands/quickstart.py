"""``vintix quickstart``: all five stages, small."""

from __future__ import annotations

import functools
from typing import Annotated, Any

import typer

from vintix_cli.commands.rollout import print_curves
from vintix_cli.help import examples
from vintix_cli.options import Work, command
from vintix_cli.render import print_json, print_wrapped

EPILOG = examples("vintix quickstart", "vintix quickstart --seed 1 --workspace /tmp/vintix --json")
_run = functools.partial(typer.Option, rich_help_panel="Run")


@command
def quickstart(
    work: Work,
    seed: Annotated[int, _run(min=0, help="Base seed of every random stream.")] = 0,
    workers: Annotated[
        int, _run(min=0, help="Worker processes; 0 for one a core. Results do not depend on it.")
    ] = 0,
) -> None:
    """Run all five stages on real simulators, small, and draw the many-shot curve.

    Then the same for a goal that only reward tells, played with rewards and without. Minutes on
    two cores. Running it again continues what was interrupted, or says that it is up to
    date.
    """
    from pipelines.quickstart.run import run

    result = run(work.space, work.reporter, seed=seed, workers=workers)
    work.reporter.end()
    if work.json:
        print_json(result.report)
        return
    print_curves(result.report)
    for line in _explain(result.report):
        print_wrapped(line)


def _explain(report: dict[str, Any]) -> list[str]:
    curve, used = report["mean_normalized_by_shot"], report["reward_use"]
    return [
        f"A transformer that never saw these episodes scored {curve[0]:.2f} in its first and "
        f"{_last(curve):.2f} over its last three (0 = random actions, 1 = the demonstrators). Its "
        "weights did not change: all it had was its own history, from an empty context on. With so "
        "few tasks it can read off that history how far along it is; that is no proof that it "
        "learns from reward.",
        f"The second model has only reward to learn from: in {used['task']} nothing else tells "
        "where the goal is, and none of these goals was in its data. It scored "
        f"{used['true'][0]:.2f} in its first episode and {_last(used['true']):.2f} over its last "
        f"three, and {_last(used['zero']):.2f} where it was shown rewards of 0.",
        f"The picture: {report['plots'][0]}",
        "Next: vintix artifacts ls; vintix rollout --checkpoint quickstart --task door-open "
        "--shots 40; vintix tasks",
    ]


def _last(curve: list[float]) -> float:
    """Return the mean over the last three shots."""
    return sum(curve[-3:]) / len(curve[-3:])
