"""What is it worth to train on frames of a cheap method before the first label?

    python benchmarks/pretraining.py results/toluene WORK

takes boxes, first labels and test labels of a campaign (of benchmarks/toluene/campaign.tar.xz, unpacked, if
nothing else is at hand) and rates on the test labels: a model of the labels alone, trained as long as both
stages of the other take together, or only for the second; a model of GFN1-xTB frames alone; and that one
trained on the labels. Prints the table and writes WORK/pretraining.csv; what is done is kept.
"""

from __future__ import annotations

import argparse
import csv
import shutil
from pathlib import Path

from ase import Atoms

from mlpwf import building
from mlpwf.commands.train import train_model
from mlpwf.config import Site, Train
from mlpwf.engines.deepmd import labelled, predict
from mlpwf.files import read_json, write_json
from mlpwf.frames import read_frames, write_frames
from mlpwf.training import errors_by_state

SEED = 1
SAMPLER = building.Sampler(steps_between_frames=5, rattle_angstrom=0.05)
KELVIN = (300, 600)


def sampled(boxes: list[Atoms], number: int) -> list[Atoms]:
    """Frames of GFN1-xTB dynamics from each box at each temperature, every second distorted, with its labels."""
    grid = [(kelvin, box) for kelvin in KELVIN for box in boxes]
    frames: list[Atoms] = []
    for index, ((kelvin, box), share) in enumerate(zip(grid, building.even_shares(number, len(grid)), strict=True)):
        run = building.Run(f"run {index}", "bulk", f"{kelvin}K", box, kelvin, share, (9, 77, index))
        done = [building.self_labelled(atoms, SAMPLER.method) for atoms in building.sample(run, SAMPLER)]
        frames += [atoms for atoms in done if atoms is not None]
        print(f"{len(frames)} of {number} frames", flush=True)
    return frames


def main() -> None:
    """Train what is missing, rate, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campaign", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--frames", type=int, default=240)
    parser.add_argument("--steps", type=int, default=2500, help="on labels")
    parser.add_argument("--steps-pretrained", type=int, default=8000)
    options = parser.parse_args()
    campaign, work = options.campaign, options.work
    work.mkdir(parents=True, exist_ok=True)
    labels, test = campaign / "cycle/000/label/labels.extxyz", read_frames(campaign / "test/label/labels.extxyz")
    frames = work / "frames.extxyz"
    if not frames.exists():
        write_frames(frames, sampled(read_frames(campaign / "build/bulk.extxyz"), options.frames))
    write_json(work / "site.json", Site(dp=[shutil.which("dp") or "dp"]).model_dump(mode="json") | {"seed": SEED})

    def train(name: str, steps: int, files: Path, start: Path | None = None, like: Path | None = None) -> Path:
        section = read_json(campaign / "config/train.json")
        section = {key: section[key] for key in section if key in Train.model_fields}
        section |= {"steps": steps, "steps_pretrained": steps}
        write_json(work / f"{name}.json", section | {"seed": SEED})
        train_model(
            config=work / f"{name}.json", site=work / "site.json", labels=[files], index=0, out=work / name,
            start=start, like=like, threads=1,
        )  # fmt: skip
        return work / name

    before = train("pretrained", options.steps_pretrained, frames, like=labels)
    models = {
        f"labels, {options.steps} steps": train("labels", options.steps, labels),
        f"labels, {options.steps + options.steps_pretrained} steps": train(
            "labels_longer", options.steps + options.steps_pretrained, labels
        ),
        f"GFN1-xTB, {options.steps_pretrained} steps": before,
        f"GFN1-xTB, {options.steps_pretrained} steps, then labels, {options.steps}": train(
            "both", options.steps, labels, start=before
        ),
    }
    known = [labelled(atoms) for atoms in test]
    masses, molecules = [atoms.get_masses() for atoms in test], [atoms.arrays["molecule"] for atoms in test]
    rows = [["trained on", "force, meV/Å", "between molecules, meV/Å", "inside, meV/Å", "energy, meV/atom"]]
    for name, folder in models.items():
        found = errors_by_state(known, predict(folder / "model.pb", test), masses, molecules, ["test"] * len(test))
        one = found["overall"]
        forces = [f"{1e3 * one[f'force_{kind}rmse_ev_angstrom']:.0f}" for kind in ("", "inter_", "intra_")]
        rows.append([name, *forces, f"{one['energy_rmse_mev_atom']:.1f}"])
        print(rows[-1])
    with (work / "pretraining.csv").open("w", newline="") as handle:
        csv.writer(handle, lineterminator="\n").writerows(rows)


if __name__ == "__main__":
    main()
