"""Section `train`: a committee of models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from mlpwf.config.base import MOST_STEPS, Neurons, Section

OF_MOLECULAR = ("engine", "models", "baseline", "pair_cutoff_angstrom")
"""Keys of the force field; the others are those of networks."""
OF_DEEPMD = ("cutoff_smooth_angstrom", "embedding_neurons", "fitting_neurons", "axis_neurons")
PRETRAINED = ("start_from", "replay")
OF_MACE = ("mace", *PRETRAINED)
"""Keys of one kind of network. DeePMD-kit fine-tunes no se_e2_a."""
USUAL_OF_MACE = {"cutoff_angstrom": 4.5, "steps": 10_000, "steps_continued": 5_000}
"""Defaults of the engine mace where they are others: it learns more in a step, and each takes longer."""
ADDED = (*OF_MOLECULAR, *OF_MACE)
"""Keys that the first version had not: a model of its time was trained with their defaults."""


class Mace(Section):
    """The shape of a MACE model, and how it is trained. A larger one is slower in proportion."""

    channels: int = Field(32, ge=4, le=256, description="features of an atom of each degree")
    maximum_l: int = Field(
        0, ge=0, le=2, description="highest degree of the features that pass between atoms; 0: scalars alone"
    )
    maximum_edge_l: int = Field(
        2,
        ge=1,
        le=3,
        description="highest degree in which an atom sees directions of neighbours; 3: twice as slow",
    )
    layers: int = Field(2, ge=1, le=3, description="rounds of message passing; each sees one cut-off further")
    correlation: int = Field(3, ge=1, le=4, description="bodies that a message joins, less one")
    batch: int = Field(4, ge=1, le=64, description="frames of a training step")


class Train(Section):
    """Models that differ only in their seed: networks of DeePMD-kit or MACE, or fitted force fields."""

    earlier: ClassVar[Mapping[str, str]] = {"conversion_tolerance_ev_angstrom": "compression_tolerance_ev_angstrom"}

    engine: Literal["deepmd", "mace", "molecular"] = Field(
        "deepmd",
        description="what is trained: deepmd, an se_e2_a network; mace, an equivariant network, better for as many "
        "labels and far slower (./start mace installs it); or molecular, a force field of these molecules that "
        "is fitted to all labels in seconds, and of whose keys there are two: models and pair_cutoff_angstrom",
    )
    baseline: Literal["none", "molecular"] = Field(
        "none",
        description="what networks are added to: nothing, or a force field as of engine molecular, fitted to the same "
        "labels, of which they learn what it leaves",
    )
    mace: Mace = Field(Mace(), description="the shape of the networks of engine mace: keys of the next table")
    pair_cutoff_angstrom: float = Field(
        8.5, ge=4, le=15, description="of the force field: cut-off of the energies between molecules, in Å"
    )
    models: int = Field(4, ge=2, le=16, description="models of the committee")
    cutoff_angstrom: float = Field(6.0, ge=2, le=12, description="cut-off of the network in Å; of engine mace 4.5")
    cutoff_smooth_angstrom: float = Field(
        0.5, ge=0, le=11, description="where the descriptor starts to be switched off, in Å"
    )
    embedding_neurons: list[Neurons] = Field([25, 50, 100], min_length=1, description="embedding network")
    fitting_neurons: list[Neurons] = Field([120, 120, 120], min_length=1, description="fitting network")
    axis_neurons: int = Field(8, ge=1, le=64, description="axis neurons of the descriptor")
    steps: int = Field(
        200_000, ge=10, le=MOST_STEPS, description="training steps of the first cycle; of engine mace 10,000"
    )
    steps_continued: int = Field(
        100_000,
        ge=10,
        le=MOST_STEPS,
        description="training steps of later cycles, started from the models before; of engine mace 5,000",
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
    start_from: Path | None = Field(
        None,
        description="a MACE model that mlpwf trained, which may know more elements: all models of the first "
        "cycle begin with it, for steps_continued; energies of isolated atoms are found anew. A file in a folder "
        "train/model/K or train/final, its record beside it, relative to this file",
    )
    replay: Path | None = Field(
        None,
        description="of engine mace: labelled frames that start_from was trained on (extended XYZ, of the same "
        "physics), trained on along with the campaign's, so that the model keeps what it knew",
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
    def potential(self) -> str:
        """Name of the potential engine: of the network, of the force field, or of their sum."""
        return f"molecular_{self.engine}" if self.baseline == "molecular" else self.engine

    @model_validator(mode="before")
    @classmethod
    def _usual(cls, values: Any) -> Any:
        mace = isinstance(values, dict) and values.get("engine") == "mace"
        return {**USUAL_OF_MACE, **values} if mace else values

    @model_validator(mode="after")
    def _of_its_engine(self) -> Self:
        """A key that the engine does not read is refused, not ignored."""
        if self.engine == "molecular" and self.baseline != "none":
            raise ValueError(f"baseline is {self.baseline}, and engine is {self.engine}; expected one of them")
        others = {
            "deepmd": OF_MACE,
            "mace": OF_DEEPMD,
            "molecular": [name for name in type(self).model_fields if name not in OF_MOLECULAR],
        }
        for name in others[self.engine]:
            if getattr(self, name) != type(self).model_fields[name].default:
                of = "mace" if name in OF_MACE else "deepmd"
                raise ValueError(
                    f"{name} is a key of the engine {of}, and engine is {self.engine}; expected it left out"
                )
        return self

    @model_validator(mode="after")
    def _pretrained(self) -> Self:
        if self.replay is not None and self.start_from is None:
            raise ValueError("replay is set, and start_from is not; expected both, or neither")
        if self.replay is not None and self.baseline != "none":
            raise ValueError(
                f"replay is set, and baseline is {self.baseline}, fitted to one set of molecules; "
                "expected baseline: none, or no replay"
            )
        return self

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
