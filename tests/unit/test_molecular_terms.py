"""Class-II terms and pair splines: what the graph gives, gradients, symmetry, and the same numbers in LAMMPS."""

import itertools
import json

import numpy as np
import pytest
from ase.build import molecule

from mlpwf.errors import DataError
from mlpwf.potentials.molecular import coordinates
from mlpwf.potentials.molecular.class2 import Class2, references
from mlpwf.potentials.molecular.fit import USUAL, Fitted, Model, Molecules
from mlpwf.potentials.molecular.pairs import PairBasis
from mlpwf.potentials.molecular.record import read, write
from mlpwf.potentials.molecular.topology import topology_of
from mlpwf.structures.molecules import bonds

STEP = 1e-6


def species(name):
    """Topology and positions of a molecule of ASE's collection."""
    atoms = molecule(name)
    atoms.arrays["molecule"] = np.zeros(len(atoms), int)
    return topology_of(list(atoms.symbols), bonds(atoms), atoms.positions), atoms.positions


NITRILE = species("CH3CN")


def test_the_graph_tells_kinds_of_atoms():
    assert len(set(species("C6H6")[0].sites)) == 2
    methanol, _ = species("CH3OH")
    assert len(set(methanol.sites)) == 4  # C, O, the hydrogens of the methyl group, that of the hydroxyl group
    assert len(set(NITRILE[0].sites)) == 4


@pytest.mark.parametrize(
    ("name", "angles", "dihedrals", "forks"),
    [("H2O", 1, 0, 0), ("CH3OH", 7, 3, 4), ("C6H6", 18, 24, 6)],
)
def test_internal_coordinates_by_rule(name, angles, dihedrals, forks):
    topology, _ = species(name)
    assert [len(topology.angles), len(topology.dihedrals), len(topology.forks)] == [angles, dihedrals, forks]


def test_a_straight_group_bends_about_a_line_and_has_no_dihedral():
    topology, _ = NITRILE
    assert len(topology.lines) == 1
    assert not topology.dihedrals
    assert all(angle[1] not in topology.straight for angle in topology.angles)


def test_atoms_with_few_bonds_between_them_do_not_pair():
    topology, _ = species("C6H6")
    apart = [pair for pair in itertools.combinations(range(12), 2) if pair not in topology.close]
    carbons = [atom for atom, symbol in enumerate(topology.symbols) if symbol == "C"]
    assert sum(set(pair) <= set(carbons) for pair in apart) == 3  # across a ring of six: three bonds
    assert all(other not in topology.neighbours[one] for one, other in apart)


@pytest.mark.parametrize("name", ["bond", "angle", "cosine", "dihedral", "wilson"])
def test_gradients_are_differences(name):
    function, count = getattr(coordinates, name), {"bond": 2, "angle": 3, "cosine": 3}.get(name, 4)
    positions = np.random.default_rng(1).normal(size=(5, count, 3))
    _, gradients = function(positions, *range(count))
    for atom, axis in itertools.product(range(count), range(3)):
        moved = [positions.copy() for _ in range(2)]
        for one, sign in zip(moved, (1, -1), strict=True):
            one[:, atom, axis] += sign * STEP
        up, down = (function(one, *range(count))[0] for one in moved)
        change = (up - down + np.pi) % (2 * np.pi) - np.pi
        assert gradients[atom][:, axis] == pytest.approx(change / (2 * STEP), abs=1e-7)


def test_features_do_not_change_when_alike_atoms_are_exchanged():
    """Benzene turned by one carbon: the same atoms in another order."""
    topology, positions = species("C6H6")
    ring = [atom for atom, symbol in enumerate(topology.symbols) if symbol == "C"]
    angles = np.arctan2(*positions[ring][:, :2].T)
    order = sorted(ring, key=lambda a: angles[ring.index(a)])
    turned = {atom: order[(order.index(atom) + 1) % 6] for atom in order}
    partner = {atom: next(n for n in topology.neighbours[atom] if topology.symbols[n] == "H") for atom in ring}
    permutation = [turned.get(a, -1) for a in range(12)]
    for carbon, hydrogen in partner.items():
        permutation[hydrogen] = partner[turned[carbon]]
    energy = Class2(topology, references(topology, positions), linear=True)
    bent = positions + 0.1 * np.random.default_rng(2).normal(size=positions.shape)
    one, other = (energy.design(at[None])[0] for at in (bent, bent[permutation]))
    assert one == pytest.approx(other, abs=1e-10)


