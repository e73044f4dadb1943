"""Molecules in time: what is kept, integer times and lags, and frames on disk."""

import tracemalloc

import numpy as np
import pytest

from mlpwf.dynamics.trajectory import FrameFile, MolecularTrajectory, choose_lags, linear_interval, ticks_of
from mlpwf.errors import DataError

BOX = np.array([20.0, 21.0, 22.0])


def bodies(frames=6, molecules=5, seed=1):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(frames, molecules, 3)) * 5
    axes = rng.normal(size=(frames, molecules, 2, 3))
    return centres, axes / np.linalg.norm(axes, axis=-1, keepdims=True)


def test_centres_and_axes_come_back():
    centres, axes = bodies()
    kept = MolecularTrajectory.from_arrays(np.arange(6) * 0.5 + 3, centres, axes, BOX)
    np.testing.assert_allclose(kept.centres(), centres, atol=1e-5)
    np.testing.assert_allclose(kept.centres(2, 4), centres[2:4], atol=1e-5)
    np.testing.assert_allclose(kept.unit_axes(), axes, atol=1e-6)
    np.testing.assert_allclose(kept.times_ps, np.arange(6) * 0.5 + 3)
    assert (kept.molecules, kept.axes, kept.run_ps, kept.kinds) == (5, 2, 2.5, ("molecule",))
    np.testing.assert_array_equal(kept.cell, np.diag(BOX))


def test_species_are_sorted_and_can_be_taken_alone():
    centres, axes = bodies()
    names = ["water", "toluene", "water", "toluene", "water"]
    kept = MolecularTrajectory.from_arrays(np.arange(6.0), centres, axes, species=names, masses=np.arange(1.0, 6.0))
    order = [1, 3, 0, 2, 4]
    np.testing.assert_allclose(kept.centres(), centres[:, order], atol=1e-5)
    np.testing.assert_array_equal(kept.masses, np.array(order) + 1)
    np.testing.assert_array_equal(kept.bounds, [0, 2, 5])
    np.testing.assert_allclose(kept.only("water").centres(), centres[:, [0, 2, 4]], atol=1e-5)
    with pytest.raises(DataError, match="no species 'benzene'; there are toluene, water"):
        kept.only("benzene")


@pytest.mark.parametrize("field", ["times_ps", "centres", "axes"])
def test_shapes_and_nan_are_refused(field):
    centres, axes = bodies(4)
    good = {"times_ps": np.arange(4.0), "centres": centres, "axes": axes}
    with pytest.raises(DataError, match="shape"):
        MolecularTrajectory.from_arrays(**{**good, field: good[field][..., :-1]})
    spoilt = good[field].copy()
    spoilt.flat[0] = np.nan
    with pytest.raises(DataError, match="NaN"):
        MolecularTrajectory.from_arrays(**{**good, field: spoilt})


def test_single_frames_long_axes_and_wrong_order_are_refused():
    centres, axes = bodies(4)
    with pytest.raises(DataError, match="at least 2"):
        MolecularTrajectory.from_arrays(np.zeros(1), centres[:1], axes[:1])
    with pytest.raises(DataError, match="unit vectors"):
        MolecularTrajectory.from_arrays(np.arange(4.0), centres, 1.5 * axes)
    with pytest.raises(DataError, match=r"do not increase \(2 ps is followed by 1 ps\)"):
        MolecularTrajectory.from_arrays(np.array([0.0, 2.0, 1.0, 3.0]), centres, axes)


@pytest.mark.parametrize(
    ("times", "unit"),
    [
        (np.arange(5) * 0.002, 0.002),
        (np.array([0, 1, 2, 4, 8, 16, 20, 21, 22]) * 0.0005 + 1e6, 0.0005),
        (np.array([0.0, 2.0, 5.0, 7.0]), 1.0),
        (np.array([0.0, 0.3, 0.7, 1.0]), 0.1),
    ],
)
def test_times_become_integers(times, unit):
    ticks, found = ticks_of(times)
    assert found == pytest.approx(unit, rel=1e-6)
    np.testing.assert_array_equal(ticks - ticks[0], np.rint((times - times[0]) / unit))


def test_times_in_single_precision_become_integers():
    times = (np.arange(20000) * 0.1).astype(np.float32).astype(float)
    ticks, unit = ticks_of(times)
    np.testing.assert_array_equal(ticks, np.arange(20000))
    assert unit == pytest.approx(0.1, rel=1e-5)


def test_irregular_times_are_refused():
    with pytest.raises(DataError, match="not multiples of one interval"):
        ticks_of(np.array([0.0, 1.0, 2.0 + 1 / np.pi**4, 3.7]))


@pytest.mark.parametrize("interval", [1, 2, 10, 16, 37, 100])
def test_the_linear_interval_is_found(interval):
    offsets = [0, *(2**k for k in range(8) if 2**k < interval)]
    ticks = np.append((np.arange(0, 50 * interval, interval)[:, None] + offsets).ravel(), 50 * interval)
    assert linear_interval(ticks + 3) == (1 if interval == 2 else interval)  # 0, 1, 2, … is linear in single steps


def test_a_missing_segment_has_no_linear_interval():
    with pytest.raises(DataError, match="no linear frames"):
        linear_interval(np.array([0, 2, 5, 9, 18, 20]))


def test_lags_of_even_frames_are_spaced_in_their_logarithm():
    found = choose_lags(np.arange(20001) * 5, maximum=30)
    assert len(found) <= 30
    assert (found[0], found[-1]) == (5, 50000)
    assert np.all(np.diff(found) > 0)
    assert np.diff(np.log(found[10:])).std() < 0.07


def test_lags_of_log_spaced_blocks_are_those_with_most_pairs():
    ticks = np.append((np.arange(0, 4000, 100)[:, None] + [0, 1, 2, 4, 8, 16, 32, 64]).ravel(), 4000)
    found = choose_lags(ticks)
    pairs = [np.isin(ticks + lag, ticks).sum() for lag in found]
    assert {1, 2, 4, 8, 16, 32, 100, 200, 2000} <= set(found.tolist())
    assert min(pairs) >= 20
    assert np.median(pairs) > 70  # many of the lags that exist have 40 pairs and fewer


def test_no_lag_occurs_twice():
    with pytest.raises(DataError, match="no lag twice"):
        choose_lags(np.array([0, 1, 3, 7]))
    with pytest.raises(DataError, match="expected more than 0"):
        choose_lags(np.arange(9), longest=1.5)


def test_frames_in_a_file_are_those_put_in():
    frames = np.random.default_rng(2).normal(size=(9, 3, 4)).astype(np.float32)
    kept = FrameFile(3, 4)
    for frame in frames:
        kept.append(frame)
    assert kept.shape == (9, 3, 4)
    for part in (slice(0, 9), slice(2, 5), slice(8, 20), slice(4, 4)):
        np.testing.assert_array_equal(kept[part], frames[part])
    with pytest.raises(DataError, match="expected"):
        kept.append(frames[0, :2])


def test_lags_of_a_million_frames_take_little_memory():
    tracemalloc.start()
    found = choose_lags(np.arange(1_000_000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (found[0], found[-1]) == (1, 500_000 - 1) or (found[0], found[-1]) == (1, 500_000)
    assert 45 < len(found) <= 60
    assert peak < 150e6
