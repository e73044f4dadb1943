"""Outputs of pw.x that others computed: judged by the whitelist of `acceptance`, as if they had been made here.

Because nobody here wrote their input, they are judged too by what their text tells of settings that mlpwf never uses.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.io.espresso import convert_constraint_flags, get_atomic_positions, read_espresso_out, read_fortran_namelist
from ase.units import Ry

from mlpwf.calculators.base import ForeignError, Output, Reason, Rejected, UnreadableError, check_distance
from mlpwf.calculators.espresso.acceptance import accept, check_end, species
from mlpwf.calculators.espresso.dispersion import dispersion, other_energy
from mlpwf.config.label import Label

LARGEST_OUTPUT_BYTES = 200_000_000  # a single point of thousands of atoms prints a tenth of it
LINES = re.compile(
    rb"^ +(Program PWSCF v|bravais-lattice index +=|Self-consistent Calculation|End of self-consistent calculation"
    rb"|Forces acting on atoms|PWSCF +:.*CPU)|^! +total energy +=",
    re.M,
)
"""Lines of pw.x; one of them is left at the head of an output that lost its first lines."""

_NUMBER = r"[-+]?\d+\.\d+"
_CPU = re.compile(r"^ +PWSCF +: +(?:(\d+)d)? *(?:(\d+)h)? *(?:(\d+)m)? *(?:([\d.]+)s)? +CPU", re.M)
_RANKS = re.compile(r"running on +(\d+) processors")
_TERMS = re.compile(r"sum of the following terms:([\s\S]*?)convergence has been achieved")
_TERM = re.compile(rf"^ +(\S.*?) += +{_NUMBER} Ry *$", re.M)
OWN_TERMS = frozenset(
    {
        "one-electron contribution",
        "hartree contribution",
        "xc contribution",
        "ewald contribution",
        "one-center paw contrib.",
        "smearing contrib. (-TS)",
        "DFT-D3 Dispersion",
    }
)
FOREIGN = (
    "Real space treatment of",
    "Starting magnetic structure",
    "Occupations read from input",
    "A smooth kinetic-energy cutoff is imposed",
    "Assuming isolated system",
    "The code is running with the 2D cutoff",
    "Effective Screening Medium Method",
)
SMEARINGS = {"gaussian": "Gaussian", "mv": "Marzari-Vanderbilt", "mp": "Methfessel-Paxton"}


def wrote(head: bytes) -> bool:
    """Whether a file is an output of pw.x, by its first bytes: one of its lines is left where the first were lost."""
    return LINES.search(head) is not None


def read_output(path: Path, label: Label, hashes: Mapping[str, str]) -> Output:
    """The label in an output of pw.x, of the structure in its input where that lies beside it.

    The output itself prints positions to seven digits of the lattice constant only.

    Raises
    ------
    Rejected
        If a statement of the whitelist does not hold.
    ForeignError
        If pw.x ran with settings that `label` cannot have.
    UnreadableError
        If the file is larger than any output of a single point.
    """
    size = path.stat().st_size
    if size > LARGEST_OUTPUT_BYTES:
        raise UnreadableError(
            f"{size / 1e6:.0f} MB; at most {LARGEST_OUTPUT_BYTES / 1e6:.0f} MB expected of a single point"
        )
    text = path.read_text(errors="replace").lstrip("\ufeff")
    atoms = _structure(path, text)
    try:
        if len(atoms) == 0:
            check_end(0, text)
            raise Rejected(Reason.BAD_OUTPUT, "no structure can be read of it")
        result = accept(0, text, atoms, label, hashes)
        check_distance(atoms, label)
        other = _other_physics(text, atoms, label)
    except Rejected as rejection:
        if rejection.detail == _other_dispersion(text, atoms, label):
            raise ForeignError(rejection.detail) from None
        raise
    if other:
        raise ForeignError(other)
    return Output(atoms, result, _cpu_s(text))


def stated_otherwise(name: str, value: object, label: Label) -> str | None:
    """What `label` has in the place of a functional or a cut-off that a file states; None where they agree.

    Parameters
    ----------
    name, value
        As the file has them, the name in lower case; other names than those of pw.x say nothing.
    label
        The settings.
    """
    if name in ("functional", "xc", "input_dft"):
        return None if str(value).strip().lower() == label.functional else label.functional
    if name in ("ecutwfc", "ecutrho"):
        asked = label.cutoff_ry if name == "ecutwfc" else label.density_cutoff_ry
        return None if _all_near(value, asked) else f"{asked:g} Ry"
    return None


def _all_near(value: object, asked: float) -> bool:
    try:
        return bool(np.all(np.isclose(np.asarray(value, float), asked)))
    except (TypeError, ValueError):
        return False


def _structure(path: Path, text: str) -> Atoms:
    """The structure pw.x was given, with the atoms it held fixed; no atoms, accepted by none, if it cannot be read."""
    names = ["input"] if path.name == "output" else [path.with_suffix(suffix).name for suffix in (".in", ".pwi")]
    beside = next((path.with_name(name) for name in names if path.with_name(name).is_file()), None)
    fixed = _fixed(beside) if beside else []
    if beside:
        try:
            return _bare(ase.io.read(beside, format="espresso-in"), fixed)
        except Exception:  # ASE reads few of the cells pw.x knows; the output prints every one
            pass
    try:
        return _bare(next(read_espresso_out(io.StringIO(text), results_required=False)), fixed)
    except Exception:
        return Atoms()


def _bare(atoms: Any, fixed: list[Any]) -> Atoms:
    return Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True, constraint=fixed)


def _fixed(path: Path) -> list[Any]:
    """ASE's constraints for the atoms an input of pw.x holds fixed, whatever its cell; none if it cannot be read."""
    try:
        with path.open(errors="replace") as handle:
            names, cards = read_fortran_namelist(handle)
        rows = get_atomic_positions(cards, names["system"]["nat"], cell=np.eye(3), alat=1.0)
        return list(convert_constraint_flags([flags for *_, flags in rows]))
    except Exception:
        return []


