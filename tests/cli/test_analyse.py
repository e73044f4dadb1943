"""`mlpwf analyse` on Brownian rotors whose rates follow an Arrhenius law."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import typer
from MDAnalysis import Universe, Writer
from scipy.signal import lfilter
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

from mlpwf import __version__
from mlpwf.analyse.command import analyse
from mlpwf.config import Analyse
from mlpwf.dynamics import registry
from mlpwf.errors import ConfigError, DataError
from mlpwf.files import sha256
from mlpwf.tables import read_columns
from mlpwf.units import GAS_CONSTANT_KJ_MOL_K

pytestmark = pytest.mark.filterwarnings("ignore:Found:UserWarning")  # the PDB writer fills in what a bead lacks

ENERGY = 12.0  # kJ/mol
TEMPERATURES = (340.0, 270.0, 300.0)
MOLECULES = 40
TIMESTEP_FS = 10.0
INTERVAL, SEGMENT = 100, 6000  # steps
NAMES = ("overlap", "fs_q1.3", "c1_axis1", "c2_axis1", "c1_axis2", "c2_axis2")


def rates(temperature):
    """D in Å²/ps and D_r in 1/ps."""
    factor = np.exp(-ENERGY / GAS_CONSTANT_KJ_MOL_K * (1 / temperature - 1 / 300))
    return 0.25 * factor, 0.1 * factor


def brownian_beads(times, temperature, rng):
    """Beads (F, 3N, 3) in Å of Brownian rotors, their centres at rest on average, at increasing times in ps."""
    diffusion, rotation = rates(temperature)
    spans = np.diff(times, prepend=times[0])[:, None, None]
    shape = (len(times), MOLECULES, 3)
    steps = rng.normal(size=shape) * np.sqrt(2 * diffusion * spans)
    steps = (steps - steps.mean(axis=1, keepdims=True)) / np.sqrt(1 - 1 / MOLECULES)
    centres = np.cumsum(steps, axis=0) + rng.uniform(0, 25, shape[1:])
    turns = (rng.normal(size=shape) * np.sqrt(2 * rotation * spans)).reshape(-1, 3)
    matrices = Rotation.from_rotvec(turns).as_matrix().reshape(*shape, 3)
    matrices[0] = Rotation.random(MOLECULES, rng=rng).as_matrix()
    for frame in range(1, len(times)):
        matrices[frame] = matrices[frame] @ matrices[frame - 1]
    tips = centres[:, :, None] + np.swapaxes(matrices, -1, -2)[:, :, :2]
    return np.concatenate([centres[:, :, None], tips], axis=2).reshape(len(times), -1, 3)


def write_state(folder, temperature, segments=2, seed=1):
    offsets = [0, 1, 2, 4, 8, 16, 32, 64]
    steps = (np.arange(0, segments * SEGMENT, INTERVAL)[:, None] + offsets).ravel()
    times = np.append(steps, segments * SEGMENT) * TIMESTEP_FS / 1000
    beads = brownian_beads(times, temperature, np.random.default_rng(seed))
    residues = np.repeat(range(MOLECULES), 3)
    universe = Universe.empty(3 * MOLECULES, n_residues=MOLECULES, atom_resindex=residues, trajectory=True)
    universe.add_TopologyAttr("names", ["C", "X1", "X2"] * MOLECULES)
    universe.dimensions = [25, 25, 25, 90, 90, 90]
    folder.mkdir(parents=True)
    universe.atoms.write(str(folder / "topology.pdb"))
    for segment in range(segments):
        path = folder / "segment" / f"{segment:03d}"
        path.mkdir(parents=True)
        chosen = np.flatnonzero(np.minimum(times * 1000 / TIMESTEP_FS // SEGMENT, segments - 1) == segment)
        with Writer(str(path / "trajectory.trr"), n_atoms=3 * MOLECULES) as writer:
            for frame in chosen:
                universe.atoms.positions = beads[frame]
                universe.trajectory.ts.time = times[frame]
                writer.write(universe.atoms)
        write_summary(path, temperature)


def write_summary(segment, temperature, **changes):
    summary = {
        "temperature_kelvin": temperature,
        "timestep_fs": TIMESTEP_FS,
        "mean_potential_ev": -100.0 + temperature / 100,
    }
    summary |= {"molecules": MOLECULES, "ensemble": "nvt", "intact": True, "finished": True} | changes
    (segment / "summary.json").write_text(json.dumps(summary))


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    root = tmp_path_factory.mktemp("campaign")
    for number, temperature in enumerate(TEMPERATURES):
        write_state(root / "simulate" / f"{temperature:g}K", temperature, seed=number)
    (root / "config").mkdir()
    (root / "config" / "analyse.json").write_text(json.dumps({**Analyse(blocks=12).model_dump(mode="json"), "seed": 1}))
    result = run(root)
    assert result.exit_code == 0, result.exception
    return root


def run(root, simulate=None, out=None, *more):
    app = typer.Typer()
    app.command()(analyse)
    config, simulate, out = root / "config" / "analyse.json", simulate or root / "simulate", out or root / "analyse"
    return CliRunner().invoke(app, ["--config", str(config), "--simulate", str(simulate), "--out", str(out), *more])


def test_correlators_follow_the_laws(campaign):
    table = pd.read_csv(campaign / "analyse" / "correlators.csv")
    motion = pd.read_csv(campaign / "analyse" / "motion.csv")
    assert set(table.correlator) == set(NAMES)
    for temperature in TEMPERATURES:
        diffusion, rotation = rates(temperature)
        laws = {
            "fs_q1.3": lambda t, d=diffusion: np.exp(-(1.3**2) * d * t),
            "c1_axis1": lambda t, r=rotation: np.exp(-2 * r * t),
        }
        for name, law in laws.items():
            mine = table[(table.temperature_kelvin == temperature) & (table.correlator == name)]
            mine = mine[mine.value_error > 0]  # neighbouring lags share their noise
            assert len(mine) > 10
            assert np.abs((mine.value - law(mine.time_ps)) / mine.value_error).median() < 4, (temperature, name)
        mine = motion[(motion.temperature_kelvin == temperature) & (motion.msd_error_angstrom2 > 0)]
        scores = (mine.msd_angstrom2 - 6 * diffusion * mine.time_ps) / mine.msd_error_angstrom2
        assert np.abs(scores).median() < 4


def test_every_number_has_its_error_ensemble_windows_and_verdicts(campaign):
    table = pd.read_csv(campaign / "analyse" / "relaxation.csv")
    assert set(table.ensemble) == {"nvt"}
    assert list(table.temperature_kelvin.unique()) == sorted(TEMPERATURES)
    for row in table.itertuples():
        diffusion, rotation = rates(row.temperature_kelvin)
        known = {"fs_q1.3": 1 / (1.3**2 * diffusion), "c2_axis1": 1 / (6 * rotation)}
        if row.correlator in known:
            assert row.tau_verdict == "ok"
            assert abs(row.tau_ps - known[row.correlator]) < 5 * row.tau_error_ps
            assert row.kww_beta == pytest.approx(1, abs=0.15)
            assert row.kww_beta_error > 0
            windows = (120 - row.tau_ps) / (2.5 * row.tau_ps)
            assert row.independent_windows == pytest.approx(windows, rel=0.15)
    assert (table.equilibration == "equilibrated").mean() > 0.7
    counts = pd.read_csv(campaign / "analyse" / "counts.csv")
    assert {"count", "count_error", "ensemble", "independent_windows", "equilibration", "verdict"} <= set(counts)
    assert not any("N*" in definition for definition in counts.definition)
    overlap = counts[(counts.correlator == "overlap") & (counts.definition == "normalised chi4 at tau")]
    assert (np.abs(overlap["count"] - 1) < 5 * overlap.count_error).all()  # independent molecules
    missing = counts[counts.definition == "three-point N_corr,T"]
    assert (missing.verdict == "needs a heat capacity").all()
    assert missing["count"].isna().all()


def test_states_hold_diffusion_and_say_what_is_not_there(campaign):
    states = pd.read_csv(campaign / "analyse" / "states.csv").set_index("temperature_kelvin")
    assert list(states.index) == sorted(TEMPERATURES)
    assert (states.run_ps == 120).all()
    for temperature, row in states.iterrows():
        assert row.diffusion_verdict == "ok"
        assert abs(row.diffusion_angstrom2_per_ps - rates(temperature)[0]) < 5 * row.diffusion_error_angstrom2_per_ps
    assert (states.viscosity_verdict == "no pressure tensor").all()
    assert states.diffusion_infinite_angstrom2_per_ps.isna().all()
    assert states.diffusion_infinite_verdict.str.startswith(("no viscosity: no pressure tensor", "no D: ")).all()
    assert (states.energy_verdict == "not known").all()


def test_activation_energies_are_recovered(campaign):
    laws = pd.read_csv(campaign / "analyse" / "laws.csv")
    best = laws[laws.best].set_index("quantity")
    assert list(best.index) == [*(f"tau_{name}_ps" for name in NAMES), "inverse_diffusion_ps_per_angstrom2"]
    assert (best.law == "Arrhenius").all()
    energy, error = (best[name] * GAS_CONSTANT_KJ_MOL_K for name in ("strength_kelvin", "strength_error_kelvin"))
    assert (np.abs(energy - ENERGY) < 4 * error).all()
    assert (error < ENERGY / 2).all()
    assert best.glass_kelvin.isna().all(), "far below half of 270 K: not foretold, and no Angell plot"
    energies = pd.read_csv(campaign / "analyse" / "energies.csv")
    rows = energies.groupby("definition").size().to_dict()
    assert rows == {
        "E(T) = RT ln(tau/tau_inf)": 21, "E_app(T) = R dlntau/d(1/T)": 21,
        "E_app(T) between neighbouring temperatures": 14,
    }  # fmt: skip
    assert (np.abs(energies.energy_kj_mol - ENERGY) < 5 * energies.energy_error_kj_mol).all()


def test_figures_are_drawn_with_their_numbers(campaign):
    figures = campaign / "analyse" / "figures"
    names = {*registry.figures()} - {"angell"}
    assert {path.name for path in figures.iterdir()} == {f"{n}.{kind}" for n in names for kind in ("png", "svg", "csv")}
    drawn = pd.read_csv(figures / "arrhenius.csv")
    taus = pd.read_csv(campaign / "analyse" / "relaxation.csv")
    points = drawn[drawn.curve.str.startswith("Overlap")]
    assert sorted(points.y) == pytest.approx(sorted(taus[taus.correlator == "overlap"].tau_ps), rel=1e-6)


def test_every_table_is_drawn_or_told(campaign):
    """The columns that a table is there for, against the numbers beside the figures."""
    folder = campaign / "analyse"
    assert {path.stem for path in folder.glob("*.csv")} == {*registry.tables()}
    for table, figure, panels, columns in (
        ("van_hove", "van_hove", [f"{t:g} K" for t in TEMPERATURES], ("distance_angstrom", "density_per_angstrom")),
        ("coherent", "coherent", ["F(q ≈ 1.3 Å⁻¹, t)"], ("time_ps", "value")),
        ("s4", "s4", ["S₄"], ("wavevector_per_angstrom", "s4")),
        ("s4", "s4", ["S₄ of w − ⟨w⟩"], ("wavevector_per_angstrom", "s4_fluctuation")),
        ("sub_boxes", "s4", ["χ₄ in sub-boxes"], ("edge_angstrom", "chi4")),
        ("correlators", "response", ["∂C/∂T, overlap"], ("time_ps", "response_per_kelvin")),
        ("aging", "aging", ["Waiting time, overlap"], ("waiting_ps", "tau_ps")),
        ("energies", "activation", ["Overlap"], ("temperature_kelvin", "energy_kj_mol")),
    ):
        found = pd.read_csv(folder / f"{table}.csv")
        if "correlator" in found:
            found = found[found.correlator == "overlap"]
        if "quantity" in found:
            found = found[found.quantity == "tau_overlap_ps"]
        found = found[(found[columns[0]] > 0) & found[columns[1]].notna()][[*columns]].to_numpy()
        drawn = pd.read_csv(folder / "figures" / f"{figure}.csv")
        drawn = drawn[drawn.panel.isin(panels) & ~drawn.curve.str.endswith(", fit")]
        assert len(drawn) > 5, (table, columns)
        kept = np.isclose(found[:, None], drawn[["x", "y"]].to_numpy(), rtol=1e-6, atol=1e-12).all(axis=2).any(axis=1)
        assert (found[~kept, 1] == 0).all(), (table, columns)  # empty bins beyond the farthest molecule are not drawn


def test_summary_names_settings_inputs_and_definitions(campaign):
    summary = json.loads((campaign / "analyse" / "summary.json").read_text())
    assert summary["mlpwf"] == __version__
    assert summary["settings"]["blocks"] == 12
    assert summary["ensembles"] == dict.fromkeys(("270K", "300K", "340K"), "nvt")
    config = campaign / "config" / "analyse.json"
    assert summary["inputs"][str(config)] == sha256(config)
    assert len(summary["inputs"]) == 1 + 3 * (1 + 2 * 2)
    assert "1 for independent molecules" in summary["definitions"]["chi4_normalised"]
    assert json.loads((campaign / "analyse" / "cost.jsonl").read_text())["stage"] == "analyse"


def test_a_segment_that_has_not_finished_is_left_out(tmp_path, campaign):
    write_state(tmp_path / "300K", 300.0)
    write_summary(tmp_path / "300K" / "segment" / "001", 300.0, finished=False)
    assert run(campaign, tmp_path, tmp_path / "out", "--no-figures").exit_code == 0
    assert pd.read_csv(tmp_path / "out" / "states.csv").run_ps[0] < 60
    laws = pd.read_csv(tmp_path / "out" / "laws.csv")
    assert (laws.verdict == "too few states").all()
    assert laws.strength_kelvin.isna().all()
    counts = pd.read_csv(tmp_path / "out" / "counts.csv")
    assert (counts[counts.definition == "three-point N_corr,T"].verdict == "needs two temperatures").all()


def test_a_state_whose_molecules_broke_enters_no_fit(tmp_path, campaign):
    simulate = tmp_path / "simulate"
    shutil.copytree(campaign / "simulate", simulate)
    lowest = min(TEMPERATURES)
    write_summary(simulate / f"{lowest:g}K" / "segment" / "001", lowest, intact=False)
    assert run(campaign, simulate, tmp_path / "out", "--no-figures").exit_code == 0
    tables = {
        name: pd.read_csv(tmp_path / "out" / f"{name}.csv") for name in ("states", "relaxation", "counts", "laws")
    }
    for name in ("states", "relaxation", "counts"):
        table = tables[name].set_index("temperature_kelvin")
        assert (table.loc[[lowest]].equilibration == "molecules broke").all(), name
        assert not (table.loc[[max(TEMPERATURES)]].equilibration == "molecules broke").any(), name
    assert len(tables["states"]) == 3  # shown, not dropped
    before = pd.read_csv(campaign / "analyse" / "laws.csv")
    assert tables["laws"].states.max() == before.states.max() - 1


def test_a_state_that_blew_up_is_shown_without_numbers(tmp_path, campaign):
    simulate = tmp_path / "simulate"
    shutil.copytree(campaign / "simulate", simulate)
    lowest, *others = sorted(TEMPERATURES)
    blown = {"stable": False, "end_step": 77, "reason": "temperature 4000 K"}
    write_summary(simulate / f"{lowest:g}K" / "segment" / "001", lowest, **blown)
    assert run(campaign, simulate, tmp_path / "out", "--no-figures").exit_code == 0
    states = pd.read_csv(tmp_path / "out" / "states.csv").set_index("temperature_kelvin")
    assert states.equilibration[lowest] == "blew up at step 77: temperature 4000 K"
    assert states.loc[lowest].isna().sum() > 10
    assert pd.read_csv(tmp_path / "out" / "relaxation.csv").temperature_kelvin.unique().tolist() == others
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["faults"] == {f"{lowest:g}K": "blew up at step 77: temperature 4000 K"}
    for temperature in others:
        write_summary(simulate / f"{temperature:g}K" / "segment" / "001", temperature, **blown)
    assert run(campaign, simulate, tmp_path / "none").exit_code == 0
    for name, needs in registry.needs().items():
        read_columns(tmp_path / "none" / f"{name}.csv", needs)


def test_a_segment_that_only_equilibrated_is_passed_over(tmp_path, campaign):
    write_state(tmp_path / "300K", 300.0)
    (tmp_path / "300K" / "segment" / "002").mkdir()
    write_summary(tmp_path / "300K" / "segment" / "002", 300.0, frames=0, mean_potential_ev=None, linear_frames=0)
    assert run(campaign, tmp_path, tmp_path / "out", "--no-figures").exit_code == 0


def test_energies_and_pressure_tensors_of_a_campaign(tmp_path, campaign):
    """thermo.csv and stress.npz, as the stage simulate writes them: heat capacity, viscosity, three-point counts."""
    rng = np.random.default_rng(3)
    volume, decay, interval_ps = 25.0**3, np.exp(-0.01), 0.01
    for temperature in (270.0, 300.0):
        write_state(tmp_path / f"{temperature:g}K", temperature)
        noise = rng.normal(size=(5, 12001)) * 300 * np.sqrt(1 - decay**2)
        xy, xz, yz, a, b = lfilter([1], [1, -decay], noise, axis=1)
        tensor = np.stack([a - b / np.sqrt(3), -a - b / np.sqrt(3), 2 * b / np.sqrt(3), xy, xz, yz], axis=1)
        for segment in (0, 1):
            folder = tmp_path / f"{temperature:g}K" / "segment" / f"{segment:03d}"
            times = 60 * segment + np.arange(60)
            energy = MOLECULES * (2e-3 * temperature + 1e-4 * rng.normal(size=60))
            rows = "".join(f"{t},{temperature},0,{e:.8f},0\n" for t, e in zip(times, energy, strict=True))
            (folder / "thermo.csv").write_text("time_ps,temperature,potential,total_energy,pressure_bar\n" + rows)
            part = slice(6000 * segment, 6000 * (segment + 1) + 1)
            np.savez(
                folder / "stress.npz", step=np.arange(12001)[part], pressure_bar=tensor[part],
                timestep_fs=1000 * interval_ps, volume_angstrom3=volume,
            )  # fmt: skip
    assert run(campaign, tmp_path, tmp_path / "out", "--no-figures").exit_code == 0
    states = pd.read_csv(tmp_path / "out" / "states.csv").set_index("temperature_kelvin")
    assert states.heat_capacity_kb_per_molecule.to_numpy() == pytest.approx(2e-3 / 8.617333e-5, rel=0.01)
    assert (states.energy_verdict == "equilibrated").all()
    for temperature, row in states.iterrows():
        # V/(k_B T) ∫ 300² bar² exp(−t/1 ps) dt
        known = volume * 1e-30 / (1.380649e-23 * temperature) * (300e5) ** 2 * 1e-12 * 1e3
        assert row.viscosity_verdict == "ok"
        assert abs(row.viscosity_mpa_s - known) < 4 * row.viscosity_error_mpa_s
        assert row.viscosity_error_mpa_s < 0.2 * known
        assert row.stress_relaxation_ps == pytest.approx(1, rel=0.3)
        assert (row.diffusion_verdict, row.diffusion_infinite_verdict) == ("ok", "ok")
        added = 1.380649e-23 * temperature * 2.837297 / (6 * np.pi * row.viscosity_mpa_s * 1e-3 * 25e-10) * 1e8
        assert row.diffusion_infinite_angstrom2_per_ps - row.diffusion_angstrom2_per_ps == pytest.approx(
            added, rel=1e-6
        )
        assert row.diffusion_infinite_error_angstrom2_per_ps > row.diffusion_error_angstrom2_per_ps
    counts = pd.read_csv(tmp_path / "out" / "counts.csv")
    assert (counts[counts.definition == "three-point N_corr,T"].verdict == "ok").all()
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert len(summary["inputs"]) == 1 + 2 * (1 + 2 * 4)


def failure(campaign, simulate):
    return run(campaign, simulate, simulate.parent / "out").exception


def test_failures_are_named(tmp_path, campaign):
    simulate = tmp_path / "simulate"
    assert "no state" in str(failure(campaign, simulate))
    (simulate / "300K").mkdir(parents=True)
    (simulate / "300K" / "topology.pdb").write_text("END\n")
    assert "no finished segment" in str(failure(campaign, simulate))
    segment = simulate / "300K" / "segment" / "000"
    segment.mkdir(parents=True)
    (segment / "summary.json").write_text("{}")
    assert "missing required field `temperature_kelvin`" in str(failure(campaign, simulate))
    write_summary(segment, 300.0)
    error = failure(campaign, simulate)
    assert isinstance(error, DataError)
    assert "no trajectory.trr" in str(error)
    assert not (tmp_path / "out" / "states.csv").exists()


def test_two_states_of_one_temperature_are_refused(tmp_path, campaign):
    for name in ("300K", "again"):
        write_state(tmp_path / "simulate" / name, 300.0, segments=1)
    assert "one temperature" in str(failure(campaign, tmp_path / "simulate"))


def test_an_unknown_key_is_a_config_error(tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "analyse.json").write_text(json.dumps({"block": 3, "seed": 1}))
    assert isinstance(run(tmp_path).exception, ConfigError)
