"""Pseudopotential files: what their headers say, and whether a label can be computed with them.

Read are UPF 1 and 2, and the older formats pw.x tells by their extension: RRKJ3
(`.RRKJ3`), Vanderbilt's (`.van`, `.vdb`) and, by any other name, PWscf's own. All
facts are of the header; the tables below it are left to pw.x.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from ase.data import chemical_symbols

from mlpwf.calculators.base import Report
from mlpwf.calculators.espresso.pw import md5_sum
from mlpwf.config.label import Label
from mlpwf.errors import DataError
from mlpwf.findings import Finding, failed, ok, warning
from mlpwf.tables import table

HEADER = ("element", "file", "type", "valence", "functional", "relativity", "suggested Ry", "MD5", "verdict")

_FAMILIES = {
    "LDA": "LDA",
    **dict.fromkeys(("PBE", "PBEsol", "revPBE", "RPBE"), "PBE"),
    **dict.fromkeys(("BLYP", "BP", "PW91", "B88"), "other GGA"),
    **dict.fromkeys(("TPSS", "M06L", "SCAN", "R2SCAN", "TB09", "RSCAN"), "meta-GGA"),
}
_BY_GRADIENTS = {
    ("NOGX", "NOGC"): "LDA",
    ("PBX", "PBC"): "PBE",
    ("PBE", "PBE"): "PBE",
    ("PSX", "PSC"): "PBEsol",
    ("RPB", "PBC"): "revPBE",
    ("REVX", "PBC"): "revPBE",
    ("HHNX", "PBC"): "RPBE",
    ("B88", "BLYP"): "BLYP",
    ("B88", "P86"): "BP",
    ("GGX", "GGC"): "PW91",
    ("TPSS", "TPSS"): "TPSS",
}
_BY_NAME = {name.upper(): name for name in _FAMILIES} | {"PZ": "LDA"}
_KINDS = {"NC": "NC", "SL": "NC", "US": "US", "USPP": "US", "PAW": "PAW", "1/R": "1/r"}

# indices of the functional's parts in RRKJ3 files, and of the functional in Vanderbilt's: QE's Modules/funct.f90
_EXCHANGE, _CORRELATION = ("NOX", "SLA"), ("NOC", "PZ", "VWN", "LYP", "PW")
_GRADIENT_X, _GRADIENT_C = ("NOGX", "B88", "GGX", "PBX", "RPB"), ("NOGC", "P86", "GGC", "BLYP", "PBC")
_VANDERBILT = {0: "PZ", 1: "BLYP", 2: "B88", 3: "BP", -5: "BP", 4: "PW91", -6: "PW91", 5: "PBE", 6: "TPSS"}

_V1 = re.compile(r"<PP_HEADER>\s*\n(.*?)</PP_HEADER>", re.S)
_V2 = re.compile(r"""<PP_HEADER((?:\s+\w+\s*=\s*(?:"[^"]*"|'[^']*'))+)\s*/?>""", re.S)
_ATTRIBUTE = re.compile(r"""(\w+)\s*=\s*(?:"([^"]*)"|'([^']*)')""")
_RELATIVITY = re.compile(r"(Non|Scalar|Fully)-Relativistic Calculation")


@dataclass(frozen=True)
class Pseudopotential:
    """What the header of a pseudopotential file says.

    kind is NC (norm-conserving), US (ultrasoft), PAW or 1/r (bare Coulomb);
    functional the common name where it is known, else the header's own words;
    relativity non, scalar, fully or unknown; cut-offs (suggested, of the wave
    functions and the density) in Ry, None where the header suggests none.
    """

    format: str
    element: str
    kind: str
    functional: str
    valence: float
    relativity: str
    spin_orbit: bool
    cutoff_ry: float | None = None
    density_cutoff_ry: float | None = None


class Level(IntEnum):
    """How much a finding matters."""

    OK = 0
    NOTE = 1
    WARNING = 2
    ERROR = 3


@dataclass(frozen=True)
class Check:
    """One element of a set: its file, what was read, and the findings, worst first."""

    element: str
    file: str
    found: Pseudopotential | None
    md5: str | None
    findings: tuple[tuple[Level, str], ...]

    @property
    def level(self) -> Level:
        """The worst of all findings."""
        return max((level for level, _ in self.findings), default=Level.OK)


def read(path: Path) -> Pseudopotential:
    """Header of a pseudopotential file.

    Raises
    ------
    DataError
        If the file cannot be read, or its header is of no known format or incomplete.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); expected a pseudopotential file") from None
    if "<PP_HEADER" in text:
        reader = _read_v2 if "<UPF" in text else _read_v1
        if ("</UPF>" if reader is _read_v2 else "</PP_RHOATOM>") not in text:
            raise DataError(f"{path}: ends before its tables do; fetch the file again")
    else:
        reader = _BY_EXTENSION.get(path.suffix, _read_pwscf)
    try:
        found = reader(text)
        if found.element not in chemical_symbols[1:]:
            raise ValueError
        return found
    except (ValueError, LookupError):
        raise DataError(
            f"{path}: no header of a pseudopotential; expected UPF, or an older format named "
            ".RRKJ3, .van or .vdb: fetch the file again"
        ) from None


def check(element: str, label: Label, folder: Path) -> Check:
    """Whether the file named for `element` can be used with the settings of `label`.

    Parameters
    ----------
    element
        Symbol of the element.
    label
        Functional, cut-offs, the table of files, and the sums they should have.
    folder
        Where the files are.
    """
    name = label.pseudopotentials.get(element)
    if name is None:
        return Check(element, "-", None, None, ((Level.ERROR, "no file is named in label.pseudopotentials"),))
    path = folder / name
    if not path.is_file():
        return Check(element, name, None, None, ((Level.ERROR, f"no file {path}"),))
    try:
        found = read(path)
    except DataError as error:
        return Check(element, name, None, None, ((Level.ERROR, str(error)),))
    md5 = md5_sum(path)
    findings = [*_sum(element, label, md5), *_identity(element, found), *_functional(label, found)]
    findings += [*_cutoffs(label, found)]
    return Check(element, name, found, md5, tuple(sorted(findings, reverse=True)))


def report(elements: Sequence[str], label: Label, folder: Path) -> Report:
    """The table of some elements, or of all of the section, and what was found of each; a failure if one is unusable.

    Parameters
    ----------
    elements
        Symbols of the elements; none: all that `label` names a file for.
    label, folder
        As for `check`.
    """
    checks = [check(element, label, folder) for element in elements or sorted(label.pseudopotentials)]
    lines = list(table([HEADER, *(_row(one) for one in checks)]))
    lines += [f"{one.element}, {level.name.lower()}: {text}" for one in checks for level, text in one.findings]
    unusable = [one for one in checks if one.level is Level.ERROR]
    if not unusable:
        return Report(lines)
    worst = unusable[0]
    failure = (
        f"label.pseudopotentials: {len(unusable)} of {len(checks)} cannot be used; "
        f"{worst.element}: {worst.findings[0][1]}. Name another file, or fetch it again"
    )
    return Report(lines, failure=failure)


def _row(check: Check) -> tuple[str, ...]:
    verdict = check.level.name.lower()
    found = check.found
    if found is None:
        return (check.element, check.file, "-", "-", "-", "-", "-", "-", verdict)
    suggested = [f"{value:.0f}" for value in (found.cutoff_ry, found.density_cutoff_ry) if value is not None]
    relativity = f"{found.relativity}{', spin-orbit' if found.spin_orbit else ''}"
    facts = (found.kind, f"{found.valence:g}", found.functional, relativity, "/".join(suggested) or "-")
    return (check.element, check.file, *facts, check.md5 or "-", verdict)


def finding(check: Check) -> Finding:
    """A check as a line of the doctor's."""
    name, expected = f"potential {check.element}", "a sound file that fits the settings of `label`"
    if check.level <= Level.NOTE:
        return ok(name, f"{check.file}, {check.found.kind if check.found else 'unread'}")
    remedy = "see `mlpwf label pseudopotentials`, label.pseudopotentials and the site's pseudopotential_folder"
    judged = failed if check.level is Level.ERROR else warning
    return judged(name, f"{check.file} {check.findings[0][1]}", expected, remedy)


def _sum(element: str, label: Label, md5: str) -> Iterator[tuple[Level, str]]:
    expected = label.pseudopotential_sums.get(element, md5)
    if md5 != expected:
        yield Level.ERROR, f"MD5 sum is {md5}; {expected} expected (label.pseudopotential_sums)"


def _identity(element: str, found: Pseudopotential) -> Iterator[tuple[Level, str]]:
    if found.element != element:
        yield Level.ERROR, f"is for {found.element}; {element} expected"
    if abs(found.valence - round(found.valence)) > 1e-4:
        yield Level.ERROR, f"valence is {found.valence:g}, of a mixed atom; a whole number of electrons expected"
    if found.spin_orbit:
        yield Level.WARNING, "is fully relativistic; labels have no spin-orbit term: take a scalar-relativistic file"
    if found.kind == "1/r":
        yield Level.WARNING, "is the bare Coulomb potential and converges with cut-offs of hundreds of Ry at best"


def _functional(label: Label, found: Pseudopotential) -> Iterator[tuple[Level, str]]:
    wanted = _BY_NAME[label.functional.upper()]
    if found.functional == wanted:
        return
    family, expected = _FAMILIES.get(found.functional), _FAMILIES[wanted]
    said = f"made with {found.functional} for calculations with {wanted}"
    if family is None:
        yield Level.WARNING, f"{said}: a functional not known here"
    elif family in ("LDA", "meta-GGA"):
        yield Level.ERROR, f"{said}; a gradient-corrected functional expected"
    elif family != expected or family != "PBE":
        yield Level.WARNING, f"{said}, of another family"
    else:
        yield Level.NOTE, f"{said}, as is customary within that family"


def _cutoffs(label: Label, found: Pseudopotential) -> Iterator[tuple[Level, str]]:
    for key, suggested in (("cutoff_ry", found.cutoff_ry), ("density_cutoff_ry", found.density_cutoff_ry)):
        configured = getattr(label, key)
        # headers carry the result of a formula, 36.66 Ry shown as 37: half a Ry is no difference
        if suggested is not None and configured < suggested - 0.5:
            yield Level.WARNING, f"suggests {suggested:.0f} Ry; label.{key} is {configured:g}"


def _found(match: re.Match[str] | None) -> re.Match[str]:
    if match is None:
        raise ValueError
    return match


def _number(text: str) -> float:
    return float(text.strip().replace("D", "E").replace("d", "e"))


def _name(functional: str) -> str:
    words = functional.upper().replace("+", " ").replace("-", " ").split()
    if len(words) >= 4 and (known := _BY_GRADIENTS.get((words[2], words[3]))):
        return known
    return _BY_NAME.get(words[0], " ".join(functional.split()))


def _suggested(cutoff: float, density_cutoff: float) -> tuple[float | None, float | None]:
    # ONCVPSP writes the range of its radial grid as rho_cutoff, and no wfc_cutoff
    if cutoff <= 0:
        return None, None
    return cutoff, density_cutoff if density_cutoff > 0 else None


def _read_v2(text: str) -> Pseudopotential:
    header = _found(_V2.search(text))[1]
    values: Mapping[str, str] = {key: double or single for key, double, single in _ATTRIBUTE.findall(header)}
    relativity = {"no": "non", "scalar": "scalar", "full": "fully"}.get(values.get("relativistic", "").strip())
    return Pseudopotential(
        "UPF 2",
        values["element"].strip().capitalize(),
        _KINDS[values["pseudo_type"].strip().upper()],
        _name(values["functional"]),
        _number(values["z_valence"]),
        relativity or "unknown",
        values.get("has_so", "F").strip(" .")[:1].upper() == "T",
        *_suggested(_number(values.get("wfc_cutoff", "0")), _number(values.get("rho_cutoff", "0"))),
    )


def _read_v1(text: str) -> Pseudopotential:
    lines = _found(_V1.search(text))[1].splitlines()
    relativity = _RELATIVITY.search(text)
    return Pseudopotential(
        "UPF 1",
        lines[1].split()[0].capitalize(),
        _KINDS[lines[2].split()[0].upper()],
        _name(lines[4].partition("Exchange")[0]),
        _number(lines[5].split()[0]),
        relativity[1].lower() if relativity else "unknown",
        "<PP_ADDINFO>" in text,
        *_suggested(*(_number(word) for word in lines[7].split()[:2])),
    )


def _read_rrkj3(text: str) -> Pseudopotential:
    lines = text.splitlines()
    parts = (_EXCHANGE, _CORRELATION, _GRADIENT_X, _GRADIENT_C)
    words = [part[int(index)] for part, index in zip(parts, lines[3].split(), strict=True)]
    relativity = {"F": "non", "T": "scalar"}[lines[2].split()[0].strip(".").upper()]
    kind = "US" if int(lines[1]) == 3 else "NC"
    return Pseudopotential(
        "RRKJ3",
        lines[0].split()[0].capitalize(),
        kind,
        _name(" ".join(words)),
        _number(lines[4][:17]),
        relativity,
        spin_orbit=False,
    )


def _read_vanderbilt(text: str) -> Pseudopotential:
    first, second = text.splitlines()[:2]
    if len(first.split()) != 6:
        raise ValueError
    charge, valence, functional = (_number(word) for word in second[20:].split())
    return Pseudopotential(
        "Vanderbilt",
        chemical_symbols[round(charge)],
        "US",
        _name(_VANDERBILT[round(functional)]),
        valence,
        "unknown",
        spin_orbit=False,
    )


def _read_pwscf(text: str) -> Pseudopotential:
    match = _found(re.match(r"\s*'([^'\n]+)'[^\n]*\n\s*'([A-Za-z]{1,2})\s*'\s*,\s*([0-9.]+)", text))
    return Pseudopotential(
        "PWscf", match[2].capitalize(), "NC", _name(match[1]), _number(match[3]), "unknown", spin_orbit=False
    )


_BY_EXTENSION = {".RRKJ3": _read_rrkj3, ".van": _read_vanderbilt, ".vdb": _read_vanderbilt}
