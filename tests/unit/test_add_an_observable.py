"""docs/add-an-observable.md, followed to the letter."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from liquids import brownian
from mlpwf.dynamics import observables, reference, registry
from mlpwf.report.command import report
from report_campaign import campaign
from small_analysis import analyse_small, sources

PROJECT = Path(__file__).parents[2]
NAME = "mean_distance"


@pytest.fixture
def observable(tmp_path, monkeypatch):
    """The file of the page, where its folder is searched."""
    page = (PROJECT / "docs" / "add-an-observable.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(code.splitlines()) <= 60
    folder = tmp_path / "observables"
    folder.mkdir()
    (folder / f"{NAME}.py").write_text(code)
    monkeypatch.setattr(observables, "__path__", [*observables.__path__, str(folder)])
    yield registry.observables()[NAME]
    del sys.modules[f"{observables.__name__}.{NAME}"]
    delattr(observables, NAME)


def test_the_page_is_true(observable, tmp_path):
    """Its table with unit and definition, its figure, its place in the report."""
    out = analyse_small(tmp_path / "small", sources()[-1:], draw=True)
    table = pd.read_csv(out / f"{NAME}.csv")
    assert list(table.columns) == [
        "state", "temperature_kelvin", "ensemble", "molecules", "time_ps", "distance_angstrom",
    ]  # fmt: skip
    motion = pd.read_csv(out / "motion.csv")
    both = table.merge(motion[motion.molecules == "all"], on=["state", "time_ps"])
    assert len(both) == len(table) > 10
    ratio = both.distance_angstrom**2 / both.msd_angstrom2
    assert ratio.median() == pytest.approx(8 / (3 * np.pi), rel=0.1), "of a Gaussian"
    summary = json.loads((out / "summary.json").read_text())
    assert summary["definitions"]["mean_distance.distance_angstrom"].startswith("⟨|Δr|⟩ of centres of mass, in Å (10.")
    for kind in ("png", "svg", "csv"):
        assert (out / "figures" / f"{NAME}.{kind}").is_file()
    drawn = pd.read_csv(out / "figures" / f"{NAME}.csv")
    np.testing.assert_allclose(np.sort(drawn.y), np.sort(table.distance_angstrom), rtol=1e-7)
    root = campaign(tmp_path / "campaign", cycles=1)
    for path in out.glob("*.csv"):
        shutil.copy(path, root / "analyse")
    options = {"--config": root / "config" / "report.json", "--campaign": root, "--out": root / "report"}
    app = typer.Typer()
    app.command()(report)
    result = CliRunner().invoke(app, [str(word) for pair in options.items() for word in pair])
    assert result.exit_code == 0, result.exception
    html = (root / "report" / "report.html").read_text()
    assert "Mean distance that molecules go, by temperature." in html
    assert (root / "report" / "figures" / f"{NAME}.csv").is_file()


def test_the_formula_of_the_page(observable):
    """Of Brownian particles ⟨|Δr|⟩ = 4 √(Dt/π)."""
    formula = sys.modules[f"{observables.__name__}.{NAME}"].mean_distance
    times, centres, _ = brownian(frames=2000, molecules=50, diffusion=0.1)
    ticks = np.arange(len(times))
    for lag in (1, 10):
        law = 4 * np.sqrt(0.1 * (times[lag] - times[0]) / np.pi)
        assert formula(ticks, centres, lag) == pytest.approx(law, rel=0.03)


def test_it_is_documented(observable):
    assert any(f"`{NAME}.csv`" in row and "mean distance" in row for row in reference.tables())
    assert "| `distance_angstrom` | Å | ⟨\\|Δr\\|⟩ of centres of mass | [10.1103/PhysRev.95.249]" in "\n".join(
        reference.columns()
    )
    assert any(NAME in row for row in reference.figures())
    assert f'                "{NAME}",' in reference.results()
