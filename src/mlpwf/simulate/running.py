"""A segment run: from its last checkpoint or its beginning to its files and summary."""

from __future__ import annotations

import logging
import shutil
import zlib
from pathlib import Path

import msgspec
import numpy as np
from ase import Atoms

from mlpwf.campaign import records
from mlpwf.campaign.records import RunSummary, SegmentSummary
from mlpwf.campaign.segments import CHECKPOINTS, Checkpoint, checkpoint_file, last_checkpoint
from mlpwf.errors import ConfigError, DataError, EngineError
from mlpwf.files import sha256, write_json
from mlpwf.md.lammps import SegmentEnd, SegmentJob, describe_exit, last_words, run_worker
from mlpwf.md.trajectory_files import Written, write_segment
from mlpwf.potentials.base import Ability
from mlpwf.simulate.segment import RESTART, TWIN, Segment, Task, begun
from mlpwf.structures.boxes import pack_box, scaled_counts
from mlpwf.structures.frames import quantised, read_frames, write_frames

log = logging.getLogger(__name__)

FILES = ("trajectory.trr", "thermo.csv", "stress.npz", RESTART)
UNITS = {"time": "ps", "energy": "eV", "pressure": "bar", "volume": "Å³", "temperature": "K"}
REMEDY = "explore this state longer, label and train again, then simulate"
CLASSICAL_REMEDY = "look at the force field and take a shorter time step"


def run_segment(segment: Segment, task: Task, end_time: float | None) -> None:
    """Run in the work folder, then put the files in place, the summary last.

    Parameters
    ----------
    segment, task
        What to run, and how far.
    end_time
        Unix time in s at which the state must be safe; None: no limit.

    Raises
    ------
    ConfigError
        If the run is as long as asked already.
    EngineError
        If LAMMPS crashed; the same command then resumes.
    """
    if segment.begin.step >= task.stop:
        raise ConfigError(
            f"{segment.name}: the run is {segment.begin.step / segment.steps_per_ps:g} ps long already; "
            f"simulate.length_ps asks for {segment.length_ps:g}: expected more"
        )
    if not task.mends:
        _drop_later(segment)
    job = segment_job(segment, task, _resumed(segment), end_time)
    site = segment.site
    status = run_worker(job, segment.work, launcher=site.lammps_launcher, threads=site.md_threads, label=segment.name)
    if status != 0:
        reason = f"{describe_exit(status)}: {last_words(segment.work / 'output.txt')}"
        raise EngineError(
            f"{segment.name} crashed at {segment.temperature_kelvin:g} K ({reason}); expected exit status 0: "
            f"run the same command to go on from the last checkpoint, or see {segment.work}"
        )
    _tell(segment, _collected(segment, job))
    shutil.rmtree(segment.work)


def _drop_later(segment: Segment) -> None:
    """Remove segments that resumed from an earlier form of this one."""
    for folder in sorted(segment.out.segments.glob("[0-9]*")):
        if int(folder.name) < segment.number:
            continue
        if (folder / "summary.json").is_file():
            log.info("simulate %s: segment %d belongs to an earlier run; removed", segment.state, int(folder.name))
        shutil.rmtree(folder)


def _resumed(segment: Segment) -> Checkpoint | None:
    """The checkpoint to resume from; without one, a fresh work folder and, for segment 0, a packed box."""
    checkpoint = _last_checkpoint(segment) if begun(segment) else None
    if checkpoint is not None:
        log.info("%s: goes on from %g ps", segment.name, checkpoint.step / segment.steps_per_ps)
        return checkpoint
    shutil.rmtree(segment.work, ignore_errors=True)
    if segment.number == 0:
        (segment.out / "topology.pdb").unlink(missing_ok=True)
        write_frames(segment.box, [quantised(packed_box(segment))])
    elif not segment.box.is_file():
        raise DataError(f"{segment.box}: no such file; delete {segment.out} and simulate this state again")
    write_json(segment.work / "depends_on.json", segment.depends_on)
    return None


def _last_checkpoint(segment: Segment) -> Checkpoint | None:
    checkpoint, complaints = last_checkpoint(segment.work / CHECKPOINTS)
    for complaint in complaints:
        log.warning("%s: %s; going back to the checkpoint before", segment.name, complaint)
    return checkpoint


def packed_box(segment: Segment) -> Atoms:
    """A packed box of the production size, its own for each state."""
    section, system = segment.section, segment.system
    counts = scaled_counts([one.count for one in system.molecules.values()], section.molecules)
    rng = np.random.default_rng([segment.seed, zlib.crc32(segment.state.encode())])
    shown, density = "+".join(map(str, counts)), system.density_g_cm3
    log.info("simulate %s: packing %s molecules at %g g/cm³", segment.state, shown, density)
    return pack_box(read_frames(segment.molecules), counts, density, rng)


