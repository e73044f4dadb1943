"""Figures of the report: arrays in, a matplotlib Figure out, and the same numbers as rows of a CSV."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backend_bases import RendererBase
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend
    from matplotlib.transforms import Bbox
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C8C")
"""Okabe and Ito's colour-blind safe colours, without those that vanish on a white or a dark page."""

VERDICT_COLOURS = {"accurate": "#009E73", "candidate": "#E69F00", "failed": "#D55E00", "broken": "#8C8C8C"}

INK = "#123457"
"""Colour of all text and axes; `to_svg` replaces it by the colour of the page's text."""

MOST_POINTS = 20_000
MOST_INSIDE = 5  # curves whose names find room inside a panel

# Room around a panel in inches of a page 10 inches wide; all text has one size.
GAP, TITLE, X_AXIS, Y_AXIS, RIGHT = 0.08, 0.36, 0.56, 0.7, 0.2

STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 10.5,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.labelsize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.unicode_minus": True,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "lines.linewidth": 1.7,
    "lines.markersize": 5,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
}


@dataclass(frozen=True)
class Curve:
    """One line or set of points of a panel."""

    label: str
    x: Floats
    y: Floats
    y_error: Floats | None = None
    style: Literal["line", "points", "hollow", "both", "step", "dashed"] = "line"
    colour: str | None = None
    x_error: Floats | None = None

    def __post_init__(self) -> None:
        shapes = [np.shape(a) for a in (self.x, self.y, self.y_error, self.x_error) if a is not None]
        if len(set(shapes)) != 1 or len(shapes[0]) != 1:
            raise ValueError(f"curve '{self.label}': shapes {shapes}; expected one-dimensional arrays of one length")


@dataclass(frozen=True)
class Panel:
    """One pair of axes: curves, scales, and vertical or diagonal guides."""

    title: str
    x_label: str
    y_label: str
    curves: Sequence[Curve]
    x_log: bool = False
    y_log: bool = False
    marks: Mapping[str, float] = field(default_factory=dict)
    diagonal: bool = False
    integer_x: bool = False


def thermal_colours(count: int) -> list[str]:
    """Colours from cold (blue) to hot (orange), readable on a white and on a dark page.

    Parameters
    ----------
    count
        How many colours.
    """
    from matplotlib.colors import LinearSegmentedColormap, to_hex

    ramp = LinearSegmentedColormap.from_list("thermal", ["#2F6DB5", "#2FA4A0", "#B9A13A", "#D9622B"])
    return [to_hex(ramp(k / max(count - 1, 1))) for k in range(count)]


def thinned(x: Floats, most: int = MOST_POINTS) -> slice:
    """The evenly spaced part of an array of which at most `most` points are drawn."""
    return slice(None, None, max(1, math.ceil(len(x) / most)))


def rows(panels: Sequence[Panel]) -> Iterator[tuple[str, ...]]:
    """The numbers drawn by `lines`, as rows of a CSV, header first.

    Yields
    ------
    tuple of str
        panel, curve, x_axis, y_axis (names with units), x, y, y_error; x_error where any curve has one.
    """
    wide = any(curve.x_error is not None for panel in panels for curve in panel.curves)
    yield ("panel", "curve", "x_axis", "y_axis", "x", "y", "y_error", *(("x_error",) if wide else ()))
    for panel in panels:
        for curve in panel.curves:
            errors = [
                [""] * len(curve.x) if spread is None else [f"{value:.8g}" for value in spread]
                for spread in (curve.y_error, *((curve.x_error,) if wide else ()))
            ]
            for x, y, *spread in zip(curve.x, curve.y, *errors, strict=True):
                names = (panel.title, curve.label.removeprefix("_"), panel.x_label, panel.y_label)
                yield (*names, f"{x:.8g}", f"{y:.8g}", *spread)


def bar_rows(labels: Sequence[str], parts: Mapping[str, Floats], value_label: str) -> Iterator[tuple[str, ...]]:
    """The numbers drawn by `bars`, as rows of a CSV, header first."""
    yield ("bar", "part", "axis", "value")
    for part, values in parts.items():
        for label, value in zip(labels, values, strict=True):
            yield (label, part, value_label, f"{value:.8g}")


