"""The error of a campaign's own labels: a few of them once more, converged, one lever at a time.

No model can be right to better than its labels are. The calculator says which levers its labels have, and what
settings converge each; their errors add, which costs a fraction of converging all at once.
"""

from __future__ import annotations

import csv
import io
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlpwf.campaign.records import ErrorsOfLabels, LabelErrorRow, Outcome
from mlpwf.config import Label
from mlpwf.errors import ConfigError, DataError
from mlpwf.potentials.metrics import errors_of_labels
from mlpwf.structures.frames import by_size
from mlpwf.structures.properties import Properties, of_frame

log = logging.getLogger(__name__)

TOTAL = "total"
"""Beside the levers: all of them together."""
UNITS = {"energy": "meV/atom", "force": "eV/Å", "virial": "eV/atom", "pressure": "kbar", "edge": "Å"}
COLUMNS = {
    "force_mev_angstrom": ("force_rmse_ev_angstrom", 1e3),
    "net_force_mev_angstrom": ("force_inter_rmse_ev_angstrom", 1e3),
    "energy_mev_atom": ("energy_rmse_mev_atom", 1.0),
    "virial_mev_atom": ("virial_rmse_ev_atom", 1e3),
    "pressure_bias_kbar": ("pressure_bias_kbar", 1.0),
}
"""Of the table: the measure that each column shows, and the factor to its unit."""


@dataclass
class Measured:
    """Frames labelled once more, and their labels before and after."""

    frames: list[Atoms] = field(default_factory=list)
    labels: list[Properties] = field(default_factory=list)
    better: dict[str, list[Properties]] = field(default_factory=dict)
    """By lever, labels with that lever converged."""
    failures: list[str] = field(default_factory=list)
    """Why frames were left out."""
    cpu_s: float = 0.0
    """Spent now, without what the store had."""

    @property
    def rows(self) -> list[LabelErrorRow]:
        """`label_errors` of these frames; empty: nothing could be measured."""
        return label_errors(self.frames, self.labels, self.better) if self.frames else []


def label_once_more(
    frames: Sequence[Atoms],
    levers: Callable[[NDArray[np.float64]], Mapping[str, Label]],
    label: Callable[[Label, Atoms], tuple[Atoms, Outcome]],
    beat: Callable[[], None],
) -> Measured:
    """Label frames again with each lever converged; a frame that fails for one lever is left out and named.

    Parameters
    ----------
    frames
        Labelled frames.
    levers
        Settings with one lever converged, by lever, for a cell (3, 3) in Å (`Calculator.converged`).
    label
        A frame with its label by some settings, and what became of it; DataError if it is rejected.
    beat
        Called after each label.
    """
    measured = Measured()
    for number, atoms in enumerate(frames, start=1):
        found: dict[str, Properties] = {}
        try:
            for lever, settings in levers(atoms.cell.array).items():
                again, outcome = label(settings, atoms)
                spent = 0.0 if outcome.reused else outcome.cpu_s
                found[lever] = of_frame(again)
                measured.cpu_s += spent
                log.info("label error: frame %d of %d, %s converged, %.1f CPU-s", number, len(frames), lever, spent)
                beat()
        except (DataError, ConfigError) as error:
            measured.failures.append(str(error))
            log.warning("label error: frame %d of %d is left out: %s", number, len(frames), error)
            continue
        measured.frames.append(atoms)
        measured.labels.append(of_frame(atoms))
        for lever, one in found.items():
            measured.better.setdefault(lever, []).append(one)
    return measured


def sample(frames: Sequence[Atoms], count: int) -> list[int]:
    """Frames to label once more: of each size of box so many, from the densest to the thinnest evenly.

    Frames of liquid (`info['kind']` is ``bulk``) where there are any, else all.
    """
    chosen = []
    for members in by_size(frames).values():
        ordered = sorted(members, key=lambda index: (frames[index].get_volume(), index))
        taken = min(count, len(ordered))
        chosen += [ordered[int((2 * k + 1) * len(ordered) / (2 * taken))] for k in range(taken)]
    return chosen


