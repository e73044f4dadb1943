"""The page of a campaign: sections of figures and tables, each saying what is missing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlpwf import __version__
from mlpwf.calculators.registry import class_named
from mlpwf.campaign import records
from mlpwf.campaign.judgement import BROKEN, GOOD, NAMES, breaks, doubts_of
from mlpwf.campaign.resolve import cycles_in_words
from mlpwf.config.label_engines import LABEL_ENGINES, engine_title
from mlpwf.errors import DataError
from mlpwf.figures import (
    PALETTE,
    VERDICT_COLOURS,
    Curve,
    Panel,
    bar_rows,
    bars,
    lines,
    rows,
    thermal_colours,
    thinned,
)
from mlpwf.report import calibration, convergence, dynamics, label_error
from mlpwf.report.gather import Cycle, Record
from mlpwf.report.parts import Block, Drawing, Part, Table
from mlpwf.units import words

if TYPE_CHECKING:
    from mlpwf.tables import Columns

ERRORS = {
    "energy_rmse_mev_atom": "energy, meV/atom",
    "force_rmse_ev_angstrom": "force, eV/Å",
    "force_inter_rmse_ev_angstrom": "force between molecules, eV/Å",
    "torque_rmse_ev_angstrom": "torque over size of molecules, eV/Å",
    "force_intra_rmse_ev_angstrom": "force inside molecules, eV/Å",
    "virial_rmse_ev_atom": "virial, eV/atom",
}
PANEL_HEIGHT = 3.1
"""Inches, on a page 10 inches wide."""
VERDICTS = {
    "converged": "Converged",
    "limit": "Stopped at the limit of cycles",
    "budget": "Stopped: the core-hours for labels are spent",
    "exhausted": "Exhausted, not converged",
    "continue": "Not converged yet",
}


@dataclass(frozen=True)
class Page:
    """All that stands on the page."""

    title: str
    verdict: str
    verdict_kind: str
    reason: str
    cards: Mapping[str, tuple[str, str]]
    parts: Sequence[Part]
    version: str
    warnings: Sequence[str] = ()


def page(record: Record) -> Page:
    """The page of a campaign, whatever part of it has run."""
    makers: tuple[Callable[[Record], Part], ...] = (
        what_ran, label_error.label_error, learning, deviations, calibration.calibration, convergence.convergence,
        accuracy, rejected, cost, validation,
        dynamics.dynamics, provenance,
    )  # fmt: skip
    if record.classical:
        makers = (what_ran, cost, dynamics.dynamics, provenance)
    parts = [maker(record) for maker in makers]
    kind, sentence, reason = verdict(record)
    parts = [_with_missing(part, record) for part in parts]
    warnings = [*_not_dft(record), *label_error.warnings(record)]
    return Page(record.name, sentence, kind, reason, cards(record), parts, __version__, warnings)


def _not_dft(record: Record) -> list[str]:
    """A sentence in plain sight if labels are not from first principles."""
    used = {labels.engine for _, labels in record.label_sets}
    practice = sorted(used - {engine.name for engine in LABEL_ENGINES.values() if engine.dft})
    names = ", ".join(engine_title(name) for name in practice)
    return [f"The labels are by {names}: for practice, not for results."] if practice else []


MISSING = {
    "ran": ("config/system.json", "config/label.json", "label/summary.json"),
    "label-error": ("label/error.json",),
    "learning": ("train/errors.json",),
    "deviations": ("select/", "explore", "config/select.json"),
    "calibration": ("train/calibration.json",),
    "accuracy": ("validate/errors.json", "validate/parity.csv"),
    "rejected": ("label/summary.json",),
    "validation": ("validate/runs.json", "validate/nve.csv", "validate/rdf.csv"),
    "dynamics": ("simulate", "analyse/"),
    "provenance": ("config/", "train/final", "train/model", "cycle/000"),
}


def _with_missing(part: Part, record: Record) -> Part:
    """The part with the absent files that belong to it."""
    wanted = MISSING.get(part.key, ())
    found = [path for path in record.missing if any(word in path for word in wanted)]
    if part.key in ("ran", "learning", "deviations", "calibration", "rejected") and "cycle/000" in record.missing:
        found.append("cycle/000")
    return replace(part, missing=[*part.missing, *found])


def verdict(record: Record) -> tuple[str, str, str]:
    """Kind, sentence and reason of how the campaign ended, or stands."""
    if record.classical:
        return "open", "Production by a given force field", "Nothing was labelled, trained or validated."
    if judged := record.validation.verdict:
        reason = " ".join(map(_sentence, judged.reasons))
        if judged.verdict != GOOD:
            anyway = "Production was run all the same, for simulate.anyway is true."
            without = "There is no production; simulate.anyway: true would run it."
            reason += f" {anyway if record.sections.simulate.anyway else without}"
        kind = {GOOD: "converged", BROKEN: "broken"}.get(judged.verdict, "limit")
        return kind, f"Verdict on the potential: {judged.verdict}", reason
    source = record.final or next((c.status for c in reversed(record.cycles) if c.status), None)
    if source is None:
        return "open", "No verdict yet", "No cycle has been through selection."
    kind = source.verdict
    sentence = VERDICTS.get(kind, kind)
    reason = (source.reason or "no reason recorded").removeprefix(f"{kind}: ").removeprefix("not converged: ")
    return "open" if kind == "continue" else kind, sentence, reason[:1].upper() + reason[1:]


def cards(record: Record) -> dict[str, tuple[str, str]]:
    """Key figures: name, value, and the small print below it."""
    sets = [labels for _, labels in record.label_sets]
    accepted, rejected_count = sum(s.accepted for s in sets), sum(sum(s.rejected.values()) for s in sets)
    errors, where = _best_errors(record)
    inter = errors.overall.force_inter_rmse_ev_angstrom if errors else None
    intra = errors.overall.force_intra_rmse_ev_angstrom if errors else None
    hours = _hours(c.cpu_s for c in record.costs)
    energy, of = dynamics.activation_energy(record.analysis.tables)
    if record.classical:
        return {"Computing": (f"{hours:,.3g}", "CPU-hours"), "Activation energy": (energy, of)}
    return {
        "Labels": (f"{accepted:,}" if sets else "–", f"{rejected_count:,} rejected" if sets else "none yet"),
        "Error of a label": label_error.label_bar(record),
        "Cycles": (str(len(record.cycles)), "label, train, explore, select"),
        "Force error between molecules": (_figures(inter), f"eV/Å, RMSE, {where}"),
        "Force error inside molecules": (_figures(intra), f"eV/Å, RMSE, {where}"),
        "Computing": (f"{hours:,.3g}" if record.costs else "–", "CPU-hours"),
        "Activation energy": (energy, of),
    }


def _best_errors(record: Record) -> tuple[records.ErrorsByState | records.ValidateErrors | None, str]:
    """Errors on the test set: the final model's, or the last committee's mean."""
    if record.validation.errors:
        return record.validation.errors, "final model, test set"
    for cycle in reversed(record.cycles):
        if cycle.test_errors:
            return cycle.test_errors, f"test set, mean of cycle {cycle.number}'s models"
    return None, "not known yet"


def _figures(value: float | None) -> str:
    return "–" if value is None else f"{value:#,.3g}".rstrip(".")


def what_ran(record: Record) -> Part:
    """System, and the engine and functional the labels come from."""
    facts = {}
    system, force_field = record.sections.system, record.sections.simulate.force_field
    if system.molecules:
        names = [f"{m.count} × {name} ({m.smiles or m.structure})" for name, m in system.molecules.items()]
        facts["System"] = f"{'; '.join(names)} at {system.density_g_cm3} g/cm³"
    if force_field:
        files = [path.rsplit("/", 1)[-1] for path in force_field.values()]
        facts["Force field"] = f"classical, through LAMMPS: {', '.join(files)}"
    sets = record.label_sets
    if sets:
        _, first = sets[0]
        facts["Label engine"] = f"{engine_title(first.engine)} {first.engine_version or ''}".strip()
        facts |= class_named(first.engine).told(first.physics)
    table = [
        (name, f"{s.requested:,}", f"{s.accepted:,}", f"{sum(s.rejected.values()):,}", f"{s.reused:,}",
         f"{s.cpu_s / 3600:,.3g}", _figures(s.label_cpu_s_mean))
        for name, s in sets
    ]  # fmt: skip
    header = ("set", "asked for", "accepted", "rejected", "found in store", "CPU-hours", "CPU-s a label")
    tables = [Table("Labels by set.", header, table)] if table else []
    return Part("ran", "What ran", facts={k: v for k, v in facts.items() if v}, tables=tables)


def learning(record: Record) -> Part:
    """Test force errors and the previous models' error on new labels against the number of training labels."""
    tested = {c.number: c.test_errors.overall for c in record.cycles if c.test_errors}
    new = {c.number: c.errors.new.mean.overall for c in record.cycles if c.errors and c.errors.new}
    panels = [
        Panel(title, "training labels", "force RMSE, eV/Å", _force_curves(record, errors), y_log=True, x_log=True)
        for title, errors in (("Test set", tested), ("New labels, by the models before them", new))
        if errors
    ]
    drawings = _drawn(
        "learning", panels,
        "Force error of the committee's mean on the test set, and of the previous committee's mean on each cycle's new "
        "labels, which it had not seen; every point is a cycle.",
    )  # fmt: skip
    header = ("cycle", "training labels", *ERRORS.values(), "force, training set")
    table = [
        (str(c.number), _count(c.trained_on), *_error_cells(c.errors.test.mean.overall),
         _figures(c.errors.train.mean.overall.force_rmse_ev_angstrom))
        for c in record.cycles if c.errors
    ]  # fmt: skip
    caption = "Root-mean-square errors of the committee's mean on the test set, by cycle."
    return Part(
        "learning", "Learning curve", drawings=drawings, tables=[Table(caption, header, table)] if table else []
    )


