"""Section `label`: what computes labels, their physics and their numerics."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from mlpwf.config.base import Section
from mlpwf.config.label_engines import DEFAULT_LABEL_ENGINE, LABEL_ENGINES, WITHOUT, Capability
from mlpwf.elements import Element

FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]
Md5 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]

Count = Annotated[int, Field(ge=1, le=100)]
Shift = Annotated[int, Field(ge=0, le=1)]
Coordinate = Annotated[float, Field(ge=-1, le=1)]
Grid = tuple[Count, Count, Count]
ShiftedGrid = tuple[Count, Count, Count, Shift, Shift, Shift]
Points = Annotated[list[tuple[Coordinate, Coordinate, Coordinate]], Field(min_length=1, max_length=1000)]

DEFAULT_TIMEOUT_SECONDS = 3600
DEFAULT_PSEUDOPOTENTIALS = {
    "H": "HUSPBE.RRKJ3",
    "C": "C.pbe-rrkjus.UPF",
    "N": "N.pbe-n-rrkjus_psl.1.0.0.UPF",
    "O": "O.pbe-rrkjus.UPF",
}


class Label(Section):
    """Single points: energy, forces and stress."""

    engine: str = Field(
        DEFAULT_LABEL_ENGINE,
        description="what computes the labels: Quantum ESPRESSO, or, for dry practice and not DFT, GFN-xTB",
        json_schema_extra={"enum": list(LABEL_ENGINES)},
    )
    functional: Literal["rpbe", "pbe", "revpbe", "blyp"] = Field(
        "rpbe", description="exchange-correlation functional (input_dft)"
    )
    dispersion: Literal["d3bj", "none"] = Field(
        "d3bj", description="dispersion correction: D3 with Becke-Johnson damping, or none"
    )
    dispersion_threebody: bool = Field(False, description="three-body term of D3")
    cutoff_ry: float = Field(50.0, ge=15, le=400, description="wave-function cut-off (ecutwfc) in Ry")
    density_cutoff_ry: float = Field(400.0, ge=60, le=4000, description="density cut-off (ecutrho) in Ry")
    fft_grid_ry: float | None = Field(
        None,
        ge=60,
        le=4000,
        description="cut-off in Ry of the grid of exchange and correlation (nr1, nr2, nr3); unset: the density cut-off",
    )
    kpoints: Literal["auto", "gamma"] | Grid | ShiftedGrid | Points = Field(
        "auto",
        description="'auto': the fewest each cell needs, by image_distance_angstrom; 'gamma'; a Monkhorst-Pack grid "
        "such as [2, 2, 2], or shifted, [2, 2, 2, 1, 1, 1]; or points, in units of the reciprocal lattice vectors, "
        "such as [[0.25, 0.25, 0.25]]",
    )
    image_distance_angstrom: float = Field(
        10.5,
        gt=2,
        le=40,
        description="kpoints 'auto' leave no coupling between periodic images closer than this, in Å "
        "(docs/labels.md says what error is left)",
    )
    smearing: Literal["none", "gaussian", "mv", "mp"] = Field(
        "none", description="occupations: fixed (none) or smeared"
    )
    smearing_width_ry: float = Field(0.01, gt=0, le=0.2, description="smearing width (degauss) in Ry")
    convergence_ry: float = Field(1e-7, gt=0, le=1e-5, description="SCF threshold (conv_thr) in Ry")
    pseudopotentials: dict[Element, FileName] = Field(
        DEFAULT_PSEUDOPOTENTIALS,
        description="pseudopotential file by element, below the site's folder; what is given here adds to the default "
        "table, or replaces its file of an element",
    )
    pseudopotential_sums: dict[str, Md5] = Field(
        {}, description="MD5 sum the file of an element must have (`mlpwf label pseudopotentials` prints them)"
    )
    mixing_beta: float = Field(0.7, gt=0, le=1, description="SCF mixing factor; numerics only")
    mixing_mode: Literal["plain", "TF", "local-TF"] = Field("plain", description="SCF mixing; numerics only")
    diagonalization: Literal["david", "cg"] = Field("david", description="eigenvalue solver; numerics only")
    maximum_scf_steps: int = Field(80, ge=10, le=1000, description="SCF steps before a frame is rejected")
    timeout_seconds: float = Field(
        DEFAULT_TIMEOUT_SECONDS,
        gt=0,
        le=1e8,
        description="wall time of one pw.x run, in s, before the frame is rejected; GFN-xTB has no such limit, "
        "so another value is refused with it",
    )
    retries: int = Field(
        3, ge=0, le=5, description="attempts with other mixing or diagonalisation, never other physics, after a failure"
    )
    budget_core_hours: float | None = Field(
        None, gt=0, le=1e9, description="core-hours this campaign may spend on labels; unset: no limit"
    )
    batch_frames: int = Field(20, ge=1, le=1000, description="frames labelled by one job")
    error_frames: int = Field(
        2,
        ge=0,
        le=100,
        description="frames of each box size labelled once more, converged in k-points and cut-offs, for the error of "
        "the labels themselves; 0: not measured",
    )
    minimum_distance_angstrom: float = Field(
        0.6, gt=0.3, le=1.0, description="closer pairs of atoms are a clash: rejected unlabelled, in Å"
    )

    def can(self, capability: Capability) -> bool:
        """Whether the engine has a capability."""
        return capability in LABEL_ENGINES[self.engine].capabilities

    @field_validator("engine")
    @classmethod
    def _known_engine(cls, value: str) -> str:
        if value not in LABEL_ENGINES:
            raise ValueError(f"expected one of {', '.join(LABEL_ENGINES)}")
        return value

    @field_validator("pseudopotentials", mode="before")
    @classmethod
    def _added(cls, value: Any) -> Any:
        return {**DEFAULT_PSEUDOPOTENTIALS, **value} if isinstance(value, dict) else value

    @field_validator("kpoints", mode="wrap")
    @classmethod
    def _known_kpoints(cls, value: Any, read: ValidatorFunctionWrapHandler) -> Any:
        try:
            return read(value)
        except ValidationError:
            raise ValueError(
                "expected auto, gamma, a grid such as [2, 2, 2] or, shifted, [2, 2, 2, 1, 1, 1], "
                "or points such as [[0.25, 0.25, 0.25]], each coordinate from -1 to 1"
            ) from None

    @model_validator(mode="after")
    def _density_cutoff(self) -> Self:
        if self.density_cutoff_ry < 4 * self.cutoff_ry:
            raise ValueError(
                f"density_cutoff_ry is {self.density_cutoff_ry:g}; "
                f"expected at least 4 x cutoff_ry = {4 * self.cutoff_ry:g}"
            )
        if self.fft_grid_ry is not None and self.fft_grid_ry < self.density_cutoff_ry:
            raise ValueError(
                f"fft_grid_ry is {self.fft_grid_ry:g}; expected at least density_cutoff_ry = {self.density_cutoff_ry:g}"
            )
        return self

    @model_validator(mode="after")
    def _time_limit(self) -> Self:
        if self.timeout_seconds != DEFAULT_TIMEOUT_SECONDS and not self.can(Capability.TIME_LIMIT):
            raise ValueError(
                f"timeout_seconds is {self.timeout_seconds:g}; expected none (or the default, "
                f"{DEFAULT_TIMEOUT_SECONDS:g}) with engine {self.engine}, {WITHOUT[Capability.TIME_LIMIT]}: "
                "leave it out"
            )
        return self

    @model_validator(mode="after")
    def _sums(self) -> Self:
        unknown = sorted(set(self.pseudopotential_sums) - set(self.pseudopotentials))
        if unknown:
            raise ValueError(
                f"pseudopotential_sums names {', '.join(unknown)}; expected elements of pseudopotentials: "
                f"{', '.join(sorted(self.pseudopotentials))}"
            )
        return self
