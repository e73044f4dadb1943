"""Energy terms of χ4 against a model in which they are known.

Each of N molecules has stayed, w = 1, with a probability p that depends on the energy of the box
alone: at fixed energy they are independent and χ4 = p(1 − p); a canonical box adds what the theory says.
"""

import numpy as np
import pytest

from mlpwf.dynamics import ensemble
from mlpwf.errors import DataError
from mlpwf.units import BOLTZMANN_EV_K as K

N = 200
CAPACITY = 5.0  # k_B a molecule
T = 250.0
GAIN = 30.0  # 1/eV: dp/de, large enough for the term to dominate


def stayed(energy):
    """p of the energy of a molecule in eV, linear near its mean at T."""
    return 0.4 - GAIN * (energy - CAPACITY * K * T)


def canonical(temperature, origins, rng):
    """C of each origin and the energy of the box in eV."""
    mean = N * CAPACITY * K * temperature
    energy = mean + np.sqrt(N * CAPACITY) * K * temperature * rng.normal(size=origins)
    return rng.binomial(N, np.clip(stayed(energy / N), 0, 1)) / N, energy


def test_the_term_takes_the_microcanonical_value_to_the_canonical_one():
    rng = np.random.default_rng(1)
    C, energy = canonical(T, 40_000, rng)
    fixed = rng.binomial(N, stayed(CAPACITY * K * T), 40_000) / N
    chi4_nvt, chi4_nve = N * C.var(), N * fixed.var()
    assert chi4_nve == pytest.approx(0.4 * 0.6, rel=0.03)
    known = GAIN**2 * CAPACITY * (K * T) ** 2
    response = np.cov(C, energy)[0, 1] / (K * T**2)
    assert response == pytest.approx(-GAIN * CAPACITY * K, rel=0.02)
    capacity = ensemble.heat_capacity_by_fluctuation(energy, T, N)
    assert capacity == pytest.approx(CAPACITY, rel=0.03)
    term, _ = ensemble.energy_term(T, np.array(response), np.array(0.0), capacity)
    assert float(term) == pytest.approx(known, rel=0.05)
    assert known > 5 * chi4_nve  # or the sum below would say nothing about the term
    assert chi4_nve + float(term) == pytest.approx(chi4_nvt, rel=0.05)


def test_response_by_difference_agrees_with_that_by_fluctuation():
    rng = np.random.default_rng(2)
    temperatures = np.array([245.0, 250.0, 256.0])
    runs = [canonical(t, 20_000, rng) for t in temperatures]
    errors = [np.array([C.std() / np.sqrt(20_000)]) for C, _ in runs]
    found = ensemble.response_by_difference(
        temperatures, [np.ones(1)] * 3, [np.array([C.mean()]) for C, _ in runs], errors
    )
    for response, error in found:
        assert abs(response[0] + GAIN * CAPACITY * K) < 4 * error[0]
        assert error[0] < 0.05 * GAIN * CAPACITY * K
    by_fluctuation = np.cov(*runs[1])[0, 1] / (K * 250.0**2)
    assert found[1][0][0] == pytest.approx(by_fluctuation, rel=0.1)


def test_response_is_exact_for_a_parabola_and_nan_outside():
    temperatures = np.array([200.0, 230.0, 280.0])
    grids = [np.array([1.0, 10.0, 100.0]), np.array([1.0, 10.0, 100.0]), np.array([1.0, 10.0])]
    values = [3 + 0.2 * t + 0.01 * t**2 + 0 * grid for t, grid in zip(temperatures, grids, strict=True)]
    found = ensemble.response_by_difference(temperatures, grids, values, [0.1 * v for v in values])
    np.testing.assert_allclose(found[1][0][:2], 0.2 + 0.02 * 230, rtol=1e-9)
    assert np.isnan(found[1][0][2])  # 280 K has no such lag
    np.testing.assert_allclose(found[0][0], 0.2 + 0.01 * 430, rtol=1e-9)  # one neighbour: a difference
    single = ensemble.response_by_difference(temperatures[:1], grids[:1], values[:1], values[:1])
    assert np.isnan(single[0][0]).all()


def test_other_lags_are_interpolated_in_the_logarithm():
    times = np.geomspace(1, 1000, 7)
    other = np.geomspace(1, 1000, 13)
    found = ensemble.response_by_difference(
        np.array([200.0, 210.0]), [times, other], [np.log(times), 2 * np.log(other)], [0 * times, 0 * other]
    )
    np.testing.assert_allclose(found[0][0], np.log(times) / 10, atol=1e-12)


def test_heat_capacity_by_difference():
    temperatures = np.array([200.0, 220.0, 250.0, 300.0])
    energy = 7.5 * K * temperatures
    capacity, error = ensemble.heat_capacity_by_difference(temperatures, energy, np.full(4, 1e-5))
    np.testing.assert_allclose(capacity, 7.5, rtol=1e-9)
    assert error[0] == pytest.approx(np.sqrt(2) * 1e-5 / (20 * K))


def test_three_point_count_and_its_approximation_agree_for_a_stretched_exponential():
    tau, beta, slope, capacity = 30.0, 0.6, -12.0, 8.0
    times = np.geomspace(0.01, 1e5, 4000)
    # ∂C/∂T = (∂C/∂ln τ)(dln τ/dln T)/T
    response = beta * (times / tau) ** beta * np.exp(-((times / tau) ** beta)) * slope / T
    exact, _ = ensemble.three_point_count(T, response, 0 * response, capacity)
    approximate, error = ensemble.three_point_approximation(beta, 0.03, slope, 0.6, capacity)
    assert exact == pytest.approx(approximate, rel=1e-4)
    assert error == pytest.approx(2 * approximate * np.hypot(0.05, 0.05))


def test_errors_are_propagated():
    _, error = ensemble.energy_term(T, np.array([-1e-3]), np.array([1e-4]), 5.0, 0.25)
    term = T**2 * 1e-6 / 5
    assert error[0] == pytest.approx(term * np.hypot(0.2, 0.05))
    value, error = ensemble.three_point_count(T, np.array([np.nan, 1e-3, 3e-3]), np.array([np.nan, 1e-4, 1e-4]), 5.0)
    assert (value, error) == (pytest.approx(9 * term), pytest.approx(9 * term * 2 / 30))
    assert np.isnan(ensemble.three_point_count(T, np.array([np.nan]), np.array([np.nan]), 5.0)[0])


def test_impossible_input():
    with pytest.raises(DataError, match="heat capacity -1"):
        ensemble.energy_term(T, np.ones(1), np.ones(1), -1.0)
    with pytest.raises(DataError, match="increasing"):
        ensemble.response_by_difference(np.array([3.0, 2.0]), [np.ones(1)] * 2, [np.ones(1)] * 2, [np.ones(1)] * 2)
    with pytest.raises(DataError, match="one curve a temperature"):
        ensemble.response_by_difference(np.array([3.0, 4.0]), [np.ones(1)], [np.ones(1)], [np.ones(1)])
