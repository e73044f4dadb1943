"""What to draw of a study of settings: errors along each lever, and what a label costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from mlpwf.calculators.espresso.box_convergence import Box
from mlpwf.calculators.espresso.convergence import (
    REFERENCE_THRESHOLD_RY,
    Errors,
    Row,
    Study,
    density_setting,
    reference_of,
)
from mlpwf.figures import INK, PALETTE, Curve, Panel

COST = "Cost at Γ"


def panels(studies: Mapping[str, Study], boxes: Mapping[str, Sequence[Box]], target: Errors) -> list[Panel]:
    """What to draw of a study: errors in units of the target along each lever, against cost, and by box.

    Parameters
    ----------
    studies, boxes
        By name of the set.
    target
        The errors allowed.
    """

    def ratio(row: Row) -> float:
        return row.setting.density_cutoff_ry / row.setting.cutoff_ry

    def grid_ratio(row: Row) -> float:
        return (row.setting.fft_grid_ry or row.setting.density_cutoff_ry) / row.setting.cutoff_ry

    def of_cutoff(row: Row, chosen: Row) -> bool:
        return row.setting == reference_of(row.setting.cutoff_ry)

    def of_density(row: Row, chosen: Row) -> bool:
        setting, cutoff = row.setting, chosen.setting.cutoff_ry
        return setting in (density_setting(cutoff, setting.density_cutoff_ry), reference_of(cutoff))

    def of_grid(row: Row, chosen: Row) -> bool:
        at = replace(chosen.setting, convergence_ry=REFERENCE_THRESHOLD_RY, fft_grid_ry=row.setting.fft_grid_ry)
        return row.setting == at

    def of_threshold(row: Row, chosen: Row) -> bool:
        return replace(row.setting, convergence_ry=chosen.setting.convergence_ry) == chosen.setting

    layout: list[tuple[str, str, Callable[[Row], float], Callable[[Row, Row], bool], bool]] = [
        ("Wave-function cut-off", "cut-off, Ry", lambda row: row.setting.cutoff_ry, of_cutoff, False),
        ("Density cut-off", "density cut-off / wave-function cut-off", ratio, of_density, False),
        ("FFT grid", "cut-off of the FFT grid / wave-function cut-off", grid_ratio, of_grid, False),
        ("SCF threshold", "threshold, Ry", lambda row: row.setting.convergence_ry, of_threshold, True),
        (COST, "CPU-s a label", lambda row: row.cpu_s or 0.0, lambda row, chosen: True, True),
    ]
    drawn = [
        Panel(title, x_label, "error / target", _curves(studies, target, x, shown, title), y_log=True, x_log=x_log)
        for title, x_label, x, shown, x_log in layout
    ]
    return [_of_kpoints(boxes, target), _of_boxes(boxes, target), *drawn]


def _of_kpoints(boxes: Mapping[str, Sequence[Box]], target: Errors) -> Panel:
    """Errors against the distance of images that are left, by box."""
    curves: list[Curve] = []
    for name, box in _each(boxes):
        rated = [(row, row.errors) for row in box.rows if row.lever == "k-points" and row.errors is not None]
        # the last are the reference itself
        points = [(row.image_distance_angstrom or 0.0, one.force, one.virial) for row, one in rated[:-1]]
        at, force, virial = np.array(points, dtype=float).reshape(-1, 3).T
        colour = PALETTE[len(curves) // 2 % len(PALETTE)]
        curves.append(Curve(f"{name}, force", at, force / target.force, style="both", colour=colour))
        curves.append(Curve(f"{name}, virial", at, virial / target.virial, style="hollow", colour=colour))
    places = [x for curve in curves for x in curve.x] or [1.0]
    curves.append(Curve("target", np.array([min(places), max(places)]), np.ones(2), style="dashed", colour=INK))
    return Panel("k-points", "distance of images, Å", "error / target", curves, y_log=True)


def _of_boxes(boxes: Mapping[str, Sequence[Box]], target: Errors) -> Panel:
    """What a label costs by atom, against the size of the box."""
    curves = []
    kinds: list[tuple[str, Literal["both", "hollow"], Callable[[Box], Row | None]]] = [
        ("cheapest", "both", lambda box: box.best(target)),
        ("configured", "hollow", lambda box: box.configured),
    ]
    for k, (name, own) in enumerate(boxes.items()):
        prefix = f"{name}, " if len(boxes) > 1 else ""
        for label, style, kind in kinds:
            rows = [row for box in own if (row := kind(box)) is not None and row.cpu_s_atom is not None]
            at = np.array([row.atoms for row in rows], dtype=float)
            costs = np.array([row.cpu_s_atom for row in rows], dtype=float)
            if len(at):
                curves.append(Curve(f"{prefix}{label}", at, costs, style=style, colour=PALETTE[k % len(PALETTE)]))
    return Panel("Boxes", "atoms", "CPU-s an atom", curves, y_log=True, integer_x=True)


def _each(boxes: Mapping[str, Sequence[Box]]) -> list[tuple[str, Box]]:
    """Every box with a name for the legend."""
    return [
        (f"{name}, {box.atoms} atoms" if len(boxes) > 1 else f"{box.atoms} atoms", box)
        for name, own in boxes.items()
        for box in own
    ]


def _curves(
    studies: Mapping[str, Study],
    target: Errors,
    x: Callable[[Row], float],
    shown: Callable[[Row, Row], bool],
    title: str,
) -> list[Curve]:
    curves: list[Curve] = []
    places: list[float] = []
    for k, (name, study) in enumerate(studies.items()):
        if study.chosen is None:
            continue
        rated = [(row, row.errors) for row in study.rows if row.errors is not None and row.lever != "reference"]
        drawn = sorted((x(row), error.force, error.virial) for row, error in rated if shown(row, study.chosen))
        at, force, virial = np.array(drawn, dtype=float).reshape(-1, 3).T
        prefix = f"{name}, " if len(studies) > 1 else ""
        colour = PALETTE[k % len(PALETTE)]
        style: Literal["points", "both"] = "points" if title == COST else "both"
        curves.append(Curve(f"{prefix}force", at, force / target.force, style=style, colour=colour))
        curves.append(Curve(f"{prefix}virial", at, virial / target.virial, style="hollow", colour=colour))
        places.extend(at)
    ends = np.array([min(places, default=1.0), max(places, default=1.0)])
    return [*curves, Curve("target", ends, np.ones(2), style="dashed", colour=INK)]
