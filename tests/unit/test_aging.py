"""Runs that age, that do not, and that are too short to tell."""

import numpy as np
import pytest

from mlpwf.dynamics import aging
from mlpwf.dynamics.correlators import pass_moments
from mlpwf.dynamics.trajectory import MolecularTrajectory
from mlpwf.errors import DataError

WAITING = np.linspace(50, 950, 10)


def test_rate_of_false_alarms_and_of_finds():
    rng = np.random.default_rng(6)
    verdicts = {0.0: [], 1.0: [], -1.0: []}
    for growth, found in verdicts.items():
        for _ in range(200):
            times = 5 * np.exp(growth * WAITING / 1000 + 0.1 * rng.normal(size=10))
            found.append(aging.waiting_time_test(WAITING, times, 1000.0).verdict)
    assert verdicts[0.0].count("equilibrated") >= 192  # 1 % false alarms by design
    assert verdicts[1.0].count("aging") >= 190
    assert verdicts[-1.0].count("drifting") >= 190


def test_the_rate_is_recovered():
    times = 5 * np.exp(0.5 * WAITING / 1000)
    found = aging.waiting_time_test(WAITING, times, 1000.0)
    assert found.rate == pytest.approx(0.5)
    assert found.p_value < 1e-6


def test_false_alarms_of_trajectories_in_equilibrium_are_rare():
    """The whole way, from motion to verdict: 60 looks, 0.27 % of false alarms each by design."""
    verdicts = []
    for seed in range(30):
        moments = pass_moments(random_walk(500, 0.0, seed), np.array([2, 4, 8, 12, 16, 22, 30, 40]), [2.0, 2.4], 1.0)
        for name in ("fs_q2", "fs_q2.4"):
            found = aging.waiting_times(moments, name)
            verdicts.append(aging.waiting_time_test(found.waiting_ps, found.times_ps, 500.0).verdict)
    assert verdicts.count("equilibrated") >= 57, verdicts


@pytest.mark.parametrize("change", ["short run", "window without tau", "few windows"])
def test_undecided(change):
    times, run = 5.0 + 0.1 * (np.arange(10) % 2), 1000.0
    if change == "short run":
        run = 40.0
    elif change == "window without tau":
        times[3] = np.nan
    else:
        times[2:] = np.nan
    assert aging.waiting_time_test(WAITING * run / 1000, times, run).verdict == "too short to tell"


def random_walk(steps, growth, seed=1):
    """100 Brownian particles whose mobility falls by exp(growth) over the run."""
    rng = np.random.default_rng(seed)
    size = 0.3 * np.exp(-growth * np.linspace(0, 1, steps) / 2)
    centres = np.cumsum(size[:, None, None] * rng.normal(size=(steps, 100, 3)), axis=0)
    return MolecularTrajectory.from_arrays(np.arange(steps) * 1.0, centres)


@pytest.mark.parametrize(("growth", "verdict"), [(0.0, "equilibrated"), (1.5, "aging")])
def test_waiting_times_of_a_trajectory(growth, verdict):
    trajectory = random_walk(3000, growth)
    moments = pass_moments(trajectory, np.array([1, 2, 4, 6, 8, 12, 16, 24, 34, 48, 68, 96, 140]), [1.0], 1.0)
    found = aging.waiting_times(moments, "fs_q1")
    assert len(found.times_ps) == 8
    known = 1 / (0.09 / 2 * np.exp(-growth * found.waiting_ps / 3000))  # 1/(q²D)
    assert np.all(np.abs(found.times_ps - known) < 5 * np.nan_to_num(found.errors_ps) + 0.1 * known)
    assert aging.waiting_time_test(found.waiting_ps, found.times_ps, 3000.0).verdict == verdict
    if growth:
        assert found.times_ps[-1] > 2 * found.times_ps[0]


def test_a_short_run_has_no_windows():
    moments = pass_moments(random_walk(300, 0.0), np.array([4, 16, 40]), [1.0], 1.0)
    assert len(aging.waiting_times(moments, "fs_q1").times_ps) == 0


def test_bad_input():
    with pytest.raises(DataError, match="shapes"):
        aging.waiting_time_test(WAITING, WAITING[:3], 1.0)
