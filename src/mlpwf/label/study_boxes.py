"""Frames to study labels on: those that differ most; boxes packed and moved by GFN1-xTB as `build` makes them."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlpwf.calculators.base import StudiedFrame
from mlpwf.config import System
from mlpwf.errors import DataError
from mlpwf.md.sampler import Run, Sampler, relaxed_box, relaxed_molecule, sample
from mlpwf.structures.boxes import density, generator, pack_box
from mlpwf.structures.frames import by_size, minimum_distance, read_frames, write_frames
from mlpwf.structures.species import geometry

log = logging.getLogger(__name__)

TEMPERATURE_KELVIN = 300.0
_BOX, _RUN = 10, 11
"""Streams of chance beside those of a build."""


@dataclass(frozen=True)
class StudyFrame:
    """A frame of a study, and where it is from."""

    atoms: Atoms
    file: str
    index: int

    def described(self) -> StudiedFrame:
        """As the study's record lists it."""
        return StudiedFrame(
            file=self.file,
            index=self.index,
            formula=self.atoms.get_chemical_formula(),
            kind=str(self.atoms.info.get("kind", "")),
            density_g_cm3=round(density(self.atoms), 4),
            atoms=len(self.atoms),
            molecules=molecules_in(self.atoms),
        )


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


def multiples_of(system: System, seed: int, sizes: Iterable[int]) -> dict[int, int | None]:
    """By number of atoms, how many times the molecules of the system; None where it is no multiple."""
    return {atoms: multiple_of(system, seed, atoms) for atoms in sizes}


def molecules_in(atoms: Atoms) -> int | None:
    """Number of molecules of a frame; None where it does not say which atoms are a molecule."""
    return len(np.unique(atoms.arrays["molecule"])) if "molecule" in atoms.arrays else None


def chosen_by_size(frames: Sequence[StudyFrame], count: int) -> list[StudyFrame]:
    """Of each size of box the frames that differ most (`choose_frames`), from the smallest size up.

    Only frames of liquid (`info['kind']` is ``bulk``), where there are any.
    """
    chosen: list[StudyFrame] = []
    for size, members in by_size([one.atoms for one in frames]).items():
        indices = choose_frames([frames[member].atoms for member in members], count)
        chosen += [frames[members[index]] for index in indices]
        log.info("converge: boxes of %d atoms: %d of %d frames, chosen as different as can be",
                 size, len(indices), len(members))  # fmt: skip
    return chosen


def choose_frames(frames: Sequence[Atoms], count: int) -> list[int]:
    """Frames that differ most: of density, of closest distance, of kind, of composition.

    The first is the densest, the second the frame of the same composition that
    differs most from it, for energies to have something to be compared with. Each
    further one is that farthest from all chosen, while an element is missing among
    those that have it. The distance of two frames is the Euclidean one of mass
    density and closest distance between atoms, each from 0 to 1 over all frames, of
    the shares of the elements, and of the kind (1 where it differs).

    Parameters
    ----------
    frames
        Periodic structures; `info['kind']` may name their kind.
    count
        How many to choose; as many more as it takes for each element to occur.

    Returns
    -------
    list of int
        Indices, in the order of choice.

    Raises
    ------
    DataError
        If there is no frame, or one has no cell.
    """
    if not frames:
        raise DataError("no frames to choose from; expected at least one")
    if any(atoms.cell.rank < 3 for atoms in frames):
        raise DataError("a frame without a periodic cell cannot be labelled; give frames with a cell")
    elements = [set(atoms.symbols) for atoms in frames]
    formulas = np.array([atoms.get_chemical_formula() for atoms in frames])
    features = _features(frames)
    chosen = [int(np.argmax([atoms.get_masses().sum() / atoms.get_volume() for atoms in frames]))]
    while len(chosen) < len(frames):
        covered = set().union(*(elements[index] for index in chosen))
        missing = np.array([bool(mine - covered) for mine in elements])
        if len(chosen) >= count and not missing.any():
            break
        distance = np.linalg.norm(features[:, None] - features[chosen], axis=2).min(axis=1)
        pool = missing if missing.any() else np.ones(len(frames), bool)
        if len(chosen) == 1 and not missing.any() and np.sum(formulas == formulas[chosen[0]]) > 1:
            pool = formulas == formulas[chosen[0]]
        pool[chosen] = False
        chosen.append(int(np.argmax(np.where(pool, distance, -1.0))))
    return chosen


def _features(frames: Sequence[Atoms]) -> NDArray[np.float64]:
    """Coordinates of frames (frames, features), in which `choose_frames` takes distances."""
    density = np.array([atoms.get_masses().sum() / atoms.get_volume() for atoms in frames])
    closest = np.array([min(minimum_distance(atoms), 8.0) for atoms in frames])
    kinds = [str(atoms.info.get("kind", "")) for atoms in frames]
    symbols = sorted({symbol for atoms in frames for symbol in atoms.symbols})
    columns = [(values - values.min()) / (np.ptp(values) or 1.0) for values in (density, closest)]
    columns += [np.array([mine == kind for mine in kinds]) * np.sqrt(0.5) for kind in sorted(set(kinds))]
    columns += [np.array([np.mean(np.array(atoms.symbols) == symbol) for atoms in frames]) for symbol in symbols]
    return np.stack(columns, axis=1)
