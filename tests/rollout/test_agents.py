"""Converged scores, suites, baselines and several checkpoints, from the stage's outside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.artifacts.workspace import Workspace
from pipelines.domains.goals import HiddenGoals
from pipelines.domains.registry import full_catalogue
from pipelines.errors import ArtifactMissingError, ConfigError, UsageError
from pipelines.policies.base import PolicySpec
from pipelines.reporter import NullReporter
from pipelines.rollout.config import RolloutConfig
from pipelines.rollout.report import rollout_report
from pipelines.rollout.reported import reported_for, reported_rows
from pipelines.rollout.scores import load_curves, score_rows
from pipelines.rollout.stage import plan, run
from pipelines.tasks.registry import catalogue
from vintix_cli.commands.rollout import print_curves

from .test_statistics import curve
from .toy import EVEN, UNEVEN, WIDE, Toy, install, saved_task, write_checkpoint

KNOWN = [saved_task(EVEN), saved_task(UNEVEN), saved_task(WIDE)]
SMALL: dict[str, Any] = {"seeds": 2, "shots": 4, "max_streams": 4}
REACHER = catalogue().get("reacher")


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Toy:
    return install(monkeypatch)


def go(workspace: Workspace, reporter: NullReporter | None = None, **config: Any) -> Any:
    return run(RolloutConfig(**{**SMALL, **config}), workspace, reporter or NullReporter())


def test_what_is_not_asked_for_leaves_no_trace_in_the_configuration(
    toy: Toy, tmp_path: Path
) -> None:
    """Else artifacts of earlier releases would not be up to date any more."""
    artifact = go(write_checkpoint(tmp_path, KNOWN)).artifact
    assert set(artifact.manifest.config) == {
        "seed", "seeds", "tasks", "context", "reference", "max_streams", "threads", "device",
    }  # fmt: skip
    for task in artifact.manifest.config["tasks"].values():
        assert set(task) == {"shots", "statistics", "options", "variation"}


def test_converged_episodes_follow_the_shots_and_change_none_of_them(
    toy: Toy, tmp_path: Path
) -> None:
    workspace = write_checkpoint(tmp_path, KNOWN)
    plain = go(workspace, tasks=("toy-uneven",))
    longer = go(workspace, tasks=("toy-uneven",), converged=3)
    assert longer.artifact.manifest.config["converged"] == 3
    (before,), (after,) = load_curves(plain.artifact), load_curves(longer.artifact)
    np.testing.assert_allclose(before.return_SE, after.return_SE, atol=1e-5)
    assert before.further_SE is None and after.further_SE is not None
    assert (after.shots, after.further_SE.shape) == (4, (2, 3))
    (task,) = longer.report["tasks"]
    played = np.stack(
        [longer.artifact.read(f"toy-uneven/{stream:05d}/episode_return") for stream in range(2)]
    )
    assert played.shape == (2, 7)
    window = played[:, task["best_shot"] : task["best_shot"] + 3]
    assert task["converged"]["episodes"] == 3
    assert task["converged"]["return"] == pytest.approx(window.mean())
    assert task["converged"]["normalized"] == pytest.approx((window.mean() - 1) / 4)
    (row,) = longer.report["scores"]
    assert row["scores"]["converged"]["mean"] == pytest.approx((window.mean() - 1) / 4)
    assert plain.report["tasks"][0]["converged"] is None
    assert "converged" not in plain.report["scores"][0]["scores"]
    steps = plan(RolloutConfig(**SMALL, tasks=("toy-uneven",), converged=3), workspace)
    assert steps.totals["steps"] == 2 * 7 * 9


def test_borrowed_statistics_are_recorded_and_change_what_is_played(
    toy: Toy, tmp_path: Path
) -> None:
    workspace = write_checkpoint(tmp_path, KNOWN)
    rewards = []
    for stats, source in (
        ("group", "group:toy"), ("task:toy-even", "toy-even"), ("running", "running:toy"),
    ):  # fmt: skip
        result = go(workspace, tasks=("toy-unseen",), stats=stats, reference="paper")
        assert result.artifact.manifest.config["tasks"]["toy-unseen"]["statistics"] == source
        (task,) = result.report["tasks"]
        assert (task["statistics"], task["part"]) == (source, "unseen")
        rewards.append(result.artifact.read("toy-unseen/00000/reward"))
    assert not np.array_equal(rewards[0], rewards[1])
    assert not np.array_equal(rewards[0], rewards[2])
    again = go(workspace, tasks=("toy-unseen",), stats="running", reference="paper")
    assert again.up_to_date


def test_a_choice_of_statistics_that_changes_nothing_is_told(toy: Toy, tmp_path: Path) -> None:
    """Every task has its own, so that the rollout is not what was meant."""
    workspace = write_checkpoint(tmp_path, KNOWN)
    for tasks, unused in ((("toy-even",), True), (("toy-even", "toy-unseen"), False)):
        planned = plan(RolloutConfig(**SMALL, tasks=tasks, stats="group"), workspace)
        assert any("--stats group changes nothing" in note for note in planned.notes) is unused


def test_statistics_that_are_not_the_tasks_own_are_told(
    toy: Toy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the plan, the JSON and the printed table: whose they are, and what of the task differs."""
    workspace = write_checkpoint(tmp_path, KNOWN)
    cases: list[tuple[dict[str, Any], str | None]] = [
        ({"tasks": ("toy-even",)}, None),
        ({"tasks": ("toy-unseen",), "stats": "group"}, "group:toy"),
        ({"tasks": ("toy-unseen",), "stats": "running"}, "running:toy"),
        ({"tasks": ("toy-unseen",), "stats": "task:toy-even"}, "toy-even"),
        ({"tasks": ("toy-even",), "options": {"goal": "visible"}}, "toy-even with goal=hidden"),
    ]
    for config, source in cases:
        note = f"not their own: {config['tasks'][0]} by {source}"
        planned = plan(RolloutConfig(**SMALL, **config), workspace)
        assert any(note in each for each in planned.notes) == (source is not None)
        if "stats" in config and config["stats"] != "group":
            continue
        result = go(workspace, **config)
        assert result.report["tasks"][0]["foreign_statistics"] == source
        print_curves(result.report)
        assert (note in " ".join(capsys.readouterr().out.split())) == (source is not None)
    options = {"tasks": ("toy-unseen",), "stats": "group", "reference": "paper"}
    random = go(workspace, **options, baselines=("random",))
    baseline = workspace.find("rollouts", random.report["comparison"][1]["artifact"])
    assert rollout_report(baseline)["tasks"][0]["foreign_statistics"] is None


