"""What one label costs at a given force error: mlpwf against a newcomer's and an expert's input.

    python benchmarks/label_cost.py --blas FOLDER

One run gives the whole table, for boxes of 2, 4, 8 and 16 molecules. Every pw.x runs alone on one
core, one after another, with the same pseudopotentials. A finished label is kept in --work, so that
a stopped run goes on where it was; the CSV has every row that is finished, the long ones (a
newcomer's eight toluenes) last. Errors can be found on a busy machine, and
times then be taken on a quiet one by --time-again. A newcomer's label of more than --always molecules that would take
more than --longest hours, by what one of half the molecules takes, is not run; the CSV says so.

Errors are those against labels of the same frames converged in cut-offs and in k-points at once:
force, net force on a molecule and virial of the worst frame, root mean square each, and the mean
error of the pressure. The target is one of the forces. Cut-offs are found on the box of two
molecules at Γ, where the errors of k-points are the same in all labels and cancel, and used in all
boxes. A row that misses the target, by k-points or by cut-offs, says so.

mlpwf     what mlpwf writes and runs, with the settings that `mlpwf label converge` finds for the
          forces: cut-offs once, k-points (`label.kpoints: auto`) and SCF threshold in each box
expert    OpenBLAS, two-body D3, no files written; by rule of thumb a density cut-off of 8 times the
          other (ultrasoft), a threshold of 1e-8 Ry, and k-points by hand: a shifted 2x2x2 grid
          (`2 2 2 1 1 1`, four points) in a box below 9 Å, Γ above
newcomer  Debian's pw.x as installed, which means reference BLAS (--blas: a folder with libblas.so.3
          and liblapack.so.3 of Debian's packages libblas3 and liblapack3), an input in the style of
          DP-GEN's; density cut-off, SCF threshold and D3 (with its three-body term, which is no
          error of the labels) as QE's defaults; `K_POINTS automatic 2 2 2 0 0 0`, the grid through Γ
          that ASE's `kpts` gives (eight points), in a box below 9 Å, and `1 1 1` above

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
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read, write
from ase.io.espresso import write_espresso_in

from mlpwf.calculators import xtb
from mlpwf.calculators.espresso import pw
from mlpwf.calculators.espresso.box_convergence import Box, converge_box
from mlpwf.calculators.espresso.convergence import Errors, Measurement, Setting, Study, converge, errors
from mlpwf.calculators.espresso.cost import Size, label_price
from mlpwf.calculators.espresso.dispersion import dispersion
from mlpwf.config import Label
from mlpwf.errors import DataError
from mlpwf.files import read_json, write_json, write_text
from mlpwf.structures.boxes import generator, pack_box
from mlpwf.structures.frames import quantised
from mlpwf.structures.properties import Properties
from mlpwf.structures.species import molecule_from_smiles

HERE = Path(__file__).parent
SMILES = {"water": ("O", 0.997), "toluene": ("Cc1ccccc1", 0.867)}
PSEUDOPOTENTIALS = {"H": "HUSPBE.RRKJ3", "C": "C.pbe-rrkjus.UPF", "O": "O.pbe-rrkjus.UPF"}
FOLDER = "/usr/share/espresso/pseudo"
SYSTEMS = [f"{species}{count}" for species in SMILES for count in (2, 4, 8, 16)]
CUTOFFS = (30, 35, 40, 45, 50, 60, 75, 90)
SMALL_ANGSTROM = 9.0
"""In a box of a shorter edge, expert and newcomer take a grid of k-points."""
SINGLE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
REPEATED_S = 20
"""A label is timed until its runs took so many CPU-s or there are three; the fastest counts."""


def parts(name: str) -> tuple[str, int]:
    """Species and number of molecules of a system."""
    species = name.rstrip("0123456789")
    return species, int(name.removeprefix(species))


@cache
def frames_of(name: str) -> list[Atoms]:
    """A packed box, relaxed and moved by GFN1-xTB, whose molecules are known; kept beside this script."""
    kept = HERE / "frames" / f"{name}.extxyz"
    species, count = parts(name)
    if not kept.exists():
        smiles, density = SMILES[species]
        molecule = molecule_from_smiles(species, smiles, 1)
        molecule.arrays["molecule"] = molecule.arrays["species"] = np.zeros(len(molecule), int)
        box = xtb.relax(pack_box([molecule], [count], density, generator(1, count, 0)), "gfn1", steps=20)
        dynamics = xtb.langevin(box, "gfn1", np.random.default_rng(count), temperature_kelvin=300, timestep_fs=1.0)
        frames = [quantised(next(dynamics)) for _ in range(30)][14::15]
        kept.parent.mkdir(exist_ok=True)
        write(kept, [Atoms(f.symbols, positions=f.positions, cell=f.cell, pbc=True) for f in frames])
    frames = list(read(kept, index=":"))[: 2 if count == 2 else 1]
    for atoms in frames:
        atoms.arrays["molecule"] = np.repeat(np.arange(count), len(atoms) // count)
    return frames


@dataclass(frozen=True)
class Way:
    """How someone computes a label: the input of a structure, and the environment of pw.x."""

    text: Callable[[Atoms], str]
    environment: dict[str, str]


class Bench:
    """Runs pw.x, and keeps what it has run."""

    def __init__(self, work: Path, blas: Path, again: bool = False) -> None:
        self.work, self.blas, self.again = work, blas, again
        self.timed: set[str] = set()

    def label(self, atoms: Atoms, way: Way, timed: bool = True) -> dict[str, Any]:
        """energy (eV), forces (eV/Å), stress (eV/Å³) and CPU-s of one pw.x on one core."""
        text = way.text(atoms)
        environment = {**SINGLE, **way.environment}
        name = hashlib.sha256(json.dumps([text, sorted(environment.items())]).encode()).hexdigest()
        kept = self.work / f"{name}.json"
        record: dict[str, Any] = read_json(kept) if kept.exists() else {"runs_cpu_s": []}
        runs = record["runs_cpu_s"]
        if timed and self.again and name not in self.timed:
            runs.clear()
        self.timed |= {name} if timed else set()
        while not runs or (timed and len(runs) < 3 and sum(runs) < REPEATED_S):
            with tempfile.TemporaryDirectory() as folder:
                output, cpu_s = _run(Path(folder), text, environment)
            result = pw.read_output(output, float(atoms.get_volume()))
            record |= {"energy": result.energy, "forces": result.forces.tolist(), "stress": result.stress.tolist()}
            runs.append(round(cpu_s, 3))
            write_json(kept, record)
        return record

    def measure(self, frames: list[Atoms], way: Way, timed: bool = False) -> Measurement:
        """Labels of frames; the fastest run of each counts."""
        labels = [self.label(atoms, way, timed) for atoms in frames]
        found = [
            Properties(one["energy"], np.array(one["forces"]), np.array(one["stress"]), float(atoms.get_volume()))
            for one, atoms in zip(labels, frames, strict=True)
        ]
        return Measurement(found, float(np.mean([min(label["runs_cpu_s"]) for label in labels])))

    def by_mlpwf(self, setting: Setting) -> Way:
        """What mlpwf writes."""
        label = Label(**setting.section(), pseudopotentials=PSEUDOPOTENTIALS)

        def text(atoms: Atoms) -> str:
            with tempfile.TemporaryDirectory() as folder:
                pw.write_input(Path(folder) / "pw.in", atoms, label, Path(FOLDER))
                return (Path(folder) / "pw.in").read_text().replace("./pseudo", FOLDER)

        return Way(text, pw.ENVIRONMENT)

    def by_expert(self, cutoff: float, ratio: float = 8, gamma: bool = False) -> Way:
        """What someone who has read the manual writes; gamma: with Γ in small boxes too."""
        system = {"ecutwfc": cutoff, "ecutrho": ratio * cutoff, "dftd3_threebody": False, "nosym": True}

        def text(atoms: Atoms) -> str:
            grid = None if gamma or not is_small(atoms) else (2, 2, 2)
            return _by_hand(atoms, grid, 1, {"disk_io": "none"}, system, {"conv_thr": 1e-8})

        return Way(text, {})

    def by_newcomer(self, cutoff: float) -> Way:
        """QE's defaults, but for what DP-GEN's examples set."""

        def text(atoms: Atoms) -> str:
            return _by_hand(atoms, (2, 2, 2) if is_small(atoms) else (1, 1, 1), 0, {}, {"ecutwfc": cutoff}, {})

        return Way(text, {"LD_LIBRARY_PATH": str(self.blas.resolve())})


def is_small(atoms: Atoms) -> bool:
    """Whether the box is one for which the hand-made inputs have a grid of k-points."""
    return bool(atoms.cell.lengths().min() < SMALL_ANGSTROM)


def _run(place: Path, text: str, environment: dict[str, str]) -> tuple[str, float]:
    (place / "pw.in").write_text(text)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with (place / "pw.out").open("w") as sink:
        command = ["pw.x", "-in", "pw.in"]
        subprocess.run(command, cwd=place, stdout=sink, check=True, env={**os.environ, **environment})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (place / "pw.out").read_text(), after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _by_hand(atoms: Atoms, kpts: Any, shift: int, control: dict, system: dict, electrons: dict) -> str:
    """An input with these name lists, this grid of k-points (None: Γ) and what every label needs."""
    sections = {
        "control": {"calculation": "scf", "pseudo_dir": FOLDER, "tprnfor": True, "tstress": True, **control},
        "system": {"input_dft": "rpbe", "vdw_corr": "dft-d3", "dftd3_version": 4, **system},
        "electrons": electrons,
    }
    used = {symbol: PSEUDOPOTENTIALS[symbol] for symbol in set(atoms.symbols)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pw.in"
        with path.open("w") as handle:
            bare = Atoms(atoms.symbols, positions=atoms.positions, cell=atoms.cell, pbc=True)
            offset = (shift,) * 3
            write_espresso_in(handle, bare, input_data=sections, pseudopotentials=used, kpts=kpts, koffset=offset)
        return path.read_text()


class Liquid:
    """The settings that meet the target: cut-offs for the box of two molecules, k-points for each."""

    def __init__(self, bench: Bench, species: str, target: float) -> None:
        self.bench, self.species, self.target = bench, species, Errors(target, np.inf)
        self.found: dict[str, Box] = {}

    def measurer(self, frames: list[Atoms]) -> Callable[[Setting], Measurement]:
        """What labels frames as mlpwf does."""
        return lambda setting: self.bench.measure(frames, self.bench.by_mlpwf(setting))

    @cached_property
    def study(self) -> Study:
        """The cut-offs of `mlpwf label converge`, by the forces alone."""
        frames = frames_of(f"{self.species}2")
        study = converge(self.measurer(frames), frames, self.target, 135, told=_say)
        if study.chosen is None:
            raise DataError(f"{self.species}: nothing meets {self.target.force} eV/Å; loosen --target")
        return study

    def box(self, system: str) -> Box:
        """The k-points of `mlpwf label converge`, and the labels converged in both that errors are against."""
        if system not in self.found:
            assert self.study.chosen is not None
            # in larger boxes the reference below the highest: the two differ by `study.agreement`
            below, highest = [row.setting for row in self.study.rows if row.lever == "reference"][-2:]
            frames, reference = frames_of(system), highest if parts(system)[1] == 2 else below
            cheap = self.study.chosen.setting
            self.found[system] = converge_box(
                self.measurer(frames), frames, self.target, cheap, reference, told=_say
            )  # fmt: skip
        return self.found[system]

    def errors_of(self, system: str, way: Way, threebody: bool) -> Errors:
        """Errors of a way's labels; the three-body forces of D3, where the way has them, are none."""
        frames = frames_of(system)
        converged = [row.setting for row in self.box(system).rows if row.lever == "converged"]
        if not converged:
            raise DataError(f"{system}: k-points do not converge")
        right = self.bench.measure(frames, self.bench.by_mlpwf(converged[0]))
        return errors(self.bench.measure(frames, way), _threebody(right, frames) if threebody else right, frames)

    def lowest(self, way: Callable[[float], Way]) -> float:
        """First cut-off of the list whose own error, at Γ in the box of two, is within the target."""
        frames, reference = frames_of(f"{self.species}2"), self.study.reference
        assert reference is not None
        for cutoff in CUTOFFS:
            if errors(self.bench.measure(frames, way(cutoff)), reference, frames).force <= self.target.force:
                break
        return cutoff


