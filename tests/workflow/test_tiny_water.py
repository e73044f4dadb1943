"""The water campaign with real pw.x, dp and LAMMPS, as `./start run` runs it, and killed on its way."""

import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from campaign import PROJECT, check_complete, label_keys, plan, planned_files, read

pytestmark = [
    pytest.mark.engine,
    pytest.mark.campaign,
    pytest.mark.skipif(shutil.which("pw.x") is None, reason="no pw.x on PATH: `./start setup` installs it"),
]


def test_tiny_water_runs_to_its_end(tiny_water):
    check_complete(tiny_water)


def test_the_labels_are_real_dft(tiny_water):
    summary = read(tiny_water / "cycle" / "000" / "label" / "summary.json")
    assert summary["engine"] == "qe"
    assert summary["physics"]["functional"] == "rpbe"
    assert summary["physics"]["dispersion"] == ["d3bj", False]
    assert summary["accepted"] >= 0.9 * summary["requested"]


def test_the_liquids_of_the_cycles_are_compared_and_the_final_runs_made_once(tiny_water):
    cycle = tiny_water / "cycle" / f"{read(tiny_water / 'train' / 'final' / 'final.json')['cycle']:03d}"
    criteria = {one["name"]: one for one in read(cycle / "select" / "status.json")["criteria"]}
    assert {"density", "g(r)", "diffusion"} <= set(criteria)
    if cycle.name != "000":
        assert "fewer than 2 cycles" not in criteria["density"]["message"]
        assert (tiny_water / "validate" / "liquid.json").read_bytes() == (cycle / "validate/liquid.json").read_bytes()


def test_production_is_readable_and_analysed(tiny_water):
    import MDAnalysis
    import pandas as pd

    states = sorted((tiny_water / "simulate").iterdir())
    assert len(states) == 3
    for state in states:
        segments = sorted(str(path) for path in state.glob("segment/*/trajectory.trr"))
        universe = MDAnalysis.Universe(str(state / "topology.pdb"), segments)
        positions = np.array([frame.positions.copy() for frame in universe.trajectory])
        axes = positions[:, 1::3] - positions[:, 0::3]
        assert np.allclose(np.linalg.norm(axes, axis=-1), 1.0, atol=1e-3)
    table = pd.read_csv(tiny_water / "analyse" / "states.csv")
    assert sorted(table["temperature_kelvin"]) == [300, 325, 350]


def copied(campaign, folder):
    """A finished campaign in another folder, with what Snakemake knows of it."""
    shutil.copytree(campaign, folder / "results" / campaign.name)
    shutil.copytree(campaign.parents[1] / ".snakemake" / "metadata", folder / ".snakemake" / "metadata")


def test_an_edited_config_repeats_no_cycle_that_another_follows(tiny_water, tmp_path):
    """Only what follows the edit is planned: the last cycle anew, none of its labels, none before it."""
    last = read(tiny_water / "train" / "final" / "final.json")["cycle"]
    assert last >= 1
    copied(tiny_water, tmp_path)
    values = yaml.safe_load((PROJECT / "config" / "systems" / "tiny_water.yaml").read_text())
    system = tmp_path / "edited.yaml"
    options = ("--cores", "2", "--rerun-triggers", "mtime", "input")
    edits = ("select", "contact_margin_angstrom", 0.1), ("explore", "walkers", 3), ("train", "models", 3)
    for section, key, value in edits:
        values[section][key] = value
        system.write_text(yaml.safe_dump(values))
        done = plan(tmp_path, system, options=options)
        assert done.returncode == 0, done.stderr
        assert f"{section} of cycle" in done.stderr
        cycles = {name.split("/cycle/")[1] for name in planned_files(done.stdout.splitlines()) if "/cycle/" in name}
        assert any(name.startswith(f"{last:03d}/{section}/") for name in cycles), f"{section}.{key} plans nothing"
        assert all(name.startswith(f"{last:03d}/") for name in cycles), cycles
        assert not any("/label/" in name for name in cycles)


