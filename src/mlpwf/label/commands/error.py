"""`mlpwf label error`: how far a campaign's own labels are from converged ones."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlpwf.campaign import records
from mlpwf.campaign.accounting import accounted
from mlpwf.config import Label, Site, load_section
from mlpwf.config.label_engines import Capability
from mlpwf.errors import DataError
from mlpwf.files import sha256, sole_writer, write_text

if TYPE_CHECKING:
    from ase import Atoms

log = logging.getLogger(__name__)


def label_error(
    config: Annotated[Path, typer.Option(help="resolved section `label`")],
    site: Annotated[Path, typer.Option(help="resolved site")],
    labels: Annotated[Path, typer.Option(help="labelled frames, extended XYZ")],
    out: Annotated[Path, typer.Option(help="folder of the result")],
) -> None:
    """Label a few frames of each box size once more, converged in k-points and in cut-offs; say the errors."""
    from mlpwf.calculators.registry import calculator
    from mlpwf.label.error import UNITS, described, error_table, label_once_more, sample
    from mlpwf.label.labeller import Labeller
    from mlpwf.structures.frames import read_frames

    settings, _ = load_section(Label, config)
    place, _ = load_section(Site, site)
    labelling = calculator(settings, place)
    labelling.engine.require(Capability.LABEL_ERROR)
    frames = read_frames(labels)
    if not frames:
        raise DataError(f"{labels}: holds no frames; expected the labels of a campaign's first set")
    work = out / "error.work"

    def label(section: Label, atoms: Atoms) -> tuple[Atoms, records.Outcome]:
        return Labeller(section, place, work, sorted(set(atoms.symbols))).labelled(atoms)

    with sole_writer(work), accounted(work, "label") as beat:
        chosen = [frames[index] for index in sample(frames, settings.error_frames)]
        measured = label_once_more(chosen, labelling.converged, label, beat)
        document = records.LabelError(
            units=UNITS,
            rows=measured.rows,
            failures=measured.failures,
            cpu_s=round(measured.cpu_s, 1),
            inputs={str(path): sha256(path) for path in (config, labels)},
        )
        records.write(out / "error.json", document)
        write_text(out / "error.csv", error_table(document.rows))
    for line in described(document.rows):
        log.info("label error: %s", line)
