"""The tables that benchmarks/toluene keeps of its campaign."""

import csv
import importlib.util
from pathlib import Path

import pytest

import report_campaign

SOURCE = Path(__file__).parents[2] / "benchmarks" / "toluene" / "tables.py"


@pytest.fixture(scope="module")
def tables():
    spec = importlib.util.spec_from_file_location("toluene_tables", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows(path):
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_every_stage_of_a_campaign_is_told(tables, tmp_path):
    tables.main(report_campaign.campaign(tmp_path, cycles=3), tmp_path)
    sets = rows(tmp_path / "labels.csv")
    assert [(one["set"], one["asked"]) for one in sets] == [("test", "40"), ("000", "60"), ("001", "60"), ("002", "60")]
    assert (sets[1]["labels"], sets[1]["set_aside"]) == ("57", "3xnot converged")
    curve = rows(tmp_path / "learning_curve.csv")
    assert [int(one["labels"]) for one in curve] == [57, 114, 171]
    assert [float(one["test_inter_mev_angstrom"]) for one in curve] == pytest.approx([80.0, 52.0, 33.8])
    assert (curve[0]["new_force_mev_angstrom"], curve[1]["new_force_mev_angstrom"]) == ("", "208.0")
    assert {one["force"] for one in rows(tmp_path / "calibration.csv")} == {"inter", "intra"}
    chosen = rows(tmp_path / "selection.csv")
    assert (chosen[0]["walkers"], chosen[0]["steps"]) == ("2xblew up 6xfinished", "16000")
    assert sum(int(one["selected"]) for one in chosen) == 120
    assert {one["stage"]: float(one["cpu_s"]) for one in rows(tmp_path / "cost.csv")}["label"] == 9030


def test_a_campaign_that_has_hardly_begun_gives_what_there_is(tables, tmp_path):
    (tmp_path / "build").mkdir()
    tables.main(tmp_path, tmp_path)
    assert not list(tmp_path.glob("*.csv"))
