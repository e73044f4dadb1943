"""The model a campaign ends with."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import asdict, replace

from mlpwf.campaign import records
from mlpwf.errors import DataError
from mlpwf.files import copy_whole, read_json, write_json
from mlpwf.potentials.base import Role
from mlpwf.potentials.record import FINAL_RECORD, ModelRecord, engine_of, model_files, record_path, sound_model


def final_files(model: Path) -> dict[Role, Path]:
    """Files of the model to keep, by role.

    Parameters
    ----------
    model
        Its deployed file; the original one lies beside it.

    Raises
    ------
    DataError
        If one is missing.
    """
    if not model.is_file():
        raise DataError(f"{model}: no such model; expected a deployed model of the last cycle: run again")
    files = model_files(engine_of([model]), model.parent)
    for source in files.values():
        if not source.is_file():
            raise DataError(
                f"{source}: no such model; expected that which {model.name} was made from: delete {model} and "
                "run again; it is trained anew"
            )
    return files


def keep_final(model: Path, last: records.Verdict, folder: Path) -> None:
    """Copy a model into `folder`, with its record and the verdict that ended the cycles.

    Parameters
    ----------
    model
        Its deployed file.
    last
        Of the last cycle.
    folder
        Where the final model is kept.

    Raises
    ------
    DataError
        If a file is missing or damaged.
    """
    files = final_files(model)
    hashes = {source.name: sound_model(source) for source in files.values()}
    for source in files.values():
        copy_whole(source, folder / source.name)
    by = engine_of([model])
    record = replace(
        ModelRecord.of(model) or ModelRecord(),
        engine=by.name,
        files=by.named(),
        sha256=hashes,
        parents={str(model): hashes[model.name]},
    )
    final = records.Final(**asdict(last), model=str(model), sha256=hashes)
    whole = read_json(found) if (found := record_path(model)) else {}
    write_json(folder / FINAL_RECORD, {**whole, **records.as_dict(final), **records.as_dict(record)})
