"""One workflow a folder, and the config it was started with: who gets what, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mlpwf.campaign import run
from mlpwf.campaign.run import SNAPSHOT, only_looks, open_run
from mlpwf.errors import ConfigError

PROJECT = Path(__file__).parents[2]
WATER = yaml.safe_load((PROJECT / "config" / "systems" / "tiny_water.yaml").read_text())
HOLD = """
import sys
from mlpwf.campaign.run import open_run
open_run({"system": "system.yaml", "site": "site.yaml"}, job=False, look=False)
print("holds", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(SNAPSHOT, raising=False)
    write(budget=8)
    Path("site.yaml").write_text("slurm: {partition: one}\n")
    yield tmp_path
    while run._held:
        run._held.pop().close()


@pytest.fixture
def running(folder):
    """Another process that runs a workflow in this folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "holds\n"
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def write(budget):
    Path("system.yaml").write_text(yaml.safe_dump(WATER | {"select": WATER["select"] | {"budget": budget}}))


def begin(job=False, look=False):
    return open_run({"system": "system.yaml", "site": "site.yaml"}, job=job, look=look)


@pytest.mark.parametrize(
    "words", ["-n", "-np", "--dry-run", "--summary", "--lint", "--dag", "--unlock", "--list-rules", "-l"]
)
def test_what_only_looks(words):
    assert only_looks(["--profile", "slurm", *words.split()])


@pytest.mark.parametrize("words", ["-c1", "--jobs 5", "--config name=n", "-k", "--touch", "--forceall", "-j 2"])
def test_what_works(words):
    assert not only_looks(["--profile", "slurm", *words.split()])


def test_a_second_workflow_is_refused_and_a_look_sees_the_running_config(running, folder, capsys):
    section = folder / "results" / "tiny_water" / "config" / "select.json"
    before = section.stat().st_mtime_ns
    write(budget=9)
    with pytest.raises(ConfigError, match="a workflow already runs in this folder \\(process"):
        begin()
    assert begin(look=True).campaign.select.budget == 8
    assert "by the config it was started with" in capsys.readouterr().err
    assert section.stat().st_mtime_ns == before


def test_a_killed_workflow_leaves_no_lock_that_holds(running, folder, monkeypatch, capsys):
    lock = folder / ".snakemake" / "locks" / "0.input.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    running.kill()
    running.wait()
    begin()
    assert not lock.exists()
    assert "the last run was killed" in capsys.readouterr().err
    monkeypatch.delenv(SNAPSHOT)


def test_a_job_keeps_the_config_it_was_submitted_with(folder, monkeypatch):
    begin()
    snapshot = os.environ[SNAPSHOT]
    write(budget=9)
    Path("site.yaml").write_text("slurm: {partition: two}\n")
    section = folder / "results" / "tiny_water" / "config" / "select.json"
    before = section.stat().st_mtime_ns
    job = begin(job=True)
    assert (job.campaign.select.budget, job.site.slurm.partition) == (8, "one")
    assert section.stat().st_mtime_ns == before, "a job wrote a section"
    run._held.pop().close()
    begin()
    assert os.environ[SNAPSHOT] != snapshot, "a job of the older start would see the newer config"
    monkeypatch.setenv(SNAPSHOT, snapshot)
    assert begin(job=True).campaign.select.budget == 8
    monkeypatch.delenv(SNAPSHOT)
