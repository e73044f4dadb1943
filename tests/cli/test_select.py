"""`mlpwf select` on explored frames; descriptors of a stand-in, so that no model is needed."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import typer
from ase import Atoms
from ase.build import molecule
from typer.testing import CliRunner

from mlpwf.commands.select import COLUMNS, select
from mlpwf.config import Select
from mlpwf.engines import deepmd
from mlpwf.errors import DataError
from mlpwf.files import read_json, write_json
from mlpwf.frames import read_frames, write_frames

app = typer.Typer()
app.command("select")(select)

SETTINGS = {"budget": 3, "maximum_cycles": 4, "converged_candidate_fraction": 0.1}


def box(seed: int, stretch: float = 1.0) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms = Atoms(cell=[6.0] * 3, pbc=True)
    for place in range(2):
        one = molecule("H2O")
        one.euler_rotate(*rng.uniform(0, 360, 3))
        one.positions += np.array([1.5, 1.5, 1.5 + 3 * place])
        atoms += one
    atoms.positions[1] = atoms.positions[0] + stretch * (atoms.positions[1] - atoms.positions[0])
    atoms.arrays["molecule"] = np.repeat([0, 1], 3)
    atoms.info |= {"kind": "bulk", "state": "start"}
    return atoms


def explored(seed: int, state: str, deviation: float | None, stretch: float = 1.0) -> Atoms:
    atoms = box(seed, stretch)
    atoms.info |= {"state": state, "walker": seed // 10, "step": 20 * (seed % 10)}
    if deviation is not None:
        atoms.info["max_devi_f"] = deviation
        atoms.info["max_devi_v"] = 0.01
    return atoms


class Campaign:
    def __init__(self, root: Path) -> None:
        self.root, self.out = root, root / "select"
        self.sources: list[Path] = []
        write_json(root / "select.json", {**Select.model_validate(SETTINGS).model_dump(mode="json"), "seed": 1})
        template = molecule("H2O")
        template.arrays["molecule"] = np.zeros(3, int)
        write_frames(root / "molecules.extxyz", [template])
        write_frames(root / "labels.extxyz", [box(900), box(901)])
        (root / "model.pb").write_bytes(b"stand-in")
        self.rate(None)

    def rate(self, error: float | None) -> None:
        new = None if error is None else {"first": {"overall": {"force_rmse_ev_angstrom": error}}}
        write_json(self.root / "errors.json", {"new": new})

    def explore(self, **states: list[Atoms]) -> None:
        self.sources = [self.root / "explore" / name / "frames.extxyz" for name in states]
        for source, frames in zip(self.sources, states.values(), strict=True):
            write_frames(source, frames)

    def select(self, cycle: int = 0) -> tuple[dict, list[dict[str, str]], list[Atoms]]:
        words = ["--cycle", cycle, "--out", self.out, "--config", self.root / "select.json"]
        for source in self.sources:
            words += ["--explored", source]
        words += ["--labels", self.root / "labels.extxyz", "--descriptor-model", self.root / "model.pb"]
        words += ["--errors", self.root / "errors.json", "--molecules", self.root / "molecules.extxyz"]
        CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
        rows = list(csv.DictReader((self.out / "decisions.csv").open()))
        return read_json(self.out / "status.json"), rows, read_frames(self.out / "frames.extxyz")


@pytest.fixture
def campaign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Campaign:
    def distances(model: Path, frames: list[Atoms], elements: list[str]) -> np.ndarray:
        return np.array([np.sort(atoms.get_all_distances(mic=True), axis=None)[6:] for atoms in frames])

    monkeypatch.setattr(deepmd, "descriptors", distances)
    return Campaign(tmp_path)


def mixed() -> dict[str, list[Atoms]]:
    cold = [explored(seed, "cold", 0.05) for seed in range(4)] + [explored(seed, "cold", 0.3) for seed in range(4, 9)]
    hot = [
        explored(11, "hot", 0.9),
        explored(12, "hot", math.nan),
        explored(13, "hot", math.inf),
        explored(14, "hot", None),
        explored(15, "hot", 0.3, stretch=2.5),
        explored(16, "hot", 0.3),
    ]
    return {"cold": cold, "hot": hot}


def test_every_frame_gets_a_decision(campaign: Campaign) -> None:
    campaign.explore(**mixed())
    status, rows, frames = campaign.select()
    assert list(rows[0]) == COLUMNS
    assert len(rows) == status["explored"] == 15
    found = {key: status[key] for key in ("accurate", "candidate", "failed", "broken", "selected", "verdict")}
    expected = {"accurate": 4, "candidate": 6, "failed": 4, "broken": 1, "selected": 3, "verdict": "continue"}
    assert found == expected
    assert status["candidate_fraction"] == pytest.approx(11 / 15)
    assert status["new_label_error"] is None
    assert {row["verdict"] for row in rows if row["max_devi_f"] in ("nan", "inf")} == {"failed"}
    assert [row["verdict"] for row in rows if row["selected"] == "1"] == ["candidate"] * 3
    assert all(row["why"] for row in rows)
    assert [atoms.info["cycle"] for atoms in frames] == [0, 0, 0]
    chosen = [(row["state"], int(row["walker"]), int(row["step"])) for row in rows if row["selected"] == "1"]
    assert [(atoms.info["state"], atoms.info["walker"], atoms.info["step"]) for atoms in frames] == chosen
    assert all("molecule" in atoms.arrays for atoms in frames)


def test_order_of_files_and_frames_does_not_matter(campaign: Campaign) -> None:
    states = mixed()
    states["hot"] += [explored(seed, "hot", 0.3) for seed in (31, 32)]
    twin = explored(4, "hot", 0.3)  # the same geometry as a cold frame
    campaign.explore(**{**states, "hot": [*states["hot"], twin]})
    _, rows, _ = campaign.select()
    bytes_before = [(campaign.out / name).read_bytes() for name in ("decisions.csv", "frames.extxyz")]
    campaign.select()
    assert [(campaign.out / name).read_bytes() for name in ("decisions.csv", "frames.extxyz")] == bytes_before
    campaign.explore(hot=[twin, *states["hot"][::-1]], cold=states["cold"][::-1])
    _, shuffled, _ = campaign.select()
    assert shuffled == rows
    assert [(campaign.out / name).read_bytes() for name in ("decisions.csv", "frames.extxyz")] == bytes_before


def test_training_frames_are_not_bought_again(campaign: Campaign) -> None:
    campaign.explore(cold=[explored(900, "cold", 0.3), explored(5, "cold", 0.3)])
    status, rows, _ = campaign.select()
    assert status["selected"] == 1
    assert [row["why"] for row in rows if row["selected"] == "0"] == ["duplicate of a training frame"]


def test_converged_buys_nothing(campaign: Campaign) -> None:
    campaign.explore(cold=[explored(seed, "cold", 0.05) for seed in range(9)] + [explored(9, "cold", 0.2)])
    campaign.rate(0.05)
    status, rows, frames = campaign.select(cycle=1)
    assert (status["verdict"], status["selected"], len(frames)) == ("converged", 0, 0)
    assert rows[9]["why"] == "the cycles have ended: converged"
    assert status["new_label_error"] == 0.05
    assert "0.050 eV/Å, at most 0.080" in status["reason"]


def test_limit_and_exhausted(campaign: Campaign) -> None:
    campaign.explore(**mixed())
    campaign.rate(0.5)
    assert campaign.select(cycle=3)[0]["verdict"] == "limit"
    assert campaign.select(cycle=3)[2] == []
    campaign.explore(cold=[explored(1, "cold", 0.05)])
    status, _, frames = campaign.select(cycle=0)
    assert (status["verdict"], frames) == ("exhausted", [])
    campaign.explore(cold=[explored(1, "cold", 9.0)])
    assert "1 failed" in campaign.select(cycle=0)[0]["reason"]


def test_what_cannot_be_judged_is_refused(campaign: Campaign) -> None:
    campaign.explore(cold=[])
    with pytest.raises(DataError, match="no explored frames"):
        campaign.select()
    campaign.explore(cold=[explored(1, "cold", 0.3)])
    campaign.sources *= 2
    with pytest.raises(DataError, match="given twice"):
        campaign.select()
    campaign.explore(cold=[box(1)])
    with pytest.raises(DataError, match="frame 0 lacks 'walker'"):
        campaign.select()
    write_json(campaign.root / "errors.json", {"test": {}})
    with pytest.raises(DataError, match="lacks the errors on new labels"):
        campaign.select()
    other = explored(1, "cold", 0.3)[[1, 0, 2, 3, 4, 5]]
    campaign.explore(cold=[other])
    campaign.rate(None)
    with pytest.raises(DataError, match="is in no reference"):
        campaign.select()
