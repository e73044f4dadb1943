"""The error of a campaign's own labels: a few of them once more, converged, one lever at a time.

No model can be right to better than its labels are. The calculator says which levers its labels have, and what
settings converge each; their errors add, which costs a fraction of converging all at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms

from mlpwf.potentials.metrics import Quantities, error_measures
from mlpwf.structures.frames import by_size
from mlpwf.units import BAR_PER_EV_A3

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
    frames: Sequence[Atoms], labels: Sequence[Quantities], better: Mapping[str, Sequence[Quantities]]
) -> list[dict[str, Any]]:
    """Errors of labels by size of box, and over all (the last row).

    The error of a quantity is what converging each lever changes, summed over the levers; each measure
    is a root mean square (`error_measures`). Energies are compared after the mean difference per atom over
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
        ``total``: those of `error_measures` (of energies None for a single frame), and ``pressure_bias_kbar``, the
        mean of label less converged.
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
    frames: Sequence[Atoms], better: Sequence[Quantities], labels: Sequence[Quantities]
) -> dict[str, float | int | None]:
    """`error_measures` of the labels, and by how much their pressure is too high in the mean, in kbar."""
    pressures = [
        float(np.trace(label.virial - one.virial)) / 3 / atoms.get_volume()
        for atoms, one, label in zip(frames, better, labels, strict=True)
    ]
    return {
        **error_measures(frames, better, labels),
        "pressure_bias_kbar": 1e-3 * BAR_PER_EV_A3 * float(np.mean(pressures)),
    }


def _aligned(labels: Sequence[Quantities], found: Sequence[Quantities]) -> list[Quantities]:
    """Converged labels whose energies agree with the labels' in the mean, per atom."""
    counts = np.array([len(one.forces) for one in labels])
    apart = np.array([a.energy - b.energy for a, b in zip(labels, found, strict=True)]) / counts
    return [
        Quantities(one.energy + float(apart.mean()) * count, one.forces, one.virial)
        for one, count in zip(found, counts.tolist(), strict=True)
    ]


def _summed(label: Quantities, better: Sequence[Quantities]) -> Quantities:
    """The label with the changes of every lever."""
    return Quantities(
        label.energy + sum(one.energy - label.energy for one in better),
        label.forces + np.sum([one.forces - label.forces for one in better], axis=0),
        label.virial + np.sum([one.virial - label.virial for one in better], axis=0),
    )
