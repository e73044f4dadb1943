"""The work of a campaign, counted without files or a command line."""

from pathlib import Path

import pytest
import yaml

from mlpwf.config import Campaign
from mlpwf.plan.work import Sizes, Work, after_cycles, compared_liquids, of_cycle, production, together

SYSTEM = Path(__file__).parents[2] / "config" / "systems" / "tiny_water.yaml"
SIZES = Sizes(smallest=12, labelled=12, molecules=4)


def campaign(**changes: dict[str, object]) -> Campaign:
    values = yaml.safe_load(SYSTEM.read_text())
    for section, keys in changes.items():
        values[section] = values.get(section, {}) | keys
    return Campaign.model_validate(values)


def test_the_first_cycle_builds_and_labels_the_test_set_and_the_next_ones_buy_the_budget():
    asked = campaign(label={"error_frames": 0})
    first, second = (of_cycle(asked, cycle, SIZES) for cycle in (0, 1))
    start = asked.build.start_frames(len(asked.system.molecules))
    assert (first["build"].jobs, first["label"].labels) == (1, start + asked.build.test_frames)
    assert "build" not in second
    assert second["label"].labels == asked.select.budget


def test_the_error_of_the_labels_is_a_job_of_the_first_cycle():
    with_error, without = (of_cycle(campaign(label={"error_frames": n}), 0, SIZES)["label"] for n in (2, 0))
    assert (with_error.converged, without.converged) == (2, 0)
    assert with_error.jobs == without.jobs + 1


def test_each_baseline_labels_and_trains_beside_the_committee_after_the_first_cycle():
    plain, three = (
        of_cycle(campaign(select={"baselines": names}), 1, SIZES) for names in ([], ["random", "diversity"])
    )
    assert three["label"].labels == 3 * plain["label"].labels
    assert three["train"].cpu_s == pytest.approx(3 * plain["train"].cpu_s)
    assert three["explore"] == plain["explore"]


@pytest.mark.parametrize(("wanted", "counts"), [(0, [0, 0, 0, 0]), (2, [0, 2, 1, 1]), (3, [0, 0, 3, 1])])
def test_liquids_are_compared_as_soon_as_there_are_enough(wanted, counts):
    assert [compared_liquids(wanted, cycle) for cycle in range(4)] == counts


def test_the_last_model_is_not_validated_twice():
    known = after_cycles(campaign(select={"liquid_cycles": 2}, train={"steps_final": None}), SIZES)
    longer = after_cycles(campaign(select={"liquid_cycles": 2}, train={"steps_final": 1000}), SIZES)
    assert (known["train"].jobs, known["validate"].cpu_s) == (0, 0.0)
    assert longer["train"].jobs == 1
    assert longer["validate"].cpu_s > 0


def test_a_longer_run_costs_in_proportion():
    short, long = (production(campaign(simulate={"length_ps": ps}), SIZES)["simulate"].cpu_s for ps in (10, 20))
    longer = production(campaign(simulate={"length_ps": 30}), SIZES)["simulate"].cpu_s
    assert longer - long == pytest.approx(long - short)


def test_work_adds_up_by_stage():
    parts = [{"label": Work(1, labels=3)}, {"train": Work(2, 5.0)}, {"label": Work(1, labels=4, converged=1)}]
    assert together(parts) == {"label": Work(2, labels=7, converged=1), "train": Work(2, 5.0)}
