"""Errors from blocks: the jackknife, how blocks are cut, and the verdicts."""

import math

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import gammainc

from liquids import brownian, molecules_of
from mlpwf.dynamics import uncertainty as u
from mlpwf.dynamics.correlators import averages, join, pass_moments
from mlpwf.errors import DataError


def mean(total, count):
    return total / count


def test_jackknife_of_a_mean_is_the_standard_error_of_block_means_widened():
    values = np.random.default_rng(5).normal(size=(6, 10))
    found = u.jackknife(mean, [values.sum(axis=1), np.full(6, 10.0)], np.full(6, 10.0))
    assert found.value == pytest.approx(values.mean())
    assert found.error == pytest.approx(u.widening(6) * values.mean(axis=1).std(ddof=1) / np.sqrt(6), rel=1e-12)
    assert found.bias == pytest.approx(0, abs=1e-15)
    few = u.jackknife(mean, [values[:2].sum(axis=1), np.full(2, 10.0)], np.full(2, 10.0))
    assert (few.value, few.blocks) == (pytest.approx(values[:2].mean()), 2)
    assert math.isnan(few.error)


@pytest.mark.parametrize("blocks", [3, 4, 5, 8, 20])
def test_two_errors_hold_the_truth_in_95_percent_however_few_the_blocks(blocks):
    """6,000 repeats: the share within two errors is known to 0.27 %."""
    values = np.random.default_rng(blocks).normal(size=(6000, blocks))
    scores = [
        found.value / found.error
        for found in (u.jackknife(mean, [one, np.ones(blocks)], np.ones(blocks)) for one in values)
    ]
    assert np.mean(np.abs(scores) < 2) == pytest.approx(0.9545, abs=0.01)


def test_jackknife_weighs_blocks_of_unequal_size():
    """Errors of a mean over blocks of many sizes, against the spread over repetitions."""
    rng = np.random.default_rng(6)
    sizes = np.array([5.0, 40.0, 10.0, 25.0, 20.0, 15.0, 35.0, 30.0])
    means, errors = [], []
    for _ in range(400):
        sums = np.array([rng.normal(size=int(size)).sum() for size in sizes])
        found = u.jackknife(mean, [sums, sizes], sizes)
        means.append(found.value)
        errors.append(found.error)
    assert np.sqrt(np.mean(np.square(errors))) / u.widening(8) == pytest.approx(np.std(means), rel=0.15)


def test_jackknife_knows_the_bias_of_a_variance():
    values = np.random.default_rng(7).normal(size=12)
    sums = [values, values**2, np.ones(12)]
    found = u.jackknife(lambda x, xx, n: xx / n - (x / n) ** 2, sums, np.ones(12))
    assert found.value - found.bias == pytest.approx(values.var(ddof=1), rel=1e-12)


@pytest.fixture(scope="module")
def moments():
    return pass_moments(
        molecules_of(*brownian(frames=1001, molecules=10)), np.array([1, 10, 100, 240, 400]), (1.3,), 1.0
    )


@pytest.mark.parametrize(
    ("lag", "shortest", "most", "expected"),
    [
        (0, 0.0, 50, 50),
        (0, 99.0, 50, 10),
        (1, 150.0, 50, 6),
        (2, 0.0, 50, 9),
        (3, 0.0, 50, 3),
        (4, 0.0, 50, 1),
        (0, 99.0, 4, 4),
    ],
)
def test_blocks_are_as_long_as_asked_and_as_the_lag(moments, lag, shortest, most, expected):
    numbers = u.block_numbers(moments, lag, shortest, most)
    assert numbers.max() + 1 == expected
    if expected > 1:
        lengths = np.bincount(numbers[numbers >= 0]) * moments.window_ps[0]
        assert lengths.min() >= max(shortest, moments.lags_ps[lag])
    np.testing.assert_array_equal(numbers >= 0, moments.pairs[:, lag] > 0)
    np.testing.assert_allclose(u.block_sums(moments.pairs[:, lag], numbers).sum(), moments.pairs[:, lag].sum())


def test_blocks_never_span_two_runs(moments):
    both = join([moments, moments])
    numbers = u.block_numbers(both, 0, 200.0)
    assert numbers.max() + 1 == 10
    assert not set(numbers[both.run == 0]) & set(numbers[both.run == 1])
    assert u.block_numbers(both, 4, 1e9).max() + 1 == 2


def test_independent_windows(moments):
    assert u.independent_windows(moments, 0, 40.0) == pytest.approx(999 / 100)
    assert u.independent_windows(moments, 4, 40.0) == pytest.approx(600 / 400)
    assert u.independent_windows(join([moments, moments]), 0, 40.0) == pytest.approx(2 * 999 / 100)


def overlap_of_a_walk(times):
    """P(|Δr| < a) of Brownian motion, a²/4D = 2/3."""
    return gammainc(1.5, 1 / (1.5 * times))


DECAYS = {
    "exponential": lambda t: np.exp(-t),
    "stretched": lambda t: np.exp(-(t**0.4)),
    "ballistic": lambda t: np.exp(-(t**2)),
    "overlap": overlap_of_a_walk,
    "cage of 0.45": lambda t: 0.55 * np.exp(-((t / 0.05) ** 2)) + 0.45 * np.exp(-(t**0.7)),
    "cage of 0.8": lambda t: 0.2 * np.exp(-t / 0.003) + 0.8 * np.exp(-(t**0.6)),
    "two times": lambda t: 0.5 * np.exp(-t / 0.1) + 0.5 * np.exp(-t),
    "libration": lambda t: 0.25 * np.exp(-((t / 0.1) ** 2)) * np.cos(15 * t) + 0.75 * np.exp(-t),
    "turns over": lambda t: np.exp(-t) * np.cos(1.5 * t),
}
FRAMES = np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 21, 25, 30, 40.0])


