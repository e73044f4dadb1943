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
from mlpwf.structures.lammps_text import ATOM_STYLES, KINDS, check_number, read_data, text_of
from mlpwf.structures.lammps_text import TOPOLOGY as ATOMS_OF

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

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
ACCELERATED = re.compile(r"/(gpu|intel|kk|omp|opt)$")
HYBRID = ("hybrid", "hybrid/overlay", "hybrid/scaled")
MASS_TOLERANCE = 0.05
CHARGE_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Template:
    """One molecule: of its atoms LAMMPS types from 1, charges (e) and the molecule the file says they belong to (0 for
    none); rows of type and atoms (from 0) by section."""

    types: Rows
    charges: Array
    topology: dict[str, Rows]
    numbers: Rows


@dataclass(frozen=True)
class ForceField:
    """What LAMMPS is told: units, commands that follow the box, types by section, and one molecule of each species."""

    units: str
    commands: tuple[str, ...]
    types: dict[str, int]
    masses: Array
    whole: Template
    """One molecule of each species, all in one, in the order of the file."""


# ---------------------------------------------------------------- reading


def read_force_field(commands: Path | str, source: Path | str) -> ForceField:
    """Read the two files of `simulate.force_field`.

    Parameters
    ----------
    commands
        LAMMPS commands of `COMMANDS`; `#` begins a comment.
    source
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
    for name in STYLES:
        if first.count(name) > 1:
            raise ConfigError(f"{commands}: {first.count(name)} commands {name}; expected one")
    data = _Data(Path(source))
    _compare(commands, lines, data)
    for section, name in zip(ATOMS_OF, KINDS, strict=True):
        if len(data.whole.topology[section]) and f"{name}_style" not in first:
            raise ConfigError(f"{commands}: no {name}_style; expected one, since {source} has {section}")
    said = [" ".join(words) for words in lines if words[0] not in ("units", "atom_style")]
    settings = [line for line in said if line.split()[0] not in COEFFICIENTS.values()]
    coefficients = [line for line in said if line.split()[0] in COEFFICIENTS.values()]
    return ForceField(units[1], (*settings, *data.coefficients, *coefficients), data.types, data.masses, data.whole)


def _commands(path: Path) -> Iterator[list[str]]:
    """The commands of a file as words; ConfigError for any that is not data."""
    for number, line in enumerate(text_of(path, ConfigError).split("\n"), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if words[0] not in COMMANDS:
            raise ConfigError(f"{path}:{number}: '{words[0]}'; expected only {', '.join(sorted(COMMANDS))}")
        if len(words) < 2:
            raise ConfigError(f"{path}:{number}: '{words[0]}' alone; expected its arguments on the same line")
        _plain(words, f"{path}:{number}")
        for word in words:
            check_number(word, f"{path}:{number}: {words[0]}", ConfigError)
        yield words


def _plain(words: Sequence[str], where: str) -> None:
    for word in words:
        if not WORD.fullmatch(word) or ".." in word:
            raise ConfigError(f"{where}: {word!r}; expected words of letters, digits and _ . * / : + - alone")


class _Data:
    """A LAMMPS data file of a few molecules."""

    SECTIONS = ("Masses", *COEFFICIENTS, "Atoms", *ATOMS_OF, "Velocities")
    HEADER = re.compile(r".*(atoms|bonds|angles|dihedrals|impropers|types|xlo xhi|ylo yhi|zlo zhi|xy xz yz)")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = read_data(path, ConfigError)
        for line, words in self.file.header:
            if not self.HEADER.fullmatch(" ".join(words)):
                self.file.fail(f"{' '.join(words)!r}; expected a number and {', '.join(self.SECTIONS)}", line)
        for section, rows in self.file.sections.items():
            if section not in self.SECTIONS:
                self.file.fail(f"{section!r}; expected one of {', '.join(self.SECTIONS)}", rows[0][0] if rows else None)
            for line, words in rows:
                _plain(words, f"{path}:{line}")
        if (style := self.file.style) != "full":
            self.file.fail(f"Atoms are of style {style}; expected full: {ATOM_STYLES['full']}")
        self.types = {name: self.file.counts.get(f"{name} types", 0) for name in ("atom", *KINDS)}
        self.masses = self._masses()
        self.coefficients = tuple(self._coefficients())
        self.whole = self._whole()

    def _masses(self) -> Array:
        kinds = self.types["atom"]
        masses = np.full(kinds, np.nan)
        for line, words in self.file.rows("Masses"):
            if len(words) != 2 or not words[0].isdigit() or not 1 <= int(words[0]) <= kinds:
                self.file.fail(f"Masses: '{' '.join(words)}'; expected a type of 1 to {kinds}, and amu", line)
            masses[int(words[0]) - 1] = self._number(words[1], f"Masses: '{' '.join(words)}'", line)
        if kinds == 0 or np.isnan(masses).any():
            self.file.fail(f"Masses of {int(np.isfinite(masses).sum())} atom types; expected all {kinds}")
        return masses

    def _number(self, word: str, what: str, line: int) -> float:
        try:
            return float(word)
        except ValueError:
            self.file.fail(f"{what}; expected a number", line)

    def _coefficients(self) -> Iterator[str]:
        for section, command in COEFFICIENTS.items():
            for _, words in self.file.rows(section):
                kind = f"{words[0]} {words[0]}" if command == "pair_coeff" else words[0]
                yield " ".join([command, kind, *words[1:]])

    def _whole(self) -> Template:
        """Types, charges and topology in the order of the atoms' numbers."""
        rows = sorted((int(words[0]), line, words) for line, words in self.file.rows("Atoms"))
        order = {number: k for k, (number, _, _) in enumerate(rows)}
        charges = [self._number(words[3], f"charge of atom {words[0]}: {words[3]}", line) for _, line, words in rows]
        topology = {}
        for section, size in ATOMS_OF.items():
            table = []
            seen: dict[tuple[str, ...], int] = {}
            for line, (_, kind, *ends) in self.file.rows(section):
                if len(set(ends)) < size:
                    self.file.fail(f"{section}: {' '.join(ends)} name an atom twice; expected {size} atoms", line)
                same = (*min(ends, ends[::-1]), kind if size == ATOMS_OF["Dihedrals"] else "")  # dihedrals add up
                if same in seen:
                    self.file.fail(
                        f"{section}: atoms {' '.join(ends)} again, after line {seen[same]}; expected them once", line
                    )
                seen[same] = line
                table.append([int(kind), *(order[int(atom)] for atom in ends)])
            topology[section] = np.array(table, dtype=np.int64).reshape(-1, 1 + size)
        kinds = np.array([int(words[2]) for _, _, words in rows], dtype=np.int64)
        numbers = np.array([int(words[1]) for _, _, words in rows], dtype=np.int64)
        return Template(kinds, np.array(charges), topology, numbers)