def _count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _error_cells(errors: records.Errors) -> list[str]:
    """The columns of `ERRORS`."""
    return [_figures(getattr(errors, name)) for name in ERRORS]


def _force_curves(record: Record, errors: Mapping[int, records.Errors]) -> list[Curve]:
    """Force errors, by cycle, against the labels the cycle's models were trained on."""
    known = [(c.trained_on, errors[c.number]) for c in record.cycles if c.number in errors]
    labels, found = np.array([count for count, _ in known]), [one for _, one in known]
    kinds = {
        "all": [one.force_rmse_ev_angstrom for one in found],
        "inside molecules": [one.force_intra_rmse_ev_angstrom for one in found],
        "between molecules": [one.force_inter_rmse_ev_angstrom for one in found],
    }
    return [Curve(name, labels, np.array(values), style="both") for name, values in kinds.items()]


def _drawn(
    name: str, panels: Sequence[Panel], caption: str, columns: int = 2, height: float = PANEL_HEIGHT
) -> list[Drawing]:
    if not panels:
        return []
    return [Drawing(name, caption, partial(lines, panels, columns=columns, height=height), list(rows(panels)))]


def deviations(record: Record) -> Part:
    """Distribution of force deviations and counts of verdicts, by cycle."""
    explored = [c for c in record.cycles if c.decisions is not None and len(c.decisions["verdict"])]
    drawings = []
    values = {c.number: _positive(c.decisions["max_devi_f"]) for c in explored if c.decisions is not None}
    values = {cycle: v for cycle, v in values.items() if len(v)}
    if values:
        low, high = min(v.min() for v in values.values()), max(v.max() for v in values.values())
        edges = np.geomspace(low * 0.95, high * 1.05, 50)
        middle = np.sqrt(edges[1:] * edges[:-1])
        curves = [
            Curve(f"cycle {cycle}", middle, np.histogram(v, edges)[0] / len(v), style="step", colour=colour)
            for (cycle, v), colour in zip(values.items(), thermal_colours(len(values)), strict=True)
        ]
        panel = Panel(
            "", "largest force deviation, eV/Å", "share of frames", curves, x_log=True, marks=_own_levels(explored)
        )
        drawings += _drawn(
            "deviations", [panel],
            "Largest force deviation within the committee over the explored frames; between the trust "
            "levels a frame is a candidate.",
        )  # fmt: skip
    if explored:
        drawings.append(_verdicts(explored))
    return Part("deviations", "Exploration and selection", drawings=drawings, tables=_selection_tables(record))


