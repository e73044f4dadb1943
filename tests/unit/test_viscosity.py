"""Viscosity of stresses that are made, where it is known."""

import numpy as np
import pytest
from scipy.signal import lfilter

from mlpwf.dynamics import viscosity
from mlpwf.errors import DataError

MODULUS, TAU = 2.0, 20.0


def maxwell(steps, seed, tau=TAU, modulus=MODULUS):
    """Stress tensors (steps, 6) of Maxwell's liquid at unit V/(k_B T): ⟨σ(0)σ(t)⟩ = G exp(−t/τ), so η = Gτ."""
    rng = np.random.default_rng(seed)
    decay = np.exp(-1 / tau)
    noise = rng.normal(size=(5, steps + 2000)) * np.sqrt(modulus * (1 - decay**2))
    xy, xz, yz, a, b = lfilter([1], [1, -decay], noise, axis=1)[:, 2000:]
    xx, yy, zz = a - b / np.sqrt(3), -a - b / np.sqrt(3), 2 * b / np.sqrt(3)
    pressure = 50 + rng.normal(size=steps)  # the isotropic part must not matter
    return np.stack([xx + pressure, yy + pressure, zz + pressure, xy, xz, yz], axis=1), np.stack([xy, xz, yz, a, b])


def test_components_are_the_five_independent_ones():
    stress, made = maxwell(500, 1)
    np.testing.assert_allclose(viscosity.shear_components(stress), made, atol=1e-12)


def test_components_do_not_depend_on_the_axes():
    """Σ over the five of σ² is half the squared norm of the traceless part: an invariant of rotation."""
    from scipy.spatial.transform import Rotation

    rng = np.random.default_rng(2)
    tensor = rng.normal(size=(3, 3))
    tensor = tensor + tensor.T
    norms = []
    for turn in (np.eye(3), Rotation.random(rng=rng).as_matrix()):
        t = turn @ tensor @ turn.T
        columns = np.array([[t[0, 0], t[1, 1], t[2, 2], t[0, 1], t[0, 2], t[1, 2]]])
        norms.append(float((viscosity.shear_components(columns) ** 2).sum()))
    traceless = tensor - np.eye(3) * np.trace(tensor) / 3
    assert norms == pytest.approx([(traceless**2).sum() / 2] * 2)


def test_maxwell_liquid():
    scores = []
    for seed in (0, 1):
        found = viscosity.green_kubo(maxwell(8000, seed)[0], 1.0, 1.0)
        assert found.verdict == "ok"
        assert found.error < 0.15 * MODULUS * TAU
        assert found.relaxation == pytest.approx(TAU, rel=0.25)
        scores.append((found.value - MODULUS * TAU) / found.error)
    assert np.all(np.abs(scores) < 3.5), scores


@pytest.mark.physical_validation
@pytest.mark.parametrize("seed", [1, 2])
def test_a_slow_step_of_the_stress_is_not_lost(seed):
    """τ of 0.1 and 1.5 ps, 37 % of the integral in the slow one, 300 ps: not −28 % with an error of 2 %."""
    interval, steps = 0.025, 12000
    fast = maxwell(steps, 2 * seed, 0.1 / interval, 0.63 / 0.1)[0]
    slow = maxwell(steps, 2 * seed + 1, 1.5 / interval, 0.37 / 1.5)[0]
    found = viscosity.green_kubo(fast + slow, interval, 1.0)
    assert found.verdict == "ok"
    assert abs(found.value - 1) < 2.5 * found.error
    assert 0.04 < found.error < 0.4, "the slow step is known from some 30 frequencies of 5 components"


FREQUENCIES = np.arange(400) / 300.0  # 1/ps, of a run of 300 ps
FREEDOMS = np.where(FREQUENCIES > 0, 10, 5)


def lorentzian(tau):
    return 1 / (1 + (2 * np.pi * FREQUENCIES * tau) ** 2)


@pytest.mark.parametrize(("slow", "low", "high"), [(0.0, 0.0, 0.05), (0.37, 0.9, 1.0)])
def test_a_fit_that_misses_the_lowest_frequencies_is_recognised(slow, low, high):
    """Of 2000 spectra, p < 0.05 in at most 5 % where the model is right, in 90 % where a slow step is missed."""
    rng = np.random.default_rng(8)
    truth = (1 - slow) * lorentzian(0.1) + slow * lorentzian(1.5)
    spectra = truth * rng.chisquare(FREEDOMS, size=(2000, len(truth))) / FREEDOMS
    model = (1 - slow) * lorentzian(0.1)
    share = np.mean([viscosity.probability_near_zero(one, model, FREEDOMS) < 0.05 for one in spectra])
    assert low <= share <= high


def test_no_fit_at_zero_frequency_is_a_verdict(monkeypatch):
    monkeypatch.setattr(viscosity, "CONTRADICTED", 1.0)
    found = viscosity.green_kubo(maxwell(600, 3, tau=3.0)[0], 1.0, 1.0)
    assert found.verdict == viscosity.NOT_AT_ZERO
    assert np.isnan(found.value)


def test_units_and_separate_runs():
    runs = np.stack([maxwell(1500, seed)[0] for seed in (5, 6)])
    found = viscosity.green_kubo(runs, 1.0, 1.0)
    # the same stress as bar at 2 fs in 30 nm³ at 300 K: V/(k_B T)·bar²·ps by hand, in mPa·s
    practical = viscosity.shear_viscosity(runs, 0.002, 30_000.0, 300.0)
    by_hand = 30_000e-30 / (1.380649e-23 * 300) * (1e5) ** 2 * 0.002e-12 * 1e3
    assert practical.value == pytest.approx(found.value * by_hand, rel=1e-6)
    assert practical.relaxation == pytest.approx(found.relaxation * 0.002, rel=1e-6)


def test_verdicts_and_bad_input():
    stress, _ = maxwell(8000, 3, tau=600.0)
    assert viscosity.green_kubo(stress, 1.0, 1.0).verdict != "ok"
    assert viscosity.green_kubo(stress[:100], 1.0, 1.0).verdict == "too few steps"
    with pytest.raises(DataError, match=r"\(steps, 6\)"):
        viscosity.green_kubo(stress[:, :3], 1.0, 1.0)
    with pytest.raises(DataError, match="never varies"):
        viscosity.green_kubo(np.ones((300, 6)), 1.0, 1.0)
    with pytest.raises(DataError, match="NaN"):
        viscosity.green_kubo(np.full((300, 6), np.nan), 1.0, 1.0)
    with pytest.raises(DataError, match="positive"):
        viscosity.green_kubo(stress, 0.0, 1.0)
