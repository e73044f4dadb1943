"""Progress: a line now and then, with the time that is left."""

import logging

import numpy as np
import pytest
from ase.build import molecule

from mlpwf import progress
from mlpwf.calculators import xtb
from mlpwf.md import sampler
from mlpwf.md.sampler import Run, Sampler
from mlpwf.progress import Progress, in_words, watched
from mlpwf.structures import boxes, packing
from mlpwf.structures.species import molecule_from_smiles


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def run(seconds, total, caplog):
    """The lines of a step of so many parts, each of which takes so long."""
    clock = Clock()
    said = Progress("relaxation", total, clock)
    with caplog.at_level(logging.INFO, "mlpwf"):
        for done in range(1, total + 1):
            clock.now += seconds
            said(done)
    return [record.message for record in caplog.records]


def test_the_first_part_gives_an_estimate(caplog):
    lines = run(20.0, 31, caplog)
    assert lines[0] == "relaxation: 1 of at most 31, 10 min left at most"
    assert lines[-1] == "relaxation: 30 of at most 31, 20 s left at most"
    assert len(lines) == 30


def test_no_more_than_a_line_in_twenty_seconds(caplog):
    assert len(run(0.5, 400, caplog)) == 10


def test_a_short_step_says_nothing(caplog):
    assert run(0.1, 100, caplog) == []


@pytest.mark.parametrize(("seconds", "words"), [(40.2, "40 s"), (600, "10 min"), (12_240, "3.4 h")])
def test_durations(seconds, words):
    assert in_words(seconds) == words


def test_a_slow_start_of_many_parts_gives_no_estimate(caplog):
    assert run(0.3, 90, caplog)[0] == "relaxation: 4 of at most 90, 26 s left at most"


def test_what_runs_elsewhere_is_looked_at():
    seen = []
    with watched(seen.append, lambda: 7, every_s=0.01):
        while len(seen) < 2:
            pass
    count = len(seen)
    assert set(seen) == {7}
    assert count >= 2


@pytest.fixture
def talkative(monkeypatch, caplog):
    """Everything is said at once."""
    monkeypatch.setattr(progress, "EVERY_S", 0.0)
    monkeypatch.setattr(progress, "FIRST_S", 0.0)
    caplog.set_level(logging.INFO, "mlpwf")
    return caplog


def test_relaxations_and_runs_of_a_build_say_how_far_they_are(talkative):
    water = sampler.relaxed_molecule("water", 0, molecule("H2O"), "gfn1")
    assert "build: water: relaxation: 1 of at most 301" in talkative.text
    packed = boxes.pack_box([water], [2], 0.5, np.random.default_rng(1))
    box = sampler.relaxed_box(packed, "bulk_0.5", Sampler(steps_between_frames=2))
    assert "build: bulk_0.5: relaxing 6 atoms by gfn1" in talkative.text
    assert "build: bulk_0.5: relaxation: 1 of at most 31" in talkative.text
    sampler.sample(Run("300 K", "bulk", "300K", box, 300.0, 2, (1, 2, 0)), Sampler(steps_between_frames=2))
    assert [f"sampling, steps: {k} of at most 8" in talkative.text for k in (0, 1, 7, 8)] == [False, True, True, False]


def test_the_relaxation_counts_its_evaluations():
    seen = []
    xtb.relax(molecule("H2O"), "gfn1", steps=5, fmax_ev_angstrom=1e-9, watch=seen.append)
    assert seen == [1, 2, 3, 4, 5, 6]


def test_packing_counts_its_loops(tmp_path):
    output = tmp_path / "packmol.out"
    assert packing._loops(output) == 0
    output.write_text("Starting GENCAN loop:   0\n")
    assert packing._loops(output) == 0
    output.write_text("Starting GENCAN loop:   0\n.\n  Starting GENCAN loop:   1\n")
    assert packing._loops(output) == 1


def test_a_hard_packing_is_watched(monkeypatch):
    monkeypatch.setattr(packing, "watched", lambda watch, done: watched(watch, done, every_s=0.02))
    seen = []
    toluene = molecule_from_smiles("toluene", "Cc1ccccc1", 1)
    cell = np.full(3, 14.7)
    packing.pack([toluene], [27], cell, tolerance_angstrom=2.0, seed=1, timeout_seconds=3, watch=seen.append)
    assert max(seen) >= 1
    assert seen == sorted(seen)
    assert max(seen) < packing.LOOPS
