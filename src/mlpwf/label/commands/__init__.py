"""`mlpwf label`: first-principles energies, forces and stresses, each computed once."""

from __future__ import annotations

import typer

from mlpwf.label.commands.batch import label_batch, label_collect
from mlpwf.label.commands.converge import label_converge
from mlpwf.label.commands.error import label_error
from mlpwf.label.commands.import_export import label_check, label_export, label_import
from mlpwf.label.commands.parallel import label_parallel
from mlpwf.label.commands.pseudopotentials import label_pseudopotentials

app = typer.Typer(help="First-principles labels: computed once, kept for ever.", no_args_is_help=True)
app.command("batch")(label_batch)
app.command("collect")(label_collect)
app.command("import")(label_import)
app.command("export")(label_export)
app.command("check")(label_check)
app.command("converge")(label_converge)
app.command("error")(label_error)
app.command("parallel")(label_parallel)
app.command("layout", hidden=True, deprecated=True)(label_parallel)  # its name before 0.3
app.command("pseudopotentials")(label_pseudopotentials)
