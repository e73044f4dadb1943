"""`mlpwf select`: the explored frames worth a label, and whether to go on."""

from __future__ import annotations

import csv
import dataclasses
import io
import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlpwf import __version__
from mlpwf.campaign.accounting import accounted
from mlpwf.config import Label, Select, load_section
from mlpwf.errors import DataError
from mlpwf.files import read_json, sha256, sole_writer, write_json, write_text
from mlpwf.potentials.base import Ability
from mlpwf.potentials.record import engine_of, sound_model

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms
    from numpy.typing import NDArray

    from mlpwf.campaign.stopping import Criterion
    from mlpwf.select.selection import Choice

log = logging.getLogger(__name__)

COLUMNS = [
    "state", "walker", "step", "max_devi_f", "max_devi_v", "devi_inter", "devi_intra", "error_inter", "error_intra",
    "verdict", "selected", "why", "distance",
]  # fmt: skip
NOT_CHOSEN = {"accurate": "below the lower level", "failed": "above the upper level, or a deviation is missing"}
DEFAULT_MINIMUM_DISTANCE = Label().minimum_distance_angstrom
BEFORE_BLOW_UP = "the last candidate before its walker blew up"
CLOSEST = "of its walker's candidates the one whose molecules come closest"
REFILL = "more budget than candidates: the least doubtful of the failed"
MISSING = {"inter": math.nan, "intra": math.nan}


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
    fault: str = ""
    """What is wrong with the frame itself; empty: nothing."""
    deviations: Mapping[str, float] = field(default_factory=lambda: MISSING)
    """Largest deviation between and inside molecules in eV/Å."""
    errors: Mapping[str, float] = field(default_factory=lambda: MISSING)
    """Largest expected error of a molecule and of an atom in eV/Å."""
    closer: float = 0.0
    """By how much two molecules are closer than in any label, in Å; negative: they are not."""
    too_close: bool = False
    """Whether that is the fault: of this frame alone, since molecules that met part again."""
    verdict: str = ""
    choice: Choice | None = None


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
    import numpy as np

    from mlpwf.campaign.stopping import judge
    from mlpwf.structures.frames import read_frames, write_frames
    from mlpwf.structures.molecules import closest_contacts

    settings, seed = load_section(Select, config)
    with sole_writer(out), accounted(out, "select"):
        affordable = _affordable(label, campaign)
        if affordable is not None and affordable < settings.budget:
            log.info("select: label.budget_core_hours buys %d more labels", affordable)
            settings = settings.model_copy(update={"budget": max(1, affordable)})
        own_errors = {} if label_error is None else label_errors(label_error)
        asked, settings = settings.targets, settings.no_better_than(own_errors)
        if settings.targets != asked:
            log.warning("select: the labels' own error is above the target; no model is asked to be better than them")
        new_label_error = _new_label_error(errors, "force_rmse_ev_angstrom")
        for path in (descriptor_model, *(model or [])):
            sound_model(path)
        engine_of([descriptor_model]).require(Ability.DESCRIPTORS)
        species = read_frames(molecules)
        committee = _Rating(model or [], species, calibration, settings)
        closest = DEFAULT_MINIMUM_DISTANCE if label is None else load_section(Label, label)[0].minimum_distance_angstrom
        trained_on = (atoms for path in labels for atoms in read_frames(path))
        met = {} if settings.contact_margin_angstrom is None else closest_contacts(trained_on)
        frames = _examined(_read_explored(explored), species, closest, met, settings)
        frames = _classified(committee.rated(frames), settings)
        frames = _chosen(frames, labels, descriptor_model, settings)
        counts = Counter(frame.verdict for frame in frames)
        criteria = _criteria(errors, previous_errors, liquid or [], counts, settings)
        taken = sum(frame.choice is not None and frame.choice.selected for frame in frames)
        verdict, reason = judge(criteria, counts, taken, cycle, settings.maximum_cycles, affordable)
        if verdict != "continue":
            frames = [_spared(frame, verdict) for frame in frames]
        given = [*explored, *labels, descriptor_model, errors, molecules, *(model or []), *(liquid or [])]
        given += [path for path in (calibration, previous_errors, label_error) if path is not None]
        status = _status(frames, cycle, verdict, reason) | {
            "new_label_error": new_label_error,
            "criteria": [dataclasses.asdict(criterion) for criterion in criteria],
            "label_error": own_errors,
            "trust": committee.trust(frames),
            "seed": seed,
            "inputs": {str(path): sha256(path) for path in given},
        }
        for arm in settings.arm_lines:
            known = [atoms for folder in earlier or [] for atoms in read_frames(_arm_file(folder, arm))]
            rng = np.random.default_rng([seed, cycle, int(arm.rsplit("/", 1)[1])])
            chosen = _arm(arm, frames, known, labels[0], descriptor_model, settings, status["selected"], rng)
            write_frames(_arm_file(out, arm), [_to_label(frame, cycle) for frame in chosen])
        _write(out, frames, cycle, status)
    log.info("select: %d of %d frames selected; %s", status["selected"], len(frames), reason)


