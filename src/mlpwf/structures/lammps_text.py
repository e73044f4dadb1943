"""What LAMMPS writes as text, taken apart: data files with all they say of themselves, and numbers that are numbers."""

from __future__ import annotations

import gzip
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from mlpwf.errors import DataError, MlpwfError

ATOM_STYLES = {
    "atomic": "id type x y z",
    "charge": "id type charge x y z",
    "bond": "id resid type x y z",
    "angle": "id resid type x y z",
    "molecular": "id resid type x y z",
    "full": "id resid type charge x y z",
}
"""Columns of the section Atoms by atom style; three image flags may follow."""
LAYOUTS = ("atomic", "charge", "molecular", "full")
IMAGES = 3
WHOLE = ("id", "resid", "type")
TOPOLOGY = {"Bonds": 2, "Angles": 3, "Dihedrals": 4, "Impropers": 4}
"""Atoms of a row by section."""
KINDS = ("bond", "angle", "dihedral", "improper")
COUNT = re.compile(r"(\d+)\s+(atoms|bonds|angles|dihedrals|impropers|(?:atom|bond|angle|dihedral|improper)\s+types)")
UNITS = re.compile(r"\bunits\s*=\s*(\w+)")
NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.I)
NUMERIC = re.compile(r"[+-]?\.?\d")
SUSPECT = re.compile(r"nan|inf|d|e[+-]?\d{3}", re.I)
"""Part of every line that holds a number LAMMPS does not read, or one that is not finite."""
GZIP = b"\x1f\x8b"

Row = tuple[int, list[str]]


def text_of(path: Path, error: type[MlpwfError] = DataError) -> str:
    """Text of a file, plain or gzipped, without its byte order mark, every line ended by a line feed."""
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if raw.startswith(GZIP) else raw
        return raw.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except (OSError, EOFError, UnicodeDecodeError) as problem:
        raise error(f"{path}: cannot be read ({problem}); expected a text file") from None


def check_number(word: str, where: str, error: type[MlpwfError] = DataError) -> None:
    """Raise for a word that is NaN or infinite, or begins as a number and is none LAMMPS reads (1.6D+01)."""
    if NOT_FINITE.fullmatch(word):
        raise error(f"{where}: {word}; expected a finite number")
    if not NUMERIC.match(word) or any(sign in word for sign in "*/"):
        return
    try:
        finite = math.isfinite(float(word))
    except ValueError:
        hint = ": write E for D" if re.fullmatch(r"[\d.+-]+[dD][+-]?\d+", word) else ""
        raise error(f"{where}: {word}; expected a number as LAMMPS reads it{hint}") from None
    if not finite:
        raise error(f"{where}: {word}; expected a finite number")


@dataclass
class DataFile:
    """A LAMMPS data file: what its head says, and rows of words, numbered by line, of each section.

    Attributes
    ----------
    units
        Of the first line, as write_data leaves it (`units = real`); None where it says none.
    header
        Lines above the first section.
    counts
        Numbers of the header by name: `atoms`, `atom types`, `bonds`, ….
    sections
        Rows by section.
    comments
        The word behind the name of a section (`Atoms # full`, `Pair Coeffs # lj/cut`), if there is one.
    """

    path: Path
    error: type[MlpwfError] = DataError
    units: str | None = None
    header: list[Row] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    sections: dict[str, list[Row]] = field(default_factory=dict)
    comments: dict[str, str] = field(default_factory=dict)

    def fail(self, message: str, line: int | None = None) -> NoReturn:
        """Raise the file's kind of error, with file and line."""
        raise self.error(f"{self.path}{'' if line is None else f':{line}'}: {message}")

    def rows(self, section: str) -> list[Row]:
        """Rows of a section; none where the file has none."""
        return self.sections.get(section, [])

    @property
    def style(self) -> str:
        """The atom style: that of the comment, compared with the columns, or else the only one they fit.

        Raises
        ------
        MlpwfError
            Of the file's kind, for a comment the columns contradict, or columns that fit several styles or none.
        """
        said = self.comments.get("Atoms")
        rows = self.rows("Atoms")
        if not rows:
            self.fail("no Atoms; expected a section of them")
        if said is not None:
            if said not in ATOM_STYLES:
                self.fail(f"Atoms # {said}; expected one of the styles {', '.join(ATOM_STYLES)}")
            self._fit(said, rows)
            return said
        fits = [style for style in LAYOUTS if self._misfit(style, rows) is None]
        if len(fits) != 1:
            found = f"fit the styles {' and '.join(fits)}" if fits else f"fit none of {', '.join(LAYOUTS)}"
            self.fail(f"the columns of Atoms {found}; expected the style said: write 'Atoms # full' (or another)")
        return fits[0]

    def _fit(self, style: str, rows: Sequence[Row]) -> None:
        """Raise unless all rows of Atoms are of a style."""
        if (misfit := self._misfit(style, rows)) is not None:
            line, what = misfit
            self.fail(f"Atoms # {style}: {what}; expected {ATOM_STYLES[style]}, and three image flags or none", line)

    def _misfit(self, style: str, rows: Sequence[Row]) -> tuple[int, str] | None:
        """Line and words of the first row of Atoms that is not of a style; None if all are."""
        columns = ATOM_STYLES[style].split()
        kinds = self.counts.get("atom types")
        for line, words in rows:
            if len(words) not in (len(columns), len(columns) + IMAGES):
                return line, f"{len(words)} columns"
            for name, word in zip([*columns, *["image"] * (len(words) - len(columns))], words, strict=True):
                whole = name in WHOLE or name == "image"
                if whole and not re.fullmatch(r"[+-]?\d+", word):
                    return line, f"{name} {word!r}"
                if not whole and not re.fullmatch(r"[+-]?[\d.].*|" + NOT_FINITE.pattern, word, re.I):
                    return line, f"{name} {word!r}"
                if name == "type" and kinds is not None and not 1 <= int(word) <= kinds:
                    return line, f"type {word} of {kinds}"
        return None


