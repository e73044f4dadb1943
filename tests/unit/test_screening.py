"""Screening, rating, choice and baselines of explored frames, without the command line."""

from __future__ import annotations

import math

import numpy as np
import pytest
from ase import Atoms

from mlpwf.campaign.verdicts import ACCURATE, BROKEN, CANDIDATE, FAILED
from mlpwf.config import Select
from mlpwf.errors import DataError
from mlpwf.select.baselines import baseline
from mlpwf.select.choosing import BEFORE_BLOW_UP, CLOSEST, REFILL, Diversity, chosen, spared
from mlpwf.select.explored import Explored, by_walker
from mlpwf.select.rating import Rating
from mlpwf.select.screening import classified, examined

HYDROGEN = Atoms("H2", positions=[[0, 0, 0], [0.75, 0, 0]], cell=[8.0] * 3, pbc=True)
OWN_LEVELS = Select(force_trust_lower_ev_angstrom=0.1, force_trust_upper_ev_angstrom=0.5)


def pair(bond: float = 0.75, apart: float = 3.0) -> Atoms:
    """Two hydrogen molecules side by side: the first of this bond length, `apart` Å from the other."""
    positions = [[1, 1, 1], [1 + bond, 1, 1], [1, 1 + apart, 1], [1.75, 1 + apart, 1]]
    atoms = Atoms("H4", positions=positions, cell=[8.0] * 3, pbc=True)
    atoms.arrays["molecule"] = np.array([0, 0, 1, 1])
    return atoms


def frame(step: int = 0, force: float = 0.3, *, walker: int = 0, atoms: Atoms | None = None, **more) -> Explored:
    atoms = pair(0.75 + 1e-3 * step) if atoms is None else atoms
    return Explored(atoms, f"{walker:03d}{step:03d}", "300K", walker, step, force, math.nan, **more)


def screened(frames: list[Explored], **settings) -> list[Explored]:
    return examined(frames, [HYDROGEN], 0.5, {("H", "H"): 2.5}, Select(**settings))


def test_frames_of_a_walker_are_in_the_order_of_time():
    frames = [frame(3, walker=1), frame(2), frame(1, walker=1), frame(1)]
    assert by_walker(frames) == [[3, 1], [2, 0]]


def test_a_broken_molecule_ends_its_walker_and_no_other():
    frames = [frame(0), frame(1, atoms=pair(1.2)), frame(2), frame(2, walker=1)]
    found = screened(frames)
    assert [one.fault for one in found] == ["", "a molecule is not intact", "the walker had blown up at step 1", ""]
    assert [one.verdict for one in classified(found, OWN_LEVELS)] == [CANDIDATE, BROKEN, BROKEN, CANDIDATE]


def test_a_clash_is_named_with_its_distance():
    (found,) = screened([frame(atoms=pair(0.4))])
    assert found.fault == "atoms 0.40 Å apart, closer than 0.5 Å"


def test_molecules_that_come_too_close_and_part_again_end_no_walker():
    frames = [frame(0), frame(1, atoms=pair(apart=1.5)), frame(2)]
    found = screened(frames, contact_margin_angstrom=0.3)
    assert [one.too_close for one in found] == [False, True, False]
    assert found[1].fault == "H and H of two molecules 1.50 Å apart, 1.00 Å closer than in any label"
    assert found[2].fault == ""


def test_a_frame_closer_than_any_label_is_a_candidate_however_sure_the_committee_is():
    found = classified([frame(force=0.01), frame(force=0.01, closer=0.1)], OWN_LEVELS)
    assert [one.verdict for one in found] == [ACCURATE, CANDIDATE]


def test_a_committee_rates_net_forces_and_the_rest_apart():
    """Two members that differ by ±0.2 eV/Å along x in all atoms of the first molecule, and agree in the second."""

    def forces(frames):
        both = np.zeros((2, 4, 3))
        both[:, :2, 0] = [[0.2, 0.2], [-0.2, -0.2]]
        return [both] * len(frames)

    rating = Rating(forces, None, OWN_LEVELS)
    rated, faulty, missing = rating.rated([frame(), frame(1, fault="clash"), frame(2, force=math.nan)])
    assert rated.deviations["inter"] == pytest.approx(0.4)
    assert rated.deviations["intra"] == pytest.approx(0.0, abs=1e-12)
    assert math.isnan(faulty.deviations["inter"])
    assert math.isnan(missing.deviations["inter"])


