"""When a pw.x output is a label: a whitelist, in one place.

An output is accepted only if every statement below holds; pw.x prints several of
its numbers twice in different form, and the two must agree.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum

import numpy as np
from ase import Atoms
from ase.units import Bohr, Ry

from mlpwf.config.label import Label
from mlpwf.engines import espresso
from mlpwf.engines.process import TIMED_OUT
from mlpwf.labels.dispersion import other_dispersion


class Reason(StrEnum):
    """Why a frame was set aside."""

    CLASH = "clash"
    NOT_CONVERGED = "not converged"
    OUT_OF_TIME = "out of time"
    CRASHED = "crashed"
    OUT_OF_MEMORY = "out of memory"
    BAD_OUTPUT = "bad output"
    IMPLAUSIBLE = "implausible"
    OVER_BUDGET = "over budget"


class Aside(Exception):  # noqa: N818 - an outcome, not an error
    """A frame set aside: the typed reason, one line of detail, and the raw output if there is one."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.output: str | None = None


_NUMBER = r"[-+]?\d+\.\d+(?:[EeDd][-+]?\d+)?"
_FORCE = re.compile(rf"^ +atom +(\d+) +type +\d+ +force = +({_NUMBER}) +({_NUMBER}) +({_NUMBER}) *$", re.M)
_SITE = re.compile(
    rf"^ +(\d+) +([A-Z][a-z]?)\S* +tau\( *(\d+)\) = \( +({_NUMBER}) +({_NUMBER}) +({_NUMBER}) +\) *$", re.M
)
_AXIS = re.compile(rf"^ +a\(([123])\) = \( +({_NUMBER}) +({_NUMBER}) +({_NUMBER}) +\) *$", re.M)
_STRESS_ROW = re.compile(rf"^ +({_NUMBER}) +({_NUMBER}) +({_NUMBER}) +({_NUMBER}) +({_NUMBER}) +({_NUMBER}) *$")
_ALL_ELECTRON = rf"(?:\n +total all-electron energy = +{_NUMBER} Ry *\n)"  # of PAW sets, between energy and accuracy
_TERM = re.compile(rf"^ +[A-Za-z].*?= +({_NUMBER}) Ry *$", re.M)
_PSEUDOPOTENTIAL = re.compile(
    r"^ +PseudoPot\. # *\d+ for +([A-Z][a-z]?)\S* +read from file:\n.*\n +MD5 check sum: +([0-9a-f]{32})", re.M
)
_NO_MEMORY = re.compile(r"cannot allocate|could not allocate|allocation (?:error|failed)|bad_alloc|out of memory", re.I)
KILLED = (-9, 137)  # by the kernel, for memory: nothing else kills a label and lets mlpwf live
KBAR_PER_RY_BOHR3 = 147105.08


def _once(pattern: str, text: str, what: str) -> re.Match[str]:
    found = list(re.finditer(pattern, text, re.M))
    if len(found) != 1:
        raise Aside(Reason.BAD_OUTPUT, f"{len(found)} lines of {what}, 1 expected")
    return found[0]


def _near(found: float, expected: float, tolerance: float, what: str) -> None:
    if not abs(found - expected) <= tolerance:
        raise Aside(Reason.BAD_OUTPUT, f"{what} is {found:.10g}, {expected:.10g} expected")


def _check_end(status: int, text: str) -> None:
    if status == TIMED_OUT or "Maximum CPU time exceeded" in text:
        raise Aside(Reason.OUT_OF_TIME, "pw.x reached its time limit")
    if "convergence NOT achieved" in text:
        raise Aside(Reason.NOT_CONVERGED, "the SCF did not converge")
    if status in KILLED or _NO_MEMORY.search(text):
        raise Aside(Reason.OUT_OF_MEMORY, "pw.x was killed or could not allocate memory; give a label more of it")
    error = re.search(r"Error in routine (.+?)\n(.*)", text)
    if error:
        raise Aside(Reason.CRASHED, " ".join(f"{error[1]} {error[2]}".split())[:200])
    if status != 0:
        raise Aside(Reason.CRASHED, f"pw.x ended with exit status {status}")
    _once(r"^ +Program PWSCF v\.\S+ starts", text, "program start")
    _once(r"^ +JOB DONE\.", text, "JOB DONE")
    if "****" in text:
        raise Aside(Reason.BAD_OUTPUT, "numbers too large to print")


