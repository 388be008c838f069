"""How all pictures look, and how they are written.

Made with Matplotlib's Agg and SVG canvases directly, so that no display and no global state of
pyplot is touched. Colours are Okabe and Ito's, which stay apart under colour blindness.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.output_files import MARK, write_output

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

DPI = 150
#: Inches; at 150 dots an inch, 1200 pixels.
WIDTH = 8.0
#: Suffixes of the drawings that can be written, and of scenes, which are pixels.
FORMATS = (".png", ".svg")
PIXEL_FORMATS = (".png",)

#: Most shots that are marked on an axis.
MOST_SHOTS = 6

INK, MUTED, GRID = "#22272e", "#6b7480", "#e6e9ed"
CURVE, DEMONSTRATOR, RANDOM = "#0072b2", "#009e73", "#d55e00"

STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["Inter", "Helvetica Neue", "Arial", "DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#aab2bc",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.labelsize": 9,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "svg.hashsalt": "vintix",
    "svg.fonttype": "none",
}


def new_figure(height: float) -> Figure:
    """Return an empty figure, `WIDTH` by `height` inches; within the context of `STYLE`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def shot_ticks(shots: int) -> list[int]:
    """Return the shots that are marked: the first, and multiples of 1, 2 or 5 times a power of 10.

    The first shot is the point of the picture: it always has its tick.
    """
    step = next(
        step
        for power in range(10)
        for step in (10**power, 2 * 10**power, 5 * 10**power)
        if shots // step + (step > 1) <= MOST_SHOTS
    )
    return sorted({1, *range(step, shots + 1, step)})


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as the suffix of the file says; the same figure gives the same bytes.

    Raises:
        UsageError: There is a file that vintix did not make.
        StorageError: The file system refused.
    """
    import matplotlib

    suffix = path.suffix.lower().lstrip(".")
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(
            buffer,
            format=suffix,
            dpi=DPI,
            metadata={"Date": None, "Creator": MARK} if suffix == "svg" else {"Software": MARK},
        )
    return write_output(path, buffer.getvalue())


def save_image(image_HWC: NDArray[np.uint8], path: Path) -> Path:
    """Write pixels as PNG; the same pixels give the same bytes.

    Args:
        image_HWC: uint8 (H, W, 3).
        path: The file; one that vintix made is replaced.

    Raises:
        UsageError: There is a file that vintix did not make.
        StorageError: The file system refused.
    """
    from matplotlib.image import imsave

    buffer = io.BytesIO()
    # Without the version of Matplotlib, which has nothing to do with the picture.
    imsave(buffer, image_HWC, format="png", metadata={"Software": MARK})
    return write_output(path, buffer.getvalue())
