"""Selection: trust levels, farthest points without regard to order, verdicts on the campaign."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from mlpwf.errors import DataError
from mlpwf.select.selection import blow_up, classify, farthest_points, last_before_blow_up, standardised
from mlpwf.structures.frames import geometry_key

NAN = np.nan


def verdicts(
    force: list[float], virial: list[float] | None = None, intact: list[bool] | None = None, **levels
) -> list[str]:
    count = len(force)
    return classify(
        np.array(force, float),
        np.array(virial or [NAN] * count, float),
        np.array(intact or [True] * count, bool),
        force_levels=(0.1, 0.6),
        **levels,
    )


def test_force_levels() -> None:
    assert verdicts([0.05, 0.1, 0.11, 0.6, 0.61, np.inf, NAN]) == [
        "accurate", "accurate", "candidate", "candidate", "failed", "failed", "failed",
    ]  # fmt: skip


def test_virial_levels_count_only_when_given() -> None:
    assert verdicts([0.05, 0.2], [9.0, 9.0]) == ["accurate", "candidate"]
    levels = {"virial_levels": (0.01, 0.05)}
    assert verdicts([0.05, 0.05, 0.05, 0.7], [0.005, 0.02, 0.06, 0.0], **levels) == [
        "accurate", "candidate", "failed", "failed",
    ]  # fmt: skip
    assert verdicts([0.05], [NAN], **levels) == ["accurate"]
    assert verdicts([0.05], [0.02], virial_levels=(None, 0.05)) == ["accurate"]


def test_virial_and_force_are_judged_apart() -> None:
    """A low virial excuses no huge force, and the reverse; an infinite virial is never accurate."""
    levels = {"virial_levels": (0.01, 0.05)}
    assert verdicts([500.0, 0.01, np.inf], [0.001, 90.0, 0.001], **levels) == ["failed"] * 3
    assert verdicts([0.01, 500.0], [np.inf, 0.0]) == ["failed", "failed"]


def test_broken_wins() -> None:
    assert verdicts([0.05, 0.3, 9.0, NAN], intact=[False] * 4) == ["broken"] * 4


def test_no_frames_and_wrong_shapes() -> None:
    assert verdicts([]) == []
    with pytest.raises(DataError, match="shapes"):
        classify(np.zeros(2), np.zeros(3), np.ones(2, bool), force_levels=(0.1, 0.6))


# ---------------------------------------------------------------- walkers


@pytest.mark.parametrize(
    ("walker", "place", "last"),
    [
        ("accc", 4, None),  # never blew up
        ("accff", 3, 2),
        ("acfcf", 4, 3),  # a passing failure is none
        ("acbcc", 2, 1),  # nothing after a broken frame counts
        ("aab", 2, None),
        ("ff", 0, None),  # exploded at once
        ("", 0, None),
    ],
)
def test_the_frames_before_a_blow_up(walker: str, place: int, last: int | None) -> None:
    words = {"a": "accurate", "c": "candidate", "f": "failed", "b": "broken"}
    assert blow_up([words[letter] for letter in walker]) == place
    assert last_before_blow_up([words[letter] for letter in walker]) == last


# ---------------------------------------------------------------- farthest points


def naive(candidates: np.ndarray, keys: list[str], known: np.ndarray, budget: int) -> list[str]:
    """Keys in the order chosen: brute force over all pairs."""
    pool = np.concatenate([known, candidates])
    pool = (pool - pool.mean(axis=0)) / pool.std(axis=0)
    taken = list(range(len(known)))
    chosen = []
    for _ in range(budget):
        best = (0.0, "")
        for index in sorted(range(len(candidates)), key=lambda i: keys[i]):
            place = len(known) + index
            if place in taken:
                continue
            gap = min(float(np.linalg.norm(pool[place] - pool[other])) for other in taken)
            if gap > best[0] * (1 + 1e-12):
                best = (gap, keys[index])
        if not best[1]:
            break
        chosen.append(best[1])
        taken.append(len(known) + keys.index(best[1]))
    return chosen


def points(seed: int, count: int) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 4)), [f"{value:08x}" for value in rng.permutation(10**6)[:count]]


def test_equals_brute_force() -> None:
    candidates, keys = points(1, 25)
    known, _ = points(2, 7)
    choices = farthest_points(candidates, keys, known, budget=9, duplicate_distance=1e-6)
    chosen = [key for key, choice in zip(keys, choices, strict=True) if choice.selected]
    assert sorted(chosen) == sorted(naive(candidates, keys, known, 9))
    assert {choice.why for choice in choices} == {"farthest from what is known", "budget spent"}


@pytest.mark.parametrize("seed", range(5))
def test_order_of_input_does_not_matter(seed: int) -> None:
    grid = np.array([[x, y] for x in range(5) for y in range(5)], float)  # full of ties
    candidates = np.concatenate([grid, grid[:6]])  # and of exact duplicates
    keys = [f"k{number:03d}" for number in np.random.default_rng(9).permutation(len(candidates))]
    known = np.array([[0.0, 0.0], [2.0, 2.0], [2.0, 2.0]])
    expected = dict(zip(keys, farthest_points(candidates, keys, known, budget=8, duplicate_distance=1e-6), strict=True))
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(candidates))
    shuffled = farthest_points(
        candidates[order], [keys[i] for i in order], known[rng.permutation(3)], budget=8, duplicate_distance=1e-6
    )
    assert {keys[i]: choice for i, choice in zip(order, shuffled, strict=True)} == expected
    assert sum(choice.selected for choice in shuffled) == 8


def test_ties_go_to_the_smallest_key() -> None:
    choices = farthest_points(
        np.array([[1.0], [-1.0]]), ["b", "a"], np.array([[0.0]]), budget=1, duplicate_distance=1e-6
    )
    assert [choice.selected for choice in choices] == [False, True]


def test_duplicates_are_left_out() -> None:
    candidates = np.array([[0.0, 1.0], [5.0, 5.0], [5.0, 5.0 + 1e-9], [9.0, 1.0]])
    choices = farthest_points(candidates, list("abcd"), np.array([[0.0, 1.0]]), budget=10, duplicate_distance=1e-6)
    assert choices[0].why == "duplicate of a training frame"
    assert {choices[1].why, choices[2].why} == {"farthest from what is known", "duplicate of a selected frame"}
    assert [choice.selected for choice in choices].count(True) == 2
    assert choices[3].selected
    assert choices[0].distance == 0.0


def test_budget_above_candidates_takes_all_and_none_gives_none() -> None:
    candidates, keys = points(3, 4)
    assert all(c.selected for c in farthest_points(candidates, keys, points(4, 3)[0], budget=99, duplicate_distance=0))
    assert farthest_points(np.zeros((0, 4)), [], candidates, budget=3, duplicate_distance=0) == []


def test_preferred_candidates_come_first_up_to_half_of_the_budget() -> None:
    candidates, keys = np.arange(10.0)[:, None], list("abcdefghij")
    preferred = dict.fromkeys("efg", "worth most")
    choices = farthest_points(
        candidates, keys, np.array([[0.0]]), budget=4, duplicate_distance=1e-6, preferred=preferred
    )
    chosen = {key: choice.why for key, choice in zip(keys, choices, strict=True) if choice.selected}
    assert [key for key, why in chosen.items() if why == "worth most"] == ["e", "g"]
    assert len(chosen) == 4
    assert "j" in chosen


def test_one_frame_and_nothing_known() -> None:
    (choice,) = farthest_points(np.array([[3.0, 4.0]]), ["a"], np.zeros((0, 2)), budget=1, duplicate_distance=1e-6)
    assert choice.selected
    assert choice.distance == np.inf


def test_keys_must_differ() -> None:
    with pytest.raises(DataError, match="1 different keys for 2"):
        farthest_points(np.zeros((2, 1)), ["a", "a"], np.zeros((0, 1)), budget=1, duplicate_distance=0)


def test_constant_columns_do_not_count() -> None:
    pool = np.array([[1.0, 7.0], [3.0, 7.0]])
    assert np.allclose(standardised(pool), [[-1.0], [1.0]])
    assert standardised(np.ones((3, 2))).shape == (3, 1)


def test_geometry_key_sees_geometry_only() -> None:
    atoms = Atoms("OH2", [[0, 0, 0], [0.96, 0, 0], [0, 0.96, 0]], cell=[5, 5, 5], pbc=True)
    other = atoms.copy()
    other.positions += 3e-7
    other.info["state"] = "elsewhere"
    assert geometry_key(other) == geometry_key(atoms)
    other.positions[0, 0] += 2e-6
    assert geometry_key(other) != geometry_key(atoms)
    wider = atoms.copy()
    wider.cell[0, 0] += 1e-5
    assert geometry_key(wider) != geometry_key(atoms)
