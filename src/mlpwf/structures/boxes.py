"""Boxes of molecules: composition, density, packing."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from ase import Atoms

from mlpwf.errors import ConfigError, DataError
from mlpwf.progress import Progress
from mlpwf.structures import packing
from mlpwf.structures.molecules import molecules_in_cell
from mlpwf.units import AMU_PER_A3_PER_G_CM3

log = logging.getLogger(__name__)

SMALLEST_CELL_ANGSTROM = 6.0
LOWEST_TOLERANCE_ANGSTROM = 1.0
_DRAWS = 50


def generator(seed: int, part: int, index: int) -> np.random.Generator:
    """Random generator of item `index` of one part of a build, independent of all others."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(part, index)))


def even_shares(total: int, parts: int) -> list[int]:
    """Split `total` into `parts` whole numbers that differ by at most one, the larger ones first."""
    share, rest = divmod(total, parts)
    return [share + (part < rest) for part in range(parts)]


def scaled_counts(counts: Sequence[int], total: int) -> list[int]:
    """Molecules of each species in a box of `total` molecules with the composition of `counts`.

    Shares are rounded by largest remainder; every species keeps at least one molecule.

    Raises
    ------
    ConfigError
        If `total` is smaller than the number of species.
    """
    if total < len(counts):
        raise ConfigError(f"a box of {total} molecules; expected at least one of each of {len(counts)} species")
    exact = np.asarray(counts, dtype=float) * total / sum(counts)
    scaled = np.maximum(np.floor(exact).astype(int), 1)
    while scaled.sum() < total:
        scaled[np.argmax(exact - scaled)] += 1
    while scaled.sum() > total:
        scaled[np.argmin(np.where(scaled > 1, exact - scaled, np.inf))] -= 1
    return [int(count) for count in scaled]


def cell_length(molecules: Sequence[Atoms], counts: Sequence[int], density_g_cm3: float) -> float:
    """Edge in Å of the cube that holds `counts[k]` of each of `molecules[k]` at a density in g/cm³."""
    mass = sum(atoms.get_masses().sum() * count for atoms, count in zip(molecules, counts, strict=True))
    return float((mass / (density_g_cm3 * AMU_PER_A3_PER_G_CM3)) ** (1 / 3))


def density(atoms: Atoms) -> float:
    """Mass density in g/cm³."""
    return float(atoms.get_masses().sum() / atoms.get_volume() / AMU_PER_A3_PER_G_CM3)


def check_distinct(molecules: Sequence[Atoms]) -> None:
    """ConfigError where two species have the same sequence of elements, by which molecules in files are told apart."""
    known: dict[tuple[int, ...], str] = {}
    for atoms in molecules:
        name, sequence = atoms.info["species"], tuple(atoms.numbers.tolist())
        if sequence in known:
            raise ConfigError(
                f"system.molecules.{name}: the same sequence of elements as {known[sequence]} "
                f"({atoms.get_chemical_formula()}); expected another: give one of them by a structure file whose atoms "
                "come in another order"
            )
        known[sequence] = name


def label_molecules(parts: Sequence[Atoms], species: Sequence[int]) -> None:
    """Set the arrays `molecule` (0, 1, …) and `species` of consecutive molecules, in place."""
    for number, (atoms, kind) in enumerate(zip(parts, species, strict=True)):
        atoms.set_array("molecule", np.full(len(atoms), number, dtype=int))
        atoms.set_array("species", np.full(len(atoms), kind, dtype=int))


def isolated(atoms: Atoms, vacuum_angstrom: float) -> Atoms:
    """A copy in a periodic cell of its own, along its principal axes, with vacuum on every side.

    Parameters
    ----------
    atoms
        One molecule or a pair of molecules.
    vacuum_angstrom
        Distance in Å from the outermost atoms to each face of the cell; every edge
        is at least `SMALLEST_CELL_ANGSTROM` long.
    """
    copy: Atoms = atoms.copy()
    centred = atoms.positions - atoms.positions.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=True)[2]
    axes[2] *= np.linalg.det(axes)
    aligned = centred @ axes.T
    lengths = np.maximum(np.ptp(aligned, axis=0) + 2 * vacuum_angstrom, SMALLEST_CELL_ANGSTROM)
    copy.set_cell(np.diag(lengths))
    copy.positions = aligned - (aligned.max(axis=0) + aligned.min(axis=0)) / 2 + lengths / 2
    copy.pbc = True
    return copy


