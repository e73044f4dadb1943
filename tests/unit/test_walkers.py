"""What walkers leave: whole frames, rows with their number, and keys that change with anything they depend on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from mlpwf.campaign import paths, records
from mlpwf.campaign.states import ExploreState
from mlpwf.config import Explore
from mlpwf.errors import DataError
from mlpwf.explore.walkers import (
    Exploration,
    FinishedWalker,
    collect,
    complete_frames,
    counted,
    job_key,
    start_boxes,
    whole_lines,
)
from mlpwf.md.lammps import WalkerJob
from mlpwf.structures.frames import write_frames

BOX = Atoms("OHH", np.eye(3), cell=[5.0] * 3, pbc=True)


def exploration(out: Path) -> Exploration:
    return Exploration(Explore(), ExploreState(300.0), "300K_0.9", 2, 1, [], out / "molecules", paths.Explore(out))


def ended(walker: int, outcome: str) -> FinishedWalker:
    return FinishedWalker(
        walker=walker, outcome=outcome, reason="", steps=10, wanted_steps=20, seed=walker, key=""
    )  # fmt: skip


def test_a_frame_that_a_crash_cut_short_is_removed(tmp_path: Path) -> None:
    file = tmp_path / "frames.extxyz"
    assert complete_frames(file) == []
    write_frames(file, [BOX, BOX])
    whole = file.read_text()
    for cut in (3, len(whole) // 2 + 2, len(whole) - 1):
        file.write_text(whole[:cut])
        count = 0 if cut == 3 else 1
        assert len(complete_frames(file)) == count
        assert file.read_text() == whole[: len(whole) // 2] * count
    assert whole_lines(whole.splitlines(keepends=True)) == 10
    assert whole_lines([]) == 0


def test_frames_and_rows_of_all_walkers_are_put_together(tmp_path: Path) -> None:
    one = exploration(tmp_path)
    write_frames(one.walker(0) / "frames.extxyz", [BOX, BOX])
    (one.walker(0) / "deviations.csv").write_text("step,max_devi_f\n0,0.1\n5,0.2\n")
    walkers = collect(one, [ended(0, "finished"), ended(1, "crashed")])
    assert [(walker.frames, walker.cycle, walker.seed) for walker in walkers] == [(2, 2, 0), (0, 2, 1)]
    assert (tmp_path / "deviations.csv").read_text().splitlines()[1:] == ["0,0,0.1", "0,5,0.2"]
    records.write(one.out.walkers, walkers)
    assert records.read(one.out.walkers, list[records.Walker]) == walkers
    assert counted(walkers) == "1 finished, 1 crashed"


def test_a_start_is_a_box_of_liquid(tmp_path: Path) -> None:
    single = BOX.copy()
    single.info["kind"] = "single"
    write_frames(tmp_path / "start.extxyz", [single, BOX])
    assert len(start_boxes(tmp_path / "start.extxyz")) == 1
    write_frames(tmp_path / "start.extxyz", [single])
    with pytest.raises(DataError, match="no frame of kind 'bulk'"):
        start_boxes(tmp_path / "start.extxyz")


def test_a_walker_is_another_when_anything_it_depends_on_is(tmp_path: Path) -> None:
    for name in ("box", "references"):
        (tmp_path / name).write_text(name)
    job = WalkerJob(
        engine="deepmd", models=[["a"]], box=str(tmp_path / "box"), references=str(tmp_path / "references"), seed=1,
        temperature_kelvin=300.0, pressure_bar=None, timestep_fs=0.5, steps=20, steps_between_frames=5,
        blow_up_ev_angstrom=5.0, state="300K", walker=0,
    )  # fmt: skip
    key = job_key(job, ["ab"])
    assert key == job_key(dataclasses.replace(job, models=[["moved"]]), ["ab"]), "models count by their content"
    assert key != job_key(job, ["cd"])
    assert key != job_key(dataclasses.replace(job, steps=25), ["ab"])
    (tmp_path / "box").write_text("another")
    assert key != job_key(job, ["ab"])
