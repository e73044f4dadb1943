"""Calibration: maps from deviation to error, their bounds, and when they no longer hold."""

from __future__ import annotations

import json

import numpy as np
import pytest
from msgspec import convert, to_builtins

from mlpwf.campaign.records import Map
from mlpwf.errors import DataError
from mlpwf.potentials.calibration import (
    COVERAGE,
    INTER,
    INTRA,
    POOLED,
    Pairs,
    as_document,
    as_record,
    calibrate,
    check,
    committee_deviations,
    expected,
    fit,
    frame_pairs,
    from_document,
    from_record,
    joined,
    map_for,
    reliability,
    spread,
    within_reach,
)
from mlpwf.structures.molecules import split_forces


def synthetic(
    seed: int, frames: int, slope: float = 2.0, kind: str = "H", state: str = "300K", atoms: int = 20
) -> Pairs:
    """Gaussian errors of standard deviation `slope` times the deviation."""
    rng, atoms = np.random.default_rng(seed), 20
    deviation = np.exp(rng.normal(np.log(0.1), 0.7, frames * atoms))
    error = np.linalg.norm(rng.normal(0, slope * deviation, (3, len(deviation))), axis=0) / np.sqrt(3)
    frame = np.repeat([f"{seed:02d}{number:05d}" for number in rng.permutation(10**5)[:frames]], atoms)
    return Pairs(frame, np.full(len(deviation), state), np.full(len(deviation), kind), deviation, error)


def test_a_known_proportion_is_found() -> None:
    one = fit(synthetic(1, 200))
    at = np.geomspace(0.03, 0.4, 12)
    assert one.expected(at) == pytest.approx(2 * at, rel=0.15)
    assert one.level(0.2) == pytest.approx(0.1, rel=0.15)
    assert one.expected(np.array([one.level(0.17)])) == pytest.approx([0.17])
    assert np.all(np.diff(one.error) > 0)
    assert np.all(np.diff(one.deviation) > 0)


def test_bounds_cover_what_they_promise() -> None:
    """Over many fits, 90 % of fresh errors are within the bound."""
    covered = []
    for seed in range(30):
        one, fresh = fit(synthetic(seed, 20)), synthetic(1000 + seed, 20)
        covered.append(np.mean(fresh.error <= one.bound(fresh.deviation)))
    assert np.mean(covered) == pytest.approx(COVERAGE, abs=0.02)


def test_beyond_the_pairs_errors_grow_in_proportion() -> None:
    one = fit(synthetic(2, 50))
    ends = one.deviation[[0, -1]]
    assert one.expected(ends * [0.1, 10]) == pytest.approx(one.error[[0, -1]] * [0.1, 10])
    assert one.level(float(one.error[-1] * 5)) == pytest.approx(ends[1] * 5)
    assert one.expected(np.array([np.nan, np.inf, 0.0]))[:2].tolist() == [np.inf, np.inf]
    assert np.isfinite(one.expected(np.array([0.0]))).all()


def test_a_deviation_that_says_nothing_gives_one_level() -> None:
    """A flat relation has one knot; the map is then the error everyone has, in proportion."""
    rng = np.random.default_rng(3)
    pairs = synthetic(3, 40)
    flat = Pairs(pairs.frame, pairs.state, pairs.kind, pairs.deviation, rng.permutation(pairs.error))
    assert len(fit(flat).deviation) < 8
    same = Pairs(pairs.frame, pairs.state, pairs.kind, np.full(800, 0.1), pairs.error)
    assert len(fit(same).deviation) == 1


def test_one_frame_500_times_the_rest_moves_little() -> None:
    pairs = synthetic(4, 12)
    wild = pairs.error.copy()
    wild[pairs.frame == pairs.frame[0]] *= 500
    spoilt = Pairs(pairs.frame, pairs.state, pairs.kind, pairs.deviation, wild)
    assert fit(spoilt).level(0.2) == pytest.approx(fit(pairs).level(0.2), rel=0.5)


