"""The error of a campaign's own labels: a few of them once more, converged, one lever at a time.

No model can be right to better than its labels are. The calculator says which levers its labels have, and what
settings converge each; their errors add, which costs a fraction of converging all at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
from ase import Atoms

from mlpwf.potentials.metrics import errors_of_labels
from mlpwf.structures.frames import by_size
from mlpwf.structures.properties import Properties

TOTAL = "total"
"""Beside the levers: all of them together."""


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
) -> list[dict[str, Any]]:
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
    list of dict
        ``atoms`` (None: all), ``frames``, ``edge_angstrom`` (mean cube root of the volume) and ``errors`` by lever and
        ``total``: those of `metrics.errors_of_labels` (of energies None for a single frame).
    """
    converged_labels = {lever: _aligned(labels, found) for lever, found in better.items()}
    converged_labels[TOTAL] = [_summed(label, found) for label, found in
                               zip(labels, zip(*converged_labels.values(), strict=True), strict=True)]  # fmt: skip
    groups: dict[int | None, list[int]] = defaultdict(list)
    for index, atoms in enumerate(frames):
        groups[len(atoms)].append(index)
    rows: list[dict[str, Any]] = []
    for size, members in [*sorted(groups.items(), key=lambda item: item[0] or 0), (None, list(range(len(frames))))]:
        rows.append(
            {
                "atoms": size,
                "frames": len(members),
                "edge_angstrom": float(np.mean([frames[index].get_volume() ** (1 / 3) for index in members])),
                "errors": {
                    lever: _measures(
                        [frames[index] for index in members],
                        [found[index] for index in members],
                        [labels[index] for index in members],
                    )
                    for lever, found in converged_labels.items()
                },
            }
        )
    if len(frames) == 1:  # nothing is left of its energy once the mean is taken off
        for row in rows:
            for errors in row["errors"].values():
                errors["energy_rmse_mev_atom"] = errors["energy_bias_mev_atom"] = None
    return rows


def _measures(
    frames: Sequence[Atoms], better: Sequence[Properties], labels: Sequence[Properties]
) -> dict[str, float | int | None]:
    """`errors_of_labels` as error.json has them."""
    found: dict[str, float | int | None] = msgspec.to_builtins(errors_of_labels(frames, better, labels))
    return found


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
