"""What a distillation resolves to before anything is simulated."""

from __future__ import annotations

import dataclasses
import re

import pytest
from pydantic import ValidationError

from distill.toy import make_demonstrators
from pipelines.demonstrators.config import DemonstratorsConfig
from pipelines.demonstrators.selection import plan as plan_demonstrators
from pipelines.distill.config import DistillConfig
from pipelines.distill.job import LEAST_TOGETHER, job_size, shard_rows
from pipelines.distill.plan import plan, resolve
from pipelines.domains.registry import find_domain, full_catalogue
from pipelines.errors import ArtifactMissingError, ConfigError, UsageError
from pipelines.stage import JOB_SECONDS, PROCESS_SECONDS
from pipelines.tasks.schedule import NoiseCurve, Schedule


def names(distillation):
    return [each.task.name for each in distillation.tasks]


def test_default_is_every_task_of_the_newest_demonstrators(workspace):
    make_demonstrators(workspace, ["toy-b"], name="newer")
    found = resolve(DistillConfig(), workspace)
    assert names(found) == ["toy-b"]
    assert found.demonstrators.reference == "newer@v1"
    assert found.name == "all"


def test_selection_takes_the_newest_artifact_that_holds_it(workspace):
    make_demonstrators(workspace, ["toy-b"], name="newer")
    found = resolve(DistillConfig(tasks=("toy-b", "toy+a")), workspace)
    assert found.demonstrators.reference == "toys@v1"
    assert names(found) == ["toy-a", "toy-b"]
    assert found.name == "toy-a-toy-b"


def test_reference_and_domain(workspace):
    found = resolve(DistillConfig(demonstrators="toys", domains=("toy-blocks",)), workspace)
    assert names(found) == ["toy-c"]
    assert found.name == "toy-blocks"


def test_trajectories_are_collected_together_where_a_batch_is_cheaper(workspace, monkeypatch):
    """Each alone otherwise, so that cores share a task; what is recorded is the same either way."""

    def jobs():
        (task,) = resolve(DistillConfig(tasks=("toy-a",), trajectories=3), workspace).tasks
        return [job.trajectories for job in task.jobs]

    assert jobs() == [(0,), (1,), (2,)]
    monkeypatch.setattr(type(find_domain("toy")), "batched", True)
    assert jobs() == [(0, 1, 2)]
    assert find_domain("bidexhands").batched


@pytest.mark.parametrize("scale", [1e9, 1e308])
def test_trajectories_beyond_memory_are_refused_with_the_scale_that_fits(workspace, scale):
    with pytest.raises(UsageError, match="too long") as caught:
        plan(DistillConfig(scale=scale), workspace)
    fits = re.fullmatch(r"vintix distill \.\.\. --scale (\d+)", caught.value.fix)
    assert fits is not None and "distill.scale, task toy-" in caught.value.where
    plan(DistillConfig(scale=float(fits[1])), workspace)
    with pytest.raises(ValidationError, match="less than or equal to"):
        DistillConfig(steps=10**15)


def test_a_task_without_demonstrator_is_named_with_the_command(workspace):
    make_demonstrators(workspace, ["toy-a"], name="few")
    with pytest.raises(ArtifactMissingError) as found:
        resolve(DistillConfig(tasks=("toy-a", "toy-b"), demonstrators="few"), workspace)
    assert "toy-b" in str(found.value)
    assert found.value.fix == "vintix demonstrators --task toy-a --task toy-b"
    with pytest.raises(ArtifactMissingError) as found:
        resolve(DistillConfig(domains=("mujoco",)), workspace)
    assert found.value.fix == "vintix demonstrators --domain mujoco"


def test_a_domain_takes_the_tasks_there_are_and_says_which_are_left(workspace):
    make_demonstrators(workspace, ["toy-a"], name="few")
    found = resolve(DistillConfig(domains=("toy",), demonstrators="few"), workspace)
    assert names(found) == ["toy-a"]
    assert "1 of 2 tasks" in found.notes[0]
    # An artifact that holds the whole domain is preferred to a newer one that does not.
    assert resolve(DistillConfig(domains=("toy",)), workspace).demonstrators.reference == "toys@v1"


