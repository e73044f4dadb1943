"""Class-II terms of a molecule (Sun, DOI 10.1021/jp980939v), linear in their coefficients.

With x the deviations of bonds (Å) and angles (rad) from their references and φ the dihedral angles:

- bonds and angles: x, x², x³, x⁴;
- straight angles: 1 + cos θ;
- dihedrals: cos nφ, n = 1, 2, 3;
- out of plane: the square of the mean Wilson angle;
- products of what shares atoms: bond and bond, bond and angle, angle and angle at one centre; cos nφ times
  each bond and angle of the dihedral; cos φ times both angles; the two outer bonds.

Coefficients that symmetry makes equal are one. Each molecule's term stands once in LAMMPS, with its own type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mlpwf.potentials.molecular import coordinates
from mlpwf.potentials.molecular.topology import Atoms, Topology

Array = NDArray[np.float64]
Base = tuple[str, Atoms]
"""A function of the positions: its kind and its atoms."""
Product = tuple[tuple[Base, int], ...]
"""Functions and their powers."""

ORDERS = (1, 2, 3)
SECTIONS = ("bond", "angle", "line", "dihedral", "improper")
_COORDINATES: Mapping[str, Callable[..., tuple[Array, coordinates.Gradients]]] = {
    "bond": coordinates.bond, "angle": coordinates.angle, "line": coordinates.cosine, "improper": coordinates.wilson,
}  # fmt: skip
_ROLES = {"bond": "ee", "angle": "ece", "line": "ece", "improper": "ecee"}


@dataclass(frozen=True)
class Term:
    """A term of LAMMPS: its section, its atoms, and what each of its coefficients multiplies."""

    section: str
    atoms: Atoms
    products: Mapping[str, Product]


def terms(topology: Topology) -> list[Term]:
    """All terms of a molecule, section by section."""
    return [
        *(Term("bond", atoms, dict(_powers(("bond", atoms)))) for atoms in topology.bonds),
        *(_angle(atoms) for atoms in topology.angles),
        *(Term("line", atoms, {"k": ((("line", atoms), 1),)}) for atoms in topology.lines),
        *(_dihedral(atoms) for atoms in topology.dihedrals),
        *(_improper(topology, atoms) for atoms in topology.forks),
    ]


def _powers(base: Base) -> Iterator[tuple[str, Product]]:
    return ((f"k{power}", ((base, power),)) for power in (1, 2, 3, 4))


def _bond(one: int, other: int) -> Base:
    return "bond", (min(one, other), max(one, other))


def _bend(end: int, centre: int, other: int) -> Base:
    return "angle", (min(end, other), centre, max(end, other))


def _times(*bases: Base) -> Product:
    return tuple((base, 1) for base in bases)


def _angle(atoms: Atoms) -> Term:
    first, centre, last = atoms
    bend, one, other = ("angle", atoms), _bond(first, centre), _bond(centre, last)
    products = {"bb": _times(one, other), "ba1": _times(one, bend), "ba2": _times(other, bend)}
    return Term("angle", atoms, {**dict(_powers(bend)), **products})


def _dihedral(atoms: Atoms) -> Term:
    first, left, right, last = atoms
    before, middle, after = _bond(first, left), _bond(left, right), _bond(right, last)
    one, other = _bend(first, left, right), _bend(left, right, last)
    products: dict[str, Product] = {}
    for order in ORDERS:
        wave = (f"cos{order}", atoms)
        products |= {
            f"k{order}": _times(wave),
            f"mbt{order}": _times(wave, middle),
            f"ebt{order}": _times(wave, before),
            f"ebt{order + 3}": _times(wave, after),
            f"at{order}": _times(wave, one),
            f"at{order + 3}": _times(wave, other),
        }
    products |= {"aat": _times(("cos1", atoms), one, other), "bb13": _times(before, after)}
    return Term("dihedral", atoms, products)


def _improper(topology: Topology, atoms: Atoms) -> Term:
    first, centre, second, third = atoms
    one, across, other = _bend(first, centre, second), _bend(first, centre, third), _bend(second, centre, third)
    products = {"aa1": _times(one, other), "aa2": _times(one, across), "aa3": _times(across, other)}
    if topology.is_flat(atoms):
        products["k"] = ((("improper", atoms), 2),)
    return Term("improper", atoms, products)


class Class2:
    """The class-II energy of one species, as a sum of features times coefficients.

    Parameters
    ----------
    topology
        The molecule.
    references
        Reference values of bonds (Å) and angles (rad) by base function.
    linear
        Whether the first powers of bonds and angles are features: they say where the references should lie.
    """

    def __init__(self, topology: Topology, references: Mapping[Base, float], linear: bool = False) -> None:
        self.topology, self.references, self.linear = topology, dict(references), linear
        self.terms = terms(topology)
        self.features: list[tuple[Product, ...]] = list(self._classes.values())

    @cached_property
    def _classes(self) -> dict[str, tuple[Product, ...]]:
        """Products that symmetry takes to one another, by a name they share."""
        found: dict[str, dict[Product, None]] = {}
        for term in self.terms:
            for product in self._wanted(term).values():
                found.setdefault(self.name(product), {})[_sorted(product)] = None
        return {name: tuple(products) for name, products in found.items()}

    def _wanted(self, term: Term) -> dict[str, Product]:
        bends = term.section in ("bond", "angle")
        return {slot: product for slot, product in term.products.items() if self.linear or not (bends and slot == "k1")}

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Number of each feature by its name."""
        return {name: number for number, name in enumerate(self._classes)}

    def name(self, product: Product) -> str:
        """A word that all products have in common which symmetry takes to one another."""
        factors = sorted(product, key=lambda factor: (factor[0][0], factor[1], self._signature(factor[0])))
        marks: list[tuple[int, str]] = []
        words = []
        for number, (base, power) in enumerate(factors):
            alike = [self._signature(other) for other, _ in factors[:number]]
            rank = len(set(alike) - {self._signature(base)})
            marks += [(atom, f"{rank}{role}") for atom, role in _roles(base)]
            words.append(f"{base[0]}^{power}")
        return f"{' '.join(words)} {self.topology.signature(marks)}"

    def _signature(self, base: Base) -> str:
        if base not in self._signatures:
            self._signatures[base] = self.topology.signature(_roles(base))
        return self._signatures[base]

    @cached_property
    def _signatures(self) -> dict[Base, str]:
        return {}

    @cached_property
    def bases(self) -> dict[Base, int]:
        """Every function a product is made of, numbered."""
        found = dict.fromkeys(base for products in self.features for product in products for base, _ in product)
        return {base: number for number, base in enumerate(found)}

    @cached_property
    def groups(self) -> dict[Base, int]:
        """Bonds and angles by number of the kind of them that symmetry makes one."""
        names = {base: base[0] + self._signature(base) for base in self.references}
        order = {name: number for number, name in enumerate(dict.fromkeys(names.values()))}
        return {base: order[name] for base, name in names.items()}

    def coefficients(self, term: Term, values: Array) -> dict[str, float]:
        """Coefficients of a term by slot, from those of the features."""
        return {slot: float(values[number]) for slot, number in self._slots[term.section, term.atoms].items()}

    @cached_property
    def _slots(self) -> dict[tuple[str, Atoms], dict[str, int]]:
        """Number of the feature in each slot of each term, by its section and atoms."""
        return {
            (term.section, term.atoms): {
                slot: self.numbers[self.name(product)] for slot, product in self._wanted(term).items()
            }
            for term in self.terms
        }

    def measure(self, positions: Array) -> tuple[Array, Array]:
        """Functions at positions of whole molecules.

        Parameters
        ----------
        positions
            Shape (n_molecules, n_atoms, 3), Å.

        Returns
        -------
        values
            Shape (n_functions, n_molecules); bonds (Å) and angles (rad) less their references.
        gradients
            Shape (n_functions, n_molecules, n_atoms, 3), per Å.
        """
        count, size = positions.shape[:2]
        values, gradients = np.empty((len(self.bases), count)), np.zeros((len(self.bases), count, size, 3))
        for (kind, atoms), number in self.bases.items():
            value, parts = _function(kind, atoms, positions)
            values[number] = value - self.references.get((kind, atoms), 0.0)
            for atom, part in parts.items():
                gradients[number, :, atom] = part
        return values, gradients

    def design(self, positions: Array) -> tuple[Array, Array]:
        """Features and their gradients.

        Returns
        -------
        features
            Shape (n_features, n_molecules).
        gradients
            Shape (n_features, n_molecules, n_atoms, 3), per Å.
        """
        values, slopes = self.measure(positions)
        count, size = positions.shape[:2]
        features, gradients = np.zeros((len(self.features), count)), np.zeros((len(self.features), count, size, 3))
        for number, products in enumerate(self.features):
            for product in products:
                factors = [(self.bases[base], power) for base, power in product]
                features[number] += np.prod([values[base] ** power for base, power in factors], axis=0)
                for chosen, (base, power) in enumerate(factors):
                    others = [values[b] ** p for k, (b, p) in enumerate(factors) if k != chosen]
                    slope = power * values[base] ** (power - 1) * np.prod(others, axis=0)
                    gradients[number] += slope[:, None, None] * slopes[base]
        return features, gradients


