"""Where a campaign stands, read at any instant from what it has written so far."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlpwf.campaign import records
from mlpwf.campaign.accounting import read_costs
from mlpwf.campaign.judgement import GOOD
from mlpwf.campaign.paths import Campaign, Cycle, Label, State
from mlpwf.campaign.records import read_known
from mlpwf.campaign.sections import Sections, read_sections
from mlpwf.campaign.segments import segments
from mlpwf.errors import ConfigError

ALIVE_S = 300.0  # a run that has said nothing for this long is not running


@dataclass(frozen=True)
class SetProgress:
    """Labels of one set: a cycle or the test set."""

    name: str
    done: int
    rejected: int
    asked: int | None
    batches_done: int
    finished: bool


@dataclass(frozen=True)
class CycleErrors:
    """Force errors on the test set of one cycle's committee mean, in eV/Å."""

    cycle: int
    force_ev_angstrom: float
    force_inter_ev_angstrom: float
    force_intra_ev_angstrom: float


@dataclass(frozen=True)
class RunProgress:
    """How far the production run of one state is; it may be negative while the box equilibrates."""

    state: str
    done_ps: float
    asked_ps: float
    ns_per_day: float | None
    running: bool
    ends: float | None
    """When it will be as long as asked at this speed, Unix time in s; None if it is not running."""
    blew_up: str | None
    """Step and reason, if the run blew up."""

    @property
    def finished(self) -> bool:
        """Whether nothing more is to be run."""
        return self.blew_up is not None or self.done_ps > self.asked_ps - 1e-6


@dataclass(frozen=True)
class Status:
    """Where one campaign stands; what is not known yet is None or empty."""

    campaign: str
    folder: str
    stage: str
    cycle: int | None
    labels: tuple[SetProgress, ...]
    errors: tuple[CycleErrors, ...]
    verdict: str | None
    reason: str | None
    walkers: Mapping[str, int]
    production: tuple[RunProgress, ...]
    cpu_hours: Mapping[str, float]
    report: str | None


def find_campaigns(folder: Path | str) -> list[Path]:
    """The campaign at `folder`, or all campaigns directly below it.

    Raises
    ------
    ConfigError
        If there is none: what was found, and what is expected.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; expected a campaign's folder or one that holds campaigns")
    if _is_campaign(folder):
        return [folder]
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    found = [path for path in inside if _is_campaign(path)]
    if not found:
        names = ", ".join(path.name for path in inside[:5]) or "no folders"
        raise ConfigError(
            f"{folder}: found {names}, no campaign; expected a folder with config/*.json in it, as a run makes it"
        )
    return found


def _is_campaign(folder: Path) -> bool:
    return any((folder / "config").glob("*.json"))


def read_status(folder: Path | str) -> Status:
    """Where the campaign in `folder` stands; files absent or half written count as not there.

    Parameters
    ----------
    folder
        A campaign's folder, as `find_campaigns` returns it.
    """
    campaign = Campaign(Path(folder))
    cycles = campaign.cycles
    sections = read_sections(campaign, tolerant=True)
    final = read_known(campaign.final.record, records.Final)
    ended = final or _last_verdict(campaign)
    verdict, reason = (ended.verdict, ended.reason) if ended else (None, None)
    judged = read_known(campaign.validate.verdict, records.ValidateVerdict)
    if judged:
        verdict, reason = judged.verdict, "; ".join(judged.reasons)
    halted = judged is not None and judged.verdict != GOOD and not sections.simulate.anyway
    page = campaign.report.page
    production = _production(campaign, sections)
    return Status(
        campaign=sections.report.title or campaign.path.resolve().name,
        folder=str(campaign),
        stage=_stage(campaign, sections, final is not None, halted, production),
        cycle=cycles[-1][0] if cycles else None,
        labels=_labels(campaign),
        errors=tuple(error for number, cycle in cycles if (error := _errors(number, cycle))),
        verdict=verdict,
        reason=reason,
        walkers=_walkers(cycles[-1][1]) if cycles else {},
        production=production,
        cpu_hours=_cpu_hours(campaign),
        report=str(page) if page.is_file() else None,
    )


def _last_verdict(campaign: Campaign) -> records.Verdict | None:
    """The verdict of the last cycle that has one."""
    found = (read_known(cycle.select.status, records.Verdict) for _, cycle in reversed(campaign.cycles))
    return next((verdict for verdict in found if verdict), None)


def _stage(
    campaign: Campaign, sections: Sections, final: bool, halted: bool, production: tuple[RunProgress, ...]
) -> str:
    """The first stage whose result is not there; of a potential that is `halted` there is no production."""
    if campaign.report.page.is_file():
        return "done"
    if sections.classical:
        if not campaign.build.molecules.is_file():
            return "build"
        return _last_stages(campaign, production)
    if final and halted:
        return "report"
    if final:
        if not production or not all(run.finished for run in production):
            return "simulate" if campaign.validate.runs.is_file() else "validate and simulate"
        return _last_stages(campaign, production)
    if not campaign.cycles:
        return "label" if campaign.build.summary.is_file() else "build"
    return _stage_of(campaign.cycles[-1][1])


def _last_stages(campaign: Campaign, production: tuple[RunProgress, ...]) -> str:
    """Of the stages that need no further model, the first whose result is not there."""
    if not all(run.finished for run in production):
        return "simulate"
    return "report" if campaign.analyse.summary.is_file() else "analyse"


def _stage_of(cycle: Cycle) -> str:
    """Of the stages of a cycle, the first whose result is not there."""
    if not cycle.label.summary.is_file():
        return "label"
    if not cycle.train.errors.is_file():
        return "train"
    if not cycle.select.status.is_file():
        return "explore and select"
    verdict = read_known(cycle.select.status, records.Verdict)
    return "label" if verdict and verdict.goes_on else "train"


def _labels(campaign: Campaign) -> tuple[SetProgress, ...]:
    sets = []
    asked: int | None = None
    for number, cycle in campaign.cycles:
        sets.append(_set(f"cycle {number}", cycle.label, asked))
        status = read_known(cycle.select.status, records.SelectStatus)
        asked = status.selected if status else None
    sets.append(_set("test set", campaign.test, None))
    return tuple(s for s in sets if s.done or s.asked or s.finished)


def _set(name: str, label: Label, asked: int | None) -> SetProgress:
    summary, batches = read_known(label.summary, records.LabelSummary), _Batches(label)
    if summary:
        rejected = sum(summary.rejected.values())
        return SetProgress(name, summary.accepted + rejected, rejected, summary.requested, batches.finished, True)
    return SetProgress(name, batches.done, batches.rejected, asked or batches.total or None, batches.finished, False)


class _Batches:
    """Sums over a set's batches: finished ones by their record, others by their progress."""

    def __init__(self, label: Label) -> None:
        self.done = self.rejected = self.total = self.finished = 0
        for number in {path.name.split(".")[0] for path in label.batches.glob("[0-9]*.json")}:
            batch = read_known(label.batch(number), records.Batch)
            if batch:
                self.finished += 1
                self.done += len(batch.labels)
                self.total += len(batch.labels)
                self.rejected += sum(not outcome.accepted for outcome in batch.labels)
            elif progress := read_known(label.progress(number), records.Progress):
                self.done += progress.done
                self.total += progress.total


