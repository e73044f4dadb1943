"""A model on held-out labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ase import Atoms

from mlpwf.campaign.records import ErrorsByState
from mlpwf.errors import DataError
from mlpwf.potentials.metrics import errors_by_state, parity_rows
from mlpwf.potentials.record import open_model
from mlpwf.structures.frames import read_frames
from mlpwf.structures.properties import of_frame


def errors_on_labels(model: Path, species: Sequence[Atoms], labels: Path) -> tuple[ErrorsByState, str]:
    """Errors of a model on the frames of a file, by state, and a table of the pairs behind them.

    Parameters
    ----------
    model
        Its deployed file.
    species
        One frame of each species.
    labels
        File of labelled frames.

    Returns
    -------
    errors, table
        The table is CSV: quantity, state, label, model; energies and virials in eV per atom, forces in eV/Å.

    Raises
    ------
    DataError
        If there is no frame, or one lacks its label.
    """
    frames = read_frames(labels)
    if not frames:
        raise DataError(f"{labels}: no held-out labels; expected at least one: label the test set first")
    states = [str(atoms.info.get("state", "test")) for atoms in frames]
    known, predicted = [of_frame(atoms) for atoms in frames], open_model(model, species).predict(frames)
    rows = [f"{quantity},{state},{a:.8g},{b:.8g}" for quantity, state, a, b in parity_rows(known, predicted, states)]
    return errors_by_state(frames, known, predicted, states), "\n".join(["quantity,state,label,model", *rows]) + "\n"
