"""Where a campaign stands, read at any instant from what it has written so far."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlpwf.accounting import read_costs
from mlpwf.errors import ConfigError


@dataclass(frozen=True)
class SetProgress:
    """Labels of one set: a cycle or the test set."""

    name: str
    done: int
    aside: int
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
    segments_done: int
    segments_planned: int | None
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
    folder = Path(folder)
    cycles = _numbered(folder / "cycle")
    final = _read(folder / "train" / "final" / "final.json")
    last_verdict = next((s for path in reversed(cycles) if (s := _read(path / "select" / "status.json"))), {})
    said = final or last_verdict
    page = folder / "report" / "report.html"
    planned, done = _segments(folder)
    return Status(
        campaign=str(_read(folder / "config" / "report.json").get("title") or folder.resolve().name),
        folder=str(folder),
        stage=_stage(folder, cycles, bool(final), done, planned),
        cycle=int(cycles[-1].name) if cycles else None,
        labels=_labels(folder, cycles),
        errors=tuple(error for path in cycles if (error := _errors(path))),
        verdict=_text(said.get("verdict")),
        reason=_text(said.get("reason")),
        walkers=_walkers(cycles[-1]) if cycles else {},
        segments_done=done,
        segments_planned=planned,
        cpu_hours=_cpu_hours(folder),
        report=str(page) if page.is_file() else None,
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _numbered(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted((p for p in folder.iterdir() if p.name.isdigit() and p.is_dir()), key=lambda p: int(p.name))


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _integer(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _float(document: Any, *keys: str) -> float | None:
    for key in keys:
        document = document.get(key) if isinstance(document, dict) else None
    return float(document) if isinstance(document, int | float) and not isinstance(document, bool) else None


def _stage(folder: Path, cycles: list[Path], final: bool, done: int, planned: int | None) -> str:
    """The first stage whose result is not there."""
    if (folder / "report" / "report.html").is_file():
        return "done"
    if final:
        if planned is None or done < planned:
            return "validate and simulate" if not (folder / "validate" / "runs.json").is_file() else "simulate"
        return "report" if (folder / "analyse" / "summary.json").is_file() else "analyse"
    if not (folder / "build" / "summary.json").is_file() and not cycles:
        return "build"
    if not cycles:
        return "label"
    last = cycles[-1]
    if not (last / "label" / "summary.json").is_file():
        return "label"
    if not (last / "train" / "errors.json").is_file():
        return "train"
    if (last / "select" / "status.json").is_file():
        verdict = _read(last / "select" / "status.json").get("verdict")
        return "label" if verdict == "continue" else "train"
    return "explore and select"


def _labels(folder: Path, cycles: list[Path]) -> tuple[SetProgress, ...]:
    sets = []
    asked: int | None = None
    for path in cycles:
        sets.append(_set(f"cycle {int(path.name)}", path / "label", asked))
        asked = _integer(_read(path / "select" / "status.json").get("selected"))
    sets.append(_set("test set", folder / "test" / "label", None))
    return tuple(s for s in sets if s.done or s.asked or s.finished)


def _set(name: str, folder: Path, asked: int | None) -> SetProgress:
    summary = _read(folder / "summary.json")
    batches = _Batches(folder / "batch")
    if summary:
        counts = summary.get("aside")
        aside = sum(_integer(n) or 0 for n in counts.values()) if isinstance(counts, dict) else 0
        accepted = _integer(summary.get("accepted")) or 0
        return SetProgress(name, accepted + aside, aside, _integer(summary.get("requested")), batches.finished, True)
    return SetProgress(name, batches.done, batches.aside, asked or batches.total or None, batches.finished, False)


class _Batches:
    """Sums over a set's batches: finished ones by their record, others by their progress."""

    def __init__(self, folder: Path) -> None:
        self.done = self.aside = self.total = self.finished = 0
        names = {path.name.split(".")[0] for path in folder.glob("[0-9]*.json")} if folder.is_dir() else set()
        for name in names:
            labels = _read(folder / f"{name}.json").get("labels")
            if isinstance(labels, list):
                self.finished += 1
                self.done += len(labels)
                self.total += len(labels)
                self.aside += sum(isinstance(entry, dict) and entry.get("accepted") is False for entry in labels)
                continue
            progress = _read(folder / f"{name}.progress.json")
            self.done += _integer(progress.get("done")) or 0
            self.total += _integer(progress.get("total")) or 0


def _errors(cycle: Path) -> CycleErrors | None:
    document = _read(cycle / "train" / "errors.json")
    if not document:
        return None
    keys = ("force_rmse_ev_angstrom", "force_inter_rmse_ev_angstrom", "force_intra_rmse_ev_angstrom")
    return CycleErrors(int(cycle.name), *(_float(document, "test", "mean", "overall", key) for key in keys))


def _walkers(cycle: Path) -> dict[str, int]:
    """Outcomes of the last cycle's walkers."""
    outcomes: dict[str, int] = {}
    for path in (cycle / "explore").glob("*/walkers.json"):
        try:
            entries = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        entries = entries.get("walkers") if isinstance(entries, dict) else entries
        for entry in entries if isinstance(entries, list) else []:
            outcome = str(entry.get("outcome", "unknown")) if isinstance(entry, dict) else "unknown"
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
    return outcomes


def _segments(folder: Path) -> tuple[int | None, int]:
    """Segments planned and finished, over all states."""
    simulate = _read(folder / "config" / "simulate.json")
    segments, temperatures = _integer(simulate.get("segments")), simulate.get("temperatures_kelvin")
    planned = segments * len(temperatures) if segments is not None and isinstance(temperatures, list) else None
    summaries = (_read(path) for path in (folder / "simulate").glob("*/segment/*/summary.json"))
    return planned, sum(bool(summary) and summary.get("finished", True) is True for summary in summaries)


def _cpu_hours(folder: Path) -> dict[str, float]:
    hours: dict[str, float] = {}
    for entry in read_costs(folder):
        if not isinstance(entry, dict) or "stage" not in entry:
            continue
        seconds = (_float(entry, "own_cpu_s") or 0.0) + (_float(entry, "engine_cpu_s") or 0.0)
        hours[str(entry["stage"])] = hours.get(str(entry["stage"]), 0.0) + seconds / 3600
    return hours
