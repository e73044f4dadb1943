"""The search for the cheapest settings, against labels whose errors are known by formula."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from mlpwf.calculators.espresso.convergence import (
    MARGIN,
    REFERENCE_CUTOFFS_RY,
    THRESHOLD_SHARE,
    Errors,
    Measurement,
    Row,
    Setting,
    Study,
    converge,
    errors,
)
from mlpwf.calculators.espresso.pw import physics
from mlpwf.calculators.espresso.study_figure import panels
from mlpwf.config import Label
from mlpwf.errors import DataError
from mlpwf.label.study_boxes import choose_frames
from mlpwf.structures.properties import Properties

TARGET = Errors(0.005, 0.002)


def water(length=6.0, count=1, kind="bulk", seed=0):
    atoms = Atoms(cell=[length] * 3, pbc=True)
    for k in range(count):
        one = molecule("H2O")
        one.translate([3.0 * k, 0, 0])
        atoms += one
    atoms.rattle(0.02, seed=seed)
    atoms.info["kind"] = kind
    return atoms


FRAMES = [water(6.0), water(7.0, seed=1), water(9.0, count=2, kind="dimer", seed=2)]


class Model:
    """Labels with an error of each lever that is known by formula; cost grows with both cut-offs."""

    def __init__(self, of_cutoff=0.4, of_density=0.1, of_grid=0.4, of_threshold=3.0, failing=()):
        self.parts, self.failing, self.asked = (of_cutoff, of_density, of_grid, of_threshold), failing, []
        random = np.random.default_rng(5)
        self.truth = [random.normal(size=(len(atoms), 3)) for atoms in FRAMES]
        self.noise = [[_unit(random.normal(size=(len(atoms), 3))) for atoms in FRAMES] for _ in range(4)]

    def sizes(self, setting):
        cut, density, grid, threshold = self.parts
        return (
            cut * np.exp(-(setting.cutoff_ry - 20) / 8),
            density * np.exp(-(setting.density_cutoff_ry - 100) / 40),
            grid * np.exp(-((setting.fft_grid_ry or setting.density_cutoff_ry) - 100) / 60),
            threshold * np.sqrt(setting.convergence_ry),
        )

    def error(self, setting):
        """RMS force error of the worst frame against the labels without any error."""
        return max(_rms(found - true) for found, true in zip(self.forces(setting), self.truth, strict=True))

    def forces(self, setting):
        sizes = self.sizes(setting)
        return [
            true + sum(size * noise[k] for size, noise in zip(sizes, self.noise, strict=True))
            for k, true in enumerate(self.truth)
        ]

    def __call__(self, setting):
        self.asked.append(setting)
        if (setting.cutoff_ry, setting.density_cutoff_ry) in self.failing:
            raise DataError("rejected: not converged")
        virials = [np.eye(3) * len(atoms) * 0.2 * sum(self.sizes(setting)) for atoms in FRAMES]
        energies = [len(atoms) * 1.0 * sum(self.sizes(setting)) for atoms in FRAMES]
        cost = setting.density_cutoff_ry**1.5 + (setting.fft_grid_ry or setting.density_cutoff_ry) ** 1.5
        return Measurement(labels(FRAMES, energies, self.forces(setting), virials), cost / 1000)


def labels(frames, energies, forces, virials):
    """Labels of frames from energies in eV, forces in eV/Å and virials in eV."""
    numbers = zip(frames, energies, forces, virials, strict=True)
    return [Properties(e, f, -v / atoms.get_volume(), atoms.get_volume()) for atoms, e, f, v in numbers]


def _rms(values):
    return float(np.sqrt(np.mean(values**2)))


def _unit(values):
    return values / _rms(values)


def test_the_chosen_setting_meets_the_target_and_every_cheaper_value_of_a_lever_does_not():
    model = Model()
    study = converge(model, FRAMES, TARGET, 220)
    chosen = study.chosen
    assert chosen is not None
    assert chosen.lever == "threshold"
    assert model.error(chosen.setting) <= TARGET.force, "against labels without error, not only the reference"
    for lever in ("cut-off", "density cut-off", "FFT grid", "threshold"):
        *cheaper, last = [row for row in study.rows if row.lever == lever]
        assert last.errors.of(TARGET) <= MARGIN
        refused = [
            row.errors.of(TARGET) > MARGIN or model.sizes(row.setting)[3] > TARGET.force * THRESHOLD_SHARE
            for row in cheaper
        ]
        assert all(refused), "each lever stops at the first value that meets the target"
    assert chosen.cpu_s < next(row for row in study.rows if row.lever == "cut-off" and row.errors.of(TARGET) < 1).cpu_s
    assert len(model.asked) == len(study.rows) <= 24, "one lever after the other, not the grid"


def test_the_reference_is_raised_until_two_agree_and_is_close_to_the_truth():
    model = Model(of_cutoff=0.9)
    study = converge(model, FRAMES, TARGET, 220)
    tried = [row.setting.cutoff_ry for row in study.rows if row.lever == "reference"]
    assert tuple(tried) == REFERENCE_CUTOFFS_RY[: len(tried)]
    assert len(tried) > 2
    assert study.agreement.of(TARGET) <= 1 / 3
    assert _rms(study.reference.labels[0].forces - model.truth[0]) < study.agreement.force


def test_a_hard_set_has_no_reference_and_no_recommendation():
    study = converge(Model(of_cutoff=1e4), FRAMES, TARGET, 105)
    assert study.chosen is None
    assert [row.lever for row in study.rows] == ["reference"] * 3
    assert study.agreement.of(TARGET) > 1 / 3


def test_a_setting_without_labels_is_passed_over_and_a_reference_without_them_ends_the_study():
    whole = converge(Model(of_cutoff=0.03), FRAMES, TARGET, 220).chosen.setting
    first = (whole.cutoff_ry, 10 * whole.cutoff_ry)
    study = converge(Model(of_cutoff=0.03, failing=[first]), FRAMES, TARGET, 220)
    assert study.chosen.setting.cutoff_ry > whole.cutoff_ry
    assert "not converged" in next(row.failure for row in study.rows if row.failure)
    study = converge(Model(failing=[(60, 600)]), FRAMES, TARGET, 220)
    assert study.chosen is None
    assert len(study.rows) == 1


def test_a_lever_that_never_meets_the_target_stays_as_in_the_reference():
    study = converge(Model(of_cutoff=0, of_density=0.5, of_threshold=1e4), FRAMES, Errors(0.5, 0.5), 220)
    assert study.chosen.setting.convergence_ry == 1e-10


def test_a_threshold_lucky_to_cancel_the_other_errors_is_refused():
    class Lucky(Model):
        def forces(self, setting):
            loose = setting.convergence_ry == 1e-5
            return self.truth if loose else super().forces(replace(setting, convergence_ry=1e-10))

    study = converge(Lucky(), FRAMES, TARGET, 220)
    loose = next(row for row in study.rows if row.setting.convergence_ry == 1e-5)
    assert loose.errors.force < 0.8 * TARGET.force
    tight = converge(Lucky(), FRAMES, Errors(TARGET.force, 10.0), 220)
    assert tight.chosen.setting.convergence_ry == 1e-6


def _measured(energies=(0.0, 0.0, 0.0), shift=0.0, virial=0.0):
    forces = [np.full((len(atoms), 3), shift * (k == 1)) for k, atoms in enumerate(FRAMES)]
    virials = np.zeros((3, 3, 3))
    virials[2] = virial * np.eye(3)
    return Measurement(labels(FRAMES, energies, forces, virials), 1.0)


def test_errors_are_those_of_the_worst_frame_and_per_atom():
    found = errors(_measured(shift=0.03, virial=0.6), _measured(), FRAMES)
    assert found.force == pytest.approx(0.03)
    assert found.virial == pytest.approx(0.6 / 6 / np.sqrt(3)), "RMS over nine components of a frame of six atoms"


def test_energies_are_compared_between_frames_of_one_composition_only():
    reference = _measured((-10.0, -11.0, -20.0))
    shifted = _measured((-10.0 + 5, -11.0 + 5, -20.0 + 10))
    assert errors(shifted, reference, FRAMES).energy == pytest.approx(0, abs=1e-12), "what each atom adds cancels"
    bent = _measured((-10.0 + 5, -11.0 + 5.06, -20.0 + 70))
    assert errors(bent, reference, FRAMES).energy == pytest.approx(0.03 / 3)
    assert errors(_take(bent), _take(reference), FRAMES[1:]).energy is None


def _take(measured):
    return replace(measured, labels=measured.labels[1:])


def test_labels_of_other_frames_are_refused():
    with pytest.raises(ValueError, match="for 2 frames"):
        errors(_measured(), _measured(), FRAMES[:2])


def test_frames_chosen_are_the_densest_one_like_it_and_then_other_kinds():
    bulk = [water(length, 4, seed=k) for k, length in enumerate((8.0, 7.5, 8.4, 7.9))]
    frames = [*bulk, water(9.0, 1, "single"), water(9.5, 2, "dimer")]
    chosen = choose_frames(frames, 4)
    assert chosen[0] == 1
    assert chosen[1] in (0, 2, 3), "the composition of the first, so that energies can be compared"
    assert {frames[index].info["kind"] for index in chosen[2:]} == {"single", "dimer"}
    assert choose_frames(frames, 2) == chosen[:2]
    assert sorted(choose_frames(frames, 99)) == list(range(6))
    mirrored = choose_frames(frames[::-1], 4)
    assert [5 - index for index in mirrored] == chosen, "the order of the file does not matter"


def test_every_element_is_among_the_chosen_frames():
    salted = [*FRAMES, FRAMES[0] + Atoms("Na", [[3, 3, 3]]), FRAMES[0] + Atoms("Cl", [[3, 3, 3]])]
    assert sorted(choose_frames(salted, 1)) == [3, 4], "those, and no other before them"


def test_no_frames_or_no_cell_is_one_line():
    with pytest.raises(DataError, match="no frames"):
        choose_frames([], 3)
    with pytest.raises(DataError, match="periodic cell"):
        choose_frames([molecule("H2O")], 3)


def test_a_setting_is_the_keys_of_a_label_section_and_back():
    for asked in ("auto", "gamma", (2, 2, 2), (2, 2, 2, 1, 1, 1), [(0.25, 0.25, 0.25)]):
        label = Label(cutoff_ry=40, density_cutoff_ry=161, fft_grid_ry=363, kpoints=asked, image_distance_angstrom=9.0)
        again = label.model_copy(update=Setting.of(label).section())
        assert physics(again, {}) == physics(label, {})
    assert "images 9 Å apart" in str(Setting.of(label.model_copy(update={"kpoints": "auto"})))
    assert "Γ" in str(Setting(40, 160, 1e-6))


def test_the_net_force_on_a_molecule_and_the_pressure_have_errors_of_their_own():
    two = [water(6.0, count=2), water(6.0, count=2, seed=3)]
    for atoms in two:
        atoms.arrays["molecule"] = np.array([0, 0, 0, 1, 1, 1])
    still = Measurement(labels(two, np.zeros(2), [np.zeros((6, 3))] * 2, np.zeros((2, 3, 3))), 1.0)
    inside = np.array([[1.0, 0, 0], [-1.0, 0, 0], [0, 0, 0]] * 2)
    across = np.array([[0, 0.5, 0]] * 3 + [[0, -0.5, 0]] * 3)
    virials = np.array([np.diag([1.0, 2.0, 3.0]), np.zeros((3, 3))])
    found = errors(Measurement(labels(two, np.zeros(2), [inside, across], virials), 1.0), still, two)
    assert found.net_force == pytest.approx(1.5 / np.sqrt(3)), "the second frame's; what acts inside a molecule is none"
    assert found.pressure_kbar == pytest.approx(2.0 / 216 * 1602.1766 / 2, rel=1e-5), "1 eV/Å³ is 1602 kbar"
    assert errors(_measured(), _measured(), FRAMES).net_force is None


def test_panels_show_each_lever_through_the_chosen_setting_in_units_of_the_target():
    study = converge(Model(), FRAMES, TARGET, 220)
    _, _, cut, density, grid, threshold, cost = panels({"a": study}, {"a": []}, TARGET)
    scanned = [row for row in study.rows if row.lever == "cut-off"]
    force, virial, target = cut.curves
    reached = dict(zip(force.x, force.y, strict=True))
    assert all(reached[row.setting.cutoff_ry] == row.errors.force / TARGET.force for row in scanned)
    assert np.array_equal(target.y, [1, 1])
    assert len(density.curves[0].x) == 1 + sum(row.lever == "density cut-off" for row in study.rows)
    assert len(grid.curves[0].x) == 1 + sum(row.lever == "FFT grid" for row in study.rows)
    assert len(threshold.curves[0].x) == 1 + sum(row.lever == "threshold" for row in study.rows)
    assert len(cost.curves[1].x) == sum(row.lever != "reference" for row in study.rows)
    assert len(virial.x) == len(force.x)


def test_a_set_without_a_chosen_setting_is_not_drawn():
    empty = Study([Row("reference", Setting(60, 600, 1e-10))])
    assert [curve.label for curve in panels({"a": empty}, {"a": []}, TARGET)[2].curves] == ["target"]