def test_without_anyway_production_waits_for_a_good_potential(tiny_water, tmp_path):
    """The demonstration ends at its limit of cycles: not good, so a further temperature is run only when asked for."""
    found = read(tiny_water / "validate" / "verdict.json")
    assert found["verdict"] in ("not yet", "broken")
    assert found["reasons"]
    terminal = (tiny_water.parents[1] / "terminal.log").read_text()
    assert f"the verdict on its potential is '{found['verdict']}'" in terminal
    assert f"Verdict on the potential: {found['verdict']}" in (tiny_water / "report" / "report.html").read_text()
    copied(tiny_water, tmp_path)
    values = yaml.safe_load((PROJECT / "config" / "systems" / "tiny_water.yaml").read_text())
    values["simulate"]["temperatures_kelvin"].append(280)
    system = tmp_path / "edited.yaml"
    for anyway in (True, False):
        values["simulate"]["anyway"] = anyway
        system.write_text(yaml.safe_dump(values))
        done = plan(tmp_path, system, options=("--cores", "2", "--rerun-triggers", "mtime", "input"))
        assert done.returncode == 0, done.stderr
        planned = planned_files(done.stdout.splitlines())
        assert any("/simulate/280K/" in name for name in planned) is anyway, planned
        assert any(name.endswith("report.html") for name in planned)


def wait_for(condition, process, seconds=900):
    end = time.time() + seconds
    while not condition():
        assert process.poll() is None, "the campaign ended before it could be killed"
        assert time.time() < end, "waited too long"
        time.sleep(0.1)


def running(*words):
    """Whether some process's command line holds all words."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if all(word in command for word in words):
            return True
    return False


def master_of(process):
    """The Snakemake process below `./start`."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == process.pid:
            command = (path.parent / "cmdline").read_bytes()
            if b"snakemake" in command:
                return int(path.parent.name)
    raise AssertionError("no snakemake below ./start")


def test_killed_in_four_stages_the_same_labels_and_none_twice(tiny_water, workplaces):
    """SIGKILL in label, train, explore and simulate; the same command again each time."""
    place = workplaces("killed")
    counter = place.folder / "starts"
    script = place.folder / "pw.sh"
    script.write_text(f'#!/bin/sh\necho x >> "{counter}"\nexec pw.x "$@"\n')
    script.chmod(0o755)
    (place.folder / "config" / "sites" / "local.yaml").write_text(f"pw: ['{script}']\n")
    here = str(place.folder)
    work = place.folder / "results" / "tiny_water"
    in_flight = 0

    def some_labels():
        return len(list((place.folder / "store" / "labels").rglob("*.json"))) >= 5

    def training():
        return any(len(p.read_text().splitlines()) > 3 for p in work.glob("cycle/000/train/model/*/work/lcurve.out"))

    def exploring():
        return running("mlpwf.md.worker", f"{here}/results/tiny_water/cycle/000/explore")

    def simulating():
        return running("mlpwf.md.worker", f"{here}/results/tiny_water/simulate")

    for stage, condition, whole in (
        ("label", some_labels, False),
        ("train", training, True),
        ("explore", exploring, False),
        ("simulate", simulating, True),
    ):
        process = place.begin("tiny_water")
        wait_for(condition, process)
        if stage == "label":
            in_flight = 2
        if whole:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            os.kill(master_of(process), signal.SIGKILL)
        process.wait()
    campaign = place.run("tiny_water")

    check_complete(campaign)
    assert label_keys(campaign) == label_keys(tiny_water)
    records = [read(path) for path in (place.folder / "store").rglob("*.json")]
    tries = sum(len(record["attempts"]) for record in records)
    starts = len(counter.read_text().splitlines())
    print(f"{starts} starts of pw.x for {tries} tries of {len(records)} frames, 4 kills")
    assert starts <= tries + in_flight
    assert "reus" in place.log.read_text(), "what was reused is not said"
