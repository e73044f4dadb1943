"""The registry of observables, and observables of made states, without files or a command line."""

from dataclasses import fields, is_dataclass
from pathlib import Path

import numpy as np
import pytest

from liquids import brownian, molecules_of
from mlpwf.dynamics import analysis, reference, registry
from mlpwf.dynamics.correlators import join, pass_moments
from mlpwf.dynamics.observables.chi4 import Chi4Columns
from mlpwf.dynamics.observables.cooperativity import BETA, Cooperativity
from mlpwf.dynamics.observables.correlators import Value
from mlpwf.dynamics.observables.counts import Count
from mlpwf.dynamics.observables.diffusion import DiffusionColumns
from mlpwf.dynamics.observables.energies import LOCAL, ActivationEnergy
from mlpwf.dynamics.observables.energy import EnergyColumns
from mlpwf.dynamics.observables.equilibrium import Length, StateEquilibrium, worst
from mlpwf.dynamics.observables.four_point import Shell, SubBox
from mlpwf.dynamics.observables.heat_capacity import HeatCapacityColumns
from mlpwf.dynamics.observables.laws import Law
from mlpwf.dynamics.observables.motion import Motion
from mlpwf.dynamics.observables.relaxation import Relaxation, equilibration
from mlpwf.dynamics.observables.response import APPROXIMATE, THREE_POINT, ResponseColumns
from mlpwf.dynamics.observables.van_hove import Distance
from mlpwf.dynamics.observables.viscosity import NO_TENSOR, ViscosityColumns
from mlpwf.dynamics.series import Point, fit_series, series_of
from mlpwf.dynamics.state import Energy, Runs, Settings, State, Study
from mlpwf.dynamics.trajectory import choose_lags
from mlpwf.units import GAS_CONSTANT_KJ_MOL_K

PROJECT = Path(__file__).parents[2]
ENERGY = 12.0  # kJ/mol
UNITS = {
    "angstrom2_per_ps": "Å²/ps", "per_angstrom": "1/Å", "per_kelvin": "1/K", "angstrom2": "Å²", "angstrom": "Å",
    "kj_mol": "kJ/mol", "mpa_s": "mPa s", "kb_per_molecule": "k_B", "ev_per_molecule": "eV", "kelvin": "K", "ps": "ps",
}  # fmt: skip
"""Units by the ends of names, the longest end first."""
SETTINGS = Settings(
    wavevectors_per_angstrom=[1.0], overlap_angstrom=1.0, legendre_orders=[1], lags=16, blocks=12,
    excess_heat_capacity_kb=None, glass_temperature_kelvin=None, glass_time_s=100.0, glass_viscosity_pa_s=1e12,
    bootstrap=20, memory_mb=100.0, seed=1,
)  # fmt: skip


def rate(temperature):
    return np.exp(-ENERGY / GAS_CONSTANT_KJ_MOL_K * (1 / temperature - 1 / 300))


def measured(temperature, seed, energies=()):
    """A state of Brownian rotors, their D = 0.08 Å²/ps at 300 K."""
    times, centres, axes = brownian(500, 30, 0.08 * rate(temperature), 0.03 * rate(temperature), seed)
    trajectory = molecules_of(times, centres, axes[:, :, :1], np.full(3, 20.0))
    lags = choose_lags(trajectory.ticks, maximum=SETTINGS.lags)
    moments = pass_moments(trajectory, lags, SETTINGS.wavevectors_per_angstrom, 1.0, SETTINGS.legendre_orders)
    state = State(f"{temperature:g}K", temperature, "nvt")
    analysis.measure(state, Runs(join([moments]), trajectory, lags, energies), SETTINGS)
    return state


@pytest.fixture(scope="module")
def study():
    rng = np.random.default_rng(4)
    states = [
        measured(T, k, [Energy(np.arange(500.0), 30 * (2e-3 * T + 1e-4 * rng.normal(size=500)))])
        for k, T in enumerate((270.0, 300.0, 340.0))
    ]
    blown = State("200K", 200.0, "nvt", fault="blew up at step 7")
    return analysis.compare([blown, *states], SETTINGS)


