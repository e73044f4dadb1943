"""D3(BJ) by simple-dftd3: what pw.x must print for a structure, and prints for no other."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.units import Bohr, Hartree

from mlpwf.config.label import Label
from mlpwf.structures.properties import Properties


def dispersion(atoms: Atoms, label: Label) -> Properties:
    """D3(BJ) of `label`'s functional by simple-dftd3, with the cut-offs of pw.x.

    DOI 10.21105/joss.07169. pw.x prints the same energy to 1e-8 Ry and 2e-7 of it.
    """
    from dftd3.interface import DispersionModel, RationalDampingParam

    model = DispersionModel(atoms.numbers, atoms.positions / Bohr, atoms.cell.array / Bohr, np.array([True] * 3))
    model.set_realspace_cutoff(disp2=float(np.sqrt(9000.0)), disp3=40.0, cn=40.0)
    damping = RationalDampingParam(method=label.functional, atm=label.dispersion_threebody)
    found = model.get_dispersion(damping, grad=True)
    volume = float(atoms.get_volume())
    stress = found["virial"] * Hartree / volume  # what simple-dftd3 calls virial is dE/d(strain)
    return Properties(float(found["energy"]) * Hartree, -found["gradient"] * Hartree / Bohr, stress, volume)


def other_energy(printed: float, expected: float, label: Label) -> str | None:
    """Why a printed D3 energy is not the expected one, both in Ry; None if it is.

    pw.x tells neither damping nor three-body term in words.
    """
    if abs(printed - expected) <= 2e-8 + 1e-6 * abs(expected):
        return None
    three = "with" if label.dispersion_threebody else "without"
    return f"D3 energy is {printed:.8f} Ry, {expected:.8f} expected of D3(BJ) {three} the three-body term"