def test_selections_that_exclude_each_other(workspace):
    with pytest.raises(UsageError, match="empty"):
        resolve(DistillConfig(tasks=("toy-a",), domains=("toy-blocks",)), workspace)


def test_lengths(workspace):
    def steps(**changes):
        found = resolve(DistillConfig(tasks=("toy-a",), **changes), workspace)
        return found.tasks[0].jobs[0].steps

    assert steps() == 200
    assert steps(scale=0.5) == 100
    assert steps(scale=0.001) == 23, "at least one episode"
    assert steps(steps=7) == 7


@pytest.mark.parametrize("given", [{"scale": 0.37}, {"steps": 100}, {}])
def test_few_episodes_are_told_with_what_gives_enough(workspace, given):
    """In the plan and at the run; what is advised is enough, and nearly as little as is."""
    asked = DistillConfig(tasks=("toy-a", "toy-b"), **given)
    notes = resolve(asked, workspace).notes
    assert notes and notes[-1] == plan(asked, workspace).notes[-1]
    assert notes[-1].startswith("fewer than 10 episodes")
    assert "in 2 of 2 tasks: " in notes[-1]
    assert "toy-a, toy-b" in notes[-1]
    name, value = re.search(r"--(scale|steps) ([0-9.]+) ", notes[-1]).groups()
    assert name == ("steps" if "steps" in given else "scale")
    for share, enough in ((1.0, True), (0.9, False)):
        advised = DistillConfig(
            tasks=("toy-a", "toy-b"),
            **{name: int(share * int(value)) if name == "steps" else share * float(value)},
        )
        assert (not resolve(advised, workspace).notes) == enough


@pytest.mark.parametrize("workers", [1, 2])
def test_the_time_of_a_plan_counts_environments_jobs_and_processes(workspace, monkeypatch, workers):
    """Many tasks of a few steps are all start-up."""

    def seconds(trajectories):
        asked = {"tasks": ("toy-a",), "steps": 23, "workers": workers}
        return plan(DistillConfig(trajectories=trajectories, **asked), workspace).totals["seconds"]

    few = seconds(2)
    assert few > PROCESS_SECONDS * workers
    assert seconds(202) >= few + 200 * JOB_SECONDS / workers
    monkeypatch.setattr(type(find_domain("toy")), "startup_seconds", 10.0)
    assert seconds(2) > few + 2 * 9.0 / workers


def test_a_plan_counts_its_pilots(workspace):
    """Their steps in a column of their own, since nothing is kept of them, their time in all."""
    asked = {"tasks": ("toy-a",), "workers": 1}
    plain = plan(DistillConfig(**asked), workspace)
    fitted = plan(DistillConfig(schedule="auto", pilot_episodes=100, **asked), workspace)
    assert "pilot_steps" not in plain.totals
    assert fitted.totals["pilot_steps"] == 23 * 100 * find_domain("toy").tasks()[0].horizon
    assert fitted.totals["steps"] == plain.totals["steps"]
    more = fitted.totals["pilot_steps"] / find_domain("toy").steps_per_second
    assert fitted.totals["seconds"] >= plain.totals["seconds"] + more
    assert fitted.rows[0]["seconds"] >= plain.rows[0]["seconds"] + more


def test_jobs_follow_the_domain(workspace):
    found = resolve(DistillConfig(trajectories=5), workspace)
    shapes = {each.task.name: [job.trajectories for job in each.jobs] for each in found.tasks}
    assert shapes["toy-a"] == [(0,), (1,), (2,), (3,), (4,)]
    assert shapes["toy-c"] == [(0, 1, 2, 3, 4)]


def test_schedule_is_the_tasks_own_unless_given(workspace):
    def schedule(**changes):
        found = resolve(DistillConfig(tasks=("toy-a",), **changes), workspace)
        return found.tasks[0].jobs[0].schedule

    assert schedule() == Schedule(p=1.5, f=0.2)
    assert schedule(schedule="p=0.7,f=0.1") == Schedule(p=0.7, f=0.1)
    assert schedule(schedule={"p": 3}) == Schedule(p=3)
    assert schedule(schedule=Schedule(p=2)) == Schedule(p=2)
    knots = {"progress": [0, 0.5, 0.9], "noise": [1, 0.3, 0]}
    assert schedule(schedule=knots) == NoiseCurve((0.0, 0.5, 0.9), (1.0, 0.3, 0.0))


