"""χ4 and the normalised count: independent molecules, blobs, loops and guards."""

import math

import numpy as np
import pytest

from mlpwf.dynamics import heterogeneity
from mlpwf.dynamics.correlators import sample_lag, weight_names
from mlpwf.dynamics.trajectory import MolecularTrajectory, lags
from mlpwf.errors import DataError

WAVEVECTORS = (1.3,)
NAMES = weight_names(WAVEVECTORS)


def independent(frames=1200, molecules=30, seed=11):
    """Brownian centres; axes of an Ornstein–Uhlenbeck vector, normalised. One frame a ps."""
    rng = np.random.default_rng(seed)
    centres = np.cumsum(rng.normal(scale=0.35, size=(frames, molecules, 3)), axis=0)
    vectors = rng.normal(size=(frames, molecules, 2, 3))
    for frame in range(1, frames):
        vectors[frame] = 0.9 * vectors[frame - 1] + np.sqrt(1 - 0.81) * vectors[frame]
    axes = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return MolecularTrajectory(np.arange(float(frames)), centres, axes, np.full(3, 30.0), 1.0)


def in_blobs(trajectory, size):
    """The same trajectory with `size` molecules in place of each, moving together."""
    centres, axes = np.repeat(trajectory.centres, size, axis=1), np.repeat(trajectory.axes, size, axis=1)
    return MolecularTrajectory(trajectory.times_ps, centres, axes, trajectory.box, 1.0)


def samples_of(trajectory, maximum=14):
    found = lags(trajectory.times_ps, trajectory.linear_interval_ps, maximum)
    return [sample_lag(trajectory, lag, WAVEVECTORS, 1.0) for lag in found]


def columns(trajectory, blocks=10):
    return heterogeneity.four_point(samples_of(trajectory), trajectory.molecules, trajectory.run_ps, blocks)


@pytest.mark.physical_validation
@pytest.mark.parametrize("blob", [1, 5])
def test_the_count_is_the_size_of_independent_blobs(blob):
    found = columns(in_blobs(independent(), blob))
    for name in NAMES:
        value, error = found[f"n_star_{name}_normalised"], found[f"n_star_{name}_normalised_error"]
        # short lags only: longer ones have few independent windows, and their error is itself uncertain
        score = ((value - blob) / error)[:8]
        assert np.abs(score).max() < 5, name
        assert np.abs(value[:8] / blob - 1).max() < 0.5, name


def test_blobs_multiply_every_count():
    single, blobs = columns(independent(frames=300)), columns(in_blobs(independent(frames=300), 4))
    for label in single:
        np.testing.assert_allclose(blobs[label], 4 * single[label], rtol=1e-9, err_msg=label)


def test_chi4_and_count_equal_a_naive_loop():
    trajectory = independent(frames=30, molecules=4)
    lag = lags(trajectory.times_ps, 1.0, 14)[2]
    overlaps = [
        [
            1.0 if math.dist(trajectory.centres[first, i], trajectory.centres[second, i]) < 1 else 0.0
            for i in range(4)
        ]
        for first, second in zip(lag.first, lag.second, strict=True)
    ]  # fmt: skip
    C = [sum(row) / 4 for row in overlaps]
    chi4 = 4 * (sum(c * c for c in C) / len(C) - (sum(C) / len(C)) ** 2)
    Q = sum(C) / len(C)
    found = columns(trajectory)
    assert found["chi4_overlap"][2] == pytest.approx(chi4, rel=1e-10)
    assert found["n_star_overlap_normalised"][2] == pytest.approx(chi4 / (Q * (1 - Q)), rel=1e-10)


@pytest.mark.parametrize(
    "change", [lambda c, u: (c[:, ::-1], u[:, ::-1]), lambda c, u: (c + 500.0, u), lambda c, u: (c[..., ::-1], -u)]
)
def test_invariances(change):
    trajectory = independent(frames=60, molecules=6)
    other = MolecularTrajectory(
        trajectory.times_ps, *change(trajectory.centres, trajectory.axes), trajectory.box, trajectory.linear_interval_ps
    )
    before, after = columns(trajectory), columns(other)
    for label in before:
        np.testing.assert_allclose(after[label], before[label], rtol=1e-7, atol=1e-12, err_msg=label)


def test_lags_above_a_third_of_the_run_have_no_value():
    trajectory = independent(frames=61, molecules=4)
    times = np.array([sample.time_ps for sample in samples_of(trajectory)])
    for label, values in columns(trajectory).items():
        if not label.startswith("n_star"):
            np.testing.assert_array_equal(np.isfinite(values), times <= 20, err_msg=label)


def test_weights_that_do_not_vary_have_no_count():
    assert math.isnan(heterogeneity.normalised_count(np.ones(50), np.zeros(50), 100))
    assert heterogeneity.chi4(np.ones(50), 100) == 0


def test_peak_and_its_verdicts():
    times, errors = np.array([1.0, 2.0, 4.0, 8.0]), np.full(4, 0.1)
    top = heterogeneity.peak(times, np.array([1.0, 3.0, 2.0, np.nan]), errors)
    assert (top.value, top.error, top.time_ps, top.verdict) == (3.0, 0.1, 2.0, "ok")
    assert heterogeneity.peak(times, np.array([1.0, 2.0, 3.0, np.nan]), errors).verdict == "at the longest lag"
    nothing = heterogeneity.peak(times, np.full(4, np.nan), errors)
    assert nothing.verdict == "no values"
    assert math.isnan(nothing.value)


def test_value_at_a_time_is_linear_in_its_logarithm():
    times, values = np.array([1.0, 100.0, 1000.0]), np.array([1.0, 3.0, np.nan])
    assert heterogeneity.value_at(times, values, values / 10, 10.0) == pytest.approx((2.0, 0.2))
    assert math.isnan(heterogeneity.value_at(times, values, values, 200.0)[0])
    assert math.isnan(heterogeneity.value_at(times, values, values, float("nan"))[0])


def test_three_point_count_and_guards():
    found = heterogeneity.three_point_count(np.array([200.0, 100.0]), np.array([0.01, 0.05]), 8.0)
    np.testing.assert_allclose(found, [0.5, 3.125])
    with pytest.raises(DataError, match="heat capacity"):
        heterogeneity.three_point_count(np.array([200.0]), np.array([0.01]), 0.0)
    with pytest.raises(DataError, match="no lags"):
        heterogeneity.four_point([], 10, 1.0, 5)
