"""One state read: its runs, passed over once, and their energies and pressure tensors."""

from __future__ import annotations

import logging

import numpy as np

from mlpwf.analyse.records import Source
from mlpwf.dynamics import analysis
from mlpwf.dynamics.correlators import join, pass_moments
from mlpwf.dynamics.moments import Moments
from mlpwf.dynamics.state import Runs, Settings, State
from mlpwf.dynamics.trajectory import Index, choose_lags
from mlpwf.errors import DataError

log = logging.getLogger(__name__)

SAME_INTERVAL = 1e-6  # relative


def measured(source: Source, settings: Settings) -> State:
    """A state with the rows that it alone can tell; without any where it has no runs."""
    state = State(
        name=source.name,
        temperature_kelvin=source.temperature_kelvin,
        ensemble=source.ensemble,
        fault=source.fault,
        heat_capacity_kb=source.heat_capacity_kb,
    )
    if source.runs:
        analysis.measure(state, read_runs(source, settings), settings)
    return state


def read_runs(source: Source, settings: Settings) -> Runs:
    """The runs of a state, one after the other, at the lags of the first.

    Raises
    ------
    DataError
        If the runs are not written alike, or a file is not what it should be.
    """
    found: list[Moments] = []
    lags: Index = np.empty(0, dtype=np.int64)
    tick = 0.0
    for number, read in enumerate(source.runs):
        trajectory = read()
        if not len(lags):
            lags, tick = choose_lags(trajectory.ticks, maximum=settings.lags), trajectory.tick_ps
        elif abs(trajectory.tick_ps / tick - 1) > SAME_INTERVAL:
            raise DataError(
                f"{source.name}: run {number + 1} has its frames {trajectory.tick_ps:g} ps apart, the first run "
                f"{tick:g} ps; expected runs of one state to be written alike"
            )
        log.info("%s: %d frames of %d molecules", source.name, len(trajectory.ticks), trajectory.molecules)
        found.append(
            pass_moments(
                trajectory, lags, settings.wavevectors_per_angstrom, settings.overlap_angstrom,
                settings.legendre_orders, settings.threads, settings.memory_mb,
            )
        )  # fmt: skip
    energies = tuple(read() for read in source.energy)
    stresses = tuple(read() for read in source.stress)
    return Runs(join(found), trajectory, lags, energies, stresses)
