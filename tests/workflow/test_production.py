"""The shipped rules of `simulate` by a real Snakemake: what is done is not done again when the config changes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mlpwf.campaign.paths import State
from mlpwf.campaign.segments import segments
from mlpwf.campaign.states import simulate_lengths
from mlpwf.config import Simulate
from mlpwf.files import read_json
from mlpwf.structures.frames import write_frames
from toy_water import DENSITY, WATER

PROJECT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
RULES = 'include: "workflow/rules/common.smk"\ninclude: "workflow/rules/simulate.smk"\n'


class Production:
    """A workflow of the simulate rules alone, after a campaign that ended with a given model."""

    def __init__(self, folder, model):
        self.folder = folder
        shutil.copytree(PROJECT / "workflow", folder / "workflow")
        (folder / "Snakefile").write_text(RULES)
        (folder / "site.yaml").write_text("{}")
        self.results = folder / "results" / "water"
        for target in (self.results / "train/final/compressed.pb", self.results / "build/molecules.extxyz"):
            target.parent.mkdir(parents=True)
        shutil.copy(model, self.results / "train/final/compressed.pb")
        write_frames(self.results / "build/molecules.extxyz", [WATER])

    def run(self, *options, **simulate):
        """Run Snakemake for all states of these settings; the jobs it ran, by rule and wildcards."""
        settings = {"molecules": 8, "equilibration_ps": 0.02, "linear_interval_ps": 0.025, **simulate}
        liquid = {"molecules": {"water": {"smiles": "O", "count": 8}}, "density_g_cm3": DENSITY}
        (self.folder / "water.yaml").write_text(
            yaml.safe_dump({"name": "water", "system": liquid, "simulate": settings})
        )
        states = simulate_lengths(Simulate(**settings))
        targets = [f"results/water/simulate/{state}/run/{length:g}ps.json" for state, length in states.items()]
        command = [str(BIN / "snakemake"), *targets, "--cores", "1", "--rerun-triggers", "mtime", "input", *options]
        command += ["--config", "system=water.yaml", "site=site.yaml"]
        environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def state(self, name):
        return self.results / "simulate" / name

    def files(self, name, segment):
        """Inode, size and time of each file of a segment."""
        folder = self.state(name) / "segment" / f"{segment:03d}"
        return {
            path.name: (path.stat().st_ino, path.stat().st_size, path.stat().st_mtime_ns) for path in folder.iterdir()
        }


@pytest.mark.engine
def test_a_longer_run_and_one_more_temperature_repeat_nothing(tmp_path, water_models):
    place = Production(tmp_path, water_models[0])
    place.run(temperatures_kelvin=[300], length_ps=0.05)
    first = place.files("300K", 0)
    assert set(first) == {"trajectory.trr", "thermo.csv", "stress.npz", "restart.bin", "summary.json", "kept.json"}

    place.run(temperatures_kelvin=[300, 350], length_ps=[0.1, 0.05])
    assert place.files("300K", 0) == first
    ends = [summary.end_ps for summary in segments(State(place.state("300K")))]
    assert ends == [0.05, 0.1], "the longer run was not made"
    assert read_json(place.state("350K") / "run" / "0.05ps.json")["done_ps"] == 0.05
    done = {(name, k): place.files(name, k) for name, k in (("300K", 0), ("300K", 1), ("350K", 0))}

    for path in (place.results / "config").rglob("*.json"):
        path.touch()
    told = place.run(temperatures_kelvin=[300, 350], length_ps=0.05, checkpoint_min=3)
    assert "simulate_segment" not in told
    assert "Nothing to be done" in place.run(temperatures_kelvin=[300, 350], length_ps=0.05, checkpoint_min=3)
    assert {key: place.files(*key) for key in done} == done

    (place.results / "train/final/compressed.pb").touch()  # the same model, and yet newer: the verb knows it
    told = place.run("--forcerun", "simulate_segment", temperatures_kelvin=[300, 350], length_ps=0.1)
    assert told.count("finished before under the same settings, kept") == 3, told
    assert {key: place.files(*key)["trajectory.trr"] for key in done} == {
        k: f["trajectory.trr"] for k, f in done.items()
    }
    assert [summary.end_ps for summary in segments(State(place.state("350K")))] == [0.05, 0.1]


@pytest.mark.engine
def test_a_state_that_blows_up_stops_no_other(tmp_path, water_models):
    place = Production(tmp_path, water_models[0])
    place.run(temperatures_kelvin=[0.01, 300], length_ps=0.05, equilibration_ps=0.06)
    cold, warm = (read_json(place.state(name) / "run" / "0.05ps.json") for name in ("0.01K", "300K"))
    assert (cold["stable"], cold["segments"]) == (False, 1)
    assert cold["done_ps"] < 0
    assert "expected less than 10 x 0.01 K" in cold["reason"]
    assert (warm["stable"], warm["done_ps"]) == (True, 0.05)
