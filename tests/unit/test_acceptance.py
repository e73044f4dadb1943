"""The whitelist: the real output is a label, and no damaged copy of it is another one."""

import re
from pathlib import Path

import ase.io
import numpy as np
import pytest

from mlpwf.calculators.base import Reason, Rejected
from mlpwf.calculators.espresso import acceptance
from mlpwf.calculators.espresso.acceptance import accept
from mlpwf.config import Label
from mlpwf.process import TIMED_OUT

NAMES = ("water", "waters", "paw", "detailed")
DATA = Path(__file__).parents[1] / "data" / "espresso"
HASHES = {"O": "932f1ddd01dba2749558f1893c74a415", "H": "f4d00379d62f7fb62c40af863c256602", "C": "not in water"}
PAW = {"O": "c7f41d994d4e90c1781f5cd713c45011", "H": "a225a3f3a1be5237eb8f6a7e61cbb4ee"}
CASES = DATA.parent / "cases" / "labels"
LOW = Label(cutoff_ry=25, density_cutoff_ry=100, convergence_ry=1e-7, kpoints="gamma")
SETTINGS = Label(cutoff_ry=30, density_cutoff_ry=180, convergence_ry=1e-8, kpoints="gamma")


@pytest.fixture(scope="module")
def text():
    return (DATA / "water.out").read_text()


@pytest.fixture(scope="module")
def atoms():
    return ase.io.read(DATA / "water.in", format="espresso-in")


@pytest.fixture(scope="module")
def detailed():
    """An output of verbosity 'high', and its structure."""
    return (DATA / "detailed.out").read_text(), ase.io.read(DATA / "detailed.in", format="espresso-in")


def reason_of(text, atoms, status=0, settings=SETTINGS):
    with pytest.raises(Rejected) as caught:
        accept(status, text, atoms, settings, HASHES)
    return caught.value.reason


def test_real_output_is_accepted_with_its_printed_numbers(text, atoms):
    result = accept(0, text, atoms, SETTINGS, HASHES).properties
    rydberg, bohr = 13.605693, 0.529177
    assert result.energy == pytest.approx(-34.31077732 * rydberg, rel=1e-6)
    assert result.forces[0] == pytest.approx(
        np.array([-0.02074558, 0.16401982, -0.05263014]) * rydberg / bohr, rel=1e-5
    )
    assert -result.stress[1, 2] == pytest.approx(0.00012570 * rydberg / bohr**3, rel=1e-5)


def test_an_output_of_projector_augmented_waves_is_accepted_with_its_own_sets_only():
    """It prints the all-electron energy between the energy and the accuracy."""
    text, atoms = (DATA / "paw.out").read_text(), ase.io.read(DATA / "paw.in", format="espresso-in")
    assert accept(0, text, atoms, SETTINGS, PAW).properties.energy == pytest.approx(-44.14714620 * 13.605693, rel=1e-6)
    with pytest.raises(Rejected, match="pseudopotentials pw"):
        accept(0, text, atoms, SETTINGS, HASHES)


def test_an_output_of_verbosity_high_is_accepted_with_its_printed_numbers(detailed):
    text, atoms = detailed
    result = accept(0, text, atoms, SETTINGS, HASHES).properties
    printed = re.findall(r"atom +1 type +1 +force = +(\S+) +(\S+) +(\S+)", text)[0]
    assert result.forces[0] == pytest.approx(np.array(printed, float) * 13.605693 / 0.529177, rel=1e-5)
    pressure = float(re.search(r"P= +(\S+)", text)[1])
    assert -np.trace(result.stress) / 3 * 1602.1766 == pytest.approx(pressure, abs=0.02)


def test_pseudopotentials_are_told_by_their_content_not_by_the_name_in_their_header(text, atoms):
    """Headers of Vanderbilt's format name the element as their author liked."""
    named = text.replace("for O  read", "for ox read").replace("15.99900     O ( 1.00)", "15.99900     ox( 1.00)")
    assert named.count("ox") == 2
    one, other = (accept(0, printed, atoms, SETTINGS, HASHES).properties for printed in (named, text))
    assert one.energy == other.energy
    other = named.replace("15.99900     ox( 1.00)", "15.99900     H ( 1.00)")
    assert reason_of(other, atoms) is Reason.BAD_OUTPUT


FORCE_ROW = re.compile(r"(atom +\d+ type +\d+ +force =)( +\S+)( +\S+)( +\S+)")
STRESS = re.compile(r"Computing stress[\s\S]*?init_run")


