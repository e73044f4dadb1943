"""Molecules, boxes and frames: composition, density, contacts, integrity, chance."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.units import kB

from mlpwf.calculators import xtb
from mlpwf.errors import ConfigError, DataError
from mlpwf.md.sampler import (
    DIMER_CONTACT_ANGSTROM,
    Run,
    Sampler,
    dimer,
    distorted,
    relaxed_box,
    relaxed_molecule,
    sample,
)
from mlpwf.structures import boxes
from mlpwf.structures.frames import minimum_distance, quantised
from mlpwf.structures.molecules import bonds, intact, molecules_in_cell
from mlpwf.structures.species import molecule_from_smiles
from mlpwf.units import AMU_PER_A3_PER_G_CM3

SAMPLER = Sampler(steps_between_frames=2)


@pytest.fixture(scope="module")
def water() -> Atoms:
    return relaxed_molecule("water", 0, molecule_from_smiles("water", "O", 1), "gfn1")


@pytest.fixture(scope="module")
def methane() -> Atoms:
    return relaxed_molecule("methane", 1, molecule_from_smiles("methane", "C", 1), "gfn1")


@pytest.fixture(scope="module")
def box(water) -> Atoms:
    packed = boxes.pack_box([water], [4], 0.9, np.random.default_rng(1))
    return relaxed_box(packed, "bulk_0.9", SAMPLER)


def assert_whole(atoms: Atoms) -> None:
    """Bonded atoms are close without periodic images."""
    pairs = bonds(atoms)
    assert len(pairs) == 2 * len(set(atoms.arrays["molecule"]))
    assert np.linalg.norm(atoms.positions[pairs[:, 0]] - atoms.positions[pairs[:, 1]], axis=1).max() < 1.3


PULLED = {"C2H6": [1, 5, 6, 7], "CH4": [1], "NH3": [1], "H2O": [1]}
"""Molecules, and what moves when the bond of their first two atoms is pulled."""


@pytest.mark.parametrize("name", PULLED)
def test_a_bond_is_given_up_before_its_greatest_force_and_far_beyond_thermal_motion(name):
    start = molecule(name, vacuum=6.0, pbc=True)
    start.set_array("molecule", np.zeros(len(start), int))
    bonded, rest = bonds(start), start.get_distance(0, 1)
    lengths = np.arange(rest, rest + 0.8, 0.02)
    energies, whole = [], []
    for length in lengths:
        pulled = start.copy()
        pulled.positions[PULLED[name]] += (length / rest - 1) * (start.positions[1] - start.positions[0])
        pulled.calc = xtb.calculator("gfn1")
        energies.append(pulled.get_potential_energy())
        whole.append(intact(pulled, bonded))
    last = int(np.argmin(whole)) - 1
    assert last < np.argmax(np.gradient(energies, lengths))
    assert energies[last] - energies[0] > 20 * kB * 400


class TestComposition:
    @pytest.mark.parametrize(
        ("counts", "total", "expected"),
        [([2], 8, [8]), ([3, 1], 8, [6, 2]), ([1, 1, 1], 8, [3, 3, 2]), ([1000, 1], 16, [15, 1]), ([1, 3], 2, [1, 1])],
    )
    def test_counts_keep_the_ratio(self, counts, total, expected):
        scaled = boxes.scaled_counts(counts, total)
        assert sum(scaled) == total
        assert sorted(scaled) == sorted(expected)
        assert np.all(np.argsort(counts, kind="stable")[-1] == np.argmax(scaled)) or len(set(counts)) == 1 or total == 2

    def test_too_few_molecules(self):
        with pytest.raises(ConfigError, match="box of 1 molecules; expected at least one of each of 2 species"):
            boxes.scaled_counts([3, 1], 1)

    def test_even_shares(self):
        assert boxes.even_shares(6, 4) == [2, 2, 1, 1]
        assert boxes.even_shares(0, 2) == [0, 0]

    def test_cell_length_of_liquid_water(self):
        """Analytic: (N M / (rho N_A))^(1/3)."""
        expected = (64 * 18.015 / 6.02214076e23 / 0.997) ** (1 / 3) * 1e8
        assert boxes.cell_length([molecule("H2O")], [64], 0.997) == pytest.approx(expected, abs=1e-4)


class TestMolecules:
    def test_relaxed_molecule(self, water):
        assert list(water.symbols) == ["O", "H", "H"]
        assert water.get_distance(0, 1) == pytest.approx(0.96, abs=0.02)
        assert water.info == {"species": "water"}
        assert water.arrays["molecule"].tolist() == water.arrays["species"].tolist() == [0, 0, 0]
        assert water.calc is None

    def test_the_seed_decides(self):
        first, again = (molecule_from_smiles("hexane", "CCCCCC", 5) for _ in range(2))
        np.testing.assert_array_equal(first.positions, again.positions)

    def test_a_single_atom(self):
        argon = relaxed_molecule("argon", 0, molecule_from_smiles("argon", "[Ar]", 1), "gfn1")
        assert len(argon) == 1
        assert argon.cell.lengths().min() >= 6

    @pytest.mark.parametrize(
        ("smiles", "message"),
        [
            ("", "an empty SMILES; expected"),
            ("  ", "an empty SMILES; expected"),
            ("c1ccccc", "'c1ccccc' is not a SMILES; expected"),
            ("O.O", "has 2 fragments; expected one"),
            ("[Na+]", r"has charge \+1; expected 0"),
        ],
    )
    def test_bad_smiles(self, smiles, message, capfd):
        with pytest.raises(ConfigError, match=message) as caught:
            molecule_from_smiles("x", smiles, 1)
        assert "\n" not in str(caught.value)
        assert capfd.readouterr().err == ""

    @pytest.mark.parametrize(
        ("atoms", "message"),
        [
            (Atoms("OH2OH2", [[0, 0, 0], [0, 0, 1], [0, 1, 0], [5, 0, 0], [5, 0, 1], [5, 1, 0]]), "2 fragments"),
            (molecule("CH3"), "9 electrons; expected an even number"),
            (Atoms("XH"), "found 'HX'; expected atoms of"),
        ],
    )
    def test_not_a_molecule(self, atoms, message):
        with pytest.raises(ConfigError, match=message):
            relaxed_molecule("x", 0, atoms, "gfn1")

    def test_isolated_keeps_the_shape_and_the_margin(self):
        ethanol = molecule("CH3CH2OH")
        ethanol.rotate(33, (1, 2, 3))
        boxed = boxes.isolated(ethanol, 3.5)
        np.testing.assert_allclose(boxed.get_all_distances(), ethanol.get_all_distances(), atol=1e-10)
        assert boxed.positions.min() >= 3.5 - 1e-9
        assert (boxed.cell.lengths() - boxed.positions.max(axis=0)).min() >= 3.5 - 1e-9
        handed = np.linalg.det(ethanol.positions[1:4] - ethanol.positions[0])
        assert np.linalg.det(boxed.positions[1:4] - boxed.positions[0]) == pytest.approx(handed, abs=1e-9)


class TestBoxes:
    def test_mixture(self, water, methane):
        packed = boxes.pack_box([water, methane], [5, 3], 0.7, np.random.default_rng(2))
        assert packed.get_chemical_formula() == (Atoms("OH2" * 5) + Atoms("CH4" * 3)).get_chemical_formula()
        assert packed.arrays["species"].tolist() == [0] * 15 + [1] * 15
        assert packed.arrays["molecule"].tolist() == [k // 3 for k in range(15)] + [5 + k // 5 for k in range(15)]
        assert packed.get_masses().sum() / packed.get_volume() == pytest.approx(0.7 * AMU_PER_A3_PER_G_CM3, rel=1e-9)
        assert boxes.density(packed) == pytest.approx(0.7, rel=1e-9)

    def test_large_box_in_reasonable_time(self, water):
        packed = boxes.pack_box([water], [512], 0.997, np.random.default_rng(3))
        assert len(packed) == 1536
        assert boxes.closest_contact(packed, 2.0) >= 1.9
        assert_whole(packed)

    def test_a_molecule_does_not_touch_its_own_images(self):
        toluene = molecule_from_smiles("toluene", "Cc1ccccc1", 1)
        packed = boxes.pack_box([toluene], [2], 0.867, np.random.default_rng(1))
        assert boxes.closest_contact(packed, 2.0) >= 0.95

    def test_own_images_count_as_contacts(self, water):
        alone = boxes.isolated(water, 3.0)
        alone.set_cell([3.0, 9.0, 9.0])
        assert boxes.closest_contact(alone, 3.5) <= 3.0
        assert boxes.closest_contact(alone, 0.5) == np.inf

    def test_an_impossible_density(self, water):
        with pytest.raises(DataError, match=r"8 molecules in a box of .* no packing with contacts of 1 Å"):
            boxes.pack_box([water], [8], 20.0, np.random.default_rng(1), tolerance_angstrom=1.0)

    def test_relaxed_box(self, box, water):
        assert box.info == {"kind": "bulk", "state": "bulk_0.9", "density_g_cm3": pytest.approx(0.9, abs=1e-6)}
        assert boxes.density(box) == pytest.approx(0.9, rel=1e-6)
        assert minimum_distance(box) > 0.9
        assert_whole(box)
        np.testing.assert_array_equal(quantised(box).positions, box.positions)

    def test_wrapping_moves_whole_molecules(self, box):
        shifted = box.copy()
        shifted.positions += [7.0, -12.0, 3.0]
        wrapped = molecules_in_cell(shifted)
        assert_whole(wrapped)
        np.testing.assert_allclose(wrapped.get_all_distances(mic=True), box.get_all_distances(mic=True), atol=1e-9)
        for number in range(4):
            centre = wrapped[wrapped.arrays["molecule"] == number].get_center_of_mass()
            assert np.all((centre >= 0) & (centre < box.cell.lengths()))


class TestDistortion:
    def test_strain_moves_molecules_rigidly(self, box):
        sampler = Sampler(strain=0.1, rattle_angstrom=0.0)
        strained = distorted(box, sampler, np.random.default_rng(1))
        tensor = np.linalg.inv(box.cell.array) @ strained.cell.array - np.eye(3)
        np.testing.assert_allclose(tensor, tensor.T, atol=1e-12)
        assert 0 < np.abs(tensor).max() <= 0.1
        for number in range(4):
            mine = box.arrays["molecule"] == number
            np.testing.assert_allclose(strained[mine].get_all_distances(), box[mine].get_all_distances(), atol=1e-10)
            np.testing.assert_allclose(
                strained.cell.scaled_positions(strained[mine].get_center_of_mass()),
                box.cell.scaled_positions(box[mine].get_center_of_mass()),
                atol=1e-10,
            )

    def test_rattle_has_its_width(self, box):
        rng, sampler = np.random.default_rng(4), Sampler(strain=0.0, rattle_angstrom=0.05)
        moves = [distorted(box, sampler, rng).positions - box.positions for _ in range(200)]
        assert np.std(moves) == pytest.approx(0.05, rel=0.03)

    def test_an_impossible_distance_is_a_data_error(self, box):
        run = Run("300 K x0.9", "bulk", "300K_0.9", box, 300.0, 2, (1, 2, 0))
        with pytest.raises(DataError, match=r"lower build"):
            sample(run, Sampler(steps_between_frames=1, minimum_distance_angstrom=1.0))
        with pytest.raises(DataError, match="none of 50 distorted frames"):
            dimer([[box[:3]]], [1], Sampler(minimum_distance_angstrom=1.2), np.random.default_rng(1))


class TestFrames:
    def test_bulk_run(self, box):
        run = Run("300 K x0.9", "bulk", "300K_0.9", box, 300.0, 4, (1, 2, 0))
        frames = sample(run, SAMPLER)
        again = sample(run, SAMPLER)
        assert len(frames) == 4
        for index, (frame, same) in enumerate(zip(frames, again, strict=True)):
            np.testing.assert_array_equal(frame.positions, same.positions)
            assert (frame.info["kind"], frame.info["state"]) == ("bulk", "300K_0.9")
            assert frame.calc is None
            assert minimum_distance(frame) >= SAMPLER.minimum_distance_angstrom
            assert intact(frame, bonds(box))
            assert_whole(frame)
            assert np.array_equal(frame.cell.array, box.cell.array) == (index % 2 == 0)
            assert frame.info["density_g_cm3"] == pytest.approx(boxes.density(frame), abs=1e-6)

    def test_streams_are_independent(self, box):
        first, other = (sample(Run("r", "bulk", "s", box, 300.0, 1, (1, 2, index)), SAMPLER)[0] for index in range(2))
        assert np.abs(first.positions - other.positions).max() > 1e-3

    def test_single_run(self, water):
        (frame,) = sample(Run("r", "single", "300K_gas", water, 300.0, 1, (1, 4, 0)), SAMPLER)
        assert frame.info == {"kind": "single", "state": "300K_gas"}
        assert frame.pbc.all()
        assert frame.cell.lengths().min() >= 6.0
        assert_whole(frame)

    def test_a_run_that_explodes_is_a_data_error(self, box):
        run = Run("r", "bulk", "s", box, 300000.0, 2, (1, 2, 0))
        with pytest.raises(DataError, match=r"r: 4 times .* at 300000 K"):
            sample(run, SAMPLER)

    def test_dimer_contacts(self, water, methane):
        low, high = DIMER_CONTACT_ANGSTROM
        contacts = []
        for index in range(20):
            rng = boxes.generator(1, 5, index)
            frame = dimer([[water], [methane]], [1, 1], Sampler(rattle_angstrom=0.0), rng)
            assert frame.arrays["molecule"].max() == 1
            assert np.all(np.diff(frame.arrays["species"]) >= 0)
            contacts.append(boxes.closest_contact(frame, 5.0))
            assert minimum_distance(frame) > 0.9
        assert min(contacts) > low - 0.03
        assert max(contacts) <= high + 1e-5
        assert np.ptp(contacts) > 0.5
