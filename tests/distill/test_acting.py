"""Histories that a trained model plays: what it does, what is recorded beside, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from distill.toy import refuse_commits
from pipelines.artifacts.workspace import Workspace
from pipelines.config import resolve_config
from pipelines.datasets.reader import DatasetReader
from pipelines.demonstrators.config import DemonstratorsConfig
from pipelines.demonstrators.reader import load_demonstrator
from pipelines.demonstrators.stage import run as measure
from pipelines.distill.config import DistillConfig
from pipelines.distill.plan import plan
from pipelines.distill.stage import run
from pipelines.domains.registry import domain_of, full_catalogue
from pipelines.errors import ConfigError, StorageError, UsageError
from pipelines.histories.quality import history_quality
from pipelines.histories.reader import HistoryReader
from pipelines.pack.config import PackConfig
from pipelines.pack.stage import run as pack
from pipelines.playing.environments import make_batch
from pipelines.playing.episodes import policy_for
from pipelines.reporter import NullReporter
from pipelines.rng import derive_seed

pytestmark = [pytest.mark.process, pytest.mark.stage, pytest.mark.simulator]

REPORTER = NullReporter()
TASKS = ("industrial-benchmark-0", "industrial-benchmark-80")
TRAJECTORIES, STEPS = 3, 260


def config(**fields):
    given = {
        "tasks": TASKS,
        "source": "model",
        "checkpoint": "packaged",
        "trajectories": TRAJECTORIES,
        "steps": STEPS,
        "workers": 1,
    }
    return DistillConfig(**{**given, **fields})


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A workspace with the package's demonstrators of two tasks."""
    found = Workspace(tmp_path_factory.mktemp("acting") / "work")
    measure(DemonstratorsConfig(tasks=TASKS, episodes=20, workers=1), found, REPORTER)
    return found


@pytest.fixture(scope="module")
def played(workspace):
    return run(config(name="played"), workspace, REPORTER).artifact


def rows(reader, task, trajectory):
    blocks = list(reader.blocks(task, trajectory))
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def test_the_model_acts_from_an_empty_context(workspace, played):
    """Every action is what `vintix.load` does when it is shown the same steps."""
    import vintix

    reader = HistoryReader(played)
    recorded = [rows(reader, TASKS[0], number) for number in range(TRAJECTORIES)]
    agent = vintix.load("packaged", workspace=workspace.root)
    options = reader.task(TASKS[0])["options"]
    with make_batch(
        full_catalogue().get(TASKS[0]), TRAJECTORIES, options, [0] * TRAJECTORIES
    ) as batch:
        agent.reset(
            TASKS[0],
            batch.actions.space,
            streams=TRAJECTORIES,
            seed=derive_seed(0, "distill", TASKS[0], 0, "model"),
            options=options,
        )
    seen = ()
    for step in range(40):
        row = {name: np.stack([one[name][step] for one in recorded]) for name in recorded[0]}
        np.testing.assert_allclose(
            agent.act(row["observation"], *seen), row["action"], rtol=0, atol=1e-5
        )
        seen = row["reward"], row["terminated"], row["truncated"]
    assert not np.array_equal(recorded[0]["action"], recorded[1]["action"])
    assert all((one["noise"] == 0).all() for one in recorded)


def test_the_demonstrator_is_recorded_beside_it(workspace, played):
    reader = HistoryReader(played)
    for name in TASKS:
        task = full_catalogue().get(name)
        demonstrator = load_demonstrator(workspace.find("demonstrators"), name)
        recorded = rows(reader, name, 0)
        with make_batch(task, 1, reader.task(name)["options"], [0]) as batch:
            policy = policy_for(batch, demonstrator.spec, domain_of(task))
            policy.reset([0])
            expected = [
                policy.act(batch.demonstrator_view(one[None]))[0]
                for one in recorded["observation"][:200]
            ]
        np.testing.assert_allclose(recorded["demonstrator_action"][:200], expected, atol=1e-5)
        assert np.abs(recorded["action"] - recorded["demonstrator_action"]).max() > 1e-3


def test_what_it_says_of_itself(workspace, played):
    packaged = workspace.find("checkpoints", "packaged")
    assert packaged.digest in {parent.digest for parent in played.manifest.parents}
    reader = HistoryReader(played)
    attributes = reader.task(TASKS[0])
    assert attributes["source"] == "model"
    assert attributes["checkpoint"] == packaged.reference
    assert attributes["schedule"] is None
    # It need not rise: how good the model is, is not the history's fault.
    assert history_quality(reader, TASKS[0]).verdict == "unjudged"
    assert run(config(name="played"), workspace, REPORTER).up_to_date


def test_two_workers_and_a_resumed_run_write_the_same(workspace, played, monkeypatch):
    refuse_commits(monkeypatch, after=3)
    with pytest.raises(StorageError):
        run(config(name="again"), workspace, REPORTER)
    monkeypatch.undo()
    assert run(config(name="again"), workspace, REPORTER).artifact.digest == played.digest
    assert run(config(name="two", workers=2), workspace, REPORTER).artifact.digest == played.digest


def test_packed_with_noise_distilled_histories(workspace, played):
    """DAgger: a dataset has both, and the next model is trained on both."""
    noise = run(
        config(source="noise", checkpoint=None, name="noise", trajectories=2, steps=500),
        workspace,
        REPORTER,
    ).artifact
    result = pack(PackConfig(histories=("noise", "played"), allow=("all",)), workspace, REPORTER)
    dataset = DatasetReader(result.artifact)
    task = dataset.tasks[TASKS[0]]
    assert task.rows == (500,) * 2 + (STEPS,) * TRAJECTORIES
    window = dataset.window(TASKS[0], 2, 0, STEPS)
    first = rows(HistoryReader(played), TASKS[0], 0)
    np.testing.assert_array_equal(window["observation"], first["observation"])
    np.testing.assert_array_equal(window["demonstrator_action"], first["demonstrator_action"])
    joined = result.artifact.group(TASKS[0]).attrs["joined"]
    assert [each["reference"] for each in joined] == [noise.reference, played.reference]
    assert [each.get("source") for each in joined] == [None, "model"]
    every = np.concatenate(
        [
            rows(HistoryReader(artifact), TASKS[0], number)["observation"]
            for artifact, count in ((noise, 2), (played, TRAJECTORIES))
            for number in range(count)
        ]
    )
    np.testing.assert_allclose(task.statistics["observation_mean"], every.mean(0), rtol=1e-4)


def test_the_plan_knows_who_plays_and_that_it_takes_longer(workspace):
    found = plan(config(trajectories=20), workspace)
    played = workspace.find("checkpoints", "packaged").reference
    assert {row["schedule"] for row in found.rows} == {f"none ({played})"}
    alone = plan(config(source="noise", checkpoint=None, trajectories=20), workspace)
    assert found.totals["seconds"] > alone.totals["seconds"]


def test_what_does_not_fit_is_refused(workspace):
    with pytest.raises(ConfigError, match="group") as error:
        plan(config(tasks=("point-ring",)), workspace)
    assert "packaged@v" in error.value.where
    assert "--checkpoint" in error.value.fix
    for fields, message in (
        ({"source": "noise"}, "checkpoint belongs to the source model"),
        ({"schedule": "p=1,f=0.1"}, "noise is mixed into a demonstrator's actions"),
        ({"decoys": "task"}, "decoys are demonstrators"),
        ({"shard_rows": 10}, "whole trajectory"),
    ):
        given = {"source": "model", "checkpoint": "packaged", **fields}
        with pytest.raises(UsageError, match=message):
            resolve_config("distill", DistillConfig, command_line=given, environment={})
