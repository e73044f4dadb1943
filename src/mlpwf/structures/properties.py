"""What a label or a potential says of a frame: energy, forces and stress, in one shape and with one sign."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray

from mlpwf.errors import DataError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Properties:
    """Energy, forces and stress of one periodic frame; or the difference of two, frame less frame.

    The stress is the derivative of the energy by strain over the volume, σ = (1/V) ∂E/∂ε. It is positive in tension.
    This is ASE's sign (`Atoms.get_stress`; `ase.calculators.fd.calculate_numerical_stress` computes it so). An engine
    with another sign converts in its own folder.
    """

    energy: float
    """In eV."""
    forces: Array
    """In eV/Å, shape (n_atoms, 3)."""
    stress: Array
    """In eV/Å³, shape (3, 3)."""
    volume: float
    """In Å³."""

    @property
    def virial(self) -> Array:
        """−stress × volume = −∂E/∂ε in eV, shape (3, 3)."""
        return -self.stress * self.volume

    @property
    def pressure(self) -> float:
        """Without the kinetic part, −tr(stress)/3 in eV/Å³; positive where the frame is compressed."""
        return -float(np.trace(self.stress)) / 3

    @property
    def finite(self) -> bool:
        """Whether all values are finite."""
        return all(bool(np.isfinite(values).all()) for values in (self.energy, self.forces, self.stress))

    def __sub__(self, other: Properties) -> Properties:
        """How far these are from others of the same frame.

        Raises
        ------
        DataError
            If the others are of another number of atoms.
        """
        if self.forces.shape != other.forces.shape or self.forces.ndim != 2:
            shapes = f"{self.forces.shape} and {other.forces.shape}"
            raise DataError(f"forces have shapes {shapes}; expected (n_atoms, 3) twice")
        return Properties(
            self.energy - other.energy, self.forces - other.forces, self.stress - other.stress, self.volume
        )

    def in_order(self, order: NDArray[np.integer]) -> Properties:
        """The same, atom `order[i]` now being atom i."""
        return replace(self, forces=self.forces[order])


def of_frame(atoms: Atoms) -> Properties:
    """The label that a frame carries as its ASE calculator.

    Raises
    ------
    DataError
        If a number is missing or not finite, or the frame has no periodic cell.
    """
    if not atoms.pbc.all() or atoms.get_volume() <= 0:
        raise DataError("a labelled frame has no periodic cell; expected three cell vectors: label it again")
    try:
        energy, forces = atoms.get_potential_energy(), atoms.get_forces(apply_constraint=False)
        stress = atoms.get_stress(voigt=False)
    except Exception as error:
        raise DataError(
            f"a frame of {atoms.get_chemical_formula()} lacks a label ({error}); expected energy, forces and stress"
        ) from None
    found = Properties(float(energy), np.array(forces, float), np.array(stress, float), float(atoms.get_volume()))
    if not found.finite:
        raise DataError(f"a label of {atoms.get_chemical_formula()} is not finite; remove it from the store")
    return found


def on_frame(atoms: Atoms, label: Properties) -> Atoms:
    """A copy of a frame that carries a label as its ASE calculator; forces in the order of its atoms."""
    copy: Atoms = atoms.copy()
    stress = full_3x3_to_voigt_6_stress(label.stress)
    copy.calc = SinglePointCalculator(copy, energy=label.energy, forces=label.forces, stress=stress)
    return copy


def mean(members: Sequence[Properties]) -> Properties:
    """The mean of several predictions of one frame."""
    return Properties(
        float(np.mean([one.energy for one in members])),
        np.mean([one.forces for one in members], axis=0),
        np.mean([one.stress for one in members], axis=0),
        members[0].volume,
    )
