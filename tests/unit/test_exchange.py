"""Labels of other work: what is taken, what is refused and why; a store that says when it is damaged."""

import fcntl
import gzip
import json
import logging
import os
import re
import shutil
import time

import ase.db
import ase.io
import dpdata
import msgspec
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.units import Ry

from mlpwf.calculators.base import Reason
from mlpwf.calculators.espresso import outputs, pw
from mlpwf.calculators.espresso.acceptance import accept
from mlpwf.calculators.espresso.dispersion import dispersion
from mlpwf.config.label_engines import LABEL_ENGINES, Capability, LabelEngine
from mlpwf.errors import ConfigError, DataError
from mlpwf.label import import_export
from mlpwf.label import sources as where
from mlpwf.label.checking import checked
from mlpwf.label.foreign import Refusal, Refused
from mlpwf.label.record import raw_of, read_raw, structure_of
from mlpwf.label.store import Store, canonical, label_key
from mlpwf.structures.frames import write_frames
from real_outputs import DATA, HASHES, NAMES, PHYSICS, SETTINGS, copy_outputs, espresso, store_of_outputs
from store_records import rejected


@pytest.fixture
def place(tmp_path):
    """A folder with the two real outputs and their inputs."""
    copy_outputs(tmp_path)
    return tmp_path


@pytest.fixture
def store(place):
    """A store with the labels of the two outputs."""
    return store_of_outputs(place)


def given(name):
    return ase.io.read(DATA / f"{name}.in", format="espresso-in")


def everything(places, settings=SETTINGS):
    return list(import_export.read_all(where.find_sources(places), espresso(settings)))


def reasons(found):
    return [item.reason if isinstance(item, Refused) else None for item in found]


# ---------------------------------------------------------------- outputs


@pytest.mark.parametrize("name", NAMES)
def test_an_output_becomes_the_label_its_campaign_would_ask_for(name, store):
    atoms = given(name)
    key = label_key(canonical(atoms), PHYSICS)
    record = store.get(key)
    result = accept(0, (DATA / f"{name}.out").read_text(), atoms, SETTINGS, HASHES).properties
    assert record.energy_ev == result.energy
    assert np.array_equal(record.forces_ev_angstrom, result.forces[canonical(atoms).order])
    assert np.array_equal(record.stress_ev_angstrom3, result.stress)
    assert record.physics == PHYSICS
    assert record.engine_version == "6.7MaX"
    printed = re.search(r"PWSCF +: +([\d.]+)s CPU", (DATA / f"{name}.out").read_text())
    assert record.cpu_s == float(printed[1])
    assert not record.asserted
    assert "asserted" not in json.loads(store.path("labels", key).read_text())


def test_cpu_time_is_read_in_all_its_units():
    line = "     PWSCF        :  {} CPU  1h 2m WALL\n"
    ranks = "     Parallel version (MPI), running on     4 processors\n"
    assert outputs._cpu_s(line.format("1m 2.50s")) == 62.5
    assert outputs._cpu_s(ranks + line.format("   2h 3m")) == 4 * 7380
    assert outputs._cpu_s("killed") == 0


def test_without_its_input_the_output_is_its_own_structure(place):
    (place / "water.in").unlink()
    found = import_export.read_output(place / "water.out", espresso())
    moved = found.structure.atoms().positions - canonical(given("water")).atoms().positions
    assert np.abs(moved).max() < 1.1e-6


def test_an_input_that_ase_cannot_read_is_no_obstacle(place):
    text = (place / "water.in").read_text().replace("ibrav            = 0", "ibrav = 8, celldm(1)=11.3")
    (place / "water.in").write_text(text)
    import_export.read_output(place / "water.out", espresso())


def test_the_input_of_another_structure_is_refused(place):
    text = (place / "water.in").read_text().replace("O 3.0812170000", "O 3.0822170000")
    (place / "water.in").write_text(text)
    with pytest.raises(Refused, match="bad output: positions are not those asked for"):
        import_export.read_output(place / "water.out", espresso())


