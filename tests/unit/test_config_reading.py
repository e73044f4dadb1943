"""The reader of YAML: what may mean two things is one line with key and line; what means one thing is read."""

import json

import pytest

from mlpwf.config import Label, Report, Select, Site, Validate, load_campaign, load_section, load_site, read_yaml
from mlpwf.config.label import DEFAULT_PSEUDOPOTENTIALS
from mlpwf.errors import ConfigError, MlpwfError

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefg", "bcdefgh", strict=True)
)
REFUSED = {
    "key twice": ("label: {cutoff_ry: 40}\ntrain: {}\nlabel: {}\n", "label: given twice (lines 1 and 3); expected"),
    "key twice in one line": ("a: {w: 1, w: 2}", "a.w: given twice (line 1)"),
    "key twice in a list": ("a:\n- {b: 1}\n- {b: 1,\n   b: 2}\n", "a.1.b: given twice (lines 3 and 4)"),
    "key twice, once quoted": ("a: 1\n'a': 2\n", "a: given twice (lines 1 and 2)"),
    "merge key twice": ("a: &a {x: 1}\nb:\n  <<: *a\n  <<: *a\n", "b.<<: given twice (lines 3 and 4)"),
    "NO": ("smiles: NO", "smiles (line 1): NO is true or false to YAML; put it in quotes"),
    "yes": ("a: [x, yes]", "a.1 (line 1): yes is true or false"),
    "on": ("a: on", "a (line 1): on is true or false"),
    "nobelium": ("No: no.UPF", "the file (line 1): No is true or false"),
    "octal": ("a: 010", "a (line 1): 010 is an octal number to YAML"),
    "octal with a sign": ("a: -010", "-010 is an octal number"),
    "octal of YAML 1.2": ("a: 0o10", "0o10 is an octal number"),
    "tagged octal": ("a: !!int 010", "010 is an octal number"),
    "hexadecimal": ("a: 0x10", "0x10 is no decimal number"),
    "binary": ("a: 0b10", "0b10 is no decimal number"),
    "sexagesimal": ("a: 1:30", "1:30 is a number to base 60"),
    "time": ("a: [--t, 12:00:00]", "12:00:00 is a number to base 60"),
    "D exponent": ("a: 1.0D+01", "1.0D+01 is a number of Fortran; put it in quotes if it is a word, else write e"),
    "small d": ("a: .5d0", ".5d0 is a number of Fortran"),
    "nan": ("a: .nan", "a (line 1): .nan is no finite number"),
    "infinity": ("a: -.inf", "-.inf is no finite number"),
    "1e300": ("a: 1e300", "1e300 is out of all bounds"),
    "1e400": ("a: 1e400", "1e400 is out of all bounds"),
    "1e-300": ("a: 1e-300", "1e-300 is out of all bounds"),
    "1e-400": ("a: 1e-400", "1e-400 is out of all bounds"),
    "6,000 digits": (f"a: {'1' * 6000}", "(6000 signs) is out of all bounds"),
    "3,000 deep": (f"a: {'[' * 3000}{']' * 3000}", "nested more than 40 deep (line 1)"),
    "3,000 maps deep": (f"{'{a: ' * 3000}1{'}' * 3000}", "nested more than 40 deep"),
    "bomb": (BOMB, "more than 100000 values, its aliases written out"),
    "alias in itself": ("a: &a [1, *a]", "an alias that holds itself"),
    "alias of nothing": ("a: *b", "not a YAML file"),
    "list as key": ("? [a, b]\n: 1\n", "a key is a list or a mapping; expected a word"),
    "two documents": ("a: 1\n---\na: 2\n", "not a YAML file"),
    "tab": ("a:\n\tb: 1\n", "not a YAML file"),
    "brackets": ("smiles: [O][O]", "not a YAML file"),
    "object": ("a: !!python/name:os.system x", "not a YAML file"),
    "tagged word": ("a: !!int x", "not a YAML file"),
}  # fmt: skip
READ = {
    "exponent without a point": ("a: [1e-6, 1e6, -2E+3, 5.e1]", {"a": [1e-6, 1e6, -2e3, 50.0]}),
    "numbers": ("a: [0, -1, +2, 1_000, 0.5, .5, 1.]", {"a": [0, -1, 2, 1000, 0.5, 0.5, 1.0]}),
    "true and false": ("a: [true, False]", {"a": [True, False]}),
    "quoted words": ("a: ['NO', \"010\", '1:30', '1e-6']", {"a": ["NO", "010", "1:30", "1e-6"]}),
    "told to be a word": ("a: !!str 010", {"a": "010"}),
    "a date is a word": ("a: 2024-01-01", {"a": "2024-01-01"}),
    "nothing": ("a:\nb: null\n", {"a": None, "b": None}),
    "alias": ("a: &a [1]\nb: *a\n", {"a": [1], "b": [1]}),
    "merged": ("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n", {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}}),
    "byte order mark": ("\ufeffa: 1\r\nb: 2\r\n", {"a": 1, "b": 2}),
    "SMILES": ("a: [C#N, CC(=O)O, N]", {"a": ["C#N", "CC(=O)O", "N"]}),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_two_meanings_is_one_line(name, tmp_path):
    text, message = REFUSED[name]
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    for load in (read_yaml, load_campaign, load_site):
        with pytest.raises(ConfigError) as caught:
            load(tmp_path / "c.yaml")
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize("name", READ)
def test_what_has_one_meaning_is_read(name, tmp_path):
    text, expected = READ[name]
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8", newline="")
    found = read_yaml(tmp_path / "c.yaml")
    assert found == expected
    assert repr(found) == repr(expected), "a type differs"


