"""Numbers without an output: each as it stands in the file, or refused by name."""

import logging
import re

import ase.io
import numpy as np
import pytest
from ase.constraints import FixAtoms

from mlpwf.calculators.registry import calculator
from mlpwf.config import Label, Site
from mlpwf.label import import_export
from mlpwf.label.asserted import read_extxyz, read_system
from mlpwf.label.foreign import Refusal, Refused
from mlpwf.label.store import Store
from mlpwf.structures.frames import read_frames, write_frames
from mlpwf.structures.properties import of_frame
from real_outputs import PHYSICS, SETTINGS, espresso

HEAD = (
    'Lattice="6.2 0 0 0 6.3 0 0 0 6.8" Properties=species:S:1:pos:R:3:forces:R:3 energy=-467.11 '
    'stress="0.011 0.002 0.003 0.002 0.012 0.001 0.003 0.001 0.013" pbc="T T T"'
)
ATOMS = (
    "O 1.2 2.1 3.0 -0.31 0.42 0.11",
    "H 2.05 2.45 3.28 0.21 -0.18 0.05",
    "H 0.65 2.74 3.42 0.1 -0.24 -0.16",
)
FRAME = "\n".join(("3", HEAD, *ATOMS)) + "\n"
STRESS = np.array([[0.011, 0.002, 0.003], [0.002, 0.012, 0.001], [0.003, 0.001, 0.013]])
FORCES = np.array([[-0.31, 0.42, 0.11], [0.21, -0.18, 0.05], [0.1, -0.24, -0.16]])
VOLUME = 6.2 * 6.3 * 6.8


def read(folder, text, settings=SETTINGS):
    path = folder / "frames.extxyz"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(read_extxyz(path, calculator(settings, Site())))


def changed(*pairs):
    text = FRAME
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new, 1)
    return text


def with_word(words):
    return changed((" pbc=", f" {words} pbc="))


def columns(name, values, kind="R"):
    """One more column, or several, behind each atom."""
    width = len(values[0].split())
    pairs = [(row, f"{row} {value}") for row, value in zip(ATOMS, values, strict=True)]
    return changed(("forces:R:3", f"forces:R:3:{name}:{kind}:{width}"), *pairs)


VIRIAL = " ".join(f"{-x * VOLUME:.8f}" for x in STRESS.ravel())
TAKEN = {
    "as it is": FRAME,
    "move_mask of one column": columns("move_mask", ("F", "T", "T"), "L"),
    "move_mask of three columns": columns("move_mask", ("F F F", "T F T", "T T T"), "L"),
    "selective_dynamics": columns("selective_dynamics", ("0", "1", "1"), "I"),
    "the virial beside the stress": with_word(f'virial="{VIRIAL}"'),
    "the same number by a second name": with_word("free_energy=-467.11 REF_energy=-467.11"),
    "the same forces by a second name": columns("REF_forces", [row.split(maxsplit=4)[4] for row in ATOMS]),
    "six stresses": changed((HEAD.split('stress="')[1].split('"')[0], "0.011 0.012 0.013 0.001 0.003 0.002")),
    "the virial alone": re.sub(r"stress=\"[^\"]*\"", f'virial="{VIRIAL}"', FRAME),
    "force": changed(("forces:R:3", "force:R:3")),
    "lines that end as on Windows, behind a mark of their order": b"\xef\xbb\xbf"
    + FRAME.replace("\n", "\r\n").encode(),
    "empty lines at the end": FRAME + "\n\n",
    "a charge of 0, a multiplicity of 1, units of ASE": with_word(
        'charge=0 multiplicity=1 energy_unit=eV units="eV/Å"'
    ),
    "its functional and cut-off by name": with_word("xc=RPBE ecutwfc=30"),
    "a weight": with_word("energy_weight=1.0 stress_weight=2"),
    "atomic numbers beside the elements": columns("Z", ("8", "1", "1"), "I"),
}


