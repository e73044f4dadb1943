"""Implausible labels are flagged, new ones are not."""

from dataclasses import replace

import numpy as np
import pytest

from mlpwf.calculators.espresso import pw
from mlpwf.calculators.espresso.retries import tighter
from mlpwf.config import Label
from mlpwf.label.outliers import disagreement, implausible, robust_z
from mlpwf.structures.properties import Properties

ATOMS = 12


@pytest.fixture
def ensemble():
    random = np.random.default_rng(4)

    def frame():
        forces = random.normal(0, 1.0, (ATOMS, 3))
        return Properties(-100.0 + random.normal(0, 0.3), forces, np.zeros((3, 3)), 100.0)

    labels = [frame() for _ in range(40)]
    committee = [
        [
            replace(
                q,
                energy=q.energy + 0.2 + random.normal(0, 0.02),
                forces=q.forces + random.normal(0, 0.1, q.forces.shape),
            )
            for q in labels
        ]
        for _ in range(4)
    ]
    return labels, committee


def changed(label, energy=0.0, force=0.0):
    forces = label.forces.copy()
    forces[3] += [force, 0, 0]
    return replace(label, energy=label.energy + energy, forces=forces)


def test_a_sound_ensemble_is_not_flagged(ensemble):
    labels, committee = ensemble
    assert implausible(labels, ["H2O"] * 40) == [""] * 40
    assert implausible(labels, ["H2O"] * 40, committee) == [""] * 40


def test_spreads_are_standard_deviations_of_a_normal_sample():
    values = np.random.default_rng(0).normal(3.0, 2.0, 100_000)
    assert np.std(robust_z(values, 1e-9)) == pytest.approx(1, abs=0.01)


def test_a_wrong_energy_is_flagged(ensemble):
    labels, committee = ensemble
    labels[7] = changed(labels[7], energy=6.0)
    assert "the energy per atom" in implausible(labels, ["H2O"] * 40)[7]
    assert sum(map(bool, implausible(labels, ["H2O"] * 40, committee))) == 1


def test_the_committee_sees_what_the_ensemble_cannot(ensemble):
    labels, committee = ensemble
    labels[7] = changed(labels[7], energy=0.5)
    labels[9] = changed(labels[9], force=2.0)
    assert not any(implausible(labels, ["H2O"] * 40))
    why = implausible(labels, ["H2O"] * 40, committee)
    assert "the committee's energy error" in why[7]
    assert "the committee's force error" in why[9]
    assert sum(map(bool, why)) == 2


def test_a_frame_the_committee_knows_to_be_new_is_not_flagged(ensemble):
    labels, committee = ensemble
    random = np.random.default_rng(8)
    for model in committee:
        model[5] = replace(model[5], forces=labels[5].forces + random.normal(0, 1.5, (ATOMS, 3)))
    assert implausible(labels, ["H2O"] * 40, committee)[5] == ""


def test_compositions_are_not_compared(ensemble):
    labels, _ = ensemble
    labels[:10] = [changed(q, energy=-500.0) for q in labels[:10]]
    assert any(implausible(labels, ["H2O"] * 40))
    assert not any(implausible(labels, ["CH4"] * 10 + ["H2O"] * 30))


def test_tighter_is_the_same_physics_but_for_the_threshold():
    label = Label(convergence_ry=1e-7)
    one, other = (pw.physics(settings, {}) for settings in (label, tighter(label)))
    assert {key for key in one if one[key] != other[key]} == {"convergence_ry"}
    assert other["convergence_ry"] == pytest.approx(1e-9)


def test_disagreement_names_the_differences(ensemble):
    labels, _ = ensemble
    assert disagreement(labels[0], changed(labels[0], energy=1e-3, force=0.005)) == ""
    assert "0.1 eV/Å" in disagreement(labels[0], changed(labels[0], force=0.1))
    assert "eV/atom" in disagreement(labels[0], changed(labels[0], energy=1.0))
