"""A molecular force field fitted to labels by regularised least squares.

The energy is linear in its coefficients θ: E = A_E θ, forces A_F θ, virials A_V θ. With errors σ that each kind
of value is allowed, θ minimises Σ |A θ − y|² / σ² + θᵀ P θ. The prior P keeps coefficients small, splines smooth and
those of the same two elements alike, and holds pair energies to a repulsive wall where no label comes close
(`wall_slope`). Its strengths are chosen by cross-validation over frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations_with_replacement, pairwise, product
from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from numpy.typing import NDArray

from mlpwf.potentials.molecular.class2 import Base, Class2, references
from mlpwf.potentials.molecular.pairs import INNER_ANGSTROM, Neighbours, PairBasis
from mlpwf.potentials.molecular.topology import Topology

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]

FORCE, NET, ENERGY, VIRIAL = 0.05, 0.05, 0.002, 0.01
"""Errors allowed: force and net force on a molecule in eV/Å, energy and virial in eV per atom."""


class Strengths(NamedTuple):
    """How strong the parts of the prior are, in units of what the labels say of a coefficient."""

    ridge: float
    """Coefficients within molecules are small."""
    smooth: float
    """Splines between molecules have little curvature."""
    alike: float
    """Splines of kinds of sites that have the same two elements are alike."""


TOGETHER = 32
"""Frames whose terms are found at once: numpy takes as long for one molecule as for many."""
STRENGTHS = tuple(
    Strengths(*one) for one in product((1e-5, 1e-4, 1e-3), (1e-3, 1e-2, 1e-1), (0.0, 1e-1, 1.0, 10.0, 100.0))
)
"""Priors tried."""
USUAL = Strengths(1e-4, 1e-2, 1.0)
"""What is used where nothing can be tried."""
FOLDS = 5
MORSE_PER_ANGSTROM = 2.0
"""Width of a bond's Morse curve, whose expansion gives the prior of x³ and x⁴: −a K₂ and 7/12 a² K₂."""
ANHARMONIC = {"bond": (-MORSE_PER_ANGSTROM, 7 / 12 * MORSE_PER_ANGSTROM**2), "angle": (0.0, 0.2)}
"""Coefficients of x³ and x⁴ that the prior holds to, over that of x²."""
ANHARMONIC_WEIGHT = {"bond": 1e-4, "angle": 1e-3}
"""Weight of that prior, in units of what the labels say of the coefficient of x²."""
STIFFER, ROUNDS = 30.0, 6
"""A bond or angle that the labels would let run away at large distortions is held so much more, so many times."""
FURTHEST_SHIFT = 0.15
"""References that would move more, in Å or rad, stay: the labels do not say where they lie."""


@dataclass(frozen=True)
class Molecules:
    """The species of a system: graphs and reference geometries (Å), in the order of the frames' species."""

    topologies: tuple[Topology, ...]
    positions: tuple[Array, ...]

    @cached_property
    def first_kind(self) -> Numbers:
        """Number of the first kind of site of each species."""
        sizes = [max(one.sites) + 1 for one in self.topologies]
        return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    @cached_property
    def references(self) -> list[dict[Base, float]]:
        """Bonds (Å) and angles (rad) of the reference geometries."""
        return [references(topology, at) for topology, at in zip(self.topologies, self.positions, strict=True)]

    @property
    def kinds(self) -> int:
        """Kinds of sites of all species."""
        return int(self.first_kind[-1])


@dataclass(frozen=True)
class Frame:
    """A frame, molecules whole and one after another."""

    atoms: Atoms
    species: Numbers
    near: Neighbours | None = field(default=None, kw_only=True)
    """Its pairs of atoms within the cut-off; None: not looked for yet."""

    def starts(self, molecules: Molecules) -> Numbers:
        """First atom of each molecule."""
        sizes = [len(molecules.topologies[kind].symbols) for kind in self.species]
        return np.cumsum([0, *sizes[:-1]])

    def places(self, molecules: Molecules) -> list[Numbers]:
        """Atoms of the molecules of each species, shape (n_molecules, n_atoms)."""
        starts = self.starts(molecules)
        return [
            starts[self.species == kind][:, None] + np.arange(len(topology.symbols))
            for kind, topology in enumerate(molecules.topologies)
        ]


