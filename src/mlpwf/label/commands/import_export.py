"""`mlpwf label import`, `export` and `check`: labels into the store, out of it, and whether they are whole."""

from __future__ import annotations

import logging
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mlpwf.config import Label, Site, load_section
from mlpwf.errors import ConfigError, DataError

log = logging.getLogger(__name__)

PROGRESS_EVERY = 500
NAMED = 5  # damaged files named in the last line; all are named above it


class Format(StrEnum):
    """Formats of an export."""

    EXTXYZ = "extxyz"
    DEEPMD = "deepmd"
    ASE = "ase"
    ARCHIVE = "archive"


SUFFIXES = {
    ".extxyz": Format.EXTXYZ,
    ".xyz": Format.EXTXYZ,
    ".db": Format.ASE,
    ".traj": Format.ASE,
    ".jsonl.gz": Format.ARCHIVE,
    "": Format.DEEPMD,
}


def label_import(
    source: Annotated[
        list[Path],
        typer.Argument(help="pw.x output, extended XYZ, archive, or folder of outputs, deepmd/npy or DP-GEN"),
    ],
    config: Annotated[Path, typer.Option(help="resolved section `label`: the physics the labels must have")],
    site: Annotated[Path, typer.Option(help="resolved site")],
    asserted: Annotated[
        bool, typer.Option("--asserted", help="I vouch that numbers without an output have the physics of the section")
    ] = False,
) -> None:
    """Take labels of other work into the store, each judged as if it had been computed here."""
    from itertools import chain

    from mlpwf.calculators.registry import at_site
    from mlpwf.label.archive import read_archive
    from mlpwf.label.foreign import Refused
    from mlpwf.label.import_export import keep, read_all
    from mlpwf.label.sources import find_sources, writer_of
    from mlpwf.label.store import Store

    settings, _ = load_section(Label, config)
    place, _ = load_section(Site, site)
    sources = find_sources(source)
    unproven = [*sources.frames, *sources.systems]
    if unproven and not asserted:
        raise ConfigError(
            f"{unproven[0]}: holds numbers that do not say by what physics they were computed; "
            "name outputs of pw.x instead, or add --asserted if you know that it is the physics of the label section"
        )
    for output in sources.outputs:
        writer = writer_of(output)
        if writer is not None and writer.name != settings.engine:
            raise ConfigError(
                f"{output}: is an output of {writer.program}; label.engine is {settings.engine}, {writer.name} expected"
            )
    calculator = at_site(settings, place)
    physics = calculator.physics
    store = Store(place.label_store)
    taken: Counter[bool] = Counter()
    refused: Counter[str] = Counter()
    archived = (read_archive(path, physics) for path in sources.archives)
    for done, found in enumerate(chain(read_all(sources, calculator), *archived), start=1):
        try:
            if isinstance(found, Refused):
                raise found
            taken[keep(store, physics, found)] += 1
        except Refused as error:
            refused[str(error.reason)] += 1
            log.info("label import: refused %s", error)
        if done % PROGRESS_EVERY == 0:
            log.info("label import: %d read", done)
    reasons = ", ".join(f"{count} {reason}" for reason, count in refused.most_common())
    line = f"{taken[True]} imported, {taken[False]} known, {refused.total()} refused" + f" ({reasons})" * bool(refused)
    if not taken:
        raise DataError(f"{line}; mend what the lines above name, or leave these labels")
    log.info("label import: %s", line)


def label_export(
    site: Annotated[Path, typer.Option(help="resolved site")],
    out: Annotated[Path, typer.Option(help="file (.extxyz, .xyz, .db, .traj, .jsonl.gz) or folder (deepmd/npy)")],
    config: Annotated[Path | None, typer.Option(help="resolved section `label`: only labels of its physics")] = None,
    format: Annotated[Format | None, typer.Option(help="by default that of the suffix of OUT")] = None,
) -> None:
    """Write all accepted labels of one physics as a data set, or the store's own records as an archive."""
    from mlpwf.calculators.registry import at_site
    from mlpwf.label.archive import write_archive
    from mlpwf.label.import_export import stored, write_ase, write_deepmd
    from mlpwf.label.store import Store
    from mlpwf.structures.frames import write_frames

    place, _ = load_section(Site, site)
    suffix = "".join(out.suffixes[-2:]) if out.suffix == ".gz" else out.suffix
    kind = format or SUFFIXES.get(suffix)
    if kind is None or (kind is Format.ASE and SUFFIXES.get(suffix) is not Format.ASE):
        raise ConfigError(f"{out}: expected a suffix of {', '.join(filter(None, SUFFIXES))}, or none for deepmd/npy")
    physics = None
    if config is not None:
        settings, _ = load_section(Label, config)
        physics = at_site(settings, place).physics
    store = Store(place.label_store)
    if kind is Format.ARCHIVE:
        count = write_archive(out, store, physics)
    else:
        frames = stored(store, physics)
        {Format.EXTXYZ: write_frames, Format.DEEPMD: write_deepmd, Format.ASE: write_ase}[kind](out, frames)
        count = len(frames)
    log.info("label export: %d labels in %s", count, out)


def label_check(site: Annotated[Path, typer.Option(help="resolved site")]) -> None:
    """Read every file of the label store and say what is damaged; nothing is changed."""
    from mlpwf.label.store import LABELS, REJECTED, Store

    place, _ = load_section(Site, site)
    store = Store(place.label_store)
    if not store.root.is_dir():
        raise ConfigError(f"{store.root}: no label store; expected the folder named by label_store in the site file")
    entries = [(shelf, key) for shelf in (LABELS, REJECTED) for key in store.all_keys(shelf)]
    damaged, unsealed = [], 0
    for done, (shelf, key) in enumerate(entries, start=1):
        path = store.path(shelf, key)
        try:
            unsealed += not store.check(shelf, key)
        except DataError as error:
            log.info("label check: %s", error)
            damaged.append(path)
        if done % PROGRESS_EVERY == 0:
            log.info("label check: %d/%d files", done, len(entries))
    for path in store.leftovers():
        log.info("label check: %s: left by a process that was killed; it can be deleted", path)
    shelves = Counter(shelf for shelf, _ in entries)
    line = f"{shelves[LABELS]} labels, {shelves[REJECTED]} rejected, {unsealed} without a checksum"
    if damaged:
        names = ", ".join(map(str, damaged[:NAMED])) + ", …" * (len(damaged) > NAMED)
        raise DataError(f"{line}, {len(damaged)} damaged: {names}; delete them: they are computed again when asked for")
    log.info("label check: %s, none damaged", line)
