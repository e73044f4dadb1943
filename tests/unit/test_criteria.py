"""What has to be met for the cycles to end, from records of training, validation and labels."""

from __future__ import annotations

from collections import Counter

import pytest
from msgspec.structs import replace

from mlpwf.campaign import records
from mlpwf.config import Select
from mlpwf.select.criteria import criteria, label_errors, new_label_error
from training_errors import errors, trained

COUNTS = Counter(accurate=99, candidate=1)


def met(*given: object, **changes: object) -> dict[str, bool | None]:
    settings = Select(liquid_cycles=0, converged_candidate_fraction=0.02, **changes)
    return {one.name: one.met for one in criteria(*given, COUNTS, settings)}


def test_all_criteria_are_met_by_a_good_cycle() -> None:
    found = met(trained(0.05, (0.07, 0.06)), trained(0.05), [])
    assert found == {
        "few candidates": True, "new labels": True, "new labels, between molecules": True, "test set flat": True,
    }  # fmt: skip


def test_the_first_cycle_knows_neither_new_labels_nor_a_cycle_before() -> None:
    found = met(trained(0.05), None, [])
    assert [found[name] for name in ("new labels", "new labels, between molecules", "test set flat")] == [None] * 3


def test_each_force_has_a_target_of_its_own() -> None:
    asked = {"target_error_mev_angstrom": 100, "target_inter_error_mev_angstrom": 50}
    found = met(trained(0.05, (0.09, 0.06)), trained(0.05), [], **asked)
    assert (found["new labels"], found["new labels, between molecules"]) == (True, False)
    found = met(trained(0.05, (0.09, 0.04)), trained(0.05), [], **asked, converged_force_error_ev_angstrom=0.08)
    assert (found["new labels"], found["new labels, between molecules"]) == (False, True)


def test_liquids_count_only_where_they_are_asked_for() -> None:
    settings = Select(liquid_cycles=2)
    found = criteria(trained(0.05), None, [], COUNTS, settings)
    assert [(one.name, one.met) for one in found[4:]] == [("density", None), ("g(r)", None), ("diffusion", None)]
    assert "fewer than 2 cycles" in found[4].message


def test_the_error_on_new_labels_is_that_of_the_model_that_drove_the_dynamics() -> None:
    assert new_label_error(trained(0.05)) is None
    assert new_label_error(trained(0.05, (0.09, 0.06))) == 0.09


def test_the_labels_own_errors_are_those_of_all_levers() -> None:
    of_labels = records.ErrorsOfLabels(**records.as_json(errors(0.04, 0.03)), pressure_bias_kbar=0.1)
    half = replace(of_labels, force_inter_rmse_ev_angstrom=0.01)
    row = records.LabelErrorRow(atoms=None, frames=2, edge_angstrom=9.0, errors={"k-points": half, "total": of_labels})
    found = records.LabelError(units={}, rows=[row], failures=[], cpu_s=1.0, inputs={})
    assert label_errors(found) == pytest.approx({"inter": 0.03, "intra": 0.02})
    assert label_errors(replace(found, rows=[])) == {}
