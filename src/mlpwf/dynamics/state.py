"""What an analysis is asked for, what it reads of a state, and the rows in which it keeps what it measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from mlpwf.dynamics.moments import Moments
from mlpwf.dynamics.trajectory import Array, Index, MolecularTrajectory

NAN = float("nan")
ALL = "all"
"""The group of all molecules."""

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Settings:
    """What an analysis is asked for: the section `analyse`, and how it is run.

    Attributes
    ----------
    wavevectors_per_angstrom
        Moduli q in 1/Å.
    overlap_angstrom
        Length a of the overlap in Å.
    legendre_orders
        Ranks l of the rotational correlators.
    lags, blocks
        Maximum number of lags, and of blocks for an error.
    excess_heat_capacity_kb
        Δc_P in k_B a molecule, if given.
    glass_temperature_kelvin
        T_g in K, if given.
    glass_time_s, glass_viscosity_pa_s
        Relaxation time in s and viscosity in Pa s at T_g.
    bootstrap
        Draws for the errors of fits.
    memory_mb
        Memory for frames in MiB.
    seed, threads
        Seed of the draws; threads of the passes over pairs of frames.
    reduced
        Whether units are reduced: k_B = 1.
    """

    wavevectors_per_angstrom: Sequence[float]
    overlap_angstrom: float
    legendre_orders: Sequence[int]
    lags: int
    blocks: int
    excess_heat_capacity_kb: float | None
    glass_temperature_kelvin: float | None
    glass_time_s: float
    glass_viscosity_pa_s: float
    bootstrap: int
    memory_mb: float
    seed: int = 0
    threads: int = 1
    reduced: bool = False


@dataclass(frozen=True)
class Energy:
    """Total energy of the box in eV at times in ps, both of shape (n,)."""

    times_ps: Array
    total_ev: Array


@dataclass(frozen=True)
class Stress:
    """Pressure tensor in bar, shape (n, 6: xx, yy, zz, xy, xz, yz), at an even interval in ps; volume in Å³."""

    pressure_bar: Array
    interval_ps: float
    volume_angstrom3: float | None


@dataclass(frozen=True)
class Runs:
    """What was simulated of one state; it is dropped when the state has been measured.

    Attributes
    ----------
    moments
        Sums over pairs of frames, of all runs.
    trajectory, lags
        Molecules in time of the last run, and the lags in its ticks, shape (L,).
    energies, stresses
        Of each run; empty where they are not known.
    """

    moments: Moments
    trajectory: MolecularTrajectory
    lags: Index
    energies: Sequence[Energy] = ()
    stresses: Sequence[Stress] = ()


class Rows:
    """Rows of tables, by their type."""

    rows: dict[type, list[Any]]

    def add(self, row: object) -> None:
        """Keep a row of a table."""
        self.rows.setdefault(type(row), []).append(row)

    def of(self, kind: type[Kind]) -> list[Kind]:
        """All rows of one type, in order."""
        return self.rows.get(kind, [])


@dataclass
class State(Rows):
    """One state of the liquid and the rows measured of it, by their type.

    Attributes
    ----------
    name, temperature_kelvin, ensemble
        The ensemble is nve, nvt or npt, or `not known`.
    fault
        Why no number of this state is the liquid's (molecules broke, the run blew up); empty if none.
    heat_capacity_kb
        Heat capacity a molecule in k_B, if given.
    edge_angstrom
        Edge of its box in Å; NaN if that is no cube.
    curves
        Columns over lags by group of molecules, see `correlators.averages` and `heterogeneity.four_point`; empty for
        a state without a trajectory.
    rows
        Rows of the tables, by their type.
    """

    name: str
    temperature_kelvin: float
    ensemble: str
    fault: str = ""
    heat_capacity_kb: float | None = None
    edge_angstrom: float = NAN
    curves: dict[str, dict[str, Array]] = field(default_factory=dict)
    rows: dict[type, list[Any]] = field(default_factory=dict)

    def one(self, kind: type[Kind]) -> Kind:
        """The only row of a type that has one row a state."""
        (row,) = self.of(kind)
        return row

    @property
    def measured(self) -> bool:
        """Whether there is a trajectory, and so there are numbers."""
        return bool(self.curves)


@dataclass
class Study(Rows):
    """All states, coldest first, and the rows of the tables that need several of them."""

    every: Sequence[State]
    settings: Settings
    rows: dict[type, list[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.settings.seed)

    @property
    def states(self) -> list[State]:
        """The states that have numbers."""
        return [state for state in self.every if state.measured]

    @property
    def temperatures(self) -> Array:
        """Temperatures of `states` in K, shape (states,)."""
        return np.array([state.temperature_kelvin for state in self.states], dtype=float)


Measure = Callable[[State, Runs, Settings], None]
Compare = Callable[[Study], None]
