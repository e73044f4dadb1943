"""`mlpwf label converge`, `parallel` and `pseudopotentials` with the real pw.x."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.build import molecule
from typer.testing import CliRunner

from mlpwf.calculators.espresso import pw
from mlpwf.config import Label, Site, System
from mlpwf.errors import ConfigError, DataError
from mlpwf.files import read_json, write_json
from mlpwf.label.commands import app
from mlpwf.label.labeller import Labeller
from mlpwf.structures.frames import quantised, write_frames

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(shutil.which("pw.x") is None, reason="no pw.x on PATH: `./start setup` installs it"),
]
SETTINGS = {"cutoff_ry": 30, "density_cutoff_ry": 180, "convergence_ry": 1e-7, "kpoints": "gamma"}
LOOSE = ("--force", "0.02", "--virial", "0.02")


def water(seed=1, length=4.1):
    atoms = molecule("H2O", cell=[length, length + 0.1, length - 0.1], pbc=True)
    atoms.rattle(0.05, seed=seed)
    atoms.info["kind"] = "single"
    return quantised(atoms)


def hydrogen(bond, length):
    positions = np.array([[0, 0, 0], [0.6, 0.64, 0.48]]) * bond
    return quantised(Atoms("H2", positions, cell=[length] * 3, pbc=True))


@pytest.fixture
def study(tmp_path):
    """Section files, and a pw.x that notes each time it is started."""
    counting = tmp_path / "pw.sh"
    counting.write_text(f'#!/bin/sh\necho x >> "{tmp_path}/starts"\nexec pw.x "$@"\n')
    counting.chmod(0o755)

    class Study:
        root, out = tmp_path, tmp_path / "out"

        def configure(self, frames, site=(), **label):
            place = {"pw": [str(counting)], "label_store": str(tmp_path / "store"), **dict(site)}
            write_json(tmp_path / "label.json", Label(**SETTINGS | label).model_dump(mode="json") | {"seed": 1})
            write_json(tmp_path / "site.json", Site(**place).model_dump(mode="json") | {"seed": 1})
            write_frames(tmp_path / "frames.extxyz", frames)

        def arguments(self, verb, *more, frames=True):
            sections = ["--config", tmp_path / "label.json", "--site", tmp_path / "site.json"]
            if verb != "pseudopotentials":
                sections += ["--out", self.out, *(("--frames", tmp_path / "frames.extxyz") if frames else ())]
            return [str(word) for word in (verb, *sections, *more)]

        def run(self, verb, *more, frames=True):
            result = CliRunner().invoke(app, self.arguments(verb, *more, frames=frames))
            if result.exception:
                raise result.exception
            return result.stdout

        @property
        def starts(self):
            path = tmp_path / "starts"
            return len(path.read_text().splitlines()) if path.exists() else 0

        def table(self):
            with (self.out / "converge.csv").open() as handle:
                return list(csv.DictReader(handle))

    return Study()


def test_the_recommended_settings_of_water_meet_the_target_against_a_label_of_far_higher_cutoffs(study, tmp_path):
    atoms = water()
    study.configure([atoms])
    printed = study.run("converge", "--sample", 1, "--force", "0.06", "--virial", "0.06", "--jobs", 1)
    found = read_json(study.out / "converge.json")
    lines = yaml.safe_load(printed[printed.index("label:") :])
    assert lines["label"] == found["recommended"]
    recommended = Label(**SETTINGS | found["recommended"])
    best = Label(cutoff_ry=95, density_cutoff_ry=950, convergence_ry=1e-10, image_distance_angstrom=11.0)
    forces, virials = [], []
    for number, settings in enumerate((recommended, best)):
        folder = tmp_path / str(number)
        folder.mkdir()
        status, text = pw.run(atoms, settings, Site(), folder)
        assert status == 0
        result = pw.read_output(text, atoms.get_volume())
        forces.append(result.forces)
        virials.append(result.stress * atoms.get_volume() / 3)
    error = np.sqrt(np.mean((forces[0] - forces[1]) ** 2))
    assert error < 0.06
    assert np.sqrt(np.mean((virials[0] - virials[1]) ** 2)) < 0.06
    rows = study.table()
    chosen = [row for row in rows if row["lever"] == "box"][-1]
    assert error == pytest.approx(float(chosen["force_rms_ev_angstrom"]), abs=0.003), "what was said of it is true"
    assert float(chosen["cpu_s"]) < float(next(row for row in rows if row["lever"] == "converged")["cpu_s"])
    assert f"{float(chosen['cpu_s']):.1f} CPU-s a label" in printed
    assert (study.out / "converge.svg").read_text().startswith("<svg")


def test_a_killed_study_goes_on_where_it_stopped_and_running_again_costs_nothing(study):
    study.configure([hydrogen(0.74, 3.2), hydrogen(0.8, 3.6), hydrogen(0.7, 3.4)])
    command = [sys.executable, "-m", "mlpwf", "label", *study.arguments("converge", "--sample", 2, "--jobs", 2, *LOOSE)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.time() + 120
    while study.starts < 6:
        assert process.poll() is None
        assert time.time() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    _wait_until_nothing_runs(study.root)
    done = len(list((study.root / "store" / "labels").rglob("*.json")))
    assert done >= 4
    first = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ).stdout
    rows = study.table()
    settings = ("cutoff_ry", "density_cutoff_ry", "fft_grid_ry", "convergence_ry", "kpoints")
    labels = 2 * len({tuple(row[name] for name in settings) for row in rows})
    assert len(list((study.root / "store" / "labels").rglob("*.json"))) == labels
    assert study.starts <= labels + 2, "at most the labels in flight at the kill were begun twice"
    assert all(row["energy_difference_ev_atom"] for row in rows if row["lever"] == "threshold")
    before, starts = (study.out / "converge.json").read_text(), study.starts
    assert study.run("converge", "--sample", 2, *LOOSE) == first
    assert (study.out / "converge.json").read_text() == before
    assert study.starts == starts


def _wait_until_nothing_runs(folder):
    """Until no process has its working folder below `folder`."""
    end = time.time() + 20
    while any(str(folder) in place for place in _working_folders()):
        assert time.time() < end, "a program outlived its study"
        time.sleep(0.05)


def _working_folders():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            yield os.readlink(f"/proc/{pid}/cwd")
        except OSError:
            continue


def test_a_further_set_is_compared_with_itself_and_costs_stand_side_by_side(study):
    study.configure([hydrogen(0.74, 2.8)])
    (study.root / "hard.yaml").write_text("H: H.blyp-vbc.UPF\n")
    loose = ("--force", 0.08, "--virial", 0.08, "--pseudopotentials", study.root / "hard.yaml")
    printed = study.run("converge", "--sample", 1, *loose)
    found = read_json(study.out / "converge.json")
    ours, hard = found["sets"]["configured"], found["sets"]["hard"]
    assert hard["cheapest"]["errors"]["force"] <= 0.08
    assert hard["forces_differ_from_configured_set"] > 0.02, "physics, and no error of the set"
    assert (
        f"hard: forces differ from the configured set's by {hard['forces_differ_from_configured_set']:.4f}" in printed
    )
    assert hard["cheapest"]["setting"]["cutoff_ry"] > ours["cheapest"]["setting"]["cutoff_ry"]
    best = min(found["sets"], key=lambda name: found["sets"][name]["cheapest"]["cpu_s"])
    assert found["recommended_set"] == best
    assert found["recommended"].get("pseudopotentials") == (None if best == "configured" else {"H": "H.blyp-vbc.UPF"})


def pair(length):
    """Two hydrogen molecules in a cube, which knows its molecules."""
    one, other = hydrogen(0.74, length), hydrogen(0.76, length)
    other.rotate(70, "z")
    other.positions += np.array([0.5, 0.45, 0.5]) * length
    both = one + other
    both.arrays["molecule"] = np.array([0, 0, 1, 1])
    both.info["kind"] = "bulk"
    return quantised(both)


def single(length):
    atoms = hydrogen(0.78, length)
    atoms.arrays["molecule"] = np.array([0, 0])
    atoms.info["kind"] = "bulk"
    return atoms


def test_boxes_of_two_sizes_are_rated_against_labels_converged_in_k_points_and_cutoffs(study, tmp_path):
    small, large = single(3.4), pair(4.3)
    study.configure([small], kpoints=(2, 2, 2))
    write_frames(study.root / "large.extxyz", [large])
    loose = ("--force", 0.03, "--virial", 0.03, "--jobs", 1)
    printed = study.run("converge", "--frames", study.root / "large.extxyz", *loose)
    found = read_json(study.out / "converge.json")
    rows = study.table()
    assert {row["atoms"] for row in rows if row["lever"] == "cut-off"} == {"2"}, "cut-offs on the smallest box only"
    assert {row["atoms"] for row in rows if row["lever"] == "k-points"} == {"2", "4"}
    gamma = [row for row in rows if row["lever"] == "k-points" and row["kpoints"] == "0"]
    assert all(float(row["force_rms_ev_angstrom"]) > 0.03 for row in gamma), "Γ is far from enough in such boxes"
    grid = [row for row in rows if row["lever"] == "configured"]
    assert [(row["atoms"], row["kpoints"]) for row in grid] == [("2", "8"), ("4", "8")], "the user's grid through Γ"
    chosen = {row["atoms"]: row for row in rows if row["lever"] == "box"}
    boxes = found["sets"]["configured"]["boxes"]
    best = min(boxes, key=lambda box: box["cheapest"]["cpu_s"] / box["atoms"])
    assert found["recommended_box"]["atoms"] == best["atoms"]
    assert found["recommended_box"]["molecules"] == best["atoms"] // 2
    assert "give --system" in printed
    lines = yaml.safe_load(printed[printed.index("label:") :])
    assert lines == {"label": found["recommended"]}
    recommended = Label(**SETTINGS | lines["label"])
    atoms = {2: small, 4: large}[best["atoms"]]
    assert Labeller(recommended, Site(label_store=str(tmp_path / "store")), tmp_path, ["H"]).knows(atoms), (
        "a campaign with these lines asks for the same key"
    )
    dense = Label(cutoff_ry=95, density_cutoff_ry=950, convergence_ry=1e-10, kpoints=(4, 4, 4, 1, 1, 1))
    forces, pressures = [], []
    for number, settings in enumerate((recommended, dense)):
        folder = tmp_path / str(number)
        folder.mkdir()
        _, text = pw.run(atoms, settings, Site(), folder)
        result = pw.read_output(text, atoms.get_volume())
        forces.append(result.forces)
        pressures.append(-np.trace(result.stress) / 3 * 1602.177)
    said = chosen[str(best["atoms"])]
    error = np.sqrt(np.mean((forces[0] - forces[1]) ** 2))
    assert error < 0.03
    assert error == pytest.approx(float(said["force_rms_ev_angstrom"]), abs=0.003)
    assert pressures[0] - pressures[1] == pytest.approx(float(said["pressure_error_kbar"]), abs=0.4)
    net = (forces[0] - forces[1]).reshape(-1, 2, 3).sum(axis=1)
    assert np.sqrt(np.mean(net**2)) == pytest.approx(float(said["net_force_rms_ev_angstrom"]), abs=0.003)
    drawn = (study.out / "converge.svg").read_text()
    assert all(title in drawn for title in ("k-points", "CPU-s an atom", "4 atoms, force"))


def test_boxes_are_made_of_a_system_and_the_cheapest_is_named_by_its_multiple(study):
    study.configure([])
    system = System(molecules={"hydrogen": {"smiles": "[H][H]", "count": 1}}, density_g_cm3=0.08)
    write_json(study.root / "system.json", system.model_dump(mode="json") | {"seed": 1})
    sizes = ("--system", study.root / "system.json", "--multiples", 1, "--multiples", 2)
    arguments = ("--sample", 1, "--force", 0.05, "--virial", 0.05, *sizes)
    printed = study.run("converge", *arguments, frames=False)
    found = read_json(study.out / "converge.json")
    lines = yaml.safe_load(printed[printed.index("label:") :])
    assert lines["build"]["box_multiples"] == [found["recommended_box"]["box_multiple"]]
    assert found["recommended_box"]["box_multiple"] == found["recommended_box"]["atoms"] / 2
    assert [one["atoms"] for one in found["frames"]] == [2, 4]
    kept = {path: path.stat().st_mtime_ns for path in (study.out / "boxes").iterdir()}
    starts = study.starts
    assert study.run("converge", *arguments, frames=False) == printed
    assert study.starts == starts
    assert {path: path.stat().st_mtime_ns for path in (study.out / "boxes").iterdir()} == kept


def test_nothing_that_meets_the_target_is_said_with_the_best_found(study):
    study.configure([hydrogen(0.74, 3.2)])
    printed = study.run("converge", "--sample", 1, "--force", "1e-4", "--virial", "1e-4", "--highest", 80)
    assert "configured: nothing meets 0.0001 eV/Å and 0.0001 eV/atom; the best is 80/800 Ry" in printed
    assert read_json(study.out / "converge.json")["recommended"] is None
    assert [row["lever"] for row in study.table()] == ["reference", "reference", "configured"]
    assert not (study.out / "converge.svg").exists()


def test_what_cannot_be_studied_is_one_line(study):
    study.configure([hydrogen(0.74, 3.2)])
    for content, reason in (
        ("H: [1]", "pseudopotentials.H"),
        ("- H", "found list; expected a line such"),
        ("{", "not a YAML file"),
        ("H", "found str; expected a line such"),
    ):
        (study.root / "set.yaml").write_text(content)
        with pytest.raises(ConfigError, match=rf"set\.yaml: .*{reason}"):
            study.run("converge", "--pseudopotentials", study.root / "set.yaml")
    (study.root / "set.yaml").write_text("O: O.pbe-rrkjus.UPF")
    with pytest.raises(ConfigError, match="no file for H"):
        study.run("converge", "--pseudopotentials", study.root / "set.yaml")
    study.configure([], engine="gfn1")
    for verb in ("converge", "parallel", "pseudopotentials"):
        with pytest.raises(ConfigError, match=r"label\.engine is gfn1"):
            study.run(verb)
    study.configure([])
    for verb in ("converge", "parallel"):
        with pytest.raises(DataError, match="no frames"):
            study.run(verb)
    for more, frames, reason in (
        ((), False, "found neither of --frames and --multiples"),
        (("--multiples", 2), True, "found both of --frames and --multiples"),
        (("--multiples", 2), False, "--multiples without --system"),
    ):
        with pytest.raises(ConfigError, match=reason):
            study.run("converge", *more, frames=frames)
    assert study.starts == 0


def test_parallel_measures_labels_alone_and_side_by_side(study):
    study.configure([hydrogen(0.74, 3.2), water()], cutoff_ry=20, density_cutoff_ry=80)
    printed = study.run("parallel", "--cores", 2)
    found = read_json(study.out / "parallel.json")
    assert found["formula"] == "H2O", "the largest frame"
    alone, beside, *ranks = found["tried"]
    assert (alone["layout"]["labels"], beside["layout"]["labels"]) == (1, 2)
    assert len(beside["wall_s"]) == 2
    assert 20 < alone["memory_mib"] < 400
    assert 1.5 * alone["memory_mib"] < beside["memory_mib"] < 2.5 * alone["memory_mib"]
    assert all(one["layout"]["ranks"] == 2 for one in ranks)
    best = max(found["tried"], key=lambda one: one["labels_per_hour"])
    assert found["site"] == {"label_threads": best["layout"]["threads"], "pw": best["command"]}
    assert yaml.safe_load(printed[printed.index("label_threads") :]) == found["site"]
    Site(**found["site"])
    study.configure([water(length=6.5)])
    with pytest.raises(ConfigError, match=r"a label takes \d+ MiB; expected at most 90% of 61 MiB"):
        study.run("parallel", "--memory", 0.06)


def test_a_broken_mpirun_loses_to_serial_labels(study, monkeypatch):
    program = study.root / "bin" / "mpirun"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    study.configure([hydrogen(0.74, 3.2)])
    printed = study.run("parallel", "--cores", 2)
    assert "-n 2 " in printed
    assert "ended with exit status 3 and said: nothing" in printed
    assert read_json(study.out / "parallel.json")["site"]["pw"] == [str(study.root / "pw.sh")]


def test_layout_of_labels_that_fail_is_one_line(study):
    study.configure([hydrogen(0.74, 3.2)], maximum_scf_steps=10, mixing_beta=0.001)
    with pytest.raises(DataError, match="the label to be timed was rejected: not converged"):
        study.run("parallel")


def test_the_set_is_checked_before_any_job(study):
    table = {"H": "HUSPBE.RRKJ3", "C": "C.pbe-van_bm.UPF", "O": "O.pbe-rrkjus.UPF"}
    study.configure([], pseudopotentials=table)
    printed = study.run("pseudopotentials")
    rows = {line.split()[0]: line.split() for line in printed.splitlines()[1:5]}
    assert rows["H"][1:5] == ["HUSPBE.RRKJ3", "US", "1", "PBE"]
    assert rows["C"][-1] == "note"
    assert "C, note: made with PBE for calculations with RPBE" in printed
    sums = {element: rows[element][-2] for element in table}
    study.configure([], pseudopotentials=table, pseudopotential_sums=sums)
    study.run("pseudopotentials", "--elements", "H,O")
    for changes, reason in (
        ({"pseudopotential_sums": {**sums, "O": sums["H"]}}, "1 of 2 cannot be used; O: MD5 sum is"),
        ({"pseudopotentials": {**table, "H": "H.pz-vbc.UPF"}}, "H: made with LDA for calculations with RPBE"),
        ({"pseudopotentials": {**table, "H": "absent.UPF"}}, "H: no file"),
    ):
        study.configure([], **{"pseudopotentials": table, **changes})
        with pytest.raises(ConfigError, match=reason):
            study.run("pseudopotentials", "--elements", "H O")
    assert study.starts == 0
