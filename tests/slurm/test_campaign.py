"""The water campaign on a real Slurm, from a molecule to the report, through the shipped profile."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from slurm.cluster import Cluster

PROJECT = Path(__file__).parents[2]
SNAKEMAKE = str(Path(sys.executable).parent / "snakemake")
pytestmark = [
    pytest.mark.engine,
    pytest.mark.campaign,
    pytest.mark.skipif(shutil.which("pw.x") is None, reason="no pw.x on PATH: `./start setup` installs it"),
]


class Place:
    """A copy of the project in a folder of an odd name, as a user of a cluster has it."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self.folder, self.cluster = folder, cluster
        folder.mkdir()
        for name in ("Snakefile", "workflow", "config", "profiles", "slurm"):
            source = PROJECT / name
            if source.is_symlink() or source.is_file():
                shutil.copy2(source, folder / name, follow_symlinks=False)
            else:
                shutil.copytree(source, folder / name)
        self.terminal = folder / "terminal.log"

    def snakemake(self, *options: str) -> subprocess.Popen[bytes]:
        """The literal command a user types, polling more often than is polite elsewhere."""
        with self.terminal.open("ab") as sink:
            return subprocess.Popen(
                [SNAKEMAKE, "--profile", "slurm", "--mlpwf-slurm-poll-seconds", "3", *options],
                cwd=self.folder,
                env=self.cluster.environment,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        return self.terminal.read_text()


def files_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of each file of the results and of the jobs' books."""
    found = {}
    for path in [*folder.glob("results/**/*"), *folder.glob(".snakemake/mlpwf*/*"), *folder.glob(".snakemake/locks/*")]:
        if path.is_file() and ".work" not in str(path):
            found[str(path)] = (path.stat().st_size, path.stat().st_mtime_ns)
    return found


def test_tiny_water_on_slurm(cluster: Cluster, tmp_path: Path) -> None:
    place = Place(tmp_path / "water $(touch pwned)", cluster)
    system = place.folder / "config" / "systems" / "mine.yaml"
    system.write_text((PROJECT / "config" / "systems" / "tiny_water.yaml").read_text())
    site = place.folder / "config" / "sites" / "slurm.yaml"
    values = yaml.safe_load(site.read_text())
    values |= {
        "pw": ["pw.x"],
        "pseudopotential_folder": "/usr/share/espresso/pseudo",
        "train_threads": 1,
        "md_threads": 1,
        "slurm": {"partition": "cpu", "most_memory_mb": 32000, "longest_minutes": 120},
    }
    site.write_text(yaml.safe_dump(values))
    process = place.snakemake("--jobs", "2", "--config", "system=config/systems/mine.yaml")
    try:
        status = process.wait(2400)
    except subprocess.TimeoutExpired:
        status = "unfinished"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert status == 0, f"ended with {status}\n{place.said[-6000:]}"
