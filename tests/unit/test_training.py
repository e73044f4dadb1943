"""Error measures against naive loops and cases with known answers."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from msgspec.structs import asdict

from mlpwf.campaign.records import Errors
from mlpwf.errors import DataError
from mlpwf.potentials.metrics import (
    committee_mean,
    error_measures,
    errors_by_state,
    largest_differences,
    parity_rows,
)
from mlpwf.structures.properties import Properties


def some(seed: int, sizes: tuple[int, ...] = (6, 9, 6)) -> list[Properties]:
    rng = np.random.default_rng(seed)
    return [
        Properties(float(rng.normal()), rng.normal(size=(size, 3)), rng.normal(size=(3, 3)), 20.0) for size in sizes
    ]


def boxes(sizes: tuple[int, ...] = (6, 9, 6)) -> list[Atoms]:
    """Frames of three-atom molecules, far from a bond's length."""
    rng = np.random.default_rng(3)
    frames = [Atoms("OHH" * (size // 3), rng.normal(size=(size, 3))) for size in sizes]
    for atoms in frames:
        atoms.arrays["molecule"] = np.arange(len(atoms)) // 3
    return frames


FRAMES = boxes()


def test_equals_naive_loops() -> None:
    labels, models = some(1), some(2)
    measures = error_measures(FRAMES, labels, models)
    energy, force, inter, intra, torque, virial = [], [], [], [], [], []
    for frame, label, model in zip(FRAMES, labels, models, strict=True):
        atoms, mass = len(frame), frame.get_masses()
        energy.append((model.energy - label.energy) / atoms)
        for i in range(3):
            for j in range(3):
                virial.append((model.virial[i, j] - label.virial[i, j]) / atoms)
        for first in range(0, atoms, 3):
            members = range(first, first + 3)
            weight = sum(mass[atom] for atom in members)
            for axis in range(3):
                errors = [model.forces[atom, axis] - label.forces[atom, axis] for atom in members]
                total = sum(errors)
                force += errors
                inter.append(total)
                intra += [one - mass[atom] / weight * total for one, atom in zip(errors, members, strict=True)]
            centre = sum(mass[atom] * frame.positions[atom] for atom in members) / weight
            arms = [frame.positions[atom] - centre for atom in members]
            size = (sum(sum(x**2 for x in arm) for arm in arms) / 3) ** 0.5
            for y, z in ((1, 2), (2, 0), (0, 1)):
                wrong = [model.forces[atom] - label.forces[atom] for atom in members]
                torque.append(sum(r[y] * f[z] - r[z] * f[y] for r, f in zip(arms, wrong, strict=True)) / size)

    def root(values: list[float]) -> float:
        return (sum(value**2 for value in values) / len(values)) ** 0.5

    assert measures.frames == 3
    assert measures.atoms == 21
    assert measures.energy_rmse_mev_atom == pytest.approx(1e3 * root(energy), rel=1e-12)
    assert measures.energy_bias_mev_atom == pytest.approx(1e3 * sum(energy) / 3, rel=1e-12)
    assert measures.force_rmse_ev_angstrom == pytest.approx(root(force), rel=1e-12)
    assert measures.force_inter_rmse_ev_angstrom == pytest.approx(root(inter), rel=1e-12)
    assert measures.force_intra_rmse_ev_angstrom == pytest.approx(root(intra), rel=1e-12)
    assert measures.torque_rmse_ev_angstrom == pytest.approx(root(torque), rel=1e-12)
    assert measures.virial_rmse_ev_atom == pytest.approx(root(virial), rel=1e-12)


def of_one_molecule(forces: np.ndarray) -> Errors:
    """Errors of a model that says `forces` of the first three atoms where the label says zero."""
    zero, said = (Properties(0.0, one, np.zeros((3, 3)), 20.0) for one in (np.zeros((3, 3)), forces))
    return error_measures([FRAMES[0][:3]], [zero], [said])


def test_net_push_on_a_molecule_is_inter_only() -> None:
    mass = FRAMES[0].get_masses()[:3]
    measures = of_one_molecule(np.outer(mass / mass.sum(), [0.3, 0.0, 0.0]))
    assert measures.force_inter_rmse_ev_angstrom == pytest.approx(0.3 / 3**0.5)
    assert measures.force_intra_rmse_ev_angstrom == pytest.approx(0.0, abs=1e-15)
    assert measures.torque_rmse_ev_angstrom == pytest.approx(0.0, abs=1e-15)


def test_a_stretched_bond_neither_pushes_nor_turns_its_molecule() -> None:
    along = FRAMES[0].positions[1] - FRAMES[0].positions[0]
    measures = of_one_molecule(np.array([-along, along, 0 * along]))
    assert measures.force_inter_rmse_ev_angstrom == pytest.approx(0.0, abs=1e-15)
    assert measures.torque_rmse_ev_angstrom == pytest.approx(0.0, abs=1e-15)
    assert measures.force_intra_rmse_ev_angstrom > 0.1


def test_single_atoms_are_pushed_and_do_not_turn() -> None:
    label, model = (Properties(0.0, np.full((4, 3), value), np.zeros((3, 3)), 20.0) for value in (0.0, 0.1))
    argon = Atoms("Ar4", np.eye(4, 3))
    argon.arrays["molecule"] = np.arange(4)
    measures = error_measures([argon], [label], [model])
    assert measures.force_inter_rmse_ev_angstrom == pytest.approx(0.1)
    assert measures.torque_rmse_ev_angstrom is None


def test_perfect_model_and_order_of_frames() -> None:
    labels, models = some(1), some(2)
    assert error_measures(FRAMES, labels, labels).force_rmse_ev_angstrom == 0.0
    backwards = error_measures(FRAMES[::-1], labels[::-1], models[::-1])
    assert asdict(backwards) == pytest.approx(asdict(error_measures(FRAMES, labels, models)))


def test_by_state_splits_frames() -> None:
    labels, models = some(1), some(2)
    result = errors_by_state(FRAMES, labels, models, ["hot", "cold", "hot"])
    assert list(result.states) == ["cold", "hot"]
    assert result.states["cold"] == error_measures(FRAMES[1:2], labels[1:2], models[1:2])
    assert result.states["hot"].frames == 2
    assert result.overall.frames == 3


def test_committee_mean_and_differences() -> None:
    one, other = some(1), some(2)
    mean = committee_mean([one, other])
    assert mean[1].energy == pytest.approx((one[1].energy + other[1].energy) / 2)
    assert np.allclose(mean[2].forces, (one[2].forces + other[2].forces) / 2)
    differences = largest_differences(one, other)
    assert differences.force_ev_angstrom == max(
        np.abs(a.forces - b.forces).max() for a, b in zip(one, other, strict=True)
    )
    assert largest_differences(one, one).virial_ev_atom == 0.0


def test_parity_rows_keep_to_the_limit() -> None:
    labels, models = some(1), some(2)
    everything = parity_rows(labels, models, ["a", "b", "a"])
    assert len(everything) == 3 + 27 + 63
    assert ("energy", "b", labels[1].energy / 9, models[1].energy / 9) in everything
    few = parity_rows(labels, models, ["a", "b", "a"], limit=30)
    assert len(few) <= 30
    assert {row[0] for row in few} == {"energy", "force", "virial"}


def test_refuses_what_does_not_match() -> None:
    with pytest.raises(DataError, match="2 predictions for 3 labels"):
        error_measures(FRAMES, some(1), some(2)[:2])
    with pytest.raises(DataError, match=r"\(9, 3\) and \(6, 3\)"):
        error_measures(FRAMES, some(1), some(2, (9, 9, 6)))
    with pytest.raises(DataError, match="no frames"):
        error_measures([], [], [])