def test_missing_numbers_are_left_out() -> None:
    pairs = synthetic(5, 12)
    deviation = pairs.deviation.copy()
    deviation[:7] = [np.nan, np.inf, np.nan, np.nan, np.inf, np.nan, np.nan]
    assert fit(Pairs(pairs.frame, pairs.state, pairs.kind, deviation, pairs.error)).pairs == 12 * 20 - 7
    with pytest.raises(DataError, match="no pair of deviation and error"):
        fit(joined([]))


def test_order_does_not_matter() -> None:
    pairs = joined([synthetic(6, 30), synthetic(7, 30, 0.5, kind="O")])
    shuffled = pairs.where(np.random.default_rng(0).permutation(len(pairs.deviation)))
    assert as_document(calibrate(shuffled)) == as_document(calibrate(pairs))


def test_each_element_and_state_has_its_map_where_data_allow() -> None:
    pairs = joined([
        synthetic(8, 30, 2.0, "H", "300K"), synthetic(9, 30, 4.0, "H", "400K"), synthetic(10, 30, 0.5, "O", "300K"),
        synthetic(11, 5, 0.5, "O", "400K"), synthetic(12, 5, 1.0, "N", "300K"),
    ])  # fmt: skip
    maps = calibrate(pairs)
    assert set(maps) == {POOLED, "H", "O", "H at 300K", "H at 400K", "O at 300K"}
    assert map_for(maps, "H", "400K") == "H at 400K"
    assert map_for(maps, "O", "400K") == "O"
    assert map_for(maps, "N", "300K") == POOLED
    at = np.full(3, 0.1)
    found = expected(maps, np.array(["H", "H", "O"]), np.array(["300K", "400K", "300K"]), at)
    assert found == pytest.approx([0.2, 0.4, 0.05], rel=0.25)


def test_few_frames_have_a_map_but_no_bound() -> None:
    one = fit(synthetic(13, 2))
    assert one.quantile is None
    assert np.isnan(one.bound(np.array([0.1]))).all()
    assert check({POOLED: one}, synthetic(14, 5)).covered is None


def test_a_map_that_no_longer_holds_is_noticed() -> None:
    maps = calibrate(synthetic(15, 40))
    assert check(maps, synthetic(16, 40)).holds
    worse = check(maps, synthetic(17, 40, slope=6.0))
    assert not worse.holds
    assert worse.covered is not None
    assert worse.covered < 0.6
    tail = synthetic(16, 5)
    heavy = np.where(np.arange(len(tail.error)) % 12 == 0, 30 * tail.error, tail.error)
    sure = check(maps, Pairs(tail.frame, tail.state, tail.kind, tail.deviation, heavy))
    assert sure.covered is not None
    assert sure.covered > 0.7, "within two standard errors of five frames"
    assert sure.ratio > 2
    assert not sure.holds
    far = synthetic(18, 40)
    away = check(maps, Pairs(far.frame, far.state, far.kind, far.deviation * 100, far.error * 100))
    assert not away.holds
    assert away.beyond > 0.9
    assert check(maps, joined([])).holds


def test_a_map_that_holds_is_rarely_doubted() -> None:
    """Frames of one kind, all atoms of a frame in error alike: few false alarms, one in twenty or so."""
    from scipy.stats import binomtest

    rng = np.random.default_rng(3)

    def frames(number: int) -> Pairs:
        factor = np.repeat(np.abs(rng.normal(size=number)), 4)
        deviation = np.full(4 * number, 0.1)
        names = np.repeat([f"{rng.integers(10**9):09d}" for _ in range(number)], 4)
        return Pairs(names, np.full(4 * number, "300K"), np.full(4 * number, "H"), deviation, 0.2 * factor)

    for calibrated, checked in ((40, 40), (64, 256)):
        alarms = sum(not check({POOLED: fit(frames(calibrated))}, frames(checked)).holds for _ in range(300))
        assert binomtest(alarms, 300, 0.05, alternative="greater").pvalue > 0.001, alarms


