"""Correlation functions against analytic laws, naive loops and their invariances."""

import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mlpwf.dynamics import correlators
from mlpwf.dynamics.trajectory import MolecularTrajectory, lags
from mlpwf.errors import DataError

WAVEVECTORS = (0.7, 1.3)
OVERLAP = 1.0


def brownian(frames=1500, molecules=60, diffusion=0.02, rotation=0.004, seed=3):
    """Independent Brownian spheres that also turn; one frame a ps, D in Å²/ps, D_r in 1/ps."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(scale=np.sqrt(2 * diffusion), size=(frames, molecules, 3))
    turns = Rotation.from_rotvec(rng.normal(scale=np.sqrt(2 * rotation), size=(frames * molecules, 3)))
    matrices = turns.as_matrix().reshape(frames, molecules, 3, 3)
    matrices[0] = Rotation.random(molecules, rng=rng).as_matrix()
    for frame in range(1, frames):
        matrices[frame] = matrices[frame] @ matrices[frame - 1]
    axes = np.swapaxes(matrices, -1, -2)[:, :, :2]
    return MolecularTrajectory(np.arange(float(frames)), np.cumsum(steps, axis=0), axes, np.full(3, 30.0), 1.0)


def columns(trajectory, blocks=10, maximum=20):
    found = lags(trajectory.times_ps, trajectory.linear_interval_ps, maximum)
    samples = [correlators.sample_lag(trajectory, lag, WAVEVECTORS, OVERLAP) for lag in found]
    return correlators.averages(samples, trajectory.run_ps, blocks)


@pytest.fixture(scope="module")
def analytic():
    return columns(brownian())


def overlap_of_gaussian(variance):
    """Probability that a Gaussian vector of this variance per direction is shorter than 1 Å."""
    x = OVERLAP / np.sqrt(2 * variance)
    return np.array([math.erf(value) for value in x]) - 2 * x / np.sqrt(np.pi) * np.exp(-(x**2))


@pytest.mark.physical_validation
@pytest.mark.parametrize(
    ("column", "law"),
    [
        ("msd_angstrom2", lambda t: 6 * 0.02 * t),
        ("alpha2", lambda t: 0 * t),
        ("fs_q0.7", lambda t: np.exp(-(0.7**2) * 0.02 * t)),
        ("fs_q1.3", lambda t: np.exp(-(1.3**2) * 0.02 * t)),
        ("overlap", lambda t: overlap_of_gaussian(2 * 0.02 * t)),
        ("c1_axis1", lambda t: np.exp(-2 * 0.004 * t)),
        ("c2_axis1", lambda t: np.exp(-6 * 0.004 * t)),
        ("c1_axis2", lambda t: np.exp(-2 * 0.004 * t)),
        ("c2_axis2", lambda t: np.exp(-6 * 0.004 * t)),
    ],
)
def test_brownian_rotors_follow_their_laws(analytic, column, law):
    error = analytic["msd_error" if column == "msd_angstrom2" else f"{column}_error"]
    # all ten blocks: with fewer, the error itself is too uncertain to test with
    known = analytic["time_ps"] <= 150
    assert np.count_nonzero(known) > 12
    score = (analytic[column] - law(analytic["time_ps"]))[known] / error[known]
    assert np.abs(score).max() < 5
    assert np.sqrt(np.mean(score**2)) < 2


def test_errors_end_where_fewer_than_three_blocks_fit(analytic):
    known = np.isfinite(analytic["msd_error"])
    np.testing.assert_array_equal(known, analytic["time_ps"] <= 1499 / 3)
    assert np.isfinite(analytic["msd_angstrom2"]).all()


def naive(trajectory, lag):
    """MSD, α2 and all weights by loops over molecules and origins."""
    squares, fourths, sums = [], [], {name: [] for name in correlators.weight_names(WAVEVECTORS)}
    for first, second in zip(lag.first, lag.second, strict=True):
        for molecule in range(trajectory.molecules):
            r = math.dist(trajectory.centres[first, molecule], trajectory.centres[second, molecule])
            squares.append(r**2)
            fourths.append(r**4)
            sums["overlap"].append(1.0 if r < OVERLAP else 0.0)
            for q in WAVEVECTORS:
                sums[f"fs_q{q:g}"].append(math.sin(q * r) / (q * r))
            for axis in (0, 1):
                x = sum(trajectory.axes[first, molecule, axis] * trajectory.axes[second, molecule, axis])
                sums[f"c1_axis{axis + 1}"].append(x)
                sums[f"c2_axis{axis + 1}"].append((3 * x * x - 1) / 2)
    msd = sum(squares) / len(squares)
    alpha2 = 3 * sum(fourths) / len(fourths) / (5 * msd**2) - 1
    return {"msd_angstrom2": msd, "alpha2": alpha2} | {name: sum(ws) / len(ws) for name, ws in sums.items()}


def test_every_kernel_equals_a_naive_loop():
    trajectory = brownian(frames=13, molecules=4, diffusion=0.3, rotation=0.1)
    found = columns(trajectory)
    for row, lag in enumerate(lags(trajectory.times_ps, 1.0, 20)):
        for name, value in naive(trajectory, lag).items():
            assert found[name][row] == pytest.approx(value, rel=1e-12), name


def test_chunks_do_not_matter():
    trajectory = brownian(frames=40, molecules=7)
    lag = lags(trajectory.times_ps, 1.0)[3]
    whole, pieces = (
        correlators.sample_lag(trajectory, lag, WAVEVECTORS, OVERLAP, chunk_pairs=pairs) for pairs in (10**6, 5)
    )
    np.testing.assert_array_equal(whole.squared, pieces.squared)
    for name in whole.mean:
        np.testing.assert_array_equal(whole.mean[name], pieces.mean[name])
        np.testing.assert_array_equal(whole.variance[name], pieces.variance[name])


def changed(trajectory, change):
    rotation = Rotation.from_rotvec([0.3, -1.1, 0.8]).as_matrix()
    centres, axes = {
        "permuted": lambda c, u: (c[:, ::-1], u[:, ::-1]),
        "translated": lambda c, u: (c + 500.0, u),
        "rotated": lambda c, u: (c @ rotation.T, u @ rotation.T),
    }[change](trajectory.centres, trajectory.axes)
    return MolecularTrajectory(trajectory.times_ps, centres, axes, trajectory.box, 1.0)


@pytest.mark.parametrize("change", ["permuted", "translated", "rotated"])
def test_invariances(change):
    trajectory = brownian(frames=60, molecules=8)
    before, after = columns(trajectory), columns(changed(trajectory, change))
    for name in before:
        np.testing.assert_allclose(after[name], before[name], rtol=1e-8, atol=1e-12, err_msg=name)


def test_nothing_moves():
    trajectory = brownian(frames=20, molecules=5, diffusion=0.0, rotation=0.0)
    found = columns(trajectory)
    assert np.all(found["msd_angstrom2"] == 0)
    assert np.isnan(found["alpha2"]).all()
    for name in correlators.weight_names(WAVEVECTORS):
        np.testing.assert_allclose(found[name], 1, atol=1e-12)


def test_jackknife_of_a_mean_is_the_standard_error_of_block_means():
    values = np.random.default_rng(5).normal(size=60)
    means = values.reshape(6, 10).mean(axis=1)
    expected = means.std(ddof=1) / np.sqrt(6)
    assert correlators.jackknife(correlators.mean_of, [values], 6) == pytest.approx(expected, rel=1e-12)
    assert math.isnan(correlators.jackknife(correlators.mean_of, [values], 2))


@pytest.mark.parametrize(
    ("lag", "origins", "expected"), [(1.0, 100, 5), (20.0, 80, 5), (25.0, 75, 4), (40.0, 60, 0), (1.0, 2, 0)]
)
def test_blocks_are_not_shorter_than_the_lag(lag, origins, expected):
    assert correlators.independent_blocks(lag, 100.0, origins, 5) == expected


def test_legendre_and_overlap_by_hand():
    x = np.array([1.0, 0.0, 0.0])
    tilted = np.array([0.5, np.sqrt(0.75), 0.0])
    assert correlators.legendre(1, x, tilted) == pytest.approx(0.5)
    assert correlators.legendre(2, x, tilted) == pytest.approx(-0.125)
    np.testing.assert_array_equal(correlators.overlap(np.array([0.0, 0.99, 1.0, 3.0]), 1.0), [1, 1, 0, 0])
    assert correlators.self_scattering(np.array(0.0), 1.3) == 1


def test_shapes_and_orders_are_checked():
    with pytest.raises(DataError, match="expected"):
        correlators.legendre(1, np.zeros((4, 3)), np.zeros((5, 3)))
    with pytest.raises(DataError, match="order 3"):
        correlators.legendre(3, np.zeros(3), np.zeros(3))
    with pytest.raises(DataError, match="expected"):
        correlators.weights(np.zeros((4, 3)), np.zeros((4, 3)), np.zeros((4, 3)), WAVEVECTORS, 1.0)
    trajectory = brownian(frames=10, molecules=2)
    lag = lags(trajectory.times_ps, 1.0)[0]
    with pytest.raises(DataError, match="distinct"):
        correlators.sample_lag(trajectory, lag, [1.3, 1.3], 1.0)
    with pytest.raises(DataError, match="no lags"):
        correlators.averages([], 1.0, 5)
