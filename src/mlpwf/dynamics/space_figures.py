"""Figures of what depends on where molecules are to each other, from the tables in space of `mlpwf analyse`."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from mlpwf.dynamics.columns import ALL, Reader, by_temperature, correlator_names
from mlpwf.dynamics.structure import ZERNIKE_LIMIT
from mlpwf.figures import PALETTE, Curve, Panel, thermal_colours


def van_hove_panels(reader: Reader) -> list[Panel]:
    """4πr² G_s(r,t) of all molecules, a panel for each temperature, a curve for each time."""
    table, panels = "van_hove", []
    if not reader.has(table):
        return []
    kelvin, time, distance, density = (
        reader.get(table, name)
        for name in ("temperature_kelvin", "time_ps", "distance_angstrom", "density_per_angstrom")
    )
    for temperature in np.unique(kelvin):
        mine = reader.rows(table, molecules=ALL) & (kelvin == temperature)
        if not density[mine].any():
            continue
        reached = mine & (distance <= distance[mine & (density > 0)].max())
        curves = [
            Curve(
                reader.label(f"t = {one:.3g}", "ps").replace(",", ""), distance[reached & (time == one)],
                density[reached & (time == one)], colour=PALETTE[k],
            )
            for k, one in enumerate(np.unique(time[mine]))
        ]  # fmt: skip
        y_label = reader.label("4πr² Gₛ(r,t)", "1/Å")
        panels.append(Panel(reader.kelvin(temperature), reader.label("r", "Å"), y_label, curves))
    return panels


def coherent_panels(reader: Reader) -> list[Panel]:
    """F_ab(q,t), a panel for each wavevector asked for and couple of species."""
    table = "coherent"
    if not reader.has(table) or not reader.has("correlators"):
        return []
    asked = np.array([float(name[4:]) for name in correlator_names(reader) if name.startswith("fs_q")])
    found = []
    # the wavevectors that fit a box are near those asked for, and a little different in each
    nearest = np.abs(reader.get(table, "wavevector_per_angstrom")[:, None] - asked).argmin(axis=1)
    for k, wavevector in enumerate(asked):
        for couple in dict.fromkeys(reader.get(table, "species").tolist()):
            of = "" if couple == ALL else f" of {couple}"
            title = f"F(q ≈ {reader.label(f'{wavevector:g}', 'Å⁻¹').replace(',', '')}, t){of}"
            chosen = reader.rows(table, species=couple) & (nearest == k)
            found.append(by_temperature(reader, table, "value", title, "F(q,t)", chosen))
    return [panel for panel in found if panel]


def four_point_panels(reader: Reader) -> list[Panel]:
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
    kelvin, length, error = (
        reader.get(table, name) for name in ("temperature_kelvin", "xi4_angstrom", "xi4_error_angstrom")
    )
    if not np.isfinite(length).any():
        return None
    sound, temperatures, curves = reader.get(table, "verdict") == "ok", np.unique(kelvin), []
    for temperature, colour in zip(temperatures, thermal_colours(len(temperatures)), strict=True):
        mine = (kelvin == temperature) & np.isfinite(length)
        style: Literal["points", "hollow"] = "points" if sound[mine].all() else "hollow"
        curves.append(Curve(reader.kelvin(temperature), kelvin[mine], length[mine], error[mine], style, colour))
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
