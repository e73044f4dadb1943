"""k-points of a cell: the fewest that keep the periodic images of an orbital apart.

A regular set of k-points samples a supercell of the cell: couplings between an orbital and its image at
a lattice vector R cancel, except where R is a vector of that supercell. What is left falls exponentially
with the length of the shortest such vector. This length, not a number of points, says how good a
set is [1]_. The supercell may be any sublattice [2]_: four cubic cells in body-centred arrangement need
two points where the shifted 2 x 2 x 2 grid needs four.

.. [1] J. Moreno and J. M. Soler, Phys. Rev. B 45, 13891 (1992).
.. [2] P. Wisesa, K. A. McGill and T. Mueller, Phys. Rev. B 93, 155109 (2016).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from mlpwf.errors import ConfigError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Rows = tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]]

LARGEST_INDEX = 160
"""Cells in the largest supercell tried; half as many points."""


@dataclass(frozen=True)
class KPoints:
    """Points in units of the reciprocal lattice vectors, and their weights, which add up to one.

    Of a point and its negative, which give the same density, only one is there.
    """

    points: tuple[tuple[float, float, float], ...]
    weights: tuple[float, ...]

    @property
    def is_gamma(self) -> bool:
        """Whether Γ is the only point: its wave functions are real, which halves the cost."""
        return self.points == ((0.0, 0.0, 0.0),)

    def rows(self) -> list[list[float]]:
        """Coordinates and weight of each point, to ten digits."""
        return [
            [round(value, 10) for value in (*point, weight)]
            for point, weight in zip(self.points, self.weights, strict=True)
        ]

    def agrees(self, points: Floats, weights: Floats, tolerance: float) -> bool:
        """Whether these are the same points, up to reciprocal lattice vectors and sign, with the same weights.

        Parameters
        ----------
        points, weights
            Shapes (n, 3) and (n,), the units as here.
        tolerance
            Largest difference of a coordinate or a weight.
        """
        own = np.array(self.points)
        if points.shape != own.shape:
            return False
        apart = np.stack([_off_whole(points[:, None] - own), _off_whole(points[:, None] + own)]).min(axis=0)
        partner = apart.argmin(axis=1)
        return bool(
            len(set(partner.tolist())) == len(own)
            and apart.min(axis=1).max() <= tolerance
            and np.abs(weights - np.array(self.weights)[partner]).max() <= tolerance
        )

    def image_distance(self, cell: Floats) -> float:
        """Length in Å of the shortest lattice vector whose couplings do not cancel.

        Parameters
        ----------
        cell
            Lattice vectors (3, 3) in Å.
        """
        length = float(np.linalg.norm(cell, axis=1).min())
        while True:
            vectors = lattice_vectors(cell, length)
            coupling = np.cos(2 * np.pi * vectors @ np.array(self.points).T) @ np.array(self.weights)
            left = np.linalg.norm(vectors @ cell, axis=1)[np.abs(coupling) > 1e-6]
            if left.size:
                return float(left.min())
            length *= 1.5


GAMMA = KPoints(((0.0, 0.0, 0.0),), (1.0,))


def grid(sizes: Iterable[int], shifts: Iterable[int] = (0, 0, 0)) -> KPoints:
    """Monkhorst and Pack's grid in pw.x's notation: sizes, and 1 for a shift by half a step."""
    sizes = tuple(sizes)
    unit = 2 * int(np.lcm.reduce(sizes))
    axes = [[(2 * i + s) * unit // (2 * n) for i in range(n)] for n, s in zip(sizes, shifts, strict=True)]
    return _folded(product(*axes), unit)


def listed(points: Iterable[Iterable[float]]) -> KPoints:
    """Points of equal weight, as they are given."""
    rows = tuple((x, y, z) for x, y, z in points)
    return KPoints(rows, (1 / len(rows),) * len(rows))


def fewest(cell: Floats, image_distance: float) -> KPoints:
    """The fewest k-points that leave no coupling to an image closer than a distance.

    Γ where that does; else the points of the smallest supercell of an even number of cells, shifted so
    that they pair off, each with its negative. Of several, those whose closest image is farthest.

    Parameters
    ----------
    cell
        Lattice vectors (3, 3) in Å.
    image_distance
        The distance in Å.

    Raises
    ------
    ConfigError
        If it takes a supercell of more than 160 cells.
    """
    # cells that differ by rounding alone get the same points
    first, second, third = (tuple(row) for row in np.round(cell, 4).tolist())
    return _fewest((first, second, third), image_distance)


@lru_cache(maxsize=4096)
def _fewest(rows: tuple[tuple[float, ...], ...], image_distance: float) -> KPoints:
    cell = np.array(rows)
    near = lattice_vectors(cell, image_distance)
    if not len(near):
        return GAMMA
    # the densest lattice of all, face-centred cubic, gives each point a volume of d³/√2
    fewest_cells = image_distance**3 / np.sqrt(2) / abs(float(np.linalg.det(cell)))
    for index in range(2 * max(1, math.ceil(fewest_cells / 2 - 1e-6)), LARGEST_INDEX + 1, 2):
        sets = [_points(one) for one in _sublattices(index) if not _holds(one, near).any()]
        if sets:
            farthest = [(round(points.image_distance(cell), 3), -len(points.points), points.points) for points in sets]
            return sets[farthest.index(max(farthest))]
    raise ConfigError(
        f"label.kpoints: a cell of {' x '.join(f'{edge:.2f}' for edge in np.linalg.norm(cell, axis=1))} Å needs more "
        f"than {LARGEST_INDEX // 2} k-points for images {image_distance:g} Å apart; take more molecules, lower "
        "label.image_distance_angstrom, or give label.kpoints as a grid such as [4, 4, 4, 1, 1, 1]"
    )


def _off_whole(points: Floats) -> Floats:
    """How far each point (..., 3) is from one of whole coordinates, by its largest coordinate."""
    return np.asarray(np.abs(points - np.rint(points)).max(axis=-1))


def expected_error(image_distance: float) -> float:
    """Force error in eV/Å to be expected of k-points, root mean square of a component: an order of magnitude.

    85 meV/Å exp(−0.85 (d − 7.1 Å)/Å), after waters and toluenes in boxes of 4 to 11 Å (docs/labels.md).

    Parameters
    ----------
    image_distance
        Of the closest image whose coupling does not cancel, in Å.
    """
    return float(0.085 * np.exp(-0.85 * (image_distance - 7.1)))


def lattice_vectors(cell: Floats, length: float) -> Integers:
    """Lattice vectors shorter than a length and not zero, (n, 3) in units of the cell's, one of each pair ±R."""
    bounds = np.floor(length * np.linalg.norm(np.linalg.inv(cell), axis=0)).astype(int)
    vectors = np.array(list(product(*(range(-n, n + 1) for n in bounds))))
    half: Integers = vectors[len(vectors) // 2 + 1 :]  # the list is its own mirror image, zero in the middle
    near: Integers = half[np.linalg.norm(half @ cell, axis=1) < length]
    return near


@lru_cache
def _sublattices(index: int) -> tuple[Rows, ...]:
    """All sublattices of an index, each by its vectors in Hermite normal form."""
    found = []
    for a, c in product(range(1, index + 1), repeat=2):
        if index % (a * c) == 0:
            f = index // (a * c)
            found += [((a, b, d), (0, c, e), (0, 0, f)) for b, d, e in product(range(c), range(f), range(f))]
    return tuple(found)


def _holds(rows: Rows, vectors: Integers) -> NDArray[np.bool_]:
    """Which vectors (n, 3) lie in a sublattice: forward substitution in its triangle."""
    (a, b, d), (_, c, e), (_, _, f) = rows
    first, one = np.divmod(vectors[:, 0], a)
    second, two = np.divmod(vectors[:, 1] - first * b, c)
    return np.asarray((one == 0) & (two == 0) & ((vectors[:, 2] - first * d - second * e) % f == 0))


def _points(rows: Rows) -> KPoints:
    """The points of a sublattice: k with k·R + s/2 whole for its vectors R, by the shift s that leaves fewest."""
    index = rows[0][0] * rows[1][1] * rows[2][2]
    inverse = np.rint(np.linalg.inv(np.array(rows)) * index).astype(int)
    whole = np.array(list(product(*(range(rows[k][k]) for k in range(3)))))
    sets = [_folded((2 * whole + shift) @ inverse.T, 2 * index) for shift in product((0, 1), repeat=3)]
    return min(sets, key=lambda points: (len(points.points), points.points))


def _folded(numerators: Iterable[Iterable[int]], unit: int) -> KPoints:
    """Points of whole numbers over a unit, each with its negative as one."""
    points: Counter[tuple[int, ...]] = Counter()
    total = 0
    for point in numerators:
        here = tuple(int(x) % unit for x in point)
        points[min(here, tuple(-x % unit for x in here))] += 1
        total += 1
    ordered = sorted(points)
    return KPoints(
        tuple((x / unit, y / unit, z / unit) for x, y, z in ordered),
        tuple(points[point] / total for point in ordered),
    )
