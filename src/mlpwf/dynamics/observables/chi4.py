"""Dynamic heterogeneity: the four-point susceptibility χ4(t) of each correlator, the counts at its peak and at τ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from mlpwf.dynamics.columns import Reader, pairs_of_panels
from mlpwf.dynamics.heterogeneity import peak, value_at
from mlpwf.dynamics.observable import Column, Figure, Observable, Table, error
from mlpwf.dynamics.observables.counts import count_of
from mlpwf.dynamics.observables.relaxation import Relaxation
from mlpwf.dynamics.state import Runs, Settings, State
from mlpwf.dynamics.verdicts import OK
from mlpwf.figures import Panel

PEAK = "peak of chi4"


@dataclass(frozen=True)
class Chi4Columns:
    """χ4 of one correlator at one lag."""

    chi4: Annotated[
        float,
        Column(
            "",
            "N [⟨C²⟩ − ⟨C⟩²] about the mean over all origins of all runs, in the ensemble of the row; relative bias "
            "about −1/n for n independent windows",
            source="10.1103/PhysRevE.71.041505",
        ),
    ]
    chi4_error: Annotated[float, error("")]
    chi4_normalised: Annotated[
        float,
        Column("", "chi4/(⟨w²⟩ − ⟨w⟩²): 1 for independent molecules, k for independent blobs of k"),
    ]
    chi4_normalised_error: Annotated[float, error("")]


def measure(state: State, runs: Runs, settings: Settings) -> None:
    """χ4 of each correlator of each group of molecules, and its counts."""
    for row in state.of(Relaxation):
        curves, name = state.curves[row.molecules], row.correlator
        columns = {"chi4": f"chi4_{name}", "normalised chi4": f"n_star_{name}_normalised"}
        numbers = [curves[column + end] for column in columns.values() for end in ("", "_error")]
        for at_lag in zip(*numbers, strict=True):
            state.add(Chi4Columns(*at_lag))
        times = curves["time_ps"]
        for title, column in columns.items():
            values, errors = curves[column], curves[f"{column}_error"]
            top = peak(times, values, errors)
            state.add(count_of(row, f"peak of {title}", top.value, top.error, top.time_ps, state.fault or top.verdict))
            value, spread = value_at(times, values, errors, row.tau_ps)
            verdict = OK if np.isfinite(value) else "no value at tau"
            state.add(count_of(row, f"{title} at tau", value, spread, row.tau_ps, state.fault or verdict))


def panels(reader: Reader) -> list[Panel]:
    """χ4 and normalised χ4 of the translational correlators and of one rotation a rank."""
    return pairs_of_panels(reader, {"chi4": ("χ₄", "χ₄"), "chi4_normalised": ("χ₄/(⟨w²⟩ − ⟨w⟩²)",) * 2})


OBSERVABLE = Observable(
    title="χ4(t)",
    tables=[Table("correlators", Chi4Columns)],
    measure=measure,
    names={
        "peak of …": "largest value over lags of which three fit into the run; noise raises it by about its error",
        "… at tau": "value at τ of the correlator, linear in ln t",
    },
    figures=[
        Figure(
            "chi4",
            "χ₄ by temperature, in the ensemble of the runs, and χ₄/(⟨w²⟩ − ⟨w⟩²), which is 1 for molecules that move "
            "independently and k for independent blobs of k.",
            panels,
        )
    ],
)
