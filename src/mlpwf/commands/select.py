"""`mlpwf select`: the explored frames worth a label, and whether to go on."""

from __future__ import annotations

import csv
import dataclasses
import io
import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlpwf import __version__
from mlpwf.accounting import accounted
from mlpwf.config import Label, Select, load_section
from mlpwf.errors import DataError
from mlpwf.files import read_json, sha256, sole_writer, sound_model, write_json, write_text

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms
    from numpy.typing import NDArray

    from mlpwf.selection import Choice

log = logging.getLogger(__name__)

COLUMNS = ["state", "walker", "step", "max_devi_f", "max_devi_v", "verdict", "selected", "why", "distance"]
NOT_CHOSEN = {
    "accurate": "deviation below the lower level",
    "failed": "deviation above the upper level or missing",
    "broken": "a molecule is not intact",
}


@dataclass(frozen=True)
class Explored:
    """An explored frame and what is known of it."""

    atoms: Atoms
    key: str
    state: str
    walker: int
    step: int
    force_deviation: float
    virial_deviation: float
    verdict: str = ""
    choice: Choice | None = None


def select(
    config: Annotated[Path, typer.Option(help="resolved section `select`")],
    explored: Annotated[list[Path], typer.Option(help="frames explored at one state; repeat for each state")],
    labels: Annotated[list[Path], typer.Option(help="labelled frames the committee was trained on; repeat")],
    descriptor_model: Annotated[Path, typer.Option(help="model that is not compressed, for descriptors")],
    errors: Annotated[Path, typer.Option(help="errors.json of this cycle's training")],
    molecules: Annotated[Path, typer.Option(help="molecules.extxyz of the build")],
    cycle: Annotated[int, typer.Option(min=0, help="number of this cycle, from 0")],
    out: Annotated[Path, typer.Option(help="folder of the selection")],
    label: Annotated[Path | None, typer.Option(help="resolved section `label`, for its budget of core-hours")] = None,
    campaign: Annotated[Path | None, typer.Option(help="folder whose label jobs share that budget")] = None,
) -> None:
    """Sort explored frames by trust, choose the most different candidates, decide whether to go on."""
    from mlpwf.frames import read_frames
    from mlpwf.selection import CANDIDATE, Criteria, judge

    settings, seed = load_section(Select, config)
    with sole_writer(out), accounted(out, "select"):
        affordable = _affordable(label, campaign)
        if affordable is not None and affordable < settings.budget:
            log.info("select: label.budget_core_hours buys %d more labels", affordable)
            settings = settings.model_copy(update={"budget": max(1, affordable)})
        error = _new_label_error(errors)
        frames = _classified(_read_explored(explored), read_frames(molecules), settings)
        candidates = [index for index, frame in enumerate(frames) if frame.verdict == CANDIDATE]
        sound_model(descriptor_model)
        choices = _chosen([frames[index] for index in candidates], labels, descriptor_model, settings)
        for index, choice in zip(candidates, choices, strict=True):
            frames[index] = dataclasses.replace(frames[index], choice=choice)
        criteria = Criteria(
            settings.converged_candidate_fraction, settings.converged_force_error_ev_angstrom, settings.maximum_cycles
        )
        counts = Counter(frame.verdict for frame in frames)
        verdict, reason = judge(counts, sum(choice.selected for choice in choices), error, cycle, criteria, affordable)
        if verdict != "continue":
            frames = [_spared(frame, verdict) for frame in frames]
        inputs = {str(path): sha256(path) for path in [*explored, *labels, descriptor_model, errors, molecules]}
        _write(out, frames, cycle, _status(frames, cycle, error, verdict, reason) | {"seed": seed, "inputs": inputs})
    taken = sum(frame.choice is not None and frame.choice.selected for frame in frames)
    log.info("select: %d of %d frames selected; %s", taken, len(frames), reason)


def _affordable(label: Path | None, campaign: Path | None) -> int | None:
    """Labels the campaign's budget of core-hours still buys; None: no budget."""
    from mlpwf.budget import affordable_labels

    if label is None or campaign is None:
        return None
    budget = load_section(Label, label)[0].budget_core_hours
    return None if budget is None else affordable_labels(campaign, budget)


def _new_label_error(errors: Path) -> float | None:
    """Force RMSE on the new labels of the previous model that drove the dynamics, in eV/Å; None: unknown."""
    document = read_json(errors)
    try:
        new = document["new"]
        return None if new is None else float(new["first"]["overall"]["force_rmse_ev_angstrom"])
    except (KeyError, TypeError):
        raise DataError(f"{errors}: lacks the errors on new labels; run mlpwf train test again") from None


