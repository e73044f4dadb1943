"""Times, stretching and diffusion recovered from curves made with known ones."""

import math

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.signal import lfilter
from scipy.special import gamma

from liquids import molecules_of
from mlpwf.dynamics import relaxation
from mlpwf.dynamics.correlators import averages, curve, pass_moments
from mlpwf.dynamics.trajectory import MolecularTrajectory, choose_lags
from mlpwf.dynamics.uncertainty import widening
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
    msd = 6 * 0.3 * TIMES + 0.5
    found = relaxation.diffusion(TIMES, msd, 0.02 * msd, 6000.0)
    assert found.coefficient == pytest.approx(0.3, rel=1e-6)
    assert (found.verdict, math.isnan(found.error)) == ("ok", True), "no block was left out"
    # six blocks, of which two are 3 % faster and slower: the jackknife of a mean, by hand
    blocks = np.array([1.0, 1.0, 1.0, 1.0, 1.03, 0.97])[:, None] * 6 * 0.3 * TIMES + 0.5
    found = relaxation.diffusion(TIMES, msd, 0.02 * msd, 6000.0, (blocks.sum(axis=0) - blocks) / 5)
    by_hand = np.std([1, 1, 1, 1, 1.03, 0.97], ddof=1) / np.sqrt(6) * widening(6) / np.sqrt(0.75)
    assert found.error == pytest.approx(0.3 * by_hand, rel=1e-3)


def walks(frames, molecules, diffusion, seed):
    """A trajectory of Brownian molecules; ⟨Δr²⟩ = 6Dt."""
    steps = np.random.default_rng(seed).normal(scale=np.sqrt(2 * diffusion), size=(frames, molecules, 3))
    return molecules_of(np.arange(float(frames)), np.cumsum(steps, axis=0))


def rouse(frames, molecules, seed, diffusion=0.03, amplitude=0.25, rate=0.15):
    """Brownian molecules that rattle in a cage which diffuses: MSD = 6Dt + 6 amplitude² (1 − exp(−rate t))."""
    rng = np.random.default_rng(seed)
    kept = np.exp(-rate)
    noise = amplitude * np.sqrt(1 - kept**2) * rng.normal(size=(frames + 60, molecules, 3))
    rattle = lfilter([1.0], [1.0, -kept], noise, axis=0)[60:]
    centres = rattle + np.cumsum(np.sqrt(2 * diffusion) * rng.normal(size=rattle.shape), axis=0)
    return molecules_of(np.arange(float(frames)), centres)


def within(scores, limit=2.0):
    known = np.array(scores)[np.isfinite(scores)]
    return np.mean(np.abs(known) < limit), len(known)


@pytest.mark.physical_validation
@pytest.mark.parametrize("kind", ["walk", "cage"])
def test_two_errors_hold_msd_diffusion_and_tau(kind):
    """240 runs of 25 to 50 τ: 95 ± 4 % of D and of τ, and of the MSD at all lags, are within two of their errors.

    With 95.45 % true, fewer than 91 % or more than 99 % of 240 independent numbers come up in 0.3 % of cases.
    """
    made = 0.06 if kind == "walk" else 0.03
    scores = {"D": [], "tau": [], "msd": []}
    for seed in range(240):
        trajectory = walks(500, 16, made, seed) if kind == "walk" else rouse(500, 16, seed)
        moments = pass_moments(trajectory, choose_lags(trajectory.ticks, maximum=24), (1.3,), 1.0)
        columns = averages(moments)
        times, errors = columns["time_ps"], columns["msd_error"]
        rattling = 0.0 if kind == "walk" else 6 * 0.25**2 * (1 - np.exp(-0.15 * times))
        truth = 6 * made * times + rattling
        scores["msd"] += ((columns["msd_angstrom2"] - truth) / errors).tolist()
        longest = times[relaxation.diffusive_lags(times, errors, 499.0)].max()
        left_out = relaxation.squares_left_out(moments, longest)
        found = relaxation.diffusion(times, columns["msd_angstrom2"], errors, 499.0, left_out)
        scores["D"].append((found.coefficient - made) / found.error)
        tau = relaxation.relaxation_time(times, columns["fs_q1.3"], columns["fs_q1.3_error"], 499.0)
        rattle = (kind == "cage") * 0.25**2
        exact = brentq(lambda t, a=rattle: 1.69 * (made * t + a * (1 - np.exp(-0.15 * t))) - 1, 0.01, 500)
        scores["tau"].append((tau.tau_ps - exact) / tau.error_ps)
    for name, found in scores.items():
        share, count = within(found)
        assert count >= 200, name
        assert 0.91 <= share <= 0.99, (name, share, count)


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
