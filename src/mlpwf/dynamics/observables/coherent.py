"""Coherent scattering F(q,t) of the centres over the q-points that fit the box."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from mlpwf.dynamics.columns import Reader, by_temperature, correlator_names
from mlpwf.dynamics.observable import Column, Figure, Observable, Table, TimeSinceOrigin, error
from mlpwf.dynamics.observables.relaxation import relaxed
from mlpwf.dynamics.state import ALL, Runs, Settings, State
from mlpwf.dynamics.structure import coherent
from mlpwf.errors import DataError
from mlpwf.figures import Panel

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scattering:
    """F(q,t) of one couple of species at one lag."""

    species: Annotated[str, Column("", "all molecules, or a couple of species")]
    wavevector_per_angstrom: Annotated[float, Column("1/Å", "mean modulus of the q-points")]
    wavevectors_averaged: Annotated[int, Column("", "number of q-points")]
    time_ps: TimeSinceOrigin
    value: Annotated[
        float,
        Column("", "F_ab(q,t) = ⟨ρ_a(q,t) ρ_b*(q,0)⟩/√(N_a N_b) of the centres, over the q-points nearest to q"),
    ]
    value_error: Annotated[float, error("")]


def measure(state: State, runs: Runs, settings: Settings) -> None:
    """F(q,t) of the last run of a state, for each wavevector that fits its box."""
    if not runs.trajectory.has_constant_box:
        log.info("%s: no constant box, so no F(q,t) and no S4", state.name)
        return
    tau = relaxed(state, ALL, "overlap").tau_ps
    for wavevector in settings.wavevectors_per_angstrom:
        try:
            found = coherent(
                runs.trajectory, runs.lags, wavevector, tau_ps=tau if np.isfinite(tau) else 0.0,
                threads=settings.threads, memory_mb=settings.memory_mb,
            )  # fmt: skip
        except DataError as reason:  # a box too small for this wavevector
            log.info("%s: no F(q,t) at %g 1/Å: %s", state.name, wavevector, reason)
            continue
        for c, couple in enumerate(found.couples):
            for time, value, spread in zip(found.lags_ps, found.values[:, c], found.errors[:, c], strict=True):
                state.add(Scattering(couple, found.wavevector, found.vectors, time, value, spread))


def panels(reader: Reader) -> list[Panel]:
    """F_ab(q,t), a panel for each wavevector asked for and couple of species."""
    table = "coherent"
    if not reader.has(table) or not reader.has("correlators"):
        return []
    asked = np.array([float(name[4:]) for name in correlator_names(reader) if name.startswith("fs_q")])
    found = []
    # the q-points that fit a box are near those asked for, and a little different in each
    nearest = np.abs(reader.get(table, "wavevector_per_angstrom")[:, None] - asked).argmin(axis=1)
    for k, wavevector in enumerate(asked):
        for couple in dict.fromkeys(reader.get(table, "species").tolist()):
            of = "" if couple == ALL else f" of {couple}"
            title = f"F(q ≈ {reader.label(f'{wavevector:g}', 'Å⁻¹').replace(',', '')}, t){of}"
            chosen = reader.rows(table, species=couple) & (nearest == k)
            found.append(by_temperature(reader, table, "value", title, "F(q,t)", chosen))
    return [panel for panel in found if panel]


OBSERVABLE = Observable(
    title="coherent scattering",
    tables=[
        Table(
            "coherent", Scattering, each="couple of species, wavevector and lag, of the last run of a state",
            needs=("temperature_kelvin", "species", "wavevector_per_angstrom", "time_ps", "value"),
        )
    ],
    measure=measure,
    figures=[
        Figure(
            "coherent",
            "Coherent scattering F(q,t) of the centres over the q-points that fit the box, in the last run of a "
            "state. It starts from the structure factor S(q), where self-scattering starts from 1.",
            panels,
        )
    ],
)  # fmt: skip
