"""Tables of `mlpwf analyse` as they are drawn and told: columns by their full names, and curves by temperature."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from mlpwf.dynamics.verdicts import OK
from mlpwf.figures import Curve, Panel, thermal_colours

if TYPE_CHECKING:
    from mlpwf.tables import Columns

Values = NDArray[Any]
Tables = Mapping[str, "Columns"]
TRUE = ("True", "1", "1.0")  # however a table's true was read
UNIT = re.compile(r"(_per)?_(kelvin|ps|angstrom2?|kj_mol|ev|mpa_s)(?=_|$)")
"""A unit in a column's name; in reduced units there is none."""
ALL = "all"
NO_ERROR = "too short for an error"


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
    """Text with its first letter small."""
    return text[:1].lower() + text[1:]


def of_correlator(reader: Reader, table: str, name: str) -> Values:
    """Rows of one correlator of all molecules."""
    return reader.rows(table, molecules=ALL, correlator=name)


def principal_correlators(reader: Reader, table: str) -> list[str]:
    """The translational correlators of a table and one rotation a rank."""
    return [name for name in correlator_names(reader, table) if "_axis" not in name or name.endswith("axis1")]


def pairs_of_panels(reader: Reader, columns: dict[str, tuple[str, str]]) -> list[Panel]:
    """Columns of correlators.csv by title and axis, side by side for each principal correlator."""
    table, found = "correlators", []
    for name in principal_correlators(reader, table):
        for column, (title, y_label) in columns.items():
            head, unit, tail = column.partition("_per_kelvin")
            found.append(
                by_temperature(
                    reader, table, column, f"{title}, {lower(reader.name(name))}", y_label,
                    of_correlator(reader, table, name), error=f"{head}_error{unit}{tail}",
                )
            )  # fmt: skip
    return [panel for panel in found if panel]


def true_values(column: Values) -> NDArray[np.bool_]:
    """Where a column is true, however it was read."""
    return np.isin(column.astype(str), TRUE)


def number_text(table: Columns, k: int, name: str) -> str:
    """A number of a row as the report tells it; a dash where it is not known."""
    value: Any = table[name][k] if name in table else "–"
    if isinstance(value, float):
        return f"{value:.3g}" if np.isfinite(value) else "–"
    return str(value)


def cell(table: Columns, k: int, value: str, error: str, verdict: str) -> str:
    """A number of a row as the report tells it: with its error, and its verdict where that is not ok.

    A number whose error the runs are too short to tell is none.
    """
    found: Any = table[value][k] if value in table else float("nan")
    if isinstance(found, str):
        return found
    word = str(table[verdict][k]) if verdict in table else OK
    word = "" if word in (OK, "nan") else word
    text = f"{found:.4g}" if np.isfinite(found) else "–"
    if error in table and table[error].dtype.kind == "f":
        if np.isfinite(table[error][k]):
            text += f" ± {table[error][k]:.2g}"
        elif np.isfinite(found):
            text, word = "–", word or NO_ERROR
    return f"{text} ({word})" if word else text
