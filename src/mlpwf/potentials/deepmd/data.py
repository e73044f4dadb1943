"""Labelled frames as DeePMD-kit reads them, and how many neighbours their atoms have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import dpdata
import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from ase.neighborlist import neighbor_list
from numpy.typing import NDArray

from mlpwf.config.train import Train
from mlpwf.potentials.loss import check_molecules
from mlpwf.structures.molecules import rigid_motions
from mlpwf.structures.properties import of_frame

NEIGHBOUR_RESERVE = 1.25  # room for denser frames than those of the first cycle


def groups(frames: Sequence[Atoms]) -> list[NDArray[np.int64]]:
    """Indices of frames with the same sequence of elements, in a fixed order of groups."""
    found: dict[tuple[int, ...], list[int]] = {}
    for index, atoms in enumerate(frames):
        found.setdefault(tuple(int(n) for n in atoms.numbers), []).append(index)
    return [np.array(found[numbers]) for numbers in sorted(found, key=lambda n: (len(n), n))]


def rigid_coordinates(section: Train, frames: Sequence[Atoms]) -> int:
    """Generalised coordinates that hold the rigid motions of every molecule of any frame: six of each.

    None where `molecule_weight` is 0.

    Raises
    ------
    DataError
        If a frame numbers no molecules.
    """
    if section.molecule_weight == 0:
        return 0
    check_molecules(section, frames)
    return 6 * max(int(atoms.arrays["molecule"].max()) + 1 for atoms in frames)


def write_data(folder: Path, frames: Sequence[Atoms], elements: Sequence[str], coordinates: int = 0) -> list[str]:
    """Write labelled frames as deepmd/npy (float64), one system for each composition.

    Parameters
    ----------
    folder
        A new folder for the systems.
    frames
        Labelled frames.
    elements
        Type map.
    coordinates
        From `rigid_coordinates`: drdq.npy then holds `molecules.rigid_motions`, filled up with zeros. They are scaled
        so that the mean square over all coordinates is that over the frame's own. 0: no such file.

    Returns
    -------
    list of str
        The systems' folders, relative to the parent of `folder`.
    """
    names = []
    for number, members in enumerate(groups(frames)):
        chosen = [frames[index] for index in members]
        labels = [of_frame(atoms) for atoms in chosen]
        types = np.array([elements.index(symbol) for symbol in chosen[0].get_chemical_symbols()])
        system = dpdata.LabeledSystem(
            data={
                "atom_names": list(elements),
                "atom_numbs": [int(np.sum(types == kind)) for kind in range(len(elements))],
                "atom_types": types,
                "orig": np.zeros(3),
                "cells": np.array([atoms.cell.array for atoms in chosen]),
                "coords": np.array([atoms.positions for atoms in chosen]),
                "energies": np.array([label.energy for label in labels]),
                "forces": np.array([label.forces for label in labels]),
                "virials": np.array([label.virial for label in labels]),  # DeePMD's are −stress × volume too
            }
        )
        name = f"{folder.name}/{number:03d}"
        system.to("deepmd/npy", str(folder.parent / name), set_size=len(chosen), prec=np.float64)
        if coordinates:
            motions = np.zeros((len(chosen), len(types), 3, coordinates))
            for target, atoms in zip(motions, chosen, strict=True):
                own = rigid_motions(atoms)
                target[:, :, : own.shape[2]] = own * np.sqrt(coordinates / own.shape[2])
            np.save(folder.parent / name / "set.000" / "drdq.npy", motions.reshape(len(chosen), -1))
        names.append(name)
    return names


def most_neighbours(frames: Sequence[Atoms], elements: Sequence[str], cutoff: float) -> list[int]:
    """Most neighbours of each element around any atom, within `cutoff` Å."""
    most = np.zeros(len(elements), dtype=int)
    for atoms in frames:
        i, j = neighbor_list("ij", atoms, cutoff)
        for kind, symbol in enumerate(elements):
            counts = np.bincount(i[atoms.numbers[j] == atomic_numbers[symbol]], minlength=len(atoms))
            most[kind] = max(most[kind], int(counts.max()))
    return most.tolist()


def neighbour_slots(most: Sequence[int]) -> list[int]:
    """Slots of the neighbour list: a reserve above what was counted, in fours."""
    return [max(4, 4 * int(np.ceil(NEIGHBOUR_RESERVE * count / 4))) for count in most]
