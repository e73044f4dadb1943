"""χ4 and S4 by other packages, on arrays in memory: each call returns its cost and what it found.

    pip install -e ".[bench]"       # atooms-pp's Fortran also wants gfortran

Each package's own containers are filled first, off the clock, so that no file is read; what is timed is the
call that computes. Their definitions, where they are not ours, stand with each function.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

Cost = tuple[float, float]
Timed = Callable[[Callable[[], Any], int], tuple[Cost, Any]]
BOLTZMANN_EV_K = 8.617333262e-5
KELVIN = 300.0  # cancels: fastatomstruct multiplies by 1/(k_B T)


def atooms_trajectory(centres: np.ndarray, edge: float) -> Any:
    """Its trajectory in memory; it takes its unfolded positions from the shortest ways between frames."""
    from atooms.trajectory.ram import TrajectoryRam

    return TrajectoryRam({"particle.position": centres, "cell.side": np.full((len(centres), 3), edge)})


def atooms_chi4(trajectory: Any, lags: np.ndarray, overlap: float, fortran: bool, timed: Timed) -> tuple[Cost, Any]:
    """N [⟨C²⟩ − ⟨C⟩²], as ours; the plain class is NumPy, the optimised one Fortran."""
    from atooms.postprocessing.chi4t import Chi4SelfOverlap, Chi4SelfOverlapOptimized

    kind = Chi4SelfOverlapOptimized if fortran else Chi4SelfOverlap

    def prepared() -> Any:
        correlation = kind(trajectory, lags.astype(float), a=overlap)
        correlation._setup_arrays(cache=True)
        return correlation

    ready = [prepared() for _ in range(2)]
    cost, found = timed(lambda: _computed(ready.pop()), 2)
    return cost, np.array(found.value)


def atooms_s4(trajectory: Any, lag: int, overlap: float, vectors: np.ndarray, timed: Timed) -> tuple[Cost, np.ndarray]:
    """(⟨|W|²⟩ − |⟨W⟩|²)/N of each wavevector, W = Σ w exp(iq·r(0)).

    Over a shell of several wavevectors it adds their ⟨W⟩ before it squares them, which is no S4: so each
    wavevector is a shell of its own here.
    """
    from atooms.postprocessing.s4kt import S4ktOverlap

    correlation = S4ktOverlap(trajectory, [float(lag)], kvectors=[[v] for v in vectors], a=overlap)
    correlation._setup_arrays(cache=True)
    cost, found = timed(lambda: _computed(correlation), 1)
    return cost, np.array(found.value[0])


def _computed(correlation: Any) -> Any:
    correlation.compute()
    return correlation


def pymattersim(centres: np.ndarray, edge: float, overlap: float) -> Any:
    """Its dynamics of snapshots in memory."""
    from PyMatterSim.dynamic.dynamics import Dynamics
    from PyMatterSim.reader.reader_utils import SingleSnapshot, Snapshots

    side, kinds = np.full(3, edge), np.ones(centres.shape[1], dtype=int)
    bounds = np.array([[0.0, edge]] * 3)
    snapshots = [
        SingleSnapshot(k, len(kinds), kinds, frame, side, bounds, bounds, np.diag(side))
        for k, frame in enumerate(centres)
    ]
    return Dynamics(xu_snapshots=Snapshots(len(snapshots), snapshots), dt=1.0, ppp=np.zeros(3, dtype=int), a=overlap)


def pymattersim_chi4(dynamics: Any, lags: np.ndarray, timed: Timed) -> tuple[Cost, np.ndarray]:
    """N [⟨C²⟩ − ⟨C⟩²], as ours, at every lag, with F_s, MSD and α2."""
    cost, found = timed(lambda: dynamics.relaxation(qconst=1.3), 1)
    return cost, found["X4_Qt"].to_numpy()[lags - 1]


def pymattersim_s4(dynamics: Any, lag: int, longest: float, timed: Timed) -> tuple[Cost, float]:
    """⟨|W|²/Σw⟩ of the smallest wavevectors: by the number of molecules that stayed in each frame, not by N."""
    cost, found = timed(lambda: dynamics.sq4(float(lag), qrange=longest), 1)
    return cost, float(found[found["q"] > 0].sort_values("q")["Sq"].iloc[0])


def fastatomstruct_chi4(centres: np.ndarray, edge: float, overlap: float, timed: Timed) -> tuple[Cost, np.ndarray]:
    """V/(k_B T N²) [⟨Q²⟩ − ⟨Q⟩²] of Q = Σ w at every lag, brought to our N [⟨C²⟩ − ⟨C⟩²]; the self part."""
    os.environ["FASTATOMSTRUCT_NO_TELEMETRY"] = "1"  # on by default: it would send each call's name, size and time
    import fastatomstruct
    from ase import Atoms

    molecules = centres.shape[1]
    frames = [Atoms(f"Ar{molecules}", positions=frame, cell=[edge] * 3, pbc=True) for frame in centres]
    axis = fastatomstruct.TimeAxis.Linear(1.0 * fastatomstruct.units.ps)
    call = fastatomstruct.analysis.four_point.fourpoint_susceptibility_self
    cost, (_, found) = timed(lambda: call(frames, overlap, KELVIN, axis), 1)
    return cost, np.asarray(found) * BOLTZMANN_EV_K * KELVIN * molecules / edge**3
