"""What moves a box in LAMMPS: a committee of DeePMD models, or a classical force field."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms

from mlpwf.structures.lammps_data import write_data

KCAL_MOL_EV = 0.0433641153
ATM_BAR = 1.01325


@dataclass(frozen=True)
class Units:
    """A unit system of LAMMPS: its name, and what 1 ps, 1 eV and 1 bar are in it."""

    name: str
    ps: float
    ev: float
    bar: float


METAL = Units("metal", 1.0, 1.0, 1.0)
REAL = Units("real", 1e3, 1 / KCAL_MOL_EV, 1 / ATM_BAR)


@dataclass(frozen=True)
class Potential:
    """Units, atom style, neighbour lists, how a box is written, and the commands that follow it."""

    units: Units
    atom_style: str
    skin_angstrom: float
    rebuild_fs: float
    """Longest time between neighbour list builds: no atom may cross half the skin in it."""
    write_box: Callable[[Path, Atoms], None]
    commands: Callable[[str], list[str]]
    """Commands that follow the box, given the options of a file of model deviations."""


def deepmd_potential(models: list[str], elements: list[str]) -> Potential:
    """DeePMD models; the first moves the atoms."""

    def commands(deviation: str) -> list[str]:
        links = " ".join(link(f"model{k}{Path(model).suffix}", model) for k, model in enumerate(models))
        return [f"pair_style deepmd {links} {deviation}", f"pair_coeff * * {' '.join(elements)}"]

    def write_box(target: Path, atoms: Atoms) -> None:
        write_data(target, atoms, elements)

    return Potential(METAL, "atomic", 1.0, 2.5, write_box, commands)


def classical_potential(files: list[str], references: list[Atoms]) -> Potential:
    """The force field of two files, commands and molecules."""
    from mlpwf.potentials.force_field import read_force_field, templates, write_full_data
    from mlpwf.structures.molecules import species_numbers

    force_field = read_force_field(*files)
    molecules = templates(force_field, references, files[1])

    def write_box(target: Path, atoms: Atoms) -> None:
        write_full_data(target, atoms, force_field, molecules, species_numbers(atoms, references))

    units = REAL if force_field.units == "real" else METAL
    return Potential(units, "full", 2.0, 10.0, write_box, lambda _: list(force_field.commands))


def link(name: str, file: str) -> str:
    """`name`, now a link to `file` in the working folder: LAMMPS reads `$` and quotes of a path as its own."""
    Path(name).unlink(missing_ok=True)
    Path(name).symlink_to(file)
    return name
