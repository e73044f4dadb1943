"""`mlpwf simulate collect`: how far a run came, from the summaries of its segments alone."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from mlpwf.campaign import records
from mlpwf.campaign.paths import State
from mlpwf.errors import DataError
from mlpwf.simulate.command import app


def put_segment(state: State, number: int, **changes: object) -> None:
    known = {
        "units": {}, "state": "300K", "segment": number, "ensemble": "nvt", "temperature_kelvin": 300.0,
        "timestep_fs": 0.5, "thermostat_time_ps": 1.0, "linear_interval_ps": 1.0, "stress_interval_fs": 5.0,
        "volume_angstrom3": 1000.0, "molecules": 10, "steps": 100, "start_ps": 0.05 * number,
        "end_ps": 0.05 * (number + 1), "end_step": 100 * (number + 1), "stable": True, "reason": "", "frames": 5,
        "linear_frames": 5, "intact": True, "mean_potential_ev": None, "mean_temperature": None, "seconds": 1.0,
        "ns_per_day": 0.4, "finished": True, "depends_on": {}, "sha256": {},
    }  # fmt: skip
    records.write(state.segment(number).summary, records.SegmentSummary(**known | changes))


def collected(state: State, out: Path) -> records.RunSummary:
    words = ["collect", "--folder", str(state), "--length-ps", "0.1", "--out", str(out)]
    CliRunner().invoke(app, words, catch_exceptions=False)
    return records.read(out, records.RunSummary)


def test_a_run_is_as_long_as_its_segments(tmp_path: Path) -> None:
    state = State(tmp_path / "300K")
    put_segment(state, 0)
    put_segment(state, 1, intact=False)
    run = collected(state, state.run("0.1"))
    assert (run.state, run.segments, run.done_ps, run.asked_ps, run.step) == ("300K", 2, 0.1, 0.1, 200)
    assert (run.stable, run.intact, run.ns_per_day) == (True, False, 0.4)


def test_a_run_that_blew_up_says_where(tmp_path: Path) -> None:
    state = State(tmp_path / "300K")
    put_segment(state, 0, stable=False, end_step=42, reason="too hot")
    run = collected(state, state.run("0.1"))
    assert (run.stable, run.step, run.reason) == (False, 42, "too hot")


def test_a_run_without_a_segment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no finished segment"):
        collected(State(tmp_path / "300K"), tmp_path / "run.json")
