"""D3(BJ) energies by simple-dftd3: what pw.x must print for a structure, and prints for no other."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.units import Bohr

from mlpwf.config.label import Label


def dispersion_ry(atoms: Atoms, label: Label) -> float:
    """D3(BJ) energy of `label`'s functional in Ry by simple-dftd3, with the cut-offs of pw.x.

    DOI 10.21105/joss.07169. pw.x prints the same to 1e-8 Ry and 2e-7 of it.
    """
    from dftd3.interface import DispersionModel, RationalDampingParam

    model = DispersionModel(atoms.numbers, atoms.positions / Bohr, atoms.cell.array / Bohr, np.array([True] * 3))
    model.set_realspace_cutoff(disp2=float(np.sqrt(9000.0)), disp3=40.0, cn=40.0)
    damping = RationalDampingParam(method=label.functional, atm=label.dispersion_threebody)
    return 2.0 * float(model.get_dispersion(damping, grad=False)["energy"])


def other_dispersion(printed: float, atoms: Atoms, label: Label) -> str | None:
    """Why a printed D3 energy in Ry is not that of this structure and these settings; None if it is.

    pw.x tells neither damping nor three-body term in words.
    """
    expected = dispersion_ry(atoms, label)
    if abs(printed - expected) <= 2e-8 + 1e-6 * abs(expected):
        return None
    three = "with" if label.dispersion_threebody else "without"
    return f"D3 energy is {printed:.8f} Ry, {expected:.8f} expected of D3(BJ) {three} the three-body term"
