"""The geometry of a species, from a SMILES or a structure file, and the gate that all of them pass.

What is computed are neutral closed-shell molecules of elements in their natural isotopes. What a source says of
charges, unpaired electrons, isotopes, hydrogens and formula is used or compared, never dropped; elements are read,
never guessed from names of atoms.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mlpwf.config.system import Molecule, one_word
from mlpwf.errors import ConfigError
from mlpwf.structures.molecules import fragments

log = logging.getLogger(__name__)

# text of coordinates and elements: ASE knows others, which load objects, open databases or name further files
STRUCTURE_FORMATS = frozenset((
    "cif", "cube", "extxyz", "gen", "mol", "proteindatabank", "sdf", "turbomole", "vasp", "xsf", "xyz",
))  # fmt: skip
_SAFE = "give it as .sdf with bonds, or by 'smiles'"
_JUDGED = {1, 6, 7, 8, 9, 17, 35, 53}  # elements whose valences RDKit knows all of
_MOST_FORMULAS = 100_000
# least by which a double and a triple bond of C to C, N, O is shorter than the covalent radii, in Å; usual: 0.1, 0.3
_SHORTER = {2.0: 0.04, 3.0: 0.20}
_STATED = re.compile(r"(?i)\b(total_?charge|charge|multiplicity|spin)\b[\"']?\s*[=:]\s*[\"']?([-+]?\d+)")


def geometry(name: str, molecule: Molecule, seed: int) -> Atoms:
    """A first geometry of a species, from its SMILES or its structure file.

    Parameters
    ----------
    name
        Name of the species, for messages.
    molecule
        Where it comes from.
    seed
        Seed of the embedding of what has no three-dimensional geometry.

    Raises
    ------
    ConfigError
        If there is none, or the source says what is not computed: value found, value expected, remedy.
    """
    if molecule.structure is None:
        return molecule_from_smiles(name, molecule.smiles or "", seed)
    where, path = f"system.molecules.{name}.structure", molecule.structure
    if not path.is_file():
        raise ConfigError(f"{where}: no such file {path}; expected the structure of one molecule")
    try:
        kind = _format(path)
        if kind in ("mol", "sdf"):
            return _from_mol_file(where, path, seed)
        _check_text(where, path, kind)
        atoms = _by_ase(path, kind)
    except ConfigError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, KeyError) and re.fullmatch(r"'\w{1,3}'", reason):
            reason = f"{reason} is no element; isotopes such as D are not computed: masses are natural"
        raise ConfigError(f"{where}: cannot read {path} ({reason}); expected for example .xyz") from None
    _check_atoms(where, path.name, atoms)
    _check_valences(where, path.name, atoms)
    return atoms


def molecule_from_smiles(name: str, smiles: str, seed: int) -> Atoms:
    """Geometry of a SMILES by RDKit: ETKDGv3, then MMFF94 (UFF where MMFF lacks parameters).

    Parameters
    ----------
    name
        Name of the species, for messages.
    smiles
        SMILES, hydrogens implied.
    seed
        Seed of the embedding.

    Raises
    ------
    ConfigError
        If the SMILES is empty or cannot be parsed, says what is not computed, or has no three-dimensional geometry.
    """
    from rdkit import Chem, rdBase

    where, expected = f"system.molecules.{name}.smiles", "expected for example 'Cc1ccccc1' (toluene)"
    try:
        one_word(smiles)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None
    with rdBase.BlockLogs():
        parsed = Chem.MolFromSmiles(smiles)
    if parsed is None or parsed.GetNumAtoms() == 0:
        raise ConfigError(f"{where}: '{smiles}' is not a SMILES; {expected}")
    _check_graph(where, f"'{smiles}'", parsed)
    _check_pieces(where, f"'{smiles}'", parsed)
    return _embedded(where, f"'{smiles}'", parsed, seed)


def _check_graph(where: str, shown: str, parsed: Any) -> None:
    """ConfigError unless an RDKit molecule is neutral, of closed shells, of known elements and of no isotope."""
    from rdkit import Chem

    atoms = list(parsed.GetAtoms())
    if unknown := [atom for atom in atoms if atom.GetAtomicNum() == 0]:
        raise ConfigError(f"{where}: {shown} has {len(unknown)} atoms of no element; expected elements")
    if isotopes := sorted({f"{atom.GetIsotope()}{atom.GetSymbol()}" for atom in atoms if atom.GetIsotope()}):
        raise ConfigError(
            f"{where}: {shown} has the isotope {', '.join(isotopes)}; expected none: masses are those of natural "
            "elements; leave it out and give the density of the natural liquid"
        )
    if unpaired := sum(atom.GetNumRadicalElectrons() for atom in atoms):
        raise ConfigError(
            f"{where}: {shown} has {unpaired} radical electrons; expected 0, a closed-shell molecule: "
            "add hydrogens if they are missing"
        )
    if charge := Chem.GetFormalCharge(parsed):
        raise ConfigError(f"{where}: {shown} has charge {charge:+d}; expected 0")


def _check_pieces(where: str, shown: str, parsed: Any) -> None:
    from rdkit import Chem

    if (pieces := len(Chem.GetMolFrags(parsed))) != 1:
        raise ConfigError(f"{where}: {shown} has {pieces} fragments; expected one (list each as a species)")


def _embedded(where: str, shown: str, parsed: Any, seed: int) -> Atoms:
    """Geometry of an RDKit molecule, its hydrogens by valence."""
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

    parameters: Any = rdDistGeom.ETKDGv3()
    parameters.randomSeed = seed % 2**31
    with rdBase.BlockLogs():
        whole = Chem.AddHs(parsed)
        for random_start in (False, True):
            parameters.useRandomCoords = random_start
            if rdDistGeom.EmbedMolecule(whole, parameters) == 0:
                break
        else:
            raise ConfigError(f"{where}: no geometry found for {shown}; give one by 'structure: FILE' with coordinates")
        if rdForceFieldHelpers.MMFFHasAllMoleculeParams(whole):
            rdForceFieldHelpers.MMFFOptimizeMolecule(whole, maxIters=1000)
        elif rdForceFieldHelpers.UFFHasAllMoleculeParams(whole):
            rdForceFieldHelpers.UFFOptimizeMolecule(whole, maxIters=1000)
    return _placed(whole)


def _placed(parsed: Any) -> Atoms:
    return Atoms([atom.GetAtomicNum() for atom in parsed.GetAtoms()], parsed.GetConformer().GetPositions())


# ---------------------------------------------------------------- mol and SDF: atoms, bonds, and what they say


def _from_mol_file(where: str, path: Path, seed: int) -> Atoms:
    """Geometry of a mol block: as it is; where it is flat or lacks hydrogens, a new one of its bonds."""
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        records = Chem.SDMolSupplier()
        records.SetData(path.read_text(encoding="utf-8"), sanitize=False, removeHs=False)
        if len(records) != 1:
            raise ConfigError(f"{where}: {path.name} holds {len(records)} molecules; expected one (a file for each)")
        parsed = records[0]
        if parsed is None or not parsed.GetNumAtoms():
            raise ValueError("no mol block of atoms and bonds")
        bare = parsed.GetNumBonds() == 0 and parsed.GetNumAtoms() > 1
        if not bare:
            Chem.SanitizeMol(parsed)
    _check_graph(where, path.name, parsed)
    if bare:
        atoms = _placed(parsed)
        _check_valences(where, path.name, atoms)
        return atoms
    _check_pieces(where, path.name, parsed)
    _check_fields(where, path.name, parsed)
    missing = sum(atom.GetTotalNumHs() for atom in parsed.GetAtoms())
    if missing or not parsed.GetConformer().Is3D():
        what = f"{missing} hydrogens added by valence" if missing else "it is flat"
        atoms = _embedded(where, path.name, parsed, seed)
        log.info("%s: %s: %s; a new geometry of %s", where, path.name, what, atoms.get_chemical_formula())
        return atoms
    atoms = _placed(parsed)
    _check_atoms(where, path.name, atoms)
    _check_bonds(where, path.name, atoms, [(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in parsed.GetBonds()])
    return atoms


def _check_fields(where: str, shown: str, parsed: Any) -> None:
    """ConfigError where a data field of an SDF names another formula, or what is not computed."""
    from rdkit.Chem import rdMolDescriptors

    built = rdMolDescriptors.CalcMolFormula(parsed)
    for key, value in parsed.GetPropsAsDict(includePrivate=False, autoConvertStrings=False).items():
        word, said = key.upper(), str(value).strip()
        if word.endswith("FORMULA") and _counts(said) != _counts(built):
            raise ConfigError(f"{where}: {shown} says {key} {said}, and its atoms and bonds are {built}; expected one")
        if re.search(r"CHARGE$", word) and re.fullmatch(r"[-+]?\d+", said):
            _check_stated(where, shown, "charge", int(said))
        if re.search(r"MULTIPLICITY$", word) and re.fullmatch(r"\d+", said):
            _check_stated(where, shown, "multiplicity", int(said))


def _counts(formula: str) -> dict[str, int] | str:
    """Atoms of each element in a formula; the formula itself where it is none."""
    parts = re.findall(r"([A-Z][a-z]?)(\d*)", formula)
    if "".join(symbol + count for symbol, count in parts) != formula:
        return formula
    found: dict[str, int] = {}
    for symbol, count in parts:
        found[symbol] = found.get(symbol, 0) + int(count or 1)
    return found


def _check_bonds(where: str, shown: str, atoms: Atoms, pairs: list[tuple[int, int]]) -> None:
    """ConfigError where two atoms bonded in a file's table are not by its coordinates."""
    from ase.data import covalent_radii

    for i, j in pairs:
        distance = float(atoms.get_distance(i, j))
        usual = float(covalent_radii[atoms.numbers[i]] + covalent_radii[atoms.numbers[j]])
        if not 0.6 * usual < distance < 1.4 * usual:
            raise ConfigError(
                f"{where}: {shown} bonds {atoms.symbols[i]}{i + 1} to {atoms.symbols[j]}{j + 1}, and its coordinates "
                f"put them {distance:.2f} Å apart; expected about {usual:.2f} Å: coordinates are in Å"
            )