@pytest.mark.parametrize("name", TAKEN)
def test_a_frame_is_read_as_it_stands(name, tmp_path):
    (found,) = read(tmp_path, TAKEN[name])
    assert not isinstance(found, Refused), str(found)
    assert found.result.properties.energy == -467.11
    assert np.array_equal(found.result.properties.forces, FORCES)
    assert np.allclose(found.result.properties.stress, STRESS, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("force", "'force' is read as the force on each atom, −dE/dx, in eV/Å"),
        ("the virial alone", "'virial' is read as the virial, −stress × volume, in eV, nine numbers"),
        ("six stresses", "six numbers of 'stress' are read as xx, yy, zz, yz, xz, xy in eV/Å³, positive under tension"),
    ],
)
def test_what_could_be_meant_otherwise_is_said_once_a_file(name, said, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="mlpwf")
    assert len(read(tmp_path, TAKEN[name] * 2)) == 2
    assert [message.split(".extxyz: ")[1] for message in caplog.messages] == [said]


def no_stress(words=""):
    return re.sub(r"stress=\"[^\"]*\"", words, FRAME)


REFUSED = {
    "force and forces that differ": (
        columns("force", ("0.31 -0.42 -0.11", "-0.21 0.18 -0.05", "-0.1 0.24 0.16")),
        Refusal.CONTRADICTION,
        "'forces' says 0.42 eV/Å where 'force' says -0.42; one of them expected",
    ),
    "the names of MACE": (
        changed((" energy=", " REF_energy="), ("forces:R:3", "REF_forces:R:3"), (" stress=", " REF_stress=")),
        Refusal.INCOMPLETE,
        "no energy, but 'REF_energy'; expected by the name 'energy': the total energy in eV: rename it",
    ),
    "forces by the name of MACE": (
        changed(("forces:R:3", "REF_forces:R:3")),
        Refusal.INCOMPLETE,
        "no forces, but 'REF_forces'; expected by the name 'forces'",
    ),
    "a stress by the name of MACE": (
        changed((" stress=", " REF_stress=")),
        Refusal.INCOMPLETE,
        "no stress or virial, but 'REF_stress'; expected by the name 'stress'",
    ),
    "a gradient": (changed(("forces:R:3", "gradient:R:3")), Refusal.INCOMPLETE, "no forces, but 'gradient'"),
    "energies of atoms alone": (
        columns("energies", ("-400", "-33", "-34")).replace(" energy=-467.11", ""),
        Refusal.INCOMPLETE,
        "no energy, but 'energies'",
    ),
    "no stress": (no_stress(), Refusal.INCOMPLETE, "no stress or virial; expected 'stress'"),
    "a free energy that is another": (
        with_word("free_energy=-467.42"),
        Refusal.CONTRADICTION,
        "'energy' says -467.11 eV where 'free_energy' says -467.42",
    ),
    "a virial of the other sign": (
        with_word(f'virial="{VIRIAL.replace("-", "")}"'),
        Refusal.CONTRADICTION,
        "the stress of 'stress' is 0.013 eV/Å³ where that of 'virial', as −virial / volume, is -0.013",
    ),
    "a virial that is per atom": (
        with_word('virial="' + " ".join(f"{-x * VOLUME / 3:.8f}" for x in STRESS.ravel()) + '"'),
        Refusal.CONTRADICTION,
        "'virial'",
    ),
    "two virials": (
        no_stress(f'virial="{VIRIAL}" dft_virial="{VIRIAL.replace("-", "")}"'),
        Refusal.CONTRADICTION,
        "where 'dft_virial' says",
    ),
    "six numbers of a virial": (
        no_stress('virial="-2.9 -3.2 -3.4 -0.3 -0.8 -0.5"'),
        Refusal.INCOMPLETE,
        "'virial' is 6 numbers; nine expected, row by row: the virial, −stress × volume, in eV",
    ),
    "a stress that is not symmetric": (
        changed(("0.011 0.002 0.003 0.002", "0.011 0.002 0.003 0.009")),
        Refusal.CONTRADICTION,
        "is 0.002 eV/Å³ where that of yx, zx, zy is 0.009",
    ),
    "a pressure": (no_stress("pressure=12.5"), Refusal.INCOMPLETE, "no stress or virial, but 'pressure'"),
    "a force on a fixed atom set to nothing": (
        changed(("3.0 -0.31 0.42 0.11", "3.0 0.0 0.0 0.0")),
        Refusal.CONTRADICTION,
        "atom 0 has the force 0 0 0, which is not that of an atom held fixed: give the forces as computed",
    ),
    "forces that do not add up": (changed((" 0.21 ", " 0.25 ")), Refusal.CONTRADICTION, "add up to 0.04 eV/Å"),
    "an energy twice": (with_word("energy=-467.12"), Refusal.CONTRADICTION, "'energy' is there twice"),
    "forces twice": (
        columns("forces", [row.split(maxsplit=4)[4] for row in ATOMS]),
        Refusal.CONTRADICTION,
        "'forces' is there twice",
    ),
    "an energy in Fortran's way": (
        changed(("energy=-467.11", "energy=-0.46711D+03")),
        Refusal.INCOMPLETE,
        "'energy' is -0.46711D+03; a number expected, such as 0.164 or 1.64e-01",
    ),
    "an infinite energy": (changed(("energy=-467.11", "energy=inf")), Refusal.INCOMPLETE, "'energy' is not finite"),
    "a force that is no number": (changed((" 0.21 ", " nan ")), Refusal.INCOMPLETE, "'forces' is not finite"),
    "a position that is no number": (changed(("O 1.2 ", "O nan ")), Refusal.INCOMPLETE, "not finite"),
    "a column too many": (
        changed((ATOMS[1], ATOMS[1] + " 7")),
        Refusal.UNREADABLE,
        "atom 2 has 8 columns, 7 expected by Properties",
    ),
    "a column too few": (changed((ATOMS[1], ATOMS[1].rsplit(" ", 1)[0])), Refusal.UNREADABLE, "atom 2 has 6 columns"),
    "an element nobody knows": (changed(("H 0.65", "HW2 0.65")), Refusal.UNREADABLE, "KeyError: 'Hw2'"),
    "elements and atomic numbers that differ": (
        columns("Z", ("8", "1", "6"), "I"),
        Refusal.CONTRADICTION,
        "'Z' says 6 of atom 3, whose element is H",
    ),
    "no cell": (changed((HEAD.split(" Prop")[0], "comment=1")), Refusal.INCOMPLETE, "no periodic cell"),
    "a slab": (changed(('pbc="T T T"', 'pbc="T T F"')), Refusal.INCOMPLETE, "no periodic cell"),
    "a charge": (with_word("charge=1"), Refusal.OTHER_PHYSICS, "'charge' is [1]; 0, a neutral cell expected"),
    "a triplet": (with_word("multiplicity=3"), Refusal.OTHER_PHYSICS, "'multiplicity' is [3]; no spin expected"),
    "magnetic moments": (columns("magmoms", ("2.0", "0.0", "0.0")), Refusal.OTHER_PHYSICS, "no spin expected"),
    "another functional": (with_word("xc=PBE"), Refusal.OTHER_PHYSICS, "'xc' is ['PBE']; rpbe expected"),
    "another cut-off": (with_word("ecutwfc=80"), Refusal.OTHER_PHYSICS, "30 Ry expected"),
    "Hartree": (with_word("energy_unit=Ha"), Refusal.INCOMPLETE, "'energy_unit' is Ha; eV and Å expected"),
    "a weight of nothing": (with_word("stress_weight=0.0"), Refusal.INCOMPLETE, "this number is no label"),
    "a clash": (changed(("H 0.65 2.74 3.42", "H 1.21 2.1 3.0")), "clash", "two atoms are 0.010 Å apart"),
    "no frame": ("solvent\nin a box\n", Refusal.UNREADABLE, "line 1 is 'solvent'; a number of atoms expected"),
    "a cut frame": (FRAME[: FRAME.index("H 0.65")], Refusal.UNREADABLE, "line 1 says 3 atoms; 2 follow"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_a_label_is_refused_by_name(name, tmp_path):
    text, reason, words = REFUSED[name]
    (found,) = read(tmp_path, text)
    assert isinstance(found, Refused)
    assert found.reason == reason, str(found)
    assert words in found.detail
    assert "delete" not in found.detail
    assert "\n" not in str(found)


def test_a_rename_that_was_asked_for_is_enough(tmp_path):
    text, *_ = REFUSED["the names of MACE"]
    for name in ("energy", "forces", "stress"):
        (refused,) = read(tmp_path, text)
        assert f"'REF_{name}'; expected by the name '{name}'" in refused.detail
        text = text.replace(f"REF_{name}", name)
    (found,) = read(tmp_path, text)
    assert np.array_equal(found.result.properties.forces, FORCES)


@pytest.mark.parametrize(
    ("name", "asked", "old", "new"),
    [
        ("a free energy that is another", "take the other out of the file", " free_energy=-467.42", ""),
        ("an energy twice", "take one out", " energy=-467.12", ""),
        ("an energy in Fortran's way", "such as 0.164 or 1.64e-01", "-0.46711D+03", "-0.46711E+03"),
        ("six numbers of a virial", "nine expected", "-2.9 -3.2 -3.4 -0.3 -0.8 -0.5", VIRIAL),
        ("Hartree", "convert the numbers, and say so there", "energy_unit=Ha", "energy_unit=eV"),
        ("a column too many", "7 expected", " 7\nH 0.65", "\nH 0.65"),
        ("forces that do not add up", "give the forces as computed", " 0.25 ", " 0.21 "),
        ("a slab", "periodic boundaries along each", "T T F", "T T T"),
    ],
)
def test_what_a_refusal_asks_for_is_enough(name, asked, old, new, tmp_path):
    text, *_ = REFUSED[name]
    assert asked in read(tmp_path, text)[0].detail
    assert old in text
    (found,) = read(tmp_path, text.replace(old, new))
    assert not isinstance(found, Refused), str(found)
    assert np.array_equal(found.result.properties.forces, FORCES)


def test_one_bad_frame_does_not_end_a_file(tmp_path):
    """A force in Fortran's way among three frames: ASE would refuse all of them."""
    found = read(tmp_path, FRAME + changed((" 0.21 ", " 0.21D+00 ")) + "\n" + FRAME)
    assert [isinstance(item, Refused) for item in found] == [False, True, False]
    assert "#1: unreadable: atom 2 has 0.21D+00; a number expected, its exponent by E" in str(found[1])
    lost = read(tmp_path, FRAME + changed((ATOMS[1] + "\n", "")) + FRAME)
    assert [isinstance(item, Refused) for item in lost] == [False, True, True]
    assert "a number of atoms expected: nothing is read from there on" in str(lost[2])


def test_other_engines_take_words_of_pw_for_nothing(tmp_path):
    (found,) = read(tmp_path, with_word("xc=PBE ecutwfc=80"), Label(engine="gfn1"))
    assert not isinstance(found, Refused)


def test_an_exported_label_knows_its_physics(tmp_path):
    store = Store(tmp_path / "store")
    import_export.keep(store, PHYSICS, read(tmp_path, FRAME)[0])
    write_frames(tmp_path / "frames.extxyz", import_export.stored(store, None))
    (again,) = read_extxyz(tmp_path / "frames.extxyz", espresso())
    assert again.key == store.all_keys()[0]
    assert import_export.keep(store, PHYSICS, again) is False
    with pytest.raises(Refused, match="other physics: its 'label' is"):
        import_export.keep(store, PHYSICS | {"cutoff_ry": 31.0}, again)


def test_another_stress_of_a_known_label_is_a_conflict(tmp_path):
    store = Store(tmp_path / "store")
    import_export.keep(store, PHYSICS, read(tmp_path, FRAME)[0])
    (other,) = read(tmp_path, changed(("0.012 0.001", "0.014 0.001")))
    with pytest.raises(Refused, match=r"conflict: the stress of this label is 0.014 .* the store's .* is 0.012"):
        import_export.keep(store, PHYSICS, other)


def test_constraints_of_a_campaigns_frame_never_zero_its_forces(tmp_path):
    read(tmp_path, FRAME)
    atoms = ase.io.read(tmp_path / "frames.extxyz")
    atoms.set_constraint(FixAtoms([0]))
    write_frames(tmp_path / "fixed.extxyz", [atoms])
    assert "move_mask" in (tmp_path / "fixed.extxyz").read_text()
    assert np.array_equal(of_frame(read_frames(tmp_path / "fixed.extxyz")[0]).forces, FORCES)


# ---------------------------------------------------------------- deepmd/npy


def system(folder, sets=1):
    """A deepmd/npy folder of the frame above, once in each set."""
    folder.mkdir()
    (folder / "type.raw").write_text("0\n1\n1\n")
    (folder / "type_map.raw").write_text("O\nH\n")
    coord = np.array([row.split()[1:4] for row in ATOMS], float).reshape(1, 9)
    arrays = {
        "box": np.diag([6.2, 6.3, 6.8]).reshape(1, 9),
        "coord": coord,
        "energy": np.array([-467.11]),
        "force": FORCES.reshape(1, 9),
        "virial": (-STRESS * VOLUME).reshape(1, 9),
    }
    for number in range(sets):
        part = folder / f"set.{number:03d}"
        part.mkdir()
        for name, values in arrays.items():
            np.save(part / f"{name}.npy", values)
    return folder


def rewrite(folder, name, change):
    path = folder / "set.000" / f"{name}.npy"
    np.save(path, change(np.load(path)))


def halved(folder):
    path = folder / "set.001" / "virial.npy"
    path.write_bytes(path.read_bytes()[:-20])


def turned(values):
    values[0, 1] += 1.0
    return values


SYSTEMS = {
    "no force.npy": (
        lambda f: (f / "set.000/force.npy").unlink(),
        Refusal.INCOMPLETE,
        "no set.000/force.npy; coord, b",
    ),
    "a later set without virial": (
        lambda f: (f / "set.001/virial.npy").unlink(),
        Refusal.INCOMPLETE,
        "no set.001/virial.npy",
    ),
    "an earlier set without virial, which dpdata would fill from the later": (
        lambda f: (f / "set.000/virial.npy").unlink(),
        Refusal.INCOMPLETE,
        "no set.000/virial.npy",
    ),
    "no type_map.raw": (lambda f: (f / "type_map.raw").unlink(), Refusal.INCOMPLETE, "no type_map.raw; one that gives"),
    "an element nobody knows": (
        lambda f: (f / "type_map.raw").write_text("OW\nHW\n"),
        Refusal.UNREADABLE,
        "KeyError: 'OW'",
    ),
    "a type beyond the map": (lambda f: (f / "type_map.raw").write_text("O\n"), Refusal.UNREADABLE, "Error"),
    "an atom less": (
        lambda f: (f / "type.raw").write_text("0\n1\n"),
        Refusal.INCOMPLETE,
        "set.000/coord.npy has shape (1, 9); 6 numbers a frame expected, of 2 atoms",
    ),
    "other numbers of frames": (
        lambda f: rewrite(f, "energy", lambda v: np.repeat(v, 2)),
        Refusal.CONTRADICTION,
        "(coord 1, box 1, energy 2, force 1, virial 1)",
    ),
    "a virial cut short": (halved, Refusal.UNREADABLE, "set.001/virial.npy is no whole array of numbers"),
    "six virials": (
        lambda f: rewrite(f, "virial", lambda v: v[:, [0, 4, 8, 5, 2, 1]]),
        Refusal.INCOMPLETE,
        "set.000/virial.npy has shape (1, 6); 9 numbers a frame expected",
    ),
    "electrons of a temperature": (
        lambda f: np.save(f / "set.000/fparam.npy", np.ones((1, 1))),
        Refusal.OTHER_PHYSICS,
        "set.000/fparam.npy says that more than positions decides",
    ),
    "an open boundary": (lambda f: (f / "nopbc").touch(), Refusal.INCOMPLETE, "the file nopbc"),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_folder_that_lacks_something_is_one_line(name, tmp_path):
    change, reason, words = SYSTEMS[name]
    folder = system(tmp_path / "data", sets=2)
    change(folder)
    (found,) = read_system(folder, espresso())
    assert found.reason == reason, str(found)
    assert words in found.detail
    assert "\n" not in str(found)


@pytest.mark.parametrize(
    ("name", "words"),
    [("virial", "the stress of xy, xz, yz"), ("force", "the forces add up to")],
)
def test_the_gate_is_that_of_every_source(name, words, tmp_path):
    folder = system(tmp_path / "data", sets=2)
    rewrite(folder, name, turned)
    bad, good = read_system(folder, espresso())
    assert bad.reason is Refusal.CONTRADICTION
    assert words in bad.detail
    assert np.allclose(good.result.properties.stress, STRESS)
    assert np.array_equal(good.result.properties.forces, FORCES)
