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
from numpy.typing import NDArray

from mlpwf.config import Label
from mlpwf.engines.espresso import Result
from mlpwf.errors import DataError
from mlpwf.labels.acceptance import Aside, check_distance
from mlpwf.labels.found import UNKNOWN_VERSION, ForeignError, Found, Refusal, Refused, unfit
from mlpwf.labels.gate import (
    ENERGY_TOLERANCE_EV_ATOM,
    FORCE_TOLERANCE_EV_ANGSTROM,
    ContradictionError,
    numeric,
    same_stress,
)
from mlpwf.labels.store import canonical

log = logging.getLogger(__name__)

MEANING = {
    "energy": "the total energy in eV",
    "forces": "the force on each atom, −dE/dx, in eV/Å",
    "stress": "the stress in eV/Å³, positive under tension, nine numbers",
    "virial": "the virial, −stress × volume, in eV, nine numbers",
}
"""What each name of a label stands for; the first name of a quantity in NAMES is that of extended XYZ."""
NAMES = {"energy": ("energy",), "forces": ("forces", "force"), "stress": ("stress",), "virial": ("virial",)}
STATES = {
    "energy": re.compile(r"energy$", re.I),
    "forces": re.compile(r"forces?$", re.I),
    "stress": re.compile(r"stress(es)?$", re.I),
    "virial": re.compile(r"virials?$", re.I),
}
"""Names that end so, such as REF_forces or free_energy, state the quantity too."""
VOIGT = [[0, 5, 4], [5, 1, 3], [4, 3, 2]]
"""Where ASE's six stresses xx, yy, zz, yz, xz, xy stand in the tensor."""
UNITS = re.compile(r"(metal|ase|(ev|ang(strom)?s?|å|a|/|\^?3|\*|³|,|\s)+)", re.I)


# ---------------------------------------------------------------- numbers of a frame


def label_of(atoms: Atoms, given: Mapping[str, Any], label: Label) -> tuple[Result, list[str]]:
    """The label in what a file says of a frame, and what is to be said of how it was read.

    Parameters
    ----------
    atoms
        The structure.
    given
        All else the file says, by name, as it stands there.
    label
        The physics the numbers are said to have.

    Raises
    ------
    DataError
        If the frame has no periodic cell or lacks a number.
    ContradictionError
        If two statements of the file cannot both be true.
    Aside
        If two atoms clash.
    """
    if not atoms.pbc.all() or abs(np.linalg.det(atoms.cell.array)) < 1e-3:
        raise DataError("no periodic cell; three cell vectors expected, and periodic boundaries along each")
    canonical(atoms)
    check_distance(atoms, label)
    _check_stated(given, label)
    _check_elements(given, atoms)
    count = len(atoms)
    notes: list[str] = []
    energy = _read("energy", given, (), ENERGY_TOLERANCE_EV_ATOM * count)
    forces = _read("forces", given, (count, 3), FORCE_TOLERANCE_EV_ANGSTROM)
    if energy is None or forces is None:
        raise _missing("energy" if energy is None else "forces", given)
    if "forces" not in given:
        notes.append(f"'force' is read as {MEANING['forces']}")
    stress, virial = _tensor("stress", given, notes), _tensor("virial", given, notes)
    if virial is not None:
        own = -virial / atoms.get_volume()
        if stress is None:
            stress = own
        same_stress("'stress'", stress, "'virial', as −virial / volume,", own, own)
    if stress is None:
        raise _missing("stress", given)
    return Result(float(energy), forces, stress), notes


def _read(
    quantity: str, given: Mapping[str, Any], shape: tuple[int, ...], tolerance: float
) -> NDArray[np.float64] | None:
    """A quantity by its name, once all that state it agree; None if none of its names is there."""
    own = next((name for name in NAMES[quantity] if name in given), None)
    if own is None:
        return None
    value = numeric(f"'{own}'", given[own], shape)
    for name, other in _others(quantity, own, given, shape).items():
        gap = np.abs(other - value)
        if not gap.max() <= tolerance:
            at = np.unravel_index(gap.argmax(), gap.shape)
            raise _two(quantity, own, float(value[at]), name, float(other[at]))
    return value


