"""Production runs on disk: checkpoints that are whole, and segments that are done."""

import pytest

from mlpwf.campaign import records
from mlpwf.campaign.paths import State
from mlpwf.campaign.segments import checkpoint_file, last_checkpoint, segments
from mlpwf.files import sha256


def summary(segment: int) -> records.SegmentSummary:
    return records.SegmentSummary(
        units={},
        state="300K",
        segment=segment,
        ensemble="nvt",
        temperature_kelvin=300.0,
        timestep_fs=0.5,
        thermostat_time_ps=1.0,
        linear_interval_ps=1.0,
        stress_interval_fs=5.0,
        volume_angstrom3=1000.0,
        molecules=10,
        steps=100,
        start_ps=0.05 * segment,
        end_ps=0.05 * (segment + 1),
        end_step=100 * (segment + 1),
        stable=True,
        reason="",
        frames=5,
        linear_frames=5,
        intact=True,
        mean_potential_ev=None,
        mean_temperature=None,
        seconds=1.0,
        ns_per_day=None,
        finished=True,
        depends_on={},
        sha256={},
    )


def test_segments_end_with_the_first_that_is_not_there_or_not_whole(tmp_path):
    state = State(tmp_path / "300K")
    assert segments(state) == []
    for number in (0, 1, 3):
        records.write(state.segment(number).summary, summary(number))
    assert segments(state) == [summary(0), summary(1)]
    state.segment(1).summary.write_text('{"end_ps": 0.1}')
    assert segments(state) == [summary(0)]


@pytest.fixture
def checkpoints(tmp_path):
    """A folder with three checkpoints; of the first, the restart file is gone, as the run removes it."""
    for number in (1, 2, 3):
        part, restart = (checkpoint_file(tmp_path, number, suffix) for suffix in ("npz", "bin"))
        part.write_bytes(b"part %d" % number)
        restart.write_bytes(b"restart %d" % number)
        hashes = {path.name: sha256(path) for path in (part, restart)}
        record = records.Checkpoint(step=10 * number, sha256=hashes)
        records.write(checkpoint_file(tmp_path, number, "json"), record)
    checkpoint_file(tmp_path, 1, "bin").unlink()
    return tmp_path


def test_the_last_checkpoint_is_taken(checkpoints):
    found, complaints = last_checkpoint(checkpoints)
    assert found is not None
    assert (found.number, found.step, found.restart) == (3, 30, checkpoint_file(checkpoints, 3, "bin"))
    assert complaints == []


@pytest.mark.parametrize("suffix", ["bin", "npz", "json"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(checkpoints, suffix):
    checkpoint_file(checkpoints, 3, suffix).write_bytes(b"{")
    found, complaints = last_checkpoint(checkpoints)
    assert found is not None
    assert found.number == 2
    assert len(complaints) == 1
    assert f"000003.{suffix}" in complaints[0]


def test_nothing_whole_is_no_checkpoint(checkpoints, tmp_path):
    for number in (2, 3):
        checkpoint_file(checkpoints, number, "bin").write_bytes(b"")
    found, complaints = last_checkpoint(checkpoints)
    assert found is None
    assert len(complaints) == 2
    assert last_checkpoint(tmp_path / "nowhere") == (None, [])
