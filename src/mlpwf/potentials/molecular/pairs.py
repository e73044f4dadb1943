"""Pair energies between sites of molecules: cubic splines of the distance, linear in their coefficients."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ase import Atoms
from ase.neighborlist import primitive_neighbor_list
from numpy.typing import NDArray
from scipy.interpolate import BSpline

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]

INNER_ANGSTROM = 0.8
"""Splines begin here; two atoms of different molecules never come as close."""
NARROW_ANGSTROM, NEAR_ANGSTROM = 0.4, 2.5
"""Distance between knots where molecules touch, and up to where; beyond it grows with the distance."""
DEGREE = 3
RINGS = 3  # last functions left out, so that value, slope and curvature vanish at the cut-off


@dataclass(frozen=True)
class Neighbours:
    """Pairs of atoms, each once, and the vectors from the first to the second in Å, shape (n, 3)."""

    first: Numbers
    second: Numbers
    vectors: Array

    @cached_property
    def distances(self) -> Array:
        """In Å."""
        found: Array = np.linalg.norm(self.vectors, axis=1)
        return found


@dataclass(frozen=True)
class PairBasis:
    """Spline functions of the distance for each pair of kinds of sites.

    Parameters
    ----------
    kinds
        Number of kinds of sites.
    cutoff_angstrom
        Where all energies have gone to zero, with slope and curvature.
    """

    kinds: int
    cutoff_angstrom: float

    @cached_property
    def knots(self) -> Array:
        """Breakpoints in Å."""
        steps, place = [INNER_ANGSTROM], INNER_ANGSTROM
        while place < self.cutoff_angstrom:
            place += NARROW_ANGSTROM * max(1.0, place / NEAR_ANGSTROM)
            steps.append(place)
        found = np.array(steps)
        scaled: Array = INNER_ANGSTROM + (found - INNER_ANGSTROM) * (
            (self.cutoff_angstrom - INNER_ANGSTROM) / (found[-1] - INNER_ANGSTROM)
        )
        return scaled

    @cached_property
    def functions(self) -> int:
        """Functions of each pair of kinds."""
        return len(self.knots) + DEGREE - 1 - RINGS

    @property
    def size(self) -> int:
        """All coefficients."""
        return self.functions * self.kinds * (self.kinds + 1) // 2

    def number(self, one: Numbers, other: Numbers) -> Numbers:
        """Number of pairs of kinds, from 0."""
        low, high = np.minimum(one, other), np.maximum(one, other)
        found: Numbers = low * self.kinds - low * (low - 1) // 2 + high - low
        return found

    def spline(self, coefficients: Array) -> BSpline:
        """Energy of one pair in eV, or of several as columns, as a function of the distance in Å."""
        ends = [self.knots[0]] * DEGREE, [self.knots[-1]] * DEGREE
        padded = np.concatenate([coefficients, np.zeros((RINGS, *coefficients.shape[1:]))])
        return BSpline(np.concatenate([ends[0], self.knots, ends[1]]), padded, DEGREE)

    @cached_property
    def _values(self) -> BSpline:
        return self.spline(np.eye(self.functions))

    @cached_property
    def _slopes(self) -> BSpline:
        return self._values.derivative()

    def values(self, distances: Array) -> Array:
        """Functions at distances, shape (n, n_functions)."""
        return np.asarray(self._values(np.clip(distances, INNER_ANGSTROM, self.cutoff_angstrom)))

    def slopes(self, distances: Array) -> Array:
        """Their derivatives, per Å."""
        return np.asarray(self._slopes(np.clip(distances, INNER_ANGSTROM, self.cutoff_angstrom)))

    def design(self, kinds: Numbers, near: Neighbours) -> tuple[Array, Array, Array]:
        """Energy, forces and virial of each coefficient.

        Parameters
        ----------
        kinds
            Kind of each atom.
        near
            Pairs of atoms that interact.

        Returns
        -------
        energy
            Shape (size,).
        forces
            Shape (n_atoms, 3, size), per Å.
        virial
            Shape (3, 3, size).
        """
        first, second, vectors, distances = near.first, near.second, near.vectors, near.distances
        column = self.number(kinds[first], kinds[second]) * self.functions
        values, slopes = self.values(distances), self.slopes(distances)
        count = len(kinds)
        energy, virial = np.zeros(self.size), np.zeros((3, 3, self.size))
        forces = np.zeros((3, count * self.size))
        for function in range(self.functions):
            inside = np.flatnonzero(values[:, function])
            used, between = column[inside] + function, vectors[inside]
            energy += np.bincount(used, values[inside, function], self.size)
            pull = (slopes[inside, function] / distances[inside])[:, None] * between
            ends = np.concatenate([first[inside] * self.size + used, second[inside] * self.size + used])
            for axis in range(3):
                forces[axis] += np.bincount(ends, np.concatenate([pull[:, axis], -pull[:, axis]]), count * self.size)
                for other in range(3):
                    virial[axis, other] -= np.bincount(used, pull[:, axis] * between[:, other], self.size)
        return energy, np.moveaxis(forces.reshape(3, count, self.size), 0, 1), virial

    def neighbours(self, atoms: Atoms, excluded: Numbers) -> Neighbours:
        """Pairs of atoms within the cut-off, each once.

        Parameters
        ----------
        atoms
            A periodic frame, molecules whole.
        excluded
            Pairs of atoms of one molecule that do not interact by these functions, shape (n, 2).
        """
        first, second, shifts, vectors = primitive_neighbor_list(
            "ijSD", atoms.pbc, atoms.cell.array, atoms.positions, self.cutoff_angstrom
        )
        forward = shifts @ np.array([1 << 40, 1 << 20, 1])
        once = (first < second) | ((first == second) & (forward > 0))
        codes = np.minimum(excluded[:, 0], excluded[:, 1]) * len(atoms) + excluded.max(axis=1, initial=0)
        home = ~shifts.any(axis=1)
        close = home & np.isin(np.minimum(first, second) * len(atoms) + np.maximum(first, second), codes)
        kept = once & ~close
        return Neighbours(first[kept], second[kept], vectors[kept])
