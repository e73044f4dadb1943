"""Config: what is shipped is valid, what is generated is fresh, what is wrong is one clear line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mlpwf.config import Build, load_campaign, load_section, load_site
from mlpwf.config.resolve import write_sections
from mlpwf.config.schema import documents
from mlpwf.errors import ConfigError

PROJECT = Path(__file__).parents[2]
MINIMAL = {"name": "x", "system": {"molecules": {"water": {"smiles": "O"}}, "density_g_cm3": 1.0}}


def write(folder, values):
    path = folder / "system.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def nested(values, keys, value):
    copy = yaml.safe_load(yaml.safe_dump(values))
    part = copy
    for key in keys[:-1]:
        part = part.setdefault(key, {})
    part[keys[-1]] = value
    return copy


@pytest.mark.parametrize("path", sorted((PROJECT / "config" / "systems").glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_systems_are_valid_and_short(path):
    assert load_campaign(path).name == path.stem
    assert len(path.read_text().splitlines()) <= 30


@pytest.mark.parametrize("path", sorted((PROJECT / "config" / "sites").glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_sites_are_valid(path):
    load_site(path)


@pytest.mark.parametrize("path", list(documents()))
def test_generated_files_are_fresh(path):
    assert (PROJECT / path).read_text() == documents()[path], "run python -m mlpwf.config.schema"


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (["label", "cutof_ry"], 30, "label.cutof_ry: unknown key; did you mean 'cutoff_ry'?"),
        (["colour"], 1, "colour: unknown key; expected one of"),
        (
            ["explore", "temperatures_kelvin"],
            [-10],
            "explore.temperatures_kelvin.0: is -10; input should be greater than 0",
        ),
        (["label", "cutoff_ry"], "30 Ry", "label.cutoff_ry: is '30 Ry'"),
        (["label", "density_cutoff_ry"], 100, "expected at least 4 x cutoff_ry"),
        (["label", "fft_grid_ry"], 300, "fft_grid_ry is 300; expected at least density_cutoff_ry = 400"),
        (["label", "pseudopotentials"], {"H": "../../etc/passwd"}, "label.pseudopotentials.H: is '../../etc/passwd'"),
        (["system", "molecules", "water", "smiles"], "", "an empty SMILES"),
        (["system", "density_g_cm3"], float("nan"), "system.density_g_cm3: is nan"),
        (
            ["select"],
            {"force_trust_lower_ev_angstrom": 9.0, "force_trust_upper_ev_angstrom": 1.0},
            "expected lower < upper",
        ),
        (["select", "force_trust_lower_ev_angstrom"], 0.1, "one force trust level is given; expected both"),
        (["name"], "a b; rm -rf /", "name: is 'a b; rm -rf /'"),
        (["system", "molecules", "water", "structure"], "w.xyz", "exactly one of 'smiles' and 'structure'"),
    ],
)
def test_mistakes_name_key_value_and_expectation(keys, value, message, tmp_path):
    path = write(tmp_path, nested(MINIMAL, keys, value))
    with pytest.raises(ConfigError) as caught:
        load_campaign(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_section_and_file(tmp_path):
    with pytest.raises(ConfigError, match="system: missing"):
        load_campaign(write(tmp_path, {"name": "x"}))
    with pytest.raises(ConfigError, match="no such file"):
        load_campaign(tmp_path / "absent.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match="found list; expected a mapping"):
        load_campaign(tmp_path / "list.yaml")


def test_only_the_changed_section_is_written_again(tmp_path):
    site = load_site(PROJECT / "config" / "sites" / "local.yaml")
    folder = write_sections(load_campaign(write(tmp_path, MINIMAL)), site, tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    write_sections(load_campaign(write(tmp_path, nested(MINIMAL, ["build", "bulk_frames"], 9))), site, tmp_path)
    changed = {path.name for path in folder.iterdir() if path.stat().st_mtime_ns != before[path.name]}
    assert changed == {"build.json"}
    section, seed = load_section(Build, folder / "build.json")
    assert (section.bulk_frames, seed) == (9, 1)


def test_a_key_that_is_new_in_this_version_touches_no_section(tmp_path):
    site = load_site(PROJECT / "config" / "sites" / "local.yaml")
    campaign = load_campaign(write(tmp_path, MINIMAL))
    folder = write_sections(campaign, site, tmp_path)
    older = json.loads((folder / "build.json").read_text())
    assert older.pop("box_multiples") == [1]
    (folder / "build.json").write_text(json.dumps(older))
    write_sections(campaign, site, tmp_path)
    assert json.loads((folder / "build.json").read_text()) == older
    for change in ({"bulk_frames": 9}, {"seed": 7}, {"no_such_key": 1}):
        (folder / "build.json").write_text(json.dumps(older | change))
        write_sections(campaign, site, tmp_path)
        assert json.loads((folder / "build.json").read_text()) == older | {"box_multiples": [1]}
    for text in ("", "[]", "{}"):
        (folder / "build.json").write_text(text)
        write_sections(campaign, site, tmp_path)
        assert json.loads((folder / "build.json").read_text()) == older | {"box_multiples": [1]}


def test_help_and_config_import_nothing_heavy():
    heavy = {"torch", "tensorflow", "deepmd", "ase", "matplotlib", "pandas", "scipy", "MDAnalysis", "rdkit", "tblite"}
    code = (
        "import sys, mlpwf.cli as c, mlpwf.states, mlpwf.config.resolve; c._register(); "
        f"print(sorted({heavy!r} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
