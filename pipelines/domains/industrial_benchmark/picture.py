"""What can be seen of the Industrial Benchmark: there is no scene, only an episode's curves.

Shapes: T steps, O = 6 observations, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.drawing import COLOURS, INK, STYLE

_DPI = 100
_SETPOINT, _VELOCITY, _GAIN, _SHIFT, _FATIGUE, _CONSUMPTION = range(6)
_PANELS: Any = (
    (
        "steerings",
        (
            ("velocity", _VELOCITY, COLOURS[0]),
            ("gain", _GAIN, COLOURS[2]),
            ("shift", _SHIFT, COLOURS[1]),
        ),
    ),
    (
        "fatigue and consumption",
        (("consumption", _CONSUMPTION, COLOURS[0]), ("fatigue", _FATIGUE, COLOURS[1])),
    ),
)


def draw_episode(
    observations: Sequence[NDArray[np.float32]], rewards: Sequence[float], size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Draw the observable state and the reward of an episode up to now.

    Args:
        observations: T + 1 of (O,), the first of the reset.
        rewards: T, unscaled.
        size: Width and height in pixels.

    Returns:
        uint8 (H, W, 3).
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    states_TO = np.asarray(observations)
    steps = len(rewards)
    with matplotlib.rc_context(STYLE):
        figure = Figure(
            figsize=(size[0] / _DPI, size[1] / _DPI),
            dpi=_DPI,
            layout="constrained",
            facecolor="white",
        )
        canvas = FigureCanvasAgg(figure)
        panels = figure.subplots(3, 1, sharex=True)
        for axes, (title, curves) in zip(panels, _PANELS, strict=False):
            for label, column, color in curves:
                axes.plot(states_TO[:, column], color=color, linewidth=1.4, label=label)
            axes.set_title(title)
            # Beside the panel: a curve may be anywhere within it.
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.4)
        panels[0].set_ylim(-3, 103)
        panels[2].plot(range(1, steps + 1), rewards, color=INK, linewidth=1.4)
        panels[2].set_title("reward")
        panels[2].set_xlabel("step")
        panels[2].set_xlim(0, max(1, steps))
        setpoint = float(states_TO[0, _SETPOINT])
        figure.suptitle(
            f"Industrial Benchmark, setpoint {setpoint:g}: return {sum(rewards):,.0f} "
            f"after {steps} steps",
            fontsize=11,
            fontweight="bold",
            x=0.01,
            ha="left",
        )
        canvas.draw()
        return np.array(canvas.buffer_rgba(), dtype=np.uint8)[..., :3]
