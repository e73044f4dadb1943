"""What the store keeps of one outcome, as a type; and the JSON it is on disk.

A store outlives versions. So a record is sealed, and its seal checked, as it stands on disk (`Raw`); only then
are its names read, those of earlier versions too. Names that this version does not know are left on disk.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec
from ase import Atoms

from mlpwf.calculators import gate
from mlpwf.campaign.records import Attempt, Record, Settings, renamed
from mlpwf.errors import DataError
from mlpwf.files import read_json, write_json
from mlpwf.structures.properties import Properties

Physics = Mapping[str, object]
"""What a label's numbers depend on beside the structure, by name (`Calculator.physics`)."""
Raw = Mapping[str, object]
"""A record as it stands on disk without its seal, whatever version wrote it."""
SEAL = "sha256"
REMEDY = "delete it: it is computed again"


class Computation(Record, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=False):
    """What is kept of every outcome, whoever computed it; atoms in canonical order."""

    mlpwf: str
    """Version that wrote it."""
    physics: Settings
    """The physics of these elements in this cell."""
    engine_version: str | None
    """None: the engine printed none."""
    symbols: list[str]
    cell_angstrom: list[list[float]]
    positions_angstrom: list[list[float]]
    attempts: list[Attempt]
    """First to last; empty for a label of other work."""
    cpu_s: float
    """CPU time of all attempts."""
    finished: float | None = None
    """Unix time in s."""
    wall_s: float | None = None

    def accepted(
        self,
        properties: Properties,
        source: str | None = None,
        asserted: bool = False,
    ) -> LabelRecord:
        """The record of a label.

        Parameters
        ----------
        properties
            Its numbers, in the record's order of atoms.
        source
            Where a label of other work was found.
        asserted
            Whether only the user's word says by what physics it was computed.
        """
        return LabelRecord(
            **msgspec.structs.asdict(self),
            energy_ev=properties.energy,
            forces_ev_angstrom=properties.forces.tolist(),
            stress_ev_angstrom3=properties.stress.tolist(),
            source=source,
            asserted=asserted,
        )

    def rejected(self, reason: str, detail: str, numerics: Settings) -> RejectionRecord:
        """The record of a rejected frame: the typed reason, one line of detail, the numerics it was tried with."""
        return RejectionRecord(**msgspec.structs.asdict(self), reason=reason, detail=detail, numerics=numerics)


class LabelRecord(Computation, frozen=True, kw_only=True):
    """An accepted label."""

    energy_ev: float
    forces_ev_angstrom: list[list[float]]
    stress_ev_angstrom3: list[list[float]]
    """ASE's sign: the virial is −stress × volume."""
    source: str | None = None
    """Where a label of other work was found."""
    asserted: bool = False
    """Whether only the user's word says by what physics it was computed."""


class RejectionRecord(Computation, frozen=True, kw_only=True):
    """A rejected frame."""

    reason: str
    detail: str
    numerics: Settings
    """The frame is tried again when these change."""


R = TypeVar("R", bound=Computation)


def typed(raw: Raw, kind: type[R]) -> R:
    """The record that a JSON object holds.

    Raises
    ------
    DataError
        If a value is missing or of another type; the message names its place.
    """
    # names of earlier versions are looked for where they can be: physics and numerics have names of their own
    whole = {**raw, "attempts": renamed(raw.get("attempts", []))}
    try:
        return msgspec.convert(whole, kind)
    except msgspec.ValidationError as error:
        raise DataError(f"no {kind.__name__} ({error})") from None


def raw_of(record: Computation) -> dict[str, object]:
    """The JSON object that a record is on disk; what does not apply is left out."""
    whole: dict[str, object] = msgspec.to_builtins(record)
    return whole


def read(path: Path, kind: type[R]) -> R:
    """A record of the store.

    Raises
    ------
    DataError
        If it is damaged, or does not hold what a `kind` holds.
    """
    raw, _ = read_raw(path)
    try:
        return typed(raw, kind)
    except DataError as error:
        raise DataError(f"{path}: {error}; {REMEDY}") from None


def read_raw(path: Path) -> tuple[Raw, bool]:
    """A record as it stands on disk, and whether it carried a checksum (older ones do not).

    Raises
    ------
    DataError
        If the file is not a JSON object, or says something else than when it was written.
    """
    document = read_json(path)
    if not isinstance(document, dict):
        raise DataError(f"{path}: a {type(document).__name__}, an object expected; {REMEDY}")
    raw, seal = opened(document)
    if seal is not None and checksum(raw) != seal:
        raise DataError(f"{path}: its checksum is not that of its content; {REMEDY}")
    return raw, seal is not None


def write_raw(path: Path, raw: Raw) -> None:
    """Write a record with its checksum, whole or not at all."""
    write_json(path, sealed(raw))


def checksum(raw: Raw) -> str:
    """SHA-256 of all a record says, in hexadecimal; the order of its names does not matter."""
    return hashlib.sha256(json.dumps(raw, sort_keys=True).encode()).hexdigest()


def sealed(raw: Raw) -> dict[str, object]:
    """A record with its checksum."""
    return {**raw, SEAL: checksum(raw)}


def opened(document: Mapping[str, object]) -> tuple[Raw, object]:
    """A record without its checksum, and the checksum it carried; None: it carried none."""
    return {name: value for name, value in document.items() if name != SEAL}, document.get(SEAL)


def structure_of(record: Computation) -> Atoms:
    """The structure of a record, in Å, without its label."""
    return Atoms(record.symbols, positions=record.positions_angstrom, cell=record.cell_angstrom, pbc=True)


def check_numbers(record: LabelRecord) -> None:
    """DataError unless the numbers of a label pass the gate."""
    gate.check(record.energy_ev, record.forces_ev_angstrom, record.stress_ev_angstrom3, len(record.symbols))
