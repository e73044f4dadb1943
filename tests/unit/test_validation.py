"""g(r), drift and block errors against analytic cases and naive references."""

import numpy as np
import pytest

from mlpwf.errors import DataError
from mlpwf.validate.observables import block_mean, block_means, diffusion, drift, radial_distribution


def naive_rdf(frames, cell, width, shells):
    counts = np.zeros(shells)
    for frame in frames:
        for i in range(len(frame)):
            for j in range(i):
                nearest = min(
                    np.linalg.norm(frame[i] - frame[j] + np.array(shift) @ cell)
                    for shift in np.ndindex(3, 3, 3)
                    for shift in [np.array(shift) - 1]
                )
                if nearest < shells * width:
                    counts[int(nearest / width)] += 1
    edges = width * np.arange(shells + 1)
    pairs = len(frames) * len(frames[0]) * (len(frames[0]) - 1) / 2
    return counts * np.linalg.det(cell) / pairs / (4 / 3 * np.pi * np.diff(edges**3))


@pytest.mark.physical_validation
def test_an_ideal_gas_has_no_structure():
    frames = np.random.default_rng(1).uniform(0, 10, (200, 40, 3))
    r, g = radial_distribution(frames, np.array([np.eye(3) * 10] * 200), width=0.5)
    pairs = 200 * 40 * 39 / 2 * 4 / 3 * np.pi * ((r + 0.25) ** 3 - (r - 0.25) ** 3) / 1000
    assert np.all(np.abs(g - 1) < 4 / np.sqrt(pairs))
    assert r[-1] == pytest.approx(4.75)


@pytest.mark.parametrize("cell", [np.diag([6.0, 7.0, 8.0]), np.array([[7.0, 0, 0], [1.0, 7, 0], [0.5, -1, 8]])])
def test_rdf_agrees_with_a_naive_count(cell):
    frames = np.random.default_rng(2).uniform(size=(3, 12, 3)) @ cell
    r, g = radial_distribution(frames, np.array([cell] * 3), width=0.25)
    np.testing.assert_allclose(g, naive_rdf(frames, cell, 0.25, len(r)), rtol=1e-9)


def test_rdf_does_not_see_wrapping_translation_or_order():
    rng = np.random.default_rng(3)
    frames, cells = rng.uniform(0, 8, (2, 20, 3)), np.array([np.eye(3) * 8] * 2)
    moved = frames[:, rng.permutation(20)] + 8 * rng.integers(-2, 3, (2, 20, 3)) + [0.25, 0.5, 1.0]
    g, again = radial_distribution(frames, cells)[1], radial_distribution(moved, cells)[1]
    assert np.abs(g - again).sum() < 0.02 * np.abs(g).sum()


def test_rdf_refuses_wrong_shapes():
    with pytest.raises(DataError, match="expected"):
        radial_distribution(np.zeros((2, 3)), np.zeros((2, 3, 3)))
    with pytest.raises(DataError, match="at least one frame of two"):
        radial_distribution(np.zeros((1, 1, 3)), np.eye(3)[None])


def test_drift_of_a_straight_line_is_exact():
    t = np.linspace(0, 5, 11)
    slope, error = drift(t, 3.0 - 0.25 * t)
    assert slope == pytest.approx(-0.25)
    assert error < 1e-9


def test_drift_error_covers_the_truth():
    rng = np.random.default_rng(4)
    t = np.linspace(0, 10, 200)
    pulls = []
    for _ in range(300):
        noise = rng.normal(size=260)
        slope, error = drift(t, 0.1 * t + np.convolve(noise, np.ones(5), "valid")[:200])
        pulls.append((slope - 0.1) / error)
    assert 0.6 < np.std(pulls) < 1.5
    assert abs(np.mean(pulls)) < 0.3


def test_drift_refuses_two_points():
    with pytest.raises(DataError, match="at least three"):
        drift(np.arange(2.0), np.arange(2.0))


def test_block_mean_of_independent_values():
    values = np.random.default_rng(5).normal(2.0, 1.0, 10_000)
    mean, error = block_mean(values, 20)
    assert abs(mean - 2.0) < 4 * error
    assert error == pytest.approx(0.01, rel=0.6)
    with pytest.raises(DataError, match="values in 5 blocks"):
        block_mean(np.arange(3.0))


def test_diffusion_of_random_walks_is_known():
    rng = np.random.default_rng(8)
    walks = np.cumsum(rng.normal(0, np.sqrt(2 * 0.3 * 0.01), (401, 200, 3)), axis=0)  # D = 0.3 Å²/ps, 0.01 ps a frame
    found, lags = diffusion(walks, 0.01)
    assert lags == pytest.approx((0.5, 1.0))
    assert found.mean() == pytest.approx(0.3, abs=4 * found.std() / np.sqrt(200))
    assert 0.005 < found.std() / np.sqrt(200) < 0.05
    turned, _ = diffusion(walks[:, ::-1] @ np.linalg.qr(rng.normal(size=(3, 3)))[0] + 5.0, 0.01)
    assert turned[::-1] == pytest.approx(found)


def test_molecules_that_move_straight_or_rattle_have_the_diffusion_of_the_formula():
    times = 0.1 * np.arange(33)
    straight = times[:, None, None] * np.ones((1, 1, 3))
    assert diffusion(straight, 0.1)[0] == pytest.approx(3 * (0.8**2 - 0.4**2) / (6 * 0.4))
    rattling = np.tile([1.0, -1.0], 17)[:33, None, None] * np.ones((1, 2, 3))
    assert diffusion(rattling, 0.1)[0] == pytest.approx(0.0, abs=1e-12)


def test_diffusion_refuses_what_is_too_short():
    with pytest.raises(DataError, match="17 frames or more"):
        diffusion(np.zeros((16, 2, 3)), 0.01)


def test_block_means_are_those_of_contiguous_parts():
    assert block_means(np.arange(10.0)).tolist() == [0.5, 2.5, 4.5, 6.5, 8.5]