def test_a_channel_that_the_model_does_not_see_is_told_once(toy: Toy, tmp_path: Path) -> None:
    known = saved_task(EVEN)
    known.statistics.observation_std[1] = 0.0
    reporter = NullReporter()
    workspace = write_checkpoint(tmp_path, [known, KNOWN[2]])
    go(workspace, reporter, seeds=3, max_streams=1)
    (warning,) = [each for each in reporter.warnings if "does not see" in each]
    assert warning.startswith("toy-even: observation channel 1 moves")


def test_running_statistics_do_not_depend_on_blocks(toy: Toy, tmp_path: Path) -> None:
    workspace = write_checkpoint(tmp_path, KNOWN)
    settings = {"tasks": ("toy-unseen",), "stats": "running", "seeds": 3, "reference": "paper"}
    large = go(workspace, **settings, max_streams=64).artifact
    small = go(workspace, **settings, max_streams=1).artifact
    for stream in range(3):
        path = f"toy-unseen/{stream:05d}/reward"
        np.testing.assert_allclose(large.read(path), small.read(path), atol=1e-5)


@pytest.mark.simulator
def test_a_suite_scores_what_it_cannot_play_as_zero(tmp_path: Path) -> None:
    """The paper's own rule (Appendix A.2.3); outside a suite it is an error."""
    workspace = write_checkpoint(tmp_path, [saved_task(REACHER)])
    reporter = NullReporter()
    settings = {"suite": "paper", "tasks": ("reacher", "hopper"), "shots": 1}
    result = go(workspace, reporter, **settings)
    assert len(result.report["tasks"]) == 5
    absent = result.report["absent"]
    assert [each["name"] for each in absent][:1] == ["hopper"] and len(absent) == 5
    assert any("5 tasks of the suite" in warning for warning in reporter.warnings)
    training, variations, everything = result.report["scores"]
    assert (training["part"], training["tasks"], training["zeros"]) == ("training", 2, 1)
    assert (variations["part"], variations["tasks"], variations["zeros"]) == ("variations", 8, 4)
    assert everything["tasks"] == 10
    alone = result.report["tasks"][0]["normalized_first"]
    assert training["scores"]["first"]["mean"] == pytest.approx(alone / 2)
    assert result.artifact.manifest.config["suite"] == "paper"
    planned = plan(RolloutConfig(**{**SMALL, **settings}), workspace)
    assert [row["streams"] for row in planned.rows] == [2] * 5 + [0] * 5
    assert any("scored 0" in note for note in planned.notes)


