"""Descriptors of frames from those of their atoms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def mean_and_spread(values: Array, symbols: Sequence[str], elements: Sequence[str]) -> Array:
    """Mean and standard deviation of the atoms' descriptors, element by element; zeros for one that is not there.

    Parameters
    ----------
    values
        Descriptors of the atoms of a frame, shape (n_atoms, width).
    symbols
        The atoms' elements.
    elements
        Elements in the order in which they are wanted.

    Returns
    -------
    NDArray
        Shape (2 · len(elements) · width,).
    """
    own = np.asarray(symbols)
    parts = []
    for element in elements:
        chosen = values[own == element]
        if not len(chosen):
            chosen = np.zeros((1, values.shape[1]))
        parts += [chosen.mean(axis=0), chosen.std(axis=0)]
    return np.concatenate(parts)