def _own_levels(cycles: Sequence[Cycle]) -> dict[str, float]:
    """Trust levels that users set, named with the cycles that went by them where not all went by the same."""
    went_by: dict[tuple[float, float], list[int]] = {}
    for cycle in cycles:
        if cycle.status and cycle.status.trust.force:
            went_by.setdefault(cycle.status.trust.force, []).append(cycle.number)
    levels: dict[str, float] = {}
    for pair, numbers in went_by.items():
        whose = "" if len(numbers) == len(cycles) else f", {cycles_in_words(numbers)}"
        levels |= {f"{end} trust level{whose}": level for end, level in zip(("lower", "upper"), pair, strict=True)}
    return levels


def _positive(values: NDArray[Any]) -> NDArray[np.float64]:
    """The values that are numbers above zero; none where the column holds text."""
    if values.dtype.kind != "f":
        return np.empty(0)
    found: NDArray[np.float64] = values[np.isfinite(values) & (values > 0)]
    return found


def _verdicts(explored: Sequence[Cycle]) -> Drawing:
    found = {
        c.number: np.unique(c.decisions["verdict"], return_counts=True) for c in explored if c.decisions is not None
    }
    counts = {cycle: dict(zip(map(str, names), map(int, n), strict=True)) for cycle, (names, n) in found.items()}
    every = [v for v in VERDICT_COLOURS if any(v in c for c in counts.values())]
    every += sorted({v for c in counts.values() for v in c} - set(every))
    labels = [f"cycle {cycle}" for cycle in counts]
    parts = {v: np.array([float(c.get(v, 0)) for c in counts.values()]) for v in every}
    return Drawing(
        "verdicts",
        "Verdict on every explored frame, by cycle.",
        partial(bars, labels, parts, "explored frames", VERDICT_COLOURS, "{:.0f}"),
        list(bar_rows(labels, parts, "explored frames")),
    )


