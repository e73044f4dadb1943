"""Lines with errors in both, and the test of the law of proportion."""

import numpy as np
import pytest

from mlpwf.dynamics import activation, cooperativity
from mlpwf.errors import DataError

# Pearson's data with York's weights: the standard test of such fits (York 1966, DOI 10.1139/p66-090)
PEARSON_X = np.array([0.0, 0.9, 1.8, 2.6, 3.3, 4.4, 5.2, 6.1, 6.5, 7.4])
PEARSON_Y = np.array([5.9, 5.4, 4.4, 4.6, 3.5, 3.7, 2.8, 2.8, 2.4, 1.5])
WEIGHT_X = np.array([1000.0, 1000.0, 500.0, 800.0, 200.0, 80.0, 60.0, 20.0, 1.8, 1.0])
WEIGHT_Y = np.array([1.0, 1.8, 4.0, 8.0, 20.0, 20.0, 70.0, 70.0, 100.0, 500.0])


def test_published_line():
    fit = cooperativity.line(PEARSON_X, PEARSON_Y, WEIGHT_X**-0.5, WEIGHT_Y**-0.5)
    assert fit.intercept == pytest.approx(5.47991, abs=2e-5)
    assert fit.slope == pytest.approx(-0.480533, abs=2e-6)
    assert fit.chi2 == pytest.approx(11.8663, abs=1e-3)
    reduced = np.sqrt(fit.chi2 / 8)
    assert fit.slope_error == pytest.approx(0.0579850 * reduced, rel=1e-3)
    assert fit.intercept_error == pytest.approx(0.294971 * reduced, rel=1e-3)


def test_without_errors_in_x_it_is_weighted_least_squares():
    rng = np.random.default_rng(4)
    x = np.array([1.0, 3.0, 4.0, 8.0, 12.0])
    sigma = np.array([0.5, 0.3, 0.2, 0.6, 0.4])
    y = 3 + 2 * x + sigma * rng.normal(size=5)
    fit = cooperativity.line(x, y, np.zeros(5), sigma)
    slope, intercept = np.polyfit(x, y, 1, w=1 / sigma)
    assert (fit.slope, fit.intercept) == (pytest.approx(slope, rel=1e-6), pytest.approx(intercept, rel=1e-6))


@pytest.mark.parametrize("intercept", [0.0, 15.0])
@pytest.mark.parametrize("understated", [1.0, 3.0])
def test_rate_of_rejecting_proportion(intercept, understated):
    rng = np.random.default_rng(9)
    x = np.array([1.0, 2.0, 4.0, 7.0, 11.0, 17.0])
    sx, sy = 0.1 * x, np.full(6, 1.5)
    rejected, names, scores = [], set(), []
    for _ in range(300):
        xs, ys = x + sx * rng.normal(size=6), intercept + 1.5 * x + sy * rng.normal(size=6)
        fit = cooperativity.line(xs, ys, sx / understated, sy / understated)
        rejected.append(fit.proportional == "rejected at 5 %")
        names.add(fit.test)
        scores.append((fit.slope - 1.5) / fit.slope_error)
    if intercept:
        assert np.mean(rejected) > 0.9
    else:
        assert np.mean(rejected) < 0.11  # 5 % by design; 0.11 is far out for 300 tries
    assert "F-test" in names
    assert 0.8 < np.mean(np.abs(scores) < 2) < 0.995


def test_extrapolation_to_the_glass_and_its_error():
    rng = np.random.default_rng(2)
    x = np.array([1.0, 2.0, 4.0, 7.0, 11.0, 17.0])
    y = 10 + 1.5 * x
    drawn = 74.5 + 3 * rng.normal(size=300)
    exact = y + 0.05 * rng.normal(size=(300, 6))
    found = cooperativity.at_glass(x, y, 0.02 * x, exact, 74.5, drawn, rng)
    assert found.count == pytest.approx(43, rel=1e-3)
    # the points are nearly exact, so the error is that of E(T_g) over the slope
    assert found.error == pytest.approx(2.0, rel=0.2)
    unknown = cooperativity.at_glass(x, y, 0.02 * x, exact, np.nan, drawn, rng)
    assert unknown.verdict == "E at T_g is not known"
    flat = cooperativity.at_glass(x, 10 + 0.01 * x, 0.02 * x, 5 * rng.normal(size=(300, 6)), 74.5, drawn, rng)
    assert (flat.verdict, np.isnan(flat.count)) == ("slope not known to better than half", True)
    curved = cooperativity.at_glass(x, 10 + 6 * np.sqrt(x), 0.02 * x, exact, 74.5, drawn, rng)
    assert (curved.verdict, np.isnan(curved.count)) == ("the points do not lie on a line", True)


