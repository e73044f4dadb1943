"""A classical force field from LAMMPS files, read as data: styles, coefficients, and one molecule of each species.

LAMMPS' own language starts programs and opens files. Nothing of it reaches LAMMPS here but the
commands of `COMMANDS`, word by word, each word of plain signs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlpwf.errors import ConfigError
from mlpwf.files import write_text

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

KINDS = ("bond", "angle", "dihedral", "improper")
ATOMS_OF = {"Bonds": 2, "Angles": 3, "Dihedrals": 4, "Impropers": 4}
COEFFICIENTS = {f"{kind.capitalize()} Coeffs": f"{kind}_coeff" for kind in ("pair", *KINDS)}
STYLES = ("pair_style", *(f"{kind}_style" for kind in KINDS))
COMMANDS = frozenset((
    "units", "atom_style", *STYLES, "pair_modify", "special_bonds", "kspace_style", "kspace_modify",
    *COEFFICIENTS.values(),
))  # fmt: skip
UNITS = ("real", "metal")
WORD = re.compile(r"[A-Za-z0-9*+-][A-Za-z0-9_.*/:+-]*")
FOREIGN = re.compile(r"python|kim|mliap|deepmd|quip|lepton|body|smd|reax")
"""Pair styles that start interpreters, load libraries, or are no sum over molecules' atoms."""
MASS_TOLERANCE = 0.05
CHARGE_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Template:
    """One molecule: LAMMPS types from 1 and charges (e) of its atoms; rows of type and atoms (from 0) by section."""

    types: Rows
    charges: Array
    topology: dict[str, Rows]


@dataclass(frozen=True)
class ForceField:
    """What LAMMPS is told: units, commands that follow the box, types by section, and the molecules."""

    units: str
    commands: tuple[str, ...]
    types: dict[str, int]
    masses: Array
    molecules: Template
    """All species in one, in the order of the file."""


# ---------------------------------------------------------------- reading


def read_force_field(commands: Path | str, molecules: Path | str) -> ForceField:
    """Read the two files of `simulate.force_field`.

    Parameters
    ----------
    commands
        LAMMPS commands of `COMMANDS`; `#` begins a comment.
    molecules
        LAMMPS data file, atom style full, of one molecule of each species. Sections of
        coefficients count as commands before those of `commands`.

    Raises
    ------
    ConfigError
        With file, line, what was found and what is expected.
    """
    lines = list(_commands(Path(commands)))
    first = [words[0] for words in lines]
    for name in ("units", "pair_style"):
        if first.count(name) != 1:
            raise ConfigError(f"{commands}: {first.count(name)} commands {name}; expected one")
    units, style = (next(words for words in lines if words[0] == name) for name in ("units", "pair_style"))
    if units[1:] not in ([name] for name in UNITS):
        raise ConfigError(f"{commands}: units {' '.join(units[1:])}; expected {' or '.join(UNITS)}")
    if FOREIGN.search(" ".join(style)):
        raise ConfigError(
            f"{commands}: {' '.join(style)}; expected a pair style of LAMMPS' own, such as lj/cut/coul/long"
        )
    for words in lines:
        if words[0] == "atom_style" and words[1:] != ["full"]:
            raise ConfigError(f"{commands}: {' '.join(words)}; expected atom_style full")
    data = _Data(Path(molecules))
    for section, name in zip(ATOMS_OF, KINDS, strict=True):
        if len(data.molecules.topology[section]) and f"{name}_style" not in first:
            raise ConfigError(f"{commands}: no {name}_style; expected one, since {molecules} has {section}")
    said = [" ".join(words) for words in lines if words[0] not in ("units", "atom_style")]
    settings = [line for line in said if line.split()[0] not in COEFFICIENTS.values()]
    coefficients = [line for line in said if line.split()[0] in COEFFICIENTS.values()]
    return ForceField(units[1], (*settings, *data.coefficients, *coefficients), data.types, data.masses, data.molecules)


def _commands(path: Path) -> Iterator[list[str]]:
    """The commands of a file as words; ConfigError for any that is not data."""
    for number, line in _lines(path):
        words = line.split()
        if words[0] not in COMMANDS:
            raise ConfigError(f"{path}:{number}: '{words[0]}'; expected only {', '.join(sorted(COMMANDS))}")
        if len(words) < 2:
            raise ConfigError(f"{path}:{number}: '{words[0]}' alone; expected its arguments on the same line")
        _plain(words, f"{path}:{number}")
        yield words


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines that are more than a comment, numbered from 1."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); expected a text file") from None
    for number, line in enumerate(text.splitlines(), 1):
        if content := line.split("#")[0].strip():
            yield number, content


def _plain(words: Sequence[str], where: str) -> None:
    for word in words:
        if not WORD.fullmatch(word) or ".." in word:
            raise ConfigError(f"{where}: {word!r}; expected words of letters, digits and _ . * / : + - alone")