def _compare(commands: Path | str, lines: Sequence[Sequence[str]], data: _Data) -> None:
    """ConfigError where the two files contradict each other, or a type is left without coefficients."""
    said = {words[0]: words[1] for words in lines}
    if data.file.units not in (None, said["units"]):
        raise ConfigError(
            f"{data.path}: its first line says units = {data.file.units}; {commands} says units {said['units']}: "
            "expected one: convert the numbers, or mend the line that is wrong"
        )
    given: dict[str, list[str]] = {}
    for words in [*lines, *(line.split() for line in data.coefficients)]:
        given.setdefault(words[0], []).append(words[1])
        if words[0] == "pair_coeff":
            given.setdefault("pair_coeff other", []).append(words[2] if len(words) > 2 else "")
    for section, command in COEFFICIENTS.items():
        kind = section.split()[0].lower()
        style, comment = said.get(f"{kind}_style", ""), data.file.comments.get(section)
        plain = ACCELERATED.sub("", style)
        if comment and plain and not (plain.startswith(comment) or comment.startswith(plain) or plain in HYBRID):
            raise ConfigError(
                f"{data.path}: {section} # {comment}; {commands} says {kind}_style {style}: expected coefficients "
                "of that style"
            )
        most = data.types["atom" if kind == "pair" else kind]
        ranges = [_types(word, most, f"{command} {word}", commands) for word in given.get(command, [])]
        if kind == "pair":
            others = [_types(word, most, f"{command} {word}", commands) for word in given.get("pair_coeff other", [])]
            ranges = [one & other for one, other in zip(ranges, others, strict=True)]
        if missing := sorted(set(range(1, most + 1)).difference(*ranges)):
            raise ConfigError(
                f"{data.path}: no coefficients of {'atom' if kind == 'pair' else kind} type {missing[0]}; expected "
                f"{section} or {command} of all {most}"
            )


