"""Data made to harm: pickles, pipes, loops, giants and strange words, in what a user may be handed by others."""

import json
import os
import pickle
import re
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

sys.path.insert(0, str(Path(__file__).parents[1]))

from mlpwf.analyse.campaign import _stress
from mlpwf.config import Molecule
from mlpwf.errors import ConfigError, DataError
from mlpwf.label import import_export
from mlpwf.label.foreign import Refusal, Refused
from mlpwf.label.sources import find_sources
from mlpwf.label.store import Store
from mlpwf.md.trajectory_files import _small_arrays
from mlpwf.report.command import report
from mlpwf.structures.frames import read_frames, write_frames
from mlpwf.structures.species import geometry
from real_outputs import espresso
from report_campaign import campaign, put

DATA = Path(__file__).parents[1] / "data" / "espresso"


class Payload:
    """Unpickled, it makes a file."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (os.mkdir, (str(self.target),))


@pytest.fixture
def bomb(tmp_path):
    """A pickle; that nobody opened it is checked at the end."""
    target = tmp_path / "pwned"
    yield Payload(target)
    assert not target.exists()
    pickle.loads(pickle.dumps(Payload(target)))
    assert target.exists(), "the pickle would have done nothing to whoever opened it"


def imported(place):
    return list(import_export.read_all(find_sources([place]), espresso()))


def system(folder, coord):
    """A folder in the format deepmd/npy of one water, with `coord` as its coordinates."""
    (folder / "set.000").mkdir(parents=True)
    (folder / "type.raw").write_text("0\n1\n1\n")
    (folder / "type_map.raw").write_text("O\nH\n")
    arrays = {"box": np.eye(3).reshape(1, 9) * 6, "energy": np.ones((1, 1)), "force": np.zeros((1, 9)), "coord": coord}
    for name, values in arrays.items():
        np.save(folder / "set.000" / f"{name}.npy", values, allow_pickle=True)
    return folder


@pytest.mark.parametrize("how", ["object array", "bare pickle"])
def test_a_pickle_among_labels_is_refused(how, bomb, tmp_path):
    folder = system(tmp_path / "data", np.array([[bomb] * 9], dtype=object))
    if how == "bare pickle":
        (folder / "set.000" / "coord.npy").write_bytes(pickle.dumps(bomb))
    (found,) = imported(folder)
    assert isinstance(found, Refused)
    assert found.reason is Refusal.UNREADABLE


def test_a_pickle_among_the_files_of_a_run_is_refused(bomb, tmp_path):
    arrays = {"step": np.array([bomb], dtype=object), "pressure_bar": np.zeros((1, 6)), "timestep_fs": 0.5}
    np.savez(tmp_path / "stress.npz", **arrays, volume_angstrom3=1.0)
    with pytest.raises(DataError, match="allow_pickle=False"):
        _stress([tmp_path / "stress.npz"])
    with pytest.raises(ValueError, match="allow_pickle=False"):
        list(_small_arrays([tmp_path / "stress.npz"]))


@pytest.mark.parametrize("name", ["m.trj", "m.traj", "m.pckl", "m.npy", "m.npz", "m.db", "m.json", "m.gpw", "m.xyz"])
def test_a_pickle_as_structure_is_refused(name, bomb, tmp_path):
    (tmp_path / name).write_bytes(pickle.dumps(bomb))
    with pytest.raises(ConfigError, match="cannot read"):
        geometry("water", Molecule(structure=tmp_path / name), 1)


@pytest.mark.parametrize("name", ["m.traj", "m.db", "m.json"])
def test_structures_are_read_of_text_alone(name, tmp_path):
    ase.io.write(tmp_path / name, molecule("H2O"))
    with pytest.raises(ConfigError, match="its format is"):
        geometry("water", Molecule(structure=tmp_path / name), 1)


@pytest.mark.parametrize("name", ["m.xyz", "m.pdb", "m.cif", "m.sdf", "POSCAR", "m@1.xyz"])
def test_structures_of_common_formats_are_read(name, tmp_path):
    water = molecule("H2O", vacuum=3.0, pbc=True)
    if name == "m.sdf":
        atoms = zip(water.symbols, water.positions, strict=True)
        (tmp_path / name).write_text(
            "\n\n\n  3  0  0  0  0  0  0  0  0  0999 V2000\n"
            + "".join(f"{x:10.4f}{y:10.4f}{z:10.4f} {s:<3} 0  0\n" for s, (x, y, z) in atoms)
            + "M  END\n$$$$\n"
        )
    else:
        plain = name.replace("@", "")
        ase.io.write(tmp_path / plain, water)
        (tmp_path / plain).rename(tmp_path / name)
    found = geometry("water", Molecule(structure=tmp_path / name), 1)
    assert sorted(found.symbols) == ["H", "H", "O"]


def test_pipes_loops_and_links_in_a_folder_of_labels(tmp_path):
    """What is no plain file is passed over: nothing is waited for, and no other file is read as a label."""
    place = tmp_path / "labels"
    place.mkdir()
    for suffix in (".in", ".out"):
        shutil.copy(DATA / f"water{suffix}", place)
    os.mkfifo(place / "pipe.out")
    (place / "loop").symlink_to(place)
    (place / "zero.out").symlink_to("/dev/zero")
    (place / "passwd.out").symlink_to("/etc/passwd")
    (place / "gone.out").symlink_to(tmp_path / "gone")
    system(place / "piped", np.zeros((1, 9)))
    (place / "piped" / "set.000" / "coord.npy").unlink()
    os.mkfifo(place / "piped" / "set.000" / "coord.npy")
    (found,) = imported(place)
    assert found.source == str(place / "water.out")


def test_a_giant_output_is_refused_unread(tmp_path):
    shutil.copy(DATA / "water.out", tmp_path)
    with (tmp_path / "water.out").open("r+b") as handle:
        handle.truncate(10**12)
    (found,) = imported(tmp_path)
    assert isinstance(found, Refused)
    assert "1000000 MB" in str(found)


def test_an_array_that_claims_to_be_giant_is_refused(tmp_path):
    folder = system(tmp_path / "data", np.zeros((1, 9)))
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (100000000000000, 9), }".ljust(117) + b"\n"
    (folder / "set.000" / "coord.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    (found,) = imported(folder)
    assert isinstance(found, Refused)


@pytest.mark.parametrize(
    "info",
    [
        "state=\"$(touch pwned)\" kind='`x`'", "state=\"<script>alert(1)</script>\"", "_aselib=1 calc=2 __class__=x",
        'state="_JSON {\\"a\\": [1, 2]}"', "T=F state=T", 'state="../../up"', "ünï=ö " + "x" * 10_000,
    ],
)  # fmt: skip
def test_odd_words_in_a_frame_reach_no_label(info, tmp_path):
    """The label of the frame is that of the same frame without them."""
    atoms = "O 3.0 3.0 3.0 0 0 0\nH 3.96 3.0 3.0 0 0 0\nH 2.76 3.93 3.0 0 0 0\n"
    numbers = 'energy=-1.0 stress="0 0 0 0 0 0 0 0 0" pbc="T T T"'
    records = []
    for words in (info, ""):
        header = f'Lattice="6 0 0 0 6 0 0 0 6" Properties=species:S:1:pos:R:3:forces:R:3 {numbers} {words}'
        (tmp_path / "odd.extxyz").write_text(f"3\n{header}\n{atoms}")
        (found,) = imported(tmp_path / "odd.extxyz")
        assert not isinstance(found, Refused)
        store = Store(tmp_path / f"store{len(records)}")
        assert import_export.keep(store, {"engine": "gfn1"}, found)
        records += [{name: value for name, value in raw.items() if name != "finished"} for raw in store.raw_records()]
    assert records[0] == records[1]
    assert not (tmp_path / "pwned").exists()


def test_a_frame_file_may_have_any_name(tmp_path):
    for name in ("a@0:1.extxyz", "$(x).extxyz", "[ab]*.extxyz", "-rf.extxyz", "line\nbreak.extxyz"):
        write_frames(tmp_path / name, [Atoms("H", cell=[5] * 3, pbc=True)])
        assert len(read_frames(tmp_path / name)) == 1


SCRIPT = "<script>document.title='pwned'</script><img src=x onerror=\"document.title='pwned'\">"


def hostile_page(folder):
    """A report whose every word from outside is markup; its path."""
    root = campaign(folder, title=SCRIPT)
    molecules = {SCRIPT: {"smiles": SCRIPT, "structure": None, "count": 8}}
    put(root / "config" / "system.json", {"molecules": molecules, "density_g_cm3": 0.867, "seed": 5})
    summary = root / "cycle" / "000" / "label" / "summary.json"
    text = summary.read_text()
    for word in ("not converged", "after 80 SCF steps", "400K", "6.7"):
        assert word in text
        text = text.replace(f'"{word}"', '"' + SCRIPT.replace('"', '\\"') + '"')
    summary.write_text(text)
    final = root / "train" / "final" / "final.json"
    final.write_text(final.read_text().replace("1.2 % of", SCRIPT.replace('"', '\\"')))
    runs = root / "validate" / "runs.json"
    put(runs, json.loads(runs.read_text()) | {"nvt": {"stable": False, "reason": SCRIPT}})
    (root / "cycle" / "000" / "explore" / "300K_0.867").rename(root / "cycle" / "000" / "explore" / "<b>&'\"")
    report(root / "config" / "report.json", root, root / "report")
    return root / "report" / "report.html"


def test_the_report_shows_markup_as_text(tmp_path):
    page = hostile_page(tmp_path).read_text()
    assert page.count("&lt;script&gt;") > 5
    assert not re.search(r"<(script|img|iframe|object|embed|base|form)\b", page, re.I)
    assert not re.search(r"<[^>]*\son\w+\s*=", page, re.I)
    for figure in re.findall(r"<svg.*?</svg>", page, re.S):
        ElementTree.fromstring(figure)
