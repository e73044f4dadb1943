"""The label store: one file per label, named by what the label depends on.

A label depends on its structure, atoms in any order and any periodic image, and
on the physics of the calculation. It lives outside every campaign; a label once
stored is never computed again, by whatever campaign, job or machine.

    STORE/labels/ab/abcdef….json        accepted, with a checksum over all it says
    STORE/aside/ab/abcdef….json         rejected, with the typed reason
    STORE/aside/ab/abcdef….out.gz       its raw output
    STORE/flight/abcdef….lock           being computed now
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import json
import os
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO, cast

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlpwf import __version__
from mlpwf.calculators import registry
from mlpwf.calculators.base import Reason
from mlpwf.calculators.foresight import Known
from mlpwf.campaign.records import Attempt
from mlpwf.errors import ConfigError, DataError
from mlpwf.files import NO_ROOM, replacing
from mlpwf.label.record import (
    Computation,
    LabelRecord,
    Physics,
    R,
    Raw,
    RejectionRecord,
    check_numbers,
    raw_of,
    read,
    read_raw,
    structure_of,
    typed,
    write_raw,
)
from mlpwf.structures.frames import RESOLUTION_ANGSTROM
from mlpwf.structures.properties import Properties, on_frame

LABELS, REJECTED = "labels", "aside"
"""The shelves, by the names of their folders."""
STALE_SECONDS = 3600.0  # a temporary file of a living writer is gone within seconds


@dataclass(frozen=True)
class Structure:
    """A structure in canonical form.

    cell (3, 3) and positions (n_atoms, 3) are whole numbers of 1e-6 Å, positions
    wrapped into the cell and sorted by element and coordinates; `order[i]` is the
    index in the caller's frame of canonical atom i.
    """

    numbers: NDArray[np.int64]
    cell: NDArray[np.int64]
    positions: NDArray[np.int64]
    order: NDArray[np.int64]

    def atoms(self) -> Atoms:
        """The canonical structure, in Å."""
        return Atoms(
            self.numbers, positions=self.positions * RESOLUTION_ANGSTROM, cell=self.cell * RESOLUTION_ANGSTROM, pbc=True
        )


def canonical(atoms: Atoms) -> Structure:
    """Canonical form of a periodic frame.

    Raises
    ------
    DataError
        If a coordinate is not finite or the cell has no volume.
    """
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        raise DataError("a structure with coordinates that are not finite cannot be labelled")
    cell = np.rint(atoms.cell.array / RESOLUTION_ANGSTROM).astype(np.int64)
    if abs(np.linalg.det(atoms.cell.array)) < 1e-3:
        raise DataError("a structure without a periodic cell cannot be labelled")
    positions = np.rint(atoms.positions / RESOLUTION_ANGSTROM).astype(np.int64)
    # a hair inside the boundary, so that an atom on it falls on one side however it was written
    images = np.floor(positions @ np.linalg.inv(cell.astype(float)) + 1e-11).astype(np.int64)
    positions = positions - images @ cell
    order = np.lexsort((positions[:, 2], positions[:, 1], positions[:, 0], atoms.numbers))
    return Structure(atoms.numbers[order].astype(np.int64), cell, positions[order], order)


def physics_of(physics: Physics, atoms: Atoms) -> dict[str, object]:
    """What of a physics a structure has: the pseudopotentials of its elements, and what its rules give in its cell."""
    calculator = registry.class_named(str(physics.get("engine")))
    return of_elements(calculator.in_cell(physics, atoms.cell.array), atoms.symbols)


def of_elements(physics: Physics, elements: Iterable[str]) -> dict[str, object]:
    """The physics with the pseudopotentials of some elements only; those it has none for are left out."""
    if "pseudopotentials" not in physics:
        return dict(physics)
    sums = sums_of(physics)
    return {**physics, "pseudopotentials": {e: sums[e] for e in sorted(set(elements) & set(sums))}}


def sums_of(physics: Physics) -> Mapping[str, str]:
    """The sum of each element's pseudopotential; empty where the engine has none."""
    return cast("Mapping[str, str]", physics.get("pseudopotentials", {}))


