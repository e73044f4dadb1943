"""Records: what a campaign's files hold, read whole or refused with the place that is wrong."""

import json
import tarfile
from pathlib import Path

import pytest

from mlpwf.campaign import records
from mlpwf.campaign.paths import Campaign
from mlpwf.errors import DataError

ARCHIVE = Path(__file__).parents[2] / "benchmarks" / "toluene" / "campaign.tar.xz"
COST = {
    "stage": "label", "finished": True, "started": 1.0, "wall_s": 2.0, "own_cpu_s": 0.5, "engine_cpu_s": 1.5,
    "peak_mb": 10.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def archived(tmp_path_factory):
    """The campaign of version 0.1 kept with the benchmarks."""
    folder = tmp_path_factory.mktemp("archive")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return Campaign(folder / "results" / "toluene")


def test_a_record_comes_back_as_it_was_written(tmp_path):
    cost = records.Cost(**COST)
    records.write(tmp_path / "cost.json", cost)
    assert records.read(tmp_path / "cost.json", records.Cost) == cost
    assert cost.cpu_s == 2.0


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"stage": 1}, r"Expected `str`, got `int` - at `\$.stage`"),
        ({"colour": "red"}, "unknown field `colour`"),
        ({"wall_s": None}, r"Expected `float`, got `null` - at `\$.wall_s`"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(tmp_path, change, expected):
    (tmp_path / "cost.json").write_text(json.dumps(COST | change))
    with pytest.raises(DataError, match=expected) as caught:
        records.read(tmp_path / "cost.json", records.Cost)
    assert str(tmp_path / "cost.json") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert records.read_known(tmp_path / "cost.json", records.Cost) is None


def test_a_missing_key_is_named(tmp_path):
    (tmp_path / "cost.json").write_text(json.dumps({k: v for k, v in COST.items() if k != "peak_mb"}))
    with pytest.raises(DataError, match="missing required field `peak_mb`"):
        records.read(tmp_path / "cost.json", records.Cost)


def test_a_line_cut_short_takes_no_other_with_it():
    line = json.dumps(COST)
    assert len(records.read_lines(f"{line}\n{line[:40]}\n{line}\n", records.Cost)) == 2


def test_a_half_written_file_is_not_known(tmp_path):
    (tmp_path / "cost.json").write_text(json.dumps(COST)[:30])
    assert records.read_known(tmp_path / "cost.json", records.Cost) is None
    assert records.read_known(tmp_path / "absent.json", records.Cost) is None


def test_keys_of_earlier_versions_have_their_present_names():
    earlier = {"aside": {"scf": 1}, "attempts": [{"rung": "as asked"}], "check": {"said": "holds"}}
    assert records.renamed(earlier) == {
        "rejected": {"scf": 1}, "attempts": [{"attempt": "as asked"}], "check": {"message": "holds"},
    }  # fmt: skip


def test_every_file_of_an_archived_campaign_is_read(archived):
    read = records.read
    assert read(archived.build.summary, records.BuildSummary).start.frames == 40
    for number, cycle in archived.cycles:
        summary = read(cycle.label.summary, records.LabelSummary)
        assert summary.requested == summary.accepted + sum(summary.rejected.values())
        batches = [read(path, records.Batch) for path in sorted(cycle.label.batches.glob("[0-9][0-9][0-9].json"))]
        assert sum(len(batch.labels) for batch in batches) == summary.requested
        errors = read(cycle.train.errors, records.TrainErrors)
        assert errors.test.mean.overall.frames == len(errors.test.frame_force_mse_ev2_angstrom2) == 12
        assert (errors.new is None) == (number == 0)
        assert "all" in read(cycle.train.calibration, records.Calibration).maps["inter"]
        status = read(cycle.select.status, records.SelectStatus)
        assert status.explored == status.accurate + status.candidate + status.failed + status.broken
    assert read(archived.final.record, records.Final).verdict == "limit"
    assert read(archived.validate.errors, records.ValidateErrors).overall.frames == 12
    assert read(archived.validate.runs, records.ValidateRuns).npt.density_g_cm3 == pytest.approx(0.8707, abs=1e-4)
    assert len(read(archived.validate.liquid, records.LiquidSamples).density) > 1
    assert set(read(archived.analyse.summary, records.AnalyseSummary).ensembles) == {"300K", "350K", "400K"}
    costs = records.read_lines((archived.build / "cost.jsonl").read_text(), records.Cost)
    assert costs
    assert all(cost.stage == "build" for cost in costs)
