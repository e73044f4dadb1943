"""Tables of `mlpwf analyse` as they are drawn and told: columns by their full names, and curves by temperature."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mlpwf.figures import Curve, Panel, thermal_colours

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mlpwf.tables import Columns

    Values = NDArray[Any]

Tables = Mapping[str, "Columns"]
UNIT = re.compile(r"(_per)?_(kelvin|ps|angstrom2?|kj_mol|ev|mpa_s)(?=_|$)")
"""A unit in a column's name; in reduced units there is none."""
ALL = "all"


def quantity_name(name: str) -> str:
    """What a correlator's or a quantity's column name stands for, in full."""
    if name.startswith("fs_q"):
        return f"Self-scattering Fₛ(q = {name[4:]} Å⁻¹)"
    if name.startswith("c") and "_axis" in name:
        order, axis = name[1:].split("_axis", 1)
        return f"Rotation C{order.translate(str.maketrans('0123456789', '₀₁₂₃₄₅₆₇₈₉'))}, axis {axis}"
    if name.startswith("tau_"):
        return quantity_name(name[4:].removesuffix("_ps"))
    for start, title in (("inverse_diffusion", "1/D"), ("viscosity", "Viscosity"), ("diffusion", "Diffusion")):
        if name.startswith(start):
            return title
    return {"overlap": "Overlap"}.get(name, name.replace("_", " "))


def count_name(definition: str) -> str:
    """The name of a count of correlated molecules, as it is drawn."""
    for plain, drawn in (
        ("normalised chi4", "χ₄/(⟨w²⟩ − ⟨w⟩²)"), ("chi4", "χ₄"), ("dlntau/dlnT", "dln τ/dln T"), ("(beta/e)", "(β/e)"),
        (" at tau", " at τ"), (" - energy", " − energy"), ("N_corr,T", "N(corr,T)"),
    ):  # fmt: skip
        definition = definition.replace(plain, drawn)
    return definition


class Reader:
    """Columns of the tables by their full names, in real units or without any."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        states = tables.get("states", {})
        self.reduced = "temperature" in states and "temperature_kelvin" not in states

    def has(self, table: str) -> bool:
        """Whether there is such a table, with at least one row."""
        found = self.tables.get(table)
        return found is not None and len(found) > 0 and len(next(iter(found.values()))) > 0

    def get(self, table: str, column: str) -> Values:
        """A column; NaN throughout where it is missing."""
        found = self.tables[table]
        column = self.short(column)
        if column not in found:
            return np.full(len(next(iter(found.values()))), np.nan)
        return found[column]

    def short(self, name: str) -> str:
        """A column's or quantity's name as it stands in the tables."""
        return UNIT.sub("", name) if self.reduced else name

    def rows(self, table: str, **equal: str) -> Values:
        """Which rows of a table have these values in these columns."""
        chosen = np.ones(len(next(iter(self.tables[table].values()))), dtype=bool)
        for column, value in equal.items():
            chosen &= self.get(table, column) == value
        return chosen

    def label(self, text: str, unit: str) -> str:
        """An axis label, its unit left out where units are reduced."""
        return text if self.reduced else f"{text}, {unit}"

    def name(self, quantity: str) -> str:
        """A correlator or quantity in full, its unit left out where units are reduced."""
        found = quantity_name(quantity)
        return found.replace(" Å⁻¹", "") if self.reduced else found

    def kelvin(self, temperature: float) -> str:
        """A temperature as a label."""
        return f"T = {temperature:g}" if self.reduced else f"{temperature:g} K"


def correlator_names(reader: Reader, table: str = "correlators") -> list[str]:
    """Correlators of a table, in order."""
    return list(dict.fromkeys(reader.get(table, "correlator").tolist())) if reader.has(table) else []


def by_temperature(
    reader: Reader,
    table: str,
    column: str,
    title: str,
    y_label: str,
    chosen: Values | None = None,
    *,
    x: str = "time_ps",
    x_label: str | None = None,
    x_log: bool = True,
    y_log: bool = False,
    error: str | None = None,
    style: Literal["line", "points", "both"] = "line",
) -> Panel | None:
    """One curve for each temperature, coldest first, of the chosen rows; None where there is nothing to draw.

    Parameters
    ----------
    chosen
        Rows of the table, as `Reader.rows` gives them; those of all molecules by default. Where the x axis is
        logarithmic, only those with a positive x are drawn.
    """
    if not reader.has(table):
        return None
    kelvin, places, values = (reader.get(table, name) for name in ("temperature_kelvin", x, column))
    if values.dtype.kind != "f":
        return None
    mine = (reader.rows(table, molecules=ALL) if chosen is None else chosen) & np.isfinite(values)
    if x_log:
        mine &= places > 0
    temperatures = np.unique(kelvin)
    drawn = []
    for temperature, colour in zip(temperatures, thermal_colours(len(temperatures)), strict=True):
        kept = np.flatnonzero(mine & (kelvin == temperature))
        order = kept[np.argsort(places[kept])]
        spread = None if error is None else reader.get(table, error)[order]
        drawn.append(Curve(reader.kelvin(temperature), places[order], values[order], spread, style, colour))
    if not any(len(curve.x) for curve in drawn):
        return None
    return Panel(title, x_label or reader.label("time", "ps"), y_label, drawn, x_log=x_log, y_log=y_log)


def lower(text: str) -> str:
    return text[:1].lower() + text[1:]


ANALYSIS = {
    "states": ("state", "temperature_kelvin"),
    "motion": ("temperature_kelvin", "molecules", "time_ps"),
    "correlators": ("temperature_kelvin", "molecules", "correlator", "time_ps"),
    "relaxation": ("temperature_kelvin", "molecules", "correlator", "tau_ps"),
    "aging": ("temperature_kelvin", "molecules", "correlator", "waiting_ps", "tau_ps"),
    "counts": ("temperature_kelvin", "molecules", "correlator", "definition", "count"),
    "coherent": ("temperature_kelvin", "species", "wavevector_per_angstrom", "time_ps", "value"),
    "s4": ("temperature_kelvin", "molecules", "wavevector_per_angstrom", "s4", "s4_fluctuation"),
    "sub_boxes": ("temperature_kelvin", "molecules", "edge_angstrom", "chi4"),
    "lengths": ("temperature_kelvin", "xi4_angstrom", "chi4_at_zero", "verdict"),
    "van_hove": ("temperature_kelvin", "molecules", "time_ps", "distance_angstrom", "density_per_angstrom"),
    "laws": ("quantity", "molecules", "law"),
    "energies": ("quantity", "molecules", "definition"),
    "cooperativity": ("correlator", "molecules", "count_definition", "against"),
}
"""Tables of `mlpwf analyse`, all of which the page shows, and the columns each must have."""
