"""The engine `deepmd`: se_e2_a models of DeePMD-kit, trained by `dp`, evaluated by its Python package and in LAMMPS.

Rules read the files' names here in every job: what the engine does is imported when it is asked for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlpwf.potentials.base import (
    Ability,
    BuiltInSpread,
    Engine,
    Plugin,
    Potential,
    Progress,
    Role,
    Trained,
    TrainingJob,
)

if TYPE_CHECKING:
    from ase import Atoms

    from mlpwf.config import Site

FROZEN, COMPRESSED = "model.pb", "compressed.pb"


class DeePMD(Engine):
    """DeePMD-kit."""

    name = "deepmd"
    abilities = frozenset(Ability)
    files = {Role.ORIGINAL: FROZEN, Role.DEPLOYED: COMPRESSED}  # noqa: RUF012
    program = "dp"
    trial = {"cutoff_angstrom": 3.0, "embedding_neurons": [4, 8], "fitting_neurons": [8, 8], "steps": 10}  # noqa: RUF012
    packages = ("deepmd-kit", "dpdata", "numpy")
    expects = "frozen DeePMD models of the elements of this box (else train them again)"

    def open(self, files: Sequence[Path], molecules: Sequence[Atoms] = ()) -> Potential:
        """A frozen model."""
        from mlpwf.potentials.deepmd.potential import DeepPotential

        return DeepPotential(self, files, molecules)

    def train(self, job: TrainingJob, progress: Progress) -> Trained:
        """Train, freeze and compress by `dp`, from the last checkpoint there is."""
        from mlpwf.potentials.deepmd.training import train

        return train(job, progress)

    def deploy(self, folder: Path, site: Site) -> None:
        """Compress the frozen model."""
        from mlpwf.potentials.deepmd.program import Program

        Program(site.dp, site.train_threads).compress(folder)

    def plugin(self, threads: int) -> Plugin:
        """DeePMD-kit's plugin of LAMMPS, and TensorFlow."""
        from mlpwf.potentials.deepmd.lammps import plugin

        return plugin(threads)

    def built_in_spread(self, members: Sequence[Potential], every_steps: int) -> BuiltInSpread | None:
        """By the pair style, at the cost of the members' forces alone."""
        from mlpwf.potentials.deepmd.lammps import built_in_spread
        from mlpwf.potentials.deepmd.potential import lammps_types

        return built_in_spread([member.files[0] for member in members], lammps_types(members[0]), every_steps)
