"""The shipped toluene by OPLS-AA, shortened: molecules, production, analysis and report by one Snakemake."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mlpwf.files import read_json
from mlpwf.status.reading import read_status

PROJECT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    """Eight molecules at one temperature, for a picosecond."""
    folder = tmp_path_factory.mktemp("opls")
    shutil.copytree(PROJECT / "config", folder / "config")
    values = yaml.safe_load((PROJECT / "config/systems/toluene_opls.yaml").read_text())
    values["simulate"] |= {
        "molecules": 8, "temperatures_kelvin": [300], "equilibration_ps": 0.4, "length_ps": 1,
        "linear_interval_ps": 0.05,
    }  # fmt: skip
    values["analyse"] |= {"blocks": 3, "bootstrap": 10}
    (folder / "config/systems/short.yaml").write_text(yaml.safe_dump(values))
    command = [str(BIN / "snakemake"), "--snakefile", str(PROJECT / "Snakefile"), "--cores", "1", "--config"]
    command += ["system=config/systems/short.yaml", "site=config/sites/local.yaml"]
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "results" / "toluene_opls"


@pytest.mark.engine
def test_a_force_field_needs_no_model(campaign):
    assert not {"cycle", "test", "train", "validate"} & {path.name for path in campaign.iterdir()}
    assert [path.name for path in (campaign / "build").glob("*.extxyz")] == ["molecules.extxyz"]
    status = read_status(campaign)
    assert status.stage == "done"
    assert {run.state: run.done_ps for run in status.production} == {"300K": 1.0}


@pytest.mark.engine
def test_its_tables_are_those_of_any_campaign(campaign):
    (row,) = csv.DictReader((campaign / "analyse/states.csv").open())
    assert (row["state"], row["ensemble"], row["molecules"]) == ("300K", "nvt", "8")
    summary = read_json(campaign / "simulate/300K/segment/000/summary.json")
    assert (summary["stable"], summary["intact"]) == (True, True)


@pytest.mark.engine
def test_the_report_says_what_moved_the_molecules(campaign):
    page = (campaign / "report/report.html").read_text()
    assert "Production by a given force field." in page
    assert "classical, through LAMMPS: toluene_opls.lammps, toluene_opls.data" in page
    for absent in ("cycle/000", "train/final", "Learning curve", "force error between molecules"):
        assert absent not in page
