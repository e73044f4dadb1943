"""Any trajectory MDAnalysis can read, as molecules: which atoms make one, its masses, its axes, its times."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlpwf.dynamics.reading import Bodies, Snapshot, assemble
from mlpwf.dynamics.trajectory import Array, Index, MolecularTrajectory
from mlpwf.errors import DataError

if TYPE_CHECKING:
    from MDAnalysis import AtomGroup, Universe

log = logging.getLogger(__name__)

WAYS = "residue, molecule, bonds, atoms, or 'every N'"
LAMMPS_STYLES = {
    "atomic": "id type x y z",
    "charge": "id type charge x y z",
    "bond": "id resid type x y z",
    "angle": "id resid type x y z",
    "molecular": "id resid type x y z",
    "full": "id resid type charge x y z",
}
EQUAL = "equal"


def open_universe(topology: Path, trajectories: Sequence[Path]) -> Universe:
    """A universe of a topology and one or more trajectories, in the order given; nothing is guessed.

    Of a LAMMPS data file the atom style is taken from its `Atoms # style` line.

    Raises
    ------
    DataError
        For a missing, empty or unreadable file, or atoms that differ in number.
    """
    import MDAnalysis

    for path in (topology, *trajectories):
        if not path.is_file():
            raise DataError(f"{path}: no such file")
        if path.stat().st_size == 0:
            raise DataError(f"{path}: empty; expected a topology or trajectory")
    more: dict[str, Any] = {}
    style = _lammps_style(topology)
    if style is not None:
        more["atom_style"] = style
    if topology.suffix == ".lmp":
        more["topology_format"] = "DATA"
    formats = {".lammpstrj": "LAMMPSDUMP", ".dump": "LAMMPSDUMP", ".lammpsdump": "LAMMPSDUMP"}
    found = {formats[path.suffix] for path in trajectories if path.suffix in formats}
    if found and len({path.suffix for path in trajectories}) == 1:
        more["format"] = found.pop()
    warnings.filterwarnings("ignore", category=DeprecationWarning, module="MDAnalysis")
    try:
        return MDAnalysis.Universe(str(topology), *([[str(path) for path in trajectories]]), to_guess=(), **more)
    except Exception as error:  # each reader raises what it likes
        names = ", ".join(path.name for path in trajectories)
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{names} with topology {topology.name}: MDAnalysis cannot read them together ({reason}); "
            "expected files of the same atoms, in formats it knows by their extension"
        ) from None


def bodies_of(
    atoms: AtomGroup,
    molecules: str,
    axes: Sequence[tuple[str, str]] = (),
    masses: Mapping[str, float] | str | None = None,
) -> Bodies:
    """How a group of atoms makes molecules.

    Parameters
    ----------
    atoms
        Atoms to keep, in the order of their universe.
    molecules
        `residue`, `molecule` (the molecule number of the format, or the residue where a LAMMPS file
        gives it as that), `bonds` (what is bonded together), `atoms` (each its own), or `every N` atoms.
    axes
        Pairs of atom names, or of numbers of atoms in the molecule counted from 1: an axis points from
        the first to the second. Every molecule must have them.
    masses
        By atom type or name, in amu; `equal` to weigh all atoms alike; unset: those of the topology,
        or else of its elements.

    Raises
    ------
    DataError
        For molecules that cannot be told apart, missing masses, or an axis that some molecule has not.
    """
    if len(atoms) == 0:
        raise DataError("no atoms are selected; expected a selection that matches some")
    number = _molecule_numbers(atoms, molecules)
    weight = _masses(atoms, masses)
    order = np.argsort(number, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(number[order])) + 1)
    species = _species(atoms, members)
    ends = np.array(
        [[_ends(atoms, group, pair, k) for k, group in enumerate(members)] for pair in axes], dtype=np.int64
    )
    return Bodies(
        molecule=number,
        masses=weight,
        species=species,
        axes=ends.reshape(len(axes), len(members), 2),
        parents=_parents(atoms) if molecules == "bonds" else None,
    )


def read_molecules(
    universe: Universe,
    molecules: str,
    *,
    select: str = "all",
    axes: Sequence[tuple[str, str]] = (),
    masses: Mapping[str, float] | str | None = None,
    timestep_ps: float | None = None,
    interval_ps: float | None = None,
    start: int = 0,
    constant_box: bool = True,
    memory_mb: float = 1000,
    scratch: Path | None = None,
) -> MolecularTrajectory:
    """Molecules of a universe in time; `molecules`, `axes` and `masses` as for `bodies_of`.

    Parameters
    ----------
    select
        What to keep, in MDAnalysis' selection language.
    timestep_ps
        Time step of the run, where the format holds step numbers and not times (LAMMPS dumps).
    interval_ps
        Time between frames, where the format holds neither, or holds it in a unit of its own (DCD).
    start
        First frame to take.
    constant_box
        Whether the box is expected to stay as it is (NVE, NVT) or to vary (NPT).
    memory_mb, scratch
        As for `reading.assemble`.

    Raises
    ------
    DataError
        As `reading.assemble` and `bodies_of`; and where times are missing, or atoms change their order.
    """
    try:
        atoms = universe.select_atoms(select)
    except Exception as error:
        raise DataError(
            f"selection {select!r}: {' '.join(str(error).split())}; expected MDAnalysis' selection language"
        ) from None
    bodies = bodies_of(atoms, molecules, axes, masses)
    name = Path(str(universe.trajectory.filename)).name if universe.trajectory.filename else "trajectory"
    kept = None if len(atoms) == len(universe.atoms) else atoms.indices
    shots = snapshots(universe, name, kept, timestep_ps, interval_ps, start)
    return assemble(shots, bodies, constant_box=constant_box, memory_mb=memory_mb, scratch=scratch, name=name)


def snapshots(
    universe: Universe,
    name: str,
    atoms: Index | None = None,
    timestep_ps: float | None = None,
    interval_ps: float | None = None,
    start: int = 0,
) -> Iterator[Snapshot]:
    """Frames of a universe, one held at a time, with progress logged every tenth of the way."""
    frames = len(universe.trajectory)
    if start >= frames:
        raise DataError(f"{name}: frame {start} is asked for; there are {frames}")
    steps_only = _holds_steps_only(universe)
    if steps_only and timestep_ps is None and interval_ps is None:
        raise DataError(f"{name}: holds step numbers and no times; give the time step of the run")
    tenth = max((frames - start) // 10, 1)
    for number in range(start, frames):
        try:
            step = universe.trajectory[number]
        except (OSError, ValueError, EOFError, StopIteration, IndexError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DataError(
                f"{name}: frame {number} of {frames} cannot be read ({reason}); the file is cut short or damaged"
            ) from None
        if interval_ps is not None:
            time = number * interval_ps
        elif timestep_ps is not None:
            if "step" not in step.data:
                raise DataError(f"{name}: holds no step numbers; give the time between frames, not the time step")
            time = float(step.data["step"]) * timestep_ps
        else:
            time = float(step.time)
        cell = np.zeros((3, 3)) if step.dimensions is None else np.asarray(step.triclinic_dimensions, dtype=np.float64)
        positions = step.positions if atoms is None else step.positions[atoms]
        yield Snapshot(time, positions, cell)
        if (number - start) % tenth == 0 and number > start:
            log.info("%s: read %d of %d frames", name, number, frames)


def _lammps_style(topology: Path) -> str | None:
    """The columns of a LAMMPS data file's atoms by its own comment; None for another format or comment."""
    if topology.suffix.lower() not in (".data", ".lmp"):
        return None
    with topology.open(errors="replace") as lines:
        for line in lines:
            found = re.match(r"\s*Atoms\s*(?:#\s*(\S+))?", line)
            if found:
                return LAMMPS_STYLES.get(found.group(1) or "")
    return None


