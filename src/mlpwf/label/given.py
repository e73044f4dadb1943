"""The label in what a file says of a frame: numbers by name, each with one meaning, all of them in agreement."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress
from numpy.typing import ArrayLike, NDArray

from mlpwf.calculators.base import Calculator, ForeignError, Result, check_distance
from mlpwf.calculators.gate import (
    ENERGY_TOLERANCE_EV_ATOM,
    FORCE_TOLERANCE_EV_ANGSTROM,
    STRESS_TOLERANCE,
    ContradictionError,
    numeric,
    same_stress,
)
from mlpwf.errors import DataError
from mlpwf.label.store import canonical
from mlpwf.structures.properties import Properties

Given = Mapping[str, ArrayLike]
"""All that a file says of a frame beside its structure, by name, as it stands there: numbers, words, arrays."""
MEANING = {
    "energy": "the total energy in eV",
    "forces": "the force on each atom, −dE/dx, in eV/Å",
    "stress": "the stress in eV/Å³, positive under tension, nine numbers",
    "virial": "the virial, −stress × volume, in eV, nine numbers",
}
"""What each name of a label stands for."""
NAMES = {"energy": ("energy",), "forces": ("forces", "force"), "stress": ("stress",), "virial": ("virial",)}
STATES = {
    "energy": re.compile(r"energy$", re.I),
    "forces": re.compile(r"forces?$", re.I),
    "stress": re.compile(r"stress(es)?$", re.I),
    "virial": re.compile(r"virials?$", re.I),
}
"""Names that end so, such as REF_forces or free_energy, state the quantity too."""
UNITS = re.compile(r"(metal|ase|(ev|ang(strom)?s?|å|a|/|\^?3|\*|³|,|\s)+|fs|ps|k|amu)", re.I)
"""Units of this package, and those of what no label holds."""


def label_of(atoms: Atoms, given: Given, calculator: Calculator) -> tuple[Result, list[str]]:
    """The label in what a file says of a frame, and what is to be said of how it was read.

    Parameters
    ----------
    atoms
        The structure.
    given
        All else the file says, by name, as it stands there.
    calculator
        That of the physics the numbers are said to have.

    Raises
    ------
    DataError
        If the frame has no periodic cell or lacks a number.
    ContradictionError
        If two statements of the file cannot both be true.
    ForeignError
        If the file says that the numbers are of other physics.
    Rejected
        If two atoms clash.
    """
    if not atoms.pbc.all() or abs(np.linalg.det(atoms.cell.array)) < 1e-3:
        raise DataError("no periodic cell; three cell vectors expected, and periodic boundaries along each")
    canonical(atoms)
    check_distance(atoms, calculator.label)
    _check_stated(given, calculator)
    _check_elements(given, atoms)
    count = len(atoms)
    notes: list[str] = []
    energy = _read("energy", given, (), ENERGY_TOLERANCE_EV_ATOM * count)
    forces = _read("forces", given, (count, 3), FORCE_TOLERANCE_EV_ANGSTROM)
    if energy is None or forces is None:
        raise _missing("energy" if energy is None else "forces", given)
    if "forces" not in given:
        notes.append(f"'force' is read as {MEANING['forces']}")
    stress, virial = _tensor("stress", given, notes), _tensor("virial", given, notes)
    if virial is not None:
        own = -virial / atoms.get_volume()
        if stress is None:
            stress = own
        same_stress("'stress'", stress, "'virial', as −virial / volume,", own, own)
    if stress is None:
        raise _missing("stress", given)
    return Result(Properties(float(energy), forces, stress, float(atoms.get_volume()))), notes


def _read(quantity: str, given: Given, shape: tuple[int, ...], tolerance: float) -> NDArray[np.float64] | None:
    """A quantity by its name, once all that state it agree; None if none of its names is there."""
    own = next((name for name in NAMES[quantity] if name in given), None)
    if own is None:
        return None
    value = numeric(f"'{own}'", given[own], shape)
    for name, other in _others(quantity, own, given, shape).items():
        gap = np.abs(other - value)
        if not gap.max() <= tolerance:
            at = np.unravel_index(gap.argmax(), gap.shape)
            raise _two(quantity, own, float(value[at]), name, float(other[at]))
    return value


def _others(quantity: str, own: str, given: Given, shape: tuple[int, ...]) -> dict[str, NDArray[np.float64]]:
    found = {}
    for name, value in given.items():
        if name != own and STATES[quantity].search(name):
            numbers = np.asarray(value)
            if numbers.shape == shape and numbers.dtype.kind in "if":
                found[name] = numbers.astype(float)
    return found


def _two(quantity: str, own: str, value: float, name: str, other: float) -> ContradictionError:
    unit = MEANING[quantity].split(" in ")[1].split(",")[0]
    return ContradictionError(
        f"'{own}' says {value:.6g} {unit} where '{name}' says {other:.6g}; one of them expected, which is "
        f"{MEANING[quantity]}: take the other out of the file"
    )


def _tensor(quantity: str, given: Given, notes: list[str]) -> NDArray[np.float64] | None:
    """A stress or virial (3, 3), once all that state it agree; None if it is not there."""
    if quantity not in given:
        return None
    value = _full(f"'{quantity}'", given[quantity], quantity, notes)
    for name, other in given.items():
        if name != quantity and STATES[quantity].search(name) and np.size(other) in (6, 9):
            second = _full(f"'{name}'", other, quantity, [])
            if not np.allclose(second, value, rtol=0, atol=STRESS_TOLERANCE * np.abs(value).max()):
                at = np.unravel_index(np.abs(second - value).argmax(), (3, 3))
                raise _two(quantity, quantity, float(value[at]), name, float(second[at]))
    if quantity == "virial":
        notes.append(f"'virial' is read as {MEANING['virial']}")
    return value


def _full(what: str, value: ArrayLike, quantity: str, notes: list[str]) -> NDArray[np.float64]:
    size = np.size(value)
    if size == 6 and quantity == "stress":
        notes.append(f"six numbers of {what} are read as xx, yy, zz, yz, xz, xy in eV/Å³, positive under tension")
        return np.asarray(voigt_6_to_full_3x3_stress(numeric(what, value, (6,))), float)
    if size != 9:
        found = f"{size} numbers" if size > 1 else _quoted(value)
        raise DataError(f"{what} is {found}; nine expected, row by row: {MEANING[quantity]}")
    return numeric(what, np.reshape(value, (3, 3)), (3, 3))


def _quoted(value: object) -> str:
    return f"'{value}'"


def _missing(quantity: str, given: Given) -> DataError:
    """What is not there, and what is there in its place."""
    what = "stress or virial" if quantity == "stress" else quantity
    stem = {"energy": "energ", "forces": "forc|gradient", "stress": "stress|virial|press"}[quantity]
    there = sorted(name for name in given if re.search(stem, name, re.I))
    expected = MEANING[quantity] + (f", or {MEANING['virial']}" if quantity == "stress" else "")
    if there:
        names = ", ".join(f"'{name}'" for name in there)
        return DataError(
            f"no {what}, but {names}; expected by the name '{quantity}': {expected}: rename it if it is that"
        )
    return DataError(f"no {what}; expected '{quantity}': {expected}: compute it, or leave this frame out")


def _check_stated(given: Given, calculator: Calculator) -> None:
    """Refuse what says in words or numbers that it is of other physics, of other units, or no label at all."""
    for name, value in given.items():
        plain = name.lower()
        expected = calculator.other_physics(plain, value) or _charged_or_magnetic(plain, value)
        if expected:
            raise ForeignError(f"'{name}' is {np.asarray(value).ravel()[:3].tolist()}; {expected} expected")
        unit = str(value) if re.search(r"(^|_)units?($|_)", plain) else "eV"
        if not UNITS.fullmatch(unit):
            raise DataError(f"'{name}' is {unit}; eV and Å expected: convert the numbers, and say so there")
        if re.search(r"(energy|forces?|stress|virials?)_weight$", plain) and _number(value) == 0:
            raise DataError(f"'{name}' is 0: the file says that this number is no label; leave this frame out")


def _check_elements(given: Given, atoms: Atoms) -> None:
    """Atomic numbers beside elements must be theirs."""
    numbers = numeric("'Z'", given.get("Z", atoms.numbers), (len(atoms),))
    for index in np.flatnonzero(numbers != atoms.numbers)[:1]:
        raise ContradictionError(
            f"'Z' says {numbers[index]:g} of atom {index + 1}, whose element is {atoms.symbols[index]}"
        )


def _charged_or_magnetic(name: str, value: ArrayLike) -> str | None:
    """What is expected in the place of a charge or a spin, which no label has; None for all else."""
    if re.fullmatch(r"((total|net|tot)_?)?charge", name) and np.ndim(value) == 0:
        return None if abs(_number(value)) < 1e-3 else "0, a neutral cell"
    if name in ("spin", "multiplicity", "spin_multiplicity"):
        return None if np.all(np.isin(_number(value), (0, 1))) else "no spin"
    if re.fullmatch(r"(initial_)?magmoms?|total_magnetization", name):
        return None if np.all(np.abs(_number(value)) < 1e-3) else "no spin"
    return None


def _number(value: ArrayLike) -> NDArray[np.float64]:
    """A value as numbers; not a number where it is a word."""
    try:
        return np.asarray(value, float)
    except (TypeError, ValueError):
        return np.array(np.nan)