def _affordable(label: Path | None, campaign: Path | None) -> int | None:
    """Labels the campaign's budget of core-hours still buys; None: no budget."""
    from mlpwf.campaign.budget import affordable_labels

    if label is None or campaign is None:
        return None
    budget = load_section(Label, label)[0].budget_core_hours
    return None if budget is None else affordable_labels(campaign, budget)


def label_errors(path: Path) -> dict[str, float]:
    """Errors of the labels themselves in eV/Å, of the net force on a molecule and of the rest; empty: not known."""
    try:
        rows = read_json(path)["rows"]
        total = rows[-1]["errors"]["total"] if rows else None
        return {} if total is None else {kind: float(total[f"force_{kind}_rmse_ev_angstrom"]) for kind in MISSING}
    except (KeyError, TypeError, IndexError):
        raise DataError(f"{path}: is no result of mlpwf label error; run it again") from None


def _new_label_error(errors: Path, measure: str) -> float | None:
    """Error on the new labels of the previous model that drove the dynamics, in eV/Å; None: unknown."""
    document = read_json(errors)
    try:
        new = document["new"]
        return None if new is None else float(new["first"]["overall"][measure])
    except (KeyError, TypeError):
        raise DataError(f"{errors}: lacks the errors on new labels; run mlpwf train test again") from None


def _frame_errors(errors: Path) -> list[float]:
    """Mean square force error of each test frame in (eV/Å)²."""
    try:
        return [float(value) for value in read_json(errors)["test"]["frame_force_mse_ev2_angstrom2"]]
    except (KeyError, TypeError):
        raise DataError(f"{errors}: lacks the errors of each test frame; run mlpwf train test again") from None


def _criteria(
    errors: Path, previous: Path | None, liquids: Sequence[Path], counts: Counter[str], settings: Select
) -> list[Criterion]:
    """All that has to be met for the cycles to end converged."""
    from mlpwf.campaign.agreement import from_document
    from mlpwf.campaign.stopping import few_candidates, flat_test_error, same_liquid, small_error

    own, targets = settings.converged_force_error_ev_angstrom, settings.targets
    force, inter = (_new_label_error(errors, f"force_{kind}rmse_ev_angstrom") for kind in ("", "inter_"))
    before = None if previous is None else _frame_errors(previous)
    return [
        few_candidates(counts, settings.converged_candidate_fraction),
        small_error("new labels", "force error", force, targets["intra"] if own is None else own),
        small_error("new labels, between molecules", "force error between molecules", inter, targets["inter"]),
        flat_test_error(before, _frame_errors(errors)),
        *(
            same_liquid([from_document(read_json(path)) for path in liquids], wanted)
            if (wanted := settings.liquid_cycles)
            else []
        ),
    ]


