"""`mlpwf plan`: prices before anything has run, and after."""

import json
import re
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from mlpwf.plan.command import plan

PROJECT = Path(__file__).parents[2]
app = typer.Typer()
app.command()(plan)


@pytest.fixture
def price(tmp_path):
    """The plan's lines for the shipped water campaign, with changes to its label and build sections."""

    def run(baselines=(), build=None, **label):
        values = yaml.safe_load((PROJECT / "config/systems/tiny_water.yaml").read_text())
        values["label"] |= label
        values["select"]["baselines"] = list(baselines)
        values["build"] |= build or {}
        (tmp_path / "system.yaml").write_text(yaml.safe_dump(values))
        (tmp_path / "site.yaml").write_text(f"label_store: {tmp_path / 'store'}\n")
        words = [str(tmp_path / "system.yaml"), "--site", str(tmp_path / "site.yaml")]
        result = CliRunner().invoke(app, [*words, "--results", str(tmp_path)])
        if result.exception:
            raise result.exception
        return result.output.splitlines()

    return run


def hours(lines, stage):
    """CPU-hours of a stage over the whole campaign."""
    (line,) = (line for line in lines if line.startswith(stage))
    return float(re.findall(r"([\d.e-]+) ±", line)[-1])


def test_a_campaign_is_priced_before_it_has_run(price):
    lines = price()
    assert "0 of at most 2 cycles done; 12 atoms a label" in lines[0]
    assert "labels measured elsewhere" in lines[1]
    parts = sum(hours(lines, s) for s in ("build", "label", "train", "explore", "validate", "simulate"))
    assert parts < hours(lines, "all") < 1.5 * parts


def test_no_two_columns_of_the_plan_touch(price):
    header, *rows = (re.split(r" {2,}", line) for line in price(batch_frames=1)[3:])
    assert len(header) == 6
    for row in rows:
        assert len(row) == (4 if row[0] == "all" else 6), row
        assert all(re.fullmatch(r"–|\d+|[\d.e-]+ ± [\d.e-]+", cell) for cell in row[1:]), row


def test_twice_the_cutoff_costs_more(price):
    assert hours(price(cutoff_ry=80, density_cutoff_ry=480, fft_grid_ry=960), "label") > 2 * hours(price(), "label")


def test_larger_boxes_cost_more(price):
    gamma = {"kpoints": "gamma", "error_frames": 0}
    one = price(**gamma)
    twofold, both = price(build={"box_multiples": [2]}, **gamma), price(build={"box_multiples": [1, 2]}, **gamma)
    assert "12, 24 atoms a label" in both[0]
    assert 3 * hours(one, "label") < hours(twofold, "label") < 6 * hours(one, "label")
    mean = (hours(one, "label") + hours(twofold, "label")) / 2
    assert hours(both, "label") == pytest.approx(mean, rel=0.05)


def test_kpoints_and_what_error_they_leave_are_foreseen(price):
    """Twice the molecules need fewer points and cost less than twice; converged labels are in the price."""
    own = {"image_distance_angstrom": 10.5, "error_frames": 0}
    one, twofold = price(**own), price(build={"box_multiples": [2]}, **own)
    assert "k-points: 5 k-points in 4.9 Å: images 11.0 Å apart, force error around" in one[2]
    assert "k-points: 2 k-points in 6.2 Å" in twofold[2]
    assert hours(twofold, "label") < 2 * hours(one, "label")
    assert "k-points: Γ in 4.9 Å: images 4.9 Å apart, force error around 5e+02 meV/Å" in price(kpoints="gamma")[2]
    measured = price(**{**own, "error_frames": 2})
    assert hours(measured, "label") > 1.05 * hours(one, "label")


def test_baselines_cost_their_labels_and_committees(price):
    plain, two = price(error_frames=0), price(baselines=["random", "diversity"], error_frames=0)
    assert hours(two, "train") > 1.5 * hours(plain, "train")
    assert hours(two, "label") == pytest.approx(hours(plain, "label") * (48 + 3 * 8) / (48 + 8), rel=0.1)


def test_what_was_spent_calibrates_and_waste_is_said(price, tmp_path):
    before = hours(price(), "train")
    cycle = tmp_path / "tiny_water" / "cycle" / "000"
    for folder in ("select", "train"):
        (cycle / folder).mkdir(parents=True)
    (cycle / "select" / "status.json").write_text("{}")
    entry = {"stage": "train", "finished": True, "own_cpu_s": 10.0, "engine_cpu_s": 3590.0}
    entry |= {"started": 0.0, "wall_s": 3600.0, "peak_mb": 200.0}
    wasted = entry | {"finished": False, "engine_cpu_s": 350.0}
    (cycle / "train" / "cost.jsonl").write_text(f"{json.dumps(entry)}\n{json.dumps(wasted)}\n")
    lines = price()
    assert "1 of at most 2 cycles done" in lines[0]
    assert hours(lines, "train") > 3 * before
    assert lines[-1] == "of what was spent, 0.1 CPU-h went into jobs that were killed or failed"


def test_a_budget_that_is_too_small_is_said(price):
    assert "enough" in price(budget_core_hours=10)[-1]
    assert "not enough: the campaign will end on its budget" in price(budget_core_hours=0.001)[-1]
