"""What depends on where molecules are to each other: F(q,t), S4 and its length, sub-boxes, van Hove's function."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from mlpwf.analyse.records import OK, Space, State
from mlpwf.config import Analyse

if TYPE_CHECKING:
    from mlpwf.dynamics.trajectory import Index, MolecularTrajectory

log = logging.getLogger(__name__)

ALL = "all"
S4_COUNT = "chi4 at q = 0 by Ornstein-Zernike fit of S4"


def add_space(state: State, trajectory: MolecularTrajectory, lags: Index, settings: Analyse, threads: int) -> Space:
    """Tables in space of one run, and the count that follows from S4; nothing where the box varies or is none."""
    space = Space()
    if not trajectory.constant_box or not np.linalg.det(trajectory.cell) > 0:
        log.info("%s: no constant box, so no F(q,t) and no S4", state.source.name)
        return space
    overlap = state.relaxation_of(ALL, "overlap")
    tau = float(overlap["tau_ps"])
    shortest = tau if np.isfinite(tau) else 0.0
    _coherent(state, trajectory, lags, shortest, settings, threads, space)
    _van_hove(state, trajectory, _lags_near(trajectory, lags, tau), shortest, settings, threads, space)
    peak = next(r for r in state.counts if (r["correlator"], r["definition"]) == ("overlap", "peak of chi4"))
    times = [float(peak["time_ps"])] if np.isfinite(peak["time_ps"]) else []
    if times:
        near = _nearest(trajectory, lags, times[0])
        _four_point(state, trajectory, np.array([near]), shortest, settings, threads, space)
    return space


def _nearest(trajectory: MolecularTrajectory, lags: Index, time_ps: float) -> int:
    return int(lags[np.argmin(np.abs(lags * trajectory.tick_ps - time_ps))])


def _lags_near(trajectory: MolecularTrajectory, lags: Index, tau_ps: float) -> Index:
    """A tenth of τ, τ and three τ; the middle and the last lag where τ is not known."""
    if not np.isfinite(tau_ps):
        return np.unique(lags[[len(lags) // 2, -1]])
    return np.unique([_nearest(trajectory, lags, part * tau_ps) for part in (0.1, 1.0, 3.0)])


def _coherent(
    state: State,
    trajectory: MolecularTrajectory,
    lags: Index,
    tau: float,
    settings: Analyse,
    threads: int,
    space: Space,
) -> None:
    from mlpwf.dynamics.structure import coherent
    from mlpwf.errors import DataError

    for wavevector in settings.wavevectors_per_angstrom:
        try:
            found = coherent(trajectory, lags, wavevector, tau_ps=tau, threads=threads, memory_mb=settings.memory_mb)
        except DataError as error:  # a box too small for this wavevector
            log.info("%s: no F(q,t) at %g 1/Å: %s", state.source.name, wavevector, error)
            continue
        for c, couple in enumerate(found.couples):
            for k, time in enumerate(found.lags_ps):
                space.coherent.append(
                    {
                        **state.key, "species": couple, "wavevector_per_angstrom": found.wavevector,
                        "wavevectors_averaged": found.vectors, "time_ps": time, "value": found.values[k, c],
                        "value_error": found.errors[k, c],
                    }
                )  # fmt: skip


def _van_hove(
    state: State,
    trajectory: MolecularTrajectory,
    lags: Index,
    tau: float,
    settings: Analyse,
    threads: int,
    space: Space,
) -> None:
    from mlpwf.dynamics.vanhove import van_hove

    width = settings.overlap_angstrom / 20
    found = van_hove(trajectory, lags, width, 200 * width, tau_ps=tau, threads=threads, memory_mb=settings.memory_mb)
    for k, time in enumerate(found.lags_ps):
        for g, group in enumerate(found.groups):
            for b, distance in enumerate(found.distances):
                space.van_hove.append(
                    {
                        **state.key, "molecules": group, "time_ps": time, "distance_angstrom": distance,
                        "density_per_angstrom": found.density[k, g, b],
                        "density_error_per_angstrom": found.error[k, g, b],
                    }
                )  # fmt: skip


def _four_point(
    state: State,
    trajectory: MolecularTrajectory,
    lags: Index,
    tau: float,
    settings: Analyse,
    threads: int,
    space: Space,
) -> None:
    from mlpwf.dynamics.structure import four_point_structure, ornstein_zernike

    found = four_point_structure(
        trajectory, lags, overlap_angstrom=settings.overlap_angstrom, tau_ps=tau, threads=threads,
        memory_mb=settings.memory_mb,
    )  # fmt: skip
    relaxation = state.relaxation_of(ALL, "overlap")
    key = {**state.key, "equilibration": relaxation["equilibration"], "molecules": ALL, "correlator": "overlap"}
    for k, time in enumerate(found.lags_ps):
        for s, q in enumerate(found.wavevectors):
            space.s4.append(
                {
                    **key, "time_ps": time, "wavevector_per_angstrom": q, "s4": found.s4[k, s],
                    "s4_error": found.s4_error[k, s], "s4_fluctuation": found.s4_fluctuation[k, s],
                    "s4_fluctuation_error": found.s4_fluctuation_error[k, s],
                }
            )  # fmt: skip
        for d, edge in enumerate(found.edges):
            space.sub_boxes.append(
                {
                    **key, "time_ps": time, "edge_angstrom": edge, "chi4": found.chi4[k, d],
                    "chi4_error": found.chi4_error[k, d],
                }
            )  # fmt: skip
        length = ornstein_zernike(found.wavevectors, found.s4[k], found.s4_error[k])
        verdict = state.source.fault or length.verdict
        space.lengths.append(
            {
                **key, "time_ps": time, "xi4_angstrom": length.xi, "xi4_error_angstrom": length.xi_error,
                "chi4_at_zero": length.chi0, "chi4_at_zero_error": length.chi0_error, "shells": length.points,
                "verdict": verdict,
            }
        )  # fmt: skip
        state.counts.append(
            {
                **key, "independent_windows": relaxation["independent_windows"], "definition": S4_COUNT,
                "count": length.chi0, "count_error": length.chi0_error, "time_ps": time,
                "verdict": verdict if np.isfinite(length.chi0) or verdict != OK else "no fit",
            }
        )  # fmt: skip
