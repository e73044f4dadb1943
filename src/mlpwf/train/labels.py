"""Labelled frames as training and rating take them: all of one engine, none without its label."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ase import Atoms

from mlpwf.config.label_engines import DEFAULT_LABEL_ENGINE
from mlpwf.errors import DataError, MlpwfError
from mlpwf.structures.frames import read_frames
from mlpwf.structures.properties import of_frame


def read_labels(sources: Sequence[Path]) -> list[Atoms]:
    """Labelled frames of several files, in order.

    Raises
    ------
    DataError
        If a frame lacks its label, there is no frame, or the labels are by several engines.
    """
    frames = [atoms for source in sources for atoms in _labelled_frames(source)]
    where = ", ".join(map(str, sources))
    if not frames:
        raise DataError(f"{where}: no labelled frames; expected at least one")
    engines = sorted({str(atoms.info.get("engine", DEFAULT_LABEL_ENGINE)) for atoms in frames})
    if len(engines) > 1:
        raise DataError(
            f"{where}: labels by {' and '.join(engines)}; expected one engine: "
            "their energies are not on one scale, so label all sets with one"
        )
    return frames


def _labelled_frames(source: Path) -> list[Atoms]:
    frames = read_frames(source)
    for number, atoms in enumerate(frames):
        try:
            of_frame(atoms)
        except MlpwfError as error:
            raise DataError(f"{source}: frame {number}: {error}") from None
    return frames
