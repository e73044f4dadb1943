"""The liquid of the campaign's final model beside experiment: a table and a figure.

    python benchmarks/toluene/liquid.py results/toluene benchmarks/toluene docs/toluene.png

liquid.csv          quantity, value, error, experiment, source, of what runs there are
rdf.csv             g(r) of centres of mass at constant volume, with the error of its mean over five blocks

Experiment: density by the equation of Lemmon and Span (DOI 10.1021/je050186n) at 1 bar; structure by neutron
diffraction with isotopic substitution (Headen et al., J. Am. Chem. Soc. 132, 5735 (2010), abstract): about 12
neighbours in the first shell, rings preferably parallel below 5 Å and mostly perpendicular beyond.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike, NDArray

from mlpwf.campaign.segments import segments
from mlpwf.dynamics.reading import read_trajectory
from mlpwf.dynamics.trajectory import MolecularTrajectory
from mlpwf.files import read_json
from mlpwf.structures.beads import principal_axes
from mlpwf.structures.frames import read_frames
from mlpwf.units import AMU_PER_A3_PER_G_CM3

Array = NDArray[np.float64]
Row = Mapping[str, Any]
COLUMNS = ["quantity", "value", "error", "experiment"]
DENSITY_293K, HEADEN = "0.8670", "J. Am. Chem. Soc. 132, 5735"
CLOSE, SHELL = 5.0, 7.0
"""Distances of ring centres in Å between which rings are counted as near and as far neighbours."""


def first_shell(r: Array, g: Array, number_density: float) -> tuple[float, float, float, float]:
    """Position and height of the first peak of g(r), its first minimum beyond, and the neighbours up to there.

    Parameters
    ----------
    r, g
        Shell centres in Å and g(r), shape (n,).
    number_density
        Molecules in an Å³.
    """
    smooth = np.convolve(np.pad(g, 2, mode="edge"), np.full(5, 0.2), mode="valid")
    peak = int(np.argmax(smooth))
    minimum = peak + int(np.argmin(smooth[peak : np.searchsorted(r, r[peak] + 3.0)]))
    neighbours = number_density * np.sum((4 * np.pi * r**2 * g * (r[1] - r[0]))[: minimum + 1])
    return float(r[peak]), float(smooth[peak]), float(r[minimum]), float(neighbours)


def ring_offset(reference: Atoms) -> Array:
    """Where the centre of the ring is in the body's frame, from the centre of mass, in Å: along three axes."""
    masses, positions = reference.get_masses(), reference.positions
    centred = positions - np.average(positions, axis=0, weights=masses)
    carbons = np.flatnonzero(reference.symbols == "C")
    hydrogens = np.flatnonzero(reference.symbols == "H")
    close = np.linalg.norm(positions[carbons][:, None] - positions[hydrogens], axis=2) < 1.3
    ring = carbons[close.sum(axis=1) < 3]
    return np.asarray(principal_axes(positions, masses) @ centred[ring].mean(axis=0))


def orientations(run: MolecularTrajectory, offset: Array) -> tuple[Array, Array]:
    """Distances of ring centres in Å and |cos| of the angle between ring planes, of all pairs in all linear frames."""
    axes = run.unit_axes().astype(float)
    third = np.cross(axes[:, :, 0], axes[:, :, 1])
    centres = run.centres() + np.einsum("k,fnkx->fnx", offset, np.concatenate([axes, third[:, :, None]], axis=2))
    first, second = np.triu_indices(run.molecules, 1)
    apart = (centres[:, second] - centres[:, first]) @ np.linalg.inv(run.cell)
    distances = np.linalg.norm((apart - np.round(apart)) @ run.cell, axis=2)
    cosines = np.abs(np.einsum("fnx,fnx->fn", third[:, first], third[:, second]))
    return distances, cosines


def mean_of_blocks(values: ArrayLike) -> Array:
    """Mean over blocks, the first axis, and its error: shape (2, …)."""
    blocks = np.asarray(values, float)
    return np.array([blocks.mean(axis=0), blocks.std(axis=0, ddof=1) / np.sqrt(len(blocks))])


