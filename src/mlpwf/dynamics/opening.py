"""Files of one run, opened and compared with each other before anything is read of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlpwf.dynamics import formats
from mlpwf.errors import DataError
from mlpwf.structures.lammps_text import ATOM_STYLES, DataFile, read_data

if TYPE_CHECKING:
    from MDAnalysis import Universe

GRO_LINES = 3  # of a frame besides those of its atoms


class Pieces:
    """The open files of one run, in order, in the place of a universe's trajectory."""

    def __init__(self, readers: Sequence[Any], paths: Sequence[Path], ids: Any = None) -> None:
        self.readers, self.filename = list(readers), str(paths[0])
        self.ts = readers[0].ts
        self.ids = ids
        """Numbers of the atoms in order, by a topology of LAMMPS."""

    def close(self) -> None:
        """Close all files."""
        for reader in self.readers:
            formats.attempt(reader.close)


def open_universe(
    topology: Path, trajectories: Sequence[Path], *, lammps_units: str | None = None, reduced: bool = False
) -> Universe:
    """A universe of a topology and one or more trajectories, in the order given; nothing is guessed.

    Formats are told by content where it tells, and masses and elements kept only of topologies that hold them.
    A LAMMPS data file is compared with itself first (`lammps_text.read_data`).

    Parameters
    ----------
    topology, trajectories
        Files.
    lammps_units
        `units` of LAMMPS, for a dump or DCD file of its where no file states them.
    reduced
        Whether numbers are taken as they stand, in units of the run.

    Raises
    ------
    DataError
        For a missing, empty or unreadable file, atoms that differ in number or type, statements that
        contradict each other, and units that no file states.
    """
    import MDAnalysis

    formats.quieten()
    for path in (topology, *trajectories):
        if not path.is_file():
            raise DataError(f"{path}: no such file")
        if path.stat().st_size == 0:
            raise DataError(f"{path}: empty; expected a topology or trajectory")
    kind = formats.recognise(topology, MDAnalysis._PARSERS, "a topology")
    universe, data = _atoms(topology, kind)
    readers = [_reader(path, universe, reduced) for path in trajectories]
    _check_units(data, list(zip(trajectories, readers, strict=True)), lammps_units, reduced)
    of_lammps = kind in (formats.DATA, formats.DUMP)
    if of_lammps:
        for path, reader in zip(trajectories, readers, strict=True):
            _check_types(universe, path, formats.name_of(reader))
    universe.trajectory = Pieces(readers, trajectories, universe.atoms.ids if of_lammps else None)
    return universe


def _atoms(topology: Path, kind: str) -> tuple[Universe, DataFile | None]:
    """A universe without coordinates, of what the topology holds alone; and the LAMMPS data file it is, if it is."""
    import MDAnalysis

    from mlpwf.dynamics import text_readers

    data = read_data(topology) if kind == formats.DATA else None
    more = {} if data is None else {"atom_style": ATOM_STYLES[data.style]}
    columns = None

    def parse() -> Any:
        nonlocal columns
        source: Any = str(topology)
        if kind == formats.DUMP:
            columns, source = text_readers.dump_head(source)[1], text_readers.dump_topology(source)
        elif kind == formats.EXTXYZ:
            source = text_readers.xyz_topology(source)
        elif kind == formats.DATA:
            source = text_readers.data_topology(topology)
        elif kind not in MDAnalysis._PARSERS:
            raise ValueError("it holds coordinates alone")
        parser = MDAnalysis._PARSERS["XYZ" if kind == formats.EXTXYZ else kind]
        with parser(source) as open_parser:
            return MDAnalysis.Universe(open_parser.parse(**more), to_guess=())

    universe, failure = formats.attempt(parse)
    if failure:
        raise DataError(f"{topology}: no {kind} topology can be read ({failure}); expected one MDAnalysis reads")
    formats.drop_fillers(universe, kind, columns)
    return universe, data


def _reader(path: Path, universe: Universe, reduced: bool) -> Any:
    """A trajectory, open, of as many atoms as the universe."""
    import MDAnalysis

    from mlpwf.dynamics import text_readers

    kind = formats.recognise(path, MDAnalysis._READERS, "a trajectory")
    reader_class = text_readers.OWN.get(kind) or MDAnalysis._READERS.get(kind)
    atoms = len(universe.atoms)
    reader, failure = formats.attempt(lambda: reader_class(str(path), n_atoms=atoms, convert_units=not reduced))
    if failure:
        raise DataError(f"{path}: no {kind} trajectory can be read ({failure}); it is damaged, cut short, or no {kind}")
    if reader.n_atoms != atoms:
        raise DataError(f"{path}: {reader.n_atoms} atoms; the topology has {atoms}: expected files of the same atoms")
    if kind == "GRO" and text_readers.has_line(path, atoms + GRO_LINES):
        raise DataError(
            f"{path}: several frames, of which MDAnalysis reads the first; expected a format of trajectories: "
            f"gmx trjconv -f {path.name} -o run.xtc"
        )
    return reader


def _check_types(universe: Universe, path: Path, kind: str) -> None:
    """DataError where the first frame of a dump gives an atom another type than its topology of LAMMPS."""
    from mlpwf.dynamics.text_readers import dump_head

    if kind != formats.DUMP or "type" not in dump_head(str(path))[1] or not hasattr(universe.atoms, "types"):
        return
    found = _atoms(path, kind)[0].atoms
    ours, theirs = universe.atoms.types.astype(str), found.types.astype(str)
    if len(odd := np.flatnonzero(ours != theirs)):
        raise DataError(
            f"{path}: atom id {int(found.ids[odd[0]])} is of type {theirs[odd[0]]}, in the topology of type "
            f"{ours[odd[0]]}; expected files of the same atoms"
        )


def _check_units(data: DataFile | None, files: Sequence[tuple[Path, Any]], given: str | None, reduced: bool) -> None:
    """Compare all statements of LAMMPS' units, and tell dumps their unit of time; DataError where one is missing."""
    from mlpwf.dynamics.text_readers import LammpsDump, dump_head

    said: dict[str, str | None] = {"--lammps-units": given}
    if data is not None:
        said[data.path.name] = data.units
    dumps = [(path, reader) for path, reader in files if isinstance(reader, LammpsDump)]
    said |= {path.name: dump_head(str(path))[0] for path, _ in dumps}
    units = formats.lammps_units(said, reduced)
    for path, reader in files:
        of_lammps = formats.name_of(reader) == "DCD" and formats.DCD_OF_LAMMPS in formats.dcd_title(reader)
        if units is None and not reduced and (of_lammps or isinstance(reader, LammpsDump)):
            raise DataError(
                f"{path}: written by LAMMPS, and no file says in which units; give them: --lammps-units real (or "
                "metal; lj with units: reduced in a file of states)"
            )
    for _, reader in dumps:
        reader.time_ps = 1.0 if reduced else formats.LAMMPS_TIME_PS[str(units)]
