"""A calculator of ASE as a label code: it needs an ASE calculator with energy, forces and stress, and a version."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.calculators.calculator import CalculatorError

from mlpwf.calculators.base import Calculator, Physics, Reason, Rejected, Result
from mlpwf.campaign.accounting import as_engine
from mlpwf.config.label import Label
from mlpwf.structures.properties import Properties


class AseCalculator(Calculator):
    """Labels by a calculator of ASE within this process.

    A process cannot end its own calculation, so these engines lack `Capability.TIME_LIMIT`, and the section `label`
    refuses a `timeout_seconds` of the user's own.
    """

    @abstractmethod
    def ase_calculator(self) -> Any:
        """A new ASE calculator, silent and on one thread, so that results repeat."""

    @abstractmethod
    def version(self) -> str:
        """Version of the program."""

    @property
    def physics(self) -> Physics:
        """The name of the engine; a calculator with settings adds them."""
        return {"engine": self.engine.name}

    @as_engine()
    def compute(self, atoms: Atoms, folder: Path, settings: Label) -> Result:
        """The label of a frame; Rejected if ASE has none."""
        frame = atoms.copy()
        frame.calc = self.ase_calculator()
        try:
            energy, forces = float(frame.get_potential_energy()), frame.get_forces()
            stress = frame.get_stress(voigt=False)
            return Result(Properties(energy, forces, stress, float(frame.get_volume())), self.version())
        except CalculatorError as error:
            raise Rejected(Reason.NOT_CONVERGED, " ".join(str(error).split())[:200]) from None
        except (ArithmeticError, LookupError, NotImplementedError, RuntimeError, ValueError) as error:
            detail = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise Rejected(Reason.CRASHED, detail) from None
