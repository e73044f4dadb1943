"""The engine `molecular_deepmd`: a fitted molecular force field, and a network of DeePMD-kit on what it leaves.

Its energy is the sum of both. The network learns a small and smooth rest instead of stiff bonds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlpwf.potentials.base import Ability, Engine, Plugin, Potential, Progress, Role, Trained, TrainingJob
from mlpwf.potentials.deepmd import DeePMD
from mlpwf.potentials.molecular import DEPLOYED, Molecular

if TYPE_CHECKING:
    from ase import Atoms

    from mlpwf.config import Site


class MolecularDeePMD(Engine):
    """The sum of a force field and a network."""

    name = "molecular_deepmd"
    abilities = frozenset(Ability)
    files = {**DeePMD.files, Role.BASELINE: DEPLOYED}  # noqa: RUF012
    curve = DeePMD.curve
    of_molecules = True
    packages = (*DeePMD.packages, "scipy")
    expects = f"{Molecular.expects}, and {DeePMD.expects}"

    def open(self, files: Sequence[Path], molecules: Sequence[Atoms] = ()) -> Potential:
        """The network in a file, and the force field in the file beside it."""
        from mlpwf.potentials.molecular_deepmd.potential import SumPotential

        return SumPotential(self, files, molecules)

    def train(self, job: TrainingJob, progress: Progress) -> Trained:
        """Fit the force field, then train the network on the labels less its energies, forces and virials."""
        from mlpwf.potentials.molecular_deepmd.training import train

        return train(job, progress)

    def deploy(self, folder: Path, site: Site) -> None:
        """Compress the network."""
        DeePMD().deploy(folder, site)

    def plugin(self, threads: int) -> Plugin:
        """What the network needs."""
        return DeePMD().plugin(threads)
