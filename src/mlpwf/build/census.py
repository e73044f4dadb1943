"""Frames counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ase import Atoms

from mlpwf.campaign.records import Census
from mlpwf.structures.frames import minimum_distance


def census(frames: Sequence[Atoms]) -> Census:
    """How many frames there are of each kind and state, and their closest atoms in Å, by kind.

    A kind whose frames hold one atom each has no closest atoms.
    """
    closest: dict[str, float] = {}
    for atoms in frames:
        kind = atoms.info["kind"]
        closest[kind] = min(closest.get(kind, float("inf")), minimum_distance(atoms))
    return Census(
        frames=len(frames),
        kinds=dict(Counter(atoms.info["kind"] for atoms in frames)),
        states=dict(Counter(atoms.info["state"] for atoms in frames)),
        minimum_distance_angstrom={kind: round(d, 4) for kind, d in closest.items() if d < float("inf")},
    )
