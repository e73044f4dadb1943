"""Frozen models, evaluated by DeePMD-kit, whose virial is −stress × volume in eV."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlpwf.campaign.accounting import as_engine
from mlpwf.errors import DataError, EngineError
from mlpwf.potentials.base import Engine, Potential
from mlpwf.potentials.deepmd import lammps
from mlpwf.potentials.deepmd.data import groups
from mlpwf.potentials.deepmd.program import thread_settings
from mlpwf.potentials.descriptors import mean_and_spread
from mlpwf.potentials.lammps import LammpsExport, link
from mlpwf.structures.frames import element_order
from mlpwf.structures.properties import Properties

Array = NDArray[np.float64]


@contextmanager
def _native_silence() -> Iterator[None]:
    """Leave out DeePMD-kit's native noise about absent GPU libraries: on import, on the first model, at exit."""
    if "deepmd.infer" in sys.modules:
        yield
        return
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.dup2(kept, 2)
    atexit.register(os.dup2, nowhere, 2)
    logging.getLogger("deepmd").setLevel(logging.ERROR)


def open_net(model: Path) -> Any:
    """A model ready to be evaluated, on one core and without noise.

    In a Snakemake job OMP_NUM_THREADS is set to the job's threads and stays.

    Raises
    ------
    EngineError
        If DeePMD-kit cannot read it.
    """
    for name, value in thread_settings(1).items():
        os.environ.setdefault(name, value)
    with _native_silence():
        from deepmd.infer import DeepPot  # imports TensorFlow: seconds, and not where LAMMPS alone is used

        try:
            return DeepPot(str(model))
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise EngineError(f"{model}: not a model DeePMD-kit can read ({reason}); train it again") from None


def lammps_types(potential: Potential) -> list[str]:
    """Elements in the order of LAMMPS' atom types: that of the molecules', or else the type map."""
    return element_order(potential.molecules) if potential.molecules else potential.elements


class DeepPotential(Potential):
    """A frozen model, compressed or not; it is read when it is first asked."""

    def __init__(self, engine: Engine, files: Sequence[Path], molecules: Sequence[Atoms] = ()) -> None:
        super().__init__(engine, files, molecules)
        (self.model,) = self.files
        if not self.model.is_file():
            raise DataError(f"{self.model}: no such model; expected a frozen model of mlpwf train")

    @cached_property
    def net(self) -> Any:
        """The model in DeePMD-kit."""
        return open_net(self.model)

    @property
    def elements(self) -> list[str]:
        """The type map."""
        return list(self.net.get_type_map())

    def compute(self, frames: Sequence[Atoms]) -> list[Properties]:
        """Energy, forces and stress of each frame."""
        results: dict[int, Properties] = {}
        for members, coordinates, cells, types in self._batches(frames):
            energies, forces, virials = self.net.eval(coordinates, cells, types)[:3]
            for row, index in enumerate(members):
                volume = float(frames[index].get_volume())
                results[int(index)] = Properties(
                    float(energies[row].sum()),
                    np.array(forces[row], float).reshape(-1, 3),
                    -np.array(virials[row], float).reshape(3, 3) / volume,
                    volume,
                )
        return [results[index] for index in range(len(frames))]

    @as_engine()
    def descriptors(self, frames: Sequence[Atoms], elements: Sequence[str]) -> Array:
        """Mean and spread of the atoms' descriptors, element by element; a compressed model gives none."""
        rows: dict[int, Array] = {}
        for members, coordinates, cells, types in self._batches(frames):
            values = np.asarray(self.net.eval_descriptor(coordinates, cells, types), float)
            values = values.reshape(len(members), len(types), -1)
            symbols = [self.elements[kind] for kind in types]
            rows.update(
                (int(index), mean_and_spread(own, symbols, elements))
                for index, own in zip(members, values, strict=True)
            )
        if not rows:
            return np.zeros((0, 0))
        return np.array([rows[index] for index in range(len(frames))])

    def lammps(self) -> LammpsExport:
        """LAMMPS with DeePMD-kit's pair style; atom types in the order of the molecules' elements."""
        return lammps.export([self.model], lammps_types(self))

    def overlay(self, folder: Path, symbols: Sequence[str]) -> tuple[str, str]:
        """Words of LAMMPS' pair style and of its coefficients, for one among several styles.

        Parameters
        ----------
        folder
            Where the model is linked.
        symbols
            Element of each of LAMMPS' atom types.
        """
        model = link(folder / f"network{self.model.suffix}", str(self.model.resolve()))
        return f"deepmd {model}", f"* * deepmd {' '.join(symbols)}"

    def _batches(self, frames: Sequence[Atoms]) -> Iterator[tuple[NDArray[np.int64], Array, Array, list[int]]]:
        """For each group of frames: indices, coordinates, cells and atom types."""
        elements = self.elements
        for members in groups(frames):
            coordinates = np.array([frames[index].positions.ravel() for index in members])
            cells = np.array([frames[index].cell.array.ravel() for index in members])
            symbols = frames[members[0]].symbols
            yield members, coordinates, cells, [elements.index(symbol) for symbol in symbols]