class _Rating:
    """The models and what their deviations are worth."""

    def __init__(
        self, models: Sequence[Path], molecules: Sequence[Atoms], calibration: Path | None, settings: Select
    ) -> None:
        from mlpwf.potentials.calibration import from_document

        self.models, self.molecules, self.settings = models, molecules, settings
        self.document = {} if calibration is None else read_json(calibration)
        self.maps = {channel: from_document(maps) for channel, maps in self.document.get("maps", {}).items()}
        if settings.force_trust is None and not (models and self.maps):
            raise DataError(
                "trust levels follow select.target_error_mev_angstrom, but there is no committee with a calibration; "
                "expected --model and --calibration, or force_trust_lower_ and _upper_ev_angstrom of your own"
            )
        self.failing = [entry["said"] for entry in self.document.get("check", {}).values() if not entry["holds"]]
        if self.failing and settings.force_trust is None:
            log.warning("select: the calibration did not hold for the newest labels: %s", "; ".join(self.failing))

    def rated(self, frames: Sequence[Explored]) -> list[Explored]:
        """Frames with their deviations and expected errors, but for those with a fault or without a deviation."""
        from mlpwf.potentials.committee import Committee

        sound = [index for index, one in enumerate(frames) if not one.fault and math.isfinite(one.force_deviation)]
        found = list(frames)
        if not self.models or not sound:
            return found
        forces = Committee.opened(self.models, self.molecules).forces([frames[index].atoms for index in sound])
        for index, values in zip(sound, forces, strict=True):
            found[index] = self._rated(frames[index], values)
        return found

    def _rated(self, frame: Explored, forces: NDArray[np.float64]) -> Explored:
        import numpy as np

        from mlpwf.potentials.calibration import INTER, INTRA, MOLECULE, committee_deviations, expected, within_reach

        molecule = frame.atoms.arrays["molecule"]
        spreads = committee_deviations(forces, frame.atoms.get_masses(), molecule)
        kinds = {
            INTER: (spreads.inter, np.full(len(spreads.inter), MOLECULE)),
            INTRA: (spreads.intra, np.array(frame.atoms.get_chemical_symbols())),
        }
        largest = {channel: float(values.max()) for channel, (values, _) in kinds.items()}
        worst = dict(MISSING)
        for channel, maps in self.maps.items():
            values, names = kinds[channel]
            inside = np.bincount(molecule)[molecule] > 1 if channel == INTRA else np.ones(len(values), bool)
            place = names, np.full(len(values), frame.state), values
            foreseen = np.where(within_reach(maps, *place), expected(maps, *place), np.inf)[inside]
            worst[channel] = float(foreseen.max(initial=0.0))
        return dataclasses.replace(frame, deviations=largest, errors=worst)

    def trust(self, frames: Sequence[Explored]) -> dict[str, Any]:
        """The levels used, whose they are, and whether the calibration holds."""
        own = self.settings.force_trust
        levels = {
            channel: {
                name: [one.level(self.settings.targets[channel] * factor) for factor in self._factors()]
                for name, one in maps.items()
            }
            for channel, maps in self.maps.items()
        }
        return {
            "source": "target error" if own is None else "the user",
            "units": {"levels": "eV/Å, lower and upper", "target_error": "eV/Å"},
            "force": None if own is None else list(own),
            "target_error": self.settings.targets,
            "levels": levels,
            "calibrated_on": self.document.get("source"),
            "frames": self.document.get("frames"),
            "beyond": {channel: self._beyond(channel, frames) for channel in self.maps},
            "holds": not self.failing,
            "said": "; ".join(self.failing),
        }

    def _factors(self) -> tuple[float, float]:
        return 1.0, self.settings.failed_error_factor

    def _beyond(self, channel: str, frames: Sequence[Explored]) -> float | None:
        """Share of frames with a deviation beyond any the maps were made from."""
        values = [frame.deviations[channel] for frame in frames if math.isfinite(frame.deviations[channel])]
        largest = max(one.largest for one in self.maps[channel].values())
        return sum(value > largest for value in values) / len(values) if values else None