@dataclass(frozen=True)
class Labelled(Frame):
    """A labelled frame."""

    energy: float
    forces: Array
    virial: Array
    """-dE/d(strain) in eV."""
    weight: float = 1.0
    """How often it counts."""


@dataclass(frozen=True)
class Model:
    """The features of a molecules: an energy for each molecule, class-II terms by species, pair functions."""

    molecules: Molecules
    intra: tuple[Class2, ...]
    pairs: PairBasis

    @cached_property
    def starts(self) -> list[int]:
        """First column of each species' class-II terms, and of the pairs."""
        sizes = [len(self.intra), *(len(one.features) for one in self.intra)]
        return [int(start) for start in np.cumsum(sizes)]

    @property
    def size(self) -> int:
        """All coefficients."""
        return self.starts[-1] + self.pairs.size

    def design(self, atoms: Atoms, species: Numbers) -> tuple[Array, Array, Array]:
        """Energy (size,), forces (n_atoms, 3, size) and virial (3, 3, size) of each coefficient at one frame.

        Parameters
        ----------
        atoms
            A frame, molecules whole and one after another.
        species
            Species of each molecule.
        """
        return next(self.designs([Frame(atoms, species)]))

    def designs(self, frames: Sequence[Frame]) -> Iterator[tuple[Array, Array, Array]]:
        """Those of each of many frames: the terms of all their molecules are found at once."""
        for start in range(0, len(frames), TOGETHER):
            chunk = frames[start : start + TOGETHER]
            places = [frame.places(self.molecules) for frame in chunk]
            parts = [
                [frame.atoms.positions[at] for frame, place in zip(chunk, places, strict=True) for at in place[kind]]
                for kind in range(len(self.intra))
            ]
            within = [
                intra.design(np.array(found)) if found else None for intra, found in zip(self.intra, parts, strict=True)
            ]
            done = [0] * len(self.intra)
            for frame, place in zip(chunk, places, strict=True):
                yield self._one(frame, place, within, done)
                done = [count + len(at) for count, at in zip(done, place, strict=True)]

    def _one(
        self, frame: Frame, places: Sequence[Numbers], within: Sequence[tuple[Array, Array] | None], done: Sequence[int]
    ) -> tuple[Array, Array, Array]:
        """Those of a frame, by the terms of molecules of each species, of which so many are of frames before."""
        atoms = frame.atoms
        energy, forces, virial = np.zeros(self.size), np.zeros((len(atoms), 3, self.size)), np.zeros((3, 3, self.size))
        for kind, (found, at, before) in enumerate(zip(within, places, done, strict=True)):
            energy[kind] = len(at)
            if found is None or not len(at):
                continue
            features, gradients = (part[:, before : before + len(at)] for part in found)
            columns = slice(self.starts[kind], self.starts[kind + 1])
            energy[columns] = features.sum(axis=1)
            forces[at, :, columns] = -np.moveaxis(gradients, 0, -1)
            virial[:, :, columns] = -np.einsum("fmia,mib->abf", gradients, atoms.positions[at])
        columns = slice(self.starts[-1], self.size)
        energy[columns], forces[:, :, columns], virial[:, :, columns] = self.pairs.design(
            self._kinds(frame.species), frame.near or self.neighbours(frame)
        )
        return energy, forces, virial

    def neighbours(self, frame: Frame) -> Neighbours:
        """Pairs of atoms within the cut-off that no bonds hold."""
        close = [np.array(sorted(topology.close), dtype=np.int64).reshape(-1, 2) for topology in self._topologies]
        starts = zip(frame.species, frame.starts(self.molecules), strict=True)
        return self.pairs.neighbours(frame.atoms, np.concatenate([close[kind] + start for kind, start in starts]))

    def contacts(self, frame: Frame) -> tuple[Numbers, Array]:
        """Numbers of pairs of kinds, and distances in Å, of all pairs of a frame within the cut-off."""
        near, kinds = frame.near or self.neighbours(frame), self._kinds(frame.species)
        return self.pairs.number(kinds[near.first], kinds[near.second]), near.distances

    def _kinds(self, species: Numbers) -> Numbers:
        """Kind of each atom."""
        start = self.molecules.first_kind
        kinds = np.concatenate([np.array(self._topologies[kind].sites) + start[kind] for kind in species])
        return kinds.astype(np.int64)

    @property
    def _topologies(self) -> tuple[Topology, ...]:
        return self.molecules.topologies

    def kind_symbols(self) -> list[str]:
        """Element of each kind of site."""
        found = [""] * self.molecules.kinds
        for topology, start in zip(self.molecules.topologies, self.molecules.first_kind.tolist(), strict=False):
            for symbol, site in zip(topology.symbols, topology.sites, strict=True):
                found[start + site] = symbol
        return found