def _others(
    quantity: str, own: str, given: Mapping[str, Any], shape: tuple[int, ...]
) -> dict[str, NDArray[np.float64]]:
    found = {}
    for name, value in given.items():
        if name != own and STATES[quantity].search(name):
            numbers = np.asarray(value)
            if numbers.shape == shape and numbers.dtype.kind in "if":
                found[name] = numbers.astype(float)
    return found


def _two(quantity: str, own: str, value: float, name: str, other: float) -> ContradictionError:
    unit = MEANING[quantity].split(" in ")[1].split(",")[0]
    return ContradictionError(
        f"'{own}' says {value:.6g} {unit} where '{name}' says {other:.6g}; one of them expected, which is "
        f"{MEANING[quantity]}: take the other out of the file"
    )


def _tensor(quantity: str, given: Mapping[str, Any], notes: list[str]) -> NDArray[np.float64] | None:
    """A stress or virial (3, 3), once all that state it agree; None if it is not there."""
    if quantity not in given:
        return None
    value = _full(f"'{quantity}'", given[quantity], quantity, notes)
    for name, other in given.items():
        if name != quantity and STATES[quantity].search(name) and np.size(other) in (6, 9):
            second = _full(f"'{name}'", other, quantity, [])
            if not np.allclose(second, value, rtol=0, atol=1e-3 * np.abs(value).max()):
                at = np.unravel_index(np.abs(second - value).argmax(), (3, 3))
                raise _two(quantity, quantity, float(value[at]), name, float(second[at]))
    if quantity == "virial":
        notes.append(f"'virial' is read as {MEANING['virial']}")
    return value


def _full(what: str, value: Any, quantity: str, notes: list[str]) -> NDArray[np.float64]:
    size = np.size(value)
    if size == 6 and quantity == "stress":
        notes.append(f"six numbers of {what} are read as xx, yy, zz, yz, xz, xy in eV/Å³, positive under tension")
        return numeric(what, value, (6,))[VOIGT]
    if size != 9:
        several = f"{size} numbers" if size > 1 else f"'{value}'"
        raise DataError(f"{what} is {several}; nine expected, row by row: {MEANING[quantity]}")
    return numeric(what, np.reshape(value, (3, 3)), (3, 3))


def _missing(quantity: str, given: Mapping[str, Any]) -> DataError:
    """What is not there, and what is there in its place."""
    what = "stress or virial" if quantity == "stress" else quantity
    stem = {"energy": "energ", "forces": "forc|gradient", "stress": "stress|virial|press"}[quantity]
    there = sorted(name for name in given if re.search(stem, name, re.I))
    expected = MEANING[quantity] + (f", or {MEANING['virial']}" if quantity == "stress" else "")
    if there:
        names = ", ".join(f"'{name}'" for name in there)
        return DataError(
            f"no {what}, but {names}; expected by the name '{quantity}': {expected}: rename it if it is that"
        )
    return DataError(f"no {what}; expected '{quantity}': {expected}: compute it, or leave this frame out")


def _check_stated(given: Mapping[str, Any], label: Label) -> None:
    """Refuse what says in words or numbers that it is of other physics, of other units, or no label at all."""
    for name, value in given.items():
        plain = name.lower()
        expected = _other_physics(plain, value, label)
        if expected:
            raise ForeignError(f"'{name}' is {np.asarray(value).ravel()[:3].tolist()}; {expected} expected")
        if re.search(r"(^|_)units?($|_)", plain) and not UNITS.fullmatch(str(value)):
            raise DataError(f"'{name}' is {value}; eV and Å expected: convert the numbers, and say so there")
        if re.search(r"(energy|forces?|stress|virials?)_weight$", plain) and _number(value) == 0:
            raise DataError(f"'{name}' is 0: the file says that this number is no label; leave this frame out")


