"""What a calculator reports, on the screen and in files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mlpwf.errors import ConfigError
from mlpwf.files import write_json, write_text

if TYPE_CHECKING:
    from mlpwf.calculators.base import Report


def written(report: Report, out: Path | None = None) -> None:
    """Write the files of a report into a folder and print its lines.

    Raises
    ------
    ConfigError
        The failure the report ends with.
    """
    for name, content in report.files.items():
        assert out is not None, "a report with files has a folder"
        if content is None:
            (out / name).unlink(missing_ok=True)
        elif isinstance(content, str):
            write_text(out / name, content)
        else:
            write_json(out / name, content)
    typer.echo("\n".join(report.lines))
    if report.failure is not None:
        raise ConfigError(report.failure)
