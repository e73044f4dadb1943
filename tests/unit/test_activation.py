"""Times, diffusion and activation energies recovered from curves made with known ones."""

import math

import numpy as np
import pytest
from scipy.special import gamma

from mlpwf.dynamics import activation
from mlpwf.errors import DataError
from mlpwf.units import GAS_CONSTANT_KJ_MOL_K

TIMES = np.geomspace(0.01, 1000, 60)
TEMPERATURES = np.array([220.0, 240.0, 270.0, 300.0, 340.0, 380.0])


def test_tau_of_an_exponential():
    found = activation.relaxation_time(TIMES, np.exp(-TIMES / 7), np.full(60, 0.01), 1000.0)
    assert found.tau_ps == pytest.approx(7, rel=0.01)
    # dC = dlnτ/e, so 0.01 of C is 2.7 % of τ
    assert found.error_ps == pytest.approx(7 * 0.01 * math.e, rel=0.1)
    assert found.verdict == "ok"


@pytest.mark.parametrize(
    ("tau", "run", "verdict", "known"),
    [
        (7.0, 20.0, "run shorter than 3 tau", True),
        (5000.0, 2000.0, "not decayed", False),
        (1e-3, 2000.0, "faster than the first lag", False),
    ],
)
def test_verdicts_of_tau(tau, run, verdict, known):
    found = activation.relaxation_time(TIMES, np.exp(-TIMES / tau), np.full(60, 0.01), run)
    assert (found.verdict, math.isfinite(found.tau_ps)) == (verdict, known)


@pytest.mark.parametrize("beta", [0.45, 0.7, 1.0])
@pytest.mark.parametrize("amplitude", [1.0, 0.8])
def test_kww_recovers_its_parameters(beta, amplitude):
    noise = np.random.default_rng(2).normal(scale=0.002, size=60)
    found = activation.stretched_exponential(TIMES, amplitude * np.exp(-((TIMES / 12) ** beta)) + noise)
    assert found.verdict == "ok"
    assert found.beta == pytest.approx(beta, rel=0.03)
    assert found.tau_ps == pytest.approx(12, rel=0.05)
    assert found.amplitude == pytest.approx(amplitude, abs=0.03)
    assert found.mean_ps == pytest.approx(found.tau_ps / found.beta * gamma(1 / found.beta), rel=1e-12)


def test_kww_verdicts():
    assert activation.stretched_exponential(TIMES, np.exp(-TIMES / 1e5)).verdict == "not decayed"
    assert activation.stretched_exponential(TIMES[::15], np.exp(-TIMES[::15] / 5)).verdict == "too few points"


def test_diffusion_of_a_straight_msd():
    found = activation.diffusion(TIMES, 6 * 0.3 * TIMES + 0.5, 0.02 * 6 * 0.3 * TIMES, 3000.0)
    assert found.coefficient == pytest.approx(0.3, rel=1e-6)
    assert found.error == pytest.approx(0.006, rel=0.02)
    assert found.verdict == "ok"


def test_diffusion_verdicts():
    caged = activation.diffusion(TIMES, 0.1 * TIMES**0.3, np.full(60, 0.01), 3000.0)
    assert caged.verdict == "not diffusive"
    assert caged.slope == pytest.approx(0.3)
    assert math.isnan(caged.coefficient)
    assert activation.diffusion(TIMES[:3], TIMES[:3], TIMES[:3], 0.02).verdict == "too few points"
    assert activation.diffusion(TIMES, 0 * TIMES, 0 * TIMES, 3000.0).verdict == "too few points"


def arrhenius_times(energy=20.0, prefactor=0.01):
    return prefactor * np.exp(energy / (GAS_CONSTANT_KJ_MOL_K * TEMPERATURES))


def test_arrhenius_is_exact_without_noise():
    fit = activation.arrhenius(TEMPERATURES, arrhenius_times(), np.full(6, np.nan))
    assert fit.energy == pytest.approx(20, rel=1e-9)
    assert fit.tau_infinity == pytest.approx(0.01, rel=1e-8)
    assert (fit.states, fit.verdict) == (6, "ok")


@pytest.mark.parametrize("known_errors", [True, False])
def test_arrhenius_errors_cover_the_truth(known_errors):
    rng = np.random.default_rng(8)
    relative = np.array([0.1, 0.08, 0.05, 0.05, 0.03, 0.03])
    scores = []
    for _ in range(300):
        times = arrhenius_times() * np.exp(rng.normal(size=6) * relative)
        errors = relative * times if known_errors else np.full(6, np.nan)
        fit = activation.arrhenius(TEMPERATURES, times, errors)
        scores.append(
            [(fit.energy - 20) / fit.energy_error, np.log(fit.tau_infinity / 0.01) / fit.ln_tau_infinity_error]
        )
    covered = np.mean(np.abs(scores) < 2, axis=0)
    # 95 % for a normal law; with 4 degrees of freedom 88 %
    assert np.all(covered > 0.82), covered
    assert np.all(covered < 0.995), covered


def test_arrhenius_leaves_out_states_without_tau():
    times = arrhenius_times()
    times[:2] = np.nan
    assert activation.arrhenius(TEMPERATURES, times, 0.1 * times).states == 4
    times[:4] = np.nan
    fit = activation.arrhenius(TEMPERATURES, times, 0.1 * times)
    assert (fit.verdict, fit.states) == ("too few states", 2)
    assert math.isnan(fit.energy)


def test_curvature_widens_the_error():
    curved = arrhenius_times() * np.exp((300 / TEMPERATURES - 1) ** 2 * 5)
    straight = activation.arrhenius(TEMPERATURES, arrhenius_times(), 0.02 * arrhenius_times())
    bent = activation.arrhenius(TEMPERATURES, curved, 0.02 * curved)
    assert bent.reduced_chi2 > 4
    assert bent.energy_error > 2 * straight.energy_error


def test_local_energies_of_an_arrhenius_law():
    times = arrhenius_times()
    middle, energy, error = activation.local_energies(TEMPERATURES, times, 0.05 * times)
    np.testing.assert_allclose(energy, 20, rtol=1e-9)
    assert np.all((middle > TEMPERATURES[:-1]) & (middle < TEMPERATURES[1:]))
    span = 1 / (GAS_CONSTANT_KJ_MOL_K * TEMPERATURES)
    np.testing.assert_allclose(error, 0.05 * np.sqrt(2) / -np.diff(span), rtol=1e-9)
    times[2] = np.nan
    np.testing.assert_array_equal(
        np.isnan(activation.local_energies(TEMPERATURES, times, 0.05 * times)[1]), [False, True, True, False, False]
    )


def test_energies_from_the_prefactor():
    times = arrhenius_times()
    fit = activation.arrhenius(TEMPERATURES, times, 0.05 * times)
    energy, error = activation.energies_from_prefactor(TEMPERATURES, times, 0.05 * times, fit)
    np.testing.assert_allclose(energy, 20, rtol=1e-8)
    assert np.all(error > 0)


def test_shapes_and_order_are_checked():
    with pytest.raises(DataError, match="shape"):
        activation.relaxation_time(TIMES, TIMES[:-1], TIMES, 1.0)
    with pytest.raises(DataError, match="shape"):
        activation.arrhenius(TEMPERATURES, TEMPERATURES[:-1], TEMPERATURES)
    with pytest.raises(DataError, match="increasing"):
        activation.local_energies(TEMPERATURES[::-1], arrhenius_times(), arrhenius_times())
