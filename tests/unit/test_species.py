"""The gate of all molecules: what a source says is used, compared, or refused in one line."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.collections import g2

from mlpwf.config import Molecule
from mlpwf.errors import ConfigError
from mlpwf.md.sampler import relaxed_molecule
from mlpwf.structures.boxes import cell_length, check_distinct
from mlpwf.structures.species import geometry, molecule_from_smiles

CASES = Path(__file__).parents[1] / "data" / "cases" / "molecules"
GLYCOL = "OCCO"


def built(**source):
    """The formula of a species as a build makes it."""
    return relaxed_molecule("x", 0, geometry("x", Molecule(**source), 1), "gfn1").get_chemical_formula()


def refused(message, **source):
    with pytest.raises(ConfigError) as caught:
        built(**source)
    assert message in str(caught.value), caught.value
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("smiles", "message"),
    [
        ("[2H]O[2H]", "'[2H]O[2H]' has the isotope 2H; expected none"),
        ("[13CH4]", "has the isotope 13C; expected none"),
        ("[O][O]", "'[O][O]' has 2 radical electrons; expected 0"),
        ("[CH2]", "'[CH2]' has 2 radical electrons; expected 0"),
        ("[CH3]", "has 1 radical electrons; expected 0"),
        ("[CH2]CC[CH2]", "has 2 radical electrons"),
        ("[O]", "has 2 radical electrons"),
        ("O=O", "2 partly filled orbitals of 'O2' by gfn1; expected 0, a closed-shell molecule"),
        ("S=S", "2 partly filled orbitals of 'S2' by gfn1"),
        ("C.C", "'C.C' has 2 fragments; expected one (list each as a species)"),
        ("[Na+].[Cl-]", "has 2 fragments"),
        ("C[NH3+]", "has charge +1; expected 0"),
        ("*C", "has 1 atoms of no element"),
        ("[Xx]", "'[Xx]' is not a SMILES"),
        ("C>>C", "is not a SMILES"),
        ("C(C)(C)(C)(C)C", "is not a SMILES"),
    ],
)
def test_what_a_smiles_says_and_is_not_computed(smiles, message):
    refused(message, smiles=smiles)


@pytest.mark.parametrize("smiles", ["C C", "O |^1:0|", " O", "O\n", "", " "])
def test_a_smiles_is_one_word(smiles):
    message = "has a blank; expected one molecule" if smiles.strip() else "an empty SMILES"
    with pytest.raises(ConfigError, match=message):
        molecule_from_smiles("x", smiles, 1)
    with pytest.raises(ValueError, match=message):
        Molecule(smiles=smiles)


@pytest.mark.parametrize(
    ("smiles", "formula"),
    [
        (GLYCOL, "C2H6O2"), ("C[N+](=O)[O-]", "CH3NO2"), ("CS(C)=O", "C2H6OS"), ("[C-]#[O+]", "CO"), ("[Ar]", "Ar"),
        ("O=[O+][O-]", "O3"), ("C[CH2]", None), ("NO", "H3NO"),
    ],
)  # fmt: skip
def test_closed_shells_of_every_kind_are_built(smiles, formula):
    if formula is None:
        refused("radical", smiles=smiles)
    else:
        assert built(smiles=smiles) == formula


def test_isomers_of_one_sequence_are_refused_and_another_order_is_the_remedy(tmp_path):
    ethanol, ether = (geometry("x", Molecule(smiles=smiles), 1) for smiles in ("CCO", "COC"))
    check_distinct([named(ethanol, "ethanol"), named(ether, "ether")])
    ortho, para = (geometry("x", Molecule(smiles=smiles), 1) for smiles in ("Cc1ccccc1C", "Cc1ccc(C)cc1"))
    with pytest.raises(ConfigError, match=r"system\.molecules\.para: the same sequence of elements as ortho \(C8H10\)"):
        check_distinct([named(ortho, "ortho"), named(para, "para")])
    ase.io.write(tmp_path / "para.xyz", para[::-1], format="xyz")
    other = geometry("x", Molecule(structure=tmp_path / "para.xyz"), 1)
    check_distinct([named(ortho, "ortho"), named(other, "para")])


def named(atoms, name):
    atoms.info["species"] = name
    return atoms


def test_the_remedy_for_heavy_water_is_light_water():
    refused("leave it out and give the density of the natural liquid", structure=CASES / "d2o.sdf")
    water = molecule_from_smiles("x", "O", 1)
    assert cell_length([water], [4], 0.997) == pytest.approx((4 * 18.015 / (0.997 * 0.602214)) ** (1 / 3), abs=1e-3)


# ---------------------------------------------------------------- mol and SDF


def block(atoms, bonds, more=(), title="\n own\n"):
    """A mol block: rows of symbol and place, bonds from 1, further lines."""
    rows = [f"{x:10.4f}{y:10.4f}{z:10.4f} {s:<3} 0  0  0  0  0  0  0  0  0  0  0  0" for s, x, y, z in atoms]
    counts = f"{len(atoms):3d}{len(bonds):3d}  0  0  0  0  0  0  0  0999 V2000"
    return "\n".join([title, counts, *rows, *(f"{i:3d}{j:3d}{o:3d}  0" for i, j, o in bonds), *more, "M  END", ""])


WATER_ATOMS = [("O", 0, 0, 0.1193), ("H", 0, 0.7632, -0.477), ("H", 0, -0.7632, -0.477)]
WATER_BONDS = [(1, 2, 1), (1, 3, 1)]
WATER = block(WATER_ATOMS, WATER_BONDS)


def scaled(factor):
    return [(s, x * factor, y * factor, z * factor) for s, x, y, z in WATER_ATOMS]


FIELD = WATER + "> <{}>\n{}\n\n$$$$\n"
MOL_REFUSED = {
    "deuterium by M ISO": ((CASES / "d2o.sdf").read_text(), "has the isotope 2H"),
    "radical by M RAD": ((CASES / "o2.sdf").read_text(), "has 2 radical electrons"),
    "singlet carbene by M RAD": (block([("C", 0, 0, 0)], [], ["M  RAD  1   1   1"]), "radical electrons"),
    "charge by M CHG": (block([("O", 0, 0, 0)], [], ["M  CHG  1   1  -1"]), "has charge -1; expected 0"),
    "symbol D": (WATER.replace("H  ", "D  "), "has the isotope 2H"),
    "two records": (f"{WATER}$$$$\n{WATER}$$$$\n", "holds 2 molecules; expected one"),
    "two molecules": (block([("O", 0, 0, 0), ("O", 3, 0, 1), ("C", 3, 1, 0)], [(2, 3, 1)]), "has 2 fragments"),
    "nanometres": (block(scaled(0.1), WATER_BONDS), "bonds O1 to H2, and its coordinates put them 0.10 Å apart"),
    "five bonds": (block([("C", k, 0, 1) for k in range(6)], [(1, k, 1) for k in range(2, 7)]), "Explicit valence"),
    "another formula": (FIELD.format("PUBCHEM_MOLECULAR_FORMULA", "H2O2"), "says PUBCHEM_MOLECULAR_FORMULA H2O2, and"),
    "hydrate": (FIELD.format("FORMULA", "H2O.H2O"), "says FORMULA H2O.H2O, and its atoms and bonds are H2O"),
    "another charge": (FIELD.format("PUBCHEM_TOTAL_CHARGE", "-1"), "says charge -1; expected 0"),
    "multiplicity": (FIELD.format("Multiplicity", "3"), "says multiplicity 3; expected 1, a closed shell"),
    "query atom": (block([("A", 0, 0, 0), ("C", 0, 0, 1.5)], [(1, 2, 1)]), "of no element"),
    "no bonds, no hydrogens": (block([("C", 0, 0, 0), ("O", 0, 0, 1.43)], []), "CO: "),
    "no bonds, a radical": (block(WATER_ATOMS, [], ["M  RAD  1   1   2"]), "has 1 radical electrons"),
    "no mol block": ("no mol block at all\n", "holds 0 molecules; expected one"),
    "empty": ("", "Empty file"),
}


@pytest.mark.parametrize("name", MOL_REFUSED)
def test_what_a_mol_file_says_and_is_not_computed(name, tmp_path):
    text, message = MOL_REFUSED[name]
    (tmp_path / "m.sdf").write_text(text)
    refused(message, structure=tmp_path / "m.sdf")


MOL_BUILT = {
    "hydrogens by valence": ((CASES / "flat.mol").read_text(), "C2H6O2"),
    "as it is": (WATER, "H2O"),
    "no table of bonds": (block(WATER_ATOMS, []), "H2O"),
    "its formula": (FIELD.format("PUBCHEM_MOLECULAR_FORMULA", "H2O"), "H2O"),
    "its charge": (FIELD.format("PUBCHEM_TOTAL_CHARGE", "0"), "H2O"),
    "one record": (f"{WATER}$$$$\n", "H2O"),
    "nitro group": (
        block(
            [("C", 0, 0, 0), ("N", 1.5, 0, 0), ("O", 2, 1, 0), ("O", 2, -1, 0)], [(1, 2, 1), (2, 3, 2), (2, 4, 1)],
            ["M  CHG  2   2   1   4  -1"],
        ),
        "CH3NO2",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MOL_BUILT)
def test_a_mol_file_gives_the_molecule_it_means(name, tmp_path):
    text, formula = MOL_BUILT[name]
    (tmp_path / "m.sdf").write_text(text)
    assert built(structure=tmp_path / "m.sdf") == formula


def test_coordinates_of_a_whole_molecule_are_kept(tmp_path):
    (tmp_path / "m.mol").write_text(WATER)
    found = geometry("x", Molecule(structure=tmp_path / "m.mol"), 1)
    np.testing.assert_allclose(found.positions, [place[1:] for place in WATER_ATOMS], atol=1e-4)


# ---------------------------------------------------------------- elements and coordinates alone


def xyz(rows, comment=""):
    return "\n".join([str(len(rows)), comment, *(f"{s} {x} {y} {z}" for s, x, y, z in rows), ""])


def pdb(rows):
    """Lines of atoms: name, element and charge, alternate location."""
    lines = [
        f"ATOM  {k:5d}  {name:<3}{alternate}MOL A   1    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00          {tail:>4}"
        for k, (name, tail, alternate, x, y, z) in enumerate(rows, start=1)
    ]
    return "\n".join([*lines, "END", ""])


PDB_WATER = [(s, f"{s}  ", " ", x, y, z) for s, x, y, z in WATER_ATOMS]
EXTENDED = "Properties=species:S:1:pos:R:3{} {}"
CIF = """data_x
_symmetry_space_group_name_H-M 'P 1'
_cell_length_a 9
_cell_length_b 9
_cell_length_c 9
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_atom_site_label
{}_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
O1 {}0.5 0.5 0.5133 {}
H1 {}0.5 0.5848 0.447 1
H2 {}0.5 0.4152 0.447 1
"""
POSCAR = "O H\n1.0\n9 0 0\n0 9 0\n0 0 9\n{}1 2\nCartesian\n" + "".join(
    f"{x + 4} {y + 4} {z + 4}\n" for _, x, y, z in WATER_ATOMS
)
FILES_REFUSED = {
    "noel.pdb": ((CASES / "noel.pdb").read_text(), "names no element for 15 of 15 atoms; expected one in columns 77"),
    "some.pdb": (pdb([("O", "", " ", 0, 0, 0.1), *PDB_WATER[1:]]), "names no element for 1 of 3 atoms"),
    "charge.pdb": (pdb([("O", "O1-", " ", 0, 0, 0), ("H", "H  ", " ", 0, 0, 1)]), "says charge -1; expected 0"),
    "places.pdb": (pdb([*PDB_WATER[:1], *(("H", "H  ", a, 0, 1, 0) for a in "AB")]), "has alternate locations A, B"),
    "models.pdb": (f"MODEL 1\n{pdb(PDB_WATER)}".replace("END", "ENDMDL\nMODEL 2\n") + pdb(PDB_WATER), "holds 2 frames"),
    "two.xyz": (xyz(WATER_ATOMS) * 2, "it holds 2 frames; keep the one of the molecule"),
    "d.xyz": (xyz([("O", 0, 0, 0), ("D", 0, 0, 1), ("D", 1, 0, 0)]), "isotopes such as D are not computed"),
    "charge.xyz": (xyz([("O", 0, 0, 0), ("H", 0, 0, 1)], "charge=-1"), "says charge -1; expected 0"),
    "triplet.xyz": (xyz(WATER_ATOMS, "multiplicity = 3"), "says multiplicity 3; expected 1, a closed shell"),
    "info.xyz": (xyz(WATER_ATOMS, EXTENDED.format("", "charge=1.0")), "says charge +1; expected 0"),
    "mass.xyz": (
        xyz([(s, x, y, f"{z} {m}") for (s, x, y, z), m in zip(WATER_ATOMS, (16, 2.014, 2.014), strict=True)],
            EXTENDED.format(":masses:R:1", "")), "atom 2 of mass.xyz is H of mass 2.014; expected 1.008",
    ),
    "bare.xyz": (xyz([("O", -0.7, 0, 1.2), ("C", 0, 0, 0), ("C", 1.5, 0, 0), ("O", 2.2, 0, 1.2)]), "only be joined"),
    "oxygen.xyz": (xyz([("O", 0, 0, 0), ("O", 0, 0, 1.21)]), "2 partly filled orbitals of 'O2'"),
    "atom.xyz": (xyz([("O", 0, 0, 0)]), "partly filled orbitals of 'O'"),
    "carbene.xyz": (xyz([("C", 0, 0, 0.1), ("H", 0, 0.86, -0.6), ("H", 0, -0.86, -0.6)]), "radical electrons"),
    "dummy.xyz": (xyz([("X", 0, 0, 0), *WATER_ATOMS]), "expected atoms of elements"),
    "nowhere.xyz": (xyz([("O", 0, 0, "nan"), *WATER_ATOMS[1:]]), "atom 1 of nowhere.xyz stands at"),
    "m.gro": ("x\n 1\n    1WAT     OW    1   0.1   0.1   0.1\n 1 1 1\n", "a .gro file names no elements"),
    "label.cif": (CIF.format("", "", "1", "", ""), "has no _atom_site_type_symbol"),
    "shared.cif": (CIF.format("_atom_site_type_symbol\n", "O ", "0.5", "H ", "H "), "has sites of occupancy 0.5"),
    "d.cif": (CIF.format("_atom_site_type_symbol\n", "O ", "1", "D ", "D "), "mass 2.01"),
    "POSCAR": (POSCAR.format(""), "has '1 2' in line 6; expected the symbols of its elements"),
    "geometry.in": ("atom 0 0 0 O\natom 0 0 0.96 H\n", "its format is aims; read are cif, cube"),
    "charges.xyz": (
        xyz([("O", 0, 0, "0.1 -1"), ("H", 0, 0, "1.1 0")], EXTENDED.format(":initial_charges:R:1", "")),
        "the atoms of charges.xyz have charge -1 together; expected 0",
    ),
    "moments.xyz": (
        xyz([("O", 0, 0, "0.1 1"), ("O", 0, 0, "1.3 1")], EXTENDED.format(":initial_magmoms:R:1", "")),
        "atoms of moments.xyz have magnetic moments; expected none",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES_REFUSED)
def test_what_a_structure_file_says_or_leaves_to_guess(name, tmp_path):
    text, message = FILES_REFUSED[name]
    (tmp_path / name).write_text(text)
    refused(message, structure=tmp_path / name)


FILES_BUILT = {
    "m.pdb": (pdb(PDB_WATER), "H2O"),
    "m.xyz": (xyz(WATER_ATOMS, "water, charge=0 multiplicity=1"), "H2O"),
    "info.xyz": (xyz(WATER_ATOMS, EXTENDED.format("", "charge=0 spin=1")), "H2O"),
    "m.cif": (CIF.format("_atom_site_type_symbol\n", "O ", "1", "H ", "H "), "H2O"),
    "POSCAR": (POSCAR.format("O H\n"), "H2O"),
}


@pytest.mark.parametrize("name", FILES_BUILT)
def test_a_structure_file_gives_the_molecule_it_means(name, tmp_path):
    text, formula = FILES_BUILT[name]
    (tmp_path / name).write_text(text)
    assert built(structure=tmp_path / name) == formula


def test_the_element_column_is_the_remedy_for_a_pdb_file(tmp_path):
    lines = (CASES / "noel.pdb").read_text().splitlines()
    named = [line[:76] + f"{line[12:16].strip()[0]:>2}" if line.startswith("ATOM") else line for line in lines]
    (tmp_path / "m.pdb").write_text("\n".join(named) + "\n")
    assert built(structure=tmp_path / "m.pdb") == "C7H8"


@pytest.mark.parametrize("smiles", ["OCCO", "Cc1ccccc1", "c1ccccc1", "C1CCCCC1", "CC#N", "CC(=O)Nc1ccc(O)cc1", "C=C"])
def test_coordinates_without_hydrogens_are_no_molecule_and_with_them_are(smiles, tmp_path):
    whole = molecule_from_smiles("x", smiles, 1)
    for atoms in (whole, whole[whole.numbers != 1]):
        ase.io.write(tmp_path / "m.xyz", atoms, format="xyz")
        if len(atoms) == len(whole):
            assert geometry("x", Molecule(structure=tmp_path / "m.xyz"), 1).symbols.formula == whole.symbols.formula
        else:
            refused("add hydrogens that are missing", structure=tmp_path / "m.xyz")


def test_closed_shells_known_to_chemistry_pass_as_coordinates(tmp_path):
    """The neutral singlets of the G2 set, but three whose valences are unusual."""
    refusals = []
    for name in g2.names:
        atoms = molecule(name)
        if len(atoms) < 2 or atoms.numbers.sum() % 2 or atoms.get_initial_magnetic_moments().any():
            continue
        ase.io.write(tmp_path / "m.xyz", Atoms(atoms.numbers, atoms.positions), format="xyz")
        try:
            geometry("x", Molecule(structure=tmp_path / "m.xyz"), 1)
        except ConfigError:
            refusals.append(name)
    assert refusals == ["P2", "ClF3", "CH2_s1A1d"]
