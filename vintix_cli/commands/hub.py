"""``vintix push`` and ``vintix pull``: artifacts on the Hugging Face Hub."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vintix_cli.commands.stages import print_result
from vintix_cli.help import examples
from vintix_cli.options import Settings, Work, configured
from vintix_cli.render import print_json, print_text, size_text

if TYPE_CHECKING:
    from pipelines.stage import StageResult

PUSH_EPILOG = examples(
    "vintix push checkpoints/quickstart me/quickstart",
    "vintix push histories/metaworld me/metaworld --private --json",
)
PULL_EPILOG = examples(
    "vintix pull me/quickstart",
    "vintix pull datasets/me/metaworld@main --name theirs",
    "vintix pull dunnolab/Vintix",
)


@configured("pipelines.hub:PushConfig")
def push(settings: Settings, work: Work) -> None:
    """Send an artifact to the Hugging Face Hub; run it again to go on after an interruption."""
    from pipelines.hub import PushConfig
    from pipelines.hub import push as send

    report = send(PushConfig(**settings), work.space, work.reporter)
    work.reporter.end()
    if work.json:
        print_json(report)
        return
    artifact = report["artifact"]
    state = "up to date" if report["up_to_date"] else "pushed"
    name = f"{artifact['kind']}/{artifact['name']}@v{artifact['version']}"
    print_text(f"{state}: {name}, {size_text(report['bytes'])}, to {report['repository']}")


@configured("pipelines.hub:PullConfig")
def pull(settings: Settings, work: Work) -> None:
    """Receive an artifact from the Hugging Face Hub, or import the authors' checkpoint from it."""
    from pipelines.hub import PullConfig
    from pipelines.hub import pull as receive

    received = receive(PullConfig(**settings), work.space, work.reporter)
    print_result(received, work, _show_nothing)


def _show_nothing(result: StageResult) -> None:
    """Print no table: the line with the artifact's name says all."""
