"""A force field from LAMMPS files: the shipped toluene is whole, what is not data is refused in one line."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from mlpwf.errors import ConfigError, DataError
from mlpwf.potentials.force_field.reading import read_force_field, templates, write_full_data
from mlpwf.potentials.registry import engine
from mlpwf.structures.boxes import isolated, label_molecules, pack_box
from mlpwf.structures.species import molecule_from_smiles

FILES = Path(__file__).parents[2] / "config" / "force_fields"
COMMANDS, DATA = FILES / "toluene_opls.lammps", FILES / "toluene_opls.data"


def reference(smiles="Cc1ccccc1", name="toluene", species=0):
    atoms = molecule_from_smiles(name, smiles, 1)
    label_molecules([atoms], [species])
    boxed = isolated(atoms, 3.0)
    boxed.info = {"species": name}
    return boxed


@pytest.fixture
def files(tmp_path):
    """Copies of the shipped files, and a way to read them with parts replaced."""

    def read(commands=("", ""), data=("", "")):
        paths = []
        for source, (old, new) in ((COMMANDS, commands), (DATA, data)):
            text = source.read_text()
            assert old in text
            paths.append(tmp_path / source.name)
            paths[-1].write_text(text.replace(old, new, 1))
        return templates(read_force_field(*paths), [reference()], paths[1])

    return read


def test_the_shipped_toluene_has_every_angle_and_dihedral_and_no_charge():
    force_field = read_force_field(COMMANDS, DATA)
    (toluene,) = templates(force_field, [reference()], DATA)
    bonds = {frozenset(pair) for pair in toluene.topology["Bonds"][:, 1:].tolist()}
    near = {k: {j for pair in bonds if k in pair for j in pair - {k}} for k in range(15)}
    angles = {(*sorted((i, k)), j) for j in near for i, k in itertools.combinations(near[j], 2)}
    assert {(*sorted((i, k)), j) for _, i, j, k in toluene.topology["Angles"].tolist()} == angles
    chains = {
        frozenset(((i, j), (m, k)))
        for j, k in map(tuple, bonds)
        for i in near[j] - {k}
        for m in near[k] - {j}
    }  # fmt: skip
    found = [frozenset(((i, j), (m, k))) for _, i, j, k, m in toluene.topology["Dihedrals"].tolist()]
    assert set(found) == chains
    assert len(found) == len(chains)
    centres = toluene.topology["Impropers"][:, 3].tolist()
    assert sorted(centres) == sorted(k for k in near if len(near[k]) == 3)
    assert toluene.charges.sum() == pytest.approx(0, abs=1e-12)
    # J. Am. Chem. Soc. 118, 11225: CA, HA of the ring, CT and HC of the methyl group
    pairs = {line.split(maxsplit=1)[1] for line in force_field.commands if line.startswith("pair_coeff")}
    assert pairs == {"1 1 0.070 3.55", "2 2 0.030 2.42", "3 3 0.066 3.50", "4 4 0.030 2.50"}


def test_a_box_of_which_half_is_shorter_than_a_molecule_is_refused():
    """LAMMPS would take an image of an atom three bonds away for the atom."""
    potential = engine("force_field").open([COMMANDS, DATA], [reference()])
    for edge, room in ((8.0, False), (12.0, True)):
        box = pack_box([reference()], [2], 0.5, np.random.default_rng(1))
        box.set_cell([edge] * 3)
        if room:
            assert np.isfinite(potential.predict([box])[0].energy)
        else:
            with pytest.raises(DataError, match=r"a box of 8\.0 Å; expected at least 8\.7 Å"):
                potential.predict([box])


def test_a_box_repeats_its_molecules(tmp_path):
    molecule = reference()
    box = pack_box([molecule], [3], 0.3, np.random.default_rng(1))
    force_field = read_force_field(COMMANDS, DATA)
    whole = templates(force_field, [molecule], DATA)
    write_full_data(tmp_path / "box.data", box, force_field, whole, np.zeros(3, dtype=np.int64))
    import ase.io

    back = ase.io.read(tmp_path / "box.data", format="lammps-data", atom_style="full")
    assert back.get_chemical_symbols() == box.get_chemical_symbols()
    assert back.arrays["mol-id"].tolist() == [k // 15 + 1 for k in range(45)]
    assert back.get_initial_charges() == pytest.approx(np.tile(whole[0].charges, 3))
    moved = (back.positions - box.positions) @ np.linalg.inv(box.cell.array)
    np.testing.assert_allclose(moved, np.round(moved), atol=1e-9)
    text = (tmp_path / "box.data").read_text().split("Bonds\n\n")[1].split("\n\n")[0]
    rows = [[int(word) for word in line.split()] for line in text.splitlines()]
    assert [row[0] for row in rows] == list(range(1, 46))
    assert all((i - 1) // 15 == (j - 1) // 15 == k // 15 for k, (_, _, i, j) in enumerate(rows))
    distances = np.linalg.norm(
        box.positions[[r[2] - 1 for r in rows]] - box.positions[[r[3] - 1 for r in rows]], axis=1
    )
    assert distances.max() < 1.6


@pytest.mark.parametrize(
    ("part", "old", "new", "message"),
    [
        ("commands", "units real", "shell rm -rf x", r"lammps:3: 'shell'; expected only angle_coeff, "),
        ("commands", "units real", "include other", r"lammps:3: 'include'; expected only"),
        ("commands", "units real", "units lj", r"units lj; expected real or metal"),
        ("commands", "units real\n", "", r"0 commands units; expected one"),
        ("commands", "atom_style full", "atom_style charge", r"atom_style charge; expected atom_style full"),
        ("commands", "mix geometric", "mix $(touch)", r"lammps:6: '\$\(touch\)'; expected words of letters"),
        ("commands", "mix geometric", 'mix "geometric"', r"lammps:6: '\"geometric\"'; expected words"),
        ("commands", "mix geometric", "mix &", r"lammps:6: '&'; expected words"),
        ("commands", "lj/cut/coul/long/opt 9.0", "python 9.0 f", r"pair_style python 9.0 f; expected a pair style of"),
        ("commands", "lj/cut/coul/long/opt 9.0", "lj/cut ../x", r"'\.\./x'; expected words"),
        ("commands", "lj/cut/coul/long/opt 9.0", "lj/cut /etc/x", r"'/etc/x'; expected words"),
        ("commands", "dihedral_style opls\n", "", r"no dihedral_style; expected one, since .*data has Dihedrals"),
        ("commands", "kspace_style pppm 1.0e-4", "kspace_style", r"'kspace_style' alone; expected its arguments"),
        ("data", "15 atoms", "16 atoms", r"15 lines of Atoms; the header says 16"),
        ("data", "4 atom types", "3 atom types", r"Masses of 4 atom types; expected all 3"),
        ("data", "4 1.008 # HC", "5 1.008 # HC", r"Masses: '5 1.008'; expected a type of 1 to 4"),
        ("data", "2 1.008 # HA\n", "", r"Masses of 3 atom types; expected all 4"),
        ("data", "Pair Coeffs", "BondBond Coeffs", r"data:\d+: 'BondBond Coeffs'; expected one of Masses"),
        ("data", "1 1 3 -0.065", "1 1 9 -0.065", r"data:58: Atoms # full: type 9 of 4; expected id resid type"),
        ("data", "1 1 3 -0.065", "1 1 x -0.065", r"Atoms # full: type 'x'; expected id resid type charge x y z"),
        ("data", "1 1 3 -0.065", "1 1 2 -0.065", r"atom 1 of toluene weighs 1.008 amu; expected 12.011 \(C\)"),
        ("data", "1 1 3 -0.065", "1 1 3 -0.165", r"toluene has a charge of -0.1 e; expected 0"),
        ("data", "1 3 1 2\n", "1 3 1 4\n", r"no bond between atoms 1 and 2 of toluene, unlike its geometry"),
        ("data", "1 3 1 2\n", "1 3 1 99\n", r"Bonds: atom 99; expected number, type and 2 atoms"),
    ],
)
def test_what_is_wrong_is_one_line(part, old, new, message, files):
    with pytest.raises(ConfigError, match=message) as caught:
        files(**{part: (old, new)})
    assert "\n" not in str(caught.value)


def test_species_come_in_their_order(tmp_path):
    force_field = read_force_field(COMMANDS, DATA)
    with pytest.raises(ConfigError, match=r"15 atoms; expected 18: one molecule of each species, in their order"):
        templates(force_field, [reference(), reference("O", "water", 1)], DATA)
    with pytest.raises(ConfigError, match=r"missing.lammps: cannot be read"):
        read_force_field(tmp_path / "missing.lammps", DATA)


# ---------------------------------------------------------------- files as others leave them

CASES = Path(__file__).parents[1] / "data" / "cases" / "force_fields"
UNITS = ("units = metal", "units = real")


def read_case(tmp_path, *changes, commands=()):
    """Read the case's files with parts of the data file, and of the commands, replaced."""
    paths = []
    for name, parts in (("ff.lmp", commands), ("ff.data", changes)):
        text = (CASES / name).read_text()
        for old, new in parts:
            assert old in text, old
            text = text.replace(old, new, 1)
        paths.append(tmp_path / name)
        paths[-1].write_text(text, newline="")
    return read_force_field(*paths), paths


