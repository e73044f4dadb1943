from __future__ import annotations

import itertools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from mlpwf.figures import Curve, Panel, bar_rows, bars, lines, rows, thermal_colours, thinned, to_svg


def _panel(title: str = "A", **options: object) -> Panel:
    x = np.array([1.0, 10.0, 100.0])
    curves = [Curve("one", x, x**2), Curve("two", x, x**3, y_error=0.1 * x, style="points")]
    return Panel(title, "time, ps", "y, Å", curves, **options)  # type: ignore[arg-type]


def test_the_csv_holds_what_is_drawn() -> None:
    panels = [_panel("A", x_log=True, y_log=True), _panel("B")]
    axes = lines(panels).axes
    header, *body = rows(panels)
    assert header == ("panel", "curve", "x_axis", "y_axis", "x", "y", "y_error")
    assert len(body) == 12
    for panel, drawn in zip(panels, axes, strict=True):
        mine = [row for row in body if row[0] == panel.title and row[1] == "one"]
        line = next(line for line in drawn.get_lines() if line.get_label() == "one")
        np.testing.assert_allclose([float(row[4]) for row in mine], line.get_xdata())
        np.testing.assert_allclose([float(row[5]) for row in mine], line.get_ydata())
    assert body[3][6] == "0.1"


def test_bars_stack_and_their_csv_holds_the_parts() -> None:
    parts = {"engine": np.array([3.0, 1.0]), "own": np.array([1.0, 0.5])}
    (axes,) = bars(["label", "train"], parts, "CPU-hours").axes
    assert [patch.get_width() for patch in axes.patches] == [3.0, 1.0, 1.0, 0.5]
    assert [patch.get_x() for patch in axes.patches] == [0.0, 0.0, 3.0, 1.0]
    assert list(bar_rows(["label", "train"], parts, "CPU-hours"))[1] == ("label", "engine", "CPU-hours", "3")


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        Curve("c", np.zeros(3), np.zeros(2))
    with pytest.raises(ValueError, match="expected \\(2,\\)"):
        bars(["a", "b"], {"part": np.zeros(3)}, "x")
    with pytest.raises(ValueError, match="at least one"):
        lines([])


def test_svg_is_an_element_with_unique_ids_and_the_pages_colour() -> None:
    svg = to_svg(lines([_panel()]), "first")
    assert svg.startswith("<svg")
    assert 'id="first-' in svg
    assert "currentColor" in svg
    assert "#123457" not in svg.lower()
    assert "<metadata" not in svg
    assert "<text" in svg
    assert svg == to_svg(lines([_panel()]), "first")


def test_text_of_labels_is_escaped_and_never_a_formula() -> None:
    curve = Curve("<b>$x$</b>", np.arange(3.0), np.arange(3.0))
    svg = to_svg(lines([Panel("$\\frac$ & <i>", "x", "y", [curve, Curve("b", curve.x, curve.y)])]), "s")
    assert "<b>" not in svg
    assert "<i>" not in svg
    assert "&lt;b&gt;$x$&lt;/b&gt;" in svg


def test_empty_single_and_nonpositive_data_can_be_drawn() -> None:
    empty = np.empty(0)
    for x, y in ((empty, empty), (np.array([1.0]), np.array([2.0])), (np.array([0.0, -1.0]), np.array([0.0, np.nan]))):
        to_svg(lines([Panel("t", "x", "y", [Curve("c", x, y)], x_log=True, y_log=True)]), "s")


def _drawn(figure: Figure) -> list[tuple[str, Bbox]]:
    """Boxes in pixels of the texts of a figure, but for the ticks'; all that is drawn is seen to lie inside it."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    whole, (width, height) = figure.get_tightbbox(canvas.get_renderer()), figure.get_size_inches()
    assert min(whole.x0, whole.y0, width - whole.x1, height - whole.y1) >= 0, whole
    words = [child for axes in figure.axes for child in axes.get_children() if isinstance(child, Text)]
    words += [axis.label for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) if axes.get_visible()]
    legends = [*figure.legends, *(legend for axes in figure.axes if (legend := axes.get_legend()))]
    words += [text for legend in legends for text in legend.get_texts()]
    return [(text.get_text(), text.get_window_extent(canvas.get_renderer())) for text in words if text.get_text()]


@pytest.mark.parametrize(("columns", "curves"), [(1, 8), (2, 3), (2, 8), (3, 2)])
def test_no_text_is_cut_off_and_none_covers_another(columns: int, curves: int) -> None:
    x = np.geomspace(1, 1e4, 20)
    many = [Curve(f"a curve with a long name {k}", x, 1e-3 * k * x) for k in range(1, curves + 1)]
    panels = [
        Panel("A title of many words", "time, ps", "a quantity with a unit, meV/Å", many, y_log=True),
        Panel("Notes", "time, ps", "y", many[:2], marks={"the lower end": 5000.0, "the upper end": 9900.0}),
        Panel("Same", "x", "y", many, x_log=True, y_log=True, diagonal=True),
        Panel("Large numbers", "x", "y", [Curve("a", x, 1e5 * x)]),
    ]
    for figure in (lines(panels, columns), lines([panels[0]] * 3, columns)):
        boxes = [(words, box) for words, box in _drawn(figure) if not words.startswith("the ")]
        assert len(boxes) >= 3 * len(figure.axes)
        for (one, a), (other, b) in itertools.combinations(boxes, 2):
            assert not a.overlaps(b), (one, other)


def test_long_names_of_bars_and_their_totals_are_not_cut_off() -> None:
    _drawn(bars(["a reason of very many words indeed", "b"], {"part": np.array([123456.0, 1.0])}, "frames"))


def test_thinning_keeps_at_most_the_number_asked_for() -> None:
    for size in (1, 99, 100, 101, 1000):
        assert len(np.zeros(size)[thinned(np.zeros(size), 100)]) <= 100
    assert len(np.zeros(100)[thinned(np.zeros(100), 100)]) == 100


def test_thermal_colours_are_as_many_as_asked_for_and_differ() -> None:
    assert len(set(thermal_colours(6))) == 6
    assert len(thermal_colours(1)) == 1


@pytest.mark.parametrize(("low", "high"), [(60, 110), (38, 86), (101, 190), (0.012, 0.05)])
def test_a_short_logarithmic_axis_has_labels_to_read_by(low: float, high: float) -> None:
    x = np.array([low, high], float)
    (axes,) = lines([Panel("t", "x", "y", [Curve("c", x, x)], x_log=True, y_log=True)]).axes
    for ticks, limits in ((axes.get_xticks(), axes.get_xlim()), (axes.get_yticks(), axes.get_ylim())):
        assert sum(limits[0] <= tick <= limits[1] for tick in ticks) >= 2


def test_the_legend_names_the_curves_in_their_order_and_no_hidden_one() -> None:
    x = np.arange(3.0)
    curves = [
        Curve("with bars", x, x, 0.1 + x), Curve("without", x, x), Curve("_hidden", x, x),
        Curve("without", x, x, 1 + x),
    ]  # fmt: skip
    (axes,) = lines([Panel("t", "x", "y", curves)]).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["with bars", "without", "without"]
    figure = lines([Panel("t", "x", "y", curves), Panel("u", "x", "y", [*curves[:2], curves[3]])])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["with bars", "without", "without"]
