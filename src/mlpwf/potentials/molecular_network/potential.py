"""A force field and a network as one potential."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlpwf.errors import DataError
from mlpwf.potentials.base import Potential
from mlpwf.potentials.lammps import FastForces, LammpsExport
from mlpwf.potentials.molecular import DEPLOYED
from mlpwf.potentials.molecular.potential import MolecularPotential
from mlpwf.structures.properties import Properties

if TYPE_CHECKING:
    from mlpwf.potentials.molecular_network import MolecularNetwork

EXCLUDED = 1e-50
"""Weight of pairs of close atoms in the tables: LAMMPS takes pairs of weight 0 from the network's neighbours too."""
FAST = FastForces(0.5, "bond 1 angle 1 dihedral 1 improper 1 hybrid 1 2")
"""The force field holds the bonds; what the network adds to it is slow."""


class SumPotential(Potential):
    """The sum of the network in a file and of the force field in the file beside it."""

    def __init__(self, engine: MolecularNetwork, files: Sequence[Path], molecules: Sequence[Atoms] = ()) -> None:
        super().__init__(engine, files, molecules)
        (model,) = self.files
        baseline = model.with_name(DEPLOYED)
        if not baseline.is_file():
            raise DataError(f"{baseline}: no such file; expected the force field beside {model.name}: train it again")
        self.network = engine.network.open([model], molecules)
        self.baseline = MolecularPotential(engine, [baseline], molecules)

    @property
    def elements(self) -> list[str]:
        """The network's type map."""
        return self.network.elements

    def compute(self, frames: Sequence[Atoms]) -> list[Properties]:
        """Energy, forces and stress of each frame."""
        return [
            replace(
                one, energy=one.energy + rest.energy, forces=one.forces + rest.forces, stress=one.stress + rest.stress
            )
            for one, rest in zip(self.baseline.compute(frames), self.network.compute(frames), strict=True)
        ]

    def descriptors(self, frames: Sequence[Atoms], elements: Sequence[str]) -> NDArray[np.float64]:
        """The network's."""
        return self.network.descriptors(frames, elements)

    @cached_property
    def _export(self) -> LammpsExport:
        return self.baseline.lammps()

    def lammps(self) -> LammpsExport:
        """The force field's styles, and the network's pair style over its tables or its forces from outside."""
        outside = self.network.lammps().outside
        if outside is not None:
            return replace(self._export, outside=outside)
        return replace(self._export, commands=self._commands, fast=FAST)

    def _commands(self, folder: Path) -> list[str]:
        style, coefficients = self.network.overlay(folder, self.baseline.fitted.model.kind_symbols())
        return [
            f"special_bonds lj/coul {EXCLUDED} {EXCLUDED} 1",
            f"pair_style hybrid/overlay {self.baseline.pair_style} {style}",
            *self.baseline.terms(),
            *self.baseline.pairs(folder, "table "),
            f"pair_coeff {coefficients}",
        ]
