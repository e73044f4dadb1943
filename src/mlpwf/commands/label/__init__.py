"""`mlpwf label`: first-principles energies, forces and stresses, each computed once."""

from __future__ import annotations

import typer

from mlpwf.commands.label.batch import label_batch, label_collect

app = typer.Typer(help="First-principles labels: computed once, kept for ever.", no_args_is_help=True)
app.command("batch")(label_batch)
app.command("collect")(label_collect)