def label_errors(
    frames: Sequence[Atoms], labels: Sequence[Properties], better: Mapping[str, Sequence[Properties]]
) -> list[LabelErrorRow]:
    """Errors of labels by size of box, and over all (the last row).

    The error of a quantity is what converging each lever changes, summed over the levers; each measure
    is a root mean square (`metrics.error_measures`). Energies are compared after the mean difference per atom over
    all frames is taken off, which a model's atomic energies take up.

    Parameters
    ----------
    frames
        Frames of whole molecules, with the array ``molecule``.
    labels
        Their labels.
    better
        By lever, labels of the same frames with that lever converged.

    Returns
    -------
    list of LabelErrorRow
        By size; the last is over all. ``errors`` are by lever and ``total``; those of energies are None for a single
        frame, of which nothing is left once the mean is taken off.
    """
    converged_labels = {lever: _aligned(labels, found) for lever, found in better.items()}
    converged_labels[TOTAL] = [_summed(label, found) for label, found in
                               zip(labels, zip(*converged_labels.values(), strict=True), strict=True)]  # fmt: skip
    groups: dict[int | None, list[int]] = defaultdict(list)
    for index, atoms in enumerate(frames):
        groups[len(atoms)].append(index)
    sizes = [*sorted(groups.items(), key=lambda item: item[0] or 0), (None, list(range(len(frames))))]
    return [_row(size, members, frames, labels, converged_labels) for size, members in sizes]


def _row(
    size: int | None,
    members: Sequence[int],
    frames: Sequence[Atoms],
    labels: Sequence[Properties],
    converged_labels: Mapping[str, Sequence[Properties]],
) -> LabelErrorRow:
    """Errors over some of the frames."""
    own = [frames[index] for index in members]
    errors = {
        lever: errors_of_labels(own, [found[index] for index in members], [labels[index] for index in members])
        for lever, found in converged_labels.items()
    }
    if len(frames) == 1:
        errors = {lever: _without_energy(one) for lever, one in errors.items()}
    edge = float(np.mean([atoms.get_volume() ** (1 / 3) for atoms in own]))
    return LabelErrorRow(atoms=size, frames=len(members), edge_angstrom=edge, errors=errors)


def _without_energy(errors: ErrorsOfLabels) -> ErrorsOfLabels:
    return msgspec.structs.replace(errors, energy_rmse_mev_atom=None, energy_bias_mev_atom=None)


def _aligned(labels: Sequence[Properties], found: Sequence[Properties]) -> list[Properties]:
    """Converged labels whose energies agree with the labels' in the mean, per atom."""
    counts = np.array([len(one.forces) for one in labels])
    apart = np.array([a.energy - b.energy for a, b in zip(labels, found, strict=True)]) / counts
    return [
        replace(one, energy=one.energy + float(apart.mean()) * count)
        for one, count in zip(found, counts.tolist(), strict=True)
    ]


def _summed(label: Properties, better: Sequence[Properties]) -> Properties:
    """The label with the changes of every lever."""
    return Properties(
        label.energy + sum(one.energy - label.energy for one in better),
        label.forces + np.sum([one.forces - label.forces for one in better], axis=0),
        label.stress + np.sum([one.stress - label.stress for one in better], axis=0),
        label.volume,
    )


def error_table(rows: Sequence[LabelErrorRow]) -> str:
    """error.csv: a line for each row and lever; units are in the names of the columns."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["atoms", "frames", "edge_angstrom", "lever", *COLUMNS])
    for row in rows:
        for lever, errors in row.errors.items():
            values = ((getattr(errors, measure), factor) for measure, factor in COLUMNS.values())
            numbers = ["" if value is None else f"{value * factor:.4g}" for value, factor in values]
            table.writerow([row.atoms or "all", row.frames, f"{row.edge_angstrom:.2f}", lever, *numbers])
    return text.getvalue()


def described(rows: Sequence[LabelErrorRow]) -> list[str]:
    """A line for each size of box."""
    return [_line(row) for row in rows[:-1]] or ["no frame could be converged; the error of the labels is not known"]


def _line(row: LabelErrorRow) -> str:
    total = row.errors[TOTAL]
    parts = ", ".join(f"{lever} {1e3 * errors.force_rmse_ev_angstrom:.1f}" for lever, errors in row.errors.items())
    return (
        f"{row.atoms} atoms, {row.edge_angstrom:.2f} Å: force {parts} meV/Å; net force "
        f"{1e3 * total.force_inter_rmse_ev_angstrom:.1f} meV/Å, virial "
        f"{1e3 * total.virial_rmse_ev_atom:.2f} meV/atom, pressure {total.pressure_bias_kbar:+.2f} kbar"
    )
