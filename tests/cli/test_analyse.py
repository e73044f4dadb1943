"""`mlpwf analyse` on Brownian rotors whose rates follow an Arrhenius law."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import typer
from MDAnalysis import Universe, Writer
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

from mlpwf import __version__
from mlpwf.commands.analyse import analyse
from mlpwf.config import Analyse
from mlpwf.errors import ConfigError, DataError
from mlpwf.files import sha256
from mlpwf.report.gather import read_columns
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


def run(root, simulate=None, out=None):
    app = typer.Typer()
    app.command()(analyse)
    config, simulate, out = root / "config" / "analyse.json", simulate or root / "simulate", out or root / "analyse"
    return CliRunner().invoke(app, ["--config", str(config), "--simulate", str(simulate), "--out", str(out)])


def test_correlators_hold_all_columns_and_the_laws(campaign):
    table = pd.read_csv(campaign / "analyse" / "correlators.csv")
    expected = {"temperature_kelvin", "time_ps", "origins", "msd_angstrom2", "msd_error", "alpha2", "alpha2_error"}
    for name in NAMES:
        stems = (name, f"chi4_{name}", f"n_star_{name}_normalised")
        expected |= {f"{stem}{suffix}" for stem in stems for suffix in ("", "_error")} | {f"windows_{name}"}
    assert set(table.columns) == expected
    for temperature, state in table.groupby("temperature_kelvin"):
        diffusion, rotation = rates(temperature)
        state = state[state.time_ps < 120 / 12]  # all twelve blocks; neighbouring lags share their noise
        laws = {
            "fs_q1.3": np.exp(-(1.3**2) * diffusion * state.time_ps),
            "c1_axis1": np.exp(-2 * rotation * state.time_ps),
            "msd": 6 * diffusion * state.time_ps,
        }
        for name, law in laws.items():
            found = state["msd_angstrom2" if name == "msd" else name]
            assert np.abs((found - law) / state[f"{name}_error"]).median() < 4, (temperature, name)


def test_states_are_in_order_with_times_and_verdicts(campaign):
    table = pd.read_csv(campaign / "analyse" / "states.csv").set_index("temperature_kelvin")
    assert list(table.index) == sorted(TEMPERATURES)
    assert (table.run_ps == 120).all()
    assert (table.ensemble == "nvt").all()
    assert table.mean_potential_ev[300] == pytest.approx(-97)
    for temperature, row in table.iterrows():
        diffusion, rotation = rates(temperature)
        for name, tau in {"fs_q1.3": 1 / (1.3**2 * diffusion), "c2_axis1": 1 / (6 * rotation)}.items():
            assert row[f"tau_{name}_verdict"] == "ok"
            assert abs(row[f"tau_{name}_ps"] - tau) < 5 * row[f"tau_{name}_error"]
            assert row[f"kww_{name}_beta"] == pytest.approx(1, abs=0.15)
        assert row.diffusion_verdict == "ok"
        assert abs(row.diffusion_angstrom2_per_ps - diffusion) < 5 * row.diffusion_error
        assert row.n_star_overlap_normalised_at_tau == pytest.approx(1, abs=0.5)
    assert not any(column == "n_star" or column.endswith("N*") for column in table.columns)


def test_activation_energies_are_recovered(campaign):
    table = pd.read_csv(campaign / "analyse" / "activation.csv").set_index("quantity")
    assert list(table.index) == [*NAMES, "diffusion"]
    assert (table.verdict == "ok").all()
    assert (table.states == 3).all()
    assert (np.abs(table.E_a_kj_mol - ENERGY) < 4 * table.E_a_error).all()
    assert (table.E_a_error < ENERGY / 2).all()
    local = pd.read_csv(campaign / "analyse" / "activation_local.csv")
    rows = local.groupby("definition").size()
    assert rows.to_dict() == {"E_app": 2 * len(table), "E_from_tau_inf": 3 * len(table)}
    assert (np.abs(local.energy_kj_mol - ENERGY) < 5 * local.energy_error).all()


def test_summary_names_settings_inputs_and_definitions(campaign):
    summary = json.loads((campaign / "analyse" / "summary.json").read_text())
    assert summary["mlpwf"] == __version__
    assert summary["settings"]["blocks"] == 12
    assert summary["ensembles"] == ["nvt"]
    config = campaign / "config" / "analyse.json"
    assert summary["inputs"][str(config)] == sha256(config)
    assert len(summary["inputs"]) == 1 + 3 * (1 + 2 * 2)
    assert "1 for independent molecules" in summary["definitions"]["n_star_NAME_normalised"]
    assert json.loads((campaign / "analyse" / "cost.jsonl").read_text())["stage"] == "analyse"


def test_a_segment_that_has_not_finished_is_left_out(tmp_path, campaign):
    write_state(tmp_path / "300K", 300.0)
    write_summary(tmp_path / "300K" / "segment" / "001", 300.0, finished=False)
    assert run(campaign, tmp_path, tmp_path / "out").exit_code == 0
    assert pd.read_csv(tmp_path / "out" / "states.csv").run_ps[0] < 60
    activation = pd.read_csv(tmp_path / "out" / "activation.csv")
    assert (activation.verdict == "too few states").all()
    assert activation.E_a_kj_mol.isna().all()


def test_a_state_whose_molecules_broke_enters_no_fit(tmp_path, campaign):
    simulate = tmp_path / "simulate"
    shutil.copytree(campaign / "simulate", simulate)
    lowest = min(TEMPERATURES)
    write_summary(simulate / f"{lowest:g}K" / "segment" / "001", lowest, intact=False)
    assert run(campaign, simulate, tmp_path / "out").exit_code == 0
    states = pd.read_csv(tmp_path / "out" / "states.csv").set_index("temperature_kelvin")
    verdicts = [name for name in states if name.endswith("_verdict")]
    assert (states.loc[lowest, verdicts] == "molecules broke").all()
    assert not (states.loc[max(TEMPERATURES), verdicts] == "molecules broke").any()
    before = pd.read_csv(campaign / "analyse" / "activation.csv")
    assert pd.read_csv(tmp_path / "out" / "activation.csv").states.max() == before.states.max() - 1


def test_a_state_that_blew_up_is_left_out_and_named(tmp_path, campaign):
    simulate = tmp_path / "simulate"
    shutil.copytree(campaign / "simulate", simulate)
    lowest, *others = sorted(TEMPERATURES)
    blown = {"stable": False, "end_step": 77, "reason": "temperature 4000 K"}
    write_summary(simulate / f"{lowest:g}K" / "segment" / "001", lowest, **blown)
    assert run(campaign, simulate, tmp_path / "out").exit_code == 0
    assert pd.read_csv(tmp_path / "out" / "states.csv").temperature_kelvin.tolist() == others
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["left_out"] == {f"{lowest:g}K": "blew up at step 77: temperature 4000 K"}
    for temperature in others:
        write_summary(simulate / f"{temperature:g}K" / "segment" / "001", temperature, **blown)
    assert run(campaign, simulate, tmp_path / "none").exit_code == 0
    for name in ("states", "correlators", "activation"):
        read_columns(tmp_path / "none" / f"{name}.csv", ("temperature_kelvin",) if name != "activation" else ())


def test_a_segment_that_only_equilibrated_is_passed_over(tmp_path, campaign):
    write_state(tmp_path / "300K", 300.0)
    (tmp_path / "300K" / "segment" / "002").mkdir()
    write_summary(tmp_path / "300K" / "segment" / "002", 300.0, frames=0, mean_potential_ev=None, linear_frames=0)
    assert run(campaign, tmp_path, tmp_path / "out").exit_code == 0


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
    assert "temperature_kelvin is missing" in str(failure(campaign, simulate))
    write_summary(segment, 300.0)
    error = failure(campaign, simulate)
    assert isinstance(error, DataError)
    assert "0 atoms" in str(error)
    assert not (tmp_path / "out" / "states.csv").exists()


def test_two_states_of_one_temperature_are_refused(tmp_path, campaign):
    for name in ("300K", "again"):
        write_state(tmp_path / "simulate" / name, 300.0, segments=1)
    assert "one temperature" in str(failure(campaign, tmp_path / "simulate"))


def test_an_unknown_key_is_a_config_error(tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "analyse.json").write_text(json.dumps({"block": 3, "seed": 1}))
    assert isinstance(run(tmp_path).exception, ConfigError)