# ---------------------------------------------------------------- coordinates and elements alone


def _format(path: Path) -> str:
    from ase.io.formats import filetype

    kind = str(filetype(str(path)))
    if kind == "gromacs":
        raise ValueError("a .gro file names no elements")
    if kind not in STRUCTURE_FORMATS:
        raise ValueError(f"its format is {kind}; read are {', '.join(sorted(STRUCTURE_FORMATS))}")
    return kind


def _by_ase(path: Path, kind: str) -> Atoms:
    """The only frame of a file."""
    import ase.io
    from ase.io.formats import ioformats

    with path.open("rb" if ioformats[kind].isbinary else "r") as handle:
        frames: list[Atoms] = list(ase.io.read(handle, index=":", format=kind))
    if len(frames) != 1:
        raise ValueError(f"it holds {len(frames)} frames; keep the one of the molecule")
    return frames[0]


def _check_text(where: str, path: Path, kind: str) -> None:
    """ConfigError for what ASE's readers drop or guess."""
    checks: dict[str, Callable[[str, str, list[str]], None]] = {
        "proteindatabank": _check_pdb, "vasp": _check_poscar, "cif": _check_cif, "xyz": _check_comment,
        "extxyz": _check_comment,
    }  # fmt: skip
    if kind in checks:
        checks[kind](where, path.name, path.read_text(encoding="utf-8").splitlines())


