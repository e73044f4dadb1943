"""A committee rated: its errors on test, training and new labels, and what its deviation is worth."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from ase import Atoms

from mlpwf.campaign import records
from mlpwf.errors import DataError
from mlpwf.potentials.calibration import (
    COVERAGE,
    INTER,
    INTRA,
    Map,
    Pairs,
    as_record,
    calibrate,
    check,
    frame_pairs,
    from_record,
    joined,
    reliability,
)
from mlpwf.potentials.metrics import (
    committee_mean,
    errors_by_state,
    frame_force_errors,
    parity_rows,
)
from mlpwf.potentials.record import open_model, sound_model
from mlpwf.structures.frames import geometry_key, read_frames
from mlpwf.structures.properties import Properties, of_frame
from mlpwf.train.labels import read_labels
from mlpwf.train.recipe import hash_of

log = logging.getLogger(__name__)

Predictions = list[list[Properties]]
"""By model, then by frame."""
ERROR_UNITS = {"energy": "meV/atom", "force": "eV/Å", "virial": "eV/atom"}
CALIBRATION_UNITS = {"deviation": "eV/Å", "error": "eV/Å, root mean square of a force component"}
NEW_LABELS, TEST_SET = "new labels, previous committee", "test set, this committee"


@dataclass(frozen=True)
class Rated:
    """Labelled frames, and what the models of a committee make of them."""

    frames: list[Atoms]
    labels: list[Properties]
    states: list[str]
    """State that each frame is of."""
    predictions: Predictions

    @classmethod
    def of(cls, frames: list[Atoms], predictions: Predictions) -> Rated:
        """Frames with their labels."""
        states = [str(atoms.info.get("state", atoms.info.get("kind", ""))) for atoms in frames]
        return cls(frames, [of_frame(atoms) for atoms in frames], states, predictions)

    @cached_property
    def mean(self) -> list[Properties]:
        """The committee's mean prediction of each frame."""
        return committee_mean(self.predictions)

    def errors(self, predicted: list[Properties]) -> records.ErrorsByState:
        """Errors of predictions for these frames, overall and by state."""
        return errors_by_state(self.frames, self.labels, predicted, self.states)

    def errors_of_mean(self) -> records.ErrorsByState:
        """Errors of the committee's mean."""
        return self.errors(self.mean)


def rate(models: Sequence[Path], test: Path, train: Sequence[Path]) -> tuple[Rated, Rated]:
    """The test set and the training labels with the predictions of each model.

    Raises
    ------
    DataError
        If a label is missing, a model is damaged, or a test frame is a training frame.
    """
    tested, trained = read_labels([test]), read_labels(train)
    keep_apart(tested, trained, test)
    predictions = [_predict(path, [*tested, *trained]) for path in models]
    count = len(tested)
    return (
        Rated.of(tested, [one[:count] for one in predictions]),
        Rated.of(trained, [one[count:] for one in predictions]),
    )


def rate_new(new: Path | None, previous: Sequence[Path]) -> Rated | None:
    """Labels that the previous committee has not seen, with its predictions; None where there are none."""
    if new is None or not previous:
        return None
    if not read_frames(new):
        log.info("train: %s holds no labels; the previous models' error on new labels stays unknown", new)
        return None
    frames = read_labels([new])
    return Rated.of(frames, [_predict(path, frames) for path in previous])


def _predict(model: Path, frames: Sequence[Atoms]) -> list[Properties]:
    """Predictions of the model in a file, which must be the one its record names."""
    sound_model(model)
    return open_model(model).predict(frames)


def keep_apart(test: Sequence[Atoms], train: Sequence[Atoms], source: Path) -> None:
    """Check that no test frame has the geometry of a training frame.

    Raises
    ------
    DataError
        If one has; `source` is the file of the test frames.
    """
    known = {geometry_key(atoms) for atoms in train}
    for number, atoms in enumerate(test):
        if geometry_key(atoms) in known:
            raise DataError(
                f"{source}: test frame {number} is a training frame as well; expected none in common: "
                "its error would say nothing, so remove it from one of the sets"
            )


# ---------------------------------------------------------------- errors


