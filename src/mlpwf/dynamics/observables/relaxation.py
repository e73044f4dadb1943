"""Relaxation of each correlator: τ, stretched exponential, and the tests of equilibrium, τ against waiting time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from mlpwf.dynamics.aging import waiting_time_test, waiting_times
from mlpwf.dynamics.columns import Reader, by_temperature, lower, of_correlator, principal_correlators
from mlpwf.dynamics.moments import Moments
from mlpwf.dynamics.observable import (
    Column,
    Correlator,
    Equilibrium,
    Figure,
    Line,
    Molecules,
    Observable,
    Table,
    Verdict,
    Windows,
    error,
)
from mlpwf.dynamics.observables.energy import EnergyColumns
from mlpwf.dynamics.relaxation import TOO_FAST, curves_left_out, relaxation_time, stretched_exponential
from mlpwf.dynamics.series import Point, Series, series_of
from mlpwf.dynamics.state import NAN, Runs, Settings, State, Study
from mlpwf.dynamics.uncertainty import compare_halves, independent_windows
from mlpwf.dynamics.verdicts import EQUILIBRATED, NOT_KNOWN, OK, TOO_SHORT_TO_TELL
from mlpwf.figures import Panel

PS_PER_S = 1e12


@dataclass(frozen=True)
class Relaxation:
    """Relaxation of one correlator of one group of molecules."""

    molecules: Molecules
    number_of_molecules: Annotated[int, Column("", "number of these molecules")]
    correlator: Correlator
    equilibration: Equilibrium
    independent_windows: Windows
    tau_ps: Annotated[float, Column("ps", "C(τ) = 1/e, ln(−ln C) interpolated in ln t")]
    tau_error_ps: Annotated[float, Column("ps", "standard error of τ, with what lies between the lags")]
    tau_verdict: Verdict
    kww_tau_ps: Annotated[float, Column("ps", "τ of A exp[−(t/τ)^β], fitted to C between 0.9 and 0.02")]
    kww_tau_error_ps: Annotated[float, error("ps")]
    kww_beta: Annotated[float, Column("", "β of the same")]
    kww_beta_error: Annotated[float, error("")]
    kww_amplitude: Annotated[float, Column("", "A of the same")]
    kww_mean_ps: Annotated[
        float, Column("ps", "mean time τ/β Γ(1/β) of the stretched exponential", source="10.1039/TF9706600080")
    ]
    kww_mean_error_ps: Annotated[float, error("ps")]
    kww_verdict: Verdict
    aging_ln_tau_over_run: Annotated[
        float, Column("", "growth of ln τ over the whole run, from a line through τ(waiting time) of windows")
    ]
    aging_ln_tau_over_run_error: Annotated[float, error("")]
    aging_p_value: Annotated[float, Column("", "probability of a trend at least this large in equilibrium")]
    aging_verdict: Annotated[
        str, Column("", "equilibrated; aging (τ grows); drifting (τ falls, as after heating); too short to tell")
    ]
    halves_score: Annotated[
        float, Column("", "C near τ in the second half of the origins less that in the first, in standard errors")
    ]
    halves_verdict: Annotated[
        str, Column("", "equilibrated, or slower or faster in the second half (3 standard errors); too short to tell")
    ]


@dataclass(frozen=True)
class Waiting:
    """τ of one window of time origins."""

    molecules: Molecules
    correlator: Correlator
    waiting_ps: Annotated[float, Column("ps", "waiting time: middle of the window, since the start of its run")]
    tau_ps: Annotated[float, Column("ps", "C(τ) = 1/e, from the origins in the window alone")]
    tau_error_ps: Annotated[float, error("ps")]


def measure(state: State, runs: Runs, settings: Settings) -> None:
    """Relaxation and τ against waiting time of each correlator of each group of molecules."""
    for group in runs.moments.groups:
        for name in runs.moments.names:
            _measure(state, runs.moments, group, name, settings.blocks)


def _measure(state: State, moments: Moments, group: str, name: str, blocks: int) -> None:
    curves, shortest = state.curves[group], float(moments.runs_ps.min())
    times = curves["time_ps"]
    relaxation = relaxation_time(times, curves[name], curves[f"{name}_error"], shortest)
    stretched = stretched_exponential(times, curves[name], curves_left_out(moments, name, group, blocks))
    waiting = waiting_times(moments, name, group)
    trend = waiting_time_test(waiting.waiting_ps, waiting.times_ps, shortest)
    halves = compare_halves(moments, name, group)
    windows = NAN
    if np.isfinite(relaxation.tau_ps):
        near = int(np.argmin(np.abs(np.log(times / relaxation.tau_ps))))
        windows = independent_windows(moments, near, relaxation.tau_ps)
    energy = state.one(EnergyColumns).energy_verdict
    state.add(
        Relaxation(
            molecules=group,
            number_of_molecules=int(moments.molecules[moments.group(group)]),
            correlator=name,
            equilibration=state.fault or equilibration(relaxation.verdict, trend.verdict, halves.verdict, energy),
            independent_windows=windows,
            tau_ps=relaxation.tau_ps,
            tau_error_ps=relaxation.error_ps,
            tau_verdict=state.fault or relaxation.verdict,
            kww_tau_ps=stretched.tau_ps,
            kww_tau_error_ps=stretched.tau_error_ps,
            kww_beta=stretched.beta,
            kww_beta_error=stretched.beta_error,
            kww_amplitude=stretched.amplitude,
            kww_mean_ps=stretched.mean_ps,
            kww_mean_error_ps=stretched.mean_error_ps,
            kww_verdict=state.fault or stretched.verdict,
            aging_ln_tau_over_run=trend.rate,
            aging_ln_tau_over_run_error=trend.rate_error,
            aging_p_value=trend.p_value,
            aging_verdict=trend.verdict,
            halves_score=halves.score,
            halves_verdict=halves.verdict,
        )
    )
    for middle, tau, spread in zip(waiting.waiting_ps, waiting.times_ps, waiting.errors_ps, strict=True):
        state.add(Waiting(molecules=group, correlator=name, waiting_ps=middle, tau_ps=tau, tau_error_ps=spread))


def equilibration(tau: str, trend: str, halves: str, energy: str) -> str:
    """The verdict on a correlator: the first thing that speaks against equilibrium.

    Parameters
    ----------
    tau, trend, halves, energy
        Verdicts on the relaxation time, on τ against waiting time, on the halves of the run, on the energy.
    """
    if tau not in (OK, TOO_FAST):
        return tau
    for verdict in (trend, halves, energy):
        if verdict not in (EQUILIBRATED, TOO_SHORT_TO_TELL, NOT_KNOWN):
            return verdict
    return EQUILIBRATED if EQUILIBRATED in (trend, halves) else TOO_SHORT_TO_TELL


def relaxation_of(state: State, group: str, name: str) -> Relaxation | None:
    """The row of one correlator of one group of molecules; None if there is none."""
    return next((row for row in state.of(Relaxation) if (row.molecules, row.correlator) == (group, name)), None)


def relaxed(state: State, group: str, name: str) -> Relaxation:
    """The same, of a correlator that the state has."""
    row = relaxation_of(state, group, name)
    assert row is not None, (group, name)
    return row


def series(study: Study) -> list[Series]:
    """τ of every correlator of every group of molecules."""
    pairs = dict.fromkeys((row.molecules, row.correlator) for state in study.states for row in state.of(Relaxation))
    glass_ps = study.settings.glass_time_s * PS_PER_S
    found = []
    for group, name in pairs:
        rows = [relaxation_of(state, group, name) for state in study.states]
        points = [
            Point(row.tau_ps, row.tau_error_ps, row.tau_verdict, row.equilibration) if row else Point() for row in rows
        ]
        found.append(series_of(f"tau_{name}_ps", study.temperatures, points, glass_ps, group, name))
    return found


def aging_panels(reader: Reader) -> list[Panel]:
    """τ against waiting time, of the translational correlators and of one rotation a rank."""
    if not reader.has("aging"):
        return []
    found = [
        by_temperature(
            reader, "aging", "tau_ps", f"Waiting time, {lower(reader.name(name))}", reader.label("τ", "ps"),
            of_correlator(reader, "aging", name), x="waiting_ps", x_label=reader.label("waiting time", "ps"),
            x_log=False, y_log=True, error="tau_error_ps", style="both",
        )
        for name in principal_correlators(reader, "correlators")
    ]  # fmt: skip
    return [panel for panel in found if panel]


OBSERVABLE = Observable(
    title="relaxation times and tests of equilibrium",
    tables=[
        Table(
            "relaxation", Relaxation, each="group of molecules and correlator",
            needs=("temperature_kelvin", "molecules", "correlator", "tau_ps"),
        ),
        Table(
            "aging", Waiting, each="group of molecules, correlator and window of waiting time",
            needs=("temperature_kelvin", "molecules", "correlator", "waiting_ps", "tau_ps"),
        ),
    ],
    measure=measure,
    series=series,
    names={
        "overlap": "C = ⟨Θ(a − |Δr|)⟩, a: overlap_angstrom of the settings (10.1063/1.1605094)",
        "fs_qQ": "C = ⟨sin(Qr)/(Qr)⟩, Q in 1/Å: self-intermediate scattering function",
        "cL_axisA": "C = ⟨P_L(u(0)·u(t))⟩ of axis A",
    },
    figures=[
        Figure(
            "aging",
            "Relaxation times of windows of origins against the waiting time: level where a state is in equilibrium.",
            aging_panels,
        )
    ],
    lines=[
        Line("τ, {}, ps", "relaxation", "tau_ps", "tau_error_ps", "tau_verdict"),
        Line("β, {}", "relaxation", "kww_beta", "kww_beta_error", "kww_verdict"),
        Line("in equilibrium by {}?", "relaxation", "equilibration"),
    ],
)  # fmt: skip
