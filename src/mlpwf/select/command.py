"""`mlpwf select`: the explored frames worth a label, and whether to go on."""

from __future__ import annotations

import csv
import dataclasses
import io
import logging
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlpwf.campaign import records
from mlpwf.campaign.accounting import accounted
from mlpwf.campaign.paths import Select as Folder
from mlpwf.campaign.verdicts import ACCURATE, BROKEN, CANDIDATE, CHANNELS, FAILED, VERDICTS
from mlpwf.config import Label, Select, load_section
from mlpwf.errors import DataError
from mlpwf.files import sha256, sole_writer, write_text
from mlpwf.potentials.base import Ability
from mlpwf.potentials.record import engine_of, sound_model

if TYPE_CHECKING:
    from ase import Atoms

    from mlpwf.select.choosing import Diversity
    from mlpwf.select.explored import Explored

log = logging.getLogger(__name__)

COLUMNS = [
    "state", "walker", "step", "max_devi_f", "max_devi_v", "devi_inter", "devi_intra", "error_inter", "error_intra",
    "verdict", "selected", "why", "distance",
]  # fmt: skip
NOT_CHOSEN = {"accurate": "below the lower level", "failed": "above the upper level, or a deviation is missing"}
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
    from mlpwf.select.criteria import criteria, label_errors, new_label_error
    from mlpwf.select.rating import Rating
    from mlpwf.select.screening import classified, examined
    from mlpwf.structures.frames import read_frames
    from mlpwf.structures.molecules import closest_contacts

    settings, seed = load_section(Select, config)
    with sole_writer(out), accounted(out, "select"):
        affordable = _affordable(label, campaign)
        if affordable is not None and affordable < settings.budget:
            log.info("select: label.budget_core_hours buys %d more labels", affordable)
            settings = settings.model_copy(update={"budget": max(1, affordable)})
        own_errors = {} if label_error is None else label_errors(records.read(label_error, records.LabelError))
        asked, settings = settings.targets, settings.no_better_than(own_errors)
        if settings.targets != asked:
            log.warning("select: the labels' own error is above the target; no model is asked to be better than them")
        trained = records.read(errors, records.TrainErrors)
        before = None if previous_errors is None else records.read(previous_errors, records.TrainErrors)
        liquids = [records.read(path, records.LiquidSamples) for path in liquid or []]
        for path in (descriptor_model, *(model or [])):
            sound_model(path)
        engine_of([descriptor_model]).require(Ability.DESCRIPTORS)
        species = read_frames(molecules)
        rating = Rating(
            (lambda frames: Committee.opened(model, species).forces(frames)) if model else None,
            None if calibration is None else records.read(calibration, records.Calibration),
            settings,
        )
        closest = DEFAULT_MINIMUM_DISTANCE if label is None else load_section(Label, label)[0].minimum_distance_angstrom
        sets = [read_frames(path) for path in labels]
        trained_on = [atoms for one in sets for atoms in one]
        met = {} if settings.contact_margin_angstrom is None else closest_contacts(trained_on)
        frames = examined(_read_explored(explored), species, closest, met, settings)
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
            explored=len(frames),
            accurate=counts[ACCURATE],
            candidate=counts[CANDIDATE],
            failed=counts[FAILED],
            broken=counts[BROKEN],
            fractions={name: counts[name] / len(frames) for name in VERDICTS} if frames else None,
            candidate_fraction=(len(frames) - counts[ACCURATE]) / len(frames) if frames else None,
            selected=sum(frame.selected for frame in frames),
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
        shared = dataclasses.replace(diversity, labelled=sets[0])
        for line in settings.baseline_lines:
            _write_baseline(line, Folder(out), [Folder(path) for path in earlier or []], frames, shared, status)
        _write(Folder(out), frames, status)
    log.info("select: %d of %d frames selected; %s", status.selected, len(frames), reason)


def _affordable(label: Path | None, campaign: Path | None) -> int | None:
    """Labels the campaign's budget of core-hours still buys; None: no budget."""
    from mlpwf.campaign.budget import affordable_labels

    if label is None or campaign is None:
        return None
    budget = load_section(Label, label)[0].budget_core_hours
    return None if budget is None else affordable_labels(campaign, budget)


def _number(value: object) -> float:
    """A deviation as a number; NaN if it is missing or unreadable."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.nan


def _read_explored(sources: Sequence[Path]) -> list[Explored]:
    """All explored frames in the order of their keys, which do not depend on files or their order."""
    from mlpwf.select.explored import Explored
    from mlpwf.structures.frames import geometry_key, read_frames

    found = []
    for source in sources:
        for number, atoms in enumerate(read_frames(source)):
            info = atoms.info
            try:
                state, walker, step = str(info["state"]), int(info["walker"]), int(info["step"])
            except (KeyError, ValueError) as error:
                raise DataError(f"{source}: frame {number} lacks {error}; expected state, walker and step") from None
            key = f"{geometry_key(atoms)} {state} {walker:06d} {step:012d}"
            deviations = _number(info.get("max_devi_f")), _number(info.get("max_devi_v"))
            found.append(Explored(atoms, key, state, walker, step, *deviations))
    keys = Counter(frame.key for frame in found)
    twice = [frame for frame in found if keys[frame.key] > 1]
    if twice:
        one = twice[0]
        place = f"state {one.state}, walker {one.walker}, step {one.step}"
        raise DataError(f"{place} is given twice; expected each file once")
    return sorted(found, key=lambda frame: frame.key)


def _to_label(frame: Explored, cycle: int) -> Atoms:
    """The frame as the label stage takes it."""
    from mlpwf.structures.frames import quantised

    atoms = quantised(frame.atoms)
    atoms.calc = None
    atoms.info["cycle"] = cycle
    return atoms


def _write_baseline(
    line: str,
    out: Folder,
    earlier: Sequence[Folder],
    frames: Sequence[Explored],
    shared: Diversity,
    status: records.SelectStatus,
) -> None:
    """Frames that one run of a baseline selects (`arm/random/1`), as many as the committee's own selection."""
    import numpy as np

    from mlpwf.select.baselines import baseline
    from mlpwf.structures.frames import read_frames, write_frames

    known = [atoms for folder in earlier for atoms in read_frames(folder.selected(line))]
    rng = np.random.default_rng([status.seed, status.cycle, int(line.rsplit("/", 1)[1])])
    others = baseline(line, frames, known, shared, status.selected, rng)
    write_frames(out.selected(line), [_to_label(frame, status.cycle) for frame in others])


def _write(out: Folder, frames: Sequence[Explored], status: records.SelectStatus) -> None:
    """decisions.csv and frames.extxyz ordered by state, walker and step; status.json last."""
    from mlpwf.structures.frames import write_frames

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    selected = []
    for frame in sorted(frames, key=lambda one: (one.state, one.walker, one.step, one.key)):
        taken, why, distance = False, frame.fault or NOT_CHOSEN.get(frame.verdict, ""), math.nan
        if frame.choice is not None:
            taken, why, distance = frame.choice.selected, frame.choice.why, frame.choice.distance
        measured = [*(frame.deviations[c] for c in CHANNELS), *(frame.errors[c] for c in CHANNELS)]
        deviations = [f"{value:.6g}" for value in (frame.force_deviation, frame.virial_deviation, *measured)]
        place = [frame.state, frame.walker, frame.step]
        writer.writerow([*place, *deviations, frame.verdict, int(taken), why, f"{distance:.6g}"])
        if taken:
            selected.append(_to_label(frame, status.cycle))
    write_frames(out.frames, selected)
    write_text(out.decisions, text.getvalue())
    records.write(out.status, status)
