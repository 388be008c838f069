"""Pages, pictures and films replace what vintix made, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipelines.errors import UsageError
from pipelines.output_files import MARK, check_output, check_output_directory, write_output

PIXELS = np.zeros((8, 8, 3), np.uint8)


def page(path: Path) -> None:
    from pipelines.output_files import write_output
    from pipelines.report import page as pages

    template = (Path(pages.__file__).parent / "assets" / "page.html").read_text()
    write_output(path, template.replace("{{mark}}", MARK).encode())


def picture(path: Path) -> None:
    from pipelines.drawing import save_image

    save_image(PIXELS, path)


def drawing(path: Path) -> None:
    from pipelines.drawing import new_figure, save

    save(new_figure(1.0), path)


def film(path: Path) -> None:
    from pipelines.report.film import write_film

    write_film([PIXELS, PIXELS + 200], path)


WRITERS = [(page, ".html"), (picture, ".png"), (drawing, ".png"), (drawing, ".svg"), (film, ".gif")]


@pytest.mark.parametrize(("write", "suffix"), WRITERS)
def test_what_is_made_here_is_made_again_and_nothing_else_is_replaced(
    tmp_path: Path, write: Callable[[Path], None], suffix: str
) -> None:
    path = tmp_path / f"made{suffix}"
    write(path)
    before = path.read_bytes()
    check_output(path, (suffix,))
    write(path)
    assert path.read_bytes() == before
    path.write_bytes(b"years of work")
    with pytest.raises(UsageError, match="not made by vintix"):
        check_output(path, (suffix,))
    with pytest.raises(UsageError, match="not made by vintix"):
        write(path)
    assert path.read_bytes() == b"years of work"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_one_and_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to("real.png")
    write_output(tmp_path / "link.png", MARK.encode())
    assert (tmp_path / "real.png").read_text() == MARK
    assert (tmp_path / "link.png").is_symlink()
    (tmp_path / "directory.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    for name in ("directory.png", "pipe.png", "loop.png"):
        with pytest.raises(UsageError):
            check_output(tmp_path / name, (".png",))
        with pytest.raises(UsageError):
            write_output(tmp_path / name, MARK.encode())


def test_a_directory_that_is_not_there_is_told_before_the_work_and_not_made(tmp_path):
    """A path with a slip is no reason to make directories, hours later."""
    page_there, figures_there = tmp_path / "no" / "page.html", tmp_path / "no" / "figures"
    for refused in (
        lambda: check_output(page_there, (".html",)),
        lambda: check_output_directory(figures_there),
    ):
        with pytest.raises(UsageError) as told:
            refused()
        assert told.value.fix == f"mkdir -p {tmp_path / 'no'}, or correct the path"
        assert not (tmp_path / "no").exists()
    check_output(tmp_path / "page.html", (".html",))
    check_output_directory(tmp_path / "figures")
