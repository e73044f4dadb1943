"""`mlpwf label batch` and `collect`: the labels of a campaign's sets, each computed once."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from mlpwf.campaign import records
from mlpwf.campaign.accounting import accounted
from mlpwf.campaign.paths import Label as Folder
from mlpwf.config import Label, Site, load_section
from mlpwf.errors import EngineError
from mlpwf.files import sole_writer

log = logging.getLogger(__name__)


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
    from mlpwf.campaign.budget import label_core_hours
    from mlpwf.campaign.walltime import seconds_left
    from mlpwf.label.batching import Pace, dealt, described, outcomes
    from mlpwf.label.labeller import Labeller
    from mlpwf.structures.frames import read_frames

    settings, _ = load_section(Label, config)
    place, _ = load_section(Site, site)
    folder, work = Folder(out), Folder(out).batches / f"{batch:03d}.work"
    spent = partial(label_core_hours, campaign or out)
    done: list[records.Outcome] = []
    with sole_writer(work), accounted(work, "label") as beat:
        mine = dealt(read_frames(frames), batch, batches)
        labeller = Labeller(settings, place, work, sorted({s for _, atoms in mine for s in atoms.symbols}))
        pace = Pace(seconds_left(minutes))
        for outcome in outcomes(labeller, mine, pace, settings.budget_core_hours, spent):
            done.append(outcome)
            beat()
            records.write(folder.progress(batch), records.Progress(done=len(done), total=len(mine)))
            log.info("label %s batch %d: %d/%d %s", out.parent.name, batch, len(done), len(mine), described(outcome))
        if len(done) < len(mine):
            raise EngineError(
                f"{out}, batch {batch}: {len(done)} of {len(mine)} labels done when the wall time of the job "
                "was nearly over; they are kept, and the next attempt goes on from there"
            )
        records.write(folder.batch(batch), records.Batch(labels=done))


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
    from mlpwf.label.collecting import accepted_frames, after_second_look, check_any, in_order, second_look, summary
    from mlpwf.label.labeller import Labeller
    from mlpwf.label.store import Store
    from mlpwf.potentials.committee import Committee
    from mlpwf.structures.frames import element_order, read_frames, write_frames

    settings, _ = load_section(Label, config)
    place, _ = load_section(Site, site)
    folder, work = Folder(out), out / "collect.work"
    doubts: list[records.Doubt] = []
    with sole_writer(work), accounted(work, "label"):
        asked = read_frames(frames)
        outcomes = in_order([records.read(path, records.Batch) for path in batch], len(asked), folder.batches)
        found = accepted_frames(asked, outcomes, Store(place.label_store), settings.engine, folder.batches)
        labelled = [one.atoms for one in found]
        maker = calculator(settings, place, element_order(labelled))
        second = maker.second_opinion()
        if second is not None and found:
            committee = Committee.opened(previous).predict(labelled) if previous else []
            doubts = second_look(found, committee, Labeller(second, place, work, maker.elements))
        outcomes = after_second_look(outcomes, doubts)
        check_any(outcomes)
        sound = [one for one in found if outcomes[one.outcome.frame].accepted]
        write_frames(folder.labels, [one.atoms for one in sound])
        records.write(folder.summary, summary(maker, outcomes, [one.record for one in sound], doubts))
    log.info("label %s: %d accepted, %d rejected", out.parent.name, len(sound), len(outcomes) - len(sound))
