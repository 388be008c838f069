"""Draw many tasks on one labelled sheet, each as its demonstrator plays it.

    python runs/contact_sheet.py hopper ant reacher --output sheet.png
    python runs/contact_sheet.py --domain bidexhands --output docs/bidexhands.png --columns 5

A task that cannot be drawn ends the script with its error and no sheet; ``vintix tasks NAME
--render FILE.png`` draws a single one. ``--colors`` makes the file a half to a quarter as large.
"""

from __future__ import annotations

import argparse
import io
import math
import sys
import textwrap
from pathlib import Path

from pipelines.artifacts.files import write_file
from pipelines.domains.registry import full_catalogue
from pipelines.drawing import PIXEL_FORMATS, STYLE
from pipelines.errors import VintixError
from pipelines.output_files import check_suffix
from pipelines.report.snapshot import Snapshot, check_size, take_snapshot

#: Pixels between tiles, and of a line of a label.
GAP, LINE = 8, 18
#: A tile is drawn this many times as large and then made smaller, which smooths its edges.
OVERSAMPLING = 2
DPI = 100
LETTER = 6.5


def main() -> None:
    arguments = parse()
    try:
        check_suffix(arguments.output, PIXEL_FORMATS)
        large = (OVERSAMPLING * arguments.tile[0], OVERSAMPLING * arguments.tile[1])
        check_size(large)
        known = full_catalogue()
        tasks = [known.get(name) for name in arguments.tasks]
        if arguments.domain:
            tasks += known.select(domains=arguments.domain)
        snapshots = []
        for task in tasks:
            snapshots.append(
                take_snapshot(task, size=large, seed=arguments.seed, steps=arguments.steps)
            )
            sys.stderr.write(f"{snapshots[-1].caption}\n")
        data = sheet(snapshots, arguments.tile, arguments.columns, arguments.colors)
        write_file(arguments.output, data)
    except VintixError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
    print(f"{arguments.output}: {len(snapshots)} tasks, {len(data):,} bytes")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tasks", nargs="*", metavar="TASK", help="in this order")
    parser.add_argument("--domain", action="append", default=[], help="all tasks of a domain")
    parser.add_argument("--output", type=Path, required=True, help="a .png")
    parser.add_argument("--columns", type=positive, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of the episodes")
    parser.add_argument("--steps", type=int, help="before each picture; default by domain")
    parser.add_argument("--tile", type=tile, default=(320, 240), metavar="WIDTHxHEIGHT")
    parser.add_argument("--colors", type=positive, help="at most this many, up to 256")
    arguments = parser.parse_args()
    if not arguments.tasks and not arguments.domain:
        parser.error("name tasks, or a --domain")
    return arguments


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def tile(text: str) -> tuple[int, int]:
    width, height = text.lower().split("x")
    return int(width), int(height)


def sheet(
    snapshots: list[Snapshot], size: tuple[int, int], columns: int, colors: int | None = None
) -> bytes:
    """Return a PNG with a tile a snapshot, its task's name above it."""
    import matplotlib
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    width, height = size
    columns = min(columns, len(snapshots))
    labels = [textwrap.wrap(each.task, int(width / LETTER)) for each in snapshots]
    label = LINE * max(map(len, labels)) + 6
    rows = math.ceil(len(snapshots) / columns)
    total = (columns * (width + GAP) + GAP, rows * (label + height + GAP) + GAP)
    with matplotlib.rc_context(STYLE):
        # Only the labels are Matplotlib's: the tiles are to keep their pixels.
        figure = Figure(figsize=(total[0] / DPI, total[1] / DPI), dpi=DPI, facecolor="white")
        canvas = FigureCanvasAgg(figure)
        places = []
        for index, lines in enumerate(labels):
            left = GAP + (index % columns) * (width + GAP)
            top = GAP + (index // columns) * (label + height + GAP)
            places.append((left, top + label))
            figure.text(
                left / total[0],
                1 - (top + label - 5) / total[1],
                "\n".join(lines),
                ha="left",
                va="bottom",
                fontweight="bold",
                fontsize=9.5,
            )
        canvas.draw()
        image = Image.fromarray(np.array(canvas.buffer_rgba())[..., :3])
    for each, place in zip(snapshots, places, strict=True):
        image.paste(Image.fromarray(each.image_HWC).resize(size, Image.Resampling.LANCZOS), place)
    buffer = io.BytesIO()
    if colors is not None:
        palette = image.quantize(colors, method=Image.Quantize.MEDIANCUT)
        # Pillow spreads the error only over a palette that it is given.
        image = image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
