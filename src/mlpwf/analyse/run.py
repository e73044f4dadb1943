"""An analysis from its sources to tables, figures and summary."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from pandas import DataFrame

from mlpwf.analyse.reading import measured
from mlpwf.analyse.records import Source
from mlpwf.analyse.tables import columns_of, write_tables
from mlpwf.campaign import paths, records
from mlpwf.campaign.accounting import as_engine
from mlpwf.campaign.records import AnalyseSummary
from mlpwf.config import Analyse
from mlpwf.dynamics import analysis, registry
from mlpwf.dynamics.figures import write_figures
from mlpwf.dynamics.state import Settings, State, Study
from mlpwf.files import sha256

log = logging.getLogger(__name__)

UNITS = {"time": "ps", "length": "Å", "energy": "kJ/mol, of the box eV", "temperature": "K"}
REDUCED_UNITS = "reduced: k_B = 1, lengths, times and energies in the units of the runs"


def run(
    sources: Sequence[Source],
    settings: Analyse,
    seed: int,
    threads: int,
    out: Path,
    inputs: Sequence[Path],
    settings_used: records.Settings | None = None,
    reduced: bool = False,
    draw: bool = True,
) -> None:
    """Analyse all states, write tables, figures and summary.json.

    Parameters
    ----------
    sources
        One a state.
    settings, seed, threads
        What is asked for, the seed of the draws, and the threads of the passes over pairs of frames.
    out
        Folder of the results.
    inputs
        Files of settings, for their hashes; those of the sources are added.
    settings_used
        What summary.json says was asked for; None: `settings`.
    reduced
        Whether the runs are in reduced units.
    draw
        Whether figures are drawn.
    """
    asked = Settings(**settings.model_dump(), seed=seed, threads=threads, reduced=reduced)
    study = compared(sources, asked)
    tables = write_tables(out, analysis.tables_of(study), reduced)
    columns = {name: columns_of(table) for name, table in tables.items()}
    figures = write_figures(columns, out / "figures") if draw else {}
    used = settings.model_dump(mode="json") if settings_used is None else settings_used
    records.write(paths.Analyse(out).summary, summary_of(sources, asked, used, inputs, tables, figures))
    log.info("tables and figures are in %s", out)


def compared(sources: Sequence[Source], asked: Settings) -> Study:
    """All states measured, one after the other, and compared."""
    states: list[State] = []
    for number, source in enumerate(sources):
        log.info("state %d of %d: %s", number + 1, len(sources), source.name)
        with as_engine():
            states.append(measured(source, asked))
    with as_engine():
        return analysis.compare(states, asked)


def summary_of(
    sources: Sequence[Source],
    asked: Settings,
    used: records.Settings,
    inputs: Sequence[Path],
    tables: Mapping[str, DataFrame],
    figures: Mapping[str, str],
) -> AnalyseSummary:
    """Settings, inputs and definitions of an analysis."""
    files = [*inputs, *(path for source in sources for path in source.inputs)]
    return AnalyseSummary(
        seed=asked.seed,
        settings=used,
        faults={source.name: source.fault for source in sources if source.fault},
        ensembles={source.name: source.ensemble for source in sources},
        units=REDUCED_UNITS if asked.reduced else UNITS,
        tables={name: [str(column) for column in table.columns] for name, table in tables.items()},
        figures=dict(figures),
        inputs={str(path): sha256(path) for path in dict.fromkeys(files)},
        definitions=registry.definitions(),
    )
