"""What a model is made of, and whether a folder holds the model of a recipe."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from mlpwf.campaign import records
from mlpwf.campaign.records import Document, Settings
from mlpwf.config import Train
from mlpwf.config.train import ADDED
from mlpwf.errors import ConfigError, DataError
from mlpwf.files import sha256
from mlpwf.potentials.base import Ability, Engine, Role
from mlpwf.potentials.record import RECORD, ModelRecord, engine_of, model_files, sound_model

RECIPE = "recipe.json"


class Recipe(Document, frozen=True, kw_only=True):
    """Everything a trained model depends on."""

    versions: dict[str, str]
    """Of the engine's packages."""
    seed: int
    index: int
    """Number of the model in its committee."""
    settings: Settings
    inputs: dict[str, str]
    """Hashes of the labels and of the model it continues, by path."""


class TrainedModel(ModelRecord, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """check.json: a trained model, its recipe and its check; the engine's own entries stand beside them."""

    mlpwf: str
    versions: dict[str, str]
    seed: int
    index: int
    settings: Settings
    inputs: dict[str, str]
    started_from: str | None
    frames: int
    atoms: int
    conversion_frames: int
    """Frames at which the deployed model was compared with the original one."""
    conversion_difference: dict[str, float]
    """Largest differences there (`potentials.metrics.Differences`)."""

    @property
    def recipe(self) -> Recipe:
        """What the model was made of."""
        return Recipe(**{name: getattr(self, name) for name in Recipe.__struct_fields__})


def recipe_of(
    settings: Train,
    by: Engine,
    seed: int,
    index: int,
    labels: Sequence[Path],
    parent: Path | None,
    molecules: Path | None = None,
) -> Recipe:
    """The recipe of a model; `molecules` is a file with one frame of each species, where the engine needs them.

    Raises
    ------
    DataError
        If a file of labels is missing, or the model to continue is damaged.
    """
    inputs = {str(path): hash_of(path) for path in labels}
    if parent is not None:
        inputs[str(parent)] = sound_model(parent)
    if molecules is not None:
        inputs[str(molecules)] = hash_of(molecules)
    return Recipe(
        versions={name: importlib.metadata.version(name) for name in by.packages},
        seed=seed,
        index=index,
        settings=settings.model_dump(mode="json"),
        inputs=inputs,
    )


def model_to_continue(settings: Train, by: Engine, start: Path | None, final: bool) -> Path | None:
    """The original model that the training starts from; None: new weights.

    Parameters
    ----------
    start
        Folder of the model before, if there is one.
    final
        Whether the final model is trained, which always continues the last one.

    Where `start` is that of train.start_from, it is continued in any case.

    Raises
    ------
    DataError
        If it is missing.
    """
    given = is_given(settings, start)
    if start is None or not by.can(Ability.CONTINUE) or not (final or given or settings.continue_models):
        return None
    parent = model_files(by, start)[Role.ORIGINAL]
    if given and (found := engine_of([parent])).name != by.name:
        raise ConfigError(f"train.start_from: {settings.start_from} is of engine {found.name}; expected {by.name}")
    if not parent.is_file():
        remedy = "" if final else ", or train.continue_models: false"
        raise DataError(f"{parent}: no such model; expected the one to continue{remedy}")
    return parent


def is_given(settings: Train, start: Path | None) -> bool:
    """Whether a model's folder is that of train.start_from."""
    return settings.start_from is not None and start is not None and start.samefile(settings.start_from.parent)


def begun(work: Path, recipe: Recipe) -> bool:
    """Whether a training that was cut short in `work` is the one to be done."""
    return records.read_known(work / RECIPE, Recipe) == recipe


def finished(folder: Path, recipe: Recipe, by: Engine, roles: Sequence[Role]) -> bool:
    """Whether `folder` holds what this recipe gives, the files of these roles sound; they are then marked as new."""
    names = [by.files[role] for role in roles]
    kept = [folder / name for name in (*names, by.curve, RECORD)]
    check = records.read_known(folder / RECORD, TrainedModel)
    if check is None or _present(check.recipe) != recipe or not all(path.is_file() for path in kept):
        return False
    if any(sha256(folder / name) != check.sha256.get(name) for name in names):
        return False
    for path in kept:
        os.utime(path)
    return True


def _present(recipe: Recipe) -> Recipe:
    """A recipe with its settings by their present names: a key that is renamed, or new, trains no model anew."""
    named = {Train.earlier.get(key, key): value for key, value in recipe.settings.items()}
    new = {name: value for name, value in Train().model_dump(mode="json").items() if name in ADDED}
    return replace(recipe, settings={**new, **named} if "models" in named else named)


def hash_of(path: Path) -> str:
    """SHA-256 of a file.

    Raises
    ------
    DataError
        If it is missing.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    return sha256(path)
