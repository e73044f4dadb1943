"""Where a campaign stands, read at any instant from what it has written so far."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlpwf.campaign.accounting import read_costs
from mlpwf.campaign.paths import Campaign, Cycle, Label, State
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
    force_ev_angstrom: float | None
    force_inter_ev_angstrom: float | None
    force_intra_ev_angstrom: float | None


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
    final = _read(campaign.final.record)
    last_verdict = next((s for _, cycle in reversed(cycles) if (s := _read(cycle.select.status))), {})
    said = final or last_verdict
    page = campaign.report.page
    production = _production(campaign)
    return Status(
        campaign=str(_read(campaign.config("report")).get("title") or campaign.path.resolve().name),
        folder=str(campaign),
        stage=_stage(campaign, bool(final), production),
        cycle=cycles[-1][0] if cycles else None,
        labels=_labels(campaign),
        errors=tuple(error for number, cycle in cycles if (error := _errors(number, cycle))),
        verdict=_text(said.get("verdict")),
        reason=_text(said.get("reason")),
        walkers=_walkers(cycles[-1][1]) if cycles else {},
        production=production,
        cpu_hours=_cpu_hours(campaign),
        report=str(page) if page.is_file() else None,
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _integer(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _float(document: Any, *keys: str) -> float | None:
    for key in keys:
        document = document.get(key) if isinstance(document, dict) else None
    return float(document) if isinstance(document, int | float) and not isinstance(document, bool) else None


def _stage(campaign: Campaign, final: bool, production: tuple[RunProgress, ...]) -> str:
    """The first stage whose result is not there."""
    if campaign.report.page.is_file():
        return "done"
    if _read(campaign.config("simulate")).get("force_field"):
        if not campaign.build.molecules.is_file():
            return "build"
        if not all(run.finished for run in production):
            return "simulate"
        return "report" if campaign.analyse.summary.is_file() else "analyse"
    if final:
        if not production or not all(run.finished for run in production):
            return "simulate" if campaign.validate.runs.is_file() else "validate and simulate"
        return "report" if campaign.analyse.summary.is_file() else "analyse"
    if not campaign.cycles:
        return "label" if campaign.build.summary.is_file() else "build"
    _, last = campaign.cycles[-1]
    if not last.label.summary.is_file():
        return "label"
    if not last.train.errors.is_file():
        return "train"
    if last.select.status.is_file():
        return "label" if _read(last.select.status).get("verdict") == "continue" else "train"
    return "explore and select"


def _labels(campaign: Campaign) -> tuple[SetProgress, ...]:
    sets = []
    asked: int | None = None
    for number, cycle in campaign.cycles:
        sets.append(_set(f"cycle {number}", cycle.label, asked))
        asked = _integer(_read(cycle.select.status).get("selected"))
    sets.append(_set("test set", campaign.test, None))
    return tuple(s for s in sets if s.done or s.asked or s.finished)


def _set(name: str, label: Label, asked: int | None) -> SetProgress:
    summary, batches = _read(label.summary), _Batches(label)
    if summary:
        counts = summary.get("aside")
        rejected = sum(_integer(n) or 0 for n in counts.values()) if isinstance(counts, dict) else 0
        accepted = _integer(summary.get("accepted")) or 0
        return SetProgress(
            name, accepted + rejected, rejected, _integer(summary.get("requested")), batches.finished, True
        )
    return SetProgress(name, batches.done, batches.rejected, asked or batches.total or None, batches.finished, False)


class _Batches:
    """Sums over a set's batches: finished ones by their record, others by their progress."""

    def __init__(self, label: Label) -> None:
        self.done = self.rejected = self.total = self.finished = 0
        for number in {path.name.split(".")[0] for path in label.batches.glob("[0-9]*.json")}:
            labels = _read(label.batch(number)).get("labels")
            if isinstance(labels, list):
                self.finished += 1
                self.done += len(labels)
                self.total += len(labels)
                self.rejected += sum(isinstance(entry, dict) and entry.get("accepted") is False for entry in labels)
                continue
            progress = _read(label.progress(number))
            self.done += _integer(progress.get("done")) or 0
            self.total += _integer(progress.get("total")) or 0


def _errors(number: int, cycle: Cycle) -> CycleErrors | None:
    document = _read(cycle.train.errors)
    if not document:
        return None
    keys = ("force_rmse_ev_angstrom", "force_inter_rmse_ev_angstrom", "force_intra_rmse_ev_angstrom")
    return CycleErrors(number, *(_float(document, "test", "mean", "overall", key) for key in keys))


def _walkers(cycle: Cycle) -> dict[str, int]:
    """Outcomes of the last cycle's walkers."""
    outcomes: dict[str, int] = {}
    for path in cycle.states.glob("*/walkers.json"):
        try:
            entries = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        entries = entries.get("walkers") if isinstance(entries, dict) else entries
        for entry in entries if isinstance(entries, list) else []:
            outcome = str(entry.get("outcome", "unknown")) if isinstance(entry, dict) else "unknown"
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
    return outcomes


def _production(campaign: Campaign) -> tuple[RunProgress, ...]:
    """The run of each state that is asked for."""
    simulate = _read(campaign.config("simulate"))
    temperatures, lengths = simulate.get("temperatures_kelvin"), simulate.get("length_ps")
    if not isinstance(temperatures, list):
        return ()
    if not isinstance(lengths, list):
        lengths = [lengths] * len(temperatures)
    asked = zip(temperatures, lengths, strict=False)
    numbers = (int, float)
    return tuple(
        _run(campaign.simulate(f"{kelvin:g}K"), float(length))
        for kelvin, length in asked
        if isinstance(kelvin, numbers) and isinstance(length, numbers)
    )


def _run(state: State, asked_ps: float) -> RunProgress:
    """The run of one state: its finished segments, and the one in flight."""
    done = segments(state)
    last = done[-1] if done else {}
    done_ps, rate = _float(last, "end_ps") or 0.0, _float(last, "ns_per_day")
    blew_up = None
    if last.get("stable") is False:
        blew_up = f"step {last.get('end_step')}: {last.get('reason')}"
    progress = _read(state.work(len(done)) / "progress.json")
    running = blew_up is None and time.time() - (_float(progress, "time") or 0.0) < ALIVE_S
    ends = None
    if blew_up is None and (ps := _float(progress, "ps")) is not None:
        done_ps, rate = ps, _float(progress, "ns_per_day") or rate
        if running and rate:
            ends = time.time() + 86400 * 1e-3 * max(0.0, asked_ps - done_ps) / rate
    return RunProgress(state.path.name, done_ps, asked_ps, rate, running, ends, blew_up)


def _cpu_hours(campaign: Campaign) -> dict[str, float]:
    hours: dict[str, float] = {}
    for entry in read_costs(campaign.path):
        if not isinstance(entry, dict) or "stage" not in entry:
            continue
        seconds = (_float(entry, "own_cpu_s") or 0.0) + (_float(entry, "engine_cpu_s") or 0.0)
        hours[str(entry["stage"])] = hours.get(str(entry["stage"]), 0.0) + seconds / 3600
    return hours
