"""Stopping: each criterion, and the verdicts on the campaign."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from mlpwf.errors import DataError
from mlpwf.stopping import Criterion, few_candidates, flat_test_error, judge, outlook, root_with_error, small_error


def counts(accurate: int = 0, candidate: int = 0, failed: int = 0, broken: int = 0) -> Counter[str]:
    return Counter(accurate=accurate, candidate=candidate, failed=failed, broken=broken)


def criteria(found: Counter[str], error: float | None, flat: bool | None = True) -> list[Criterion]:
    return [
        few_candidates(found, 0.02),
        small_error("new labels", "force error", error, 0.08),
        Criterion("test set flat", flat, "as it may be"),
    ]


def verdict(found: Counter[str], selectable: int, error: float | None, cycle: int, **more) -> tuple[str, str]:
    flat = more.pop("flat", True)
    return judge(criteria(found, error, flat), found, selectable, cycle, 5, **more)


@pytest.mark.parametrize(
    ("found", "selectable", "error", "cycle", "expected"),
    [
        (counts(98, 2), 2, 0.08, 1, "converged"),  # exactly at both limits
        (counts(98, 2), 2, 0.08, 4, "converged"),  # also in the last cycle
        (counts(98, 2), 2, 0.081, 1, "continue"),
        (counts(97, 2, 1), 2, 0.05, 1, "continue"),
        (counts(97, 2, 0, 1), 2, 0.05, 1, "continue"),
        (counts(98, 2), 2, None, 0, "continue"),
        (counts(50, 50), 50, 0.05, 4, "limit"),
        (counts(100), 0, None, 0, "exhausted"),
        (counts(100), 0, 0.2, 2, "exhausted"),
        (counts(100), 0, 0.05, 2, "converged"),
        (counts(0, 0, 100), 0, 0.2, 2, "exhausted"),
        (counts(0, 0, 100), 0, 0.05, 2, "exhausted"),
    ],
)
def test_verdicts(found: Counter[str], selectable: int, error: float | None, cycle: int, expected: str) -> None:
    word, reason = verdict(found, selectable, error, cycle)
    assert word == expected
    assert reason[0].islower()
    assert f"of {sum(found.values())} explored frames" in reason


@pytest.mark.parametrize("flat", [False, None])
def test_one_criterion_that_is_not_met_or_not_known_is_enough_to_go_on(flat: bool | None) -> None:
    assert verdict(counts(100), 3, 0.05, 2, flat=flat)[0] == "continue"


def test_a_spent_budget_ends_the_campaign_unless_it_has_converged() -> None:
    assert verdict(counts(50, 50), 50, 0.2, 1, affordable=0)[0] == "budget"
    assert verdict(counts(50, 50), 50, 0.2, 1, affordable=3)[0] == "continue"
    assert verdict(counts(98, 2), 2, 0.05, 1, affordable=0)[0] == "converged"


def test_reasons_say_numbers_and_remedies() -> None:
    assert "not known yet" in verdict(counts(98, 2), 2, None, 0)[1]
    assert "0.200 eV/Å, more than 0.080" in verdict(counts(98, 2), 2, 0.2, 1)[1]
    assert "explore more gently" in verdict(counts(0, 0, 0, 9), 0, None, 0)[1]
    assert "lower the target error" in verdict(counts(9), 0, None, 0)[1]
    with pytest.raises(DataError, match="no explored frames"):
        few_candidates(counts(), 0.02)


def test_a_test_error_is_flat_within_its_error_bar() -> None:
    rng = np.random.default_rng(1)
    before = rng.uniform(0.005, 0.015, 20)
    noise = rng.normal(0, 0.002, 20)
    assert flat_test_error(before.tolist(), (before + noise - noise.mean()).tolist()).met
    assert flat_test_error(before.tolist(), (2 * before).tolist()).met, "a test error that rises does not fall"
    fallen = flat_test_error(before.tolist(), (0.5 * before + 0.1 * noise).tolist())
    assert fallen.met is False
    assert "more than 2 standard errors down" in fallen.said
    assert flat_test_error(None, before.tolist()).met is None
    assert flat_test_error([0.1], [0.1]).met is None
    with pytest.raises(DataError, match="same test set"):
        flat_test_error([0.1], [0.1, 0.2])


def test_the_outlook_follows_a_power_law() -> None:
    rng = np.random.default_rng(2)
    labels = [50, 100, 200, 400]
    clean = [np.full(8, (0.5 * n**-0.4) ** 2) for n in labels]
    found = outlook(labels, clean)
    assert found is not None
    assert (found.now, found.then) == pytest.approx((0.5 * 400**-0.4, 0.5 * 500**-0.4))
    assert found.error == pytest.approx(0.0, abs=1e-9)
    inside = 0
    for _ in range(40):
        noisy = [one * rng.lognormal(0, 0.4, 8) for one in clean]
        found = outlook(labels, noisy)
        assert found is not None
        inside += abs(found.then - 0.5 * 500**-0.4 * np.exp(0.04)) < 2 * found.error
    assert inside > 32
    assert outlook([50], clean[:1]) is None
    assert outlook([50, 50], clean[:2]) is None


def test_an_error_has_an_error_bar() -> None:
    rng = np.random.default_rng(3)
    roots = [root_with_error(rng.gamma(4, 0.01 / 4, 30).tolist()) for _ in range(300)]
    assert np.mean([error for _, error in roots]) == pytest.approx(np.std([root for root, _ in roots]), rel=0.15)
    assert np.isnan(root_with_error([0.01])[1])
