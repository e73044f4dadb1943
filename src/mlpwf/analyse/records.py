"""A state as it is found: how to read its runs, and what is known of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlpwf.dynamics.state import Energy, Stress
    from mlpwf.dynamics.trajectory import MolecularTrajectory


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
