"""Runs that age, that do not, and that are too short to tell."""

import numpy as np
import pytest

from mlpwf.dynamics import aging
from mlpwf.errors import DataError

WAITING = np.linspace(50, 950, 10)


def test_rate_of_false_alarms_and_of_finds():
    rng = np.random.default_rng(6)
    verdicts = {0.0: [], 1.0: [], -1.0: []}
    for growth, found in verdicts.items():
        for _ in range(200):
            times = 5 * np.exp(growth * WAITING / 1000 + 0.1 * rng.normal(size=10))
            found.append(aging.waiting_time_test(WAITING, times, 0.1 * times, 1000.0).verdict)
    assert verdicts[0.0].count("equilibrated") >= 192  # 1 % false alarms by design
    assert verdicts[1.0].count("aging") >= 190
    assert verdicts[-1.0].count("drifting") >= 190


def test_rate_and_halves_are_recovered():
    times = 5 * np.exp(0.5 * WAITING / 1000)
    found = aging.waiting_time_test(WAITING, times, 0.1 * times, 1000.0)
    assert found.rate == pytest.approx(0.5)
    assert found.halves == pytest.approx(0.25)
    assert found.halves_error == pytest.approx(0.1 * np.sqrt(2 / 5))
    unknown = aging.waiting_time_test(WAITING, times, np.full(10, np.nan), 1000.0)
    assert unknown.rate == pytest.approx(0.5)


def test_understated_errors_do_not_make_a_trend():
    rng = np.random.default_rng(8)
    verdicts = []
    for _ in range(200):
        times = 5 * np.exp(0.3 * rng.normal(size=10))
        verdicts.append(aging.waiting_time_test(WAITING, times, 0.03 * times, 1000.0).verdict)
    assert verdicts.count("equilibrated") >= 190


@pytest.mark.parametrize("change", ["short run", "window without tau", "few windows"])
def test_undecided(change):
    times, run = np.full(10, 5.0) + 0.1 * np.arange(10) % 2, 1000.0
    if change == "short run":
        run = 40.0
    elif change == "window without tau":
        times[3] = np.nan
    else:
        times[2:] = np.nan
    assert aging.waiting_time_test(WAITING * run / 1000, times, 0.1 * times, run).verdict == "too short to tell"


def test_drift_of_a_series():
    rng = np.random.default_rng(1)
    still = rng.normal(size=5000)
    assert aging.drift(still).verdict == "equilibrated"
    found = aging.drift(still + np.linspace(0, 1, 5000))
    assert found.verdict == "drifting"
    assert abs(found.change - 1) < 4 * found.error
    assert aging.drift(np.ones(50)).verdict == "equilibrated"
    assert aging.drift(still[:5]).verdict == "too short to tell"


def test_bad_input():
    with pytest.raises(DataError, match="shapes"):
        aging.waiting_time_test(WAITING, WAITING[:3], WAITING, 1.0)
    with pytest.raises(DataError, match="finite"):
        aging.drift(np.array([1.0, np.nan]))
