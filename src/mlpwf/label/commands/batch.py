"""`mlpwf label batch` and `collect`: the labels of a campaign's sets, each computed once."""

from __future__ import annotations

import logging
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlpwf import __version__
from mlpwf.campaign.accounting import accounted
from mlpwf.config import Label, Site, load_section
from mlpwf.errors import DataError, EngineError
from mlpwf.files import read_json, sole_writer, write_json

if TYPE_CHECKING:
    from ase import Atoms

    from mlpwf.calculators.base import Calculator

log = logging.getLogger(__name__)

MARGIN = 1.5  # the next label may take this much longer than the longest so far


def label_batch(
    config: Annotated[Path, typer.Option(help="resolved section `label`")],
    site: Annotated[Path, typer.Option(help="resolved site")],
    frames: Annotated[Path, typer.Option(help="frames to label, extended XYZ")],
    batch: Annotated[int, typer.Option(help="number of this batch, from 0")],
    batches: Annotated[int, typer.Option(help="number of batches the frames are dealt to")],
    out: Annotated[Path, typer.Option(help="folder of the set's labels")],
    campaign: Annotated[Path | None, typer.Option(help="folder whose label jobs share the budget")] = None,
    minutes: Annotated[float | None, typer.Option(help="wall time of this job; unset: no limit, or Slurm's")] = None,
) -> None:
    """Label every BATCHES-th frame, beginning with frame BATCH; reuse what the store has.

    A batch stops, and fails, before a label that its wall time no longer has room for; its labels are kept, and the
    next attempt goes on from there.
    """
    from mlpwf.campaign.walltime import seconds_left
    from mlpwf.label.labeller import Labeller
    from mlpwf.structures.frames import read_frames

    settings, _ = load_section(Label, config)
    place, _ = load_section(Site, site)
    folder = out / "batch" / f"{batch:03d}.work"
    with sole_writer(folder), accounted(folder, "label") as beat:
        mine = list(enumerate(read_frames(frames)))[batch::batches]
        labeller = Labeller(settings, place, folder, sorted({s for _, atoms in mine for s in atoms.symbols}))
        entries: list[dict[str, Any]] = []
        end, longest = time.monotonic() + seconds_left(minutes), 0.0
        for done, (index, atoms) in enumerate(mine, start=1):
            began = time.monotonic()
            if longest and began + MARGIN * longest > end and not labeller.knows(atoms):
                raise EngineError(
                    f"{out}, batch {batch}: {len(entries)} of {len(mine)} labels done when the wall time of the job "
                    "was nearly over; they are kept, and the next attempt goes on from there"
                )
            if _affordable(settings, campaign or out) or labeller.knows(atoms):
                entry = labeller.label(atoms)
            else:
                entry = _over_budget(labeller.key(atoms), settings)
            entry |= {"frame": index, "state": str(atoms.info.get("state", ""))}
            entries.append(entry)
            if not entry["reused"]:
                longest = max(longest, time.monotonic() - began)
            beat()
            write_json(out / "batch" / f"{batch:03d}.progress.json", {"done": done, "total": len(mine)})
            _say(out, batch, done, len(mine), entry)
        write_json(out / "batch" / f"{batch:03d}.json", {"mlpwf": __version__, "labels": entries})


def _affordable(settings: Label, campaign: Path) -> bool:
    """Whether one more label is within the campaign's budget."""
    from mlpwf.campaign.budget import label_core_hours

    budget = settings.budget_core_hours
    return budget is None or label_core_hours(campaign) < budget


def _over_budget(key: str, settings: Label) -> dict[str, Any]:
    from mlpwf.calculators.base import Reason

    detail = f"label.budget_core_hours = {settings.budget_core_hours:g} is spent"
    rejected = {"accepted": False, "reason": str(Reason.OVER_BUDGET), "detail": detail, "cpu_s": 0.0, "attempts": []}
    return {"key": key, "reused": False, **rejected}


def _say(out: Path, batch: int, done: int, total: int, entry: dict[str, Any]) -> None:
    what = "accepted" if entry["accepted"] else f"rejected: {entry['reason']} ({entry['detail']})"
    how = "reused from the store" if entry["reused"] else f"{entry['cpu_s']:.1f} CPU-s"
    if len(entry["attempts"]) > 1 and entry["accepted"]:
        what += f" by {_last_attempt(entry)}"
    log.info("label %s batch %d: %d/%d %s, %s", out.parent.name, batch, done, total, what, how)