def order(distances: Array, cosines: Array, low: float, high: float) -> tuple[float, float]:
    """⟨P2(cos)⟩ of pairs between two distances: 1 parallel, 0 isotropic, -1/2 perpendicular; error from five blocks."""
    values = []
    for apart, angle in zip(np.array_split(distances, 5), np.array_split(cosines, 5), strict=True):
        inside = (apart > low) & (apart <= high)
        values.append(np.mean(1.5 * angle[inside] ** 2 - 0.5) if inside.any() else np.nan)
    mean, error = mean_of_blocks(values)
    return float(mean), float(error)


@dataclass(frozen=True)
class State:
    """One production run, and its pairs of rings where it is sound."""

    name: str
    length_ps: float
    sound: bool
    distances: Array
    cosines: Array

    def order(self, low: float, high: float) -> tuple[float, float]:
        """⟨P2⟩ of pairs of rings between two distances in Å, and its error."""
        return order(self.distances, self.cosines, low, high)


def validated(campaign: Path) -> Iterator[Row]:
    """Density and structure of the box of validation."""
    folder = campaign / "validate"
    runs, liquid = read_json(folder / "runs.json"), read_json(folder / "liquid.json")
    kelvin, nve, npt = runs["temperature_kelvin"], runs["nve"], runs["npt"]
    if "drift_mev_atom_ps" in nve:
        found = (nve["drift_mev_atom_ps"], nve["drift_error_mev_atom_ps"])
        yield row(f"drift at constant energy, {runs['timestep_fs']:g} fs, meV/atom/ps", *found)
    if "density_g_cm3" in npt:
        found = (npt["density_g_cm3"], npt["density_error_g_cm3"])
        yield row(f"density at {kelvin:g} K and 1 bar, g/cm3", *found, DENSITY_293K)
    if liquid["g"]:
        r, blocks = np.array(liquid["r"]), np.array(liquid["g"])
        density = npt["density_expected_g_cm3"] * AMU_PER_A3_PER_G_CM3 / sum_of_masses(campaign)
        shells = mean_of_blocks([first_shell(r, g, density) for g in blocks])
        names = ("first peak, Å", "its height", "first minimum, Å", "neighbours up to there")
        known = ("", "", "", f"about 12 ({HEADEN})")
        for name, value, error, experiment in zip(names, *shells, known, strict=True):
            yield row(f"g(r) of centres of mass at {kelvin:g} K: {name}", value, error, experiment)


def simulated(campaign: Path) -> Iterator[State]:
    """All runs there are."""
    offset = ring_offset(read_frames(campaign / "build/molecules.extxyz")[0])
    for folder in sorted(path.parent for path in (campaign / "simulate").glob("*/topology.pdb")):
        summaries = segments(folder)
        if not summaries:
            continue
        sound = all(one["stable"] and one["intact"] for one in summaries)
        pairs = np.empty((0, 0)), np.empty((0, 0))
        if sound:
            files = sorted(folder.glob("segment/*/trajectory.trr"))
            pairs = orientations(read_trajectory(folder / "topology.pdb", files, summaries[0]["timestep_fs"]), offset)
        yield State(folder.name, summaries[-1]["end_ps"], sound, *pairs)


def rows_of(state: State) -> Iterator[Row]:
    """How long a state's run held, and how its rings lie."""
    said = "stable, molecules whole" if state.sound else "not sound"
    yield row(f"{state.name}: ps run, {said}", state.length_ps)
    for low, high, known in ((0, CLOSE, "> 0: parallel"), (CLOSE, SHELL, "< 0: perpendicular")) if state.sound else ():
        name = f"{state.name}: P2 of ring planes, centres {low:g} to {high:g} Å apart"
        yield row(name, *state.order(low, high), f"{known} ({HEADEN})")


def sum_of_masses(campaign: Path) -> float:
    """Mass of the campaign's molecule in amu."""
    return float(read_frames(campaign / "build/molecules.extxyz")[0].get_masses().sum())


def row(quantity: str, value: float, error: float = float("nan"), experiment: str = "") -> Row:
    """A row of liquid.csv."""
    numbers = (f"{value:.4g}", "" if np.isnan(error) else f"{error:.2g}", experiment)
    return dict(zip(COLUMNS, (quantity, *numbers), strict=True))


