"""Labels of other work, into the store; labels of the store, out of it.

An output of pw.x is judged by the whitelist of `acceptance` and, because nobody here
wrote its input, by what its text tells of settings that mlpwf never uses. Energies,
forces and stresses that come without an output are taken on the user's word alone.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mlpwf.config import Label, Site
from mlpwf.engines import deepmd, espresso, xtb
from mlpwf.errors import ConfigError, DataError
from mlpwf.files import replacing
from mlpwf.frames import element_order, minimum_distance, read_frames
from mlpwf.labels.acceptance import Aside, Reason, accept, species
from mlpwf.labels.dispersion import dispersion, other_energy
from mlpwf.labels.store import (
    Store,
    Structure,
    canonical,
    label_key,
    labelled,
    of_elements,
    physics_of,
    record_of,
    structure_of,
)

FORCE_TOLERANCE_EV_ANGSTROM = 1e-3
ENERGY_TOLERANCE_EV_ATOM = 1e-4
UNKNOWN_VERSION = "unknown"
ARCHIVE = ".jsonl.gz"  # how names of archives end
LARGEST_OUTPUT_BYTES = 200_000_000  # a single point of thousands of atoms prints a tenth of it


class Refusal(StrEnum):
    """Why a label of other work was refused, beside the reasons of `acceptance`."""

    UNREADABLE = "unreadable"
    INCOMPLETE = "incomplete"
    OTHER_PHYSICS = "other physics"
    NO_PSEUDOPOTENTIAL = "no pseudopotential"
    CONFLICT = "conflict"


class Refused(Exception):  # noqa: N818 - an outcome, not an error
    """A label that was not taken: where it is, the typed reason and one line of detail."""

    def __init__(self, source: str, reason: Refusal | Reason, detail: str) -> None:
        super().__init__(f"{source}: {reason}: {detail}")
        self.reason = reason


@dataclass(frozen=True)
class Found:
    """A label of a source; numbers in the source's order of atoms, which is `structure.order`.

    `asserted`: nothing but the user's word says by what physics it was computed.
    """

    source: str
    structure: Structure
    result: espresso.Result
    version: str
    cpu_s: float
    asserted: bool
    record: Mapping[str, Any] | None = None
    """The record of another store, to be kept as it is."""


# ---------------------------------------------------------------- sources


@dataclass(frozen=True)
class Sources:
    """Files and folders that hold labels, by kind."""

    outputs: list[Path]
    """Outputs of pw.x."""
    frames: list[Path]
    """Extended XYZ files."""
    systems: list[Path]
    """Folders in the format deepmd/npy."""
    archives: list[Path]
    """Archives of another store."""


def find_sources(places: Sequence[Path]) -> Sources:
    """What the user's files and folders hold; folders are searched to any depth for all but extended XYZ.

    Of a work folder of DP-GEN the folders `02.fp` are searched. They keep labels twice, the
    outputs and `data.*` made from them: `data.*` is read where no output is left beside it.

    Raises
    ------
    ConfigError
        If a place does not exist, or holds nothing that can be read.
    """
    outputs: list[Path] = []
    frames: list[Path] = []
    systems: list[Path] = []
    archives: list[Path] = []
    for place in places:
        if place.is_dir():
            found = [_search(root) for root in _roots(place)]
            if not any(path for pair in found for path in pair):
                raise ConfigError(f"{place}: holds no output of pw.x (*.out, *.pwo, output) and no deepmd/npy data")
            outputs += [path for here, _ in found for path in here]
            systems += [folder for _, here in found for folder in here]
        elif not place.exists():
            raise ConfigError(f"{place}: no such file or folder; expected labels of other work")
        elif _is_output(place):
            outputs.append(place)
        elif place.name.endswith(ARCHIVE):
            archives.append(place)
        elif place.suffix in (".extxyz", ".xyz"):
            frames.append(place)
        else:
            raise ConfigError(
                f"{place}: expected an output of pw.x, an extended XYZ file (.extxyz, .xyz), an archive of labels "
                f"({ARCHIVE}) or a folder of labels"
            )
    return Sources(outputs, frames, systems, archives)


def _roots(folder: Path) -> list[Path]:
    """The folders of DP-GEN's labels below a work folder or an iteration; without any, the folder itself."""
    return sorted([*folder.glob("iter.*/02.fp"), *folder.glob("02.fp")]) or [folder]


