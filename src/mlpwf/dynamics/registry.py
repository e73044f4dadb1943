"""All observables, in order; and what follows from them: tables, the columns readers rely on, figures, definitions."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from mlpwf.dynamics import observables as package
from mlpwf.dynamics.observable import STANDARD_ERROR, Figure, Observable, Table

ORDER = (
    "equilibrium",
    "energy",
    "motion",
    "relaxation",
    "diffusion",
    "infinite_box",
    "viscosity",
    "heat_capacity",
    "van_hove",
    "correlators",
    "coherent",
    "chi4",
    "four_point",
    "response",
    "laws",
    "energies",
    "counts",
    "cooperativity",
)
"""Files in `observables/` whose place matters: an observable comes after those whose rows it reads.

It is the order of columns in a shared table, of tables and of figures too. A file that is not named comes last.
"""

ERRORS = (
    "standard error by jackknife over contiguous blocks of time origins (at most `blocks` of the settings), none "
    "shorter than the lag nor than 2.5 relaxation times, widened by Student's t for few blocks so that two errors hold "
    "95 %; NaN below 3. Errors of models of τ(T): by bootstrap (`bootstrap` draws)"
)


def observables() -> dict[str, Observable]:
    """The `OBSERVABLE` of each file in `observables/`, by the name of the file."""
    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    names.sort(key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
    return {name: import_module(f"{package.__name__}.{name}").OBSERVABLE for name in names}


def tables() -> dict[str, list[Table]]:
    """The tables by name, each as the parts that stand side by side in it."""
    found: dict[str, list[Table]] = {}
    for observable in observables().values():
        for table in observable.tables:
            found.setdefault(table.name, []).append(table)
    return found


def needs() -> dict[str, tuple[str, ...]]:
    """Columns that a reader of each table relies on."""
    return {name: tuple(column for part in parts for column in part.needs) for name, parts in tables().items()}


def figures() -> dict[str, Figure]:
    """The figures of all observables, by name."""
    return {figure.name: figure for observable in observables().values() for figure in observable.figures}


def definitions() -> dict[str, str]:
    """What each column and each named value of the tables is, with unit and source.

    The key is the column; where columns of one name differ, `TABLE.COLUMN`. Standard errors are told once for all.
    """
    columns = [
        (name, column, about.text)
        for name, parts in tables().items()
        for part in parts
        for column, about in part.columns.items()
        if about.definition != STANDARD_ERROR
    ]
    meanings: dict[str, set[str]] = {}
    for _, column, text in columns:
        meanings.setdefault(column, set()).add(text)
    found = {(column if len(meanings[column]) == 1 else f"{name}.{column}"): text for name, column, text in columns}
    for observable in observables().values():
        found |= observable.names
    return found | {"*_error": ERRORS}
