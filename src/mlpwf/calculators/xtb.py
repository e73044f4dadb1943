"""GFN-xTB through tblite: the cheap forces that geometries are relaxed and sampled with.

GFN1-xTB: DOI 10.1021/acs.jctc.7b00118; GFN2-xTB: DOI 10.1021/acs.jctc.8b01176.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import numpy as np
from ase import Atoms

from mlpwf.calculators.ase import AseCalculator
from mlpwf.campaign.accounting import as_engine
from mlpwf.errors import EngineError

METHODS = {"gfn1": "GFN1-xTB", "gfn2": "GFN2-xTB"}
FRICTION_PER_FS = 0.02  # a coupling time of 50 fs: equilibrates intramolecular modes within the runs affordable
_EMPTY = 0.2  # electrons in an orbital that count as none
_HEAVIEST = 86  # radon: the last element the methods have parameters for


def calculator(method: str) -> Any:
    """ASE calculator of an xTB method, silent and on one thread, so that results repeat.

    Parameters
    ----------
    method
        `gfn1` or `gfn2`.

    Raises
    ------
    EngineError
        If the method is unknown or tblite is not installed.
    """
    if method not in METHODS:
        raise EngineError(f"xTB method is '{method}'; expected one of {', '.join(METHODS)}")
    os.environ["OMP_NUM_THREADS"] = "1"  # read when tblite is loaded; Snakemake sets it to the job's threads
    try:
        from tblite.ase import TBLite
    except ImportError as error:
        raise EngineError(f"tblite: cannot be imported ({error}); install it with pip install 'mlpwf[cpu]'") from None
    return TBLite(method=METHODS[method], verbosity=0)


class Xtb(AseCalculator):
    """Labels by the xTB method that `label.engine` names: for practice, not DFT."""

    def ase_calculator(self) -> Any:
        """The method of tblite."""
        return calculator(self.label.engine)

    def version(self) -> str:
        """Version of tblite."""
        return version("tblite")


def supports(numbers: Any) -> bool:
    """Whether the methods have parameters for all these atomic numbers."""
    values = np.asarray(numbers)
    return bool(np.all((values >= 1) & (values <= _HEAVIEST)))


@as_engine()
def partly_filled(atoms: Atoms, method: str) -> int:
    """Orbitals of a molecule in vacuum that hold neither no electron nor two: of closed shells there are none.

    Levels of one energy share their electrons by the methods' 300 K, so that O2 has two orbitals with one electron.

    Raises
    ------
    EngineError
        If the electronic structure cannot be solved.
    """
    from ase.units import Bohr
    from tblite.exceptions import TBLiteRuntimeError
    from tblite.interface import Calculator

    bare = Calculator(METHODS[method], atoms.numbers, atoms.positions / Bohr)
    bare.set("verbosity", 0)
    try:
        filled = np.ravel(bare.singlepoint().get("orbital-occupations"))
    except TBLiteRuntimeError as error:
        raise _failure(method, atoms, error) from None
    return int(np.sum((filled > _EMPTY) & (filled < 2 - _EMPTY)))


@as_engine()
def relax(
    atoms: Atoms,
    method: str,
    *,
    steps: int,
    fmax_ev_angstrom: float = 0.05,
    watch: Callable[[int], None] | None = None,
) -> Atoms:
    """A copy of `atoms` moved downhill (L-BFGS, at most 0.1 Å a step), with no calculator attached.

    Parameters
    ----------
    atoms
        Start; a periodic cell is kept fixed.
    method
        `gfn1` or `gfn2`.
    steps
        Largest number of steps; reaching it is not an error.
    fmax_ev_angstrom
        Force on every atom, in eV/Å, below which the relaxation ends.
    watch
        Called after each evaluation with their number so far, at most `steps` + 1.

    Raises
    ------
    EngineError
        If the electronic structure cannot be solved.
    """
    from ase.calculators.calculator import CalculatorError
    from ase.optimize import LBFGS

    relaxed = atoms.copy()
    relaxed.calc = calculator(method)
    try:
        search = LBFGS(relaxed, maxstep=0.1, logfile=os.devnull)
        if watch is not None:
            search.attach(lambda: watch(search.nsteps + 1))
        search.run(fmax=fmax_ev_angstrom, steps=steps)
    except CalculatorError as error:
        raise _failure(method, relaxed, error) from None
    return _bare(relaxed)


def langevin(
    atoms: Atoms,
    method: str,
    rng: np.random.Generator,
    *,
    temperature_kelvin: float,
    timestep_fs: float,
    starting_kelvin: float | None = None,
) -> Iterator[Atoms]:
    """Langevin dynamics: an endless iterator over its steps.

    Parameters
    ----------
    atoms
        Start; a periodic cell is kept fixed.
    method
        `gfn1` or `gfn2`.
    rng
        Source of the first velocities and of the random forces.
    temperature_kelvin
        Temperature of the thermostat in K.
    timestep_fs
        Time step in fs.
    starting_kelvin
        Temperature in K of the first velocities; None: that of the thermostat.

    Yields
    ------
    Atoms
        A copy after each step, with no calculator and no velocities.

    Raises
    ------
    EngineError
        If the electronic structure cannot be solved.
    """
    from ase import units
    from ase.calculators.calculator import CalculatorError
    from ase.md.langevin import Langevin
    from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

    moving = atoms.copy()
    moving.calc = calculator(method)
    start = temperature_kelvin if starting_kelvin is None else starting_kelvin
    MaxwellBoltzmannDistribution(moving, temperature_K=start, rng=rng)
    dynamics = Langevin(
        moving,
        timestep_fs * units.fs,
        temperature_K=temperature_kelvin,
        friction=FRICTION_PER_FS / units.fs,
        fixcm=False,
        rng=rng,
    )
    while True:
        try:
            with as_engine():
                dynamics.run(1)
        except CalculatorError as error:
            raise _failure(method, moving, error) from None
        yield _bare(moving)


def _bare(atoms: Atoms) -> Atoms:
    copy: Atoms = atoms.copy()
    copy.calc = None
    copy.arrays.pop("momenta", None)
    return copy


def _failure(method: str, atoms: Atoms, error: Exception) -> EngineError:
    reason = " ".join(str(error).split())
    return EngineError(
        f"{METHODS[method]}: no solution for {atoms.get_chemical_formula()} ({reason}); "
        "expected a neutral closed-shell system without clashes: lower build.timestep_fs or the density"
    )
