"""What one label costs at a given force error: mlpwf against a newcomer's and an expert's input.

    python benchmarks/label_cost.py --systems water2 water4 toluene2 --blas FOLDER

Every pw.x runs alone on one core, one frame after another, all in one run of this script,
with the same pseudopotentials. The error is the root-mean-square deviation of the forces
from those of far higher cut-offs; each candidate takes the lowest wave-function cut-off of
a common list at which the error of its cut-offs is below the target.

newcomer  Debian's pw.x as installed, which means reference BLAS (--blas: a folder with libblas.so.3
          and liblapack.so.3 of Debian's packages libblas3 and liblapack3), an input in the style of
          DP-GEN's: K_POINTS automatic 1 1 1; density cut-off, SCF threshold and D3 as QE's defaults
expert    OpenBLAS, K_POINTS gamma, two-body D3, no files written; by rule of thumb a density cut-off
          of 8 times the other (ultrasoft) and a threshold of 1e-8 Ry
mlpwf     what mlpwf writes, at the cheapest ratio of cut-offs and threshold that meet the target
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read, write
from ase.io.espresso import write_espresso_in

from mlpwf.building import generator, molecule_from_smiles, pack_box
from mlpwf.config import Label
from mlpwf.engines import espresso, xtb
from mlpwf.frames import quantised

HERE = Path(__file__).parent
SMILES = {"water": ("O", 0.997), "toluene": ("Cc1ccccc1", 0.867)}
PSEUDOPOTENTIALS = {"H": "HUSPBE.RRKJ3", "C": "C.pbe-rrkjus.UPF", "O": "O.pbe-rrkjus.UPF"}
FOLDER = "/usr/share/espresso/pseudo"
CUTOFFS = (30, 35, 40, 45, 50, 60, 75)
RATIOS, THRESHOLDS = (4, 5, 6, 8), (1e-6, 1e-7, 1e-8)
REFERENCE = (90, 900, 1e-10)
FRAMES = 2


def frames_of(name: str) -> list[Atoms]:
    """A packed box, relaxed and moved by GFN1-xTB; kept beside this script."""
    kept = HERE / "frames" / f"{name}.extxyz"
    if not kept.exists():
        species, count = name.rstrip("0123456789"), int(name.lstrip("abcdefghijklmnopqrstuvwxyz"))
        smiles, density = SMILES[species]
        molecule = molecule_from_smiles(species, smiles, 1)
        molecule.arrays["molecule"] = molecule.arrays["species"] = np.zeros(len(molecule), int)
        box = xtb.relax(pack_box([molecule], [count], density, generator(1, count, 0)), "gfn1", steps=20)
        dynamics = xtb.langevin(box, "gfn1", np.random.default_rng(count), temperature_kelvin=300, timestep_fs=1.0)
        frames = [quantised(next(dynamics)) for _ in range(15 * FRAMES)][14::15]
        kept.parent.mkdir(exist_ok=True)
        write(kept, [Atoms(f.symbols, positions=f.positions, cell=f.cell, pbc=True) for f in frames])
    return list(read(kept, index=":"))


def pw(text: str, environment: dict[str, str]) -> tuple[np.ndarray, float]:
    """Forces in eV/Å and CPU-s of one pw.x on one core."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "pw.in").write_text(text)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        with (place / "pw.out").open("w") as sink:
            single = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
            command = ["pw.x", "-in", "pw.in"]
            subprocess.run(command, cwd=folder, stdout=sink, check=True, env={**os.environ, **single, **environment})
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        forces = espresso.read_output((place / "pw.out").read_text()).forces
    return forces, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def by_mlpwf(atoms: Atoms, cutoff: float, density_cutoff: float, threshold: float) -> str:
    """The input mlpwf writes."""
    label = Label(
        cutoff_ry=cutoff, density_cutoff_ry=density_cutoff, convergence_ry=threshold, pseudopotentials=PSEUDOPOTENTIALS
    )
    with tempfile.TemporaryDirectory() as folder:
        espresso.write_input(Path(folder) / "pw.in", atoms, label, Path(FOLDER))
        return (Path(folder) / "pw.in").read_text()


