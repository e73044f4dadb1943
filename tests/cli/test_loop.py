"""From labels to the next with real models and LAMMPS: calibrate, explore, select, calibrate on what was chosen."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import typer
from ase import Atoms
from typer.testing import CliRunner

from mlpwf.config import Explore, Select
from mlpwf.explore.command import explore
from mlpwf.files import read_json, write_json
from mlpwf.potentials.calibration import POOLED
from mlpwf.select.command import select
from mlpwf.structures.frames import quantised, read_frames, write_frames
from mlpwf.train.command import app as train
from toy_water import DENSITY, SYSTEM, WATER, labelled, labelled_boxes, relaxed_box

STATE = f"500K_{DENSITY:g}"
BUDGET = 8


def run(command, *words: object) -> None:
    app = command
    if not isinstance(command, typer.Typer):
        app = typer.Typer()
        app.command()(command)
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output


def given(flag: str, paths: list[Path]) -> list[object]:
    return [word for path in paths for word in (flag, path)]


def labels(frames: list[Atoms], state: str) -> list[Atoms]:
    found = [labelled(quantised(atoms)) for atoms in frames]
    for atoms in found:
        atoms.info = {"kind": "bulk", "state": state}
        atoms.arrays["molecule"] = np.repeat(np.arange(8), 3)
    return found


@pytest.mark.engine
def test_a_cycle_learns_what_its_deviations_were_worth(tmp_path: Path, water_models: list[Path]) -> None:
    rng = np.random.default_rng(4)
    write_frames(tmp_path / "start.extxyz", labels(labelled_boxes(3, 2, 400, rng), "start"))
    write_frames(tmp_path / "test.extxyz", labels(labelled_boxes(6, 1, 400, rng), "test"))
    boxes = [relaxed_box(8, rng) for _ in range(2)]
    for box in boxes:
        box.info = {"kind": "bulk", "state": "start"}
    write_frames(tmp_path / "bulk.extxyz", [quantised(box) for box in boxes])
    write_frames(tmp_path / "molecules.extxyz", [WATER])
    walkers = Explore(temperatures_kelvin=[500], walkers=2, steps=240, steps_between_frames=20)
    # The few labels are of boxes at rest, whose molecules meet less closely than those of any walker.
    wanted = Select(budget=BUDGET, target_error_mev_angstrom=20, baselines=["random"], contact_margin_angstrom=None)
    for name, section in (("explore", walkers), ("select", wanted)):
        write_json(tmp_path / f"{name}.json", {**section.model_dump(mode="json"), "seed": 1})
    write_json(tmp_path / "system.json", SYSTEM | {"seed": 1})
    write_json(tmp_path / "site.json", {"seed": 1})
    known = ["--test", tmp_path / "test.extxyz", "--train-labels", tmp_path / "start.extxyz"]
    run(train, "test", *given("--model", water_models), *known, "--out", tmp_path / "first" / "errors.json")
    files = ("config", "explore.json"), ("site", "site.json"), ("system", "system.json"), ("starts", "bulk.extxyz")
    words = [word for flag, name in files for word in (f"--{flag}", tmp_path / name)]
    words += [*given("--model", water_models), "--molecules", tmp_path / "molecules.extxyz", "--state", STATE]
    run(explore, *words, "--cycle", 0, "--out", tmp_path / "explored")

    chosen = ["--config", tmp_path / "select.json", "--explored", tmp_path / "explored" / "frames.extxyz"]
    chosen += ["--labels", tmp_path / "start.extxyz", "--descriptor-model", water_models[0]]
    chosen += ["--molecules", tmp_path / "molecules.extxyz", *given("--model", water_models)]
    first = ["--errors", tmp_path / "first" / "errors.json", "--calibration", tmp_path / "first" / "calibration.json"]
    run(select, *chosen, *first, "--cycle", 0, "--out", tmp_path / "select")
    status = read_json(tmp_path / "select" / "status.json")
    assert (status["selected"], status["trust"]["calibrated_on"]) == (BUDGET, "test set, this committee")
    assert all(0 < low < high for low, high in (status["trust"]["levels"][c][POOLED] for c in ("inter", "intra")))
    rows = list(csv.DictReader((tmp_path / "select" / "decisions.csv").open()))
    assert len(rows) == 24
    whole = [row for row in rows if row["verdict"] != "broken"]
    assert all(float(row["devi_intra"]) <= 1.5 * float(row["max_devi_f"]) for row in whole)

    fresh = labels(read_frames(tmp_path / "select" / "frames.extxyz"), STATE)
    write_frames(tmp_path / "new.extxyz", fresh)
    new = ["--new", tmp_path / "new.extxyz", *given("--previous", water_models)]
    new += ["--calibration", tmp_path / "first" / "calibration.json", "--out", tmp_path / "second" / "errors.json"]
    run(train, "test", *given("--model", water_models), *known, *new)
    calibration = read_json(tmp_path / "second" / "calibration.json")
    assert calibration["source"] == "new labels, previous committee"
    assert {channel: found["frames"] for channel, found in calibration["check"].items()} == {
        "inter": BUDGET, "intra": BUDGET,
    }  # fmt: skip
    assert 0.2 < calibration["check"]["intra"]["ratio"] < 5, "chosen frames differ, but not by units"
    second = ["--errors", tmp_path / "second" / "errors.json", "--calibration", tmp_path / "second/calibration.json"]
    second += ["--previous-errors", tmp_path / "first" / "errors.json", "--earlier", tmp_path / "select"]
    run(select, *chosen, *second, "--cycle", 1, "--out", tmp_path / "later")
    criteria = {one["name"]: one["met"] for one in read_json(tmp_path / "later" / "status.json")["criteria"]}
    assert criteria["test set flat"] is True, "the models are the same"
    assert criteria["new labels"] is not None
