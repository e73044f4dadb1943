"""The work of a campaign: jobs of each stage, and CPU time by the rates of `campaign.pricing`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mlpwf.campaign.pricing import (
    FIT_S,
    classical_md_s,
    mace_md_s,
    mace_train_s,
    md_s,
    molecular_md_s,
    sampler_s,
    train_s,
)
from mlpwf.config import Campaign, Train
from mlpwf.config.label_engines import Capability

SMALL_S = 15.0
"""CPU-s of a job that only reads and draws."""
SELECT_S = 10.0
START_S = 8.0
"""CPU-s with which the run of each state by a trained model begins."""


@dataclass(frozen=True)
class Work:
    """What one stage has to do: jobs, and CPU-s by its rate; labels and converged ones by their number."""

    jobs: int
    cpu_s: float = 0.0
    labels: int = 0
    converged: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(
            self.jobs + other.jobs,
            self.cpu_s + other.cpu_s,
            self.labels + other.labels,
            self.converged + other.converged,
        )


Stages = Mapping[str, Work]
"""Work by stage, in the order of the stages."""


@dataclass(frozen=True)
class Sizes:
    """Atoms of the boxes of a campaign."""

    smallest: int
    """Of the molecules of `system`, once."""
    labelled: int
    """Of a labelled box, on average."""
    molecules: int
    """Molecules of `system`."""

    def of(self, molecules: int) -> int:
        """Atoms of a box of so many molecules."""
        return round(self.smallest / self.molecules * molecules)


def together(parts: Iterable[Stages]) -> dict[str, Work]:
    """The sum of several, stage by stage."""
    total: dict[str, Work] = {}
    for part in parts:
        for stage, work in part.items():
            total[stage] = total.get(stage, Work(0)) + work
    return total


def of_cycle(campaign: Campaign, cycle: int, sizes: Sizes) -> dict[str, Work]:
    """Work of one cycle, the baselines' labels and committees included."""
    c, atoms = campaign, sizes.labelled
    first = cycle == 0
    lines = 1 if first else 1 + len(c.select.baseline_lines)
    frames = c.build.start_frames(len(c.system.molecules)) if first else c.select.budget
    new = c.train.start_from is None if first else not c.train.continue_models
    steps = c.train.steps if new else c.train.steps_continued
    training = training_s(c.train, steps, atoms)
    states = len(c.explore.temperatures_kelvin) * max(1, len(c.explore.densities_g_cm3))
    walkers = states * c.explore.walkers
    liquids = compared_liquids(c.select.liquid_cycles, cycle)
    found = {
        "label": Work(lines * -(-frames // c.label.batch_frames), labels=lines * frames),
        "train": Work(lines * c.train.models, lines * c.train.models * training),
        "explore": Work(states, walkers * dynamics_s(c.train, c.explore.steps, atoms, c.train.models)),
        "validate": Work(liquids, liquids * validation_s(c, sizes)),
        "select": Work(1, SELECT_S),
    }
    return together([before_cycles(c, frames, sizes), found]) if first else found


def before_cycles(campaign: Campaign, start_frames: int, sizes: Sizes) -> dict[str, Work]:
    """Work of the first cycle alone: frames to start from, the test set, and the error of the labels."""
    c = campaign
    steps = (start_frames + c.build.test_frames) * c.build.steps_between_frames
    converged = c.label.error_frames if c.label.can(Capability.LABEL_ERROR) else 0
    return {
        "build": Work(1, sampler_s(steps, sizes.labelled)),
        "label": Work(1 if converged else 0, labels=c.build.test_frames, converged=converged),
    }


def after_cycles(campaign: Campaign, sizes: Sizes) -> dict[str, Work]:
    """Work of the stages that follow the last cycle."""
    c = campaign
    known = not c.train.steps_final and compared_liquids(c.select.liquid_cycles, c.select.maximum_cycles - 1)
    found = {
        "train": Work(1, training_s(c.train, c.train.steps_final, sizes.labelled)) if c.train.steps_final else Work(0),
        "validate": Work(1, 0.0 if known else validation_s(c, sizes)),
    }
    return {**found, **production(c, sizes)}


def production(campaign: Campaign, sizes: Sizes) -> dict[str, Work]:
    """Work of the stages that follow the last model, or that a force field needs no model for."""
    s = campaign.simulate
    states, atoms = len(s.temperatures_kelvin), sizes.of(s.molecules)
    steps = round((sum(s.lengths_ps) + states * s.equilibration_ps) * 1e3 / s.timestep_fs)
    dynamics = (
        classical_md_s(steps, atoms) if s.force_field else START_S * states + dynamics_s(campaign.train, steps, atoms)
    )
    return {"simulate": Work(states, dynamics), "analyse": Work(1, SMALL_S), "report": Work(1, SMALL_S)}


def compared_liquids(wanted: int, cycle: int) -> int:
    """Validations that compare this cycle's liquid with those of cycles before, but for those that are done."""
    if not wanted or cycle < wanted - 1:
        return 0
    return wanted if cycle == wanted - 1 else 1


def validation_s(campaign: Campaign, sizes: Sizes) -> float:
    """CPU-s of the runs of one validation, equilibration included."""
    v = campaign.validate_
    steps = round((v.nve_ps + 1.5 * v.nvt_ps + v.npt_ps) * 1e3 / v.timestep_fs)
    return dynamics_s(campaign.train, steps, sizes.of(v.molecules))


def training_s(train: Train, steps: int, atoms: int) -> float:
    """CPU-s of training one model."""
    if train.engine == "molecular":
        return FIT_S
    return mace_train_s(steps, atoms, train.mace.batch) if train.engine == "mace" else train_s(steps, atoms)


def dynamics_s(train: Train, steps: float, atoms: int, models: int = 1) -> float:
    """CPU-s of molecular dynamics with a model."""
    priced = {"mace": mace_md_s, "molecular": molecular_md_s}.get(train.engine, md_s)
    return priced(steps, atoms, models)