@pytest.mark.parametrize("name", ["NO", "yes", "010", "1:30", "1.0D+01", "0x10"])
def test_in_quotes_it_is_the_word_as_the_message_says(name, tmp_path):
    (tmp_path / "c.yaml").write_text(f"a: {name}")
    with pytest.raises(ConfigError, match="put it in quotes"):
        read_yaml(tmp_path / "c.yaml")
    (tmp_path / "c.yaml").write_text(f"a: '{name}'")
    assert read_yaml(tmp_path / "c.yaml") == {"a": name}


def test_what_is_no_file_of_text(tmp_path):
    (tmp_path / "latin.yaml").write_bytes("a: Å".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"not a YAML file .* save it as UTF-8"):
        read_yaml(tmp_path / "latin.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_yaml(tmp_path)
    (tmp_path / "giant.yaml").write_text("a: " + "x" * 2_000_000)
    with pytest.raises(ConfigError, match=r"2\.0 MB; expected a config file, of at most 1 MB"):
        read_yaml(tmp_path / "giant.yaml")
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    with pytest.raises(ConfigError, match="found NoneType; expected a mapping"):
        load_campaign(tmp_path / "empty.yaml")


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        ("select: {arms: [random], arm_seeds: 2}", "arms", "baselines"),
        ("train: {conversion_tolerance_ev_angstrom: 0.01}", "conversion_tolerance", "compression_tolerance"),
    ],
)
def test_a_key_by_its_earlier_name_is_read_with_one_warning(tmp_path, caplog, text, old, new):
    file = tmp_path / "system.yaml"
    file.write_text(f"name: x\nsystem: {{molecules: {{water: {{smiles: O, count: 2}}}}, density_g_cm3: 1}}\n{text}\n")
    campaign = load_campaign(file)
    assert campaign.select.baselines == (["random"] if "arms" in text else [])
    (record,) = caplog.records
    assert old in record.message
    assert new in record.message
    assert str(file) in record.message


def test_a_key_by_both_names_is_refused(tmp_path):
    file = tmp_path / "site.yaml"
    file.write_text("slurm: {most_cores: 4, max_cores: 8}\n")
    with pytest.raises(ConfigError, match="most_cores is called max_cores now, and both are given"):
        load_site(file)


def test_a_resolved_section_of_the_version_before_is_read_without_a_word(tmp_path, caplog):
    file = tmp_path / "select.json"
    file.write_text(json.dumps({"arms": ["diversity"], "seed": 1}))
    assert load_section(Select, file)[0].baselines == ["diversity"]
    assert not caplog.records


def test_a_verb_takes_the_campaigns_own_file_where_it_takes_a_resolved_section(tmp_path):
    campaign = tmp_path / "water.yaml"
    campaign.write_text(
        "name: x\nseed: 7\nsystem: {molecules: {water: {smiles: O, count: 4}}, density_g_cm3: 1}\n"
        "label: {cutoff_ry: 40, pseudopotentials: {Cl: Cl.upf}}\nvalidate: {nve_ps: 3}\n"
    )
    label, seed = load_section(Label, campaign)
    assert (label.cutoff_ry, seed) == (40, 7)
    assert label.pseudopotentials == {**DEFAULT_PSEUDOPOTENTIALS, "Cl": "Cl.upf"}
    assert load_section(Validate, campaign)[0].nve_ps == 3
    assert load_section(Report, campaign)[0].title == "x"
    (tmp_path / "site.yaml").write_text("md_threads: 3\n")
    assert load_section(Site, tmp_path / "site.yaml")[0].md_threads == 3


def test_no_message_asks_to_delete_a_users_own_file(tmp_path):
    mine = tmp_path / "mine.json"
    for text, said in (("name: x", "not a JSON file"), ("[1]", "no resolved section; expected results/NAME/config")):
        mine.write_text(text)
        with pytest.raises(MlpwfError, match=said) as caught:
            load_section(Label, mine)
        assert "delete" not in str(caught.value).split("mine.json")[1]
