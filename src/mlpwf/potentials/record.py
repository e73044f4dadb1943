"""The record of a model, in its folder: which engine made it, of what, and the hashes of its files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mlpwf.campaign.records import Record
from mlpwf.errors import ConfigError, DataError
from mlpwf.files import read_json, sha256, sound
from mlpwf.potentials.base import Engine, Potential, Role
from mlpwf.potentials.registry import engine

if TYPE_CHECKING:
    from ase import Atoms

    from mlpwf.config.train import Train

RECORD, FINAL_RECORD = "check.json", "final.json"
EARLIER_ENGINE = "deepmd"
"""The engine of records that name none: they are older than the second engine."""


class ModelRecord(Record, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """What a model's folder says of it; older records say less, and more stands beside it in the same file."""

    engine: str = EARLIER_ENGINE
    elements: list[str] = msgspec.field(default_factory=list)
    cutoff_angstrom: float | None = None
    units: dict[str, str] = msgspec.field(default_factory=dict)
    files: dict[str, str] = msgspec.field(default_factory=dict)
    """Names of the model's files by role."""
    sha256: dict[str, str] = msgspec.field(default_factory=dict)
    """Hashes of the files by name."""
    parents: dict[str, str] = msgspec.field(default_factory=dict)
    """Hashes of the models it continues or is a copy of, by path."""

    @classmethod
    def of(cls, model: Path) -> ModelRecord | None:
        """The record beside a model's file; None where there is none.

        Raises
        ------
        DataError
            If it is no record.
        """
        path = record_path(model)
        return None if path is None else _read(path, model.name)


def _read(path: Path, model: str) -> ModelRecord:
    """The record in a file, of the model called `model`."""
    document = read_json(path)
    if isinstance(document, dict) and isinstance(document.get("sha256"), str):
        document |= {"sha256": {model: document["sha256"]}}  # of a campaign that ended when its folder held one file
    try:
        return msgspec.convert(document, ModelRecord)
    except msgspec.ValidationError as error:
        raise DataError(
            f"{path}: no record of a model ({error}); delete its folder and run again, it is made anew"
        ) from None


def record_path(model: Path) -> Path | None:
    """Where the record of a model's file is; None where there is none."""
    return next((path for name in (RECORD, FINAL_RECORD) if (path := model.with_name(name)).is_file()), None)


def pretrained_elements(parent: Path, section: Train, elements: Sequence[str]) -> list[str]:
    """Elements of a model that train.start_from names, in its order, for labels of these elements.

    Raises
    ------
    ConfigError
        If it does not know them all, or has another cut-off; its other sizes are its own.
    """
    known = ModelRecord.of(parent) or ModelRecord()
    if missing := [symbol for symbol in elements if symbol not in known.elements]:
        raise ConfigError(
            f"{parent}: it knows {', '.join(known.elements) or 'no elements'}, and the labels hold "
            f"{', '.join(missing)}; expected a train.start_from that was trained on them too"
        )
    if known.cutoff_angstrom != section.cutoff_angstrom:
        raise ConfigError(
            f"train.cutoff_angstrom is {section.cutoff_angstrom:g}, that of {parent} {known.cutoff_angstrom:g}; "
            "expected the same"
        )
    return known.elements


def sound_model(model: Path) -> str:
    """SHA-256 of a model file.

    Raises
    ------
    DataError
        If it is not the one that was recorded beside it when it was made.
    """
    path, record = record_path(model), ModelRecord.of(model)
    if path is None or record is None:
        return sha256(model)
    return sound(model, record.sha256.get(model.name), path, "delete it and run again; it is made anew")


def engine_of(models: Sequence[Path]) -> Engine:
    """The engine of all these model files, by the records beside them.

    Raises
    ------
    ConfigError
        If they are of more than one engine.
    """
    found = sorted({(ModelRecord.of(model) or ModelRecord()).engine for model in models})
    if len(found) != 1:
        raise ConfigError(
            f"{', '.join(map(str, models))}: of the engines {' and '.join(found) or 'none'}; expected one for all"
        )
    return engine(found[0])


def open_model(model: Path, molecules: Sequence[Atoms] = ()) -> Potential:
    """Open the file of a trained model, by the engine its record names."""
    return engine_of([model]).open([model], molecules)


def model_files(of: Engine, folder: Path) -> dict[Role, Path]:
    """The files of a trained model in its folder."""
    return {role: folder / name for role, name in of.files.items()}
