"""A copy of the project's working files, so that campaigns run as a user runs them."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import yaml

from campaign import changed

PROJECT = Path(__file__).parents[2]
# A campaign takes its share of the cores: more processes than cores cost each of them half its cache.
CORES = max(1, len(os.sched_getaffinity(0)) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))

# Each stage does what it does in the shipped campaign, on a quarter of the labels and steps.
SMALL_TOLUENE = {
    "build": {"bulk_frames": 8, "test_frames": 3, "density_scales": [0.94, 1.0], "steps_between_frames": 4},
    "label": {"error_frames": 0},
    "train": {"steps": 400, "steps_continued": 300, "steps_final": 100},
    "explore": {"walkers": 1, "steps": 400},
    "select": {"budget": 4},
    "validate": {"nve_ps": 0.5, "nvt_ps": 1, "npt_ps": 0.5},
    "simulate": {"temperatures_kelvin": [350, 300], "equilibration_ps": 0.2, "length_ps": 1, "linear_interval_ps": 0.1},
}


class Workplace:
    """A folder with the project's files, where `./start run` runs and can be killed."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("Snakefile", "workflow", "config", "profiles", "envs", "start"):
            source = PROJECT / name
            if source.is_dir():
                shutil.copytree(source, folder / name)
            else:
                shutil.copy2(source, folder / name)
        (folder / ".venv").symlink_to(PROJECT / ".venv")
        (folder / ".tools").mkdir()
        for tool in (PROJECT / ".tools").iterdir():
            if tool.is_dir():
                (folder / ".tools" / tool.name).symlink_to(tool)
        self.log = folder / "terminal.log"

    def change(self, system, changes):
        """Settings of the shipped system file, replaced section by section."""
        path = self.folder / "config" / "systems" / f"{system}.yaml"
        values = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump(changed(values, changes)))

    def begin(self, system):
        """Start a campaign in a process group of its own."""
        with self.log.open("ab") as sink:
            return subprocess.Popen(
                ["./start", "run", f"config/systems/{system}.yaml", "--cores", str(CORES)],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, system, timeout=4700):
        """Run a campaign to its end; its terminal output on failure."""
        process = self.begin(system)
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            status = "unfinished"
        assert status == 0, f"{system} ended with {status}\n{self.log.read_text()[-6000:]}"
        return self.folder / "results" / system


@pytest.fixture(scope="session")
def workplaces(tmp_path_factory):
    """Make a fresh workplace by name."""
    return lambda name: Workplace(tmp_path_factory.mktemp(name))


@pytest.fixture(scope="session")
def tiny_water(workplaces):
    """The shipped water campaign, run once to its end."""
    return workplaces("water").run("tiny_water")


@pytest.fixture(scope="session")
def small_toluene(workplaces):
    """The shipped toluene campaign with fewer frames and shorter runs, run once to its end."""
    place = workplaces("toluene")
    place.change("tiny_toluene", SMALL_TOLUENE)
    return place.run("tiny_toluene")


@pytest.fixture(scope="session")
def tiny_toluene(workplaces):
    """The shipped toluene campaign, run once to its end."""
    return workplaces("toluene").run("tiny_toluene")
