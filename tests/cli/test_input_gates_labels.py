"""Labels as users have them: taken rightly, or refused in one line whose remedy works when followed."""

import gzip
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import dpdata
import numpy as np
import pytest
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1]))

from mlpwf.calculators.espresso import pw
from mlpwf.config import Label, Site
from mlpwf.errors import MlpwfError
from mlpwf.files import write_json
from mlpwf.label import import_export
from mlpwf.label.archive import write_archive
from mlpwf.label.commands import app
from mlpwf.label.foreign import Refused
from mlpwf.label.record import raw_of
from mlpwf.label.sources import find_sources
from mlpwf.label.store import Store
from real_outputs import PHYSICS, SETTINGS, copy_outputs, espresso, store_of_outputs

CASES = Path(__file__).parents[1] / "data" / "cases" / "labels"
FORCES = [[-0.31, 0.42, 0.11], [0.21, -0.18, 0.05], [0.1, -0.24, -0.16]]
LOW = Label(cutoff_ry=25, density_cutoff_ry=100, convergence_ry=1e-7, kpoints="gamma")
MIDDLE = Label(cutoff_ry=30, density_cutoff_ry=180, convergence_ry=1e-7, kpoints="gamma")


@pytest.fixture
def place(tmp_path, caplog):
    """A folder with sections of a practice engine, which needs no pseudopotentials, and the verb."""
    caplog.set_level(logging.INFO, logger="mlpwf")
    write_json(tmp_path / "label.json", Label(engine="gfn1").model_dump(mode="json") | {"seed": 1})
    write_json(tmp_path / "site.json", Site(label_store=str(tmp_path / "store")).model_dump(mode="json") | {"seed": 1})
    return tmp_path


@pytest.fixture
def take(place, caplog):
    """`label import`: what it said, its last line last; an error that is no line fails the test."""

    def run(*words, verb="import"):
        caplog.clear()
        sections = ["--config", place / "label.json"] if verb == "import" else []
        result = CliRunner().invoke(app, [verb, *map(str, [*words, *sections, "--site", place / "site.json"])])
        if result.exception is not None and not isinstance(result.exception, MlpwfError):
            raise result.exception
        said = [*caplog.messages, *([str(result.exception)] if result.exception else [])]
        assert all("\n" not in line and "delete" not in line for line in said)
        return said

    return run


def records(place):
    store = Store(place / "store")
    return [store.get(key) for key in store.all_keys()]


def outputs(folder, settings):
    return list(import_export.read_all(find_sources([folder]), espresso(settings)))


# ---------------------------------------------------------------- the cases that were taken wrongly


@pytest.mark.parametrize("name", ["movemask", "force", "virial", "voigt"])
def test_a_case_is_taken_as_its_file_says(name, place, take):
    *said, last = take(CASES / f"{name}.extxyz", "--asserted")
    assert last == "label import: 1 imported, 0 known, 0 refused"
    (record,) = records(place)
    forces = sorted(record.forces_ev_angstrom)
    assert forces == sorted(FORCES)
    stress = np.array(record.stress_ev_angstrom3)
    expected = [[0.011, 0.002, 0.003], [0.002, 0.012, 0.001], [0.003, 0.001, 0.013]]
    assert np.allclose(stress, expected, rtol=0, atol=2e-5)
    told = {"force": "−dE/dx, in eV/Å", "virial": "−stress × volume, in eV", "voigt": "xx, yy, zz, yz, xz, xy in eV/Å³"}
    assert [told[name] in line for line in said] == [True] * (name in told)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "both.extxyz",
            "the stress of 'stress' is 0.013 eV/Å³ where that of 'virial', as −virial / volume, is",
        ),
        ("asym.extxyz", "the stress of xy, xz, yz is "),
        ("npy_noforce", "incomplete: no set.000/force.npy; coord, box, energy, force, virial expected in every set"),
    ],
)
def test_a_case_is_refused_by_name(name, words, place, take):
    line, last = take(CASES / name, "--asserted")
    assert words in line
    assert last.startswith("0 imported, 0 known, 1 refused (1 ")
    assert last.endswith("mend what the lines above name, or leave these labels")
    assert records(place) == []