def turned_forces(text):
    """The forces and all their contributions with x and y exchanged, as those of a turned structure."""
    return FORCE_ROW.sub(r"\1\3\2\4", text)


def turned_stress(text):
    """The stress and all its contributions with x and y exchanged."""

    def turn(match):
        tensors = np.array(match[3].split() + match[4].split() + match[5].split()).reshape(3, -1, 3)
        turned = tensors[[1, 0, 2]][:, :, [1, 0, 2]]
        rows = ["".join(f" {word:>14}" for word in row.ravel()) for row in turned]
        return f"{match[1]}{match[2]}" + "\n".join(rows) + "\n"

    word = r"(?: +-?\d+\.\d+)"
    block = STRESS.search(text)[0]
    for head in (
        rf"( +total +stress.*\n)()({word}{{6}})\n({word}{{6}})\n({word}{{6}})\n",
        rf"( +\S+ +stress \(kbar\))()({word}{{3}})\n({word}{{3}})\n({word}{{3}})\n",
    ):
        block = re.sub(head, turn, block)
    return STRESS.sub(lambda _: block, text)


def test_printed_in_detail_forces_and_stress_of_another_structure_are_refused_however_whole(text, atoms, detailed):
    """The contributions add up and the totals are consistent; those of D3 are of another structure."""
    whole, structure = detailed
    for turned, reason in ((turned_forces, "D3 forces"), (turned_stress, "D3 stress")):
        assert turned(whole) != whole
        with pytest.raises(Rejected, match=f"the {reason}"):
            accept(0, turned(whole), structure, SETTINGS, HASHES)
        accept(0, turned(text), atoms, SETTINGS, HASHES)  # what an output without details cannot tell


@pytest.mark.parametrize(
    ("find", "replace", "reason"),
    [
        (r"(local contribution  to forces\n.*force = +-?\d\.)\d", r"\g<1>0", "do not add up to them"),
        (r"ewald   stress \(kbar\) +", "ewald   stress (kbar) 1", "do not add up to it"),
        (r"     The SCF correction term to forces\n(?:.*force.*\n)+", "", "do not add up to them"),
        (r"     ewald   stress(?:.*\n){3}", "", "do not add up to it"),
        (r" +Crystallographic axes\n[\s\S]*?( +number of k points)", r"\1", "in part"),
        (r"(?s)(P=.*?\n)\n     kinetic.*?(     init_run)", r"\1\n\2", "in part"),
        (r"( +The non-local contrib\.[\s\S]*?)( +Total force)", r"\2", "in part"),
        (r"(Dense.*FFT dimensions: \()  32", r"\1  36", "the FFT grid is 36 x 32 x 32, 32 x 32 x 32 expected"),
        (r"Dense  grid: .*\n", "", "the FFT grid is not printed"),
    ],
)
def test_details_that_do_not_fit_are_refused(detailed, find, replace, reason):
    whole, structure = detailed
    damaged = re.sub(find, replace, whole, count=1)
    assert damaged != whole
    with pytest.raises(Rejected, match=reason):
        accept(0, damaged, structure, SETTINGS, HASHES)


def test_two_programs_may_differ_in_the_seventh_digit_of_a_d3_force(detailed):
    """In dense toluene pw.x and simple-dftd3 differ by 4e-8 Ry/bohr, 2e-6 eV/Å."""
    whole, structure = detailed
    head, table = whole.split("DFT-D3 dispersion contribution to forces:")
    row = re.search(r"force = +(\S+)", table)
    moved = f"{float(row[1]) + 4e-8:.8f}"
    text = head + "DFT-D3 dispersion contribution to forces:" + table.replace(row[1], moved, 1)
    assert text != whole
    accept(0, text, structure, SETTINGS, HASHES)


def test_a_grid_that_was_asked_for_must_be_the_one_used(detailed):
    whole, structure = detailed
    with pytest.raises(Rejected, match=r"the FFT grid is 32 x 32 x 32, 49 x 49 x 49 expected"):
        accept(0, whole, structure, SETTINGS.model_copy(update={"fft_grid_ry": 400.0}), HASHES)


