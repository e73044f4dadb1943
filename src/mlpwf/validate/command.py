"""`mlpwf validate`: errors on held-out labels, and what the model does when it runs free."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mlpwf.campaign.records import Errors

log = logging.getLogger(__name__)
app = typer.Typer(help="Errors of a model, its runs, and the verdict on it.", no_args_is_help=True)


@app.command("model")
def validate_model(
    config: Annotated[Path, typer.Option(help="Resolved section: C/config/validate.json.")],
    site: Annotated[Path, typer.Option(help="Resolved site: C/config/site.json.")],
    system: Annotated[Path, typer.Option(help="Resolved section: C/config/system.json.")],
    model: Annotated[Path, typer.Option(help="Final model, as deployed, of C/train/final.")],
    molecules: Annotated[Path, typer.Option(help="One frame for each species: C/build/molecules.extxyz.")],
    test_labels: Annotated[Path, typer.Option(help="Held-out labels: C/test/label/labels.extxyz.")],
    out: Annotated[Path, typer.Option(help="Folder of the results: C/validate, or C/cycle/NNN/validate.")],
    cycle: Annotated[int | None, typer.Option(min=0, help="Cycle the model comes from.")] = None,
    known: Annotated[Path | None, typer.Option(help="Folder of a cycle's results; same model, same runs.")] = None,
) -> None:
    """Rate a model: parity, energy conservation, stability, structure, density, diffusion."""
    from mlpwf.campaign import paths, records
    from mlpwf.campaign.accounting import accounted
    from mlpwf.config import Site, System, Validate, load_section
    from mlpwf.errors import ConfigError
    from mlpwf.files import sha256, sole_writer, write_text
    from mlpwf.potentials.base import Ability
    from mlpwf.potentials.record import engine_of, sound_model
    from mlpwf.validate.labels import errors_on_labels
    from mlpwf.validate.runs import Validation, asked_of, forget_work, taken_over, validate_runs

    section, seed = load_section(Validate, config)
    composition, place = load_section(System, system)[0], load_section(Site, site)[0]
    if not model.is_file():
        raise ConfigError(f"{model}: no such model; expected the final model of mlpwf train")
    engine_of([model]).require(Ability.LAMMPS)
    with sole_writer(out), accounted(out, "validate"):
        files = paths.Validate(out)
        asked = asked_of(section, seed, sound_model(model), sha256(molecules))
        validation = Validation(asked, section, composition, place, model, molecules, files)
        errors, parity = errors_on_labels(model, validation.references, test_labels)
        write_text(files.parity, parity)
        records.write(
            files.errors,
            records.ValidateErrors(
                seed=seed, model_sha256=asked.model_sha256, labels_sha256=sha256(test_labels),
                overall=errors.overall, states=errors.states,
            ),
        )  # fmt: skip
        _log_errors(errors.overall)
        runs = None if known is None else taken_over(paths.Validate(known), asked, files)
        records.write(files.runs, runs or validate_runs(validation, cycle))
        forget_work(validation)


@app.command("verdict")
def validate_verdict(
    final: Annotated[Path, typer.Option(help="Record of the final model: C/train/final/final.json.")],
    runs: Annotated[Path, typer.Option(help="Its runs: C/validate/runs.json.")],
    out: Annotated[Path, typer.Option(help="File of the verdict: C/validate/verdict.json.")],
) -> None:
    """Say whether the final model is fit for production: good, not yet or broken, and why."""
    from mlpwf.campaign import records
    from mlpwf.campaign.accounting import accounted
    from mlpwf.campaign.judgement import judge
    from mlpwf.files import sole_writer

    with sole_writer(out.parent), accounted(out.parent, "validate"):
        found = judge(records.read(final, records.Verdict), records.read(runs, records.ValidateRuns))
        records.write(out, found)
    log.info("validate: %s", "; ".join([found.verdict, *found.reasons]))


def _log_errors(overall: Errors) -> None:
    log.info(
        "validate: %d held-out frames, energy %.2f meV/atom, force %.3f eV/Å",
        overall.frames, overall.energy_rmse_mev_atom, overall.force_rmse_ev_angstrom,
    )  # fmt: skip
