"""Molecules as rigid bodies: principal axes, rotations, and the beads that a trajectory keeps of them."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlpwf.errors import DataError
from mlpwf.structures.molecules import centres_of_mass

Array = NDArray[np.float64]
BEADS_PER_MOLECULE = 3


def principal_axes(positions: Array, masses: Array) -> Array:
    """Principal axes of inertia of a rigid body, as rows of a right-handed rotation matrix (3, 3).

    The first axis has the smallest moment of inertia. An axis points to the side
    of the atom that has the largest mass-weighted distance along it. Axes are arbitrary, but
    orthonormal, where moments coincide: about the axis of a linear molecule, and
    all three (the laboratory's) for a single atom.

    Parameters
    ----------
    positions
        Positions in Å, shape (n_atoms, 3).
    masses
        Masses in amu, shape (n_atoms,).
    """
    centred = positions - np.average(positions, axis=0, weights=masses)
    if np.abs(centred).max() < 1e-9:
        return np.eye(3)
    # The gyration tensor has the axes of the inertia tensor, with the order reversed.
    _, vectors = np.linalg.eigh((centred * masses[:, None]).T @ centred)
    axes = vectors[:, ::-1].T.copy()
    for axis in axes[:2]:
        leverage = masses * (centred @ axis)
        largest = np.flatnonzero(np.abs(leverage) > np.abs(leverage).max() - 1e-6)[0]
        if leverage[largest] < 0:
            axis *= -1
    axes[2] = np.cross(axes[0], axes[1])
    return axes


def kabsch(reference: Array, positions: Array, weights: Array) -> Array:
    """Proper rotations that best superpose `reference` onto each set of `positions`.

    Minimises sum_i w_i |R x_i - y_i|² over rotations with det R = +1, both sets
    being centred on their weighted mean (W. Kabsch, DOI 10.1107/S0567739476001873).

    Parameters
    ----------
    reference
        Reference geometry in Å, shape (n_atoms, 3).
    positions
        Geometries in Å, shape (n_molecules, n_atoms, 3).
    weights
        Weight of each atom, shape (n_atoms,).

    Returns
    -------
    Array
        Rotations R, shape (n_molecules, 3, 3): y = R x. About the axis of a
        linear reference R is one of many; for a single atom it is the identity.
    """
    share = weights / weights.sum()
    x = reference - share @ reference
    y = positions - np.einsum("i,mij->mj", share, positions)[:, None, :]
    covariance = np.einsum("i,mia,ib->mab", share, y, x)
    u, _, vt = np.linalg.svd(covariance)
    u[:, :, 2] *= np.sign(np.linalg.det(u @ vt))[:, None]
    rotations: Array = u @ vt
    return rotations


def beads(
    positions: Array,
    masses: Array,
    molecule: NDArray[np.integer],
    species: NDArray[np.integer],
    references: list[Atoms],
) -> Array:
    """Three beads for each molecule: its centre of mass, and that plus its two body axes.

    The axes are the principal axes of the species' reference geometry (smallest
    moment of inertia first), carried along by the mass-weighted Kabsch rotation
    of the reference onto the molecule. A linear molecule has a meaningful first
    axis only; the axes of a single atom stay those of the laboratory.

    Parameters
    ----------
    positions
        Positions of whole molecules in Å, unwrapped, shape (n_atoms, 3).
    masses
        Masses in amu, shape (n_atoms,).
    molecule
        Molecule of each atom, shape (n_atoms,), atoms of a molecule contiguous.
    species
        Species of each molecule, shape (n_molecules,).
    references
        Reference geometry of each species.

    Returns
    -------
    Array
        Beads in Å, shape (3 n_molecules, 3), in the order of the molecules.
    """
    if not len(positions) == len(masses) == len(molecule):
        found = f"{len(positions)} positions, {len(masses)} masses, {len(molecule)} molecule numbers"
        raise DataError(f"{found}; expected as many of each")
    centres = centres_of_mass(positions, masses, molecule)
    result = np.repeat(centres[:, None, :], BEADS_PER_MOLECULE, axis=1)
    first = np.unique(molecule, return_index=True)[1]
    for kind in np.unique(species):
        reference = references[int(kind)]
        members = np.flatnonzero(species == kind)
        atoms_of = first[members][:, None] + np.arange(len(reference))
        weights = reference.get_masses()
        rotations = kabsch(reference.positions, positions[atoms_of], weights)
        axes = principal_axes(reference.positions, weights)[:2]
        result[members, 1:] += np.einsum("mab,kb->mka", rotations, axes)
    return result.reshape(-1, 3)
