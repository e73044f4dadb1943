"""Times, stretching and diffusion recovered from curves made with known ones."""

import math

import numpy as np
import pytest
from scipy.special import gamma

from mlpwf.dynamics import relaxation
from mlpwf.dynamics.correlators import curve, pass_moments
from mlpwf.dynamics.trajectory import MolecularTrajectory
from mlpwf.errors import DataError

TIMES = np.geomspace(0.01, 1000, 60)


def test_tau_of_an_exponential():
    found = relaxation.relaxation_time(TIMES, np.exp(-TIMES / 7), np.full(60, 0.01), 1000.0)
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
    found = relaxation.relaxation_time(TIMES, np.exp(-TIMES / tau), np.full(60, 0.01), run)
    assert (found.verdict, math.isfinite(found.tau_ps)) == (verdict, known)


@pytest.mark.parametrize("beta", [0.45, 0.7, 1.0])
@pytest.mark.parametrize("amplitude", [1.0, 0.8])
def test_kww_recovers_its_parameters(beta, amplitude):
    noise = np.random.default_rng(2).normal(scale=0.002, size=60)
    found = relaxation.stretched_exponential(TIMES, amplitude * np.exp(-((TIMES / 12) ** beta)) + noise)
    assert found.verdict == "ok"
    assert found.beta == pytest.approx(beta, rel=0.03)
    assert found.tau_ps == pytest.approx(12, rel=0.05)
    assert found.amplitude == pytest.approx(amplitude, abs=0.03)
    assert found.mean_ps == pytest.approx(found.tau_ps / found.beta * gamma(1 / found.beta), rel=1e-12)


def test_jackknife_error_of_beta_covers_the_truth():
    rng = np.random.default_rng(3)
    scores = []
    for _ in range(40):
        blocks = np.exp(-((TIMES / 12) ** 0.7)) + 0.03 * rng.normal(size=(20, 1)) * TIMES**0.3 / 3 * np.exp(-TIMES / 12)
        left_out = (blocks.sum(axis=0) - blocks) / 19
        found = relaxation.stretched_exponential(TIMES, blocks.mean(axis=0), left_out)
        scores.append((found.beta - 0.7) / found.beta_error)
    assert 0.8 <= np.mean(np.abs(scores) < 2) <= 1, scores
    assert np.std(scores) > 0.5, "errors far too wide"
    assert math.isnan(relaxation.stretched_exponential(TIMES, blocks.mean(axis=0), left_out[:2]).beta_error)


def test_left_out_curves_average_to_the_whole():
    rng = np.random.default_rng(1)
    centres = np.cumsum(0.3 * rng.normal(size=(900, 60, 3)), axis=0)
    moments = pass_moments(
        MolecularTrajectory.from_arrays(np.arange(900.0), centres), np.array([1, 4, 10, 30]), [1.0], 1.0
    )
    curves = relaxation.curves_left_out(moments, "fs_q1")
    assert 3 <= len(curves) <= 20
    np.testing.assert_allclose(curves.mean(axis=0), curve(moments, "fs_q1"), atol=2e-3)
    assert np.all(curves.std(axis=0) > 0)


def test_kww_verdicts():
    assert relaxation.stretched_exponential(TIMES, np.exp(-TIMES / 1e5)).verdict == "not decayed"
    assert relaxation.stretched_exponential(TIMES[::15], np.exp(-TIMES[::15] / 5)).verdict == "too few points"


def test_diffusion_of_a_straight_msd():
    found = relaxation.diffusion(TIMES, 6 * 0.3 * TIMES + 0.5, 0.02 * 6 * 0.3 * TIMES, 3000.0)
    assert found.coefficient == pytest.approx(0.3, rel=1e-6)
    assert found.error == pytest.approx(0.006, rel=0.02)
    assert found.verdict == "ok"


def test_diffusion_verdicts():
    caged = relaxation.diffusion(TIMES, 0.1 * TIMES**0.3, np.full(60, 0.01), 3000.0)
    assert caged.verdict == "not diffusive"
    assert caged.slope == pytest.approx(0.3)
    assert math.isnan(caged.coefficient)
    assert relaxation.diffusion(TIMES[:3], TIMES[:3], TIMES[:3], 0.02).verdict == "too few points"
    assert relaxation.diffusion(TIMES, 0 * TIMES, 0 * TIMES, 3000.0).verdict == "too few points"


def test_shapes_are_checked():
    with pytest.raises(DataError, match="shape"):
        relaxation.relaxation_time(TIMES, TIMES[:-1], TIMES, 1.0)
