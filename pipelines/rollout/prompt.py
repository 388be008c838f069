"""Recorded context to start from: the last steps of trajectories of the same task (``--prompt``).

Stream s of a task gets the end of trajectory s modulo their number. What follows is the stream's
own first episode, whose first token carries the padding vectors as any first token does; the
prompt's last reward therefore stays unseen, as in the released code.

Shapes: L steps of a prompt, O observation, A action.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.errors import ArtifactMissingError, ConfigError, UsageError
from pipelines.playing.streams import PromptRows
from pipelines.text import listed

if TYPE_CHECKING:
    from pipelines.artifacts.artifact import Artifact
    from pipelines.artifacts.workspace import Workspace
    from pipelines.datasets.reader import DatasetReader
    from pipelines.histories.reader import HistoryReader
    from pipelines.rollout.config import RolloutConfig
    from pipelines.rollout.selection import Target

#: Kinds of artifacts that a prompt can be read from; a bare name means the first that has it.
KINDS = ("histories", "datasets")


@dataclass(frozen=True)
class RecordedPrompt:
    """The prompts of a task's streams; see `pipelines.playing.streams.Prompt`.

    Attributes:
        steps: L, steps of each prompt, at least 1.
        lengths: Steps of each trajectory there.
    """

    source: DatasetReader | HistoryReader
    task: str
    steps: int
    lengths: tuple[int, ...]

    def rows(self, stream: int) -> PromptRows:
        """Return the prompt of a stream.

        Raises:
            ArtifactCorruptError: Its bytes are not those the manifest promises.
        """
        trajectory = stream % len(self.lengths)
        start = self.lengths[trajectory] - self.steps
        # Its first token shows what was done and received one step earlier, if there is one.
        before = min(start, 1)
        read = self.source.window(self.task, trajectory, start - before, self.steps + before)
        action, reward = (
            np.concatenate([np.zeros_like(rows[:1]), rows])[before : before + self.steps]
            for rows in (read["action"], read["reward"])
        )
        return PromptRows(
            read["observation"][before:].astype(np.float32),
            action,
            reward.astype(np.float32),
            read["episode_step"][before:].astype(np.int64),
        )

    def as_config(self) -> dict[str, Any]:
        """Return what the artifact's configuration says of it."""
        return {"task": self.task, "steps": self.steps}


def find_prompts(
    config: RolloutConfig, workspace: Workspace, targets: Sequence[Target], context: int
) -> tuple[Artifact | None, dict[str, RecordedPrompt]]:
    """Return the artifact of ``--prompt``, None without one, and each task's prompt.

    A prompt has at most `context` steps: what the streams keep in view.

    Raises:
        ArtifactMissingError: There is no such artifact.
        UsageError: It is of another kind, lacks a task, or its trajectories are too short; or
            `prompt_steps` without a prompt, or beyond the context.
        ConfigError: It was recorded in another simulator.
    """
    if config.prompt is None:
        if config.prompt_steps is not None:
            raise UsageError(
                "a length of the prompt without a prompt",
                where="--prompt-steps",
                expected="--prompt ARTIFACT beside it",
                fix="give --prompt, or leave --prompt-steps out",
            )
        return None, {}
    if config.prompt_steps is not None and config.prompt_steps > context:
        raise UsageError(
            "a prompt is longer than the context that is to hold it",
            where="--prompt-steps",
            expected=f"at most {context}",
            found=config.prompt_steps,
            fix="a longer --context, or fewer --prompt-steps",
        )
    artifact = _find(workspace, config.prompt)
    source = _open(artifact)
    return artifact, {
        target.spec.name: _prompt(source, target, config.prompt_steps, context)
        for target in targets
    }


def recorded_prompt(source: Artifact, recorded: Mapping[str, Any]) -> RecordedPrompt:
    """Return the prompt of a task of an earlier rollout, as its configuration records it."""
    reader, name = _open(source), recorded["task"]
    return RecordedPrompt(reader, name, recorded["steps"], _described(reader, name)[1])


def _find(workspace: Workspace, reference: str) -> Artifact:
    try:
        return workspace.find(KINDS[0], reference)
    except (ArtifactMissingError, UsageError) as error:
        try:
            return workspace.find(KINDS[1], reference)
        except ArtifactMissingError:
            raise error from None


def _open(artifact: Artifact) -> DatasetReader | HistoryReader:
    if artifact.kind == "datasets":
        from pipelines.datasets.reader import DatasetReader

        return DatasetReader(artifact)
    from pipelines.histories.reader import HistoryReader

    return HistoryReader(artifact)


def _prompt(
    source: DatasetReader | HistoryReader, target: Target, wanted: int | None, context: int
) -> RecordedPrompt:
    known = _tasks_of(source)
    spec = target.spec
    # A variation may start from what was recorded on its base task.
    name = next((each for each in (spec.name, spec.variation_of) if each in known), None)
    where = f"--prompt {source.artifact.reference}"
    if name is None:
        raise UsageError(
            f"the prompt's artifact does not hold task {spec.name!r}",
            where=where,
            expected=listed(known),
            found=spec.name,
            fix="choose --task among these, or another --prompt",
        )
    attributes, lengths = _described(source, name)
    _check_simulator(target, attributes, where)
    shortest = min(lengths)
    steps = min(context, shortest) if wanted is None else wanted
    if steps > shortest or shortest == 0:
        raise UsageError(
            f"a trajectory of task {name!r} is shorter than the prompt",
            where=where,
            expected=f"at most {shortest} steps",
            found=steps,
            fix="fewer --prompt-steps",
        )
    return RecordedPrompt(source, name, steps, lengths)


def _tasks_of(source: DatasetReader | HistoryReader) -> list[str]:
    from pipelines.datasets.reader import DatasetReader

    return list(source.tasks) if isinstance(source, DatasetReader) else source.tasks()


def _described(
    source: DatasetReader | HistoryReader, name: str
) -> tuple[Mapping[str, Any], tuple[int, ...]]:
    from pipelines.datasets.reader import DatasetReader

    if isinstance(source, DatasetReader):
        return source.tasks[name].attributes, source.tasks[name].rows
    return source.task(name), tuple(source.lengths(name))


def _check_simulator(target: Target, attributes: Mapping[str, Any], where: str) -> None:
    from pipelines.domains.registry import domain_of, simulators

    domain = domain_of(target.spec)
    # What was imported says nothing about its simulator.
    recorded = attributes.get("options") or {}
    here, there = simulators(domain, target.options), simulators(domain, recorded)
    if there and here != there:
        raise ConfigError(
            f"the prompt of task {target.spec.name!r} was recorded in another simulator",
            where=where,
            expected=here,
            found=there,
            fix="choose a --prompt or a --backend so that they agree",
        )