def test_a_curve_is_planned_like_p_and_f(workspace):
    """What ``--dry-run`` shows of it, and what the artifact's configuration holds of it."""
    knots = {"progress": [0.0, 0.5, 0.9], "noise": [1.0, 0.3, 0.0]}
    config = DistillConfig(tasks=("toy-a",), schedule=knots)
    assert plan(config, workspace).rows[0]["schedule"] == "curve 1@0% 0.3@50% 0@90%"
    assert resolve(config, workspace).tasks[0].as_config()["schedule"] == knots


def test_a_pilot_is_longer_where_episodes_cost_next_to_nothing(workspace):
    found = resolve(DistillConfig(schedule="auto"), workspace).tasks
    episodes = {each.task.name: each.pilot_episodes for each in found}
    assert (episodes["toy-a"], episodes["toy-c"]) == (8, 64)
    given = resolve(DistillConfig(schedule="auto", pilot_episodes=5), workspace).tasks
    assert {each.pilot_episodes for each in given} == {5}


def test_a_damaged_artifact_does_not_stand_in_the_way_of_others(workspace):
    make_demonstrators(workspace, ["toy-a"], name="whole")
    make_demonstrators(workspace, ["toy-b"], name="broken")
    (workspace.root / "demonstrators/broken/v1/manifest.json").write_text("garbage")
    found = resolve(DistillConfig(tasks=("toy-a",), steps=900), workspace)
    assert found.demonstrators.reference == "whole@v1"
    assert found.notes == (
        "left out, as it is damaged: demonstrators/broken@v1 (vintix artifacts verify)",
    )


def test_options_carry_over_from_the_demonstrators(workspace):
    make_demonstrators(workspace, ["toy-a"], name="small", options={"radius": 0.9})

    def options(**changes):
        config = DistillConfig(demonstrators="small", **changes)
        return resolve(config, workspace).tasks[0].jobs[0].options

    assert options() == {"radius": 0.9}
    assert options(options={"radius": 0.7}) == {"radius": 0.7}

    def notes(**options):
        config = DistillConfig(demonstrators="small", steps=900, options=options)
        return resolve(config, workspace).notes

    assert notes() == ("options of the demonstrators small@v1: radius=0.9",)
    assert notes(radius=0.9) == ()
    (differing,) = notes(radius=0.7)
    assert "vintix demonstrators --task toy-a --option radius=0.7 measures them so" in differing
    with pytest.raises(UsageError, match="an option 'goal'"):
        options(options={"goal": "hidden"})


@pytest.mark.parametrize(
    "fields",
    [
        {"schedule": "p=0"},
        {"schedule": "x"},
        {"schedule": {"progress": [0, 1], "noise": [0, 1]}},
        {"schedule": {"progress": [0, 1]}},
        {"scale": 0},
        {"steps": 0},
        {"trajectories": 0},
        {"seed": -1},
        {"workers": -1},
        {"steps": 5, "scale": 0.5},
        {"colour": "red"},
        {"decoys": "goal"},
        {"decoys": "task", "decoy_tasks": 0},
        {"decoy_tasks": 2},
        {"decoys": "task", "source": "learning-history"},
    ],
)
def test_config_rejects(fields):
    with pytest.raises(ValidationError):
        DistillConfig(**fields)


def test_what_does_not_change_the_result_is_not_in_the_artifacts_config(workspace):
    one = resolve(DistillConfig(workers=1), workspace).as_config()
    two = resolve(DistillConfig(workers=2, strict=True, name="x"), workspace).as_config()
    assert one == two
    assert resolve(DistillConfig(seed=1), workspace).as_config() != one


def test_dry_run(workspace):
    found = plan(DistillConfig(trajectories=2, steps=1000, workers=2), workspace)
    assert [row["task"] for row in found.rows] == ["toy-a", "toy-b", "toy-c"]
    row_bytes = 4 * (3 + 2 + 2 + 2) + 2
    assert found.rows[0]["steps"] == 2000
    assert found.rows[0]["bytes"] == 2000 * row_bytes
    started = 2 * find_domain("toy").startup_seconds + 2 * JOB_SECONDS
    assert found.rows[0]["seconds"] == pytest.approx(1.0 + started, abs=0.06)
    assert found.totals["steps"] == 6000
    assert not list(workspace.root.glob("histories/*"))