class _Data:
    """A LAMMPS data file of a few molecules."""

    SECTIONS = ("Masses", *COEFFICIENTS, "Atoms", *ATOMS_OF, "Velocities")
    HEADER = re.compile(r"(\d+) (atoms|(bond|angle|dihedral|improper)s|(atom|bond|angle|dihedral|improper) types)")
    BOX = re.compile(r".*(xlo xhi|ylo yhi|zlo zhi|xy xz yz)")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.counts: dict[str, int] = {}
        self.rows: dict[str, list[list[str]]] = {name: [] for name in self.SECTIONS}
        self._read()
        self.types = {name: self.counts.get(f"{name} types", 0) for name in ("atom", *KINDS)}
        self.masses = self._masses()
        self.coefficients = tuple(self._coefficients())
        self.molecules = self._molecules()

    def _read(self) -> None:
        section = None
        for number, line in _lines(self.path):
            if number == 1:  # the title
                continue
            name = " ".join(line.split())
            if name in self.SECTIONS:
                section = name
            elif section is not None and not name[0].isalpha():
                words = line.split()
                _plain(words, f"{self.path}:{number}")
                self.rows[section].append(words)
            elif section is None and (found := self.HEADER.fullmatch(name)):
                self.counts[found[2]] = int(found[1])
            elif section is not None or not self.BOX.fullmatch(name):
                expected = f"a number and {', '.join(self.SECTIONS)}" if section is None else ", ".join(self.SECTIONS)
                raise ConfigError(f"{self.path}:{number}: {name!r}; expected one of {expected}")
        for name in ("atoms", *(section.lower() for section in ATOMS_OF)):
            found_rows, said = len(self.rows[name.capitalize()]), self.counts.get(name, 0)
            if found_rows != said:
                raise ConfigError(f"{self.path}: {found_rows} lines of {name.capitalize()}; the header says {said}")
        if not self.rows["Atoms"]:
            raise ConfigError(f"{self.path}: no Atoms; expected one molecule of each species")

    def _numbers(self, section: str, words: list[str], count: int) -> list[int]:
        try:
            return [int(word) for word in words[:count]]
        except ValueError:
            raise ConfigError(f"{self.path}: {section}: '{' '.join(words)}'; expected whole numbers") from None

    def _masses(self) -> Array:
        kinds = self.types["atom"]
        masses = np.full(kinds, np.nan)
        for words in self.rows["Masses"]:
            (kind,) = self._numbers("Masses", words, 1)
            if not 1 <= kind <= kinds or len(words) != 2:
                raise ConfigError(f"{self.path}: Masses: '{' '.join(words)}'; expected a type of 1 to {kinds}, and amu")
            masses[kind - 1] = float(words[1])
        if kinds == 0 or np.isnan(masses).any():
            raise ConfigError(
                f"{self.path}: Masses of {int(np.isfinite(masses).sum())} atom types; expected all {kinds}"
            )
        return masses

    def _coefficients(self) -> Iterator[str]:
        for section, command in COEFFICIENTS.items():
            for words in self.rows[section]:
                kind = f"{words[0]} {words[0]}" if command == "pair_coeff" else words[0]
                yield " ".join([command, kind, *words[1:]])

    def _molecules(self) -> Template:
        """Types, charges and topology in the order of the atoms' numbers."""
        atoms: dict[int, tuple[int, float]] = {}
        for words in self.rows["Atoms"]:
            try:
                number, _, kind = (int(word) for word in words[:3])
                atoms[number] = (kind, float(words[3]))
            except (ValueError, IndexError):
                line = " ".join(words)
                raise ConfigError(
                    f"{self.path}: Atoms: '{line}'; expected number, molecule, type, charge, x y z"
                ) from None
        self._within("Atoms", [kind for kind, _ in atoms.values()], self.types["atom"], "type")
        order = {number: k for k, number in enumerate(sorted(atoms))}
        topology = {}
        for (section, size), name in zip(ATOMS_OF.items(), KINDS, strict=True):
            rows = [self._numbers(section, words, 2 + size)[1:] for words in self.rows[section]]
            self._within(section, [row[0] for row in rows], self.types[name], "type")
            unknown = [atom for row in rows for atom in row[1:] if atom not in order]
            if unknown or any(len(row) != 1 + size for row in rows):
                found = f"atom {unknown[0]}" if unknown else "a short line"
                raise ConfigError(
                    f"{self.path}: {section}: {found}; expected number, type and {size} atoms of the file"
                )
            table = [[row[0], *(order[atom] for atom in row[1:])] for row in rows]
            topology[section] = np.array(table, dtype=np.int64).reshape(-1, 1 + size)
        kinds, charges = zip(*(atoms[number] for number in order), strict=True)
        return Template(np.array(kinds, dtype=np.int64), np.array(charges), topology)

    def _within(self, section: str, numbers: list[int], most: int, what: str) -> None:
        outside = [number for number in numbers if not 1 <= number <= most]
        if outside:
            raise ConfigError(f"{self.path}: {section}: {what} {outside[0]}; expected 1 to {most}, as the header says")


# ---------------------------------------------------------------- molecules of a box


