"""Packmol: molecules placed at random in a periodic box, none closer than a tolerance.

Martínez et al., J. Comput. Chem. 30, 2157 (2009), DOI 10.1002/jcc.21224.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlpwf.errors import EngineError
from mlpwf.process import TIMED_OUT, run_engine
from mlpwf.progress import watched

Array = NDArray[np.float64]
_NOT_CONVERGED = 173
LOOPS = 60  # failed packings take seconds, not minutes; 512 toluenes need about ten
_LOOP = "Starting GENCAN loop"
_SUCCESS = "Success!"


def packmol_path() -> str:
    """Path of the program `packmol`: beside this Python interpreter, else on PATH.

    Raises
    ------
    EngineError
        If there is none.
    """
    found = shutil.which("packmol", path=str(Path(sys.executable).parent)) or shutil.which("packmol")
    if found is None:
        raise EngineError("packmol: found in no folder of PATH; install it with 'pip install packmol'")
    return found


def packmol_input(counts: Sequence[int], cell_lengths: Array, tolerance_angstrom: float, seed: int) -> str:
    """Input that packs `counts[k]` copies of `species_k.xyz` into a periodic orthorhombic box.

    Parameters
    ----------
    counts
        Molecules of each species.
    cell_lengths
        Edges of the box in Å, shape (3,).
    tolerance_angstrom
        Smallest distance between atoms of different molecules in Å, periodic images included.
    seed
        Seed of Packmol's random numbers, positive.
    """
    lines = [
        f"tolerance {tolerance_angstrom:.6f}",
        f"seed {seed}",
        f"nloop {LOOPS}",
        "filetype xyz",
        "output packed.xyz",
        "pbc " + " ".join(f"{length:.8f}" for length in cell_lengths),
    ]
    for species, count in enumerate(counts):
        lines += [f"structure species_{species}.xyz", f"  number {count}", "end structure"]
    return "\n".join(lines) + "\n"


def pack(
    molecules: Sequence[Atoms],
    counts: Sequence[int],
    cell_lengths: Array,
    *,
    tolerance_angstrom: float,
    seed: int,
    timeout_seconds: float = 600.0,
    watch: Callable[[int], None] | None = None,
) -> Array | None:
    """Pack rigid copies of molecules into a periodic orthorhombic box.

    Distances between a molecule and its own periodic images are not looked at
    by Packmol; in a box about as small as a molecule the caller has to.

    Parameters
    ----------
    molecules
        One geometry of each species.
    counts
        Molecules of each species; species of which there are none are left out.
    cell_lengths, tolerance_angstrom, seed
        As for `packmol_input`.
    timeout_seconds
        Wall time after which the packing counts as failed.
    watch
        Called now and then with the number of Packmol's loops so far, at most `LOOPS`.

    Returns
    -------
    array or None
        Positions in Å, shape (n_atoms, 3), molecules whole, species in the order
        given; None if Packmol found no packing.

    Raises
    ------
    EngineError
        If Packmol cannot be started or ends in any other way.
    """
    present = [(atoms, count) for atoms, count in zip(molecules, counts, strict=True) if count > 0]
    n_atoms = sum(len(atoms) * count for atoms, count in present)
    with tempfile.TemporaryDirectory(prefix="mlpwf-packing-") as name:
        folder = Path(name)
        for species, (atoms, _) in enumerate(present):
            (folder / f"species_{species}.xyz").write_text(_xyz(atoms))
        text = packmol_input([count for _, count in present], cell_lengths, tolerance_angstrom, seed)
        (folder / "packmol.inp").write_text(text)
        output = folder / "packmol.out"
        command = [packmol_path(), "-i", "packmol.inp"]
        with watched(watch, lambda: _loops(output)):
            status = run_engine(command, folder=folder, output=output, timeout_seconds=timeout_seconds)
        printed = output.read_text(errors="replace")
        if status in (TIMED_OUT, _NOT_CONVERGED):
            return None
        if status != 0 or _SUCCESS not in printed:
            raise EngineError(f"packmol: ended with status {status}; {_last_line(printed)}")
        return _positions(folder / "packed.xyz", n_atoms)


def _loops(output: Path) -> int:
    """Loops that Packmol has ended."""
    return max(0, output.read_text(errors="replace").count(_LOOP) - 1) if output.is_file() else 0


def _xyz(atoms: Atoms) -> str:
    rows = [
        f"{symbol} {x:.8f} {y:.8f} {z:.8f}" for symbol, (x, y, z) in zip(atoms.symbols, atoms.positions, strict=True)
    ]
    return "\n".join([str(len(atoms)), "", *rows]) + "\n"


def _positions(source: Path, n_atoms: int) -> Array:
    """Positions of an XYZ file, shape (n_atoms, 3)."""
    rows = source.read_text().splitlines()[2:] if source.is_file() else []
    try:
        positions = np.array([[float(word) for word in row.split()[1:4]] for row in rows if row.strip()])
    except ValueError as error:
        raise EngineError(f"packmol: unreadable coordinates ({error}); expected numbers") from None
    if positions.shape != (n_atoms, 3):
        raise EngineError(f"packmol: wrote positions of shape {positions.shape}; expected {(n_atoms, 3)}")
    return positions


def _last_line(printed: str) -> str:
    errors = [line.strip() for line in printed.splitlines() if "ERROR" in line]
    lines = errors or [line.strip() for line in printed.splitlines() if line.strip()]
    return f"it said '{lines[-1]}'" if lines else "it said nothing"