def test_splines_vanish_smoothly_at_the_cut_off():
    basis = PairBasis(2, 8.0)
    curve = basis.spline(np.random.default_rng(0).normal(size=basis.functions))
    assert [float(curve.derivative(order)(8.0)) for order in (0, 1, 2)] == pytest.approx([0, 0, 0], abs=1e-12)
    numbers = [int(basis.number(np.array(i), np.array(j))) for i, j in ((0, 0), (0, 1), (1, 0), (1, 1))]
    assert numbers == [0, 1, 1, 2]


@pytest.fixture
def mixture():
    """Two methanols and an acetonitrile in a periodic box, distorted, and a force field of random numbers."""
    parts = [species("CH3OH"), NITRILE]
    molecules = Molecules(tuple(part[0] for part in parts), tuple(part[1] for part in parts))
    intra = [Class2(topology, references(topology, at)) for topology, at in parts]
    model = Model(molecules, tuple(intra), PairBasis(molecules.kinds, 5.0))
    rng = np.random.default_rng(3)
    frame = molecule("CH3OH")
    for at, name in (([4.0, 0, 0], "CH3OH"), ([0, 4.0, 1.0], "CH3CN")):
        other = molecule(name)
        other.positions += at
        frame += other
    frame.set_cell([7.5, 8.0, 7.0])
    frame.pbc = True
    frame.arrays["molecule"] = np.repeat([0, 1, 2], [6, 6, 6])
    frame.positions += 0.05 * rng.normal(size=frame.positions.shape)
    shortest = np.full(model.pairs.size // model.pairs.functions, 2.0)
    return Fitted(model, 0.2 * rng.normal(size=model.size), USUAL, shortest), frame


def test_the_virial_is_the_derivative_by_strain(mixture):
    fitted, frame = mixture
    species_of = np.array([0, 0, 1])
    _, _, virial = fitted.model.design(frame, species_of)

    def energy(strain):
        moved = frame.copy()
        deformation = np.eye(3) + strain
        moved.set_cell(frame.cell.array @ deformation.T)
        moved.positions = frame.positions @ deformation.T
        return fitted.model.design(moved, species_of)[0] @ fitted.coefficients

    for axis in range(3):
        strain = np.zeros((3, 3))
        strain[axis, axis] = STEP
        slope = (energy(strain) - energy(-strain)) / (2 * STEP)
        assert virial[axis, axis] @ fitted.coefficients == pytest.approx(-slope, abs=1e-5)


@pytest.mark.engine
def test_lammps_gives_the_numbers_of_the_fit(mixture, tmp_path):
    from mlpwf.potentials.molecular.potential import MolecularPotential
    from mlpwf.potentials.registry import engine

    fitted, frame = mixture
    write(tmp_path / "force_field.json", fitted)
    again = read(tmp_path / "force_field.json")
    assert np.array_equal(again.coefficients, fitted.coefficients)
    molecules = [molecule("CH3OH"), molecule("CH3CN")]
    for one in molecules:
        one.arrays["molecule"] = np.zeros(len(one), int)
    potential = MolecularPotential(engine("molecular"), [tmp_path / "force_field.json"], molecules)
    (found,) = potential.predict([frame])
    energy, forces, virial = again.model.design(frame, np.array([0, 0, 1]))
    assert found.energy == pytest.approx(energy @ again.coefficients, abs=1e-6)
    assert found.forces == pytest.approx(forces @ again.coefficients, abs=2e-5)
    assert found.virial == pytest.approx(virial @ again.coefficients, abs=2e-4)


@pytest.mark.engine
def test_a_box_that_is_kept_gives_the_numbers_of_a_new_one(mixture, tmp_path):
    """Frames with other positions, edges and tilts, after one another and alone."""
    from mlpwf.potentials.molecular.potential import MolecularPotential
    from mlpwf.potentials.registry import engine

    fitted, frame = mixture
    write(tmp_path / "force_field.json", fitted)
    molecules = [molecule("CH3OH"), molecule("CH3CN")]
    for one in molecules:
        one.arrays["molecule"] = np.zeros(len(one), int)
    rng = np.random.default_rng(5)
    frames = []
    for strain in (0.0, 0.03, -0.02):
        for tilt in (0.0, 0.8):
            other = frame.copy()
            other.set_cell((1 + strain) * frame.cell.array + tilt * np.eye(3, k=-1))
            other.positions += 0.05 * rng.normal(size=frame.positions.shape) + 9 * strain / 0.03
            frames.append(other)

    def opened():
        return MolecularPotential(engine("molecular"), [tmp_path / "force_field.json"], molecules)

    for together, frame in zip(opened().predict(frames), frames, strict=True):
        (alone,) = opened().predict([frame])
        assert together.energy == pytest.approx(alone.energy, abs=1e-9)
        assert together.forces == pytest.approx(alone.forces, abs=1e-8)
        assert together.stress == pytest.approx(alone.stress, abs=1e-10)


@pytest.fixture
def benzenes(tmp_path):
    """A force field of random numbers for benzene, opened."""
    from mlpwf.potentials.molecular.potential import MolecularPotential
    from mlpwf.potentials.registry import engine

    topology, at = species("C6H6")
    model = Model(Molecules((topology,), (at,)), (Class2(topology, references(topology, at)),), PairBasis(2, 5.0))
    coefficients = 0.2 * np.random.default_rng(7).normal(size=model.size)
    write(tmp_path / "force_field.json", Fitted(model, coefficients, USUAL, np.full(3, 2.0)))
    one = molecule("C6H6")
    one.arrays["molecule"] = np.zeros(len(one), int)
    return MolecularPotential(engine("molecular"), [tmp_path / "force_field.json"], [one])


def box_of_benzenes(edge, rng):
    """Two benzenes, turned at random, in a cube."""
    frame = molecule("C6H6")
    frame += molecule("C6H6")
    frame.arrays["molecule"] = np.repeat([0, 1], 12)
    for start in (0, 12):
        turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        frame.positions[start : start + 12] = frame.positions[start : start + 12] @ turn + start * edge / 24
    frame.positions += 0.03 * rng.normal(size=frame.positions.shape)
    frame.set_cell([edge] * 3)
    frame.pbc = True
    return frame


@pytest.mark.engine
def test_lammps_gives_the_numbers_of_the_fit_where_half_a_box_is_shorter_than_a_molecule(benzenes):
    rng = np.random.default_rng(11)
    frames = [box_of_benzenes(edge, rng) for edge in (6.0, 6.3, 6.3, 6.6, 7.0, 9.0)]
    model, values = benzenes.fitted.model, benzenes.fitted.coefficients
    for frame, found in zip(frames, benzenes.predict(frames), strict=True):
        energy, forces, virial = model.design(frame, np.array([0, 0]))
        assert found.energy == pytest.approx(energy @ values, abs=1e-5)
        assert found.forces == pytest.approx(forces @ values, abs=1e-4)
        assert found.virial == pytest.approx(virial @ values, abs=1e-3)


@pytest.mark.engine
def test_a_box_too_small_for_lammps_is_refused(benzenes, tmp_path):
    """In which a molecule turns; a frame is taken where its own separations fit."""
    frame = box_of_benzenes(5.4, np.random.default_rng(1))
    with pytest.raises(DataError, match=r"a box of 5\.4 Å; expected at least 5\.6 Å"):
        benzenes.lammps().write_box(tmp_path / "box.data", frame)
    with pytest.raises(DataError, match=r"a box of 4\.2 Å; expected one of which half is longer"):
        benzenes.predict([box_of_benzenes(4.2, np.random.default_rng(1))])


@pytest.mark.engine
def test_a_flat_molecule_alone_is_taken_in_a_thin_box(benzenes):
    alone = molecule("C6H6")
    alone.arrays["molecule"] = np.zeros(12, int)
    alone.set_cell([*np.ptp(alone.positions[:, :2], axis=0) + 5, 4.9])
    alone.pbc = True
    (found,) = benzenes.predict([alone])
    energy, forces, _ = benzenes.fitted.model.design(alone, np.array([0]))
    assert found.energy == pytest.approx(energy @ benzenes.fitted.coefficients, abs=1e-5)
    assert found.forces == pytest.approx(forces @ benzenes.fitted.coefficients, abs=1e-4)


def test_a_force_field_of_other_pairs_is_refused(mixture, tmp_path):
    file = tmp_path / "force_field.json"
    write(file, mixture[0])
    document = json.loads(file.read_text())
    assert document.pop("excluded_bonds") == 2
    file.write_text(json.dumps(document))
    with pytest.raises(
        DataError, match="up to 3 bonds apart are left out; expected 2, of this version: delete"
    ) as caught:
        read(file)
    assert "\n" not in str(caught.value)
