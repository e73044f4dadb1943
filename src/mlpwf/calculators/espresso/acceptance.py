"""When a pw.x output is a label: a whitelist, in one place.

An output is accepted only if every statement below holds; pw.x prints several of
its numbers twice in different form, and the two must agree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import numpy as np
from ase import Atoms
from ase.units import Bohr, Ry

from mlpwf.calculators import gate
from mlpwf.calculators.base import Reason, Rejected, Result
from mlpwf.calculators.espresso import pw
from mlpwf.calculators.espresso.dispersion import dispersion, other_energy
from mlpwf.calculators.espresso.kpoints import KPoints
from mlpwf.config.label import Label
from mlpwf.errors import DataError
from mlpwf.process import TIMED_OUT
from mlpwf.structures.properties import Properties

# whole or not at all
_NUMBER = r"[-+]?\d+\.\d+(?:[Ee][-+]?\d+)?(?![\w.+-])"
_OTHER_EXPONENT = re.compile(r"(?<![\w.])[-+]?\d+\.\d*[Dd][-+]\d+(?!\w)")
_FORCE = re.compile(rf"^ +atom +(\d+) +type +\d+ +force = +({_NUMBER}) +({_NUMBER}) +({_NUMBER}) *$", re.M)
_SITE = re.compile(
    rf"^ +(\d+) +([A-Z][a-z]?)\S* +tau\( *(\d+)\) = \( +({_NUMBER}) +({_NUMBER}) +({_NUMBER}) +\) *$", re.M
)
_AXIS = re.compile(rf"^ +a\(([123])\) = \( +({_NUMBER}) +({_NUMBER}) +({_NUMBER}) +\) *$", re.M)
_GRID = re.compile(r"^ +Dense +grid: +\d+ G-vectors +FFT dimensions: \( *(\d+), *(\d+), *(\d+)\) *$", re.M)
_KPOINTS = r"^ +cart\. coord\. in units 2pi/alat\n((?: +k\(.*\n)+)"
_KPOINT = re.compile(rf"\( +({_NUMBER}) +({_NUMBER}) +({_NUMBER})\), wk = +({_NUMBER})")
_BANDS = re.compile(r"^ +k =(.{7})(.{7})(.{7}) \( *\d+ PWs\) +bands \(ev\):", re.M)
_CONTRIBUTION = re.compile(rf"^ +(\S+) +stress \(kbar\)((?: +{_NUMBER}){{3}}\n(?:(?: +{_NUMBER}){{3}}\n){{2}})", re.M)
_STRESS_ROW = re.compile(rf"^ +({_NUMBER}) +({_NUMBER}) +({_NUMBER}) +({_NUMBER}) +({_NUMBER}) +({_NUMBER}) *$")
_ALL_ELECTRON = rf"(?:\n +total all-electron energy = +{_NUMBER} Ry *\n)"  # of PAW sets, between energy and accuracy
_TERM = re.compile(rf"^ +[A-Za-z].*?= +({_NUMBER}) Ry *$", re.M)
_PSEUDOPOTENTIAL = re.compile(
    r"^ +PseudoPot\. # *\d+ for +(\S+) +read from file:\n.*\n +MD5 check sum: +([0-9a-f]{32})", re.M
)
_SPECIES = rf"^ +([A-Z][a-z]?)\S* +({_NUMBER}) +{_NUMBER} +(\S+?) *\( *1\.00\) *\n"
_SPECIES_TABLE = rf"^ +atomic species +valence +mass +pseudopotential\n((?:{_SPECIES})+)"
_NO_MEMORY = re.compile(r"cannot allocate|could not allocate|allocation (?:error|failed)|bad_alloc|out of memory", re.I)
KILLED = (-9, 137)  # by the kernel, for memory: nothing else kills a label and lets mlpwf live
TOTAL = "forces"
DETAILED = "Crystallographic axes"
"""Printed with verbosity 'high', as are the contributions to the stress and, before pw.x 7 only then, to the forces."""
KBAR_PER_RY_BOHR3 = 147105.08
D3_FORCE_RY_BOHR = 2e-7  # 4e-8 was seen in dense toluene; another structure's differ by 1e-4
IN_PART = "contributions to forces and stress are there in part"
SCF_TERM_RY_BOHR = 1e-3
"""More than the SCF correction to a force; pw.x adds it to those on fixed atoms, but prints it as 0."""
NO_SYMMETRY = "No symmetry found"
"""With symmetry pw.x symmetrises the forces and the stress, but not each contribution it prints."""


def _once(pattern: str, text: str, what: str) -> re.Match[str]:
    found = list(re.finditer(pattern, text, re.M))
    if len(found) != 1:
        raise Rejected(Reason.BAD_OUTPUT, f"{len(found)} lines of {what}, 1 expected")
    return found[0]


def _near(found: float, expected: float, tolerance: float, what: str) -> None:
    if not abs(found - expected) <= tolerance:
        raise Rejected(Reason.BAD_OUTPUT, f"{what} is {found:.10g}, {expected:.10g} expected")


def check_end(status: int, text: str) -> None:
    """Rejected unless pw.x began once and ended well, whatever it computed."""
    if status == TIMED_OUT or "Maximum CPU time exceeded" in text:
        raise Rejected(Reason.OUT_OF_TIME, "pw.x reached its time limit")
    if "convergence NOT achieved" in text:
        raise Rejected(Reason.NOT_CONVERGED, "the SCF did not converge")
    if status in KILLED or _NO_MEMORY.search(text):
        raise Rejected(Reason.OUT_OF_MEMORY, "pw.x was killed or could not allocate memory; give a label more of it")
    error = re.search(r"Error in routine (.+?)\n(.*)", text)
    if error:
        raise Rejected(Reason.CRASHED, " ".join(f"{error[1]} {error[2]}".split())[:200])
    if status != 0:
        raise Rejected(Reason.CRASHED, f"pw.x ended with exit status {status}")
    _once(r"^ +Program PWSCF v\.\S+ starts", text, "program start")
    _once(r"^ +JOB DONE\.", text, "JOB DONE")
    if "****" in text:
        raise Rejected(Reason.BAD_OUTPUT, "numbers too large to print")
    odd = _OTHER_EXPONENT.search(text)
    if odd:
        raise Rejected(Reason.BAD_OUTPUT, f"{odd[0]} is no number as pw.x writes it, whose exponents are marked by E")


def _check_scf(text: str, label: Label) -> float:
    _once(r"^ +convergence has been achieved in +\d+ iterations", text, "convergence (of calculation = 'scf')")
    threshold = float(_once(rf"^ +scf convergence threshold += +({_NUMBER})", text, "the SCF threshold")[1])
    _near(threshold, label.convergence_ry, 0.06 * label.convergence_ry, "the SCF threshold in Ry")
    final = _once(rf"^!.*\n{_ALL_ELECTRON}? +estimated scf accuracy +< +({_NUMBER}) Ry", text, "the final accuracy")
    accuracy = float(final[1])
    if not 0 <= accuracy <= label.convergence_ry * 1.000001:
        raise Rejected(
            Reason.NOT_CONVERGED, f"SCF accuracy is {accuracy:g} Ry; at most {label.convergence_ry:g} expected"
        )
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
        raise Rejected(Reason.BAD_OUTPUT, f"functional is {functional}, {label.functional} expected")
    dispersion = re.findall(rf"^ +DFT-D3 Dispersion += +({_NUMBER}) Ry", text, re.M)
    if len(dispersion) != (label.dispersion == "d3bj"):
        raise Rejected(Reason.BAD_OUTPUT, f"{len(dispersion)} lines of D3 dispersion energy")
    for pattern, value, what in (
        (rf"^ +kinetic-energy cutoff += +({_NUMBER}) +Ry", label.cutoff_ry, "the cut-off in Ry"),
        (rf"^ +charge density cutoff += +({_NUMBER}) +Ry", label.density_cutoff_ry, "the density cut-off in Ry"),
    ):
        _near(float(_once(pattern, text, what)[1]), value, 1e-3, what)
    smeared = len(re.findall(r"^ +number of k points=.*\bsmearing\b", text, re.M))
    if smeared != (label.smearing != "none"):
        raise Rejected(Reason.BAD_OUTPUT, f"occupations are not those of smearing '{label.smearing}'")
    found = _PSEUDOPOTENTIAL.findall(text)
    sums = dict(found)
    # each file is named by its header, which in some formats is not the element
    read = {element: sums.get(name) for element, (_, name) in species(text).items()}
    if len(found) != len(sums) or len(read) != len(sums) or read != dict(hashes):
        raise Rejected(Reason.BAD_OUTPUT, "the pseudopotentials pw.x read are not those asked for")


def _check_statements(text: str, atoms: Atoms, label: Label) -> None:
    """What pw.x says again, it says alike: two runs joined into one text do not."""
    steps = re.findall(rf"^ +iteration # *(\d+) +ecut= +({_NUMBER}) Ry +beta= *({_NUMBER}) *$", text, re.M)
    said = int(_once(r"^ +convergence has been achieved in +(\d+) iterations", text, "convergence")[1])
    if [int(step) for step, *_ in steps] != list(range(1, said + 1)):
        raise Rejected(Reason.BAD_OUTPUT, f"{len(steps)} SCF steps, {said} expected, in order")
    beta = float(_once(rf"^ +mixing beta += +({_NUMBER})", text, "the mixing factor")[1])
    for _, cutoff, mixing in steps:
        _near(float(cutoff), label.cutoff_ry, 0.006, "the cut-off of an SCF step in Ry")
        _near(float(mixing), beta, 0.006, "the mixing factor of an SCF step")
    electrons = float(_once(rf"^ +number of electrons += +({_NUMBER})", text, "the number of electrons")[1])
    for charge in re.findall(rf"renormalised to +({_NUMBER})", text):
        _near(float(charge), electrons, 0.006, "the charge the SCF starts from")
    alat = float(_once(rf"^ +celldm\(1\)= +({_NUMBER})", text, "celldm(1)")[1])
    printed = _once(rf"^ +lattice parameter \(alat\) += +({_NUMBER}) +a\.u\.", text, "the lattice parameter")[1]
    _near(float(printed), alat, 6e-5, "the lattice parameter in bohr")
    volume = float(_once(rf"^ +unit-cell volume += +({_NUMBER}) +\(a\.u\.\)\^3", text, "the volume")[1])
    _near(volume, atoms.get_volume() / Bohr**3, 6e-5 + 1e-4 * volume, "the volume in bohr³")
    count = int(_once(r"^ +number of atoms/cell += +(\d+)", text, "the number of atoms")[1])
    _near(count, len(atoms), 0, "the number of atoms")
    kinds = list(species(text))
    expected = [(str(index), str(kinds.index(symbol) + 1)) for index, symbol in enumerate(atoms.symbols, start=1)]
    found = re.findall(r"^ +atom +(\d+) +type +(\d+) +force", text, re.M)
    if any(found[at : at + len(expected)] != expected for at in range(0, len(found), len(expected))):
        raise Rejected(Reason.BAD_OUTPUT, "the types of the atoms the forces act on are not those of the structure")


def species(text: str) -> dict[str, tuple[float, str]]:
    """Valence and name of the pseudopotential of each element, as pw.x lists them.

    Raises
    ------
    Rejected
        If the list is not there once, or an element is there twice.
    """
    rows = re.findall(_SPECIES, _once(_SPECIES_TABLE, text, "the list of species")[1], re.M)
    if len({row[0] for row in rows}) != len(rows):
        raise Rejected(Reason.BAD_OUTPUT, "an element is listed as two species")
    return {element: (float(valence), name) for element, valence, name in rows}


def _check_structure(text: str, atoms: Atoms, label: Label) -> None:
    alat = float(_once(rf"^ +celldm\(1\)= +({_NUMBER})", text, "celldm(1)")[1]) * Bohr
    axes = _AXIS.findall(text)
    if [row[0] for row in axes] != ["1", "2", "3"]:
        raise Rejected(Reason.BAD_OUTPUT, "the three crystal axes are not there once")
    cell = np.array([[float(x) for x in row[1:]] for row in axes]) * alat
    if not np.allclose(cell, atoms.cell.array, rtol=0, atol=2e-6 * alat):
        raise Rejected(Reason.BAD_OUTPUT, "the cell is not the one asked for")
    sites = _SITE.findall(text.partition(DETAILED)[0])
    count = len(atoms)
    numbers = [str(i + 1) for i in range(count)]
    if [row[0] for row in sites] != numbers or [row[2] for row in sites] != numbers:
        raise Rejected(Reason.BAD_OUTPUT, f"{len(sites)} atomic sites, {count} expected, in order")
    if [row[1] for row in sites] != list(atoms.symbols):
        raise Rejected(Reason.BAD_OUTPUT, "elements are not those asked for")
    _check_grid(text, atoms, label)
    _check_kpoints(text, alat, pw.kpoints_of(label, atoms.cell.array), atoms)
    positions = np.array([[float(x) for x in row[3:]] for row in sites]) * alat
    if not np.allclose(positions, atoms.positions, rtol=0, atol=1e-6 * alat):
        raise Rejected(Reason.BAD_OUTPUT, "positions are not those asked for")


def _check_grid(text: str, atoms: Atoms, label: Label) -> None:
    """The grid of density and potential is that of `label.fft_grid_ry`; unset, what the density cut-off needs."""
    cell = atoms.cell.array
    largest = pw.fft_grid(cell, label)
    # builds of pw.x with another FFT library round the grid up to other products of small primes
    smallest = largest if label.fft_grid_ry else pw.smallest_grid(cell, label.density_cutoff_ry)
    found = _GRID.findall(text)
    fits = len(found) == 1 and all(
        low <= int(n) <= high for low, n, high in zip(smallest, found[0], largest, strict=True)
    )
    if not fits:
        grids = " and ".join(" x ".join(grid) for grid in found)
        expected = " x ".join(map(str, largest))
        raise Rejected(Reason.BAD_OUTPUT, f"the FFT grid is {grids or 'not printed'}, {expected} expected")


def _check_kpoints(text: str, alat: float, expected: KPoints, atoms: Atoms) -> None:
    """Points and weights are those asked for, k and −k taken as one; at Γ the wave functions are real."""
    rows = np.array(_KPOINT.findall(_once(_KPOINTS, text, "the list of k-points")[1]), float).reshape(-1, 4)
    counted = int(_once(r"^ +number of k points= +(\d+)", text, "the number of k-points")[1])
    _near(float(rows[:, 3].sum()), 2.0, 1e-5, "the sum of the weights of the k-points")
    points = rows[:, :3] @ (atoms.cell.array / alat).T
    same = len(rows) == counted == len(expected.points)
    if not same or not expected.agrees(points, rows[:, 3] / 2, 1e-5):
        listed = "; ".join(" ".join(f"{x:.4f}" for x in point) for point in points[:3])
        wanted = "; ".join(" ".join(f"{x:.4f}" for x in point) for point in expected.points[:3])
        raise Rejected(
            Reason.BAD_OUTPUT,
            f"k-points are {counted} ({listed}, …), {len(expected.points)} ({wanted}, …) expected, weights too",
        )
    # the bands are printed after the SCF: a text whose head is another run's has other points there
    bands = np.array(_BANDS.findall(text), float).reshape(-1, 3)
    if (len(bands) or DETAILED in text) and (
        bands.shape != rows[:, :3].shape or np.abs(bands - rows[:, :3]).max() > 1e-4
    ):
        raise Rejected(Reason.BAD_OUTPUT, f"bands are printed at {len(bands)} k-points that are not those of the list")
    if ("gamma-point specific algorithms are used" in text) != expected.is_gamma:
        raise Rejected(Reason.BAD_OUTPUT, "k-points are Γ by complex wave functions, K_POINTS gamma expected")


def _check_dispersion(text: str, atoms: Atoms, label: Label) -> Properties | None:
    """The D3 energy depends on the structure alone, and so ties the energy to it."""
    if label.dispersion == "none":
        return None
    printed = float(_once(rf"^ +DFT-D3 Dispersion += +({_NUMBER}) Ry", text, "the D3 energy")[1])
    expected = dispersion(atoms, label)
    other = other_energy(printed, expected.energy / Ry, label)
    if other:
        raise Rejected(Reason.BAD_OUTPUT, other)
    return expected


def _forces(text: str, atoms: Atoms, d3: Properties | None) -> np.ndarray:
    """The forces in Ry/bohr; where their contributions are printed their sum, that of D3 as recomputed."""
    count = len(atoms)
    block = _once(
        r"Forces acting on atoms[^\n]*\n([\s\S]*?Total force = [^\n]*)\n", text, "the forces (of tprnfor = .true.)"
    )[1]
    tables = {what: _force_table(what, rows, count) for what, rows in _tables(block)}
    forces = tables.pop(TOTAL)
    _check_norm(float(_once(rf"^ +Total force = +({_NUMBER}) ", text, "the total force")[1]), forces, atoms)
    if np.abs(forces.sum(axis=0)).max() > 0.6e-8 * count:
        raise Rejected(Reason.BAD_OUTPUT, "the forces do not add up to nothing, as pw.x makes them do")
    if DETAILED in text and not tables:
        raise Rejected(Reason.BAD_OUTPUT, IN_PART)
    if tables:
        allowed = np.where(_free(atoms), 1e-8 * (len(tables) + 1), SCF_TERM_RY_BOHR)
        if NO_SYMMETRY in text and not np.all(_unexplained(forces, list(tables.values()), atoms) <= allowed):
            raise Rejected(Reason.BAD_OUTPUT, "the contributions to the forces do not add up to them")
        found = [table for what, table in tables.items() if "DFT-D3" in what]
        if d3 is not None and not _same(found, d3.forces * Bohr / Ry, D3_FORCE_RY_BOHR, 1e-6):
            raise Rejected(Reason.BAD_OUTPUT, "the D3 forces are not those of the structure")
    return forces


def _check_norm(total: float, forces: np.ndarray, atoms: Atoms) -> None:
    """pw.x prints the forces on all atoms, and of them the norm of those that are free to move."""
    norms = [float(np.linalg.norm(those)) for those in (forces, forces * _free(atoms))]
    if min(abs(norm - total) for norm in norms) > 1.5e-6 + 1e-8 * len(atoms):
        detail = f"the norm of the forces in Ry/bohr is {norms[1]:.10g}, {total:.10g} expected"
        if total < norms[0] and not atoms.constraints:
            detail += "; if atoms are fixed, put the input, which says which, beside the output"
        raise Rejected(Reason.BAD_OUTPUT, detail)


def _free(atoms: Atoms) -> np.ndarray:
    """Which coordinates (atoms, 3) are free to move."""
    free: np.ndarray = np.ones((len(atoms), 3), bool)
    for constraint in atoms.constraints:
        constraint.adjust_forces(atoms, free)
    return free


def _unexplained(forces: np.ndarray, contributions: list[np.ndarray], atoms: Atoms) -> np.ndarray:
    """What the contributions lack of each force, once what pw.x took off alike from all atoms is added."""
    gap = np.sum(contributions, axis=0) - forces
    free = _free(atoms)
    known = np.where(free.any(axis=0), free, True)
    unexplained: np.ndarray = np.abs(gap - (gap * known).sum(axis=0) / known.sum(axis=0))
    return unexplained


def _tables(block: str) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """Heading and rows of each table of forces; that of the total forces stands above the block."""
    heading, rows = TOTAL, []
    for line in block.splitlines()[:-1]:
        row = _FORCE.match(line)
        if row:
            rows.append(row.groups())
        elif line.strip():
            yield heading, rows
            heading, rows = line.strip(), []
    yield heading, rows


def _force_table(what: str, rows: list[tuple[str, ...]], count: int) -> np.ndarray:
    if [int(row[0]) for row in rows] != list(range(1, count + 1)):
        raise Rejected(Reason.BAD_OUTPUT, f"{what} on {len(rows)} atoms, {count} expected, in order")
    return np.array([[float(x) for x in row[1:]] for row in rows])


def _same(found: list[np.ndarray], expected: np.ndarray, absolute: float, relative: float) -> bool:
    return len(found) == 1 and np.allclose(found[0], expected, atol=absolute, rtol=relative)


def _stress(text: str, d3: Properties | None) -> np.ndarray:
    """The stress in Ry/bohr³, of the sign of pw.x, which is positive under compression.

    With verbosity 'high' it is the sum of its contributions, that of D3 as recomputed.
    """
    block = _once(
        rf"total +stress +\(Ry/bohr\*\*3\) +\(kbar\) +P= +({_NUMBER})\n((?:.*\n){{3}})",
        text,
        "the stress (of tstress = .true.)",
    )
    rows = [_STRESS_ROW.match(line) for line in block[2].splitlines()]
    if not all(rows):
        raise Rejected(Reason.BAD_OUTPUT, "the stress is not three rows of numbers")
    table = np.array([[float(x) for x in row.groups()] for row in rows if row])
    stress, kbar = table[:, :3], table[:, 3:]
    if np.abs(stress * KBAR_PER_RY_BOHR3 - kbar).max() > 0.006 + 0.5e-8 * KBAR_PER_RY_BOHR3:
        raise Rejected(Reason.BAD_OUTPUT, "the stress in Ry/bohr³ and in kbar disagree")
    if np.abs(stress - stress.T).max() > 2e-8:
        raise Rejected(Reason.BAD_OUTPUT, "the stress is not symmetric")
    _near(np.trace(kbar) / 3, float(block[1]), 0.011, "the pressure in kbar")
    found = _CONTRIBUTION.findall(text)
    if (DETAILED in text) != bool(found):
        raise Rejected(Reason.BAD_OUTPUT, IN_PART)
    if found:
        parts = {what: np.array(numbers.split(), float).reshape(3, 3) for what, numbers in found}
        if NO_SYMMETRY in text and np.abs(sum(parts.values()) - kbar).max() > 0.006 * (len(parts) + 1):
            raise Rejected(Reason.BAD_OUTPUT, "the contributions to the stress do not add up to it")
        found_d3 = [parts[what] for what in parts if "DFT-D" in what]
        if d3 is not None and not _same(found_d3, -d3.stress * Bohr**3 / Ry * KBAR_PER_RY_BOHR3, 0.011, 1e-6):
            raise Rejected(Reason.BAD_OUTPUT, "the D3 stress is not that of the structure")
    return stress


def accept(status: int, text: str, atoms: Atoms, label: Label, pseudopotentials: Mapping[str, str]) -> Result:
    """Numbers of an output that is a label of `atoms` with the settings of `label`.

    Parameters
    ----------
    status
        Exit status of pw.x.
    text
        All it printed.
    atoms
        The structure asked for, in the order written to the input; its constraints are the atoms
        that were held fixed.
    label
        The settings asked for.
    pseudopotentials
        MD5 sum of each element's pseudopotential file; elements the structure lacks are ignored.

    Raises
    ------
    Rejected
        With the typed reason, if any statement of the whitelist does not hold.
    """
    try:
        result = _accepted(status, text, atoms, label, pseudopotentials)
        gate.check_properties(result.properties, len(atoms))
    except (DataError, ValueError, ArithmeticError, LookupError, RuntimeError) as error:  # of whatever read the text
        raise Rejected(Reason.BAD_OUTPUT, " ".join(str(error).split())[:200]) from None
    return result


def _accepted(status: int, text: str, atoms: Atoms, label: Label, pseudopotentials: Mapping[str, str]) -> Result:
    check_end(status, text)
    energy = _check_scf(text, label)
    _check_energy(text, energy)
    elements = set(atoms.symbols)
    _check_physics(text, label, {e: pseudopotentials[e] for e in pseudopotentials if e in elements})
    _check_structure(text, atoms, label)
    _check_statements(text, atoms, label)
    d3 = _check_dispersion(text, atoms, label)
    forces, stress = _forces(text, atoms, d3), _stress(text, d3)
    found = pw.read_output(text, atoms.get_volume())
    agree = (
        found.forces.shape == forces.shape
        and np.isclose(found.energy, energy * Ry, rtol=1e-6, atol=0)
        and np.allclose(found.forces, forces * Ry / Bohr, rtol=1e-5, atol=1e-7)
        and np.allclose(found.stress, -stress * Ry / Bohr**3, rtol=1e-5, atol=1e-7)
    )
    if not agree:
        raise Rejected(Reason.BAD_OUTPUT, "two readers disagree about energy, forces or stress")
    return Result(found, pw.version(text))
