"""What one label costs at a given force error: mlpwf against a newcomer's and an expert's input.

    python benchmarks/label_cost.py --blas FOLDER

One run gives the whole table. Every pw.x runs alone on one core, one after another, with the
same pseudopotentials. A finished label is kept in --work, so that a stopped run goes on where it
was; the CSV has every row that is finished, the long ones (a newcomer's eight toluenes) last.

The error is the root-mean-square deviation of the forces from those of far higher cut-offs. The
settings are found on the box of two molecules and used for the larger ones (mlpwf's with a
tighter SCF threshold where they need it), whose errors are measured too: a row that misses the
target says so.

mlpwf     what mlpwf writes and runs, with the settings that `mlpwf label converge` finds for the forces
expert    OpenBLAS, K_POINTS gamma, two-body D3, no files written; by rule of thumb a density cut-off
          of 8 times the other (ultrasoft) and a threshold of 1e-8 Ry
newcomer  Debian's pw.x as installed, which means reference BLAS (--blas: a folder with libblas.so.3
          and liblapack.so.3 of Debian's packages libblas3 and liblapack3), an input in the style of
          DP-GEN's: K_POINTS automatic 1 1 1; density cut-off, SCF threshold and D3 (with its
          three-body term, which is no error of the forces) as QE's defaults

Expert and newcomer take the lowest wave-function cut-off of a common list that meets the target.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read, write
from ase.io.espresso import write_espresso_in
from ase.units import Bohr, Ry

from mlpwf.building import generator, pack_box
from mlpwf.config import Label
from mlpwf.engines import espresso, xtb
from mlpwf.errors import DataError
from mlpwf.files import read_json, write_json, write_text
from mlpwf.frames import quantised
from mlpwf.labels.convergence import Errors, Measurement, Setting, converge
from mlpwf.labels.dispersion import dispersion
from mlpwf.species import molecule_from_smiles

HERE = Path(__file__).parent
SMILES = {"water": ("O", 0.997), "toluene": ("Cc1ccccc1", 0.867)}
PSEUDOPOTENTIALS = {"H": "HUSPBE.RRKJ3", "C": "C.pbe-rrkjus.UPF", "O": "O.pbe-rrkjus.UPF"}
FOLDER = "/usr/share/espresso/pseudo"
SYSTEMS = [f"{species}{count}" for species in SMILES for count in (2, 4, 8)]
CUTOFFS = (30, 35, 40, 45, 50, 60, 75, 90)
SINGLE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
REPEATED_S = 20
"""A label is timed until its runs took so many CPU-s or there are three; the fastest counts."""


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
        frames = [quantised(next(dynamics)) for _ in range(30)][14::15]
        kept.parent.mkdir(exist_ok=True)
        write(kept, [Atoms(f.symbols, positions=f.positions, cell=f.cell, pbc=True) for f in frames])
    frames = list(read(kept, index=":"))
    return frames if name.endswith("2") else frames[:1]


@dataclass(frozen=True)
class Way:
    """How someone computes a label: the input of a structure, and the environment of pw.x."""

    text: Callable[[Atoms], str]
    environment: dict[str, str]


class Bench:
    """Runs pw.x, and keeps what it has run."""

    def __init__(self, work: Path, blas: Path) -> None:
        self.work, self.blas = work, blas

    def label(self, atoms: Atoms, way: Way, timed: bool = True) -> dict[str, Any]:
        """energy (eV), forces (eV/Å), stress (eV/Å³) and CPU-s of one pw.x on one core."""
        text = way.text(atoms)
        environment = {**SINGLE, **way.environment}
        name = hashlib.sha256(json.dumps([text, sorted(environment.items())]).encode()).hexdigest()
        kept = self.work / f"{name}.json"
        record: dict[str, Any] = read_json(kept) if kept.exists() else {"runs_cpu_s": []}
        runs = record["runs_cpu_s"]
        while not runs or (timed and len(runs) < 3 and sum(runs) < REPEATED_S):
            with tempfile.TemporaryDirectory() as folder:
                output, cpu_s = _run(Path(folder), text, environment)
            result = espresso.read_output(output)
            record |= {"energy": result.energy, "forces": result.forces.tolist(), "stress": result.stress.tolist()}
            runs.append(round(cpu_s, 3))
            write_json(kept, record)
        return record

    def by_mlpwf(self, setting: Setting) -> Way:
        """What mlpwf writes."""
        label = Label(**asdict(setting), pseudopotentials=PSEUDOPOTENTIALS)

        def text(atoms: Atoms) -> str:
            with tempfile.TemporaryDirectory() as folder:
                espresso.write_input(Path(folder) / "pw.in", atoms, label, Path(FOLDER))
                return (Path(folder) / "pw.in").read_text().replace("./pseudo", FOLDER)

        return Way(text, espresso.ENVIRONMENT)

    def by_expert(self, cutoff: float, ratio: float = 8) -> Way:
        """What someone who has read the manual writes."""
        system = {"ecutwfc": cutoff, "ecutrho": ratio * cutoff, "dftd3_threebody": False, "nosym": True}
        return Way(lambda atoms: _by_hand(atoms, None, {"disk_io": "none"}, system, {"conv_thr": 1e-8}), {})

    def by_newcomer(self, cutoff: float) -> Way:
        """QE's defaults, but for what DP-GEN's examples set."""
        environment = {"LD_LIBRARY_PATH": str(self.blas.resolve())}
        return Way(lambda atoms: _by_hand(atoms, (1, 1, 1), {}, {"ecutwfc": cutoff}, {}), environment)


def _run(place: Path, text: str, environment: dict[str, str]) -> tuple[str, float]:
    (place / "pw.in").write_text(text)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with (place / "pw.out").open("w") as sink:
        command = ["pw.x", "-in", "pw.in"]
        subprocess.run(command, cwd=place, stdout=sink, check=True, env={**os.environ, **environment})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (place / "pw.out").read_text(), after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _by_hand(atoms: Atoms, kpts: Any, control: dict, system: dict, electrons: dict) -> str:
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


class Liquid:
    """The settings that meet the target for the box of two molecules."""

    def __init__(self, bench: Bench, species: str, target: float) -> None:
        self.bench, self.species, self.target = bench, species, target
        self.frames = frames_of(f"{species}2")

    @cached_property
    def study(self) -> Any:
        """The study of `mlpwf label converge`, of the forces alone."""

        def measure(setting: Setting) -> Measurement:
            way = self.bench.by_mlpwf(setting)
            labels = [self.bench.label(atoms, way, timed=False) for atoms in self.frames]
            volumes = [atoms.get_volume() for atoms in self.frames]
            return Measurement(
                np.array([label["energy"] for label in labels]),
                [np.array(label["forces"]) for label in labels],
                np.array([-np.array(one["stress"]) * volume for one, volume in zip(labels, volumes, strict=True)]),
                float(np.mean([min(label["runs_cpu_s"]) for label in labels])),
            )

        return converge(measure, self.frames, Errors(self.target, np.inf), 135, told=lambda row: print(row, flush=True))

    @property
    def chosen(self) -> Setting:
        if self.study.chosen is None:
            raise DataError(f"{self.species}: nothing meets {self.target} eV/Å; loosen --target")
        return self.study.chosen.setting

    def setting_of(self, system: str) -> Setting:
        """The chosen setting; in a larger box with the loosest SCF threshold, not looser, that meets the target."""
        setting = self.chosen
        while self.deviation(system, self.bench.by_mlpwf(setting)) > self.target and setting.convergence_ry > 1e-8:
            setting = replace(setting, convergence_ry=setting.convergence_ry / 10)
        return setting

    @property
    def references(self) -> tuple[Setting, Setting]:
        """That of the boxes of two, and the one below it for larger boxes: they differ by `study.agreement`."""
        first, second = [row.setting for row in self.study.rows if row.lever == "reference"][-2:]
        return second, first

    def lowest(self, way: Callable[[float], Way]) -> float:
        """First cut-off of the list that meets the target."""
        for cutoff in CUTOFFS:
            if self.deviation(f"{self.species}2", way(cutoff)) <= self.target:
                break
        return cutoff

    def deviation(self, system: str, way: Way, threebody: bool = False) -> float:
        """Force error in eV/Å; the three-body forces of D3, where the way has them, are none."""
        reference = self.bench.by_mlpwf(self.references[0 if system.endswith("2") else 1])
        squares = []
        for atoms in frames_of(system):
            right = np.array(self.bench.label(atoms, reference, timed=False)["forces"])
            if threebody:
                two, three = (dispersion(atoms, Label(dispersion_threebody=on)).forces for on in (False, True))
                right = right + (three - two) * Ry / Bohr
            found = np.array(self.bench.label(atoms, way, timed=False)["forces"])
            squares.append(np.mean((found - right) ** 2))
        return float(np.sqrt(np.mean(squares)))


@dataclass(frozen=True)
class Row:
    """A row of the table: force error in eV/Å, cost in CPU-s a label."""

    system: str
    who: str
    settings: str
    deviation: float
    cpu_s: float


def rows(bench: Bench, systems: list[str], target: float) -> Iterator[Row]:
    """Every row, the cheap ones first."""
    liquids = {species: Liquid(bench, species, target) for species in SMILES}

    def row(system: str, who: str, settings: str, way: Way) -> Row:
        deviation = liquids[system[:-1]].deviation(system, way, threebody=who == "newcomer")
        costs = [min(bench.label(atoms, way)["runs_cpu_s"]) for atoms in frames_of(system)]
        return Row(system, who, settings, deviation, float(np.mean(costs)))

    def mlpwf(system: str) -> Row:
        chosen = liquids[system[:-1]].setting_of(system)
        return row(system, "mlpwf", str(chosen), bench.by_mlpwf(chosen))

    def expert(system: str) -> Row:
        cutoff = liquids[system[:-1]].lowest(bench.by_expert)
        return row(system, "expert", f"{cutoff}/{8 * cutoff} Ry, 1e-08 Ry", bench.by_expert(cutoff))

    def newcomer(system: str) -> Row:
        # the same forces at a fraction of the cost: QE's density cut-off is 4 times the other
        cutoff = liquids[system[:-1]].lowest(lambda cutoff: bench.by_expert(cutoff, 4))
        return row(system, "newcomer", f"{cutoff}/{4 * cutoff} Ry, 1e-06 Ry", bench.by_newcomer(cutoff))

    costs = {mlpwf: 1, expert: 2.5, newcomer: 12}
    todo = [(cost * len(frames_of(system)[0]) ** 2, who, system) for who, cost in costs.items() for system in systems]
    for _, who, system in sorted(todo, key=lambda item: item[0]):
        yield who(system)


def table(found: list[Row], target: float) -> str:
    """The rows as CSV, by system."""
    import io

    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["system", "who", "settings", "force error, meV/Å", "meets target", "CPU-s a label", "over mlpwf"])
    mine = {row.system: row.cpu_s for row in found if row.who == "mlpwf"}
    for row in sorted(found, key=lambda row: SYSTEMS.index(row.system)):
        met = "yes" if row.deviation <= target else "no"
        cost = (f"{row.cpu_s:.2f}", f"{row.cpu_s / mine[row.system]:.1f}")
        lines.writerow([row.system, row.who, row.settings, f"{1e3 * row.deviation:.1f}", met, *cost])
    return text.getvalue()


def main() -> None:
    """Measure, print as it goes, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", default=SYSTEMS, choices=SYSTEMS)
    parser.add_argument("--target", type=float, default=5.0, help="force error in meV/Å")
    parser.add_argument("--blas", type=Path, required=True, help="folder of reference BLAS and LAPACK")
    parser.add_argument("--work", type=Path, default=HERE / "label_cost.work", help="folder of finished labels")
    parser.add_argument("--out", type=Path, default=HERE / "label_cost.csv")
    arguments = parser.parse_args()
    if shutil.which("pw.x") is None or not (arguments.blas / "libblas.so.3").exists():
        raise SystemExit("expected pw.x on PATH and libblas.so.3 in --blas")
    found: list[Row] = []
    for row in rows(Bench(arguments.work, arguments.blas), arguments.systems, arguments.target / 1e3):
        found.append(row)
        print(row, flush=True)
        write_text(arguments.out, table(found, arguments.target / 1e3))


if __name__ == "__main__":
    main()
