"""The training of a force field and a network on what it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ase import Atoms

from mlpwf.campaign.accounting import as_engine
from mlpwf.potentials.base import Engine, Potential, Progress, Role, Trained, TrainingJob
from mlpwf.potentials.molecular import DEPLOYED, Molecular, record
from mlpwf.potentials.molecular.fit import refitted
from mlpwf.potentials.molecular.training import fit, labelled, whole_frames
from mlpwf.structures.properties import of_frame, on_frame

FIRST = "force_field.before_network.json"
"""The force field that the network was trained on top of; that of the potential is fitted again beside the network."""


def train(job: TrainingJob, progress: Progress, network: Engine) -> Trained:
    """Fit the force field to all labels, train the network on what it leaves, fit the force field to what that leaves.

    The second fit is linear and exact: what a few thousand steps leave of the mean pressure and of the energies, which
    are two numbers of a frame beside ninety forces, is gone after it.
    """
    frames, _ = whole_frames(job)
    if not (job.folder / FIRST).is_file():
        fit(job, frames, FIRST)
    before = Molecular().open([job.folder / FIRST], job.molecules)
    atoms = [frame.atoms for frame in frames]
    trained = network.train(replace(job, frames=rest_of(atoms, before)), progress)
    original = network.open([job.folder / network.files[Role.ORIGINAL]], job.molecules)
    with as_engine():
        rest = [labelled(one, job.molecules) for one in rest_of(atoms, original)]
        found = refitted(record.read(job.folder / FIRST), rest)
    record.write(job.folder / DEPLOYED, found)
    return replace(trained, details={**trained.details, "baseline_coefficients": found.model.size})


def rest_of(frames: Sequence[Atoms], known: Potential) -> list[Atoms]:
    """Labelled frames whose labels are those given less what another potential predicts."""
    predicted = known.predict(frames)
    return [on_frame(atoms, of_frame(atoms) - rest) for atoms, rest in zip(frames, predicted, strict=True)]
