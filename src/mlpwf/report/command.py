"""`mlpwf report`: the page a campaign ends with."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from mlpwf.campaign.accounting import accounted
from mlpwf.config import Report, load_section
from mlpwf.files import sole_writer, write_text

log = logging.getLogger(__name__)


def report(
    config: Annotated[Path, typer.Option(help="resolved section `report`, C/config/report.json")],
    campaign: Annotated[Path, typer.Option(help="folder of the campaign")],
    out: Annotated[Path, typer.Option(help="folder of the page")],
) -> None:
    """Write report.html, a page that needs no other file, and the numbers of its figures as CSV."""
    settings, _ = load_section(Report, config)
    with sole_writer(out), accounted(out, "report"):
        from mlpwf.report.gather import gather
        from mlpwf.report.page import page

        content = page(gather(campaign))
        if settings.title:
            content = replace(content, title=settings.title)
        drawings = [drawing for part in content.parts for drawing in part.drawings]
        html = _rendered(content, {drawing.name: drawing.svg for drawing in drawings})
        for stale in {*(out / "figures").glob("*.csv")} - {out / "figures" / f"{d.name}.csv" for d in drawings}:
            stale.unlink()
        for drawing in drawings:
            write_text(out / "figures" / f"{drawing.name}.csv", _csv(drawing.numbers))
        write_text(out / "report.html", html)
        log.info("report: %s, %d figures", out / "report.html", len(drawings))


def _rendered(content: object, svgs: dict[str, str]) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("mlpwf.report", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("page.html.j2").render(page=content, svgs=svgs)


def _csv(numbers: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(numbers)
    return text.getvalue()
