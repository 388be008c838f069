"""A film of a task's first shot beside its last, played again by the rollout's checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.errors import ArtifactMissingError, ConfigError
from pipelines.output_files import check_output
from pipelines.report.sources import Entry, Sources

if TYPE_CHECKING:
    from pipelines.artifacts.artifact import Artifact
    from pipelines.report.film import FilmedBatch
    from pipelines.reporter import Reporter
    from pipelines.rollout.prompt import RecordedPrompt
    from pipelines.rollout.selection import Target
    from pipelines.tasks.spec import TaskSpec

VIDEO_FORMATS = (".gif", ".mp4")
#: Width and height of each of the two pictures, pixels.
SIZE = (320, 240)
#: Share of the demonstrator's distance from random play by which a return may differ from the
#: recorded one without a word: one stream alone is rounded otherwise than in a batch.
TOLERANCE = 0.02


def check_video(path: Path) -> None:
    """Check that a film can be written under this name, before anything is played for it.

    Raises:
        UsageError: Its suffix is neither .gif nor .mp4, or vintix did not make what is there.
        MissingDependencyError: It is .mp4 and there is no ffmpeg.
    """
    from pipelines.report.film import find_ffmpeg

    check_output(path, VIDEO_FORMATS)
    if path.suffix.lower() == ".mp4":
        find_ffmpeg(path)


def film_shots(sources: Sources, path: Path, reporter: Reporter) -> dict[str, Any]:
    """Play the first task's first stream again, and film its first and its last shot.

    A rollout records no actions, so the checkpoint plays again from the same seeds. Warns where the
    returns are not those that were recorded.

    Returns:
        JSON: ``path``, ``task``, ``shots`` (the two, from 1), ``returns`` (of them, as played) and
        ``recorded`` (of them, in the artifact), ``frames`` and ``caption``.

    Raises:
        ArtifactMissingError: The checkpoint, or what its prompt is from, is not in the workspace.
        ConfigError: No checkpoint played the task, or it was shown another stream's rewards.
        UsageError: The domain draws nothing.
        MissingDependencyError: The simulator, or what it draws with, is not there.
        StorageError: The file system refused.
    """
    from pipelines.report.film import side_by_side, write_film

    entry = sources.entries[0]
    artifact = next(each for each in sources.rollouts if each.reference == entry.artifact)
    checkpoint = _checkpoint(sources, artifact)
    if artifact.config.get("rewards") == "other":
        raise ConfigError(
            "a stream that was shown another one's rewards cannot be filmed alone",
            where=artifact.reference,
            expected="a rollout with rewards of its own",
            found="--rewards other",
            fix="name another rollout first",
        )
    prompt = _prompt(sources, artifact, entry.name)
    batch, returns_E = _play(entry, artifact, checkpoint, prompt, reporter)
    last = entry.curve.shots - 1
    shots = [0] if last == 0 else [0, last]
    recorded = [float(entry.curve.return_SE[0, shot]) for shot in shots]
    played = [float(returns_E[shot]) for shot in shots]
    _compare(entry, played, recorded, reporter)
    texts = [f"shot {shot + 1}: return {played[place]:,.1f}" for place, shot in enumerate(shots)]
    frames = side_by_side(
        [(text, batch.frames[shot]) for text, shot in zip(texts, shots, strict=True)]
    )
    write_film(frames, path)
    return {
        "path": str(path),
        "task": entry.name,
        "shots": [shot + 1 for shot in shots],
        "returns": played,
        "recorded": recorded,
        "frames": len(frames),
        "caption": f"{entry.name}, {'; '.join(texts)}",
    }


def _play(
    entry: Entry,
    artifact: Artifact,
    checkpoint: Artifact,
    prompt: RecordedPrompt | None,
    reporter: Reporter,
) -> tuple[FilmedBatch, np.ndarray[Any, Any]]:
    from pipelines.domains.checked import make_rendered_env
    from pipelines.domains.registry import domain_of
    from pipelines.hardware import torch_threads
    from pipelines.model.saved import load_model
    from pipelines.playing.model import Memory, roll
    from pipelines.playing.streams import StreamTask
    from pipelines.report.film import FilmedBatch

    model = load_model(checkpoint)
    attributes: dict[str, Any] = dict(artifact.group(entry.name).attrs)
    target = _target(entry, artifact, model, attributes)
    spec, shots = target.spec, entry.curve.shots
    filmed: list[FilmedBatch] = []

    def make_batch(
        spec: TaskSpec, size: int, options: Mapping[str, Any], stream_seeds: Sequence[int]
    ) -> FilmedBatch:
        env = make_rendered_env(domain_of(spec), spec, dict(options), SIZE, stream_seeds[0])
        filmed.append(FilmedBatch(env, spec.name, spec.horizon, (0, shots - 1)))
        return filmed[-1]

    # Where the configuration does not tell, it was played as had always been done.
    config = artifact.config
    mean = config.get("mean_rewards", {}).get(entry.name, 0.0)
    view = target.view(model, config.get("rewards", "true"), prompt, mean)
    task = StreamTask(spec, attributes["options"], shots, (0,), view)
    memory = Memory(config["context"], config.get("cache", "window"), config.get("sinks", 0))
    total = shots * spec.horizon
    with (
        reporter.progress(f"film of {spec.name}", total, "steps") as progress,
        torch_threads(config.get("threads", 1)),
    ):
        records = roll(
            model.model,
            [task],
            seed=config["seed"],
            make_batch=make_batch,
            memory=memory,
            act=config.get("act"),
            on_steps=progress.advance,
        )
    return filmed[0], records[spec.name][0].episode_return_E


def _target(entry: Entry, artifact: Artifact, model: Any, attributes: Mapping[str, Any]) -> Target:
    """Return the task as the rollout chose it: by its name, or as its base task, changed."""
    from pipelines.domains.registry import full_catalogue
    from pipelines.rollout.config import RolloutConfig
    from pipelines.rollout.selection import select_targets

    catalogue = full_catalogue()
    listed = {spec.name for spec in (*catalogue.tasks, *catalogue.variations)}
    chosen: dict[str, Any] = {"tasks": (entry.name,)}
    if entry.name not in listed:
        chosen = {"tasks": (entry.curve.variation_of,), **entry.variation}
        if isinstance(chosen.get("gravity"), str):
            # A factor: "1.1x".
            chosen["gravity"] = float(chosen["gravity"].removesuffix("x"))
    source, _, group = attributes["statistics"].partition(":")
    stats = source if group else f"task:{source}"
    config = RolloutConfig(**chosen, shots=entry.curve.shots, stats=stats)
    (target,) = select_targets(config, model, catalogue)
    if target.known != attributes["statistics"]:
        raise ConfigError(
            f"task {entry.name!r} cannot be filmed: it was played with statistics of another kind",
            where=artifact.reference,
            expected=target.known,
            found=attributes["statistics"],
            fix="choose another --task",
        )
    return target


def _checkpoint(sources: Sources, artifact: Artifact) -> Artifact:
    parents = [each for each in artifact.manifest.parents if each.kind == "checkpoints"]
    if not parents:
        raise ConfigError(
            "only what a checkpoint played can be filmed",
            where=artifact.reference,
            expected="a rollout of a checkpoint",
            found=str(artifact.manifest.summary.get("method", "a rollout without one")),
            fix="name a rollout of a checkpoint first",
        )
    return _parent(sources, artifact, parents[0], "the checkpoint that played the rollout")


def _prompt(sources: Sources, artifact: Artifact, task: str) -> RecordedPrompt | None:
    """Return what the streams of a task started with, None for an empty context."""
    from pipelines.rollout.prompt import KINDS, recorded_prompt

    recorded = artifact.config.get("prompt", {}).get(task)
    if recorded is None:
        return None
    parent = next(each for each in artifact.manifest.parents if each.kind in KINDS)
    source = _parent(sources, artifact, parent, "the artifact that the rollout's prompts are from")
    return recorded_prompt(source, recorded)


def _parent(sources: Sources, artifact: Artifact, parent: Any, what: str) -> Artifact:
    for each in sources.lineage:
        if each.digest == parent.digest:
            return each
    raise ArtifactMissingError(
        f"{what} is not in the workspace",
        where=artifact.reference,
        expected=parent.reference,
        fix="leave --video out, or point --workspace to where it is",
    )


def _compare(
    entry: Entry, played: Sequence[float], recorded: Sequence[float], reporter: Reporter
) -> None:
    score = entry.curve.score
    unit = abs(score.expert - score.random) if score else max(1.0, *map(abs, recorded))
    apart = max(abs(one - other) for one, other in zip(played, recorded, strict=True))
    if apart > TOLERANCE * unit:
        reporter.warn(
            f"{entry.name} played for the film has other returns than its recorded stream: "
            f"{', '.join(f'{value:.1f}' for value in played)} instead of "
            f"{', '.join(f'{value:.1f}' for value in recorded)}; alone, a stream is rounded "
            "otherwise than in a batch"
        )
