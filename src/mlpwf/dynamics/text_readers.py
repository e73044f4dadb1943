"""Readers of text trajectories that say more than MDAnalysis' own take from them: LAMMPS dumps and extended XYZ."""

from __future__ import annotations

import io
from functools import cached_property
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from MDAnalysis.coordinates.LAMMPS import DumpReader
from MDAnalysis.coordinates.PDB import PDBReader
from MDAnalysis.coordinates.XYZ import XYZReader
from MDAnalysis.lib.mdamath import triclinic_box
from MDAnalysis.lib.util import NamedStream, anyopen

from mlpwf.dynamics.formats import DUMP, EXTXYZ
from mlpwf.structures.lammps_text import text_of

SKIPPED = ("ITEM: UNITS", "ITEM: TIME\n", "ITEM: TIME\r")


class _Lines:
    """A dump without its units and times, which are kept aside: what is left has the lines MDAnalysis expects."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.units: str | None = None
        self.time: float | None = None

    def readline(self) -> str:
        """The next line that is of no unit and no time."""
        line = str(self._file.readline())
        while line.startswith(SKIPPED):
            value = self._file.readline().strip()
            if line.startswith("ITEM: UNITS"):
                self.units = value
            else:
                self.time = float(value)
            line = str(self._file.readline())
        return line

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def dump_head(path: str) -> tuple[str | None, frozenset[str]]:
    """The units a dump states, if it does, and the columns of its first frame."""
    with _Lines(anyopen(path)) as lines:
        while line := lines.readline():
            if line.startswith("ITEM: ATOMS"):
                return lines.units, frozenset(line.split()[2:])
    raise ValueError("no ITEM: ATOMS: not a dump of atoms")


def dump_topology(path: str) -> NamedStream:
    """The first frame of a dump as MDAnalysis' parser expects it."""
    kept, left = [], None
    with _Lines(anyopen(path)) as lines:
        while left != 0 and (line := lines.readline()):
            kept.append(line)
            if left is not None:
                left -= 1
            elif line.startswith("ITEM: ATOMS"):
                left = int(kept[kept.index("ITEM: NUMBER OF ATOMS\n") + 1])
    return NamedStream(io.StringIO("".join(kept)), path)


def data_topology(path: Path) -> NamedStream:
    """A LAMMPS data file without its title, which MDAnalysis would read for a header or a section."""
    return NamedStream(io.StringIO("\n" + text_of(path).partition("\n")[2]), str(path))


def has_line(path: Path, number: int) -> bool:
    """Whether a text file has more than blanks in a line, counted from 0."""
    with anyopen(str(path)) as file:
        return any(line.strip() for line in islice(file, number, number + 1))


def xyz_topology(path: str) -> NamedStream:
    """The first frame of an extended XYZ file as a plain one."""
    with anyopen(path) as file:
        count = file.readline()
        atoms = _frame_of([count, *(file.readline() for _ in range(int(count) + 1))])
    rows = [f"{symbol} 0 0 0\n" for symbol in atoms.symbols]
    return NamedStream(io.StringIO(f"{len(atoms)}\n\n{''.join(rows)}"), path)


def _frame_of(lines: list[str]) -> Atoms:
    import ase.io

    found = ase.io.read(io.StringIO("".join(lines)), format="extxyz", index=0)
    assert isinstance(found, Atoms)
    return found


class LammpsDump(DumpReader):  # type: ignore[misc]
    """MDAnalysis' reader of dumps, for those with units and times too; atoms must have numbers.

    `time_ps`, set by who opens it, is the unit of the times in ps; `data["lammps_time"]` of a frame is its time.
    """

    mlpwf_format = DUMP
    _file: Any
    time_ps: float | None = None

    def __init__(self, filename: str, **kwargs: Any) -> None:
        self.says_time = False
        self._counts: list[int] = []
        columns = dump_head(str(filename))[1]
        if "id" not in columns:
            raise ValueError("no column id, and LAMMPS writes atoms in any order: dump id too")
        super().__init__(filename, additional_columns=["id"], **kwargs)

    def _reopen(self) -> None:
        super()._reopen()
        self._file = _Lines(self._file)

    @property
    def n_atoms(self) -> int:
        """Atoms of the first frame."""
        return self._scan()[1][0]

    @property
    def n_frames(self) -> int:
        """Frames, of which the last may be cut short."""
        return len(self._scan()[0])

    def _scan(self) -> tuple[list[int], list[int]]:
        """Where each frame begins, and how many atoms it has."""
        if not self._counts:
            self._offsets, self._counts = _frames_of(str(self.filename))
        return self._offsets, self._counts

    def _read_next_timestep(self) -> Any:
        self._file.time = None
        step = super()._read_next_timestep()
        if len(np.unique(step.data["id"])) != self.n_atoms:
            raise ValueError("an atom's id is there twice")
        step.data.pop("lammps_time", None)
        if self._file.time is not None:
            self.says_time = True
            step.data["lammps_time"] = self._file.time
        return step


def _frames_of(path: str) -> tuple[list[int], list[int]]:
    offsets, counts = [], []
    with anyopen(path) as file:
        while True:
            begin, atoms, line = file.tell(), None, file.readline()
            while line and not line.startswith("ITEM: ATOMS"):
                if line.startswith("ITEM: NUMBER OF ATOMS"):
                    atoms = int(file.readline())
                line = file.readline()
            if not line:
                break
            if atoms is None:
                raise ValueError("a frame without its number of atoms")
            offsets.append(begin)
            counts.append(atoms)
            for _ in range(atoms):
                file.readline()
    if not offsets:
        raise ValueError("no whole frame")
    return offsets, counts


class Pdb(PDBReader):  # type: ignore[misc]
    """PDB frames with the box of the file's one CRYST1, which stands above the first MODEL and is of all of them."""

    def _read_frame(self, frame: int) -> Any:
        step = super()._read_frame(frame)
        if step.dimensions is None and (box := self._box) is not None:
            step.dimensions = box
        return step

    @cached_property
    def _box(self) -> list[float] | None:
        """Edges in Å and angles; None for the box of 1 Å that stands for none."""
        with anyopen(str(self.filename)) as file:
            for line in file:
                if line.startswith("CRYST1"):
                    box = [float(line[low:high]) for low, high in pairwise((6, 15, 24, 33, 40, 47, 54))]
                    return None if box[:3] == [1.0, 1.0, 1.0] else box
                if line.startswith(("ATOM", "HETATM")):
                    return None
        return None


class ExtendedXyz(XYZReader):  # type: ignore[misc]
    """Extended XYZ frames by ASE, with their box; `data["step"]` is LAMMPS' `Timestep`, where there is one."""

    mlpwf_format = EXTXYZ

    def _read_next_timestep(self, ts: Any = None) -> Any:
        ts = self.ts if ts is None else ts
        lines = [self.xyzfile.readline() for _ in range(self.n_atoms + 2)]
        if not lines[-1]:
            raise EOFError("cut short")
        atoms = _frame_of(lines)
        cell, rotation = atoms.cell.standard_form()
        if atoms.pbc.all():
            ts.positions = atoms.positions @ rotation.T
            ts.dimensions = triclinic_box(*cell.array)
        else:
            ts.positions, ts.dimensions = atoms.positions, None
        ts.data.pop("step", None)
        if isinstance(atoms.info.get("Timestep"), int | np.integer):
            ts.data["step"] = int(atoms.info["Timestep"])
        ts.frame += 1
        return ts


OWN = {DUMP: LammpsDump, EXTXYZ: ExtendedXyz, "PDB": Pdb, "ENT": Pdb}
"""Readers in the place of MDAnalysis', by format."""
