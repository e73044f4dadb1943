"""A site: where programs and pseudopotentials are. Never physics."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from mlpwf.config.base import MOST_CORES, Section

Stage = Literal["build", "label", "train", "explore", "select", "validate", "simulate", "analyse", "report"]
LAUNCHERS = {"mpirun", "mpiexec", "orterun", "prun", "srun", "aprun", "jsrun"}
Word = Annotated[str, Field(pattern=r"^[^\s\"'\\\\]+$")]


def launched(command: Sequence[str]) -> bool:
    """Whether a launcher starts this command's program, as several processes."""
    return any(Path(word).name in LAUNCHERS for word in command)


class Slurm(Section):
    """Where jobs go on a Slurm cluster and what they may ask for; no result depends on it."""

    earlier: ClassVar[Mapping[str, str]] = {
        "longest_minutes": "max_minutes",
        "most_memory_mb": "max_memory_mb",
        "most_cores": "max_cores",
    }

    partition: Word | None = Field(None, description="partition; unset: the cluster's default")
    account: Word | None = Field(None, description="account the jobs are booked on; unset: your default account")
    qos: Word | None = Field(None, description="quality of service")
    constraint: Word | None = Field(None, description="features the nodes must have, for example skylake&ib")
    reservation: Word | None = Field(None, description="reservation to run in")
    gpus: int | None = Field(None, ge=0, le=64, description="GPUs of each job")
    max_minutes: int | None = Field(
        None, ge=1, le=1_000_000, description="longest run time the partition allows, in minutes"
    )
    max_memory_mb: int | None = Field(None, ge=100, le=10**9, description="memory of a node of the partition, in MB")
    max_cores: int | None = Field(
        None, ge=1, le=MOST_CORES, description="cores a repeated training may grow to; unset: they stay"
    )
    options: list[Word] | None = Field(None, description="more options of sbatch, for example [--mail-type=FAIL]")


class Site(Section):
    """Commands, each a list of words (no shell); modules and launchers go in front."""

    pw: list[str] = Field(["pw.x"], min_length=1, description="command that runs pw.x, words of a list")
    pseudopotential_folder: str = Field("/usr/share/espresso/pseudo", description="folder of the pseudopotential files")
    label_store: str = Field("store", description="folder of the label store; campaigns may share it")
    dp: list[str] = Field(["dp"], min_length=1, description="command that runs DeePMD-kit")
    mace_python: str | None = Field(
        None,
        description="Python that has mace-torch; unset: that of `./start mace`, in .venv-mace beside .venv",
    )
    lammps_launcher: list[str] = Field([], description="words put before the LAMMPS worker, for example srun -n 1")
    label_threads: int = Field(1, ge=1, le=MOST_CORES, description="cores of a label job")
    train_threads: int = Field(1, ge=1, le=MOST_CORES, description="cores of a training job")
    md_threads: int = Field(1, ge=1, le=MOST_CORES, description="cores of a molecular-dynamics job")
    slurm: Slurm = Field(Slurm(), description="where jobs go on a Slurm cluster: keys of the next table")
    slurm_stages: dict[Stage, Slurm] = Field(
        {}, description="the same for single stages; what is set here goes before `slurm`"
    )

    @field_validator("slurm", "slurm_stages", mode="before")
    @classmethod
    def _nothing_said(cls, value: Any) -> Any:
        return {} if value is None else value  # a key whose lines are all commented out

    def placed(self, stage: Stage) -> Slurm:
        """Where jobs of a stage go: its own keys before the common ones."""
        own = self.slurm_stages.get(stage, Slurm()).model_dump(exclude_none=True)
        return self.slurm.model_copy(update=own)

    def resources(self, stage: Stage) -> dict[str, str | int]:
        """What a rule of the stage names as resources, for the executor."""
        placed = self.placed(stage)
        words = {name: getattr(placed, name) for name in ("partition", "account", "qos", "constraint", "reservation")}
        words |= {"gpus": placed.gpus, "options": shlex.join(placed.options or [])}
        words |= {"tasks": self.label_threads if stage == "label" and launched(self.pw) else None}
        return {f"slurm_{name}": value for name, value in words.items() if value}
