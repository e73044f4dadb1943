"""The store's own records in one compressed file: what leaves a store so comes back as it was.

An archive is gzipped JSON lines, one record a line with its checksum, sorted by key. A record
says by what physics it was computed, so nobody's word is needed for it.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mlpwf.calculators.base import Result
from mlpwf.errors import ConfigError
from mlpwf.files import replacing
from mlpwf.label.foreign import Found, Refusal, Refused, unfit
from mlpwf.label.record import SEAL, LabelRecord, Physics, check_numbers, checksum, opened, sealed, structure_of, typed
from mlpwf.label.store import Store, canonical, physics_of
from mlpwf.structures.properties import Properties

GZIP = b"\x1f\x8b"


def write_archive(out: Path, store: Store, physics: Physics | None) -> int:
    """Write the accepted labels of `physics`, or of every physics if None; returns how many.

    Raises
    ------
    ConfigError
        If there are none.
    DataError
        If a label is damaged.
    """
    lines = []
    for raw in store.raw_records():
        if physics is None or _has(typed(raw, LabelRecord), physics):
            lines.append(json.dumps(sealed(raw), allow_nan=False) + "\n")
    if not lines:
        raise ConfigError(f"{store.root}: holds no label of this physics; nothing to export")
    with replacing(out) as temporary:
        temporary.write_bytes(gzip.compress("".join(lines).encode(), mtime=0))
    return len(lines)


def _has(record: LabelRecord, physics: Physics) -> bool:
    return record.physics == physics_of(physics, structure_of(record))


def read_archive(path: Path, physics: Physics) -> Iterator[Found | Refused]:
    """The labels of an archive, each with the record it is to have in the store.

    What is no whole archive, or no whole record, is refused; the others are read.
    """
    try:
        lines = _lines(path.read_bytes())
    except (OSError, EOFError, ValueError, zlib.error) as error:
        detail = f"no whole archive of labels ({error}); expected one of mlpwf label export: copy it again"
        yield Refused(str(path), Refusal.UNREADABLE, detail)
        return
    for number, line in enumerate(lines, start=1):
        source = f"{path}#{number}"
        try:
            yield _found(source, json.loads(line), physics)
        except Refused as refused:
            yield refused
        except Exception as error:  # a line of any JSON
            yield unfit(source, error)


def _lines(content: bytes) -> list[str]:
    """Lines of an archive, packed or not."""
    text = (gzip.decompress(content) if content.startswith(GZIP) else content).decode()
    if not text or not (content.startswith(GZIP) or text.lstrip().startswith("{")):
        raise ValueError("it is neither gzipped nor JSON" if text else "it is empty")
    return text.splitlines()


def _found(source: str, document: object, physics: Physics) -> Found:
    if not isinstance(document, dict) or SEAL not in document:
        raise Refused(
            source, Refusal.UNREADABLE, f"no record with a checksum, {SEAL}; a line of mlpwf label export expected"
        )
    raw, seal = opened(document)
    if seal != checksum(raw):
        raise Refused(source, Refusal.UNREADABLE, "its checksum is not that of its content")
    record = typed(raw, LabelRecord)
    check_numbers(record)
    wanted = physics_of(physics, structure_of(record))
    if record.physics != wanted:
        names = [name for name in {**record.physics, **wanted} if record.physics.get(name) != wanted.get(name)]
        detail = f"{names[0]} is {record.physics.get(names[0])}, {wanted.get(names[0])} expected"
        raise Refused(source, Refusal.OTHER_PHYSICS, detail)
    forces, stress = np.array(record.forces_ev_angstrom), np.array(record.stress_ev_angstrom3)
    atoms = structure_of(record)
    result = Result(Properties(record.energy_ev, forces, stress, float(atoms.get_volume())), record.engine_version)
    structure = canonical(atoms)
    return Found(source, structure, result, record.engine_version, record.cpu_s, record.asserted, raw)
