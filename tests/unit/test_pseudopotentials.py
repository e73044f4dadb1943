"""Pseudopotential files: every format read, and every reason to refuse one."""

import hashlib
import re
from pathlib import Path

import pytest

from mlpwf.calculators.espresso.pseudopotentials import Level, check, read
from mlpwf.calculators.espresso.pw import pseudopotential_hashes
from mlpwf.config import Label
from mlpwf.errors import ConfigError, DataError

DEBIAN = Path("/usr/share/espresso/pseudo")
V2 = """<UPF version="2.0.1">
<PP_INFO>made up</PP_INFO>
<PP_HEADER generated='a > b "quoted"' element="{element}" pseudo_type="{kind}" relativistic="scalar"
 has_so="{spin_orbit}" functional="{functional}" z_valence="{valence}" wfc_cutoff="{cutoff}" rho_cutoff="{density}"/>
</UPF>
"""
V1 = """<PP_INFO>
    1        The Pseudo was generated with a Scalar-Relativistic Calculation
</PP_INFO>
<PP_HEADER>
   0                   Version Number
  {element}                    Element
   {kind}                  Ultrasoft pseudopotential
    F                  Nonlinear Core Correction
 {functional}    PBE  Exchange-Correlation functional
    {valence}      Z valence
    -5.34834           Total energy
  {cutoff} {density} Suggested cutoff for wfc and rho
    1                  Max angular momentum component
</PP_HEADER>
<PP_RHOATOM> </PP_RHOATOM>
"""
FACTS = {
    "element": " O",
    "kind": "US",
    "functional": " SLA  PW   PBX  PBC",
    "valence": "6.0D+00",
    "cutoff": "30.0",
    "density": "200.0",
    "spin_orbit": "F",
}
SETTINGS = {"cutoff_ry": 40, "density_cutoff_ry": 240}


def written(folder, text=V2, name="O.UPF", **facts):
    path = folder / name
    path.write_text(text.format(**FACTS | facts))
    return path


def checked(folder, label, **facts):
    written(folder, **facts)
    return check("O", Label(pseudopotentials={"O": "O.UPF"}, **SETTINGS | label), folder)


@pytest.mark.parametrize("text", [V1, V2])
def test_both_versions_of_upf_give_the_same_facts(tmp_path, text):
    found = read(written(tmp_path, text))
    assert (found.element, found.kind, found.functional, found.valence) == ("O", "US", "PBE", 6.0)
    assert (found.relativity, found.spin_orbit) == ("scalar", False)
    assert (found.cutoff_ry, found.density_cutoff_ry) == (30, 200)


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="no quantum-espresso-data")
def test_every_file_of_the_distribution_is_read_and_agrees_with_its_name():
    names, valences = {"pz": "LDA", "pbe": "PBE", "pbesol": "PBEsol", "blyp": "BLYP", "tpss": "TPSS"}, {}
    files = sorted(path for path in DEBIAN.iterdir() if path.name != "clean_ps")
    assert len(files) > 60
    for path in files:
        found = read(path)
        named = re.match(r"([A-Z][a-z]?)(?:s|el)?[._U](?:coulomb|(?:rel-)?([a-z]+))?", path.name)
        if named:
            assert found.element == named[1], path.name
            if named[2] in names:
                assert found.functional == names[named[2]], path.name
            valences.setdefault((found.element, found.valence), []).append(path.name)
        kinds = {"kjpaw": ("PAW", "US"), "rrkjus": ("US",), "van": ("US",), "vbc": ("NC",), "-mt": ("NC",)}
        expected = next((kind for word, kind in kinds.items() if word in path.name.lower()), None)
        assert expected is None or found.kind in expected, path.name
        assert found.spin_orbit == (found.relativity == "fully")
        assert ("rel-" in path.name) <= found.spin_orbit, path.name
        if "psl" in path.name:
            assert 25 < found.cutoff_ry < 80, path.name
    assert {("H", 1.0), ("C", 4.0), ("N", 5.0), ("O", 6.0)} <= set(valences)
    assert read(DEBIAN / "HUSPBE.RRKJ3").functional == read(DEBIAN / "H_US.van").functional == "PBE"
    with pytest.raises(DataError, match="clean_ps: no header of a pseudopotential"):
        read(DEBIAN / "clean_ps")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("<html>404 not found</html>", "no header of a pseudopotential"),
        ("", "no header of a pseudopotential"),
        ("\x7fELF\x00\xff", "no header of a pseudopotential"),
        (V2.format(**FACTS).replace("</UPF>", ""), "ends before its tables do"),
        (V1.format(**FACTS).replace("</PP_RHOATOM>", ""), "ends before its tables do"),
        (V2.format(**FACTS | {"valence": "six"}), "no header of a pseudopotential"),
        (V2.format(**FACTS).replace("element=", "atom="), "no header of a pseudopotential"),
        (V1.format(**FACTS).replace("Version Number", "").replace("  O  ", ""), "no header of a pseudopotential"),
    ],
)
def test_damaged_files_have_a_reason(tmp_path, content, reason):
    path = tmp_path / "O.UPF"
    path.write_text(content)
    with pytest.raises(DataError, match=reason):
        read(path)
    assert check("O", Label(pseudopotentials={"O": "O.UPF"}), tmp_path).level is Level.ERROR


