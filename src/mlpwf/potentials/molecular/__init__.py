"""The engine `molecular`: a class-II force field of the campaign's molecules, fitted to its labels in seconds."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlpwf.potentials.base import Ability, Engine, Potential, Progress, Role, Trained, TrainingJob

if TYPE_CHECKING:
    from ase import Atoms

    from mlpwf.config import Site

ORIGINAL, DEPLOYED, CURVE = "fit.json", "force_field.json", "lcurve.csv"


class Molecular(Engine):
    """Bonds, angles, dihedrals and pairs by class-II terms and splines, fitted to labels."""

    name = "molecular"
    abilities = frozenset({Ability.TRAIN, Ability.DESCRIPTORS, Ability.LAMMPS})
    files = {Role.ORIGINAL: ORIGINAL, Role.DEPLOYED: DEPLOYED}  # noqa: RUF012
    curve = CURVE
    program = "force field"
    of_molecules = True
    packages = ("numpy", "scipy")
    expects = "a force field of these molecules, atom by atom"

    def open(self, files: Sequence[Path], molecules: Sequence[Atoms] = ()) -> Potential:
        """A fitted force field."""
        from mlpwf.potentials.molecular.potential import MolecularPotential

        return MolecularPotential(self, files, molecules)

    def train(self, job: TrainingJob, progress: Progress) -> Trained:
        """Fit to the job's frames."""
        from mlpwf.potentials.molecular.training import train

        return train(job, progress)

    def deploy(self, folder: Path, site: Site) -> None:
        """The file as fitted is what is run."""
        shutil.copy2(folder / ORIGINAL, folder / DEPLOYED)
