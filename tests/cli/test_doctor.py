"""`mlpwf doctor`: a sound site, and each check made to fail for real."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml
from ase import Atoms
from typer.testing import CliRunner

from mlpwf.calculators.registry import calculator
from mlpwf.config import Site, Train, load_campaign, load_site
from mlpwf.doctor import machine, programs
from mlpwf.errors import ConfigError
from mlpwf.findings import Level, made
from toy_water import needs_mace

PROJECT = Path(__file__).parents[2]
WATER = PROJECT / "config" / "systems" / "tiny_water.yaml"
BIN = Path(sys.executable).parent
HOSTILE = """-rf 'q' "d" $(touch pwned) `touch pwned` @0 {x} [ab]* %d"""
HYDROGEN = Atoms("H2", [[0, 0, 0], [0, 0, 0.62]], cell=[4.5, 4.6, 5.3], pbc=True)
needs_pw = pytest.mark.skipif(shutil.which("pw.x") is None, reason="no pw.x on PATH: `./start setup` installs it")


def site(folder, **values):
    """A site file that differs from the defaults, loaded."""
    (folder / "site.yaml").write_text(yaml.safe_dump({"label_store": str(folder / "store"), **values}))
    return load_site(folder / "site.yaml")


def one(findings):
    (finding,) = findings
    return finding


# ---------------------------------------------------------------- the command


@pytest.mark.engine
@needs_pw
def test_a_sound_site_passes_in_a_folder_of_any_name(tmp_path):
    """All programs at work, dp included: nothing of the folder's name is run."""
    folder = tmp_path / HOSTILE
    folder.mkdir()
    scratch = Path(tempfile.mkdtemp(prefix="-x '$(touch pwned)` \""))  # short: Open MPI has its sockets there
    site(folder, label_store="store")
    done = subprocess.run(
        [str(BIN / "mlpwf"), "doctor", str(WATER), "--site", "site.yaml"],
        cwd=folder, capture_output=True, text=True, check=False,
        env=os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}", "TMPDIR": str(scratch)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "18 checks: 0 failed, 0 with a warning"
    assert {line.split()[0] for line in lines[:-1]} == {"ok"}
    for words in (
        "2 k-points in 4.9 Å: images 8.5 Å apart",
        "version 6.7MaX",
        "dp 3.2.0: 10 steps",
        "10 steps with models of the engine deepmd",
    ):
        assert words in done.stdout
    assert not [*tmp_path.rglob("pwned"), *scratch.rglob("pwned")]
    assert [path.name for path in sorted(folder.iterdir())] == ["results", "site.yaml", "store"]
    for place in (folder / "results", folder / "store"):
        assert not list(place.iterdir()), "something is left behind"
    assert not list(scratch.glob("*mlpwf*"))
    shutil.rmtree(scratch)


def test_a_failure_is_a_line_with_a_remedy_and_exit_2(tmp_path, monkeypatch):
    from mlpwf.cli import _register, app

    monkeypatch.chdir(tmp_path)
    site(tmp_path, pw=["false"], dp=["no-such-dp"], pseudopotential_folder=str(tmp_path))
    _register()
    result = CliRunner().invoke(app, ["doctor", str(WATER), "--site", "site.yaml"])
    assert result.exit_code == 2
    lines = result.output.splitlines()
    assert [line.split()[:3] for line in lines if line.startswith("failed")] == [
        ["failed", "potential", "H"],
        ["failed", "potential", "O"],
        ["failed", "dp", "cannot"],
    ]
    assert all("expected" in line for line in lines if line.startswith("failed"))
    assert lines[-1].endswith("3 failed, 0 with a warning")


def test_without_a_campaign_it_checks_the_one_a_run_would_take(tmp_path, monkeypatch):
    from mlpwf.doctor.command import _named

    shutil.copytree(PROJECT / "config", tmp_path / "config")
    monkeypatch.chdir(tmp_path)
    assert _named("system", slurm=False) == Path("config/systems/tiny_toluene.yaml")
    assert _named("site", slurm=False) == Path("config/sites/local.yaml")
    assert _named("site", slurm=True) == Path("config/sites/slurm.yaml")
    (tmp_path / "config" / "config.yaml").write_text("site: x\n")
    with pytest.raises(ConfigError, match="names no system"):
        _named("system", slurm=False)


