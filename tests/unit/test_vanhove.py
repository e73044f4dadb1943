"""Distances after a time, against a Gaussian and NumPy."""

import numpy as np
import pytest

from liquids import brownian, molecules_of
from mlpwf.dynamics.observables.van_hove import van_hove
from mlpwf.errors import DataError


@pytest.mark.physical_validation
def test_brownian_distances_are_gaussian():
    times, centres, _ = brownian(frames=1200, molecules=60, diffusion=0.05)
    found = van_hove(molecules_of(times, centres), np.array([2, 10, 40]), bin_angstrom=0.25, farthest_angstrom=12)
    for lag, density, error in zip(found.lags_ps, found.density[:, 0], found.error[:, 0], strict=True):
        variance = 2 * 0.05 * lag
        r = found.distances
        law = 4 * np.pi * r**2 * np.exp(-(r**2) / (2 * variance)) / (2 * np.pi * variance) ** 1.5
        np.testing.assert_allclose(density, law, atol=0.06 * law.max())
        known = error > 0
        assert np.median(np.abs(density - law)[known] / error[known]) < 2.5
    steps = [np.linalg.norm(centres[lag:] - centres[:-lag], axis=-1) for lag in (2, 10, 40)]
    held = [[(step < 12).mean()] for step in steps]
    np.testing.assert_allclose(found.density.sum(axis=-1) * 0.25, held)


def test_histograms_equal_numpy_for_each_species():
    times, centres, _ = brownian(frames=40, molecules=9, diffusion=0.3)
    names = list("abbabbbab")
    found = van_hove(molecules_of(times, centres, species=names), np.array([5]), 0.2, 3.0)
    assert found.groups == ("all", "a", "b")
    distances = np.linalg.norm(centres[5:] - centres[:-5], axis=-1)
    for group, chosen in enumerate([np.ones(9, bool), np.array(names) == "a", np.array(names) == "b"]):
        some = distances[:, chosen]
        expected = np.histogram(some, bins=15, range=(0, 3.0))[0] / some.size / 0.2
        np.testing.assert_allclose(found.density[0, group], expected)
        assert found.density[0, group].sum() * 0.2 == pytest.approx((some < 3).mean())


def test_impossible_bins_and_lags_are_refused():
    trajectory = molecules_of(*brownian(frames=10, molecules=2))
    for width, farthest in ((0.0, 1.0), (-1.0, 1.0), (2.0, 0.5)):
        with pytest.raises(DataError, match="at least one"):
            van_hove(trajectory, np.array([1]), width, farthest)
    with pytest.raises(DataError, match="apart"):
        van_hove(trajectory, np.array([50]))