@pytest.mark.parametrize("name", registry.tables())
def test_columns_have_a_definition_and_the_unit_of_their_name(name):
    every = []
    for part in registry.tables()[name]:
        assert is_dataclass(part.row)
        assert part.row.__dataclass_params__.frozen
        assert list(part.columns) == [field.name for field in fields(part.row)]
        every += part.columns
        for column, about in part.columns.items():
            expected = next((unit for end, unit in UNITS.items() if column.endswith(f"_{end}")), "")
            assert about.unit == expected, column
            assert len(about.definition) > 1, column
    assert len(every) == len(set(every)), "a column is there twice"
    before = {"ensembles"} if registry.tables()[name][0].across else {"state", "temperature_kelvin", "ensemble"}
    assert {*registry.needs()[name]} <= {*every} | before
    assert registry.tables()[name][0].each


def test_every_observable_is_shown():
    """Its tables are drawn in a figure, told in the report's table of states, or told in one of their own."""
    for name, observable in registry.observables().items():
        shared = {table.name for table in observable.tables} <= {"states", "correlators"}
        assert observable.figures or observable.lines or observable.tell, name
        assert observable.measure or observable.compare or observable.fit or not shared, name
        assert observable.title


def test_names_in_the_order_are_files():
    assert set(registry.ORDER) == set(registry.observables())
    assert list(registry.observables()) == list(registry.ORDER)


def test_each_figure_and_each_row_type_is_of_one_observable():
    observables = registry.observables().values()
    figures = [figure.name for one in observables for figure in one.figures]
    rows = [table.row for one in observables for table in one.tables]
    assert len(figures) == len(set(figures)) == len(registry.figures())
    assert len(rows) == len(set(rows))


@pytest.mark.parametrize("path", ["docs/analyse.md", "workflow/rules/analyse.smk"])
def test_generated_parts_are_up_to_date(path):
    assert (PROJECT / path).read_text() == reference.documents(PROJECT)[path], "run python -m mlpwf.dynamics.reference"


def test_definitions_name_sources():
    found = registry.definitions()
    assert found["alpha2"] == "3⟨r⁴⟩/(5⟨r²⟩²) − 1 (10.1103/PhysRev.136.A405)"
    assert found["correlators.chi4"] != found["sub_boxes.chi4"]
    assert "jackknife" in found["*_error"]
    assert not [name for name in found if "error" in name and found[name] == "its standard error"]


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (("ok", "equilibrated", "too short to tell", "not known"), "equilibrated"),
        (("ok", "too short to tell", "equilibrated", "equilibrated"), "equilibrated"),
        (("ok", "too short to tell", "too short to tell", "equilibrated"), "too short to tell"),
        (("faster than the first lag", "equilibrated", "equilibrated", "not known"), "equilibrated"),
        (("run shorter than 3 tau", "aging", "equilibrated", "not known"), "run shorter than 3 tau"),
        (("ok", "aging", "equilibrated", "not known"), "aging"),
        (("ok", "equilibrated", "equilibrated", "energy drifts"), "energy drifts"),
    ],
)
def test_the_first_thing_against_equilibrium_is_the_verdict(verdicts, expected):
    assert equilibration(*verdicts) == expected


def test_the_verdict_on_a_state_is_its_worst():
    assert worst(["equilibrated", "too short to tell", "aging"]) == "aging"
    assert worst(["equilibrated", "too short to tell"]) == "too short to tell"
    assert worst(["equilibrated"]) == "equilibrated"


