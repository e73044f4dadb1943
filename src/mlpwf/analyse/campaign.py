"""The production runs of a campaign as sources."""

from __future__ import annotations

import logging
from functools import partial
from itertools import pairwise
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from mlpwf.analyse.records import Source
from mlpwf.campaign import records
from mlpwf.campaign.records import Record
from mlpwf.dynamics.reading import read_trajectory
from mlpwf.dynamics.state import Energy, Stress
from mlpwf.dynamics.trajectory import MolecularTrajectory
from mlpwf.errors import DataError
from mlpwf.md.trajectory_files import molecule_masses, read_species

log = logging.getLogger(__name__)

MOLECULES_BROKE = "molecules broke"
BOX = "box.extxyz"
"""The packed box of a state: masses of its molecules, which count where there are several species."""
BLEW_UP = "blew up"


class Segment(Record, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """The part of a segment's summary that an analysis depends on; `campaign.records.SegmentSummary` is the whole."""

    temperature_kelvin: float
    timestep_fs: float
    molecules: int
    ensemble: str
    intact: bool
    finished: bool
    frames: int | None = None
    stable: bool = True
    end_step: int | None = None
    reason: str = "?"


def campaign_sources(simulate: Path, memory_mb: float) -> list[Source]:
    """States below C/simulate in order of temperature; segments that have not finished are left out.

    Raises
    ------
    DataError
        If there is no state, a state without a finished segment, or two at one temperature.
    """
    sources = [_source(topology, memory_mb) for topology in sorted(simulate.glob("*/topology.pdb"))]
    if not sources:
        raise DataError(f"{simulate}: no state with a topology.pdb; run the stage simulate first")
    sources.sort(key=lambda source: source.temperature_kelvin)
    for lower, upper in pairwise(sources):
        if lower.temperature_kelvin == upper.temperature_kelvin:
            raise DataError(f"{simulate}: {lower.name} and {upper.name} have one temperature; keep one of them")
    return sources


def _source(topology: Path, memory_mb: float) -> Source:
    state, segments = topology.parent, _finished(topology.parent)
    temperature, timestep, molecules, ensemble = _common(state, list(segments.values()))
    fault = _fault(state, list(segments.values()))
    blew_up = any(not one.stable for one in segments.values())
    folders = [] if blew_up else [folder for folder, one in segments.items() if one.frames != 0]
    missing = [folder for folder in folders if not (folder / "trajectory.trr").is_file()]
    if missing or not (folders or blew_up):
        where = missing[0] if missing else state
        raise DataError(f"{where}: no trajectory.trr in a finished segment; simulate this state again")
    files = [folder / name for folder in folders for name in ("trajectory.trr", "thermo.csv", "stress.npz")]
    files.append(topology.with_name(BOX))
    thermo = [folder / "thermo.csv" for folder in folders if _has_energy(folder / "thermo.csv")]
    stress = [folder / "stress.npz" for folder in folders if (folder / "stress.npz").is_file()]
    return Source(
        name=state.name,
        temperature_kelvin=temperature,
        ensemble=ensemble,
        runs=(partial(_read, topology, folders, timestep, molecules, memory_mb),) if folders else (),
        inputs=(
            topology,
            *(folder / "summary.json" for folder in segments),
            *(path for path in files if path.is_file()),
        ),
        fault=fault,
        energy=(partial(_energy, thermo),) if thermo and len(thermo) == len(folders) else (),
        stress=(partial(_stress, stress),) if stress and len(stress) == len(folders) else (),
    )


def _finished(state: Path) -> dict[Path, Segment]:
    """Summaries of a state's finished segments, in order, by their folders."""
    found = {}
    for path in sorted(state.glob("segment/*/summary.json")):
        segment = records.read(path, Segment)
        if not segment.finished:
            log.info("%s: not finished, left out", path.parent)
            continue
        found[path.parent] = segment
    if not found:
        raise DataError(f"{state}: no finished segment; run the stage simulate first")
    return found


def _fault(state: Path, segments: list[Segment]) -> str:
    """Why no number of this state is the liquid's; empty: all of them are."""
    blown = next((one for one in segments if not one.stable), None)
    if blown is not None:
        step = "?" if blown.end_step is None else blown.end_step
        fault = f"{BLEW_UP} at step {step}: {blown.reason}"
        log.warning("%s: %s; it is shown without numbers", state, fault)
        return fault
    return "" if all(one.intact for one in segments) else MOLECULES_BROKE


def _common(state: Path, segments: list[Segment]) -> tuple[float, float, int, str]:
    """Temperature in K, time step in fs, number of molecules and ensemble, which all segments must share."""
    for key in ("temperature_kelvin", "timestep_fs", "molecules", "ensemble"):
        values = {getattr(one, key) for one in segments}
        if len(values) != 1:
            raise DataError(f"{state}: segments differ in {key}: {sorted(values)}; expected one value")
    first = segments[0]
    return first.temperature_kelvin, first.timestep_fs, first.molecules, first.ensemble.lower()


def _read(
    topology: Path, folders: list[Path], timestep_fs: float, molecules: int, memory_mb: float
) -> MolecularTrajectory:
    files = [folder / "trajectory.trr" for folder in folders]
    species = read_species(topology)
    masses = molecule_masses(topology.with_name(BOX)) if len(set(species)) > 1 else None
    if masses is not None and len(masses) != len(species):
        raise DataError(
            f"{topology}: {len(species)} molecules; {BOX} beside it has {len(masses)}: simulate this state again"
        )
    trajectory = read_trajectory(topology, files, timestep_fs, masses=masses, species=species, memory_mb=memory_mb)
    if trajectory.molecules != molecules:
        raise DataError(f"{topology}: {trajectory.molecules} molecules; the summaries say {molecules}")
    return trajectory


def _has_energy(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open() as lines:
        return {"time_ps", "total_energy"} <= set(lines.readline().strip().split(","))


def _thermo(path: Path) -> pd.DataFrame:
    """Columns time_ps and total_energy of a thermo.csv."""
    try:
        return pd.read_csv(path)[["time_ps", "total_energy"]].astype(float)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: cannot be read ({_reason(error)}); simulate this state again") from None


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _energy(files: list[Path]) -> Energy:
    table = pd.concat([_thermo(path) for path in files]).drop_duplicates("time_ps")
    if table[["time_ps", "total_energy"]].isna().to_numpy().any():
        raise DataError(f"{files[0].parent}: thermo.csv holds NaN; simulate this state again")
    return Energy(table["time_ps"].to_numpy(float), table["total_energy"].to_numpy(float))


def _stress(files: list[Path]) -> Stress:
    steps, pressures = [], []
    timestep, volume = 0.0, 0.0
    for path in files:
        try:
            with np.load(path, allow_pickle=False) as kept:
                steps.append(kept["step"])
                pressures.append(kept["pressure_bar"].astype(float))
                timestep, volume = float(kept["timestep_fs"]), float(kept["volume_angstrom3"])
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise DataError(f"{path}: cannot be read ({_reason(error)}); simulate this state again") from None
    step, first = np.unique(np.concatenate(steps), return_index=True)
    between = np.diff(step)
    if len(between) == 0 or np.any(between != between[0]):
        raise DataError(f"{files[0].parent}: stress.npz is not evenly spaced; a segment may be missing")
    return Stress(np.concatenate(pressures)[first], float(between[0]) * timestep * 1e-3, volume)
