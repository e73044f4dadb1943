"""Section `build`: the boxes a campaign starts from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mlpwf.config.base import MOST_FRAMES, MOST_STEPS, EachOnce, Section, Temperature, TimeStep

Scale = Annotated[float, Field(gt=0.5, lt=2.0)]
Multiple = Annotated[int, Field(ge=1, le=64)]


class Build(Section):
    """Packed, relaxed and sampled with a cheap method; all of it seeded."""

    sampler: Literal["gfn1", "gfn2"] = Field("gfn1", description="xTB method of the cheap sampler")
    temperatures_kelvin: Annotated[list[Temperature], EachOnce] = Field(
        [300.0, 500.0], min_length=1, description="sampler temperatures in K"
    )
    density_scales: Annotated[list[Scale], EachOnce] = Field(
        [0.92, 1.0, 1.06], min_length=1, description="densities sampled, relative to system.density_g_cm3"
    )
    box_multiples: Annotated[list[Multiple], EachOnce] = Field(
        [1], min_length=1, description="sizes of the boxes, in multiples of the molecules' counts"
    )
    single_frames: int = Field(4, ge=0, le=MOST_FRAMES, description="frames of each isolated molecule")
    dimer_frames: int = Field(4, ge=0, le=MOST_FRAMES, description="frames of isolated pairs of molecules")
    bulk_frames: int = Field(
        48, ge=1, le=MOST_FRAMES, description="frames of packed boxes, over all temperatures, sizes and densities"
    )
    test_frames: int = Field(
        12, ge=2, le=MOST_FRAMES, description="held-out frames, from runs of their own; never trained on"
    )
    steps_between_frames: int = Field(
        20, ge=1, le=MOST_STEPS, description="sampler steps from one kept frame to the next"
    )
    timestep_fs: TimeStep = Field(1.0, description="sampler time step in fs")
    rattle_angstrom: float = Field(
        0.03, ge=0, le=0.3, description="Gaussian displacement added to every second frame, in Å"
    )
    strain: float = Field(0.03, ge=0, le=0.2, description="largest random strain of the box in every second frame")
    vacuum_angstrom: float = Field(3.0, ge=1, le=20, description="empty margin around isolated molecules, in Å")
    minimum_distance_angstrom: float = Field(
        0.6, gt=0.3, le=1.0, description="closest pair of atoms allowed in any frame, in Å"
    )

    def start_frames(self, species: int) -> int:
        """Frames the first cycle labels, for a system of so many species."""
        return self.single_frames * species + self.dimer_frames + self.bulk_frames
