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
from msgspec.structs import replace
from typer.testing import CliRunner

from mlpwf.campaign import records
from mlpwf.config import Select
from mlpwf.errors import DataError
from mlpwf.files import read_json, write_json
from mlpwf.potentials import record
from mlpwf.potentials.committee import Committee
from mlpwf.select.command import select
from mlpwf.select.decisions import COLUMNS
from mlpwf.structures.frames import geometry_key, read_frames, write_frames
from training_errors import errors, trained

app = typer.Typer()
app.command("select")(select)

SETTINGS = {"budget": 3, "maximum_cycles": 4, "converged_candidate_fraction": 0.1, "liquid_cycles": 0}
OWN = {"force_trust_lower_ev_angstrom": 0.1, "force_trust_upper_ev_angstrom": 0.6}


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


def dense(seed: int, apart: float = 1.1) -> Atoms:
    """Two waters alike, so close that none of the others come closer."""
    atoms = box(seed)
    atoms.positions[3:] = atoms.positions[:3] + [0, 0, apart]
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
        self.more: list[Path | str] = []
        self.configure(**OWN)
        template = molecule("H2O")
        template.arrays["molecule"] = np.zeros(3, int)
        write_frames(root / "molecules.extxyz", [template])
        write_frames(root / "labels.extxyz", [box(900), dense(901)])
        (root / "model.pb").write_bytes(b"stand-in")
        self.rate(None)

    def configure(self, **changes: object) -> None:
        section = Select.model_validate({**SETTINGS, **changes}).model_dump(mode="json")
        write_json(self.root / "select.json", {**section, "seed": 1})

    def rate(self, error: float | None, inter: float = 0.05, fall: float = 0.0) -> None:
        """Errors of this cycle and the one before, whose test error was larger by the share `fall`."""
        known = trained(0.1, None if error is None else (error, inter))
        test = np.linspace(0.01, 0.02, 9)
        for name, values in (("errors.json", test), ("before.json", test * (1 + fall))):
            tested = replace(known.test, frame_force_mse_ev2_angstrom2=values.tolist())
            records.write(self.root / name, replace(known, test=tested))

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
        words += [*self.more, *(["--previous-errors", self.root / "before.json"] if cycle else [])]
        CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
        rows = list(csv.DictReader((self.out / "decisions.csv").open()))
        return read_json(self.out / "status.json"), rows, read_frames(self.out / "frames.extxyz")


class Distances:
    """A model whose descriptors are the distances of a frame."""

    def descriptors(self, frames: list[Atoms], elements: list[str]) -> np.ndarray:
        return np.array([np.sort(atoms.get_all_distances(mic=True), axis=None)[6:] for atoms in frames])


@pytest.fixture
def campaign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Campaign:
    monkeypatch.setattr(record, "open_model", lambda model: Distances())
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
    expected = {"accurate": 4, "candidate": 5, "failed": 4, "broken": 2, "selected": 3, "verdict": "continue"}
    assert found == expected
    assert status["candidate_fraction"] == pytest.approx(11 / 15)
    assert status["new_label_error"] is None
    assert {row["verdict"] for row in rows if row["max_devi_f"] in ("nan", "inf")} == {"failed"}
    assert [row["why"] for row in rows[-2:]] == ["a molecule is not intact", "the walker had blown up at step 100"]
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
    assert [one["met"] for one in status["criteria"]] == [True] * 4


@pytest.mark.parametrize(("change", "which"), [({"inter": 0.09}, 2), ({"fall": 0.5}, 3)])
def test_every_criterion_is_needed(campaign: Campaign, change: dict[str, float], which: int) -> None:
    campaign.explore(cold=[explored(seed, "cold", 0.05) for seed in range(9)] + [explored(9, "cold", 0.2)])
    campaign.rate(0.05, **change)
    status, _, frames = campaign.select(cycle=1)
    assert (status["verdict"], len(frames)) == ("continue", 1)
    assert [place for place, one in enumerate(status["criteria"]) if not one["met"]] == [which]


