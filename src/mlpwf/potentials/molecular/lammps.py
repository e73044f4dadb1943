"""A fitted force field as LAMMPS is told it: class2 styles, a type for each term of a molecule, and pair tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from math import degrees
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlpwf.potentials.molecular.class2 import ORDERS, Base, Class2, Term
from mlpwf.potentials.molecular.pairs import INNER_ANGSTROM, PairBasis

Array = NDArray[np.float64]
POINTS = 3000
"""Points of a pair's table; LAMMPS lays splines through them."""


def styles(lines: bool) -> list[str]:
    """Commands that name the styles of bonds, angles, dihedrals and impropers; lines: angles may be straight."""
    angle = "hybrid class2 cosine" if lines else "class2"
    return ["bond_style class2", f"angle_style {angle}", "dihedral_style class2", "improper_style class2"]


class Coefficients:
    """Commands for the terms of one species; the types of each section are counted on from `first`."""

    def __init__(self, energy: Class2, values: Array, first: Mapping[str, int], lines: bool) -> None:
        self.energy, self.values, self.first, self.lines = energy, values, first, lines

    def commands(self) -> Iterator[str]:
        """One command for each term and kind of coefficient."""
        counts = dict(self.first)
        writers: dict[str, Callable[[Term, Mapping[str, float]], Iterator[str]]] = {
            "bond": self._bond, "angle": self._angle, "line": self._line, "dihedral": self._dihedral,
            "improper": self._improper,
        }  # fmt: skip
        for term in self.energy.terms:
            section = "angle" if term.section == "line" else term.section
            for words in writers[term.section](term, self.energy.coefficients(term, self.values)):
                yield f"{section}_coeff {counts[section]} {words}"
            counts[section] += 1

    def _reference(self, kind: str, *atoms: int) -> float:
        ends = (min(atoms[0], atoms[-1]), *atoms[1:-1], max(atoms[0], atoms[-1]))
        base: Base = (kind, ends)
        value = self.energy.references[base]
        return degrees(value) if kind == "angle" else value

    def _bond(self, term: Term, found: Mapping[str, float]) -> Iterator[str]:
        yield _numbers(self._reference("bond", *term.atoms), *(found[f"k{power}"] for power in (2, 3, 4)))

    def _angle(self, term: Term, found: Mapping[str, float]) -> Iterator[str]:
        style = "class2 " if self.lines else ""
        first, centre, last = term.atoms
        one, other = self._reference("bond", first, centre), self._reference("bond", centre, last)
        yield style + _numbers(self._reference("angle", *term.atoms), *(found[f"k{power}"] for power in (2, 3, 4)))
        yield style + "bb " + _numbers(found["bb"], one, other)
        yield style + "ba " + _numbers(found["ba1"], found["ba2"], one, other)

    def _line(self, _: Term, found: Mapping[str, float]) -> Iterator[str]:
        yield "cosine " + _numbers(found["k"])

    def _dihedral(self, term: Term, found: Mapping[str, float]) -> Iterator[str]:
        first, left, right, last = term.atoms
        before, middle, after = (self._reference("bond", *pair) for pair in pairwise(term.atoms))
        one, other = self._reference("angle", first, left, right), self._reference("angle", left, right, last)
        yield _numbers(*(value for order in ORDERS for value in (-found[f"k{order}"], 0.0)))
        yield "mbt " + _numbers(*(found[f"mbt{order}"] for order in ORDERS), middle)
        yield "ebt " + _numbers(*(found[f"ebt{order}"] for order in range(1, 7)), before, after)
        yield "at " + _numbers(*(found[f"at{order}"] for order in range(1, 7)), one, other)
        yield "aat " + _numbers(found["aat"], one, other)
        yield "bb13 " + _numbers(found["bb13"], before, after)

    def _improper(self, term: Term, found: Mapping[str, float]) -> Iterator[str]:
        first, centre, second, third = term.atoms
        ends = ((first, second), (first, third), (second, third))
        angles = (self._reference("angle", one, centre, other) for one, other in ends)
        yield _numbers(found.get("k", 0.0), 0.0)
        yield "aa " + _numbers(*(found[f"aa{number}"] for number in (1, 2, 3)), *angles)


def tables(pairs: PairBasis, coefficients: Array) -> dict[str, str]:
    """Energy (eV) and force (eV/Å) of each pair of kinds, from the inner distance to the cut-off, by file name.

    Each pair has a file of its own: LAMMPS reads a file from its beginning for each pair that it looks for.

    Parameters
    ----------
    pairs
        Splines.
    coefficients
        Shape (n_pairs * n_functions,).
    """
    distances = np.linspace(INNER_ANGSTROM, pairs.cutoff_angstrom, POINTS)
    by_pair = coefficients.reshape(-1, pairs.functions)
    energies, forces = pairs.values(distances) @ by_pair.T, -pairs.slopes(distances) @ by_pair.T
    head = f"N {POINTS} R {INNER_ANGSTROM:g} {pairs.cutoff_angstrom:.10g} FPRIME"
    row, found = "%d %.15g %.15g %.15g\n" * POINTS, {}
    for number in range(len(by_pair)):
        slopes = (-value for value in _curvature(pairs, by_pair[number]))
        columns = np.column_stack([np.arange(1, POINTS + 1), distances, energies[:, number], forces[:, number]])
        found[_table(number)] = (
            f"# energy in eV, force in eV/Å\n\nPAIR\n{head} {_numbers(*slopes)}\n\n{row % tuple(columns.ravel())}"
        )
    return found


def _table(number: int) -> str:
    return f"pair{number}.table"


def _curvature(pairs: PairBasis, coefficients: Array) -> tuple[float, float]:
    """Second derivatives at both ends."""
    curve = pairs.spline(coefficients).derivative(2)
    return float(curve(INNER_ANGSTROM)), float(curve(pairs.cutoff_angstrom))


def pair_commands(pairs: PairBasis, folder: Path, style: str = "") -> list[str]:
    """Coefficients of all pairs of kinds, whose tables are in a folder.

    Parameters
    ----------
    pairs
        Splines.
    folder
        As LAMMPS may name it.
    style
        The name of a style below a hybrid one, with a space behind.
    """
    numbers = [
        (one, other, int(pairs.number(np.array(one), np.array(other))))
        for one in range(pairs.kinds) for other in range(one, pairs.kinds)
    ]  # fmt: skip
    return [f"pair_coeff {one + 1} {other + 1} {style}{folder / _table(number)} PAIR" for one, other, number in numbers]


def energy_commands(constants: Mapping[int, float]) -> list[str]:
    """A constant energy in eV for each atom of some types: LAMMPS' energy is then that of the labels."""
    terms = "+".join(f"(type=={kind})*({energy:.16g})" for kind, energy in constants.items())
    return [
        "variable constant_energy atom " + terms,
        "variable no_force atom 0.0",
        "fix constant_energy all addforce v_no_force v_no_force v_no_force energy v_constant_energy",
        "fix_modify constant_energy energy yes",
    ]


def _numbers(*values: float) -> str:
    return " ".join(f"{value:.16g}" for value in values)


def types(energies: Sequence[Class2]) -> dict[str, int]:
    """Number of LAMMPS' types of each section, of all species."""
    found = dict.fromkeys(("bond", "angle", "dihedral", "improper"), 0)
    for energy in energies:
        for term in energy.terms:
            found["angle" if term.section == "line" else term.section] += 1
    return found
