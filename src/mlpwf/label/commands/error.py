"""`mlpwf label error`: how far a campaign's own labels are from converged ones."""

from __future__ import annotations

import csv
import io
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlpwf import __version__
from mlpwf.campaign.accounting import accounted
from mlpwf.config import Label, Site, load_section
from mlpwf.config.label_engines import Capability
from mlpwf.errors import ConfigError, DataError
from mlpwf.files import sha256, sole_writer, write_json, write_text

if TYPE_CHECKING:
    from ase import Atoms

    from mlpwf.structures.properties import Properties

log = logging.getLogger(__name__)

MEASURES = {
    "force_mev_angstrom": ("force_rmse_ev_angstrom", 1e3),
    "net_force_mev_angstrom": ("force_inter_rmse_ev_angstrom", 1e3),
    "energy_mev_atom": ("energy_rmse_mev_atom", 1.0),
    "virial_mev_atom": ("virial_rmse_ev_atom", 1e3),
    "pressure_bias_kbar": ("pressure_bias_kbar", 1.0),
}


def label_error(
    config: Annotated[Path, typer.Option(help="resolved section `label`")],
    site: Annotated[Path, typer.Option(help="resolved site")],
    labels: Annotated[Path, typer.Option(help="labelled frames, extended XYZ")],
    out: Annotated[Path, typer.Option(help="folder of the result")],
) -> None:
    """Label a few frames of each box size once more, converged in k-points and in cut-offs; say the errors."""
    from mlpwf.calculators.registry import calculator
    from mlpwf.label.error import label_errors, sample
    from mlpwf.structures.frames import read_frames

    settings, _ = load_section(Label, config)
    place, _ = load_section(Site, site)
    labelling = calculator(settings, place)
    labelling.engine.require(Capability.LABEL_ERROR)
    frames = read_frames(labels)
    if not frames:
        raise DataError(f"{labels}: holds no frames; expected the labels of a campaign's first set")
    folder = out / "error.work"
    with sole_writer(folder), accounted(folder, "label") as beat:
        chosen = [frames[index] for index in sample(frames, settings.error_frames)]
        known: list[Properties] = []
        better: dict[str, list[Properties]] = {}
        measured: list[Atoms] = []
        failures: list[str] = []
        cpu_s = 0.0
        for number, atoms in enumerate(chosen, start=1):
            found: dict[str, Properties] = {}
            try:
                for lever, one in labelling.converged(atoms.cell.array).items():
                    found[lever], spent = _label(one, place, folder, atoms)
                    cpu_s += spent
                    log.info("label error: frame %d of %d, %s converged, %.1f CPU-s", number, len(chosen), lever, spent)
                    beat()
            except (DataError, ConfigError) as error:
                failures.append(str(error))
                log.warning("label error: frame %d of %d is left out: %s", number, len(chosen), error)
                continue
            measured.append(atoms)
            known.append(_quantities(atoms))
            for lever, quantities in found.items():
                better.setdefault(lever, []).append(quantities)
        document: dict[str, Any] = {
            "mlpwf": __version__,
            "units": {"energy": "meV/atom", "force": "eV/Å", "virial": "eV/atom", "pressure": "kbar", "edge": "Å"},
            "rows": label_errors(measured, known, better) if measured else [],
            "failures": failures,
            "cpu_s": round(cpu_s, 1),
            "inputs": {str(path): sha256(path) for path in (config, labels)},
        }
        write_json(out / "error.json", document)
        write_text(out / "error.csv", _table(document["rows"]))
    for line in _lines(document):
        log.info("label error: %s", line)


def _label(settings: Label, place: Site, folder: Path, atoms: Atoms) -> tuple[Properties, float]:
    """A frame's label with other settings, through the store, and what it cost now in CPU-s."""
    from mlpwf.label.labeller import Labeller
    from mlpwf.label.store import canonical, labelled

    labeller = Labeller(settings, place, folder, sorted(set(atoms.symbols)))
    outcome = labeller.label(atoms)
    record = labeller.store.get(outcome["key"])
    if record is None:
        raise DataError(f"{atoms.get_chemical_formula()} was rejected: {outcome['reason']} ({outcome['detail']})")
    return _quantities(labelled(atoms, canonical(atoms), record)), 0.0 if outcome["reused"] else outcome["cpu_s"]


def _quantities(atoms: Atoms) -> Properties:
    from mlpwf.structures.properties import of_frame

    return of_frame(atoms)


def _table(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["atoms", "frames", "edge_angstrom", "lever", *MEASURES])
    for row in rows:
        for lever, errors in row["errors"].items():
            values = ((errors[key], factor) for key, factor in MEASURES.values())
            numbers = ["" if value is None else f"{value * factor:.4g}" for value, factor in values]
            table.writerow([row["atoms"] or "all", row["frames"], f"{row['edge_angstrom']:.2f}", lever, *numbers])
    return text.getvalue()


def _lines(document: dict[str, Any]) -> list[str]:
    """What is said at the end of the log."""
    said = []
    for row in document["rows"][:-1]:
        total = row["errors"]["total"]
        parts = ", ".join(
            f"{lever} {1e3 * errors['force_rmse_ev_angstrom']:.1f}" for lever, errors in row["errors"].items()
        )
        said.append(
            f"{row['atoms']} atoms, {row['edge_angstrom']:.2f} Å: force {parts} meV/Å; net force "
            f"{1e3 * total['force_inter_rmse_ev_angstrom']:.1f} meV/Å, virial "
            f"{1e3 * total['virial_rmse_ev_atom']:.2f} meV/atom, pressure {total['pressure_bias_kbar']:+.2f} kbar"
        )
    return said or ["no frame could be converged; the error of the labels is not known"]
