"""The common style of figures: colours, blank figures, axes and PNG."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

UNUSUAL = "#b3261e"
INK = "#30343b"
LINES = ("#2f6690", "#e08e2b", "#6a4c93")
_COMPRESSION = 3  # of 9; more costs twice the time and saves 4 % of the bytes


def blank(width: float, height: float) -> Figure:
    """Return an empty figure without pyplot; width and height are in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=120, layout="constrained")


def png(figure: Figure) -> bytes:
    """Return the PNG of a figure.

    `Figure.savefig` gives the same pixels, but lays out and draws a figure twice.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    target = io.BytesIO()
    FigureCanvasAgg(figure).print_png(target, pil_kwargs={"compress_level": _COMPRESSION})
    return target.getvalue()


def thousands(value: float, _position: float) -> str:
    """Format the value of a tick, such as 12,000 or 0.25."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def plain(axes: Axes) -> None:
    """Draw a faint grid, and remove the frame at the top and on the right."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)


def time_axis(axes: Axes) -> None:
    """Format the dates along the bottom concisely, in UTC."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.set_xlabel("time (UTC)")
