"""Quantum ESPRESSO's pw.x: write an input, run it, read its output's numbers."""

from __future__ import annotations

import hashlib
import io
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlpwf.calculators.base import Numerics, Physics
from mlpwf.calculators.espresso import kpoints
from mlpwf.calculators.espresso.kpoints import KPoints
from mlpwf.config.label import Label
from mlpwf.config.site import Site
from mlpwf.errors import ConfigError, EngineError
from mlpwf.process import run_engine
from mlpwf.structures.properties import Properties
from mlpwf.units import words

_VERSION = re.compile(r"Program PWSCF v\.(\S+) starts")
_SIGNALLED = 128  # a shell's, mpirun's and srun's exit status from here on: killed by a signal
_SMEARING = {"gaussian": "gaussian", "mv": "mv", "mp": "mp"}
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    # a process by itself needs no daemon of Open MPI, which costs as much as a small label's start
    "OMPI_MCA_ess_singleton_isolated": "1",
    # pw.x allocates and frees its work arrays in each SCF step; kept, they need not be mapped and zeroed again
    "MALLOC_TRIM_THRESHOLD_": "-1",
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
    "MALLOC_TOP_PAD_": str(2**26),
}
"""What every pw.x is given on top of the environment of mlpwf."""


class Cutoffs(Protocol):
    """What the grids of a calculation follow from, in Ry; fft_grid_ry None: the density cut-off's."""

    @property
    def cutoff_ry(self) -> float: ...
    @property
    def density_cutoff_ry(self) -> float: ...
    @property
    def fft_grid_ry(self) -> float | None: ...


def md5_sum(path: Path) -> str:
    """MD5 of a file's content in hexadecimal, as pw.x prints it of each pseudopotential."""
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def pseudopotential_hashes(elements: list[str], label: Label, folder: Path) -> dict[str, str]:
    """MD5 of the content of each element's pseudopotential file (the sum pw.x itself prints).

    Raises
    ------
    ConfigError
        If an element has no file in the table, the file is not in the folder, or its
        sum is not the one of `label.pseudopotential_sums`.
    """
    hashes = {}
    for element in elements:
        name = label.pseudopotentials.get(element)
        if name is None:
            raise ConfigError(
                f"label.pseudopotentials: no file for {element}; expected one for each element, "
                f"found {', '.join(sorted(label.pseudopotentials))}"
            )
        path = folder / name
        if not path.is_file():
            raise ConfigError(
                f"label.pseudopotentials.{element}: no file {path}; put it there, "
                "name another in label.pseudopotentials, or set pseudopotential_folder in the site file"
            )
        hashes[element] = md5_sum(path)
        expected = label.pseudopotential_sums.get(element, hashes[element])
        if hashes[element] != expected:
            raise ConfigError(
                f"label.pseudopotential_sums.{element}: {path} has MD5 sum {hashes[element]}; {expected} expected: "
                "fetch the right file again, or correct the sum"
            )
    return hashes


def kpoints_of(label: Label, cell: NDArray[np.float64]) -> KPoints:
    """The k-points of a label in a cell (3, 3) in Å.

    Raises
    ------
    ConfigError
        If `label.kpoints` is 'auto' and the cell needs too many.
    """
    asked = label.kpoints
    if asked == "gamma":
        return kpoints.GAMMA
    if asked == "auto":
        return kpoints.fewest(cell, label.image_distance_angstrom)
    if isinstance(asked, list):
        return kpoints.listed(asked)
    return kpoints.grid(asked[:3], asked[3:] or (0, 0, 0))


def kpoints_rule(label: Label) -> object:
    """How a record names k-points; for 'auto' the rule, which `kpoints_in` applies to a cell.

    Γ and grids through Γ have the names they had before other points could be asked for.
    """
    if label.kpoints == "gamma":
        return "gamma"
    if label.kpoints == "auto":
        return {"image_distance_angstrom": float(label.image_distance_angstrom)}
    if len(label.kpoints) == 3 and not isinstance(label.kpoints, list):
        return list(label.kpoints)
    return kpoints_of(label, np.eye(3)).rows()