def errors_on_test(rated: Rated) -> records.TestErrors:
    """Errors of each model and of the committee's mean on the test set."""
    return records.TestErrors(
        frame_force_mse_ev2_angstrom2=frame_force_errors(rated.labels, rated.mean),
        models=[rated.errors(one) for one in rated.predictions],
        mean=rated.errors_of_mean(),
    )


def errors_on_new(rated: Rated, files: Sequence[Path]) -> records.NewErrors:
    """Errors of the previous committee on labels it has not seen: its first model and its mean.

    Parameters
    ----------
    rated
        The new labels, and the predictions of the previous committee.
    files
        Files of the labels and the models, for their hashes.
    """
    return records.NewErrors(
        inputs={str(path): hash_of(path) for path in files},
        first=rated.errors(rated.predictions[0]),
        mean=rated.errors_of_mean(),
    )


def parity_table(rated: Rated) -> str:
    """CSV of label and mean prediction of each quantity, forces thinned (`metrics.parity_rows`)."""
    rows = parity_rows(rated.labels, rated.mean, rated.states)
    table = [(quantity, state, f"{label:.10g}", f"{model:.10g}") for quantity, state, label, model in rows]
    return _csv(("quantity", "state", "label", "model"), table)


# ---------------------------------------------------------------- calibration


def calibration_pairs(rated: Rated) -> dict[str, Pairs]:
    """Pairs of deviation and error of all frames, by channel; channels without pairs are left out."""
    found = [_frame_pairs(rated, index) for index in range(len(rated.frames))]
    pairs = {channel: joined([one[channel] for one in found]) for channel in (INTER, INTRA)}
    return {channel: one for channel, one in pairs.items() if len(one.deviation)}


def _frame_pairs(rated: Rated, index: int) -> dict[str, Pairs]:
    atoms = rated.frames[index]
    return frame_pairs(
        np.array([one[index].forces for one in rated.predictions]),
        rated.labels[index].forces,
        atoms.get_chemical_symbols(),
        atoms.get_masses(),
        atoms.arrays["molecule"],
        geometry_key(atoms),
        rated.states[index],
    )


def calibrate_on(
    pairs: Mapping[str, Pairs], frames: int, source: str, earlier: Mapping[str, Mapping[str, Map]]
) -> records.Calibration:
    """Maps from pairs of labels the models have not seen, and how earlier maps did on them.

    Parameters
    ----------
    pairs
        By channel.
    frames
        Number of labelled frames the pairs are of.
    source
        Which labels, and which committee.
    earlier
        Maps made before, by channel and group; empty: none to check.
    """
    judged = {channel: earlier[channel] for channel in pairs if channel in earlier}
    checks = {channel: check(maps, pairs[channel]) for channel, maps in judged.items()}
    for channel, found in checks.items():
        if not found.holds:
            log.warning("train: the calibration (%s) no longer holds: %s", channel, found.message)
    return records.Calibration(
        units=CALIBRATION_UNITS,
        source=source,
        frames=frames,
        coverage=COVERAGE,
        maps={channel: as_record(calibrate(one)) for channel, one in pairs.items()},
        check=checks,
        reliability={channel: reliability(maps, pairs[channel]) for channel, maps in judged.items()},
    )


def earlier_maps(source: Path | None) -> dict[str, dict[str, Map]]:
    """Maps of the previous cycle's calibration, by channel and group; empty where there is none."""
    if source is None:
        return {}
    found = records.read(source, records.Calibration)
    return {channel: from_record(maps) for channel, maps in found.maps.items()}


def pairs_table(pairs: Mapping[str, Pairs]) -> str:
    """CSV of the pairs, in an order that does not depend on that of the frames."""
    rows = [row for channel, one in pairs.items() for row in _pair_rows(channel, one)]
    return _csv(("channel", "frame", "state", "kind", "deviation", "error"), sorted(rows))


def _pair_rows(channel: str, pairs: Pairs) -> list[tuple[str, ...]]:
    columns = zip(pairs.frame, pairs.state, pairs.kind, pairs.deviation, pairs.error, strict=True)
    return [(channel, frame[:16], state, kind, f"{d:.6g}", f"{e:.6g}") for frame, state, kind, d, e in columns]


def _csv(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()