def test_a_state_has_rows_of_every_observable(study):
    state = study.states[1]
    assert state.one(Length).molecules == 30
    assert len(state.of(Motion)) == state.one(Length).lags
    assert [row.correlator for row in state.of(Relaxation)] == ["overlap", "fs_q1", "c1_axis1"]
    assert (
        len(state.of(Value))
        == len(state.of(Chi4Columns))
        == len(state.of(ResponseColumns))
        == 3 * len(state.of(Motion))
    )
    assert state.one(ViscosityColumns).viscosity_verdict == NO_TENSOR
    assert state.of(Shell)
    assert len(state.of(SubBox)) == 6
    diffusion = state.one(DiffusionColumns)
    assert abs(diffusion.diffusion_angstrom2_per_ps - 0.08) < 4 * diffusion.diffusion_error_angstrom2_per_ps
    relaxation = state.of(Relaxation)[1]
    assert abs(relaxation.tau_ps - 1 / 0.08) < 4 * relaxation.tau_error_ps
    times = {row.time_ps for row in state.of(Distance)}
    assert len(times) == 3
    for time in times:
        densities = [row.density_per_angstrom for row in state.of(Distance) if row.time_ps == time]
        assert 0.05 * sum(densities) == pytest.approx(1, abs=0.1)


def test_heat_capacity_and_three_point_counts_need_neighbours(study):
    for state in study.states:
        assert state.one(EnergyColumns).energy_ev_per_molecule == pytest.approx(
            2e-3 * state.temperature_kelvin, rel=1e-3
        )
        heat = state.one(HeatCapacityColumns)
        assert heat.heat_capacity_from == "difference of energies between temperatures"
        assert heat.heat_capacity_kb_per_molecule == pytest.approx(2e-3 / 8.617333e-5, rel=0.02)
        counts = {row.definition: row for row in state.of(Count) if row.correlator == "overlap"}
        assert counts[THREE_POINT].verdict == counts[APPROXIMATE].verdict == "ok"
        assert counts[THREE_POINT].count > 0


def test_a_state_without_a_trajectory_is_shown_and_enters_nothing(study):
    blown = study.every[0]
    assert blown.one(StateEquilibrium).equilibration == "blew up at step 7"
    assert not blown.of(Relaxation)
    assert {row.states for row in study.of(Law)} <= {0, 1, 2, 3}
    (first, *_), rows = analysis.tables_of(study)["states"], analysis.tables_of(study)["states"]
    assert list(first) == ["state", "temperature_kelvin", "ensemble", "equilibration"]
    assert len(rows) == 4


def test_energies_between_temperatures_are_recovered(study):
    local = [row for row in study.of(ActivationEnergy) if row.definition == LOCAL and row.quantity == "tau_fs_q1_ps"]
    assert len(local) == 2
    for row in local:
        assert abs(row.energy_kj_mol - ENERGY) < 4 * row.energy_error_kj_mol


def test_every_count_has_its_lines(study):
    lines = [row for row in study.of(Cooperativity) if row.correlator == "overlap"]
    definitions = {row.definition for state in study.states for row in state.of(Count) if row.correlator == "overlap"}
    assert {row.count_definition for row in lines} == definitions
    assert len(lines) == 3 * len(definitions)
    assert {row.law for row in lines if row.against == BETA} == {"none"}


def test_points_that_are_not_usable_enter_no_fit():
    temperatures = np.array([250.0, 280.0, 310.0, 350.0])
    tau = np.exp(ENERGY / GAS_CONSTANT_KJ_MOL_K / temperatures)
    points = [Point(t, 0.01 * t, "ok", "equilibrated") for t in tau]
    points[0] = Point(5 * tau[0], 1.0, "run shorter than 3 tau", "equilibrated")
    points[1] = Point(tau[1], 0.01 * tau[1], "ok", "too short to tell")
    series = series_of("tau_ps", temperatures, points, 1e14, "all", "overlap")
    assert np.isnan(series.values[0])
    assert (np.isfinite(series.values).sum(), series.shown) == (3, 2)
    fits = fit_series(series, SETTINGS, np.random.default_rng(1))
    assert fits.best.law == "Arrhenius"
    assert fits.best.strength * GAS_CONSTANT_KJ_MOL_K == pytest.approx(ENERGY, rel=1e-6)
    assert len(fits.mixed) == SETTINGS.bootstrap


def test_a_study_without_numbers_has_tables_without_rows():
    study = Study([State("200K", 200.0, "nvt", fault="blew up")], SETTINGS)
    assert study.states == []
    tables = analysis.tables_of(analysis.compare(study.every, SETTINGS))
    assert {name for name, rows in tables.items() if rows} == {"states", "laws"}
    assert list(tables) == list(registry.tables())
