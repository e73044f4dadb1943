"""Agreement of liquids: the test against its formula, its false alarms, what it finds."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import ttest_ind

from mlpwf.campaign import records
from mlpwf.campaign.agreement import compare, curves_of, mean_with_error, structure
from mlpwf.errors import DataError
from mlpwf.validate.observables import block_means


def test_two_groups_of_numbers_differ_by_so_many_standard_errors() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(0, 1, 8), rng.normal(1, 1, 8)
    found, expected = compare([first, second]), ttest_ind(first, second)
    assert found.ratio == pytest.approx(abs(expected.statistic))
    assert found.p_value == pytest.approx(expected.pvalue, abs=0.02)


def test_order_shift_and_turn_do_not_matter() -> None:
    rng = np.random.default_rng(2)
    groups = [rng.normal(0, 1, (5, 3)) for _ in range(3)]
    found = compare(groups)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    other = compare([7.0 + group @ turn for group in groups])
    assert other.ratio == pytest.approx(found.ratio)
    assert other.p_value == pytest.approx(found.p_value, abs=0.02)
    assert compare([groups[k] for k in (2, 0, 1)]).ratio == pytest.approx(found.ratio)


@pytest.mark.parametrize(("groups", "size", "features"), [(2, 5, 1), (2, 5, 40), (3, 5, 40), (2, 30, 1)])
def test_false_alarms_are_as_rare_as_stated(groups: int, size: int, features: int) -> None:
    """Also for neighbouring features that go together, as the shells of g(r) do."""
    rng = np.random.default_rng(3)
    found = []
    for _ in range(150):
        rough = rng.normal(size=(groups, size, features + 6))
        smooth = np.cumsum(rough, axis=2)[:, :, 6:] - np.cumsum(rough, axis=2)[:, :, :-6]
        found.append(compare(list(smooth)))
    alarms = sum(one.p_value < 0.05 for one in found)
    assert alarms <= 17, "5 % of 150 are 7.5 ± 2.7"
    assert np.sqrt(np.mean([one.ratio**2 for one in found])) == pytest.approx(1, abs=0.35)


def test_blocks_of_a_correlated_series_raise_few_false_alarms() -> None:
    """Blocks of four correlation times: the errors are a little too small, so that differences are found too often."""
    rng = np.random.default_rng(4)
    alarms = 0
    for _ in range(200):
        series = np.zeros((2, 400))
        for step in range(1, 400):
            series[:, step] = np.exp(-1 / 20) * series[:, step - 1] + rng.normal(size=2)
        alarms += compare([block_means(one) for one in series]).p_value < 0.05
    assert alarms < 35


def test_a_difference_of_many_errors_is_found() -> None:
    rng = np.random.default_rng(5)
    r = np.arange(2, 6, 0.1)
    curve = 1 + np.exp(-((r - 3) ** 2) / 0.1)
    moved = 1 + np.exp(-((r - 3.1) ** 2) / 0.1)
    noise = rng.normal(0, 0.05, (3, 5, len(r)))
    same = compare([curve + noise[0], curve + noise[1]])
    other = compare([curve + noise[0], moved + noise[2]])
    assert same.p_value > 0.05 > 0.02 > other.p_value
    assert other.ratio > 3 > 2 > same.ratio


def test_equal_samples_agree_and_constant_ones_that_differ_do_not() -> None:
    assert compare([np.ones(5), np.ones(5)]).ratio == 0
    assert compare([np.ones(5), np.ones(5)]).p_value == 1
    assert compare([np.ones(5), np.full(5, 2.0)]).ratio == np.inf
    assert compare([np.ones(5), np.full(5, 2.0)]).p_value < 0.02


def test_groups_of_other_shapes_are_refused() -> None:
    for groups in ([np.ones(5)], [np.ones(5), np.ones(1)], [np.ones((5, 2)), np.ones((5, 3))]):
        with pytest.raises(DataError, match="groups of samples"):
            compare(groups)


def samples(**changes) -> records.LiquidSamples:
    known = {
        "seed": 1, "model_sha256": "", "cycle": 2, "conditions": "", "units": {}, "fault": "", "density": [1.0, 1.1],
        "r": [1.0], "g": [[1.0], [1.2]], "diffusion": [], "diffusion_lags": None,
    }  # fmt: skip
    return records.LiquidSamples(**known | changes)


def test_a_file_that_is_no_liquid_is_refused(tmp_path) -> None:
    path = tmp_path / "liquid.json"
    whole = records.as_json(samples())
    assert isinstance(whole, dict)
    for damage in ({"density": ["x"]}, {"g": [1.0]}, {"cycle": "2"}, {"r": None}):
        path.write_text(json.dumps(whole | damage))
        with pytest.raises(DataError, match=rf"liquid.json: no LiquidSamples .*{next(iter(damage))}"):
            records.read(path, records.LiquidSamples)
    path.write_text(json.dumps({key: value for key, value in whole.items() if key != "fault"}))
    with pytest.raises(DataError, match="missing required field `fault`"):
        records.read(path, records.LiquidSamples)


def test_curves_and_their_distances_match() -> None:
    assert curves_of(samples())[1].shape == (2, 1)
    assert curves_of(samples(r=[], g=[]))[1].shape == (0, 0)
    for damage in ({"g": [[1.0, 2.0]]}, {"g": [[1.0], [1.0, 2.0]]}):
        with pytest.raises(DataError, match=r"cycle 2: g\(r\) .*run mlpwf validate for this cycle again"):
            curves_of(samples(**damage))


def test_means_have_errors() -> None:
    assert mean_with_error(np.array([1.0, 2.0, 3.0])) == pytest.approx((2.0, 1 / np.sqrt(3)))
    assert np.isnan(mean_with_error(np.zeros((1, 4)))).all()
    liquid = samples(r=[1.0, 2.0], g=[[2.0, 1.5], [2.0, 1.5]])
    assert mean_with_error(structure(liquid)) == pytest.approx((np.sqrt(2), 0.0))
