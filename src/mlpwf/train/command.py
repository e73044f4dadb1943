"""`mlpwf train`: a committee of models, rated on labels it has not seen."""

from __future__ import annotations

import csv
import dataclasses
import importlib.metadata
import io
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlpwf import __version__
from mlpwf.campaign.accounting import accounted
from mlpwf.config import Site, Train, load_section
from mlpwf.config.label_engines import DEFAULT_LABEL_ENGINE
from mlpwf.errors import ConfigError, DataError, EngineError, MlpwfError
from mlpwf.files import read_json, replacing, sha256, sole_writer, write_json, write_text
from mlpwf.potentials.base import Engine, Role, TrainingJob
from mlpwf.potentials.record import FINAL_RECORD, RECORD, ModelRecord, engine_of, model_files, open_model, sound_model
from mlpwf.potentials.registry import engine

if TYPE_CHECKING:
    from ase import Atoms

    from mlpwf.potentials.calibration import Pairs
    from mlpwf.potentials.metrics import Quantities

log = logging.getLogger(__name__)
app = typer.Typer(help="A committee of models and its errors.", no_args_is_help=True)

CHECKED_FRAMES = 10


# ---------------------------------------------------------------- train model


@app.command("model")
def train_model(
    config: Annotated[Path, typer.Option(help="resolved section `train`")],
    site: Annotated[Path, typer.Option(help="resolved site")],
    labels: Annotated[list[Path], typer.Option(help="labelled frames, extended XYZ; repeat for more files")],
    index: Annotated[int, typer.Option(min=0, help="number of this model in the committee, from 0")],
    out: Annotated[Path, typer.Option(help="folder of this model")],
    start: Annotated[Path | None, typer.Option(help="folder of the model to continue")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="cores of this job; unset: the site's")] = None,
    final: Annotated[bool, typer.Option("--final", help="train for train.steps_final, as the final model is")] = False,
) -> None:
    """Train one model, deploy it, and check that what is deployed predicts as what was trained."""
    settings, seed = load_section(Train, config)
    if final:
        if settings.steps_final is None:
            raise ConfigError(f"{config}: train.steps_final is not set; expected a number of steps")
        settings = settings.model_copy(update={"steps_continued": settings.steps_final})
    place, _ = load_section(Site, site)
    place = place.model_copy(update={"train_threads": threads or place.train_threads})
    with sole_writer(out), accounted(out, "train"):
        by = engine(settings.engine)
        origin = None
        if start is not None and (final or settings.continue_models):
            origin = model_files(by, start)[Role.ORIGINAL]
        if origin is not None and not origin.is_file():
            remedy = "" if final else ", or train.continue_models: false"
            raise DataError(f"{origin}: no such model; expected the one to continue{remedy}")
        inputs = {str(path): _hash(path) for path in labels}
        if origin is not None:
            inputs[str(origin)] = sound_model(origin)
        recipe = {
            "mlpwf": __version__,
            "versions": {name: importlib.metadata.version(name) for name in by.packages},
            "seed": seed,
            "index": index,
            "settings": settings.model_dump(mode="json"),
            "inputs": inputs,
        }
        if _finished(out, recipe, by, list(Role)):
            log.info("train model %d: finished before, kept", index)
            return
        if _deployed_again(out, settings, place, labels, recipe):
            log.info("train model %d: finished before, compressed again", index)
            return
        _train(out, settings, place, labels, origin, recipe)


def _train(
    out: Path, settings: Train, site: Site, labels: list[Path], origin: Path | None, recipe: dict[str, Any]
) -> None:
    """Train in out/work, then put the outputs in place, the record last."""
    by, index = engine(settings.engine), recipe["index"]
    frames = _read_labels(labels)
    names = (*by.files.values(), by.curve)
    for name in (RECORD, *names):
        (out / name).unlink(missing_ok=True)
    work = out / "work"
    if not _same_recipe(work, recipe):
        shutil.rmtree(work, ignore_errors=True)
        write_json(work / "recipe.json", recipe)

    def say(step: int, steps: int, error: float) -> None:
        log.info("train model %d: step %d/%d, force error %.2f eV/Å", index, step, steps, error)

    trained = by.train(TrainingJob(work, frames, settings, site, recipe["seed"], index, origin), say)
    difference = _conversion_difference(by, work, frames, settings.conversion_tolerance_ev_angstrom)
    changed = difference["force_ev_angstrom"]
    log.info("train model %d: done, compression changes forces by at most %.1e eV/Å", index, changed)
    for name in names:
        _copy(work / name, out / name)
    record = ModelRecord(
        engine=by.name,
        elements=trained.elements,
        cutoff_angstrom=trained.cutoff_angstrom,
        units={"energy": "eV", "length": "Å"},
        files=by.named(),
        sha256={name: sha256(out / name) for name in by.files.values()},
        parents={str(trained.parent): sha256(trained.parent)} if trained.parent else {},
    )
    check = recipe | {
        **trained.details,
        "started_from": str(trained.parent) if trained.parent else None,
        "frames": len(frames),
        "atoms": sum(len(atoms) for atoms in frames),
        "conversion_frames": min(CHECKED_FRAMES, len(frames)),
        "conversion_difference": difference,
        **record.document(),
    }
    write_json(out / RECORD, check)
    shutil.rmtree(work, ignore_errors=True)