@pytest.mark.parametrize(
    ("find", "replace", "reason"),
    [
        (r"number of electrons       =         8\.00", "number of electrons       =         7.00", "bad output"),
        (r"number of electrons       = .*\n", "", "bad output"),
        (r"(ewald contribution .*)", r"\1\n     Hubbard energy            =       0.00000000 Ry", "other physics"),
        (r"number of k points=     1", "number of k points=     1 (tetrahedron method)", "other physics"),
        (r"wk =   2\.0", "wk =   1.0", "bad output"),
        (r"k\(    1\) = \(   0\.0000000", "k(    1) = (   0.5000000", "bad output"),
        (r"\n +k\(.*", "", "bad output"),
        (r"O              6\.00", "O              5.00", "other physics"),
        (r"O              6\.00", "", "bad output"),
        (r"atomic species   valence", "", "bad output"),
        (r"Exchange-correlation= RPBE", "Exchange-correlation= PBE", "bad output"),
        (r"convergence has been achieved", "convergence NOT achieved", "not converged"),
        (r"(?s)Forces acting.*", "", "bad output"),
        (r"(?s)Cartesian axes.*", "", "bad output"),
        (r"(?s)^.*", "     Program PWSCF v.6.7MaX starts on", "bad output"),
    ],
)
def test_each_defect_of_an_output_has_its_reason(place, find, replace, reason):
    text = (place / "water.out").read_text()
    altered = re.sub(find, replace, text, count=1)
    assert altered != text
    (place / "water.out").write_text(altered)
    assert reasons(everything([place / "water.out"])) == [reason]
    (place / "water.in").unlink()
    assert reasons(everything([place / "water.out"])) in ([reason], [Reason.BAD_OUTPUT])


def test_atoms_too_close_are_a_clash(place):
    settings = SETTINGS.model_copy(update={"minimum_distance_angstrom": 1.0})
    assert reasons(everything([place / "water.out"], settings)) == [Reason.CLASH]


@pytest.mark.parametrize("name", NAMES)
def test_simple_dftd3_gives_the_energy_pw_prints(name):
    printed = float(re.search(r"DFT-D3 Dispersion += +(\S+)", (DATA / f"{name}.out").read_text())[1])
    assert dispersion(given(name), SETTINGS).energy / Ry == pytest.approx(printed, abs=1e-8)
    three = SETTINGS.model_copy(update={"dispersion_threebody": True})
    assert abs(dispersion(given(name), three).energy / Ry - printed) > 1e-6


def test_elements_without_a_pseudopotential_are_refused(place):
    found = import_export.read_output(place / "water.out", espresso())
    with pytest.raises(Refused, match=r"no pseudopotential: .* for O"):
        import_export.keep(Store(place / "store"), pw.physics(SETTINGS, {"H": HASHES["H"]}), found)


# ---------------------------------------------------------------- folders


def dpgen(root, iterations):
    """A work folder as DP-GEN leaves it: outputs, and the deepmd/npy data made from them."""
    for number, names in enumerate(iterations):
        for task, name in enumerate(names):
            folder = root / f"iter.{number:06d}" / "02.fp" / f"task.000.{task:06d}"
            folder.mkdir(parents=True)
            shutil.copy(DATA / f"{name}.in", folder / "input")
            shutil.copy(DATA / f"{name}.out", folder / "output")
            system = dpdata.LabeledSystem([str(folder / "input"), str(folder / "output")], fmt="qe/pw/scf")
            system.to("deepmd/npy", str(folder.parent / f"data.{task:03d}"))
    return root


