"""`mlpwf label` with the real pw.x: accepted, set aside, reused, never repeated."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from typer.testing import CliRunner

from mlpwf.commands.label import app
from mlpwf.config import Label, Site
from mlpwf.errors import ConfigError, DataError, EngineError
from mlpwf.files import read_json, write_json
from mlpwf.frames import quantised, read_frames, write_frames
from mlpwf.labels.store import Store

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(shutil.which("pw.x") is None, reason="no pw.x on PATH: `./start setup` installs it"),
]
SETTINGS = {"cutoff_ry": 25, "density_cutoff_ry": 150, "convergence_ry": 1e-6}


def water(seed, stretch=1.0):
    atoms = molecule("H2O")
    atoms.positions *= stretch
    atoms.set_cell([6.0, 6.2, 6.4])
    atoms.pbc = True
    atoms.rattle(0.03, seed=seed)
    atoms.arrays["molecule"] = np.zeros(3, int)
    atoms.info |= {"kind": "single", "state": "gas"}
    return quantised(atoms)


@pytest.fixture
def campaign(tmp_path):
    """Section files, and a pw.x that notes each time it is started."""
    counting = tmp_path / "pw.sh"
    counting.write_text(f'#!/bin/sh\necho x >> "{tmp_path}/starts"\nexec pw.x "$@"\n')
    counting.chmod(0o755)

    class Campaign:
        root = tmp_path
        out = tmp_path / "label"

        def configure(self, site=(), **label):
            place = {"pw": [str(counting)], "label_store": str(tmp_path / "store"), **dict(site)}
            write_json(tmp_path / "label.json", Label(**SETTINGS | label).model_dump(mode="json") | {"seed": 1})
            write_json(tmp_path / "site.json", Site(**place).model_dump(mode="json") | {"seed": 1})

        def arguments(self, verb, *more):
            sections = ["--config", tmp_path / "label.json", "--site", tmp_path / "site.json"]
            frames = ["--frames", tmp_path / "frames.extxyz", "--out", self.out]
            return [str(word) for word in (verb, *sections, *frames, *more)]

        def run(self, verb, *more):
            result = CliRunner().invoke(app, self.arguments(verb, *more))
            if result.exception:
                raise result.exception

        def label(self, frames):
            write_frames(tmp_path / "frames.extxyz", frames)
            self.run("batch", "--batch", 0, "--batches", 1)
            self.run("collect", "--batch", self.out / "batch" / "000.json")
            return read_json(self.out / "summary.json"), read_frames(self.out / "labels.extxyz")

        @property
        def starts(self):
            path = tmp_path / "starts"
            return len(path.read_text().splitlines()) if path.exists() else 0

    made = Campaign()
    made.configure()
    return made


def test_good_and_bad_frames_in_one_batch(campaign):
    clash = water(1)
    clash.positions[1] = clash.positions[0] + [0.3, 0, 0]
    odd = water(2)[:2]
    summary, frames = campaign.label([water(1), clash, odd, water(3)])
    assert summary["accepted"] == 2
    assert summary["aside"] == {"clash": 1, "crashed": 1}
    assert "0.300 Å" in summary["aside_frames"][0]["detail"]
    assert campaign.starts == 3, "a clash is never sent to pw.x"
    assert [frame.info["state"] for frame in frames] == ["gas", "gas"]
    assert np.isfinite(frames[1].get_forces()).all()
    raw = list((campaign.root / "store" / "aside").rglob("*.out.gz"))
    assert len(raw) == 1


def test_running_again_computes_nothing(campaign):
    clash = water(1)
    clash.positions[1] = clash.positions[0] + [0.3, 0, 0]
    first, frames = campaign.label([water(1), clash])
    second, again = campaign.label([water(1), clash])
    assert campaign.starts == 1
    assert (first["reused"], second["reused"]) == (0, 2)
    assert np.array_equal(frames[0].get_forces(), again[0].get_forces())


def test_an_unconverged_scf_climbs_the_ladder(campaign):
    """Other mixing and more steps, the same physics: the label a converging run gives."""
    campaign.configure(convergence_ry=1e-8, maximum_scf_steps=10, mixing_beta=0.01)
    summary, frames = campaign.label([water(1)])
    assert summary["accepted"] == 1
    attempts = read_json(campaign.out / "batch" / "000.json")["labels"][0]["attempts"]
    assert [(a["rung"], a["reason"]) for a in attempts] == [("as asked", "not converged"), ("local-TF mixing", None)]
    assert campaign.starts == 2
    assert summary["retries"] == {"local-TF mixing": 1}
    shutil.rmtree(campaign.root / "store")
    campaign.configure(convergence_ry=1e-8)
    _, direct = campaign.label([water(1)])
    assert np.abs(frames[0].get_forces() - direct[0].get_forces()).max() < 1e-3
    assert campaign.starts == 3


def test_unconverged_scf_is_set_aside_and_tried_again_with_other_numerics(campaign):
    campaign.configure(maximum_scf_steps=10, mixing_beta=0.01, retries=0)
    with pytest.raises(DataError, match="1 x not converged"):
        campaign.label([water(1)])
    campaign.configure()
    summary, _ = campaign.label([water(1)])
    assert summary["accepted"] == 1


def test_out_of_time_is_set_aside(campaign):
    campaign.configure(timeout_seconds=0.3)
    with pytest.raises(DataError, match="out of time"):
        campaign.label([water(1)])


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ('pw.x "$@" | head -c 9000', "bad output"),
        ('pw.x "$@" | grep -v "^!"', "bad output"),
        ('pw.x "$@" > all; kill -9 $$', "out of memory"),
        ("kill -SEGV $$", "crashed"),
    ],
)
def test_damaged_outputs_are_set_aside(campaign, program, reason):
    script = campaign.root / "damaged.sh"
    script.write_text(f"#!/bin/sh\n{program}\n")
    script.chmod(0o755)
    campaign.configure(site={"pw": [str(script)]})
    with pytest.raises(DataError, match=reason):
        campaign.label([water(1)])


def test_an_implausible_label_is_computed_again_and_not_trained_on(campaign):
    """A record spoilt behind the store's back, and a true one that only looks odd."""
    frames = [water(seed) for seed in range(8)] + [water(8, stretch=1.6)]
    campaign.label(frames)
    keys = [entry["key"] for entry in read_json(campaign.out / "batch" / "000.json")["labels"]]
    store = Store(campaign.root / "store")
    record = store.get(keys[2])
    store.put(keys[2], record | {"energy_ev": record["energy_ev"] + 5.0})
    before = campaign.starts
    summary, labelled = campaign.label(frames)
    assert [doubt["frame"] for doubt in summary["doubts"]] == [2, 8]
    assert "differ by" in summary["doubts"][0]["disagreement"]
    assert summary["doubts"][1]["disagreement"] == "", "a stretched molecule is odd, but its label is right"
    assert summary["aside"] == {"implausible": 1}
    assert len(labelled) == summary["accepted"] == 8
    assert campaign.starts == before + 1, "the second calculation is kept as well"