def test_reliability_is_on_the_diagonal_when_the_map_is_right() -> None:
    maps = calibrate(synthetic(19, 100))
    points = reliability(maps, synthetic(20, 100))
    assert sum(count for _, _, count in points) == 2000
    assert [true / foreseen for foreseen, true, _ in points] == pytest.approx([1.0] * len(points), rel=0.2)


def test_records_come_back() -> None:
    maps = calibrate(synthetic(21, 30))
    back = from_record(convert(json.loads(json.dumps(to_builtins(as_record(maps)))), dict[str, Map]))
    assert as_record(back) == as_record(maps)
    with pytest.raises(DataError, match="no map 'all'"):
        from_record({})


def test_documents_come_back() -> None:
    maps = calibrate(synthetic(21, 30))
    back = from_document(json.loads(json.dumps(as_document(maps))))
    assert as_document(back) == as_document(maps)
    with pytest.raises(DataError, match="lacks 'quantile'"):
        from_document({POOLED: {"deviation_ev_angstrom": [1], "error_ev_angstrom": [1]}})
    with pytest.raises(DataError, match="no map 'all'"):
        from_document({})


def test_deviations_between_and_inside_molecules() -> None:
    rng = np.random.default_rng(22)
    masses, molecule = np.array([16.0, 1, 1, 16, 1, 1]), np.repeat([0, 1], 3)
    whole = np.repeat(rng.normal(size=(4, 2, 3)), 3, axis=1) * (masses / 18)[:, None]  # molecules pushed as one
    moved = committee_deviations(whole, masses, molecule)
    assert moved.intra == pytest.approx(np.zeros(6), abs=1e-12)
    assert moved.inter.shape == (2,)
    assert np.all(moved.inter > 0.1)
    inner = rng.normal(size=(4, 6, 3))
    inner -= np.repeat([split_forces(f, masses, molecule)[0] for f in inner], 3, axis=1) * (masses / 18)[:, None]
    assert committee_deviations(inner, masses, molecule).inter == pytest.approx([0, 0], abs=1e-12)
    naive = [np.sqrt(np.mean([np.sum((f[a] - inner[:, a].mean(0)) ** 2) for f in inner])) for a in range(6)]
    assert committee_deviations(inner, masses, molecule).intra == pytest.approx(naive)
    with pytest.raises(DataError, match="shape"):
        spread(np.zeros((6, 3)))


def test_pairs_of_a_frame() -> None:
    rng = np.random.default_rng(23)
    forces, label = rng.normal(size=(3, 4, 3)), rng.normal(size=(4, 3))
    masses, molecule = np.array([16.0, 1, 1, 40]), np.array([0, 0, 0, 1])
    found = frame_pairs(forces, label, ["O", "H", "H", "Ar"], masses, molecule, "key", "300K")
    assert found[INTER].kind.tolist() == ["molecule"] * 2
    assert found[INTRA].kind.tolist() == ["O", "H", "H"], "an atom alone has no inside"
    net = (forces[0] - label)[:3].sum(axis=0)
    assert found[INTER].error[0] == pytest.approx(np.sqrt(np.mean(net**2)))
    assert set(found[INTRA].frame) == {"key"}
    with pytest.raises(DataError, match="five times"):
        Pairs(*[np.array(["a"])] * 3, np.zeros(2), np.zeros(1))


def test_a_map_reaches_twice_as_far_as_its_pairs() -> None:
    deviation = np.array([0.1, 0.2, 0.4])
    names = np.array(["H"] * 3)
    maps = calibrate(Pairs(np.array(["a", "b", "c"]), np.array(["cold"] * 3), names, deviation, deviation))
    asked = np.array([0.79, 0.81, np.nan, np.inf])
    found = within_reach(maps, np.array(["H"] * 4), np.array(["cold"] * 4), asked)
    assert found.tolist() == [True, False, False, False]
