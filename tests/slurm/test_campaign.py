"""The water campaign on a real Slurm, from a molecule to the report, through the shipped profile."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import yaml

from campaign import changed, check_complete, label_keys
from slurm.cluster import Cluster, wait_until
from slurm.workflow import PROJECT, SNAKEMAKE, Project

pytestmark = [
    pytest.mark.engine,
    pytest.mark.campaign,
    pytest.mark.skipif(shutil.which("pw.x") is None, reason="no pw.x on PATH: `./start setup` installs it"),
]


# The shipped campaign with fewer frames and shorter runs: what is tested here is the way through Slurm.
SMALLER = {
    "build": {"bulk_frames": 10, "single_frames": 2, "dimer_frames": 2, "test_frames": 2, "steps_between_frames": 4},
    "label": {"batch_frames": 7},
    "train": {"steps": 800},
    "explore": {"temperatures_kelvin": [300], "walkers": 1, "steps": 200, "steps_between_frames": 20},
    "select": {"budget": 4, "maximum_cycles": 1},
    "validate": {"molecules": 8, "nve_ps": 0.2, "nvt_ps": 0.2, "npt_ps": 0.2},
    "simulate": {
        "molecules": 8, "temperatures_kelvin": [325, 300], "equilibration_ps": 0.1, "length_ps": 0.4,
        "linear_interval_ps": 0.02,
    },
}  # fmt: skip
SITE = {
    "pseudopotential_folder": "/usr/share/espresso/pseudo",
    "slurm": {"max_memory_mb": 32000, "max_minutes": 120},
    "slurm_stages": {"simulate": {"partition": "urgent"}},
}


def look(place: Project, *options: str) -> str:
    """What a dry run beside the running workflow says; it must change nothing that is not the workflow's own."""
    done = subprocess.run(
        [SNAKEMAKE, "--profile", "slurm", *options], cwd=place.folder, capture_output=True, text=True,
        env=place.cluster.environment, check=False,
    )  # fmt: skip
    return f"{done.returncode} {done.stdout}{done.stderr}"


def test_tiny_water_on_slurm(cluster: Cluster, tmp_path: Path) -> None:
    """Killed once among its labels; a second Snakemake, a dry run and edits of both configs on the way."""
    place = Project(tmp_path / "water $(touch pwned)", cluster)
    chosen = ("--jobs", "2", "--config", "system=config/systems/mine.yaml")
    system = place.folder / "config" / "systems" / "mine.yaml"
    shipped = yaml.safe_load((PROJECT / "config" / "systems" / "tiny_water.yaml").read_text())
    mine = changed(shipped, SMALLER)
    system.write_text(yaml.safe_dump(mine))
    site = place.folder / "config" / "sites" / "slurm.yaml"
    site.write_text(yaml.safe_dump(SITE))
    sections = place.folder / "results" / "tiny_water" / "config"

    def labels() -> int:
        return len(list((place.folder / "store" / "labels").rglob("*.json")))

    process = place.snakemake(*chosen)
    try:
        wait_until(lambda: labels() >= 3, f"three labels; the user saw\n{place.said}", 1800)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        site.write_text(yaml.safe_dump(SITE | {"train_threads": 2}))
        process = place.snakemake(*chosen)
        wait_until(lambda: "the last run was killed" in place.said, f"the second start; the user saw\n{place.said}")
        assert "a workflow already runs in this folder" in look(place, *chosen)
        section = sections / "simulate.json"
        before, when = section.read_text(), section.stat().st_mtime_ns
        system.write_text(yaml.safe_dump(mine | {"simulate": mine["simulate"] | {"length_ps": 0.8}}))
        assert look(place, "-n", *chosen).startswith("0 ")
        assert (section.read_text(), section.stat().st_mtime_ns) == (before, when), "a dry run changed a section"
        system.write_text(yaml.safe_dump(mine))
        status = process.wait(2400)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert status == 0, f"ended with {status}\n{place.said[-6000:]}"
    final = check_complete(place.folder / "results" / "tiny_water")
    assert final["cycle"] == 0
    keys = [key for found in label_keys(place.folder / "results" / "tiny_water").values() for key in found]
    assert len(keys) == len(set(keys)) >= 14
    assert not list(tmp_path.rglob("pwned"))
    assert "Nothing to be done" in look(place, "-n", *chosen), "an edit of the site plans no redo"


@pytest.mark.long
def test_the_shipped_water_campaign_on_slurm(cluster: Cluster, tmp_path: Path) -> None:
    """As it is shipped, by the literal command, from start to report."""
    place = Project(tmp_path / "water", cluster)
    (place.folder / "config/sites/slurm.yaml").write_text(yaml.safe_dump(SITE))
    process = place.snakemake("--config", "system=config/systems/tiny_water.yaml")
    try:
        status = process.wait(2400)
    finally:
        place.kill(process)
    assert status == 0, f"ended with {status}\n{place.said[-6000:]}"
    check_complete(place.folder / "results" / "tiny_water")