def _check_elements(given: Mapping[str, Any], atoms: Atoms) -> None:
    """Atomic numbers beside elements must be theirs."""
    numbers = numeric("'Z'", given.get("Z", atoms.numbers), (len(atoms),))
    for index in np.flatnonzero(numbers != atoms.numbers)[:1]:
        raise ContradictionError(
            f"'Z' says {numbers[index]:g} of atom {index + 1}, whose element is {atoms.symbols[index]}"
        )


def _other_physics(name: str, value: Any, label: Label) -> str | None:
    """What is expected in the place of a value that is of other physics; None for all else."""
    if label.engine == "qe" and name in ("functional", "xc", "input_dft"):
        return None if str(value).strip().lower() == label.functional else label.functional
    if label.engine == "qe" and name in ("ecutwfc", "ecutrho"):
        asked = label.cutoff_ry if name == "ecutwfc" else label.density_cutoff_ry
        return None if np.all(np.isclose(_number(value), asked)) else f"{asked:g} Ry"
    if re.fullmatch(r"((total|net|tot)_?)?charge", name) and np.ndim(value) == 0:
        return None if abs(_number(value)) < 1e-3 else "0, a neutral cell"
    if name in ("spin", "multiplicity", "spin_multiplicity"):
        return None if np.all(np.isin(_number(value), (0, 1))) else "no spin"
    if re.fullmatch(r"(initial_)?magmoms?|total_magnetization", name):
        return None if np.all(np.abs(_number(value)) < 1e-3) else "no spin"
    return None


def _number(value: Any) -> Any:
    try:
        return np.asarray(value, float)[()]
    except (TypeError, ValueError):
        return np.nan


# ---------------------------------------------------------------- extended XYZ


PREFIX = "given_"
STRUCTURE = ("Lattice", "pbc", "Properties")


def read_extxyz(path: Path, label: Label) -> Iterator[Found | Refused]:
    """The labels of an extended XYZ file, each as good as the user's word; a bad frame is refused, the rest is read."""
    said: set[str] = set()
    for index, frame in enumerate(_split(path)):
        place = f"{path}#{index}"
        try:
            if isinstance(frame, DataError):
                raise frame
            atoms, given = _parsed(frame)
        except ContradictionError as error:
            yield unfit(place, error)
        except DataError as error:
            yield Refused(place, Refusal.UNREADABLE, str(error))
        except Exception as error:
            yield unfit(place, error)
        else:
            yield _asserted(atoms, given, label, path, index, said)


def _split(path: Path) -> Iterator[list[str] | DataError]:
    """Lines of each frame; an error for what is no frame, after which nothing can be told from the rest."""
    lines = path.read_text(errors="replace").lstrip("\ufeff").splitlines()
    at = 0
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        if not re.fullmatch(r" *\d{1,9}\s*", lines[at]):
            yield DataError(
                f"line {at + 1} is '{lines[at][:40]}'; a number of atoms expected: nothing is read from there on"
            )
            return
        count = int(lines[at])
        frame = lines[at : at + count + 2]
        if len(frame) < count + 2 or count == 0:
            yield DataError(f"line {at + 1} says {count} atoms; {max(0, len(frame) - 2)} follow: the file was cut")
            return
        yield frame
        at += count + 2