def test_trust_by_target_error_needs_a_calibration():
    with pytest.raises(DataError, match="no committee with a calibration"):
        Rating(None, None, Select())


def by_bond(frames, elements):
    """A descriptor of one number: the first molecule's bond length."""
    return np.array([[atoms.get_distance(0, 1)] for atoms in frames])


def choice_of(frames: list[Explored], **settings) -> list[Explored]:
    section = Select(**settings)
    return chosen(frames, Diversity(by_bond, [pair(0.75)], section.duplicate_distance), section)


def test_the_farthest_candidate_is_chosen():
    frames = [frame(step, verdict=CANDIDATE) for step in (1, 2, 9)]
    found = choice_of(frames, budget=1)
    assert [one.choice.selected for one in found] == [False, False, True]


def test_the_last_candidate_before_a_blow_up_comes_first():
    frames = [frame(9, walker=1, verdict=CANDIDATE), frame(1, verdict=CANDIDATE), frame(2, verdict=BROKEN)]
    found = choice_of(frames, budget=1)
    assert found[1].choice.selected
    assert found[1].choice.why == BEFORE_BLOW_UP


def test_of_a_walker_that_came_too_close_and_parted_the_closest_comes_first():
    frames = [
        frame(1, verdict=CANDIDATE, closer=0.2), frame(2, verdict=BROKEN, too_close=True, closer=0.5),
        frame(3, verdict=CANDIDATE, closer=0.1), frame(9, walker=1, verdict=CANDIDATE),
    ]  # fmt: skip
    found = choice_of(frames, budget=1)
    assert [one.choice.why for one in found if one.choice and one.choice.selected] in ([BEFORE_BLOW_UP], [CLOSEST])
    assert not found[3].choice.selected


def test_budget_left_goes_to_the_least_doubtful_of_the_failed():
    frames = [frame(1, verdict=CANDIDATE), frame(5, 0.9, verdict=FAILED), frame(9, 0.7, verdict=FAILED)]
    found = choice_of(frames, budget=2)
    assert [bool(one.choice and one.choice.selected) for one in found] == [True, False, True]
    assert found[2].choice.why == REFILL


def test_a_selection_is_spared_when_the_cycles_end():
    (found,) = choice_of([frame(1, verdict=CANDIDATE)], budget=1)
    assert spared(found, "converged").choice.why == "the cycles have ended: converged"
    assert not spared(found, "converged").choice.selected


def test_a_random_baseline_follows_its_seed_and_leaves_out_what_it_has():
    frames = [frame(step, verdict=CANDIDATE) for step in range(8)] + [frame(9, fault="clash")]
    diversity = Diversity(by_bond, [frames[0].atoms], 0.0)

    def drawn(seed: int, known: list[Atoms]) -> list[int]:
        found = baseline("arm/random/1", frames, known, diversity, 3, np.random.default_rng(seed))
        return [one.step for one in found]

    assert drawn(1, []) == drawn(1, [])
    assert any(drawn(1, []) != drawn(seed, []) for seed in (2, 3, 4))
    first = drawn(1, [])
    assert not {0, 9} & set(first)
    assert not set(first) & set(drawn(1, [frames[step].atoms for step in first]))


def test_a_diverse_baseline_begins_at_random_and_goes_on_farthest_from_all_it_has():
    frames = [frame(step) for step in range(1, 9)]
    diversity = Diversity(by_bond, [pair(0.75)], 0.0)
    (only,) = baseline("arm/diverse/1", frames, [], diversity, 1, np.random.default_rng(1))
    both = {one.step for one in baseline("arm/diverse/1", frames, [], diversity, 2, np.random.default_rng(1))}
    (second,) = both - {only.step}
    reach = {step: min(step, abs(step - only.step)) for step in range(1, 9)}
    assert reach[second] == max(reach.values())