def _same_recipe(work: Path, recipe: dict[str, Any]) -> bool:
    """Whether a training that was cut short in `work` is the one to be done."""
    try:
        return bool(read_json(work / "recipe.json") == recipe)
    except DataError:
        return False


def _finished(out: Path, recipe: dict[str, Any], by: Engine, roles: Sequence[Role]) -> bool:
    """Whether `out` holds what this recipe gives, with these files; they are then marked as new."""
    names = [by.files[role] for role in roles]
    kept = (*names, by.curve, RECORD)
    if not all((out / name).is_file() for name in kept):
        return False
    try:
        check = read_json(out / RECORD)
        same = all(check.get(key) == value for key, value in recipe.items())
        same = same and all(sha256(out / name) == check["sha256"][name] for name in names)
    except (DataError, KeyError, AttributeError):
        return False
    for name in kept if same else ():
        os.utime(out / name)
    return same


def _deployed_again(out: Path, settings: Train, site: Site, labels: list[Path], recipe: dict[str, Any]) -> bool:
    """Deploy a sound model of this recipe whose deployed form is missing or damaged; False where there is none."""
    by = engine(settings.engine)
    original, deployed = by.files[Role.ORIGINAL], by.files[Role.DEPLOYED]
    if not _finished(out, recipe, by, [Role.ORIGINAL]):
        return False
    work = out / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    shutil.copy2(out / original, work)
    by.deploy(work, site)
    check = read_json(out / RECORD)
    check["conversion_difference"] = _conversion_difference(
        by, work, _read_labels(labels), settings.conversion_tolerance_ev_angstrom
    )
    _copy(work / deployed, out / deployed)
    check["sha256"][deployed] = sha256(out / deployed)
    write_json(out / RECORD, check)
    shutil.rmtree(work)
    return True


def _conversion_difference(by: Engine, work: Path, frames: Sequence[Atoms], tolerance: float) -> dict[str, float]:
    """Largest differences between the model and its deployed form; EngineError above `tolerance` eV/Å."""
    from mlpwf.potentials.metrics import largest_differences

    stride = -(-len(frames) // CHECKED_FRAMES)
    chosen, files = frames[::stride], model_files(by, work)
    original, deployed = (by.open([files[role]]).predict(chosen) for role in (Role.ORIGINAL, Role.DEPLOYED))
    difference = largest_differences(original, deployed)
    if not difference.force_ev_angstrom <= tolerance:
        raise EngineError(
            f"{files[Role.DEPLOYED]}: forces differ by {difference.force_ev_angstrom:.3g} eV/Å from "
            f"{files[Role.ORIGINAL].name}; expected at most {tolerance:g}: "
            "train longer, or raise train.conversion_tolerance_ev_angstrom"
        )
    return dataclasses.asdict(difference)


# ---------------------------------------------------------------- train test


@app.command("test")
def train_test(
    model: Annotated[list[Path], typer.Option(help="model of the committee; repeat in order")],
    test: Annotated[Path, typer.Option(help="labelled test frames")],
    train_labels: Annotated[list[Path], typer.Option(help="labelled frames the committee was trained on; repeat")],
    out: Annotated[Path, typer.Option(help="errors.json; parity.csv is written beside it")],
    new: Annotated[Path | None, typer.Option(help="labelled frames of this cycle")] = None,
    previous: Annotated[list[Path] | None, typer.Option(help="model of the previous cycle's committee; repeat")] = None,
    calibration: Annotated[Path | None, typer.Option(help="calibration.json of the previous cycle, to check")] = None,
) -> None:
    """Rate each model and the committee's mean: test set, training labels, and the previous committee on new labels.

    calibration.json and pairs.csv, written beside, tell what a deviation of the committee is worth.
    """
    import numpy as np

    from mlpwf.potentials.metrics import committee_mean, frame_force_errors, parity_rows

    folder = out.parent
    with sole_writer(folder), accounted(folder, "train"):
        tested, trained = _Rated([test]), _Rated(train_labels)
        _keep_apart(tested.frames, trained.frames, test)
        everything = [*tested.frames, *trained.frames]
        count = len(tested.frames)
        predictions = [_predict(path, everything) for path in model]
        on_test = [one[:count] for one in predictions]
        mean = committee_mean(on_test)
        document: dict[str, Any] = {
            "mlpwf": __version__,
            "units": {"energy": "meV/atom", "force": "eV/Å", "virial": "eV/atom"},
            "inputs": {str(path): _hash(path) for path in [*model, test, *train_labels]},
            "test": {
                "frame_force_mse_ev2_angstrom2": frame_force_errors(tested.labels, mean),
                "models": [tested.errors(one) for one in on_test],
                "mean": tested.errors(mean),
            },
            "train": {"mean": trained.errors(committee_mean([one[count:] for one in predictions]))},
        }
        fresh = _new_labels(new, previous or [])
        document["new"] = None if fresh is None else _previous_on_new(fresh, new, previous or [])
        _calibrate(folder, fresh or (tested, on_test), fresh is not None, calibration)
        rows = parity_rows(tested.labels, mean, tested.states)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["quantity", "state", "label", "model"])
        writer.writerows([quantity, state, f"{a:.10g}", f"{b:.10g}"] for quantity, state, a, b in rows)
        write_text(folder / "parity.csv", text.getvalue())
        write_json(out, document)
        force = [one["overall"]["force_rmse_ev_angstrom"] for one in document["test"]["models"]]
        log.info("train: force error on %d test frames %.3f to %.3f eV/Å", count, np.min(force), np.max(force))


