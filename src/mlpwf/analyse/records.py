"""What an analysis reads of a state and what it says of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlpwf.dynamics.trajectory import Array, MolecularTrajectory

Row = dict[str, Any]
NAN = float("nan")
OK = "ok"
EQUILIBRATED = "equilibrated"
TOO_SHORT_TO_TELL = "too short to tell"
NOT_KNOWN = "not known"


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
class Source:
    """One state: how to read each of its runs, and what is known of it.

    Attributes
    ----------
    name, temperature_kelvin, ensemble
        Of the state; the ensemble is nve, nvt or npt, or `not known`.
    runs
        Functions that read one trajectory each.
    inputs
        Files read, for their hashes.
    fault
        Why no number of this state is a liquid's (molecules broke, the run blew up); empty if none.
    energy, stress
        Functions that read the energy and the pressure tensor of each run; empty where there are none.
    heat_capacity_kb
        Heat capacity a molecule in k_B, if given.
    """

    name: str
    temperature_kelvin: float
    ensemble: str
    runs: tuple[Callable[[], MolecularTrajectory], ...]
    inputs: tuple[Path, ...]
    fault: str = ""
    energy: tuple[Callable[[], Energy], ...] = ()
    stress: tuple[Callable[[], Stress], ...] = ()
    heat_capacity_kb: float | None = None


@dataclass
class Space:
    """Rows of these tables."""

    coherent: list[Row] = field(default_factory=list)
    s4: list[Row] = field(default_factory=list)
    sub_boxes: list[Row] = field(default_factory=list)
    lengths: list[Row] = field(default_factory=list)
    van_hove: list[Row] = field(default_factory=list)


@dataclass
class State:
    """What was found of one state; rows are filled further when all states are known.

    Attributes
    ----------
    source
        Where it is from.
    row
        Its row of states.csv.
    motion, curves, relaxation, aging, counts
        Rows of these tables.
    columns
        Curves by group of molecules, as columns over lags.
    space
        Tables in space, of the last run; none without numbers.
    edge_angstrom
        Edge of its box in Å; NaN if that is no cube.
    """

    source: Source
    row: Row
    motion: list[Row] = field(default_factory=list)
    curves: list[Row] = field(default_factory=list)
    relaxation: list[Row] = field(default_factory=list)
    aging: list[Row] = field(default_factory=list)
    counts: list[Row] = field(default_factory=list)
    columns: dict[str, dict[str, Array]] = field(default_factory=dict)
    space: Space | None = None
    edge_angstrom: float = NAN

    @property
    def key(self) -> Row:
        """Columns that every table begins with."""
        return {name: self.row[name] for name in ("state", "temperature_kelvin", "ensemble")}

    def relaxation_of(self, group: str, name: str) -> Row:
        """The row of relaxation.csv of one correlator; empty if there is none."""
        return next((r for r in self.relaxation if (r["molecules"], r["correlator"]) == (group, name)), {})