def _number(value: Any) -> float:
    """A deviation as a number; NaN if it is missing or unreadable."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _read_explored(sources: Sequence[Path]) -> list[Explored]:
    """All explored frames in the order of their keys, which do not depend on files or their order."""
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


def _examined(
    frames: Sequence[Explored],
    templates: list[Atoms],
    closest: float,
    known: Mapping[tuple[str, str], float],
    settings: Select,
) -> list[Explored]:
    """Frames with what is wrong with them: broken molecules, clashes, and all that a walker did after these.

    Where molecules come much closer than in any label, all models of a committee go on alike from what they know,
    and their deviation need not tell that they err. In a liquid they part again, and what follows is as sound as
    what was before; a walker that collapsed has no sound frame any more.
    """
    from mlpwf.structures.frames import minimum_distance
    from mlpwf.structures.molecules import contacts

    whole = _intact([frame.atoms for frame in frames], templates)
    found = []
    for frame, intact in zip(frames, whole, strict=True):
        fault, closer, too_close = "" if intact else "a molecule is not intact", 0.0, False
        if intact and (distance := minimum_distance(frame.atoms)) < closest:
            fault = f"atoms {distance:.2f} Å apart, closer than {closest:g} Å"
        if not fault and settings.contact_margin_angstrom is not None:
            met = {pair: (known[pair] - r, r) for pair, r in contacts(frame.atoms).items() if pair in known}
            pair, (closer, distance) = max(met.items(), key=lambda one: one[1], default=(("", ""), (0.0, 0.0)))
            if too_close := closer > settings.contact_margin_angstrom:
                names = " and ".join(pair)
                fault = f"{names} of two molecules {distance:.2f} Å apart, {closer:.2f} Å closer than in any label"
        found.append(dataclasses.replace(frame, fault=fault, closer=closer, too_close=too_close))
    for members in _walkers(found):
        faults = (found[index] for index in members if found[index].fault)
        broken = next((frame.step for frame in faults if not frame.too_close), None)
        for index in members:
            if broken is not None and not found[index].fault and found[index].step > broken:
                found[index] = dataclasses.replace(found[index], fault=f"the walker had blown up at step {broken}")
    return found


def _walkers(frames: Sequence[Explored]) -> list[list[int]]:
    """Places of the frames of each walker, in the order of time."""
    groups: dict[tuple[str, int], list[int]] = {}
    for index in sorted(range(len(frames)), key=lambda i: (frames[i].step, frames[i].key)):
        groups.setdefault((frames[index].state, frames[index].walker), []).append(index)
    return list(groups.values())


def _classified(frames: Sequence[Explored], settings: Select) -> list[Explored]:
    """Verdicts: by the user's levels of the deviation, or by the expected errors in units of their targets."""
    import numpy as np

    from mlpwf.campaign.verdicts import ACCURATE, CANDIDATE
    from mlpwf.select.selection import classify

    own, targets = settings.force_trust, settings.targets
    if own is None:
        measured = [
            np.nanmax([one.errors[c] / targets[c] for c in targets]) if np.isfinite(one.deviations["inter"]) else np.nan
            for one in frames
        ]
    else:
        measured = [one.force_deviation for one in frames]
    verdicts = classify(
        np.array(measured),
        np.array([frame.virial_deviation for frame in frames]),
        np.array([not frame.fault for frame in frames], dtype=bool),
        force_levels=own or (1.0, settings.failed_error_factor),
        virial_levels=(settings.virial_trust_lower_ev, settings.virial_trust_upper_ev),
    )
    doubtful = [frame.closer > 0 and verdict == ACCURATE for frame, verdict in zip(frames, verdicts, strict=True)]
    verdicts = [CANDIDATE if doubt else verdict for doubt, verdict in zip(doubtful, verdicts, strict=True)]
    return [dataclasses.replace(frame, verdict=verdict) for frame, verdict in zip(frames, verdicts, strict=True)]


def _intact(frames: Sequence[Atoms], templates: list[Atoms]) -> NDArray[np.bool_]:
    """For each frame whether every molecule has the bonds of its template; shape (n_frames,)."""
    import numpy as np

    from mlpwf.structures.molecules import bonds, intact, species_numbers

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


def _chosen(frames: Sequence[Explored], labels: Sequence[Path], model: Path, settings: Select) -> list[Explored]:
    """Frames with what became of the candidates, and of failed frames where candidates leave part of the budget."""
    from mlpwf.campaign.verdicts import CANDIDATE, FAILED

    found = list(frames)
    preferred = dict(filter(None, (_worth_most([frames[index] for index in members]) for members in _walkers(frames))))
    candidates = [index for index, frame in enumerate(frames) if frame.verdict == CANDIDATE]
    failed = [
        index
        for index, frame in enumerate(frames)
        if frame.verdict == FAILED and math.isfinite(frame.force_deviation) and not math.isinf(frame.virial_deviation)
    ]
    failed.sort(key=lambda index: (frames[index].force_deviation, frames[index].key))
    taken: list[int] = []
    for pool, why in ((candidates, preferred), (failed, None)):
        budget = settings.budget - len(taken)
        if budget <= 0:
            break
        pool = pool if why is not None else pool[:budget]
        first = why if why is not None else {frames[index].key: REFILL for index in pool}
        known = [frames[index].atoms for index in taken]
        choices = _farthest([frames[index] for index in pool], known, labels, model, settings, budget, first)
        for index, choice in zip(pool, choices, strict=True):
            found[index] = dataclasses.replace(frames[index], choice=choice)
        taken += [index for index, choice in zip(pool, choices, strict=True) if choice.selected]
    return found


def _worth_most(walker: Sequence[Explored]) -> tuple[str, str] | None:
    """Key of the candidate of a walker that the models have to learn first, and why; None: no one before others.

    The last before it blew up; of a walker that came too close and parted again the closest, which moves the border.
    """
    from mlpwf.campaign.verdicts import CANDIDATE, FAILED
    from mlpwf.select.selection import last_before_blow_up

    place = last_before_blow_up([FAILED if frame.too_close else frame.verdict for frame in walker])
    if place is not None:
        return walker[place].key, BEFORE_BLOW_UP
    near = [frame for frame in walker if frame.verdict == CANDIDATE and frame.closer > 0]
    if not near or not any(frame.too_close for frame in walker):
        return None
    return max(near, key=lambda frame: (frame.closer, frame.key)).key, CLOSEST