def _say(row: Any) -> None:
    error = "" if row.errors is None else f", force error {1e3 * row.errors.force:.1f} meV/Å"
    print(f"{row.atoms} atoms, {row.lever} {row.setting}: {row.failure or f'{row.cpu_s:.2f} CPU-s'}{error}", flush=True)


def _threebody(labels: Measurement, frames: list[Atoms]) -> Measurement:
    """Labels with the three-body term of D3: forces and stresses."""
    found = []
    for label, atoms in zip(labels.labels, frames, strict=True):
        two, three = (dispersion(atoms, Label(dispersion_threebody=on)) for on in (False, True))
        term = three - two
        found.append(replace(label, forces=label.forces + term.forces, stress=label.stress + term.stress))
    return Measurement(found, labels.cpu_s)


@dataclass(frozen=True)
class Row:
    """A row of the table: errors and cost in CPU-s a label, or why it was not run."""

    system: str
    who: str
    settings: str
    kpoints: str
    errors: Errors | None = None
    cpu_s: float | None = None
    note: str = ""


def rows(bench: Bench, systems: list[str], target: float, longest_s: float, always: int) -> Iterator[Row]:
    """Every row, the cheap ones first; a newcomer's boxes of up to `always` molecules are run whatever they take."""
    liquids = {species: Liquid(bench, species, target) for species in SMILES}

    def row(system: str, who: str, settings: str, kpoints: str, way: Way) -> Row:
        found = liquids[parts(system)[0]].errors_of(system, way, threebody=who == "newcomer")
        return Row(system, who, settings, kpoints, found, bench.measure(frames_of(system), way, timed=True).cpu_s)

    def mlpwf(system: str) -> Row:
        chosen = liquids[parts(system)[0]].box(system).chosen
        if chosen is None:
            return Row(system, "mlpwf", "", "", note="nothing meets the target")
        points = f"{chosen.points:g} of auto" if chosen.points else "Γ"
        return row(system, "mlpwf", str(chosen.setting), points, bench.by_mlpwf(chosen.setting))

    def expert(system: str) -> Row:
        cutoff = liquids[parts(system)[0]].lowest(lambda cutoff: bench.by_expert(cutoff, gamma=True))
        points = "2x2x2 shifted" if is_small(frames_of(system)[0]) else "Γ"
        return row(system, "expert", f"{cutoff}/{8 * cutoff} Ry, 1e-08 Ry", points, bench.by_expert(cutoff))

    def newcomer(system: str) -> Row:
        # the same forces at a fraction of the cost: QE's density cut-off is 4 times the other
        cutoff = liquids[parts(system)[0]].lowest(lambda cutoff: bench.by_expert(cutoff, 4, gamma=True))
        settings, way = f"{cutoff}/{4 * cutoff} Ry, 1e-06 Ry", bench.by_newcomer(cutoff)
        points = "2x2x2" if is_small(frames_of(system)[0]) else "1x1x1"
        expected_s = _expected_s(bench, system, cutoff) if parts(system)[1] > always else 0.0
        if expected_s > longest_s:
            return Row(system, "newcomer", settings, points, note=f"not run: about {expected_s / 3600:.1f} h a label")
        return row(system, "newcomer", settings, points, way)

    costs = {mlpwf: 1, expert: 2.5, newcomer: 12}
    todo = [(cost * len(frames_of(system)[0]) ** 2, who, system) for who, cost in costs.items() for system in systems]
    for _, who, system in sorted(todo, key=lambda item: item[0]):
        yield who(system)


