"""A set of labels gathered from its batches, those of earlier versions too."""

import json
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from ase.build import molecule
from typer.testing import CliRunner

from mlpwf.campaign.records import Attempt, Batch, Doubt, LabelSummary, Outcome, read
from mlpwf.config import Label, Site
from mlpwf.errors import DataError
from mlpwf.files import read_json, write_json
from mlpwf.label.collecting import (
    LabelledFrame,
    accepted_frames,
    after_second_look,
    check_any,
    in_order,
    second_look,
    summary,
)
from mlpwf.label.commands import app
from mlpwf.label.record import raw_of
from mlpwf.label.store import Store, canonical, labelled
from mlpwf.structures.frames import read_frames, write_frames
from store_records import accepted

TRIED = [Attempt(attempt=name, reason=None, detail=None, cpu_s=1.0) for name in ("as asked", "other mixing")]


def outcome(frame, accepted=True, **changes):
    reason, detail = (None, None) if accepted else ("clash", "0.3 Å")
    whole = {"key": f"{frame:064x}", "reused": False, "reason": reason, "detail": detail, "cpu_s": 2.0, "attempts": []}
    return Outcome(**{**whole, "accepted": accepted, "frame": frame, "state": "gas", **changes})


def water():
    atoms = molecule("H2O", cell=[6.0, 6.2, 6.4], pbc=True)
    atoms.arrays["molecule"] = np.zeros(3, int)
    atoms.info |= {"kind": "single", "state": "gas"}
    return atoms


def labelled_frames(energies):
    atoms = water()
    made = []
    for index, energy in enumerate(energies):
        record = accepted(energy_ev=energy)
        made.append(LabelledFrame(labelled(atoms, canonical(atoms), record), outcome(index), record))
    return made


# ---------------------------------------------------------------- gathered


def test_outcomes_come_in_the_order_of_the_frames(tmp_path):
    batches = [Batch(labels=[outcome(0), outcome(2)]), Batch(labels=[outcome(1)])]
    assert [one.frame for one in in_order(batches, 3, tmp_path / "batch")] == [0, 1, 2]
    with pytest.raises(DataError, match=rf"^{tmp_path}: 3 outcomes for 4 frames; delete {tmp_path}/batch and run"):
        in_order(batches, 4, tmp_path / "batch")
    with pytest.raises(DataError, match="3 outcomes for 3 frames"):
        in_order([*batches[:1], Batch(labels=[outcome(2)])], 3, tmp_path / "batch")


def test_accepted_frames_carry_their_label_and_its_key(tmp_path):
    store = Store(tmp_path / "store")
    store.put(outcome(1).key, accepted(energy_ev=-2.0))
    found = accepted_frames([water(), water()], [outcome(0, accepted=False), outcome(1)], store, "gfn1", tmp_path)
    assert [one.outcome.frame for one in found] == [1]
    assert found[0].atoms.get_potential_energy() == -2.0
    assert found[0].atoms.info["label"] == outcome(1).key
    assert found[0].atoms.info["engine"] == "gfn1"
    with pytest.raises(DataError, match=f"label 000000000000 is not in the store .*; delete {tmp_path} and run again"):
        accepted_frames([water()], [outcome(0)], store, "gfn1", tmp_path)


# ---------------------------------------------------------------- a second look


class Second:
    """A labeller that gives one energy, or rejects."""

    def __init__(self, energy):
        self.energy, self.asked = energy, []

    def label(self, atoms):
        self.asked.append(atoms)
        return outcome(0, accepted=self.energy is not None, key="second")

    def labelled(self, atoms):
        return labelled_frames([self.energy])[0].atoms, self.label(atoms)


@pytest.mark.parametrize(
    ("second", "disagreement"),
    [(95.0, ""), (-1.5, "two calculations differ by"), (None, "the second calculation was rejected: clash")],
)
def test_an_implausible_label_stands_if_a_second_calculation_agrees(second, disagreement):
    frames = labelled_frames([*np.linspace(-1.5, -1.4, 9), 95.0])
    (doubt,) = second_look(frames, [], Second(second))
    assert doubt.frame == 9
    assert "the energy per atom" in doubt.why
    assert doubt.second == "second"
    assert doubt.disagreement.startswith(disagreement)
    assert bool(doubt.disagreement) == bool(disagreement)


def test_a_plausible_set_is_not_computed_again():
    labeller = Second(0.0)
    assert second_look(labelled_frames(np.linspace(-1.5, -1.4, 9)), [], labeller) == []
    assert labeller.asked == []


