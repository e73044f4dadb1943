"""Single stages on a real Slurm, by the shipped rules and with the real programs."""

from __future__ import annotations

import math
import shutil
import signal
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from mlpwf.calculators.espresso.parallel import mpi_command, mpirun_of
from mlpwf.campaign.paths import State
from mlpwf.campaign.segments import segments
from mlpwf.files import read_json, write_json
from mlpwf.simulate.command import app as simulate
from mlpwf.structures.frames import write_frames
from slurm.cluster import PATIENCE, Cluster, wait_until
from slurm.workflow import Project
from toy_water import DENSITY, WATER

PMIX = Path("/usr/lib/x86_64-linux-gnu/pmix2/lib/libpmix.so")  # what Slurm's plugin opens
SITE = {"slurm": {"max_minutes": 120}, "pseudopotential_folder": "/usr/share/espresso/pseudo"}
COUNTED_PW = '#!/bin/sh\necho "${OMPI_COMM_WORLD_RANK:-$SLURM_PROCID}" >>ranks\nexec pw.x "$@"\n'


def label_jobs(folder: Path, cluster: Cluster) -> Project:
    """Two single molecules to be labelled in one job; each process of pw.x notes its rank."""
    project = Project(folder, cluster, "label")
    project.environment["OMPI_MCA_mpi_yield_when_idle"] = "1"  # of cores that others use too
    counted = folder / "pw.sh"
    counted.write_text(COUNTED_PW.replace("ranks", f"'{folder / 'ranks'}'"))
    counted.chmod(0o755)
    (folder / "results/water/build").mkdir(parents=True)
    still = WATER.copy()
    still.set_cell([5.0] * 3)
    moved = still.copy()
    moved.rattle(0.02, seed=1)
    write_frames(folder / "results/water/build/start.extxyz", [still, moved])
    system = {
        "name": "water",
        "system": {"molecules": {"water": {"smiles": "O", "count": 1}}, "density_g_cm3": DENSITY},
        "build": {"bulk_frames": 2, "single_frames": 0, "dimer_frames": 0},
        "label": {
            "cutoff_ry": 20,
            "density_cutoff_ry": 100,
            "convergence_ry": 1e-6,
            "kpoints": "gamma",
            "batch_frames": 2,
        },
    }
    (folder / "config/systems/mine.yaml").write_text(yaml.safe_dump(system))
    return project


def label(project: Project, *pw: str) -> int:
    site = SITE | {"pw": [*pw], "label_threads": 2}
    (project.folder / "config/sites/slurm.yaml").write_text(yaml.safe_dump(site))
    (project.folder / "ranks").write_text("")
    target = "results/water/cycle/000/label/batch/000.json"
    return project.run(target, "--retries", "0", "--config", "system=config/systems/mine.yaml")


@pytest.mark.engine
@pytest.mark.skipif(mpirun_of("pw.x") is None, reason="no mpirun of pw.x")
def test_labels_of_two_processes_under_mpirun(cluster: Cluster, tmp_path: Path) -> None:
    """As `mlpwf label parallel` writes it; before, with a launcher that cannot start this pw.x."""
    project = label_jobs(tmp_path / "water $(touch pwned)", cluster)
    program = str(project.folder / "pw.sh")
    assert label(project, "srun", "--mpi=none", "-n", "2", program) != 0
    (log,) = (project.folder / "logs").rglob("batch/000.log")
    assert "pw.x did not begin: 'srun --mpi=none -n 2" in log.read_text()
    assert label(project, *mpi_command([program], 2, str(mpirun_of("pw.x")))) == 0, project.said
    check_labels(project)


@pytest.mark.engine
@pytest.mark.skipif(not PMIX.exists(), reason=f"no {PMIX} for Slurm to talk to Open MPI; root can install libpmix-dev")
def test_labels_of_two_processes_under_srun(cluster: Cluster, tmp_path: Path) -> None:
    project = label_jobs(tmp_path / "water", cluster)
    assert label(project, "srun", "--mpi=pmix", "-n", "2", str(project.folder / "pw.sh")) == 0, project.said
    check_labels(project)


