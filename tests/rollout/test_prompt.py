"""Rollouts that start from recorded context, see more or less of it, or recompute it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets.synthetic import make_histories

from pipelines.artifacts.workspace import Workspace
from pipelines.errors import ArtifactMissingError, ConfigError, UsageError
from pipelines.model.batch import TaskSequence, group_sequences
from pipelines.model.vintix import Vintix
from pipelines.pack.config import PackConfig
from pipelines.pack.stage import run as pack
from pipelines.playing import model as playing
from pipelines.playing.model import Memory, roll
from pipelines.playing.streams import PromptRows
from pipelines.reporter import NullReporter
from pipelines.rollout.config import RolloutConfig
from pipelines.rollout.stage import plan, run
from pipelines.tasks.spec import TaskSpec

from .toy import (
    EVEN,
    UNEVEN,
    WIDE,
    Toy,
    ToyBatch,
    install,
    saved_task,
    statistics,
    stream_task,
    tiny_model,
    viewed,
    write_checkpoint,
)

STEPS, EPISODE = 50, 5


class Recorded:
    """Prompts that are made up: another one for each stream."""

    def __init__(self, spec: TaskSpec, steps: int) -> None:
        self.spec, self.steps = spec, steps

    def rows(self, stream: int) -> PromptRows:
        generator = np.random.default_rng(stream)

        def normal(*shape: int) -> np.ndarray:
            return generator.normal(size=(self.steps, *shape)).astype(np.float32)

        return PromptRows(
            normal(self.spec.observation_dim),
            normal(self.spec.action_dim),
            normal(),
            (np.arange(self.steps) + 2) % EPISODE,
        )


def play(model: Vintix, tasks: list[Any], **options: Any) -> tuple[dict, dict[str, ToyBatch]]:
    toy = Toy()
    records = roll(model, tasks, make_batch=toy.make_batch, **{"seed": 11, **options})
    return records, {batch.task.name: batch for batch in toy.batches}


def history_after_prompt(spec: TaskSpec, batch: ToyBatch, stream: int, steps: int) -> TaskSequence:
    """What the model is to have seen when a stream has ended, prompt first."""
    seen, prompt = batch.seen[stream], Recorded(spec, steps).rows(stream)
    own = np.array(seen.actions)
    return TaskSequence(
        group=spec.group,
        statistics=statistics(spec),
        observation_LO=torch.from_numpy(
            np.concatenate([prompt.observation_LO, np.array(seen.observations)])
        ),
        previous_action_LA=torch.from_numpy(
            np.concatenate([prompt.previous_action_LA, np.zeros_like(own[:1]), own[:-1]])
        ),
        previous_reward_L=torch.from_numpy(
            np.concatenate([prompt.previous_reward_L, [0.0], seen.rewards[:-1]])
        ).float(),
        episode_step_L=torch.tensor([*prompt.episode_step_L, *seen.episode_steps]),
    )


@pytest.mark.parametrize("cache", ["window", "none"])
def test_every_action_follows_from_prompt_and_stream(
    cache: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scaled, normalised and padded as training has it; prompts run two streams at a time."""
    monkeypatch.setattr(playing, "PROMPT_TOKENS", 2 * 7)
    model = tiny_model()
    tasks = [stream_task(spec, 3, range(3), prompt=Recorded(spec, 7)) for spec in (WIDE, EVEN)]
    _, batches = play(model, tasks, memory=Memory(cache=cache))
    for spec in (WIDE, EVEN):
        batch = batches[spec.name]
        for stream in range(3):
            sequence = history_after_prompt(spec, batch, stream, 7)
            with torch.no_grad():
                expected = model(group_sequences(model.config, [sequence])[0])[0][0, 7:].numpy()
            bounded = np.clip(expected, *batch.actions.bounds)
            np.testing.assert_allclose(np.array(batch.seen[stream].actions), bounded, atol=1e-5)


def test_prompts_matter_and_hide_their_rewards_from_models_trained_without() -> None:
    model = tiny_model()
    task = stream_task(EVEN, 3, [0], prompt=Recorded(EVEN, 6))
    without, _ = play(model, [stream_task(EVEN, 3, [0])])
    with_prompt, _ = play(model, [task])
    assert np.abs(
        without["toy-even"][0].reward_T - with_prompt["toy-even"][0].reward_T
    ).max() > 1e-4  # fmt: skip
    louder = viewed(task, statistics=replace(task.view.statistics, reward_scale=50.0))
    masked = [
        play(model, [viewed(one, mask_rewards=True)])[0]["toy-even"][0] for one in (task, louder)
    ]
    np.testing.assert_array_equal(masked[0].reward_T, masked[1].reward_T)
    shown = [play(model, [one])[0]["toy-even"][0] for one in (task, louder)]
    assert not np.array_equal(shown[0].reward_T, shown[1].reward_T)