def _selection_tables(record: Record) -> list[Table]:
    header = (
        "cycle", "explored", "accurate", "candidate", "failed", "broken", "selected", "candidate share",
        "error on new labels, eV/Å", "verdict",
    )  # fmt: skip
    statuses = [c.status for c in record.cycles if c.status]
    table = [
        (str(s.cycle), *map(_count, (s.explored, s.accurate, s.candidate, s.failed, s.broken, s.selected)),
         _figures(s.candidate_fraction), _figures(s.new_label_error), s.verdict)
        for s in statuses
    ]  # fmt: skip
    reasons = [(str(s.cycle), s.reason) for s in statuses]
    walkers = [
        (str(c.number), w.state, str(sum(w.outcomes.values())), f"{w.steps:,}",
         ", ".join(f"{n} {o}" for o, n in w.outcomes.items()))
        for c in record.cycles for w in c.walkers
    ]  # fmt: skip
    tables = []
    if table:
        tables.append(Table("Selection by cycle.", header, table))
        tables.append(Table("Why the campaign went on or ended.", ("cycle", "reason"), reasons))
    if walkers:
        tables.append(
            Table("Walkers by cycle and state.", ("cycle", "state", "walkers", "steps", "how they ended"), walkers)
        )
    return tables


def accuracy(record: Record) -> Part:
    """Parity plots and errors by state."""
    parity, source = record.validation.parity, "final model"
    if parity is None:
        last = next((c for c in reversed(record.cycles) if c.parity is not None), None)
        parity, source = (last.parity, f"mean of cycle {last.number}'s models") if last else (None, "")
    drawings = []
    if parity is not None:
        units = {"energy": "energy, eV/atom", "force": "force component, eV/Å", "virial": "virial, eV/atom"}
        panels = [panel for name, axis in units.items() if (panel := _parity_panel(parity, name, axis)) is not None]
        caption = (
            f"Prediction ({source}) against label on the test set; the line is equality. Energies are relative to the "
            "mean label. Of many points an even part is drawn."
        )
        drawings = _drawn("parity", panels, caption, columns=3, height=3.6)
    errors, where = _best_errors(record)
    tables = [_state_table(errors, f"Root-mean-square errors by state ({where}).")] if errors else []
    return Part("accuracy", "Accuracy on the test set", drawings=drawings, tables=tables)


