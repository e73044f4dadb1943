"""A fitted force field as a file: graphs, references and coefficients, in words and numbers alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mlpwf.campaign import records
from mlpwf.campaign.records import Document, Record
from mlpwf.errors import DataError
from mlpwf.potentials.molecular.class2 import Class2
from mlpwf.potentials.molecular.fit import Fitted, Model, Molecules, Strengths
from mlpwf.potentials.molecular.pairs import PairBasis
from mlpwf.potentials.molecular.topology import EXCLUDED_BONDS, Topology


class Reference(Record, frozen=True, kw_only=True):
    """Where a bond (Å) or an angle (rad) is at rest."""

    kind: str
    atoms: tuple[int, ...]
    value: float


class Species(Record, frozen=True, kw_only=True):
    """One molecule; atoms are numbered from 0."""

    symbols: list[str]
    bonds: list[tuple[int, int]]
    straight: list[int]
    """Centres that lie on one line with their two neighbours."""
    positions_angstrom: list[tuple[float, float, float]]
    references: list[Reference]


class ForceField(Document, frozen=True, kw_only=True):
    """force_field.json."""

    species: list[Species]
    cutoff_angstrom: float
    coefficients: list[float]
    """An energy for each species (eV), class-II terms by species, pair splines; eV, Å and rad."""
    strengths: dict[str, float]
    """Of the prior, as cross-validation chose them."""
    shortest_angstrom: list[float | None]
    """Shortest distance of each pair of kinds of sites in the labels; None: beyond the cut-off."""
    excluded_bonds: int = 3
    """Atoms with at most so many bonds between them do not pair; files that do not say are of a time when it was 3."""


def write(path: Path, fitted: Fitted) -> None:
    """Write a force field."""
    molecules = fitted.model.molecules
    species = [
        Species(
            symbols=list(topology.symbols),
            bonds=[(int(one), int(other)) for one, other in topology.bonds],
            straight=sorted(topology.straight),
            positions_angstrom=[(float(x), float(y), float(z)) for x, y, z in positions],
            references=[
                Reference(kind=kind, atoms=atoms, value=value) for (kind, atoms), value in energy.references.items()
            ],
        )
        for topology, positions, energy in zip(
            molecules.topologies, molecules.positions, fitted.model.intra, strict=True
        )
    ]
    shortest = [float(one) if np.isfinite(one) else None for one in fitted.shortest]
    whole = ForceField(
        species=species,
        cutoff_angstrom=fitted.model.pairs.cutoff_angstrom,
        coefficients=fitted.coefficients.tolist(),
        strengths=fitted.strengths._asdict(),
        shortest_angstrom=shortest,
        excluded_bonds=EXCLUDED_BONDS,
    )
    records.write(path, whole)


def read(path: Path) -> Fitted:
    """A force field from its file.

    Raises
    ------
    DataError
        If it is no such file, or of other pairs than those of this version.
    """
    found = records.read(path, ForceField)
    if found.excluded_bonds != EXCLUDED_BONDS:
        raise DataError(
            f"{path}: pairs of atoms up to {found.excluded_bonds} bonds apart are left out; expected {EXCLUDED_BONDS}, "
            f"of this version: delete the folder {path.parent}, and the one it is a copy of, and run again: the model "
            "is trained anew"
        )
    topologies = [Topology(tuple(one.symbols), tuple(one.bonds), frozenset(one.straight)) for one in found.species]
    molecules = Molecules(tuple(topologies), tuple(np.array(one.positions_angstrom) for one in found.species))
    intra = [_energy(topology, one.references) for topology, one in zip(topologies, found.species, strict=True)]
    model = Model(molecules, tuple(intra), PairBasis(molecules.kinds, found.cutoff_angstrom))
    shortest = np.array([np.inf if one is None else one for one in found.shortest_angstrom])
    return Fitted(model, np.array(found.coefficients), Strengths(**found.strengths), shortest)


def _energy(topology: Topology, references: Sequence[Reference]) -> Class2:
    return Class2(topology, {(one.kind, one.atoms): one.value for one in references})
