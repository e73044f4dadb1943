"""The training of a force field and a network on what it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mlpwf.potentials.base import Potential, Progress, Trained, TrainingJob
from mlpwf.potentials.deepmd import DeePMD
from mlpwf.potentials.molecular import DEPLOYED, Molecular
from mlpwf.potentials.molecular.training import fit, whole_frames
from mlpwf.structures.properties import of_frame


def train(job: TrainingJob, progress: Progress) -> Trained:
    """Fit the force field to all labels, which is the same for every member; train the network on the rest."""
    frames, _ = whole_frames(job)
    made = None if (job.folder / DEPLOYED).is_file() else fit(job, frames, DEPLOYED)
    baseline = Molecular().open([job.folder / DEPLOYED], job.molecules)
    rest = rest_of([frame.atoms for frame in frames], baseline)
    trained = DeePMD().train(replace(job, frames=rest), progress)
    about = {} if made is None else {"baseline_coefficients": made.model.size}
    return replace(trained, details={**trained.details, **about})


def rest_of(frames: Sequence[Atoms], baseline: Potential) -> list[Atoms]:
    """Labelled frames whose labels are those given less what a baseline predicts."""
    found = []
    for atoms, known in zip(frames, baseline.predict(frames), strict=True):
        label, copy = of_frame(atoms), atoms.copy()
        stress = label.stress - known.stress
        copy.calc = SinglePointCalculator(
            copy,
            energy=label.energy - known.energy,
            forces=label.forces - known.forces,
            stress=stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]],
        )
        found.append(copy)
    return found
