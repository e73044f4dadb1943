"""`mlpwf select`: the explored frames worth a label, and whether to go on."""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlpwf.campaign import records
from mlpwf.campaign.accounting import accounted
from mlpwf.campaign.paths import Select as Folder
from mlpwf.campaign.verdicts import ACCURATE, VERDICTS
from mlpwf.config import Label, Select, load_section
from mlpwf.files import sha256, sole_writer
from mlpwf.potentials.base import Ability
from mlpwf.potentials.record import engine_of, sound_model

if TYPE_CHECKING:
    from mlpwf.select.explored import Explored

log = logging.getLogger(__name__)

DEFAULT_MINIMUM_DISTANCE = Label().minimum_distance_angstrom


def select(
    config: Annotated[Path, typer.Option(help="resolved section `select`")],
    explored: Annotated[list[Path], typer.Option(help="frames explored at one state; repeat for each state")],
    labels: Annotated[list[Path], typer.Option(help="labelled frames the committee was trained on; repeat")],
    descriptor_model: Annotated[Path, typer.Option(help="model as trained, for descriptors")],
    errors: Annotated[Path, typer.Option(help="errors.json of this cycle's training")],
    molecules: Annotated[Path, typer.Option(help="molecules.extxyz of the build")],
    cycle: Annotated[int, typer.Option(min=0, help="number of this cycle, from 0")],
    out: Annotated[Path, typer.Option(help="folder of the selection")],
    model: Annotated[list[Path] | None, typer.Option(help="model of the committee; repeat in order")] = None,
    calibration: Annotated[Path | None, typer.Option(help="calibration.json of this cycle's training")] = None,
    previous_errors: Annotated[Path | None, typer.Option(help="errors.json of the previous cycle")] = None,
    liquid: Annotated[
        list[Path] | None, typer.Option(help="liquid.json of a cycle to compare; repeat in order")
    ] = None,
    earlier: Annotated[list[Path] | None, typer.Option(help="folder of an earlier cycle's selection; repeat")] = None,
    label: Annotated[Path | None, typer.Option(help="resolved section `label`, for its budget of core-hours")] = None,
    campaign: Annotated[Path | None, typer.Option(help="folder whose label jobs share that budget")] = None,
    label_error: Annotated[Path | None, typer.Option(help="error.json of `mlpwf label error`")] = None,
) -> None:
    """Sort explored frames by trust, choose the most different candidates, decide whether to go on."""
    from mlpwf.campaign.stopping import judge
    from mlpwf.potentials.committee import Committee
    from mlpwf.potentials.record import open_model
    from mlpwf.select.choosing import Diversity, chosen, spared
    from mlpwf.select.criteria import criteria, new_label_error
    from mlpwf.select.decisions import write_baseline, write_selection
    from mlpwf.select.explored import read_explored
    from mlpwf.select.rating import Rating
    from mlpwf.select.screening import classified, examined
    from mlpwf.structures.frames import read_frames
    from mlpwf.structures.molecules import closest_contacts

    settings, seed = load_section(Select, config)
    with sole_writer(out), accounted(out, "select"):
        for path in (descriptor_model, *(model or [])):
            sound_model(path)
        engine_of([descriptor_model]).require(Ability.DESCRIPTORS)
        affordable = _affordable(label, campaign)
        own_errors = _own_errors(label_error)
        settings = _within_reach(settings, affordable, own_errors)
        trained = records.read(errors, records.TrainErrors)
        before = None if previous_errors is None else records.read(previous_errors, records.TrainErrors)
        liquids = [records.read(path, records.LiquidSamples) for path in liquid or []]
        species = read_frames(molecules)
        sets = [read_frames(path) for path in labels]
        trained_on = [atoms for one in sets for atoms in one]

        rating = Rating(
            (lambda frames: Committee.opened(model, species).forces(frames)) if model else None,
            None if calibration is None else records.read(calibration, records.Calibration),
            settings,
        )
        closest = DEFAULT_MINIMUM_DISTANCE if label is None else load_section(Label, label)[0].minimum_distance_angstrom
        met = {} if settings.contact_margin_angstrom is None else closest_contacts(trained_on)
        frames = examined(read_explored(explored), species, closest, met, settings)
        frames = classified(rating.rated(frames), settings)
        diversity = Diversity(
            lambda frames, elements: open_model(descriptor_model).descriptors(frames, elements),
            trained_on,
            settings.duplicate_distance,
        )
        frames = chosen(frames, diversity, settings)

        counts = Counter(frame.verdict for frame in frames)
        asked_for = criteria(trained, before, liquids, counts, settings)
        taken = sum(frame.selected for frame in frames)
        verdict, reason = judge(asked_for, counts, taken, cycle, settings.maximum_cycles, affordable)
        if verdict != "continue":
            frames = [spared(frame, verdict) for frame in frames]
        given = [*explored, *labels, descriptor_model, errors, molecules, *(model or []), *(liquid or [])]
        given += [path for path in (calibration, previous_errors, label_error) if path is not None]
        status = records.SelectStatus(
            cycle=cycle,
            **_census(frames, counts),
            units={"new_label_error": "eV/Å"},
            verdict=verdict,
            reason=reason,
            new_label_error=new_label_error(trained),
            criteria=asked_for,
            label_error=own_errors,
            trust=rating.trust(frames),
            seed=seed,
            inputs={str(path): sha256(path) for path in given},
        )
        shared, folders = dataclasses.replace(diversity, labelled=sets[0]), [Folder(path) for path in earlier or []]
        for line in settings.baseline_lines:
            write_baseline(line, Folder(out), folders, frames, shared, cycle=cycle, seed=seed, number=status.selected)
        write_selection(Folder(out), frames, cycle)
        records.write(Folder(out).status, status)
    log.info("select: %d of %d frames selected; %s", status.selected, len(frames), reason)


def _affordable(label: Path | None, campaign: Path | None) -> int | None:
    """Labels the campaign's budget of core-hours still buys; None: no budget."""
    from mlpwf.campaign.budget import affordable_labels

    if label is None or campaign is None:
        return None
    budget = load_section(Label, label)[0].budget_core_hours
    return None if budget is None else affordable_labels(campaign, budget)


def _own_errors(label_error: Path | None) -> dict[str, float]:
    """Errors of the labels themselves in eV/Å, by channel of the force."""
    from mlpwf.select.criteria import label_errors

    return {} if label_error is None else label_errors(records.read(label_error, records.LabelError))


def _within_reach(settings: Select, affordable: int | None, own_errors: dict[str, float]) -> Select:
    """Settings that ask for no more labels than are affordable, and for no better model than the labels."""
    if affordable is not None and affordable < settings.budget:
        log.info("select: label.budget_core_hours buys %d more labels", affordable)
        settings = settings.model_copy(update={"budget": max(1, affordable)})
    asked, settings = settings.targets, settings.no_better_than(own_errors)
    if settings.targets != asked:
        log.warning("select: the labels' own error is above the target; no model is asked to be better than them")
    return settings


def _census(frames: list[Explored], counts: Counter[str]) -> dict[str, Any]:
    """How many frames have each verdict, in numbers and shares, and how many are selected."""
    number = len(frames)
    return {
        **{name: counts[name] for name in VERDICTS},
        "explored": number,
        "fractions": {name: counts[name] / number for name in VERDICTS} if frames else None,
        "candidate_fraction": (number - counts[ACCURATE]) / number if frames else None,
        "selected": sum(frame.selected for frame in frames),
    }
