"""Energies, forces and stresses that come without an output: extended XYZ and deepmd/npy.

Nothing says by what physics they were computed but the user's word. All else that such a file
says is read as it stands there, is said aloud where it could be meant otherwise, and is held
against whatever else the file says of the same thing.
"""

from __future__ import annotations

import io
import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io.extxyz import key_val_str_to_dict, read_xyz

from mlpwf.calculators.base import Calculator, ForeignError, Rejected, UnreadableError
from mlpwf.calculators.gate import ContradictionError
from mlpwf.errors import DataError
from mlpwf.label.foreign import UNKNOWN_VERSION, Found, Refused, unfit
from mlpwf.label.given import Given, label_of
from mlpwf.label.store import canonical

log = logging.getLogger(__name__)


# ---------------------------------------------------------------- extended XYZ


PREFIX = "given_"
STRUCTURE = ("Lattice", "pbc", "Properties")


def read_extxyz(path: Path, calculator: Calculator) -> Iterator[Found | Refused]:
    """The labels of an extended XYZ file, each as good as the user's word; a bad frame is refused, the rest is read."""
    said: set[str] = set()
    for index, frame in enumerate(_split(path)):
        place = f"{path}#{index}"
        try:
            if isinstance(frame, UnreadableError):
                raise frame
            atoms, given = _parsed(frame)
        except Exception as error:
            yield unfit(place, error)
        else:
            yield _asserted(atoms, given, calculator, path, index, said)


def _split(path: Path) -> Iterator[list[str] | UnreadableError]:
    """Lines of each frame; an error for what is no frame, after which nothing can be told from the rest."""
    lines = path.read_text(encoding="utf-8", errors="replace").lstrip("\ufeff").splitlines()
    at = 0
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        if not re.fullmatch(r" *\d{1,9}\s*", lines[at]):
            yield UnreadableError(
                f"line {at + 1} is '{lines[at][:40]}'; a number of atoms expected: nothing is read from there on"
            )
            return
        count = int(lines[at])
        frame = lines[at : at + count + 2]
        if len(frame) < count + 2 or count == 0:
            yield UnreadableError(
                f"line {at + 1} says {count} atoms; {max(0, len(frame) - 2)} follow: the file was cut"
            )
            return
        yield frame
        at += count + 2


def _parsed(frame: list[str]) -> tuple[Atoms, Given]:
    """The structure, and whatever else a frame says as it stands there: ASE is shown no name it would interpret.

    It knows names of its own: it would drop the forces on atoms of which `move_mask` says that
    they are fixed, and all but six numbers of a stress.
    """
    columns = re.search(r"\bProperties\s*=\s*\"?([^\s\"]+)", frame[1])
    words = (columns[1] if columns else "species:S:1:pos:R:3").split(":")
    twice = [name for name, times in Counter([*_keys(frame[1]), *words[::3]]).items() if times > 1]
    if twice:
        raise ContradictionError(f"'{twice[0]}' is there twice; once expected: take one out")
    width = sum(int(number) for number in words[2::3])
    for number, row in enumerate(frame[2:], start=1):
        if len(row.split()) != width:
            raise UnreadableError(f"atom {number} has {len(row.split())} columns, {width} expected by Properties")
    for number, row in enumerate(frame[2:], start=1):
        odd = re.search(r"(?<!\S)[-+]?\d+\.?\d*[Dd][-+]?\d+(?!\S)", row)
        if odd:
            raise UnreadableError(f"atom {number} has {odd[0]}; a number expected, its exponent by E as in 1.64E-01")
    atoms = next(read_xyz(io.StringIO("\n".join(frame) + "\n"), index=slice(None), properties_parser=_comment))
    given = {**atoms.info, **atoms.arrays}
    return (
        Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc),
        {name.removeprefix(PREFIX): value for name, value in given.items() if name.startswith(PREFIX)},
    )


def _keys(comment: str) -> list[str]:
    return re.findall(r"([^\s=]+)\s*=", re.sub(r"\"[^\"]*\"|'[^']*'|\{[^}]*\}", "x", comment))


def _comment(line: str) -> dict[str, object]:
    """ASE's own reading of a comment line, every name but those of the structure put behind a prefix."""
    said = key_val_str_to_dict(re.sub(r"\b(stress|virial)(?=\s*=)", rf"{PREFIX}\1", line))
    words = str(said.get("Properties", "species:S:1:pos:R:3")).split(":")
    known = ("species", "pos") if "species" in words[::3] else ("Z", "pos")
    words[::3] = [name if name in known else PREFIX + name for name in words[::3]]
    named = {name if name in STRUCTURE else PREFIX + name.removeprefix(PREFIX): value for name, value in said.items()}
    return {**named, "Properties": ":".join(words)}


