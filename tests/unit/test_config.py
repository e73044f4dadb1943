"""Config: what is shipped is valid, what is generated is fresh, what is wrong is one clear line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mlpwf.campaign.resolve import cycle_section, kept_settings, message_on_kept, write_sections
from mlpwf.config import Build, Campaign, Site, Train, load_campaign, load_section, load_site
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
        (["label", "kpoints"], "Gamma", "label.kpoints: is 'Gamma'; expected auto, gamma, a grid such as [2, 2, 2]"),
        (["label", "kpoints"], [0, 2, 2], "label.kpoints: is [0, 2, 2]; expected auto"),
        (["label", "kpoints"], [2, 2, 2, 1, 1, 2], "label.kpoints: is [2, 2, 2, 1, 1, 2]; expected auto"),
        (["label", "kpoints"], [[0.25, 0.25]], "or points such as [[0.25, 0.25, 0.25]]"),
        (["label", "density_cutoff_ry"], 100, "expected at least 4 x cutoff_ry"),
        (["label", "fft_grid_ry"], 300, "fft_grid_ry is 300; expected at least density_cutoff_ry = 400"),
        (["label", "pseudopotentials"], {"H": "../../etc/passwd"}, "label.pseudopotentials.H: is '../../etc/passwd'"),
        (["system", "molecules", "water", "smiles"], "", "an empty SMILES"),
        (
            ["system", "density_g_cm3"],
            float("nan"),
            "density_g_cm3 (line 3): .nan is no finite number",
        ),
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


class Cycles:
    """A campaign's folder with cycles in it, and the times of what they go by."""

    def __init__(self, root):
        self.root, self.folder = root, root / MINIMAL["name"]
        self.site = load_site(PROJECT / "config" / "sites" / "local.yaml")
        self.write()

    def write(self, cycles=0, **changes):
        values = {**MINIMAL, **{key: {**MINIMAL.get(key, {}), **given} for key, given in changes.items()}}
        return write_sections(load_campaign(write(self.root, values)), self.site, self.root, cycles)

    def run(self, cycle, verdict):
        status = self.folder / "cycle" / f"{cycle:03d}" / "select" / "status.json"
        status.parent.mkdir(parents=True)
        status.write_text(json.dumps({"cycle": cycle, "verdict": verdict, "reason": "of a test"}))

    def times(self):
        return {path: path.stat().st_mtime_ns for path in self.folder.rglob("config/cycle/*/*.json")}

    def touched(self, before):
        changed = [path for path, time in self.times().items() if before.get(path) != time]
        return sorted(f"{path.parent.name}/{path.name}" for path in changed)


def test_a_cycle_that_another_follows_keeps_its_settings(tmp_path):
    campaign = Cycles(tmp_path)
    campaign.run(0, "continue")
    campaign.run(1, "converged")
    before = campaign.times()
    assert len(before) == 4 * 10
    assert not message_on_kept(campaign.write())
    folder = campaign.write(train={"steps": 99}, explore={"walkers": 7}, select={"maximum_cycles": 2})
    changed = [f"001/{section}.json" for section in ("explore", "select", "train")]
    assert [name for name in campaign.touched(before) if name < "002"] == changed
    assert [cycle_section(campaign.folder / "config", "train", name).steps for name in ("000", "001")] == [200_000, 99]
    assert kept_settings(folder) == {"train": [0], "explore": [0], "select": [0]}
    assert message_on_kept(folder) == (
        "done cycles keep the settings they ran with (train of cycle 0; explore of cycle 0; select of cycle 0); "
        f"to begin again by the edited ones, remove {campaign.folder}/cycle (labels stay in the store)"
    )
    shutil.rmtree(campaign.folder / "cycle")
    campaign.write(train={"steps": 99})
    assert cycle_section(campaign.folder / "config", "train", "000").steps == 99


def test_a_cycle_is_open_until_the_next_has_begun(tmp_path):
    campaign = Cycles(tmp_path)
    campaign.run(0, "continue")
    campaign.write(train={"steps": 99})
    assert cycle_section(campaign.folder / "config", "train", "000").steps == 99
    (campaign.folder / "cycle" / "001").mkdir()
    campaign.write(train={"steps": 98})
    assert [cycle_section(campaign.folder / "config", "train", name).steps for name in ("000", "001")] == [99, 98]


