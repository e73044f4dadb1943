"""What a selection writes: the verdict on each explored frame, and the frames to label."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence

import numpy as np
from ase import Atoms

from mlpwf.campaign.paths import Select as Folder
from mlpwf.campaign.verdicts import ACCURATE, CHANNELS, FAILED
from mlpwf.files import write_text
from mlpwf.select.baselines import baseline
from mlpwf.select.choosing import Diversity
from mlpwf.select.explored import Explored
from mlpwf.structures.frames import quantised, read_frames, write_frames

COLUMNS = [
    "state", "walker", "step", "max_devi_f", "max_devi_v", "devi_inter", "devi_intra", "error_inter", "error_intra",
    "verdict", "selected", "why", "distance",
]  # fmt: skip
NOT_CHOSEN = {ACCURATE: "below the lower level", FAILED: "above the upper level, or a deviation is missing"}


def write_selection(out: Folder, frames: Sequence[Explored], cycle: int) -> None:
    """decisions.csv, and the selected frames; both by state, walker and step."""
    ordered = sorted(frames, key=lambda one: (one.state, one.walker, one.step, one.key))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([COLUMNS, *map(_row, ordered)])
    write_frames(out.frames, [to_label(frame, cycle) for frame in ordered if frame.selected])
    write_text(out.decisions, text.getvalue())


def _row(frame: Explored) -> list[object]:
    taken, why, distance = False, frame.fault or NOT_CHOSEN.get(frame.verdict, ""), math.nan
    if frame.choice is not None:
        taken, why, distance = frame.choice.selected, frame.choice.why, frame.choice.distance
    measured = [*(frame.deviations[c] for c in CHANNELS), *(frame.errors[c] for c in CHANNELS)]
    deviations = [f"{value:.6g}" for value in (frame.force_deviation, frame.virial_deviation, *measured)]
    place = [frame.state, frame.walker, frame.step]
    return [*place, *deviations, frame.verdict, int(taken), why, f"{distance:.6g}"]


def to_label(frame: Explored, cycle: int) -> Atoms:
    """The frame as the label stage takes it."""
    atoms = quantised(frame.atoms)
    atoms.calc = None
    atoms.info["cycle"] = cycle
    return atoms


def write_baseline(
    line: str,
    out: Folder,
    earlier: Sequence[Folder],
    frames: Sequence[Explored],
    shared: Diversity,
    *,
    cycle: int,
    seed: int,
    number: int,
) -> None:
    """Frames that one run of a baseline selects.

    Parameters
    ----------
    line
        Folder of the run, such as ``arm/random/1``.
    out, earlier
        Folders of this selection and of those of earlier cycles.
    frames
        All explored frames.
    shared
        Frames labelled before the cycles, which all runs share, and the distances to them.
    cycle, seed
        Number of the cycle, and the selection's seed.
    number
        Frames to select: as many as the committee's own selection.
    """
    known = [atoms for folder in earlier for atoms in read_frames(folder.selected(line))]
    rng = np.random.default_rng([seed, cycle, int(line.rsplit("/", 1)[1])])
    others = baseline(line, frames, known, shared, number, rng)
    write_frames(out.selected(line), [to_label(frame, cycle) for frame in others])