def _search(root: Path) -> tuple[list[Path], list[Path]]:
    """Outputs of pw.x and folders in the format deepmd/npy below a folder."""
    named = [path for path in sorted(root.rglob("*")) if path.suffix in (".out", ".pwo") or path.name == "output"]
    outputs = [path for path in named if path.is_file() and _is_output(path)]
    systems = [kind.parent for kind in sorted(root.rglob("type.raw")) if _is_system(kind.parent)]
    return outputs, [] if outputs and root.resolve().name == "02.fp" else systems


def _is_system(folder: Path) -> bool:
    """Whether a folder holds deepmd/npy data, in plain files: a pipe would be waited for without end."""
    arrays = list(folder.glob("set.*/*.npy"))
    return bool(arrays) and all(path.is_file() for path in [*folder.glob("*.raw"), *arrays])


def _is_output(path: Path) -> bool:
    with path.open("rb") as handle:
        return b"Program PWSCF" in handle.read(65536)


def physics_at(label: Label, site: Site) -> tuple[dict[str, Any], dict[str, str]]:
    """The physics of the label section, and the pseudopotentials' sums, of all elements the site has a file for."""
    if label.engine != "qe":
        return xtb.physics(label.engine), {}
    folder = Path(site.pseudopotential_folder)
    present = [element for element, name in label.pseudopotentials.items() if (folder / name).is_file()]
    hashes = espresso.pseudopotential_hashes(present, label, folder)
    return espresso.physics(label, hashes), hashes


# ---------------------------------------------------------------- outputs of pw.x


_NUMBER = r"[-+]?\d+\.\d+"
_CPU = re.compile(r"^ +PWSCF +: +(?:(\d+)d)? *(?:(\d+)h)? *(?:(\d+)m)? *(?:([\d.]+)s)? +CPU", re.M)
_RANKS = re.compile(r"running on +(\d+) processors")
_TERMS = re.compile(r"sum of the following terms:([\s\S]*?)convergence has been achieved")
_TERM = re.compile(rf"^ +(\S.*?) += +{_NUMBER} Ry *$", re.M)
OWN_TERMS = frozenset(
    {
        "one-electron contribution",
        "hartree contribution",
        "xc contribution",
        "ewald contribution",
        "one-center paw contrib.",
        "smearing contrib. (-TS)",
        "DFT-D3 Dispersion",
    }
)
FOREIGN = (
    "Real space treatment of",
    "Starting magnetic structure",
    "Occupations read from input",
    "A smooth kinetic-energy cutoff is imposed",
    "Assuming isolated system",
    "The code is running with the 2D cutoff",
    "Effective Screening Medium Method",
)
SMEARINGS = {"gaussian": "Gaussian", "mv": "Marzari-Vanderbilt", "mp": "Methfessel-Paxton"}


def read_output(path: Path, label: Label, hashes: Mapping[str, str]) -> Found:
    """The label in an output of pw.x, of the structure in its input where that lies beside it.

    The output itself prints positions to seven digits of the lattice constant only.

    Raises
    ------
    Refused
        If a statement of the whitelist does not hold, or pw.x ran with settings that `label` cannot have.
    """
    size = path.stat().st_size
    if size > LARGEST_OUTPUT_BYTES:
        detail = f"{size / 1e6:.0f} MB; at most {LARGEST_OUTPUT_BYTES / 1e6:.0f} MB expected of a single point"
        raise Refused(str(path), Refusal.UNREADABLE, detail)
    text = path.read_text(errors="replace")
    atoms = _structure(path, text)
    try:
        result = accept(0, text, atoms, label, hashes)
        _check_distance(atoms, label)
        other = _other_physics(text, atoms, label)
    except Aside as aside:
        if aside.detail == _other_dispersion(text, atoms, label):
            raise Refused(str(path), Refusal.OTHER_PHYSICS, aside.detail) from None
        unread = aside.reason is Reason.BAD_OUTPUT and len(atoms) == 0
        raise Refused(str(path), aside.reason, "no structure can be read of it" if unread else aside.detail) from None
    if other:
        raise Refused(str(path), Refusal.OTHER_PHYSICS, other)
    version = espresso.version(text) or UNKNOWN_VERSION
    return Found(str(path.resolve()), canonical(atoms), result, version, _cpu_s(text), False)