@pytest.mark.parametrize(
    ("label", "made_with", "level"),
    [
        ("pbe", "PBE", Level.OK),
        ("rpbe", " SLA  PW   PBE  PBE", Level.NOTE),
        ("revpbe", "PBESOL", Level.NOTE),
        ("blyp", "SLA LYP B88 BLYP", Level.OK),
        ("blyp", "PBE", Level.WARNING),
        ("rpbe", "PW91", Level.WARNING),
        ("rpbe", "XC-001I-000L", Level.WARNING),
        ("rpbe", "PZ", Level.ERROR),
        ("rpbe", " SLA  PZ   NOGX NOGC", Level.ERROR),
        ("rpbe", " SLA  PW   TPSS TPSS", Level.ERROR),
    ],
)
def test_the_functional_it_was_made_with(tmp_path, label, made_with, level):
    assert checked(tmp_path, label={"functional": label}, functional=made_with).level is level


@pytest.mark.parametrize(
    ("facts", "level", "said"),
    [
        ({"element": "N"}, Level.ERROR, "is for N; O expected"),
        ({"valence": "3.98"}, Level.ERROR, "valence is 3.98"),
        ({"spin_orbit": ".true."}, Level.WARNING, "no spin-orbit term"),
        ({"kind": "1/r"}, Level.WARNING, "bare Coulomb"),
        ({"cutoff": "45"}, Level.WARNING, "suggests 45 Ry; label.cutoff_ry is 40"),
        ({"density": "320"}, Level.WARNING, "suggests 320 Ry; label.density_cutoff_ry is 240"),
        ({"cutoff": "40.4", "density": "240.3"}, Level.OK, ""),
        ({"cutoff": "0.0", "density": "990"}, Level.OK, ""),
    ],
)
def test_findings(tmp_path, facts, level, said):
    found = checked(tmp_path, label={"functional": "pbe"}, **facts)
    assert found.level is level
    assert said in " ".join(text for _, text in found.findings)


def test_a_file_with_another_sum_is_refused_by_the_check_and_by_the_labels(tmp_path):
    path = written(tmp_path)
    table = {"pseudopotentials": {"O": "O.UPF"}, "functional": "pbe", **SETTINGS}
    right = Label(**table, pseudopotential_sums={"O": hashlib.md5(path.read_bytes()).hexdigest()})
    wrong = Label(**table, pseudopotential_sums={"O": "0" * 32})
    assert check("O", right, tmp_path).level is Level.OK
    assert pseudopotential_hashes(["O"], right, tmp_path) == right.pseudopotential_sums
    assert check("O", wrong, tmp_path).level is Level.ERROR
    with pytest.raises(
        ConfigError, match=r"pseudopotential_sums\.O: .*O\.UPF has MD5 sum [0-9a-f]{32}; 0{32} expected"
    ):
        pseudopotential_hashes(["O"], wrong, tmp_path)


def test_missing_files_and_elements(tmp_path):
    label = Label(pseudopotentials={"O": "O.UPF"})
    assert "no file" in check("O", label, tmp_path).findings[0][1]
    assert "no file is named" in check("Xe", label, tmp_path).findings[0][1]


@pytest.mark.parametrize("sums", [{"O": "abc"}, {"O": "g" * 32}, {"Xe": "0" * 32}])
def test_sums_that_cannot_be_are_refused_by_the_config(sums):
    with pytest.raises(ValueError, match="pseudopotential_sums"):
        Label(pseudopotential_sums=sums)
