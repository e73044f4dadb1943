"""The training of one model, and the check that what is deployed predicts as what was trained."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms

from mlpwf.campaign import records
from mlpwf.config import Site, Train
from mlpwf.errors import EngineError
from mlpwf.files import copy_whole, read_json, sha256, write_json
from mlpwf.potentials.base import Engine, Role, Trained, TrainingJob
from mlpwf.potentials.metrics import Differences, largest_differences
from mlpwf.potentials.record import RECORD, model_files
from mlpwf.potentials.registry import engine
from mlpwf.structures.frames import read_frames
from mlpwf.train.labels import read_labels
from mlpwf.train.recipe import RECIPE, Recipe, TrainedModel, begun, finished

log = logging.getLogger(__name__)

CHECKED_FRAMES = 10
"""Frames at which a deployed model is compared with its original, at most."""


@dataclass(frozen=True)
class Training:
    """One model to be made in a folder."""

    folder: Path
    settings: Train
    site: Site
    labels: Sequence[Path]
    """Files of labelled frames."""
    parent: Path | None
    """Original model to continue; None: new weights."""
    recipe: Recipe
    molecules: Path | None = None
    """File with one frame of each species, where the engine needs them."""
    pretrained: bool = False
    """Whether `parent` is the user's, see `base.TrainingJob`."""

    @property
    def engine(self) -> Engine:
        """The engine that trains."""
        return engine(self.settings.potential)

    @property
    def work(self) -> Path:
        """Folder of the training until it is done."""
        return self.folder / "work"

    @property
    def name(self) -> str:
        """The training in logs."""
        return f"train model {self.recipe.index}"


def make_model(training: Training) -> None:
    """Leave the model of a recipe in its folder: kept if it is there, else deployed again or trained."""
    if finished(training.folder, training.recipe, training.engine, list(training.engine.files)):
        log.info("%s: finished before, kept", training.name)
    elif finished(training.folder, training.recipe, training.engine, _kept(training.engine)):
        deploy_again(training)
        log.info("%s: finished before, compressed again", training.name)
    else:
        train(training)


def train(training: Training) -> None:
    """Train in the work folder, then put the outputs in place, the record last.

    Raises
    ------
    DataError
        If labels are missing or unusable.
    EngineError
        If the engine fails, or the deployed model differs from the original one.
    """
    by, work = training.engine, training.work
    frames = read_labels(training.labels)
    names = (*by.files.values(), by.curve)
    for name in (RECORD, *names):
        (training.folder / name).unlink(missing_ok=True)
    if not begun(work, training.recipe):
        shutil.rmtree(work, ignore_errors=True)
        records.write(work / RECIPE, training.recipe)
    trained = by.train(_job(training, frames), _Progress(training.name))
    difference = conversion_difference(by, work, frames, training.settings.compression_tolerance_ev_angstrom)
    log.info("%s: done, compression changes forces by at most %.1e eV/Å", training.name, difference.force_ev_angstrom)
    for name in names:
        copy_whole(work / name, training.folder / name)
    check = _check(training, trained, frames, difference)
    write_json(training.folder / RECORD, {**trained.details, **records.as_dict(check)})
    shutil.rmtree(work, ignore_errors=True)


def _job(training: Training, frames: Sequence[Atoms]) -> TrainingJob:
    recipe = training.recipe
    return TrainingJob(
        training.work,
        frames,
        training.settings,
        training.site,
        recipe.seed,
        recipe.index,
        training.parent,
        training.pretrained,
        [] if training.molecules is None else read_frames(training.molecules),
    )


@dataclass(frozen=True)
class _Progress:
    """Logs how far a training is."""

    name: str

    def __call__(self, step: int, steps: int, error: float) -> None:
        log.info("%s: step %d/%d, force error %.2f eV/Å", self.name, step, steps, error)


def _check(training: Training, trained: Trained, frames: Sequence[Atoms], difference: Differences) -> TrainedModel:
    """The record of a model whose files are in place."""
    by, recipe = training.engine, training.recipe
    return TrainedModel(
        **{name: getattr(recipe, name) for name in Recipe.__struct_fields__},
        engine=by.name,
        elements=trained.elements,
        cutoff_angstrom=trained.cutoff_angstrom,
        units={"energy": "eV", "length": "Å"},
        files=by.named(),
        sha256={name: sha256(training.folder / name) for name in by.files.values()},
        parents={str(trained.parent): sha256(trained.parent)} if trained.parent else {},
        started_from=str(trained.parent) if trained.parent else None,
        frames=len(frames),
        atoms=sum(len(atoms) for atoms in frames),
        conversion_frames=min(CHECKED_FRAMES, len(frames)),
        conversion_difference=dataclasses.asdict(difference),
    )


def _kept(by: Engine) -> list[Role]:
    """What a deployed form can be made from again."""
    return [role for role in by.files if role != Role.DEPLOYED]


def deploy_again(training: Training) -> None:
    """Deploy a sound model whose deployed form is missing or damaged, and amend its record.

    Raises
    ------
    EngineError
        If the deployed model differs from the original one.
    """
    by, work, record = training.engine, training.work, training.folder / RECORD
    deployed = by.files[Role.DEPLOYED]
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    for role in _kept(by):
        shutil.copy2(training.folder / by.files[role], work)
    by.deploy(work, training.site)
    frames, tolerance = read_labels(training.labels), training.settings.compression_tolerance_ev_angstrom
    difference = conversion_difference(by, work, frames, tolerance)
    copy_whole(work / deployed, training.folder / deployed)
    check = read_json(record)  # as it stands, with what the engine keeps there of its own
    check["conversion_difference"] = dataclasses.asdict(difference)
    check["sha256"][deployed] = sha256(training.folder / deployed)
    write_json(record, check)
    shutil.rmtree(work)


def conversion_difference(by: Engine, folder: Path, frames: Sequence[Atoms], tolerance: float) -> Differences:
    """Largest differences between a model and its deployed form, at up to `CHECKED_FRAMES` of the frames.

    Parameters
    ----------
    by, folder
        Engine of the model, and the folder of its files.
    frames
        Labelled frames, at least one.
    tolerance
        Largest difference of a force component that is accepted, in eV/Å.

    Raises
    ------
    EngineError
        If forces differ by more.
    """
    files = model_files(by, folder)
    chosen = frames[:: -(-len(frames) // CHECKED_FRAMES)]
    original, deployed = (by.open([files[role]]).predict(chosen) for role in (Role.ORIGINAL, Role.DEPLOYED))
    difference = largest_differences(original, deployed)
    if not difference.force_ev_angstrom <= tolerance:
        raise EngineError(
            f"{files[Role.DEPLOYED]}: forces differ by {difference.force_ev_angstrom:.3g} eV/Å from "
            f"{files[Role.ORIGINAL].name}; expected at most {tolerance:g}: "
            "train longer, or raise train.compression_tolerance_ev_angstrom"
        )
    return difference
