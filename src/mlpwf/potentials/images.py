"""Whether LAMMPS can take the image of an atom for the atom that bonds hold.

It leaves out, or weakens, the pair energy of two atoms that bonds hold together (`special_bonds`) only where they are
nearer, along each axis of the box, than half of it. In a smaller box it takes an image of one of them instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlpwf.errors import DataError

ROOM_TO_SWING = 1.15
"""Longest to mean distance of two atoms that bonds hold together."""


def within_bonds(neighbours: Sequence[Iterable[int]], most: int) -> set[tuple[int, int]]:
    """Pairs of atoms with at most so many bonds between them, in order, from the atoms that each is bonded to."""
    found = set()
    for start in range(len(neighbours)):
        reached, border = {start}, {start}
        for _ in range(most):
            border = {other for atom in border for other in neighbours[atom]} - reached
            reached |= border
            found |= {(start, other) for other in border if start < other}
    return found


def height(atoms: Atoms) -> float:
    """Smallest distance of two faces of a cell in Å."""
    return float(1 / np.linalg.norm(atoms.cell.reciprocal().array, axis=1).max())


def longest_held(positions: NDArray[np.float64], pairs: Iterable[tuple[int, ...]]) -> float:
    """Longest distance in Å of these pairs of atoms of a molecule, with room to swing; 0 without pairs."""
    return ROOM_TO_SWING * max((float(np.linalg.norm(positions[i] - positions[j])) for i, j in pairs), default=0.0)


def check_room(name: str, atoms: Atoms, longest: float) -> None:
    """DataError for a box too narrow for molecules that will turn in it.

    Parameters
    ----------
    name
        Who asks for the room.
    atoms
        The box.
    longest
        From `longest_held`, the largest of all species.
    """
    if height(atoms) < 2 * longest:
        raise DataError(
            f"{name}: a box of {height(atoms):.1f} Å; expected at least {2 * longest:.1f} Å, twice the distance of "
            "atoms that bonds hold: take more molecules, or a lower density"
        )
