"""LAMMPS with the pair style of DeePMD-kit, which computes a committee's spread along with the forces."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from ase import Atoms

from mlpwf.errors import EngineError
from mlpwf.potentials.base import BuiltInSpread, Plugin, Spread
from mlpwf.potentials.lammps import METAL, LammpsExport, link
from mlpwf.structures.lammps_data import write_data

DEVIATION = Path("deviation.out")  # in the working folder


def export(models: Sequence[Path], elements: Sequence[str], options: str = "") -> LammpsExport:
    """The first of these models moves the atoms.

    Parameters
    ----------
    models
        Frozen models of one committee.
    elements
        Elements in the order of LAMMPS' atom types.
    options
        More words of the pair style.
    """

    def commands(folder: Path) -> list[str]:
        links = [link(folder / f"model{k}{model.suffix}", str(model)) for k, model in enumerate(models)]
        return [" ".join(["pair_style deepmd", *links, options]), f"pair_coeff * * {' '.join(elements)}"]

    def write_box(target: Path, atoms: Atoms) -> None:
        write_data(target, atoms, list(elements))

    return LammpsExport(METAL, "atomic", 1.0, 2.5, write_box, commands)


def built_in_spread(models: Sequence[Path], elements: Sequence[str], every_steps: int) -> BuiltInSpread:
    """The committee in one pair style, which writes its deviation to a file."""
    DEVIATION.unlink(missing_ok=True)
    options = f"out_file {DEVIATION} out_freq {every_steps}"
    return BuiltInSpread(export(models, elements, options), lambda: read_deviation(DEVIATION))


def read_deviation(file: Path) -> Spread:
    """The last line of a model deviation file; not known where it is missing or cut short."""
    lines = file.read_text().splitlines() if file.exists() else []
    values = [float(word) for word in lines[-1].split()] if len(lines) > 1 else []
    if len(values) < 7:
        return Spread()
    return Spread(max_force=values[4], min_force=values[5], mean_force=values[6], max_virial=values[1])


def plugin(threads: int) -> Plugin:
    """Where the pair style and TensorFlow are.

    Raises
    ------
    EngineError
        If one of the packages is not installed.
    """
    site = {}
    for package in ("deepmd", "tensorflow"):
        spec = find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise EngineError(
                f"the Python package '{package}' is missing; expected it beside mlpwf: pip install 'mlpwf[cpu]'"
            )
        site[package] = Path(spec.submodule_search_locations[0])
    folder = str(site["deepmd"] / "lib")
    cuda = sorted(str(found) for found in site["tensorflow"].parent.glob("nvidia/*/lib"))
    variables = {
        "LAMMPS_PLUGIN_PATH": folder,
        "DP_INTRA_OP_PARALLELISM_THREADS": str(threads),
        "DP_INTER_OP_PARALLELISM_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    return Plugin((str(site["tensorflow"]), folder, *cuda), variables)
