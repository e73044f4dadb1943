"""Baselines: what other rules of selection would have chosen, for comparison (`select.baselines`)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from ase import Atoms

from mlpwf.select.choosing import Diversity
from mlpwf.select.explored import Explored
from mlpwf.structures.frames import geometry_key


def baseline(
    name: str,
    frames: Sequence[Explored],
    known: Sequence[Atoms],
    diversity: Diversity,
    budget: int,
    rng: np.random.Generator,
) -> list[Explored]:
    """As many valid frames as the committee's selection took, at random or, but for the first, by diversity alone.

    Parameters
    ----------
    name
        `arm/random/SEED` or `arm/diverse/SEED`.
    frames
        All explored frames.
    known
        Frames the baseline has chosen in earlier cycles.
    diversity
        Of the first cycle's labels, which all baselines share.
    budget
        Number of frames.
    rng
        Source of chance.
    """
    seen = {geometry_key(atoms) for atoms in [*known, *diversity.labelled]}
    valid = (one for one in frames if not one.fault and math.isfinite(one.force_deviation))
    pool = list({geometry_key(one.atoms): one for one in valid if geometry_key(one.atoms) not in seen}.values())
    pool.sort(key=lambda one: one.key)
    if budget == 0 or not pool:
        return []
    order = rng.permutation(len(pool))
    if name.startswith("arm/random/"):
        return [pool[index] for index in sorted(order[:budget].tolist())]
    first = {pool[order[0]].key: "drawn at random, to start from"}
    choices = diversity.farthest(pool, known, budget, first)
    return [one for one, choice in zip(pool, choices, strict=True) if choice.selected]
