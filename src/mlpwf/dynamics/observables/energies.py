"""Activation energies against temperature, by the best model of τ(T) and between neighbouring temperatures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from mlpwf.dynamics.activation import MISFIT, local_energies
from mlpwf.dynamics.columns import Reader
from mlpwf.dynamics.observable import Column, Figure, Observable, Table, Verdict, error
from mlpwf.dynamics.observables.laws import GroupOfSeries, Quantity
from mlpwf.dynamics.series import BY_SLOPE, BY_TAU_INF, Fits, Series, energies_of, energy_errors
from mlpwf.dynamics.state import ALL, Study
from mlpwf.dynamics.verdicts import OK
from mlpwf.figures import PALETTE, Curve, Panel

LOCAL = "E_app(T) between neighbouring temperatures"
NO_LAW = "no law fits"


@dataclass(frozen=True)
class ActivationEnergy:
    """One activation energy of one quantity at one temperature."""

    quantity: Quantity
    molecules: GroupOfSeries
    definition: Annotated[str, Column("", "full name of the definition")]
    law: Annotated[str, Column("", "the model of τ(T) that it is of; none")]
    temperature_kelvin: Annotated[float, Column("K", "of the state; between two, their harmonic mean")]
    energy_kj_mol: Annotated[float, Column("kJ/mol", "activation energy by that definition")]
    energy_error_kj_mol: Annotated[float, error("kJ/mol")]
    verdict: Verdict


def fit(study: Study, series: Series, fits: Fits) -> None:
    """Every energy of one series at every temperature."""
    T, best = series.temperatures, fits.best
    law = f"{best.law} ({best.verdict})" if best.verdict != OK else best.law
    misfit = best.p_value < MISFIT
    columns = {
        (name, law): (T, energy, energy_errors(energy, drawn))
        for name, (energy, drawn) in energies_of(series, fits).items()
    }
    columns[LOCAL, "none"] = local_energies(T, series.values, series.errors)
    for (definition, name), found in columns.items():
        for temperature, energy, spread in np.stack(found, axis=1).tolist():
            verdict = NO_LAW if misfit and definition != LOCAL else OK
            study.add(
                ActivationEnergy(
                    quantity=series.quantity,
                    molecules=series.group,
                    definition=definition,
                    law=name,
                    temperature_kelvin=temperature,
                    energy_kj_mol=energy,
                    energy_error_kj_mol=spread,
                    verdict=verdict if np.isfinite(energy) else "too few states",
                )
            )


def panels(reader: Reader) -> list[Panel]:
    """Every definition of the energy against temperature, a panel for each quantity."""
    if not reader.has("energies"):
        return []
    table, found = "energies", []
    kelvin, energy, spread = (
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
                curves.append(Curve(label, kelvin[mine], energy[mine], spread[mine], style, PALETTE[k]))
        if curves:
            found.append(Panel(reader.name(quantity), reader.label("T", "K"), reader.label("E", "kJ/mol"), curves))
    return found


OBSERVABLE = Observable(
    title="activation energies",
    tables=[
        Table(
            "energies", ActivationEnergy, each="quantity, group of molecules, definition of the energy and temperature",
            needs=("quantity", "molecules", "definition"), across=True,
        )
    ],
    fit=fit,
    names={
        BY_TAU_INF: "τ as measured, τ∞ of the model named; for the parabolic one τ at its onset",
        BY_SLOPE: (
            "of the model named, its error with what other models say, by their weights exp(−ΔAIC/2) (10.2307/2533961)"
        ),
        LOCAL: "Δln τ/Δ(1/T), no model",
    },
    figures=[
        Figure(
            "activation",
            "Activation energies against temperature: E = RT ln(τ/τ∞) and E_app = R dln τ/d(1/T) of the model with the "
            "lowest AICc, and E_app between neighbouring temperatures, which needs no model.",
            panels,
        )
    ],
)  # fmt: skip