def _check_scf(text: str, label: Label) -> float:
    _once(r"^ +convergence has been achieved in +\d+ iterations", text, "convergence")
    threshold = float(_once(rf"^ +scf convergence threshold += +({_NUMBER})", text, "the SCF threshold")[1])
    _near(threshold, label.convergence_ry, 0.06 * label.convergence_ry, "the SCF threshold in Ry")
    final = _once(rf"^!.*\n{_ALL_ELECTRON}? +estimated scf accuracy +< +({_NUMBER}) Ry", text, "the final accuracy")
    accuracy = float(final[1])
    if not 0 <= accuracy <= label.convergence_ry * 1.000001:
        raise Aside(Reason.NOT_CONVERGED, f"SCF accuracy is {accuracy:g} Ry; at most {label.convergence_ry:g} expected")
    return float(_once(rf"^! +total energy += +({_NUMBER}) Ry *$", text, "the total energy")[1])


def _check_energy(text: str, energy: float) -> None:
    terms_text = _once(r"sum of the following terms:([\s\S]*?)convergence has been achieved", text, "the energy terms")[
        1
    ]
    terms = [float(value) for value in _TERM.findall(terms_text)]
    internal = re.search(rf"internal energy E=F\+TS += +({_NUMBER}) Ry", text)
    expected = float(internal[1]) if internal else energy
    _near(sum(terms), expected, 1e-8 * (len(terms) + 1), "the sum of the energy terms in Ry")


def _check_physics(text: str, label: Label, hashes: Mapping[str, str]) -> None:
    functional = re.findall(r"^ +Exchange-correlation= +(\S+)", text, re.M)
    if not functional or any(name.lower() != label.functional for name in functional):
        raise Aside(Reason.BAD_OUTPUT, f"functional is {functional}, {label.functional} expected")
    dispersion = re.findall(rf"^ +DFT-D3 Dispersion += +({_NUMBER}) Ry", text, re.M)
    if len(dispersion) != (label.dispersion == "d3bj"):
        raise Aside(Reason.BAD_OUTPUT, f"{len(dispersion)} lines of D3 dispersion energy")
    for pattern, value, what in (
        (rf"^ +kinetic-energy cutoff += +({_NUMBER}) +Ry", label.cutoff_ry, "the cut-off in Ry"),
        (rf"^ +charge density cutoff += +({_NUMBER}) +Ry", label.density_cutoff_ry, "the density cut-off in Ry"),
    ):
        _near(float(_once(pattern, text, what)[1]), value, 1e-3, what)
    if ("gamma-point specific algorithms are used" in text) != (label.kpoints == "gamma"):
        raise Aside(Reason.BAD_OUTPUT, f"k-points are not {label.kpoints}")
    smeared = len(re.findall(r"^ +number of k points=.*\bsmearing\b", text, re.M))
    if smeared != (label.smearing != "none"):
        raise Aside(Reason.BAD_OUTPUT, f"occupations are not those of smearing '{label.smearing}'")
    found = _PSEUDOPOTENTIAL.findall(text)
    if len(found) != len(dict(found)) or dict(found) != dict(hashes):
        raise Aside(Reason.BAD_OUTPUT, "the pseudopotentials pw.x read are not those asked for")


def _check_structure(text: str, atoms: Atoms) -> None:
    alat = float(_once(rf"^ +celldm\(1\)= +({_NUMBER})", text, "celldm(1)")[1]) * Bohr
    axes = _AXIS.findall(text)
    if [row[0] for row in axes] != ["1", "2", "3"]:
        raise Aside(Reason.BAD_OUTPUT, "the three crystal axes are not there once")
    cell = np.array([[float(x) for x in row[1:]] for row in axes]) * alat
    if not np.allclose(cell, atoms.cell.array, rtol=0, atol=2e-6 * alat):
        raise Aside(Reason.BAD_OUTPUT, "the cell is not the one asked for")
    sites = _SITE.findall(text)
    count = len(atoms)
    numbers = [str(i + 1) for i in range(count)]
    if [row[0] for row in sites] != numbers or [row[2] for row in sites] != numbers:
        raise Aside(Reason.BAD_OUTPUT, f"{len(sites)} atomic sites, {count} expected, in order")
    if [row[1] for row in sites] != list(atoms.symbols):
        raise Aside(Reason.BAD_OUTPUT, "elements are not those asked for")
    positions = np.array([[float(x) for x in row[3:]] for row in sites]) * alat
    if not np.allclose(positions, atoms.positions, rtol=0, atol=1e-6 * alat):
        raise Aside(Reason.BAD_OUTPUT, "positions are not those asked for")


