"""Sums over pairs of frames, from which averages, errors and counts follow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlpwf.dynamics.trajectory import Array, Index
from mlpwf.errors import DataError


@dataclass(frozen=True)
class Moments:
    """Sums over pairs of frames, by window of time origins, lag, group of molecules and weight.

    Attributes
    ----------
    lags_ps
        Lags in ps, shape (L,).
    names
        Names of the K weights: `overlap`, `fs_qQ`, `cL_axisA`.
    groups
        `all`, followed by the species where there are several; G of them.
    molecules
        Molecules of each group, shape (G,).
    pairs
        Pairs of frames, shape (W, L).
    squared, fourth
        Sums over pairs of the mean of |Δr|² in Å² and |Δr|⁴ in Å⁴ over molecules, shape (W, L, G).
    decay, decay_squared
        Sums over pairs of 1 − C and (1 − C)², shape (W, L, G, K).
    single
        Sums over pairs of the mean of (1 − w)² over molecules, shape (W, L, G, K).
    window_ps
        Length of each window in ps, shape (W,).
    run
        Run that each window is of, shape (W,).
    runs_ps
        Length of each run in ps, shape (R,).
    """

    lags_ps: Array
    names: tuple[str, ...]
    groups: tuple[str, ...]
    molecules: Index
    pairs: Index
    squared: Array
    fourth: Array
    decay: Array
    decay_squared: Array
    single: Array
    window_ps: Array
    run: Index
    runs_ps: Array

    def group(self, name: str) -> int:
        """Number of a group."""
        if name not in self.groups:
            raise DataError(f"no group of molecules {name!r}; there are {', '.join(self.groups)}")
        return self.groups.index(name)

    def weight(self, name: str) -> int:
        """Number of a weight."""
        if name not in self.names:
            raise DataError(f"no correlator {name!r}; there are {', '.join(self.names)}")
        return self.names.index(name)

    def windows(self, chosen: Array) -> Moments:
        """The moments of some windows, given by numbers or a mask, shape (W,)."""
        per_window = ("pairs", "squared", "fourth", "decay", "decay_squared", "single", "window_ps", "run")
        kept = {field: getattr(self, field)[chosen] for field in per_window}
        rest = {field: getattr(self, field) for field in ("lags_ps", "names", "groups", "molecules", "runs_ps")}
        return Moments(**rest, **kept)

    def halves(self) -> tuple[Moments, Moments]:
        """Time origins in the first and in the second half of each run."""
        late = np.zeros(len(self.run), dtype=bool)
        for number in np.unique(self.run):
            members = np.flatnonzero(self.run == number)
            late[members[(len(members) + 1) // 2 :]] = True
        return self.windows(~late), self.windows(late)
