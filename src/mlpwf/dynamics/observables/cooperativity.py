"""How the activation energy, or the stretching, goes with each number of correlated molecules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from mlpwf.dynamics.activation import covariance
from mlpwf.dynamics.columns import (
    Reader,
    Values,
    cell,
    correlator_names,
    count_name,
    lower,
    number_text,
    quantity_name,
)
from mlpwf.dynamics.cooperativity import Line, at_glass, line
from mlpwf.dynamics.observable import Column, Correlator, Figure, Molecules, Observable, Table, Told, Verdict, error
from mlpwf.dynamics.observables.counts import counts_of, definitions_of
from mlpwf.dynamics.observables.relaxation import relaxation_of
from mlpwf.dynamics.series import BY_SLOPE, BY_TAU_INF, Fits, Series, energies_of
from mlpwf.dynamics.state import ALL, NAN, Study
from mlpwf.dynamics.trajectory import Array
from mlpwf.dynamics.verdicts import OK
from mlpwf.figures import PALETTE, Curve, Panel

BETA = "stretching exponent beta"


@dataclass(frozen=True)
class Cooperativity:
    """The line of an energy, or of β, against one count."""

    correlator: Correlator
    molecules: Molecules
    count_definition: Annotated[str, Column("", "full name of the definition of N_corr")]
    against: Annotated[str, Column("", "definition of the energy, or β: what is drawn against N_corr")]
    law: Annotated[str, Column("", "the model of τ(T) that the energy is of; none")]
    states: Annotated[int, Column("", "number of states fitted")]
    unit: Annotated[str, Column("", "unit of intercept and slope")]
    intercept: Annotated[
        float,
        Column("", "a of energy (or β) = a + b N_corr, errors in both, in the row's unit", source="10.1119/1.1632486"),
    ]
    intercept_error: Annotated[float, error("")]
    slope: Annotated[float, Column("", "b of the same")]
    slope_error: Annotated[float, error("")]
    chi2: Annotated[float, Column("", "χ² of the line")]
    misfit_p_value: Annotated[float, Column("", "probability of such a scatter about the line, were it true")]
    proportional_chi2: Annotated[float, Column("", "χ² with a = 0")]
    proportional_p_value: Annotated[
        float, Column("", "probability of the improvement by the free intercept, were energy ∝ N_corr")
    ]
    test: Annotated[str, Column("", "likelihood ratio where the errors explain the scatter, else F-test")]
    proportional: Annotated[str, Column("", "the answer of the test, in words")]
    verdict: Verdict
    glass_kelvin: Annotated[float, Column("K", "T_g of the model")]
    count_at_glass: Annotated[float, Column("", "N_corr of the line, at the energy of the model at T_g")]
    count_at_glass_error: Annotated[float, Column("", "half the distance of the 16th and 84th percentile of draws")]
    count_at_glass_verdict: Annotated[str, Column("", "ok, or why there is no such number")]


def fit(study: Study, series: Series, fits: Fits) -> None:
    """E, by each definition, and β against each count of one correlator."""
    if not series.correlator:
        return
    end = _energies_at_glass(study, series, fits)
    beta = np.array([_beta(study, k, series) for k in range(len(study.states))], dtype=float).reshape(-1, 2)
    usable = np.isfinite(series.values)
    for definition in definitions_of(study.states, series.group, series.correlator):
        counts, count_errors = counts_of(study.states, series.group, series.correlator, definition)
        key: dict[str, Any] = {
            "correlator": series.correlator,
            "molecules": series.group,
            "count_definition": definition,
        }
        for name, (energy, drawn) in energies_of(series, fits).items():
            mine = usable.copy()
            if name == BY_SLOPE and fits.best.law == "Arrhenius":
                mine[:] = False  # one energy at all temperatures has no slope against anything
            chosen = (counts[mine], energy[mine], count_errors[mine])
            found = line(*chosen, covariance(drawn[:, mine], energy[mine]))
            last = at_glass(*chosen, drawn[:, mine], float(end[name][0]), end[name][1:], study.rng)
            study.add(
                Cooperativity(
                    **key, against=name, law=fits.best.law, **_of_line(found, "kJ/mol"),
                    glass_kelvin=fits.glass_kelvin, count_at_glass=last.count, count_at_glass_error=last.error,
                    count_at_glass_verdict=last.verdict,
                )
            )  # fmt: skip
        found = line(counts[usable], beta[usable, 0], count_errors[usable], beta[usable, 1])
        study.add(
            Cooperativity(
                **key, against=BETA, law="none", **_of_line(found, "1"), glass_kelvin=NAN, count_at_glass=NAN,
                count_at_glass_error=NAN, count_at_glass_verdict="not extrapolated",
            )
        )  # fmt: skip


def _energies_at_glass(study: Study, series: Series, fits: Fits) -> dict[str, Array]:
    """E(T_g) of the best model, followed by that of each draw, by definition, shape (1 + draws,)."""
    found = {}
    for name, draws in ((BY_TAU_INF, fits.draws[fits.best.law][0]), (BY_SLOPE, fits.mixed)):
        given = study.settings.glass_temperature_kelvin
        glass = [one.glass_temperature(series.glass_value) if given is None else fits.glass_kelvin for one in draws]
        models = zip([fits.best, *draws], [fits.glass_kelvin, *glass], strict=True)
        found[name] = np.array(
            [one.energy(np.array(g)) if name == BY_TAU_INF else one.apparent_energy(np.array(g)) for one, g in models],
            dtype=float,
        )
    return found


def _beta(study: Study, k: int, series: Series) -> tuple[float, float]:
    """β of one state, with its error."""
    row = relaxation_of(study.states[k], series.group, series.correlator)
    return (NAN, NAN) if row is None else (row.kww_beta, row.kww_beta_error)


def _of_line(found: Line, unit: str) -> dict[str, Any]:
    """The columns of a line: `unit` is that of intercept and slope."""
    return {
        "states": found.states, "unit": unit, "intercept": found.intercept, "intercept_error": found.intercept_error,
        "slope": found.slope, "slope_error": found.slope_error, "chi2": found.chi2,
        "misfit_p_value": found.misfit_p_value, "proportional_chi2": found.proportional_chi2,
        "proportional_p_value": found.p_value, "test": found.test,
        "proportional": found.proportional, "verdict": found.verdict,
    }  # fmt: skip


def panels(reader: Reader) -> list[Panel]:
    """E(T) and E_app(T) against each count of the first translational correlator that has them."""
    if not all(reader.has(table) for table in ("counts", "energies", "cooperativity")):
        return []
    for name in (n for n in correlator_names(reader, "counts") if "_axis" not in n):
        definitions = dict.fromkeys(reader.get("counts", "definition").tolist())
        found = [_energy_panel(reader, name, one) for one in definitions]
        kept = [panel for panel in found if panel is not None]
        if kept:
            return kept
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
    second = np.flatnonzero(reader.rows("counts", definition=definition, correlator=name, molecules=ALL, verdict=OK))
    one, two = (reader.get(t, "temperature_kelvin")[rows] for t, rows in (("energies", first), ("counts", second)))
    _, here, there = np.intersect1d(one, two, return_indices=True)
    x, x_error = (reader.get("counts", n)[second[there]] for n in ("count", "count_error"))
    y, y_error = (reader.get("energies", n)[first[here]] for n in ("energy_kj_mol", "energy_error_kj_mol"))
    return x, x_error, y, y_error


def _line(reader: Reader, name: str, energy: str, definition: str, x: Values, colour: str) -> tuple[str, list[Curve]]:
    """Legend of the points, with what the tests of the line and of proportion say, and the fitted line."""
    table, label = "cooperativity", energy.split(" = ")[0]
    mine = np.flatnonzero(
        reader.rows(table, correlator=name, against=energy, count_definition=definition, molecules=ALL, verdict=OK)
    )
    if len(mine) == 0:
        return label, []
    names = ("intercept", "slope", "misfit_p_value", "proportional_p_value")
    a, b, misfit, p = (float(reader.get(table, n)[mine[0]]) for n in names)
    grid = np.array([x.min(), x.max()])
    fitted = Curve(f"_{label}, line", grid, a + b * grid, style="dashed", colour=colour)
    return f"{label}; line: p = {misfit:.2g}, proportional: {p:.2g}", [fitted]


def tell(reader: Reader) -> list[Told]:
    """E and β against each count: the line, the test of proportion, the count at T_g."""
    table = reader.tables.get("cooperativity")
    if table is None or "against" not in table or len(table["against"]) == 0:
        return []
    body = [
        (
            f"{table['against'][k]}, {lower(quantity_name(str(table['correlator'][k])))}",
            count_name(str(table["count_definition"][k])),
            cell(table, k, "intercept", "intercept_error", ""), cell(table, k, "slope", "slope_error", ""),
            number_text(table, k, "misfit_p_value"), number_text(table, k, "proportional_p_value"),
            cell(table, k, "count_at_glass", "count_at_glass_error", ""),
            str(table["count_at_glass_verdict"][k]),
        )
        for k in np.flatnonzero((table["molecules"] == ALL) & (table["verdict"] == OK)).tolist()
    ]  # fmt: skip
    fitted = ("intercept", "slope", "p of misfit", "p of y ∝ x")
    header = ("y", "x: number of molecules", *fitted, "x at T_g", "verdict at T_g")
    caption = "Activation energy (kJ/mol) and stretching against each number of correlated molecules: y = a + bx."
    return [Told(caption, header, body)] if body else []


OBSERVABLE = Observable(
    title="activation energy and stretching against numbers of correlated molecules",
    tables=[
        Table(
            "cooperativity", Cooperativity, each="correlator, definition of N_corr, definition of the energy (or β)",
            needs=("correlator", "molecules", "count_definition", "against"), across=True,
        )
    ],
    fit=fit,
    figures=[
        Figure(
            "energy",
            "Activation energy against each number of correlated molecules. Dashed: the line with a free intercept and "
            "errors in both; the legend gives the probability of the law of proportion.",
            panels,
        )
    ],
    tell=tell,
)  # fmt: skip