def check_labels(project: Project) -> None:
    """Both accepted, not reused, each by two processes of one pw.x."""
    labels = read_json(project.folder / "results/water/cycle/000/label/batch/000.json")["labels"]
    assert [(entry["accepted"], entry["reused"]) for entry in labels] == [(True, False)] * 2
    assert sorted((project.folder / "ranks").read_text().split()) == ["0", "0", "1", "1"]
    assert not list(project.folder.parent.rglob("pwned"))


# A node on which programs start slowly: what is left of the job's minute is short, whatever the machine.
LATE = 'sleep $(( SLURM_JOB_END_TIME - $(date +%s) > 16 ? SLURM_JOB_END_TIME - $(date +%s) - 16 : 0 )); exec "$@"\n'


@pytest.mark.engine
@pytest.mark.long
def test_production_in_jobs_of_a_minute_is_the_uninterrupted_run(tmp_path: Path, water_models: list[Path]) -> None:
    """Slurm's shortest wall time; a busy machine may start late, so that Slurm lets jobs live on beyond it."""
    settings = {"molecules": 8, "equilibration_ps": 0.005, "linear_interval_ps": 0.025, "temperatures_kelvin": [300]}
    liquid = {"molecules": {"water": {"smiles": "O", "count": 8}}, "density_g_cm3": DENSITY}
    with Cluster(extra="OverTimeLimit=20") as cluster:
        project = Project(tmp_path / "water", cluster, "simulate")
        results = project.folder / "results" / "water"
        for target in (results / "train/final/compressed.pb", results / "build/molecules.extxyz"):
            target.parent.mkdir(parents=True)
        shutil.copy(water_models[0], results / "train/final/compressed.pb")
        write_frames(results / "build/molecules.extxyz", [WATER])
        system = {"name": "water", "system": liquid, "simulate": settings | {"length_ps": 5000}}
        (project.folder / "config/systems/mine.yaml").write_text(yaml.safe_dump(system))
        (project.folder / "late.sh").write_text(LATE)
        site = SITE | {"slurm": {"max_minutes": 1}, "lammps_launcher": ["bash", str(project.folder / "late.sh")]}
        (project.folder / "config/sites/slurm.yaml").write_text(yaml.safe_dump(site))
        target = "results/water/simulate/300K/run/5000ps.json"
        process = project.snakemake(target, "--config", "system=config/systems/mine.yaml")
        state = results / "simulate/300K"
        try:
            wait_until(cluster.jobs, f"a job\n{project.said}")
            assert cluster.slurm("squeue", "-h", "-o", "%l").split() == ["1:00"]
            wait_until(lambda: "Slurm's job 3." in project.said, "two segments, and a job for a third", 4 * PATIENCE)
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE)
        finally:
            project.kill(process)
        wait_until(lambda: not cluster.jobs(), "the third job to end")
    assert " ended " not in project.said, "a job was not in time, or failed"
    first, second = (summary.end_ps for summary in segments(State(state))[:2])
    assert 0 < first < second < 5000
    whole = uninterrupted(results, math.ceil(second / 0.025) * 0.025)
    parts = [state / "segment" / number / "trajectory.trr" for number in ("000", "001")]
    assert whole.read_bytes().startswith(b"".join(part.read_bytes() for part in parts))


def uninterrupted(results: Path, length_ps: float) -> Path:
    """The trajectory of the same run at a stretch."""
    config = results / "config"
    write_json(config / "whole.json", read_json(config / "simulate.json") | {"length_ps": round(length_ps, 6)})
    write_json(config / "here.json", {"seed": 1})
    words = ["segment", "--config", config / "whole.json", "--site", config / "here.json"]
    words += ["--system", config / "system.json", "--model", results / "train/final/compressed.pb"]
    words += ["--molecules", results / "build/molecules.extxyz", "--state", "300K", "--segment", 0]
    done = CliRunner().invoke(simulate, [*map(str, words), "--out", str(results / "whole")])
    assert done.exception is None, done.exception
    return results / "whole/segment/000/trajectory.trr"
