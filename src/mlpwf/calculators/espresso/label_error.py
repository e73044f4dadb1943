"""Converged settings, which the error of a campaign's own labels is measured against, one lever at a time.

k-points and cut-offs are converged apart, each with the other as in the label: their errors add.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlpwf.calculators.espresso import pw
from mlpwf.config.label import Label

KPOINTS, CUTOFFS = "k-points", "cut-offs"
IMAGE_DISTANCE_ANGSTROM = 15.0
"""Of the converged k-points: what is left there is below 0.5 meV/Å in waters and toluenes (docs/labels.md)."""
FARTHER = 1.3
"""At least so much farther than in the label itself: a tenth of its error is left."""
CUTOFF_RY, HIGHER, DENSITY_RATIO = 60.0, 1.5, 8.0
THRESHOLD_RY = 1e-9


def converged(label: Label, cell: NDArray[np.float64]) -> dict[str, Label]:
    """Settings with one lever converged, by lever.

    Parameters
    ----------
    label
        The settings of the campaign's labels.
    cell
        Lattice vectors (3, 3) of the frame in Å.

    Returns
    -------
    dict
        ``k-points``: images 15 Å apart, or 1.3 times as far as in the label. ``cut-offs``: 60 Ry or
        1.5 times the label's, a density cut-off of eight times that, an SCF threshold of 1e-9 Ry.
    """
    distance = max(IMAGE_DISTANCE_ANGSTROM, FARTHER * pw.kpoints_of(label, cell).image_distance(cell))
    cutoff = max(CUTOFF_RY, HIGHER * label.cutoff_ry)
    density = max(DENSITY_RATIO * cutoff, label.density_cutoff_ry, label.fft_grid_ry or 0.0)
    numbers = {
        "cutoff_ry": cutoff,
        "density_cutoff_ry": density,
        "fft_grid_ry": None,
        "convergence_ry": min(THRESHOLD_RY, label.convergence_ry / 10),
    }
    return {
        KPOINTS: label.model_copy(update={"kpoints": "auto", "image_distance_angstrom": distance}),
        CUTOFFS: label.model_copy(update=numbers),
    }
