"""Boxes as LAMMPS takes them: its cell, masses and data file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers
from numpy.typing import NDArray

from mlpwf.errors import DataError
from mlpwf.files import write_text

Array = NDArray[np.float64]


def box_matrix(cell: Array) -> tuple[Array, Array]:
    """The cell as LAMMPS wants it, and the rotation to it.

    Parameters
    ----------
    cell
        Cell vectors as rows in Å, right-handed, shape (3, 3).

    Returns
    -------
    box, rotation
        Lower triangular `box` with a positive diagonal, and `rotation`, such
        that cell @ rotation = box; positions turn by the same product.
    """
    if np.linalg.det(cell) <= 0:
        raise DataError(
            f"cell vectors {np.round(cell, 3).tolist()} are left-handed or flat; expected a right-handed periodic box"
        )
    if np.array_equal(cell, np.tril(cell)) and np.all(np.diag(cell) > 0):
        return cell.copy(), np.eye(3)
    q, upper = np.linalg.qr(cell.T)
    signs = np.sign(np.diag(upper))
    return np.tril((upper * signs[:, None]).T), q * signs


def element_mass(element: str) -> float:
    """Standard atomic mass in amu."""
    return float(atomic_masses[atomic_numbers[element]])


def wrapped_box(atoms: Atoms) -> tuple[list[str], Array, NDArray[np.int64]]:
    """A box as LAMMPS wants it: lines of its cell, wrapped positions (Å), and the images that undo the wrapping."""
    box, rotation = box_matrix(atoms.cell.array)
    fractional = atoms.positions @ rotation @ np.linalg.inv(box)
    images = np.floor(fractional).astype(np.int64)
    lines = [f"0.0 {box[k, k]:.16g} {axis}lo {axis}hi" for k, axis in enumerate("xyz")]
    lines += [f"{box[1, 0]:.16g} {box[2, 0]:.16g} {box[2, 1]:.16g} xy xz yz"] if np.any(np.tril(box, -1)) else []
    return lines, atoms.positions @ rotation - images @ box, images


def write_data(target: Path, atoms: Atoms, elements: list[str]) -> None:
    """Write a LAMMPS data file (atom style atomic): wrapped positions and the images that undo it."""
    cell, wrapped, images = wrapped_box(atoms)
    lines = ["mlpwf", "", f"{len(atoms)} atoms", f"{len(elements)} atom types", "", *cell, "", "Masses", ""]
    lines += [f"{k} {element_mass(element):.16g}" for k, element in enumerate(elements, 1)]
    lines += ["", "Atoms # atomic", ""]
    kinds = [elements.index(symbol) + 1 for symbol in atoms.symbols]
    for number, (kind, x, image) in enumerate(zip(kinds, wrapped, images, strict=True), 1):
        lines.append(f"{number} {kind} {x[0]:.16g} {x[1]:.16g} {x[2]:.16g} {image[0]} {image[1]} {image[2]}")
    write_text(target, "\n".join(lines) + "\n")