def templates(force_field: ForceField, references: Sequence[Atoms], source: Path | str) -> list[Template]:
    """The molecule of each species, in the order of the references.

    Parameters
    ----------
    force_field
        As read.
    references
        Reference geometry of each species; its atoms, masses and bonds must be those of the file.
    source
        The file, for messages.

    Raises
    ------
    ConfigError
        If atoms, masses, bonds or charges do not fit.
    """
    whole, start, found = force_field.molecules, 0, []
    sizes = [len(reference) for reference in references]
    if sum(sizes) != len(whole.types):
        raise ConfigError(
            f"{source}: {len(whole.types)} atoms; expected {sum(sizes)}: one molecule of each species, in their order"
        )
    for reference in references:
        stop = start + len(reference)
        topology = {}
        for section, rows in whole.topology.items():
            own = rows[(rows[:, 1:] >= start).all(axis=1) & (rows[:, 1:] < stop).all(axis=1)].copy()
            own[:, 1:] -= start
            topology[section] = own
        template = Template(whole.types[start:stop], whole.charges[start:stop], topology)
        _check(template, reference, force_field, source)
        found.append(template)
        start = stop
    for section, rows in whole.topology.items():
        kept = sum(len(template.topology[section]) for template in found)
        if kept != len(rows):
            raise ConfigError(f"{source}: {len(rows) - kept} {section} between molecules; expected none")
    return found


def _check(template: Template, reference: Atoms, force_field: ForceField, source: Path | str) -> None:
    """ConfigError unless a template is the molecule of a reference, atom by atom."""
    from mlpwf.engines.lammps import reference_bonds

    name = reference.info.get("species", reference.get_chemical_formula())
    masses = force_field.masses[template.types - 1]
    for number, (mass, atom) in enumerate(zip(masses, reference, strict=True), 1):
        if abs(mass - atom.mass) > MASS_TOLERANCE:
            raise ConfigError(
                f"{source}: atom {number} of {name} weighs {mass:g} amu; expected {atom.mass:g} ({atom.symbol})"
            )
    single = reference.copy()
    single.arrays["molecule"] = np.zeros(len(single), dtype=int)
    expected = {tuple(sorted(pair)) for pair in reference_bonds(single, [single]).tolist()}
    bonded = {tuple(sorted(pair)) for pair in template.topology["Bonds"][:, 1:].tolist()}
    if odd := sorted(bonded ^ expected):
        pair = " and ".join(str(atom + 1) for atom in odd[0])
        which = "bonds" if odd[0] in bonded else "no bond between"
        raise ConfigError(
            f"{source}: {which} atoms {pair} of {name}, unlike its geometry; "
            "expected the atoms in the order of molecules.extxyz"
        )
    if abs(template.charges.sum()) > CHARGE_TOLERANCE:
        raise ConfigError(f"{source}: {name} has a charge of {template.charges.sum():+g} e; expected 0")


def write_full_data(
    target: Path, atoms: Atoms, force_field: ForceField, molecules: Sequence[Template], species: Rows
) -> None:
    """Write a LAMMPS data file (atom style full) of a box.

    Parameters
    ----------
    target
        File to write.
    atoms
        The box, molecules contiguous.
    force_field
        Number of types of each kind.
    molecules
        The molecule of each species.
    species
        Species of each molecule of the box, shape (n_molecules,).
    """
    from mlpwf.engines.lammps import element_mass, wrapped_box

    cell, wrapped, images = wrapped_box(atoms)
    kinds = np.concatenate([molecules[kind].types for kind in species])
    charges = np.concatenate([molecules[kind].charges for kind in species])
    first = np.concatenate([[0], np.cumsum([len(molecules[kind].types) for kind in species])])
    topology = {
        section: np.concatenate([
            molecules[kind].topology[section] + [0, *[start] * size]
            for kind, start in zip(species, first[:-1], strict=True)
        ])
        for section, size in ATOMS_OF.items()
    }  # fmt: skip
    mass_of = {int(kind): element_mass(symbol) for kind, symbol in zip(kinds, atoms.symbols, strict=True)}
    lines = ["mlpwf", "", f"{len(atoms)} atoms"]
    lines += [f"{len(rows)} {section.lower()}" for section, rows in topology.items()]
    lines += [f"{count} {name} types" for name, count in force_field.types.items()]
    lines += ["", *cell, "", "Masses", ""]
    lines += [f"{k} {mass_of.get(k, mass):.16g}" for k, mass in enumerate(force_field.masses.tolist(), 1)]
    lines += ["", "Atoms # full", ""]
    columns = (atoms.arrays["molecule"], kinds, charges, wrapped, images)
    for number, (molecule, kind, charge, x, image) in enumerate(zip(*columns, strict=True), 1):
        place = f"{x[0]:.16g} {x[1]:.16g} {x[2]:.16g} {image[0]} {image[1]} {image[2]}"
        lines.append(f"{number} {molecule + 1} {kind} {charge:.16g} {place}")
    for section, rows in topology.items():
        lines += ["", section, ""] if len(rows) else []
        lines += [
            f"{number} {row[0]} {' '.join(str(atom + 1) for atom in row[1:])}"
            for number, row in enumerate(rows.tolist(), 1)
        ]
    write_text(target, "\n".join(lines) + "\n")
