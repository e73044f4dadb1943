"""What trajectory and topology formats hold by themselves, so that nothing a library fills in is taken for data.

MDAnalysis gives every frame a time, every atom of a dump a mass, every DCD file one unit: where the file says
nothing, it makes it up. This is the one place that knows which is which; what is not held is asked for.
"""

from __future__ import annotations

import gzip
import logging
import re
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpwf.errors import DataError
from mlpwf.structures.lammps_text import GZIP

if TYPE_CHECKING:
    from MDAnalysis import Universe

DATA, DUMP, EXTXYZ = "DATA", "LAMMPSDUMP", "EXTXYZ"
HEAD = 2**16  # bytes of a file that tell its format
MAGIC = (
    (4, b"CORD", "DCD"), (0, b"\x00\x00\x07\xcb", "XTC"), (0, b"\x00\x00\x07\xc9", "TRR"), (0, b"CDF\x02", "NCDF"),
    (0, b"CDF\x01", "NCDF"), (0, b"\x89HDF\r\n\x1a\n", "H5MD"), (0, b"ITEM: ", DUMP),
)  # fmt: skip
DATA_HEAD = tuple(re.compile(rf"\n[ \t]*\d+[ \t]+{name}[ \t]*(?:#[^\n]*)?\n") for name in ("atoms", "atom[ \t]+types"))
EXTXYZ_HEAD = re.compile(r"^\s*\d+\s*\n[^\n]*\bProperties=", re.I)
LAMMPS_TIME_PS = {"real": 1e-3, "metal": 1.0}
"""Unit of time by LAMMPS' `units`, of those in Å."""
REDUCED = "lj"


@dataclass(frozen=True)
class Held:
    """Whether each frame of a format holds its time, in a unit the format or the file states, and its step."""

    time: bool = False
    step: bool = False


FRAMES = {
    "XTC": Held(time=True, step=True),
    "TRR": Held(time=True, step=True),
    "TRC": Held(time=True),
    "TRZ": Held(time=True),
    "H5MD": Held(time=True, step=True),
    "NCDF": Held(time=True),
    DUMP: Held(step=True),
    EXTXYZ: Held(step=True),
}
"""Of any other format no time is trusted: PDB, XYZ, GRO and AMBER's TRJ hold none that MDAnalysis reads."""

DCD_IN_AKMA = re.compile(r"CREATED BY NAMD|Created by OpenMM|CREATED BY USER", re.I)
"""Titles of DCD files whose header holds the interval in CHARMM's unit: NAMD's, OpenMM's, CHARMM's own. LAMMPS writes
it in the unit of the run, VMD and what builds on it a constant, others what they were told."""
DCD_OF_LAMMPS = "Written by LAMMPS"

MASSES = frozenset((
    DATA, DUMP, "PSF", "TOP", "PRMTOP", "PARM7", "TPR", "DMS", "ITP", "XML", "GSD", "CIF", "MMCIF",
))  # fmt: skip
ELEMENTS = frozenset((
    "PDB", "ENT", "XPDB", "XYZ", EXTXYZ, "TXYZ", "ARC", "IN", "FHIAIMS", "MOL2", "TOP", "PRMTOP", "PARM7", "TPR", DUMP,
    "CIF", "MMCIF",
))  # fmt: skip
"""Topologies that hold masses, and elements; what MDAnalysis gives atoms of others is dropped."""


def head(path: Path) -> bytes:
    """The first bytes of a file, of a gzipped one those of its content."""
    try:
        with path.open("rb") as file:
            if file.read(2) == GZIP:
                with gzip.open(path) as unpacked:
                    return unpacked.read(HEAD)
            file.seek(0)
            return file.read(HEAD)
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read ({error}); expected a topology or trajectory") from None


