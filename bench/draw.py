"""
Draws charts as SVG, in the benchmarks' own environment: reads them as JSON, writes files.

The same charts give the same bytes. Lines have colours that can be told apart on white and on
black; axes and words take the ink that the reader's colour scheme asks for.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

#: Stands for the ink in what matplotlib writes; nothing else has this colour.
INK = "#123456"
STYLE = "<style>:root{--ink:#1f2328}@media(prefers-color-scheme:dark){:root{--ink:#d1d9e0}}</style>"
COLORS = ("#3b82f6", "#f97316", "#16a34a", "#d946ef", "#ca8a04", "#0891b2", "#dc2626", "#8b949e")
DASHES = ("-", "--", ":")
SIZE_INCHES = (8.0, 3.6)
#: Fewer different places than this on the x axis are each a tick.
TICKS_MAX = 8


def draw(chart: dict[str, Any], path: Path) -> None:
    """Draw one; the fields are those of `bench.report.Chart`."""
    figure, axes = pyplot.subplots(figsize=SIZE_INCHES, layout="constrained")
    for number, (name, points) in enumerate(chart["lines"].items()):
        color, dash = COLORS[number % len(COLORS)], DASHES[number // len(COLORS) % len(DASHES)]
        marker = "o" if len(points) <= TICKS_MAX else None
        x, y = zip(*points, strict=True) if points else ((), ())
        axes.plot(x, y, color=color, linestyle=dash, marker=marker, markersize=4, label=name)
    axes.set(title=chart["title"], xlabel=chart["x"], ylabel=chart["y"])
    for axis, is_log in ((axes.xaxis, chart["x_log"]), (axes.yaxis, chart["y_log"])):
        if is_log:
            (axes.set_xscale if axis is axes.xaxis else axes.set_yscale)("log")
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
            axis.set_minor_locator(NullLocator())
    places = sorted({x for points in chart["lines"].values() for x, _ in points})
    if len(places) <= TICKS_MAX:
        axes.set_xticks(places)
    if not chart["y_log"]:
        axes.set_ylim(bottom=0)
    axes.grid(visible=True, color="#8b949e", alpha=0.3, linewidth=0.6)
    if len(chart["lines"]) > 1:
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    # The bounding box keeps what stands beside the axes; no date, so that nothing else differs.
    figure.savefig(path, transparent=True, metadata={"Date": None, "Creator": None})
    pyplot.close(figure)


def inked(svg: str) -> str:
    """Let the reader's colour scheme choose the ink."""
    head, tag, rest = svg.partition("<svg ")
    opening, end, rest = rest.partition(">")
    return head + tag + opening + end + STYLE + rest.replace(INK, "var(--ink, #7d8590)")


def main() -> None:
    matplotlib.rcParams.update(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "inferline",
            "font.size": 9,
            "axes.titlesize": 10,
            **dict.fromkeys(
                ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"),
                INK,
            ),
        }
    )
    for one in json.load(sys.stdin):
        path = Path(one["path"])
        draw(one["chart"], path)
        path.write_text(inked(path.read_text()))


if __name__ == "__main__":
    main()