def _errors(number: int, cycle: Cycle) -> CycleErrors | None:
    errors = read_known(cycle.train.errors, records.TrainErrors)
    if errors is None:
        return None
    all_states = errors.test.mean.overall
    return CycleErrors(
        cycle=number,
        force_ev_angstrom=all_states.force_rmse_ev_angstrom,
        force_inter_ev_angstrom=all_states.force_inter_rmse_ev_angstrom,
        force_intra_ev_angstrom=all_states.force_intra_rmse_ev_angstrom,
    )


def _walkers(cycle: Cycle) -> dict[str, int]:
    """Outcomes of the last cycle's walkers."""
    outcomes: Counter[str] = Counter()
    for path in cycle.states.glob("*/walkers.json"):
        outcomes.update(walker.outcome for walker in read_known(path, list[records.Walker]) or [])
    return dict(outcomes)


def _production(campaign: Campaign, sections: Sections) -> tuple[RunProgress, ...]:
    """The run of each state that is asked for."""
    return tuple(_run(campaign.simulate(state), length) for state, length in sections.simulate.asked_ps.items())


def _run(state: State, asked_ps: float) -> RunProgress:
    """The run of one state: its finished segments, and the one in flight."""
    done = segments(state)
    last = done[-1] if done else None
    done_ps, rate = (last.end_ps, last.ns_per_day) if last else (0.0, None)
    if last and not last.stable:
        blew_up = f"step {last.end_step}: {last.reason}"
        return RunProgress(state.path.name, done_ps, asked_ps, rate, running=False, ends=None, blew_up=blew_up)
    progress = read_known(state.progress(len(done)), records.SegmentProgress)
    if progress is None:
        return RunProgress(state.path.name, done_ps, asked_ps, rate, running=False, ends=None, blew_up=None)
    done_ps, rate = progress.ps, progress.ns_per_day or rate
    running, ends = time.time() - progress.time < ALIVE_S, None
    if running and rate:
        ends = time.time() + 86400 * 1e-3 * max(0.0, asked_ps - done_ps) / rate
    return RunProgress(state.path.name, done_ps, asked_ps, rate, running, ends, blew_up=None)


def _cpu_hours(campaign: Campaign) -> dict[str, float]:
    hours: dict[str, float] = defaultdict(float)
    for cost in read_costs(campaign.path):
        hours[cost.stage] += cost.cpu_s / 3600
    return dict(hours)
