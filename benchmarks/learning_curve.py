"""Errors of the engines by number of labels, on the k-converged labels of toluene.

    python benchmarks/learning_curve.py --engines molecular molecular_deepmd --labels 40 104 --seeds 1

The labels are those of benchmarks/toluene/labels_kpoints.jsonl.gz: boxes of two and four molecules, 300 to 700 K. Fifty
boxes are held out by the seed, the same for all engines; the others are drawn in one order, so that each set of labels
holds the smaller ones. Isolated molecules are added to every set. Each model is trained by the engine's own code, on
one core. A model that is there (--work) is not trained again.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from pathlib import Path

import numpy as np
from ase import Atoms
from molecular import ATOMS, HELD_OUT, frames

from mlpwf.campaign.accounting import cpu_seconds
from mlpwf.config import Site, Train
from mlpwf.files import write_json
from mlpwf.potentials.base import Role, TrainingJob
from mlpwf.potentials.metrics import errors_by_state
from mlpwf.potentials.registry import engine
from mlpwf.structures.properties import of_frame

HERE = Path(__file__).parent
NETWORK = {"embedding_neurons": [16, 32, 64], "fitting_neurons": [64, 64, 64], "learning_rate": 5e-3}
SECTIONS: dict[str, dict[str, object]] = {
    "molecular": {"engine": "molecular"},
    "deepmd": {**NETWORK, "steps": 20_000},
    "molecular_deepmd": {**NETWORK, "baseline": "molecular", "steps": 10_000},
    "mace": {"engine": "mace", "cutoff_angstrom": 4.5, "steps": 3_000, "learning_rate": 0.01},
    "molecular_mace": {
        "engine": "mace", "baseline": "molecular", "cutoff_angstrom": 4.5, "steps": 2_000, "learning_rate": 0.01,
    },
}  # fmt: skip
COLUMNS = (
    "engine", "labels", "seed", "force, meV/Å", "net force, meV/Å", "energy, meV/atom", "virial, meV/atom",
    "CPU-s of the training", "steps",
)  # fmt: skip


def species() -> list[Atoms]:
    """One toluene."""
    one = next(atoms for atoms in frames() if len(atoms) == ATOMS).copy()
    one.info = {"species": "toluene"}
    return [one]


def sets(seed: int) -> tuple[list[Atoms], list[Atoms], list[Atoms]]:
    """Held-out boxes, the boxes that are drawn for training in their order, and isolated molecules."""
    every = frames()
    boxes = [atoms for atoms in every if len(atoms) > ATOMS]
    order = np.random.default_rng(seed).permutation(len(boxes)).tolist()
    held, rest = ([boxes[index] for index in part] for part in (order[:HELD_OUT], order[HELD_OUT:]))
    return held, rest, [atoms for atoms in every if len(atoms) == ATOMS]


def steps_of(section: Train) -> str:
    """Training steps; none of a force field that is fitted."""
    return "" if section.engine == "molecular" else str(section.steps)


def row(name: str, count: int, seed: int, work: Path, steps: int | None) -> list[object]:
    """Train and rate one model."""
    held, rest, single = sets(seed)
    section = Train.model_validate({**SECTIONS[name], **({"steps": steps} if steps else {})})
    folder, by = work / f"{name}-{count}-{seed}-{steps_of(section) or 0}", engine(section.potential)
    if not (folder / "cost.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        before = sum(cpu_seconds())
        job = TrainingJob(folder, [*rest[:count], *single], section, Site(), seed, 0, molecules=species())
        begun = time.time()
        by.train(job, lambda step, steps, error: print(f"  {step}/{steps} {error:.3f} eV/Å", flush=True))
        write_json(folder / "cost.json", {"cpu_s": sum(cpu_seconds()) - before, "wall_s": time.time() - begun})
    potential = by.open([folder / by.files[Role.DEPLOYED]], species())
    found = errors_by_state(held, [of_frame(atoms) for atoms in held], potential.predict(held), [""] * len(held))
    errors = found.overall
    values = [
        1e3 * errors.force_rmse_ev_angstrom, 1e3 * (errors.force_inter_rmse_ev_angstrom or np.nan),
        errors.energy_rmse_mev_atom, 1e3 * errors.virial_rmse_ev_atom,
    ]  # fmt: skip
    cost = json.loads((folder / "cost.json").read_text())["cpu_s"]
    return [name, count, seed, *(f"{value:.1f}" for value in values), f"{cost:.0f}", steps_of(section)]


def main() -> None:
    """Train, rate, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", nargs="+", default=list(SECTIONS), choices=list(SECTIONS))
    parser.add_argument("--labels", type=int, nargs="+", default=[20, 40, 104, 159])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--steps", type=int, help="training steps, other than usual here")
    parser.add_argument("--work", type=Path, default=HERE / "learning_curve.work")
    parser.add_argument("--out", type=Path, default=HERE / "learning_curve.csv")
    given = parser.parse_args()
    for seed in given.seeds:
        for count in given.labels:
            for name in given.engines:
                found = row(name, count, seed, given.work, given.steps)
                print(*found, flush=True)
                known = list(csv.reader(given.out.open())) if given.out.is_file() else []
                kept = [one for one in known[1:] if [*one[:3], one[8]] != list(map(str, [*found[:3], found[8]]))]
                with given.out.open("w", newline="") as sink:
                    csv.writer(sink, lineterminator="\n").writerows([COLUMNS, *kept, found])


if __name__ == "__main__":
    main()