def test_baselines_play_the_models_episodes(toy: Toy, tmp_path: Path, monkeypatch: Any) -> None:
    workspace = write_checkpoint(tmp_path, KNOWN)
    policy = PolicySpec(kind="constant")

    class Constant:
        def __init__(self, low_A: Any) -> None:
            self.action_A, self.begun = low_A, []

        def reset(self, indices: Any) -> None:
            self.begun += list(indices)

        def act(self, observation_BO: Any) -> Any:
            return np.tile(self.action_A, (len(observation_BO), 1))

    made: list[Constant] = []

    def build(_: Any, actions: Any) -> Constant:
        made.append(Constant(actions.bounds[0]))
        return made[-1]

    monkeypatch.setattr(toy, "demonstrator", lambda task: policy, raising=False)
    monkeypatch.setattr(toy, "policies", lambda: {"constant": build}, raising=False)
    both = ("random", "demonstrator")
    result = go(workspace, tasks=("toy-uneven",), baselines=both)
    assert [each["agent"] for each in result.report["comparison"]] == ["model", *both]
    batches = [batch for batch in toy.batches if batch.size == 2]
    assert len(batches) == 3
    for batch in batches[1:]:
        assert [seen.resets for seen in batch.seen] == [seen.resets for seen in batches[0].seen]
    for index in range(2):
        random, constant = (np.array(batch.seen[index].actions) for batch in batches[1:])
        assert (constant == np.float32(-0.75)).all()
        assert random.std() > 0.2 and abs(random.mean() - (-0.75 + 0.6) / 2) < 0.2
    assert sorted(made[-1].begun) == [0] * 4 + [1] * 4, "once for each episode"
    # The demonstrator is worst here, by construction; the table has to say so.
    means = [each["scores"][0]["scores"]["last"]["mean"] for each in result.report["comparison"]]
    assert means[2] < means[1]
    artifacts = [workspace.find("rollouts", f"toy-uneven-{name}") for name in both]
    assert [one.manifest.config["agent"] for one in artifacts] == list(both)
    config = artifacts[1].manifest.config["tasks"]["toy-uneven"]["demonstrator"]
    assert config["source"] == "builtin" and len(config["sha256"]) == 64


def test_baselines_resume_and_are_shared_between_calls(toy: Toy, tmp_path: Path) -> None:
    workspace = write_checkpoint(tmp_path, KNOWN)
    first = go(workspace, tasks=("toy-even",), baselines=("random",))
    assert not first.up_to_date
    made = len(toy.batches)
    again = go(workspace, tasks=("toy-even",), baselines=("random",))
    assert again.up_to_date and again.report == first.report and len(toy.batches) == made
    # The model's artifact is the one that a call without baselines makes.
    assert go(workspace, tasks=("toy-even",)).up_to_date
    split = go(workspace, tasks=("toy-even",), baselines=("random",), max_streams=1)
    paths = [f"toy-even/{stream:05d}/reward" for stream in range(2)]
    whole, single = (workspace.find("rollouts", f"toy-even-random@v{v}") for v in (1, 2))
    assert split.report["comparison"][1]["artifact"] == single.reference
    for path in paths:
        np.testing.assert_array_equal(whole.read(path), single.read(path))