def by_hand(atoms: Atoms, kpts: Any, control: dict, system: dict, electrons: dict) -> str:
    """An input with these name lists and what every label needs."""
    sections = {
        "control": {"calculation": "scf", "pseudo_dir": FOLDER, "tprnfor": True, "tstress": True, **control},
        "system": {"input_dft": "rpbe", "vdw_corr": "dft-d3", "dftd3_version": 4, **system},
        "electrons": electrons,
    }
    used = {symbol: PSEUDOPOTENTIALS[symbol] for symbol in set(atoms.symbols)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pw.in"
        with path.open("w") as handle:
            write_espresso_in(handle, atoms, input_data=sections, pseudopotentials=used, kpts=kpts)
        return path.read_text()


def newcomer(atoms: Atoms, cutoff: float) -> str:
    """QE's defaults, but for what DP-GEN's examples set."""
    return by_hand(atoms, (1, 1, 1), {}, {"ecutwfc": cutoff}, {})


def expert(atoms: Atoms, cutoff: float) -> str:
    """What someone who has read the manual writes."""
    system = {"ecutwfc": cutoff, "ecutrho": 8 * cutoff, "dftd3_threebody": False, "nosym": True}
    return by_hand(atoms, None, {"disk_io": "none"}, system, {"conv_thr": 1e-8})


class Study:
    """Frames of one system, their reference forces and the target in meV/Å."""

    def __init__(self, name: str, target: float) -> None:
        self.frames, self.target = frames_of(name), target
        self.reference = [pw(by_mlpwf(atoms, *REFERENCE), {})[0] for atoms in self.frames]

    def run(self, text: Callable[[Atoms], str], environment: dict[str, str] | None = None) -> tuple[float, float]:
        """Force error in meV/Å and CPU-s of one label."""
        runs = [pw(text(atoms), environment or {}) for atoms in self.frames]
        squares = [np.mean((found - right) ** 2) for (found, _), right in zip(runs, self.reference, strict=True)]
        return 1e3 * float(np.sqrt(np.mean(squares))), float(np.mean([cpu for _, cpu in runs]))

    def lowest(self, ratio: float) -> tuple[int, float]:
        """First cut-off of the list that meets the target at this ratio of cut-offs, and its cost."""
        for cutoff in CUTOFFS:
            deviation, cost = self.run(lambda atoms, c=cutoff: by_mlpwf(atoms, c, ratio * c, 1e-8))
            if deviation <= self.target:
                break
        return cutoff, cost

    def threshold(self, cutoff: float, ratio: float) -> float:
        """Loosest SCF threshold that meets the target."""
        for threshold in THRESHOLDS:
            if self.run(lambda atoms, t=threshold: by_mlpwf(atoms, cutoff, ratio * cutoff, t))[0] <= self.target:
                break
        return threshold


def main() -> None:
    """Measure, print as it goes, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", default=["water2", "water4", "water8", "toluene2", "toluene4"])
    parser.add_argument("--target", type=float, default=5.0, help="force error in meV/Å")
    parser.add_argument("--blas", type=Path, required=True, help="folder of reference BLAS and LAPACK")
    parser.add_argument("--out", type=Path, default=HERE / "label_cost.csv")
    arguments = parser.parse_args()
    if shutil.which("pw.x") is None or not (arguments.blas / "libblas.so.3").exists():
        raise SystemExit("expected pw.x on PATH and libblas.so.3 in --blas")
    rows = [["system", "who", "settings", "force error, meV/Å", "CPU-s a label", "over mlpwf"]]
    for name in arguments.systems:
        study = Study(name, arguments.target)
        lowest = {ratio: study.lowest(ratio) for ratio in RATIOS}
        ratio = min(lowest, key=lambda r: lowest[r][1])
        cutoff = lowest[ratio][0]
        threshold = study.threshold(cutoff, ratio)
        measured = {
            f"mlpwf|{cutoff}/{ratio * cutoff} Ry, {threshold:g} Ry": study.run(
                lambda atoms, c=cutoff, r=ratio, t=threshold: by_mlpwf(atoms, c, r * c, t)
            ),
            f"expert|{lowest[8][0]}/{8 * lowest[8][0]} Ry, 1e-08 Ry": study.run(
                lambda atoms, c=lowest[8][0]: expert(atoms, c)
            ),
            f"newcomer|{lowest[4][0]} Ry": study.run(
                lambda atoms, c=lowest[4][0]: newcomer(atoms, c), {"LD_LIBRARY_PATH": str(arguments.blas.resolve())}
            ),
        }
        mine = next(iter(measured.values()))[1]
        for key, (deviation, cost) in measured.items():
            rows.append([name, *key.split("|"), f"{deviation:.2f}", f"{cost:.2f}", f"{cost / mine:.2f}"])
            print(*rows[-1], sep="  ", flush=True)
        with arguments.out.open("w", newline="") as handle:
            csv.writer(handle, lineterminator="\n").writerows(rows)


if __name__ == "__main__":
    main()
