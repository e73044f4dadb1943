"""How far molecules move together: S4(q), its length ξ4, and the same fluctuation in sub-boxes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np

from mlpwf.dynamics.columns import Reader, by_temperature
from mlpwf.dynamics.observable import (
    Column,
    Correlator,
    Equilibrium,
    Figure,
    Line,
    Molecules,
    Observable,
    Table,
    TimeSinceOrigin,
    error,
)
from mlpwf.dynamics.observables.chi4 import PEAK
from mlpwf.dynamics.observables.counts import Count, count_of
from mlpwf.dynamics.observables.relaxation import Relaxation, relaxed
from mlpwf.dynamics.state import ALL, Runs, Settings, State
from mlpwf.dynamics.structure import ZERNIKE_LIMIT, FourPoint, four_point_structure, ornstein_zernike
from mlpwf.dynamics.verdicts import OK
from mlpwf.figures import Curve, Panel, thermal_colours

S4_COUNT = "chi4 at q = 0 by Ornstein-Zernike fit of S4"


@dataclass(frozen=True)
class AtPeak:
    """What the rows of S4, sub-boxes and lengths are of: the overlap at the peak of its χ4."""

    equilibration: Equilibrium
    molecules: Molecules
    correlator: Correlator
    time_ps: TimeSinceOrigin


@dataclass(frozen=True)
class Shell(AtPeak):
    """S4 of one shell of q-points."""

    wavevector_per_angstrom: Annotated[float, Column("1/Å", "mean modulus of the q-points of a shell")]
    s4: Annotated[
        float,
        Column("", "⟨|Σ w exp(iq·r(0))|²⟩/N of the overlap at the peak of χ4", source="10.1063/1.1605094"),
    ]
    s4_error: Annotated[float, error("")]
    s4_fluctuation: Annotated[float, Column("", "the same of w − ⟨w⟩, without what the density does by itself")]
    s4_fluctuation_error: Annotated[float, error("")]


@dataclass(frozen=True)
class SubBox(AtPeak):
    """χ4 in sub-boxes of one size."""

    edge_angstrom: Annotated[float, Column("Å", "cube root of the volume of a sub-box")]
    chi4: Annotated[
        float,
        Column("", "⟨(Σ_{i in sub-box} (w_i − ⟨w⟩))²⟩/⟨n⟩", source="10.1103/PhysRevLett.119.205502"),
    ]
    chi4_error: Annotated[float, error("")]


@dataclass(frozen=True)
class Length(AtPeak):
    """The length of the fit to S4."""

    xi4_angstrom: Annotated[
        float,
        Column("Å", "ξ4 of S4 = χ0/(1 + (qξ4)²) for qξ4 ≤ 1.5", source="10.1103/PhysRevLett.105.217801"),
    ]
    xi4_error_angstrom: Annotated[float, error("Å")]
    chi4_at_zero: Annotated[float, Column("", "χ0 of the same")]
    chi4_at_zero_error: Annotated[float, error("")]
    shells: Annotated[int, Column("", "number of shells fitted")]
    verdict: Annotated[str, Column("", "ok, or why the fit is not to be used; marginal: no q below 1/ξ")]


def measure(state: State, runs: Runs, settings: Settings) -> None:
    """S4 and sub-boxes of the last run of a state at the peak of χ4 of the overlap, and the count of the fit."""
    if not runs.trajectory.has_constant_box:
        return
    peak = next(row for row in state.of(Count) if (row.correlator, row.definition) == ("overlap", PEAK))
    if not np.isfinite(peak.time_ps):
        return
    row = relaxed(state, ALL, "overlap")
    found = four_point_structure(
        runs.trajectory, np.array([runs.trajectory.nearest_lag(runs.lags, peak.time_ps)]),
        overlap_angstrom=settings.overlap_angstrom, tau_ps=row.tau_ps if np.isfinite(row.tau_ps) else 0.0,
        threads=settings.threads, memory_mb=settings.memory_mb,
    )  # fmt: skip
    add_four_point(state, row, found)


def add_four_point(state: State, row: Relaxation, found: FourPoint) -> None:
    """Rows of S4, sub-boxes and lengths at each lag, and the count of each fit."""
    for k, time in enumerate(found.lags_ps):
        at = (row.equilibration, ALL, "overlap", time)
        columns = (found.s4, found.s4_error, found.s4_fluctuation, found.s4_fluctuation_error)
        for q, *values in zip(found.wavevectors, *(column[k] for column in columns), strict=True):
            state.add(Shell(*at, q, *values))
        for edge, chi4, spread in zip(found.edges, found.chi4[k], found.chi4_error[k], strict=True):
            state.add(SubBox(*at, edge, chi4, spread))
        length = ornstein_zernike(found.wavevectors, found.s4[k], found.s4_error[k])
        verdict = state.fault or length.verdict
        state.add(Length(*at, length.xi, length.xi_error, length.chi0, length.chi0_error, length.points, verdict))
        missing = "no fit" if verdict == OK and not np.isfinite(length.chi0) else verdict
        state.add(count_of(row, S4_COUNT, length.chi0, length.chi0_error, time, missing))


def panels(reader: Reader) -> list[Panel]:
    """S4(q) with its fit, S4 of the fluctuation, χ4 in sub-boxes, and ξ4."""
    found = [
        _against(reader, "s4", "wavevector_per_angstrom", "s4", ("S₄", "q", "1/Å", "S₄(q)")),
        _against(reader, "s4", "wavevector_per_angstrom", "s4_fluctuation", ("S₄ of w − ⟨w⟩", "q", "1/Å", "S₄(q)")),
        _against(reader, "sub_boxes", "edge_angstrom", "chi4", ("χ₄ in sub-boxes", "edge of the sub-box", "Å", "χ₄")),
        _lengths(reader),
    ]
    if found[0] is not None:
        found[0] = replace(found[0], curves=[*found[0].curves, *_fits(reader, found[0])])
    return [panel for panel in found if panel]


def _against(reader: Reader, table: str, x: str, column: str, names: tuple[str, str, str, str]) -> Panel | None:
    """A column with its errors by temperature; names are the title, the x axis with its unit, and the y axis."""
    title, x_name, unit, y_label = names
    return by_temperature(
        reader, table, column, title, y_label, x=x, x_label=reader.label(x_name, unit), error=f"{column}_error",
        x_log=False, y_log=True, style="points",
    )  # fmt: skip


def _lengths(reader: Reader) -> Panel | None:
    """ξ4 of each temperature, open where its verdict is not ok."""
    if not reader.has("lengths"):
        return None
    table = "lengths"
    kelvin, length, spread = (
        reader.get(table, name) for name in ("temperature_kelvin", "xi4_angstrom", "xi4_error_angstrom")
    )
    if not np.isfinite(length).any():
        return None
    sound, temperatures, curves = reader.get(table, "verdict") == OK, np.unique(kelvin), []
    for temperature, colour in zip(temperatures, thermal_colours(len(temperatures)), strict=True):
        mine = (kelvin == temperature) & np.isfinite(length)
        style: Literal["points", "hollow"] = "points" if sound[mine].all() else "hollow"
        curves.append(Curve(reader.kelvin(temperature), kelvin[mine], length[mine], spread[mine], style, colour))
    return Panel("Length of the fit", reader.label("T", "K"), reader.label("ξ₄", "Å"), curves)


def _fits(reader: Reader, panel: Panel) -> list[Curve]:
    """The fit of each temperature, as far as it was fitted, in the colour of its points."""
    if not reader.has("lengths"):
        return []
    kelvin, length, plateau = (
        reader.get("lengths", name) for name in ("temperature_kelvin", "xi4_angstrom", "chi4_at_zero")
    )
    fits = []
    for temperature, xi, chi4 in zip(kelvin, length, plateau, strict=True):
        points = next(curve for curve in panel.curves if curve.label == reader.kelvin(temperature))
        if np.isfinite(xi) and len(points.x):
            q = np.linspace(0, min(ZERNIKE_LIMIT / xi, points.x.max()), 60)
            fits.append(Curve(f"_{points.label}, fit", q, chi4 / (1 + (q * xi) ** 2), None, "dashed", points.colour))
    return fits


OBSERVABLE = Observable(
    title="S4(q), its length ξ4, and sub-boxes",
    tables=[
        Table(
            "s4", Shell, each="shell of q-points, of the last run of a state",
            needs=("temperature_kelvin", "molecules", "wavevector_per_angstrom", "s4", "s4_fluctuation"),
        ),
        Table(
            "sub_boxes", SubBox, each="size of sub-boxes, of the last run of a state",
            needs=("temperature_kelvin", "molecules", "edge_angstrom", "chi4"),
        ),
        Table(
            "lengths", Length, each="fit to S4, of the last run of a state",
            needs=("temperature_kelvin", "xi4_angstrom", "chi4_at_zero", "verdict"),
        ),
    ],
    measure=measure,
    names={S4_COUNT: "χ0 of the fit to S4 at the peak of χ4 of the overlap"},
    figures=[
        Figure(
            "s4",
            "How far molecules move together, at the time of the peak of χ₄ of the overlap w, in the last run of a "
            "state. S₄(q) with the fit of Ornstein and Zernike (dashed), and that of w − ⟨w⟩, without what the "
            "density does by itself; the same fluctuation in sub-boxes, which grows with their edge until that "
            "exceeds ξ₄ by far; ξ₄ of the fits, open where the verdict on the fit is not ok.",
            panels,
        )
    ],
    lines=[
        Line(
            "ξ₄ at the peak of χ₄ of the overlap, Å", "lengths", "xi4_angstrom", "xi4_error_angstrom", "verdict"
        )
    ],
)  # fmt: skip