def test_those_that_disagree_are_rejected_as_implausible():
    doubts = [Doubt(frame=k, why="odd", second="s", disagreement=text) for k, text in ((0, ""), (1, "they differ"))]
    before = [outcome(k) for k in range(3)]
    after = after_second_look(before, doubts)
    assert [one.accepted for one in after] == [True, False, True]
    assert (after[1].reason, after[1].detail) == ("implausible", "odd; they differ")
    assert before[1].accepted


# ---------------------------------------------------------------- summed up


PHYSICS = {"engine": "qe", "kpoints": {"image_distance_angstrom": 9.0}, "pseudopotentials": {"H": "a", "N": "b"}}
ENGINE = SimpleNamespace(engine=SimpleNamespace(name="qe"), physics=PHYSICS)
"""As much of a calculator as a summary asks."""


def test_a_summary_counts_outcomes_and_names_the_rejected():
    outcomes = [
        outcome(0, attempts=TRIED), outcome(1, accepted=False), outcome(2, reused=True, attempts=TRIED[:1]),
        outcome(3, accepted=False, attempts=TRIED),
    ]  # fmt: skip
    labels = [accepted(cpu_s=2.0, engine_version="7.2"), accepted(cpu_s=4.0, engine_version=None)]
    found = summary(ENGINE, outcomes, labels, [])
    assert (found.requested, found.accepted, found.reused) == (4, 2, 1)
    assert found.rejected == {"clash": 2}
    assert [(one.frame, one.reason, one.state) for one in found.rejected_frames] == [
        (1, "clash", "gas"),
        (3, "clash", "gas"),
    ]
    assert found.retries == {"other mixing": 1}
    assert (found.cpu_s, found.label_cpu_s_mean) == (6.0, 3.0)
    assert found.engine_version == "7.2"
    assert found.physics == {**PHYSICS, "pseudopotentials": {"H": "a"}}, "of these elements, with the rules"


def test_a_set_without_any_label_is_an_error_that_names_the_most_common_reason():
    check_any([])
    check_any([outcome(0), outcome(1, accepted=False)])
    with pytest.raises(DataError, match=r"none of 2 labels was accepted; 2 x clash \(0\.3 Å\)"):
        check_any([outcome(0, accepted=False), outcome(1, accepted=False)])


# ---------------------------------------------------------------- files of earlier versions


def test_a_campaign_is_resumed_between_the_batches_and_the_set_that_an_earlier_version_began(tmp_path):
    """Its batch and its store have the keys of that version; the summary that is written has the present ones."""
    store, out = Store(tmp_path / "store"), tmp_path / "label"
    attempts = [{"rung": one.attempt, "reason": None, "detail": None, "cpu_s": 1.0} for one in TRIED]
    good, bad = outcome(0, attempts=TRIED), outcome(1, accepted=False, attempts=TRIED[:1])
    store.put_raw(good.key, raw_of(accepted()) | {"attempts": attempts})
    batch = {"mlpwf": "0.2.0", "labels": [msgspec.to_builtins(one) for one in (good, bad)]}
    for entry in batch["labels"]:
        entry["attempts"] = attempts[: len(entry["attempts"])]
    write_json(out / "batch" / "000.json", batch)
    write_json(tmp_path / "config.json", Label(engine="gfn1").model_dump(mode="json") | {"seed": 1})
    write_json(tmp_path / "site.json", Site(label_store=str(store.root)).model_dump(mode="json") | {"seed": 1})
    write_frames(tmp_path / "frames.extxyz", [water(), water()])
    words = ["collect", "--config", tmp_path / "config.json", "--site", tmp_path / "site.json"]
    words += ["--frames", tmp_path / "frames.extxyz", "--batch", out / "batch" / "000.json", "--out", out]
    CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    found = read(out / "summary.json", LabelSummary)
    assert (found.accepted, found.rejected, found.retries) == (1, {"clash": 1}, {"other mixing": 1})
    assert {"rejected", "rejected_frames"} < set(read_json(out / "summary.json"))
    assert len(read_frames(out / "labels.extxyz")) == 1


def test_a_summary_of_an_earlier_version_is_read(tmp_path):
    found = msgspec.to_builtins(summary(ENGINE, [outcome(0), outcome(1, accepted=False)], [accepted()], []))
    found["aside"], found["aside_frames"] = found.pop("rejected"), found.pop("rejected_frames")
    (tmp_path / "summary.json").write_text(json.dumps(found))
    assert read(tmp_path / "summary.json", LabelSummary).rejected == {"clash": 1}