def test_missing_pseudopotential_and_program_are_one_line(campaign):
    campaign.configure(pseudopotentials={"O": "absent.UPF", "H": "HUSPBE.RRKJ3"})
    with pytest.raises(ConfigError, match=r"pseudopotentials\.O: no file .*absent\.UPF"):
        campaign.label([water(1)])
    campaign.configure(site={"pw": ["no-such-pw.x"]})
    with pytest.raises(EngineError, match=r"cannot start 'no-such-pw\.x'"):
        campaign.label([water(1)])
    assert not list((campaign.root / "store").rglob("*.json")), "nothing is set aside for a broken site"


def test_killed_at_any_instant_no_label_is_repeated(campaign):
    """SIGKILL of the labelling process, again and again: each label once, whole."""
    frames = [water(seed) for seed in range(6)]
    write_frames(campaign.root / "frames.extxyz", frames)
    command = [sys.executable, "-m", "mlpwf", "label", *campaign.arguments("batch", "--batch", 0, "--batches", 1)]
    random = np.random.default_rng(7)
    kills = 0
    while True:
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
        try:
            process.wait(timeout=2.0 + 3.0 * random.random())
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            assert kills < 40
    assert process.returncode == 0
    assert kills >= 2
    stored = sorted((campaign.root / "store" / "labels").rglob("*.json"))
    assert len(stored) == 6
    assert all("energy_ev" in json.loads(path.read_text()) for path in stored)
    assert campaign.starts <= 6 + kills
    print(f"{kills} kills, {campaign.starts} starts of pw.x for 6 labels")


def test_pw_dies_with_its_parent(campaign):
    write_frames(campaign.root / "frames.extxyz", [water(1)])
    script = campaign.root / "slow.sh"
    script.write_text(f'#!/bin/sh\necho $$ > "{campaign.root}/pid"\nexec sleep 60\n')
    script.chmod(0o755)
    campaign.configure(site={"pw": [str(script)]})
    command = [sys.executable, "-m", "mlpwf", "label", *campaign.arguments("batch", "--batch", 0, "--batches", 1)]
    process = subprocess.Popen(command)
    pid_file = campaign.root / "pid"
    _wait_for(lambda: pid_file.exists() and pid_file.read_text().strip())
    pid = int(pid_file.read_text())
    process.kill()
    process.wait()
    _wait_for(lambda: not _alive(pid))


def _alive(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]
    except (FileNotFoundError, ProcessLookupError):
        return False


def _wait_for(condition, seconds=20):
    end = time.time() + seconds
    while not condition():
        assert time.time() < end, "waited too long"
        time.sleep(0.05)


def test_structure_without_cell_is_refused(campaign):
    with pytest.raises(DataError, match="periodic cell"):
        campaign.label([Atoms("H2", [[0, 0, 0], [0.74, 0, 0]])])
