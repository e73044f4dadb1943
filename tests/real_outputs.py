"""Two outputs of pw.x with their inputs, and a store of their labels."""

from __future__ import annotations

import shutil
from pathlib import Path

from mlpwf.calculators.espresso import pw
from mlpwf.calculators.espresso.calculator import Espresso
from mlpwf.config import Label, Site
from mlpwf.label import import_export
from mlpwf.label.store import Store

DATA = Path(__file__).parent / "data" / "espresso"
HASHES = {"O": "932f1ddd01dba2749558f1893c74a415", "H": "f4d00379d62f7fb62c40af863c256602"}
SETTINGS = Label(cutoff_ry=30, density_cutoff_ry=180, convergence_ry=1e-8, kpoints="gamma")
PHYSICS = pw.physics(SETTINGS, HASHES)
NAMES = ("water", "waters")


def espresso(settings: Label = SETTINGS, hashes: dict[str, str] = HASHES) -> Espresso:
    """A calculator at a site whose pseudopotentials have these sums, without their files."""
    made = Espresso(settings, Site(), list(hashes))
    made.hashes = hashes
    return made


def copy_outputs(folder: Path) -> None:
    """Put the outputs and their inputs into a folder."""
    for name in NAMES:
        for suffix in (".in", ".out"):
            shutil.copy(DATA / f"{name}{suffix}", folder)


def store_of_outputs(folder: Path) -> Store:
    """A store in a folder that holds the outputs, with the labels of both."""
    made = Store(folder / "store")
    for name in NAMES:
        assert import_export.keep(made, PHYSICS, import_export.read_output(folder / f"{name}.out", espresso()))
    return made