def _check_pdb(where: str, shown: str, lines: list[str]) -> None:
    atoms = [line.ljust(80) for line in lines if line.startswith(("ATOM  ", "HETATM"))]
    if nameless := sum(not line[76:78].strip() for line in atoms):
        raise ConfigError(
            f"{where}: {shown} names no element for {nameless} of {len(atoms)} atoms; expected one in columns 77 and "
            f"78, right-justified: write them there (names of atoms are not guessed from), or {_SAFE}"
        )
    signs = [re.fullmatch(r"(\d)([-+])", line[78:80].strip()) for line in atoms]
    _check_stated(where, shown, "charge", sum(int(sign[2] + sign[1]) for sign in signs if sign))
    if len(places := sorted({line[16] for line in atoms} - {" "})) > 1:
        raise ConfigError(
            f"{where}: {shown} has alternate locations {', '.join(places)} (column 17); expected one: keep one of them"
        )


def _check_poscar(where: str, shown: str, lines: list[str]) -> None:
    words = lines[5].split() if len(lines) > 5 else []
    if words and words[0].isdigit():
        raise ConfigError(
            f"{where}: {shown} has '{' '.join(words)}' in line 6; expected the symbols of its elements (VASP 5): "
            "add a line of them before"
        )


def _check_cif(where: str, shown: str, lines: list[str]) -> None:
    if not any(line.strip().lower().startswith("_atom_site_type_symbol") for line in lines):
        raise ConfigError(
            f"{where}: {shown} has no _atom_site_type_symbol; expected the elements of its atoms: add the column "
            f"(labels are not guessed from), or {_SAFE}"
        )


def _check_comment(where: str, shown: str, lines: list[str]) -> None:
    for key, value in _STATED.findall(lines[1] if len(lines) > 1 else ""):
        _check_stated(where, shown, key, int(value))


def _check_stated(where: str, shown: str, key: str, value: int) -> None:
    """ConfigError where a stated charge, spin or multiplicity is not that of a neutral closed shell."""
    key = key.lower()
    fits = value in {"multiplicity": (1,), "spin": (0, 1)}.get(key, (0,))
    if not fits:
        expected = "1, a closed shell" if key == "multiplicity" else "0"
        sign = "+" if key.endswith("charge") else ""
        raise ConfigError(f"{where}: {shown} says {key} {value:{sign}d}; expected {expected}")


