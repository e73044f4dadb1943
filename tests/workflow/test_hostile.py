"""Names that a shell, Fortran, LAMMPS, a pattern of files or Snakemake could take for more than names."""

import json
import os
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
import typer
import yaml
from ase.build import molecule
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1]))

from mlpwf.config import load_campaign
from mlpwf.errors import ConfigError
from mlpwf.explore.command import explore
from mlpwf.files import write_json
from mlpwf.structures.frames import quantised, write_frames
from toy_water import DENSITY, SYSTEM, WATER

PROJECT = Path(__file__).parents[2]
NAMES = (
    """-rf --help 'q' "d" $(touch pwned) `touch pwned`; touch pwned & # @0:1 {x} [ab]* ? ~ %d \\n %(x)s""",
    "line\nbreak\ntouch pwned\n",
)
CALM = {
    "name": "calm",
    "system": {"molecules": {"water": {"smiles": "O"}}, "density_g_cm3": 0.1},
    "build": {
        "bulk_frames": 1, "single_frames": 0, "dimer_frames": 0, "test_frames": 2, "steps_between_frames": 1,
        "temperatures_kelvin": [300], "density_scales": [1.0], "strain": 0, "rattle_angstrom": 0,
    },
    "label": {"cutoff_ry": 25, "density_cutoff_ry": 150, "convergence_ry": 1e-6, "kpoints": "gamma", "batch_frames": 2},
}  # fmt: skip


@pytest.fixture(params=NAMES, ids=("signs", "lines"))
def hostile(request, tmp_path):
    """A folder with a hostile name; that nothing of the name was run is checked at the end."""
    folder = tmp_path / request.param
    folder.mkdir()
    yield folder
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.engine
def test_a_campaign_in_a_hostile_folder_with_hostile_files(hostile):
    """Structure file, campaign file, site file, programs, pseudopotentials and store all carry the folder's name."""
    name = hostile.name
    structure, system, site = hostile / f"{name}.xyz", hostile / f"{name}.yaml", hostile / f"{name}.site.yaml"
    ase.io.write(hostile / "plain.xyz", molecule("H2O"), format="xyz")
    (hostile / "plain.xyz").rename(structure)
    molecules = {"N,N'-(water) [1]": {"structure": structure.name, "count": 1}}
    system.write_text(yaml.safe_dump(CALM | {"system": {"molecules": molecules, "density_g_cm3": 0.1}}))
    pw, potentials = hostile / f"pw {name}", hostile / f"potentials {name}"
    pw.write_text('#!/bin/sh\nexec pw.x "$@"\n')
    pw.chmod(0o755)
    potentials.symlink_to("/usr/share/espresso/pseudo")
    place = {"pw": [str(pw)], "pseudopotential_folder": str(potentials), "label_store": f"store {name}"}
    site.write_text(yaml.safe_dump(place))
    write_json(hostile / "config.json", {"system": str(system), "site": str(site)})
    bin_folder = Path(sys.executable).parent
    done = subprocess.run(
        [
            str(bin_folder / "snakemake"), "--snakefile", str(PROJECT / "Snakefile"), "--cores", "1",
            "--configfile", "config.json", "--", "results/calm/test/label/labels.extxyz",
        ],
        cwd=hostile, capture_output=True, text=True, check=False,
        env=os.environ | {"PATH": f"{bin_folder}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = json.loads((hostile / "results" / "calm" / "test" / "label" / "summary.json").read_text())
    assert (summary["accepted"], summary["reused"]) == (2, 0)
    assert len(list((hostile / f"store {name}" / "labels").rglob("*.json"))) == 2


@pytest.mark.engine
@pytest.mark.parametrize("hostile", NAMES[:1], indirect=True, ids=("signs",))
def test_lammps_in_a_hostile_folder(hostile, water_models):
    models = []
    for k, model in enumerate(water_models):
        models.append(hostile / f"{k} {hostile.name}.pb")
        models[-1].symlink_to(model)
    box = WATER.repeat((2, 1, 1))
    box.arrays["molecule"] = np.repeat([0, 1], 3)
    box.info = {"kind": "bulk", "state": "start"}
    write_frames(hostile / "bulk.extxyz", [quantised(box)])
    write_frames(hostile / "molecules.extxyz", [WATER])
    state = {"temperatures_kelvin": [10], "walkers": 1, "steps": 10, "steps_between_frames": 1}
    write_json(hostile / "explore.json", state | {"seed": 3})
    write_json(hostile / "system.json", SYSTEM | {"seed": 3})
    write_json(hostile / "site.json", {"seed": 3})
    files = {"config": "explore.json", "site": "site.json", "system": "system.json", "starts": "bulk.extxyz"}
    files |= {"molecules": "molecules.extxyz", "out": "out"}
    words = [word for key, name in files.items() for word in (f"--{key}", str(hostile / name))]
    words += [word for model in models for word in ("--model", str(model))]
    app = typer.Typer()
    app.command()(explore)
    result = CliRunner().invoke(app, [*words, "--state", f"10K_{DENSITY:g}", "--cycle", "0"])
    if result.exception:
        raise result.exception
    (walker,) = json.loads((hostile / "out" / "walkers.json").read_text())
    assert walker["steps"] >= 1


@pytest.mark.parametrize("name", [*NAMES, "", "-x", "../up", "a/b", "x" * 65])
def test_a_campaign_name_is_a_plain_word(name, tmp_path):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(CALM | {"name": name}))
    with pytest.raises(ConfigError, match="name: is"):
        load_campaign(tmp_path / "c.yaml")


@pytest.mark.parametrize("name", [*NAMES, "", "-x", "_JSON {}", "<b>", 'a"b', "a\\b", "x" * 65])
def test_a_molecule_name_holds_no_sign_of_a_shell(name, tmp_path):
    system = {"molecules": {name: {"smiles": "O"}}, "density_g_cm3": 1}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(CALM | {"system": system}))
    with pytest.raises(ConfigError, match="a molecule is named"):
        load_campaign(tmp_path / "c.yaml")


@pytest.mark.parametrize("name", [*NAMES, "../up.UPF", "/etc/passwd", "-x"])
def test_a_pseudopotential_is_a_file_of_its_folder(name, tmp_path):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(CALM | {"label": {"pseudopotentials": {"H": name}}}))
    with pytest.raises(ConfigError, match=r"label\.pseudopotentials\.H"):
        load_campaign(tmp_path / "c.yaml")


def test_yaml_makes_no_objects(tmp_path):
    (tmp_path / "c.yaml").write_text(f"name: !!python/object/apply:os.system ['touch {tmp_path}/pwned']\n")
    with pytest.raises(ConfigError, match="not a YAML file"):
        load_campaign(tmp_path / "c.yaml")
    assert not (tmp_path / "pwned").exists()
