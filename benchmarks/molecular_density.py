"""Pressure of toluene at its measured density, and its density at 1 bar, by a force field fitted to converged labels.

    python benchmarks/molecular_density.py [--molecules 8] [--ps 20] [--seeds 1 2 3]

fits the force field to all labels of benchmarks/toluene/labels_kpoints.jsonl.gz, runs as `mlpwf validate` does, and
writes benchmarks/molecular_density.csv. No network, and no label at the density that comes out, takes part.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from pathlib import Path

import numpy as np
from ase import Atoms
from molecular import CUTOFF_ANGSTROM, frames

from mlpwf.campaign import records
from mlpwf.campaign.records import RunEnd
from mlpwf.md.lammps import ValidationJob, run_worker
from mlpwf.potentials.molecular import record
from mlpwf.potentials.molecular.fit import Fitted, fitted
from mlpwf.potentials.molecular.training import is_whole, labelled, molecules_of
from mlpwf.structures.boxes import SMALLEST_CELL_ANGSTROM, isolated, label_molecules, pack_box
from mlpwf.structures.frames import quantised, write_frames
from mlpwf.structures.species import molecule_from_smiles
from mlpwf.validate.runs import read_samples
from mlpwf.validate.verdicts import npt_verdict, nvt_verdict

MEASURED_G_CM3, KELVIN, TIMESTEP_FS, SAMPLE_STEPS = 0.867, 300.0, 0.5, 40
COLUMNS = (
    "molecules", "ps", "seed", "temperature, K", "pressure at 0.867 g/cm³, bar", "its error",
    "density at 1 bar, g/cm³", "its error",
)  # fmt: skip


def main() -> None:
    """Fit, run, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--molecules", type=int, default=8)
    parser.add_argument("--ps", type=float, default=20.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    given = parser.parse_args()
    molecule = molecule_from_smiles("toluene", "Cc1ccccc1", 1)
    label_molecules([molecule], [0])
    molecule = isolated(molecule, SMALLEST_CELL_ANGSTROM / 2)
    molecule.info = {"species": "toluene"}
    species = molecules_of([molecule])
    labels = [frame for atoms in frames() if is_whole(frame := labelled(atoms, [molecule]), species)]
    found = fitted(species, labels, CUTOFF_ANGSTROM, say=print)
    rows = [run(given.molecules, given.ps, seed, molecule, found) for seed in given.seeds]
    with Path(__file__).with_suffix(".csv").open("w", newline="") as handle:
        csv.writer(handle, lineterminator="\n").writerows([COLUMNS, *rows])


def run(count: int, ps: float, seed: int, molecule: Atoms, found: Fitted) -> list[str]:
    """A row: one box of its own."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        record.write(folder / "force_field.json", found)
        write_frames(folder / "molecules.extxyz", [molecule])
        write_frames(
            folder / "box.extxyz",
            [quantised(pack_box([molecule], [count], MEASURED_G_CM3, np.random.default_rng(seed)))],
        )
        steps = round(1e3 * ps / TIMESTEP_FS)
        job = ValidationJob(
            engine="molecular", models=[[str(folder / "force_field.json")]], box=str(folder / "box.extxyz"),
            references=str(folder / "molecules.extxyz"), seed=seed, temperature_kelvin=KELVIN, pressure_bar=1.0,
            timestep_fs=TIMESTEP_FS, equilibration_steps=steps // 4, nve_steps=SAMPLE_STEPS, nvt_steps=steps,
            npt_steps=steps, sample_steps=SAMPLE_STEPS, checkpoint_s=1e9,
        )  # fmt: skip
        status = run_worker(job, folder / "work", launcher=[])
        if status:
            raise SystemExit(f"LAMMPS ended with exit status {status}")
        ends, samples = records.read(folder / "work" / "result.json", dict[str, RunEnd]), read_samples(folder / "work")
    nvt, npt = nvt_verdict(ends["nvt"], samples["nvt"]), npt_verdict(ends["npt"], samples["npt"], MEASURED_G_CM3)
    row = [
        f"{nvt.mean_pressure_bar:.0f}",
        f"{nvt.pressure_error_bar:.0f}",
        f"{npt.density_g_cm3:.3f}",
        f"{npt.density_error_g_cm3:.3f}",
    ]
    print(*row, flush=True)
    return [str(count), f"{ps:g}", str(seed), f"{KELVIN:g}", *row]


if __name__ == "__main__":
    main()
