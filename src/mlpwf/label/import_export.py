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
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mlpwf.calculators import xtb
from mlpwf.calculators.espresso import pw
from mlpwf.calculators.espresso.acceptance import Aside, Reason, accept, check_distance, check_end, species
from mlpwf.calculators.espresso.dispersion import dispersion, other_energy
from mlpwf.calculators.gate import (
    ENERGY_TOLERANCE_EV_ATOM,
    FORCE_TOLERANCE_EV_ANGSTROM,
    ContradictionError,
    same_stress,
)
from mlpwf.config import Label, Site
from mlpwf.errors import ConfigError
from mlpwf.files import replacing
from mlpwf.label.asserted import read_extxyz, read_system
from mlpwf.label.foreign import UNKNOWN_VERSION, Found, Refusal, Refused, unfit
from mlpwf.label.sources import Sources
from mlpwf.label.store import Store, canonical, label_key, labelled, of_elements, physics_of, record_of, structure_of
from mlpwf.potentials.deepmd.data import write_data
from mlpwf.structures.frames import element_order

LARGEST_OUTPUT_BYTES = 200_000_000  # a single point of thousands of atoms prints a tenth of it


def physics_at(label: Label, site: Site) -> tuple[dict[str, Any], dict[str, str]]:
    """The physics of the label section, and the pseudopotentials' sums, of all elements the site has a file for."""
    if label.engine != "qe":
        return xtb.physics(label.engine), {}
    folder = Path(site.pseudopotential_folder)
    present = [element for element, name in label.pseudopotentials.items() if (folder / name).is_file()]
    hashes = pw.pseudopotential_hashes(present, label, folder)
    return pw.physics(label, hashes), hashes


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
    text = path.read_text(errors="replace").lstrip("\ufeff")
    atoms = _structure(path, text)
    try:
        if len(atoms) == 0:
            check_end(0, text)
            raise Aside(Reason.BAD_OUTPUT, "no structure can be read of it")
        result = accept(0, text, atoms, label, hashes)
        check_distance(atoms, label)
        other = _other_physics(text, atoms, label)
    except Aside as aside:
        if aside.detail == _other_dispersion(text, atoms, label):
            raise Refused(str(path), Refusal.OTHER_PHYSICS, aside.detail) from None
        raise Refused(str(path), aside.reason, aside.detail) from None
    if other:
        raise Refused(str(path), Refusal.OTHER_PHYSICS, other)
    version = pw.version(text) or UNKNOWN_VERSION
    return Found(str(path.resolve()), canonical(atoms), result, version, _cpu_s(text), False)


def _structure(path: Path, text: str) -> Atoms:
    """The structure pw.x was given, with the atoms it held fixed; no atoms, accepted by none, if it cannot be read."""
    import io

    import ase.io
    from ase.io.espresso import read_espresso_out

    names = ["input"] if path.name == "output" else [path.with_suffix(suffix).name for suffix in (".in", ".pwi")]
    beside = next((path.with_name(name) for name in names if path.with_name(name).is_file()), None)
    fixed = _fixed(beside) if beside else []
    if beside:
        try:
            return _bare(ase.io.read(beside, format="espresso-in"), fixed)
        except Exception:  # ASE reads few of the cells pw.x knows; the output prints every one
            pass
    try:
        return _bare(next(read_espresso_out(io.StringIO(text), results_required=False)), fixed)
    except Exception:
        return Atoms()


def _bare(atoms: Any, fixed: list[Any]) -> Atoms:
    return Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True, constraint=fixed)


def _fixed(path: Path) -> list[Any]:
    """ASE's constraints for the atoms an input of pw.x holds fixed, whatever its cell; none if it cannot be read."""
    from ase.io.espresso import convert_constraint_flags, get_atomic_positions, read_fortran_namelist

    try:
        with path.open(errors="replace") as handle:
            names, cards = read_fortran_namelist(handle)
        rows = get_atomic_positions(cards, names["system"]["nat"], cell=np.eye(3), alat=1.0)
        return list(convert_constraint_flags([flags for *_, flags in rows]))
    except Exception:
        return []


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


# ---------------------------------------------------------------- into the store


def read_all(sources: Sources, label: Label, hashes: Mapping[str, str]) -> Iterator[Found | Refused]:
    """Every label of all sources, those with an output first."""
    for path in sources.outputs:
        try:
            yield read_output(path, label, hashes)
        except Refused as refused:
            yield refused
        except Exception as error:  # of a library, or of the disk: the next one is read
            yield unfit(str(path), error)
    for read, places in ((read_extxyz, sources.frames), (read_system, sources.systems)):
        for path in places:
            try:
                yield from read(path, label)
            except OSError as error:
                yield unfit(str(path), error)


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
    if found.key not in (None, key):
        detail = (
            f"its 'label' is {found.key:.12}…, {key:.12}… expected of this structure with the physics of the section"
        )
        raise Refused(found.source, Refusal.OTHER_PHYSICS, detail)
    known = store.get(key)
    if known is None:
        with store.in_flight(key):
            known = store.get(key)
            if known is None:
                store.put(key, dict(found.record) if found.record else _record(physics, found))
                return True
    _check_conflict(found, key, known)
    return False


def _check_conflict(found: Found, key: str, known: Mapping[str, Any]) -> None:
    """Refused if the store's label of the same structure and physics has other numbers."""
    structure = found.structure
    force = float(np.abs(found.result.forces[structure.order] - known["forces_ev_angstrom"]).max())
    energy = abs(found.result.energy - known["energy_ev"]) / len(structure.numbers)
    if force > FORCE_TOLERANCE_EV_ANGSTROM or energy > ENERGY_TOLERANCE_EV_ATOM:
        detail = (
            f"the store's label {key[:12]} differs by {force:.2g} eV/Å and {energy:.2g} eV/atom; at most "
            f"{FORCE_TOLERANCE_EV_ANGSTROM:g} and {ENERGY_TOLERANCE_EV_ATOM:g} expected of the same physics"
        )
        raise Refused(found.source, Refusal.CONFLICT, detail)
    try:
        mine, theirs = found.result.stress, np.array(known["stress_ev_angstrom3"])
        same_stress("this label", mine, f"the store's {key:.12}", theirs, theirs)
    except ContradictionError as error:
        raise Refused(found.source, Refusal.CONFLICT, str(error)) from None


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
        write_data(scratch / "data", frames, element_order(frames))
        (scratch / "data").rename(out)
    finally:
        shutil.rmtree(scratch)