def _structure(path: Path, text: str) -> Atoms:
    """The structure pw.x was given; no atoms, which no output is accepted for, if it cannot be read."""
    import io

    import ase.io
    from ase.io.espresso import read_espresso_out

    names = ["input"] if path.name == "output" else [path.with_suffix(suffix).name for suffix in (".in", ".pwi")]
    for beside in (path.with_name(name) for name in names):
        if beside.is_file():
            try:
                return _bare(ase.io.read(beside, format="espresso-in"))
            except Exception:  # ASE reads few of the cells pw.x knows; the output prints every one
                break
    try:
        return _bare(next(read_espresso_out(io.StringIO(text), results_required=False)))
    except Exception:
        return Atoms()


def _bare(atoms: Any) -> Atoms:
    return Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)


def _check_distance(atoms: Atoms, label: Label) -> None:
    closest, limit = minimum_distance(atoms), label.minimum_distance_angstrom
    if closest < limit:
        raise Aside(Reason.CLASH, f"two atoms are {closest:.3f} Å apart; at least {limit:g} Å expected")


def _cpu_s(text: str) -> float:
    """CPU time of all ranks in s, as pw.x prints it."""
    spent, ranks = _CPU.search(text), _RANKS.search(text)
    if spent is None:
        return 0.0
    parts = [float(part or 0) for part in spent.groups()]
    return float(np.dot(parts, [86400, 3600, 60, 1])) * int(ranks[1] if ranks else 1)


def _other_physics(text: str, atoms: Atoms, label: Label) -> str | None:
    """What an accepted output tells of settings that mlpwf never writes, or None."""
    for phrase in FOREIGN:
        if phrase in text:
            return f"pw.x says '{phrase} …', expected of no label"
    terms = set(_TERM.findall("".join(_TERMS.findall(text))))
    if terms - OWN_TERMS:
        return f"the energy has a term '{min(terms - OWN_TERMS)}', expected in no label"
    valence = species(text)
    neutral = sum(valence[symbol][0] for symbol in atoms.symbols)
    electrons = _printed(rf"^ +number of electrons += +({_NUMBER})", text, "the number of electrons")
    if abs(electrons - neutral) > 0.005:
        return f"{electrons:g} electrons, {neutral:g} expected in a neutral cell"
    return _other_smearing(text, label)


def _printed(pattern: str, text: str, what: str) -> float:
    found = re.findall(pattern, text, re.M)
    if len(found) != 1:
        raise Aside(Reason.BAD_OUTPUT, f"{len(found)} lines of {what}, 1 expected")
    return float(found[0])


def _other_smearing(text: str, label: Label) -> str | None:
    found = " ".join(re.findall(r"^ +number of k points= +\d+ *(.*?) *$", text, re.M))
    printed = re.fullmatch(rf"(\S+) smearing, width \(Ry\)= *({_NUMBER})", found)
    if label.smearing == "none" and found == "":
        return None
    if (
        printed
        and printed[1] == SMEARINGS.get(label.smearing)
        and abs(float(printed[2]) - label.smearing_width_ry) < 6e-5
    ):
        return None
    return f"occupations are '{found}', expected those of smearing '{label.smearing}' {label.smearing_width_ry:g} Ry"


def _other_dispersion(text: str, atoms: Atoms, label: Label) -> str | None:
    """Why the printed D3 energy is that of other physics; None where it is not, or is not printed once."""
    printed = re.findall(rf"^ +DFT-D3 Dispersion += +({_NUMBER}) Ry", text, re.M)
    if label.dispersion == "none" or len(printed) != 1 or len(atoms) == 0:
        return None
    return other_energy(float(printed[0]), dispersion(atoms, label).energy, label)


