"""An analysis: every observable of every state, then of all states together; the rows of all tables."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from mlpwf.dynamics import registry
from mlpwf.dynamics.correlators import averages
from mlpwf.dynamics.finite_size import cube_edge
from mlpwf.dynamics.heterogeneity import four_point
from mlpwf.dynamics.observable import Table, key_of
from mlpwf.dynamics.observables.relaxation import Relaxation
from mlpwf.dynamics.series import Series, fit_series
from mlpwf.dynamics.state import Runs, Settings, State, Study

log = logging.getLogger(__name__)

Row = Mapping[str, float | int | str | bool]
"""A row of a table as it is written."""


def measure(state: State, runs: Runs, settings: Settings) -> None:
    """Add to a state the rows of every observable that one state alone can tell."""
    state.edge_angstrom = cube_edge(runs.trajectory.cell)
    for group in runs.moments.groups:
        state.curves[group] = averages(runs.moments, group, settings.blocks) | four_point(
            runs.moments, group, settings.blocks
        )
    for observable in registry.observables().values():
        if observable.measure:
            observable.measure(state, runs, settings)
    first = state.of(Relaxation)[0]
    log.info(
        "%s: %d molecules, %g ps, %d lags, tau of the overlap %.4g ± %.2g ps (%s, %s)", state.name,
        runs.trajectory.molecules, runs.moments.runs_ps.sum(), len(runs.moments.lags_ps), first.tau_ps,
        first.tau_error_ps, first.tau_verdict, first.equilibration,
    )  # fmt: skip


def compare(states: Sequence[State], settings: Settings) -> Study:
    """All states together: what needs their neighbours, and fits against temperature.

    Parameters
    ----------
    states
        In order of temperature, each measured; states without a trajectory are shown and enter nothing.
    """
    study = Study(states, settings)
    every = registry.observables().values()
    for observable in every:
        if observable.compare:
            observable.compare(study)
    for series in all_series(study):
        # each observable draws from one stream of random numbers, in this order
        fits = fit_series(series, settings, study.rng)
        for observable in every:
            if observable.fit:
                observable.fit(study, series, fits)
    return study


def all_series(study: Study) -> list[Series]:
    """Every quantity that grows on cooling: τ of each correlator, 1/D and the viscosity, where they are known."""
    return [
        series
        for observable in registry.observables().values()
        if observable.series
        for series in observable.series(study)
    ]


def tables_of(study: Study) -> dict[str, list[Row]]:
    """Rows of every table by its name, as columns by name."""
    ensembles = " and ".join(sorted({state.ensemble for state in study.states}))
    found: dict[str, list[Row]] = {}
    for name, parts in registry.tables().items():
        if parts[0].across:
            rows: list[object] = [row for part in parts for row in study.of(part.row)]
            found[name] = [{"ensembles": ensembles, **vars(row)} for row in rows]
        else:
            found[name] = [row for state in study.every for row in _side_by_side(state, parts)]
    return found


def _side_by_side(state: State, parts: Sequence[Table]) -> list[Row]:
    """Rows of one state in one table; a part that the state has no rows of is left out."""
    columns: list[list[object]] = [state.of(part.row) for part in parts if state.of(part.row)]
    joined: list[Row] = []
    for rows in zip(*columns, strict=True):
        joined.append(key_of(state) | {name: value for row in rows for name, value in vars(row).items()})
    return joined
