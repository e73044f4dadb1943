"""What a longer time step of the network saves, and what it does to the energy.

    python benchmarks/respa.py results/NAME [--molecules 64] [--ps 2]

takes the final model of a campaign with `train.baseline: molecular`, equilibrates one box, and runs it at constant
energy with all forces every 0.5 fs, and with the force field every 0.5 fs below a network every 1, 1.5 and 2 fs
(r-RESPA), one after another on one core. It writes benchmarks/respa.csv.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from mlpwf.campaign.paths import Campaign
from mlpwf.md.lammps import WalkerJob, environment
from mlpwf.md.running_box import RunningBox
from mlpwf.potentials.registry import engine
from mlpwf.structures.boxes import pack_box
from mlpwf.structures.frames import quantised, read_frames, write_frames
from mlpwf.validate.observables import drift

ENGINE, TIMESTEPS_FS = "molecular_deepmd", (0.5, 1.0, 1.5, 2.0)
EQUILIBRATION_PS, SAMPLE_FS, KELVIN, DENSITY_G_CM3 = 1.0, 20.0, 300.0, 0.867
COLUMNS = (
    "atoms", "time step, fs", "CPU-s a ps", "of the first", "drift, meV/atom/ps", "its error",
    "fluctuation, meV/atom",
)  # fmt: skip


def measured(job: WalkerJob, ps: float) -> dict[str, float]:
    """A run at constant energy in this process, from the restart file in the working folder, which the first makes."""
    box, restart = RunningBox(job, 1), Path("equilibrated.bin")
    box.open(str(restart.resolve()) if restart.exists() else None)
    if not restart.exists():
        box.heat(job.seed)
        box.command(f"fix motion all {box.nvt(0.1)}")
        box.run(round(EQUILIBRATION_PS / box.timestep_ps), setup=True)
        box.command("unfix motion")
        box.write_restart(restart)
    box.command("fix motion all nve", "thermo 0")
    steps, count, energies = round(SAMPLE_FS / job.timestep_fs), round(1e3 * ps / SAMPLE_FS), []
    box.run(0, setup=True)
    begun = time.process_time()
    for _ in range(count):
        box.run(steps)
        energies.append(1e3 * box.thermo("etotal") / len(box.template))
    cpu_s = time.process_time() - begun
    slope, error = drift(np.arange(count) * SAMPLE_FS * 1e-3, np.array(energies))
    return {
        "cpu_s": cpu_s / ps,
        "drift": slope,
        "error": error,
        "fluctuation": float(np.std(energies)),
        "atoms": len(box.template),
    }


def main() -> None:
    """Run each time step in a process of its own, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campaign", type=Path)
    parser.add_argument("--molecules", type=int, default=64)
    parser.add_argument("--ps", type=float, default=2.0)
    given = parser.parse_args()
    campaign = Campaign(given.campaign)
    references = campaign.build.molecules.resolve()
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as place:
        box = Path(place) / "box.extxyz"
        molecules = read_frames(references)
        write_frames(box, [quantised(pack_box(molecules, [given.molecules], DENSITY_G_CM3, np.random.default_rng(1)))])
        model = str((campaign.final / "compressed.pb").resolve())
        for timestep_fs in TIMESTEPS_FS:
            job = WalkerJob(
                engine=ENGINE, models=[[model]], box=str(box), references=str(references), seed=1,
                temperature_kelvin=KELVIN, pressure_bar=None, timestep_fs=timestep_fs, steps=1, steps_between_frames=1,
                blow_up_ev_angstrom=1e9, state="300K", walker=0,
            )  # fmt: skip
            done = subprocess.run(
                [sys.executable, __file__, "--child", json.dumps(asdict(job)), str(given.ps)], cwd=place,
                env=os.environ | environment(engine(ENGINE)), stdout=subprocess.PIPE, text=True, check=True,
            )  # fmt: skip
            found = json.loads(done.stdout.splitlines()[-1])
            rows.append([
                str(found["atoms"]), f"{timestep_fs:g}", f"{found['cpu_s']:.1f}", "",
                f"{found['drift']:.4f}", f"{found['error']:.4f}", f"{found['fluctuation']:.4f}",
            ])  # fmt: skip
            rows[-1][3] = f"{float(rows[-1][2]) / float(rows[0][2]):.2f}"
            print(*rows[-1], sep="  ", flush=True)
    with Path(__file__).with_suffix(".csv").open("w", newline="") as handle:
        csv.writer(handle, lineterminator="\n").writerows([COLUMNS, *rows])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(measured(WalkerJob(**json.loads(sys.argv[2])), float(sys.argv[3]))))
    else:
        main()
