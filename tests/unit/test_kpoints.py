"""k-points from the cell: what cancels, how few it takes, and that the choice is the same whoever asks."""

from itertools import product

import numpy as np
import pytest

from mlpwf.calculators.espresso import kpoints
from mlpwf.calculators.espresso.kpoints import GAMMA, KPoints, fewest, grid, listed
from mlpwf.errors import ConfigError

CELLS = {
    "cube": np.eye(3) * 7.07,
    "small": np.eye(3) * 4.93,
    "large": np.eye(3) * 11.2,
    "strained": np.array([[7.2, 0.1, 0.0], [-0.1, 6.9, 0.2], [0.0, 0.3, 7.1]]),
    "elongated": np.diag([7.5, 7.8, 21.0]),
    "flat": np.diag([12.0, 13.0, 4.5]),
    "hexagonal": np.array([[5.0, 0, 0], [-2.5, 2.5 * np.sqrt(3), 0], [0, 0, 8.0]]),
    "skew": np.array([[6.1, 0.4, -0.3], [4.2, 6.4, 0.5], [-3.9, 0.8, 6.7]]),
}


def naive_image_distance(points, weights, cell):
    """The shortest lattice vector with a coupling, by trying them all."""
    found = []
    for vector in product(range(-9, 10), repeat=3):
        coupling = sum(w * np.cos(2 * np.pi * np.dot(vector, k)) for k, w in zip(points, weights, strict=True))
        if any(vector) and abs(coupling) > 1e-9:
            found.append(np.linalg.norm(vector @ cell))
    return min(found)


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("length", [9.0, 10.5])
def test_no_image_nearer_than_asked_is_coupled(name, length):
    found = fewest(CELLS[name], length)
    distance = naive_image_distance(found.points, found.weights, CELLS[name])
    assert distance >= length - 1e-3
    assert found.image_distance(CELLS[name]) == pytest.approx(distance, abs=1e-9)
    assert sum(found.weights) == pytest.approx(1)
    assert found.is_gamma == (name == "large")


def test_a_cube_gets_the_well_known_points():
    """Γ, Baldereschi's mean-value point, and half as many points as the shifted 2 x 2 x 2 grid has."""
    assert fewest(np.eye(3) * 10.6, 10.5) == GAMMA
    assert fewest(np.eye(3) * 8.9, 10.5) == listed([[0.25, 0.25, 0.25]])
    two = fewest(np.eye(3) * 7.07, 10.5)
    assert len(two.points) == 2 < len(grid((2, 2, 2), (1, 1, 1)).points) == 4
    assert two.image_distance(np.eye(3)) == pytest.approx(np.sqrt(3))


def test_no_distance_at_all_asks_for_no_more_than_gamma():
    assert fewest(np.eye(3) * 4.0, 0.0) == GAMMA
    assert kpoints.lattice_vectors(np.eye(3) * 4.0, 0.0).shape == (0, 3)


def test_points_lie_along_short_axes_alone():
    found = fewest(CELLS["elongated"], 10.5)
    bare = fewest(np.diag([7.5, 7.8, 40.0]), 10.5)
    assert len(found.points) == len(bare.points) == 1
    assert len(fewest(np.eye(3) * 6.5, 10.5).points) == 2


def test_rounding_turning_and_a_hair_more_or_less_than_the_distance_change_nothing():
    for cell in CELLS.values():
        assert fewest(cell + 1e-6, 10.5) == fewest(cell, 10.5)
    rng = np.random.default_rng(3)
    for edge in (10.5, 10.49995, 10.5 / np.sqrt(2), 10.5 / np.sqrt(3)):
        counts = set()
        for _ in range(12):
            turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
            counts.add(len(fewest(np.round(edge * turn, 6), 10.5).points))
        assert counts == {len(fewest(np.eye(3) * edge, 10.5).points)}