def kpoints_in(physics: Mapping[str, object], cell: NDArray[np.float64]) -> Physics:
    """The physics of a label in a cell (3, 3) in Å: what `physics` says, with the points its rule gives there."""
    rule = physics.get("kpoints")
    if not isinstance(rule, Mapping):
        return dict(physics)
    points = kpoints.fewest(cell, rule["image_distance_angstrom"])
    return {**physics, "kpoints": "gamma" if points.is_gamma else points.rows()}


def physics(label: Label, pseudopotentials: dict[str, str]) -> Physics:
    """What a label's numbers depend on beside the structure; part of its key in the store."""
    smearing = None if label.smearing == "none" else [label.smearing, label.smearing_width_ry]
    grid = {} if label.fft_grid_ry is None else {"fft_grid_ry": float(label.fft_grid_ry)}
    return {
        "engine": label.engine,
        "functional": label.functional,
        "dispersion": [label.dispersion, label.dispersion_threebody if label.dispersion != "none" else False],
        "cutoff_ry": float(label.cutoff_ry),
        "density_cutoff_ry": float(label.density_cutoff_ry),
        **grid,
        "kpoints": kpoints_rule(label),
        "smearing": smearing,
        "convergence_ry": label.convergence_ry,
        "pseudopotentials": dict(sorted(pseudopotentials.items())),
    }


def told(physics: Mapping[str, object]) -> dict[str, str]:
    """A physics in words: functional with dispersion correction, settings and k-points."""
    names = {"rpbe": "RPBE", "pbe": "PBE", "revpbe": "revPBE", "blyp": "BLYP"}
    functional = str(physics.get("functional") or physics.get("input_dft") or "not recorded")
    settings = []
    for key, value in physics.items():
        if isinstance(value, int | float):
            name, _, unit = words(key).partition(", ")
            settings.append(f"{name} {value:g} {unit}".strip())
    found = {
        "Functional": f"{names.get(functional.lower(), functional)} with {_dispersion(physics.get('dispersion'))}",
        "Settings": ", ".join(settings),
        "k-points": _kpoints_told(physics.get("kpoints")),
    }
    return {name: text for name, text in found.items() if text}


def _dispersion(correction: object) -> str:
    kind, three_body = correction if isinstance(correction, list) else (correction or "none", False)
    if kind == "none":
        return "no dispersion correction"
    terms = "two- and three-body" if three_body else "two-body"
    return f"D3(BJ), {terms} terms" if kind == "d3bj" else str(kind)


def _kpoints_told(asked: object) -> str:
    if isinstance(asked, Mapping):
        if set(asked) == {"image_distance_angstrom"}:
            return f"by the cell of each frame: periodic images at least {asked['image_distance_angstrom']:g} Å apart"
        return ", ".join(f"{words(str(key))} {value}" for key, value in asked.items())
    if isinstance(asked, list) and asked:
        return f"{len(asked)} points" if isinstance(asked[0], list) else f"grid {' x '.join(map(str, asked))} through Γ"
    return "Γ alone" if asked == "gamma" else ""


def numerics(label: Label) -> Numerics:
    """Settings that decide whether the SCF gets there, not where it gets."""
    return {
        "mixing_beta": label.mixing_beta,
        "mixing_mode": label.mixing_mode,
        "diagonalization": label.diagonalization,
        "retries": label.retries,
        "maximum_scf_steps": label.maximum_scf_steps,
        "timeout_seconds": label.timeout_seconds,
    }


def fft_grid(cell: NDArray[np.float64], label: Cutoffs) -> tuple[int, int, int]:
    """Points of the grid of density and potential along each axis of a cell (3, 3) in Å.

    Unset `label.fft_grid_ry`: the grid pw.x takes by itself. Set: the smallest that holds every
    plane wave of that cut-off and is no smaller than the grid pw.x takes for the wave functions;
    its factors are 2, 3, 5 and 7, and no multiple of 16: at such strides all lines of the grid
    fall on the same few lines of the processor's cache.
    """
    if label.fft_grid_ry is None:
        return _own_grid(cell, label.density_cutoff_ry)
    waves = _own_grid(cell, 4 * label.cutoff_ry)
    needed = smallest_grid(cell, label.fft_grid_ry)
    one, two, three = (_good_order(max(pair), (2, 3, 5, 7), 16) for pair in zip(waves, needed, strict=True))
    return one, two, three