def test_no_demonstrator_at_all_is_an_error(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none of the tasks has a demonstrator"):
        go(write_checkpoint(tmp_path, KNOWN), tasks=("toy-even",), baselines=("demonstrator",))


RING = full_catalogue().get("point-ring")


def test_a_belief_rises_by_rewards_from_a_blind_demonstrator_to_one_that_sees_the_goal(
    tmp_path: Path,
) -> None:
    """What is no learning, what an honest student can reach at best, and what knows the goal."""
    workspace = write_checkpoint(tmp_path, [saved_task(RING, measured=False)])
    config: dict[str, Any] = {"tasks": ("point-ring",), "shots": 6, "seeds": 6, "max_streams": 6}
    config["reference"] = "measured"
    result = go(workspace, **config, baselines=("demonstrator", "blind", "belief"))
    scores = [each["scores"][0]["scores"] for each in result.report["comparison"]]
    demonstrator, blind, belief = scores[1:]
    assert demonstrator["first"]["mean"] > 0.9 and blind["last"]["mean"] < 0.1
    assert belief["first"]["mean"] < 0.5 < 0.65 < belief["last"]["mean"]
    curves = workspace.find("rollouts", "point-ring-belief")
    again = go(workspace, **{**config, "max_streams": 4}, baselines=("belief",))
    alone = workspace.find("rollouts", again.report["comparison"][1]["artifact"])
    assert alone.reference != curves.reference
    for stream in (0, 5):
        path = f"point-ring/{stream:05d}/reward"
        np.testing.assert_array_equal(alone.read(path), curves.read(path))


def test_without_a_hidden_goal_nobody_is_blind(toy: Toy, tmp_path: Path) -> None:
    workspace = write_checkpoint(tmp_path, KNOWN)
    for baseline in ("blind", "belief"):
        with pytest.raises(ConfigError, match="hides a goal") as refused:
            go(workspace, tasks=("toy-even",), baselines=(baseline,))
        assert baseline in refused.value.where and refused.value.exit_code == 3


@pytest.mark.parametrize("checked", [run, plan])
def test_a_baseline_that_cannot_be_is_refused_before_the_model_plays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checked: Any
) -> None:
    """Nobody is shown a hidden goal; and of goals that change nothing can be believed."""
    workspace = write_checkpoint(tmp_path, [saved_task(RING, measured=False)])

    def refused(**config: Any) -> ConfigError:
        config = {**SMALL, "tasks": ("point-ring",), "baselines": ("belief",), **config}
        with pytest.raises(ConfigError) as caught:
            checked(RolloutConfig(**config), workspace, *[NullReporter()] * (checked is run))
        assert not list(workspace.root.glob("rollouts/*"))
        return caught.value

    hidden = refused(options={"goal": "hidden"})
    assert hidden.fix == "vintix rollout --option goal=demonstrator"
    from pipelines.domains.hidden_goal.batch import BatchGoals

    monkeypatch.setattr(BatchGoals, "kept", False)
    changing = refused()
    assert changing.where == "task point-ring"
    assert changing.fix == "vintix rollout ... --option goal_reset=trajectory"
    for name in ("rewards", "log_likelihoods"):
        monkeypatch.setattr(BatchGoals, name, getattr(HiddenGoals, name))
    assert refused().fix == "leave --baseline belief out"


def test_a_demonstrator_without_the_goal_is_warned_of(tmp_path: Path) -> None:
    workspace = write_checkpoint(tmp_path, [saved_task(RING, measured=False)])
    for goal, count in (("hidden", 1), ("demonstrator", 0)):
        reporter = NullReporter()
        config = {"baselines": ("demonstrator",), "options": {"goal": goal}}
        go(workspace, reporter, tasks=("point-ring",), **config)
        assert len([each for each in reporter.warnings if "without" in each]) == count


@pytest.mark.parametrize("checked", [run, plan])
def test_an_agent_that_is_named_twice_is_refused(toy: Toy, tmp_path: Path, checked: Any) -> None:
    workspace = write_checkpoint(tmp_path, KNOWN)
    for twice, option in (
        ({"baselines": ("random", "random")}, "--baseline"),
        ({"checkpoint": "model", "also": ("model@v1",)}, "--checkpoint"),
    ):
        config = RolloutConfig(**{**SMALL, **twice})
        with pytest.raises(UsageError, match="named twice") as caught:
            checked(config, workspace, *[NullReporter()] * (checked is run))
        assert caught.value.where == option


def test_a_wrong_last_checkpoint_is_told_before_the_first_one_plays(
    toy: Toy, tmp_path: Path
) -> None:
    workspace = write_checkpoint(tmp_path, KNOWN, name="ad")
    with pytest.raises(ArtifactMissingError, match="nobody"):
        go(workspace, checkpoint="ad", also=("nobody",))
    assert not list(workspace.root.glob("rollouts/*"))


@pytest.mark.simulator
def test_the_demonstrator_of_a_real_task_beats_random_play(tmp_path: Path) -> None:
    workspace = write_checkpoint(tmp_path, [saved_task(REACHER)])
    result = go(
        workspace, tasks=("reacher",), shots=3, baselines=("random", "demonstrator"),
        reference="paper",
    )  # fmt: skip
    model, random, demonstrator = (
        each["scores"][0]["scores"]["first"]["mean"] for each in result.report["comparison"]
    )
    assert abs(random) < 0.3
    assert demonstrator > 0.8
    assert demonstrator > model


