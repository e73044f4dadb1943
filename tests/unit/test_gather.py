from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from mlpwf.errors import ConfigError, DataError
from mlpwf.report.gather import gather
from mlpwf.tables import read_columns
from report_campaign import campaign


def test_a_whole_campaign_misses_nothing(tmp_path: Path) -> None:
    record = gather(campaign(tmp_path))
    assert record.missing == ()
    assert record.name == "Toluene, tiny"
    assert [cycle.number for cycle in record.cycles] == [0, 1, 2, 3]
    first = record.cycles[0]
    assert first.labels is not None
    assert (first.labels.requested, first.labels.accepted, first.labels.rejected) == (
        60,
        57,
        {"not converged": 3, "clash": 0},
    )
    assert first.walkers[0].outcomes == {"finished": 3, "blew up": 1}
    assert len(record.segments) == 6
    assert len(record.costs) == 4


def test_an_empty_campaign_misses_everything(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    record = gather(tmp_path)
    assert record.cycles == []
    assert {"cycle/000", "config/system.json", "validate/parity.csv", "analyse/states.csv", "simulate"} <= set(
        record.missing
    )


def test_a_folder_without_a_campaign_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no folder 'config' in it"):
        gather(tmp_path)
    with pytest.raises(ConfigError, match="no such folder"):
        gather(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "path",
    [
        "cycle/000/label/summary.json", "cycle/001/train/errors.json", "cycle/000/select/decisions.csv",
        "cycle/000/explore/300K_0.867/walkers.json", "validate/parity.csv", "validate/runs.json",
        "analyse/correlators.csv", "train/final/final.json", "config/system.json",
    ],
)  # fmt: skip
@pytest.mark.parametrize("content", ["", "{", '["a"]', "a,b\n1\n", "\x00\x01"])
def test_a_malformed_file_is_one_line_that_names_it(tmp_path: Path, path: str, content: str) -> None:
    root = campaign(tmp_path, cycles=2)
    (root / path).write_text(content)
    with pytest.raises(DataError) as caught:
        gather(root)
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)


def test_columns_are_numbers_or_text(tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    source.write_text("x,name,y\n1,ok,\n2.5,,nan\n")
    columns = read_columns(source, needs=("x",))
    np.testing.assert_array_equal(columns["x"], [1.0, 2.5])
    assert list(columns["name"]) == ["ok", ""]
    assert np.isnan(columns["y"]).all()
    source.write_text("x,y\n")
    assert len(read_columns(source)["x"]) == 0