def grid_cutoff(cells: Iterable[NDArray[np.float64]], label: Cutoffs) -> float:
    """Cut-off in Ry, `fft_grid_ry` or above, that names the grids of these cells, (3, 3) in Å, by their spacing.

    Sizes are rounded up, in some cells by much. With this value the grid of any other cell is as
    dense as the coarsest of these, to within one point.
    """
    from ase.units import Bohr

    spacings = [np.linalg.norm(cell, axis=1) / Bohr / fft_grid(cell, label) for cell in cells]
    return max(label.fft_grid_ry or label.density_cutoff_ry, float(np.floor((np.pi / np.max(spacings)) ** 2)))


def _own_grid(cell: NDArray[np.float64], cutoff_ry: float) -> tuple[int, int, int]:
    """The grid pw.x takes for a cut-off."""
    one, two, three = (_good_order(points, (2, 3, 5)) for points in smallest_grid(cell, cutoff_ry))
    return one, two, three


def smallest_grid(cell: NDArray[np.float64], cutoff_ry: float) -> tuple[int, int, int]:
    """Points along each axis of a cell (3, 3) in Å that hold all plane waves G with |G|² < cutoff (Ry, bohr)."""
    from ase.units import Bohr

    reciprocal = 2 * np.pi * np.linalg.inv(cell / Bohr).T
    bounds = (np.sqrt(cutoff_ry) * np.linalg.norm(cell, axis=1) / Bohr / (2 * np.pi)).astype(int)
    largest = []
    for axis in range(3):
        first, second = (other for other in range(3) if other != axis)
        a, b = (np.arange(-bounds[other], bounds[other] + 1) for other in (first, second))
        plane = a[:, None, None] * reciprocal[first] + b[None, :, None] * reciprocal[second]
        index = int(bounds[axis])
        while index and np.sum((index * reciprocal[axis] + plane) ** 2, axis=2).min() >= cutoff_ry:
            index -= 1
        largest.append(2 * index + 1)
    return largest[0], largest[1], largest[2]


def _good_order(number: int, primes: tuple[int, ...], stride: int | None = None) -> int:
    """The next number that has no other prime factors and is no multiple of `stride`."""
    while True:
        rest = number
        for prime in primes:
            while rest % prime == 0:
                rest //= prime
        if rest == 1 and (stride is None or number % stride):
            return number
        number += 1