def label_key(structure: Structure, physics: Physics) -> str:
    """SHA-256 of a canonical structure and the physics of its calculation; KeyError: an element has no potential."""
    atoms = structure.atoms()
    own = physics_of(physics, atoms)
    if "pseudopotentials" in own:
        sums = sums_of(physics)
        own["pseudopotentials"] = {e: sums[e] for e in sorted(set(atoms.symbols))}
    digest = hashlib.sha256(json.dumps(own, sort_keys=True).encode())
    for array in (structure.numbers, structure.cell, structure.positions):
        digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
    return digest.hexdigest()


class Store:
    """Labels by key in a folder; safe for many processes, whole at any instant.

    Parameters
    ----------
    root
        The store's folder; made when the first label is written.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    def path(self, shelf: str, key: str, suffix: str = ".json") -> Path:
        """Where the record of `key` is on a shelf, `LABELS` or `REJECTED`, there or not."""
        return self.root / shelf / key[:2] / f"{key}{suffix}"

    def get(self, key: str) -> LabelRecord | None:
        """The accepted label of `key`, or None.

        Raises
        ------
        DataError
            If its file is damaged.
        """
        return self._read(LABELS, key, LabelRecord)

    def get_rejected(self, key: str) -> RejectionRecord | None:
        """The record of a frame that was rejected, or None."""
        return self._read(REJECTED, key, RejectionRecord)

    def _read(self, shelf: str, key: str, kind: type[R]) -> R | None:
        path = self.path(shelf, key)
        with self._reading():
            return read(path, kind) if path.exists() else None

    def all_keys(self, shelf: str = LABELS) -> list[str]:
        """Keys on a shelf, `LABELS` or `REJECTED`, sorted."""
        return sorted(path.stem for path in (self.root / shelf).glob("*/[!.]*.json"))

    def raw_records(self) -> Iterator[Raw]:
        """All accepted labels in the order of their keys, as they stand on disk, each read as it is asked for."""
        for key in self.all_keys():
            path = self.path(LABELS, key)
            with self._reading():
                raw = read_raw(path)[0] if path.exists() else None
            if raw is not None:
                yield raw

    def known(self) -> Iterator[Known]:
        """All accepted labels, as far as their cost tells what others will take.

        Raises
        ------
        DataError
            If a record is damaged.
        """
        for raw in self.raw_records():
            one = typed(raw, LabelRecord)
            volume = abs(float(np.linalg.det(one.cell_angstrom)))
            yield Known(one.physics, len(one.symbols), volume, len(one.attempts), one.cpu_s)

    def leftovers(self) -> list[Path]:
        """What killed processes left, sorted: old temporary files, and lock files that nobody holds."""
        before = time.time() - STALE_SECONDS
        temporary = [path for shelf in (LABELS, REJECTED) for path in (self.root / shelf).glob("*/.*")]
        locks = (self.root / "flight").glob("*.lock")
        return sorted([p for p in temporary if _changed(p) < before] + [p for p in locks if not _held(p)])

    def check(self, shelf: str, key: str) -> bool:
        """Whether the record of `key` carries a checksum.

        Raises
        ------
        DataError
            If the record is damaged: unreadable, not what was written, of another shape, not
            finite, of another structure or physics than its key, or without its raw output.
        ConfigError
            If it cannot be read.
        """
        path = self.path(shelf, key)
        with self._reading():
            raw, sealed = read_raw(path)
        try:
            found = self._checked_key(shelf, key, raw)
        except (KeyError, TypeError, ValueError, OSError, EOFError, zlib.error, DataError) as error:
            raise DataError(f"{path}: {type(error).__name__}: {' '.join(str(error).split())}") from None
        if found != key:
            raise DataError(f"{path}: its structure and physics have the key {found[:12]}…, {key[:12]}… expected")
        return sealed

    def _checked_key(self, shelf: str, key: str, raw: Raw) -> str:
        """The key of what a record says, once all else that it says holds."""
        record: Computation
        if shelf == LABELS:
            record = label = typed(raw, LabelRecord)
            check_numbers(label)
        else:
            record = rejection = typed(raw, RejectionRecord)
            keeps_output = registry.class_named(str(record.physics["engine"])).keeps_output
            if rejection.reason != Reason.CLASH and keeps_output:
                gzip.decompress(self.path(shelf, key, ".out.gz").read_bytes())
        return label_key(canonical(structure_of(record)), record.physics)

    def put(self, key: str, record: LabelRecord) -> None:
        """Keep an accepted label.

        Raises
        ------
        ConfigError
            If nothing can be written there.
        """
        self.put_raw(key, raw_of(record))

    def put_raw(self, key: str, raw: Raw) -> None:
        """Keep an accepted label of another store as it stands there."""
        with self._writing():
            write_raw(self.path(LABELS, key), raw)

    def put_rejected(self, key: str, record: RejectionRecord, output: str | None) -> None:
        """Keep why a frame was rejected, and its raw output, compressed."""
        with self._writing():
            if output is not None:
                with replacing(self.path(REJECTED, key, ".out.gz")) as temporary:
                    temporary.write_bytes(gzip.compress(output.encode(), mtime=0))
            write_raw(self.path(REJECTED, key), raw_of(record))

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """One line for a store that cannot be read."""
        try:
            yield
        except OSError as error:
            raise self._closed("read", error) from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One line for a store that cannot be written; a full disk has its own."""
        try:
            yield
        except OSError as error:
            if error.errno in NO_ROOM:
                raise
            raise self._closed("written", error) from error

    def _closed(self, what: str, error: OSError) -> ConfigError:
        return ConfigError(
            f"{self.root}: the label store cannot be {what} ({error.strerror}); expected a folder that can: "
            "allow it, or name another as label_store in the site file"
        )

    @contextmanager
    def in_flight(self, key: str) -> Iterator[None]:
        """Hold `key` while it is computed; another process that wants it waits.

        The kernel frees the lock when its holder dies.
        """
        path = self.root / "flight" / f"{key}.lock"
        with self._writing():
            handle = _locked(path)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            handle.close()


