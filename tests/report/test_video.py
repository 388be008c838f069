"""Films of a task's first shot beside its last."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from datasets.synthetic import make_histories
from PIL import Image
from rollout.toy import EVEN, UNSEEN, Toy, ToyBatch, install, saved_task, write_checkpoint

from pipelines.artifacts.workspace import Workspace
from pipelines.errors import ArtifactMissingError, ConfigError, MissingDependencyError, UsageError
from pipelines.hardware import torch_threads
from pipelines.report.document import provenance
from pipelines.report.film import TEXT_HEIGHT, side_by_side, write_film
from pipelines.report.sources import read_sources
from pipelines.report.stage import ReportRequest, make_report
from pipelines.report.video import film_shots
from pipelines.reporter import NullReporter
from pipelines.rollout.config import RolloutConfig
from pipelines.rollout.stage import run
from pipelines.tasks.spec import TaskSpec


class Drawn(gymnasium.Env[Any, Any]):
    """One copy of a toy that draws the number of its episode and its step as colours."""

    def __init__(self, spec: TaskSpec) -> None:
        self.batch = ToyBatch(spec, 1, [0])
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (spec.observation_dim,))
        self.action_space = self.batch.actions.space
        self.episode = -1
        self.closed = False

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.episode += 1
        return self.batch.reset([0], [seed or 0])[0], {}

    def step(self, action: np.ndarray) -> Any:
        after = self.batch.step(action[None])
        return (
            after.observation_BO[0],
            after.reward_B[0],
            after.terminated_B[0],
            after.truncated_B[0],
            {},
        )

    def render(self) -> Any:
        colour = [10 * self.episode, 10 * int(self.batch.step_S[0]), 0]
        return np.full((30, 41, 3), colour, np.uint8)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Toy:
    return install(monkeypatch)


@pytest.fixture
def drawn(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> list[Drawn]:
    """Let the toy draw itself."""
    made: list[Drawn] = []

    def make(task: TaskSpec, options: Mapping[str, Any], size: Any) -> Drawn:
        made.append(Drawn(task))
        return made[-1]

    monkeypatch.setattr(toy, "make_rendered_env", make, raising=False)
    return made


@pytest.fixture
def played(toy: Toy, tmp_path: Path) -> Any:
    """A workspace with a rollout of three shots by two seeds."""
    workspace = write_checkpoint(tmp_path / "work", [saved_task(EVEN)])
    with torch_threads(1):
        run(RolloutConfig(seeds=2, shots=3), workspace, NullReporter())
    return workspace


def test_the_film_plays_the_recorded_episodes(
    played: Any, drawn: list[Drawn], tmp_path: Path
) -> None:
    """The first and the last shot of the first seed, as the artifact has them."""
    sources, reporter = read_sources(played), NullReporter()
    film = film_shots(sources, tmp_path / "film.gif", reporter)
    (recorded_SE,) = [entry.curve.return_SE for entry in sources.entries]
    assert film["returns"] == pytest.approx(recorded_SE[0, [0, 2]], rel=1e-4)
    assert film["recorded"] == recorded_SE[0, [0, 2]].tolist()
    assert film["shots"] == [1, 3]
    assert reporter.warnings == []
    assert drawn[0].closed
    with Image.open(tmp_path / "film.gif") as image:
        # The beginning and five steps; the text stands above, and both sides are even.
        assert (image.n_frames, image.size) == (EVEN.horizon + 1, (82, 30 + TEXT_HEIGHT))
        image.seek(2)
        pixels = np.asarray(image.convert("RGB"))
    np.testing.assert_allclose(pixels[-1, 5], [0, 20, 0], atol=4)
    np.testing.assert_allclose(pixels[-1, 60], [20, 20, 0], atol=4)


def test_a_model_of_random_maps_is_filmed_through_them(
    toy: Toy, drawn: list[Drawn], tmp_path: Path
) -> None:
    """The film has the returns of the rollout, which maps decide."""
    workspace = write_checkpoint(tmp_path / "mapped", [saved_task(EVEN)], random_map=True)
    with torch_threads(1):
        run(RolloutConfig(seeds=2, shots=3), workspace, NullReporter())
    reporter = NullReporter()
    film = film_shots(read_sources(workspace), tmp_path / "film.gif", reporter)
    assert film["returns"] == pytest.approx(film["recorded"], rel=1e-4)
    assert reporter.warnings == []


def test_the_page_takes_the_film_in_unless_it_is_large(
    played: Any, drawn: list[Drawn], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film, page, reporter = tmp_path / "film.gif", tmp_path / "page.html", NullReporter()
    request = ReportRequest(output=page, video=film)
    make_report(request, played, reporter)
    data = base64.b64encode(film.read_bytes()).decode()
    assert data in page.read_text()
    monkeypatch.setattr("pipelines.report.stage.LARGEST_FILM", 10)
    make_report(request, played, reporter)
    assert data not in page.read_text()
    assert "a file of its own" in reporter.warnings[-1]


@pytest.fixture
def recorded(toy: Toy, tmp_path: Path) -> Workspace:
    """A checkpoint, and histories to prompt it with."""
    workspace = write_checkpoint(tmp_path / "prompted", [saved_task(EVEN)])
    make_histories(
        workspace, observation_dim=3, action_dim=2, steps=40, count=2, episode=5, task=EVEN
    )
    return workspace


@pytest.mark.parametrize(
    "asked",
    [
        {"prompt": "made-up", "prompt_steps": 9},
        {"sinks": 3, "context": 6},
        {"cache": "none", "context": 6},
        {"tasks": (UNSEEN.name,), "stats": "running", "reference": "paper"},
    ],
)
def test_the_film_sees_what_the_rollout_saw(
    recorded: Workspace, drawn: list[Drawn], tmp_path: Path, asked: dict[str, Any]
) -> None:
    """Prompts, sinks, recomputed windows and running statistics; without them returns differ."""
    with torch_threads(1):
        result = run(RolloutConfig(seeds=2, shots=3, **asked), recorded, NullReporter())
    sources, reporter = read_sources(recorded, [result.artifact.reference]), NullReporter()
    film = film_shots(sources, tmp_path / "film.gif", reporter)
    assert film["returns"] == pytest.approx(film["recorded"], rel=1e-4)
    assert reporter.warnings == []


def test_the_command_of_a_prompted_rollout_names_its_prompt(recorded: Workspace) -> None:
    """Histories are no option of `vintix rollout` otherwise."""
    run(RolloutConfig(seeds=2, shots=1, prompt="made-up"), recorded, NullReporter())
    words = provenance(read_sources(recorded))["artifacts"][0]["command"].split()
    assert words[4:6] == ["--prompt", "histories/made-up@v1"]


def test_a_prompt_that_is_not_there_is_said(
    recorded: Workspace, drawn: list[Drawn], tmp_path: Path
) -> None:
    run(RolloutConfig(seeds=2, shots=1, prompt="made-up"), recorded, NullReporter())
    sources = read_sources(recorded)
    kept = tuple(each for each in sources.lineage if each.kind != "histories")
    assert len(kept) < len(sources.lineage)
    with pytest.raises(ArtifactMissingError, match=r"(?s)prompts are from.*made-up"):
        film_shots(replace(sources, lineage=kept), tmp_path / "film.gif", NullReporter())
    assert drawn == []


def test_other_returns_are_told(
    played: Any, drawn: list[Drawn], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A film of other episodes than the page's curve shows is no picture of it."""
    step = Drawn.step

    def other(self: Drawn, action: np.ndarray) -> Any:
        observation, reward, *rest = step(self, action)
        return (observation, reward + 1, *rest)

    monkeypatch.setattr(Drawn, "step", other)
    reporter = NullReporter()
    film_shots(read_sources(played), tmp_path / "film.gif", reporter)
    assert len(reporter.warnings) == 1
    assert "other returns than its recorded stream" in reporter.warnings[0]