def _types(word: str, most: int, what: str, commands: Path | str) -> set[int]:
    """The types of a word such as 3, *, 2* or 1*4."""
    found = re.fullmatch(r"(\d*)(\*?)(\d*)", word)
    first, star, last = found.groups() if found else ("", "", "")
    if not first and not star:
        raise ConfigError(f"{commands}: {what}; expected a type of 1 to {most}, or a range such as 1*{most}")
    low, high = int(first or 1), int(last or most) if star else int(first)
    if not 1 <= low <= high <= most:
        raise ConfigError(f"{commands}: {what}; expected types of 1 to {most}, as the data file has")
    return set(range(low, high + 1))


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
    whole, start, found = force_field.whole, 0, []
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
        template = Template(whole.types[start:stop], whole.charges[start:stop], topology, whole.numbers[start:stop])
        _check(template, reference, force_field, source)
        found.append(template)
        start = stop
    _check_numbers(whole.numbers, [len(template.numbers) for template in found], source)
    for section, rows in whole.topology.items():
        kept = sum(len(template.topology[section]) for template in found)
        if kept != len(rows):
            raise ConfigError(f"{source}: {len(rows) - kept} {section} between molecules; expected none")
    return found


def _check_numbers(numbers: Rows, sizes: Sequence[int], source: Path | str) -> None:
    """ConfigError unless the atoms of each molecule share a number that no other has, or all have the number 0."""
    if not numbers.any():
        return
    owner = np.repeat(np.arange(len(sizes)), sizes)
    for atom, number in enumerate(numbers):
        mates = numbers == number
        if len(set(owner[mates])) > 1 or not mates[owner == owner[atom]].all():
            other = int(np.flatnonzero(mates != (owner == owner[atom]))[0])
            raise ConfigError(
                f"{source}: atom {atom + 1} is of molecule {number}, atom {other + 1} of {numbers[other]}; expected "
                f"{' and '.join(map(str, sizes))} atoms in molecules of their own, in the order of their numbers"
            )


def _check(template: Template, reference: Atoms, force_field: ForceField, source: Path | str) -> None:
    """ConfigError unless a template is the molecule of a reference, atom by atom."""
    from mlpwf.structures.molecules import molecule_bonds

    name = reference.info.get("species", reference.get_chemical_formula())
    masses = force_field.masses[template.types - 1]
    for number, (mass, atom) in enumerate(zip(masses, reference, strict=True), 1):
        if abs(mass - atom.mass) > MASS_TOLERANCE:
            raise ConfigError(
                f"{source}: atom {number} of {name} weighs {mass:g} amu; expected {atom.mass:g} ({atom.symbol})"
            )
    expected = {tuple(sorted(pair)) for pair in molecule_bonds(reference).tolist()}
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
    target: Path, atoms: Atoms, force_field: ForceField, of_species: Sequence[Template], species: Rows
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
    of_species
        The molecule of each species.
    species
        Species of each molecule of the box, shape (n_molecules,).
    """
    from mlpwf.structures.lammps_data import element_mass, wrapped_box

    cell, wrapped, images = wrapped_box(atoms)
    kinds = np.concatenate([of_species[kind].types for kind in species])
    charges = np.concatenate([of_species[kind].charges for kind in species])
    first = np.concatenate([[0], np.cumsum([len(of_species[kind].types) for kind in species])])
    topology = {
        section: np.concatenate([
            of_species[kind].topology[section] + [0, *[start] * size]
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