def write_input(target: Path, atoms: Atoms, label: Label, pseudopotential_folder: Path) -> None:
    """Write a pw.x single-point input for `atoms` (positions and cell in Å), and beside it a link to its potentials.

    The link spares pw.x their path, which may be long or hold a quote.
    """
    from ase.io.espresso import write_espresso_in

    link = target.with_name("pseudo")
    link.unlink(missing_ok=True)
    link.symlink_to(pseudopotential_folder.resolve())

    system: dict[str, object] = {
        "ecutwfc": label.cutoff_ry,
        "ecutrho": label.density_cutoff_ry,
        "input_dft": label.functional,
        "nosym": True,
    }
    if label.fft_grid_ry is not None:
        system |= dict(zip(("nr1", "nr2", "nr3"), fft_grid(atoms.cell.array, label), strict=True))
    if label.dispersion == "d3bj":
        system |= {"vdw_corr": "dft-d3", "dftd3_version": 4, "dftd3_threebody": label.dispersion_threebody}
    if label.smearing != "none":
        system |= {
            "occupations": "smearing",
            "smearing": _SMEARING[label.smearing],
            "degauss": label.smearing_width_ry,
        }
    sections = {
        "control": {
            "calculation": "scf",
            "tprnfor": True,
            "tstress": True,
            "disk_io": "none",
            "verbosity": "high",
            "outdir": "./scratch",
            "pseudo_dir": "./pseudo",
        },
        "system": system,
        "electrons": {
            "conv_thr": label.convergence_ry,
            "electron_maxstep": label.maximum_scf_steps,
            "mixing_beta": label.mixing_beta,
            "mixing_mode": label.mixing_mode,
            "diagonalization": label.diagonalization,
        },
    }
    bare = Atoms(atoms.symbols, positions=atoms.positions, cell=atoms.cell, pbc=True)
    text = io.StringIO()
    write_espresso_in(
        text,
        bare,
        input_data=sections,
        pseudopotentials={element: label.pseudopotentials[element] for element in set(bare.symbols)},
        kpts=None,
    )
    # pw.x before 7.1 warns about the name lists it does not know; an scf needs none of them.
    written = re.sub(r"&(IONS|CELL|FCP|RISM)\n/\n", "", text.getvalue())
    points = kpoints_of(label, atoms.cell.array)
    if not points.is_gamma:
        rows = (" ".join(f"{value:.10f}" for value in row) for row in points.rows())
        card = "\n".join(["K_POINTS crystal", str(len(points.points)), *rows])
        written = written.replace("K_POINTS gamma", card)
    target.write_text(written)


def run(atoms: Atoms, label: Label, site: Site, folder: Path) -> tuple[int, str]:
    """Run pw.x on `atoms` in `folder`; return its exit status and all it printed.

    Raises
    ------
    EngineError
        If pw.x cannot be started, or what starts it fails before pw.x says a word: that is the site's
        failure and no property of the structure.
    """
    write_input(folder / "pw.in", atoms, label, Path(site.pseudopotential_folder))
    output = folder / "pw.out"
    # Open MPI's processes of one user share a folder in /tmp, which one may remove while another makes its own; the
    # path of a folder for this one alone has to be short: sockets are in it
    with tempfile.TemporaryDirectory(prefix="mlpwf-") as session:
        status = run_engine(
            [*site.pw, "-in", "pw.in"],
            folder=folder,
            output=output,
            environment={**ENVIRONMENT, "OMPI_MCA_orte_tmpdir_base": session},
            timeout_seconds=label.timeout_seconds,
        )
    text = output.read_text(errors="replace")
    if 0 < status < _SIGNALLED and version(text) is None and "Error in routine" not in text:
        said = " ".join(re.sub(r"-{4,}", " ", text).split())[:400] or "nothing"
        raise EngineError(
            f"pw.x did not begin: '{' '.join(site.pw)}' ended with exit status {status} and said: {said}; "
            "expected pw.x to name its version: mend `pw` in the site file (config/sites), then run again"
        )
    return status, text


def version(text: str) -> str | None:
    """Version pw.x prints of itself, None if it printed none."""
    match = _VERSION.search(text)
    return match[1] if match else None


def read_output(text: str, volume: float) -> Properties:
    """Energy, forces and stress through ASE's reader, which turns the stress of pw.x into ASE's sign.

    Parameters
    ----------
    text
        All that pw.x printed.
    volume
        Of the cell, in Å³.

    Raises
    ------
    ValueError
        If ASE finds no single complete configuration.
    """
    from ase.io.espresso import read_espresso_out

    try:
        images = list(read_espresso_out(io.StringIO(text), index=slice(None)))
    except Exception as error:
        raise ValueError(f"ASE cannot read it ({type(error).__name__}: {error})") from error
    if len(images) != 1:
        raise ValueError(f"{len(images)} configurations found, 1 expected")
    found = images[0].calc.results
    missing = [name for name in ("energy", "forces", "stress") if name not in found]
    if missing:
        raise ValueError(f"no {', '.join(missing)}")
    xx, yy, zz, yz, xz, xy = found["stress"]
    stress = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]], dtype=float)
    return Properties(float(found["energy"]), np.asarray(found["forces"], dtype=float), stress, volume)