@pytest.mark.parametrize(("name", "left"), [("both.extxyz", "stress"), ("asym.extxyz", None)])
def test_what_a_refusal_asks_for_is_enough(name, left, place, take):
    text = (CASES / name).read_text()
    mended = re.sub(r' virial="[^"]*"', "", text) if left else text.replace("0.009", "0.002").replace("0.004", "0.003")
    mended = mended.replace("0.008", "0.001")
    (place / name).write_text(mended)
    assert take(place / name, "--asserted")[-1] == "label import: 1 imported, 0 known, 0 refused"


# ---------------------------------------------------------------- outputs of pw.x


def printed_forces(path):
    rows = re.findall(r"atom +\d+ type +\d+ +force = +(\S+) +(\S+) +(\S+)", path.read_text())[:3]
    return np.array(rows, float) * 13.605693 / 0.529177


@pytest.mark.parametrize(
    ("name", "settings", "version"),
    [
        ("fixed_atoms", MIDDLE, "6.7MaX"),
        ("qe72_default", LOW, "7.2"),
        ("qe72_fixed", LOW, "7.2"),
        ("qe67_25ry", LOW, "6.7MaX"),
    ],
)
def test_an_output_is_taken_as_it_is_printed(name, settings, version):
    (found,) = outputs(CASES / name, settings)
    assert not isinstance(found, Refused), str(found)
    assert found.version == version
    assert np.allclose(found.result.properties.forces, printed_forces(CASES / name / "scf.out"), rtol=1e-5, atol=1e-6)


def test_two_versions_and_fixed_atoms_give_the_same_label():
    """pw.x holds atoms by no force: what it prints of them is what it prints where they are free."""
    results = [outputs(CASES / name, LOW)[0].result.properties for name in ("qe67_25ry", "qe72_default", "qe72_fixed")]
    for result in results[1:]:
        assert result.energy == pytest.approx(results[0].energy, abs=1e-6)
        assert np.allclose(result.forces, results[0].forces, rtol=0, atol=1e-6)
        assert np.allclose(result.stress, results[0].stress, rtol=0, atol=2e-6)


@pytest.mark.parametrize(("name", "settings"), [("fixed_atoms", MIDDLE), ("qe72_fixed", LOW)])
def test_an_output_with_fixed_atoms_asks_for_its_input(name, settings, tmp_path):
    shutil.copy(CASES / name / "scf.out", tmp_path)
    (found,) = outputs(tmp_path, settings)
    assert "if atoms are fixed, put the input, which says which, beside the output" in found.detail
    shutil.copy(CASES / name / "scf.in", tmp_path)
    assert not isinstance(outputs(tmp_path, settings)[0], Refused)


def test_fixed_atoms_are_known_of_an_input_whose_cell_ase_cannot_read(tmp_path):
    shutil.copytree(CASES / "qe72_fixed", tmp_path / "run")
    text = (tmp_path / "run" / "scf.in").read_text()
    head, cell, rest = re.split(r"(CELL_PARAMETERS angstrom\n(?:.*\n){3})", text)
    (tmp_path / "run" / "scf.in").write_text(head.replace("ibrav=0", "ibrav=8, A=5.1, B=5.4, C=5.9") + rest)
    assert cell
    (found,) = outputs(tmp_path / "run", LOW)
    assert not isinstance(found, Refused), str(found)


def replaced(folder, *pairs, name="water"):
    text = (folder / f"{name}.out").read_text()
    for old, new in pairs:
        assert re.search(old, text, re.M), old
        text = re.sub(old, new, text, count=1, flags=re.M)
    (folder / f"{name}.out").write_text(text)