def _expected_s(bench: Bench, system: str, cutoff: float) -> float:
    """CPU-s of a newcomer's label, from one of half the molecules."""
    species, count = parts(system)

    def size(atoms: Atoms) -> Size:
        return Size(len(atoms), atoms.get_volume(), cutoff, 4 * cutoff, 8 if is_small(atoms) else 1)

    half, whole = frames_of(f"{species}{count // 2}"), frames_of(system)
    known = bench.measure(half, bench.by_newcomer(cutoff), timed=True).cpu_s
    return label_price(size(whole[0]), [(size(half[0]), known)]).cpu_s


HEADER = (
    "system", "who", "settings", "k-points", "force error, meV/Å", "meets target", "CPU-s a label", "over mlpwf",
    "CPU-s an atom", "net force error, meV/Å", "virial error, meV/atom", "pressure error, kbar", "note",
)  # fmt: skip


def table(found: list[Row], target: float) -> str:
    """The rows as CSV, by system."""
    import io

    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(HEADER)
    mine = {row.system: row.cpu_s for row in found if row.who == "mlpwf"}
    for row in sorted(found, key=lambda row: SYSTEMS.index(row.system)):
        rated, own = row.errors, mine.get(row.system)
        if rated is None or row.cpu_s is None:
            lines.writerow([row.system, row.who, row.settings, row.kpoints, *[""] * 8, row.note])
            continue
        lines.writerow([
            row.system, row.who, row.settings, row.kpoints, f"{1e3 * rated.force:.1f}",
            "yes" if rated.force <= target else "no", f"{row.cpu_s:.2f}",
            f"{row.cpu_s / own:.1f}" if own else "", f"{row.cpu_s / len(frames_of(row.system)[0]):.3f}",
            f"{1e3 * rated.net_force:.1f}", f"{1e3 * rated.virial:.1f}", f"{rated.pressure_kbar:+.2f}",
            row.note,
        ])  # fmt: skip
    return text.getvalue()