def test_what_demonstrators_know_decides_the_noise(workspace):
    """Where none is asked for; and a trajectory may be as short as a context without a warning."""

    def planned(knowledge, **changes):
        options = {"goal": knowledge} if knowledge else {}
        config = DistillConfig(tasks=("point-ring",), options=options, steps=60, **changes)
        return plan(config, workspace)

    assert planned("decoy").rows[0]["schedule"] == "per=episode,max=0.5,pure=0.1"
    assert planned("belief").rows[0]["schedule"] == "per=history,max=1,p=1,f=0.1"
    assert planned("belief", schedule="p=2,f=0").rows[0]["schedule"] == "p=2,f=0"
    assert planned("belief", schedule={"per": "episode"}).rows[0]["schedule"].startswith("per=epi")
    assert planned("demonstrator").rows[0]["schedule"] == planned(None).rows[0]["schedule"]
    few = "too few to show learning"
    assert few in " ".join(planned(None).notes) and few not in " ".join(planned("decoy").notes)
    with pytest.raises(ConfigError, match="learner") as refused:
        planned("belief", source="learning-history")
    assert "goal=demonstrator" in refused.value.fix


def test_what_demonstrators_cannot_know_is_refused_before_anything_starts(workspace, monkeypatch):
    """At planning and without an environment where the domain can tell; so `--dry-run` refuses."""
    from pipelines.domains.hidden_goal import HiddenGoal

    def planned(task, **options):
        return plan(DistillConfig(tasks=(task,), options=options, steps=60), workspace)

    with pytest.raises(ConfigError, match="another in each episode") as refused:
        planned("reach", goal="belief")
    assert refused.value.fix == "vintix distill ... --option goal_reset=trajectory"
    planned("reach", goal="decoy")
    monkeypatch.setattr(HiddenGoal, "hidden_goals", lambda *_: None)
    for knowledge in ("decoy", "belief"):
        with pytest.raises(ConfigError, match="no hidden goal"):
            planned("point-ring", goal=knowledge)


@pytest.mark.parametrize(
    ("task", "like"), [("ant", "hopper"), ("humanoid", "hopper"), ("reacher-hidden", "point-ring")]
)
def test_a_plan_knows_which_bodies_are_slow(workspace, task, like):
    """In collection, measuring and training alike; and a learner is no faster than its body."""

    def seconds(make, name, **changes):
        (row,) = make(name, **changes).rows
        return row["seconds"] / row["steps"]

    def distilled(name):
        return plan(DistillConfig(tasks=(name,), trajectories=2, steps=100_000), workspace)

    def measured(name, **changes):
        return plan_demonstrators(
            DemonstratorsConfig(tasks=(name,), episodes=900, **changes), workspace
        )

    for make in (distilled, measured):
        assert seconds(make, task) > 2 * seconds(make, like)
    if like == "hopper":
        training = {"source": "train", "train": {"algorithm": "ars", "total_steps": 10**7}}
        slow, fast = (seconds(measured, name, **training) for name in (task, like))
        assert slow > 1.5 * fast


def test_a_plan_counts_the_goals_that_a_belief_weighs(workspace):
    """They take longer than the simulator: 512 of a point, all 65 of a dark room."""

    def seconds(task, knowledge):
        config = DistillConfig(tasks=(task,), options={"goal": knowledge}, steps=600)
        return plan(config, workspace).rows[0]["seconds"]

    for task, goals in (("point-ring", 512), ("dark-room", 65)):
        more = find_domain("hidden-goal").tasks()[0].trajectories * 600 * goals / 1e7
        assert seconds(task, "belief") - seconds(task, "decoy") == pytest.approx(more, abs=0.2)


@pytest.mark.parametrize(
    ("steps", "trajectories", "sizes"),
    [
        (200, 1000, [1000]),
        # A shard holds a part of these.
        (400, 10_000, None),
        # Long ones are stepped together, however many shards that takes.
        (1_000_000, 20, [20]),
    ],
)
def test_many_short_trajectories_are_jobs_of_one_shard(steps, trajectories, sizes):
    """More than fit into a shard would each be staged alone: minutes where seconds do."""
    task = full_catalogue().get("point-ring")
    size = job_size(task, steps, trajectories)
    rows = shard_rows(task, steps, size, 131_072)
    if sizes is None:
        assert LEAST_TOGETHER <= size < trajectories and rows == steps
    else:
        assert [size] == sizes


