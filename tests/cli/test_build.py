"""`mlpwf build` on a temporary folder, with the real engines."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from mlpwf.build.command import build
from mlpwf.config import Campaign
from mlpwf.errors import ConfigError, DataError
from mlpwf.structures.boxes import density
from mlpwf.structures.frames import minimum_distance, read_frames

SETTINGS = {
    "temperatures_kelvin": [300, 400],
    "density_scales": [0.9, 1.0],
    "single_frames": 3,
    "dimer_frames": 2,
    "bulk_frames": 6,
    "test_frames": 4,
    "steps_between_frames": 2,
}
FILES = ("molecules.extxyz", "bulk.extxyz", "start.extxyz", "test.extxyz")


def run(folder, *, molecules=None, settings=SETTINGS, options=(), seed=1):
    campaign = Campaign.model_validate(
        {
            "name": "x",
            "seed": seed,
            "system": {"molecules": molecules or {"water": {"smiles": "O", "count": 4}}, "density_g_cm3": 0.9},
            "build": settings,
        }
    )
    folder.mkdir(exist_ok=True)
    for name in ("system", "build"):
        (folder / f"{name}.json").write_text(json.dumps(campaign.sections()[name]))
    app = typer.Typer()
    app.command()(build)
    paths = ["--system", str(folder / "system.json"), "--config", str(folder / "build.json")]
    result = CliRunner().invoke(app, [*paths, "--out", str(folder / "build"), *options])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return folder / "build"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return run(tmp_path_factory.mktemp("built") / "c")


def test_a_killed_build_goes_on_and_gives_the_same_frames(built, tmp_path, caplog):
    code = "import sys, typer; from mlpwf.build.command import build; app = typer.Typer(); app.command()(build); app()"
    for name in ("system", "build"):
        shutil.copy(built.parent / f"{name}.json", tmp_path)
    sections = ["--system", str(tmp_path / "system.json"), "--config", str(tmp_path / "build.json")]
    process = subprocess.Popen([sys.executable, "-c", code, *sections, "--out", str(tmp_path / "build")])
    deadline = time.monotonic() + 900
    while len(list((tmp_path / "build" / "work").glob("[0-9a-f]*.json"))) < 3:
        assert process.poll() is None, "the build ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "build" / "summary.json").exists()
    with caplog.at_level("INFO", "mlpwf"):
        again = run(tmp_path)
    assert re.search(r"single molecules: reusing 2 of 2 sampler runs", caplog.text)
    assert re.search(r"bulk: reusing [1-4] of 4 sampler runs", caplog.text)
    assert {name: (again / name).read_bytes() for name in FILES} == {n: (built / n).read_bytes() for n in FILES}
    assert not (again / "work").exists()


def test_kinds_and_states(built):
    start, test = read_frames(built / "start.extxyz"), read_frames(built / "test.extxyz")
    assert [atoms.info["kind"] for atoms in start] == ["single"] * 3 + ["dimer"] * 2 + ["bulk"] * 6
    states = [atoms.info["state"] for atoms in start]
    assert states[:5] == ["300K_gas"] * 2 + ["400K_gas"] + ["dimer"] * 2
    assert states[5:] == ["300K_0.9"] * 2 + ["300K_1"] * 2 + ["400K_0.9", "400K_1"]
    assert [atoms.info["state"] for atoms in test] == ["300K_0.9", "300K_1", "400K_0.9", "400K_1"]
    assert [atoms.info["state"] for atoms in read_frames(built / "bulk.extxyz")] == ["bulk_0.9", "bulk_1"]


def test_frames_are_sound_and_unlabelled(built):
    for name in FILES[1:]:
        for atoms in read_frames(built / name):
            assert atoms.calc is None
            assert "forces" not in atoms.arrays
            assert atoms.pbc.all()
            assert minimum_distance(atoms) >= 0.6
            molecule = atoms.arrays["molecule"]
            assert molecule.tolist() == [k // 3 for k in range(len(atoms))]
            assert list(atoms.symbols) == ["O", "H", "H"] * (molecule[-1] + 1)
            for number in range(molecule[-1] + 1):
                assert atoms[molecule == number].get_all_distances().max() < 2.2


def test_boxes_of_several_sizes(tmp_path):
    settings = SETTINGS | {"box_multiples": [1, 2], "density_scales": [0.9], "single_frames": 0, "dimer_frames": 0}
    folder = run(tmp_path / "c", settings=settings | {"temperatures_kelvin": [300], "test_frames": 2})
    boxes = read_frames(folder / "bulk.extxyz")
    assert [len(atoms) for atoms in boxes] == [12, 24]
    assert [atoms.info["state"] for atoms in boxes] == ["bulk_0.9", "bulk_0.9_2fold"]
    assert [density(atoms) for atoms in boxes] == pytest.approx([0.81, 0.81], rel=1e-6)
    start = read_frames(folder / "start.extxyz")
    assert [(len(atoms), atoms.info["state"]) for atoms in start] == [(12, "300K_0.9")] * 3 + [
        (24, "300K_0.9_2fold")
    ] * 3


def test_densities(built):
    for atoms, scale in zip(read_frames(built / "bulk.extxyz"), (0.9, 1.0), strict=True):
        assert density(atoms) == pytest.approx(0.9 * scale, rel=1e-6)
    for atoms in read_frames(built / "test.extxyz"):
        assert density(atoms) == pytest.approx(0.9 * float(atoms.info["state"].split("_")[1]), rel=1e-6)


def test_held_out_frames_are_far_from_the_others(built):
    start = [atoms for atoms in read_frames(built / "start.extxyz") if atoms.info["kind"] == "bulk"]
    for held_out in read_frames(built / "test.extxyz"):
        for atoms in start:
            difference = held_out.get_all_distances(mic=True) - atoms.get_all_distances(mic=True)
            assert np.abs(difference).max() > 0.3


def test_summary(built):
    summary = json.loads((built / "summary.json").read_text())
    assert summary["seed"] == 1
    assert summary["start"]["kinds"] == {"single": 3, "dimer": 2, "bulk": 6}
    assert summary["test"]["frames"] == 4
    assert summary["start"]["minimum_distance_angstrom"]["bulk"] >= 0.6
    assert summary["molecules"] == {"water": 4}
    assert {"ase", "numpy", "packmol", "rdkit", "tblite"} == set(summary["versions"])
    assert summary["cpu_s"] > 0
    assert json.loads((built / "cost.jsonl").read_text())["finished"] is True


def test_two_processes_write_the_same_bytes_and_another_seed_does_not(built, tmp_path, caplog):
    with caplog.at_level("INFO", "mlpwf"):
        again = run(tmp_path / "again", options=("--threads", "2"))
    assert "build: bulk_0.9: relaxing 12 atoms by gfn1" in caplog.text, "what the workers say is lost"
    for name in FILES:
        assert (again / name).read_bytes() == (built / name).read_bytes(), name
    other = run(tmp_path / "other", seed=2)
    assert (other / "test.extxyz").read_bytes() != (built / "test.extxyz").read_bytes()


def test_a_sampler_process_has_one_thread_whatever_snakemake_gives_its_job(tmp_path, monkeypatch):
    """With two, a step of two toluenes costs three times the CPU time, and more wall time."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # as Snakemake sets it for a job of two threads
    run(tmp_path / "c", options=["--molecules-only"])
    assert os.environ["OMP_NUM_THREADS"] == "1"