@pytest.mark.parametrize(
    ("find", "replace", "status", "expected"),
    [
        ("convergence has been achieved", "convergence NOT achieved", 2, Reason.NOT_CONVERGED),
        ("JOB DONE.", "", 0, Reason.BAD_OUTPUT),
        (r"!    total energy .*\n", "", 0, Reason.BAD_OUTPUT),
        ("accuracy    <          2.7E-10", "accuracy    <          2.7E-04", 0, Reason.NOT_CONVERGED),
        ("DFT-D3 Dispersion         =", "Another                   =", 0, Reason.BAD_OUTPUT),
        ("Exchange-correlation= RPBE", "Exchange-correlation= PBE", 0, Reason.BAD_OUTPUT),
        ("force =    -0.02074558", "force =    ***********", 0, Reason.BAD_OUTPUT),
        ("force =    -0.02074558", "force =     0.02084558", 0, Reason.BAD_OUTPUT),
        ("force =    -0.02074558", "force =            NaN", 0, Reason.BAD_OUTPUT),
        (r"tau\(   2\) = \(   0.4910587", "tau(   2) = (   0.4910987", 0, Reason.BAD_OUTPUT),
        ("total   stress ", "absent stress ", 0, Reason.BAD_OUTPUT),
        ("kinetic-energy cutoff     =      30.0000", "kinetic-energy cutoff     =      25.0000", 0, Reason.BAD_OUTPUT),
        ("nothing to replace", "", 139, Reason.CRASHED),
        ("nothing to replace", "", TIMED_OUT, Reason.OUT_OF_TIME),
    ],
)
def test_each_defect_has_its_reason(text, atoms, find, replace, status, expected):
    assert reason_of(re.sub(find, replace, text, count=1), atoms, status) is expected


def test_another_structures_output_is_refused(text, atoms):
    moved = atoms.copy()
    moved.positions[0, 0] += 0.01
    assert reason_of(text, moved) is Reason.BAD_OUTPUT
    swapped = atoms[[1, 0, 2]]
    assert reason_of(text, swapped) is Reason.BAD_OUTPUT


def test_two_runs_in_one_file_are_refused(text, atoms):
    assert reason_of(text + text, atoms) is Reason.BAD_OUTPUT


NUMBER = re.compile(r"-?\d+\.\d+(?:[eE][-+]?\d+)?")


def cut(random, text, other):
    return text[: random.integers(len(text))]


def drop(random, text, other):
    lines = text.splitlines(keepends=True)
    at, count = random.integers(len(lines)), random.integers(1, 6)
    return "".join(lines[:at] + lines[at + count :])


def double(random, text, other):
    lines = text.splitlines(keepends=True)
    at, count = random.integers(len(lines)), random.integers(1, 6)
    return "".join(lines[: at + count] + lines[at:])


def swap(random, text, other):
    lines = text.splitlines(keepends=True)
    numbers = [i for i, line in enumerate(lines) if NUMBER.search(line)]
    a, b = random.choice(numbers, 2, replace=False)
    lines[a], lines[b] = lines[b], lines[a]
    return "".join(lines)


def spoil(random, text, other):
    found = list(NUMBER.finditer(text))[::-1]
    match = found[random.integers(len(found))]
    word = random.choice(["*" * len(match[0]), "NaN".rjust(len(match[0])), "Infinity", "", "0.0"])
    return text[: match.start()] + word + text[match.end() :]


def concatenate(random, text, other):
    first = text[: random.integers(len(text))] if random.integers(2) else text
    return first + random.choice([text, other])


def borrow(random, text, other):
    """A block of lines taken from the other structure's output; the whole stress may be such a block."""
    a, b = text.splitlines(keepends=True), other.splitlines(keepends=True)
    at, count, source = random.integers(len(a)), random.integers(1, 20), random.integers(len(b))
    return "".join(a[:at] + b[source : source + count] + a[at + count :])


