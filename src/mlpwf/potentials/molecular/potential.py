"""A fitted molecular force field as a potential: evaluated by LAMMPS, as production runs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.geometry import find_mic
from numpy.typing import NDArray

from mlpwf.errors import DataError
from mlpwf.potentials.base import Engine, Potential
from mlpwf.potentials.force_field.reading import ForceField, Template, write_full_data
from mlpwf.potentials.images import check_room, height, longest_held
from mlpwf.potentials.lammps import METAL, LammpsExport, SinglePoints
from mlpwf.potentials.molecular import lammps, record
from mlpwf.potentials.molecular.class2 import ORDERS, Class2
from mlpwf.potentials.molecular.fit import Fitted
from mlpwf.structures.frames import element_order
from mlpwf.structures.lammps_data import box_matrix, element_mass
from mlpwf.structures.molecules import bonds_of_species, molecule_bonds, species_numbers
from mlpwf.structures.properties import Properties

SKIN_ANGSTROM, REBUILD_FS = 2.0, 10.0
DATA_SECTIONS = {"bond": "Bonds", "angle": "Angles", "dihedral": "Dihedrals", "improper": "Impropers"}


class MolecularPotential(Potential):
    """The force field of one file, for boxes of its molecules."""

    def __init__(self, engine: Engine, files: Sequence[Path], molecules: Sequence[Atoms] = ()) -> None:
        super().__init__(engine, files, molecules)
        self.fitted: Fitted = record.read(self.files[0])
        self._check()

    def _check(self) -> None:
        """DataError unless the molecules are those of the force field, atom by atom."""
        topologies = self.fitted.model.molecules.topologies
        if not self.molecules:
            return
        if len(self.molecules) != len(topologies):
            raise DataError(f"{self.name}: of {len(topologies)} species; the box has {len(self.molecules)}")
        for molecule, topology in zip(self.molecules, topologies, strict=True):
            bonds = {tuple(sorted(pair)) for pair in molecule_bonds(molecule).tolist()}
            if tuple(molecule.symbols) != topology.symbols or bonds != set(topology.bonds):
                raise DataError(
                    f"{self.name}: of another molecule than {molecule.get_chemical_formula()} of this campaign, or of "
                    "one with its atoms in another order; expected the force field of this campaign"
                )

    @property
    def elements(self) -> list[str]:
        """Elements of the species."""
        return element_order(self._references)

    @cached_property
    def _references(self) -> list[Atoms]:
        """One frame of each species."""
        molecules = self.fitted.model.molecules
        pairs = zip(molecules.topologies, molecules.positions, strict=True)
        return self.molecules or [Atoms(list(topology.symbols), positions=at) for topology, at in pairs]

    @cached_property
    def _single_points(self) -> SinglePoints:
        return SinglePoints(replace(self.lammps(), write_box=self._write_frame))

    def compute(self, frames: Sequence[Atoms]) -> list[Properties]:
        """Energy, forces and stress of each frame by LAMMPS in this process."""
        for atoms in frames:
            self._check_separations(atoms)
        return [self._single_points.of(atoms) for atoms in frames]

    @cached_property
    def _constants(self) -> list[float]:
        """Energy of each species that no term of LAMMPS has, in eV: its 1 − cos nφ is K more than the fit's."""
        waves = [
            sum(values[f"k{order}"] for term in energy.terms if term.section == "dihedral"
                for values in [energy.coefficients(term, own)] for order in ORDERS)
            for energy, own in self._parts
        ]  # fmt: skip
        return [float(energy) + wave for energy, wave in zip(self.fitted.coefficients, waves, strict=False)]

    @property
    def _parts(self) -> list[tuple[Class2, NDArray[np.float64]]]:
        """Class-II energy of each species, and its coefficients."""
        model, values = self.fitted.model, self.fitted.coefficients
        return [
            (energy, values[start : start + len(energy.features)])
            for start, energy in zip(model.starts, model.intra, strict=False)
        ]

    def descriptors(self, frames: Sequence[Atoms], elements: Sequence[str]) -> NDArray[np.float64]:
        """Features of the energy per molecule."""
        model = self.fitted.model
        rows = []
        for atoms in frames:
            species = species_numbers(atoms, self._references)
            rows.append(model.design(atoms, species)[0][len(model.intra) :] / len(species))
        return np.array(rows)

    def lammps(self) -> LammpsExport:
        """Class-II styles and pair tables."""
        return LammpsExport(METAL, "full", SKIN_ANGSTROM, REBUILD_FS, self._write_box, self._commands)

    @cached_property
    def _straight(self) -> bool:
        return any(topology.lines for topology in self.fitted.model.molecules.topologies)

    def _commands(self, folder: Path) -> list[str]:
        return [
            "special_bonds lj/coul 0 0 1", f"pair_style {self.pair_style}", *self.terms(), *self.pairs(folder),
        ]  # fmt: skip

    @property
    def pair_style(self) -> str:
        """LAMMPS' style of the pair energies."""
        return f"table spline {lammps.POINTS}"

    def terms(self) -> list[str]:
        """Styles and coefficients of bonds, angles, dihedrals and impropers, and the constant energy."""
        first, found = dict.fromkeys(DATA_SECTIONS, 1), lammps.styles(self._straight)
        for energy, own in self._parts:
            found += lammps.Coefficients(energy, own, first, self._straight).commands()
            first = {section: first[section] + count for section, count in lammps.types([energy]).items()}
        return [*found, *lammps.energy_commands(self._energy_of_sites)]

    def pairs(self, folder: Path, style: str = "") -> list[str]:
        """Coefficients of the pair energies, whose tables are put into a folder.

        Parameters
        ----------
        folder
            As LAMMPS may name it.
        style
            The name of the style below a hybrid one, with a space behind.
        """
        for name, text in self._tables.items():
            (folder / name).write_text(text)
        return lammps.pair_commands(self.fitted.model.pairs, folder, style)

    @cached_property
    def _tables(self) -> dict[str, str]:
        model = self.fitted.model
        return lammps.tables(model.pairs, self.fitted.coefficients[model.starts[-1] :])

    @property
    def _energy_of_sites(self) -> dict[int, float]:
        """The constant energy of each species, shared by its atoms of one kind, by LAMMPS' type."""
        molecules, found = self.fitted.model.molecules, {}
        for topology, start, energy in zip(
            molecules.topologies, molecules.first_kind.tolist(), self._constants, strict=False
        ):
            site = topology.sites[0]
            found[start + site + 1] = energy / topology.sites.count(site)
        return found

    def _check_separations(self, atoms: Atoms) -> None:
        """DataError where LAMMPS would take an image of an atom for the one that bonds hold.

        It compares the separation with half of the box along each of its axes.
        """
        edges, rotation = box_matrix(atoms.cell.array)
        held = self._held(atoms) @ rotation
        if np.all(np.abs(held) < np.diag(edges) / 2):
            return
        raise DataError(
            f"{self.name}: a box of {height(atoms):.1f} Å; expected one of which half is longer than the distance of "
            "atoms that bonds hold: take more molecules, or a lower density"
        )

    def _held(self, atoms: Atoms) -> NDArray[np.float64]:
        """Separations of all atoms that one or two bonds hold together, (n, 3) in Å, each along its bonds."""
        topologies = self.fitted.model.molecules.topologies

        def of_box(found: Sequence[tuple[tuple[int, ...], ...]], size: int) -> NDArray[np.int64]:
            rows = [np.array(own, dtype=np.int64).reshape(-1, size) for own in found]
            return bonds_of_species(atoms, self._references, rows)

        bonds, angles = of_box([one.bonds for one in topologies], 2), of_box([one.triples for one in topologies], 3)

        def along(ends: NDArray[np.int64]) -> NDArray[np.float64]:
            steps = atoms.positions[ends[:, 1]] - atoms.positions[ends[:, 0]]
            nearest: NDArray[np.float64] = find_mic(steps, atoms.cell)[0] if len(ends) else steps
            return nearest

        return np.concatenate([along(bonds), along(angles[:, :2]) + along(angles[:, 1:])])

    @cached_property
    def _longest(self) -> float:
        molecules = self.fitted.model.molecules
        species = zip(molecules.positions, molecules.topologies, strict=True)
        return max(longest_held(positions, topology.close) for positions, topology in species)

    def _write_box(self, target: Path, atoms: Atoms) -> None:
        """Write a box whose molecules will turn: it must be wide enough along every direction."""
        check_room(self.name, atoms, self._longest)
        self._write_frame(target, atoms)

    def _write_frame(self, target: Path, atoms: Atoms) -> None:
        write_full_data(target, atoms, self._layout, self._templates, species_numbers(atoms, self._references))

    @cached_property
    def _layout(self) -> ForceField:
        """Numbers of types, and masses of the kinds of sites."""
        model = self.fitted.model
        masses = np.array([element_mass(symbol) for symbol in model.kind_symbols()])
        counts = {"atom": model.molecules.kinds, **lammps.types(model.intra)}
        return ForceField("metal", (), counts, masses, self._templates[0])

    @cached_property
    def _templates(self) -> list[Template]:
        """Sites and terms of each species, each term with a type of its own."""
        model = self.fitted.model
        found, counts = [], dict.fromkeys(DATA_SECTIONS, 0)
        for energy, start in zip(model.intra, model.molecules.first_kind.tolist(), strict=False):
            rows: dict[str, list[list[int]]] = {section: [] for section in DATA_SECTIONS}
            for term in energy.terms:
                section = "angle" if term.section == "line" else term.section
                counts[section] += 1
                rows[section].append([counts[section], *term.atoms])
            sites = np.array(energy.topology.sites) + start + 1
            topology = {
                name: np.array(rows[section], dtype=np.int64).reshape(-1, 1 + size)
                for (section, name), size in zip(DATA_SECTIONS.items(), (2, 3, 4, 4), strict=True)
            }
            found.append(Template(sites, np.zeros(len(sites)), topology, np.zeros(len(sites), dtype=np.int64)))
        return found
