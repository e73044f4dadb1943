"""One training, from labelled frames to a compressed model."""

from __future__ import annotations

import logging
import re
import shutil
from pathlib import Path

from mlpwf.config.train import Train
from mlpwf.errors import EngineError
from mlpwf.files import read_json, write_json, write_text
from mlpwf.potentials.base import Progress, Trained, TrainingJob
from mlpwf.potentials.curve import curve_csv
from mlpwf.potentials.deepmd import DeePMD, data
from mlpwf.potentials.deepmd.program import Program, latest_checkpoint
from mlpwf.potentials.deepmd.settings import seeds, training_input
from mlpwf.potentials.record import RECORD
from mlpwf.structures.frames import element_order

log = logging.getLogger(__name__)

CURVE = "lcurve.out"
SYSTEMS = "systems.json"  # of the data; written when they are whole
SHAPE = ("cutoff_angstrom", "cutoff_smooth_angstrom", "embedding_neurons", "fitting_neurons", "axis_neurons")


def train(job: TrainingJob, progress: Progress) -> Trained:
    """Train in the job's folder; see `base.Engine.train`.

    Raises
    ------
    DataError
        If a frame numbers no molecules and the loss asks for them.
    EngineError
        If `dp` fails.
    """
    section, frames = job.section, job.frames
    elements = element_order(frames)
    most = data.most_neighbours(frames, elements, section.cutoff_angstrom)
    slots = data.neighbour_slots(most)
    coordinates = data.rigid_coordinates(section, frames)
    parent = job.parent
    if parent is not None:
        kept = _inherited_slots(parent, section, elements, most)
        parent, slots = (parent, kept) if kept else (None, slots)
    found = latest_checkpoint(job.folder)
    if found is None:
        _forget(job.folder)
        shutil.rmtree(job.folder / "data", ignore_errors=True)
        systems = data.write_data(job.folder / "data", frames, elements, coordinates)
        write_json(job.folder / SYSTEMS, systems)
    settings = training_input(
        section,
        elements=elements,
        slots=slots,
        systems=read_json(job.folder / SYSTEMS),
        seed=seeds(job.seed, job.member),
        continued=parent is not None,
        coordinates=coordinates,
    )
    steps = settings["training"]["numb_steps"]
    begun = f"continued from {parent}" if parent else "from new weights"
    begun = f"goes on from its checkpoint of step {found[1]}" if found else begun
    log.info("train model %d: %d frames, %d steps, %s", job.member, len(frames), steps, begun)

    def say(step: int, error: float) -> None:
        progress(step, steps, error)

    program = Program(job.site.dp, job.site.train_threads)
    try:
        program.train(job.folder, settings, parent, found[0] if found else None, say)
    except EngineError as error:
        if found is None or latest_checkpoint(job.folder) != found:
            raise
        log.warning("train model %d: cannot resume from %s (%s); restarting", job.member, found[0], error)
        _forget(job.folder)
        program.train(job.folder, settings, parent, None, say)
    write_text(job.folder / DeePMD.curve, curve_csv(job.folder / CURVE))
    details = {
        "seeds": seeds(job.seed, job.member),
        "steps": steps,
        "neighbour_slots": slots,
        "most_neighbours": most,
        "dp_version": _version(job.folder),
    }
    return Trained(elements, section.cutoff_angstrom, parent, details)


def _forget(folder: Path) -> None:
    """Remove what a training that cannot be resumed left."""
    for path in (*folder.glob("model.ckpt*"), *folder.glob("checkpoint"), folder / CURVE):
        path.unlink(missing_ok=True)


def _version(folder: Path) -> str | None:
    """Version of `dp`, as it prints it."""
    printed = re.search(r"Source: +v?(\S+)", (folder / "train.out").read_text(errors="replace"))
    return printed[1] if printed else None


def _inherited_slots(parent: Path, section: Train, elements: list[str], most: list[int]) -> list[int] | None:
    """Neighbour slots of the model to continue; None, saying why, if it cannot be continued."""
    check = read_json(parent.with_name(RECORD))
    changed = [key for key in SHAPE if check["settings"][key] != section.model_dump(mode="json")[key]]
    reason = f"train.{changed[0]} has changed" if changed else ""
    if check["elements"] != elements:
        reason = f"it knows {', '.join(check['elements'])}, the labels hold {', '.join(elements)}"
    elif any(found > room for found, room in zip(most, check["neighbour_slots"], strict=True)):
        reason = f"it has room for {check['neighbour_slots']} neighbours, the labels show {most}"
    if reason:
        log.info("train: %s is not continued, new weights are trained: %s", parent, reason)
        return None
    return list(check["neighbour_slots"])
