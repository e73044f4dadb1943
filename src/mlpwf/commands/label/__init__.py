"""`mlpwf label`: first-principles energies, forces and stresses, each computed once."""

from __future__ import annotations

import typer

from mlpwf.commands.label.batch import label_batch, label_collect
from mlpwf.commands.label.converge import label_converge
from mlpwf.commands.label.error import label_error
from mlpwf.commands.label.exchange import label_check, label_export, label_import
from mlpwf.commands.label.layout import label_layout
from mlpwf.commands.label.pseudopotentials import label_pseudopotentials

app = typer.Typer(help="First-principles labels: computed once, kept for ever.", no_args_is_help=True)
app.command("batch")(label_batch)
app.command("collect")(label_collect)
app.command("import")(label_import)
app.command("export")(label_export)
app.command("check")(label_check)
app.command("converge")(label_converge)
app.command("error")(label_error)
app.command("layout")(label_layout)
app.command("pseudopotentials")(label_pseudopotentials)
