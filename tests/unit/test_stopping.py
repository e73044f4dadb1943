"""Stopping: each criterion, and the verdicts on the campaign."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from mlpwf.campaign.records import Criterion, LiquidSamples
from mlpwf.campaign.stopping import (
    extrapolation,
    few_candidates,
    flat_test_error,
    judge,
    root_with_error,
    same_liquid,
    small_error,
)
from mlpwf.errors import DataError


def counts(accurate: int = 0, candidate: int = 0, failed: int = 0, broken: int = 0) -> Counter[str]:
    return Counter(accurate=accurate, candidate=candidate, failed=failed, broken=broken)


def criteria(found: Counter[str], error: float | None, flat: bool | None = True) -> list[Criterion]:
    return [
        few_candidates(found, 0.02),
        small_error("new labels", "force error", error, 0.08),
        Criterion(name="test set flat", met=flat, message="as it may be"),
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
    word, reason = verdict(counts(), 0, 0.05, 2)
    assert word == "exhausted", "nothing explored is nothing learned"
    assert "every walker blew up before its first" in reason
    assert "explore more gently" in reason


def test_a_test_error_is_flat_within_its_error_bar() -> None:
    rng = np.random.default_rng(1)
    before = rng.uniform(0.005, 0.015, 20)
    noise = rng.normal(0, 0.002, 20)
    assert flat_test_error(before.tolist(), (before + noise - noise.mean()).tolist()).met
    risen = flat_test_error(before.tolist(), (2 * before).tolist())
    assert risen.met is False, "a model that got worse is not flat"
    assert "more than 2 standard errors up" in risen.message
    fallen = flat_test_error(before.tolist(), (0.5 * before + 0.1 * noise).tolist())
    assert fallen.met is False
    assert "more than 2 standard errors down" in fallen.message
    assert flat_test_error(None, before.tolist()).met is None
    assert flat_test_error([0.1], [0.1]).met is None
    with pytest.raises(DataError, match="same test set"):
        flat_test_error([0.1], [0.1, 0.2])


def liquid(cycle: int, mean: float = 0.85, shift: float = 0.0, mobility: float = 0.2, **more) -> LiquidSamples:
    """A liquid with known means and errors: density to 0.4 %, g(r) to 5 %, diffusion to about 10 %."""
    rng = np.random.default_rng(cycle)
    r = np.arange(3, 9, 0.1)
    g = 1 + np.exp(-((r - 5 - shift) ** 2)) + rng.normal(0, 0.05, (5, len(r)))
    samples = {
        "density": mean + 0.008 * rng.permutation([-1, -0.5, 0, 0.5, 1]),
        "r": r,
        "g": g,
        "diffusion": mobility * rng.permutation(np.linspace(0, 2, 32)),
    }
    about = {"seed": 1, "model_sha256": "", "conditions": "", "units": {}, "fault": "", "diffusion_lags": None}
    given = {name: values.tolist() for name, values in samples.items()}
    return LiquidSamples(cycle=cycle, **about | given | more)


def met(*liquids: LiquidSamples, wanted: int = 2) -> list[bool | None]:
    return [one.met for one in same_liquid(liquids, wanted)]


def test_liquids_agree_within_their_errors() -> None:
    found = same_liquid([liquid(3), liquid(4)], 2)
    assert [one.name for one in found] == ["density", "g(r)", "diffusion"]
    assert [one.met for one in found] == [True] * 3
    assert "cycles 3, 4: 0.85 ± 0.0028, 0.85 ± 0.0028 g/cm³, differs by" in found[0].message
    assert met(liquid(3), liquid(4), liquid(5), wanted=3) == [True] * 3


def test_the_quantity_that_differs_is_named() -> None:
    assert met(liquid(3), liquid(4, mean=0.9)) == [False, True, True]
    assert met(liquid(3), liquid(4, shift=0.3)) == [True, False, True]
    assert met(liquid(3), liquid(4, mobility=0.5)) == [True, True, False]
    assert met(liquid(3), liquid(4), liquid(5, mean=0.9), wanted=3) == [False, True, True]


def test_what_cannot_be_told_is_not_met() -> None:
    assert met(liquid(3)) == [None] * 3
    assert met(liquid(3), liquid(4, density=[])) == [None, True, True]
    noisy = liquid(4, diffusion=[0.2, -0.2, 0.5])
    found = same_liquid([liquid(3), noisy], 2)[2]
    assert found.met is None
    assert "an error above 30% tells nothing, run longer (validate.nvt_ps)" in found.message
    empty = liquid(4, density=[], r=[], g=[], diffusion=[])
    assert met(empty, empty) == [None] * 3
    said = same_liquid([liquid(3), empty], 2)[0].message
    assert said == "the density by the models of cycles 3, 4 is not measured: run longer (validate.npt_ps)"


def test_liquids_of_other_conditions_are_not_compared() -> None:
    cold, warm = (liquid(3 + k, conditions=f"64 molecules at {kelvin} K") for k, kelvin in enumerate((293, 300)))
    found = same_liquid([cold, warm], 2)
    assert [one.met for one in found] == [None] * 3
    said = "the g(r) of the cycles' models is not comparable: 64 molecules at 293 K and 64 molecules at 300 K"
    assert found[1].message == said


def test_a_model_that_gives_no_liquid_does_not_agree() -> None:
    found = same_liquid([liquid(3), liquid(4, fault="the run at constant pressure blew up")], 2)
    assert [one.met for one in found] == [False] * 3
    assert found[0].message == "the density by the model of cycle 4 is none: the run at constant pressure blew up"


def test_the_learning_curve_extrapolation_follows_a_power_law() -> None:
    rng = np.random.default_rng(2)
    labels = [50, 100, 200, 400]
    clean = [np.full(8, (0.5 * n**-0.4) ** 2) for n in labels]
    found = extrapolation(labels, clean)
    assert found is not None
    assert (found.now, found.then) == pytest.approx((0.5 * 400**-0.4, 0.5 * 500**-0.4))
    assert found.error == pytest.approx(0.0, abs=1e-9)
    inside = 0
    for _ in range(40):
        noisy = [one * rng.lognormal(0, 0.4, 8) for one in clean]
        found = extrapolation(labels, noisy)
        assert found is not None
        inside += abs(found.then - 0.5 * 500**-0.4 * np.exp(0.04)) < 2 * found.error
    assert inside > 32
    assert extrapolation([50], clean[:1]) is None
    assert extrapolation(labels, clean[::-1]) is None, "an error that rises follows no law of learning"
    assert extrapolation([50, 50], clean[:2]) is None


def test_the_learning_curve_extrapolation_of_two_cycles_knows_how_trainings_differ() -> None:
    """Two points leave no scatter about their line: it comes from models trained on the same labels."""
    rng = np.random.default_rng(6)
    labels, noise, within, without = [50, 100], 0.1, 0, 0
    for _ in range(200):
        frames = [np.full(8, (0.5 * n**-0.4) ** 2) * rng.lognormal(0, 2 * noise) for n in (50, 100, 200)]
        for given in (noise, 0.0):
            found = extrapolation(labels, frames[:2], 100, given)
            if found is None:
                continue
            inside = abs(found.then - np.sqrt(frames[2][0])) < 2 * found.error
            within, without = within + inside * (given > 0), without + inside * (given == 0)
    assert within > 170
    assert without < 20


def test_an_error_has_an_error_bar() -> None:
    rng = np.random.default_rng(3)
    roots = [root_with_error(rng.gamma(4, 0.01 / 4, 30).tolist()) for _ in range(300)]
    assert np.mean([error for _, error in roots]) == pytest.approx(np.std([root for root, _ in roots]), rel=0.15)
    assert np.isnan(root_with_error([0.01])[1])