def _cpu_s(text: str) -> float:
    """CPU time of all ranks in s, as pw.x prints it."""
    spent, ranks = _CPU.search(text), _RANKS.search(text)
    if spent is None:
        return 0.0
    parts = [float(part or 0) for part in spent.groups()]
    return float(np.dot(parts, [86400, 3600, 60, 1])) * int(ranks[1] if ranks else 1)


def _other_physics(text: str, atoms: Atoms, label: Label) -> str | None:
    """What an accepted output tells of settings that mlpwf never writes, or None."""
    for phrase in FOREIGN:
        if phrase in text:
            return f"pw.x says '{phrase} …', expected of no label"
    terms = set(_TERM.findall("".join(_TERMS.findall(text))))
    if terms - OWN_TERMS:
        return f"the energy has a term '{min(terms - OWN_TERMS)}', expected in no label"
    valence = species(text)
    neutral = sum(valence[symbol][0] for symbol in atoms.symbols)
    electrons = _printed(rf"^ +number of electrons += +({_NUMBER})", text, "the number of electrons")
    if abs(electrons - neutral) > 0.005:
        return f"{electrons:g} electrons, {neutral:g} expected in a neutral cell"
    return _other_smearing(text, label)


def _printed(pattern: str, text: str, what: str) -> float:
    found = re.findall(pattern, text, re.M)
    if len(found) != 1:
        raise Rejected(Reason.BAD_OUTPUT, f"{len(found)} lines of {what}, 1 expected")
    return float(found[0])


def _other_smearing(text: str, label: Label) -> str | None:
    found = " ".join(re.findall(r"^ +number of k points= +\d+ *(.*?) *$", text, re.M))
    printed = re.fullmatch(rf"(\S+) smearing, width \(Ry\)= *({_NUMBER})", found)
    if label.smearing == "none" and found == "":
        return None
    if (
        printed
        and printed[1] == SMEARINGS.get(label.smearing)
        and abs(float(printed[2]) - label.smearing_width_ry) < 6e-5
    ):
        return None
    return f"occupations are '{found}', expected those of smearing '{label.smearing}' {label.smearing_width_ry:g} Ry"


def _other_dispersion(text: str, atoms: Atoms, label: Label) -> str | None:
    """Why the printed D3 energy is that of other physics; None where it is not, or is not printed once."""
    printed = re.findall(rf"^ +DFT-D3 Dispersion += +({_NUMBER}) Ry", text, re.M)
    if label.dispersion == "none" or len(printed) != 1 or len(atoms) == 0:
        return None
    return other_energy(float(printed[0]), dispersion(atoms, label).energy / Ry, label)