# ---------------------------------------------------------------- the machine


@pytest.mark.parametrize("place", ["/dev/null/results", "/proc/results"])
def test_a_folder_that_cannot_be_made_or_written_to(place):
    finding = one(machine.writable("results", Path(place)))
    assert finding.level is Level.FAILED
    assert place in finding.line


def test_locks_of_another_process_are_seen_and_those_of_nobody_missed(tmp_path):
    assert one(machine.locks("locks", tmp_path)).level is Level.OK
    with machine.held_lock(tmp_path):
        assert one(machine.locks("locks", tmp_path, held_elsewhere=True)).level is Level.OK
    finding = one(machine.locks("locks", tmp_path, held_elsewhere=True))
    assert finding.level is Level.FAILED
    assert "not seen by other machines" in finding.line
    with (tmp_path / machine.LOCK_FILE).open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        finding = one(machine.locks("locks", tmp_path))
    assert finding.level is Level.FAILED


@pytest.mark.skipif(shutil.which("faketime") is None, reason="no faketime: Debian's package of that name")
@pytest.mark.parametrize(
    ("offset", "words"), [("+60s", "60.0 s ahead of"), ("-60s", "s behind"), ("+0s", "within 2 s")]
)
def test_a_wrong_clock(offset, words, tmp_path):
    """The process has a wrong clock, the file system the machine's own."""
    script = "import sys\nfrom pathlib import Path\nfrom mlpwf.doctor.machine import clock\n"
    script += "print(*(finding.line for finding in clock('clock', Path(sys.argv[1]))))"
    done = subprocess.run(
        ["faketime", "-f", offset, sys.executable, "-c", script, str(tmp_path)],
        capture_output=True, text=True, check=True, env=os.environ | {"NO_FAKE_STAT": "1"},
    )  # fmt: skip
    assert words in done.stdout
    assert done.stdout.startswith("ok" if offset == "+0s" else "failed")


def test_room_for_a_campaign_larger_than_the_disk(tmp_path):
    campaign = load_campaign(WATER)
    megabytes, files = machine.needed_mb(campaign)
    assert one(machine.room("room", tmp_path, megabytes, files)).level is Level.OK
    huge = campaign.simulate.model_copy(update={"length_ps": 1e9, "molecules": 100_000})
    needed, _ = machine.needed_mb(campaign.model_copy(update={"simulate": huge}))
    finding = one(machine.room("room", tmp_path / "not" / "there", needed, files))
    assert finding.level is Level.FAILED
    assert f"GB free at {tmp_path}" in finding.line
    free = shutil.disk_usage(tmp_path).free / 1e6
    assert one(machine.room("room", tmp_path, free / 2, files)).level is Level.WARNING


# ---------------------------------------------------------------- the programs


@pytest.mark.engine
@needs_pw
@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exit 3", "did not begin"),
        ("echo Program PWSCF v.9 starts; echo forrtl: severe", "forrtl: severe"),
        ('pw.x "$@" | head -n 100', "bad output"),
    ],
)
def test_a_pw_that_does_not_work(script, words, tmp_path):
    pw = tmp_path / "pw"
    pw.write_text(f"#!/bin/sh\n{script}\n")
    pw.chmod(0o755)
    labelling = calculator(load_campaign(WATER).label, site(tmp_path, pw=[str(pw)]), ["H"])
    finding = one(made("pw.x", lambda: labelling.single_point(HYDROGEN)))
    assert finding.level is Level.FAILED
    assert words in finding.line


