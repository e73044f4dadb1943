"""The fit of one force field of a committee to labelled frames."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from ase import Atoms

from mlpwf.campaign.accounting import as_engine
from mlpwf.errors import DataError
from mlpwf.files import copy_whole, write_text
from mlpwf.potentials.base import Progress, Trained, TrainingJob
from mlpwf.potentials.molecular import CURVE, DEPLOYED, ORIGINAL, record
from mlpwf.potentials.molecular.fit import Fitted, Labelled, Molecules, Strengths, fitted, force_error
from mlpwf.potentials.molecular.topology import topology_of
from mlpwf.structures.frames import element_order
from mlpwf.structures.molecules import molecule_bonds, species_numbers
from mlpwf.structures.properties import of_frame

log = logging.getLogger(__name__)

LONGEST_ANGSTROM = 0.4
"""A frame with a bond stretched by more is of a molecule that breaks, which no force field describes."""


def train(job: TrainingJob, progress: Progress) -> Trained:
    """Fit a force field; the first of a committee to all labels, each other one to labels drawn with replacement.

    Raises
    ------
    DataError
        If no frame has whole molecules.
    """
    whole, left_out = whole_frames(job)
    found = fit(job, resampled(whole, job.seed, job.member), ORIGINAL)
    progress(1, 1, force_error(found, whole))
    copy_whole(job.folder / ORIGINAL, job.folder / DEPLOYED)
    write_text(job.folder / CURVE, _costs(found))
    details = {"coefficients": found.model.size, "strengths": found.strengths._asdict(), "left_out": left_out}
    return Trained(element_order(job.molecules), job.section.pair_cutoff_angstrom, None, details)


def fit(job: TrainingJob, frames: Sequence[Labelled], name: str) -> Fitted:
    """Fit a force field to frames, and write it to a file of the job's folder."""
    with as_engine():
        found = fitted(molecules_of(job.molecules), frames, job.section.pair_cutoff_angstrom, say=log.info)
    record.write(job.folder / name, found)
    return found


def whole_frames(job: TrainingJob) -> tuple[list[Labelled], int]:
    """The frames of a job without a bond that breaks, and how many have one.

    Raises
    ------
    DataError
        If all have.
    """
    molecules = molecules_of(job.molecules)
    whole = [frame for atoms in job.frames if is_whole(frame := labelled(atoms, job.molecules), molecules)]
    if not whole:
        raise DataError(f"{len(job.frames)} labelled frames, none with whole molecules; expected bonds near their rest")
    if left_out := len(job.frames) - len(whole):
        log.info("force field: %d frames left out, whose bonds are stretched by more than %g Å", left_out,
                 LONGEST_ANGSTROM)  # fmt: skip
    return whole, left_out


def molecules_of(molecules: Sequence[Atoms]) -> Molecules:
    """The species of a system, from one frame of each."""
    topologies = [topology_of(list(one.symbols), molecule_bonds(one), one.positions) for one in molecules]
    return Molecules(tuple(topologies), tuple(one.positions for one in molecules))


def labelled(atoms: Atoms, molecules: Sequence[Atoms]) -> Labelled:
    """A frame and its label as the fit takes them."""
    label = of_frame(atoms)
    return Labelled(atoms, species_numbers(atoms, molecules), label.energy, label.forces, label.virial)


def is_whole(frame: Labelled, molecules: Molecules) -> bool:
    """Whether no bond of a frame is stretched by more than `LONGEST_ANGSTROM`."""
    start = 0
    for kind in frame.species:
        topology, known = molecules.topologies[kind], molecules.references[kind]
        at = frame.atoms.positions[start : start + len(topology.symbols)]
        start += len(topology.symbols)
        for one, other in topology.bonds:
            if np.linalg.norm(at[one] - at[other]) - known["bond", (one, other)] > LONGEST_ANGSTROM:
                return False
    return True


def resampled(frames: Sequence[Labelled], seed: int, member: int) -> list[Labelled]:
    """The frames for a member of the committee: all for the first, as often as they are drawn for others."""
    if member == 0:
        return list(frames)
    drawn = np.random.default_rng([seed, member]).integers(len(frames), size=len(frames))
    counts = np.bincount(drawn, minlength=len(frames)).tolist()
    return [replace(frame, weight=float(count)) for frame, count in zip(frames, counts, strict=True) if count]


def _costs(found: Fitted) -> str:
    """The strengths tried, and what held-out labels cost by each."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["step", *Strengths._fields, "validation_cost"])
    writer.writerows([step, *strengths, f"{cost:.8g}"] for step, (strengths, cost) in enumerate(found.costs.items()))
    return text.getvalue()
