"""The one gate for the numbers of a label, whatever they were read from.

Energy, forces and stress of a periodic cell of neutral atoms bind each other: the energy does
not change when all atoms move as one, so the forces add up to nothing, nor when all turn as one,
so the stress is symmetric. Numbers that break this were changed on their way, or are of something else.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlpwf.errors import DataError
from mlpwf.structures.properties import Properties

FORCE_TOLERANCE_EV_ANGSTROM = 1e-3
ENERGY_TOLERANCE_EV_ATOM = 1e-4
STRESS_TOLERANCE_EV_ANGSTROM3 = 1e-5  # 0.016 kbar; two decimals of kbar are a third of it
STRESS_TOLERANCE = 1e-3  # of the largest stress: digits that were rounded away


class ContradictionError(DataError):
    """Two statements of one label that cannot both be true."""


def check(energy: ArrayLike, forces: ArrayLike, stress: ArrayLike, count: int) -> None:
    """Whether numbers can be those of one label.

    Parameters
    ----------
    energy
        In eV.
    forces
        Shape (count, 3), in eV/Å, of all atoms: those that were held fixed too.
    stress
        Shape (3, 3), in eV/Å³.
    count
        Number of atoms.

    Raises
    ------
    DataError
        If a number is missing, not a number or not finite.
    ContradictionError
        If the forces do not add up to nothing, or the stress is not symmetric.
    """
    numeric("energy", energy, ())
    forces, stress = numeric("forces", forces, (count, 3)), numeric("stress", stress, (3, 3))
    net = np.abs(forces.sum(axis=0)).max()
    allowed = FORCE_TOLERANCE_EV_ANGSTROM * np.sqrt(count)  # each rounded by itself
    if net > allowed:
        zeroed = [int(i) for i in np.flatnonzero(~forces.any(axis=1))]
        why = f"; atom {zeroed[0]} has the force 0 0 0, which is not that of an atom held fixed" if zeroed else ""
        raise ContradictionError(
            f"the forces add up to {net:.3g} eV/Å; at most {allowed:.2g} expected{why}: give the forces as computed"
        )
    same_stress("xy, xz, yz", stress, "yx, zx, zy", stress.T, stress)


def check_properties(found: Properties, count: int) -> None:
    """`check` of the numbers of a label of `count` atoms."""
    check(found.energy, found.forces, found.stress, count)


def numeric(what: str, value: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """`value` as finite numbers of a shape.

    Raises
    ------
    DataError
        If it is not that.
    """
    try:
        numbers = np.array(value, float)
    except (TypeError, ValueError):
        raise DataError(f"{what} is {_short(value)}; a number expected, such as 0.164 or 1.64e-01") from None
    if numbers.shape != shape:
        raise DataError(f"{what} has shape {numbers.shape}, {shape} expected")
    if not np.isfinite(numbers).all():
        raise DataError(f"{what} is not finite")
    return numbers


def same_stress(
    one: str, first: NDArray[np.float64], other: str, second: NDArray[np.float64], scale: NDArray[np.float64]
) -> None:
    """ContradictionError unless two statements of a stress, (3, 3) in eV/Å³, agree."""
    gap = np.abs(first - second)
    if gap.max() > STRESS_TOLERANCE_EV_ANGSTROM3 + STRESS_TOLERANCE * np.abs(scale).max():
        at = np.unravel_index(gap.argmax(), gap.shape)
        raise ContradictionError(
            f"the stress of {one} is {first[at]:.6g} eV/Å³ where that of {other} is {second[at]:.6g}; "
            "two that agree expected: give the tensor as computed, once"
        )


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 40 else f"{text[:37]}..."