# ---------------------------------------------------------------- numbers without an output


def read_extxyz(path: Path, label: Label) -> Iterator[Found | Refused]:
    """The labels of an extended XYZ file, each as good as the user's word."""
    try:
        frames = read_frames(path)
    except DataError as error:
        yield Refused(str(path), Refusal.UNREADABLE, str(error))
        return
    for index, atoms in enumerate(frames):
        yield _asserted(atoms, label, path, index)


def read_system(folder: Path, label: Label) -> Iterator[Found | Refused]:
    """The labels of a deepmd/npy folder, of one or of mixed types, each as good as the user's word."""
    import dpdata

    try:
        if any(folder.glob("set.*/real_atom_types.npy")):
            systems = list(dpdata.MultiSystems().load_systems_from_file(str(folder), fmt="deepmd/npy/mixed"))
        else:
            systems = [dpdata.LabeledSystem(str(folder), fmt="deepmd/npy")]
        frames = [atoms for system in systems for atoms in _frames(system.data)]
    except Exception as error:
        reason = f"dpdata cannot read it ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        yield Refused(str(folder), Refusal.UNREADABLE, reason)
        return
    for index, atoms in enumerate(frames):
        yield _asserted(atoms, label, folder, index)


def _frames(data: Mapping[str, Any]) -> Iterator[Atoms]:
    """Frames of a dpdata system; DeePMD's virial is −stress × volume."""
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.stress import full_3x3_to_voigt_6_stress

    symbols = [data["atom_names"][kind] for kind in data["atom_types"]]
    for index, (cell, positions) in enumerate(zip(data["cells"], data["coords"], strict=True)):
        atoms = Atoms(symbols, positions=positions, cell=cell, pbc=not data.get("nopbc", False))
        results = {"energy": float(data["energies"][index]), "forces": data["forces"][index]}
        if "virials" in data and atoms.cell.volume > 0:
            results["stress"] = full_3x3_to_voigt_6_stress(-data["virials"][index] / atoms.cell.volume)
        atoms.calc = SinglePointCalculator(atoms, **results)
        yield atoms


def _asserted(atoms: Atoms, label: Label, path: Path, index: int) -> Found | Refused:
    place = f"{path}#{index}"
    try:
        structure = canonical(atoms)
        numbers = deepmd.labelled(atoms)
        _check_distance(atoms, label)
    except DataError as error:
        return Refused(place, Refusal.INCOMPLETE, str(error))
    except Aside as aside:
        return Refused(place, aside.reason, aside.detail)
    result = espresso.Result(numbers.energy, numbers.forces, -numbers.virial / atoms.get_volume())
    return Found(f"{path.resolve()}#{index}", structure, result, UNKNOWN_VERSION, 0.0, True)


# ---------------------------------------------------------------- into the store


def read_all(sources: Sources, label: Label, hashes: Mapping[str, str]) -> Iterator[Found | Refused]:
    """Every label of all sources, those with an output first."""
    for path in sources.outputs:
        try:
            yield read_output(path, label, hashes)
        except Refused as refused:
            yield refused
    for path in sources.frames:
        yield from read_extxyz(path, label)
    for folder in sources.systems:
        yield from read_system(folder, label)


def keep(store: Store, physics: dict[str, Any], found: Found) -> bool:
    """Put a label into the store, unless it is there; whether it is new.

    Raises
    ------
    Refused
        If an element has no pseudopotential, or the store's label of the same structure
        and physics has other numbers.
    """
    structure = found.structure
    symbols = set(structure.atoms().symbols)
    strangers = symbols - set(physics.get("pseudopotentials", symbols))
    if strangers:
        detail = f"label.pseudopotentials has no file at this site for {', '.join(sorted(strangers))}"
        raise Refused(found.source, Refusal.NO_PSEUDOPOTENTIAL, detail)
    key = label_key(structure, physics)
    with store.in_flight(key):
        known = store.get(key)
        if known is None:
            store.put(key, dict(found.record) if found.record else _record(physics, found))
            return True
    force = float(np.abs(found.result.forces[structure.order] - known["forces_ev_angstrom"]).max())
    energy = abs(found.result.energy - known["energy_ev"]) / len(structure.numbers)
    if force > FORCE_TOLERANCE_EV_ANGSTROM or energy > ENERGY_TOLERANCE_EV_ATOM:
        detail = (
            f"the store's label {key[:12]} differs by {force:.2g} eV/Å and {energy:.2g} eV/atom; at most "
            f"{FORCE_TOLERANCE_EV_ANGSTROM:g} and {ENERGY_TOLERANCE_EV_ATOM:g} expected of the same physics"
        )
        raise Refused(found.source, Refusal.CONFLICT, detail)
    return False


