"""D3(BJ) by simple-dftd3: what pw.x must print for a structure, and prints for no other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.units import Bohr
from numpy.typing import NDArray

from mlpwf.config.label import Label

KBAR_PER_RY_BOHR3 = 147105.08


@dataclass(frozen=True)
class Dispersion:
    """D3 energy in Ry, forces (atoms, 3) in Ry/bohr and stress (3, 3) in kbar, of the sign pw.x prints."""

    energy: float
    forces: NDArray[np.float64]
    stress: NDArray[np.float64]


def dispersion(atoms: Atoms, label: Label) -> Dispersion:
    """D3(BJ) of `label`'s functional by simple-dftd3, with the cut-offs of pw.x.

    DOI 10.21105/joss.07169. pw.x prints the same energy to 1e-8 Ry and 2e-7 of it.
    """
    from dftd3.interface import DispersionModel, RationalDampingParam

    model = DispersionModel(atoms.numbers, atoms.positions / Bohr, atoms.cell.array / Bohr, np.array([True] * 3))
    model.set_realspace_cutoff(disp2=float(np.sqrt(9000.0)), disp3=40.0, cn=40.0)
    damping = RationalDampingParam(method=label.functional, atm=label.dispersion_threebody)
    found = model.get_dispersion(damping, grad=True)
    stress = -2.0 * found["virial"] / (atoms.get_volume() / Bohr**3) * KBAR_PER_RY_BOHR3
    return Dispersion(2.0 * float(found["energy"]), -2.0 * found["gradient"], stress)


def other_energy(printed: float, expected: float, label: Label) -> str | None:
    """Why a printed D3 energy in Ry is not the expected one; None if it is.

    pw.x tells neither damping nor three-body term in words.
    """
    if abs(printed - expected) <= 2e-8 + 1e-6 * abs(expected):
        return None
    three = "with" if label.dispersion_threebody else "without"
    return f"D3 energy is {printed:.8f} Ry, {expected:.8f} expected of D3(BJ) {three} the three-body term"
