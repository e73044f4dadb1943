"""Errors of the molecular force field by the number of labels, with and without the prior that holds pairs alike.

    python benchmarks/molecular.py [--labels 20 40 104 160] [--seed 1]

takes the labels of toluene that are converged in k-points (benchmarks/toluene/labels_kpoints.jsonl.gz), holds 50 boxes
out at random, fits others drawn at random, without a network, and writes benchmarks/molecular.csv.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import time
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.geometry import find_mic
from rdkit import Chem

from mlpwf.potentials.molecular.fit import STRENGTHS, Fitted, Labelled, fitted
from mlpwf.potentials.molecular.training import labelled, molecules_of
from mlpwf.structures.molecules import bonds, molecule_sums
from mlpwf.structures.properties import Properties, on_frame

HERE = Path(__file__).parent
SMILES, ATOMS = "Cc1ccccc1", 15
CUTOFF_ANGSTROM, HELD_OUT = 8.5, 50
COLUMNS = (
    "labels", "pairs", "force, meV/Å", "net force, meV/Å", "energy, meV/atom", "virial, meV/atom", "CPU-s",
    "ridge", "smooth", "alike",
)  # fmt: skip
APART = tuple(dict.fromkeys(one._replace(alike=0.0) for one in STRENGTHS))


def frames() -> list[Atoms]:
    """All labels of whole molecules in the archive, in the order of their checksums."""
    found = []
    with gzip.open(HERE / "toluene" / "labels_kpoints.jsonl.gz", "rt") as source:
        for record in sorted(map(json.loads, source), key=lambda one: one["sha256"]):
            atoms = Atoms(
                record["symbols"], positions=record["positions_angstrom"], cell=record["cell_angstrom"], pbc=True
            )
            order = by_molecule(atoms)
            if not order:
                continue
            atoms, forces = whole(atoms[order]), np.array(record["forces_ev_angstrom"])[order]
            atoms.arrays["molecule"] = np.arange(len(atoms)) // ATOMS
            stress = np.array(record["stress_ev_angstrom3"])
            found.append(on_frame(atoms, Properties(record["energy_ev"], forces, stress, float(atoms.get_volume()))))
    return found


def single_bonds() -> Chem.Mol:
    """Toluene with single bonds alone, as a graph of distances has them."""
    found = Chem.RWMol(Chem.AddHs(Chem.MolFromSmiles(SMILES)))
    Chem.Kekulize(found, clearAromaticFlags=True)
    for bond in found.GetBonds():
        bond.SetBondType(Chem.BondType.SINGLE)
    return found


TEMPLATE = single_bonds()


def whole(atoms: Atoms) -> Atoms:
    """The same box with each atom beside the one that it is bonded to, not at an image of it."""
    for start in range(0, len(atoms), ATOMS):
        for number in range(1, ATOMS):
            bonded = min(other.GetIdx() for other in TEMPLATE.GetAtomWithIdx(number).GetNeighbors())
            step = atoms.positions[start + number] - atoms.positions[start + bonded]
            atoms.positions[start + number] = atoms.positions[start + bonded] + find_mic(step, atoms.cell)[0]
    return atoms


def by_molecule(atoms: Atoms) -> list[int]:
    """Atoms of a record, which has them by element, molecule by molecule as in SMILES; none where one is broken."""
    atoms.arrays["molecule"] = np.zeros(len(atoms), dtype=int)
    graph = Chem.RWMol()
    for number in atoms.numbers.tolist():
        graph.AddAtom(Chem.Atom(number))
    for one, other in bonds(atoms).tolist():
        graph.AddBond(one, other, Chem.BondType.SINGLE)
    found = [atom for match in graph.GetSubstructMatches(TEMPLATE) for atom in match]
    return found if sorted(found) == list(range(len(atoms))) else []


def errors(found: Fitted, held: list[Labelled]) -> list[float]:
    """Root mean square errors over frames, in meV, Å and atoms."""
    squares = []
    for frame in held:
        energy, forces, virial = (part @ found.coefficients for part in found.model.design(frame.atoms, frame.species))
        count, wrong = len(frame.atoms), forces - frame.forces
        net = molecule_sums(wrong, np.arange(count) // ATOMS)
        per_atom = (energy - frame.energy) / count, (virial - frame.virial) / count
        squares.append([float(np.square(one).mean()) for one in (wrong, net, *per_atom)])
    return [1e3 * value for value in np.sqrt(np.mean(squares, axis=0)).tolist()]


def main() -> None:
    """Fit, rate, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=int, nargs="+", default=[20, 40, 104, 160])
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    every = frames()
    species = [next(atoms for atoms in every if len(atoms) == ATOMS)]
    boxes = [labelled(atoms, species) for atoms in every if len(atoms) > ATOMS]
    order = np.random.default_rng(given.seed).permutation(len(boxes)).tolist()
    held, rest = ([boxes[index] for index in part] for part in (order[:HELD_OUT], order[HELD_OUT:]))
    rows = []
    for count in given.labels:
        if count > len(rest):
            parser.error(f"{count} labels are asked for, and {len(rest)} are not held out; expected no more")
        for name, tried in (("on their own", APART), ("alike", STRENGTHS)):
            begun = time.process_time()
            found = fitted(molecules_of(species), rest[:count], CUTOFF_ANGSTROM, tried)
            cost = time.process_time() - begun
            values = [f"{value:.1f}" for value in errors(found, held)]
            rows.append([count, name, *values, f"{cost:.0f}", *(f"{value:g}" for value in found.strengths)])
            print(*rows[-1], flush=True)
    with Path(__file__).with_suffix(".csv").open("w", newline="") as sink:
        csv.writer(sink, lineterminator="\n").writerows([COLUMNS, *rows])


if __name__ == "__main__":
    main()