def _record(physics: dict[str, Any], found: Found) -> dict[str, Any]:
    result = replace(found.result, forces=found.result.forces[found.structure.order])
    record = record_of(found.structure, physics, found.version, found.cpu_s, result=result)
    record["source"] = found.source
    return record | {"asserted": True} if found.asserted else record


# ---------------------------------------------------------------- out of the store


def stored(store: Store, physics: dict[str, Any] | None) -> list[Atoms]:
    """Labelled frames of one physics, in the order of their keys; `info['label']` is the key.

    Parameters
    ----------
    store
        The label store.
    physics
        That of the labels wanted; None: the only one there is.

    Raises
    ------
    ConfigError
        If there is no such label, or more than one physics and none was chosen.
    DataError
        If a label is damaged.
    """
    frames: list[Atoms] = []
    every: Counter[str] = Counter()
    kinds: set[str] = set()
    sums: set[tuple[str, str]] = set()
    for key in store.all_keys():
        record = store.get(key)
        if record is None:
            continue
        own = record["physics"]
        every[_described(own)] += 1
        if physics is not None and own != physics_of(physics, structure_of(record)):
            continue
        kinds.add(_described(of_elements(own, [])))
        sums |= set(own.get("pseudopotentials", {}).items())
        frames.append(_frame(key, record))
    held = "; ".join(f"{count} x {name}" for name, count in sorted(every.items())) or "nothing"
    if not frames:
        raise ConfigError(f"{store.root}: no label of this physics; the store holds {held}")
    if (physics is None and len(kinds) > 1) or len(sums) > len(dict(sums)):
        raise ConfigError(f"{store.root}: holds {held}; expected one physics: name it by --config")
    return frames


def _frame(key: str, record: Mapping[str, Any]) -> Atoms:
    atoms = structure_of(record)
    frame = labelled(atoms, canonical(atoms), dict(record))
    frame.info["label"] = key
    if record.get("asserted"):
        frame.info["asserted"] = True
    return frame


def _described(physics: Mapping[str, Any]) -> str:
    """All of a physics in one short line."""
    words = [f"{name} {_words(value)}" for name, value in physics.items() if name not in ("engine", "pseudopotentials")]
    files = [f"{element} {value[:8]}" for element, value in physics.get("pseudopotentials", {}).items()]
    return ", ".join([str(physics["engine"]), *words, *files])


def _words(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def write_ase(out: Path, frames: Sequence[Atoms]) -> None:
    """Write labelled frames as an ASE database (.db) or trajectory (.traj), atomically."""
    import ase.db
    import ase.io

    with replacing(out) as temporary:
        if out.suffix == ".traj":
            ase.io.write(temporary, frames, format="traj")
            return
        with ase.db.connect(temporary, type="db", append=False, use_lock_file=False) as database:
            for frame in frames:
                database.write(frame, data=frame.info)


def write_deepmd(out: Path, frames: Sequence[Atoms]) -> None:
    """Write labelled frames as deepmd/npy in float64, one folder for each composition; whole or not at all.

    Raises
    ------
    ConfigError
        If `out` exists.
    """
    if out.exists():
        raise ConfigError(f"{out}: is there already; expected the name of a new folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        deepmd.write_data(scratch / "data", frames, element_order(frames))
        (scratch / "data").rename(out)
    finally:
        shutil.rmtree(scratch)