@pytest.mark.parametrize("seed", range(12))
def test_the_points_are_those_of_the_lattice_and_not_of_the_vectors_that_span_it(seed):
    """A general cell, its axes named otherwise, one of them the other way round, and spanned by unreduced vectors."""
    rng = np.random.default_rng(seed)
    cell = np.diag(rng.uniform(5, 9, 3)) + rng.uniform(-1.2, 1.2, (3, 3))
    own = fewest(cell, 10.5)
    for basis in (
        [[0, 1, 0], [0, 0, 1], [1, 0, 0]],
        [[-1, 0, 0], [0, 1, 0], [0, 0, 1]],
        [[1, 0, 0], [1, 1, 0], [0, -2, 1]],
    ):
        turned = np.array(basis)
        other = fewest(turned @ cell, 10.5)
        assert len(other.points) == len(own.points)
        back = np.array(other.points) @ np.linalg.inv(turned).T  # k'·(basis R) = k·R
        assert own.agrees(back, np.array(other.weights), 1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_no_regular_set_of_fewer_points_does_it(seed):
    """Against every sublattice and shift up to the index found, odd ones included."""
    rng = np.random.default_rng(100 + seed)
    cell = np.diag(rng.uniform(4.2, 6.5, 3)) + rng.uniform(-0.8, 0.8, (3, 3))
    found = len(fewest(cell, 10.5).points)
    for index in range(1, 2 * found):
        for rows in kpoints._sublattices(index):
            for points in kpoints._points(rows):
                if len(points.points) < found:
                    assert points.image_distance(cell) < 10.5


def test_an_odd_number_of_cells_through_gamma_may_take_fewer():
    scale = 10.5 / 12.9
    cell = np.array([[6.930416, 0, 0], [-3.465208, 6.0019164, 0], [0, 0, 4.920116]]) * scale
    found = fewest(cell, 10.5)
    assert len(found.points) == 5
    assert len(set(found.weights)) == 2, "a point that is its own negative counts half"


def test_points_and_weights_are_compared_whatever_their_image_sign_and_order():
    own = fewest(CELLS["cube"], 10.5)
    points, weights = np.array(own.points), np.array(own.weights)
    assert own.agrees(-points[::-1] + [1, 0, -2], weights[::-1], 1e-6)
    assert not own.agrees(points + [0, 0, 0.01], weights, 1e-6)
    assert not own.agrees(points, weights + [0.1, -0.1], 1e-6)
    assert not own.agrees(points[:1], weights[:1], 1e-6)
    assert not own.agrees(points[[0, 0]], weights, 1e-6), "one point twice is not both"


def test_grids_are_those_of_monkhorst_and_pack():
    assert grid((1, 1, 1)) == GAMMA
    shifted = grid((2, 2, 2), (1, 1, 1))
    assert {abs(x) % 0.5 for point in shifted.points for x in point} == {0.25}
    whole = grid((3, 2, 1))
    every = {tuple(np.array(p) % 1) for k in whole.points for p in (k, -np.array(k))}
    assert {tuple(np.round(p, 9)) for p in every} == {
        tuple(np.round([i / 3, j / 2, 0.0], 9)) for i in range(3) for j in range(2)
    }
    assert dict(zip(whole.points, whole.weights, strict=True))[0.0, 0.0, 0.0] == pytest.approx(1 / 6)
    assert max(whole.weights) == pytest.approx(1 / 3), "k and -k as one"


@pytest.mark.parametrize("index", [2, 4, 6, 8])
def test_every_sublattice_is_there_once(index):
    """Their number is the sum of d1 d2^2 over all factorisations d0 d1 d2 of the index."""
    found = kpoints._sublattices(index)
    expected = sum(c * f * f for a, c, f in product(range(1, index + 1), repeat=3) if a * c * f == index)
    assert len(found) == len(set(found)) == expected
    for rows in found:
        points = min(kpoints._points(rows), key=lambda one: len(one.points))
        assert len(points.points) == index // 2, "shifted so that all points pair off"
        coupling = np.array([points_coupling(points, vector) for vector in rows])
        assert np.abs(np.abs(coupling) - 1).max() < 1e-9, "vectors of the sublattice stay coupled"


def points_coupling(points, vector):
    return np.cos(2 * np.pi * np.array(points.points) @ np.array(vector)) @ np.array(points.weights)


def test_a_cell_that_needs_too_many_is_told_what_to_do():
    with pytest.raises(
        ConfigError, match=r"^label\.kpoints: a cell of 1\.20 x 1\.20 x 1\.20 Å needs more than 80 k-po"
    ):
        fewest(np.eye(3) * 1.2, 10.5)


def test_points_given_twice_or_with_their_negative_are_one():
    quarter = ((0.25, 0.25, 0.25),)
    assert listed([[0.25, 0.25, 0.25], [-0.25, -0.25, -0.25], [1.25, 0.25, -0.75]]) == KPoints(quarter, (1.0,))
    assert listed([[0.25, 0.25, 0.25], [0.25, 0.25, 0.25], [0, 0, 0]]).weights == (1 / 3, 2 / 3)


def test_points_of_equal_weight_are_as_given():
    assert listed([[0.25, 0.25, 0.25], [0.5, 0, 0]]) == KPoints(((0.25, 0.25, 0.25), (0.5, 0.0, 0.0)), (0.5, 0.5))
