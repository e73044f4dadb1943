"""`mlpwf status`: where campaigns stand, at any instant."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlpwf.tables import table

if TYPE_CHECKING:
    from mlpwf.status.reading import RunProgress, Status


def status(
    folder: Annotated[Path, typer.Argument(help="folder of a campaign, or of several")] = Path("results"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say where a campaign stands: stage, labels, errors, verdict, production and cost."""
    from mlpwf.status.reading import find_campaigns, read_status

    found = [read_status(path) for path in find_campaigns(folder)]
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found], indent=1, ensure_ascii=False))
        return
    typer.echo("\n\n".join("\n".join(_lines(one)) for one in found))


def _lines(one: Status) -> list[str]:
    """A campaign's status as aligned lines of text."""
    cycle = "" if one.cycle is None else f", cycle {one.cycle}"
    facts = [("stage", "done" if one.stage == "done" else f"{one.stage}{cycle}")]
    facts += [("labels", line) for line in _label_lines(one)]
    for error in one.errors:
        values = (
            f"{error.force_ev_angstrom:.3f} all, {error.force_inter_ev_angstrom:.3f} between molecules, "
            f"{error.force_intra_ev_angstrom:.3f} inside molecules"
        )
        facts.append(("test force error", f"cycle {error.cycle}: {values} (eV/Å)"))
    verdict = one.verdict or "none yet"
    facts.append(("verdict", f"{verdict}: {one.reason}" if one.reason else verdict))
    if one.walkers:
        facts.append(("walkers", ", ".join(f"{count} {outcome}" for outcome, count in one.walkers.items())))
    facts += [("production", _run_line(run)) for run in one.production]
    if one.cpu_hours:
        stages = ", ".join(f"{stage} {hours:.3g}" for stage, hours in one.cpu_hours.items())
        facts.append(("CPU-hours", f"{sum(one.cpu_hours.values()):.3g} ({stages})"))
    if one.report:
        facts.append(("report", one.report))
    return [f"{one.campaign}  ({one.folder})", *(f"  {line}" for line in table(_once(facts)))]


def _label_lines(one: Status) -> list[str]:
    lines = []
    for s in one.labels:
        asked = f"{s.done} of {s.asked}" if s.asked is not None else str(s.done)
        ended = "" if s.finished else f", {s.batches_done} batches done, in progress"
        lines.append(f"{s.name}: {asked} done, {s.rejected} rejected{ended}")
    return lines or ["none yet"]


def _run_line(run: RunProgress) -> str:
    """How far a state's production run is, how fast it goes and when it ends."""
    far = f"{run.state}: {max(0.0, run.done_ps):.4g} of {run.asked_ps:g} ps"
    speed = f", {run.ns_per_day:.3g} ns/day" if run.ns_per_day else ""
    if run.blew_up is not None:
        return f"{far}, blew up at {run.blew_up}"
    if run.finished:
        return f"{far}, done{speed}"
    if not run.running:
        return f"{far}, not running{speed}"
    doing = "equilibrating" if run.done_ps < 0 else "running"
    ends = time.strftime(", ends about %Y-%m-%d %H:%M", time.localtime(run.ends)) if run.ends else ""
    return f"{far}, {doing}{speed}{ends}"


def _once(facts: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Facts whose name is said once for all that follow each other."""
    before = ["", *(name for name, _ in facts)]
    return [("" if name == last else name, value) for (name, value), last in zip(facts, before, strict=False)]