class _Rated:
    """Labelled frames and what is needed to rate predictions of them."""

    def __init__(self, sources: list[Path]) -> None:
        from mlpwf.potentials.metrics import labelled

        self.frames = _read_labels(sources)
        self.labels = [labelled(atoms) for atoms in self.frames]
        self.states = [str(atoms.info.get("state", atoms.info.get("kind", ""))) for atoms in self.frames]

    def errors(self, predicted: list[Quantities]) -> dict[str, Any]:
        """Errors of these predictions, overall and by state."""
        from mlpwf.potentials.metrics import errors_by_state

        return errors_by_state(self.frames, self.labels, predicted, self.states)


def _new_labels(new: Path | None, previous: list[Path]) -> tuple[_Rated, list[list[Quantities]]] | None:
    """Labels that the previous committee has not seen, and what its models make of them."""
    from mlpwf.structures.frames import read_frames

    if new is None or not previous:
        return None
    if not read_frames(new):
        log.info("train: %s holds no labels; the previous models' error on new labels stays unknown", new)
        return None
    fresh = _Rated([new])
    return fresh, [_predict(path, fresh.frames) for path in previous]


def _previous_on_new(
    found: tuple[_Rated, list[list[Quantities]]], new: Path | None, previous: list[Path]
) -> dict[str, Any]:
    """Errors of the previous committee on labels it has not seen: its first model and its mean."""
    from mlpwf.potentials.metrics import committee_mean

    fresh, predictions = found
    return {
        "inputs": {str(path): _hash(path) for path in [*([new] if new else []), *previous]},
        "first": fresh.errors(predictions[0]),
        "mean": fresh.errors(committee_mean(predictions)),
    }


def _calibrate(folder: Path, found: tuple[_Rated, list[list[Quantities]]], new: bool, earlier: Path | None) -> None:
    """calibration.json from labels the models have not seen, with how the earlier one did on them; and the pairs."""
    from mlpwf.potentials.calibration import COVERAGE, as_document, calibrate, check, from_document, reliability

    rated, predictions = found
    before = read_json(earlier)["maps"] if earlier is not None and new else {}
    maps, checks, points = {}, {}, {}
    rows: list[tuple[str, ...]] = []
    for channel, pairs in _pairs(rated, predictions).items():
        if len(pairs.deviation) == 0:
            continue
        made = calibrate(pairs)
        maps[channel] = as_document(made)
        judged = from_document(before[channel]) if channel in before else None
        if judged is not None:
            checks[channel] = dataclasses.asdict(check(judged, pairs))
            points[channel] = reliability(judged, pairs)
            if not checks[channel]["holds"]:
                log.warning("train: the calibration (%s) no longer holds: %s", channel, checks[channel]["message"])
        columns = zip(pairs.frame, pairs.state, pairs.kind, pairs.deviation, pairs.error, strict=True)
        rows += [(channel, frame[:16], state, kind, f"{d:.6g}", f"{e:.6g}") for frame, state, kind, d, e in columns]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["channel", "frame", "state", "kind", "deviation", "error"])
    writer.writerows(sorted(rows))
    write_text(folder / "pairs.csv", text.getvalue())
    document = {
        "mlpwf": __version__,
        "units": {"deviation": "eV/Å", "error": "eV/Å, root mean square of a force component"},
        "source": "new labels, previous committee" if new else "test set, this committee",
        "frames": len(rated.frames),
        "coverage": COVERAGE,
        "maps": maps,
        "check": checks,
        "reliability": points,
    }
    write_json(folder / "calibration.json", document)