def _farthest(
    pool: Sequence[Explored],
    taken: Sequence[Atoms],
    labels: Sequence[Path],
    model: Path,
    settings: Select,
    budget: int,
    preferred: Mapping[str, str],
) -> list[Choice]:
    """Farthest points of a pool from the training set, from what is taken, and from each other."""
    from mlpwf.potentials.record import open_model
    from mlpwf.select.selection import farthest_points
    from mlpwf.structures.frames import element_order, geometry_key, read_frames

    if not pool:
        return []
    known = sorted((atoms for source in labels for atoms in read_frames(source)), key=geometry_key)
    known += sorted(taken, key=geometry_key)
    fresh = [frame.atoms for frame in pool]
    elements = element_order([*fresh, *known])
    vectors = open_model(model).descriptors([*fresh, *known], elements)
    return farthest_points(
        vectors[: len(fresh)],
        [frame.key for frame in pool],
        vectors[len(fresh) :],
        budget=budget,
        duplicate_distance=settings.duplicate_distance,
        preferred=preferred,
    )


def _arm_file(folder: Path, arm: str) -> Path:
    return folder / f"{arm}.extxyz"


def _arm(
    arm: str,
    frames: Sequence[Explored],
    earlier: Sequence[Atoms],
    start: Path,
    model: Path,
    settings: Select,
    budget: int,
    rng: np.random.Generator,
) -> list[Explored]:
    """As many valid frames as the committee's selection took, at random or, but for the first, by diversity alone."""
    from mlpwf.structures.frames import geometry_key, read_frames

    known = {geometry_key(atoms) for atoms in [*earlier, *read_frames(start)]}
    valid = (one for one in frames if not one.fault and math.isfinite(one.force_deviation))
    pool = list({geometry_key(one.atoms): one for one in valid if geometry_key(one.atoms) not in known}.values())
    pool.sort(key=lambda one: one.key)
    if budget == 0 or not pool:
        return []
    order = rng.permutation(len(pool))
    if arm.startswith("arm/random/"):
        return [pool[index] for index in sorted(order[:budget].tolist())]
    first = {pool[order[0]].key: "drawn at random, to start from"}
    choices = _farthest(pool, earlier, [start], model, settings, budget, first)
    return [one for one, choice in zip(pool, choices, strict=True) if choice.selected]


def _to_label(frame: Explored, cycle: int) -> Atoms:
    """The frame as the label stage takes it."""
    from mlpwf.structures.frames import quantised

    atoms = quantised(frame.atoms)
    atoms.calc = None
    atoms.info["cycle"] = cycle
    return atoms


def _spared(frame: Explored, verdict: str) -> Explored:
    """The same frame, not selected since the cycles have ended."""
    if frame.choice is None or not frame.choice.selected:
        return frame
    return dataclasses.replace(
        frame, choice=dataclasses.replace(frame.choice, selected=False, why=f"the cycles have ended: {verdict}")
    )


def _status(frames: Sequence[Explored], cycle: int, verdict: str, reason: str) -> dict[str, Any]:
    from mlpwf.campaign.verdicts import VERDICTS

    counts = Counter(frame.verdict for frame in frames)
    return {
        "mlpwf": __version__,
        "cycle": cycle,
        "explored": len(frames),
        **{name: counts[name] for name in VERDICTS},
        "fractions": {name: counts[name] / len(frames) for name in VERDICTS} if frames else None,
        "candidate_fraction": (len(frames) - counts["accurate"]) / len(frames) if frames else None,
        "selected": sum(frame.choice is not None and frame.choice.selected for frame in frames),
        "units": {"new_label_error": "eV/Å"},
        "verdict": verdict,
        "reason": reason,
    }


def _write(out: Path, frames: Sequence[Explored], cycle: int, status: dict[str, Any]) -> None:
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
        measured = [*(frame.deviations[c] for c in MISSING), *(frame.errors[c] for c in MISSING)]
        deviations = [f"{value:.6g}" for value in (frame.force_deviation, frame.virial_deviation, *measured)]
        place = [frame.state, frame.walker, frame.step]
        writer.writerow([*place, *deviations, frame.verdict, int(taken), why, f"{distance:.6g}"])
        if taken:
            selected.append(_to_label(frame, cycle))
    write_frames(out / "frames.extxyz", selected)
    write_text(out / "decisions.csv", text.getvalue())
    write_json(out / "status.json", status)