def _parity_panel(parity: Columns, name: str, axis: str) -> Panel | None:
    chosen = np.char.startswith(parity["quantity"].astype(str), name)
    if not chosen.any():
        return None
    predicted = parity.get("model")
    if predicted is None:
        raise DataError("parity.csv: no column model; run its stage again")
    label, model = parity["label"][chosen], predicted[chosen]
    part = thinned(label)
    shift = float(label.mean()) if name == "energy" else 0.0
    curve = Curve("frames", label[part] - shift, model[part] - shift, style="points")
    return Panel(axis.split(",")[0].capitalize(), f"label: {axis}", f"model: {axis}", [curve], diagonal=True)


def _state_table(errors: records.ErrorsByState | records.ValidateErrors, caption: str) -> Table:
    entries = {"all": errors.overall, **errors.states}
    table = [(state, _count(one.frames), *_error_cells(one)) for state, one in entries.items()]
    return Table(caption, ("state", "frames", *ERRORS.values()), table)


def rejected(record: Record) -> Part:
    """Frames without a label, by reason."""
    sets = record.label_sets
    total: Counter[str] = Counter()
    for _, labels in sets:
        total.update(labels.rejected)
    reasons = sorted(total, key=lambda reason: (-total[reason], reason))
    if not reasons:
        return Part("rejected", "Rejected frames", notes=["No frame was rejected."] if sets else [])
    parts = {name: np.array([float(s.rejected.get(r, 0)) for r in reasons]) for name, s in sets if s.rejected}
    shades = dict(zip(parts, thermal_colours(len(parts)), strict=True))
    names = [r.replace("_", " ") for r in reasons]
    caption = "Frames whose label was not accepted, by reason; they are never trained on."
    drawing = Drawing(
        "rejected", caption, partial(bars, names, parts, "frames", shades, "{:.0f}"),
        list(bar_rows(names, parts, "frames")),
    )  # fmt: skip
    frames = [(name, frame) for name, s in sets for frame in s.rejected_frames]
    table = [(name, f.key[:12], f.state, f.reason or "–", f.detail or "–") for name, f in frames[:40]]
    title = "Rejected frames" + (f" (first 40 of {len(frames)})." if len(frames) > 40 else ".")
    tables = [Table(title, ("set", "label", "state", "reason", "detail"), table)] if table else []
    return Part("rejected", "Rejected frames", drawings=[drawing], tables=tables)


STAGES = ("build", "label", "train", "explore", "select", "validate", "simulate", "analyse", "report")


