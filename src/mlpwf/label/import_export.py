"""Labels of other work, into the store; labels of the store, out of it.

An output of a program is judged by the calculator's whitelist, as if it had been computed here.
Energies, forces and stresses that come without an output are taken on the user's word alone.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import ase.db
import ase.io
import numpy as np
from ase import Atoms

from mlpwf.calculators.base import Calculator, Rejected
from mlpwf.calculators.gate import (
    ENERGY_TOLERANCE_EV_ATOM,
    FORCE_TOLERANCE_EV_ANGSTROM,
    ContradictionError,
    same_stress,
)
from mlpwf.errors import ConfigError, DataError
from mlpwf.files import replacing
from mlpwf.label.asserted import read_extxyz, read_system
from mlpwf.label.foreign import UNKNOWN_VERSION, Found, Refusal, Refused, unfit
from mlpwf.label.record import LabelRecord, Physics, structure_of
from mlpwf.label.sources import Sources
from mlpwf.label.store import (
    Store,
    canonical,
    label_key,
    labelled,
    of_elements,
    physics_of,
    record_of,
    sums_of,
)
from mlpwf.potentials.deepmd.data import write_data
from mlpwf.structures.frames import element_order

log = logging.getLogger(__name__)

PROGRESS_EVERY = 500

# ---------------------------------------------------------------- into the store


def read_all(sources: Sources, calculator: Calculator) -> Iterator[Found | Refused]:
    """Every label of all sources, those with an output first."""
    for path in sources.outputs:
        try:
            yield read_output(path, calculator)
        except Refused as refused:
            yield refused
        except Exception as error:  # of a library, or of the disk: the next one is read
            yield unfit(str(path), error)
    for read, places in ((read_extxyz, sources.frames), (read_system, sources.systems)):
        for path in places:
            try:
                yield from read(path, calculator)
            except OSError as error:
                yield unfit(str(path), error)


def read_output(path: Path, calculator: Calculator) -> Found:
    """The label in an output of the calculator's program.

    Raises
    ------
    Refused
        If the whitelist does not accept it, or it was computed with other physics.
    """
    try:
        output = calculator.read_output(path)
    except Rejected as rejection:
        raise Refused(str(path), rejection.reason, rejection.detail) from None
    except DataError as error:
        raise unfit(str(path), error) from None
    version = output.result.version or UNKNOWN_VERSION
    return Found(str(path.resolve()), canonical(output.atoms), output.result, version, output.cpu_s, False)


@dataclass
class Imported:
    """How many labels were taken, how many the store had, and why others were refused."""

    new: int = 0
    known: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    @property
    def nothing(self) -> bool:
        """Whether every label was refused."""
        return self.new + self.known == 0

    def __str__(self) -> str:
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.refused.most_common())
        line = f"{self.new} imported, {self.known} known, {self.refused.total()} refused"
        return f"{line} ({reasons})" if reasons else line


def keep_all(store: Store, physics: Physics, labels: Iterable[Found | Refused]) -> Imported:
    """Put labels into the store, each unless it is there; those refused are named in the log."""
    taken = Imported()
    for done, found in enumerate(labels, start=1):
        try:
            if isinstance(found, Refused):
                raise found
            new = keep(store, physics, found)
            taken.new, taken.known = taken.new + new, taken.known + (not new)
        except Refused as refused:
            taken.refused[str(refused.reason)] += 1
            log.info("label import: refused %s", refused)
        if done % PROGRESS_EVERY == 0:
            log.info("label import: %d read", done)
    return taken


def keep(store: Store, physics: Physics, found: Found) -> bool:
    """Put a label into the store, unless it is there; whether it is new.

    Raises
    ------
    Refused
        If an element has no pseudopotential, or the store's label of the same structure
        and physics has other numbers.
    """
    structure = found.structure
    strangers = set(structure.atoms().symbols) - set(sums_of(physics))
    if strangers and "pseudopotentials" in physics:
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
                _put(store, key, physics, found)
                return True
    _check_conflict(found, key, known)
    return False


def _put(store: Store, key: str, physics: Physics, found: Found) -> None:
    if found.record is not None:
        store.put_raw(key, found.record)
        return
    properties = found.result.properties.in_order(found.structure.order)
    computation = record_of(found.structure, physics, found.version, found.cpu_s)
    store.put(key, computation.accepted(properties, found.source, found.asserted))


def _check_conflict(found: Found, key: str, known: LabelRecord) -> None:
    """Refused if the store's label of the same structure and physics has other numbers."""
    structure = found.structure
    force = float(np.abs(found.result.properties.forces[structure.order] - known.forces_ev_angstrom).max())
    energy = abs(found.result.properties.energy - known.energy_ev) / len(structure.numbers)
    if force > FORCE_TOLERANCE_EV_ANGSTROM or energy > ENERGY_TOLERANCE_EV_ATOM:
        detail = (
            f"the store's label {key[:12]} differs by {force:.2g} eV/Å and {energy:.2g} eV/atom; at most "
            f"{FORCE_TOLERANCE_EV_ANGSTROM:g} and {ENERGY_TOLERANCE_EV_ATOM:g} expected of the same physics"
        )
        raise Refused(found.source, Refusal.CONFLICT, detail)
    try:
        mine, theirs = found.result.properties.stress, np.array(known.stress_ev_angstrom3)
        same_stress("this label", mine, f"the store's {key:.12}", theirs, theirs)
    except ContradictionError as error:
        raise Refused(found.source, Refusal.CONFLICT, str(error)) from None


# ---------------------------------------------------------------- out of the store


def stored(store: Store, physics: Physics | None) -> list[Atoms]:
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
        own = record.physics
        every[_described(own)] += 1
        if physics is not None and own != physics_of(physics, structure_of(record)):
            continue
        kinds.add(_described(of_elements(own, [])))
        sums |= set(sums_of(own).items())
        frames.append(_frame(key, record))
    held = "; ".join(f"{count} x {name}" for name, count in sorted(every.items())) or "nothing"
    if not frames:
        raise ConfigError(f"{store.root}: no label of this physics; the store holds {held}")
    if (physics is None and len(kinds) > 1) or len(sums) > len(dict(sums)):
        raise ConfigError(f"{store.root}: holds {held}; expected one physics: name it by --config")
    return frames


def _frame(key: str, record: LabelRecord) -> Atoms:
    atoms = structure_of(record)
    frame = labelled(atoms, canonical(atoms), record)
    frame.info["label"] = key
    if record.asserted:
        frame.info["asserted"] = True
    return frame


def _described(physics: Physics) -> str:
    """All of a physics in one short line."""
    words = [f"{name} {_words(value)}" for name, value in physics.items() if name not in ("engine", "pseudopotentials")]
    files = [f"{element} {value[:8]}" for element, value in sums_of(physics).items()]
    return ", ".join([str(physics["engine"]), *words, *files])


def _words(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def write_ase(out: Path, frames: Sequence[Atoms]) -> None:
    """Write labelled frames as an ASE database (.db) or trajectory (.traj), atomically."""
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
