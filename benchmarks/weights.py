"""What the weights of energy and virial in the loss are worth: the same labels, weights, steps and seeds.

    python benchmarks/weights.py results/toluene WORK --steps 5000 --seeds 0 1

takes the labels of a campaign's cycles and its test labels, trains one model a row, rates it on both, and writes
WORK/weights.csv. A weight is that at the first learning rate, where forces have 1000; all go to 1 as it falls, but
for `kept`, whose virial keeps its weight. What is done is kept.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from schedule import errors, train

from mlpwf.config import Train, load_section
from mlpwf.engines import deepmd
from mlpwf.frames import element_order, read_frames

MEASURES = {
    "force, meV/Å": (1e3, "force_rmse_ev_angstrom"),
    "between molecules": (1e3, "force_inter_rmse_ev_angstrom"),
    "energy, meV/atom": (1, "energy_rmse_mev_atom"),
    "virial, meV/atom": (1e3, "virial_rmse_ev_atom"),
}
COLUMNS = ["energy", "virial", "steps", "seed"]
COLUMNS += [f"{part}: {name}" for part in ("training", "test") for name in MEASURES]
VARIANTS = ((0.02, 0.02), (1, 1), (20, 20), (100, 0.02), (100, 100), (400, 400), (1000, 1000))


def main() -> None:
    """Train what is missing, rate, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campaign", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--cycles", type=int, default=3, help="whose labels are trained on")
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    options = parser.parse_args()
    cycles = [options.campaign / f"cycle/{cycle:03d}/label/labels.extxyz" for cycle in range(options.cycles)]
    frames = [atoms for path in cycles for atoms in read_frames(path)]
    test = read_frames(options.campaign / "test/label/labels.extxyz")
    section = load_section(Train, options.campaign / "config/train.json")[0].model_copy(update={"steps": options.steps})
    elements = element_order(frames)
    slots = deepmd.neighbour_slots(deepmd.most_neighbours(frames, elements, section.cutoff_angstrom))
    rows: list[list[str]] = []
    for seed in options.seeds:
        settings = deepmd.training_input(
            section, elements=elements, slots=slots, systems=[], seed=deepmd.seeds(seed, 0), continued=False
        )
        for kept, (energy, virial) in ((True, VARIANTS[0]), *((False, pair) for pair in VARIANTS)):
            loss = {"start_pref_e": energy, "start_pref_v": virial, "limit_pref_v": virial if kept else 1.0}
            settings["loss"] |= loss
            named = f"{virial:g}{' kept' if kept else ''}"
            folder = options.work / f"e{energy:g} v{named} {options.steps} {seed}"
            if not (folder / "done.json").exists():
                train(folder, settings, frames, elements)
            found = [errors(folder / "model.pb", part) for part in (frames, test)]
            values = [f"{factor * one[key]:.1f}" for one in found for factor, key in MEASURES.values()]
            rows.append([f"{energy:g}", named, str(options.steps), str(seed), *values])
            print(*rows[-1], flush=True)
    with (options.work / "weights.csv").open("w", newline="") as handle:
        csv.writer(handle, lineterminator="\n").writerows([COLUMNS, *rows])


if __name__ == "__main__":
    main()