BAD = {
    "an exponent by D in a force": (r"0\.16401982", "0.164D+00", "no number as pw.x writes it"),
    "an exponent by D in the energy": (
        r"^(!.*= +)-34\.3\d+",
        r"\1-0.343D+02",
        "no number as pw.x writes it",
    ),
    "an exponent by D in the cell": (r"celldm\(1\)= +\d+\.\d+", "celldm(1)=  0.113D+02", "no number as pw.x writes it"),
    "an exponent by D in the threshold": (r"1\.0E-08", "1.0D-08", "no number as pw.x writes it"),
    "one SCF step at another cut-off": (
        r"ecut= +30\.00",
        "ecut=    25.00",
        "of an SCF step in Ry is 25, 30 exp",
    ),
    "one SCF step of another mixing": (r"beta= +0\.\d+", "beta= 0.31", "the mixing factor of an SCF step is 0.31"),
    "a step that is not there": (r"^ +iteration # +2 .*\n", "", "SCF steps, "),
    "atoms that are not there": (r"atoms/cell +=( +)3", r"atoms/cell      =\g<1>4", "the number of atoms is 4, 3 exp"),
    "another volume": (r"unit-cell volume +=( +)\d", r"unit-cell volume          =\g<1>7", "the volume in bohr³ is 7"),
    "another lattice parameter": (r"\(alat\) +=( +)1", r"(alat)  =\g<1>2", "the lattice parameter in bohr is 2"),
    "electrons that are not there": (
        r"renormalised to +8",
        "renormalised to    7",
        "the SCF starts from is 7",
    ),
    "forces on other types": (r"(atom +2 type) +2", r"\1  1", "the types of the atoms the forces act on"),
    "no first line": (r"^ +Program PWSCF.*\n", "", "0 lines of program start, 1 expected"),
    "no head at all": (r"(?s)^.*?(?=     bravais-lattice)", "", "0 lines of program start, 1 expected"),
    "no head and no SCF": (r"(?s)^.*?(?=     Forces acting)", "", "0 lines of program start, 1 expected"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_output_is_named_and_the_others_are_judged(name, tmp_path):
    """`water.out` is bad; `waters.out` beside it is taken."""
    copy_outputs(tmp_path)
    old, new, words = BAD[name]
    replaced(tmp_path, (old, new))
    bad, good = outputs(tmp_path, SETTINGS)
    assert isinstance(bad, Refused)
    assert words in bad.detail, bad.detail
    assert bad.source == str(tmp_path / "water.out")
    assert "\n" not in str(bad)
    assert not isinstance(good, Refused)


def test_the_head_of_one_run_with_the_body_of_another_is_refused(tmp_path):
    """The same structure at 25 and at 30 Ry: energies differ, and nothing but the SCF steps tells."""
    head = (CASES / "qe72_default" / "scf.out").read_text().replace("25.0000  Ry", "30.0000  Ry")
    assert head.count("30.0000  Ry") == 1
    shutil.copy(CASES / "qe72_default" / "scf.in", tmp_path)
    (tmp_path / "scf.out").write_text(head)
    settings = LOW.model_copy(update={"cutoff_ry": 30.0, "density_cutoff_ry": 100.0})
    (found,) = outputs(tmp_path, settings)
    assert found.detail == "the cut-off of an SCF step in Ry is 25, 30 expected"


def test_a_reader_that_fails_costs_one_label(tmp_path, monkeypatch):
    """Whatever a library raises of a text, the others are judged."""
    copy_outputs(tmp_path)
    read = pw.read_output

    def failing(text, volume):
        if text == (tmp_path / "water.out").read_text():
            raise RuntimeError("a reader\nthat fails")
        return read(text, volume)

    monkeypatch.setattr(pw, "read_output", failing)
    bad, good = outputs(tmp_path, SETTINGS)
    assert bad.detail == "a reader that fails"
    assert not isinstance(good, Refused)


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_judged(tmp_path):
    copy_outputs(tmp_path)
    (tmp_path / "waters.out").unlink()
    (tmp_path / "broken").symlink_to("/proc/self/mem")
    bad, good = outputs(tmp_path, SETTINGS)
    assert "broken: unreadable: it cannot be read (OSError" in str(bad)
    assert not isinstance(good, Refused)


# ---------------------------------------------------------------- told by what they hold


@pytest.mark.parametrize("name", ["scf.log", "slurm-17", "output", "water.extxyz", "run.pwo"])
def test_an_output_is_found_by_any_name(name, tmp_path):
    copy_outputs(tmp_path)
    (tmp_path / "waters.out").unlink()
    (tmp_path / "water.out").rename(tmp_path / name)
    for given in (tmp_path, tmp_path / name):
        assert find_sources([given]).outputs == [tmp_path / name]


@pytest.mark.parametrize("name", ["frames", "frames.txt", "frames.out", "train.xyz"])
def test_frames_are_taken_by_any_name(name, place, take):
    shutil.copy(CASES / "movemask.extxyz", place / name)
    assert take(place / name, "--asserted")[-1] == "label import: 1 imported, 0 known, 0 refused"


def test_frames_in_a_folder_are_named(place, take):
    (place / "data").mkdir()
    shutil.copy(CASES / "movemask.extxyz", place / "data" / "frames.txt")
    (line,) = take(place / "data", "--asserted")
    found = re.search(r"it holds (\S+): name that itself", line)
    assert take(found[1], "--asserted")[-1] == "label import: 1 imported, 0 known, 0 refused"


def test_a_packed_output_is_to_be_unpacked(place, take):
    copy_outputs(place)
    packed = place / "water.out.gz"
    packed.write_bytes(gzip.compress((place / "water.out").read_bytes()))
    (line,) = take(packed)
    assert line.endswith("unpack it by gunzip")
    (place / "water.out").unlink()
    subprocess.run(["gunzip", packed], check=True)
    assert find_sources([place / "water.out"]).outputs == [place / "water.out"]


@pytest.mark.parametrize("name", ["archive", "archive.txt", "labels.jsonl", "labels.jsonl.gz", "labels.gz"])
def test_an_archive_is_read_packed_or_not_by_any_name(name, place, take):
    copy_outputs(place)
    write_json(place / "label.json", SETTINGS.model_dump(mode="json") | {"seed": 1})
    write_archive(place / "made.jsonl.gz", store_of_outputs(place / "."), None)
    content = (place / "made.jsonl.gz").read_bytes()
    packed = name in ("archive", "labels.jsonl.gz", "labels.gz")
    (place / name).write_bytes(content if packed else gzip.decompress(content))
    assert find_sources([place / name]).archives == [place / name]
    assert find_sources([place / name, CASES / "force.extxyz"]).frames == [CASES / "force.extxyz"]


def test_a_cut_archive_does_not_end_an_import(place, take):
    shutil.rmtree(place / "store", ignore_errors=True)
    assert take(CASES / "movemask.extxyz", "--asserted")[-1].startswith("label import: 1 imported")
    take("--out", place / "whole.jsonl.gz", verb="export")
    content = (place / "whole.jsonl.gz").read_bytes()
    (place / "cut.jsonl.gz").write_bytes(content[:-20])
    line, last = take(place / "cut.jsonl.gz", place / "whole.jsonl.gz")
    assert "cut.jsonl.gz: unreadable: no whole archive of labels" in line
    assert last == "label import: 0 imported, 1 known, 1 refused (1 unreadable)"


def test_a_record_that_cannot_be_a_label_is_refused_in_an_archive_too(place, take):
    assert take(CASES / "movemask.extxyz", "--asserted")[-1].startswith("label import: 1 imported")
    store = Store(place / "store")
    (key,) = store.all_keys()
    record = store.get(key)
    record.forces_ev_angstrom[0] = [0.0, 0.0, 0.0]
    store.put(key, record)
    take("--out", place / "all.jsonl.gz", verb="export")
    line, _ = take(place / "all.jsonl.gz")
    assert "contradiction: the forces add up to" in line
    assert "has the force 0 0 0, which is not that of an atom held fixed" in line
    *_, last = take_check(place)
    assert "1 damaged" in last


def take_check(place):
    command = [sys.executable, "-m", "mlpwf", "label", "check", "--site", str(place / "site.json")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    return result.stderr.splitlines()


def test_a_store_is_no_source_but_its_archive_is(place, take):
    assert take(CASES / "movemask.extxyz", "--asserted")[-1].startswith("label import: 1 imported")
    (line,) = take(place / "store")
    assert "store: is a label store; expected labels outside one" in line
    assert "take an archive of it by mlpwf label export" in line
    take("--out", place / "all.jsonl.gz", verb="export")
    assert take(place / "all.jsonl.gz")[-1] == "label import: 0 imported, 1 known, 0 refused"


def test_raw_data_of_deepmd_are_to_be_converted(place, take):
    shutil.copytree(CASES / "npy_noforce", place / "npy")
    np.save(place / "npy" / "set.000" / "force.npy", np.array(FORCES * 2).reshape(2, 9))
    dpdata.LabeledSystem(str(place / "npy"), fmt="deepmd/npy").to("deepmd/raw", str(place / "raw"))
    (line,) = take(place / "raw", "--asserted")
    assert line.endswith("raw holds no set.*/*.npy: convert it to deepmd/npy by dpdata")
    dpdata.LabeledSystem(str(place / "raw"), fmt="deepmd/raw").to("deepmd/npy", str(place / "converted"))
    last = take(place / "converted", "--asserted")[-1]
    assert last == "label import: 2 imported, 0 known, 0 refused"
    dpdata.LabeledSystem(str(place / "npy"), fmt="deepmd/npy").to("deepmd/hdf5", str(place / "data.hdf5"))
    (line,) = take(place / "data.hdf5", "--asserted")
    assert line.endswith("convert it to deepmd/npy by dpdata")
    dpdata.LabeledSystem(str(place / "data.hdf5"), fmt="deepmd/hdf5").to("deepmd/npy", str(place / "again"))
    assert take(place / "again", "--asserted")[-1] == "label import: 0 imported, 2 known, 0 refused"
    (line,) = take(place / "npy" / "set.000" / "force.npy", "--asserted")
    assert line.endswith("is one file of deepmd/npy; expected its folder, which holds type.raw: name that")
    assert take(place / "npy", "--asserted")[-1] == "label import: 0 imported, 2 known, 0 refused"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 100, "is an HDF5 file"),
        (b"", "holds nothing that is known"),
        (b"\x00\xff" * 500, "holds nothing that is known"),
        (b"\x1f\x8b" + b"\x00" * 40, "is gzipped, and no archive of labels"),
        (b"&control\n calculation='scf'\n/\n", "holds nothing that is known"),
        (b"12\n", "holds nothing that is known"),
    ],
)
def test_a_file_of_another_kind_is_one_line(content, words, place, take):
    (place / "file.extxyz").write_bytes(content)
    (line,) = take(place / "file.extxyz", "--asserted")
    assert words in line
    assert "expected an output of pw.x, an extended XYZ file, an archive of labels or a folder of labels" in line


