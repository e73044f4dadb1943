"""The engine `mace`: equivariant message-passing models of mace-torch, in a Python environment of their own.

Batatia, Kovács, Simm, Ortner and Csányi, NeurIPS 2022. PyTorch and what mace-torch needs would not fit beside the
other engines' packages: `worker.py` runs in the other environment, and is asked by pipe.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlpwf.potentials.base import Ability, Engine, Potential, Progress, Role, Trained, TrainingJob

if TYPE_CHECKING:
    from ase import Atoms

    from mlpwf.config import Site

ORIGINAL, DEPLOYED = "model.pt", "deployed.pt"


class Mace(Engine):
    """mace-torch."""

    name = "mace"
    abilities = frozenset(Ability)
    files = {Role.ORIGINAL: ORIGINAL, Role.DEPLOYED: DEPLOYED}  # noqa: RUF012
    program = "MACE"
    trial = {"cutoff_angstrom": 3.0, "mace": {"channels": 4, "layers": 1, "batch": 1}, "steps": 10}  # noqa: RUF012
    packages = ("numpy",)
    expects = "MACE models of the elements of this box (else train them again)"

    def open(self, files: Sequence[Path], molecules: Sequence[Atoms] = ()) -> Potential:
        """A trained model."""
        from mlpwf.potentials.mace.potential import MacePotential

        return MacePotential(self, files, molecules)

    def train(self, job: TrainingJob, progress: Progress) -> Trained:
        """Train in mace-torch's environment, from the last checkpoint there is."""
        from mlpwf.potentials.mace.training import train

        return train(job, progress)

    def deploy(self, folder: Path, site: Site) -> None:
        """The file as trained is what is run."""
        shutil.copy2(folder / ORIGINAL, folder / DEPLOYED)
