"""A production segment: where it begins, whether it is kept, and how far the run of a state came."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest
from ase import Atoms

from mlpwf.campaign import paths, records
from mlpwf.campaign.records import SegmentSummary
from mlpwf.config import Simulate, Site, System
from mlpwf.errors import ConfigError, DataError
from mlpwf.files import sha256, write_json
from mlpwf.md.lammps import SegmentEnd
from mlpwf.md.trajectory_files import Written
from mlpwf.potentials.registry import engine
from mlpwf.simulate.running import run_segment, run_summary, segment_job, summary_of
from mlpwf.simulate.segment import Begin, Mover, Segment, Task, after, mover_of, task_of

SECTION = Simulate(
    molecules=4,
    temperatures_kelvin=[300],
    equilibration_ps=0.1,
    length_ps=1.0,
    linear_interval_ps=0.05,
    timestep_fs=0.5,
)
SYSTEM = System(molecules={"argon": {"smiles": "[Ar]", "count": 4}}, density_g_cm3=1.0)
WRITTEN = Written(20, 4, True, -1.0, 300.0, 2.0)


def segment(folder: Path, number: int = 0, section: Simulate = SECTION) -> Segment:
    (folder / "molecules").write_text("molecules")
    state = paths.State(folder / "300K")
    mover = Mover(engine("deepmd"), [folder / "model"], {"model_sha256": "ab"})
    previous = state.segment(number - 1).summary if number else None
    return Segment(
        section, SYSTEM, Site(), 1, "300K", number, state, folder / "molecules", mover, previous
    )  # fmt: skip


def finish(one: Segment, step: int = 2000, stable: bool = True) -> SegmentSummary:
    """Write what a segment that ran leaves."""
    one.target.path.mkdir(parents=True, exist_ok=True)
    for name in ("trajectory.trr", "thermo.csv", "stress.npz", *(["restart.bin"] if stable else [])):
        (one.target / name).write_text(name)
    box = Atoms("Ar4", cell=[10.0] * 3, pbc=True)
    box.arrays["molecule"] = box.numbers * 0 + [0, 1, 2, 3]
    end = SegmentEnd(stable=stable, step=step, reason="" if stable else "hot", parts=1, cell=None, volumes=[0.0, 0.0])
    summary = summary_of(one, end, box, WRITTEN)
    records.write(one.target.summary, summary)
    records.write(one.target / "kept.json", summary)
    return summary


def test_a_run_begins_with_its_equilibration_and_goes_on_where_it_ended(tmp_path: Path) -> None:
    first = segment(tmp_path)
    assert first.begin == Begin(-200)
    finish(first, step=1200)
    begin = segment(tmp_path, 1).begin
    assert (begin.step, begin.restart) == (1200, first.target / "restart.bin")
    job = segment_job(segment(tmp_path, 1), Task(2000), None, None)
    assert (job.start_step, job.stop_step, job.restart) == (1200, 2000, str(begin.restart))


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda folder: (folder / "restart.bin").unlink(), "no such file; expected the restart file"),
        (lambda folder: (folder / "restart.bin").write_text("cut"), "damaged"),
        (lambda folder: write_json(folder / "summary.json", {}), "a summary without a restart file's hash"),
    ],
)
def test_a_segment_does_not_begin_from_what_is_damaged(tmp_path: Path, damage, expected: str) -> None:
    one = segment(tmp_path)
    finish(one)
    damage(one.target.path)
    with pytest.raises(DataError, match=expected):
        after(one.target.summary)


def test_a_segment_does_not_begin_from_a_run_that_blew_up(tmp_path: Path) -> None:
    one = segment(tmp_path)
    finish(one, stable=False)
    with pytest.raises(DataError, match="a summary of a run that blew up"):
        after(one.target.summary)


def test_what_is_done_is_kept_and_what_is_damaged_is_mended(tmp_path: Path) -> None:
    one = segment(tmp_path)
    assert task_of(one) == Task(2000)
    finish(one, step=1200)
    assert task_of(one) is None
    one.target.summary.unlink()
    assert task_of(one) is None, "the twin of the summary is there"
    assert one.target.summary.is_file()
    longer = segment(tmp_path, section=SECTION.model_copy(update={"length_ps": 3.0}))
    assert task_of(longer) is None, "its length is no setting of a segment"
    other = segment(tmp_path, section=SECTION.model_copy(update={"thermostat_time_ps": 2.0}))
    assert task_of(other) == Task(2000)
    (one.target / "trajectory.trr").write_text("cut")
    assert task_of(one) == Task(1200, mends=True)
    write_json(one.target.summary, {"end_step": 1200})
    assert task_of(one) == Task(2000)


def test_a_run_that_is_long_enough_is_not_prolonged(tmp_path: Path) -> None:
    finish(segment(tmp_path))
    with pytest.raises(ConfigError, match="the run is 1 ps long already"):
        run_segment(segment(tmp_path, 1), Task(2000), None)


def test_a_summary_names_what_its_files_hold(tmp_path: Path) -> None:
    one = segment(tmp_path)
    summary = finish(one, step=1200)
    assert (summary.start_ps, summary.end_ps, summary.steps) == (-0.1, 0.6, 1400)
    assert (summary.molecules, summary.frames, summary.volume_angstrom3) == (4, 20, pytest.approx(1000))
    assert summary.ns_per_day == pytest.approx(86400 * 1400 * 0.5e-6 / 2)
    assert summary.sha256["thermo.csv"] == sha256(one.target / "thermo.csv")
    assert "volumes" not in records.as_dict(summary)
    assert records.read(one.target.summary, SegmentSummary) == summary


def test_the_run_of_a_state_is_as_good_as_its_segments(tmp_path: Path) -> None:
    first = finish(segment(tmp_path), step=1200)
    broken = msgspec.structs.replace(first, intact=False)
    last = finish(segment(tmp_path, 1))
    run = run_summary([broken, last], 1.0)
    assert (run.done_ps, run.asked_ps, run.segments, run.stable, run.intact) == (1.0, 1.0, 2, True, False)


def test_either_a_model_or_a_force_field_moves_the_atoms(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--model: no such model"):
        mover_of(SECTION, None, tmp_path / "molecules")
    with pytest.raises(ConfigError, match=r"none\.pb: no such model"):
        mover_of(SECTION, tmp_path / "none.pb", tmp_path / "molecules")
    (tmp_path / "model.pb").write_bytes(b"a model")
    found = mover_of(SECTION, tmp_path / "model.pb", tmp_path / "molecules")
    assert found.hashes == {"model_sha256": sha256(tmp_path / "model.pb")}
    shutil.rmtree(tmp_path)
