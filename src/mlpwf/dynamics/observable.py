"""What an observable is: how it is measured, its tables with unit, definition and source of every column, its figures.

Each stands in a file of its own in `observables/`; tables, figures, report, documentation and the list of results in
the workflow follow from that file. docs/add-an-observable.md tells how to add one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, get_type_hints

from mlpwf.dynamics.columns import Reader
from mlpwf.dynamics.series import Fits, Series
from mlpwf.dynamics.state import Compare, Measure, State, Study
from mlpwf.errors import DataError
from mlpwf.figures import Panel


@dataclass(frozen=True)
class Column:
    """A column of a table: its unit (empty for none), what it is, and the DOI of where the formula is from."""

    unit: str
    definition: str
    source: str = ""

    @property
    def text(self) -> str:
        """Definition, unit and source in one line."""
        unit = f", in {self.unit}" if self.unit else ""
        return f"{self.definition}{unit}" + (f" ({self.source})" if self.source else "")


STANDARD_ERROR = "its standard error"


def error(unit: str, of: str = "") -> Column:
    """The column of the standard error of the column before it, or of what is named."""
    return Column(unit, f"standard error of {of}" if of else STANDARD_ERROR)


Molecules = Annotated[str, Column("", "all molecules, or those of one species")]
Correlator = Annotated[str, Column("", "name of the correlator")]
TimeSinceOrigin = Annotated[float, Column("ps", "time since the origin")]
Windows = Annotated[
    float,
    Column("", "(run − lag) over the longer of the lag and 2.5 τ, summed over runs; of τ: at τ"),
]
Equilibrium = Annotated[
    str,
    Column(
        "",
        "equilibrated; too short to tell; or what speaks against equilibrium: a trend of τ with waiting time (aging, "
        "drifting; Student's t, 0.27 %), halves that differ by 3 standard errors, a drift of the energy, a run "
        "shorter than 3 τ, molecules that broke",
    ),
]
Verdict = Annotated[str, Column("", "ok, or why a number is not to be used; such numbers enter no fit")]


@dataclass(frozen=True)
class Table:
    """A table of results, NAME.csv: its rows are frozen dataclasses whose fields are annotated by a `Column` each.

    Attributes
    ----------
    name
        Of the file and of the table; observables that give the same name stand side by side, row by row.
    row
        The type of its rows.
    each
        What a row is for; empty for columns beside those of another observable.
    needs
        Columns that a reader of the table relies on.
    across
        Whether a row is of all states together, and not of one.
    """

    name: str
    row: type[Any]
    each: str = ""
    needs: tuple[str, ...] = ()
    across: bool = False

    @property
    def columns(self) -> dict[str, Column]:
        """Its columns by name."""
        hints = get_type_hints(self.row, include_extras=True)
        columns = {}
        for name, hint in hints.items():
            kept = [one for one in getattr(hint, "__metadata__", ()) if isinstance(one, Column)]
            if len(kept) != 1:
                raise DataError(f"{self.row.__name__}.{name} has {len(kept)} columns; annotate it with one Column")
            columns[name] = kept[0]
        return columns


@dataclass(frozen=True)
class Figure:
    """A figure: panels from the tables, a sentence on what it shows, and the height of a row of panels in inches."""

    name: str
    caption: str
    panels: Callable[[Reader], list[Panel]]
    height: float = 3.1


@dataclass(frozen=True)
class Line:
    """A line of the report's table of states: a column of a table with its error and verdict.

    Of a table with one row a correlator and state, there is a line for each correlator, and `{}` in the title is its
    name.
    """

    title: str
    table: str
    value: str
    error: str = ""
    verdict: str = ""


@dataclass(frozen=True)
class Told:
    """A table of text in the report; the first column names the row."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Observable:
    """One thing that is measured.

    Attributes
    ----------
    title
        What it is, in a few words.
    tables
        The tables it has, or the columns it adds to those of others.
    measure
        Adds rows to a state, from the runs of it; called for one state after the other.
    compare
        Adds rows to the states, or to the study, from all states; called once, when all are measured.
    series
        Quantities that grow on cooling, each of which is fitted against temperature.
    fit
        Adds rows for one of all those series and its fits; called for one series after the other.
    names
        What the values of its text columns mean, by value.
    figures, lines, tell
        What of it is drawn, told in the report's table of states, and told in tables of its own.
    """

    title: str
    tables: Sequence[Table] = ()
    measure: Measure | None = None
    compare: Compare | None = None
    series: Callable[[Study], list[Series]] | None = None
    fit: Callable[[Study, Series, Fits], None] | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    figures: Sequence[Figure] = ()
    lines: Sequence[Line] = ()
    tell: Callable[[Reader], list[Told]] | None = None


def key_of(state: State) -> dict[str, Any]:
    """The columns that every table of states begins with."""
    return {"state": state.name, "temperature_kelvin": state.temperature_kelvin, "ensemble": state.ensemble}
