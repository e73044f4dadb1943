"""Prices: scaled from what is known, with an error that covers what is not."""

import numpy as np
import pytest

from mlpwf.calculators.espresso.cost import ELSEWHERE, Size, label_price
from mlpwf.campaign.pricing import Price, calibration, rate_price


def test_known_labels_of_the_same_size_give_their_mean():
    size = Size(30, 353.0, 30, 150)
    costs = np.random.default_rng(1).normal(4.0, 0.4, 200)
    price = label_price(size, [(size, cost) for cost in costs])
    assert price.cpu_s == pytest.approx(costs.mean())
    assert 0.1 <= price.error / price.cpu_s < 0.11


@pytest.mark.parametrize("hidden", range(len(ELSEWHERE)))
def test_each_measured_label_is_foretold_from_the_others(hidden):
    """pw.x over two decades of cost: within two standard errors of the price from all other sizes."""
    size, cost = ELSEWHERE[hidden]
    price = label_price(size, [entry for k, entry in enumerate(ELSEWHERE) if k != hidden])
    print(f"{size}: {price.cpu_s:.1f} ± {price.error:.1f}, measured {cost}")
    assert abs(price.cpu_s - cost) < 2 * price.error


def test_without_labels_the_error_is_a_factor():
    size, cost = ELSEWHERE[1]
    price = label_price(size, [])
    assert price.cpu_s == pytest.approx(cost, rel=0.5)
    assert price.error > 0.6 * price.cpu_s


def test_sums_and_multiples():
    total = Price(3.0, 0.3) * 10 + Price(10.0, 4.0)
    assert total.cpu_s == 40
    assert total.error == pytest.approx(5.0)


def test_stages_that_have_run_are_calibrated():
    rates = calibration({"train": 100.0, "explore": 0.0}, {"train": 250.0, "label": 9.0})
    assert rates == {"train": 2.5}
    assert rate_price("train", 40.0, rates).cpu_s == 100
    assert rate_price("train", 40.0, rates).error < 20
    assert rate_price("explore", 40.0, rates).error > 25
