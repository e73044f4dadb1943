"""What a schedule of the learning rate is worth: the same labels, weights, steps and seeds; only the schedule differs.

    python benchmarks/schedule.py results/toluene WORK --steps 3000 10000 --seeds 1 2

takes the labels of a campaign's cycles and its test labels, trains one model a row, rates it on both, and writes
WORK/schedule.csv: `wsd` is what mlpwf asks for (high for half of the steps, then half a cosine), `exp` is what
DeePMD-kit's examples ask for (falling exponentially from the first step), `cosine` falls on half a cosine from the
first step. The weights of energy and virial are those mlpwf had then (weights.py measures them). What is done is kept.
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
from mlpwf.engines import deepmd
from mlpwf.files import read_json, write_json
from mlpwf.frames import element_order, read_frames
from mlpwf.training import errors_by_state

LOSS = {"start_pref_e": 0.02, "start_pref_v": 0.02, "limit_pref_v": 0.02}
COLUMNS = ["schedule", "steps", "seed", "training set: force, meV/Å", "test set: force, meV/Å"]
COLUMNS += ["between molecules", "inside", "energy, meV/atom", "CPU-s"]


def schedules(rates: dict[str, Any], steps: int) -> dict[str, dict[str, Any]]:
    """Schedules of DeePMD-kit between the same two rates; `rates` are those of mlpwf's plateau."""
    ends = {name: rates[name] for name in ("start_lr", "stop_lr")}
    return {
        "exp": {"type": "exp", **ends, "decay_steps": max(1, steps // 100)},
        "cosine": {"type": "cosine", **ends},
        "wsd": rates,
    }


def train(folder: Path, settings: dict[str, Any], frames: list[Atoms], elements: list[str]) -> None:
    """`dp train` and `dp freeze` on one core."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    settings["training"]["training_data"]["systems"] = deepmd.write_data(folder / "data", frames, elements)
    (folder / "input.json").write_text(json.dumps(settings))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with (folder / "train.out").open("w") as sink:
        for words in (["train", "input.json", "--skip-neighbor-stat"], ["freeze", "-c", ".", "-o", "model.pb"]):
            environment = {**os.environ, **deepmd.thread_settings(1)}
            subprocess.run(["dp", *words], cwd=folder, stdout=sink, stderr=sink, check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    write_json(folder / "done.json", {"cpu_s": cpu_s})


def errors(model: Path, frames: list[Atoms]) -> dict[str, float]:
    """Root-mean-square errors of a model."""
    known, molecules = [deepmd.labelled(atoms) for atoms in frames], [atoms.arrays["molecule"] for atoms in frames]
    masses, names = [atoms.get_masses() for atoms in frames], ["all"] * len(frames)
    found: dict[str, float] = errors_by_state(known, deepmd.predict(model, frames), masses, molecules, names)["overall"]
    return found


def main() -> None:
    """Train what is missing, rate, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campaign", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--cycles", type=int, default=2, help="whose labels are trained on")
    parser.add_argument("--steps", type=int, nargs="+", default=[3000, 10000])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    cycles = [options.campaign / f"cycle/{cycle:03d}/label/labels.extxyz" for cycle in range(options.cycles)]
    frames = [atoms for path in cycles for atoms in read_frames(path)]
    test = read_frames(options.campaign / "test/label/labels.extxyz")
    section, _ = load_section(Train, options.campaign / "config/train.json")
    elements = element_order(frames)
    slots = deepmd.neighbour_slots(deepmd.most_neighbours(frames, elements, section.cutoff_angstrom))
    rows: list[list[str]] = []
    for steps in options.steps:
        for seed in options.seeds:
            asked = section.model_copy(update={"steps": steps})
            settings = deepmd.training_input(
                asked, elements=elements, slots=slots, systems=[], seed=deepmd.seeds(seed, 0), continued=False
            )
            settings["loss"] |= LOSS
            for name, schedule in schedules(settings["learning_rate"], steps).items():
                folder = options.work / f"{name}_{steps}_{seed}"
                if not (folder / "done.json").exists():
                    train(folder, settings | {"learning_rate": schedule}, frames, elements)
                one, other = errors(folder / "model.pb", frames), errors(folder / "model.pb", test)
                forces = [f"{1e3 * one['force_rmse_ev_angstrom']:.0f}"]
                forces += [f"{1e3 * other[f'force_{kind}rmse_ev_angstrom']:.0f}" for kind in ("", "inter_", "intra_")]
                cpu_s = read_json(folder / "done.json")["cpu_s"]
                rows.append(
                    [name, str(steps), str(seed), *forces, f"{other['energy_rmse_mev_atom']:.1f}", f"{cpu_s:.0f}"]
                )
                print(*rows[-1], flush=True)
    with (options.work / "schedule.csv").open("w", newline="") as handle:
        csv.writer(handle, lineterminator="\n").writerows([COLUMNS, *rows])


if __name__ == "__main__":
    main()
