from __future__ import annotations

import json
import sys
from pathlib import Path

import typer
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1]))

from mlpwf.status.command import status
from report_campaign import campaign

app = typer.Typer()
app.command()(status)


def test_status_in_words(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [str(campaign(tmp_path))])
    assert result.exit_code == 0, result.output
    for words in (
        "Toluene, tiny",
        "cycle 0: 60 of 60 done, 3 rejected",
        "converged",
        "300K: 100 of 100 ps, done, 0.5 ns/day",
        "0.080 between molecules",
    ):
        assert words in result.output


def test_status_as_json(tmp_path: Path) -> None:
    campaign(tmp_path)
    result = CliRunner().invoke(app, [str(tmp_path), "--json"])
    (one,) = json.loads(result.output)
    assert (one["stage"], one["verdict"], len(one["production"])) == ("report", "converged", 3)
    assert one["production"][1]["done_ps"] == 100


def test_status_of_a_campaign_that_has_only_begun(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "system.json").write_text("{}")
    result = CliRunner().invoke(app, [str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "build" in result.output
    assert "none yet" in result.output
