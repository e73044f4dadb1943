"""The bond graph of a molecule: its atoms by kind, and the internal coordinates that follow by rule."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from mlpwf.potentials.images import within_bonds

Atoms = tuple[int, ...]
STRAIGHT_DEGREES = 170.0
"""An angle wider than this in the reference geometry is straight: near 180° an angle has no gradient."""
EXCLUDED_BONDS = 2
"""Atoms of one molecule interact as those of two molecules do, if more bonds than these are between them.

So have it class-II force fields (Sun, J. Phys. Chem. B 102, 7338). With three, LAMMPS would be wrong in small boxes: it
leaves out a pair that bonds hold only where it is nearer along each axis than half the box, and a farther image of it
else. Two toluenes in a box of 7 Å then erred by 1.2 eV/Å.
"""


@dataclass(frozen=True)
class Topology:
    """A molecule as a graph; atoms are numbered from 0.

    Parameters
    ----------
    symbols
        Element of each atom.
    bonds
        Pairs of atoms, in any order.
    straight
        Centres whose two neighbours lie on one line with them, as the carbon of a nitrile.
    """

    symbols: tuple[str, ...]
    bonds: tuple[Atoms, ...]
    straight: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        object.__setattr__(self, "bonds", tuple(sorted({tuple(sorted(pair)) for pair in self.bonds})))

    @cached_property
    def neighbours(self) -> tuple[Atoms, ...]:
        """Bonded atoms of each atom, in order."""
        found: list[list[int]] = [[] for _ in self.symbols]
        for one, other in self.bonds:
            found[one].append(other)
            found[other].append(one)
        return tuple(tuple(sorted(atoms)) for atoms in found)

    @cached_property
    def angles(self) -> tuple[Atoms, ...]:
        """Triples (end, centre, end) that are bent; ends in order."""
        return tuple(angle for angle in self.triples if angle[1] not in self.straight)

    @cached_property
    def lines(self) -> tuple[Atoms, ...]:
        """Triples (end, centre, end) that are straight; ends in order."""
        return tuple(angle for angle in self.triples if angle[1] in self.straight)

    @cached_property
    def triples(self) -> tuple[Atoms, ...]:
        """Triples (end, centre, end), bent or straight; ends in order."""
        return tuple(
            (end, centre, other)
            for centre, around in enumerate(self.neighbours)
            for end, other in combinations(around, 2)
        )

    @cached_property
    def dihedrals(self) -> tuple[Atoms, ...]:
        """Quadruples along three bonds, none of them over a straight centre or around a ring of three."""
        return tuple(
            (first, left, right, last)
            for left, right in self.bonds
            if not self.straight & {left, right}
            for first in self.neighbours[left]
            for last in self.neighbours[right]
            if first != right and last != left and first != last
        )

    @cached_property
    def forks(self) -> tuple[Atoms, ...]:
        """Quadruples (end, centre, end, end) of three neighbours of a centre; ends in order."""
        return tuple(
            (ends[0], centre, *ends[1:])
            for centre, around in enumerate(self.neighbours)
            for ends in combinations(around, 3)
        )

    def is_flat(self, fork: Atoms) -> bool:
        """Whether a fork holds all neighbours of its centre, so that the centre may leave their plane."""
        return len(self.neighbours[fork[1]]) == len(fork) - 1

    @cached_property
    def sites(self) -> tuple[int, ...]:
        """Kind of each atom, from 0: atoms that the graph cannot tell apart are of one kind."""
        colours = self._refined(self.symbols)
        order = {colour: number for number, colour in enumerate(dict.fromkeys(colours))}
        return tuple(order[colour] for colour in colours)

    def signature(self, marks: Iterable[tuple[int, str]]) -> str:
        """One word for a set of marked atoms and every set that symmetry takes it to.

        Parameters
        ----------
        marks
            Atoms and their roles, as those of a bond and an angle that are multiplied.
        """
        roles: list[list[str]] = [[] for _ in self.symbols]
        for atom, role in marks:
            roles[atom].append(role)
        colours = [f"{site} {sorted(own)}" for site, own in zip(self.sites, roles, strict=True)]
        return _digest(sorted(self._refined(colours)))

    def _refined(self, colours: Sequence[str]) -> list[str]:
        """Colours refined by those of the neighbours until no more atoms are told apart (Weisfeiler, Leman 1968)."""
        coarse = list(colours)
        while True:
            fine = [
                _digest([coarse[atom], *sorted(coarse[other] for other in around)])
                for atom, around in enumerate(self.neighbours)
            ]
            if len(set(fine)) == len(set(coarse)):
                return fine
            coarse = fine

    @cached_property
    def close(self) -> frozenset[Atoms]:
        """Pairs of atoms with at most `EXCLUDED_BONDS` bonds between them, in order."""
        return frozenset(within_bonds(self.neighbours, EXCLUDED_BONDS))


def topology_of(symbols: Sequence[str], bonds: Iterable[Sequence[int]], positions: NDArray[np.float64]) -> Topology:
    """The graph of a molecule, with the centres that its reference geometry shows to be straight.

    Parameters
    ----------
    symbols
        Element of each atom.
    bonds
        Pairs of atoms.
    positions
        Reference geometry in Å, shape (n_atoms, 3).
    """
    bent = Topology(tuple(symbols), tuple((int(one), int(other)) for one, other in bonds))
    straight = set()
    for end, centre, other in bent.angles:
        one, two = positions[end] - positions[centre], positions[other] - positions[centre]
        cosine = float(one @ two / np.linalg.norm(one) / np.linalg.norm(two))
        if len(bent.neighbours[centre]) == 2 and cosine < -np.cos(np.radians(180 - STRAIGHT_DEGREES)):
            straight.add(centre)
    return Topology(bent.symbols, bent.bonds, frozenset(straight))


def _digest(words: Iterable[str]) -> str:
    return hashlib.sha256("|".join(words).encode()).hexdigest()[:16]
