"""`mlpwf simulate`: one segment of the production run of one state."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ase import Atoms

    from mlpwf.config import Simulate
    from mlpwf.engines.lammps import SegmentJob

log = logging.getLogger(__name__)


def simulate(
    config: Annotated[Path, typer.Option(help="Resolved section: C/config/simulate.json.")],
    site: Annotated[Path, typer.Option(help="Resolved site: C/config/site.json.")],
    system: Annotated[Path, typer.Option(help="Resolved section: C/config/system.json.")],
    model: Annotated[Path, typer.Option(help="Final model: C/train/final/model.pb.")],
    molecules: Annotated[Path, typer.Option(help="One frame for each species: C/build/molecules.extxyz.")],
    state: Annotated[str, typer.Option(help="Name of the state, for example 300K.")],
    segment: Annotated[int, typer.Option(min=0, help="Segment, from 0.")],
    out: Annotated[Path, typer.Option(help="Folder of the state.")],
    previous: Annotated[Path | None, typer.Option(help="Restart file of the segment before.")] = None,
) -> None:
    """Run one segment at constant volume and temperature; keep centres and axes of the molecules."""
    from mlpwf.accounting import accounted
    from mlpwf.config import Simulate, Site, System, load_section
    from mlpwf.errors import ConfigError
    from mlpwf.files import sole_writer
    from mlpwf.states import simulate_states

    section, seed = load_section(Simulate, config)
    temperatures = simulate_states(section)
    if state not in temperatures:
        raise ConfigError(f"no state '{state}' in {config}; expected one of {', '.join(temperatures)}")
    if segment >= section.segments:
        raise ConfigError(f"segment {segment} asked for; simulate.segments is {section.segments}: expected less")
    if not model.is_file():
        raise ConfigError(f"{model}: no such model; expected the final model of mlpwf train")
    if (previous is None) != (segment == 0):
        found = "none" if previous is None else str(previous)
        raise ConfigError(f"--previous is {found}; expected none for segment 0, and the restart file before for others")
    if previous is not None and not previous.is_file():
        raise ConfigError(f"{previous}: no such restart file; run segment {segment - 1} of {state} first")
    place = load_section(Site, site)[0]
    with sole_writer(out), accounted(out, "simulate"):
        if segment == 0:
            box = _packed(section, load_section(System, system)[0], molecules, seed, state)
            _keep_box(box, out)
        job = _job(section, temperatures[state], state, segment, seed, model, molecules, previous, out)
        _run(job, section, state, segment, place.lammps_launcher, place.md_threads, seed, out)


def _packed(section: Simulate, system: Any, molecules: Path, seed: int, state: str) -> Atoms:
    """A packed box of the production size, its own for each state."""
    import zlib

    import numpy as np

    from mlpwf.building import pack_box, scaled_counts
    from mlpwf.frames import read_frames

    counts = scaled_counts([species.count for species in system.molecules.values()], section.molecules)
    rng = np.random.default_rng([seed, zlib.crc32(state.encode())])
    log.info("simulate %s: packing %s molecules at %g g/cm³", state, "+".join(map(str, counts)), system.density_g_cm3)
    return pack_box(read_frames(molecules), counts, system.density_g_cm3, rng)


def _keep_box(box: Atoms, out: Path) -> None:
    from mlpwf.frames import quantised, write_frames

    write_frames(out / "box.extxyz", [quantised(box)])


def _job(
    section: Simulate,
    temperature: float,
    state: str,
    segment: int,
    seed: int,
    model: Path,
    molecules: Path,
    previous: Path | None,
    out: Path,
) -> SegmentJob:
    import zlib

    from mlpwf.engines.lammps import SegmentJob
    from mlpwf.frames import element_order, read_frames

    return SegmentJob(
        models=[str(model.resolve())],
        elements=element_order(read_frames(molecules)),
        box=str((out / "box.extxyz").resolve()),
        references=str(molecules.resolve()),
        restart=None if previous is None else str(previous.resolve()),
        seed=(seed + zlib.crc32(state.encode())) % 2**31,
        temperature_kelvin=temperature,
        timestep_fs=section.timestep_fs,
        thermostat_time_ps=section.thermostat_time_ps,
        equilibration_steps=round(section.equilibration_ps * 1e3 / section.timestep_fs),
        interval_steps=section.interval_steps,
        start_step=segment * section.segment_steps,
        stop_step=(segment + 1) * section.segment_steps,
        last=segment == section.segments - 1,
    )


def _run(
    job: SegmentJob,
    section: Simulate,
    state: str,
    segment: int,
    launcher: list[str],
    threads: int,
    seed: int,
    out: Path,
) -> None:
    """Run the segment in out/work/SSS, then put its files in out/segment/SSS."""
    import shutil

    from mlpwf.engines.lammps import UNSTABLE, describe_exit, last_words, run_worker
    from mlpwf.errors import DataError, EngineError
    from mlpwf.files import read_json, write_text

    if not Path(job.box).is_file():
        raise DataError(f"{job.box}: no such file; run segment 0 of {state} again")
    work, label = out / "work" / f"{segment:03d}", f"simulate {state} segment {segment}"
    shutil.rmtree(work, ignore_errors=True)
    status = run_worker(job, work, launcher=launcher, threads=threads, label=label)
    remedy = "explore this state longer, label and train again, then simulate"
    if status == UNSTABLE:
        result = read_json(work / "result.json")
        T = job.temperature_kelvin
        raise EngineError(f"{label} blew up at step {result['step']}, {T:g} K: {result['reason']}; {remedy}")
    if status != 0:
        reason = f"{describe_exit(status)}: {last_words(work / 'output.txt')}"
        raise EngineError(f"{label} crashed at {job.temperature_kelvin:g} K ({reason}); see {work}, or {remedy}")
    result = read_json(work / "result.json")
    target = out / "segment" / f"{segment:03d}"
    target.mkdir(parents=True, exist_ok=True)
    _write_trajectory(work / "beads.npz", job, target, out / "topology.pdb")
    write_text(target / "thermo.csv", (work / "thermo.csv").read_text())
    (work / "restart.bin").replace(target / "restart.bin")
    _write_summary(job, section, result, state, segment, seed, target)
    shutil.rmtree(work)
    if not result["intact"]:
        log.warning("%s: molecules broke; expected them whole: %s", label, remedy)
    log.info(
        "%s: finished, %.3g ns/day, mean temperature %.1f K", label, result["ns_per_day"], result["mean_temperature"]
    )


def _write_trajectory(source: Path, job: SegmentJob, target: Path, topology: Path) -> None:
    """The beads as TRR, and the topology of all segments if there is none yet.

    TRR keeps times in single precision; each frame's step, which it keeps exactly, is the step since
    the start of production.
    """
    import MDAnalysis
    import numpy as np

    from mlpwf.files import replacing, write_text

    with np.load(source, allow_pickle=False) as kept:
        steps, positions, cell = kept["steps"], kept["positions"], kept["cell"]
    if not topology.exists():
        write_text(topology, topology_pdb(job, cell))
    universe = MDAnalysis.Universe.empty(positions.shape[1], trajectory=True)
    moment = universe.trajectory.ts
    moment.triclinic_dimensions = cell
    with (
        replacing(target / "trajectory.trr") as temporary,
        MDAnalysis.Writer(str(temporary), positions.shape[1]) as writer,
    ):
        for step, now in zip(steps, positions, strict=True):
            moment.time = float(step) * job.timestep_fs * 1e-3
            moment.data["step"] = int(step)
            moment.positions = now
            writer.write(universe)


def topology_pdb(job: SegmentJob, cell: Any) -> str:
    """Three beads for each molecule (COM, AX1, AX2) as PDB; residue names M01, M02, … number the species."""
    import numpy as np

    from mlpwf.frames import read_frames
    from mlpwf.sampling import species_numbers

    species = species_numbers(read_frames(job.box)[0], read_frames(job.references))
    edges = np.linalg.norm(cell, axis=1)
    lines = [f"CRYST1{edges[0]:9.3f}{edges[1]:9.3f}{edges[2]:9.3f}  90.00  90.00  90.00 P 1           1"]
    corners = (("COM", (0.0, 0.0, 0.0)), ("AX1", (1.0, 0.0, 0.0)), ("AX2", (0.0, 1.0, 0.0)))
    for number, kind in enumerate(species):
        for bead, (name, (x, y, z)) in enumerate(corners):
            serial, residue = (3 * number + bead) % 99999 + 1, number % 9999 + 1
            lines.append(
                f"ATOM  {serial:5d}  {name:<3s} M{kind + 1:02d} A{residue:4d}    "
                f"{x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00           C"
            )
    return "\n".join([*lines, "END"]) + "\n"


def _write_summary(
    job: SegmentJob, section: Simulate, result: dict[str, Any], state: str, segment: int, seed: int, target: Path
) -> None:
    from mlpwf import __version__
    from mlpwf.files import sha256, write_json
    from mlpwf.frames import read_frames

    molecules = int(read_frames(job.box)[0].arrays["molecule"].max()) + 1
    write_json(
        target / "summary.json",
        {
            "mlpwf": __version__,
            "seed": seed,
            "model_sha256": sha256(job.models[0]),
            "state": state,
            "segment": segment,
            "ensemble": "nvt",
            "temperature_kelvin": job.temperature_kelvin,
            "timestep_fs": job.timestep_fs,
            "thermostat_time_ps": job.thermostat_time_ps,
            "linear_interval_ps": section.linear_interval_ps,
            "steps": job.stop_step - job.start_step,
            "start_ps": job.start_step * job.timestep_fs * 1e-3,
            "end_ps": job.stop_step * job.timestep_fs * 1e-3,
            "molecules": molecules,
            "mean_potential_ev": result["mean_potential_ev"],
            "mean_temperature": result["mean_temperature"],
            "intact": result["intact"],
            "ns_per_day": result["ns_per_day"],
            "finished": True,
        },
    )
