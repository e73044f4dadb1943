"""The part of the page on the production runs: correlators, heterogeneity, laws, activation, equilibrium."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mlpwf.dynamics.columns import ALL, count_name, lower, quantity_name
from mlpwf.dynamics.figures import CAPTIONS, HEIGHTS, TRUE, figures
from mlpwf.figures import lines, rows
from mlpwf.report.gather import Record, number
from mlpwf.report.parts import Drawing, Part, Table

if TYPE_CHECKING:
    from mlpwf.tables import Columns


def dynamics(record: Record) -> Part:
    """Correlators and heterogeneity by temperature, laws and energies, states with their verdicts."""
    tables = record.analysis.tables
    drawings = [
        Drawing(
            name, CAPTIONS[name], partial(lines, panels, columns=2, height=HEIGHTS.get(name, 3.1)), list(rows(panels))
        )
        for name, panels in figures(tables).items()
    ]
    shown = [
        *_runs(record), *_states(tables), *_counts(tables.get("counts")), *_laws(tables.get("laws")),
        *_cooperativity(tables.get("cooperativity")),
    ]  # fmt: skip
    return Part("dynamics", "Dynamics of the liquid", drawings=drawings, tables=shown, warnings=_warnings(record))


def activation_energy(tables: Mapping[str, Columns]) -> tuple[str, str]:
    """The headline: E_app of the first correlator that has it at the coldest such state, and what it is."""
    energies = tables.get("energies")
    needed = {
        "quantity",
        "definition",
        "law",
        "temperature_kelvin",
        "energy_kj_mol",
        "energy_error_kj_mol",
        "molecules",
    }
    if energies is None or not needed <= set(energies) or len(energies["quantity"]) == 0:
        return "–", "kJ/mol, not known yet"
    known = np.isfinite(energies["energy_kj_mol"]) & (energies["molecules"] == ALL)
    known &= np.char.startswith(energies["definition"], "E_app(T) =")
    for quantity in dict.fromkeys(energies["quantity"].tolist()):
        mine = np.flatnonzero(known & (energies["quantity"] == quantity))
        if len(mine):
            k = mine[np.argmin(energies["temperature_kelvin"][mine])]
            error = float(energies["energy_error_kj_mol"][k])
            text = f"{float(energies['energy_kj_mol'][k]):#.3g}".rstrip(".")
            text += f" ± {error:.2g}" if np.isfinite(error) else ""
            at = f"{float(energies['temperature_kelvin'][k]):g} K"
            return (
                text,
                f"kJ/mol, E_app at {at} by the {energies['law'][k]} law, from {lower(quantity_name(quantity))}",
            )
    return "–", "kJ/mol, too few equilibrated states"


def _warnings(record: Record) -> list[str]:
    """Sentences on the states that blew up, and on those whose molecules broke."""
    remedy = "Explore {} longer, label and train again, then simulate."
    if record.classical:
        remedy = "Look at the force field, or simulate {} with a shorter time step."
    found = [
        f"The run at {s.state} blew up at step {s.summary.get('end_step', '?')}: {s.summary.get('reason', '?')}. "
        f"It has no numbers. {remedy.format('this state')}"
        for s in record.segments
        if s.summary.get("stable") is False
    ]
    states = sorted({s.state for s in record.segments if s.summary.get("intact") is False}, key=_kelvin)
    if states:
        found.append(
            f"Molecules broke at {', '.join(states)}: the numbers of these states are not the liquid's, and enter no "
            f"fit. {remedy.format('these states')}"
        )
    return found


def _runs(record: Record) -> list[Table]:
    """A row for the run of each state: how long it is, how fast it went, and whether it is to be trusted."""
    names = list(dict.fromkeys(segment.state for segment in record.segments))
    asked = _asked_ps(record)
    table = []
    for name in sorted(names, key=_kelvin):
        mine = [s.summary for s in record.segments if s.state == name]
        done, rate = number(mine[-1], "end_ps"), number(mine[-1], "ns_per_day")
        far = "–" if done is None else f"{max(0.0, done):.4g}"
        table.append(
            (
                name,
                f"{far} of {asked[name]:g}" if name in asked else far,
                "–" if rate is None else f"{rate:.3g}",
                str(mine[-1].get("ensemble", "–")),
                str(mine[-1].get("molecules", "–")),
                "yes" if all(summary.get("intact", True) is True for summary in mine) else "no",
                "blew up" if mine[-1].get("stable") is False else "stable",
            )
        )
    header = ("state", "length, ps", "ns/day", "ensemble", "molecules", "all whole", "verdict")
    return [Table("Production runs.", header, table)] if table else []


def _asked_ps(record: Record) -> dict[str, float]:
    """The length asked for in ps, by state."""
    simulate = record.sections.get("simulate", {})
    temperatures, lengths = simulate.get("temperatures_kelvin", []), simulate.get("length_ps")
    if not isinstance(lengths, list):
        lengths = [lengths] * len(temperatures)
    pairs = zip(temperatures, lengths, strict=False)
    return {f"{kelvin:g}K": float(length) for kelvin, length in pairs if isinstance(length, int | float)}


def _kelvin(state: str) -> float:
    try:
        return float(state.removesuffix("K"))
    except ValueError:
        return 0.0


def _states(tables: Mapping[str, Columns]) -> list[Table]:
    """Equilibration, relaxation times, stretching, diffusion and viscosity, a column for each state."""
    states, relaxation = tables.get("states"), tables.get("relaxation")
    if states is None or len(states["temperature_kelvin"]) == 0:
        return []
    temperatures = states["temperature_kelvin"]
    body: list[tuple[str, ...]] = []
    for title, value, error, verdict in (
        ("in equilibrium?", "equilibration", "", ""),
        (
            "change of the energy over the run, eV a molecule", "energy_change_over_run_ev_per_molecule", "",
            "energy_verdict",
        ),
        ("heat capacity, k_B a molecule", "heat_capacity_kb_per_molecule", "heat_capacity_error_kb_per_molecule", ""),
        ("D, Å²/ps", "diffusion_angstrom2_per_ps", "diffusion_error_angstrom2_per_ps", "diffusion_verdict"),
        (
            "D of an infinite box, Å²/ps",
            "diffusion_infinite_angstrom2_per_ps",
            "diffusion_infinite_error_angstrom2_per_ps",
            "diffusion_infinite_verdict",
        ),
        ("viscosity, mPa s", "viscosity_mpa_s", "viscosity_error_mpa_s", "viscosity_verdict"),
        ("relaxation of the stress, ps", "stress_relaxation_ps", "stress_relaxation_error_ps", "viscosity_verdict"),
    ):  # fmt: skip
        if value in states:
            body.append((title, *(_cell(states, k, value, error, verdict) for k in range(len(temperatures)))))
    lengths = tables.get("lengths")
    if lengths is not None and len(lengths["temperature_kelvin"]):
        cells = _at(lengths, temperatures, "xi4_angstrom", "xi4_error_angstrom", "verdict")
        body.append(("ξ₄ at the peak of χ₄ of the overlap, Å", *cells))
    if relaxation is not None and "correlator" in relaxation:
        mine = relaxation["molecules"] == ALL
        for name in dict.fromkeys(relaxation["correlator"][mine].tolist()):
            rows_of = {key: column[mine & (relaxation["correlator"] == name)] for key, column in relaxation.items()}
            title = lower(quantity_name(name))
            for label, value, error, verdict in (
                (f"τ, {title}, ps", "tau_ps", "tau_error_ps", "tau_verdict"),
                (f"β, {title}", "kww_beta", "kww_beta_error", "kww_verdict"),
                (f"in equilibrium by {title}?", "equilibration", "", ""),
            ):
                body.append((label, *_at(rows_of, temperatures, value, error, verdict)))
    header = ("quantity", *(f"{t:g} K" for t in temperatures))
    return [Table("States: value ± standard error, and the verdict where it is not ok.", header, body)]


def _at(table: Columns, temperatures: Any, value: str, error: str, verdict: str) -> list[str]:
    """Cells of a table with one row a state, in the order of the temperatures; a dash where there is no row."""
    at = {float(kelvin): k for k, kelvin in enumerate(table["temperature_kelvin"])}
    places = [at.get(float(kelvin)) for kelvin in temperatures]
    return ["–" if k is None else _cell(table, k, value, error, verdict) for k in places]


def _counts(counts: Columns | None) -> list[Table]:
    """Every count by its full name, a column for each state."""
    if counts is None or "definition" not in counts or len(counts["definition"]) == 0:
        return []
    mine = counts["molecules"] == ALL
    temperatures = np.unique(counts["temperature_kelvin"])
    body = []
    for name in dict.fromkeys(counts["correlator"][mine].tolist()):
        for definition in dict.fromkeys(counts["definition"].tolist()):
            chosen = mine & (counts["correlator"] == name) & (counts["definition"] == definition)
            cells = []
            for temperature in temperatures:
                found = np.flatnonzero(chosen & (counts["temperature_kelvin"] == temperature))
                cells.append(_cell(counts, int(found[0]), "count", "count_error", "verdict") if len(found) else "–")
            if any(cell[0].isdigit() or cell[0] == "-" for cell in cells):
                body.append((f"{count_name(definition)}, {lower(quantity_name(name))}", *cells))
    header = ("number of correlated molecules", *(f"{t:g} K" for t in temperatures))
    caption = (
        "Numbers of dynamically correlated molecules, each by its own definition; the verdict where it is not ok. "
        "The ensemble is that of the runs where the name says no other."
    )
    return [Table(caption, header, body)] if body else []


def _laws(laws: Columns | None) -> list[Table]:
    if laws is None or "law" not in laws or len(laws["law"]) == 0:
        return []
    mine = [int(k) for k in np.flatnonzero(laws["molecules"] == ALL) if laws["verdict"][k] != "too few states"]
    body = [
        (
            quantity_name(str(laws["quantity"][k])) + (" (best)" if str(laws["best"][k]) in TRUE else ""),
            str(laws["law"][k]), _number(laws, k, "states"), _number(laws, k, "aicc"),
            _number(laws, k, "akaike_weight"), _number(laws, k, "misfit_p_value"),
            _cell(laws, k, "glass_kelvin", "glass_error_kelvin", "glass_verdict"),
            _cell(laws, k, "fragility", "fragility_error", ""), str(laws["verdict"][k]),
        )
        for k in mine
    ]  # fmt: skip
    header = ("quantity", "law", "states", "AICc", "weight", "p of misfit", "T_g, K", "fragility", "verdict")
    return [Table("Laws of the relaxation time against temperature, compared by AICc.", header, body)] if body else []


def _cooperativity(table: Columns | None) -> list[Table]:
    """E and β against each count: the line, the test of proportion, the count at T_g."""
    if table is None or "against" not in table or len(table["against"]) == 0:
        return []
    body = [
        (
            f"{table['against'][k]}, {lower(quantity_name(str(table['correlator'][k])))}",
            count_name(str(table["count_definition"][k])),
            _cell(table, k, "intercept", "intercept_error", ""), _cell(table, k, "slope", "slope_error", ""),
            _number(table, k, "misfit_p_value"), _number(table, k, "proportional_p_value"),
            _cell(table, k, "count_at_glass", "count_at_glass_error", ""),
            str(table["count_at_glass_verdict"][k]),
        )
        for k in np.flatnonzero((table["molecules"] == ALL) & (table["verdict"] == "ok")).tolist()
    ]  # fmt: skip
    line = ("intercept", "slope", "p of misfit", "p of y ∝ x")
    header = ("y", "x: number of molecules", *line, "x at T_g", "verdict at T_g")
    caption = "Activation energy (kJ/mol) and stretching against each number of correlated molecules: y = a + bx."
    return [Table(caption, header, body)] if body else []


def _number(table: Columns, k: int, name: str) -> str:
    value: Any = table[name][k] if name in table else "–"
    if isinstance(value, float):
        return f"{value:.3g}" if np.isfinite(value) else "–"
    return str(value)


def _cell(table: Columns, k: int, value: str, error: str, verdict: str) -> str:
    found: Any = table[value][k] if value in table else float("nan")
    if isinstance(found, str):
        return found
    text = f"{found:.4g}" if np.isfinite(found) else "–"
    if error in table and table[error].dtype.kind == "f" and np.isfinite(table[error][k]):
        text += f" ± {table[error][k]:.2g}"
    word = str(table[verdict][k]) if verdict in table else "ok"
    return text if word in ("ok", "nan", "") else f"{text} ({word})"