def test_dpgen_outputs_count_and_their_copies_do_not(place):
    work = dpgen(place / "work", [["water"], ["waters"]])
    (work / "iter.000001" / "02.fp" / "task.000.000000" / "model_devi.out").write_text("# step max_devi_f\n")
    shutil.copytree(work / "iter.000000" / "02.fp" / "data.000", work / "initial")
    sources = where.find_sources([work])
    assert [path.parts[-4:] for path in sources.outputs] == [
        (f"iter.{number:06d}", "02.fp", "task.000.000000", "output") for number in (0, 1)
    ]
    assert sources.systems == []
    for folder in (work / "iter.000000", work / "iter.000000" / "02.fp"):
        assert where.find_sources([folder]) == where.Sources(sources.outputs[:1], [], [], [])
    shutil.rmtree(work / "iter.000000" / "02.fp" / "task.000.000000")
    sources = where.find_sources([work])
    assert len(sources.outputs) == 1
    assert sources.systems == [work / "iter.000000" / "02.fp" / "data.000"]
    assert where.find_sources([sources.systems[0]]).systems == sources.systems


def test_dpgen_data_are_the_same_labels_as_the_outputs(place, store):
    """dpdata's own reader of pw.x against ours: key, energy, forces and the sign of the virial."""
    work = dpgen(place / "work", [NAMES])
    data = [work / "iter.000000" / "02.fp" / f"data.{task:03d}" for task in range(2)]
    found = everything(data)
    assert reasons(found) == [None, None]
    for item in found:
        assert item.asserted
        record = store.get(label_key(item.structure, PHYSICS))
        assert item.result.properties.energy == pytest.approx(record.energy_ev, rel=2e-7)
        order = item.structure.order
        assert np.allclose(item.result.properties.forces[order], record.forces_ev_angstrom, rtol=0, atol=1e-5)
        assert np.allclose(item.result.properties.stress, record.stress_ev_angstrom3, rtol=0, atol=4e-6)
        assert np.abs(item.result.properties.stress).max() > 1e-3, "a wrong sign would be seen"
        assert not import_export.keep(store, PHYSICS, item), "known, without conflict"


def test_places_without_labels_are_one_line(place):
    (place / "notes.txt").write_text("nothing")
    (place / "empty").mkdir()
    for name, message in (
        ("absent", "no such file or folder"),
        ("notes.txt", "holds nothing that is known; expected an output of pw.x, an extended XYZ file"),
        ("empty", "holds no output of pw.x"),
    ):
        with pytest.raises(ConfigError, match=message):
            where.find_sources([place / name])


def test_messages_name_the_programs_of_all_engines_with_outputs(monkeypatch):
    assert where.programs() == "pw.x"
    other = LabelEngine("toy", "a toy", "toy.x", "toy:Toy", capabilities=frozenset({Capability.OUTPUTS}))
    monkeypatch.setitem(LABEL_ENGINES, "toy", other)
    assert where.expected().startswith("an output of pw.x or toy.x, an extended XYZ file")


def test_numbers_without_an_output_need_the_users_word(place):
    sources = where.Sources(frames=[place / "frames.extxyz"])
    where.check_provenance(sources, "qe", asserted=True)
    with pytest.raises(ConfigError, match=r"frames\.extxyz: holds numbers .*; name outputs of pw\.x instead, or add"):
        where.check_provenance(sources, "qe", asserted=False)


def test_an_output_of_another_engine_is_named(place):
    sources = where.find_sources([place / "water.out"])
    where.check_provenance(sources, "qe", asserted=False)
    with pytest.raises(ConfigError, match=r"is an output of pw\.x; label\.engine is gfn1, qe expected"):
        where.check_provenance(sources, "gfn1", asserted=False)


# ---------------------------------------------------------------- numbers without an output


def test_mixed_types_are_read_by_their_real_types(place, store):
    frames = import_export.stored(store, None)
    systems = dpdata.MultiSystems(*[dpdata.LabeledSystem(frame, fmt="ase/structure") for frame in frames])
    systems.to("deepmd/npy/mixed", str(place / "mixed"))
    found = everything([place / "mixed"])
    assert {label_key(item.structure, PHYSICS) for item in found} == set(store.all_keys())