def test_the_misfit_of_a_true_line_is_as_probable_as_it_says():
    rng = np.random.default_rng(3)
    x = np.array([1.0, 2.0, 4.0, 7.0, 11.0, 17.0])
    p = [
        cooperativity.line(x + 0.2 * rng.normal(size=6), 3 + 0.5 * x + 0.1 * rng.normal(size=6), np.full(6, 0.2),
                           np.full(6, 0.1)).misfit_p_value
        for _ in range(200)
    ]  # fmt: skip
    assert np.mean(np.array(p) < 0.1) == pytest.approx(0.1, abs=0.06)


def test_a_covariance_is_generalised_least_squares():
    """Without errors in x to speak of: the closed form, and the same for a diagonal matrix as for its errors."""
    rng = np.random.default_rng(6)
    x, root = np.array([1.0, 3.0, 4.0, 8.0, 12.0]), rng.normal(size=(5, 5))
    spread = root @ root.T + np.eye(5)
    y = 3 + 2 * x + np.linalg.cholesky(spread) @ rng.normal(size=5)
    fit = cooperativity.line(x, y, np.full(5, 1e-9), spread)
    design, weight = np.stack([np.ones(5), x], axis=1), np.linalg.inv(spread)
    covariance = np.linalg.inv(design.T @ weight @ design)
    intercept, slope = covariance @ design.T @ weight @ y
    assert (fit.intercept, fit.slope) == (pytest.approx(intercept, rel=1e-5), pytest.approx(slope, rel=1e-5))
    widened = np.sqrt(np.diag(covariance) * max(1, fit.chi2 / 3))
    assert (fit.intercept_error, fit.slope_error) == (pytest.approx(widened[0]), pytest.approx(widened[1]))
    sigma = np.sqrt(np.diag(spread))
    assert cooperativity.line(x, y, 0.1 * x, sigma) == cooperativity.line(x, y, 0.1 * x + 0.0, np.diag(sigma**2))


@pytest.mark.parametrize("definition", ["E(T)", "E_app(T)"])
def test_errors_of_the_line_cover_the_truth_though_energies_share_their_times(definition):
    """τ by VFT with errors, N* on a line with E: slope and intercept are off by as much as their errors say."""
    rng = np.random.default_rng(12)
    temperatures = np.array([140.0, 155.0, 175.0, 200.0, 235.0, 285.0, 380.0])
    law = activation.LawFit("VFT", -5.0, 850.0, 103.0, 0.0, 0.0, 7, "ok")
    energy = law.energy(temperatures) if definition == "E(T)" else law.apparent_energy(temperatures)
    intercept, slope = float(energy[-1]) - 3.0, float(np.ptp(energy)) / 16
    counts = (energy - intercept) / slope
    scores = []
    for _ in range(60):
        times = np.exp(law.ln_tau(temperatures) + 0.04 * rng.normal(size=7))
        seen = counts * (1 + 0.03 * rng.normal(size=7))
        fit = activation.fit_law("VFT", temperatures, times, 0.04 * times)
        draws, ln_tau = activation.resampled("VFT", temperatures, times, 0.04 * times, rng, 50)
        if definition == "E(T)":
            found, drawn = activation.energies(temperatures, times, fit, draws, ln_tau)
        else:
            found, drawn = activation.apparent_energies(temperatures, times, fit, draws)
        line = cooperativity.line(seen, found, 0.03 * seen, activation.covariance(drawn))
        scores.append([(line.slope - slope) / line.slope_error, (line.intercept - intercept) / line.intercept_error])
    within = np.mean(np.abs(scores) < 1, axis=0), np.mean(np.abs(scores) < 2, axis=0)
    assert np.all((within[0] > 0.5) & (within[0] < 0.88)), within
    assert np.all(within[1] > 0.85), within


def test_too_few_points_and_wrong_shapes():
    x = np.array([1.0, 2.0, np.nan])
    fit = cooperativity.line(x, x, np.ones(3), np.ones(3))
    assert (fit.verdict, fit.states, fit.proportional) == ("too few states", 2, "not tested")
    with pytest.raises(DataError, match="shapes"):
        cooperativity.line(x, x[:2], x, x)
