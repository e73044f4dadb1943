"""Internal coordinates of many copies of a molecule at once: values, and gradients on the atoms.

Each function takes positions of shape (n_molecules, n_atoms, 3) in Å, molecules whole, and the atoms of one
coordinate. It gives the values, shape (n_molecules,), and by atom the gradients, shape (n_molecules, 3).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Gradients = Mapping[int, Array]
LEAST_SINE = 1e-6


def bond(positions: Array, first: int, second: int) -> tuple[Array, Gradients]:
    """Length in Å."""
    length, direction = _unit(positions[:, second] - positions[:, first])
    return length, {first: -direction, second: direction}


def angle(positions: Array, first: int, centre: int, last: int) -> tuple[Array, Gradients]:
    """Angle in radians."""
    (a, one), (b, other) = (_unit(positions[:, end] - positions[:, centre]) for end in (first, last))
    cosine = np.clip(_dot(one, other), -1, 1)
    sine = np.maximum(np.sqrt(1 - cosine**2), LEAST_SINE)
    at_first = (cosine[:, None] * one - other) / (a * sine)[:, None]
    at_last = (cosine[:, None] * other - one) / (b * sine)[:, None]
    return np.arccos(cosine), {first: at_first, last: at_last, centre: -at_first - at_last}


def cosine(positions: Array, first: int, centre: int, last: int) -> tuple[Array, Gradients]:
    """1 + cos of an angle: 0 on a straight line, where the angle itself has no gradient."""
    (a, one), (b, other) = (_unit(positions[:, end] - positions[:, centre]) for end in (first, last))
    value = _dot(one, other)
    at_first = (other - value[:, None] * one) / a[:, None]
    at_last = (one - value[:, None] * other) / b[:, None]
    return 1 + value, {first: at_first, last: at_last, centre: -at_first - at_last}


def dihedral(positions: Array, first: int, left: int, right: int, last: int) -> tuple[Array, Gradients]:
    """Dihedral angle in radians, 0 for cis (Blondel and Karplus, DOI 10.1002/jcc.20098)."""
    before = positions[:, first] - positions[:, left]
    along = positions[:, left] - positions[:, right]
    after = positions[:, last] - positions[:, right]
    one, other = np.cross(before, along), np.cross(after, along)
    length, axis = _unit(along)
    value = np.arctan2(_dot(np.cross(other, one), axis), _dot(one, other))
    scaled, rescaled = one / _dot(one, one)[:, None], other / _dot(other, other)[:, None]
    at_first, at_last = -length[:, None] * scaled, length[:, None] * rescaled
    pull = _dot(before, axis)[:, None] * scaled - _dot(after, axis)[:, None] * rescaled
    return value, {first: at_first, left: -at_first + pull, right: -at_last - pull, last: at_last}


def wilson(positions: Array, first: int, centre: int, second: int, third: int) -> tuple[Array, Gradients]:
    """Mean of the three Wilson angles in radians: that of each bond of the centre with the plane of the other two."""
    ends = (first, second, third)
    total, gradients = np.zeros(len(positions)), {atom: np.zeros((len(positions), 3)) for atom in (centre, *ends)}
    for turn in range(3):
        order = ends[turn:] + ends[:turn]
        value, parts = _out_of_plane(positions, centre, *order)
        total += value / 3
        for atom, part in parts.items():
            gradients[atom] += part / 3
    return total, gradients


def _out_of_plane(positions: Array, centre: int, first: int, second: int, top: int) -> tuple[Array, Gradients]:
    """Angle of the bond to `top` with the plane of the other two: sin = (a × b) · e / |a × b|."""
    a, b = (positions[:, end] - positions[:, centre] for end in (first, second))
    length, direction = _unit(positions[:, top] - positions[:, centre])
    area, normal = _unit(np.cross(a, b))
    sine = np.clip(_dot(normal, direction), -1, 1)
    cosine = np.maximum(np.sqrt(1 - sine**2), LEAST_SINE)[:, None]
    across = (direction - sine[:, None] * normal) / area[:, None]  # derivative of the sine by a × b
    at_first, at_second = np.cross(b, across) / cosine, np.cross(across, a) / cosine
    at_top = (normal - sine[:, None] * direction) / length[:, None] / cosine
    gradients = {first: at_first, second: at_second, top: at_top, centre: -at_first - at_second - at_top}
    return np.arcsin(sine), gradients


def _unit(vectors: Array) -> tuple[Array, Array]:
    lengths = np.linalg.norm(vectors, axis=1)
    return lengths, vectors / lengths[:, None]


def _dot(one: Array, other: Array) -> Array:
    product: Array = np.einsum("ij,ij->i", one, other)
    return product