def _holds_steps_only(universe: Universe) -> bool:
    """LAMMPS dumps: MDAnalysis makes the frame number a time of 1 ps each."""
    reader = universe.trajectory
    readers = getattr(reader, "readers", [reader])
    return any(getattr(one, "format", "") == "LAMMPSDUMP" for one in readers)


def _molecule_numbers(atoms: AtomGroup, way: str) -> Index:
    """Molecule of each atom, from 0 without gaps, in the order of their first atoms."""
    every = re.fullmatch(r"every\s+(\d+)", way)
    if way == "atoms":
        raw = np.arange(len(atoms))
    elif every:
        size = int(every.group(1))
        if size == 0 or len(atoms) % size:
            raise DataError(
                f"{len(atoms)} atoms are no multiple of {way.split()[-1]}; expected whole molecules of that size"
            )
        raw = np.arange(len(atoms)) // size
    elif way == "residue":
        raw = atoms.resindices
    elif way == "molecule":
        raw = atoms.molnums if hasattr(atoms, "molnums") else atoms.resindices
    elif way == "bonds":
        if not hasattr(atoms, "bonds") or len(atoms.universe.bonds) == 0:
            raise DataError(
                "the topology has no bonds; give a topology with bonds, or molecules by residue or 'every N'"
            )
        raw = atoms.fragindices
    else:
        raise DataError(f"molecules by {way!r}; expected {WAYS}")
    values, first, inverse = np.unique(raw, return_index=True, return_inverse=True)
    rank = np.empty(len(values), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(values))
    if len(values) == 1 and len(atoms) > 1 and way in ("residue", "molecule"):
        raise DataError(
            f"all {len(atoms)} atoms are in one {way}; the topology does not tell molecules apart: "
            "give them by bonds or 'every N'"
        )
    return np.asarray(rank[inverse], dtype=np.int64)


