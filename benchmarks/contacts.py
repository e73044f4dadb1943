"""Are frames worse after molecules came closer than in any label? Labels for some before, during and after.

    python benchmarks/contacts.py results/water 1 WORK

takes the frames that a cycle of a campaign explored, sorts them by `select.contact_margin_angstrom` and that cycle's
training labels, labels `--frames` of each kind as the campaign does (kept in WORK), and prints the errors of the
model that moved the atoms: root mean squares in meV/Å with standard errors from the frames, and the median of the
committee's largest force deviation.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
from ase import Atoms

from mlpwf.campaign.resolve import cycle_section
from mlpwf.campaign.stopping import root_with_error
from mlpwf.config import Label, Select, Site, load_section
from mlpwf.label.labeller import Labeller
from mlpwf.label.store import canonical, labelled
from mlpwf.potentials.deepmd.program import thread_settings
from mlpwf.potentials.record import open_model
from mlpwf.structures.frames import element_order, read_frames
from mlpwf.structures.molecules import closest_contacts, contacts, molecule_sums

KINDS = ("before", "too close", "after")


def sorted_by_contact(campaign: Path, cycle: int) -> dict[str, list[Atoms]]:
    """Explored frames from before their walker first came too close, too close, and later but not too close."""
    labels = (campaign / "cycle" / f"{k:03d}" / "label" / "labels.extxyz" for k in range(cycle + 1))
    known = closest_contacts(atoms for path in labels for atoms in read_frames(path))
    settings: Select = cycle_section(campaign / "config", "select", f"{cycle:03d}")
    margin = settings.contact_margin_angstrom or 0.0
    found: dict[str, list[Atoms]] = {kind: [] for kind in KINDS}
    for path in sorted((campaign / "cycle" / f"{cycle:03d}" / "explore").glob("*/frames.extxyz")):
        crossed: set[int] = set()
        for atoms in sorted(read_frames(path), key=lambda one: int(one.info["step"])):
            walker = int(atoms.info["walker"])
            too_close = any(known[pair] - r > margin for pair, r in contacts(atoms).items() if pair in known)
            found["too close" if too_close else "after" if walker in crossed else "before"].append(atoms)
            if too_close:
                crossed.add(walker)
    return found


def with_error(squares: list[float]) -> str:
    """Root mean square and its standard error, in meV/Å, from mean squares of frames in (eV/Å)²."""
    return " ± ".join(f"{1e3 * value:.0f}" for value in root_with_error(squares))


def main() -> None:
    """Label frames of each kind and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campaign", type=Path)
    parser.add_argument("cycle", type=int)
    parser.add_argument("work", type=Path)
    parser.add_argument("--frames", type=int, default=20)
    arguments = parser.parse_args()
    os.environ.update(thread_settings(1))
    work, campaign = arguments.work.absolute(), arguments.campaign
    (work / "scratch").mkdir(parents=True, exist_ok=True)
    section = load_section(Label, campaign / "config" / "label.json")[0]
    elements = element_order(read_frames(campaign / "build" / "molecules.extxyz"))
    labeller = Labeller(section, Site(label_store=str(work / "store")), work / "scratch", elements)
    model = campaign / "cycle" / f"{arguments.cycle:03d}" / "train" / "model" / "0" / "compressed.pb"
    rng = np.random.default_rng(1)
    for kind, frames in sorted_by_contact(campaign, arguments.cycle).items():
        chosen = [frames[index] for index in rng.permutation(len(frames))[: arguments.frames]]
        outcomes = [(atoms, labeller.label(atoms)) for atoms in chosen]
        done = [labelled(a, canonical(a), labeller.store.get(o.key)) for a, o in outcomes if o.accepted]
        if len(done) < 2:
            print(f"{kind}: {len(frames)} frames, {len(done)} labelled")
            continue
        errors = [p.forces - a.get_forces() for p, a in zip(open_model(model).predict(done), done, strict=True)]
        atom = [float(np.mean(error**2)) for error in errors]
        nets = [molecule_sums(error, a.arrays["molecule"]) for error, a in zip(errors, done, strict=True)]
        net = [float(np.mean(one**2)) for one in nets]
        deviation = 1e3 * np.median([a.info["max_devi_f"] for a, o in outcomes if o.accepted])
        print(
            f"{kind}: {len(frames)} frames, {len(done)} labelled; force {with_error(atom)}, between molecules "
            f"{with_error(net)}, largest deviation {deviation:.0f} meV/Å",
            flush=True,
        )


if __name__ == "__main__":
    main()
