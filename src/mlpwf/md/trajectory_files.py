"""The files of a production segment, from the parts a run has written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import MDAnalysis
import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlpwf.dynamics.reading import BEADS
from mlpwf.errors import DataError
from mlpwf.files import replacing, write_text
from mlpwf.md.lammps import SegmentJob
from mlpwf.structures.frames import read_frames
from mlpwf.structures.molecules import species_numbers

ONCE = ("seconds", "volumes")  # of a part as a whole, not of its frames
THERMO = "time_ps,temperature,potential,total_energy,pressure_bar"


@dataclass(frozen=True)
class Written:
    """What the files of a segment hold."""

    frames: int
    linear_frames: int
    intact: bool
    """Whether all molecules were whole in all linear frames."""
    mean_potential_ev: float | None
    """Mean over linear frames, like the temperature; None: there are none."""
    mean_temperature: float | None
    seconds: float
    """Wall time of the run."""


def write_segment(
    parts: list[Path], job: SegmentJob, box: Atoms, references: list[Atoms], target: Path, topology: Path
) -> Written:
    """Write trajectory.trr, thermo.csv and stress.npz of a segment, and the topology.

    A row of thermo.csv belongs to each frame of trajectory.trr. stress.npz holds `step`
    (since the start of production), `pressure_bar` (n, 6: xx, yy, zz, xy, xz, yz;
    kinetic part included), `temperature_kelvin` and `potential_ev` at these
    steps, and the constants `timestep_fs` and `volume_angstrom3`.
    """
    write_text(topology, topology_pdb(box, references))
    loaded = list(_small_arrays(parts))
    joined = {name: np.concatenate([part[name] for part in loaded]) for name in loaded[0] if name not in ONCE}
    if len(joined["steps"]):
        _write_trajectory(parts, job, box, target)
        lines = [",".join(f"{value:.10g}" for value in row) for row in joined["thermo"]]
        write_text(target / "thermo.csv", "\n".join([THERMO, *lines]) + "\n")
        _write_stress(joined, job, box, target / "stress.npz")
    linear = joined["thermo"][joined["steps"] % job.interval_steps == 0]
    return Written(
        frames=len(joined["steps"]),
        linear_frames=len(linear),
        intact=bool(joined["whole"].all()),
        mean_potential_ev=float(linear[:, 2].mean()) if len(linear) else None,
        mean_temperature=float(linear[:, 1].mean()) if len(linear) else None,
        seconds=float(sum(part["seconds"] for part in loaded)),
    )


def _write_stress(joined: Mapping[str, NDArray[Any]], job: SegmentJob, box: Atoms, target: Path) -> None:
    with replacing(target) as temporary:
        np.savez(
            temporary,
            step=joined["stress_steps"],
            pressure_bar=joined["pressure"],
            temperature_kelvin=joined["temperature"],
            potential_ev=joined["potential"],
            timestep_fs=job.timestep_fs,
            volume_angstrom3=box.get_volume(),
        )


def _small_arrays(parts: list[Path]) -> Iterator[dict[str, NDArray[Any]]]:
    for part in parts:
        with np.load(part, allow_pickle=False) as kept:
            yield {name: kept[name] for name in kept.files if name != "positions"}


def _write_trajectory(parts: list[Path], job: SegmentJob, box: Atoms, target: Path) -> None:
    """The beads as TRR, one part in memory at a time.

    TRR keeps times in single precision; each frame's step, which it keeps exactly, is the step since
    the start of production.
    """
    beads = BEADS * (int(box.arrays["molecule"].max()) + 1)
    universe = MDAnalysis.Universe.empty(beads, trajectory=True)
    moment = universe.trajectory.ts
    moment.triclinic_dimensions = box.cell.array
    with replacing(target / "trajectory.trr") as temporary, MDAnalysis.Writer(str(temporary), beads) as writer:
        for part in parts:
            with np.load(part, allow_pickle=False) as kept:
                steps, positions = kept["steps"], kept["positions"]
            for step, now in zip(steps, positions, strict=True):
                moment.time = float(step) * job.timestep_fs * 1e-3
                moment.data["step"] = int(step)
                moment.positions = now
                writer.write(universe)


def topology_pdb(box: Atoms, references: list[Atoms]) -> str:
    """Three beads for each molecule (COM, AX1, AX2) as PDB; residue names M01, M02, … number the species.

    Records HETNAM say what the species are called.
    """
    species = species_numbers(box, references)
    edges = box.cell.lengths()
    lines = [f"CRYST1{edges[0]:9.3f}{edges[1]:9.3f}{edges[2]:9.3f}  90.00  90.00  90.00 P 1           1"]
    lines += [
        f"HETNAM     M{number:02d} {reference.info['species']}"
        for number, reference in enumerate(references, 1)
        if "species" in reference.info
    ]
    corners = (("COM", (0.0, 0.0, 0.0)), ("AX1", (1.0, 0.0, 0.0)), ("AX2", (0.0, 1.0, 0.0)))
    for number, kind in enumerate(species):
        for bead, (name, (x, y, z)) in enumerate(corners):
            serial, residue = (BEADS * number + bead) % 99999 + 1, number % 9999 + 1
            lines.append(
                f"ATOM  {serial:5d}  {name:<3s} M{kind + 1:02d} A{residue:4d}    "
                f"{x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00           C"
            )
    return "\n".join([*lines, "END"]) + "\n"


def read_species(topology: Path) -> tuple[str, ...]:
    """Species of each molecule of a topology of beads: its HETNAM name, or else its residue name.

    Raises
    ------
    DataError
        For a file that cannot be read.
    """
    names: dict[str, str] = {}
    found = []
    try:
        for line in topology.read_text().splitlines():
            if line.startswith("HETNAM"):
                names[line[11:14]] = line[15:].strip()
            elif line.startswith(("ATOM  ", "HETATM")):
                found.append(line[17:20])
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{topology}: no topology can be read ({error}); simulate this state again") from None
    return tuple(names.get(residue) or residue.strip() for residue in found[::BEADS])


def molecule_masses(box: Path) -> NDArray[np.float64]:
    """Mass of each molecule of a packed box in amu, shape (molecules,)."""
    frames = read_frames(box)
    if not frames or "molecule" not in frames[0].arrays:
        raise DataError(f"{box}: no frame that numbers its molecules; simulate this state again")
    atoms = frames[0]
    return np.asarray(np.bincount(atoms.arrays["molecule"], weights=atoms.get_masses()), dtype=np.float64)