def _check_atoms(where: str, shown: str, atoms: Atoms) -> None:
    """ConfigError for charges, moments, masses and occupancies beside the coordinates that are not computed."""
    lost = np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))
    if len(lost):
        raise ConfigError(
            f"{where}: atom {lost[0] + 1} of {shown} stands at {atoms.positions[lost[0]]}; expected numbers"
        )
    charge = float(atoms.get_initial_charges().sum())
    if abs(charge) > 0.5:
        raise ConfigError(f"{where}: the atoms of {shown} have charge {charge:+.3g} together; expected 0")
    if np.abs(atoms.get_initial_magnetic_moments()).max(initial=0.0) > 0.01:
        raise ConfigError(f"{where}: atoms of {shown} have magnetic moments; expected none, a closed-shell molecule")
    natural = Atoms(atoms.numbers).get_masses()
    heavy = np.flatnonzero(np.abs(atoms.get_masses() - natural) > 0.5)
    if len(heavy):
        k = int(heavy[0])
        raise ConfigError(
            f"{where}: atom {k + 1} of {shown} is {atoms.symbols[k]} of mass {atoms.get_masses()[k]:.3f}; expected "
            f"{natural[k]:.3f}: masses are those of natural elements; leave isotopes out"
        )
    shares = [share for site in atoms.info.get("occupancy", {}).values() for share in site.values()]
    if any(abs(share - 1) > 1e-6 for share in shares):
        raise ConfigError(
            f"{where}: {shown} has sites of occupancy {min(shares):g}; expected 1: keep one of the places"
        )


def _check_valences(where: str, shown: str, atoms: Atoms) -> None:
    """ConfigError where no closed-shell formula fits elements and distances, as where hydrogens are missing.

    Bond orders by RDKit's DetermineBonds (DOI 10.1002/bkcs.10334). It knows few valences of the third row: where such
    an atom is part, what it cannot judge is said and let pass.
    """
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdDetermineBonds

    labelled = Atoms(atoms.numbers, atoms.positions)
    labelled.set_array("molecule", np.zeros(len(atoms), int))
    if len(atoms) < 2 or 0 in atoms.numbers or fragments(labelled) != 1:
        return  # judged when the molecule is relaxed
    rows = (f"{s} {x:.6f} {y:.6f} {z:.6f}" for s, (x, y, z) in zip(atoms.symbols, atoms.positions, strict=True))
    with rdBase.BlockLogs():
        parsed = Chem.MolFromXYZBlock("\n".join([str(len(atoms)), "", *rows]) + "\n")
        try:
            rdDetermineBonds.DetermineBonds(parsed, charge=0, embedChiral=False, maxIterations=_MOST_FORMULAS)
            Chem.SanitizeMol(parsed)
            reason = _impossible(parsed)
        except (ValueError, RuntimeError) as error:
            reason = "no closed-shell formula fits its atoms"
            if not set(atoms.numbers.tolist()) <= _JUDGED or "iterations" in str(error).lower():
                log.warning("%s: valences in %s cannot be judged: see that no hydrogen is missing", where, shown)
                return
    if reason:
        raise ConfigError(
            f"{where}: {shown}, {atoms.get_chemical_formula()}: {reason}; expected a neutral closed-shell molecule: "
            f"add hydrogens that are missing, or {_SAFE}"
        )


def _impossible(parsed: Any) -> str:
    """What of a formula does not fit its distances or is no closed shell; empty: nothing."""
    from ase.data import covalent_radii

    if unpaired := sum(atom.GetNumRadicalElectrons() for atom in parsed.GetAtoms()):
        return f"{unpaired} radical electrons"
    places = parsed.GetConformer().GetPositions()
    for bond in parsed.GetBonds():
        first, second = bond.GetBeginAtom(), bond.GetEndAtom()
        numbers = (first.GetAtomicNum(), second.GetAtomicNum())
        least = _SHORTER.get(bond.GetBondTypeAsDouble())
        if least is None or 6 not in numbers or not set(numbers) <= {6, 7, 8}:
            continue
        distance = float(np.linalg.norm(places[first.GetIdx()] - places[second.GetIdx()]))
        usual = float(covalent_radii[numbers[0]] + covalent_radii[numbers[1]])
        if distance > usual - least:
            pair = f"{first.GetSymbol()}{first.GetIdx() + 1} and {second.GetSymbol()}{second.GetIdx() + 1}"
            order = "double" if bond.GetBondTypeAsDouble() == 2 else "triple"
            return f"{pair} can only be joined by a {order} bond, and are {distance:.2f} Å apart"
    for atom in parsed.GetAtoms():
        beside = sum(other.GetFormalCharge() for other in atom.GetNeighbors())
        if atom.GetAtomicNum() == 6 and atom.GetFormalCharge() > 0 and beside >= 0:
            return f"C{atom.GetIdx() + 1} lacks an electron pair"
    return ""
