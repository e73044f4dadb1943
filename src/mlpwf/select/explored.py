"""Explored frames and what is known of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ase import Atoms

from mlpwf.campaign.verdicts import CHANNELS
from mlpwf.select.selection import Choice

MISSING = dict.fromkeys(CHANNELS, math.nan)


@dataclass(frozen=True)
class Explored:
    """An explored frame and what is known of it."""

    atoms: Atoms
    key: str
    state: str
    walker: int
    step: int
    force_deviation: float
    virial_deviation: float
    fault: str = ""
    """What is wrong with the frame itself; empty: nothing."""
    deviations: Mapping[str, float] = field(default_factory=lambda: MISSING)
    """Largest deviation between and inside molecules in eV/Å."""
    errors: Mapping[str, float] = field(default_factory=lambda: MISSING)
    """Largest expected error of a molecule and of an atom in eV/Å."""
    closer: float = 0.0
    """By how much two molecules are closer than in any label, in Å; negative: they are not."""
    too_close: bool = False
    """Whether that is the fault: of this frame alone, since molecules that met part again."""
    verdict: str = ""
    choice: Choice | None = None

    @property
    def selected(self) -> bool:
        """Whether it is to be labelled."""
        return self.choice is not None and self.choice.selected


def by_walker(frames: Sequence[Explored]) -> list[list[int]]:
    """Places of the frames of each walker, in the order of time."""
    groups: dict[tuple[str, int], list[int]] = {}
    for index in sorted(range(len(frames)), key=lambda i: (frames[i].step, frames[i].key)):
        groups.setdefault((frames[index].state, frames[index].walker), []).append(index)
    return list(groups.values())
