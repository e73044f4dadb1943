"""Figures of the dynamics of a liquid, from the tables of `mlpwf analyse`."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from mlpwf.dynamics.columns import ALL, Reader, Tables, by_temperature, correlator_names, count_name, lower
from mlpwf.dynamics.space_figures import coherent_panels, four_point_panels, van_hove_panels
from mlpwf.figures import PALETTE, Curve, Panel, lines, rows

if TYPE_CHECKING:
    from mlpwf.dynamics.columns import Values

USABLE = ("equilibrated", "too short to tell")
TRUE = ("True", "1", "1.0")  # however a table's true was read
CAPTIONS = {
    "motion": "Motion of the molecules' centres by temperature, against the time since the origin.",
    "van_hove": (
        "Van Hove's function, self part: the density of the distances r that molecules have gone, at a tenth of τ, at "
        "τ and at 3 τ of the overlap (at the middle and the last lag where τ is not known), in the last run of a state."
    ),
    "correlators": "Correlators by temperature, against the time since the origin.",
    "coherent": (
        "Coherent scattering F(q,t) of the centres over the wavevectors that fit the box, in the last run of a state. "
        "It starts from the structure factor S(q), where self-scattering starts from 1."
    ),
    "chi4": (
        "χ₄ by temperature, in the ensemble of the runs, and χ₄/(⟨w²⟩ − ⟨w⟩²), which is 1 for molecules that move "
        "independently and k for independent blobs of k."
    ),
    "s4": (
        "How far molecules move together, at the time of the peak of χ₄ of the overlap w, in the last run of a state. "
        "S₄(q) with the fit of Ornstein and Zernike (dashed), and that of w − ⟨w⟩, without what the density does by "
        "itself; the same fluctuation in sub-boxes, which grows with their edge until that exceeds ξ₄ by far; ξ₄ of "
        "the fits, open where the verdict on the fit is not ok."
    ),
    "response": (
        "What a change of temperature does to the correlators, and the energy term (k_B T²/c)(∂C/∂T)², by which χ₄ of "
        "two ensembles differ."
    ),
    "aging": "Relaxation times of windows of origins against the waiting time: level where a state is in equilibrium.",
    "arrhenius": (
        "Relaxation times (C = 1/e), 1/D and viscosity against inverse temperature. Lines: the law with the lowest "
        "AICc through the states that enter fits; open circles are states that do not: not in equilibrium, broken, "
        "or not long enough."
    ),
    "angell": "The same times against T_g/T, T_g of each quantity's own law.",
    "activation": (
        "Activation energies against temperature: E = RT ln(τ/τ∞) and E_app = R dln τ/d(1/T) of the law with the "
        "lowest AICc, and E_app between neighbouring temperatures, which needs no law."
    ),
    "counts": (
        "Numbers of dynamically correlated molecules by temperature, each definition by its full name; open circles: "
        "states not shown to be in equilibrium, or a verdict that is not ok."
    ),
    "energy": (
        "Activation energy against each number of correlated molecules. Dashed: the line with a free intercept and "
        "errors in both; the legend gives the probability of the law of proportion."
    ),
}


COUNT_COLOURS = (*PALETTE, "#7A5195", "#A05A2C")
HEIGHTS = {"counts": 4.2}  # inches a row: the legend is long


def figures(tables: Tables) -> dict[str, list[Panel]]:
    """Panels of every figure that the tables allow, by name."""
    reader = Reader(tables)
    made = {
        "motion": motion_panels(reader),
        "van_hove": van_hove_panels(reader),
        "correlators": correlator_panels(reader),
        "coherent": coherent_panels(reader),
        "chi4": chi4_panels(reader),
        "s4": four_point_panels(reader),
        "response": response_panels(reader),
        "aging": aging_panels(reader),
        "arrhenius": arrhenius_panels(reader),
        "angell": angell_panels(reader),
        "activation": activation_panels(reader),
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


def motion_panels(reader: Reader) -> list[Panel]:
    """Mean square displacement and non-Gaussian parameter."""
    found = [
        by_temperature(
            reader, "motion", "msd_angstrom2", "Mean square displacement", reader.label("⟨|Δr|²⟩", "Å²"), y_log=True
        ),
        by_temperature(reader, "motion", "alpha2", "Non-Gaussian parameter", "α₂"),
    ]
    return [panel for panel in found if panel]


def correlator_panels(reader: Reader) -> list[Panel]:
    """C(t) of every correlator."""
    found = [
        by_temperature(reader, "correlators", "value", reader.name(name), "C(t)", _of(reader, "correlators", name))
        for name in correlator_names(reader)
    ]
    return [panel for panel in found if panel]


def _of(reader: Reader, table: str, name: str) -> Values:
    """Rows of one correlator of all molecules."""
    return reader.rows(table, molecules=ALL, correlator=name)


def _principal(reader: Reader, table: str) -> list[str]:
    """The translational correlators of a table and one rotation a rank."""
    return [n for n in correlator_names(reader, table) if "_axis" not in n or n.endswith("axis1")]


def chi4_panels(reader: Reader) -> list[Panel]:
    """χ4 and normalised χ4 of the translational correlators and of one rotation a rank."""
    return _pairs_of_panels(reader, {"chi4": ("χ₄", "χ₄"), "chi4_normalised": ("χ₄/(⟨w²⟩ − ⟨w⟩²)",) * 2})


def response_panels(reader: Reader) -> list[Panel]:
    """χ_T and the energy term of χ4, of the same correlators."""
    return _pairs_of_panels(
        reader,
        {
            "response_per_kelvin": ("∂C/∂T", reader.label("∂C/∂T", "1/K")),
            "energy_term": ("Energy term", "energy term of χ₄"),
        },
    )


def _pairs_of_panels(reader: Reader, columns: dict[str, tuple[str, str]]) -> list[Panel]:
    """Columns of correlators.csv by title and axis, side by side for each correlator."""
    found = []
    for name in _principal(reader, "correlators"):
        for column, (title, y_label) in columns.items():
            head, unit, tail = column.partition("_per_kelvin")
            found.append(
                by_temperature(
                    reader, "correlators", column, f"{title}, {lower(reader.name(name))}", y_label,
                    _of(reader, "correlators", name), error=f"{head}_error{unit}{tail}",
                )
            )  # fmt: skip
    return [panel for panel in found if panel]


def aging_panels(reader: Reader) -> list[Panel]:
    """τ against waiting time, of the same correlators."""
    found = [
        by_temperature(
            reader, "aging", "tau_ps", f"Waiting time, {lower(reader.name(name))}", reader.label("τ", "ps"),
            _of(reader, "aging", name), x="waiting_ps", x_label=reader.label("waiting time", "ps"), x_log=False,
            y_log=True, error="tau_error_ps", style="both",
        )
        for name in _principal(reader, "correlators")
        if reader.has("aging")
    ]  # fmt: skip
    return [panel for panel in found if panel]


def activation_panels(reader: Reader) -> list[Panel]:
    """Every definition of the energy against temperature, a panel for each quantity."""
    if not reader.has("energies"):
        return []
    table, panels = "energies", []
    kelvin, energy, error = (
        reader.get(table, name) for name in ("temperature_kelvin", "energy_kj_mol", "energy_error_kj_mol")
    )
    for quantity in dict.fromkeys(reader.get(table, "quantity").tolist()):
        if "_axis" in quantity and not quantity.removesuffix("_ps").endswith("axis1"):
            continue
        curves = []
        for k, definition in enumerate(dict.fromkeys(reader.get(table, "definition").tolist())):
            mine = reader.rows(table, molecules=ALL, quantity=quantity, definition=definition) & np.isfinite(energy)
            if mine.any():
                law = str(reader.get(table, "law")[mine][0])
                label = definition.split(" = ")[0] + ("" if law == "none" else f", {law} law")
                style: Literal["points", "both"] = "points" if law == "none" else "both"
                curves.append(Curve(label, kelvin[mine], energy[mine], error[mine], style, PALETTE[k]))
        if curves:
            panels.append(Panel(reader.name(quantity), reader.label("T", "K"), reader.label("E", "kJ/mol"), curves))
    return panels


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
    mine = _of(reader, table, name) & np.isfinite(values)
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
    table = "laws"
    best = np.isin(reader.get(table, "best").astype(str), TRUE)
    mine = reader.rows(table, quantity=reader.short(quantity), molecules=ALL) & best
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
    for name in _principal(reader, table):
        mine = _of(reader, table, name) & np.isfinite(value)
        if not mine.any():
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
    x_label = f"{count_name(definition)}, {lower(reader.name(name))}"
    return Panel("E against the count", x_label, reader.label("E", "kJ/mol"), curves)


def _pairs(reader: Reader, name: str, definition: str, energy: str) -> tuple[Values, Values, Values, Values]:
    """Count and energy, with errors, at the temperatures that have both."""
    first = np.flatnonzero(
        reader.rows("energies", quantity=reader.short(f"tau_{name}_ps"), definition=energy, molecules=ALL)
        & np.isfinite(reader.get("energies", "energy_kj_mol"))
    )
    second = np.flatnonzero(reader.rows("counts", definition=definition, correlator=name, molecules=ALL, verdict="ok"))
    one, two = (reader.get(t, "temperature_kelvin")[rows_] for t, rows_ in (("energies", first), ("counts", second)))
    _, here, there = np.intersect1d(one, two, return_indices=True)
    x, x_error = (reader.get("counts", n)[second[there]] for n in ("count", "count_error"))
    y, y_error = (reader.get("energies", n)[first[here]] for n in ("energy_kj_mol", "energy_error_kj_mol"))
    return x, x_error, y, y_error


def _line(reader: Reader, name: str, energy: str, definition: str, x: Values, colour: str) -> tuple[str, list[Curve]]:
    """Legend of the points, with what the tests of the line and of proportion say, and the fitted line."""
    table, label = "cooperativity", energy.split(" = ")[0]
    mine = np.flatnonzero(
        reader.rows(table, correlator=name, against=energy, count_definition=definition, molecules=ALL, verdict="ok")
    )
    if len(mine) == 0:
        return label, []
    names = ("intercept", "slope", "misfit_p_value", "proportional_p_value")
    a, b, misfit, p = (float(reader.get(table, n)[mine[0]]) for n in names)
    grid = np.array([x.min(), x.max()])
    line = Curve(f"_{label}, line", grid, a + b * grid, style="dashed", colour=colour)
    return f"{label}; line: p = {misfit:.2g}, proportional: {p:.2g}", [line]