def recognise(path: Path, known: Any, what: str) -> str:
    """The format of a file by its content, or else by its name.

    Raises
    ------
    DataError
        If neither tells.
    """
    import MDAnalysis.lib.util

    begin = head(path)
    for offset, magic, name in MAGIC:
        if begin[offset : offset + len(magic)] == magic:
            return name
    text = begin.decode("utf-8-sig", errors="replace").replace("\r\n", "\n")
    if all(line.search(text) for line in DATA_HEAD):
        return DATA
    if EXTXYZ_HEAD.match(text):
        return EXTXYZ
    with suppress(ValueError, TypeError):
        name = str(MDAnalysis.lib.util.guess_format(str(path))).upper()
        if name in known:
            return name
    raise DataError(
        f"{path}: {what} of a format that neither its content nor its name tells; expected one MDAnalysis reads "
        "(xtc, trr, dcd, LAMMPS dump or data, pdb, psf, …): name it by its format"
    )


def quieten() -> None:
    """Keep MDAnalysis' warnings and log lines, and complaints of readers that were never open, from the terminal."""
    from MDAnalysis.coordinates.base import ReaderBase
    from MDAnalysis.coordinates.XDR import XDRBaseReader

    warnings.filterwarnings("ignore", module="MDAnalysis")
    warnings.filterwarnings("ignore", module="scipy.io")
    logging.getLogger("MDAnalysis").addHandler(logging.NullHandler())
    for kind in (ReaderBase, XDRBaseReader):
        setattr(kind, "__del__", _close)  # noqa: B010 - theirs raises where there is nothing to close


def _close(reader: Any) -> None:
    with suppress(Exception):
        reader.close()


def attempt(action: Callable[[], Any]) -> tuple[Any, str]:
    """The result of a call of a library, and why it failed in one line: a reader raises what it likes."""
    try:
        return action(), ""
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        return None, reason if len(reason) < 200 else f"{reason[:200]}…"


def name_of(reader: Any) -> str:
    """Name of the format of a reader."""
    found = getattr(reader, "mlpwf_format", None) or getattr(reader, "format", "")
    return str(found if isinstance(found, str) else next(iter(found or [""])))


def held(reader: Any) -> Held:
    """What the frames of an open file hold."""
    name = name_of(reader)
    if name == "DCD":
        return Held(time=DCD_IN_AKMA.search(dcd_title(reader)) is not None)
    if name == "NCDF":
        return Held(time=bool(reader.has_time))
    if name == DUMP:
        return Held(time=getattr(reader, "time_ps", None) is not None and reader.says_time, step=True)
    if name == EXTXYZ:
        return Held(step="step" in reader.ts.data)
    return FRAMES.get(name, Held())


def dcd_title(reader: Any) -> str:
    """The title of a DCD file."""
    return str(reader._file.header["remarks"])


def drop_fillers(universe: Universe, topology: str, columns: frozenset[str] | None) -> None:
    """Remove masses and elements that the topology does not hold; `columns` are those of a LAMMPS dump."""
    fillers = []
    if topology not in MASSES or (columns is not None and "mass" not in columns):
        fillers.append("masses")
    if topology not in ELEMENTS or (columns is not None and "element" not in columns):
        fillers.append("elements")
    if columns is not None and "type" not in columns:
        fillers.append("types")
    for name in fillers:
        if hasattr(universe.atoms, name):
            universe.del_TopologyAttr(name)


def lammps_units(statements: dict[str, str | None], reduced: bool) -> str | None:
    """The `units` of LAMMPS that a set of files was written in, by what each statement says.

    Raises
    ------
    DataError
        Where two statements differ, or the units are not in Å (or, with reduced units, not lj).
    """
    said = {where: units for where, units in statements.items() if units is not None}
    if len(set(said.values())) > 1:
        both = " and ".join(f"units {units} by {where}" for where, units in said.items())
        raise DataError(f"{both}; expected files of one run")
    if not said:
        return None
    where, units = next(iter(said.items()))
    expected = (REDUCED,) if reduced else tuple(LAMMPS_TIME_PS)
    if units not in expected:
        remedy = "" if reduced or units != REDUCED else ", or units: reduced in a file of states"
        raise DataError(f"units {units} by {where}; expected {' or '.join(expected)}{remedy}")
    return units