def label_collect(
    config: Annotated[Path, typer.Option(help="resolved section `label`")],
    site: Annotated[Path, typer.Option(help="resolved site")],
    frames: Annotated[Path, typer.Option(help="frames that were labelled, extended XYZ")],
    batch: Annotated[list[Path], typer.Option(help="record of a batch; repeat for each")],
    out: Annotated[Path, typer.Option(help="folder of the set's labels")],
    previous: Annotated[list[Path] | None, typer.Option(help="model of the previous cycle's committee; repeat")] = None,
) -> None:
    """Gather a set's batches into labels.extxyz and summary.json; compute implausible labels a second time."""
    from mlpwf.calculators.registry import calculator
    from mlpwf.label.store import Store, canonical, labelled
    from mlpwf.structures.frames import element_order, read_frames, write_frames

    place, _ = load_section(Site, site)
    settings, _ = load_section(Label, config)
    store = Store(place.label_store)
    with sole_writer(out / "collect.work"), accounted(out / "collect.work", "label"):
        asked = read_frames(frames)
        entries = sorted((e for path in batch for e in read_json(path)["labels"]), key=lambda e: e["frame"])
        if [e["frame"] for e in entries] != list(range(len(asked))):
            raise DataError(
                f"{out}: {len(entries)} outcomes for {len(asked)} frames; delete {out / 'batch'} and run again"
            )
        accepted, records, kept = [], [], []
        for entry in entries:
            if not entry["accepted"]:
                continue
            record = store.get(entry["key"])
            if record is None:
                raise DataError(
                    f"label {entry['key'][:12]} is not in the store {store.root}; delete {out / 'batch'} and run again"
                )
            atoms = asked[entry["frame"]]
            frame = labelled(atoms, canonical(atoms), record)
            frame.info |= {"label": entry["key"], "engine": settings.engine}
            accepted.append(frame)
            records.append(record)
            kept.append(entry)
        maker = calculator(settings, place, element_order(accepted))
        doubts = _second_look(accepted, kept, maker, out / "collect.work", previous or [])
        accepted = [frame for frame, entry in zip(accepted, kept, strict=True) if entry["accepted"]]
        records = [record for record, entry in zip(records, kept, strict=True) if entry["accepted"]]
        _refuse_nothing(entries, accepted)
        write_frames(out / "labels.extxyz", accepted)
        write_json(out / "summary.json", _summary(maker, entries, records) | {"doubts": doubts})
        rejected = [e for e in entries if not e["accepted"]]
        log.info("label %s: %d accepted, %d rejected", out.parent.name, len(accepted), len(rejected))


def _second_look(
    frames: list[Atoms],
    entries: list[dict[str, Any]],
    calculator: Calculator,
    folder: Path,
    previous: list[Path],
) -> list[dict[str, Any]]:
    """Compute implausible labels again, on another path; entries of those that do not agree are marked as rejected."""
    from mlpwf.calculators.base import Reason
    from mlpwf.label import outliers
    from mlpwf.label.labeller import Labeller
    from mlpwf.label.store import canonical, labelled
    from mlpwf.potentials.committee import Committee
    from mlpwf.structures.properties import of_frame

    second = calculator.second_opinion()
    if second is None or not frames:
        return []
    labels = [of_frame(frame) for frame in frames]
    compositions = [f"{frame.info.get('kind')} {frame.get_chemical_formula()}" for frame in frames]
    committee = Committee.opened(previous).predict(frames) if previous else []
    why = outliers.implausible(labels, compositions, committee)
    doubted = [index for index, reason in enumerate(why) if reason]
    labeller = Labeller(second, calculator.site, folder, calculator.elements)
    doubts = []
    for index in doubted:
        frame, entry = frames[index], entries[index]
        log.info("label: frame %d looks implausible (%s): computed again", entry["frame"], why[index])
        outcome = labeller.label(frame)
        if outcome["accepted"]:
            record = labeller.store.get(outcome["key"])
            assert record is not None
            found = outliers.disagreement(labels[index], of_frame(labelled(frame, canonical(frame), record)))
        else:
            found = f"the second calculation was rejected: {outcome['reason']}"
        doubts.append({"frame": entry["frame"], "why": why[index], "second": outcome["key"], "disagreement": found})
        if found:
            log.warning("label: frame %d is rejected: %s", entry["frame"], found)
            entry |= {"accepted": False, "reason": str(Reason.IMPLAUSIBLE), "detail": f"{why[index]}; {found}"}
    return doubts


def _refuse_nothing(entries: list[dict[str, Any]], accepted: list[Any]) -> None:
    if entries and not accepted:
        reason, count = Counter((e["reason"], e["detail"]) for e in entries).most_common(1)[0]
        raise DataError(
            f"none of {len(entries)} labels was accepted; {count} x {reason[0]} ({reason[1]}). "
            "Mend the label section or the site, then run again"
        )


def _summary(calculator: Calculator, entries: list[dict[str, Any]], records: list[dict[str, Any]]) -> dict[str, Any]:
    from mlpwf.label.store import of_elements

    rejected = [e for e in entries if not e["accepted"]]
    versions = sorted({r["engine_version"] for r in records})
    # with the rules of the section, and not what they gave in the first cell
    physics = of_elements(calculator.physics, records[0]["symbols"] if records else [])
    return {
        "mlpwf": __version__,
        "engine": calculator.engine.name,
        "engine_version": ", ".join(versions) or None,
        "physics": physics,
        "requested": len(entries),
        "accepted": len(records),
        "reused": sum(e["reused"] for e in entries),
        "retries": dict(Counter(_last_attempt(e) for e in entries if e["accepted"] and len(e["attempts"]) > 1)),
        "aside": dict(Counter(e["reason"] for e in rejected)),
        "aside_frames": [{k: e[k] for k in ("frame", "key", "reason", "detail", "state")} for e in rejected],
        "cpu_s": round(sum(e["cpu_s"] for e in entries if not e["reused"]), 3),
        "label_cpu_s_mean": round(sum(r["cpu_s"] for r in records) / len(records), 3) if records else None,
    }


def _last_attempt(entry: dict[str, Any]) -> str:
    return str(entry["attempts"][-1]["rung"])