def record_of(
    structure: Structure,
    physics: Physics,
    version: str | None,
    cpu_s: float,
    attempts: Sequence[Attempt] = (),
    wall_s: float | None = None,
) -> Computation:
    """What the store keeps of every outcome, whoever computed it.

    Parameters
    ----------
    structure
        The canonical structure; the record has its order of atoms.
    physics
        That of the calculation, of these elements and perhaps others.
    version
        Version of the engine, None where it printed none.
    cpu_s
        CPU time of all attempts in s.
    attempts
        The attempts, first to last.
    wall_s
        Wall time of all attempts in s; None: not known.
    """
    atoms = structure.atoms()
    return Computation(
        mlpwf=__version__,
        physics=physics_of(physics, atoms),
        engine_version=version,
        symbols=list(atoms.symbols),
        cell_angstrom=atoms.cell.array.tolist(),
        positions_angstrom=atoms.positions.tolist(),
        attempts=list(attempts),
        cpu_s=round(cpu_s, 3),
        finished=round(time.time(), 3),
        wall_s=None if wall_s is None else round(wall_s, 3),
    )


def _locked(path: Path) -> TextIO:
    """A file that is there and whose lock is ours, waited for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        handle = path.open("a")
        fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            if os.fstat(handle.fileno()).st_ino == path.stat().st_ino:
                return handle
        except FileNotFoundError:
            pass
        handle.close()


def _changed(path: Path) -> float:
    """When a file was last changed, in Unix time; infinity for one that is gone."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")


def _held(lock: Path) -> bool:
    """Whether a process holds a lock file, or has removed it."""
    try:
        with lock.open() as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (BlockingIOError, FileNotFoundError):
        return True
    return False


def labelled(atoms: Atoms, structure: Structure, record: LabelRecord) -> Atoms:
    """A copy of `atoms` that carries the label, in the order of its own atoms."""
    forces = np.empty((len(atoms), 3))
    forces[structure.order] = record.forces_ev_angstrom
    stress = np.array(record.stress_ev_angstrom3)
    return on_frame(atoms, Properties(record.energy_ev, forces, stress, float(atoms.get_volume())))