def references(topology: Topology, positions: Array) -> dict[Base, float]:
    """Bonds (Å) and angles (rad) of one geometry, equal where symmetry makes them so.

    Parameters
    ----------
    topology
        The molecule.
    positions
        Shape (n_atoms, 3), Å.
    """
    bases: list[Base] = [*(("bond", atoms) for atoms in topology.bonds), *(("angle", a) for a in topology.angles)]
    found = {base: float(_function(*base, positions[None])[0][0]) for base in bases}
    return averaged(topology, found)


def averaged(topology: Topology, values: Mapping[Base, float]) -> dict[Base, float]:
    """Values by base function, each the mean over those that symmetry takes it to."""
    groups: dict[str, list[Base]] = {}
    for base in values:
        groups.setdefault(base[0] + topology.signature(_roles(base)), []).append(base)
    return {base: float(np.mean([values[one] for one in group])) for group in groups.values() for base in group}


def _function(kind: str, atoms: Atoms, positions: Array) -> tuple[Array, coordinates.Gradients]:
    if kind in _COORDINATES:
        return _COORDINATES[kind](positions, *atoms)
    order = int(kind.removeprefix("cos"))
    value, parts = coordinates.dihedral(positions, *atoms)
    slope = (-order * np.sin(order * value))[:, None]
    return np.cos(order * value), {atom: slope * part for atom, part in parts.items()}


def _roles(base: Base) -> list[tuple[int, str]]:
    """Atoms of a function and their parts in it; ends that may be exchanged have one name."""
    kind, atoms = base
    words: Sequence[str] = "emme" if kind.startswith("cos") else _ROLES[kind]
    return [(atom, f"{kind}{word}") for atom, word in zip(atoms, words, strict=True)]


def _sorted(product: Product) -> Product:
    return tuple(sorted(product))
