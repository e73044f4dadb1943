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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from mlpwf.errors import ConfigError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Rows = tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]]

MOST_POINTS = 80
SAME_LENGTH_ANGSTROM = 1e-3
"""Lengths that differ by less are one: of cells that differ by rounding, or are turned."""


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
            left = np.linalg.norm(vectors @ cell, axis=1)[np.abs(_coupling(self, vectors)) > 1e-6]
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
    """Points of equal weight; those that are one up to sign and reciprocal lattice vectors count as often as given."""
    return _weighted(Counter(_one_of_pair(np.array(tuple(point), float)) for point in points))


def fewest(cell: Floats, image_distance: float) -> KPoints:
    """The fewest k-points that leave no coupling to an image closer than a distance.

    Γ where that does; else the points of a supercell, shifted so that most pair off, each with its
    negative. Of several sets, that whose coupled images are farthest. The choice follows the geometry of the lattice,
    not the vectors that span it, nor how it is turned; where symmetry makes two sets equal, as in a cube, the order
    of the axes decides.

    Parameters
    ----------
    cell
        Lattice vectors (3, 3) in Å.
    image_distance
        The distance in Å.

    Raises
    ------
    ConfigError
        If it takes more than 80 points.
    """
    first, second, third = (tuple(row) for row in np.round(cell, 6).tolist())
    return _fewest((first, second, third), image_distance)


@lru_cache(maxsize=4096)
def _fewest(rows: tuple[tuple[float, ...], ...], image_distance: float) -> KPoints:
    cell, turned = _reduced(np.array(rows))
    near = lattice_vectors(cell, image_distance - SAME_LENGTH_ANGSTROM)
    if not len(near):
        return GAMMA
    # the densest lattice of all, face-centred cubic, gives each point a volume of d³/√2
    cells = (image_distance - SAME_LENGTH_ANGSTROM) ** 3 / np.sqrt(2) / abs(float(np.linalg.det(cell)))
    for count in range(max(1, math.floor(cells / 2)), MOST_POINTS + 1):
        for index in (2 * count, 2 * count - 1):  # the latter holds a point that is its own negative
            apart = [one for one in _sublattices(index) if not _holds(one, near).any()]
            sets = [points for one in apart for points in _points(one) if len(points.points) == count]
            if sets:
                return _in_basis(_farthest(sets, cell), turned)
    raise ConfigError(
        f"label.kpoints: a cell of {' x '.join(f'{edge:.2f}' for edge in np.linalg.norm(np.array(rows), axis=1))} Å "
        f"needs more than {MOST_POINTS} k-points for images {image_distance:g} Å apart; take more molecules, lower "
        "label.image_distance_angstrom, or give label.kpoints as a grid such as [4, 4, 4, 1, 1, 1]"
    )


def _reduced(cell: Floats) -> tuple[Floats, Integers]:
    """The shortest vectors that span a lattice, and what turns the given ones into them."""
    from ase.geometry import minkowski_reduce

    found, turned = minkowski_reduce(cell)
    return np.asarray(found), np.asarray(turned)


def _in_basis(points: KPoints, turned: Integers) -> KPoints:
    """Points of a reduced cell in the basis of the cell it was made from: k·R is the same for every vector R."""
    back = np.rint(np.linalg.inv(turned))
    counts = {
        _one_of_pair(back @ np.array(point)): weight
        for point, weight in zip(points.points, points.weights, strict=True)
    }
    return _weighted(counts)


def _farthest(sets: list[KPoints], cell: Floats) -> KPoints:
    """The set whose coupled images are farthest, compared one by one from the closest; then by the couplings' signs."""
    shortest = max(points.image_distance(cell) for points in sets)
    vectors = lattice_vectors(cell, 1.3 * shortest)
    lengths = np.round(np.linalg.norm(vectors @ cell, axis=1) / SAME_LENGTH_ANGSTROM)

    def rank(points: KPoints) -> tuple[object, ...]:
        coupling = np.round(_coupling(points, vectors)).astype(int)
        left = sorted((float(length), int(sign)) for length, sign in zip(lengths, coupling, strict=True) if sign)
        return [length for length, _ in left], [sign for _, sign in left], [[-x for x in one] for one in points.points]

    return max(sets, key=rank)


def _coupling(points: KPoints, vectors: Integers) -> Floats:
    """Σ w cos 2πk·R for lattice vectors R, (n, 3) in units of the cell's."""
    phases = np.cos(2 * np.pi * vectors @ np.array(points.points).T)
    return np.asarray(phases @ np.array(points.weights))


def expected_error(image_distance: float) -> float:
    """Force error in eV/Å to be expected of k-points, root mean square of a component: an order of magnitude.

    85 meV/Å exp(−0.85 (d − 7.1 Å)/Å), after waters and toluenes in boxes of 4 to 11 Å (docs/labels.md); molecules of
    a small gap err by up to five times as much.

    Parameters
    ----------
    image_distance
        Of the closest image whose coupling does not cancel, in Å.
    """
    return float(0.085 * np.exp(-0.85 * (image_distance - 7.1)))


def _off_whole(points: Floats) -> Floats:
    """How far each point (..., 3) is from one of whole coordinates, by its largest coordinate."""
    return np.asarray(np.abs(points - np.rint(points)).max(axis=-1))


def lattice_vectors(cell: Floats, length: float) -> Integers:
    """Lattice vectors shorter than a length and not zero, (n, 3) in units of the cell's, one of each pair ±R."""
    bounds = np.floor(max(length, 0.0) * np.linalg.norm(np.linalg.inv(cell), axis=0)).astype(int)
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


def _points(rows: Rows) -> list[KPoints]:
    """The points of a sublattice by shift s: k with k·R + s/2 whole for its vectors R."""
    index = rows[0][0] * rows[1][1] * rows[2][2]
    inverse = np.rint(np.linalg.inv(np.array(rows)) * index).astype(int)
    whole = np.array(list(product(*(range(rows[k][k]) for k in range(3)))))
    return [_folded((2 * whole + shift) @ inverse.T, 2 * index) for shift in product((0, 1), repeat=3)]


def _folded(numerators: Iterable[Iterable[int]], unit: int) -> KPoints:
    """Points of whole numbers over a unit, each with its negative as one."""
    counts: Counter[tuple[float, ...]] = Counter()
    for point in numerators:
        here = tuple(int(x) % unit for x in point)
        counts[tuple(x / unit for x in min(here, tuple(-x % unit for x in here)))] += 1
    return _weighted(counts)


def _one_of_pair(point: Floats) -> tuple[float, ...]:
    """Of a point and its negative the one that comes first, coordinates from 0 to 1, to twelve digits."""
    return min(tuple((np.round(sign * point, 12) % 1).tolist()) for sign in (1, -1))


def _weighted(counts: Mapping[tuple[float, ...], float]) -> KPoints:
    """Points in order, with weights in proportion to their counts."""
    total, ordered = sum(counts.values()), sorted(counts)
    return KPoints(tuple((x, y, z) for x, y, z in ordered), tuple(counts[point] / total for point in ordered))
