"""`mlpwf train`: a committee of models, rated on labels it has not seen."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlpwf.errors import ConfigError

if TYPE_CHECKING:
    from mlpwf.config import Train
    from mlpwf.train.rating import Rated

log = logging.getLogger(__name__)
app = typer.Typer(help="A committee of models and its errors.", no_args_is_help=True)


@app.command("model")
def train_model(
    config: Annotated[Path, typer.Option(help="resolved section `train`")],
    site: Annotated[Path, typer.Option(help="resolved site")],
    labels: Annotated[list[Path], typer.Option(help="labelled frames, extended XYZ; repeat for more files")],
    index: Annotated[int, typer.Option(min=0, help="number of this model in the committee, from 0")],
    out: Annotated[Path, typer.Option(help="folder of this model")],
    start: Annotated[Path | None, typer.Option(help="folder of the model to continue")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="cores of this job; unset: the site's")] = None,
    molecules: Annotated[
        Path | None,
        typer.Option(help="one frame for each species, C/build/molecules.extxyz; for engine molecular"),
    ] = None,
    final: Annotated[bool, typer.Option("--final", help="train for train.steps_final, as the final model is")] = False,
) -> None:
    """Train one model, deploy it, and check that what is deployed predicts as what was trained."""
    from mlpwf.campaign.accounting import accounted
    from mlpwf.config import Site, Train, load_section
    from mlpwf.files import sole_writer
    from mlpwf.potentials.registry import engine
    from mlpwf.train.recipe import is_given, model_to_continue, recipe_of
    from mlpwf.train.training import Training, make_model

    settings, seed = load_section(Train, config)
    if final:
        settings = _of_final_model(settings, config)
    place, _ = load_section(Site, site)
    place = place.model_copy(update={"train_threads": threads or place.train_threads})
    with sole_writer(out), accounted(out, "train"):
        by = engine(settings.potential)
        if by.of_molecules and molecules is None:
            raise ConfigError(f"no --molecules, which {by.name} needs; expected C/build/molecules.extxyz")
        parent = model_to_continue(settings, by, start, final)
        given = molecules if by.of_molecules else None
        recipe = recipe_of(settings, by, seed, index, labels, parent, given)
        pretrained = is_given(settings, start)
        make_model(Training(out, settings, place, labels, parent, recipe, given, pretrained))


def _of_final_model(settings: Train, config: Path) -> Train:
    """The settings with the length of the final training."""
    if settings.steps_final is None:
        raise ConfigError(f"{config}: train.steps_final is not set; expected a number of steps")
    return settings.model_copy(update={"steps_continued": settings.steps_final})


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
    from mlpwf.campaign import records
    from mlpwf.campaign.accounting import accounted
    from mlpwf.files import sole_writer, write_text
    from mlpwf.train.rating import ERROR_UNITS, errors_on_new, errors_on_test, parity_table, rate, rate_new
    from mlpwf.train.recipe import hash_of

    folder = out.parent
    with sole_writer(folder), accounted(folder, "train"):
        tested, trained = rate(model, test, train_labels)
        fresh = rate_new(new, previous or [])
        seen = [*([new] if new else []), *(previous or [])]
        errors = records.TrainErrors(
            units=ERROR_UNITS,
            inputs={str(path): hash_of(path) for path in [*model, test, *train_labels]},
            test=errors_on_test(tested),
            train=records.ErrorsOfMean(mean=trained.errors_of_mean()),
            new=None if fresh is None else errors_on_new(fresh, seen),
        )
        _calibrate(folder, tested, fresh, calibration)
        write_text(folder / "parity.csv", parity_table(tested))
        records.write(out, errors)
        force = [one.overall.force_rmse_ev_angstrom for one in errors.test.models]
        frames = errors.test.mean.overall.frames
        log.info("train: force error on %d test frames %.3f to %.3f eV/Å", frames, min(force), max(force))


def _calibrate(folder: Path, tested: Rated, fresh: Rated | None, earlier: Path | None) -> None:
    """Write calibration.json and pairs.csv, from the newest labels the models have not seen."""
    from mlpwf.campaign import records
    from mlpwf.files import write_text
    from mlpwf.train.rating import NEW_LABELS, TEST_SET, calibrate_on, calibration_pairs, earlier_maps, pairs_table

    rated, source = (tested, TEST_SET) if fresh is None else (fresh, NEW_LABELS)
    pairs = calibration_pairs(rated)
    before = {} if fresh is None else earlier_maps(earlier)
    write_text(folder / "pairs.csv", pairs_table(pairs))
    records.write(folder / "calibration.json", calibrate_on(pairs, len(rated.frames), source, before))


@app.command("final")
def train_final(
    status: Annotated[Path, typer.Option(help="status.json of the last cycle")],
    model: Annotated[Path, typer.Option(help="the model to keep, as deployed; as trained it lies beside it")],
    out: Annotated[Path, typer.Option(help="folder of the final model")],
) -> None:
    """Keep a model as the campaign's result, with the verdict that ended the cycles."""
    from mlpwf.campaign import records
    from mlpwf.campaign.accounting import accounted
    from mlpwf.files import sole_writer
    from mlpwf.train.final import final_files, keep_final

    final_files(model)
    last = records.read(status, records.Verdict)
    with sole_writer(out), accounted(out, "train"):
        keep_final(model, last, out)
    log.info("train: final model of cycle %d (%s): %s", last.cycle, last.verdict, last.reason)