def main() -> None:
    """Measure, print as it goes, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", default=SYSTEMS, choices=SYSTEMS)
    parser.add_argument("--target", type=float, default=5.0, help="force error in meV/Å")
    parser.add_argument("--blas", type=Path, required=True, help="folder of reference BLAS and LAPACK")
    parser.add_argument("--longest", type=float, default=2.0, help="hours a newcomer's label may take, to be run")
    parser.add_argument("--always", type=int, default=8, help="molecules in a newcomer's box that is run all the same")
    parser.add_argument("--work", type=Path, default=HERE / "label_cost.work", help="folder of finished labels")
    parser.add_argument("--time-again", action="store_true", help="keep errors, take the times of the rows anew")
    parser.add_argument("--out", type=Path, default=HERE / "label_cost.csv")
    arguments = parser.parse_args()
    if shutil.which("pw.x") is None or not (arguments.blas / "libblas.so.3").exists():
        raise SystemExit("expected pw.x on PATH and libblas.so.3 in --blas")
    found: list[Row] = []
    bench = Bench(arguments.work, arguments.blas, arguments.time_again)
    for row in rows(bench, arguments.systems, arguments.target / 1e3, 3600 * arguments.longest, arguments.always):
        found.append(row)
        print(row, flush=True)
        write_text(arguments.out, table(found, arguments.target / 1e3))


if __name__ == "__main__":
    main()