def test_streams_that_advance_together_have_prompts_of_one_length() -> None:
    tasks = [
        stream_task(EVEN, 1, [0], prompt=Recorded(EVEN, 5)),
        stream_task(UNEVEN, 1, [0]),
    ]
    with pytest.raises(ConfigError, match="several lengths"):
        play(tiny_model(), tasks)


@pytest.mark.parametrize(("cache", "sinks"), [("window", 0), ("window", 3), ("none", 0)])
def test_results_do_not_depend_on_the_batch_far_beyond_the_context(cache: Any, sinks: int) -> None:
    """To 1e-5, in 45 closed-loop steps over a context of 8: batches of one, of two and of all."""
    model, memory = tiny_model(), Memory(8, cache, sinks)
    tasks = [stream_task(EVEN, 9, range(4)), stream_task(UNEVEN, 4, [0, 1])]
    together, _ = play(model, tasks, memory=memory)
    for size in (1, 2):
        for start in range(0, 4, size):
            some = stream_task(EVEN, 9, range(start, start + size))
            alone, _ = play(model, [some], memory=memory)
            for stream in some.streams:
                np.testing.assert_allclose(
                    alone["toy-even"][stream].reward_T,
                    together["toy-even"][stream].reward_T,
                    atol=1e-5,
                )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, histories of one task and the dataset they make; not to be changed."""
    root = tmp_path_factory.mktemp("prompt")
    with pytest.MonkeyPatch.context() as patch:
        install(patch)
        place = write_checkpoint(root, [saved_task(EVEN), saved_task(WIDE)])
        make_histories(
            place, observation_dim=3, action_dim=2, steps=STEPS, count=2, episode=EPISODE, task=EVEN
        )
        pack(PackConfig(chunk_rows=17, name="packed"), place, NullReporter())
    return root


@pytest.fixture
def workspace(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    install(monkeypatch)
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    return Workspace(tmp_path)


def go(workspace: Workspace, **config: Any) -> Any:
    asked = {"seeds": 3, "shots": 2, "tasks": ("toy-even",), **config}
    return run(RolloutConfig(**asked), workspace, NullReporter())


def rewards(result: Any, stream: int) -> np.ndarray:
    return result.artifact.read(f"toy-even/{stream:05d}/reward")


def test_histories_and_the_dataset_made_of_them_are_the_same_prompt(workspace: Workspace) -> None:
    one = go(workspace, prompt="made-up", prompt_steps=23)
    other = go(workspace, prompt="datasets/packed", prompt_steps=23)
    plain = go(workspace)
    for stream in range(3):
        np.testing.assert_array_equal(rewards(one, stream), rewards(other, stream))
        assert not np.array_equal(rewards(one, stream), rewards(plain, stream))
    assert one.artifact.digest != other.artifact.digest
    for result, kind in ((one, "histories"), (other, "datasets")):
        manifest = result.artifact.manifest
        assert manifest.config["prompt"] == {"toy-even": {"task": "toy-even", "steps": 23}}
        assert [parent.kind for parent in manifest.parents] == ["checkpoints", kind]
        assert result.report["checkpoint"] == "model@v1"
    assert "prompt" not in plain.artifact.manifest.config
    assert go(workspace, prompt="made-up", prompt_steps=23).up_to_date


@pytest.mark.parametrize("reference", ["made-up", "datasets/packed"])
def test_a_prompt_is_the_end_of_a_trajectory_with_what_came_one_step_before(
    workspace: Workspace, reference: str
) -> None:
    """From the stored arrays; also a prompt of the whole trajectory, before which there is none."""
    from pipelines.domains.registry import full_catalogue
    from pipelines.model.saved import load_model
    from pipelines.rollout.prompt import find_prompts
    from pipelines.rollout.selection import select_targets

    raw = workspace.find("histories", "made-up")
    for steps in (8, STEPS):
        config = RolloutConfig(tasks=("toy-even",), prompt=reference, prompt_steps=steps)
        model = load_model(workspace.find("checkpoints"))
        targets = select_targets(config, model, full_catalogue())
        prompt = find_prompts(config, workspace, targets, 64)[1]["toy-even"]
        for stream in range(3):
            path = f"toy-even/{stream % 2:05d}"
            rows = prompt.rows(stream)
            action, reward = raw.read(f"{path}/action"), raw.read(f"{path}/reward")
            first = STEPS - steps
            np.testing.assert_array_equal(
                rows.observation_LO, raw.read(f"{path}/observation")[first:]
            )
            np.testing.assert_array_equal(rows.episode_step_L, np.arange(first, STEPS) % EPISODE)
            np.testing.assert_array_equal(rows.previous_action_LA[1:], action[first:-1])
            np.testing.assert_array_equal(rows.previous_reward_L[1:], reward[first:-1])
            before = action[first - 1] if first else np.zeros(2)
            np.testing.assert_array_equal(rows.previous_action_LA[0], before)


def test_a_prompt_fills_the_context_where_no_length_is_given(workspace: Workspace) -> None:
    def steps(**config: Any) -> int:
        result = go(workspace, prompt="made-up", **config)
        return result.artifact.manifest.config["prompt"]["toy-even"]["steps"]

    assert steps(context=10) == 10
    assert steps() == STEPS < 64


def test_what_changes_a_result_is_recorded_and_defaults_are_not(workspace: Workspace) -> None:
    plain = go(workspace)
    assert not {"cache", "sinks", "prompt", "workers"} & set(plain.artifact.manifest.config)
    assert go(workspace, workers=1, cache="window", sinks=0).up_to_date
    other = go(workspace, cache="none", sinks=2, context=6)
    assert other.artifact.manifest.config["cache"] == "none"
    assert other.artifact.manifest.config["sinks"] == 2
    exact = go(workspace, cache="none", context=64)
    np.testing.assert_allclose(rewards(exact, 1), rewards(plain, 1), atol=1e-5)
    assert not exact.up_to_date


def test_baselines_know_neither_prompts_nor_what_is_kept_in_view(workspace: Workspace) -> None:
    """One artifact of a baseline stands beside checkpoints with and without a prompt."""
    prompted = go(workspace, prompt="made-up", sinks=2, context=60, baselines=("random",))
    model, baseline = prompted.report["comparison"]
    artifact = workspace.find("rollouts", baseline["artifact"])
    assert (model["checkpoint"], baseline["checkpoint"]) == ("model@v1", None)
    assert artifact.manifest.parents == []
    assert not {"prompt", "sinks", "context"} & set(artifact.manifest.config)
    plain = go(workspace, baselines=("random",))
    assert plain.report["comparison"][1]["artifact"] == baseline["artifact"]
    assert plain.report["comparison"][0]["artifact"] != model["artifact"]


def test_tasks_with_prompts_of_several_lengths_get_jobs_of_their_own(
    workspace: Workspace,
) -> None:
    make_histories(
        workspace, observation_dim=4, action_dim=1, steps=20, count=1, episode=4, task=WIDE
    )
    from pipelines.rollout.jobs import make_jobs
    from pipelines.rollout.selection import Target

    spec = {"options": {}, "shots": 1, "scores": {}}
    targets = [
        Target(task, task.name, saved_task(task), **spec) for task in (EVEN, UNEVEN, WIDE)
    ]  # fmt: skip
    prompts: Any = {
        "toy-even": Recorded(EVEN, 5), "toy-uneven": Recorded(UNEVEN, 5),
        "toy-wide": Recorded(WIDE, 4),
    }  # fmt: skip

    def jobs(prompts: Any) -> Any:
        agent: Any = SimpleNamespace(
            targets=targets,
            view=lambda target, rewards: target.view(None, rewards, prompts.get(target.spec.name)),
        )
        return make_jobs(RolloutConfig(seeds=2), agent)

    names = [[task.spec.name for task in job] for job in jobs(prompts)]
    assert names == [["toy-even", "toy-uneven"], ["toy-wide"]]
    assert len(jobs({})) == 1


@pytest.mark.parametrize(
    ("config", "error", "words"),
    [
        ({"prompt": "nowhere"}, ArtifactMissingError, "no histories artifact 'nowhere'"),
        ({"prompt": "checkpoints/model"}, UsageError, "wrong kind"),
        ({"prompt": "made-up", "tasks": ("toy-wide",)}, UsageError, r"(?s)hold.*toy-even"),
        ({"prompt": "made-up", "prompt_steps": STEPS + 1}, UsageError, r"(?s)at most 50 .*51"),
        ({"prompt": "made-up", "prompt_steps": 65}, UsageError, r"(?s)longer than.*at most 64"),
        ({"prompt_steps": 5}, UsageError, "without a prompt"),
        ({"sinks": 64}, UsageError, r"(?s)leave room.*0 to 63"),
    ],
)
def test_what_cannot_be_done_says_why(
    workspace: Workspace, config: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        go(workspace, **config)


def test_the_plan_guesses_the_time_without_running_the_model(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recomputing takes longer, and so do more streams; no pass is made to find out."""

    def step(*arguments: Any) -> None:
        raise AssertionError("a plan ran the model")

    monkeypatch.setattr("pipelines.model.vintix.Vintix.step", step)

    def seconds(**asked: Any) -> float:
        config = RolloutConfig(**{"seeds": 3, "shots": 6000, "tasks": ("toy-even",), **asked})
        return plan(config, workspace).totals["seconds"]

    assert seconds(cache="none") > seconds() > 0
    assert seconds(seeds=600) > seconds()
