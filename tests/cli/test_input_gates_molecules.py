"""Molecules and configs that were once taken wrongly in silence: each ends in one line, or as what is meant."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mlpwf.config import load_campaign
from mlpwf.errors import ConfigError
from mlpwf.structures.boxes import cell_length
from mlpwf.structures.species import geometry

CASES = Path(__file__).parents[1] / "data" / "cases"
WATER = {"name": "x", "system": {"molecules": {"water": {"smiles": "O"}}, "density_g_cm3": 1.0}}


def mlpwf(folder, *words):
    """A verb as a user runs it; its lines on standard error."""
    done = subprocess.run(
        [str(Path(sys.executable).parent / "mlpwf"), *map(str, words)], cwd=folder, capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr.splitlines()


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("configs/dup.yaml", "label: given twice (lines 3 and 5); expected once: join the two or rename one"),
        ("configs/dup2.yaml", "system.molecules.w: given twice (line 2); expected once: join the two or rename one"),
        ("configs/no.yaml", "system.molecules.hydroxylamine.smiles (line 2): NO is true or false to YAML; put it in"),
        ("molecules/d2o.yaml", "system.molecules.x.smiles: '[2H]O[2H]' has the isotope 2H; expected none"),
        ("molecules/pdb.yaml", "noel.pdb names no element for 15 of 15 atoms; expected one in columns 77 and 78"),
    ],
)
def test_a_case_is_one_line_of_the_program(file, message, tmp_path):
    (tmp_path / "site.yaml").write_text("label_store: store\n")
    code, _, lines = mlpwf(tmp_path, "plan", CASES / file, "--site", "site.yaml")
    assert code == 2
    assert len(lines) == 1, lines
    assert lines[0].startswith("mlpwf: ")
    assert message in lines[0]


def test_a_case_that_can_be_read_is_what_is_meant(tmp_path):
    (tmp_path / "site.yaml").write_text("label_store: store\n")
    code, plan, lines = mlpwf(tmp_path, "plan", CASES / "molecules" / "gly.yaml", "--site", "site.yaml")
    assert code == 0, lines
    assert "20 atoms a label" in plan  # two of C2H6O2
    assert set(lines) == {
        "system.molecules.x.structure: flat.mol: 6 hydrogens added by valence; a new geometry of C2H6O2"
    }
    campaign = load_campaign(CASES / "molecules" / "gly.yaml")
    glycol = geometry("x", campaign.system.molecules["x"], 1)
    edge = (2 * 62.068 / (1.11 * 0.602214076)) ** (1 / 3)
    assert cell_length([glycol], [2], 1.11) == pytest.approx(edge, abs=1e-3)


def test_the_word_no_is_a_smiles_in_quotes_as_the_message_says(tmp_path):
    text = (CASES / "configs" / "no.yaml").read_text().replace("smiles: NO", "smiles: 'NO'")
    (tmp_path / "c.yaml").write_text(text)
    molecule = load_campaign(tmp_path / "c.yaml").system.molecules["hydroxylamine"]
    assert geometry("x", molecule, 1).get_chemical_formula() == "H3NO"


def test_a_key_given_twice_joined_as_the_message_says(tmp_path):
    (tmp_path / "c.yaml").write_text(
        "name: a\nsystem: {molecules: {w: {smiles: O, count: 2}}, density_g_cm3: 1.0}\n"
        "label: {cutoff_ry: 40, density_cutoff_ry: 300}\n"
    )
    label = load_campaign(tmp_path / "c.yaml").label
    assert (label.cutoff_ry, label.density_cutoff_ry) == (40, 300)


VALUES = {
    "temperature of production twice": ("simulate.temperatures_kelvin", [300, 300], "300 is given twice; expected"),
    "temperatures of one folder": ("simulate.temperatures_kelvin", [300.00001, 300.00002], "300 is given twice"),
    "temperature of exploration twice": ("explore.temperatures_kelvin", [300, 300.0], "300 is given twice"),
    "density of exploration twice": ("explore.densities_g_cm3", [0.9, 0.9], "0.9 is given twice"),
    "pressure of exploration twice": ("explore.pressures_bar", [1, 1], "1 is given twice"),
    "temperature of the sampler twice": ("build.temperatures_kelvin", [300, 300], "300 is given twice"),
    "density scale twice": ("build.density_scales", [1.0, 1], "1 is given twice"),
    "box multiple twice": ("build.box_multiples", [1, 1], "1 is given twice"),
    "wavevector twice": ("analyse.wavevectors_per_angstrom", [1.3, 1.3], "1.3 is given twice"),
    "Legendre order twice": ("analyse.legendre_orders", [2, 2], "2 is given twice"),
    "no neurons": ("train.embedding_neurons", [25, 0], "train.embedding_neurons.1: is 0; input should be greater"),
    "neurons below none": ("train.fitting_neurons", [-120], "train.fitting_neurons.0: is -120"),
    "millions of neurons": ("train.fitting_neurons", [10**7], "less than or equal to 4096"),
    "wavevector 0": ("analyse.wavevectors_per_angstrom", [0], "is 0; input should be greater than 0"),
    "wavevector below 0": ("analyse.wavevectors_per_angstrom", [-1.3], "is -1.3; input should be greater than 0"),
    "Legendre order 0": ("analyse.legendre_orders", [0], "is 0; input should be greater than or equal to 1"),
    "Legendre order 300": ("analyse.legendre_orders", [300], "less than or equal to 20"),
    "element Xx": ("label.pseudopotentials", {"Xx": "x.UPF"}, "'Xx' is no element; expected a symbol such as C"),
    "element in capitals": ("label.pseudopotentials", {"CL": "cl.UPF"}, "'CL' is no element"),
    "rate that rises": ("train.learning_rate_final", 1e-2, "learning_rate_final is 0.01; expected at most"),
    "rate that rises later": ("train.learning_rate_continued", 1e-7, "at most learning_rate_continued = 1e-07"),
    "true for a number": ("system.molecules.water.count", True, "is True; expected a number or a word"),
    "true in a list": ("explore.temperatures_kelvin", [True], "expected a number or a word, not true or false"),
    "1 for true": ("train.continue_models", 1, "train.continue_models: is 1; expected true or false"),
    "number for a SMILES": ("system.molecules.water.smiles", 5, "input should be a valid string; put it in quotes"),
    "list for a SMILES": ("system.molecules.water.smiles", ["CH2"], "is ['CH2']; input should be a valid string; put"),
    "time step of nothing": ("simulate.timestep_fs", 1e-9, "greater than or equal to 0.001"),
    "a run of ages": ("simulate.length_ps", 1e12, "less than or equal to 1000000000"),
    "half a step": ("train.steps", 10.5, "input should be a valid integer"),
    "more frames than can be": ("build.bulk_frames", 10**9, "less than or equal to 1000000"),
    "a pressure of a star": ("explore.pressures_bar", [1e15], "less than or equal to 10000000"),
}  # fmt: skip


@pytest.mark.parametrize("name", VALUES)
def test_a_value_that_cannot_be_meant_is_one_line(name, tmp_path):
    key, value, message = VALUES[name]
    values = yaml.safe_load(yaml.safe_dump(WATER))
    *path, last = key.split(".")
    part = values
    for word in path:
        part = part.setdefault(word, {})
    part[last] = value
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError) as caught:
        load_campaign(tmp_path / "c.yaml")
    assert message in str(caught.value)
    assert key.split(".")[0] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_numbers_written_as_people_write_them_are_taken(tmp_path):
    (tmp_path / "c.yaml").write_text(
        "name: x\nsystem: {molecules: {w: {smiles: O}}, density_g_cm3: 9.97e-1}\n"
        "label: {convergence_ry: 1e-6}\ntrain: {steps: 1e5, learning_rate_final: 1e-6, continue_models: false}\n"
    )
    campaign = load_campaign(tmp_path / "c.yaml")
    assert campaign.label.convergence_ry == 1e-6
    assert campaign.train.steps == 100_000
    assert campaign.system.density_g_cm3 == 0.997