@pytest.mark.parametrize("name", DECAYS)
@pytest.mark.parametrize("ratio", [1.15, 1.5, 2.0, 3.0, "frames"])
def test_the_error_of_a_crossing_between_coarse_lags_holds_the_truth(name, ratio):
    """Lags evenly spaced in ln t, or every frame with τ of 1 to 7 frames; no noise."""
    decay = DECAYS[name]
    truth = brentq(lambda t: decay(t) - np.exp(-1), 1e-4, 100)
    rng = np.random.default_rng(4)
    missed, tried = 0, 0
    for _ in range(60):
        if ratio == "frames":
            times = FRAMES * truth / rng.uniform(1.02, 7)
        else:
            times = truth * ratio ** (np.arange(20) - rng.uniform(0, 8))
        if decay(times[0]) > np.exp(-1):
            found = u.crossing(times, decay(times))
            tried += 1
            missed += abs(found.time - truth) > 2 * found.error + 1e-9 * truth
            assert abs(found.time - truth) < 2.5 * found.error + 1e-9 * truth
            assert found.error < {3.0: 0.6, 2.0: 0.35}.get(ratio, 0.25) * truth, "errors far too wide"
    assert tried > 15
    assert missed <= 0.15 * tried


def test_a_stretched_exponential_is_interpolated_exactly():
    for ratio in (1.1, 2.0, 4.0):
        times = 7 * ratio ** (np.arange(12) - 5.3)
        found = u.crossing(times, np.exp(-((times / 7) ** 0.6)))
        assert found.time == pytest.approx(7, rel=1e-9)
        assert found.slope == pytest.approx(-0.6 / np.e, rel=1e-9)


def test_crossings_at_the_ends():
    times = np.array([1.0, 2.0, 4.0])
    at = u.crossing(times, np.array([0.9, np.exp(-1), 0.1]))
    assert at.time == pytest.approx(2.0)
    assert u.crossing(times[:2], np.array([0.9, 0.1])).time == pytest.approx(1.5, abs=0.3)
    unknown = u.crossing(times, np.array([1.0, 1.0, -0.1]))
    assert 2 < unknown.time < 4
    assert unknown.error > 0.05, "C between 1 and a negative value is hardly known"


def test_decay_and_memory_times():
    times = np.geomspace(1, 1000, 40)
    assert u.decay_time(times, np.exp(-times / 50)) == pytest.approx(50, rel=0.02)
    assert math.isnan(u.decay_time(times, np.exp(-times / 1e5)))
    assert math.isnan(u.decay_time(times, np.exp(-times / 0.1)))
    assert u.memory_time(times, np.exp(-times / 1e5)) == 1000
    assert u.memory_time(times, np.exp(-times / 0.1)) == 1


@pytest.mark.physical_validation
def test_errors_are_those_of_repeated_runs():
    """The error of one run against the spread of many, for C(t) at its relaxation time."""
    values, errors = [], []
    for seed in range(200):
        steps = np.random.default_rng(seed).normal(scale=np.sqrt(0.1), size=(600, 6, 3))
        trajectory = molecules_of(np.arange(600.0), np.cumsum(steps, axis=0))
        found = averages(pass_moments(trajectory, np.array([5, 10, 20]), (1.3,), 1.0))
        values.append(found["fs_q1.3"][1])
        errors.append(found["fs_q1.3_error"][1])
    # 5 % of the spread of 200, and what Student's t adds for 20 blocks
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(u.widening(20) * np.std(values), rel=0.2)


def slowing(frames=3000, molecules=30, factor=1.0, seed=2):
    """Brownian molecules whose diffusion coefficient changes by a factor half-way."""
    rng = np.random.default_rng(seed)
    scale = np.where(np.arange(frames) < frames / 2, 1.0, np.sqrt(factor)) * np.sqrt(2 * 0.05)
    centres = np.cumsum(rng.normal(size=(frames, molecules, 3)) * scale[:, None, None], axis=0)
    return molecules_of(np.arange(float(frames)), centres)


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [(1.0, "equilibrated"), (0.5, "aging: slower in the second half"), (2.0, "faster in the second half")],
)
def test_halves_tell_aging_from_equilibrium(factor, verdict):
    found = u.compare_halves(pass_moments(slowing(factor=factor), np.array([2, 5, 10, 20]), (1.3,), 1.0), "fs_q1.3")
    assert found.verdict == verdict
    assert found.first.blocks >= 3


def test_halves_of_a_short_run_tell_nothing():
    short = pass_moments(slowing(frames=30), np.array([2, 5, 10]), (1.3,), 1.0)
    assert u.compare_halves(short, "fs_q1.3").verdict == "too short to tell"
    with pytest.raises(DataError, match=r"no correlator 'fs_q9'; there are overlap, fs_q1.3"):
        u.compare_halves(short, "fs_q9")


def test_energy_drift():
    rng = np.random.default_rng(3)
    times = np.arange(2000.0)
    noise = np.repeat(rng.normal(size=200), 10)
    still = u.energy_drift(times, noise, 5.0)
    assert still.verdict == "equilibrated"
    assert abs(still.slope) < 4 * still.error
    falling = u.energy_drift(times, noise - 0.002 * times, 5.0)
    assert falling.verdict == "energy drifts"
    assert falling.change == pytest.approx(-4, abs=0.6)
    assert u.energy_drift(times, noise, 900.0).verdict == "too short to tell"
    assert u.energy_drift(times, noise, float("nan")).verdict == "too short to tell"
    with pytest.raises(DataError, match="NaN"):
        u.energy_drift(times, noise * np.nan, 5.0)
    with pytest.raises(DataError, match="expected one shape"):
        u.energy_drift(times[:5], noise, 5.0)
