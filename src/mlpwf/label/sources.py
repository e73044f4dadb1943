"""Where labels of other work are: files and folders told by what they hold, whatever their names."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from mlpwf.calculators import registry
from mlpwf.config.label_engines import Capability, LabelEngine, having
from mlpwf.errors import ConfigError

HEAD_BYTES = 65536


def programs() -> str:
    """The programs whose outputs can be imported, in words."""
    return " or ".join(engine.program for engine in having(Capability.OUTPUTS))


def expected() -> str:
    """All that can be imported, in words."""
    return f"an output of {programs()}, an extended XYZ file, an archive of labels or a folder of labels"


class Kind(StrEnum):
    """What a file holds."""

    OUTPUT = "an output of a label engine's program"
    FRAMES = "an extended XYZ file"
    ARCHIVE = "an archive of labels"
    PACKED = "gzipped"
    HDF5 = "an HDF5 file"
    NOTHING = "nothing that is known"


@dataclass(frozen=True)
class Sources:
    """Files and folders that hold labels, by kind."""

    outputs: list[Path] = field(default_factory=list)
    """Outputs of the programs of calculators."""
    frames: list[Path] = field(default_factory=list)
    """Extended XYZ files."""
    systems: list[Path] = field(default_factory=list)
    """Folders in the format deepmd/npy."""
    archives: list[Path] = field(default_factory=list)
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
    found = Sources()
    for place in places:
        if place.is_dir():
            _add_folder(place, found)
        elif not place.exists():
            raise ConfigError(f"{place}: no such file or folder; expected labels of other work")
        else:
            _add_file(place, found)
    return found


def _add_file(place: Path, found: Sources) -> None:
    if not place.is_file():
        raise ConfigError(f"{place}: neither a file nor a folder; expected {expected()}")
    kind = kind_of(place)
    shelves = {Kind.OUTPUT: found.outputs, Kind.FRAMES: found.frames, Kind.ARCHIVE: found.archives}
    if kind in shelves:
        shelves[kind].append(place)
    elif kind is Kind.PACKED:
        raise ConfigError(f"{place}: is gzipped, and no archive of labels; expected {expected()}: unpack it by gunzip")
    elif _is_array(place):
        raise ConfigError(f"{place}: is one file of deepmd/npy; expected its folder, which holds type.raw: name that")
    elif kind is Kind.HDF5:
        raise ConfigError(f"{place}: is an HDF5 file; expected {expected()}: convert it to deepmd/npy by dpdata")
    else:
        raise ConfigError(f"{place}: holds nothing that is known; expected {expected()}")


def _is_array(path: Path) -> bool:
    return _head(path).startswith(b"\x93NUMPY") or (path.suffix == ".raw" and (path.parent / "type.raw").exists())


def _add_folder(place: Path, found: Sources) -> None:
    before = sum(map(len, (found.outputs, found.systems, found.archives)))
    if (place / "labels").is_dir() and (place / "flight").is_dir():
        raise ConfigError(
            f"{place}: is a label store; expected labels outside one: "
            "name it as label_store in a site file, and take an archive of it by mlpwf label export"
        )
    passed: list[Path] = []
    for root in _roots(place):
        outputs: list[Path] = []
        for path in sorted(root.rglob("*")):
            if not path.is_file():
                continue
            try:
                kind = kind_of(path)
            except ConfigError:
                kind = Kind.OUTPUT  # to be named among those that could not be read
            if kind is Kind.OUTPUT:
                outputs.append(path)
            elif kind is Kind.ARCHIVE:
                found.archives.append(path)
            elif kind is Kind.FRAMES:
                passed.append(path)
        found.outputs.extend(outputs)
        if not (outputs and root.resolve().name == "02.fp"):
            found.systems.extend(kind.parent for kind in sorted(root.rglob("type.raw")) if _is_system(kind.parent))
    if sum(map(len, (found.outputs, found.systems, found.archives))) == before:
        raw = next(iter(sorted(place.rglob("*.raw"))), None)
        more = f"; it holds {passed[0]}: name that itself" if passed else ""
        more = more or (f"; {raw.parent} holds no set.*/*.npy: convert it to deepmd/npy by dpdata" if raw else "")
        raise ConfigError(
            f"{place}: holds no output of {programs()}, no archive of labels and no deepmd/npy data{more}"
        )


def _roots(folder: Path) -> list[Path]:
    """The folders of DP-GEN's labels below a work folder or an iteration; without any, the folder itself."""
    return sorted([*folder.glob("iter.*/02.fp"), *folder.glob("02.fp")]) or [folder]


def _is_system(folder: Path) -> bool:
    """Whether a folder holds deepmd/npy data, in plain files: a pipe would be waited for without end."""
    arrays = list(folder.glob("set.*/*.npy"))
    return bool(arrays) and all(path.is_file() for path in [*folder.glob("*.raw"), *arrays])


def kind_of(path: Path) -> Kind:
    """What a plain file holds, by its first bytes.

    Raises
    ------
    ConfigError
        If it cannot be read.
    """
    head = _head(path)
    packed = head.startswith(b"\x1f\x8b")
    if packed:
        try:
            head = zlib.decompressobj(wbits=31).decompress(head, HEAD_BYTES)
        except zlib.error:
            head = b""
        if re.match(rb"\s*\{", head) or (not head and path.name.endswith(".jsonl.gz")):
            return Kind.ARCHIVE
        return Kind.PACKED
    if _writer(head) is not None:
        return Kind.OUTPUT
    if head.startswith(b"\x89HDF"):
        return Kind.HDF5
    if re.match(rb"\s*\{\"", head) and b"forces_ev_angstrom" in head:
        return Kind.ARCHIVE
    if re.match(rb"(\xef\xbb\xbf)?\s*\d+[ \t]*\r?\n[^\n]*\n *[A-Z][a-z]?\S*[ \t]", head) or re.match(
        rb"[^\n]*\n[^\n]*(Lattice|Properties) *=", head
    ):
        return Kind.FRAMES
    return Kind.NOTHING


def writer_of(output: Path) -> LabelEngine | None:
    """The engine whose program wrote an output; None where that cannot be read any more."""
    try:
        return _writer(_head(output))
    except ConfigError:
        return None


def _writer(head: bytes) -> LabelEngine | None:
    return next((engine for engine, calculator in registry.output_readers() if calculator.wrote(head)), None)


def check_provenance(sources: Sources, engine: str, asserted: bool) -> None:
    """Whether labels may be imported: each says by what physics it was computed, or the user does.

    Parameters
    ----------
    sources
        Where labels are.
    engine
        Name of the label engine whose physics they must have.
    asserted
        Whether the user vouches for numbers without an output.

    Raises
    ------
    ConfigError
        If numbers come without an output and without the user's word, or an output is of another engine.
    """
    unproven = [*sources.frames, *sources.systems]
    if unproven and not asserted:
        raise ConfigError(
            f"{unproven[0]}: holds numbers that do not say by what physics they were computed; "
            f"name outputs of {programs()} instead, "
            "or add --asserted if you know that it is the physics of the label section"
        )
    for output in sources.outputs:
        writer = writer_of(output)
        if writer is not None and writer.name != engine:
            raise ConfigError(
                f"{output}: is an output of {writer.program}; label.engine is {engine}, {writer.name} expected"
            )


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as handle:
            return handle.read(HEAD_BYTES)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); expected {expected()}: allow reading it"
        ) from None
