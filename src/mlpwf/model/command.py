"""`mlpwf model`: what a trained potential is, and a folder that LAMMPS runs it from."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

log = logging.getLogger(__name__)
app = typer.Typer(help="A trained potential: what it is, and how to use it.", no_args_is_help=True)


@app.command("show")
def show(
    model: Annotated[Path, typer.Argument(help="deployed file of a model, in C/train/final")],
) -> None:
    """Say what a potential is, how good it was found, and how ASE and LAMMPS use it."""
    from mlpwf.model.about import facts, use
    from mlpwf.tables import table

    typer.echo("\n".join(table(facts(model))))
    typer.echo()
    typer.echo(use(model))


@app.command("export")
def export(
    model: Annotated[Path, typer.Argument(help="deployed file of a model, in C/train/final")],
    box: Annotated[Path, typer.Option(help="a periodic box, in any format ASE reads; of several frames the first")],
    out: Annotated[Path, typer.Option(help="a new folder for LAMMPS' files")],
    molecules: Annotated[
        Path | None,
        typer.Option(help="one frame for each species; unset: that of the model's campaign, C/build/molecules.extxyz"),
    ] = None,
) -> None:
    """Write a folder that LAMMPS runs alone: the box, the potential, an input, and run.sh."""
    from mlpwf.model.about import molecules_of
    from mlpwf.model.export import export_lammps, read_box

    atoms, references = read_box(box, molecules or molecules_of(model))
    export_lammps(model, atoms, references, out)
    log.info("model: %s holds %d atoms and the potential; run it: sh %s/run.sh", out, len(atoms), out)