def without_virial(folder):
    (folder / "set.000" / "virial.npy").unlink()


def without_forces(folder):
    (folder / "set.000" / "force.npy").unlink()


def not_finite(folder):
    path = folder / "set.000" / "force.npy"
    forces = np.load(path)
    forces[0, 3] = np.nan
    np.save(path, forces)


def nowhere(folder):
    path = folder / "set.000" / "coord.npy"
    positions = np.load(path)
    positions[0, 0] = np.inf
    np.save(path, positions)


def too_few(folder):
    path = folder / "set.000" / "force.npy"
    np.save(path, np.load(path)[:, :-3])


def other_frames(folder):
    path = folder / "set.000" / "energy.npy"
    np.save(path, np.repeat(np.load(path), 2))


def open_boundary(folder):
    (folder / "nopbc").touch()


def flat_cell(folder):
    path = folder / "set.000" / "box.npy"
    np.save(path, np.zeros_like(np.load(path)))


def nameless(folder):
    (folder / "type_map.raw").unlink()


def clash(folder):
    path = folder / "set.000" / "coord.npy"
    positions = np.load(path)
    positions[0, 3:6] = positions[0, :3] + [0.3, 0, 0]
    np.save(path, positions)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (without_virial, Refusal.INCOMPLETE),
        (without_forces, Refusal.INCOMPLETE),
        (not_finite, Refusal.INCOMPLETE),
        (nowhere, Refusal.INCOMPLETE),
        (too_few, Refusal.INCOMPLETE),
        (other_frames, Refusal.CONTRADICTION),
        (open_boundary, Refusal.INCOMPLETE),
        (flat_cell, Refusal.INCOMPLETE),
        (nameless, Refusal.INCOMPLETE),
        (clash, Reason.CLASH),
    ],
)
def test_each_defect_of_deepmd_data_has_its_reason(place, damage, reason):
    folder = dpgen(place / "work", [["water"]]) / "iter.000000" / "02.fp" / "data.000"
    damage(folder)
    assert reasons(everything([folder])) == [reason]


def test_each_defect_of_extended_xyz_has_its_reason(place, store):
    whole, periodic, finite, stressed = (import_export.stored(store, None)[0] for _ in range(4))
    periodic.pbc = False
    finite.calc.results["energy"] = np.nan
    del stressed.calc.results["stress"]
    write_frames(place / "frames.extxyz", [whole, periodic, finite, stressed])
    assert reasons(everything([place / "frames.extxyz"])) == [None, *[Refusal.INCOMPLETE] * 3]
    (place / "broken.extxyz").write_text("3\nLattice=\nO 0 0 0\n")
    assert reasons(everything([place / "broken.extxyz"])) == [Refusal.UNREADABLE]


# ---------------------------------------------------------------- into the store


def with_numbers(store, force=0.0, energy=0.0):
    """The first label of the store as a frame, its atoms in reverse, its numbers changed."""
    atoms = import_export.stored(store, None)[0]
    results = dict(atoms.calc.results)
    results["forces"] = results["forces"][::-1].copy()
    results["forces"][0, 0] += force
    results["energy"] += energy * len(atoms)
    reverse = atoms[::-1]
    reverse.calc = SinglePointCalculator(reverse, **results)
    return reverse


@pytest.mark.parametrize(
    ("change", "conflict"),
    [({"force": 0.9e-3}, False), ({"force": 1.1e-3}, True), ({"energy": 0.9e-4}, False), ({"energy": 1.1e-4}, True)],
)
def test_a_known_label_is_left_as_it_is(place, store, change, conflict):
    before = {path: path.read_bytes() for path in (place / "store").rglob("*.json")}
    write_frames(place / "again.extxyz", [with_numbers(store, **change)])
    (found,) = everything([place / "again.extxyz"])
    if conflict:
        with pytest.raises(Refused, match=r"conflict: the store's label .* differs by .* at most 0\.001 and 0\.0001"):
            import_export.keep(store, PHYSICS, found)
    else:
        assert import_export.keep(store, PHYSICS, found) is False
    assert {path: path.read_bytes() for path in (place / "store").rglob("*.json")} == before


