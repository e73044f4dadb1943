"""Options of the command line as the content of a file of trajectories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from mlpwf.config import one_line
from mlpwf.config.trajectories import Trajectories
from mlpwf.errors import ConfigError


@dataclass(frozen=True)
class Options:
    """What the command line says of one trajectory; see `config.trajectories` for the meaning of each."""

    trajectory: Sequence[Path]
    topology: Path | None
    ensemble: str | None
    temperature_kelvin: float | None
    molecules: str
    select: str
    axis: Sequence[str]
    """Each as two atom names, `C1,C4`."""
    masses: str | None
    """`equal`, or masses by type or name in amu: `1=12.011,2=1.008`."""
    timestep_fs: float | None
    interval_ps: float | None
    skip_frames: int
    lammps_units: str | None
    wavevector: Sequence[float] | None
    overlap_angstrom: float | None


def trajectories_of(options: Options) -> Trajectories:
    """The settings of an analysis of one trajectory.

    Raises
    ------
    ConfigError
        If an option is missing or is not what it should be.
    """
    state = {
        "trajectories": [list(options.trajectory)],
        "topology": options.topology,
        "ensemble": options.ensemble,
        "temperature_kelvin": options.temperature_kelvin,
    }
    for key, value in state.items():
        if value is None:
            raise ConfigError(f"--{key.replace('_', '-')} is missing; expected it with --trajectory")
    own = {"wavevectors_per_angstrom": options.wavevector, "overlap_angstrom": options.overlap_angstrom}
    content = {
        "molecules": options.molecules,
        "select": options.select,
        "axes": [tuple(one.split(",")) for one in options.axis],
        "masses": masses_of(options.masses),
        "timestep_fs": options.timestep_fs,
        "interval_ps": options.interval_ps,
        "skip_frames": options.skip_frames,
        "lammps_units": options.lammps_units,
        "states": [state],
        "analyse": {key: value for key, value in own.items() if value},
    }
    try:
        return Trajectories.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"analyse: {one_line(error)}") from None


def masses_of(text: str | None) -> str | dict[str, float] | None:
    """Masses from the words of an option: `equal`, or in amu by type or name, each once.

    Raises
    ------
    ConfigError
        If they are neither.
    """
    if text is None or text == "equal":
        return text
    try:
        pairs = [(label, float(mass)) for label, mass in (part.split("=") for part in text.split(","))]
    except ValueError:
        pairs = []
    if not pairs or len(dict(pairs)) < len(pairs):
        raise ConfigError(f"--masses is {text!r}; expected 'equal', or masses such as 1=12.011,2=1.008, each once")
    return dict(pairs)
