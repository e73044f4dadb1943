"""Frames labelled for a study, through the store, several at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Protocol

from ase import Atoms

from mlpwf.config import Label, Site
from mlpwf.label.labeller import Labeller
from mlpwf.process import live_with
from mlpwf.structures.frames import element_order

Labelled = tuple[Atoms, float]
"""A frame with its label, and the CPU-s it cost."""


class Workers(Protocol):
    """A `map`, of one process or of several."""

    def __call__(self, function: Callable[[Atoms], Labelled], frames: Sequence[Atoms], /) -> Iterable[Labelled]:
        """What the function gives of each frame, in order."""
        ...


@contextmanager
def workers(jobs: int) -> Iterator[Workers]:
    """A `map` over so many processes, which die with this one."""
    if jobs == 1:
        yield map
        return
    with ProcessPoolExecutor(jobs, get_context("spawn"), live_with, (os.getpid(),)) as pool:
        yield pool.map


class StoreBench:
    """Labels frames through the store (`calculators.base.Bench`).

    Parameters
    ----------
    site
        Where the programs and the store are.
    folder
        Place for scratch folders.
    at_once
        Labels several frames at once.
    """

    def __init__(self, site: Site, folder: Path, at_once: Workers) -> None:
        self.site, self.folder, self.at_once = site, folder, at_once

    def missing(self, settings: Label, frames: Sequence[Atoms]) -> list[Atoms]:
        """The frames that the store has no outcome for with these settings."""
        labeller = Labeller(settings, self.site, self.folder, element_order(frames))
        return [atoms for atoms in frames if not labeller.knows(atoms)]

    def label(self, settings: Label, frames: Sequence[Atoms]) -> list[Labelled]:
        """Each frame with its label, and the CPU-s it cost; DataError if one is rejected."""
        return list(self.at_once(partial(_label, settings, self.site, self.folder), frames))


def _label(settings: Label, site: Site, folder: Path, atoms: Atoms) -> Labelled:
    labelled, outcome = Labeller(settings, site, folder, element_order([atoms])).labelled(atoms)
    return labelled, outcome.cpu_s