def test_asserted_labels_say_so_and_where_they_come_from(place, store):
    write_frames(place / "frames.extxyz", import_export.stored(store, None))
    other = Store(place / "other")
    for found in everything([place / "frames.extxyz"]):
        import_export.keep(other, PHYSICS, found)
    records = [other.get(key) for key in other.all_keys()]
    assert [record.asserted for record in records] == [True, True]
    assert sorted(record.source for record in records) == [f"{place}/frames.extxyz#{i}" for i in range(2)]
    assert all(frame.info["asserted"] for frame in import_export.stored(other, None))


def test_what_is_imported_is_counted_and_what_is_refused_is_named(place, caplog):
    caplog.set_level(logging.INFO)
    found = import_export.read_output(place / "water.out", espresso())
    refused = Refused("there", Refusal.UNREADABLE, "cut short")
    taken = import_export.keep_all(Store(place / "store"), PHYSICS, [found, refused, found])
    assert str(taken) == "1 imported, 1 known, 1 refused (1 unreadable)"
    assert not taken.nothing
    assert "label import: refused there: unreadable: cut short" in caplog.messages
    assert import_export.keep_all(Store(place / "store"), PHYSICS, [refused]).nothing


# ---------------------------------------------------------------- out of the store


@pytest.mark.parametrize("name", ["labels.extxyz", "labels"])
def test_export_and_import_is_identity(place, store, name):
    write = write_frames if name.endswith("xyz") else import_export.write_deepmd
    write(place / name, import_export.stored(store, PHYSICS))
    other = Store(place / "other")
    assert all(import_export.keep(other, PHYSICS, found) for found in everything([place / name]))
    assert other.all_keys() == store.all_keys()
    for key in store.all_keys():
        mine, theirs = store.get(key), other.get(key)
        assert theirs.energy_ev == pytest.approx(mine.energy_ev, abs=1e-8)
        assert np.allclose(theirs.forces_ev_angstrom, mine.forces_ev_angstrom, rtol=0, atol=1e-8)
        assert np.allclose(theirs.stress_ev_angstrom3, mine.stress_ev_angstrom3, rtol=0, atol=1e-10)
        assert theirs.physics == mine.physics


@pytest.mark.parametrize("name", ["labels.db", "labels.traj"])
def test_ase_files_hold_the_labels(place, store, name):
    frames = import_export.stored(store, None)
    for _ in range(2):
        import_export.write_ase(place / name, frames)
    if name.endswith(".db"):
        rows = list(ase.db.connect(place / name).select())
        read = [row.toatoms() for row in rows]
        assert [row.data["label"] for row in rows] == store.all_keys()
    else:
        read = ase.io.read(place / name, index=":")
        assert [atoms.info["label"] for atoms in read] == store.all_keys()
    for mine, theirs in zip(frames, read, strict=True):
        assert label_key(canonical(theirs), PHYSICS) == mine.info["label"]
        assert theirs.get_potential_energy() == mine.get_potential_energy()
        assert np.array_equal(theirs.get_forces(), mine.get_forces())
        assert np.array_equal(theirs.get_stress(), mine.get_stress())
    assert not list(place.glob(".labels*"))


def test_an_export_never_mixes_physics(place, store):
    found = import_export.read_output(place / "water.out", espresso())
    import_export.keep(store, {"engine": "gfn1"}, found)
    with pytest.raises(ConfigError, match=r"holds 1 x gfn1; 2 x qe, functional rpbe, .*O 932f1ddd; expected one phys"):
        import_export.stored(store, None)
    assert len(import_export.stored(store, PHYSICS)) == 2
    assert len(import_export.stored(store, {"engine": "gfn1"})) == 1
    with pytest.raises(ConfigError, match="no label of this physics; the store holds 1 x gfn1"):
        import_export.stored(store, {"engine": "gfn2"})