def write_liquid(path: Path, cycle: int, density: float = 1.0, fault: str = "") -> Path:
    """What `mlpwf validate` leaves of a cycle's liquid."""
    rng = np.random.default_rng(cycle)
    r = np.arange(2, 5, 0.1)
    g = 1 + np.exp(-((r - 3) ** 2)) + rng.normal(0, 0.02, (5, len(r)))
    samples = {"density": density + rng.normal(0, 0.01, 5), "diffusion": 0.2 + rng.normal(0, 0.1, 20)}
    found = {name: values.tolist() for name, values in samples.items()} | {"r": r.tolist(), "g": g.tolist()}
    about = {"seed": 1, "model_sha256": "", "units": {}, "conditions": "64 molecules", "diffusion_lags": None}
    records.write(path, records.LiquidSamples(cycle=cycle, fault=fault, **about, **found))
    return path


def test_the_liquids_of_the_last_cycles_have_to_agree(campaign: Campaign) -> None:
    campaign.configure(**OWN, liquid_cycles=2)
    campaign.explore(cold=[explored(seed, "cold", 0.05) for seed in range(9)] + [explored(9, "cold", 0.2)])
    campaign.rate(0.05)
    unmet = {}
    for name, change in {
        "same": {}, "denser": {"density": 1.1}, "no liquid": {"fault": "the run at constant volume blew up"},
    }.items():  # fmt: skip
        liquids = [write_liquid(campaign.root / f"{k}.json", k, **(change if k == 2 else {})) for k in (1, 2)]
        campaign.more = ["--liquid", liquids[0], "--liquid", liquids[1]]
        status = campaign.select(cycle=2)[0]
        unmet[name] = (status["verdict"], [one["name"] for one in status["criteria"] if not one["met"]])
    assert unmet == {
        "same": ("converged", []),
        "denser": ("continue", ["density"]),
        "no liquid": ("continue", ["density", "g(r)", "diffusion"]),
    }
    campaign.more = []
    assert [one["met"] for one in campaign.select(cycle=2)[0]["criteria"]][4:] == [None] * 3
    write_json(campaign.root / "half.json", {"cycle": 1, "density": [1.0]})
    campaign.more = ["--liquid", campaign.root / "half.json"]
    with pytest.raises(DataError, match=r"half.json: no LiquidSamples .* delete it and run again"):
        campaign.select(cycle=2)


def test_limit_and_exhausted(campaign: Campaign) -> None:
    campaign.explore(**mixed())
    campaign.rate(0.5)
    assert campaign.select(cycle=3)[0]["verdict"] == "limit"
    assert campaign.select(cycle=3)[2] == []
    campaign.explore(cold=[explored(1, "cold", 0.05)])
    status, _, frames = campaign.select(cycle=0)
    assert (status["verdict"], frames) == ("exhausted", [])
    campaign.explore(cold=[explored(1, "cold", 0.3, stretch=2.5)])
    assert "1 broken" in campaign.select(cycle=0)[0]["reason"]


def test_what_cannot_be_judged_is_refused(campaign: Campaign) -> None:
    campaign.explore(cold=[explored(1, "cold", 0.3)])
    campaign.sources *= 2
    with pytest.raises(DataError, match="given twice"):
        campaign.select()
    campaign.explore(cold=[box(1)])
    with pytest.raises(DataError, match="frame 0 lacks 'walker'"):
        campaign.select()
    write_json(campaign.root / "errors.json", {"units": {}, "inputs": {}, "test": {}})
    with pytest.raises(DataError, match=r"errors.json: no TrainErrors .*missing required field `frame_force_mse"):
        campaign.select()
    other = explored(1, "cold", 0.3)[[1, 0, 2, 3, 4, 5]]
    campaign.explore(cold=[other])
    campaign.rate(None)
    with pytest.raises(DataError, match="is in no reference"):
        campaign.select()


# ---------------------------------------------------------------- trust levels from a target


