"""The engines `molecular_deepmd` and `molecular_mace`: a fitted molecular force field, and a network on what it leaves.

Their energy is the sum of both. The network learns a small and smooth rest instead of stiff bonds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from mlpwf.potentials.base import Ability, Engine, Plugin, Potential, Progress, Role, Trained, TrainingJob
from mlpwf.potentials.deepmd import DeePMD
from mlpwf.potentials.mace import Mace
from mlpwf.potentials.molecular import DEPLOYED, Molecular

if TYPE_CHECKING:
    from ase import Atoms

    from mlpwf.config import Site


class MolecularNetwork(Engine):
    """The sum of a force field and a network of another engine."""

    network: ClassVar[Engine]
    abilities = frozenset(Ability)
    of_molecules = True

    def open(self, files: Sequence[Path], molecules: Sequence[Atoms] = ()) -> Potential:
        """The network in a file, and the force field in the file beside it."""
        from mlpwf.potentials.molecular_network.potential import SumPotential

        return SumPotential(self, files, molecules)

    def train(self, job: TrainingJob, progress: Progress) -> Trained:
        """Fit the force field, then train the network on the labels less its energies, forces and virials."""
        from mlpwf.potentials.molecular_network.training import train

        return train(job, progress, self.network)

    def deploy(self, folder: Path, site: Site) -> None:
        """Deploy the network."""
        self.network.deploy(folder, site)

    def plugin(self, threads: int) -> Plugin:
        """What the network needs."""
        return self.network.plugin(threads)


class MolecularDeePMD(MolecularNetwork):
    """With a network of DeePMD-kit."""

    name = "molecular_deepmd"
    network = DeePMD()
    program, trial = DeePMD.program, DeePMD.trial
    files = {**DeePMD.files, Role.BASELINE: DEPLOYED}  # noqa: RUF012
    packages = (*DeePMD.packages, "scipy")
    expects = f"{Molecular.expects}, and {DeePMD.expects}"


class MolecularMace(MolecularNetwork):
    """With a model of MACE."""

    name = "molecular_mace"
    network = Mace()
    program, trial = Mace.program, Mace.trial
    files = {**Mace.files, Role.BASELINE: DEPLOYED}  # noqa: RUF012
    packages = (*Mace.packages, "scipy")
    expects = f"{Molecular.expects}, and {Mace.expects}"