# ---------------------------------------------------------------- deepmd/npy


ARRAYS = ("coord", "box", "energy", "force", "virial")
"""Files of a set."""
MORE = ("spin", "fparam", "aparam")
"""Files of a set that say that more than positions decides the numbers."""


def read_system(folder: Path, calculator: Calculator) -> Iterator[Found | Refused]:
    """The labels of a deepmd/npy folder, of one or of mixed types, each as good as the user's word."""
    import dpdata

    try:
        _check_files(folder)
        if any(folder.glob("set.*/real_atom_types.npy")):
            systems = list(dpdata.MultiSystems().load_systems_from_file(str(folder), fmt="deepmd/npy/mixed"))
        else:
            systems = [dpdata.LabeledSystem(str(folder), fmt="deepmd/npy")]
        frames = [frame for system in systems for frame in _frames(system.data)]
    except Exception as error:
        yield unfit(str(folder), error)
        return
    said: set[str] = set()
    for index, (atoms, given) in enumerate(frames):
        yield _asserted(atoms, given, calculator, folder, index, said)


def _check_files(folder: Path) -> None:
    """What dpdata would not miss, or would put beside the wrong frames: every set has every file, of as many frames."""
    if (folder / "nopbc").exists():
        raise DataError("the file nopbc says that there is no periodic cell; three cell vectors expected")
    for name, what in (("type.raw", "type of each atom"), ("type_map.raw", "element of each type")):
        if not (folder / name).is_file():
            raise DataError(f"no {name}; one that gives the {what} expected")
    atoms = len((folder / "type.raw").read_text().split())
    for part in sorted(folder.glob("set.*")):
        frames = {name: _frames_in(part / f"{name}.npy", atoms) for name in ARRAYS}
        if len(set(frames.values())) > 1:
            counts = ", ".join(f"{name} {count}" for name, count in frames.items())
            raise ContradictionError(f"{part.name} has files of different numbers of frames ({counts}); one expected")
        more = [name for name in MORE if (part / f"{name}.npy").exists()]
        if more:
            raise ForeignError(f"{part.name}/{more[0]}.npy says that more than positions decides the numbers")


def _frames_in(path: Path, atoms: int) -> int:
    """Number of frames of a file of a set."""
    name = f"{path.parent.name}/{path.name}"
    if not path.is_file():
        raise DataError(f"no {name}; {', '.join(ARRAYS)} expected in every set")
    try:
        shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
    except Exception as error:
        raise UnreadableError(f"{name} is no whole array of numbers ({error})") from None
    width = {"coord": 3 * atoms, "force": 3 * atoms, "energy": 1}.get(path.stem, 9)
    if not shape or int(np.prod(shape[1:])) != width:
        raise DataError(f"{name} has shape {shape}; {width} numbers a frame expected, of {atoms} atoms")
    return int(shape[0])


def _frames(data: Mapping[str, Any]) -> Iterator[tuple[Atoms, Given]]:
    """Frames of a dpdata system and their numbers; DeePMD's virial is −stress × volume.

    `data` is dpdata's own: arrays and lists by name.
    """
    symbols = [data["atom_names"][kind] for kind in data["atom_types"]]
    for index, (cell, positions) in enumerate(zip(data["cells"], data["coords"], strict=True)):
        atoms = Atoms(symbols, positions=positions, cell=cell, pbc=True)
        names = {"energy": "energies", "forces": "forces", "virial": "virials"}
        yield atoms, {name: data[its][index] for name, its in names.items()}


# ---------------------------------------------------------------- both


def _asserted(
    atoms: Atoms, given: Given, calculator: Calculator, path: Path, index: int, said: set[str]
) -> Found | Refused:
    """A frame as a label; what is to be said of a file is said once."""
    place = f"{path}#{index}"
    try:
        result, notes = label_of(atoms, given, calculator)
        found = Found(
            f"{path.resolve()}#{index}", canonical(atoms), result, UNKNOWN_VERSION, 0.0, True, key=_key(given)
        )
    except Rejected as rejection:
        return Refused(place, rejection.reason, rejection.detail)
    except Refused as refused:
        return Refused(place, refused.reason, refused.detail)
    except Exception as error:
        return unfit(place, error)
    for note in notes:
        if note not in said:
            said.add(note)
            log.info("label import: %s: %s", path, note)
    return found


def _key(given: Given) -> str | None:
    """The key an export of mlpwf gives each frame."""
    found = re.fullmatch(r"[0-9a-f]{64}", str(given.get("label", "")))
    return found[0] if found else None
