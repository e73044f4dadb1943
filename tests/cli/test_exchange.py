"""`mlpwf label import`, `export` and `check`, and a store that two campaigns share, with the real pw.x."""

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import molecule
from typer.testing import CliRunner

from mlpwf.calculators.espresso import pw
from mlpwf.config import Label, Site
from mlpwf.errors import ConfigError, DataError
from mlpwf.files import read_json, write_json
from mlpwf.label.commands import app
from mlpwf.label.store import Store
from mlpwf.structures.frames import quantised, read_frames, write_frames

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(shutil.which("pw.x") is None, reason="no pw.x on PATH: `./start setup` installs it"),
]
SETTINGS = {"cutoff_ry": 20, "density_cutoff_ry": 80, "convergence_ry": 1e-6, "kpoints": "gamma"}
KEEPING = """\
#!/bin/sh
cp pw.in "{kept}/$$.in"
pw.x "$@" > "{kept}/$$.out"
status=$?
cat "{kept}/$$.out"
exit $status
"""


def water(seed):
    atoms = molecule("H2O")
    atoms.set_cell([5.0, 5.2, 5.4])
    atoms.pbc = True
    atoms.rattle(0.03, seed=seed)
    return quantised(atoms)


@pytest.fixture
def place(tmp_path, caplog):
    """Sections, sites and the verbs; every pw.x leaves its input and output in `kept`."""
    caplog.set_level(logging.INFO, logger="mlpwf")
    kept = tmp_path / "kept"
    kept.mkdir()
    keeping = tmp_path / "pw.sh"
    keeping.write_text(KEEPING.format(kept=kept))
    keeping.chmod(0o755)

    class Place:
        root = tmp_path

        def configure(self, **label):
            write_json(tmp_path / "label.json", Label(**SETTINGS | label).model_dump(mode="json") | {"seed": 1})
            return Label(**SETTINGS | label)

        def site(self, store="store"):
            path = tmp_path / f"{store}.site.json"
            site = Site(pw=[str(keeping)], label_store=str(tmp_path / store))
            write_json(path, site.model_dump(mode="json") | {"seed": 1})
            return path

        def run(self, *words):
            caplog.clear()
            result = CliRunner().invoke(app, [str(word) for word in words])
            if result.exception:
                raise result.exception
            return caplog.messages

        def take(self, *words, store="store"):
            sections = ["--config", tmp_path / "label.json", "--site", self.site(store)]
            return self.run("import", *words, *sections)

        def label(self, frames, out="label", store="store"):
            write_frames(tmp_path / f"{out}.extxyz", frames)
            self.run("batch", *self.batch(out, store))
            return read_json(tmp_path / out / "batch" / "000.json")["labels"]

        def batch(self, out, store="store"):
            sections = ["--config", tmp_path / "label.json", "--site", self.site(store)]
            return [
                *sections,
                "--frames",
                tmp_path / f"{out}.extxyz",
                "--batch",
                0,
                "--batches",
                1,
                "--out",
                tmp_path / out,
            ]

        def pw(self, name, settings, atoms, *changes):
            """An output of pw.x in `other`, of an input that mlpwf wrote and somebody changed."""
            folder = tmp_path / "other"
            folder.mkdir(exist_ok=True)
            pw.write_input(folder / f"{name}.in", atoms, settings, Path(Site().pseudopotential_folder))
            text = (folder / f"{name}.in").read_text().replace("./scratch", f"./{name}")
            for old, new in changes:
                assert old in text
                text = text.replace(old, new)
            (folder / f"{name}.in").write_text(text)
            with (folder / f"{name}.out").open("w") as out:
                environment = os.environ | {"OMP_NUM_THREADS": "1"}
                subprocess.run(["pw.x", "-in", f"{name}.in"], cwd=folder, stdout=out, env=environment, check=True)
            return folder

        @property
        def started(self):
            return len(list(kept.glob("*.out")))

        def labels(self, store="store"):
            return Store(tmp_path / store).all_keys()

    made = Place()
    made.configure()
    return made


# ---------------------------------------------------------------- import