def test_other_pseudopotentials_are_other_physics(place, store):
    found = import_export.read_output(place / "water.out", espresso())
    import_export.keep(store, pw.physics(SETTINGS, HASHES | {"H": "0" * 32}), found)
    with pytest.raises(ConfigError, match="H 00000000"):
        import_export.stored(store, None)
    assert len(import_export.stored(store, PHYSICS)) == 2


def test_labels_of_fewer_elements_are_of_the_same_physics(place, store):
    hydrogen = given("water")[[1, 2]]
    hydrogen.positions[1] = hydrogen.positions[0] + [0.8, 0, 0]
    results = {"energy": -31.0, "forces": np.zeros((2, 3)), "stress": np.zeros(6)}
    hydrogen.calc = SinglePointCalculator(hydrogen, **results)
    write_frames(place / "h2.extxyz", [hydrogen])
    import_export.keep(store, PHYSICS, everything([place / "h2.extxyz"])[0])
    assert len(import_export.stored(store, None)) == len(import_export.stored(store, PHYSICS)) == 3
    import_export.write_deepmd(place / "data", import_export.stored(store, None))
    assert {label_key(item.structure, PHYSICS) for item in everything([place / "data"])} == set(store.all_keys())


def test_a_folder_is_never_written_over(place, store):
    (place / "data").mkdir()
    with pytest.raises(ConfigError, match="data: is there already"):
        import_export.write_deepmd(place / "data", import_export.stored(store, None))


# ---------------------------------------------------------------- integrity


def rewrite(path, **changes):
    """Change a record as a hand or a disk would, its checksum left as it was."""
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | changes))


def resealed(store, key, **changes):
    """Change a record together with its checksum: only what it says can betray it."""
    raw, _ = read_raw(store.path("labels", key))
    store.put_raw(key, raw | changes)


def test_a_whole_store_is_whole(store):
    assert [store.check("labels", key) for key in store.all_keys()] == [True, True]
    assert store.leftovers() == []


def test_a_label_without_a_checksum_is_still_checked(store):
    key = store.all_keys()[0]
    record = json.loads(store.path("labels", key).read_text())
    record.pop("sha256")
    store.path("labels", key).write_text(json.dumps(record))
    assert store.check("labels", key) is False
    assert raw_of(store.get(key)) == record
    rewrite(store.path("labels", key), forces_ev_angstrom=record["forces_ev_angstrom"][:-1])
    with pytest.raises(DataError, match="forces has shape"):
        store.check("labels", key)


def test_one_changed_digit_is_noticed_and_never_trained_on(store):
    key = store.all_keys()[0]
    path = store.path("labels", key)
    text = path.read_text()
    random = np.random.default_rng(3)
    digits = [match.start() for match in re.finditer(r"(?<!sha)\d(?!\d?\":)", text)]
    for at in random.choice(digits, 50, replace=False):
        changed = text[:at] + str((int(text[at]) + 1) % 10) + text[at + 1 :]
        if json.loads(changed) == json.loads(text):
            continue  # the seventeenth digit of the same number
        path.write_text(changed)
        for read in (lambda: store.check("labels", key), lambda: store.get(key)):
            with pytest.raises(DataError, match=f"{key}.json: .*delete it"):
                read()
    path.write_text(text)
    assert store.check("labels", key)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"energy_ev": None}, r"Expected `float`, got `null` - at `\$\.energy_ev`"),
        ({"energy_ev": [1.0]}, r"Expected `float`, got `array` - at `\$\.energy_ev`"),
        ({"stress_ev_angstrom3": [[0.0] * 3] * 2}, r"stress has shape \(2, 3\)"),
        ({"forces_ev_angstrom": "lost"}, r"Expected `array`, got `str` - at `\$\.forces_ev_angstrom`"),
        ({"symbols": ["O", "H"]}, "forces has shape"),
        ({"symbols": ["O", "H", "Xy"]}, "KeyError"),
        ({"physics": {"engine": "gfn1"}}, r"have the key .*… expected"),
        ({"physics": {"engine": "qe", "pseudopotentials": {"O": "x"}}}, "KeyError: 'H'"),
    ],
)
def test_a_record_that_cannot_be_a_label_is_damaged(store, changes, message):
    key = label_key(canonical(given("water")), PHYSICS)
    resealed(store, key, **changes)
    with pytest.raises(DataError, match=f"{key}.json: .*({message})"):
        store.check("labels", key)