def segment_job(segment: Segment, task: Task, checkpoint: Checkpoint | None, end_time: float | None) -> SegmentJob:
    """The job for LAMMPS, from a checkpoint of this segment or from its beginning (None)."""
    section, begin = segment.section, segment.begin
    restart = begin.restart if checkpoint is None else checkpoint.restart
    return SegmentJob(
        engine=segment.mover.engine.name,
        models=[[str(file) for file in segment.mover.files]],
        box=str(segment.box.resolve()),
        references=str(segment.molecules.resolve()),
        restart=None if restart is None else str(restart.resolve()),
        checkpoint=0 if checkpoint is None else checkpoint.number,
        seed=(segment.seed + zlib.crc32(segment.state.encode())) % 2**31,
        temperature_kelvin=segment.temperature_kelvin,
        timestep_fs=section.timestep_fs,
        thermostat_time_ps=section.thermostat_time_ps,
        pressure_bar=section.pressure_bar,
        volumes=list(begin.volumes),
        equilibration_steps=segment.equilibration_steps,
        interval_steps=section.interval_steps,
        stress_steps=section.stress_steps,
        start_step=begin.step if checkpoint is None else checkpoint.step,
        stop_step=task.stop,
        end_time=end_time,
        checkpoint_s=60 * section.checkpoint_min,
    )


# ---------------------------------------------------------------- its files and summary


def _collected(segment: Segment, job: SegmentJob) -> SegmentSummary:
    """The segment's files from its parts, and the summary, last."""
    end = records.read(segment.work / "result.json", SegmentEnd)
    box = read_frames(Path(job.box))[0]
    if job.pressure_bar is not None and end.cell is not None:
        box.set_cell(end.cell)
    checkpoints, target = segment.work / CHECKPOINTS, segment.target
    target.path.mkdir(parents=True, exist_ok=True)
    parts = [checkpoint_file(checkpoints, number, "npz") for number in range(1, end.parts + 1)]
    references, topology = read_frames(segment.molecules), segment.out / "topology.pdb"
    written = write_segment(parts, job, box, references, target.path, topology)
    if end.stable:
        checkpoint_file(checkpoints, end.parts, "bin").replace(target / RESTART)
    summary = summary_of(segment, end, box, written)
    records.write(target / TWIN, summary)
    records.write(target.summary, summary)
    return summary


def summary_of(segment: Segment, end: SegmentEnd, box: Atoms, written: Written) -> SegmentSummary:
    """The summary of a segment whose files are in place."""
    section, target, ps = segment.section, segment.target, 1 / segment.steps_per_ps
    steps = end.step - segment.begin.step
    speed = 86400 * steps * ps * 1e-3 / written.seconds if written.seconds > 0 else None
    return SegmentSummary(
        units=UNITS,
        state=segment.state,
        segment=segment.number,
        ensemble="nvt",
        temperature_kelvin=segment.temperature_kelvin,
        timestep_fs=section.timestep_fs,
        thermostat_time_ps=section.thermostat_time_ps,
        linear_interval_ps=section.linear_interval_ps,
        stress_interval_fs=section.stress_interval_fs,
        volume_angstrom3=float(box.get_volume()),
        molecules=int(box.arrays["molecule"].max()) + 1,
        steps=steps,
        start_ps=round(segment.begin.step * ps, 9),
        end_ps=round(end.step * ps, 9),
        end_step=end.step,
        volumes=msgspec.UNSET if section.pressure_bar is None else end.volumes,
        stable=end.stable,
        reason=end.reason,
        frames=written.frames,
        linear_frames=written.linear_frames,
        intact=written.intact,
        mean_potential_ev=written.mean_potential_ev,
        mean_temperature=written.mean_temperature,
        seconds=written.seconds,
        ns_per_day=speed,
        finished=True,
        depends_on=segment.depends_on,
        sha256={name: sha256(target / name) for name in FILES if (target / name).is_file()},
    )


def _tell(segment: Segment, summary: SegmentSummary) -> None:
    """Log how far the segment came, and what is wrong with it."""
    remedy = REMEDY if segment.mover.engine.can(Ability.TRAIN) else CLASSICAL_REMEDY
    if not summary.stable:
        log.warning(
            "%s: blew up at step %d, %g K: %s; %s",
            segment.name, summary.end_step, summary.temperature_kelvin, summary.reason, remedy,
        )  # fmt: skip
        return
    if not summary.intact:
        log.warning("%s: molecules broke; expected them whole: %s", segment.name, remedy)
    log.info(
        "%s: from %g to %g of %g ps, %.3g ns/day",
        segment.name, summary.start_ps, summary.end_ps, segment.length_ps, summary.ns_per_day or 0.0,
    )  # fmt: skip


def run_summary(segments: list[SegmentSummary], asked_ps: float) -> RunSummary:
    """How far the run of a state came, from the summaries of its finished segments, of which there is one or more."""
    last = segments[-1]
    return RunSummary(
        state=last.state,
        temperature_kelvin=last.temperature_kelvin,
        asked_ps=asked_ps,
        done_ps=last.end_ps,
        segments=len(segments),
        stable=last.stable,
        step=last.end_step,
        reason=last.reason,
        intact=all(one.intact for one in segments),
        ns_per_day=last.ns_per_day,
    )
