"""Section `train`: a committee of DeePMD models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from mlpwf.config.base import MOST_STEPS, Neurons, Section


class Train(Section):
    """se_e2_a models that differ only in their seed."""

    earlier: ClassVar[Mapping[str, str]] = {"conversion_tolerance_ev_angstrom": "compression_tolerance_ev_angstrom"}

    models: int = Field(4, ge=2, le=16, description="models of the committee")
    cutoff_angstrom: float = Field(6.0, ge=2, le=12, description="descriptor cut-off in Å")
    cutoff_smooth_angstrom: float = Field(
        0.5, ge=0, le=11, description="where the descriptor starts to be switched off, in Å"
    )
    embedding_neurons: list[Neurons] = Field([25, 50, 100], min_length=1, description="embedding network")
    fitting_neurons: list[Neurons] = Field([120, 120, 120], min_length=1, description="fitting network")
    axis_neurons: int = Field(8, ge=1, le=64, description="axis neurons of the descriptor")
    steps: int = Field(200_000, ge=10, le=MOST_STEPS, description="training steps of the first cycle")
    steps_continued: int = Field(
        100_000, ge=10, le=MOST_STEPS, description="training steps of later cycles, started from the models before"
    )
    steps_final: int | None = Field(
        None,
        ge=10,
        le=MOST_STEPS,
        description="training steps of the campaign's final model, from the last committee's first model and on all "
        "labels; unset: it is that model",
    )
    continue_models: bool = Field(
        True, description="start from the previous cycle's models; the final model always continues the last one"
    )
    learning_rate_schedule: Literal["plateau", "exponential"] = Field(
        "plateau",
        description="learning rate: high for half of the steps, then half a cosine down, or falling exponentially",
    )
    learning_rate: float = Field(5e-3, gt=0, lt=1, description="first learning rate")
    learning_rate_continued: float = Field(5e-3, gt=0, lt=1, description="first learning rate of a continued model")
    learning_rate_final: float = Field(1e-6, gt=0, lt=1, description="last learning rate")
    energy_weight: float = Field(
        100.0,
        gt=0,
        le=1e9,
        description="weight of the energy in the loss at the first learning rate, where forces have 1000; each goes to "
        "1 as the rate falls",
    )
    virial_weight: float = Field(
        100.0, ge=0, le=1e9, description="the same for the virial; 0: none, as where cut-offs are too low for a stress"
    )
    molecule_weight: float = Field(
        1000.0,
        ge=0,
        le=1e9,
        description="the same for the net force on each molecule and the torque on it, over the root mean square "
        "distance of its atoms from its centre; 0: none",
    )
    compression_tolerance_ev_angstrom: float = Field(
        1e-3, gt=0, le=10, description="largest force difference between a compressed model and its original, in eV/Å"
    )

    @property
    def engine(self) -> str:
        """Name of the potential engine that trains: the keys above are its own."""
        return "deepmd"

    @model_validator(mode="after")
    def _falling(self) -> Self:
        for name in ("learning_rate", "learning_rate_continued"):
            first = getattr(self, name)
            if self.learning_rate_final > first:
                raise ValueError(
                    f"learning_rate_final is {self.learning_rate_final:g}; expected at most {name} = {first:g}"
                )
        return self

    @model_validator(mode="after")
    def _smooth(self) -> Self:
        if self.cutoff_smooth_angstrom >= self.cutoff_angstrom:
            raise ValueError(
                f"cutoff_smooth_angstrom is {self.cutoff_smooth_angstrom:g}; "
                f"expected less than cutoff_angstrom = {self.cutoff_angstrom:g}"
            )
        return self
