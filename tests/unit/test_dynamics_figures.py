"""Figures of the dynamics from the tables of `mlpwf analyse`, by what they draw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlpwf.analyse.tables import in_reduced_units
from mlpwf.dynamics import registry
from mlpwf.dynamics.figures import figures
from mlpwf.tables import read_columns
from report_campaign import campaign

Tables = dict[str, dict[str, Any]]


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    """Tables of three states, the coldest first in every figure."""
    root = campaign(tmp_path, cycles=1)
    return {name: dict(read_columns(root / "analyse" / f"{name}.csv")) for name in registry.tables()}


def test_every_figure_is_drawn_and_has_a_caption(tables: Tables) -> None:
    assert all(figure.caption for figure in registry.figures().values())
    assert list(figures(tables)) == list(registry.figures())


def test_reduced_units_have_the_same_figures_without_units(tables: Tables) -> None:
    reduced = {}
    for name, table in tables.items():
        found = in_reduced_units(pd.DataFrame(table))
        reduced[name] = {column: found[column].to_numpy() for column in found}
    for name, column in (("energies", "quantity"), ("laws", "quantity")):
        reduced[name][column] = reduced[name][column].astype(str)
    made, real = figures(reduced), figures(tables)
    assert {name: len(panels) for name, panels in made.items()} == {name: len(panels) for name, panels in real.items()}
    words = [w for panels in made.values() for p in panels for w in (p.title, p.x_label, p.y_label)]
    words += [curve.label for panels in made.values() for p in panels for curve in p.curves]
    assert not [word for word in words if "Å" in word or word.endswith((" ps", " K", ", ps", ", K", "kJ/mol"))]


def test_lengths_are_drawn_with_their_fit(tables: Tables) -> None:
    """Filled circles only where the fit is sound, its curve up to qξ = 1.5."""
    tables["lengths"]["verdict"][0] = "ok"  # of the hottest state, the first of the tables
    plain, _, _, lengths = figures(tables)["s4"]
    assert [curve.style for curve in lengths.curves] == ["hollow", "hollow", "points"]
    assert [float(curve.y[0]) for curve in lengths.curves] == [4.0, 4.0, 4.0]
    fits = [curve for curve in plain.curves if curve.style == "dashed"]
    assert len(fits) == 3
    assert fits[0].x.max() == pytest.approx(1.5 / 4)
    points = plain.curves[0]
    np.testing.assert_allclose(np.interp(points.x[0], fits[0].x, fits[0].y), points.y[0], rtol=1e-3)
    tables["lengths"]["xi4_angstrom"][:] = np.nan
    plain, *others = figures(tables)["s4"]
    assert len(others) == 2, "no length, no panel of it"
    assert not [curve for curve in plain.curves if curve.style == "dashed"]


def test_scattering_has_a_panel_for_each_wavevector_asked_for_and_couple(tables: Tables) -> None:
    """Wavevectors that fit the boxes are near those asked for, and each goes to the nearest."""
    correlators, coherent = tables["correlators"], tables["coherent"]
    second = {name: column[coherent["species"] == "all"].copy() for name, column in coherent.items()}
    second["wavevector_per_angstrom"] = np.where(second["temperature_kelvin"] > 290, 0.48, 0.55)
    second["species"] = np.full(len(second["species"]), "A-B")
    tables["coherent"] = {name: np.concatenate([coherent[name], second[name]]) for name in coherent}
    names = np.where(correlators["correlator"] == "c1_axis1", "fs_q0.5", correlators["correlator"])
    tables["correlators"] = correlators | {"correlator": names}
    panels = figures(tables)["coherent"]
    assert [panel.title for panel in panels] == ["F(q ≈ 1.3 Å⁻¹, t)", "F(q ≈ 0.5 Å⁻¹, t) of A-B"]
    assert [len(curve.x) for curve in panels[1].curves] == [20, 20, 20], "lag 0 has no place on the axis"


def test_distances_end_where_no_molecule_came(tables: Tables) -> None:
    van_hove = tables["van_hove"]
    far = van_hove["distance_angstrom"] > 5
    van_hove["density_per_angstrom"] = np.where(far, 0.0, van_hove["density_per_angstrom"])
    panels = figures(tables)["van_hove"]
    assert [panel.title for panel in panels] == ["240 K", "300 K", "380 K"]
    for panel in panels:
        assert len(panel.curves) == 3
        assert max(curve.x.max() for curve in panel.curves) == pytest.approx(4.975)


def test_tables_without_rows_have_no_figure(tables: Tables) -> None:
    none = {name: {column: values[:0] for column, values in table.items()} for name, table in tables.items()}
    assert figures(none) == {}


@pytest.mark.parametrize("gone", registry.tables())
def test_a_missing_table_leaves_the_figures_of_the_others(tables: Tables, gone: str) -> None:
    every = figures(tables)
    del tables[gone]
    left = figures(tables)
    assert {*left} <= {*every}
    assert len(left) >= len(every) - 6