def _masses(atoms: AtomGroup, given: Mapping[str, float] | str | None) -> Array:
    if given == EQUAL:
        return np.ones(len(atoms))
    if isinstance(given, str):
        raise DataError(f"masses {given!r}; expected 'equal', or masses by atom type or name")
    if given is not None:
        labels = [getattr(atoms, kind) for kind in ("types", "names") if hasattr(atoms, kind)]
        found = np.full(len(atoms), np.nan)
        for column in labels:
            for label, mass in given.items():
                found[np.asarray(column).astype(str) == label] = mass
        if np.isnan(found).any():
            missing = sorted({str(column[int(np.flatnonzero(np.isnan(found))[0])]) for column in labels})
            raise DataError(f"no mass is given for atoms of type or name {' / '.join(missing)}; give one for each type")
        weight = found
    elif hasattr(atoms, "masses"):
        weight = np.asarray(atoms.masses, dtype=np.float64)
    elif hasattr(atoms, "elements") and all(str(symbol) for symbol in atoms.elements):
        weight = _element_masses([str(symbol) for symbol in atoms.elements])
        log.info("masses are those of the elements")
    else:
        raise DataError(
            "the topology holds neither masses nor elements; give masses by type or name (1=12.011,2=1.008), or 'equal'"
        )
    if not np.all(np.isfinite(weight)) or np.any(weight < 0):
        raise DataError("masses hold NaN or negative numbers; expected masses in amu")
    return weight


def _element_masses(symbols: Sequence[str]) -> Array:
    from ase.data import atomic_masses, atomic_numbers

    unknown = sorted({symbol for symbol in symbols if symbol.capitalize() not in atomic_numbers})
    if unknown:
        raise DataError(f"element {unknown[0]!r} is not known; give masses by type or name")
    return np.array([atomic_masses[atomic_numbers[symbol.capitalize()]] for symbol in symbols])


def _labels(atoms: AtomGroup) -> list[str]:
    for kind in ("names", "elements", "types"):
        if hasattr(atoms, kind):
            return [str(label) for label in getattr(atoms, kind)]
    return ["X"] * len(atoms)


def _species(atoms: AtomGroup, members: Sequence[Index]) -> tuple[str, ...]:
    """A name for each molecule: residue name, else atoms in order; numbered where one name has two make-ups."""
    labels = _labels(atoms)
    makeup = [tuple(labels[atom] for atom in group) for group in members]
    resnames = [str(name) for name in atoms.resnames] if hasattr(atoms, "resnames") else None
    kinds = list(dict.fromkeys(makeup))
    names = []
    for number, kind in enumerate(kinds):
        first = members[makeup.index(kind)][0]
        own = resnames[first] if resnames and resnames[first] else ""
        names.append(own or (kind[0] if len(set(kind)) == 1 else f"kind{number + 1}"))
    full = [f"{name}.{number + 1}" if names.count(name) > 1 else name for number, name in enumerate(names)]
    by_kind = dict(zip(kinds, full, strict=True))
    return tuple(by_kind[kind] for kind in makeup)


def _ends(atoms: AtomGroup, group: Index, pair: tuple[str, str], molecule: int) -> tuple[int, int]:
    """The two atoms of an axis in one molecule."""
    labels = _labels(atoms)
    found = []
    for end in pair:
        if end.isdigit():
            match = [int(end) - 1] if 1 <= int(end) <= len(group) else []
        else:
            match = [k for k, atom in enumerate(group) if labels[atom] == end]
        if len(match) != 1:
            raise DataError(
                f"axis {pair[0]}–{pair[1]}: molecule {molecule + 1} has {len(match)} atoms {end!r}; expected exactly "
                f"one (its atoms: {' '.join(labels[atom] for atom in group[:12])})"
            )
        found.append(int(group[match[0]]))
    if found[0] == found[1]:
        raise DataError(f"axis {pair[0]}–{pair[1]} names one atom twice; expected two")
    return found[0], found[1]


def _parents(atoms: AtomGroup) -> Index:
    """For each atom, a bonded atom nearer to the first of its molecule, found along the bonds."""
    place = {int(index): k for k, index in enumerate(atoms.indices)}
    near: list[list[int]] = [[] for _ in range(len(atoms))]
    for one, two in atoms.universe.bonds.indices:
        if int(one) in place and int(two) in place:
            near[place[int(one)]].append(place[int(two)])
            near[place[int(two)]].append(place[int(one)])
    parents = np.full(len(atoms), -1, dtype=np.int64)
    for seed in range(len(atoms)):
        if parents[seed] >= 0:
            continue
        parents[seed] = seed
        front = [seed]
        while front:
            fresh = []
            for atom in front:
                for other in near[atom]:
                    if parents[other] < 0:
                        parents[other] = atom
                        fresh.append(other)
            front = fresh
    return parents
