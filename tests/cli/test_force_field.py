"""`mlpwf simulate` with a classical force field: exact wherever it is cut, and a pressure that finds its volume."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from killing import kill
from mlpwf.campaign.paths import State
from mlpwf.campaign.segments import segments
from mlpwf.errors import ConfigError, EngineError
from mlpwf.files import read_json, sha256, write_json
from mlpwf.md.production import RENEWAL_STEPS
from mlpwf.simulate.command import app
from mlpwf.structures.boxes import isolated, label_molecules
from mlpwf.structures.frames import quantised, write_frames
from mlpwf.structures.species import molecule_from_smiles

FILES = Path(__file__).parents[2] / "config" / "force_fields"
COMMANDS, DATA = ((FILES / f"toluene_opls.{kind}").read_text() for kind in ("lammps", "data"))
ARGON = {"molecules": {"argon": {"smiles": "[Ar]", "count": 8}}, "density_g_cm3": 1.2}
ARGON_COMMANDS = "units metal\natom_style full\npair_style lj/cut 6.0\npair_coeff 1 1 0.0103 3.405\n"
ARGON_DATA = "argon\n\n1 atoms\n1 atom types\n\nMasses\n\n1 39.948\n\nAtoms # full\n\n1 1 1 0.0 0.0 0.0 0.0\n"
SYSTEM = {"molecules": {"toluene": {"smiles": "Cc1ccccc1", "count": 8}}, "density_g_cm3": 0.8}
SETTINGS = {
    "molecules": 8,
    "temperatures_kelvin": [300],
    "timestep_fs": 1.0,
    "pressure_bar": 1.0,
    "equilibration_ps": 0.64,
    "length_ps": 0.4,
    "linear_interval_ps": 0.04,
    "stress_interval_fs": 10,
    "checkpoint_min": 0.002,
}


class Place:
    """A folder in which toluene is simulated by OPLS-AA, or another molecule by another force field."""

    def __init__(self, root: Path, system=SYSTEM, commands=COMMANDS, data=DATA) -> None:
        self.root, self.system = root, system
        ((name, species),) = system["molecules"].items()
        molecule = molecule_from_smiles(name, species["smiles"], 1)
        label_molecules([molecule], [0])
        boxed = isolated(molecule, 3.0)
        boxed.info = {"species": name}
        write_frames(root / "molecules.extxyz", [quantised(boxed)])
        self.commands, self.data = root / "ff.lammps", root / "ff.data"
        self.commands.write_text(commands)
        self.data.write_text(data)

    def words(self, segment=0, out="300K", minutes=None, **changes):
        """The words of one segment's command, its sections written."""
        files = {"commands": str(self.commands), "molecules": str(self.data)}
        write_json(self.root / "simulate.json", {"force_field": files} | SETTINGS | changes | {"seed": 5})
        write_json(self.root / "system.json", self.system | {"seed": 5})
        write_json(self.root / "site.json", {"seed": 5})
        words = ["segment", "--molecules", str(self.root / "molecules.extxyz"), "--state", "300K"]
        words += [word for key in ("system", "site") for word in (f"--{key}", str(self.root / f"{key}.json"))]
        words += [
            "--config",
            str(self.root / "simulate.json"),
            "--segment",
            str(segment),
            "--out",
            str(self.root / out),
        ]
        if segment:
            words += ["--previous", str(self.folder(segment - 1, out) / "summary.json")]
        return words + ([] if minutes is None else ["--minutes", str(minutes)])

    def run(self, segment=0, out="300K", **kwargs):
        """Run a segment; its summary."""
        result = CliRunner().invoke(app, self.words(segment, out, **kwargs))
        if result.exception is not None:
            raise result.exception
        return read_json(self.folder(segment, out) / "summary.json")

    def folder(self, segment, out="300K"):
        return self.root / out / "segment" / f"{segment:03d}"


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One run at a stretch, and one cut and killed at constant pressure, cut after it, and in production."""
    place = Place(tmp_path_factory.mktemp("force_field"))
    place.run(out="whole", checkpoint_min=9)
    place.run(0, minutes=0)
    kill(place.words(1), place.root / "300K" / "work" / "001", checkpoints=1)
    place.run(1, minutes=0)
    place.run(2, minutes=0)
    place.run(3, minutes=0)
    place.run(4, length_ps=0.2)
    place.run(5)
    return place


@pytest.mark.engine
def test_wherever_a_run_is_cut_the_trajectory_is_the_same_bytes(runs):
    starts = [summary.start_ps for summary in segments(State(runs.root / "300K"))]
    assert starts[:2] == pytest.approx([-0.64, -0.44]), "cuts lie where all is set up anew"
    assert starts[-1] == pytest.approx(0.2)
    for name in ("trajectory.trr", "thermo.csv"):
        parts = [runs.folder(k) / name for k in range(len(starts))]
        kept = [part.read_bytes() for part in parts if part.is_file()]
        kept = [kept[0], *(part.split(b"\n", 1)[1] if name == "thermo.csv" else part for part in kept[1:])]
        assert b"".join(kept) == (runs.folder(0, "whole") / name).read_bytes(), name
    cells = [(runs.root / out / "topology.pdb").read_bytes() for out in ("300K", "whole")]
    assert cells[0] == cells[1]


@pytest.mark.engine
def test_pressure_tensors_are_whole_where_lammps_store_of_them_is_emptied(tmp_path):
    """A run longer than `production.RENEWAL_STEPS` at a stretch is that of two shorter ones, tensor by tensor."""
    place = Place(tmp_path, ARGON, ARGON_COMMANDS, ARGON_DATA)
    settings = {
        "pressure_bar": None, "equilibration_ps": 1, "linear_interval_ps": 20, "stress_interval_fs": 250,
        "checkpoint_min": 99,
    }  # fmt: skip
    length = 1.2e-3 * RENEWAL_STEPS
    place.run(out="whole", length_ps=length, **settings)
    for segment, part in enumerate((0.5, 1.0)):
        place.run(segment, length_ps=part * length, **settings)
    kept = [np.load(place.folder(*where) / "stress.npz") for where in ((0, "whole"), (0,), (1,))]
    assert kept[0]["step"].tolist() == list(range(0, round(1.2 * RENEWAL_STEPS) + 1, 250))
    for name in ("step", "pressure_bar", "temperature_kelvin", "potential_ev"):
        whole, parts = kept[0][name], np.concatenate([one[name] for one in kept[1:]])
        np.testing.assert_array_equal(whole, parts, err_msg=name)
    assert np.ptp(kept[0]["pressure_bar"][-50:, 0]) > 0


@pytest.mark.engine
def test_a_pressure_finds_the_volume_the_run_keeps(runs):
    summary = read_json(runs.folder(0, "whole") / "summary.json")
    total, number = summary["volumes"]
    assert number == 32, "half of the equilibration, every 10 fs"
    assert summary["volume_angstrom3"] == pytest.approx(total / number, rel=1e-9)
    stress = np.load(runs.folder(0, "whole") / "stress.npz")
    assert float(stress["volume_angstrom3"]) == pytest.approx(summary["volume_angstrom3"])
    packed = 8 * 92.141 / (0.8 * 0.602214)
    assert abs(summary["volume_angstrom3"] - packed) > 1e-3 * packed
    assert (summary["stable"], summary["intact"]) == (True, True)


@pytest.mark.engine
def test_energies_are_in_ev_and_pressures_in_bar(runs):
    rows = np.genfromtxt(runs.folder(0, "whole") / "thermo.csv", delimiter=",", names=True)
    kinetic = rows["total_energy"] - rows["potential"]
    assert kinetic == pytest.approx(1.5 * 8.617333e-5 * rows["temperature"] * (8 * 15 - 1), rel=1e-4)


@pytest.mark.engine
def test_a_force_field_counts_by_its_content(runs, caplog):
    caplog.set_level("INFO")
    summary = read_json(runs.folder(0, "whole") / "summary.json")
    files = [runs.commands, runs.data]
    assert summary["depends_on"]["force_field_sha256"] == [sha256(file) for file in files]
    assert str(runs.root) not in str(summary["depends_on"])
    runs.run(out="whole", length_ps=0.2)
    assert "finished before under the same settings, kept" in caplog.text


@pytest.mark.engine
def test_what_lammps_refuses_is_one_line(place):
    style = place.commands
    style.write_text(style.read_text().replace("lj/cut/coul/long/opt 9.0", "lj/cut/coul/lang 9.0"))
    with pytest.raises(EngineError, match=r"LAMMPS cannot start with .*lj/cut/coul/lang.*expected styles LAMMPS has"):
        place.run()


def test_a_force_field_that_does_not_fit_is_one_line(place):
    data = place.data
    text = data.read_text()
    data.write_text(text.replace("1 1 3 -0.065", "1 1 3 -0.165"))
    with pytest.raises(ConfigError, match=r"ff.data: toluene has a charge of -0.1 e; expected 0"):
        place.run()
    data.write_text(text)
    style = place.commands
    style.write_text("units real\nshell touch here\npair_style lj/cut 9\n")
    with pytest.raises(ConfigError, match=r"ff.lammps:2: 'shell'; expected only angle_coeff"):
        place.run()
    with pytest.raises(ConfigError, match=r"equilibration_ps is 0.05; expected at least 0.08"):
        place.run(equilibration_ps=0.05)
