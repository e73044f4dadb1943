"""Error measures against naive loops and cases with known answers."""

from __future__ import annotations

import numpy as np
import pytest

from mlpwf.errors import DataError
from mlpwf.training import (
    Quantities,
    committee_mean,
    error_measures,
    errors_by_state,
    largest_differences,
    parity_rows,
)


def some(seed: int, sizes: tuple[int, ...] = (6, 9, 6)) -> list[Quantities]:
    rng = np.random.default_rng(seed)
    return [Quantities(float(rng.normal()), rng.normal(size=(size, 3)), rng.normal(size=(3, 3))) for size in sizes]


MASSES = [np.tile([16.0, 1.0, 1.0], size // 3) for size in (6, 9, 6)]
MOLECULES = [np.arange(size) // 3 for size in (6, 9, 6)]


def test_equals_naive_loops() -> None:
    labels, models = some(1), some(2)
    measures = error_measures(labels, models, MASSES, MOLECULES)
    energy, force, inter, intra, virial = [], [], [], [], []
    for label, model, mass, molecule in zip(labels, models, MASSES, MOLECULES, strict=True):
        atoms = len(mass)
        energy.append((model.energy - label.energy) / atoms)
        for i in range(3):
            for j in range(3):
                virial.append((model.virial[i, j] - label.virial[i, j]) / atoms)
        for number in set(molecule.tolist()):
            members = [atom for atom in range(atoms) if molecule[atom] == number]
            for axis in range(3):
                errors = [model.forces[atom, axis] - label.forces[atom, axis] for atom in members]
                total, weight = sum(errors), sum(mass[atom] for atom in members)
                force += errors
                inter.append(total)
                intra += [one - mass[atom] / weight * total for one, atom in zip(errors, members, strict=True)]

    def root(values: list[float]) -> float:
        return (sum(value**2 for value in values) / len(values)) ** 0.5

    assert measures["frames"] == 3
    assert measures["atoms"] == 21
    assert measures["energy_rmse_mev_atom"] == pytest.approx(1e3 * root(energy), rel=1e-12)
    assert measures["energy_bias_mev_atom"] == pytest.approx(1e3 * sum(energy) / 3, rel=1e-12)
    assert measures["force_rmse_ev_angstrom"] == pytest.approx(root(force), rel=1e-12)
    assert measures["force_inter_rmse_ev_angstrom"] == pytest.approx(root(inter), rel=1e-12)
    assert measures["force_intra_rmse_ev_angstrom"] == pytest.approx(root(intra), rel=1e-12)
    assert measures["virial_rmse_ev_atom"] == pytest.approx(root(virial), rel=1e-12)


def test_net_push_on_a_molecule_is_inter_only() -> None:
    zero = Quantities(0.0, np.zeros((3, 3)), np.zeros((3, 3)))
    mass = np.array([16.0, 1.0, 1.0])
    pushed = Quantities(0.0, np.outer(mass / mass.sum(), [0.3, 0.0, 0.0]), np.zeros((3, 3)))
    measures = error_measures([zero], [pushed], [mass], [np.zeros(3, int)])
    assert measures["force_inter_rmse_ev_angstrom"] == pytest.approx(0.3 / 3**0.5)
    assert measures["force_intra_rmse_ev_angstrom"] == pytest.approx(0.0, abs=1e-15)


def test_perfect_model_and_order_of_frames() -> None:
    labels, models = some(1), some(2)
    assert error_measures(labels, labels, MASSES, MOLECULES)["force_rmse_ev_angstrom"] == 0.0
    backwards = error_measures(labels[::-1], models[::-1], MASSES[::-1], MOLECULES[::-1])
    assert backwards == pytest.approx(error_measures(labels, models, MASSES, MOLECULES))


def test_by_state_splits_frames() -> None:
    labels, models = some(1), some(2)
    result = errors_by_state(labels, models, MASSES, MOLECULES, ["hot", "cold", "hot"])
    assert list(result["states"]) == ["cold", "hot"]
    assert result["states"]["cold"] == error_measures(labels[1:2], models[1:2], MASSES[1:2], MOLECULES[1:2])
    assert result["states"]["hot"]["frames"] == 2
    assert result["overall"]["frames"] == 3


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
        error_measures(some(1), some(2)[:2], MASSES, MOLECULES)
    with pytest.raises(DataError, match=r"\(9, 3\) and \(6, 3\)"):
        error_measures(some(1), some(2, (9, 9, 6)), MASSES, MOLECULES)
    with pytest.raises(DataError, match="no frames"):
        error_measures([], [], [], [])
