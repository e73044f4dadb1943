"""The child process that holds LAMMPS: `python -m mlpwf.engines.lammps_worker JOB.json`.

Reads one job, writes its results beside the job file, each whole or absent;
`result.json` comes last. Exit status: 0, `SETUP_FAILED` when LAMMPS cannot
load the models, `DISK_FULL` when a file could not be written. Anything else is a crash.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io.extxyz import write_extxyz
from numpy.typing import NDArray

from mlpwf.engines.lammps import DISK_FULL, SegmentJob, ValidationJob, WalkerJob, read_deviation
from mlpwf.engines.lammps_liquid import (
    BAROSTAT_TIME_PS,
    FRICTION_TIME_PS,
    HOT,
    BlowUpError,
    Liquid,
    lammps_seed,
    setup_failed,
)
from mlpwf.engines.lammps_production import simulate
from mlpwf.files import NO_ROOM, replacing, write_json, write_text
from mlpwf.frames import quantised
from mlpwf.molecules import centres_of_mass, intact
from mlpwf.sampling import molecules_in_cell

Array = NDArray[np.float64]


def append_frame(file: Path, atoms: Atoms) -> None:
    """Append a frame in one write, so that a crash leaves the frames before it readable."""
    text = io.StringIO()
    write_extxyz(text, [atoms])
    with file.open("a") as handle:
        handle.write(text.getvalue())


def explore(job: WalkerJob) -> dict[str, Any]:
    """One walker: Langevin dynamics (with an isotropic Nosé-Hoover barostat at constant pressure).

    A Langevin bath is ergodic in boxes of a few molecules, takes up the heat a
    poor model produces, and is fixed by its seed.
    """
    liquid = Liquid(job, job.steps_between_frames)
    deviation = Path("deviation.out")
    try:
        liquid.open(deviation=f"out_file {deviation} out_freq {job.steps_between_frames}")
    except Exception as error:
        raise SystemExit(setup_failed(error)) from None
    target, pressure = job.temperature_kelvin, job.pressure_bar
    motion = "nve" if pressure is None else f"nph iso {pressure:g} {pressure:g} {BAROSTAT_TIME_PS}"
    liquid.command(
        f"velocity all create {target:g} {lammps_seed(job.seed, 1)} mom yes rot no dist gaussian",
        f"fix motion all {motion}",
        f"fix bath all langevin {target:g} {target:g} {FRICTION_TIME_PS} {lammps_seed(job.seed, 2)} zero yes",
        "thermo 1000000000",
    )
    rows: list[dict[str, Any]] = []
    outcome, reason, step = "finished", "", 0
    while True:
        failure = None
        try:
            liquid.run(job.steps_between_frames if step else 0, setup=not rows)
        except BlowUpError as error:
            failure = str(error)
        row = _walker_row(liquid, read_deviation(deviation), step, failure)
        rows.append(row)
        atoms = _walker_frame(liquid, job, row)
        outcome, reason = _verdict(liquid, job, row, atoms, failure)
        if atoms is not None and (step or reason):
            append_frame(Path("frames.extxyz"), quantised(molecules_in_cell(atoms)))
        if reason or step + job.steps_between_frames > job.steps:
            break
        step += job.steps_between_frames
    header = ",".join(rows[0])
    write_text(
        "deviations.csv",
        "\n".join([header, *(",".join(f"{value:.8g}" for value in row.values()) for row in rows)]) + "\n",
    )
    return {"outcome": outcome, "reason": reason, "steps": step}


def _walker_row(liquid: Liquid, deviation: dict[str, float], step: int, failure: str | None) -> dict[str, Any]:
    temperature = float("nan") if failure else liquid.thermo("temp")
    return {"step": step, **deviation, "temperature": temperature}


def _walker_frame(liquid: Liquid, job: WalkerJob, row: dict[str, Any]) -> Atoms | None:
    """The current frame with its provenance; None when its coordinates are lost."""
    try:
        atoms = liquid.frame()
    except Exception:
        return None
    if not (
        np.isfinite(atoms.positions).all()
        and np.abs(atoms.positions).max() < 1e5
        and np.isfinite(atoms.cell.array).all()
    ):
        return None
    atoms.info = {"kind": "bulk", "state": job.state, "walker": job.walker, "step": row["step"]}
    atoms.info |= {key: row[key] for key in ("max_devi_f", "max_devi_v", "temperature")}
    return atoms


def _verdict(
    liquid: Liquid, job: WalkerJob, row: dict[str, Any], atoms: Atoms | None, failure: str | None
) -> tuple[str, str]:
    """Outcome of the walker up to here, and the reason to cut it (empty: go on)."""
    if failure is not None:
        return "blew up", failure
    if not row["max_devi_f"] <= job.blow_up_ev_angstrom:
        return "blew up", f"force deviation {row['max_devi_f']:.4g} eV/Å; expected at most {job.blow_up_ev_angstrom:g}"
    if atoms is None:
        return "blew up", "coordinates are not finite"
    if not row["temperature"] <= HOT * job.temperature_kelvin:
        return (
            "blew up",
            f"temperature {row['temperature']:.4g} K; expected less than {HOT:g} x {job.temperature_kelvin:g} K",
        )
    if not intact(atoms, liquid.bonded):
        return "broken", "a molecule is broken"
    return "finished", ""


def validate(job: ValidationJob) -> dict[str, Any]:
    """Constant energy, constant volume, constant pressure, each from the same equilibrated box."""
    liquid = Liquid(job, job.sample_steps)
    try:
        liquid.open()
    except Exception as error:
        raise SystemExit(setup_failed(error)) from None
    try:
        liquid.equilibrate(job.seed, job.equilibration_steps)
    except BlowUpError as error:
        return {name: {"stable": False, "reason": f"while equilibrating: {error}"} for name in ("nve", "nvt", "npt")}
    liquid.command("reset_timestep 0", "write_restart equilibrated.bin")
    runs = {
        "nve": ("nve", job.nve_steps),
        "nvt": (liquid.nvt(FRICTION_TIME_PS), job.nvt_steps),
        "npt": (liquid.npt(FRICTION_TIME_PS, job.pressure_bar), job.npt_steps),
    }
    verdicts = {}
    for name, (motion, steps) in runs.items():
        verdicts[name] = _phase(liquid, job, name, motion, steps)
        write_json("phases.json", verdicts)
    return verdicts


def _phase(liquid: Liquid, job: ValidationJob, name: str, motion: str, steps: int) -> dict[str, Any]:
    """One run; its samples go to NAME.npz as far as it came."""
    liquid.open(restart="equilibrated.bin")
    liquid.command(f"fix motion all {motion}", f"thermo {job.sample_steps}")
    masses, molecule = liquid.template.get_masses(), liquid.template.arrays["molecule"]
    rows: list[list[float]] = []
    centres: list[Array] = []
    cells: list[Array] = []
    whole, reason, step = True, "", 0
    while True:
        try:
            liquid.run(job.sample_steps if rows else 0, setup=not rows)
            temperature = liquid.check_temperature()
            atoms = liquid.frame()
        except BlowUpError as error:
            reason = str(error)
            break
        rows.append(
            [step * liquid.timestep_ps, temperature, *(liquid.thermo(key) for key in ("pe", "etotal", "press", "vol"))]
        )
        centres.append(centres_of_mass(atoms.positions, masses, molecule))
        cells.append(atoms.cell.array)
        whole = whole and intact(atoms, liquid.bonded)
        if step + job.sample_steps > steps:
            break
        step += job.sample_steps
    with replacing(f"{name}.npz") as temporary:
        table = np.array(rows).reshape(len(rows), 6)
        np.savez(temporary, thermo=table, centres=np.array(centres), cells=np.array(cells), mass=masses.sum())
    return {"stable": not reason, "reason": reason, "intact": whole, "steps": step}


def main(argument: str) -> int:
    """Run the job in the file `argument`; the exit status."""
    document = json.loads(Path(argument).read_text())
    task = document.pop("task")
    try:
        if task == "WalkerJob":
            result = explore(WalkerJob(**document))
        elif task == "SegmentJob":
            result = simulate(SegmentJob(**document))
        else:
            result = validate(ValidationJob(**document))
        write_json("result.json", result)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        return DISK_FULL
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
