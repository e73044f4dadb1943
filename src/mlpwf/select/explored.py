"""Explored frames and what is known of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ase import Atoms

from mlpwf.campaign.verdicts import CHANNELS
from mlpwf.errors import DataError
from mlpwf.select.selection import Choice
from mlpwf.structures.frames import geometry_key, read_frames

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


def read_explored(sources: Sequence[Path]) -> list[Explored]:
    """All frames of the explored states, in the order of their keys, which do not depend on files or their order.

    Parameters
    ----------
    sources
        Frames explored at one state each. Deviations that are missing or unreadable are NaN.

    Raises
    ------
    DataError
        If a frame lacks its state, walker or step, or is given twice.
    """
    found = [
        _explored(atoms, f"{source}: frame {n}") for source in sources for n, atoms in enumerate(read_frames(source))
    ]
    keys = Counter(frame.key for frame in found)
    twice = next((frame for frame in found if keys[frame.key] > 1), None)
    if twice is not None:
        place = f"state {twice.state}, walker {twice.walker}, step {twice.step}"
        raise DataError(f"{place} is given twice; expected each file once")
    return sorted(found, key=lambda frame: frame.key)


def _explored(atoms: Atoms, place: str) -> Explored:
    info = atoms.info
    try:
        state, walker, step = str(info["state"]), int(info["walker"]), int(info["step"])
    except (KeyError, ValueError) as error:
        raise DataError(f"{place} lacks {error}; expected state, walker and step") from None
    key = f"{geometry_key(atoms)} {state} {walker:06d} {step:012d}"
    return Explored(atoms, key, state, walker, step, _number(info.get("max_devi_f")), _number(info.get("max_devi_v")))


def _number(value: object) -> float:
    """A deviation as a number; NaN if it is missing or unreadable."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.nan