def test_a_campaign_finds_imported_labels_and_computes_nothing(place):
    frames = [water(1), water(2)[[2, 0, 1]]]
    place.label(frames)
    assert place.started == 2
    lines = place.take(place.root / "kept", store="new")
    assert lines[-1] == "label import: 2 imported, 0 known, 0 refused"
    assert place.labels("new") == place.labels("store")
    for key in place.labels():
        mine, theirs = Store(place.root / "store").get(key), Store(place.root / "new").get(key)
        names = ("energy_ev", "forces_ev_angstrom", "stress_ev_angstrom3", "physics", "engine_version")
        assert [getattr(mine, name) for name in names] == [getattr(theirs, name) for name in names]
        assert theirs.cpu_s == pytest.approx(mine.cpu_s, rel=0.7)
    again = place.label(frames, out="again", store="new")
    assert [entry["reused"] for entry in again] == [True, True]
    assert place.started == 2
    lines = place.take(place.root / "kept", store="new")
    assert lines[-1] == "label import: 0 imported, 2 known, 0 refused"


def test_outputs_of_other_settings_are_refused_by_name(place):
    settings = place.configure()
    system, electrons = "&SYSTEM\n", "&ELECTRONS\n"
    for name, old, new in (
        ("as-asked", system, system),
        ("zero-damping", "dftd3_version    = 4", "dftd3_version    = 3"),
        ("three-body", "dftd3_threebody  = .false.", "dftd3_threebody  = .true."),
        ("charged", system, system + "tot_charge = 2\n"),
        ("magnetic", system, system + "nspin = 2, tot_magnetization = 0\n"),
        ("excited", system, system + "occupations = 'from_input', nbnd = 5\n"),
        ("smoothed", system, system + "qcutz = 100, q2sigma = 0.1, ecfixed = 15\n"),
        ("augmented", electrons, electrons + "tqr = .true.\n"),
        ("projected", electrons, electrons + "real_space = .true.\n"),
        ("hubbard", system, system + "lda_plus_u = .true., Hubbard_U(1) = 1\n"),
        ("functional", "'rpbe'", "'pbe'"),
        ("threshold", "conv_thr         = 1e-06", "conv_thr         = 1e-05"),
    ):
        extra = [("K_POINTS gamma", "K_POINTS gamma\n\nOCCUPATIONS\n2 2 2 1 1")] if name == "excited" else []
        folder = place.pw(name, settings, water(3), (old, new), *extra)
    text = (folder / "as-asked.out").read_text()
    (folder / "cut.out").write_text(text[: text.index("JOB DONE")])
    (folder / "killed.out").write_text(text[: len(text) // 3])
    (folder / "queue.out").write_text("job 17 is waiting\n")
    *lines, last = place.take(folder)
    assert last == "label import: 1 imported, 0 known, 13 refused (8 other physics, 5 bad output)"
    why = {line.split("other/")[1].split(".out: ")[0]: line.split(".out: ")[1] for line in lines}
    assert why.keys() == {path.stem for path in folder.glob("*.out")} - {"as-asked", "queue"}
    for name, words in {
        "zero-damping": "other physics: D3 energy is -0.000",
        "three-body": "expected of D3(BJ) without the three-body term",
        "charged": "6 electrons, 8 expected in a neutral cell",
        "magnetic": "the sum of the weights of the k-points is 1, 2 expected",
        "excited": "Occupations read from input",
        "smoothed": "A smooth kinetic-energy cutoff is imposed",
        "augmented": "Real space treatment of",
        "projected": "Real space treatment of",
        "hubbard": "a term 'Hubbard energy'",
        "functional": "bad output: functional is ['PBE', 'PBE'], rpbe expected",
        "threshold": "bad output: the SCF threshold in Ry is 1e-05, 1e-06 expected",
        "cut": "bad output: 0 lines of JOB DONE, 1 expected",
    }.items():
        assert words in why[name]
    assert len(place.labels()) == 1


def test_every_dispersion_is_told_from_every_other(place):
    """Two-body and three-body D3(BJ) of each functional: one is accepted for each setting, the other never."""
    for functional in ("rpbe", "pbe", "revpbe", "blyp"):
        for threebody in (False, True):
            settings = place.configure(functional=functional, dispersion_threebody=threebody)
            place.pw(f"{functional}-{threebody}", settings, water(4))
    for functional in ("rpbe", "pbe", "revpbe", "blyp"):
        for threebody in (False, True):
            place.configure(functional=functional, dispersion_threebody=threebody)
            last = place.take(place.root / "other")[-1]
            assert last == "label import: 1 imported, 0 known, 7 refused (6 bad output, 1 other physics)"


def test_grids_and_smearing_are_those_asked_for(place):
    asked = {"kpoints": [2, 1, 2], "smearing": "mp", "smearing_width_ry": 0.02}
    settings = place.configure(**asked)
    place.label([water(5)])
    written = pw.kpoints_of(settings, np.eye(3))
    rows = "\n".join(" ".join(f"{value:.10f}" for value in row) for row in written.rows())
    card = f"K_POINTS crystal\n{len(written.points)}\n{rows}"
    for name, change in {
        "by-pw": (card, "K_POINTS automatic\n2 1 2  0 0 0"),
        "shifted": (card, "K_POINTS automatic\n2 1 2  1 0 1"),
        "coarser": (card, "K_POINTS automatic\n2 1 1  0 0 0"),
        "finer": (card, "K_POINTS automatic\n4 1 2  0 0 0"),
        "gaussian": ("'mp'", "'gaussian'"),
        "narrow": ("0.02", "0.0199"),
        "tetrahedra": ("'smearing'", "'tetrahedra'"),
    }.items():
        automatic = [(card, "K_POINTS automatic\n2 1 2  0 0 0")] if name == "tetrahedra" else []
        folder = place.pw(name, settings, water(5), change, *automatic)
    lines = place.take(place.root / "kept", folder, store="new")
    assert lines[-1] == "label import: 1 imported, 1 known, 6 refused (4 bad output, 2 other physics)"
    assert place.labels("new") == place.labels("store")
    assert sum("k-points are" in line for line in lines) == 3


def test_numbers_without_an_output_need_the_users_word(place):
    place.label([water(6)])
    place.run("export", "--site", place.site(), "--out", place.root / "data")
    place.run("export", "--site", place.site(), "--out", place.root / "data.extxyz")
    for campaign, source in enumerate(("data", "data.extxyz")):
        with pytest.raises(ConfigError, match=r"data.*: holds numbers that do not say by what physics .*--asserted"):
            place.take(place.root / source, store=f"new-{source}")
        lines = place.take(place.root / source, "--asserted", store=f"new-{source}")
        assert lines[-1] == "label import: 1 imported, 0 known, 0 refused"
        assert place.labels(f"new-{source}") == place.labels()
        entries = place.label([water(6)], out=f"use{campaign}", store=f"new-{source}")
        assert entries[0]["reused"], "an asserted label serves a campaign"
    assert place.started == 1


def test_nothing_taken_is_an_error(place):
    place.label([water(7)])
    place.configure(cutoff_ry=19)
    with pytest.raises(DataError, match=r"^0 imported, 0 known, 1 refused \(1 bad output\); mend"):
        place.take(place.root / "kept", store="new")
    place.configure(engine="gfn1")
    with pytest.raises(ConfigError, match=r"is an output of pw\.x; label\.engine is gfn1, qe expected"):
        place.take(place.root / "kept", store="new")


# ---------------------------------------------------------------- export


def test_export_writes_one_physics_in_every_format(place):
    place.configure(engine="gfn1")
    place.label([water(8)])
    place.configure()
    place.label([water(8), water(9)], out="qe")
    out = place.root / "set.extxyz"
    with pytest.raises(ConfigError, match=r"holds 1 x gfn1; 2 x qe, functional rpbe.*name it by --config"):
        place.run("export", "--site", place.site(), "--out", out)
    chosen = ["export", "--site", place.site(), "--config", place.root / "label.json", "--out"]
    assert place.run(*chosen, out)[-1] == f"label export: 2 labels in {out}"
    asked = place.run(
        "collect", *place.batch("qe")[:6], "--batch", place.root / "qe/batch/000.json", "--out", place.root / "qe"
    )
    assert asked
    mine = {frame.info["label"]: frame for frame in read_frames(place.root / "qe" / "labels.extxyz")}
    for frame in read_frames(out):
        assert frame.get_potential_energy() == mine[frame.info["label"]].get_potential_energy()
    for name in ("set.db", "set.traj", "set"):
        assert place.run(*chosen, place.root / name)[-1] == f"label export: 2 labels in {place.root / name}"
    assert len(ase.io.read(place.root / "set.db", index=":")) == 2
    assert np.load(place.root / "set" / "000" / "set.000" / "energy.npy").dtype == np.float64
    for name, more in (("set.csv", []), ("set.out", ["--format", "ase"])):
        with pytest.raises(ConfigError, match=r"expected a suffix of \.extxyz, .*, \.jsonl\.gz, or none"):
            place.run(*chosen, place.root / name, *more)
    assert place.run(*chosen, place.root / "set.txt", "--format", "extxyz")
    place.configure(cutoff_ry=19)
    with pytest.raises(ConfigError, match="no label of this physics; the store holds 1 x gfn1"):
        place.run(*chosen, out)


# ---------------------------------------------------------------- check


def mlpwf(*words):
    command = [sys.executable, "-m", "mlpwf", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_check_names_what_is_damaged_and_removes_nothing(place):
    clash = water(1)
    clash.positions[1] = clash.positions[0] + [0.3, 0, 0]
    place.label([water(1), water(2), clash, water(3)[:2]])
    store = Store(place.root / "store")
    (store.root / "flight" / "left.lock").touch()
    whole = mlpwf("label", "check", "--site", place.site())
    assert whole.returncode == 0
    assert "left.lock: left by a process that was killed" in whole.stderr
    assert whole.stderr.splitlines()[-1] == "label check: 2 labels, 2 rejected, 0 without a checksum, none damaged"

    first, second = (store.path("labels", key) for key in store.all_keys())
    record = json.loads(first.read_text())
    record["energy_ev"] += 1e-3
    first.write_text(json.dumps(record))
    record = json.loads(second.read_text())
    del record["sha256"]
    second.write_text(json.dumps(record))
    (raw,) = store.root.glob("aside/*/*.out.gz")
    raw.unlink()
    before = sorted(store.root.rglob("*"))
    result = mlpwf("label", "check", "--site", place.site())
    assert result.returncode == 2
    *_, last = result.stderr.splitlines()
    assert last.startswith("mlpwf: 2 labels, 2 rejected, 1 without a checksum, 2 damaged: ")
    assert str(first) in last
    assert raw.name.removesuffix(".out.gz") in last
    assert last.endswith("delete them: they are computed again when asked for")
    assert sorted(store.root.rglob("*")) == before

    with pytest.raises(DataError, match="its checksum is not that of its content"):
        place.label([water(1), water(2)], out="again")
    first.unlink()
    entries = place.label([water(1), water(2)], out="again")
    assert sorted(entry["reused"] for entry in entries) == [False, True]
    assert store.check("labels", first.stem)


def test_a_store_that_is_not_there_is_one_line(place):
    with pytest.raises(ConfigError, match="absent: no label store; expected the folder named by label_store"):
        place.run("check", "--site", place.site("absent"))


# ---------------------------------------------------------------- two campaigns


def test_two_campaigns_share_a_store_and_compute_each_label_once(place):
    write_frames(place.root / "one.extxyz", [water(seed) for seed in (1, 2, 3, 0)])
    write_frames(place.root / "two.extxyz", [water(seed)[[1, 2, 0]] for seed in (1, 2, 3, 4)])
    running = [
        subprocess.Popen([sys.executable, "-m", "mlpwf", "label", "batch", *map(str, place.batch(out))])
        for out in ("one", "two")
    ]
    assert [process.wait(300) for process in running] == [0, 0]
    assert place.started == 5
    assert len(place.labels()) == 5
    one, two = (read_json(place.root / out / "batch" / "000.json")["labels"] for out in ("one", "two"))
    assert all(entry["accepted"] for entry in one + two)
    assert sum(not entry["reused"] for entry in one + two) == 5
    assert [entry["key"] for entry in one[:3]] == [entry["key"] for entry in two[:3]]
    assert Store(place.root / "store").leftovers() == []
    assert mlpwf("label", "check", "--site", place.site()).returncode == 0
