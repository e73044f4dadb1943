"""States: how long their runs are, and whether they are in equilibrium."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from mlpwf.dynamics.observable import Column, Equilibrium, Line, Observable, Table
from mlpwf.dynamics.observables.relaxation import Relaxation
from mlpwf.dynamics.state import Runs, Settings, State, Study
from mlpwf.dynamics.verdicts import EQUILIBRATED, TOO_SHORT_TO_TELL


@dataclass(frozen=True)
class StateEquilibrium:
    """The verdict on a state: of its correlators, one that is not equilibrated, if there is any."""

    equilibration: Equilibrium


@dataclass(frozen=True)
class Length:
    """What was simulated of a state."""

    molecules: Annotated[int, Column("", "number of molecules")]
    runs: Annotated[int, Column("", "number of independent runs")]
    run_ps: Annotated[float, Column("ps", "length of all runs together")]
    shortest_run_ps: Annotated[float, Column("ps", "length of the shortest run")]
    lags: Annotated[int, Column("", "number of lags")]


def measure(state: State, runs: Runs, settings: Settings) -> None:
    """Molecules, runs and lags of a state."""
    lengths = runs.moments.runs_ps
    state.add(
        Length(
            molecules=runs.trajectory.molecules,
            runs=len(lengths),
            run_ps=float(lengths.sum()),
            shortest_run_ps=float(lengths.min()),
            lags=len(runs.moments.lags_ps),
        )
    )


def compare(study: Study) -> None:
    """The verdict on each state, from those on its correlators."""
    for state in study.every:
        verdicts = [row.equilibration for row in state.of(Relaxation)]
        state.add(StateEquilibrium(worst(verdicts) if verdicts else state.fault or TOO_SHORT_TO_TELL))


def worst(verdicts: Iterable[str]) -> str:
    """Of a state's verdicts, one that is not equilibrated, if there is any."""
    found = list(dict.fromkeys(verdicts))
    bad = [verdict for verdict in found if verdict not in (EQUILIBRATED, TOO_SHORT_TO_TELL)]
    return next(iter([*bad, *(verdict for verdict in found if verdict == TOO_SHORT_TO_TELL), EQUILIBRATED]))


OBSERVABLE = Observable(
    title="length of the runs and equilibrium",
    tables=[
        Table("states", StateEquilibrium, each="state", needs=("state", "temperature_kelvin")),
        Table("states", Length),
    ],
    measure=measure,
    compare=compare,
    lines=[Line("in equilibrium?", "states", "equilibration")],
)