def damaged_outputs(monkeypatch, read, others, settings, sums, count):
    """Damage outputs in every way in turn; how many were damaged and accepted by each, and those accepted as others.

    read: text and structure by name; others: the text to mix in, by name; sums: of the pseudopotentials, by name.
    """
    names = tuple(read)
    # the D3 of a structure is the same for every damage to its output
    known = {id(atoms): acceptance.dispersion(atoms, settings) for _, atoms in read.values()}
    monkeypatch.setattr(acceptance, "dispersion", lambda atoms, label: known[id(atoms)])
    random = np.random.default_rng(count)
    damages = (cut, drop, double, swap, spoil, concatenate, borrow)
    tally = {damage.__name__: [0, 0] for damage in damages}
    originals = {name: accept(0, *read[name], settings, sums[name]) for name in names}
    different = []
    for k in range(count):
        name = names[k % len(names)]
        text, atoms = read[name]
        damage = damages[k // len(names) % len(damages)]
        damaged = damage(random, text, others[name])
        if damaged == text:
            damaged = cut(random, text, "")
        tally[damage.__name__][0] += 1
        try:
            result = accept(0, damaged, atoms, settings, sums[name]).properties
        except Rejected:
            continue
        tally[damage.__name__][1] += 1
        original = originals[name].properties
        # without contributions a whole stress block of another run cannot be told from the original's
        loose = damage is borrow and acceptance.DETAILED not in text
        if not (
            result.energy == original.energy
            and np.array_equal(result.forces, original.forces)
            and (loose or np.array_equal(result.stress, original.stress))
        ):
            different.append((k, damage.__name__))
    print("damaged outputs, of them accepted with the original's numbers: ", end="")
    print(", ".join(f"{name} {count}, {accepted}" for name, (count, accepted) in tally.items()))
    assert all(accepted < count for count, accepted in tally.values())
    return different


def pair(folder, name):
    return (folder / f"{name}.out").read_text(), ase.io.read(folder / f"{name}.in", format="espresso-in")


def test_ten_thousand_damaged_outputs_give_no_other_numbers(monkeypatch):
    """Cut, dropped, doubled, swapped, spoiled, concatenated, mixed with another's lines: refused, or unharmed."""
    read = {name: pair(DATA, name) for name in NAMES}
    others = {name: read["water" if name == "waters" else "waters"][0] for name in NAMES}
    sums = dict.fromkeys(NAMES, HASHES) | {"paw": PAW}
    assert damaged_outputs(monkeypatch, read, others, SETTINGS, sums, 10_000) == []


def test_damaged_outputs_of_pw_7_and_of_fixed_atoms_give_no_other_numbers(monkeypatch):
    """At default verbosity pw.x 7 prints what forces consist of; of fixed atoms it prints less."""
    names = ("qe72_default", "qe72_fixed", "qe67_25ry")
    read = {name: pair(CASES / name, "scf") for name in names}
    others = dict.fromkeys(names, (DATA / "waters.out").read_text())
    sums = dict.fromkeys(names, HASHES)
    assert damaged_outputs(monkeypatch, read, others, LOW, sums, 2_100) == []


def test_a_head_with_another_outputs_tail_is_refused_up_to_the_stress():
    """What pw.x prints ties energy and forces to the structure by the number of atoms, but nothing ties the stress."""
    lines, tail = ((DATA / f"{n}.out").read_text().splitlines(keepends=True) for n in ("water", "waters"))
    atoms = ase.io.read(DATA / "water.in", format="espresso-in")
    forces_end = next(i for i, line in enumerate(lines) if "Total force" in line)
    for at in range(forces_end):
        for start in (at, len(tail) - len(lines) + at):
            with pytest.raises(Rejected):
                accept(0, "".join(lines[:at] + tail[start:]), atoms, SETTINGS, HASHES)


def test_another_output_is_refused_whatever_its_structure(text, atoms):
    other = (DATA / "waters.out").read_text()
    assert reason_of(other, atoms) is Reason.BAD_OUTPUT


def test_changed_digits_never_matter(text, atoms):
    """A flipped digit is refused: pw.x prints every number twice, or prints a sum that it enters."""
    original = accept(0, text, atoms, SETTINGS, HASHES).properties
    random = np.random.default_rng(20)
    lines = text.splitlines()
    numbers = [i for i, line in enumerate(lines) if re.search(r"\d\.\d", line)]
    other = 0
    for _ in range(2000):
        damaged = list(lines)
        at = random.choice(numbers)
        place = random.choice([m.start() for m in re.finditer(r"\d", damaged[at])])
        damaged[at] = damaged[at][:place] + str((int(damaged[at][place]) + 3) % 10) + damaged[at][place + 1 :]
        try:
            result = accept(0, "\n".join(damaged), atoms, SETTINGS, HASHES).properties
        except Rejected:
            continue
        other += not (
            np.isclose(result.energy, original.energy, rtol=0, atol=2e-6)
            and np.allclose(result.forces, original.forces, rtol=0, atol=1e-6)
            and np.allclose(result.stress, original.stress, rtol=0, atol=1e-6)
        )
    assert other == 0