def closest_contact(atoms: Atoms, reach: float) -> float:
    """Smallest distance in Å between atoms of different molecules, periodic images of one molecule
    counted as different; inf if none is within `reach`. Molecules must be whole."""
    from ase.neighborlist import neighbor_list

    i, j, d, image = neighbor_list("ijdS", atoms, reach)
    molecule = atoms.arrays["molecule"]
    apart = (molecule[i] != molecule[j]) | np.any(image != 0, axis=1)
    return float(d[apart].min()) if apart.any() else float("inf")


def pack_box(
    molecules: Sequence[Atoms],
    counts: Sequence[int],
    density_g_cm3: float,
    rng: np.random.Generator,
    *,
    tolerance_angstrom: float = 2.0,
) -> Atoms:
    """A periodic cube of randomly placed rigid molecules, not relaxed.

    Where no packing is found, the tolerance is lowered in steps of 0.2 Å.

    Parameters
    ----------
    molecules
        Geometry of each species.
    counts
        Molecules of each species.
    density_g_cm3
        Mass density in g/cm³.
    rng
        Source of Packmol's seeds.
    tolerance_angstrom
        Distance kept between molecules, in Å.

    Returns
    -------
    Atoms
        Molecules whole, with arrays `molecule` and `species`; `info['kind']` is `bulk`.

    Raises
    ------
    DataError
        If there is no packing with `LOWEST_TOLERANCE_ANGSTROM` either.
    """
    length = cell_length(molecules, counts, density_g_cm3)
    species = [kind for kind, count in enumerate(counts) for _ in range(count)]
    parts = [Atoms(molecules[kind].numbers) for kind in species]
    label_molecules(parts, species)
    box = _joined(parts)
    box.set_cell([length] * 3)
    box.pbc = True
    box.info = {"kind": "bulk", "density_g_cm3": round(density(box), 6)}
    tolerance = tolerance_angstrom
    while tolerance >= LOWEST_TOLERANCE_ANGSTROM - 1e-9:
        if _packed(box, molecules, counts, tolerance, rng):
            return molecules_in_cell(box)
        log.info("build: no packing at %.1f Å in a box of %.2f Å; trying %.1f Å", tolerance, length, tolerance - 0.2)
        tolerance -= 0.2
    raise DataError(
        f"{len(species)} molecules in a box of {length:.2f} Å ({density_g_cm3:g} g/cm³): no packing with contacts of "
        f"{LOWEST_TOLERANCE_ANGSTROM:g} Å or more; lower the density or put more molecules in the box"
    )


def _joined(parts: Sequence[Atoms]) -> Atoms:
    """One frame of several molecules, arrays included."""
    joined = Atoms(np.concatenate([part.numbers for part in parts]), np.concatenate([part.positions for part in parts]))
    for name in ("molecule", "species"):
        joined.set_array(name, np.concatenate([part.arrays[name] for part in parts]))
    return joined


def _packed(
    box: Atoms, molecules: Sequence[Atoms], counts: Sequence[int], tolerance: float, rng: np.random.Generator
) -> bool:
    """Place the molecules of `box` in it; False if Packmol fails or a molecule keeps touching its own images."""
    for _ in range(_DRAWS):
        seed = int(rng.integers(1, 2**31 - 1))
        watch = Progress(f"build: packing {sum(counts)} molecules at {tolerance:.1f} Å", packing.LOOPS)
        positions = packing.pack(
            molecules, counts, box.cell.lengths(), tolerance_angstrom=tolerance, seed=seed, watch=watch
        )
        if positions is None:
            return False
        box.positions = positions
        if closest_contact(box, tolerance) >= 0.95 * tolerance:
            return True
        if len(set(box.arrays["molecule"])) > 64:
            return False
    return False
