"""Frames: ASE atoms with molecule numbers, kept as extended XYZ."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms

from mlpwf.errors import DataError
from mlpwf.files import REMEDY, replacing
from mlpwf.structures.neighbours import pairs_within

RESOLUTION_ANGSTROM = 1e-6


def quantised(atoms: Atoms) -> Atoms:
    """A copy with positions and cell rounded to 1e-6 Å.

    Eight decimals of an extended XYZ file hold such a frame exactly, so that a
    frame is the same frame whatever number of files it went through.
    """
    copy: Atoms = atoms.copy()
    copy.set_cell(np.round(atoms.cell.array, 6) + 0.0, scale_atoms=False)
    copy.positions = np.round(atoms.positions, 6) + 0.0
    return copy


def write_frames(target: Path | str, frames: Iterable[Atoms]) -> None:
    """Write frames as extended XYZ, atomically; no frames make an empty file."""
    frames = list(frames)
    with replacing(target) as temporary:
        if frames:
            ase.io.write(temporary, frames, format="extxyz", write_info=True)
        else:
            temporary.write_text("")


def read_frames(source: Path | str) -> list[Atoms]:
    """Read all frames of an extended XYZ file.

    Raises
    ------
    DataError
        If the file is missing or malformed.
    """
    path = Path(source)
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if path.stat().st_size == 0:
        return []
    try:
        with path.open() as handle:  # of a path, ASE takes what follows an @ for an index
            return list(ase.io.read(handle, index=":", format="extxyz"))
    except Exception as error:
        raise DataError(f"{path}: not an extended XYZ file ({error}); expected one; {REMEDY}") from None


def minimum_distance(atoms: Atoms) -> float:
    """Smallest distance between two atoms in Å, periodic images included; inf for one atom."""
    for reach in (1.3, 3.0, 8.0):
        _, _, distances, _ = pairs_within(atoms, reach)
        if len(distances):
            return float(distances.min())
    return float("inf")


def element_order(frames: Iterable[Atoms]) -> list[str]:
    """The elements of all frames by atomic number: the type order of every model and MD run."""
    numbers = sorted({int(number) for atoms in frames for number in atoms.numbers})
    from ase.data import chemical_symbols

    return [chemical_symbols[number] for number in numbers]


def by_size(frames: Sequence[Atoms]) -> dict[int, list[int]]:
    """Frames of liquid (`info['kind']` is ``bulk``) where there are any, else all: indices by number of atoms."""
    bulk = [index for index, atoms in enumerate(frames) if atoms.info.get("kind") == "bulk"]
    sizes: dict[int, list[int]] = defaultdict(list)
    for index in bulk or range(len(frames)):
        sizes[len(frames[index])].append(index)
    return dict(sorted(sizes.items()))


def geometry_key(atoms: Atoms) -> str:
    """SHA-256 of elements, cell and positions to 1e-6 Å: equal for equal geometries, wherever they come from."""
    whole = quantised(atoms)
    digest = hashlib.sha256(whole.numbers.astype("<i8").tobytes())
    with np.errstate(invalid="ignore"):
        for values in (whole.cell.array, whole.positions):
            digest.update(np.round(values / RESOLUTION_ANGSTROM).astype("<i8").tobytes())
    return digest.hexdigest()
