"""What a run starts from: another checkpoint's weights, or the same run with fewer steps."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.errors import ArtifactMissingError, ConfigError, InterruptedRunError
from pipelines.model.saved import load_model
from pipelines.reporter import NullReporter
from pipelines.train.metrics import read_metrics
from pipelines.train.stage import plan, run

from .support import SMALL_MODEL, small_config
from .test_stage import StopAfter


class Told(NullReporter):
    def __init__(self):
        self.lines = []

    def info(self, message):
        self.lines.append(message)

    warn = info


def train(workspace, told=None, **changes):
    return run(small_config(**changes), workspace, told or Told())


def weights(artifact):
    return {n: p.detach().numpy() for n, p in load_model(artifact).model.named_parameters()}


def rows(artifact):
    return [row["step"] for row in read_metrics(artifact.file("log/metrics.jsonl"))]


def test_more_steps_go_on_from_the_shorter_run(workspace):
    """It begins where the shorter one ended: its log, its moments, its data from there on."""
    first = train(workspace, steps=6).artifact
    told = Told()
    second = train(workspace, told, steps=9).artifact
    assert any("going on from" in line and first.reference in line for line in told.lines)
    assert rows(second) == list(range(1, 10))
    losses = [
        [row["loss"] for row in read_metrics(each.file("log/metrics.jsonl"))[:6]]
        for each in (first, second)
    ]
    assert losses[0] == losses[1]
    assert first.digest in {parent.digest for parent in second.manifest.parents}
    # The steps beyond move on from the weights that the shorter run ended with.
    before, after = weights(first), weights(second)
    moved = max(np.abs(before[name] - after[name]).max() for name in before)
    assert 0 < moved < 0.1


def test_a_continued_run_is_found_again_without_the_shorter_one(workspace):
    """The same command says "up to date", also once the shorter version is deleted."""
    import shutil

    first = train(workspace, steps=4).artifact
    second = train(workspace, steps=6).artifact
    shutil.rmtree(first.path)
    again = train(workspace, steps=6)
    assert again.up_to_date
    assert again.artifact.digest == second.digest


@pytest.mark.parametrize("change", [{"seed": 1}, {"learning_rate": 1e-4}, {"name": "other"}])
def test_another_run_begins_anew(workspace, change):
    train(workspace, steps=4)
    artifact = train(workspace, steps=6, **change).artifact
    assert [parent.kind for parent in artifact.manifest.parents] == ["datasets"]


def test_fewer_steps_begin_anew(workspace):
    train(workspace, steps=6)
    artifact = train(workspace, steps=4).artifact
    assert rows(artifact) == [1, 2, 3, 4]
    assert [parent.kind for parent in artifact.manifest.parents] == ["datasets"]


def test_a_shorter_run_takes_no_progress_from_a_longer_one(workspace, new_workspace):
    """Published while the longer one is interrupted, it is gone on from if it is further."""
    for steps, shorter in ((5, 3), (2, 4), (3, 6)):
        with pytest.raises(InterruptedRunError):
            run(small_config(steps=14), workspace, NullReporter(), stop=StopAfter(steps))
        train(workspace, steps=shorter)
    told = Told()
    artifact = train(workspace, told, steps=14).artifact
    # The first run stopped at 5, at 7 and at 10, where it went on; nothing that is published
    # is further.
    assert any("resuming after step 10 of 14" in line for line in told.lines)
    assert [parent.kind for parent in artifact.manifest.parents] == ["datasets"]
    whole = train(new_workspace("other"), steps=14).artifact
    assert artifact.digest == whole.digest


def test_a_shorter_run_that_is_further_is_gone_on_from(workspace):
    """Also from work that was staged after an even shorter one."""
    train(workspace, steps=3)
    with pytest.raises(InterruptedRunError):
        run(small_config(steps=14), workspace, NullReporter(), stop=StopAfter(2))
    longest = train(workspace, steps=6).artifact
    with pytest.raises(InterruptedRunError):
        run(small_config(steps=14), workspace, NullReporter(), stop=StopAfter(3))
    train(workspace, steps=8)
    told = Told()
    artifact = train(workspace, told, steps=14).artifact
    assert any("resuming after step 9 of 14" in line for line in told.lines)
    assert longest.digest in {parent.digest for parent in artifact.manifest.parents}


def test_damaged_staged_work_is_not_gone_on_from(workspace):
    with pytest.raises(InterruptedRunError):
        run(small_config(steps=14), workspace, NullReporter(), stop=StopAfter(3))
    (staged,) = workspace.root.glob("checkpoints/*/.staging-*")
    for path in (staged / "scratch").rglob("c/*"):
        if path.is_file():
            path.write_bytes(b"")
    shorter = train(workspace, steps=2).artifact
    told = Told()
    train(workspace, told, steps=14)
    assert any("going on from" in line and shorter.reference in line for line in told.lines)


def test_weights_of_a_checkpoint_are_the_first_weights(workspace):
    """Known groups and the transformer are taken, and a new group starts as it would alone."""
    source = train(workspace, steps=5, tasks=["toy-a", "toy-b"]).artifact
    told = Told()
    # A rate that is 0 in float32: what is published is what training started from.
    frozen = {"steps": 1, "learning_rate": 1e-60, "weight_decay": 0.0}
    tuned = train(workspace, told, init=source.reference, **frozen).artifact
    fresh = train(workspace, name="fresh", **frozen).artifact
    assert any("new groups: beta" in line for line in told.lines)
    of_source, of_tuned, of_fresh = weights(source), weights(tuned), weights(fresh)
    for name, values in of_tuned.items():
        expected = of_fresh if ".beta." in name else of_source
        assert np.array_equal(values, expected[name]), name
    assert tuned.manifest.name.endswith(f"-from-{source.manifest.name}")
    assert {parent.kind for parent in tuned.manifest.parents} == {"datasets", "checkpoints"}


def test_a_run_with_an_init_is_not_the_run_without(workspace):
    """Under one name, the same or longer; and each is found again."""
    source = train(workspace, steps=3, name="base0").artifact
    tuned = train(workspace, steps=4, name="x", init="base0").artifact
    plain = train(workspace, steps=4, name="x")
    assert not plain.up_to_date
    assert [parent.kind for parent in plain.artifact.manifest.parents] == ["datasets"]
    longer = train(workspace, steps=6, name="x", init="base0").artifact
    parents = {parent.digest for parent in longer.manifest.parents}
    assert parents >= {source.digest, tuned.digest} and plain.artifact.digest not in parents
    again = train(workspace, steps=6, name="x", init="base0")
    assert again.up_to_date and again.artifact.digest == longer.digest


def test_weights_of_a_run_of_the_same_name_begin_another_run(workspace):
    """Its parents are those of the run that goes on from the same checkpoint."""
    first = train(workspace, steps=2, name="x").artifact
    tuned = train(workspace, steps=4, name="x", init="x@v1")
    longer = train(workspace, steps=4, name="x")
    assert not tuned.up_to_date and not longer.up_to_date
    for each in (tuned, longer):
        assert first.digest in {parent.digest for parent in each.artifact.manifest.parents}
    assert tuned.artifact.digest != longer.artifact.digest
    assert rows(longer.artifact) == [1, 2, 3, 4]
    for each, init in ((tuned, "x@v1"), (longer, None)):
        again = train(workspace, steps=4, name="x", init=init)
        assert again.up_to_date and again.artifact.digest == each.artifact.digest


def test_an_init_of_another_architecture_is_refused(workspace):
    source = train(workspace, steps=1).artifact
    with pytest.raises(ConfigError, match="another architecture") as caught:
        train(workspace, init=source.reference, model={**SMALL_MODEL, "layers": 3})
    assert "layers 3" in caught.value.expected
    assert "layers 2" in caught.value.found
    with pytest.raises(ArtifactMissingError):
        train(workspace, init="nosuch")


def test_the_plan_tells_size_origin_and_idle_gpus(workspace):
    train(workspace, steps=4)
    notes = " ".join(plan(small_config(steps=9), workspace).notes)
    for words in ("preset tiny", "parameters", "9 steps of", "goes on from", "after 4 steps"):
        assert words in notes
    many = plan(small_config(device="cuda", gpus=4, batch_size=8), workspace)
    assert any("leaves 4 GPUs idle" in note for note in many.notes)
