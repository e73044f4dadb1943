"""A force field from LAMMPS files: the shipped toluene is whole, what is not data is refused in one line."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from mlpwf.building import isolated, label_molecules, pack_box
from mlpwf.engines.force_field import read_force_field, templates, write_full_data
from mlpwf.errors import ConfigError
from mlpwf.species import molecule_from_smiles

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
        ("data", "4 atom types", "3 atom types", r"Masses: '4 1.008'; expected a type of 1 to 3"),
        ("data", "2 1.008 # HA\n", "", r"Masses of 3 atom types; expected all 4"),
        ("data", "Pair Coeffs", "BondBond Coeffs", r"data:\d+: 'BondBond Coeffs'; expected one of Masses"),
        ("data", "1 1 3 -0.065", "1 1 9 -0.065", r"Atoms: type 9; expected 1 to 4"),
        ("data", "1 1 3 -0.065", "1 1 x -0.065", r"Atoms: '1 1 x -0.065 .*expected number, molecule, type"),
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