def test_other_frames_do_not_change_the_boxes(built, tmp_path):
    more = run(tmp_path / "more", settings=SETTINGS | {"test_frames": 2, "single_frames": 0, "dimer_frames": 1})
    assert (more / "bulk.extxyz").read_bytes() == (built / "bulk.extxyz").read_bytes()
    before, after = (
        [atoms for atoms in read_frames(folder / "start.extxyz") if atoms.info["kind"] == "bulk"]
        for folder in (built, more)
    )
    assert all(np.array_equal(a.positions, b.positions) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(
    ("molecule", "message"),
    [
        ({"smiles": "c1ccccc"}, r"system.molecules.x.smiles: 'c1ccccc' is not a SMILES; expected"),
        ({"structure": "absent.xyz"}, r"system.molecules.x.structure: no such file"),
        ({"structure": "molecule.nonsense"}, r"system.molecules.x.structure: cannot read .*nonsense"),
    ],
)
def test_a_bad_species_is_one_line(tmp_path, monkeypatch, molecule, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "molecule.nonsense").write_text("no structure at all\n")
    with pytest.raises(ConfigError, match=message) as caught:
        run(tmp_path / "c", molecules={"x": molecule})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "c" / "build" / "summary.json").exists()


def test_an_empty_smiles_in_the_section_is_one_line(tmp_path):
    folder = tmp_path / "c"
    with pytest.raises(ConfigError):
        run(folder, molecules={"x": {"smiles": "c1ccccc"}})
    section = json.loads((folder / "system.json").read_text())
    section["molecules"]["x"]["smiles"] = ""
    (folder / "system.json").write_text(json.dumps(section))
    with pytest.raises(ConfigError, match="an empty SMILES; expected for example"):
        build(folder / "system.json", folder / "build.json", folder / "build")


def test_a_structure_file(tmp_path):
    from ase.build import molecule

    molecule("H2O").write(tmp_path / "water.xyz")
    settings = SETTINGS | {"bulk_frames": 1, "test_frames": 2, "single_frames": 0, "dimer_frames": 0}
    settings |= {"temperatures_kelvin": [300], "density_scales": [1.0]}
    out = run(
        tmp_path / "c", molecules={"water": {"structure": str(tmp_path / "water.xyz"), "count": 2}}, settings=settings
    )
    (reference,) = read_frames(out / "molecules.extxyz")
    assert reference.info["species"] == "water"
    assert len(read_frames(out / "start.extxyz")) == 1


def test_a_failed_build_leaves_no_summary(built, tmp_path):
    out = run(tmp_path / "c", settings=SETTINGS | {"bulk_frames": 1, "test_frames": 2})
    assert (out / "summary.json").exists()
    with pytest.raises(DataError):
        run(tmp_path / "c", settings=SETTINGS | {"density_scales": [1.99], "minimum_distance_angstrom": 1.0})
    assert not (out / "summary.json").exists()
    assert json.loads((out / "cost.jsonl").read_text().splitlines()[-1])["finished"] is False
