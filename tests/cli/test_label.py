"""`mlpwf label` with the real pw.x: accepted, rejected, reused, never repeated."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from typer.testing import CliRunner

from mlpwf.calculators.base import Rejected
from mlpwf.calculators.espresso import pw
from mlpwf.calculators.espresso.acceptance import accept
from mlpwf.campaign.budget import affordable_labels, label_core_hours
from mlpwf.config import Label, Site, load_section
from mlpwf.errors import ConfigError, DataError, EngineError
from mlpwf.files import read_json, write_json
from mlpwf.label.commands import app
from mlpwf.label.store import Store
from mlpwf.structures.frames import quantised, read_frames, write_frames

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(shutil.which("pw.x") is None, reason="no pw.x on PATH: `./start setup` installs it"),
]
SETTINGS = {"cutoff_ry": 25, "density_cutoff_ry": 150, "convergence_ry": 1e-6, "kpoints": "gamma"}


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
    assert summary["rejected"] == {"clash": 1, "crashed": 1}
    assert "0.300 Å" in summary["rejected_frames"][0]["detail"]
    assert campaign.starts == 3, "a clash is never sent to pw.x"
    assert [frame.info["state"] for frame in frames] == ["gas", "gas"]
    assert np.isfinite(frames[1].get_forces()).all()
    raw = list((campaign.root / "store" / "aside").rglob("*.out.gz"))
    assert len(raw) == 1


def test_a_pw_that_does_not_begin_fails_the_job_and_not_the_frames(campaign):
    """A library that is not there, a launcher of another MPI: mended, the frames are as good as before."""
    no_library = "echo 'pw.x: error while loading shared libraries: libmpi.so.40' >&2; exit 127"
    campaign.configure(site={"pw": ["sh", "-c", no_library]})
    with pytest.raises(EngineError, match=r"did not begin.*exit status 127 and said: .*libmpi\.so\.40; .*mend `pw`"):
        campaign.label([water(1)])
    campaign.configure()
    summary, _ = campaign.label([water(1)])
    assert (summary["accepted"], summary["reused"]) == (1, 0)


def test_a_batch_stops_before_its_wall_time_and_goes_on_in_the_next_job(campaign):
    write_frames(campaign.root / "frames.extxyz", [water(1), water(2), water(3)])
    with pytest.raises(EngineError, match="1 of 3 labels done when the wall time"):
        campaign.run("batch", "--batch", 0, "--batches", 1, "--minutes", 0.001)
    with pytest.raises(EngineError, match="2 of 3 labels done"):
        campaign.run("batch", "--batch", 0, "--batches", 1, "--minutes", 0.001)
    campaign.run("batch", "--batch", 0, "--batches", 1, "--minutes", 600)
    assert campaign.starts == 3, "a label was repeated"
    assert [entry["reused"] for entry in read_json(campaign.out / "batch" / "000.json")["labels"]] == [
        True,
        True,
        False,
    ]


def test_running_again_computes_nothing(campaign):
    clash = water(1)
    clash.positions[1] = clash.positions[0] + [0.3, 0, 0]
    first, frames = campaign.label([water(1), clash])
    second, again = campaign.label([water(1), clash])
    assert campaign.starts == 1
    assert (first["reused"], second["reused"]) == (0, 2)
    assert np.array_equal(frames[0].get_forces(), again[0].get_forces())


def test_an_unconverged_scf_is_attempted_with_other_numerics(campaign):
    """Other mixing and more steps, the same physics: the label a converging run gives."""
    campaign.configure(convergence_ry=1e-9, maximum_scf_steps=10, mixing_beta=0.01)
    summary, frames = campaign.label([water(1)])
    assert summary["accepted"] == 1
    attempts = read_json(campaign.out / "batch" / "000.json")["labels"][0]["attempts"]
    assert [(a["attempt"], a["reason"]) for a in attempts] == [("as asked", "not converged"), ("local-TF mixing", None)]
    assert campaign.starts == 2
    assert summary["retries"] == {"local-TF mixing": 1}
    shutil.rmtree(campaign.root / "store")
    campaign.configure(convergence_ry=1e-9)
    _, direct = campaign.label([water(1)])
    assert np.abs(frames[0].get_forces() - direct[0].get_forces()).max() < 1e-3
    assert campaign.starts == 3


def test_unconverged_scf_is_rejected_and_tried_again_with_other_numerics(campaign):
    campaign.configure(maximum_scf_steps=10, mixing_beta=0.01, retries=0)
    with pytest.raises(DataError, match="1 x not converged"):
        campaign.label([water(1)])
    campaign.configure()
    summary, _ = campaign.label([water(1)])
    assert summary["accepted"] == 1


def test_out_of_time_is_rejected(campaign):
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
def test_damaged_outputs_are_rejected(campaign, program, reason):
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
    store.put(keys[2], msgspec.structs.replace(record, energy_ev=record.energy_ev + 5.0))
    before = campaign.starts
    summary, labelled = campaign.label(frames)
    assert [doubt["frame"] for doubt in summary["doubts"]] == [2, 8]
    assert "differ by" in summary["doubts"][0]["disagreement"]
    assert summary["doubts"][1]["disagreement"] == "", "a stretched molecule is odd, but its label is right"
    assert summary["rejected"] == {"implausible": 1}
    assert len(labelled) == summary["accepted"] == 8
    assert campaign.starts == before + 1, "the second calculation is kept as well"


def test_xtb_labels_are_named_so_and_never_mixed_with_dft(campaign):
    campaign.label([water(1)])
    campaign.configure(engine="gfn2")
    summary, (frame,) = campaign.label([water(1)])
    assert (summary["engine"], summary["accepted"], summary["reused"]) == ("gfn2", 1, 0)
    assert summary["physics"] == {"engine": "gfn2"}
    assert frame.info["engine"] == "gfn2"
    assert len(list((campaign.root / "store" / "labels").rglob("*.json"))) == 2
    step, energies = 1e-3, []
    for sign in (1, -1):
        moved = water(1)
        moved.positions[1, 2] += sign * step
        energies.append(campaign.label([moved])[1][0].get_potential_energy())
    assert frame.get_forces()[1, 2] == pytest.approx((energies[1] - energies[0]) / (2 * step), abs=1e-3)
    assert campaign.starts == 1


def test_the_budget_is_not_overrun(campaign):
    """Labels stop when the core-hours are spent, but for the one in flight; known ones stay free."""
    frames = [water(seed) for seed in range(5)]
    campaign.configure(budget_core_hours=1.0)
    write_frames(campaign.root / "frames.extxyz", frames)
    campaign.label(frames[:1])
    spent = label_core_hours(campaign.out)
    assert 0.2 / 3600 < spent < 60 / 3600
    campaign.configure(budget_core_hours=1.2 * spent)
    summary, _ = campaign.label(frames)
    assert summary["accepted"] in (2, 3)
    assert summary["reused"] == 1
    assert summary["rejected"] == {"over budget": 5 - summary["accepted"]}
    assert campaign.starts == summary["accepted"]
    assert not list((campaign.root / "store" / "aside").rglob("*.json")), "a label not bought is not a failure"
    assert affordable_labels(campaign.out, label_core_hours(campaign.out)) == 0
    assert affordable_labels(campaign.out, 2 * label_core_hours(campaign.out)) >= 2
    campaign.configure(budget_core_hours=1.0)
    assert campaign.label(frames)[0]["accepted"] == 5


def test_missing_pseudopotential_and_program_are_one_line(campaign):
    campaign.configure(pseudopotentials={"O": "absent.UPF", "H": "HUSPBE.RRKJ3"})
    with pytest.raises(ConfigError, match=r"pseudopotentials\.O: no file .*absent\.UPF"):
        campaign.label([water(1)])
    campaign.configure(site={"pw": ["no-such-pw.x"]})
    with pytest.raises(EngineError, match=r"cannot start 'no-such-pw\.x'"):
        campaign.label([water(1)])
    assert not list((campaign.root / "store").rglob("*.json")), "nothing is rejected for a broken site"


@pytest.mark.parametrize(("labels", "kills_asked"), [pytest.param(4, 6), pytest.param(20, 100, marks=pytest.mark.long)])
def test_killed_at_any_instant_no_label_is_repeated(campaign, labels, kills_asked):
    """SIGKILL of the labelling process at random instants: each label once, whole.

    The kernel may kill between two labels, so that pw.x is started at most once more for each kill.
    """
    frames = [water(seed) for seed in range(labels)]
    write_frames(campaign.root / "frames.extxyz", frames)
    command = [sys.executable, "-m", "mlpwf", "label", *campaign.arguments("batch", "--batch", 0, "--batches", 1)]
    random = np.random.default_rng(7)
    kills = 0
    while True:
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
        before = campaign.starts
        if kills < kills_asked:
            if random.random() < 0.8:  # most kills while pw.x runs, the others wherever they fall
                while campaign.starts == before and process.poll() is None:
                    time.sleep(0.01)
            time.sleep(random.uniform(0, 1.0))
        else:
            process.wait()
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    assert process.returncode == 0
    assert kills >= labels
    stored = sorted((campaign.root / "store" / "labels").rglob("*.json"))
    assert len(stored) == labels
    assert all("energy_ev" in json.loads(path.read_text()) for path in stored)
    print(f"{kills} kills, {campaign.starts} starts of pw.x for {labels} labels")
    assert campaign.starts <= labels + kills


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


# ---------------------------------------------------------------- k-points, and the error of the labels themselves


def hydrogens(seed, edge, count=1, kind="bulk"):
    """So many H2 in boxes side by side along x, each 3.2 Å wide or `edge`."""
    rng = np.random.default_rng(seed)
    atoms = Atoms(cell=[edge * count, 3.4, 3.6], pbc=True)
    for place in range(count):
        axis = rng.normal(size=3)
        middle = np.array([edge * (place + 0.5), 1.7, 1.8])
        step = 0.38 * axis / np.linalg.norm(axis)
        atoms += Atoms("H2", [middle - step, middle + step])
    atoms.arrays["molecule"] = np.repeat(np.arange(count), 2)
    atoms.info |= {"kind": kind, "state": "gas"}
    return quantised(atoms)


def test_auto_takes_the_points_each_cell_needs_and_comes_near_a_dense_grid(campaign):
    frames = [hydrogens(1, 3.2), hydrogens(2, 3.2, count=2)]
    forces = {}
    for name, kpoints in (("auto", "auto"), ("gamma", "gamma"), ("dense", [4, 4, 4, 1, 1, 1])):
        campaign.configure(kpoints=kpoints, image_distance_angstrom=7.5, convergence_ry=1e-8)
        summary, labelled = campaign.label(frames)
        assert summary["accepted"] == 2
        forces[name] = [atoms.get_forces() for atoms in labelled]
        if name == "auto":
            assert summary["physics"]["kpoints"] == {"image_distance_angstrom": 7.5}
    records = [read_json(path)["physics"]["kpoints"] for path in (campaign.root / "store" / "labels").rglob("*.json")]
    counts = sorted(len(points) for points in records if points != "gamma")
    assert counts == [3, 6, 32, 32], "of the larger box fewer; the grid with k and -k as one"

    def error(name):
        return np.sqrt(np.mean((forces[name][0] - forces["dense"][0]) ** 2))

    assert error("gamma") > 0.05, "eV/Å"
    assert error("auto") < 0.005


def test_an_output_with_other_points_or_weights_is_no_label(campaign):
    """The whitelist reads both: a list with one point moved, or two weights exchanged, is rejected."""
    campaign.configure(kpoints="auto", image_distance_angstrom=7.5)
    atoms = hydrogens(1, 3.2)
    points = pw.kpoints_of(load_section(Label, campaign.root / "label.json")[0], atoms.cell.array)
    assert len(points.points) == 6
    first = f"{points.points[0][0]:.10f} {points.points[0][1]:.10f}"
    for change in (f"s/^{first}/0.1000000000 0.2000000000/", "0,/0.1666666667$/s/0.1666666667$/0.5000000000/"):
        altered = campaign.root / "altered.sh"
        altered.write_text(f'#!/bin/sh\nsed -i \'{change}\' "$2"\nexec pw.x "$@"\n')
        altered.chmod(0o755)
        campaign.configure(site={"pw": [str(altered)]}, kpoints="auto", image_distance_angstrom=7.5, retries=0)
        with pytest.raises(DataError, match=r"none of 1 labels was accepted; 1 x bad output \(k-points are"):
            campaign.label([atoms])
        shutil.rmtree(campaign.root / "store")


def test_two_runs_joined_that_differ_in_their_points_alone_are_no_label(tmp_path):
    """Wherever they are joined before the bands: these are printed at the points of the second run."""
    asked = Label(**SETTINGS | {"kpoints": "auto", "image_distance_angstrom": 7.5})
    atoms, site = hydrogens(1, 3.2), Site()
    hashes = pw.pseudopotential_hashes(["H"], asked, Path(site.pseudopotential_folder))
    points = pw.kpoints_of(asked, atoms.cell.array).points
    moved = asked.model_copy(update={"kpoints": [(x + 0.11, y + 0.07, z) for x, y, z in points]})
    texts = []
    for number, label in enumerate((asked, moved)):
        (folder := tmp_path / str(number)).mkdir()
        status, text = pw.run(atoms, label, site, folder)
        assert status == 0
        texts.append(text)
        accept(0, text, atoms, label, hashes)
    for place in ("Dense  grid", "Self-consistent Calculation", "End of self-consistent calculation"):
        first, second = (text.index(place) for text in texts)
        with pytest.raises(Rejected, match="bands are printed at 6 k-points that are not those of the list"):
            accept(0, texts[0][:first] + texts[1][second:], atoms, asked, hashes)


def test_the_error_of_the_labels_is_measured_by_box_and_lever(campaign):
    """Γ in small boxes: k-points are nearly all of the error, more in the smaller box; with auto little is left."""
    frames = [hydrogens(seed, 3.2) for seed in range(3)] + [hydrogens(seed, 3.2, count=2) for seed in range(3, 6)]
    frames.append(hydrogens(9, 3.3, kind="single"))
    found = {}
    for kpoints in ("gamma", "auto"):
        campaign.configure(kpoints=kpoints, image_distance_angstrom=9.0, cutoff_ry=30, error_frames=2)
        campaign.label(frames)
        words = ["--labels", campaign.out / "labels.extxyz", "--out", campaign.root / kpoints]
        sections = ["--config", campaign.root / "label.json", "--site", campaign.root / "site.json"]
        result = CliRunner().invoke(app, [str(word) for word in ("error", *sections, *words)])
        assert result.exception is None, result.exception
        found[kpoints] = read_json(campaign.root / kpoints / "error.json")
        assert [(row["atoms"], row["frames"]) for row in found[kpoints]["rows"]] == [(2, 2), (4, 2), (None, 4)]
        table = (campaign.root / kpoints / "error.csv").read_text().splitlines()
        assert table[0].startswith("atoms,frames,edge_angstrom,lever,force_mev_angstrom,net_force_mev_angstrom")
        assert len(table) == 1 + 3 * 3

    def force(kpoints, row, lever):
        return found[kpoints]["rows"][row]["errors"][lever]["force_rmse_ev_angstrom"]

    assert force("gamma", 0, "k-points") > 0.05, "eV/Å"
    assert force("gamma", 2, "total") > 0.9 * force("gamma", 2, "k-points") > 3 * force("gamma", 2, "cut-offs")
    assert force("auto", 2, "k-points") < 0.1 * force("gamma", 2, "k-points")
    assert force("auto", 2, "cut-offs") == pytest.approx(force("gamma", 2, "cut-offs"), rel=0.3)
    for row in found["gamma"]["rows"]:
        assert row["errors"]["total"]["energy_bias_mev_atom"] is not None
    assert found["gamma"]["rows"][0]["errors"]["total"]["energy_rmse_mev_atom"] > 0
    starts = campaign.starts
    CliRunner().invoke(app, [str(word) for word in ("error", *sections, *words)], catch_exceptions=False)
    assert campaign.starts == starts, "every converged label is in the store"


def test_a_frame_that_cannot_be_converged_is_said_and_ends_nothing(campaign):
    campaign.configure(kpoints="gamma", error_frames=1)
    campaign.label([hydrogens(1, 3.2)])
    fails = ["sh", "-c", "echo '     Program PWSCF v.6.7 starts on'; exit 1"]
    campaign.configure(kpoints="gamma", error_frames=1, site={"pw": fails})
    sections = ["--config", campaign.root / "label.json", "--site", campaign.root / "site.json"]
    words = ["--labels", campaign.out / "labels.extxyz", "--out", campaign.root / "error"]
    CliRunner().invoke(app, [str(word) for word in ("error", *sections, *words)], catch_exceptions=False)
    document = read_json(campaign.root / "error" / "error.json")
    assert document["rows"] == []
    assert document["failures"][0].startswith("H2 was rejected: crashed")
