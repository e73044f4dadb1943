"""A potential as an ASE calculator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from mlpwf.structures.properties import Properties


class PotentialCalculator(Calculator):
    """Energy (eV), forces (eV/Å) and stress (eV/Å³, ASE's sign) by a potential."""

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012

    def __init__(self, predict: Callable[[Sequence[Atoms]], list[Properties]]) -> None:
        super().__init__()
        self.predict = predict

    def calculate(
        self, atoms: Atoms | None = None, properties: Sequence[str] = ("energy",), system_changes: Any = all_changes
    ) -> None:
        """All properties at once."""
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        (found,) = self.predict([self.atoms])
        stress = (found.stress + found.stress.T) / 2
        self.results = {
            "energy": found.energy,
            "free_energy": found.energy,
            "forces": found.forces,
            "stress": full_3x3_to_voigt_6_stress(stress),
        }
