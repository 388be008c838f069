"""An environment that keeps pictures of some of its episodes, and files of moving pictures.

Shapes: N pictures, H and W pixels.
"""

from __future__ import annotations

import io
import math
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.domains.loop import LoopBatch
from pipelines.errors import MissingDependencyError, StorageError
from pipelines.output_files import MARK, write_output
from pipelines.report.snapshot import frame

if TYPE_CHECKING:
    import gymnasium
    from numpy.typing import NDArray

    from pipelines.domains.base import StepBatch

#: Most pictures of an episode; longer ones show every second step, or third.
MOST_FRAMES = 60
FRAMES_A_SECOND = 12.5
#: Height of the line of text above each picture, pixels.
TEXT_HEIGHT = 22
_BACKGROUND, _INK = (20, 24, 29), (232, 235, 239)
#: Of a GIF, and from how many of its pictures they are taken.
_COLOURS, _SAMPLES = 256, 8


class FilmedBatch(LoopBatch):
    """One copy of a task whose pictures of chosen episodes are kept.

    Args:
        env: Draws itself (`pipelines.domains.base.Domain.make_rendered_env`); belongs to the batch.
        task: Name of the task, for errors.
        horizon: Most steps of an episode.
        episodes: Numbers of the episodes to film, from 0.

    Attributes:
        frames: Pictures by episode: at its beginning, and after every few steps.
    """

    def __init__(
        self, env: gymnasium.Env[Any, Any], task: str, horizon: int, episodes: Sequence[int]
    ) -> None:
        super().__init__([env])
        self._task, self._every = task, math.ceil(horizon / MOST_FRAMES)
        self._episode, self._step = -1, 0
        self.frames: dict[int, list[NDArray[np.uint8]]] = {episode: [] for episode in episodes}

    def reset(self, indices: Sequence[int], seeds: Sequence[int]) -> NDArray[np.float32]:
        """Begin an episode; see `BatchEnvironment.reset`."""
        observation_BO = super().reset(indices, seeds)
        self._episode, self._step = self._episode + 1, 0
        self._film(ended=False)
        return observation_BO

    def step(self, action_BA: NDArray[np.float32]) -> StepBatch:
        """Advance by one step; see `BatchEnvironment.step`."""
        after = super().step(action_BA)
        self._step += 1
        self._film(ended=bool(after.terminated_B[0] or after.truncated_B[0]))
        return after

    def _film(self, *, ended: bool) -> None:
        if self._episode in self.frames and (ended or self._step % self._every == 0):
            self.frames[self._episode].append(frame(self._envs[0], self._task))


def side_by_side(
    parts: Sequence[tuple[str, Sequence[NDArray[np.uint8]]]],
) -> list[NDArray[np.uint8]]:
    """Join films of equal picture size, each under a line of text.

    A film that ends before the others keeps its last picture.

    Args:
        parts: Text and pictures (H, W, 3) of each.

    Returns:
        Pictures, both sides even in pixels.
    """
    from PIL import Image, ImageDraw, ImageFont

    height, width = parts[0][1][0].shape[:2]
    font = ImageFont.load_default(size=13)
    joined = []
    for number in range(max(len(frames) for _, frames in parts)):
        size = (width * len(parts) // 2 * 2, (height + TEXT_HEIGHT) // 2 * 2)
        canvas = Image.new("RGB", size, _BACKGROUND)
        pen = ImageDraw.Draw(canvas)
        for place, (text, frames) in enumerate(parts):
            picture = frames[min(number, len(frames) - 1)]
            canvas.paste(Image.fromarray(picture), (place * width, TEXT_HEIGHT))
            pen.text((place * width + 6, 4), text, fill=_INK, font=font)
        joined.append(np.asarray(canvas))
    return joined


def write_film(frames: Sequence[NDArray[np.uint8]], path: Path) -> None:
    """Write pictures as a moving one: as GIF, or with ffmpeg as MP4, by the file's suffix.

    Raises:
        MissingDependencyError: There is no ffmpeg for MP4.
        UsageError: There is a file that vintix did not make.
        StorageError: The file system or ffmpeg refused.
    """
    write_output(path, _mp4(frames, path) if path.suffix.lower() == ".mp4" else _gif(frames))


def find_ffmpeg(path: Path) -> str:
    """Return the program that makes MP4.

    Raises:
        MissingDependencyError: It is not there.
    """
    found = shutil.which("ffmpeg")
    if found is None:
        raise MissingDependencyError(
            "MP4 is made by ffmpeg, which is not on this machine",
            where=path,
            expected="the program ffmpeg on the PATH",
            found="none",
            fix=f"apt-get install ffmpeg, or name the film {path.with_suffix('.gif').name}",
        )
    return found


def _gif(frames: Sequence[NDArray[np.uint8]]) -> bytes:
    from PIL import Image

    # One palette for all pictures: what stands still then keeps its bytes and is stored once. Of
    # small things such as a goal's marker it keeps the colour.
    sample = Image.fromarray(np.concatenate(frames[:: max(1, len(frames) // _SAMPLES)]))
    palette = sample.quantize(_COLOURS, method=Image.Quantize.MAXCOVERAGE)
    pictures = [
        Image.fromarray(each).quantize(palette=palette, dither=Image.Dither.NONE) for each in frames
    ]
    buffer = io.BytesIO()
    pictures[0].save(
        buffer,
        format="GIF",
        save_all=True,
        append_images=pictures[1:],
        duration=int(1000 / FRAMES_A_SECOND),
        loop=0,
        comment=MARK.encode(),
    )
    return buffer.getvalue()


def _mp4(frames: Sequence[NDArray[np.uint8]], path: Path) -> bytes:
    height, width = frames[0].shape[:2]
    with tempfile.TemporaryDirectory() as directory:
        # A file, since MP4 is finished by going back to its beginning.
        target = Path(directory) / "film.mp4"
        command = [find_ffmpeg(path), "-loglevel", "error", "-y", "-f", "rawvideo"]
        command += ["-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(FRAMES_A_SECOND)]
        command += ["-i", "-", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
        command += ["-metadata", f"comment={MARK}", str(target)]
        done = subprocess.run(
            command,
            check=False,
            input=b"".join(map(np.ndarray.tobytes, frames)),
            capture_output=True,
        )
        if done.returncode:
            raise StorageError(
                "ffmpeg could not make the film",
                where=path,
                found=done.stderr.decode(errors="replace").strip()[-400:],
                fix=f"name it {path.with_suffix('.gif').name}",
            )
        return target.read_bytes()