def test_checkpoints_are_compared_over_their_common_tasks(toy: Toy, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, KNOWN, name="ad")
    workspace = write_checkpoint(tmp_path, KNOWN[:2], name="blind", method="ad-no-reward")
    result = go(workspace, checkpoint="ad", also=("blind",))
    assert result.artifact.manifest.name == "ad"
    ad, blind = result.report["comparison"]
    assert (ad["checkpoint"], ad["method"]) == ("ad@v1", "ad")
    assert (blind["checkpoint"], blind["method"]) == ("blind@v1", "ad-no-reward")
    assert ad["tasks"] == blind["tasks"] == ["toy-even", "toy-uneven"]
    assert len(result.report["tasks"]) == 3, "the report itself is the first checkpoint's"
    means = [each["normalized_first"] for each in result.report["tasks"][:2]]
    assert ad["scores"][0]["scores"]["first"]["mean"] == pytest.approx(np.mean(means))
    assert ad["scores"][0]["scores"]["last"] != blind["scores"][0]["scores"]["last"]
    assert go(workspace, checkpoint="blind").up_to_date, "made by the call before"
    json.dumps(result.report, allow_nan=False)


def test_score_rows_by_hand() -> None:
    one = curve([[0.0, 1.0], [0.2, 0.8]])
    missing = [{"domain": "toy", "variation_of": None, "split": "train"}]
    (row,) = score_rows([one], missing)
    assert (row["domain"], row["part"], row["tasks"], row["zeros"]) == ("toy", "training", 2, 1)
    assert row["scores"]["first"]["mean"] == pytest.approx(0.05)
    assert row["scores"]["best"]["mean"] == pytest.approx(0.45)
    low, high = row["scores"]["first"]["mean_interval"]
    assert (low, high) == (0.0, pytest.approx(0.1))
    elsewhere = [{"domain": "other", "variation_of": "x", "split": "validation"}]
    places = [(each["domain"], each["part"]) for each in score_rows([one], elsewhere)]
    assert places == [("toy", "training"), ("other", "variations"), ("all", "all")]


def test_reported_numbers_are_labelled_and_over_the_same_tasks() -> None:
    hopper = {each["source"]: each for each in reported_for("hopper")}
    assert {name: (each["mean"], each["std"]) for name, each in hopper.items()} == {
        "Vintix": (0.86, 0.19), "REGENT": (0.12, None), "JAT": (0.76, 0.21),
    }  # fmt: skip
    assert all(each["label"] == "reported" for each in hopper.values())
    assert hopper["Vintix"]["score_reference"] == "paper"
    assert [each["source"] for each in reported_for("industrial-benchmark-0")] == ["Vintix"]
    assert reported_for("toy-even") == reported_for("hopper-gravity-1.1") == []


def test_reported_rows_average_the_tasks_that_were_played() -> None:
    from dataclasses import replace

    played = [
        replace(curve([[1.0]]), name=name, domain="mujoco", variation_of=base)
        for name, base in (("hopper", None), ("ant", None), ("hopper-gravity-1.1", "hopper"))
    ]
    rows = reported_rows(played)
    assert [(row["source"], row["tasks"], row["part"]) for row in rows] == [
        ("Vintix", 2, "training"), ("REGENT", 2, "training"), ("JAT", 2, "training"),
    ]  # fmt: skip
    assert [row["mean"] for row in rows] == pytest.approx([0.92, 0.145, 0.82])
    assert {row["label"] for row in rows} == {"reported"}


def test_ours_stands_beside_reported_numbers_where_the_streams_arrived() -> None:
    """By the same scores and over the same tasks; never at a best shot."""
    from dataclasses import replace

    shots = [[0.0, 9.0, 0.2, 0.3, 0.4]]
    hopper = replace(curve(shots), name="hopper", domain="mujoco", variation_of=None)
    ant = replace(hopper, name="ant")
    (row, *_) = reported_rows([hopper, ant])
    assert (row["ours_kind"], row["ours_reference"]) == ("last", "paper")
    assert row["ours"] == pytest.approx(hopper.score.normalize(np.array([0.3]))[0])
    (row, *_) = reported_rows([hopper, replace(ant, score=None)])
    assert row["ours"] is None


@pytest.mark.simulator
def test_the_tables_show_intervals_and_label_what_others_report(
    toy: Toy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from vintix_cli.commands.rollout import show_rollout

    workspace = write_checkpoint(tmp_path, [saved_task(REACHER)])
    show_rollout(go(workspace, tasks=("reacher",), baselines=("random",)))
    printed = capsys.readouterr().out
    assert "95 % intervals" in printed and " to " in printed and "random" in printed
    assert "reported)" not in printed and "--converged" in printed, "ours is not after convergence"
    show_rollout(go(workspace, tasks=("reacher",), converged=2))
    assert "JAT (reported)" in capsys.readouterr().out