def test_what_has_no_checkpoint_and_what_draws_nothing_is_refused(
    played: Any, tmp_path: Path
) -> None:
    sources = read_sources(played)
    with pytest.raises(NotImplementedError):
        # The toy has no environment to draw at all; a real domain answers with a UsageError.
        film_shots(sources, tmp_path / "film.gif", NullReporter())
    orphan = sources.rollouts[0]
    orphan.manifest.parents.clear()
    with pytest.raises(ConfigError, match="checkpoint"):
        film_shots(replace(sources, rollouts=(orphan,)), tmp_path / "film.gif", NullReporter())


def test_other_formats_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    nowhere = Workspace(tmp_path / "nowhere")
    for request in (
        ReportRequest(video=tmp_path / "film.avi"),
        ReportRequest(output=tmp_path / "page.pdf"),
    ):
        with pytest.raises(UsageError, match="not drawn"):
            make_report(request, nowhere, NullReporter())


def test_mp4_needs_ffmpeg_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    request = ReportRequest(video=tmp_path / "film.mp4")
    with pytest.raises(MissingDependencyError, match=r"film\.gif"):
        make_report(request, None, NullReporter())  # type: ignore[arg-type]


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg on this machine")
def test_mp4_is_a_film(tmp_path: Path) -> None:
    frames = [np.full((64, 64, 3), 20 * number, np.uint8) for number in range(8)]
    write_film(frames, tmp_path / "film.mp4")
    assert (tmp_path / "film.mp4").read_bytes()[4:8] == b"ftyp"


def test_a_shorter_film_waits_for_the_longer(tmp_path: Path) -> None:
    one = [np.full((20, 30, 3), number, np.uint8) for number in (10, 20)]
    other = [np.full((20, 30, 3), number, np.uint8) for number in (30, 40, 50)]
    joined = side_by_side([("a", one), ("b", other)])
    assert [frame.shape for frame in joined] == [(42, 60, 3)] * 3
    assert [int(frame[-1, 0, 0]) for frame in joined] == [10, 20, 20]
    assert [int(frame[-1, -1, 0]) for frame in joined] == [30, 40, 50]
    assert joined[0][:TEXT_HEIGHT].max() > 150, "the text is there"


def test_what_stands_still_in_a_film_is_stored_once(tmp_path: Path) -> None:
    """A page and a README take a film in; most of its pictures is the room, which never moves."""
    random = np.random.default_rng(0)
    room = random.integers(0, 256, (120, 160, 3), dtype=np.uint8)
    frames = []
    for number in range(20):
        frames.append(room.copy())
        frames[-1][10:20, 5 * number : 5 * number + 10] = 255
    write_film(frames[:1], tmp_path / "one.gif")
    write_film(frames, tmp_path / "all.gif")
    one, all_of_them = ((tmp_path / f"{name}.gif").stat().st_size for name in ("one", "all"))
    assert all_of_them < 3 * one