def lines(panels: Sequence[Panel], columns: int = 2, height: float = 3.1) -> Figure:
    """Panels side by side, `columns` to a row; curves shared by all panels get one legend.

    Parameters
    ----------
    panels
        What to draw; at least one.
    columns
        Panels in a row, at most.
    height
        Height of a row of panels, in inches of a page 10 inches wide.
    """
    if not panels:
        raise ValueError("no panels; expected at least one")
    columns = min(columns, len(panels))
    count = math.ceil(len(panels) / columns)
    legends = [[curve.label for curve in panel.curves if not curve.label.startswith("_")] for panel in panels]
    shared = len(panels) > 1 and len(legends[0]) > 1 and all(legend == legends[0] for legend in legends)
    longest = 0 if shared else max(map(len, legends))
    room = 0.1 * longest if longest > MOST_INSIDE else 0.0
    below: list[Axes] = []
    with _style():
        figure = _blank(10.0 if columns > 1 else 7.0, (height + room) * count)
        grid = figure.subplots(count, columns, squeeze=False)
        for axes, panel, legend in zip(grid.flat, panels, legends, strict=False):
            _draw(axes, panel)
            if not shared and len(legend) > MOST_INSIDE:
                axes.legend(*_entries(axes, legend), loc="upper center", ncols=2, handlelength=1.6)
                below.append(axes)
            elif not shared and len(legend) > 1:
                axes.legend(*_entries(axes, legend), loc="best", handlelength=1.6)
        if shared:
            handles, labels = _entries(grid.flat[0], legends[0])
            fit = max(1, int(130 / (8 + max(len(label) for label in labels))))
            figure.legend(handles, labels, loc="upper center", ncols=min(len(labels), fit), handlelength=1.6)
        for axes in list(grid.flat)[len(panels) :]:
            axes.set_visible(False)
        _arrange(figure, (count, columns), below, TITLE)
    return figure


def bars(
    labels: Sequence[str],
    parts: Mapping[str, Floats],
    value_label: str,
    colours: Mapping[str, str] | None = None,
    numbers: str = "{:.3g}",
) -> Figure:
    """Horizontal stacked bars, one for each label, with the total written at the end.

    Parameters
    ----------
    labels
        Names of the bars, top to bottom.
    parts
        Stacked contributions by name, each of shape (bars,).
    value_label
        Name of the axis, with its unit.
    colours
        Colour by part; unset: the palette in order.
    numbers
        Format of the totals.
    """
    for part, values in parts.items():
        if np.shape(values) != (len(labels),):
            raise ValueError(f"part '{part}' has shape {np.shape(values)}; expected ({len(labels)},)")
    with _style():
        figure = _blank(8.5, 0.95 + 0.36 * len(labels) + (0.3 if len(parts) > 1 else 0))
        axes = figure.subplots()
        place = np.arange(len(labels))
        left = np.zeros(len(labels))
        for k, (part, values) in enumerate(parts.items()):
            colour = (colours or {}).get(part, PALETTE[k % len(PALETTE)])
            axes.barh(place, values, left=left, height=0.62, color=colour, label=_plain(part))
            left = left + np.asarray(values, dtype=float)
        for y, total in zip(place, left, strict=True):
            axes.annotate(
                numbers.format(total), (total, y), xytext=(5, 0), textcoords="offset points", va="center", fontsize=9.5
            )
        axes.set_yticks(place, [_plain(label) for label in labels])
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.set_xlabel(_plain(value_label))
        axes.set_xlim(0, max(float(left.max(initial=0.0)) * 1.1, 1e-9))
        if len(parts) > 1:
            figure.legend(loc="upper center", ncols=len(parts), handlelength=1.2)
        _arrange(figure, (1, 1), [], GAP)
    return figure


def to_svg(figure: Figure, name: str) -> str:
    """An SVG element to stand inside a page: no prolog, text as text, ids made unique by `name`."""
    with _style(**{"svg.hashsalt": name}):
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", dpi=160, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-")
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    width = round(figure.get_figwidth() * 100)
    svg = svg.replace("<svg", f'<svg role="img" style="max-width: {width}px"', 1)
    return re.sub(INK, "currentColor", svg, flags=re.IGNORECASE)


def _entries(axes: Axes, legend: Sequence[str]) -> tuple[list[Any], list[str]]:
    """Handles and labels in the order of the curves: matplotlib puts those with error bars last."""
    handles: dict[str, list[Any]] = {}
    for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
        handles.setdefault(label, []).append(handle)
    labels = [_plain(label) for label in legend]
    return [handles[label].pop(0) for label in labels], labels