def read_data(path: Path, error: type[MlpwfError] = DataError) -> DataFile:
    """Read a LAMMPS data file, and compare what it says twice.

    Numbers must be finite and such as LAMMPS reads, the counts of the header those of the lines,
    the numbers of the rows of a section different, and the atoms of bonds, angles, … in the file.

    Raises
    ------
    MlpwfError
        Of kind `error`, with line, what was found and what is expected.
    """
    data = DataFile(path, error)
    lines = text_of(path, error).split("\n")
    if found := UNITS.search(lines[0]):
        data.units = found[1]
    rows: list[Row] | None = None
    for number, line in enumerate(lines[1:], 2):
        content, _, comment = line.partition("#")
        words = content.split()
        if not words:
            continue
        if words[0][0].isalpha() and not NOT_FINITE.fullmatch(words[0]):
            section = " ".join(words)
            if section in data.sections:
                data.fail(f"{section} a second time; expected each section once", number)
            rows = data.sections[section] = []
            if len(said := comment.split()) == 1:
                data.comments[section] = said[0]
        elif rows is None:
            _header(data, number, words)
        else:
            rows.append((number, words))
    _compare(data)
    return data


def _header(data: DataFile, line: int, words: list[str]) -> None:
    data.header.append((line, words))
    for word in words:
        check_number(word, f"{data.path}:{line}", data.error)
    if found := COUNT.fullmatch(" ".join(words)):
        if found[2] in data.counts:
            data.fail(f"{found[2]} a second time; expected each number of the header once", line)
        data.counts[found[2]] = int(found[1])


def _compare(data: DataFile) -> None:
    """Raise for what the file says twice and not alike."""
    charged = (ATOM_STYLES["full"], ATOM_STYLES["charge"])
    charge = next((style.split().index("charge") for style in charged if _says(data, style)), None)
    for section, rows in data.sections.items():
        seen: dict[str, int] = {}
        for line, words in rows:
            for place, word in enumerate(words if SUSPECT.search(" ".join(words)) else ()):
                what = "charge of atom" if section == "Atoms" and place == charge else section
                check_number(word, f"{data.path}:{line}: {what} {words[0]}", data.error)
            if words[0] in seen and section in ("Atoms", "Masses", "Velocities", *TOPOLOGY):
                data.fail(f"{section}: {words[0]} a second time, after line {seen[words[0]]}; expected it once", line)
            seen[words[0]] = line
    for name in ("atoms", *(section.lower() for section in TOPOLOGY)):
        found, said = len(data.rows(name.capitalize())), data.counts.get(name, 0)
        if found != said:
            data.fail(f"{found} lines of {name.capitalize()}; the header says {said}")
    kinds, masses = data.counts.get("atom types", 0), len(data.rows("Masses"))
    if masses not in (0, kinds):
        data.fail(f"Masses of {masses} atom types; expected all {kinds}, as the header says")
    atoms = {words[0] for _, words in data.rows("Atoms")}
    for (section, size), kind in zip(TOPOLOGY.items(), KINDS, strict=True):
        most = data.counts.get(f"{kind} types", 0)
        for line, words in data.rows(section):
            if len(words) != 2 + size or not all(word.isdigit() for word in words):
                data.fail(f"{section}: {' '.join(words)!r}; expected number, type and {size} atoms", line)
            if unknown := [atom for atom in words[2:] if atom not in atoms]:
                data.fail(f"{section}: atom {unknown[0]}; expected number, type and {size} atoms of the file", line)
            if not 1 <= int(words[1]) <= most:
                data.fail(f"{section}: type {words[1]}; expected 1 to {most}, as the header says", line)


def _says(data: DataFile, columns: str) -> bool:
    """Whether the comment, or else the number of columns, is that of a style."""
    said, rows = data.comments.get("Atoms"), data.rows("Atoms")
    if said is not None:
        return ATOM_STYLES.get(said) == columns
    size = len(columns.split())
    return bool(rows) and columns == ATOM_STYLES["full"] and len(rows[0][1]) in (size, size + IMAGES)