def rows(model: Model, frame: Labelled, design: tuple[Array, Array, Array]) -> tuple[Array, Array]:
    """What a frame asks of the coefficients, by its design: rows and values, each over the error it is allowed."""
    energy, forces, virial = design
    count, starts = len(frame.atoms), frame.starts(model.molecules)
    net, net_values = (np.add.reduceat(one, starts, axis=0) for one in (forces, frame.forces))
    upper = np.triu_indices(3)
    parts = (
        (forces.reshape(3 * count, -1), frame.forces.ravel(), FORCE),
        (net.reshape(3 * len(starts), -1), net_values.ravel(), NET),
        (energy[None], np.array([frame.energy]), ENERGY * count),
        (virial[upper], frame.virial[upper], VIRIAL * count),
    )
    return (
        np.concatenate([matrix / allowed for matrix, _, allowed in parts]),
        np.concatenate([values / allowed for _, values, allowed in parts]),
    )


@dataclass(frozen=True)
class Normal:
    """Normal equations: Σ AᵀA, Σ Aᵀy and Σ yᵀy of frames; they add up."""

    matrix: Array
    vector: Array
    square: float

    @classmethod
    def of(cls, model: Model, frames: Sequence[Labelled]) -> Normal:
        """Those of frames."""
        matrix, vector, square = np.zeros((model.size, model.size)), np.zeros(model.size), 0.0
        for frame, design in zip(frames, model.designs(frames), strict=True):
            left, right = (np.sqrt(frame.weight) * part for part in rows(model, frame, design))
            matrix += left.T @ left
            vector += left.T @ right
            square += float(right @ right)
        return cls(matrix, vector, square)

    def __add__(self, other: Normal) -> Normal:
        return Normal(self.matrix + other.matrix, self.vector + other.vector, self.square + other.square)

    def cost(self, coefficients: Array) -> float:
        """Σ |A θ − y|² of these frames."""
        return float(coefficients @ self.matrix @ coefficients - 2 * self.vector @ coefficients) + self.square


@dataclass(frozen=True)
class _Anharmonic:
    """A bond or an angle: columns of its x², x³ and x⁴."""

    section: str
    two: int
    three: int
    four: int


