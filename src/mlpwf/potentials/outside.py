"""Potentials that LAMMPS has no style of: it asks for the forces of each step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mlpwf.errors import EngineError, MlpwfError
from mlpwf.potentials.base import Potential
from mlpwf.potentials.lammps import METAL, LammpsExport, cell_of
from mlpwf.structures.lammps_data import write_data
from mlpwf.structures.properties import Properties

FARTHEST_ANGSTROM = 1e6
"""Atoms this far from the origin are lost; NaN is."""


def forces_from_outside(potential: Potential, elements: Sequence[str]) -> LammpsExport:
    """A potential that LAMMPS has no style of: in each step it asks for the forces.

    Parameters
    ----------
    potential
        What predicts.
    elements
        Elements in the order of LAMMPS' atom types.
    """

    def asked(atoms: Atoms) -> Properties:
        return potential.evaluate([atoms])[0]

    def write_box(target: Path, atoms: Atoms) -> None:
        write_data(target, atoms, list(elements))

    def commands(folder: Path) -> list[str]:
        return ["pair_style zero 1.0 nocoeff", "pair_coeff * *"]

    return LammpsExport(METAL, "atomic", 1.0, 2.5, write_box, commands, outside=asked)


class Outside:
    """LAMMPS' fix external: gives it what it is to add to its own energy, forces and virial.

    LAMMPS leaves out what a callback raises. So the error is kept, the forces are made no numbers, which ends the run,
    and `check` raises it.
    """

    NAME = "outside"

    def __init__(self, lammps: Any, template: Atoms, export: LammpsExport) -> None:
        self.lammps, self.atoms, self.export = lammps, template.copy(), export
        self.error: Exception | None = None
        ranks = int(lammps.extract_setting("world_size"))
        if ranks > 1:
            raise EngineError(
                f"LAMMPS runs as {ranks} processes and asks for its forces; expected one process: leave the launcher "
                "out of the site's lammps_launcher"
            )
        lammps.command(f"fix {self.NAME} all external pf/callback 1 1")
        lammps.command(f"fix_modify {self.NAME} energy yes virial yes")
        lammps.set_fix_external_callback(self.NAME, self._answer, None)

    def check(self) -> None:
        """Raise what went wrong outside.

        Raises
        ------
        MlpwfError, OSError
            What the potential raised; any other error as an EngineError.
        """
        if self.error is None:
            return
        if isinstance(self.error, (MlpwfError, OSError)):
            raise self.error
        raise EngineError(
            f"forces from outside: {type(self.error).__name__}: {' '.join(str(self.error).split())[:300]}"
        )

    def _answer(self, _: Any, step: int, count: int, tags: Any, positions: Any, forces: Any) -> None:
        if self.error is not None or not np.all(np.abs(positions[:count]) < FARTHEST_ANGSTROM):
            forces[:count] = np.nan  # lost, or about to be: neighbours of such atoms are looked for in vain for minutes
            return
        try:
            own, ev = np.asarray(tags[:count]) - 1, self.export.units.ev
            self.atoms.set_cell(cell_of(self.lammps))
            self.atoms.positions[own] = positions[:count]
            found = self.export.outside(self.atoms)  # type: ignore[misc]  # there is one, or this would not be here
            forces[:count] = found.forces[own] * ev
            virial = (found.virial + found.virial.T) / 2 * ev
            xx, yy, zz, xy, xz, yz = (float(virial[at]) for at in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)))
            self.lammps.fix_external_set_energy_global(self.NAME, found.energy * ev)
            self.lammps.fix_external_set_virial_global(self.NAME, [xx, yy, zz, xy, xz, yz])
        except Exception as error:
            self.error = error
            forces[:count] = np.nan