def _number(value: Any) -> float:
    """A deviation as a number; NaN if it is missing or unreadable."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _read_explored(sources: Sequence[Path]) -> list[Explored]:
    """All explored frames in the order of their keys, which do not depend on files or their order."""
    from mlpwf.frames import read_frames
    from mlpwf.selection import geometry_key

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


def _classified(frames: Sequence[Explored], templates: list[Atoms], settings: Select) -> list[Explored]:
    import numpy as np

    from mlpwf.selection import classify

    verdicts = classify(
        np.array([frame.force_deviation for frame in frames]),
        np.array([frame.virial_deviation for frame in frames]),
        _intact([frame.atoms for frame in frames], templates),
        force_levels=(settings.force_trust_lower_ev_angstrom, settings.force_trust_upper_ev_angstrom),
        virial_levels=(settings.virial_trust_lower_ev, settings.virial_trust_upper_ev),
    )
    return [dataclasses.replace(frame, verdict=verdict) for frame, verdict in zip(frames, verdicts, strict=True)]


def _intact(frames: Sequence[Atoms], templates: list[Atoms]) -> NDArray[np.bool_]:
    """For each frame whether every molecule has the bonds of its template; shape (n_frames,)."""
    import numpy as np

    from mlpwf.molecules import bonds, intact
    from mlpwf.sampling import species_numbers

    bonded = []
    for template in templates:
        alone = template.copy()
        alone.arrays["molecule"] = np.zeros(len(alone), dtype=int)
        bonded.append(bonds(alone))
    whole = np.zeros(len(frames), dtype=bool)
    for number, atoms in enumerate(frames):
        pairs, first = [np.zeros((0, 2), dtype=int)], 0
        for kind in species_numbers(atoms, templates):
            pairs.append(bonded[kind] + first)
            first += len(templates[kind])
        whole[number] = intact(atoms, np.concatenate(pairs))
    return whole


def _chosen(candidates: Sequence[Explored], labels: Sequence[Path], model: Path, settings: Select) -> list[Choice]:
    """Farthest points among candidates, beginning from the training set."""
    from mlpwf.engines.deepmd import descriptors
    from mlpwf.frames import element_order, read_frames
    from mlpwf.selection import farthest_points, geometry_key

    if not candidates:
        return []
    known = sorted((atoms for source in labels for atoms in read_frames(source)), key=geometry_key)
    fresh = [frame.atoms for frame in candidates]
    elements = element_order([*fresh, *known])
    vectors = descriptors(model, [*fresh, *known], elements)
    return farthest_points(
        vectors[: len(fresh)],
        [frame.key for frame in candidates],
        vectors[len(fresh) :],
        budget=settings.budget,
        duplicate_distance=settings.duplicate_distance,
    )


def _spared(frame: Explored, verdict: str) -> Explored:
    """The same frame, not selected since the cycles have ended."""
    if frame.choice is None or not frame.choice.selected:
        return frame
    return dataclasses.replace(
        frame, choice=dataclasses.replace(frame.choice, selected=False, why=f"the cycles have ended: {verdict}")
    )


def _status(frames: Sequence[Explored], cycle: int, error: float | None, verdict: str, reason: str) -> dict[str, Any]:
    from mlpwf.selection import VERDICTS

    counts = Counter(frame.verdict for frame in frames)
    return {
        "mlpwf": __version__,
        "cycle": cycle,
        "explored": len(frames),
        **{name: counts[name] for name in VERDICTS},
        "fractions": {name: counts[name] / len(frames) for name in VERDICTS},
        "candidate_fraction": (len(frames) - counts["accurate"]) / len(frames),
        "selected": sum(frame.choice is not None and frame.choice.selected for frame in frames),
        "new_label_error": error,
        "units": {"new_label_error": "eV/Å"},
        "verdict": verdict,
        "reason": reason,
    }


def _write(out: Path, frames: Sequence[Explored], cycle: int, status: dict[str, Any]) -> None:
    """decisions.csv and frames.extxyz ordered by state, walker and step; status.json last."""
    from mlpwf.frames import quantised, write_frames

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    selected = []
    for frame in sorted(frames, key=lambda one: (one.state, one.walker, one.step, one.key)):
        taken, why, distance = False, NOT_CHOSEN.get(frame.verdict, ""), math.nan
        if frame.choice is not None:
            taken, why, distance = frame.choice.selected, frame.choice.why, frame.choice.distance
        deviations = [f"{frame.force_deviation:.6g}", f"{frame.virial_deviation:.6g}"]
        place = [frame.state, frame.walker, frame.step]
        writer.writerow([*place, *deviations, frame.verdict, int(taken), why, f"{distance:.6g}"])
        if taken:
            atoms = quantised(frame.atoms)
            atoms.calc = None
            atoms.info["cycle"] = cycle
            selected.append(atoms)
    write_frames(out / "frames.extxyz", selected)
    write_text(out / "decisions.csv", text.getvalue())
    write_json(out / "status.json", status)