class Prior:
    """What is known before any label: matrix and vector to add to the normal equations.

    Parameters
    ----------
    model
        The features.
    normal
        Equations of the labels, whose diagonal is the scale of each coefficient's prior.
    shortest
        Shortest distance of each pair of kinds in the labels, Å.
    """

    def __init__(self, model: Model, normal: Normal, shortest: Array) -> None:
        self.model, self.shortest = model, shortest
        diagonal = np.diag(normal.matrix)
        self.scale = np.where(diagonal > 0, diagonal, 1.0)
        self._stiffness = np.ones(model.size)

    def equations(self, strengths: Strengths) -> tuple[Array, Array]:
        """Matrix and vector at these strengths."""
        size, pairs = self.model.size, self.model.starts[-1]
        matrix, vector = np.zeros((size, size)), np.zeros(size)
        intra = np.arange(len(self.model.intra), pairs)
        matrix[intra, intra] = strengths.ridge * self.scale[intra]
        for one in self._anharmonic:
            weight = ANHARMONIC_WEIGHT[one.section] * self.scale[one.two] * self._stiffness[one.two]
            for column, ratio in zip((one.three, one.four), ANHARMONIC[one.section], strict=True):
                ends = np.ix_([column, one.two], [column, one.two])
                matrix[ends] += weight * np.outer([1.0, -ratio], [1.0, -ratio])
        self._splines(matrix, strengths)
        self._wall(matrix, vector)
        return matrix, vector

    @cached_property
    def _anharmonic(self) -> list[_Anharmonic]:
        """Columns of x², x³ and x⁴ of every kind of bond and angle."""
        found: dict[int, _Anharmonic] = {}
        for start, energy in zip(self.model.starts, self.model.intra, strict=False):
            for term in energy.terms:
                if term.section in ANHARMONIC:
                    two, three, four = (start + energy.numbers[energy.name(term.products[f"k{p}"])] for p in (2, 3, 4))
                    found[two] = _Anharmonic(term.section, two, three, four)
        return list(found.values())

    def hold(self, coefficients: Array) -> bool:
        """Hold those bonds and angles more whose energy falls at large distortions; whether there are any."""
        loose = [one for one in self._anharmonic if coefficients[one.four] <= 0]
        for one in loose:
            self._stiffness[one.two] *= STIFFER
        return bool(loose)

    def _splines(self, matrix: Array, strengths: Strengths) -> None:
        """Curvature of the splines, a weak pull to zero, and a pull to the mean of their two elements.

        Tens of labels say little of each pair of kinds of sites: toluene has 45 of them, and three of elements.
        """
        pairs, start = self.model.pairs, self.model.starts[-1]
        bend = np.diff(np.eye(pairs.functions), 2, axis=0)
        scale = float(np.median(self.scale[start:]))
        one = strengths.smooth * scale * (bend.T @ bend + 0.01 * np.eye(pairs.functions))
        blocks = matrix[start:, start:].reshape(2 * (pairs.size // pairs.functions, pairs.functions))
        for numbers in self._of_elements.values():
            apart = strengths.alike * scale * (np.eye(len(numbers)) - 1 / len(numbers))
            for row, number in enumerate(numbers):
                blocks[number, :, number, :] += one
                for column, other in enumerate(numbers):
                    blocks[number, :, other, :] += apart[row, column] * np.eye(pairs.functions)

    @cached_property
    def _of_elements(self) -> dict[tuple[str, ...], list[int]]:
        """Numbers of the pairs of kinds of sites by their two elements."""
        pairs, symbols = self.model.pairs, self.model.kind_symbols()
        found: dict[tuple[str, ...], list[int]] = {}
        for one, other in combinations_with_replacement(range(pairs.kinds), 2):
            number = int(pairs.number(np.array(one), np.array(other)))
            found.setdefault(tuple(sorted((symbols[one], symbols[other]))), []).append(number)
        return found

    def _wall(self, matrix: Array, vector: Array) -> None:
        """Below the shortest contact of the labels, slopes of a universal repulsion between the elements."""
        pairs, symbols = self.model.pairs, self.model.kind_symbols()
        for one in range(pairs.kinds):
            for other in range(one, pairs.kinds):
                number = int(pairs.number(np.array(one), np.array(other)))
                distances = np.arange(INNER_ANGSTROM, min(self.shortest[number], 2.5) - 0.1, 0.1)
                if not len(distances):
                    continue
                slopes = wall_slope(distances, symbols[one], symbols[other])
                allowed = 0.05 - 0.3 * slopes
                left = pairs.slopes(distances) / allowed[:, None]
                columns = slice(
                    self.model.starts[-1] + number * pairs.functions,
                    self.model.starts[-1] + (number + 1) * pairs.functions,
                )
                matrix[columns, columns] += left.T @ left
                vector[columns] += left.T @ (slopes / allowed)


def wall_slope(distances: Array, one: str, other: str) -> Array:
    """Slope in eV/Å of the universal repulsion of two atoms (Ziegler, Biersack and Littmark, 1985)."""
    charges = [atomic_numbers[symbol] for symbol in (one, other)]
    length = 0.46850 / sum(charge**0.23 for charge in charges)
    weights = np.array([0.18175, 0.50986, 0.28022, 0.02817])
    rates = np.array([3.19980, 0.94229, 0.40290, 0.20162]) / length
    decays = weights * np.exp(-np.outer(distances, rates))
    strength = 14.399645 * charges[0] * charges[1]
    screened, slope = decays.sum(axis=1), -(decays * rates).sum(axis=1)
    found: Array = strength * (slope / distances - screened / distances**2)
    return found


@dataclass(frozen=True)
class Fitted:
    """A force field: its features and their coefficients."""

    model: Model
    coefficients: Array
    strengths: Strengths
    """Those that cross-validation chose."""
    shortest: Array
    """Shortest distance of each pair of kinds in the labels, Å; infinite: beyond the cut-off."""
    costs: Mapping[Strengths, float] = field(default_factory=dict)
    """Σ |A θ − y|² of held-out frames by the strengths tried."""


def fitted(
    molecules: Molecules,
    frames: Sequence[Labelled],
    cutoff_angstrom: float,
    strengths: Sequence[Strengths] = STRENGTHS,
    say: Callable[[str], None] = lambda _: None,
) -> Fitted:
    """Fit a force field to labels.

    Parameters
    ----------
    molecules
        The species.
    frames
        Labelled frames.
    cutoff_angstrom
        Cut-off of the pair energies.
    strengths
        Those of the prior that cross-validation chooses from.
    say
        Called with a line on each step.
    """
    pairs = PairBasis(molecules.kinds, cutoff_angstrom)

    def model_of(where: Sequence[dict[Base, float]], linear: bool) -> Model:
        intra = [Class2(topology, at, linear) for topology, at in zip(molecules.topologies, where, strict=True)]
        return Model(molecules, tuple(intra), pairs)

    where = molecules.references
    first = model_of(where, True)
    frames = [replace(frame, near=first.neighbours(frame)) for frame in frames]
    shortest = _shortest(first, frames)
    normal = Normal.of(first, frames)
    guess = solve(normal, Prior(first, normal, shortest).equations(USUAL))
    say(f"force field: {len(frames)} frames, {first.size} coefficients with free references")
    where = [shifted(one, guess[first.starts[k] :]) for k, one in enumerate(first.intra)]
    model = model_of(where, False)
    folds = [Normal.of(model, part) for part in _parts(frames)]
    whole = sum(folds[1:], folds[0])
    prior = Prior(model, whole, shortest)
    tried = strengths if len(folds) > 1 else (USUAL,)
    costs = {one: validation_cost(folds, whole, prior.equations(one)) for one in tried}
    chosen = min(costs, key=lambda one: costs[one])
    told = ", ".join(f"{name} {value:g}" for name, value in chosen._asdict().items())
    say(f"force field: {model.size} coefficients, {told} by cross-validation")
    return Fitted(model, _held(whole, prior, chosen), chosen, shortest, costs)


def refitted(found: Fitted, frames: Sequence[Labelled]) -> Fitted:
    """The same features and strengths, with coefficients for other labels."""
    normal = Normal.of(found.model, frames)
    return replace(
        found, coefficients=_held(normal, Prior(found.model, normal, found.shortest), found.strengths), costs={}
    )


def _held(normal: Normal, prior: Prior, strengths: Strengths) -> Array:
    """Coefficients at these strengths, anharmonic ones near those of a Morse curve."""
    coefficients = solve(normal, prior.equations(strengths))
    for _ in range(ROUNDS):
        if not prior.hold(coefficients):
            break
        coefficients = solve(normal, prior.equations(strengths))
    return coefficients


def _parts(frames: Sequence[Labelled]) -> list[Sequence[Labelled]]:
    """Frames in parts of neighbours, which are of one run and much alike: parts that differ tell the truth."""
    count = min(FOLDS, len(frames))
    ends = [len(frames) * part // count for part in range(count + 1)]
    return [frames[start:end] for start, end in pairwise(ends)]


def validation_cost(folds: Sequence[Normal], whole: Normal, prior: tuple[Array, Array]) -> float:
    """Σ |A θ − y|² of each fold by the coefficients that the others give."""
    total = 0.0
    for fold in folds:
        rest = Normal(whole.matrix - fold.matrix, whole.vector - fold.vector, whole.square - fold.square)
        total += fold.cost(solve(rest, prior))
    return total


def solve(normal: Normal, prior: tuple[Array, Array]) -> Array:
    """Coefficients of the least sum of labels' and prior's squares."""
    from scipy.linalg import cho_factor, cho_solve

    matrix, vector = normal.matrix + prior[0], normal.vector + prior[1]
    scale = 1 / np.sqrt(np.maximum(np.diag(matrix), 1e-30))
    scaled = matrix * scale[:, None] * scale
    scaled[np.diag_indices_from(scaled)] += 1e-11
    found: Array = scale * cho_solve(cho_factor(scaled, lower=True), scale * vector)
    return found


def shifted(energy: Class2, coefficients: Array) -> dict[Base, float]:
    """References at which the first powers of bonds and angles vanish, so that they need no coefficients.

    With all dihedral terms aside, that is where the energy of bonds and angles is stationary.
    """
    from scipy.optimize import root

    groups = energy.groups
    parts = [
        (float(value), [(groups[base], power) for base, power in product])
        for value, products in zip(coefficients, energy.features, strict=False)
        for product in products
        if all(base in groups for base, _ in product)
    ]
    count = max(groups.values()) + 1

    def slope(at: Array) -> Array:
        found = np.zeros(count)
        for value, factors in parts:
            for chosen, (group, power) in enumerate(factors):
                others = [at[g] ** p for k, (g, p) in enumerate(factors) if k != chosen]
                found[group] += value * power * at[group] ** (power - 1) * float(np.prod(others))
        return found

    result = root(slope, np.zeros(count))
    moves = result.x if result.success else np.zeros(count)
    moves = np.where(np.abs(moves) <= FURTHEST_SHIFT, moves, 0.0)
    return {base: value + float(moves[groups[base]]) for base, value in energy.references.items()}


def _shortest(model: Model, frames: Sequence[Labelled]) -> Array:
    found = np.full(model.pairs.size // model.pairs.functions, np.inf)
    for frame in frames:
        numbers, distances = model.contacts(frame)
        np.minimum.at(found, numbers, distances)
    return found


def force_error(found: Fitted, frames: Sequence[Labelled]) -> float:
    """Root mean square force error over frames, in eV/Å."""
    squares = [
        np.square(forces @ found.coefficients - frame.forces).mean()
        for frame, (_, forces, _) in zip(frames, found.model.designs(frames), strict=True)
    ]
    return float(np.sqrt(np.average(squares, weights=[len(frame.atoms) for frame in frames])))
