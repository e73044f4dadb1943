"""A folder from which LAMMPS alone runs a trained potential."""

from __future__ import annotations

import shlex
import shutil
from contextlib import chdir
from pathlib import Path
from typing import Any

import ase.io
from ase import Atoms

from mlpwf.errors import ConfigError, DataError
from mlpwf.files import write_text
from mlpwf.md.lammps import environment
from mlpwf.potentials.base import Ability
from mlpwf.potentials.lammps import LammpsExport
from mlpwf.potentials.record import engine_of
from mlpwf.structures.frames import read_frames
from mlpwf.structures.molecules import numbered

INPUT, DATA, START = "in.lammps", "box.data", "run.sh"
TIMESTEP_PS = 5e-4


def read_box(box: Path, molecules: Path | None) -> tuple[Atoms, list[Atoms]]:
    """The box, its molecules numbered, and one frame of each species.

    Raises
    ------
    DataError
        If ASE cannot read it, or it has no cell.
    """
    try:
        atoms: Any = ase.io.read(box, index=0)
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{box}: ASE cannot read it ({reason}); expected a periodic box") from None
    if atoms.cell.rank < 3:
        raise DataError(f"{box}: no cell; expected a periodic box")
    atoms.pbc = True
    return numbered(atoms), [] if molecules is None else read_frames(molecules)


def export_lammps(model: Path, atoms: Atoms, molecules: list[Atoms], folder: Path) -> None:
    """Write the box, the potential's files, an input that runs a few steps, and run.sh.

    Raises
    ------
    ConfigError
        If LAMMPS alone cannot run the engine, or the folder is there already.
    """
    by = engine_of([model])
    by.require(Ability.LAMMPS)
    export = by.open([model.resolve()], molecules).lammps()
    if export.outside is not None:
        raise ConfigError(
            f"{model}: LAMMPS has no style for the engine {by.name}; expected use from Python, where mlpwf drives "
            "LAMMPS: see mlpwf model show"
        )
    if folder.exists():
        raise ConfigError(f"{folder}: is there already; expected a new folder")
    folder.mkdir(parents=True)
    with chdir(folder):
        export.write_box(Path(DATA), atoms)
        commands = export.commands(Path())
        for path in Path().iterdir():
            if path.is_symlink():
                _copied(path)
        write_text(Path(INPUT), _input(export, commands))
        write_text(Path(START), _start(environment(by, 1)))


def _copied(path: Path) -> None:
    """The file a link leads to, in its place."""
    source = path.resolve()
    path.unlink()
    shutil.copy2(source, path)


def _input(export: LammpsExport, commands: list[str]) -> str:
    """An input of LAMMPS: the potential, and a short run at constant energy."""
    lines = [
        *(line for line in export.opening() if line != "clear"),
        "box tilt large",
        f"read_data {DATA}",
        *commands,
        f"neighbor {export.skin_angstrom} bin",
        "neigh_modify every 1 delay 0 check yes",
        f"timestep {TIMESTEP_PS * export.units.ps:g}",
        *(export.fast.style(1e3 * TIMESTEP_PS) if export.fast else []),
        "thermo_style custom step temp pe etotal press vol",
        "thermo 10",
        "",
        "# your run begins here",
        f"velocity all create 300 1 dist gaussian # K; units {export.units.name}",
        "fix motion all nve",
        "run 100",
    ]
    return "\n".join(lines) + "\n"


def _start(variables: dict[str, str]) -> str:
    """A shell script that starts LAMMPS where its plugins and libraries are found."""
    settings = [f"export {name}={shlex.quote(value)}" for name, value in variables.items() if value]
    lines = [
        "#!/bin/sh",
        "# LAMMPS=… names another LAMMPS",
        'cd "$(dirname "$0")"',
        *settings,
        f'exec ${{LAMMPS:-lmp}} -in {INPUT} "$@"',
    ]
    return "\n".join(lines) + "\n"