def _parsed(frame: list[str]) -> tuple[Atoms, dict[str, Any]]:
    """The structure, and whatever else a frame says as it stands there: ASE is shown no name it would interpret.

    It knows names of its own: it would drop the forces on atoms of which `move_mask` says that
    they are fixed, and all but six numbers of a stress.
    """
    from ase.io.extxyz import read_xyz

    columns = re.search(r"\bProperties\s*=\s*\"?([^\s\"]+)", frame[1])
    words = (columns[1] if columns else "species:S:1:pos:R:3").split(":")
    twice = [name for name, times in Counter([*_keys(frame[1]), *words[::3]]).items() if times > 1]
    if twice:
        raise ContradictionError(f"'{twice[0]}' is there twice; once expected: take one out")
    width = sum(int(number) for number in words[2::3])
    for number, row in enumerate(frame[2:], start=1):
        if len(row.split()) != width:
            raise DataError(f"atom {number} has {len(row.split())} columns, {width} expected by Properties")
    for number, row in enumerate(frame[2:], start=1):
        odd = re.search(r"(?<!\S)[-+]?\d+\.?\d*[Dd][-+]?\d+(?!\S)", row)
        if odd:
            raise DataError(f"atom {number} has {odd[0]}; a number expected, its exponent by E as in 1.64E-01")
    atoms = next(read_xyz(io.StringIO("\n".join(frame) + "\n"), index=slice(None), properties_parser=_comment))
    given = {**atoms.info, **atoms.arrays}
    return (
        Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc),
        {name.removeprefix(PREFIX): value for name, value in given.items() if name.startswith(PREFIX)},
    )


def _keys(comment: str) -> list[str]:
    return re.findall(r"([^\s=]+)\s*=", re.sub(r"\"[^\"]*\"|'[^']*'|\{[^}]*\}", "x", comment))


def _comment(line: str) -> dict[str, Any]:
    """ASE's own reading of a comment line, every name but those of the structure put behind a prefix."""
    from ase.io.extxyz import key_val_str_to_dict

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


def read_system(folder: Path, label: Label) -> Iterator[Found | Refused]:
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
        yield _asserted(atoms, given, label, folder, index, said)


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
        shape = np.load(path, mmap_mode="r").shape
    except Exception as error:
        raise ValueError(f"{name} is no whole array of numbers: {error}") from None
    width = {"coord": 3 * atoms, "force": 3 * atoms, "energy": 1}.get(path.stem, 9)
    if not shape or int(np.prod(shape[1:])) != width:
        raise DataError(f"{name} has shape {shape}; {width} numbers a frame expected, of {atoms} atoms")
    return int(shape[0])


def _frames(data: Mapping[str, Any]) -> Iterator[tuple[Atoms, dict[str, Any]]]:
    """Frames of a dpdata system and their numbers; DeePMD's virial is −stress × volume."""
    symbols = [data["atom_names"][kind] for kind in data["atom_types"]]
    for index, (cell, positions) in enumerate(zip(data["cells"], data["coords"], strict=True)):
        atoms = Atoms(symbols, positions=positions, cell=cell, pbc=True)
        names = {"energy": "energies", "forces": "forces", "virial": "virials"}
        yield atoms, {name: data[its][index] for name, its in names.items()}


# ---------------------------------------------------------------- both


def _asserted(
    atoms: Atoms, given: Mapping[str, Any], label: Label, path: Path, index: int, said: set[str]
) -> Found | Refused:
    """A frame as a label; what is to be said of a file is said once."""
    place = f"{path}#{index}"
    try:
        result, notes = label_of(atoms, given, label)
        found = Found(
            f"{path.resolve()}#{index}", canonical(atoms), result, UNKNOWN_VERSION, 0.0, True, key=_key(given)
        )
    except Aside as aside:
        return Refused(place, aside.reason, aside.detail)
    except Refused as refused:
        return Refused(place, refused.reason, refused.detail)
    except Exception as error:
        return unfit(place, error)
    for note in notes:
        if note not in said:
            said.add(note)
            log.info("label import: %s: %s", path, note)
    return found


def _key(given: Mapping[str, Any]) -> str | None:
    """The key an export of mlpwf gives each frame."""
    found = re.fullmatch(r"[0-9a-f]{64}", str(given.get("label", "")))
    return found[0] if found else None
