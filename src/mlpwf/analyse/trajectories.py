"""Trajectories of any origin as sources."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlpwf.analyse.records import Source
from mlpwf.config import load_yaml
from mlpwf.config.trajectories import Trajectories, TrajectoryState
from mlpwf.dynamics.opening import open_universe
from mlpwf.dynamics.state import Energy, Stress
from mlpwf.dynamics.trajectory import MolecularTrajectory
from mlpwf.dynamics.universe import read_molecules
from mlpwf.errors import ConfigError, DataError
from mlpwf.units import BOLTZMANN_EV_K

log = logging.getLogger(__name__)

TENSOR = ("xx", "yy", "zz", "xy", "xz", "yz")
EVEN = 1e-3  # relative: how evenly the rows of a pressure tensor must be spaced


def load_trajectories(path: Path) -> Trajectories:
    """Read the file of `--states`; its paths are relative to it.

    Raises
    ------
    ConfigError
        With the key, the value found and what is expected.
    """
    found = load_yaml(Trajectories, path)
    states = [_in_folder(state, path.parent) for state in found.states]
    return found.model_copy(update={"states": states})


def _in_folder(state: TrajectoryState, folder: Path) -> TrajectoryState:
    """A state whose paths are relative to a folder."""
    runs = [[folder / one for one in item] if isinstance(item, list) else folder / item for item in state.trajectories]
    changed = {
        "topology": folder / state.topology,
        "trajectories": runs,
        "energy": [folder / one for one in state.energy],
        "stress": [folder / one for one in state.stress],
    }
    return state.model_copy(update=changed)


def trajectory_sources(settings: Trajectories) -> list[Source]:
    """One source a state, in order of temperature.

    Raises
    ------
    ConfigError
        For two states of one temperature, or a file that is not there.
    """
    states = sorted(settings.states, key=lambda state: state.temperature_kelvin)
    for lower, upper in pairwise(states):
        if lower.temperature_kelvin == upper.temperature_kelvin:
            raise ConfigError(
                f"two states at {lower.temperature_kelvin:g} K; expected all runs of a temperature in one state"
            )
    return [_source(state, settings) for state in states]


def _source(state: TrajectoryState, settings: Trajectories) -> Source:
    runs = [[item] if isinstance(item, Path) else item for item in state.trajectories]
    inputs = [state.topology, *(path for run in runs for path in run), *state.energy, *state.stress]
    for path in inputs:
        if not path.is_file():
            raise ConfigError(f"{path}: no such file; expected a file of the state at {state.temperature_kelvin:g} K")
    unit = "" if settings.units == "reduced" else "K"
    return Source(
        name=state.name or f"{state.temperature_kelvin:g}{unit}",
        temperature_kelvin=state.temperature_kelvin,
        ensemble=state.ensemble,
        runs=tuple(partial(_read, state, run, settings) for run in runs),
        inputs=tuple(dict.fromkeys(inputs)),
        energy=tuple(partial(_energy, path, settings.units == "reduced") for path in state.energy),
        stress=tuple(partial(_stress, path) for path in state.stress),
        heat_capacity_kb=state.heat_capacity_kb,
    )


def _read(state: TrajectoryState, files: Sequence[Path], settings: Trajectories) -> MolecularTrajectory:
    universe = open_universe(
        state.topology, files, lammps_units=settings.lammps_units, reduced=settings.units == "reduced"
    )
    try:
        return read_molecules(
            universe,
            settings.molecules,
            select=settings.select,
            axes=settings.axes,
            masses=settings.masses,
            timestep_ps=None if settings.timestep_fs is None else settings.timestep_fs * 1e-3,
            interval_ps=settings.interval_ps,
            start=settings.skip_frames,
            constant_box=state.ensemble != "npt",
            memory_mb=settings.analyse.memory_mb,
        )
    finally:
        universe.trajectory.close()


def _table(path: Path, columns: Sequence[str]) -> NDArray[np.float64]:
    """Columns of a CSV as float64, shape (rows, columns)."""
    try:
        table = pd.read_csv(path)
        missing = [name for name in columns if name not in table]
        if missing:
            raise DataError(f"{path}: column {missing[0]} is missing; expected {', '.join(columns)}")
        values: NDArray[np.float64] = table[list(columns)].to_numpy(dtype=float)
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a CSV of numbers ({' '.join(str(error).split())})") from None
    if not np.isfinite(values).all() or len(values) < 2:
        raise DataError(f"{path}: {len(values)} rows, some NaN or too few; expected finite numbers")
    return values


def _energy(path: Path, reduced: bool) -> Energy:
    times, energy = _table(path, ("time_ps", "total_ev")).T
    if np.any(np.diff(times) <= 0):
        raise DataError(f"{path}: times do not increase; expected the rows in order, each time once")
    return Energy(times, energy * BOLTZMANN_EV_K if reduced else energy)


def _stress(path: Path) -> Stress:
    table = _table(path, ("time_ps", *TENSOR))
    steps = np.diff(table[:, 0])
    if np.any(steps <= 0) or np.ptp(steps) > EVEN * steps.mean():
        raise DataError(f"{path}: times are not evenly spaced; expected one interval throughout")
    return Stress(table[:, 1:], float(steps.mean()), None)