def test_a_program_that_is_not_there(tmp_path):
    place = site(tmp_path, pw=["no-such-pw"], dp=["no-such-dp"])
    campaign = load_campaign(WATER)
    for name, work in (
        ("pw.x", lambda: calculator(campaign.label, place, ["H"]).single_point(HYDROGEN)),
        ("dp", lambda: programs.training(campaign.train, place, tmp_path, ["H"])),
    ):
        finding = one(made(name, work))
        assert finding.level is Level.FAILED
        assert f"cannot start 'no-such-{name[:2]}'" in finding.line


@pytest.mark.parametrize(
    ("file", "words"),
    [(None, "no file"), ("C.pbe-van_bm.UPF", "is for C; H expected"), ("cut", "ends before its tables do")],
)
@needs_pw
def test_a_pseudopotential_that_will_not_do(file, words, tmp_path):
    campaign, shipped = load_campaign(WATER), Path("/usr/share/espresso/pseudo")
    name = campaign.label.pseudopotentials["H"]
    if file == "cut":
        label = campaign.label.model_copy(update={"pseudopotentials": {"H": "H.UPF"}})
        campaign = campaign.model_copy(update={"label": label})
        (tmp_path / "H.UPF").write_text((shipped / "C.pbe-van_bm.UPF").read_text()[:20_000])
    elif file:
        label = campaign.label.model_copy(update={"pseudopotentials": {"H": file}})
        campaign = campaign.model_copy(update={"label": label})
        shutil.copy(shipped / file, tmp_path)
    else:
        assert not (tmp_path / name).exists()
    place = site(tmp_path, pseudopotential_folder=str(tmp_path))
    finding = one(calculator(campaign.label, place, ["H"]).potentials())
    assert finding.level is Level.FAILED
    assert words in finding.line


@pytest.mark.engine
@pytest.mark.parametrize(("launcher", "level"), [([], Level.OK), (["false"], Level.FAILED)])
def test_lammps(launcher, level, tmp_path, water_models):
    for name, model in zip(("model.pb", "compressed.pb"), water_models, strict=True):
        (tmp_path / name).symlink_to(model)
    finding = one(programs.dynamics(Train(), site(tmp_path, lammps_launcher=launcher), tmp_path, ["H"]))
    assert finding.level is level, finding.line


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="there is a GPU")
def test_a_gpu_that_is_not_there():
    finding = one(programs.gpus(1))
    assert finding.level is Level.FAILED
    assert "nvidia-smi" in finding.line


def test_a_molecule_without_geometry(tmp_path):
    values = yaml.safe_load(WATER.read_text())
    values["system"]["molecules"]["water"]["smiles"] = "no-SMILES"
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(values))
    finding = one(programs.programs(load_campaign(tmp_path / "c.yaml"), site(tmp_path)))
    assert finding.level is Level.FAILED
    assert "system.molecules.water.smiles" in finding.line


@pytest.mark.parametrize(
    ("python", "said"), [("/nowhere/python", "no Python there"), (sys.executable, "No module named")]
)
def test_a_mace_that_is_not_there(python, said):
    finding = one(made("MACE", lambda: programs.mace(Site(mace_python=python))))
    assert finding.level is Level.FAILED
    assert said in finding.line
    assert "./start mace" in finding.line


@pytest.mark.engine
@pytest.mark.parametrize(
    ("train", "said"),
    [
        (
            Train(engine="mace", baseline="molecular"),
            r"mace_torch \d.*, torch \d.*: 10 steps, trained",
        ),
        (Train(engine="molecular"), "fitted: trained and deployed"),
    ],
)
def test_the_engine_of_the_campaign_is_tried(train, said, tmp_path):
    if train.engine == "mace":
        needs_mace()
        finding = one(made("MACE", lambda: programs.mace(Site())))
        assert finding.level is Level.OK
        assert re.search(r"mace-torch \d.*PyTorch \d.*GPUs \d", finding.line)
    trained = one(programs.training(train, site(tmp_path), tmp_path, ["H"]))
    assert trained.level is Level.OK
    assert re.search(said, trained.line)
    ran = one(programs.dynamics(train, site(tmp_path), tmp_path, ["H"]))
    assert ran.level is Level.OK, ran.line
    assert f"10 steps with models of the engine {train.potential}" in ran.line