def draw(campaign: Path, states: Sequence[State], target: Path) -> None:
    """Errors against labels, what expected errors were worth, g(r), and how rings lie at each distance."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 7), layout="constrained")
    (errors, reliability), (structure, rings) = figure.subplots(2, 2)
    counts: list[int] = []
    curves: dict[str, list[float]] = {"force_rmse_ev_angstrom": [], "force_inter_rmse_ev_angstrom": []}
    for path in sorted(campaign.glob("cycle/*/train/errors.json")):
        counts.append(sum(counts[-1:]) + len(read_frames(path.parents[1] / "label/labels.extxyz")))
        for name, curve in curves.items():
            curve.append(1e3 * read_json(path)["test"]["mean"]["overall"][name])
    final = read_json(campaign / "validate/errors.json")["overall"]
    for (name, curve), title in zip(curves.items(), ("force", "net force on a molecule"), strict=True):
        line = errors.plot(counts, curve, "o-", label=f"{title}, committee")[0]
        errors.plot(counts[-1:], [1e3 * final[name]], "*", ms=11, color=line.get_color(), label=f"{title}, final model")
    errors.set(xlabel="labels", ylabel="error on held-out labels, meV/Å", ylim=(0, 1.05 * errors.get_ylim()[1]))
    for path in sorted(campaign.glob("cycle/*/train/calibration.json")):
        if bins := read_json(path)["reliability"].get("inter"):
            foreseen, true, _ = zip(*bins, strict=True)
            reliability.plot(1e3 * np.array(foreseen), 1e3 * np.array(true), "o-", label=f"cycle {int(path.parts[-3])}")
    reliability.axline((0, 0), slope=1, color="0.7", lw=0.8)
    reliability.set(
        xlabel="expected error of the net force on a molecule, meV/Å",
        ylabel="true error of new labels, meV/Å",
        xlim=(0, None),
        ylim=(0, None),
    )
    liquid, runs = (read_json(campaign / "validate" / f"{name}.json") for name in ("liquid", "runs"))
    if liquid["g"]:
        structure.errorbar(liquid["r"], *mean_of_blocks(liquid["g"]), lw=1)
    density = runs["npt"]["density_expected_g_cm3"]
    said = f"g(r) at {runs['temperature_kelvin']:g} K and {density:g} g/cm³"
    structure.set(xlabel="distance of centres of mass, Å", ylabel=said)
    structure.axhline(1, color="0.7", lw=0.8)
    edges = np.arange(3.5, SHELL + 0.01, 0.5)
    for state in states:
        if state.sound:
            values = np.array([state.order(a, b) for a, b in pairwise(edges)])
            rings.errorbar((edges[1:] + edges[:-1]) / 2, *values.T, fmt="o-", label=state.name)
    rings.axhline(0, color="0.7", lw=0.8)
    rings.set(xlabel="distance of ring centres, Å", ylabel="P2 of ring planes")
    for axis in (errors, reliability, rings):
        if axis.get_legend_handles_labels()[0]:
            axis.legend(frameon=False, fontsize=8)
    figure.savefig(target, dpi=110)


def main() -> None:
    """Write liquid.csv, rdf.csv and the figure."""
    campaign, out, picture = (Path(word) for word in sys.argv[1:4])
    with (out / "liquid.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, COLUMNS, lineterminator="\n")
        writer.writeheader()
        states = list(simulated(campaign))
        writer.writerows([*validated(campaign), *(line for state in states for line in rows_of(state))])
    liquid = read_json(campaign / "validate/liquid.json")
    with (out / "rdf.csv").open("w", newline="") as handle:
        table = csv.writer(handle, lineterminator="\n")
        table.writerow(["r_angstrom", "g", "error"])
        if liquid["g"]:
            lines = zip(liquid["r"], *mean_of_blocks(liquid["g"]), strict=True)
            table.writerows([f"{a:.2f}", f"{b:.4f}", f"{c:.4f}"] for a, b, c in lines)
    draw(campaign, states, picture)


if __name__ == "__main__":
    main()
