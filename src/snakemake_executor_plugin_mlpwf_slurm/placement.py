"""From a job's resources to the options of sbatch."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

from snakemake_executor_plugin_mlpwf_slurm.ledger import digest

# resource of a rule or of default-resources: option of sbatch
PLACES = {
    "slurm_partition": "--partition",
    "slurm_account": "--account",
    "slurm_qos": "--qos",
    "slurm_constraint": "--constraint",
    "slurm_reservation": "--reservation",
}


def placement_of(job: Any) -> str:
    """A short name for where a job goes; memory and time, which grow with each attempt, are not part of it."""
    return digest([job.resources.get(name) for name in (*PLACES, "slurm_gpus", "slurm_tasks", "slurm_options")])


def name_of(job: Any) -> str:
    """Rule and wildcards, as squeue shows them."""
    wildcards = json.loads(job.properties()).get("wildcards") or {}
    words = "-".join([job.name, *map(str, wildcards.values())])
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", words)[:100]


def minutes_asked(job: Any) -> int:
    """The run time the job asks for (min)."""
    return max(1, int(job.resources.get("runtime", 60)))


def _cores(job: Any) -> list[str]:
    """One process with all cores; or a core for each of `slurm_tasks`, which is what mpirun and srun count."""
    tasks = int(job.resources.get("slurm_tasks", 1))
    return [f"--ntasks={tasks}", f"--cpus-per-task={max(1, job.threads // tasks)}"]


def asked_of(job: Any, minutes: int) -> list[str]:
    """Options of sbatch that say what a job needs, and where it goes."""
    options = ["--nodes=1", *_cores(job), f"--time={minutes}"]
    if job.resources.get("mem_mb"):
        options.append(f"--mem={int(job.resources['mem_mb'])}")
    for resource, option in PLACES.items():
        if job.resources.get(resource):
            options.append(f"{option}={job.resources[resource]}")
    if job.resources.get("slurm_gpus"):
        options.append(f"--gres=gpu:{job.resources['slurm_gpus']}")
    return options + shlex.split(str(job.resources.get("slurm_options", "")))


def options_of(job: Any, minutes: int, name: str, comment: str, log: Path) -> list[str]:
    """Options of sbatch for one job."""
    log.parent.mkdir(parents=True, exist_ok=True)
    folder = str(log.parent).replace("%", "%%")
    return [
        f"--job-name={name}",
        f"--comment={comment}",
        f"--output={folder}/{log.name}",
        "--export=ALL",
        "--requeue",
        *asked_of(job, minutes),
    ]