def test_the_length_of_the_final_training_is_no_setting_of_a_cycle(tmp_path):
    campaign = Cycles(tmp_path)
    before = campaign.times()
    campaign.write(train={"steps_final": 12345})
    assert not campaign.touched(before)
    assert load_section(Train, campaign.folder / "config" / "train.json")[0].steps_final == 12345


def test_a_campaign_of_an_older_version_keeps_its_settings_and_their_times(tmp_path):
    campaign = Cycles(tmp_path)
    campaign.run(0, "continue")
    campaign.run(1, "continue")
    (campaign.folder / "cycle" / "002").mkdir()
    shutil.rmtree(campaign.folder / "config" / "cycle")
    old = campaign.folder / "config" / "train.json"
    os.utime(old, (1e9, 1e9))
    campaign.write(train={"steps": 99})
    assert [cycle_section(campaign.folder / "config", "train", f"00{k}").steps for k in range(3)] == [
        200_000,
        200_000,
        99,
    ]
    assert (campaign.folder / "config" / "cycle" / "001" / "train.json").stat().st_mtime == 1e9


@pytest.mark.parametrize("written", ["auto", "gamma"])
def test_labels_at_gamma_by_an_older_default_are_neither_mixed_nor_paid_for_again_unasked(tmp_path, written):
    """The remedies of the message work: each of them, written down, goes on."""
    site = Site()
    values = yaml.safe_load((PROJECT / "config" / "systems" / "tiny_water.yaml").read_text())
    values["label"].pop("kpoints", None)
    path = tmp_path / "old.yaml"
    path.write_text(yaml.safe_dump(values))
    folder = write_sections(load_campaign(path), site, tmp_path)
    old = json.loads((folder / "label.json").read_text()) | {"kpoints": "gamma"}
    for key in ("image_distance_angstrom", "error_frames"):
        del old[key]
    (folder / "label.json").write_text(json.dumps(old))
    write_sections(load_campaign(path), site, tmp_path)  # nothing is labelled yet
    (folder / "label.json").write_text(json.dumps(old))
    summary = folder.parent / "cycle" / "000" / "label" / "summary.json"
    summary.parent.mkdir(parents=True)
    summary.write_text("{}")
    with pytest.raises(ConfigError, match=r"label\.kpoints: .*tiny_water was labelled at Γ alone, .*`kpoints: auto`"):
        write_sections(load_campaign(path), site, tmp_path)
    values["label"]["kpoints"] = written
    path.write_text(yaml.safe_dump(values))
    write_sections(load_campaign(path), site, tmp_path)
    assert json.loads((folder / "label.json").read_text())["kpoints"] == written


def test_arms_begin_with_the_first_cycle(tmp_path):
    campaign = Cycles(tmp_path)
    campaign.run(0, "continue")
    campaign.write(select={"baselines": ["random"]})
    (campaign.folder / "cycle" / "001").mkdir()
    before = campaign.times()
    with pytest.raises(ConfigError, match=r"asks for arm/diversity/1, and cycle 0 was done without; baselines begin"):
        campaign.write(select={"baselines": ["random", "diversity"]})
    assert not campaign.touched(before)
    campaign.write(select={"baselines": []})


def test_a_plan_of_more_cycles_has_settings_for_them(tmp_path):
    campaign = Cycles(tmp_path)
    campaign.write(cycles=12)
    assert len(campaign.times()) == 4 * 12


def _numbers(rule):
    """Every rule of a number below a rule of JSON schema."""
    if rule.get("type") in ("integer", "number"):
        yield rule
    for part in (*rule.get("anyOf", []), *rule.get("prefixItems", []), *([rule["items"]] if "items" in rule else [])):
        yield from _numbers(part)


@pytest.mark.parametrize("model", [Campaign, Site])
def test_every_number_has_bounds(model):
    schema = model.model_json_schema(by_alias=True)
    unbounded = []
    for section in (schema, *schema["$defs"].values()):
        for key, rule in section.get("properties", {}).items():
            for number in _numbers(rule):
                low = {"minimum", "exclusiveMinimum"} & set(number)
                high = {"maximum", "exclusiveMaximum"} & set(number)
                if not (low and high):
                    unbounded.append(key)
    assert set(unbounded) <= {"kpoints"}


def test_help_and_config_import_nothing_heavy():
    heavy = {"torch", "tensorflow", "deepmd", "ase", "matplotlib", "pandas", "scipy", "MDAnalysis", "rdkit", "tblite"}
    code = (
        "import sys, mlpwf.cli as c, mlpwf.campaign.states, mlpwf.campaign.resolve; c._register(); "
        f"print(sorted({heavy!r} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