def test_a_moved_atom_and_a_moved_file_are_another_key(store):
    first, second = store.all_keys()
    positions = np.array(store.get(first).positions_angstrom)
    positions[0, 0] += 2e-6
    resealed(store, first, positions_angstrom=positions.tolist())
    shutil.copy(store.path("labels", first), store.path("labels", second))
    for key in (first, second):
        with pytest.raises(DataError, match=f"{key[:12]}… expected"):
            store.check("labels", key)


@pytest.mark.parametrize("content", ["", "[]", '{"energy_ev": NaN}', "\x00" * 40])
def test_a_file_that_is_no_record_is_damaged(store, content):
    key = store.all_keys()[0]
    store.path("labels", key).write_text(content)
    with pytest.raises(DataError, match=f"{key}.json"):
        store.check("labels", key)


def test_what_was_set_aside_keeps_its_output(store):
    record = rejected(reason="not converged", physics=PHYSICS)
    key = label_key(canonical(structure_of(record)), PHYSICS)
    store.put_rejected(key, record, "all pw.x said")
    assert store.check("aside", key)
    raw = store.path("aside", key, ".out.gz")
    raw.write_bytes(raw.read_bytes()[:-4])
    with pytest.raises(DataError, match="EOFError"):
        store.check("aside", key)
    raw.write_bytes(gzip.compress(b"all pw.x said")[:12] + b"\x00" * 20)
    with pytest.raises(DataError):
        store.check("aside", key)
    raw.unlink()
    with pytest.raises(DataError, match="FileNotFoundError"):
        store.check("aside", key)
    store.put_rejected(key, msgspec.structs.replace(record, reason="clash"), None)
    assert store.check("aside", key), "a clash never had an output"


def test_a_store_is_checked_as_a_whole_and_what_is_damaged_is_named(store, caplog):
    caplog.set_level(logging.INFO)
    store.put_rejected("ab" * 32, rejected(), None)
    first, second = store.all_keys()
    unsealed = json.loads(store.path("labels", first).read_text())
    del unsealed["sha256"]
    store.path("labels", first).write_text(json.dumps(unsealed))
    store.path("labels", second).write_text("{}")
    found = checked(store)
    assert (found.labels, found.rejected, found.unsealed) == (2, 1, 1)
    assert found.damaged == [store.path("labels", second), store.path("aside", "ab" * 32)]
    assert str(found).startswith("2 labels, 1 rejected, 1 without a checksum, 2 damaged: ")
    assert any("have the key" in line for line in caplog.messages)


def test_what_killed_processes_left_is_named(store):
    key = store.all_keys()[0]
    shelf = store.path("labels", key).parent
    old, fresh = shelf / ".0123-abcd.json", shelf / ".4567-efgh.json"
    for path in (old, fresh):
        path.write_text("{")
    os.utime(old, (time.time() - 7200,) * 2)
    flight = store.root / "flight"
    (flight / "left.lock").touch()
    with (flight / "held.lock").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert store.leftovers() == sorted([flight / "left.lock", old])
    assert len(store.all_keys()) == 2, "temporary files are no labels"
    with store.in_flight("left"):
        assert flight / "left.lock" not in store.leftovers()
