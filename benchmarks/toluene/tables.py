"""The tables of benchmarks/toluene from the files of its campaign.

    python benchmarks/toluene/tables.py results/toluene benchmarks/toluene

labels.csv          the label sets: what was asked for, won and set aside, CPU-seconds a label
learning_curve.csv  errors on the test set, and of the models before on each cycle's new labels
calibration.csv     whether the map from deviation to error held on the next cycle's labels
selection.csv       what the walkers gave, and what was chosen of it
cost.csv            CPU-seconds by stage
"""

from __future__ import annotations

import csv
import io
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlpwf.campaign.accounting import read_costs
from mlpwf.campaign.records import LabelSummary, read
from mlpwf.files import read_json, write_text

Row = Mapping[str, Any]
ERRORS = {
    "force_mev_angstrom": "force_rmse_ev_angstrom",
    "inter_mev_angstrom": "force_inter_rmse_ev_angstrom",
    "intra_mev_angstrom": "force_intra_rmse_ev_angstrom",
    "virial_mev_atom": "virial_rmse_ev_atom",
}


def cycles(campaign: Path) -> list[Path]:
    """Folders of the cycles, in order."""
    return sorted((campaign / "cycle").glob("[0-9][0-9][0-9]"))


def labels(campaign: Path) -> Iterator[Row]:
    """A row for each set whose labels are all there."""
    for folder in [campaign / "test", *cycles(campaign)]:
        if (path := folder / "label" / "summary.json").is_file():
            found = read(path, LabelSummary)
            rejected = [f"{count}x{reason}" for reason, count in sorted(found.rejected.items()) if count]
            yield {
                "set": folder.name,
                "asked": found.requested,
                "labels": found.accepted,
                "set_aside": " ".join(rejected) or "none",
                "cpu_s_a_label": found.label_cpu_s_mean,
            }


def errors_of(measures: Mapping[str, float], prefix: str) -> dict[str, str]:
    """Errors in meV/Å and meV/atom, columns named with a prefix."""
    named = {f"{prefix}{name}": f"{1e3 * measures[key]:.1f}" for name, key in ERRORS.items()}
    return {f"{prefix}energy_mev_atom": f"{measures['energy_rmse_mev_atom']:.2f}", **named}


def learning_curve(campaign: Path) -> Iterator[Row]:
    """A row a cycle: of the committee's mean on the test set, of the one before on new labels."""
    total = 0
    for folder in cycles(campaign):
        if not (folder / "train" / "errors.json").is_file():
            return
        total += read_json(folder / "label" / "summary.json")["accepted"]
        found = read_json(folder / "train" / "errors.json")
        row = {"cycle": int(folder.name), "labels": total, **errors_of(found["test"]["mean"]["overall"], "test_")}
        models = [1e3 * one["overall"]["force_rmse_ev_angstrom"] for one in found["test"]["models"]]
        row["test_force_of_models"] = " ".join(f"{value:.0f}" for value in models)
        row["train_force_mev_angstrom"] = f"{1e3 * found['train']['mean']['overall']['force_rmse_ev_angstrom']:.1f}"
        if found["new"]:
            row |= errors_of(found["new"]["mean"]["overall"], "new_")
        yield row


def calibration(campaign: Path) -> Iterator[Row]:
    """A row for each cycle and kind of force."""
    for folder in cycles(campaign):
        if (path := folder / "train" / "calibration.json").is_file():
            found = read_json(path)
            for channel in found["maps"]:
                checked = found["check"].get(channel, {})
                yield {"cycle": int(folder.name), "force": channel, "frames": found["frames"], **checked}


def selection(campaign: Path) -> Iterator[Row]:
    """A row a cycle: walkers by outcome, their steps, frames by verdict, frames chosen, the verdict on the campaign."""
    for folder in cycles(campaign):
        if not (path := folder / "select" / "status.json").is_file():
            return
        found = read_json(path)
        walkers = [one for path in sorted(folder.glob("explore/*/walkers.json")) for one in read_json(path)]
        outcomes = Counter(one["outcome"] for one in walkers)
        yield {
            "cycle": int(folder.name),
            "walkers": " ".join(f"{count}x{outcome}" for outcome, count in sorted(outcomes.items())),
            "steps": sum(one["steps"] for one in walkers),
            **{name: found[name] for name in ("accurate", "candidate", "failed", "broken", "selected", "verdict")},
        }


def cost(campaign: Path) -> Iterator[Row]:
    """A row a stage."""
    spent: dict[str, float] = defaultdict(float)
    for entry in read_costs(campaign):
        spent[entry.stage] += entry.cpu_s
    for stage, seconds in sorted(spent.items()):
        yield {"stage": stage, "cpu_s": f"{seconds:.0f}"}


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Rows as CSV, columns in the order they come up; no file for no rows."""
    if not rows:
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def main(campaign: Path, out: Path) -> None:
    """Write every table there are numbers for."""
    for table in (labels, learning_curve, calibration, selection, cost):
        write_table(out / f"{table.__name__}.csv", list(table(campaign)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
