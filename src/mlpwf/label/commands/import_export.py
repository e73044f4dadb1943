"""`mlpwf label import`, `export` and `check`: labels into the store, out of it, and whether they are whole."""

from __future__ import annotations

import logging
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mlpwf.config import Label, Site, load_section
from mlpwf.errors import ConfigError, DataError

log = logging.getLogger(__name__)


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
        typer.Argument(
            help="output of a label engine, extended XYZ, archive, or folder of outputs, deepmd/npy or DP-GEN"
        ),
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
    from mlpwf.label.import_export import keep_all, read_all
    from mlpwf.label.sources import check_provenance, find_sources
    from mlpwf.label.store import Store

    settings, _ = load_section(Label, config)
    place, _ = load_section(Site, site)
    sources = find_sources(source)
    check_provenance(sources, settings.engine, asserted)
    calculator = at_site(settings, place)
    physics = calculator.physics
    archived = (read_archive(path, physics) for path in sources.archives)
    taken = keep_all(Store(place.label_store), physics, chain(read_all(sources, calculator), *archived))
    if taken.nothing:
        raise DataError(f"{taken}; mend what the lines above name, or leave these labels")
    log.info("label import: %s", taken)


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
    from mlpwf.label.checking import checked
    from mlpwf.label.store import Store

    place, _ = load_section(Site, site)
    store = Store(place.label_store)
    if not store.root.is_dir():
        raise ConfigError(f"{store.root}: no label store; expected the folder named by label_store in the site file")
    found = checked(store)
    for path in store.leftovers():
        log.info("label check: %s: left by a process that was killed; it can be deleted", path)
    if found.damaged:
        raise DataError(f"{found}; delete them: they are computed again when asked for")
    log.info("label check: %s", found)
