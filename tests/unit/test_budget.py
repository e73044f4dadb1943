"""Core-hours: what labels have cost, and how many more the rest buys."""

import json

import pytest

from mlpwf.campaign.budget import WITHOUT_LIMIT, affordable_labels, label_core_hours
from mlpwf.errors import DataError
from mlpwf.files import write_json

SUMMARY = {
    "mlpwf": "0.2.0", "engine": "qe", "engine_version": "7.2", "physics": {}, "requested": 5, "accepted": 4,
    "reused": 0, "retries": {}, "aside": {"clash": 1}, "aside_frames": [], "cpu_s": 0.0, "label_cpu_s_mean": 360.0,
    "doubts": [],
}  # fmt: skip


def cost(folder, stage, own, engine, finished=True):
    line = {
        "stage": stage, "finished": finished, "started": 0.0, "wall_s": 1.0, "own_cpu_s": own, "engine_cpu_s": engine,
        "peak_mb": 1.0,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "cost.jsonl").open("a") as handle:
        handle.write(json.dumps(line) + "\n")


def test_labels_alone_are_counted_those_that_failed_too(tmp_path):
    cost(tmp_path / "cycle" / "000" / "label" / "batch" / "000.work", "label", 400.0, 3200.0)
    cost(tmp_path / "test" / "label" / "batch" / "000.work", "label", 0.0, 1800.0, finished=False)
    cost(tmp_path / "cycle" / "000" / "train", "train", 0.0, 7200.0)
    assert label_core_hours(tmp_path) == pytest.approx(1.5)


def test_what_is_left_buys_labels_at_the_mean_cost_of_all_sets(tmp_path):
    assert affordable_labels(tmp_path, 1.0) == WITHOUT_LIMIT, "nothing is known of their cost"
    write_json(tmp_path / "test" / "label" / "summary.json", SUMMARY)
    assert affordable_labels(tmp_path, 1.0) == 10
    write_json(
        tmp_path / "cycle" / "000" / "label" / "summary.json", SUMMARY | {"accepted": 12, "label_cpu_s_mean": 120.0}
    )
    assert affordable_labels(tmp_path, 1.0) == 20, "180 s in the mean of 4 and 12"
    cost(tmp_path / "test" / "label" / "collect.work", "label", 0.0, 1800.0)
    assert affordable_labels(tmp_path, 1.0) == 10
    assert affordable_labels(tmp_path, 0.5) == 0


def test_a_set_without_a_label_costs_nothing(tmp_path):
    empty = SUMMARY | {"accepted": 0, "label_cpu_s_mean": None, "physics": {"engine": "qe"}}
    write_json(tmp_path / "test" / "label" / "summary.json", empty)
    assert affordable_labels(tmp_path, 1.0) == WITHOUT_LIMIT


def test_a_summary_that_is_none_is_named(tmp_path):
    write_json(tmp_path / "test" / "label" / "summary.json", {"accepted": 1})
    with pytest.raises(DataError, match=r"summary\.json: no LabelSummary"):
        affordable_labels(tmp_path, 1.0)
