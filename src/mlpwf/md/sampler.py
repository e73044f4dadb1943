"""Molecules, packed boxes and the frames a campaign starts from.

Frames come from a cheap xTB sampler. Chance enters through generators only:
`generator(seed, part, index)` gives every part of a build a stream of its own,
so that no part depends on how many frames another one asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from mlpwf.calculators import xtb
from mlpwf.errors import ConfigError, DataError, EngineError
from mlpwf.progress import Progress
from mlpwf.structures.boxes import (
    _DRAWS,
    SMALLEST_CELL_ANGSTROM,
    _joined,
    density,
    generator,
    isolated,
    label_molecules,
)
from mlpwf.structures.frames import minimum_distance, quantised
from mlpwf.structures.molecules import bonds, centres_of_mass, fragments, intact, molecules_in_cell

log = logging.getLogger(__name__)
Array = NDArray[np.float64]

EQUILIBRATION_INTERVALS = 2  # intervals between frames, sampled and thrown away before the first kept frame
RELAXATION_STEPS = 30  # a packed box only has to lose its clashes: dynamics follow
RELAXATION_FMAX_EV_ANGSTROM = 0.3
MOLECULE_STEPS = 300
MOLECULE_FMAX_EV_ANGSTROM = 0.02
DIMER_CONTACT_ANGSTROM = (1.8, 3.5)
_RESTARTS = 3


@dataclass(frozen=True)
class Sampler:
    """How frames are sampled: method `gfn1` or `gfn2`, times in fs, lengths in Å, strain as a fraction."""

    method: str = "gfn1"
    timestep_fs: float = 1.0
    steps_between_frames: int = 20
    rattle_angstrom: float = 0.03
    strain: float = 0.03
    vacuum_angstrom: float = 3.0
    minimum_distance_angstrom: float = 0.6


@dataclass(frozen=True)
class Run:
    """One run of the sampler: where it starts, how hot, how many frames are kept, and its random stream.

    `kind` is `single` (a molecule in vacuum) or `bulk`; of a bulk run every second frame is distorted.
    """

    name: str
    kind: str
    state: str
    start: Atoms
    temperature_kelvin: float
    frames: int
    stream: tuple[int, int, int]


def relaxed_molecule(name: str, species: int, atoms: Atoms, method: str) -> Atoms:
    """The reference frame of a species: checked, relaxed by xTB in vacuum, in a cell of its own.

    Parameters
    ----------
    name
        Name of the species, kept in `info['species']`.
    species
        Its index among the species of the system.
    atoms
        A geometry of one molecule; its cell, if any, is dropped.
    method
        `gfn1` or `gfn2`.

    Raises
    ------
    ConfigError
        If it is not one neutral closed-shell molecule of elements xTB knows.
    """
    bare = Atoms(atoms.numbers, atoms.positions)
    label_molecules([bare], [species])
    where = f"system.molecules.{name}"
    if len(bare) == 0 or not xtb.supports(bare.numbers):
        raise ConfigError(f"{where}: found '{bare.get_chemical_formula()}'; expected atoms of elements H to Rn")
    if bare.numbers.sum() % 2:
        raise ConfigError(f"{where}: {bare.numbers.sum()} electrons; expected an even number (a closed-shell molecule)")
    if (pieces := fragments(bare)) != 1:
        raise ConfigError(f"{where}: {pieces} fragments; expected one whole molecule (list each as a species)")
    relaxed = bare
    if len(bare) > 1:
        watch = Progress(f"build: {name}: relaxation", MOLECULE_STEPS + 1)
        relaxed = xtb.relax(bare, method, steps=MOLECULE_STEPS, fmax_ev_angstrom=MOLECULE_FMAX_EV_ANGSTROM, watch=watch)
        if not np.array_equal(bonds(relaxed), bonds(bare)):
            log.warning("build: %s changed its bonds when relaxed by %s: look at molecules.extxyz", name, method)
    if (open_shells := xtb.partly_filled(relaxed, method)) > 0:
        raise ConfigError(
            f"{where}: {open_shells} partly filled orbitals of '{bare.get_chemical_formula()}' by {method}; "
            "expected 0, a closed-shell molecule (O2 is none) with all of its hydrogens"
        )
    boxed = isolated(relaxed, SMALLEST_CELL_ANGSTROM / 2)
    boxed.info = {"species": name}
    return quantised(boxed)


def relaxed_box(box: Atoms, state: str, sampler: Sampler) -> Atoms:
    """A packed box relaxed by xTB until it is free of clashes; `info['state']` is `state`.

    Raises
    ------
    DataError
        If a molecule breaks, or two atoms stay closer than the sampler's minimum distance.
    """
    bonded = bonds(box)
    relaxed = box
    for _ in range(_RESTARTS):
        log.info("build: %s: relaxing %d atoms by %s", state, len(box), sampler.method)
        relaxed = xtb.relax(
            relaxed,
            sampler.method,
            steps=RELAXATION_STEPS,
            fmax_ev_angstrom=RELAXATION_FMAX_EV_ANGSTROM,
            watch=Progress(f"build: {state}: relaxation", RELAXATION_STEPS + 1),
        )
        if _sound(relaxed, bonded, sampler):
            return _finished(relaxed, "bulk", state)
    raise DataError(
        f"{state}: the relaxed box has atoms {minimum_distance(relaxed):.2f} Å apart or broken molecules; "
        "lower the density (build.density_scales) or put more molecules in the box"
    )


def _sound(atoms: Atoms, bonded: NDArray[np.int64], sampler: Sampler) -> bool:
    """Whether all molecules are intact and no two atoms too close."""
    if not np.all(np.isfinite(atoms.positions)):
        return False
    return intact(atoms, bonded) and minimum_distance(atoms) >= sampler.minimum_distance_angstrom


def _finished(atoms: Atoms, kind: str, state: str) -> Atoms:
    """The frame as it is written: whole molecules inside the cell, quantised, with its kind and state."""
    frame = quantised(molecules_in_cell(atoms))
    frame.pbc = True
    frame.info = {"kind": kind, "state": state}
    if kind == "bulk":
        frame.info["density_g_cm3"] = round(density(frame), 6)
    return frame


def distorted(atoms: Atoms, sampler: Sampler, rng: np.random.Generator) -> Atoms:
    """A copy under a random strain, its atoms displaced.

    The cell and the molecules' centres of mass follow a symmetric strain whose
    components are at most `sampler.strain`; molecules move rigidly with their
    centres. Then every coordinate is displaced by a Gaussian of width
    `sampler.rattle_angstrom`.
    """
    copy: Atoms = atoms.copy()
    drawn = rng.uniform(-sampler.strain, sampler.strain, size=(3, 3))
    strain = (drawn + drawn.T) / 2
    molecule = atoms.arrays["molecule"]
    centres = centres_of_mass(atoms.positions, atoms.get_masses(), molecule)
    copy.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=False)
    copy.positions += (centres @ strain)[molecule]
    copy.positions += rng.normal(0.0, sampler.rattle_angstrom, size=(len(atoms), 3))
    return copy


def _redrawn(draw: Callable[[], Atoms], bonded: NDArray[np.int64], sampler: Sampler, what: str) -> Atoms:
    """The first frame drawn that is sound."""
    for _ in range(_DRAWS):
        frame = draw()
        if _sound(frame, bonded, sampler):
            return frame
    raise DataError(
        f"{what}: none of {_DRAWS} distorted frames keeps atoms {sampler.minimum_distance_angstrom:g} Å apart and "
        "molecules intact; lower build.rattle_angstrom, build.strain or build.minimum_distance_angstrom"
    )


def sample(run: Run, sampler: Sampler) -> list[Atoms]:
    """Frames of one run of the sampler, `steps_between_frames` apart.

    The run starts from a minimum with velocities of twice the temperature, of
    which half turns into potential energy, and its first
    `EQUILIBRATION_INTERVALS` intervals are thrown away. Of a bulk run every
    second frame is replaced by a distorted copy. A run that breaks a molecule
    goes on from its last sound frame with new velocities.

    Raises
    ------
    DataError
        If the run breaks a molecule again and again.
    """
    rng = generator(*run.stream)
    bonded = bonds(run.start)
    kept: list[Atoms] = []
    thrown = restarts = 0
    steps = (EQUILIBRATION_INTERVALS + run.frames) * sampler.steps_between_frames
    progress = Progress(f"build: {run.name}: sampling, steps", steps)
    last = run.start.copy()
    last.pbc = run.kind == "bulk"
    while len(kept) < run.frames:
        reason = "a molecule broke or two atoms came too close"
        before = (thrown + len(kept)) * sampler.steps_between_frames
        try:
            for frame in _intervals(last, run, sampler, rng, partial(_shifted, progress, before)):
                if not _sound(frame, bonded, sampler):
                    break
                last = frame
                if thrown < EQUILIBRATION_INTERVALS:
                    thrown += 1
                    continue
                kept.append(_kept(frame, len(kept), run, sampler, bonded, rng))
                if len(kept) == run.frames:
                    return kept
        except EngineError as error:
            reason = str(error)
        restarts += 1
        if restarts > _RESTARTS:
            raise DataError(
                f"{run.name}: {_RESTARTS + 1} times {reason}, at {run.temperature_kelvin:g} K with steps of "
                f"{sampler.timestep_fs:g} fs; lower build.timestep_fs or build.temperatures_kelvin"
            )
        log.info("build: %s: %s; on from the last sound frame", run.name, reason)
    return kept


def _shifted(progress: Progress, before: int, step: int) -> None:
    progress(before + step)


def _intervals(
    start: Atoms, run: Run, sampler: Sampler, rng: np.random.Generator, watch: Callable[[int], None]
) -> Iterator[Atoms]:
    """Every `steps_between_frames`-th step of the dynamics, without end."""
    steps = xtb.langevin(
        start,
        sampler.method,
        rng,
        temperature_kelvin=run.temperature_kelvin,
        timestep_fs=sampler.timestep_fs,
        starting_kelvin=2 * run.temperature_kelvin,
    )
    for step, atoms in enumerate(steps, start=1):
        watch(step)
        if step % sampler.steps_between_frames == 0:
            yield atoms


def _kept(
    frame: Atoms, index: int, run: Run, sampler: Sampler, bonded: NDArray[np.int64], rng: np.random.Generator
) -> Atoms:
    """A sampled frame as it is kept: isolated in its cell, or bulk and, if its index is odd, distorted."""
    if run.kind == "single":
        return _finished(isolated(frame, sampler.vacuum_angstrom), run.kind, run.state)
    if index % 2 == 0:
        return _finished(frame, run.kind, run.state)
    return _redrawn(lambda: _finished(distorted(frame, sampler, rng), run.kind, run.state), bonded, sampler, run.name)


def dimer(pool: Sequence[Sequence[Atoms]], weights: Sequence[int], sampler: Sampler, rng: np.random.Generator) -> Atoms:
    """Two molecules in vacuum, turned at random, their closest atoms 1.8 to 3.5 Å apart, distorted.

    Parameters
    ----------
    pool
        Geometries of each species.
    weights
        Molecules of each species in the liquid: the odds of its being drawn.
    sampler
        Gives the vacuum, the displacements and the smallest distance allowed.
    rng
        Source of the species, geometries, rotations, contact and displacements.

    Raises
    ------
    DataError
        If no draw keeps the molecules intact and apart.
    """
    odds = np.asarray(weights, dtype=float) / np.sum(weights)
    pair = sorted(int(kind) for kind in rng.choice(len(pool), size=2, p=odds))
    parts = [pool[kind][int(rng.integers(len(pool[kind])))].copy() for kind in pair]
    label_molecules(parts, pair)
    bonded = bonds(_joined(parts))

    def draw() -> Atoms:
        joined = _joined(_in_contact(parts, rng))
        joined.positions += rng.normal(0.0, sampler.rattle_angstrom, size=(len(joined), 3))
        return _finished(isolated(joined, sampler.vacuum_angstrom), "dimer", "dimer")

    return _redrawn(draw, bonded, sampler, "dimer")


def _in_contact(parts: Sequence[Atoms], rng: np.random.Generator) -> list[Atoms]:
    """Copies of two molecules, turned at random, the second moved along x to a random contact distance."""
    first, second = (part.copy() for part in parts)
    for part in (first, second):
        matrix = Rotation.random(random_state=rng).as_matrix()
        part.positions = (part.positions - part.get_center_of_mass()) @ matrix.T
    contact = rng.uniform(*DIMER_CONTACT_ANGSTROM)
    away = np.ptp(first.positions, axis=0).max() + np.ptp(second.positions, axis=0).max() + contact
    along_x = np.array([1.0, 0.0, 0.0])
    for shift in np.arange(away, 0.0, -0.02):
        if cdist(first.positions, second.positions + shift * along_x).min() <= contact:
            second.positions += shift * along_x
            break
    return [first, second]