def committee_of_two(committee: Committee, frames: list[Atoms]) -> list[np.ndarray]:
    """Two models that differ by the walkers' deviation, up and down, on one hydrogen."""
    found = []
    for atoms in frames:
        forces = np.zeros((2, len(atoms), 3))
        forces[:, 1, 0] = np.array([1, -1]) * atoms.info["max_devi_f"]
        found.append(forces)
    return found


def proportional(slope: float) -> dict[str, records.Map]:
    """Maps that expect `slope` times the deviation."""
    one = records.Map(
        deviation_ev_angstrom=[0.1],
        error_ev_angstrom=[0.1 * slope],
        quantile=2.0,
        largest_deviation_ev_angstrom=1.0,
        pairs=200,
        frames=20,
    )
    return {"all": one}


@pytest.fixture
def calibrated(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> Campaign:
    monkeypatch.setattr(Committee, "opened", lambda models, molecules: Committee(models))
    monkeypatch.setattr(Committee, "forces", committee_of_two)
    campaign.configure(target_error_mev_angstrom=100)
    write_calibration(campaign, 0.5, 0.5)
    return campaign


def write_calibration(campaign: Campaign, inter: float, intra: float, holds: bool = True) -> None:
    path = campaign.root / "calibration.json"
    message = "60% of errors within their bound"
    check = records.Check(frames=20, covered=0.6, beyond=0.0, ratio=1.0, holds=holds, message=message)
    found = records.Calibration(
        units={},
        source="new labels",
        frames=20,
        coverage=0.9,
        maps={"inter": proportional(inter), "intra": proportional(intra)},
        check={"intra": check},
        reliability={},
    )
    records.write(path, found)
    campaign.more = ["--model", campaign.root / "model.pb", "--calibration", path]


def label_error(inter: float, intra: float) -> records.LabelError:
    """What `mlpwf label error` leaves, of errors in eV/Å."""
    total = records.ErrorsOfLabels(
        **records.as_json(replace(errors(intra, inter), force_intra_rmse_ev_angstrom=intra)), pressure_bias_kbar=0.0
    )
    row = records.LabelErrorRow(atoms=None, frames=2, edge_angstrom=6.0, errors={"total": total})
    return records.LabelError(units={}, rows=[row], failures=[], cpu_s=1.0, inputs={})


def word_of(rows: list[dict[str, str]]) -> list[str]:
    return [row["verdict"] for row in rows]


def test_trust_levels_follow_the_target(calibrated: Campaign) -> None:
    frames = [explored(seed, "cold", d) for seed, d in enumerate((0.05, 0.19, 0.21, 1.9, 2.1))]
    calibrated.explore(cold=frames)
    status, rows, _ = calibrated.select()
    assert word_of(rows) == ["accurate", "accurate", "candidate", "candidate", "failed"]
    assert status["trust"]["source"] == "target error"
    assert status["trust"]["levels"]["intra"]["all"] == pytest.approx([0.2, 2.0])
    share = 1 - 1.008 / 18.015  # of the force on a hydrogen that is left inside its molecule
    assert float(rows[2]["devi_inter"]) == pytest.approx(0.21)
    assert float(rows[2]["devi_intra"]) == pytest.approx(share * 0.21, rel=1e-3)
    assert float(rows[2]["error_inter"]) == pytest.approx(0.105)
    write_calibration(calibrated, 1.0, 0.5)
    assert word_of(calibrated.select()[1]) == ["accurate", "candidate", "candidate", "failed", "failed"]
    calibrated.configure(target_error_mev_angstrom=100, target_inter_error_mev_angstrom=200)
    assert word_of(calibrated.select()[1]) == ["accurate", "accurate", "candidate", "candidate", "failed"]


def test_a_frame_beyond_what_the_map_knows_is_failed_whatever_it_expects(calibrated: Campaign) -> None:
    path = calibrated.root / "calibration.json"
    document = read_json(path)
    for maps in document["maps"].values():
        maps["all"]["largest_deviation_ev_angstrom"] = 0.5
    write_json(path, document)
    calibrated.explore(cold=[explored(seed, "cold", d) for seed, d in enumerate((0.3, 0.95, 1.05))])
    _, rows, _ = calibrated.select()
    assert word_of(rows) == ["candidate", "candidate", "failed"]
    assert math.inf in (float(rows[2]["error_inter"]), float(rows[2]["error_intra"]))


def test_levels_of_the_user_override_and_are_said_to_be_his(calibrated: Campaign) -> None:
    calibrated.configure(**OWN)
    calibrated.explore(cold=[explored(seed, "cold", d) for seed, d in enumerate((0.05, 0.19, 0.5, 0.7))])
    status, rows, _ = calibrated.select()
    assert word_of(rows) == ["accurate", "candidate", "candidate", "failed"]
    assert (status["trust"]["source"], status["trust"]["force"]) == ("the user", [0.1, 0.6])


def test_no_model_is_asked_to_be_better_than_its_labels(calibrated: Campaign) -> None:
    """The labels' own error takes the place of a target below it: in trust levels and in what has to be met."""
    calibrated.configure(target_error_mev_angstrom=100)
    calibrated.explore(cold=[explored(seed, "cold", 0.05) for seed in range(4)])
    calibrated.rate(0.15, inter=0.15)
    asked = calibrated.select(cycle=1)[0]
    found = label_error(inter=0.05, intra=0.2)
    records.write(calibrated.root / "error.json", found)
    calibrated.more += ["--label-error", calibrated.root / "error.json"]
    raised = calibrated.select(cycle=1)[0]
    assert asked["trust"]["target_error"] == {"inter": 0.1, "intra": 0.1}
    assert raised["trust"]["target_error"] == {"inter": 0.1, "intra": 0.2}
    assert raised["label_error"] == {"inter": 0.05, "intra": 0.2}
    assert asked["trust"]["levels"]["inter"] == raised["trust"]["levels"]["inter"]
    assert asked["trust"]["levels"]["intra"] != raised["trust"]["levels"]["intra"]
    met = [{one["name"]: one["met"] for one in status["criteria"]} for status in (asked, raised)]
    changed = [name for name in met[0] if met[0][name] != met[1][name]]
    assert changed == ["new labels"], "the force error of 150 meV/Å is met for labels that err by 200"
    records.write(calibrated.root / "error.json", replace(found, rows=[], failures=["no"]))
    assert calibrated.select(cycle=1)[0]["trust"]["target_error"] == asked["trust"]["target_error"]


def test_a_target_needs_a_committee(campaign: Campaign) -> None:
    campaign.configure()
    campaign.explore(cold=[explored(1, "cold", 0.3)])
    with pytest.raises(DataError, match="no committee with a calibration"):
        campaign.select()


def test_a_calibration_that_did_not_hold_is_said(calibrated: Campaign, caplog: pytest.LogCaptureFixture) -> None:
    write_calibration(calibrated, 0.5, 0.5, holds=False)
    calibrated.explore(cold=[explored(1, "cold", 0.3), explored(2, "cold", 1.5)])
    with caplog.at_level("WARNING", "mlpwf"):
        status, _, _ = calibrated.select()
    assert "did not hold for the newest labels: 60% of errors" in caplog.text
    assert not status["trust"]["holds"]
    assert status["trust"]["beyond"]["inter"] == pytest.approx(0.5)


# ---------------------------------------------------------------- what ends or poisons other loops


def test_deviations_that_are_no_numbers(calibrated: Campaign) -> None:
    frames = [explored(seed, "cold", d) for seed, d in enumerate((math.nan, math.inf, -math.inf, 0.3))]
    frames[3].info["max_devi_v"] = math.inf
    calibrated.explore(cold=[*frames, explored(4, "cold", None), explored(5, "cold", 0.3)])
    _, rows, chosen = calibrated.select()
    assert word_of(rows) == ["failed"] * 5 + ["candidate"]
    assert len(chosen) == 1


def test_a_model_that_gives_no_numbers_makes_a_failed_frame(
    calibrated: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Committee, "forces", lambda committee, frames: [np.full((2, 6, 3), np.nan)] * len(frames))
    calibrated.explore(cold=[explored(1, "cold", 0.3)])
    assert word_of(calibrated.select()[1]) == ["failed"]


def test_one_frame_500_times_off_does_not_take_the_place_of_the_rest(calibrated: Campaign) -> None:
    calibrated.explore(cold=[explored(seed, "cold", 0.3) for seed in range(4)] + [explored(5, "cold", 150.0)])
    _, rows, chosen = calibrated.select()
    assert word_of(rows) == ["candidate"] * 4 + ["failed"]
    assert [atoms.info["max_devi_f"] for atoms in chosen] == [0.3] * 3


def test_all_walkers_explode_in_the_first_picosecond(calibrated: Campaign) -> None:
    """The least doubtful of their valid frames are labelled, so that the next models last longer."""
    first = [explored(seed, "hot", d) for seed, d in ((0, 3.0), (1, 6.0), (2, 90.0))]
    other = [explored(seed, "hot", d) for seed, d in ((10, 4.0), (11, 5.0))]
    calibrated.explore(hot=[*first, *other, explored(12, "hot", 0.5, stretch=2.5)])
    status, rows, chosen = calibrated.select()
    assert (status["failed"], status["broken"], status["verdict"]) == (5, 1, "continue")
    assert sorted(atoms.info["max_devi_f"] for atoms in chosen) == [3.0, 4.0, 5.0]
    assert {row["why"] for row in rows if row["selected"] == "1"} == {
        "more budget than candidates: the least doubtful of the failed"
    }


def test_no_walker_lives_to_its_first_frame(calibrated: Campaign) -> None:
    """A verdict with its remedy, not the end of the campaign in an error."""
    calibrated.configure(target_error_mev_angstrom=100, baselines=["random", "diversity"])
    calibrated.explore(cold=[], hot=[])
    status, rows, chosen = calibrated.select()
    assert (status["verdict"], status["explored"], rows, chosen) == ("exhausted", 0, [], [])
    assert "explore more gently" in status["reason"]
    assert read_frames(calibrated.out / "arm" / "random" / "1.extxyz") == []


@pytest.mark.parametrize("values", [(math.nan,), (math.inf,), (None,), (math.nan, math.inf, -math.inf, None)])
def test_no_frame_has_a_deviation_that_is_a_number(calibrated: Campaign, values: tuple[float | None, ...]) -> None:
    calibrated.explore(hot=[explored(seed, "hot", value) for seed, value in enumerate(values)])
    status, rows, chosen = calibrated.select()
    assert word_of(rows) == ["failed"] * len(values)
    assert (status["verdict"], chosen) == ("exhausted", [])


@pytest.mark.parametrize("whose", ["target", "user"])
def test_a_low_virial_excuses_no_huge_force_and_the_reverse(calibrated: Campaign, whose: str) -> None:
    levels = OWN if whose == "user" else {"target_error_mev_angstrom": 100}
    calibrated.configure(**levels, virial_trust_lower_ev=0.02, virial_trust_upper_ev=0.1, budget=10)
    pairs = [(0.01, 0.001), (0.01, 0.05), (0.01, 90.0), (500.0, 1e-6), (0.3, 1e-6), (0.3, 90.0), (0.01, math.nan)]
    frames = [explored(seed, "cold", force) for seed, (force, _) in enumerate(pairs)]
    for atoms, (_, virial) in zip(frames, pairs, strict=True):
        atoms.info["max_devi_v"] = virial
    calibrated.explore(cold=frames)
    _, rows, _ = calibrated.select()
    assert word_of(rows) == ["accurate", "candidate", "failed", "failed", "candidate", "failed", "accurate"]
    assert [row["selected"] for row in rows] == ["0", "1", "1", "1", "1", "1", "0"], "candidates, then the failed"


def test_no_candidates_at_all(calibrated: Campaign) -> None:
    """All accurate: nothing is bought, whether or not the campaign has converged."""
    calibrated.explore(cold=[explored(seed, "cold", 0.01) for seed in range(5)])
    calibrated.rate(0.5)
    status, rows, chosen = calibrated.select(cycle=1)
    assert (status["verdict"], word_of(rows), chosen) == ("exhausted", ["accurate"] * 5, [])
    assert "lower the target error" in status["reason"]
    calibrated.rate(0.05)
    assert calibrated.select(cycle=1)[0]["verdict"] == "converged"


def test_more_budget_than_candidates(calibrated: Campaign) -> None:
    calibrated.configure(target_error_mev_angstrom=100, budget=50)
    calibrated.explore(cold=[explored(seed, "cold", 0.3) for seed in range(3)] + [explored(4, "cold", 0.01)])
    status, rows, chosen = calibrated.select()
    assert (status["selected"], len(chosen)) == (3, 3), "an accurate frame is not worth a label"
    assert word_of(rows)[3] == "accurate"


def test_what_cannot_be_labelled_does_not_take_budget(calibrated: Campaign) -> None:
    clash = explored(1, "cold", 0.5)
    clash.positions[3:] += clash.positions[1] - clash.positions[4] + 0.1  # a hydrogen on a hydrogen
    calibrated.explore(cold=[clash], hot=[explored(seed, "hot", 0.3) for seed in range(10, 13)])
    _, rows, chosen = calibrated.select()
    assert rows[0]["verdict"] == "broken"
    assert "Å apart, closer than 0.6 Å" in rows[0]["why"]
    assert [atoms.info["state"] for atoms in chosen] == ["hot"] * 3


def approaching(distances: tuple[float, ...]) -> list[Atoms]:
    """A walker of two waters that the committee is sure of, so far apart."""
    sure = [explored(seed, "cold", 0.01) for seed in range(len(distances))]
    for atoms, apart in zip(sure, distances, strict=True):
        atoms.positions = dense(900, apart).positions
    return sure


def test_molecules_closer_than_in_any_label(calibrated: Campaign) -> None:
    """A committee may agree where it knows nothing: a bit closer is worth a label, much closer is no liquid."""
    write_frames(calibrated.root / "labels.extxyz", [dense(900, apart=1.7)])
    calibrated.explore(cold=approaching((1.7, 1.6, 1.5, 1.4)))
    _, rows, chosen = calibrated.select()
    assert word_of(rows) == ["accurate", "candidate", "broken", "broken"]
    assert rows[2]["why"].endswith("0.20 Å closer than in any label")
    assert [atoms.info["step"] for atoms in chosen] == [20]
    assert rows[1]["why"] == "the last candidate before its walker blew up"
    calibrated.configure(contact_margin_angstrom=0.05)
    assert word_of(calibrated.select()[1]) == ["accurate", "broken", "broken", "broken"]


def test_molecules_that_part_again_end_no_walker(calibrated: Campaign) -> None:
    """The closest candidate is labelled first, so that the next cycle's border lies farther out."""
    write_frames(calibrated.root / "labels.extxyz", [dense(900, apart=1.7)])
    calibrated.configure(budget=1, contact_margin_angstrom=0.12)
    calibrated.explore(cold=approaching((1.7, 1.65, 1.5, 1.6, 1.68, 1.75, 1.69)))
    _, rows, chosen = calibrated.select()
    assert word_of(rows) == ["accurate", "candidate", "broken", "candidate", "candidate", "accurate", "candidate"]
    assert [atoms.info["step"] for atoms in chosen] == [60]
    assert rows[3]["why"] == "of its walker's candidates the one whose molecules come closest"
    torn = approaching((1.7, 1.5, 1.7, 1.7, 1.7))
    torn[3].positions[1] = torn[3].positions[0] + 2.5 * (torn[3].positions[1] - torn[3].positions[0])
    calibrated.explore(cold=torn)
    rows = calibrated.select()[1]
    assert word_of(rows) == ["accurate", "broken", "accurate", "broken", "broken"]
    assert rows[4]["why"] == "the walker had blown up at step 60"


def test_the_frame_before_a_blow_up_comes_first(calibrated: Campaign) -> None:
    calm = [explored(seed, "cold", 0.3) for seed in range(8)]
    wild = [explored(20, "hot", 0.25), explored(21, "hot", 0.3), explored(22, "hot", 0.3, stretch=2.5)]
    calibrated.explore(cold=calm, hot=[*wild, explored(23, "hot", 0.3)])
    _, rows, _ = calibrated.select()
    hot = {row["step"]: row for row in rows if row["state"] == "hot"}
    assert (hot["20"]["selected"], hot["20"]["why"]) == ("1", "the last candidate before its walker blew up")
    assert hot["60"]["why"] == "the walker had blown up at step 40"


def test_baselines_choose_as_many_from_the_same_frames(calibrated: Campaign) -> None:
    calibrated.configure(target_error_mev_angstrom=100, baselines=["random", "diversity"])
    calibrated.explore(cold=[explored(seed, "cold", 0.3 if seed % 2 else 0.01) for seed in range(10)])
    calibrated.select()
    first = {arm: calibrated.out / f"{arm}.extxyz" for arm in ("arm/random/1", "arm/diversity/1")}
    chosen = {arm: read_frames(path) for arm, path in first.items()}
    assert [len(frames) for frames in chosen.values()] == [3, 3]
    bytes_before = [path.read_bytes() for path in first.values()]
    calibrated.explore(cold=[explored(seed, "cold", 0.3 if seed % 2 else 0.01) for seed in reversed(range(10))])
    calibrated.select()
    assert [path.read_bytes() for path in first.values()] == bytes_before
    calibrated.more += ["--earlier", calibrated.out]
    calibrated.out = calibrated.root / "later"
    calibrated.rate(0.5)
    calibrated.select(cycle=1)
    for arm, frames in chosen.items():
        again = {geometry_key(atoms) for atoms in read_frames(calibrated.out / f"{arm}.extxyz")}
        assert len(again) == 3
        assert not again & {geometry_key(atoms) for atoms in frames}, "bought twice"


def test_each_seed_of_a_baseline_chooses_anew(calibrated: Campaign) -> None:
    calibrated.configure(target_error_mev_angstrom=100, baselines=["random", "diversity"], baseline_seeds=3)
    calibrated.explore(cold=[explored(seed, "cold", 0.3) for seed in range(40)])
    calibrated.select()
    for arm in ("random", "diversity"):
        files = [calibrated.out / "arm" / arm / f"{seed}.extxyz" for seed in (1, 2, 3)]
        chosen = [frozenset(geometry_key(atoms) for atoms in read_frames(path)) for path in files]
        assert [len(keys) for keys in chosen] == [3, 3, 3]
        assert len(set(chosen)) == 3, arm


def test_baselines_buy_nothing_once_the_cycles_have_ended(calibrated: Campaign) -> None:
    calibrated.configure(target_error_mev_angstrom=100, baselines=["random", "diversity"])
    calibrated.explore(cold=[explored(seed, "cold", 0.01) for seed in range(5)])
    calibrated.rate(0.05)
    assert calibrated.select(cycle=1)[0]["verdict"] == "converged"
    assert [read_frames(calibrated.out / f"arm/{arm}/1.extxyz") for arm in ("random", "diversity")] == [[], []]


def test_selecting_twice_changes_nothing(calibrated: Campaign) -> None:
    calibrated.explore(**mixed())
    names = ("decisions.csv", "frames.extxyz", "status.json")
    calibrated.select()
    before = [(calibrated.out / name).read_bytes() for name in names]
    calibrated.select()
    assert [(calibrated.out / name).read_bytes() for name in names] == before
