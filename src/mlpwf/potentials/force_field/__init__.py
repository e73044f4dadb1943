"""The engine `force_field`: a classical force field from LAMMPS files. It is given, not trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlpwf.potentials.base import Ability, Engine, Potential

if TYPE_CHECKING:
    from ase import Atoms


class ClassicalForceField(Engine):
    """Bonds, angles, dihedrals and pairs, evaluated by LAMMPS."""

    name = "force_field"
    abilities = frozenset({Ability.LAMMPS})
    expects = "styles LAMMPS has, coefficients of all types"

    def open(self, files: Sequence[Path], molecules: Sequence[Atoms] = ()) -> Potential:
        """The force field of two files, commands and data (`simulate.force_field`), for boxes of these molecules."""
        from mlpwf.potentials.force_field.potential import ClassicalPotential

        return ClassicalPotential(self, files, molecules)