def cost(record: Record) -> Part:
    """CPU-hours by stage, of the engines and of everything else; and what became of the cores' time."""
    if not record.costs:
        return Part("cost", "Cost", missing=["cost.jsonl"])
    found = {c.stage for c in record.costs}
    stages = [*(s for s in STAGES if s in found), *sorted(found - set(STAGES))]
    by_stage = {s: [c for c in record.costs if c.stage == s] for s in stages}
    parts = {
        "engines": np.array([_hours(c.engine_cpu_s for c in by_stage[s]) for s in stages]),
        "mlpwf itself": np.array([_hours(c.own_cpu_s for c in by_stage[s]) for s in stages]),
    }
    drawing = Drawing(
        "cost", "CPU time of all jobs by stage: engines, which are the programs that were run and what is computed "
        "inside the commands (models evaluated, correlators), and all else the commands do.",
        partial(bars, stages, parts, "CPU-hours"), list(bar_rows(stages, parts, "CPU-hours")),
    )  # fmt: skip
    table = [
        (name, str(len(jobs)), str(sum(job.finished is False for job in jobs)),
         f"{_hours(job.engine_cpu_s for job in jobs):,.3g}", f"{_hours(job.own_cpu_s for job in jobs):,.3g}",
         f"{_hours(job.wall_s for job in jobs):,.3g}", _count(max(job.peak_mb for job in jobs)))
        for name, jobs in {**by_stage, "all": list(record.costs)}.items()
    ]  # fmt: skip
    header = (
        "stage",
        "jobs",
        "not finished",
        "engines, CPU-h",
        "mlpwf itself, CPU-h",
        "wall, h (sum of jobs)",
        "most memory, MB",
    )
    whole, drawings = _whole(record), [drawing]
    facts = {} if whole is None else {"Orchestration": _orchestration(whole)}
    if whole is not None:
        drawings.append(_whole_drawing(whole))
    return Part("cost", "Cost", facts=facts, drawings=drawings, tables=[Table("Cost by stage.", header, table)])


def _whole(record: Record) -> dict[str, float] | None:
    """CPU-hours by what they were spent on, and the core-hours held in which no program of ours ran.

    None for a campaign whose Snakemake was not booked.
    """
    if not record.snakemake:
        return None
    spent = {
        "engines": _hours(c.engine_cpu_s for c in record.costs),
        "mlpwf itself": _hours(c.own_cpu_s for c in record.costs),
        "Snakemake": _hours(one.cpu_s for one in record.snakemake),
    }
    held = _hours(one.wall_s * one.cores for one in record.snakemake)
    return spent | {"idle": max(0.0, held - sum(spent.values()))}


def _orchestration(whole: Mapping[str, float]) -> str:
    """The share of everything that is no engine."""
    ours = whole["mlpwf itself"] + whole["Snakemake"]
    shares = {"CPU time": sum(whole.values()) - whole["idle"], "wall time × cores": sum(whole.values())}
    return ", ".join(f"{100 * ours / total:.2g} % of {name}" for name, total in shares.items() if total > 0)


def _whole_drawing(whole: Mapping[str, float]) -> Drawing:
    """One bar: the core-hours of the campaign."""
    parts = {f"{name} {100 * hours / sum(whole.values()):.2g} %": np.array([hours]) for name, hours in whole.items()}
    colours = dict(zip(parts, (*PALETTE[:3], PALETTE[-1]), strict=True))
    caption = (
        "Wall time × cores of the whole campaign: idle are cores that waited, for a job to end or for other programs."
    )
    label = ["wall × cores"]
    drawn = partial(bars, label, parts, "core-hours", colours)
    return Drawing("whole", caption, drawn, list(bar_rows(label, parts, "core-hours")))


def _hours(seconds: Iterable[float]) -> float:
    return sum(seconds) / 3600


def validation(record: Record) -> Part:
    """Energy conservation, density and structure."""
    panels = [
        *_energy_panel(record.validation.nve),
        *_structure_panel(record.validation.rdf),
    ]
    drawings = _drawn(
        "validation",
        panels,
        "Runs of the final model: total energy without a thermostat, and the structure of the liquid.",
    )
    table = [(title, *cells) for title, run in _runs(record) for cells in _quantities(run)]
    tables = [Table("Validation runs.", ("run", "quantity", "value"), table)] if table else []
    return Part("validation", "Validation runs", drawings=drawings, tables=tables, warnings=_unsound(record))


