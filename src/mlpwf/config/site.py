"""A site: where programs and pseudopotentials are. Never physics."""

from __future__ import annotations

from pydantic import Field

from mlpwf.config.base import Section


class Site(Section):
    """Commands, each a list of words (no shell); modules and launchers go in front."""

    pw: list[str] = Field(["pw.x"], min_length=1, description="command that runs pw.x, words of a list")
    pseudopotential_folder: str = Field("/usr/share/espresso/pseudo", description="folder of the pseudopotential files")
    label_store: str = Field("store", description="folder of the label store; campaigns may share it")
    dp: list[str] = Field(["dp"], min_length=1, description="command that runs DeePMD-kit")
    lammps_launcher: list[str] = Field([], description="words put before the LAMMPS worker, for example srun -n 1")
    label_threads: int = Field(1, ge=1, description="cores of a label job")
    train_threads: int = Field(1, ge=1, description="cores of a training job")
    md_threads: int = Field(1, ge=1, description="cores of a molecular-dynamics job")