def _check_dispersion(text: str, atoms: Atoms, label: Label) -> None:
    """The D3 energy depends on the structure alone, and so ties the energy to it."""
    if label.dispersion == "none":
        return
    printed = float(_once(rf"^ +DFT-D3 Dispersion += +({_NUMBER}) Ry", text, "the D3 energy")[1])
    other = other_dispersion(printed, atoms, label)
    if other:
        raise Aside(Reason.BAD_OUTPUT, other)


def _forces(text: str, count: int) -> np.ndarray:
    block = _once(r"Forces acting on atoms[^\n]*\n([\s\S]*?Total force = [^\n]*)\n", text, "the forces")[1]
    # with some settings each contribution is printed too; the total comes first
    rows = _FORCE.findall(block.split("The non-local contrib.")[0])
    if [int(row[0]) for row in rows] != list(range(1, count + 1)):
        raise Aside(Reason.BAD_OUTPUT, f"forces on {len(rows)} atoms, {count} expected, in order")
    forces = np.array([[float(x) for x in row[1:]] for row in rows])
    total = _once(rf"^ +Total force = +({_NUMBER}) ", text, "the total force")[1]
    _near(float(np.linalg.norm(forces)), float(total), 1.5e-6 + 1e-8 * count, "the norm of the forces in Ry/bohr")
    if np.abs(forces.sum(axis=0)).max() > 0.6e-8 * count:
        raise Aside(Reason.BAD_OUTPUT, "the forces do not add up to nothing, as pw.x makes them do")
    return forces


def _stress(text: str) -> np.ndarray:
    block = _once(rf"total +stress +\(Ry/bohr\*\*3\) +\(kbar\) +P= +({_NUMBER})\n((?:.*\n){{3}})", text, "the stress")
    rows = [_STRESS_ROW.match(line) for line in block[2].splitlines()]
    if not all(rows):
        raise Aside(Reason.BAD_OUTPUT, "the stress is not three rows of numbers")
    table = np.array([[float(x) for x in row.groups()] for row in rows if row])
    stress, kbar = table[:, :3], table[:, 3:]
    if np.abs(stress * KBAR_PER_RY_BOHR3 - kbar).max() > 0.006 + 0.5e-8 * KBAR_PER_RY_BOHR3:
        raise Aside(Reason.BAD_OUTPUT, "the stress in Ry/bohr³ and in kbar disagree")
    if np.abs(stress - stress.T).max() > 2e-8:
        raise Aside(Reason.BAD_OUTPUT, "the stress is not symmetric")
    _near(np.trace(kbar) / 3, float(block[1]), 0.011, "the pressure in kbar")
    return stress


def accept(status: int, text: str, atoms: Atoms, label: Label, pseudopotentials: Mapping[str, str]) -> espresso.Result:
    """Numbers of an output that is a label of `atoms` with the settings of `label`.

    Parameters
    ----------
    status
        Exit status of pw.x.
    text
        All it printed.
    atoms
        The structure asked for, in the order written to the input.
    label
        The settings asked for.
    pseudopotentials
        MD5 sum of each element's pseudopotential file; elements the structure lacks are ignored.

    Raises
    ------
    Aside
        With the typed reason, if any statement of the whitelist does not hold.
    """
    _check_end(status, text)
    energy = _check_scf(text, label)
    _check_energy(text, energy)
    elements = set(atoms.symbols)
    _check_physics(text, label, {e: pseudopotentials[e] for e in pseudopotentials if e in elements})
    _check_structure(text, atoms)
    _check_dispersion(text, atoms, label)
    forces, stress = _forces(text, len(atoms)), _stress(text)
    try:
        result = espresso.read_output(text)
    except ValueError as error:
        raise Aside(Reason.BAD_OUTPUT, str(error)) from None
    agree = (
        result.forces.shape == forces.shape
        and np.isclose(result.energy, energy * Ry, rtol=1e-6, atol=0)
        and np.allclose(result.forces, forces * Ry / Bohr, rtol=1e-5, atol=1e-7)
        and np.allclose(result.stress, -stress * Ry / Bohr**3, rtol=1e-5, atol=1e-7)
    )
    if not agree:
        raise Aside(Reason.BAD_OUTPUT, "two readers disagree about energy, forces or stress")
    return result
