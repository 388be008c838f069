"""``vintix quickstart``: all five stages, small."""

from __future__ import annotations

from typing import Any

from vintix_cli import options
from vintix_cli.help import examples
from vintix_cli.run import command

EPILOG = examples("vintix quickstart", "vintix quickstart --seed 1 --workspace /tmp/vintix --json")


@command
def quickstart(
    seed: options.Seed = None,
    workers: options.Workers = None,
    workspace: options.Workspace = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Run all five stages on real simulators, small, and draw the many-shot curve.

    Minutes on two cores. Running it again continues what was interrupted.
    """
    from pipelines.artifacts.workspace import Workspace
    from pipelines.quickstart.run import run
    from vintix_cli.commands.rollout import print_curves
    from vintix_cli.render import ConsoleReporter, print_json, print_wrapped

    space = Workspace.resolve(workspace)
    reporter = ConsoleReporter(quiet)
    result = run(space, reporter, seed=seed or 0, workers=workers or 0)
    reporter.end()
    if json:
        print_json(result.report)
        return
    print_curves(result.report)
    for line in _explain(result.report):
        print_wrapped(line)


def _explain(report: dict[str, Any]) -> list[str]:
    curve = report["mean_normalized_by_shot"]
    last = sum(curve[-3:]) / len(curve[-3:])
    return [
        f"A transformer that never saw these episodes scored {curve[0]:.2f} in its first and "
        f"{last:.2f} over its last three (0 = random actions, 1 = the demonstrators).",
        "Its weights did not change: all it had was its own history, from an empty context on.",
        "With so few tasks it can read off that history how far along it is, and that is no proof "
        "that it learns from reward: vintix rollout --suite reward-use measures how much does.",
        f"The picture: {report['plots'][0]}",
        "Next: vintix artifacts ls; vintix rollout --task door-open --shots 40; vintix tasks",
    ]
