"""What is known of a trained potential, from its record and from the campaign around it."""

from __future__ import annotations

from pathlib import Path

from mlpwf.calculators.registry import class_named
from mlpwf.campaign import records
from mlpwf.campaign.paths import Campaign
from mlpwf.errors import DataError
from mlpwf.potentials.base import Ability
from mlpwf.potentials.record import ModelRecord, engine_of, record_path

ASE = """In Python, with ASE:

    from pathlib import Path
    from mlpwf.potentials.record import open_model

    atoms.calc = open_model(Path("{model}")).calculator()
"""
WHOLE = """Atoms of a molecule must follow one another, in the order of build/molecules.extxyz. Where bonds do not tell
molecules apart, number them from 0 in an array 'molecule'.
"""
LAMMPS = """In LAMMPS:

    mlpwf model export {model} --box BOX --out FOLDER
    sh FOLDER/run.sh
"""


def campaign_of(model: Path) -> Campaign | None:
    """The campaign in whose folder a model lies; None: in none."""
    found = (Campaign(parent) for parent in model.resolve().parents if (parent / "config" / "system.json").is_file())
    return next(found, None)


def molecules_of(model: Path) -> Path | None:
    """The molecules of the campaign a model belongs to; None: it belongs to none, or they are gone."""
    campaign = campaign_of(model)
    return campaign.build.molecules if campaign and campaign.build.molecules.is_file() else None


def facts(model: Path) -> list[tuple[str, str]]:
    """Names and values in words.

    Raises
    ------
    DataError
        If there is no such model, or no record beside it.
    """
    if not model.is_file():
        raise DataError(f"{model}: no such model; expected a deployed one, such as results/NAME/train/final/…")
    record, path = ModelRecord.of(model), record_path(model)
    if record is None or path is None:
        raise DataError(f"{model}: no check.json or final.json beside it; expected the record of a trained model")
    known = records.read_known(path, records.ModelCheck)
    found = [
        ("engine", engine_of([model]).name),
        ("files", ", ".join(record.files.values()) or model.name),
        ("elements", " ".join(record.elements)),
        ("cut-off", f"{record.cutoff_angstrom:g} Å" if record.cutoff_angstrom else ""),
        ("units", ", ".join(f"{name} in {unit}" for name, unit in record.units.items())),
        ("labels", f"{known.frames:,}" if known else ""),
        ("versions", ", ".join(f"{name} {number}" for name, number in known.versions.items()) if known else ""),
    ]
    if campaign := campaign_of(model):
        found += _of_campaign(campaign)
    return [(name, value) for name, value in found if value]


def _of_campaign(campaign: Campaign) -> list[tuple[str, str]]:
    """What the labels were, and what validation found."""
    found: list[tuple[str, str]] = []
    labels = records.read_known(campaign.cycle(0).label.summary, records.LabelSummary)
    if labels:
        told = class_named(labels.engine).told(labels.physics)
        found += [(f"labels: {name.lower()}", value) for name, value in told.items()]
        found.append(("dispersion", "what the labels have of it is in the potential: do not add it again"))
    if errors := records.read_known(campaign.validate.errors, records.ValidateErrors):
        one = errors.overall
        found.append((
            "test errors",
            f"force {1e3 * one.force_rmse_ev_angstrom:.0f} meV/Å, energy {one.energy_rmse_mev_atom:.1f} meV/atom, "
            f"of {one.frames} frames",
        ))  # fmt: skip
    if verdict := records.read_known(campaign.validate.verdict, records.ValidateVerdict):
        found.append(("verdict", "; ".join([verdict.verdict, *verdict.reasons])))
    return found


def use(model: Path) -> str:
    """How to use it, in lines to copy."""
    by = engine_of([model])
    parts = [ASE.format(model=model)]
    if by.of_molecules:
        parts.append(WHOLE)
    if by.can(Ability.LAMMPS):
        parts.append(LAMMPS.format(model=model))
    return "\n".join(parts)