# ---------------------------------------------------------------- a store that cannot be written


def as_anyone(*words):
    """Run the command without root's right to write everywhere."""
    drop = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    command = [*drop, sys.executable, "-m", "mlpwf", "label", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.skipif(os.geteuid() == 0 and shutil.which("setpriv") is None, reason="root, and no setpriv on PATH")
def test_known_labels_are_read_from_a_store_that_cannot_be_written(place, take):
    take(CASES / "movemask.extxyz", "--asserted")
    store = place / "store"
    sections = ["--config", place / "label.json", "--site", place / "site.json"]
    moved = (CASES / "force.extxyz").read_text().replace("O 1.2 ", "O 1.21 ")
    (place / "new.extxyz").write_text(moved)
    folders = [store, *(path for path in store.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        known = as_anyone("import", CASES / "movemask.extxyz", "--asserted", *sections)
        new = as_anyone("import", place / "new.extxyz", "--asserted", *sections)
        out = as_anyone("export", "--site", place / "site.json", "--out", place / "out.extxyz")
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert known.stderr.splitlines()[-1] == "label import: 0 imported, 1 known, 0 refused"
    assert (known.returncode, out.returncode) == (0, 0)
    assert new.returncode == 2
    expected = f"mlpwf: {store}: the label store cannot be written (Permission denied); expected a folder that can: "
    assert new.stderr.splitlines()[-1] == expected + "allow it, or name another as label_store in the site file"
    other = Site(label_store=str(place / "another"))
    write_json(place / "site.json", other.model_dump(mode="json") | {"seed": 1})
    assert take(place / "new.extxyz", "--asserted")[-1] == "label import: 1 imported, 0 known, 0 refused"


def test_a_file_in_place_of_a_store_is_one_line(place, take):
    (place / "store").write_text("no folder")
    *_, last = take(CASES / "movemask.extxyz", "--asserted")
    assert re.search(r"store: the label store cannot be written \(.*\); expected a folder that can: allow it, or", last)
    assert (place / "store").read_text() == "no folder"


# ---------------------------------------------------------------- through the command, with the site's own sets


@pytest.mark.engine
@pytest.mark.skipif(
    not all((Path(Site().pseudopotential_folder) / Label().pseudopotentials[e]).is_file() for e in "OH"),
    reason="no pseudopotentials: `./start setup` installs them",
)
def test_one_bad_output_does_not_end_an_import(place, take):
    write_json(place / "label.json", SETTINGS.model_dump(mode="json") | {"seed": 1})
    folder = place / "outputs"
    folder.mkdir()
    copy_outputs(folder)
    replaced(folder, (r"0\.16401982", "0.164D+00"))
    shutil.copy(folder / "waters.out", folder / "headless.log")
    text = (folder / "headless.log").read_text()
    (folder / "headless.log").write_text(text[text.index("This program is part") :])
    first, second, last = take(folder)
    assert "headless.log: bad output: 0 lines of program start, 1 expected" in first
    assert "water.out: bad output: 0.164D+00 is no number as pw.x writes it" in second
    assert last == "label import: 1 imported, 0 known, 2 refused (2 bad output)"
    (record,) = records(place)
    assert record.physics == PHYSICS
    assert json.dumps(raw_of(record))


OTHER_RUNS = {
    "no stress": ("tstress=.true.", "tstress=.false.", "0 lines of the stress (of tstress = .true.), 1 expected"),
    "a relaxation": (
        "calculation='scf'",
        "calculation='relax'\n nstep=2",
        "2 lines of convergence (of calculation = 'scf'), 1 expected",
    ),
    "forces from outside": (
        "H 0.52 2.71 3.42",
        "H 0.52 2.71 3.42\nATOMIC_FORCES\nO 0.01 0 0\nH -0.01 0 0\nH 0 0 0",
        "the energy has a term 'External forces energy'",
    ),
    "D2": ("vdw_corr='dft-d3'\n dftd3_version=4\n dftd3_threebody=.false.", "vdw_corr='grimme-d2'", "0 lines of D3"),
}


@pytest.mark.engine
@pytest.mark.skipif(shutil.which("pw.x") is None, reason="no pw.x on PATH: `./start setup` installs it")
@pytest.mark.parametrize("name", OTHER_RUNS)
def test_what_pw_was_asked_beside_is_seen_in_its_output(name, tmp_path):
    old, new, words = OTHER_RUNS[name]
    text = (CASES / "qe72_default" / "scf.in").read_text()
    assert old in text
    text = text.replace(old, new, 1).replace("ATOMIC_SPECIES", "&ions\n/\nATOMIC_SPECIES", 1)
    text = re.sub(r"pseudo_dir='.*'", f"pseudo_dir='{Site().pseudopotential_folder}'", text)
    (tmp_path / "scf.in").write_text(text)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with (tmp_path / "scf.out").open("w") as out:
        subprocess.run(["pw.x", "-in", "scf.in"], cwd=tmp_path, stdout=out, env=environment, check=False)
    (found,) = outputs(tmp_path, LOW)
    assert words in found.detail, found.detail
