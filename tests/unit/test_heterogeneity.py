"""χ4 and the normalised count: independent molecules, blobs, naive NumPy and guards."""

import math

import numpy as np
import pytest

from liquids import brownian, cages, in_blobs, molecules_of
from mlpwf.dynamics import heterogeneity
from mlpwf.dynamics.correlators import averages, join, pass_moments, weight_names
from mlpwf.dynamics.trajectory import choose_lags

WAVEVECTORS = (1.3,)
NAMES = weight_names(WAVEVECTORS)
FAST = {"diffusion": 0.06, "rotation": 0.05}


def moments_of(*arrays, lags=None, maximum=14, **options):
    trajectory = molecules_of(*arrays, **options)
    return pass_moments(
        trajectory, choose_lags(trajectory.ticks, maximum=maximum) if lags is None else lags, WAVEVECTORS, 1.0
    )


def columns(*arrays, **options):
    return heterogeneity.four_point(moments_of(*arrays, **options))


@pytest.mark.physical_validation
@pytest.mark.parametrize("blob", [1, 5])
def test_the_count_is_the_size_of_independent_blobs(blob):
    times, centres, axes = brownian(frames=3000, molecules=40, seed=11, **FAST)
    found = columns(*in_blobs(times, centres, axes, blob))
    for name in NAMES:
        value, error = found[f"n_star_{name}_normalised"], found[f"n_star_{name}_normalised_error"]
        known = np.isfinite(error) & (error < 0.2 * blob)
        assert np.count_nonzero(known) >= 4, name
        assert np.abs((value - blob) / error)[known].max() < 5, name
        assert np.abs(value[known] / blob - 1).max() < 0.5, name


@pytest.mark.physical_validation
def test_independent_molecules_in_cages_count_one():
    times, centres = cages(frames=3000, molecules=50, amplitude=0.6)
    found = columns(times, centres)
    for name in ("overlap", "fs_q1.3"):
        value = found[f"n_star_{name}_normalised"]
        known = np.isfinite(value)  # C stays above 1/e: values without an error
        assert np.count_nonzero(known) >= 8, name
        np.testing.assert_allclose(value[known][:8], 1, atol=0.25, err_msg=name)


def test_blobs_multiply_every_count():
    single = columns(*brownian(frames=300, molecules=30, **FAST))
    blobs = columns(*in_blobs(*brownian(frames=300, molecules=30, **FAST), 4))
    for label in single:
        np.testing.assert_allclose(blobs[label], 4 * single[label], rtol=1e-4, err_msg=label)


def test_chi4_and_count_equal_numpy():
    times, centres, axes = brownian(frames=60, molecules=12, **FAST)
    found = columns(times, centres, axes, lags=np.array([3, 12]))
    for row, lag in enumerate((3, 12)):
        r = np.linalg.norm(centres[lag:] - centres[:-lag], axis=-1)
        cosine = np.einsum("fnk,fnk->fn", axes[lag:, :, 1], axes[:-lag, :, 1])
        for name, w in {
            "overlap": (r < 1) * 1.0,
            "fs_q1.3": np.sinc(1.3 * r / np.pi),
            "c1_axis2": cosine,
            "c2_axis2": 1.5 * cosine**2 - 0.5,
        }.items():
            chi4 = 12 * w.mean(axis=1).var()
            assert found[f"chi4_{name}"][row] == pytest.approx(chi4, rel=1e-5)
            assert found[f"n_star_{name}_normalised"][row] == pytest.approx(chi4 / w.var(), rel=1e-5)


def test_runs_fluctuate_about_their_common_mean():
    """Two runs that move differently: each alone misses what separates them."""
    runs = [brownian(frames=80, molecules=10, diffusion=d, rotation=0.05) for d in (0.02, 0.2)]
    found = heterogeneity.four_point(join([moments_of(*run, lags=np.array([4])) for run in runs]))
    C = np.concatenate([(np.linalg.norm(c[4:] - c[:-4], axis=-1) < 1).mean(axis=1) for _, c, _ in runs])
    assert found["chi4_overlap"][0] == pytest.approx(10 * C.var(), rel=1e-5)
    alone = [columns(*run, lags=np.array([4]))["chi4_overlap"][0] for run in runs]
    assert found["chi4_overlap"][0] > 2 * max(alone)


def test_each_species_has_its_own_count():
    times, centres, axes = brownian(frames=200, molecules=8, **FAST)
    centres, axes = np.repeat(centres, 3, axis=1), np.repeat(axes, 3, axis=1)
    names = ["pair" if k % 3 < 2 else "single" for k in range(24)]
    moments = moments_of(times, centres, axes, species=names, lags=np.array([4]))
    single = columns(*brownian(frames=200, molecules=8, **FAST), lags=np.array([4]))["n_star_overlap_normalised"]
    for group, size in {"all": 3, "pair": 2, "single": 1}.items():
        found = heterogeneity.four_point(moments, group)["n_star_overlap_normalised"]
        np.testing.assert_allclose(found, size * single, rtol=1e-5)


@pytest.mark.parametrize(
    "change", [lambda c, u: (c[:, ::-1], u[:, ::-1]), lambda c, u: (c + 500.0, u), lambda c, u: (c[..., ::-1], -u)]
)
def test_invariances(change):
    times, centres, axes = brownian(frames=60, molecules=40, **FAST)
    before, after = columns(times, centres, axes), columns(times, *change(centres, axes))
    for label in before:
        np.testing.assert_allclose(after[label], before[label], rtol=1e-3, atol=1e-6, err_msg=label)


def test_lags_of_which_three_do_not_fit_have_no_value():
    times, centres, axes = brownian(frames=61, molecules=4, diffusion=0.3, rotation=0.3)
    moments = moments_of(times, centres, axes)
    for label, values in heterogeneity.four_point(moments).items():
        if label.startswith("chi4") and not label.endswith("error"):
            np.testing.assert_array_equal(np.isfinite(values), moments.lags_ps <= 15, err_msg=label)


def test_a_run_shorter_than_tau_keeps_its_numbers_without_an_error():
    times, centres, axes = brownian(frames=200, molecules=20, diffusion=1e-3, rotation=1e-4)
    found = columns(times, centres, axes)
    assert np.isfinite(found["chi4_fs_q1.3"]).sum() > 5
    assert np.isnan(found["chi4_fs_q1.3_error"]).all()
    assert np.isnan(averages(moments_of(times, centres, axes))["fs_q1.3_error"]).all()


def test_weights_that_do_not_vary_have_no_count():
    zero, one = np.zeros(1), np.full(1, 50.0)
    assert math.isnan(heterogeneity.normalised_count(zero, zero, zero, one, 100)[0])
    assert heterogeneity.chi4(zero, zero, one, 100)[0] == 0


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