def _style(**more: Any) -> Any:
    import matplotlib

    settings: Any = {**STYLE, **more}
    return matplotlib.rc_context(settings)


def _blank(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height))


def _arrange(figure: Figure, shape: tuple[int, int], below: Sequence[Axes], title: float) -> None:
    """Place the panels of a figure, all of one size, so that what stands around them finds room.

    Text is measured once, on panels of nearly their final size: a layout engine of matplotlib measures
    everything twice and draws the figure once more, which is most of the time of a page.

    Parameters
    ----------
    figure
        Its axes fill a grid of this `shape`, row by row.
    shape
        Rows and columns of panels.
    below
        Axes whose legends stand below them.
    title
        Room for the title above a panel, in inches.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    renderer = FigureCanvasAgg(figure).get_renderer()
    head = GAP + sum(_height(legend, renderer) + GAP for legend in figure.legends)
    margins = np.array([[Y_AXIS, RIGHT, X_AXIS, title]] * len(figure.axes)).reshape(*shape, 4)
    for axes in below:
        margins[np.unravel_index(figure.axes.index(axes), shape)][2] += _height(axes.get_legend(), renderer) + GAP
    shown = [(axes, m) for axes, m in zip(figure.axes, margins.reshape(-1, 4), strict=True) if axes.get_visible()]
    _place(figure, margins, head)
    for axes, margin in shown:
        left, right, above = _overhang([axes.yaxis.get_tightbbox(renderer), *_words(axes, renderer)], axes)
        margin[:] = left + GAP, max(right + GAP, RIGHT), margin[2], max(above, title)
    _place(figure, margins, head)
    for axes, margin in shown:  # a title begins, and a note stands, where the panel is now
        margin[1] = max(margin[1], _overhang(_words(axes, renderer), axes)[1] + GAP)
    _place(figure, margins, head)
    for axes in below:
        place, (_, column) = axes.get_position(), np.unravel_index(figure.axes.index(axes), shape)
        left, right = margins[:, column, 0].max(), margins[:, column, 1].max()
        middle = (place.x0 + place.x1) / 2 + (right - left) / 2 / figure.get_figwidth()  # wider than the panel
        anchor = middle, place.y0 - X_AXIS / figure.get_figheight()
        if legend := axes.get_legend():
            legend.set_bbox_to_anchor(anchor, figure.transFigure)


def _place(figure: Figure, margins: Floats, head: float) -> None:
    """Put panels of one size into rows and columns.

    Parameters
    ----------
    margins
        Room needed left, right, below and above each panel in inches, shape (rows, columns, 4).
    head
        Room above all of them, in inches.
    """
    width, height = figure.get_size_inches()
    left, right = margins[:, :, 0].max(axis=0), margins[:, :, 1].max(axis=0)
    below, above = margins[:, :, 2].max(axis=1), margins[:, :, 3].max(axis=1)
    across = (width - left.sum() - right.sum()) / len(left)
    high = (height - head - below.sum() - above.sum()) / len(below)
    x = np.cumsum(left + right + across) - right - across
    y = height - head - np.cumsum(above + below + high) + below
    for axes, (bottom, start) in zip(figure.axes, ((b, a) for b in y for a in x), strict=True):
        axes.set_position((start / width, bottom / height, across / width, high / height))


def _height(legend: Legend | None, renderer: RendererBase) -> float:
    """Of a legend, in inches."""
    return 0.0 if legend is None else legend.get_window_extent(renderer).height / legend.figure.dpi


def _words(axes: Axes, renderer: RendererBase) -> list[Bbox]:
    """Boxes of the title and the notes of a panel, in pixels."""
    from matplotlib.text import Text

    words = [child for child in axes.get_children() if isinstance(child, Text) and child.get_text()]
    return [text.get_window_extent(renderer) for text in words]


def _overhang(boxes: Sequence[Bbox | None], axes: Axes) -> tuple[float, float, float]:
    """How far, in inches, these boxes reach over a panel: left, right, above; at least 0."""
    found = np.array([axes.bbox.extents, *(box.extents for box in boxes if box is not None)])
    (x0, _, x1, y1), dots = axes.bbox.extents, axes.figure.dpi
    return (x0 - found[:, 0].min()) / dots, (found[:, 2].max() - x1) / dots, (found[:, 3].max() - y1) / dots


def _plain(text: str) -> str:
    """Text that matplotlib draws as it stands: a dollar sign would start a formula."""
    return text.replace("$", r"\$")


def _draw(axes: Axes, panel: Panel) -> None:
    for k, curve in enumerate(panel.curves):
        _draw_curve(axes, curve, curve.colour or PALETTE[k % len(PALETTE)])
    for k, (name, x) in enumerate(panel.marks.items()):
        axes.axvline(x, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), alpha=0.7)
        axes.annotate(
            _plain(name), (x, 1), xycoords=("data", "axes fraction"), xytext=(0, 3), textcoords="offset points",
            va="bottom", ha="right" if k % 2 == 0 and len(panel.marks) > 1 else "left", fontsize=9,
        )  # fmt: skip
    if panel.x_log and any(np.any(curve.x > 0) for curve in panel.curves):
        _logarithmic(axes, "x")
    if panel.y_log and any(np.any(curve.y > 0) for curve in panel.curves):
        _logarithmic(axes, "y")
    if panel.diagonal:
        _diagonal(axes)
    if panel.integer_x:
        from matplotlib.ticker import MaxNLocator

        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_title(_plain(panel.title), fontweight="bold", y=1.0)  # a place of its own: nothing to look for
    axes.set_xlabel(_plain(panel.x_label))
    axes.set_ylabel(_plain(panel.y_label))
    axes.grid(color="#888888", alpha=0.18, linewidth=0.7)
    axes.set_axisbelow(True)


def _draw_curve(axes: Axes, curve: Curve, colour: str) -> None:
    label = _plain(curve.label)
    if curve.style == "step":
        axes.step(curve.x, curve.y, where="mid", color=colour, label=label)
        return
    if curve.style == "points" and len(curve.x) > 400:
        axes.plot(
            curve.x, curve.y, linestyle="none", marker=".", markersize=3, alpha=0.45, markeredgewidth=0,
            color=colour, label=label, rasterized=True,
        )  # fmt: skip
        return
    line = {"points": "none", "hollow": "none", "dashed": (0, (5, 2))}.get(curve.style, "-")
    marker = "o" if curve.style in ("points", "hollow", "both") or len(curve.x) == 1 else None
    filling = "none" if curve.style == "hollow" else colour
    spread = [None if e is None else np.nan_to_num(e) for e in (curve.x_error, curve.y_error)]
    if any(e is not None and np.any(e > 0) for e in spread):
        axes.errorbar(
            curve.x, curve.y, xerr=spread[0], yerr=spread[1], color=colour, label=label, linestyle=line,
            marker=marker, markerfacecolor=filling, capsize=2.5, elinewidth=1,
        )  # fmt: skip
        return
    axes.plot(curve.x, curve.y, color=colour, label=label, linestyle=line, marker=marker, markerfacecolor=filling)


def _diagonal(axes: Axes) -> None:
    low = min(axes.get_xlim()[0], axes.get_ylim()[0])
    high = max(axes.get_xlim()[1], axes.get_ylim()[1])
    axes.plot([low, high], [low, high], color=INK, linewidth=0.8, alpha=0.6, zorder=1)
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.set_box_aspect(1)


def _logarithmic(axes: Axes, which: Literal["x", "y"]) -> None:
    """A logarithmic axis whose tick labels are plain text."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = sorted(axis.get_view_interval())
    decades = math.log10(high / low) if low > 0 else 9.0
    subs = (1, 1.5, 2, 3, 4, 6) if decades < 0.7 else (1, 2, 5) if decades < 1.7 else (1,)
    axis.set_major_locator(LogLocator(subs=subs, numticks=9))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _power(value)))
    axis.set_minor_formatter(NullFormatter())


def _power(value: float) -> str:
    """0.01 to 5000 as they stand, further powers of ten as 10⁻³."""
    if value <= 0 or 0.0099 <= value < 9999:
        return f"{value:g}"
    exponent = math.floor(math.log10(value) + 1e-9)
    factor = value / 10**exponent
    digits = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{digits}" if abs(factor - 1) < 1e-6 else f"{factor:g}×10{digits}"
