"""What k-points leave of the error of labels, by box: Γ as before, `label.kpoints: auto` as it ships, and between.

    python benchmarks/kpoints.py [--systems water4 toluene2 …]

The frames are those of benchmarks/frames (boxes of two to eight molecules at liquid density, 300 K). Each is labelled
with the fewest points for a list of image distances, and compared with images at least 15 Å apart. All labels of a
frame have the same cut-offs (30/121 Ry on a grid of 240 Ry) and an SCF threshold of 1e-8 Ry: errors of cut-offs are
no part of the table. They go to a store in --work, so that a stopped run goes on where it was.

Writes kpoints.csv: errors of force, net force on a molecule, energy (with nothing taken off), virial and pressure,
and CPU-s a label; and the table of docs/labels.md.
"""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read

from mlpwf.calculators.espresso.pw import kpoints_of
from mlpwf.config import Label, Site
from mlpwf.files import write_text
from mlpwf.label.labeller import Labeller
from mlpwf.potentials.metrics import errors_of_labels
from mlpwf.structures.properties import Properties, of_frame

HERE = Path(__file__).parent
SYSTEMS = ("water2", "water4", "water8", "toluene2", "toluene4", "toluene8")
ATOMS = {"water": 3, "toluene": 15}
DISTANCES = {"gamma": None, "8.4": 8.4, "9.5": 9.5, "auto": Label().image_distance_angstrom}
REFERENCE_ANGSTROM = 15.0
SETTINGS = Label(cutoff_ry=30, density_cutoff_ry=121, fft_grid_ry=240, convergence_ry=1e-8)
HEADER = (
    "system", "edge_angstrom", "asked", "points", "image_distance_angstrom", "force_mev_angstrom",
    "force_max_mev_angstrom", "net_force_mev_angstrom", "energy_mev_atom", "virial_mev_atom", "pressure_kbar", "cpu_s",
)  # fmt: skip


def frames_of(system: str) -> list[Atoms]:
    """The kept frames of a system, with the molecule of each atom."""
    frames = read(HERE / "frames" / f"{system}.extxyz", index=":")
    for atoms in frames:
        atoms.arrays["molecule"] = np.arange(len(atoms)) // ATOMS[system.rstrip("0123456789")]
    return list(frames)


class Bench:
    """Labels with some points, through a store of its own."""

    def __init__(self, work: Path) -> None:
        work.mkdir(exist_ok=True)
        self.work, self.site = work, Site(label_store=str(work / "store"))

    def label(self, atoms: Atoms, distance: float | None) -> tuple[Properties, float]:
        """A label and its CPU-s."""
        points = {"kpoints": "gamma"} if distance is None else {"kpoints": "auto", "image_distance_angstrom": distance}
        labeller = Labeller(SETTINGS.model_copy(update=points), self.site, self.work, sorted(set(atoms.symbols)))
        label, outcome = labeller.labelled(atoms)
        return of_frame(label), outcome.cpu_s


def rows(bench: Bench, system: str) -> Iterator[tuple[str, ...]]:
    """The rows of a system, from Γ upward."""
    frames = frames_of(system)
    expected = [bench.label(atoms, REFERENCE_ANGSTROM)[0] for atoms in frames]
    cell = frames[0].cell.array
    for asked, distance in {**DISTANCES, "reference": REFERENCE_ANGSTROM}.items():
        found, costs = zip(*(bench.label(atoms, distance) for atoms in frames), strict=True)
        errors = errors_of_labels(frames, expected, found)
        largest = max(float(np.abs(a.forces - b.forces).max()) for a, b in zip(found, expected, strict=True))
        settings = {"kpoints": "gamma"} if distance is None else {"image_distance_angstrom": distance}
        points = kpoints_of(SETTINGS.model_copy(update=settings), cell)
        yield (
            system, f"{np.cbrt(frames[0].get_volume()):.2f}", asked, f"{len(points.points)}",
            f"{points.image_distance(cell):.1f}", f"{1e3 * errors.force_rmse_ev_angstrom:.2f}",
            f"{1e3 * largest:.1f}",
            f"{1e3 * errors.force_inter_rmse_ev_angstrom:.2f}", f"{errors.energy_bias_mev_atom:.2f}",
            f"{1e3 * errors.virial_rmse_ev_atom:.2f}", f"{errors.pressure_bias_kbar:.2f}",
            f"{np.mean(costs):.2f}",
        )  # fmt: skip


def page(found: list[tuple[str, ...]]) -> str:
    """The rows as a table of the documentation: each set of points once, the reference left out."""
    titles = ("box", "edge, Å", "points", "images, Å", "force (largest), meV/Å", "net force, meV/Å", "energy, meV/atom",
              "virial, meV/atom", "pressure, kbar", "CPU-s")  # fmt: skip
    lines = [f"| {' | '.join(titles)} |", "| --- " * len(titles) + "|"]
    last: tuple[str, ...] = ()
    for system, edge, asked, points, distance, force, largest, *rest in found:
        if asked == "reference" or (system, points, distance) == last:
            continue
        last = system, points, distance
        name = system.rstrip("0123456789")
        box = f"{system.removeprefix(name)} {name}s"
        auto = any(row[:1] + row[3:5] == last and row[2] == "auto" for row in found)
        chosen = ("Γ" if asked == "gamma" else points) + (" (auto)" if auto else "")
        lines.append(f"| {' | '.join((box, edge, chosen, distance, f'{force} ({largest})', *rest))} |")
    return "\n".join(lines)


def into_docs(found: list[tuple[str, ...]]) -> None:
    """Put the table where docs/labels.md has it."""
    path = HERE.parent / "docs" / "labels.md"
    begin, end = "<!-- benchmarks/kpoints.py -->\n", "\n<!-- end -->"
    before, rest = path.read_text().split(begin)
    write_text(path, before + begin + page(found) + end + rest.split(end, 1)[1])


def main() -> None:
    """Measure, print as it goes, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", default=SYSTEMS, choices=SYSTEMS)
    parser.add_argument("--work", type=Path, default=HERE / "kpoints.work", help="folder of finished labels")
    parser.add_argument("--out", type=Path, default=HERE / "kpoints.csv")
    arguments = parser.parse_args()
    found: list[tuple[str, ...]] = []
    for system in arguments.systems:
        for row in rows(Bench(arguments.work), system):
            found.append(row)
            print(*row, flush=True)
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([HEADER, *found])
        write_text(arguments.out, text.getvalue())
    if tuple(arguments.systems) == SYSTEMS:
        into_docs(found)


if __name__ == "__main__":
    main()