def test_units_of_the_two_files_are_compared_and_the_remedy_works(tmp_path):
    with pytest.raises(ConfigError, match=r"first line says units = metal; .*ff.lmp says units real: expected one"):
        read_force_field(CASES / "ff.lmp", CASES / "ff.data")
    for mended in ({"changes": (UNITS,)}, {"changes": (), "commands": (("units real", "units metal"),)}):
        force_field, paths = read_case(tmp_path, *mended["changes"], commands=mended.get("commands", ()))
        (water,) = templates(force_field, [reference("O", "water")], paths[1])
        assert water.charges.tolist() == [-0.82, 0.41, 0.41]


GOOD = {
    "Windows": lambda text: text.replace("\n", "\r\n"),
    "byte order mark": lambda text: "\ufeff" + text,
    "tabs": lambda text: text.replace(" 1 1 2\n", "\t1\t1\t2\n").replace("1 15.9994", "1\t15.9994"),
    "comments": lambda text: text.replace("1 15.9994", "1 15.9994 # O 1.0D+01 nan").replace("3 atoms", "3 atoms # all"),
    "E for D": lambda text: text.replace("1 15.9994", "1 1.59994E+01"),
    "images": lambda text: text.replace("-0.82 0 0 0", "-0.82 0 0 0 0 0 1"),
    "no style said": lambda text: text.replace("Atoms # full", "Atoms"),
    "no molecules said": lambda text: (
        text.replace("1 1 1 -", "1 0 1 -").replace("2 1 2 0", "2 0 2 0").replace("3 1 2 0", "3 0 2 0")
    ),
    "numbers with gaps": lambda text: (
        text.replace("3 1 2 0.41", "7 1 2 0.41").replace("1 1 3\n", "1 1 7\n").replace("2 1 3\n", "2 1 7\n")
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_file_is_read_as_it_is_written(name, tmp_path):
    text = GOOD[name]((CASES / "ff.data").read_text().replace(*UNITS))
    (tmp_path / "ff.data").write_text(text, newline="")
    commands = (CASES / "ff.lmp").read_text()
    end = "\r\n" if name == "Windows" else "\n"
    mark = "\ufeff" if name == "byte order mark" else ""
    (tmp_path / "ff.lmp").write_text(mark + commands.replace("\n", end), newline="")
    (water,) = templates(
        read_force_field(tmp_path / "ff.lmp", tmp_path / "ff.data"), [reference("O", "water")], tmp_path / "ff.data"
    )
    assert (water.types.tolist(), water.topology["Angles"].tolist()) == ([1, 2, 2], [[1, 1, 0, 2]])


BAD = {
    "Atoms of another style": ("Atoms # full", "Atoms # molecular", r"ff.data:34: Atoms # molecular: 7 columns"),
    "Atoms of no known style": ("Atoms # full", "Atoms # sphere", r"Atoms # sphere; expected one of the styles"),
    "charge nan": ("2 1 2 0.41", "2 1 2 nan", r"ff.data:35: charge of atom 2: nan; expected a finite number"),
    "charge with a D exponent": ("2 1 2 0.41", "2 1 2 4.1D-01", r"charge of atom 2: 4.1D-01; expected a number as L"),
    "mass with a D exponent": ("1 15.9994", "1 1.6D+01", r"ff.data:16: Masses 1: 1.6D\+01; .*: write E for D"),
    "mass inf": ("1 15.9994", "1 inf", r"Masses 1: inf; expected a finite number"),
    "mass too large": ("1 15.9994", "1 1e400", r"Masses 1: 1e400; expected a finite number"),
    "mass of another element": ("1 15.9994", "1 14.007", r"atom 1 of water weighs 14.007 amu; expected 15.999 \(O\)"),
    "coefficient nan": ("1 0.0067388 3.1656", "1 NaN 3.1656", r"Pair Coeffs 1: NaN; expected a finite number"),
    "coefficient with a D exponent": ("1 19.5 1.0", "1 1.95D1 1.0", r"Bond Coeffs 1: 1.95D1; expected a number"),
    "coordinate inf": ("0.41 1 0 0", "0.41 -inf 0 0", r"Atoms 2: -inf; expected a finite number"),
    "box nan": ("-5 5 xlo xhi", "-5 nan xlo xhi", r"ff.data:10: nan; expected a finite number"),
    "an atom twice": ("3 1 2 0.41", "2 1 2 0.41", r"ff.data:36: Atoms: 2 a second time, after line 35"),
    "a mass twice": ("2 1.008", "1 1.008", r"ff.data:17: Masses: 1 a second time, after line 16"),
    "a bond twice": ("2 1 1 3\n", "2 1 2 1\n", r"Bonds: atoms 2 1 again, after line 40; expected them once"),
    "a bond with itself": ("2 1 1 3\n", "2 1 3 3\n", r"Bonds: 3 3 name an atom twice"),
    "a bond of three": ("2 1 1 3\n", "2 1 1 3 2\n", r"Bonds: '2 1 1 3 2'; expected number, type and 2 atoms"),
    "a type of bond too many": ("2 1 1 3\n", "2 2 1 3\n", r"Bonds: type 2; expected 1 to 1"),
    "header count twice": ("2 bonds", "2 bonds\n3 bonds", r"bonds a second time; expected each number of the head"),
    "bonds the header has not": ("2 bonds\n", "", r"2 lines of Bonds; the header says 0"),
    "a section twice": ("Bonds\n", "Bonds\n\n1 1 1 2\n\nBonds\n", r"Bonds a second time; expected each section once"),
    "no coefficients of a type": ("2 0.0 0.0\n", "", r"no coefficients of atom type 2; expected Pair Coeffs or pair_c"),
    "coefficients of no type": ("1 19.5 1.0", "3 19.5 1.0", r"bond_coeff 3; expected types of 1 to 1"),
    "molecules not contiguous": ("3 1 2 0.41", "3 2 2 0.41", r"atom 1 is of molecule 1, atom 3 of 2; expected 3 atoms"),
    "another style of coefficients": ("# harmonic\n\n1 19.5", "# class2\n\n1 19.5", r"Bond Coeffs # class2; .*bond"),
    "type labels": ("1 1 1 -0.82", "1 1 O -0.82", r"Atoms # full: type 'O'; expected id resid type"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_contradicts_itself_is_refused(name, tmp_path):
    old, new, message = BAD[name]

    def fit():
        force_field, paths = read_case(tmp_path, UNITS, (old, new))
        templates(force_field, [reference("O", "water")], paths[1])

    with pytest.raises(ConfigError, match=message) as caught:
        fit()
    assert "\n" not in str(caught.value)


COMMANDS_BAD = {
    "coefficient nan": (
        "pair_style",
        "pair_coeff 1 1 nan 3.1\npair_style",
        r"ff.lmp:3: pair_coeff: nan; expected a fin",
    ),
    "a D exponent": ("coul/long 9.0", "coul/long 0.9D+01", r"pair_style: 0.9D\+01; expected a number .*write E for D"),
    "a style twice": ("angle_style", "bond_style class2\nangle_style", r"2 commands bond_style; expected one"),
    "coefficients of no type": (
        "angle_style",
        "bond_coeff 2*3 1 1\nangle_style",
        r"bond_coeff 2\*3; expected types of 1",
    ),
    "coefficients of a name": ("angle_style", "bond_coeff O-H 1 1\nangle_style", r"bond_coeff O-H; expected a type of"),
}


@pytest.mark.parametrize("name", COMMANDS_BAD)
def test_commands_that_do_not_fit_are_refused(name, tmp_path):
    old, new, message = COMMANDS_BAD[name]
    with pytest.raises(ConfigError, match=message):
        read_case(tmp_path, UNITS, commands=((old, new),))


def test_coefficients_of_ranges_count(tmp_path):
    wild = ("Pair Coeffs # lj/cut/coul/long\n\n1 0.0067388 3.1656\n2 0.0 0.0\n", "")
    force_field, _ = read_case(
        tmp_path, UNITS, wild, commands=(("angle_style", "pair_coeff * *2 0.1 3.1\nangle_style"),)
    )
    assert "pair_coeff * *2 0.1 3.1" in force_field.commands
