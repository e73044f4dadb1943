"""Boxes to study labels on, of several sizes: packed, relaxed and moved by GFN1-xTB as `build` makes them."""

from __future__ import annotations

import hashlib
import logging
from importlib.metadata import version
from pathlib import Path

import numpy as np
from ase import Atoms

from mlpwf.config import System
from mlpwf.md.sampler import Run, Sampler, relaxed_box, relaxed_molecule, sample
from mlpwf.structures.boxes import generator, pack_box
from mlpwf.structures.frames import read_frames, write_frames
from mlpwf.structures.species import geometry

log = logging.getLogger(__name__)

TEMPERATURE_KELVIN = 300.0
_BOX, _RUN = 10, 11
"""Streams of chance beside those of a build."""


def boxes(system: System, seed: int, multiples: list[int], count: int, folder: Path) -> list[Atoms]:
    """Frames of boxes of some multiples of the system's molecules, at its density.

    Parameters
    ----------
    system
        Molecules and density.
    seed
        Of all chance.
    multiples
        Sizes, as `build.box_multiples`.
    count
        Frames of each size, of which every second is distorted.
    folder
        Where finished sizes are kept: a stopped study takes them from there.

    Returns
    -------
    list of Atoms
        `info['kind']` is ``bulk``.
    """
    frames: list[Atoms] = []
    for multiple in sorted(set(multiples)):
        recipe = [system.model_dump_json(), seed, multiple, count, Sampler(), version("tblite"), version("packmol")]
        kept = folder / f"{multiple}-{hashlib.sha256(repr(recipe).encode()).hexdigest()[:16]}.extxyz"
        if not kept.exists():
            log.info("converge: boxes of %d times the molecules: packed and moved by GFN1-xTB", multiple)
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_frames(kept, _box(system, seed, multiple, count))
        frames += read_frames(kept)
    return frames


def _box(system: System, seed: int, multiple: int, count: int) -> list[Atoms]:
    sampler, state = Sampler(), f"bulk_{multiple}fold"
    molecules = [
        relaxed_molecule(name, species, geometry(name, one, seed), sampler.method)
        for species, (name, one) in enumerate(system.molecules.items())
    ]
    counts = [one.count * multiple for one in system.molecules.values()]
    packed = pack_box(molecules, counts, system.density_g_cm3, generator(seed, _BOX, multiple))
    start = relaxed_box(packed, state, sampler)
    return sample(Run(state, "bulk", state, start, TEMPERATURE_KELVIN, count, (seed, _RUN, multiple)), sampler)


def multiple_of(system: System, seed: int, atoms: int) -> int | None:
    """The multiple of the system's molecules that has so many atoms; None where there is none."""
    unit = sum(one.count * len(geometry(name, one, seed)) for name, one in system.molecules.items())
    return atoms // unit if atoms % unit == 0 else None


def molecules_in(atoms: Atoms) -> int | None:
    """Number of molecules of a frame; None where it does not say which atoms are a molecule."""
    return len(np.unique(atoms.arrays["molecule"])) if "molecule" in atoms.arrays else None