@pytest.mark.simulator
def test_decoys_are_drawn_from_training_tasks_of_the_group_that_have_a_demonstrator(workspace):
    """Chosen for the run or not; never from held-out tasks, though they have decoys themselves."""
    names = ("industrial-benchmark-25", "industrial-benchmark-50", "industrial-benchmark-95")
    make_demonstrators(workspace, tasks=(*names, "point-ring"), name="some")

    def drawn(*tasks):
        config = DistillConfig(tasks=tasks, demonstrators="some", decoys="task", steps=250)
        plans = resolve(config, workspace).tasks
        for each in plans:
            assert set(each.others) == set(each.jobs[0].decoys.tasks)
            assert each.decoys_of(each.jobs[0]).keys() <= each.others.keys()
            assert each.as_config()["decoys"] == each.jobs[0].decoys.as_json()
        return {each.task.name: each.jobs[0].decoys.tasks for each in plans}

    first, second, held_out = names
    assert drawn(*names) == {first: (second,), second: (first,), held_out: (first, second)}
    assert drawn(first) == {first: (second,)}


@pytest.mark.simulator
def test_decoys_without_tasks_to_draw_from_are_refused(workspace):
    """With what is missing, and the command that makes it or leaves it out."""

    def refused(task, **changes):
        config = DistillConfig(**{"tasks": (task,), "decoys": "task", "steps": 250, **changes})
        with pytest.raises(ConfigError) as found:
            plan(config, workspace)
        assert found.value.exit_code == 3 and task in found.value.where
        return found.value

    make_demonstrators(workspace, tasks=("industrial-benchmark-25",), name="one")
    few = refused("industrial-benchmark-25")
    assert "which has 15" in few.expected and few.found == "none"
    assert "vintix demonstrators --domain industrial-benchmark" in few.fix
    make_demonstrators(
        workspace, tasks=("industrial-benchmark-25", "industrial-benchmark-30"), name="two"
    )
    two = {"demonstrators": "two", "decoy_tasks": 2}
    assert refused("industrial-benchmark-25", **two).found == "industrial-benchmark-30"
    # Of its own observations there is no other task.
    make_demonstrators(workspace, tasks=("inverted-pendulum",), name="pendulum")
    alone = refused("inverted-pendulum", demonstrators="pendulum")
    assert "which has 0" in alone.expected and alone.fix == "leave --decoys out"


@pytest.mark.parametrize("knowledge", ["decoy", "belief"])
def test_decoys_of_tasks_and_of_goals_do_not_go_together(workspace, knowledge):
    names = ("point-ring", "point-dense")
    make_demonstrators(workspace, tasks=names, name="points", options={"goal": "demonstrator"})
    settings = {"tasks": names, "demonstrators": "points", "decoys": "task", "steps": 60}
    resolve(DistillConfig(**settings), workspace)
    with pytest.raises(ConfigError, match="at the same time") as refused:
        resolve(DistillConfig(**settings, options={"goal": knowledge}), workspace)
    assert refused.value.found == f"goal={knowledge} and decoys of tasks"


@pytest.mark.parametrize("change", [{"observation_dim": 5}, {"action_dim": 4}])
@pytest.mark.simulator
def test_a_demonstrator_of_other_observations_or_actions_is_no_decoy(
    workspace, monkeypatch, change
):
    from pipelines.demonstrators import reader

    names = ("industrial-benchmark-25", "industrial-benchmark-50")
    make_demonstrators(workspace, tasks=names, name="old")
    load = reader.load_demonstrator

    def loaded(artifact, task):
        found = load(artifact, task)
        return dataclasses.replace(found, task={**found.task, **change})

    monkeypatch.setattr(reader, "load_demonstrator", loaded)
    with pytest.raises(ConfigError, match="do not look alike") as refused:
        resolve(DistillConfig(tasks=names, demonstrators="old", decoys="task"), workspace)
    assert refused.value.fix == "vintix demonstrators --task industrial-benchmark-50"
