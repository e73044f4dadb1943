"""A classical force field as a potential."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from ase import Atoms

from mlpwf.errors import ConfigError
from mlpwf.potentials.base import Engine, Potential
from mlpwf.potentials.force_field.reading import read_force_field, templates, write_full_data
from mlpwf.potentials.images import check_room, longest_held, within_bonds
from mlpwf.potentials.lammps import METAL, REAL, LammpsExport, SinglePoints
from mlpwf.structures.frames import element_order
from mlpwf.structures.molecules import species_numbers
from mlpwf.structures.properties import Properties

SKIN_ANGSTROM, REBUILD_FS = 2.0, 10.0
SPECIAL_BONDS = 3
"""LAMMPS' `special_bonds` says what to do with pairs of atoms up to so many bonds apart."""


class ClassicalPotential(Potential):
    """The force field of two files, commands and data, for boxes of these molecules."""

    def __init__(self, engine: Engine, files: Sequence[Path], molecules: Sequence[Atoms] = ()) -> None:
        super().__init__(engine, files, molecules)
        if len(self.files) != 2 or not self.molecules:
            raise ConfigError(
                f"a force field of {len(self.files)} files and {len(self.molecules)} molecules; expected two files, "
                "commands and molecules, and one frame of each species"
            )
        commands, data = self.files
        self.force_field = read_force_field(commands, data)
        self.templates = templates(self.force_field, self.molecules, data)

    @property
    def elements(self) -> list[str]:
        """Elements of the molecules."""
        return element_order(self.molecules)

    @cached_property
    def _single_points(self) -> SinglePoints:
        return SinglePoints(self.lammps())

    def compute(self, frames: Sequence[Atoms]) -> list[Properties]:
        """Energy, forces and stress of each frame by LAMMPS in this process."""
        return [self._single_points.of(atoms) for atoms in frames]

    def lammps(self) -> LammpsExport:
        """The styles and coefficients of the files, in their units."""
        units = REAL if self.force_field.units == "real" else METAL
        commands = list(self.force_field.commands)
        return LammpsExport(units, "full", SKIN_ANGSTROM, REBUILD_FS, self._write_box, lambda _: commands)

    @cached_property
    def _longest(self) -> float:
        found = []
        for template, reference in zip(self.templates, self.molecules, strict=True):
            neighbours: list[list[int]] = [[] for _ in reference]
            for _, one, other in template.topology["Bonds"].tolist():
                neighbours[one].append(other)
                neighbours[other].append(one)
            found.append(longest_held(reference.positions, within_bonds(neighbours, SPECIAL_BONDS)))
        return max(found)

    def _write_box(self, target: Path, atoms: Atoms) -> None:
        check_room(self.name, atoms, self._longest)
        write_full_data(target, atoms, self.force_field, self.templates, species_numbers(atoms, self.molecules))
