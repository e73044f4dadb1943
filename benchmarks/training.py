"""What a training makes of the same labels: schedules of the learning rate, and weights in the loss.

    python benchmarks/training.py results/toluene WORK --trainings wsd/100/100/1000/0.005 exp/0.02/0.02k/0/0.01 \\
        --cycles 1 2 3 --steps 10000 --seeds 1
    python benchmarks/training.py results/toluene WORK

takes the labels of a campaign's first cycles and its test labels, trains one model a row that is missing in WORK,
rates all there are, and writes WORK/training.csv. A training is SCHEDULE/ENERGY/VIRIAL/MOLECULE/RATE: wsd is what
mlpwf asks for (high for half of the steps, then half a cosine), exp what DeePMD-kit's examples ask for (falling
exponentially from the first step), cosine falls on half a cosine from the first step; the weights are those at the
first learning rate, RATE, where forces have 1000, and go to 1 as it falls, but that a virial's with a `k` is kept.
mlpwf asked for exp/0.02/0.02k/0/0.01 once, then for wsd/100/100/0/0.01.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import shutil
import subprocess
from pathlib import Path
from typing import Any

from ase import Atoms

from mlpwf.config import Train, load_section
from mlpwf.files import read_json, write_json
from mlpwf.potentials.deepmd.data import most_neighbours, neighbour_slots, rigid_coordinates, write_data
from mlpwf.potentials.deepmd.program import thread_settings
from mlpwf.potentials.deepmd.settings import seeds, training_input
from mlpwf.potentials.metrics import error_measures
from mlpwf.potentials.record import open_model
from mlpwf.structures.frames import element_order, read_frames
from mlpwf.structures.properties import of_frame

KEYS = ["schedule", "energy", "virial", "molecule", "rate", "labels", "steps", "seed"]
MEASURES = {
    "force, meV/Å": (1e3, "force_rmse_ev_angstrom"),
    "between molecules": (1e3, "force_inter_rmse_ev_angstrom"),
    "inside": (1e3, "force_intra_rmse_ev_angstrom"),
    "energy, meV/atom": (1, "energy_rmse_mev_atom"),
    "virial, meV/atom": (1e3, "virial_rmse_ev_atom"),
}


def patched(settings: dict[str, Any], training: str) -> dict[str, Any]:
    """mlpwf's input with the schedule, the first rate and the weights of `training`, but that of molecules."""
    schedule, energy, virial, _, rate = training.split("/")
    steps = settings["training"]["numb_steps"]
    ends = {"start_lr": float(rate), "stop_lr": settings["learning_rate"]["stop_lr"]}
    kept, weight = virial.endswith("k"), float(virial.rstrip("k"))
    loss = {"start_pref_e": float(energy), "start_pref_v": weight, "limit_pref_v": weight if kept else 1.0}
    return settings | {
        "loss": settings["loss"] | loss,
        "learning_rate": {
            "exp": {"type": "exp", **ends, "decay_steps": max(1, steps // 100)},
            "cosine": {"type": "cosine", **ends},
            "wsd": {"type": "wsd", **ends, "decay_phase_ratio": 0.5, "decay_type": "cosine"},
        }[schedule],
    }


def train(folder: Path, settings: dict[str, Any], frames: list[Atoms], elements: list[str]) -> None:
    """`dp train` and `dp freeze` on one core."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    coordinates = settings["loss"].get("numb_generalized_coord", 0)
    systems = write_data(folder / "data", frames, elements, coordinates)
    settings["training"]["training_data"]["systems"] = systems
    (folder / "input.json").write_text(json.dumps(settings))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with (folder / "train.out").open("w") as sink:
        for words in (["train", "input.json", "--skip-neighbor-stat"], ["freeze", "-c", ".", "-o", "model.pb"]):
            environment = {**os.environ, **thread_settings(1)}
            subprocess.run(["dp", *words], cwd=folder, stdout=sink, stderr=sink, check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    shutil.rmtree(folder / "data")
    for path in [*folder.glob("model.ckpt*"), folder / "checkpoint"]:
        path.unlink(missing_ok=True)
    write_json(folder / "done.json", {"cpu_s": cpu_s})


def errors(model: Path, frames: list[Atoms]) -> list[str]:
    """Root-mean-square errors of a model, as `MEASURES` names them."""
    found = error_measures(frames, [of_frame(atoms) for atoms in frames], open_model(model).predict(frames))
    return [f"{factor * getattr(found, key):.1f}" for factor, key in MEASURES.values()]


def main() -> None:
    """Train what is missing, rate all there is, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campaign", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--trainings", nargs="+", default=[])
    parser.add_argument("--cycles", type=int, nargs="+", default=[3], help="how many cycles' labels to train on")
    parser.add_argument("--steps", type=int, nargs="+", default=[5000])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    options = parser.parse_args()
    section, _ = load_section(Train, options.campaign / "config/train.json")
    test = read_frames(options.campaign / "test/label/labels.extxyz")
    cycles = [read_frames(path) for path in sorted(options.campaign.glob("cycle/*/label/labels.extxyz"))]
    sets = {sum(map(len, cycles[:n])): [atoms for part in cycles[:n] for atoms in part] for n in options.cycles}
    elements = element_order(test)
    for labels, frames in sets.items():
        slots = neighbour_slots(most_neighbours(frames, elements, section.cutoff_angstrom))
        for steps, seed in [(steps, seed) for steps in options.steps for seed in options.seeds]:
            for training in options.trainings:
                asked = section.model_copy(update={"steps": steps, "molecule_weight": float(training.split("/")[3])})
                settings = training_input(
                    asked, elements=elements, slots=slots, systems=[], seed=seeds(seed, 0), continued=False,
                    coordinates=rigid_coordinates(asked, frames),
                )  # fmt: skip
                folder = options.work / "_".join([*training.split("/"), str(labels), str(steps), str(seed)])
                if not (folder / "done.json").exists():
                    train(folder, patched(settings, training), frames, elements)
    everything = [atoms for part in cycles for atoms in part]
    rows = []
    for done in options.work.glob("*/done.json"):
        key = done.parent.name.split("_")
        frames, model = everything[: int(key[5])], done.parent / "model.pb"
        rows.append([*key, *errors(model, frames), *errors(model, test), f"{read_json(done)['cpu_s']:.0f}"])
        print(*rows[-1], flush=True)
    rows.sort(key=lambda one: (int(one[5]), int(one[6]), one[0], float(one[1]), one[2], float(one[3]), *one[4:]))
    with (options.work / "training.csv").open("w", newline="") as handle:
        columns = [*KEYS, *(f"{part}: {name}" for part in ("training", "test") for name in MEASURES), "CPU-s"]
        csv.writer(handle, lineterminator="\n").writerows([columns, *rows])


if __name__ == "__main__":
    main()