def _pairs(rated: _Rated, predictions: list[list[Quantities]]) -> dict[str, Pairs]:
    """Pairs of deviation and error of all frames, by channel."""
    import numpy as np

    from mlpwf.potentials.calibration import INTER, INTRA, frame_pairs, joined
    from mlpwf.structures.frames import geometry_key

    found = [
        frame_pairs(
            np.array([one[index].forces for one in predictions]), rated.labels[index].forces,
            atoms.get_chemical_symbols(), atoms.get_masses(), atoms.arrays["molecule"],
            geometry_key(atoms), rated.states[index],
        )
        for index, atoms in enumerate(rated.frames)
    ]  # fmt: skip
    return {channel: joined([one[channel] for one in found]) for channel in (INTER, INTRA)}


def _predict(model: Path, frames: Sequence[Atoms]) -> list[Quantities]:
    sound_model(model)
    return open_model(model).predict(frames)


def _keep_apart(test: Sequence[Atoms], train: Sequence[Atoms], source: Path) -> None:
    """DataError if a test frame is a training frame too."""
    from mlpwf.structures.frames import geometry_key

    known = {geometry_key(atoms) for atoms in train}
    for number, atoms in enumerate(test):
        if geometry_key(atoms) in known:
            raise DataError(
                f"{source}: test frame {number} is a training frame as well; expected none in common: "
                "its error would say nothing, so remove it from one of the sets"
            )


# ---------------------------------------------------------------- train final


@app.command("final")
def train_final(
    status: Annotated[Path, typer.Option(help="status.json of the last cycle")],
    model: Annotated[Path, typer.Option(help="the model to keep, as deployed; as trained it lies beside it")],
    out: Annotated[Path, typer.Option(help="folder of the final model")],
) -> None:
    """Keep a model as the campaign's result, with the verdict that ended the cycles."""
    if not model.is_file():
        raise DataError(f"{model}: no such model; expected a deployed model of the last cycle: run again")
    by, record = engine_of([model]), ModelRecord.of(model) or ModelRecord()
    kept = model_files(by, model.parent)
    for source in kept.values():
        if not source.is_file():
            raise DataError(
                f"{source}: no such model; expected that which {model.name} was made from: delete {model} and "
                "run again; it is trained anew"
            )
    verdict = read_json(status)
    with sole_writer(out), accounted(out, "train"):
        hashes = {source.name: sound_model(source) for source in kept.values()}
        for source in kept.values():
            _copy(source, out / source.name)
        copied = dataclasses.replace(
            record, engine=by.name, files=by.named(), sha256=hashes, parents={str(model): hashes[model.name]}
        )
        document = {
            "mlpwf": __version__,
            "cycle": verdict["cycle"],
            "verdict": verdict["verdict"],
            "reason": verdict["reason"],
            "model": str(model),
            **copied.document(),
        }
        write_json(out / FINAL_RECORD, document)
    log.info("train: final model of cycle %d (%s): %s", verdict["cycle"], verdict["verdict"], verdict["reason"])


# ---------------------------------------------------------------- files


def _read_labels(sources: list[Path]) -> list[Atoms]:
    from mlpwf.potentials.metrics import labelled
    from mlpwf.structures.frames import read_frames

    frames = []
    for source in sources:
        for number, atoms in enumerate(read_frames(source)):
            try:
                labelled(atoms)
            except MlpwfError as error:
                raise DataError(f"{source}: frame {number}: {error}") from None
            frames.append(atoms)
    if not frames:
        raise DataError(f"{', '.join(map(str, sources))}: no labelled frames; expected at least one")
    engines = sorted({str(atoms.info.get("engine", DEFAULT_LABEL_ENGINE)) for atoms in frames})
    if len(engines) > 1:
        raise DataError(
            f"{', '.join(map(str, sources))}: labels by {' and '.join(engines)}; expected one engine: "
            "their energies are not on one scale, so label all sets with one"
        )
    return frames


def _copy(source: Path, target: Path) -> None:
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)


def _hash(path: Path) -> str:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    return sha256(path)
