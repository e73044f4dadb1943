"""A MACE model, evaluated by the worker; in LAMMPS its forces come from outside."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray

from mlpwf.campaign.accounting import as_engine
from mlpwf.errors import DataError
from mlpwf.potentials.base import Engine, Potential
from mlpwf.potentials.descriptors import mean_and_spread
from mlpwf.potentials.lammps import LammpsExport
from mlpwf.potentials.mace.program import ask
from mlpwf.potentials.outside import forces_from_outside
from mlpwf.structures.frames import element_order
from mlpwf.structures.properties import Properties

Array = NDArray[np.float64]


def arrays_of(frames: Sequence[Atoms]) -> dict[str, Any]:
    """Frames as the worker takes them: their atoms one after another."""
    return {
        "atoms": np.array([len(atoms) for atoms in frames]),
        "numbers": np.concatenate([atoms.numbers for atoms in frames]),
        "positions": np.concatenate([atoms.positions for atoms in frames]),
        "cells": np.array([atoms.cell.array for atoms in frames]),
    }


class MacePotential(Potential):
    """A trained model; it is read when it is first asked."""

    def __init__(self, engine: Engine, files: Sequence[Path], molecules: Sequence[Atoms] = ()) -> None:
        super().__init__(engine, files, molecules)
        (self.model,) = self.files
        if not self.model.is_file():
            raise DataError(f"{self.model}: no such model; expected a MACE model of mlpwf train")

    def _ask(self, what: str, **more: object) -> dict[str, Any]:
        return ask({"model": str(self.model.resolve()), "ask": what, **more})

    @cached_property
    def elements(self) -> list[str]:
        """Elements of the frames it was trained on."""
        return [chemical_symbols[number] for number in self._ask("numbers")["numbers"]]

    def compute(self, frames: Sequence[Atoms]) -> list[Properties]:
        """Energy, forces and stress of each frame."""
        if not frames:
            return []
        found = self._ask("predict", **arrays_of(frames))
        ends = np.cumsum([len(atoms) for atoms in frames])[:-1]
        rows = zip(frames, found["energies"], np.split(found["forces"], ends), found["stresses"], strict=True)
        return [
            Properties(float(energy), forces, np.reshape(stress, (3, 3)), float(atoms.get_volume()))
            for atoms, energy, forces, stress in rows
        ]

    @as_engine()
    def descriptors(self, frames: Sequence[Atoms], elements: Sequence[str]) -> Array:
        """Mean and spread of the invariant features of the atoms, element by element."""
        if not frames:
            return np.zeros((0, 0))
        found = self._ask("descriptors", **arrays_of(frames))["descriptors"]
        ends = np.cumsum([len(atoms) for atoms in frames])[:-1]
        return np.array(
            [
                mean_and_spread(values, atoms.get_chemical_symbols(), elements)
                for atoms, values in zip(frames, np.split(found, ends), strict=True)
            ]
        )

    def lammps(self) -> LammpsExport:
        """LAMMPS asks for the forces of each step; atom types in the order of the molecules' elements."""
        return forces_from_outside(self, element_order(self.molecules) if self.molecules else self.elements)
