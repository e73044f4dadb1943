"""The whitelist: the real output is a label, and no damaged copy of it is another one."""

import re
from pathlib import Path

import ase.io
import numpy as np
import pytest

from mlpwf.config import Label
from mlpwf.engines.process import TIMED_OUT
from mlpwf.labels.acceptance import Aside, Reason, accept

DATA = Path(__file__).parents[1] / "data" / "espresso"
HASHES = {"O": "932f1ddd01dba2749558f1893c74a415", "H": "f4d00379d62f7fb62c40af863c256602", "C": "not in water"}
SETTINGS = Label(cutoff_ry=30, density_cutoff_ry=180, convergence_ry=1e-8)


@pytest.fixture(scope="module")
def text():
    return (DATA / "water.out").read_text()


@pytest.fixture(scope="module")
def atoms():
    return ase.io.read(DATA / "water.in", format="espresso-in")


def reason_of(text, atoms, status=0, settings=SETTINGS):
    with pytest.raises(Aside) as caught:
        accept(status, text, atoms, settings, HASHES)
    return caught.value.reason


def test_real_output_is_accepted_with_its_printed_numbers(text, atoms):
    result = accept(0, text, atoms, SETTINGS, HASHES)
    rydberg, bohr = 13.605693, 0.529177
    assert result.energy == pytest.approx(-34.31077732 * rydberg, rel=1e-6)
    assert result.forces[0] == pytest.approx(
        np.array([-0.02074558, 0.16401982, -0.05263014]) * rydberg / bohr, rel=1e-5
    )
    assert -result.stress[1, 2] == pytest.approx(0.00012570 * rydberg / bohr**3, rel=1e-5)


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


def test_truncated_anywhere_never_gives_other_numbers(text, atoms):
    original = accept(0, text, atoms, SETTINGS, HASHES)
    accepted = 0
    for end in range(0, len(text), 97):
        try:
            result = accept(0, text[:end], atoms, SETTINGS, HASHES)
        except Aside:
            continue
        accepted += 1
        assert result.energy == original.energy
        assert np.array_equal(result.forces, original.forces)
    assert accepted < 4, "only the lines after JOB DONE may be missing"


def test_damaged_lines_never_give_other_numbers(text, atoms):
    """Lines dropped, doubled, swapped, and digits changed, at seeded random places."""
    original = accept(0, text, atoms, SETTINGS, HASHES)
    random = np.random.default_rng(20)
    lines = text.splitlines()
    numbers = [i for i, line in enumerate(lines) if re.search(r"\d\.\d", line)]
    other = 0
    for _ in range(400):
        damaged = list(lines)
        at, kind = random.choice(numbers), random.integers(4)
        if kind == 0:
            del damaged[at]
        elif kind == 1:
            damaged.insert(at, damaged[at])
        elif kind == 2:
            to = random.choice(numbers)
            damaged[at], damaged[to] = damaged[to], damaged[at]
        else:
            digits = [m.start() for m in re.finditer(r"\d", damaged[at])]
            place = random.choice(digits)
            damaged[at] = damaged[at][:place] + str((int(damaged[at][place]) + 3) % 10) + damaged[at][place + 1 :]
        try:
            result = accept(0, "\n".join(damaged), atoms, SETTINGS, HASHES)
        except Aside:
            continue
        other += not (
            np.isclose(result.energy, original.energy, rtol=0, atol=1e-6)
            and np.allclose(result.forces, original.forces, rtol=0, atol=2e-4)
            and np.allclose(result.stress, original.stress, rtol=0, atol=1e-6)
        )
    assert other == 0