def _runs(record: Record) -> list[tuple[str, records.RunEnd]]:
    """The validation runs, and what is kept constant in each."""
    runs = record.validation.runs
    if runs is None:
        return []
    return [(title, getattr(runs, name)) for name, title in NAMES.items()]


def _quantities(run: records.RunEnd) -> Iterable[tuple[str, str]]:
    """What is known of a run: names in words with their units, and values as text."""
    for name in run.__struct_fields__:
        value = getattr(run, name)
        if isinstance(value, bool):
            yield words(name), "yes" if value else "no"
        elif isinstance(value, float):
            yield words(name), f"{value:.4g}"
        elif value is not None and value != "":
            yield words(name), f"{value:,}" if isinstance(value, int) else str(value)


def _unsound(record: Record) -> list[str]:
    """A sentence for each validation run that blew up, broke molecules, drifts, or has another density than stated."""
    runs = record.validation.runs
    return [] if runs is None else [_sentence(reason) for reason in (*breaks(runs), *doubts_of(runs))]


def _sentence(reason: str) -> str:
    return f"{reason[:1].upper()}{reason[1:].removesuffix('.')}."


def _energy_panel(columns: Columns | None) -> list[Panel]:
    """Total energy against time, from its first value."""
    if not columns or not {"time_ps", "total_energy"} <= set(columns) or not len(columns["time_ps"]):
        return []
    time, energy = columns["time_ps"], columns["total_energy"]
    part = thinned(time, 1_000)
    curve = Curve("total energy", time[part], energy[part] - energy[0])
    return [Panel("Energy at constant N, V, E", "time, ps", "E(t) − E(0) of the box, eV", [curve])]


def _structure_panel(columns: Columns | None) -> list[Panel]:
    """Radial distribution function of the molecules' centres of mass."""
    if not columns or not {"r_angstrom", "g"} <= set(columns) or not len(columns["g"]):
        return []
    curve = Curve("centres of mass", columns["r_angstrom"], columns["g"])
    return [Panel("Structure: centres of mass", "r, Å", "g(r)", [curve])]


EARLIER_DEPLOYED = "compressed.pb"
"""The file that runs, of records that name none."""


def provenance(record: Record) -> Part:
    """Versions, hashes, seeds and the configuration in full."""
    facts = {}
    seeds = sorted({str(s["seed"]) for s in record.resolved.values() if "seed" in s})
    if seeds:
        facts["Seed"] = ", ".join(seeds)
    checks = [(c, m, m.check) for c in record.cycles for m in c.models if m.check]
    if checks:
        facts |= checks[-1][2].versions
    if record.final:
        facts["Final model"] = f"cycle {record.final.cycle}"
        hashes = record.final.sha256  # one, of a campaign that ended when model.pb was the compressed model
        named = hashes if isinstance(hashes, dict) else {"model.pb": hashes}
        facts |= {f"SHA-256 of {name}": found for name, found in named.items()}
    table = [
        (str(c.number), m.name, _count(check.frames), _count(check.steps),
         _figures(check.conversion_difference.force_ev_angstrom), _hash(check))
        for c, m, check in checks
    ]  # fmt: skip
    header = ("cycle", "model", "labels", "steps", "compression changes forces by, eV/Å", "SHA-256 of the model")
    tables = [Table("Models.", header, table)] if table else []
    details = [
        Block(f"config: {name}", json.dumps(values, indent=1, ensure_ascii=False))
        for name, values in {**record.resolved, **record.kept}.items()
    ]
    if record.analysis.summary and record.analysis.summary.definitions:
        text = "\n".join(f"{key}: {value}" for key, value in record.analysis.summary.definitions.items())
        details.append(Block("definitions of the analysis", text))
    return Part("provenance", "Provenance", facts=facts, tables=tables, details=details)


def _hash(check: records.ModelCheck) -> str:
    """Of the file that runs; the first characters."""
    return check.sha256.get(check.files.get("deployed", EARLIER_DEPLOYED), "–")[:16]
