"""Figures of the dynamics of a liquid, from the tables of `mlpwf analyse`."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlpwf.report.figures import PALETTE, Curve, Panel, lines, rows, thermal_colours

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mlpwf.report.gather import Columns

    Values = NDArray[Any]

Tables = Mapping[str, "Columns"]
USABLE = ("equilibrated", "too short to tell")
ALL = "all"
TRUE = ("True", "1", "1.0")  # however a table's true was read
CAPTIONS = {
    "motion": "Motion of the molecules' centres by temperature, against the time since the origin.",
    "correlators": "Correlators by temperature, against the time since the origin.",
    "chi4": (
        "χ₄ by temperature, in the ensemble of the runs, and χ₄/(⟨w²⟩ − ⟨w⟩²), which is 1 for molecules that move "
        "independently and k for independent blobs of k."
    ),
    "arrhenius": (
        "Relaxation times (C = 1/e), 1/D and viscosity against inverse temperature. Lines: the law with the lowest "
        "AICc through the states that enter fits; open circles are states that do not: not in equilibrium, broken, "
        "or not long enough."
    ),
    "angell": "The same times against T_g/T, T_g of each quantity's own law.",
    "counts": (
        "Numbers of dynamically correlated molecules by temperature, each definition by its full name; open circles: "
        "states not shown to be in equilibrium, or a verdict that is not ok."
    ),
    "energy": (
        "Activation energy against each number of correlated molecules. Dashed: the line with a free intercept and "
        "errors in both; the legend gives the probability of the law of proportion."
    ),
}


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


COUNT_COLOURS = (*PALETTE, "#7A5195", "#A05A2C")
HEIGHTS = {"counts": 4.2}  # inches a row: the legend is long


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
        if self.reduced:
            for unit in ("_angstrom2_per_ps", "_kj_mol", "_mpa_s", "_kelvin", "_angstrom2", "_ps"):
                column = column.replace(unit, "")
        if column not in found:
            return np.full(len(next(iter(found.values()))), np.nan)
        return found[column]

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


def figures(tables: Tables) -> dict[str, list[Panel]]:
    """Panels of every figure that the tables allow, by name."""
    reader = Reader(tables)
    made = {
        "motion": motion_panels(reader),
        "correlators": correlator_panels(reader),
        "chi4": chi4_panels(reader),
        "arrhenius": arrhenius_panels(reader),
        "angell": angell_panels(reader),
        "counts": count_panels(reader),
        "energy": energy_panels(reader),
    }
    return {name: panels for name, panels in made.items() if panels}


def write_figures(tables: Tables, folder: Path) -> dict[str, str]:
    """Write each figure as PNG and SVG, and the numbers drawn as CSV; return captions by file name."""
    from mlpwf.files import replacing, write_text

    written = {}
    for name, panels in figures(tables).items():
        figure = lines(panels, columns=2, height=HEIGHTS.get(name, 3.1))
        for kind in ("png", "svg"):
            with replacing(folder / f"{name}.{kind}") as temporary:
                figure.savefig(temporary, format=kind, dpi=150, facecolor="white")
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows(panels))
        write_text(folder / f"{name}.csv", text.getvalue())
        written[f"{name}.png"] = CAPTIONS[name]
    return written


def by_temperature(
    reader: Reader,
    table: str,
    column: str,
    title: str,
    y_label: str,
    error: str | None = None,
    y_log: bool = False,
    correlator: str | None = None,
) -> Panel | None:
    """One curve for each temperature, coldest first, its positive times only; of all molecules."""
    if not reader.has(table):
        return None
    kelvin, time = reader.get(table, "temperature_kelvin"), reader.get(table, "time_ps")
    values = reader.get(table, column)
    if values.dtype.kind != "f":
        return None
    mine = (reader.get(table, "molecules") == ALL) & (time > 0) & np.isfinite(values)
    if correlator is not None:
        mine &= reader.get(table, "correlator") == correlator
    temperatures = np.unique(kelvin)
    drawn = []
    for temperature, colour in zip(temperatures, thermal_colours(len(temperatures)), strict=True):
        kept = np.flatnonzero(mine & (kelvin == temperature))
        order = kept[np.argsort(time[kept])]
        spread = None if error is None else reader.get(table, error)[order]
        drawn.append(Curve(reader.kelvin(temperature), time[order], values[order], spread, colour=colour))
    if not any(len(curve.x) for curve in drawn):
        return None
    return Panel(title, reader.label("time", "ps"), y_label, drawn, x_log=True, y_log=y_log)


def motion_panels(reader: Reader) -> list[Panel]:
    """Mean square displacement and non-Gaussian parameter."""
    found = [
        by_temperature(
            reader, "motion", "msd_angstrom2", "Mean square displacement", reader.label("⟨|Δr|²⟩", "Å²"), y_log=True
        ),
        by_temperature(reader, "motion", "alpha2", "Non-Gaussian parameter", "α₂"),
    ]
    return [panel for panel in found if panel]


def correlator_names(reader: Reader, table: str = "correlators") -> list[str]:
    """Correlators of a table, in order."""
    return list(dict.fromkeys(reader.get(table, "correlator").tolist())) if reader.has(table) else []


def correlator_panels(reader: Reader) -> list[Panel]:
    """C(t) of every correlator."""
    found = [
        by_temperature(reader, "correlators", "value", reader.name(name), "C(t)", correlator=name)
        for name in correlator_names(reader)
    ]
    return [panel for panel in found if panel]


def chi4_panels(reader: Reader) -> list[Panel]:
    """χ4 and normalised χ4 of the translational correlators and of one rotation a rank."""
    found = []
    for name in correlator_names(reader):
        if "_axis" in name and not name.endswith("axis1"):
            continue
        for column, title in (("chi4", "χ₄"), ("chi4_normalised", "χ₄/(⟨w²⟩ − ⟨w⟩²)")):
            title_ = f"{title}, {_lower(reader.name(name))}"
            found.append(
                by_temperature(reader, "correlators", column, title_, title, error=f"{column}_error", correlator=name)
            )
    return [panel for panel in found if panel]


def arrhenius_panels(reader: Reader) -> list[Panel]:
    """Logarithms of the relaxation times, 1/D and the viscosity against 1000/T, with the best law of each."""
    inverse = "1/T" if reader.reduced else "1000/T, 1/K"
    scale = 1.0 if reader.reduced else 1000.0
    panels = []
    for title, y_label, group in _time_groups(reader):
        curves = []
        for k, (quantity, kelvin, values, errors, used) in enumerate(group):
            curves += _two_styles(
                reader.name(quantity), scale / kelvin, values, errors, used, PALETTE[k % len(PALETTE)]
            )
            curves += _law_curve(reader, quantity, kelvin[used], scale, PALETTE[k % len(PALETTE)])
        if curves:
            panels.append(Panel(title, inverse, y_label, curves, y_log=True))
    return panels


def angell_panels(reader: Reader) -> list[Panel]:
    """The same against T_g/T, for quantities whose best law reaches T_g."""
    panels = []
    for title, y_label, group in _time_groups(reader):
        curves = []
        for k, (quantity, kelvin, values, errors, used) in enumerate(group):
            row = _best(reader, quantity)
            glass = float(reader.get("laws", "glass_kelvin")[row]) if row is not None else np.nan
            if np.isfinite(glass) and used.any():
                unit = "" if reader.reduced else " K"
                label = f"{reader.name(quantity)}, T_g = {glass:.3g}{unit}"
                curves += _two_styles(label, glass / kelvin, values, errors, used, PALETTE[k % len(PALETTE)])
        if curves:
            panels.append(Panel(f"{title}, Angell plot", "T_g/T", y_label, curves, y_log=True))
    return panels


Points = tuple[str, "Values", "Values", "Values", "Values"]


def _time_groups(reader: Reader) -> list[tuple[str, str, list[Points]]]:
    """Title, axis and quantities (name, T, value, error, whether fitted) of each panel of times."""
    groups: list[tuple[str, str, list[Points]]] = []
    if reader.has("relaxation"):
        names = correlator_names(reader, "relaxation")
        for title, mine in (
            ("Translation", [n for n in names if "_axis" not in n]),
            ("Rotation", [n for n in names if "_axis" in n]),
        ):
            points = [_relaxation_points(reader, name) for name in mine]
            groups.append((title, reader.label("τ", "ps"), [p for p in points if p is not None]))
    if reader.has("states"):
        for title, y_label, quantity, column in (
            (
                "Diffusion",
                reader.label("1/D", "ps/Å²"),
                "inverse_diffusion_ps_per_angstrom2",
                "diffusion{}_angstrom2_per_ps",
            ),
            ("Viscosity", reader.label("η", "mPa s"), "viscosity_mpa_s", "viscosity{}_mpa_s"),
        ):
            values, errors = (reader.get("states", column.format(which)) for which in ("", "_error"))
            verdict = reader.get("states", f"{column.split('{')[0]}_verdict")
            if values.dtype.kind != "f":
                continue
            if quantity.startswith("inverse"):
                with np.errstate(divide="ignore", invalid="ignore"):
                    values, errors = 1 / values, errors / values**2
            kept = np.isfinite(values) & (values > 0)
            used = (verdict == "ok") & np.isin(reader.get("states", "equilibration"), USABLE)
            kelvin = reader.get("states", "temperature_kelvin")
            if kept.any():
                groups.append((title, y_label, [(quantity, kelvin[kept], values[kept], errors[kept], used[kept])]))
    return [group for group in groups if group[2]]


def _relaxation_points(reader: Reader, name: str) -> Points | None:
    table = "relaxation"
    values = reader.get(table, "tau_ps")
    mine = (reader.get(table, "correlator") == name) & (reader.get(table, "molecules") == ALL) & np.isfinite(values)
    if not mine.any():
        return None
    used = (reader.get(table, "tau_verdict") == "ok") & np.isin(reader.get(table, "equilibration"), USABLE)
    errors, kelvin = reader.get(table, "tau_error_ps"), reader.get(table, "temperature_kelvin")
    return f"tau_{name}_ps", kelvin[mine], values[mine], errors[mine], used[mine]


def _two_styles(label: str, x: Values, y: Values, errors: Values, used: Values, colour: str) -> list[Curve]:
    """Points that enter fits, filled and with their errors, and open ones that do not."""
    curves = []
    if used.any():
        curves.append(Curve(label, x[used], y[used], errors[used], style="points", colour=colour))
    if (~used).any():
        curves.append(Curve(f"{label}, not fitted", x[~used], y[~used], style="hollow", colour=colour))
    return curves


def _best(reader: Reader, quantity: str) -> int | None:
    """Row of the best law of a quantity of all molecules, if it has numbers."""
    if not reader.has("laws"):
        return None
    names, table = reader.get("laws", "quantity"), "laws"
    short = quantity
    if reader.reduced:
        for unit in ("_ps_per_angstrom2", "_mpa_s", "_ps"):
            short = short.removesuffix(unit)
    best = np.isin(reader.get(table, "best").astype(str), TRUE)
    mine = (names == short) & best & (reader.get(table, "molecules") == ALL)
    found = np.flatnonzero(mine & np.isfinite(reader.get(table, "ln_prefactor")))
    return int(found[0]) if len(found) else None


def _law_curve(reader: Reader, quantity: str, kelvin: Values, scale: float, colour: str) -> list[Curve]:
    from mlpwf.dynamics.activation import LawFit

    row = _best(reader, quantity)
    if row is None or len(kelvin) < 2:
        return []
    a, b, c = (float(reader.get("laws", n)[row]) for n in ("ln_prefactor", "strength_kelvin", "constant_kelvin"))
    name = str(reader.get("laws", "law")[row])
    fit = LawFit(name, a, b, c, np.nan, np.nan, 0, "ok")
    grid = 1 / np.linspace(1 / kelvin.max(), 1 / kelvin.min(), 60)
    return [Curve(f"{name} law", scale / grid, np.exp(fit.ln_tau(grid)), style="dashed", colour=colour)]


def count_panels(reader: Reader) -> list[Panel]:
    """Each count against temperature, a panel for each correlator; open where the state or the number is not sound."""
    if not reader.has("counts"):
        return []
    table = "counts"
    kelvin, value, error = (reader.get(table, n) for n in ("temperature_kelvin", "count", "count_error"))
    definition = reader.get(table, "definition")
    good = (reader.get(table, "verdict") == "ok") & (reader.get(table, "equilibration") == "equilibrated")
    panels = []
    for name in correlator_names(reader, table):
        mine = (reader.get(table, "correlator") == name) & (reader.get(table, "molecules") == ALL) & np.isfinite(value)
        if not mine.any() or ("_axis" in name and not name.endswith("axis1")):
            continue
        curves = []
        for k, one in enumerate(dict.fromkeys(definition.tolist())):
            colour, label = COUNT_COLOURS[k % len(COUNT_COLOURS)], count_name(one)
            sound, other = (mine & (definition == one) & chosen for chosen in (good, ~good))
            curves.append(Curve(label, kelvin[sound], value[sound], error[sound], style="points", colour=colour))
            curves.append(Curve(f"_{label}", kelvin[other], value[other], style="hollow", colour=colour))
        panels.append(Panel(reader.name(name), reader.label("T", "K"), "number of molecules", curves, y_log=True))
    return panels


def energy_panels(reader: Reader) -> list[Panel]:
    """E(T) and E_app(T) against each count of the first translational correlator that has them."""
    if not all(reader.has(table) for table in ("counts", "energies", "cooperativity")):
        return []
    for name in (n for n in correlator_names(reader, "counts") if "_axis" not in n):
        definitions = dict.fromkeys(reader.get("counts", "definition").tolist())
        panels = [_energy_panel(reader, name, one) for one in definitions]
        found = [panel for panel in panels if panel is not None]
        if found:
            return found
    return []


def _energy_panel(reader: Reader, name: str, definition: str) -> Panel | None:
    curves: list[Curve] = []
    energies = [e for e in dict.fromkeys(reader.get("cooperativity", "against").tolist()) if e.startswith("E")]
    for k, energy in enumerate(energies):
        x, x_error, y, y_error = _pairs(reader, name, definition, energy)
        if len(x) < 2:
            continue
        label, dashed = _line(reader, name, energy, definition, x, PALETTE[k])
        curves.append(Curve(label, x, y, y_error, style="points", colour=PALETTE[k], x_error=x_error))
        curves += dashed
    if not curves:
        return None
    x_label = f"{count_name(definition)}, {_lower(reader.name(name))}"
    return Panel("E against the count", x_label, reader.label("E", "kJ/mol"), curves)


def _pairs(reader: Reader, name: str, definition: str, energy: str) -> tuple[Values, Values, Values, Values]:
    """Count and energy, with errors, at the temperatures that have both."""
    short = f"tau_{name}" if reader.reduced else f"tau_{name}_ps"
    first = np.flatnonzero(
        (reader.get("energies", "quantity") == short)
        & (reader.get("energies", "definition") == energy)
        & (reader.get("energies", "molecules") == ALL)
        & np.isfinite(reader.get("energies", "energy_kj_mol"))
    )
    second = np.flatnonzero(
        (reader.get("counts", "definition") == definition)
        & (reader.get("counts", "correlator") == name)
        & (reader.get("counts", "molecules") == ALL)
        & (reader.get("counts", "verdict") == "ok")
    )
    one, two = (reader.get(t, "temperature_kelvin")[rows_] for t, rows_ in (("energies", first), ("counts", second)))
    _, here, there = np.intersect1d(one, two, return_indices=True)
    x, x_error = (reader.get("counts", n)[second[there]] for n in ("count", "count_error"))
    y, y_error = (reader.get("energies", n)[first[here]] for n in ("energy_kj_mol", "energy_error_kj_mol"))
    return x, x_error, y, y_error


def _line(reader: Reader, name: str, energy: str, definition: str, x: Values, colour: str) -> tuple[str, list[Curve]]:
    """Legend of the points, with what the tests of the line and of proportion say, and the fitted line."""
    table, label = "cooperativity", energy.split(" = ")[0]
    mine = np.flatnonzero(
        (reader.get(table, "correlator") == name)
        & (reader.get(table, "against") == energy)
        & (reader.get(table, "count_definition") == definition)
        & (reader.get(table, "molecules") == ALL)
        & (reader.get(table, "verdict") == "ok")
    )
    if len(mine) == 0:
        return label, []
    names = ("intercept", "slope", "misfit_p_value", "proportional_p_value")
    a, b, misfit, p = (float(reader.get(table, n)[mine[0]]) for n in names)
    grid = np.array([x.min(), x.max()])
    line = Curve(f"_{label}, line", grid, a + b * grid, style="dashed", colour=colour)
    return f"{label}; line: p = {misfit:.2g}, proportional: {p:.2g}", [line]


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
