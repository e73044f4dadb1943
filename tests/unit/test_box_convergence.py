"""The choice of k-points and boxes, against labels whose errors fall with the distance of images by formula."""

import numpy as np
import pytest
from ase import Atoms

from mlpwf.calculators.espresso import kpoints
from mlpwf.calculators.espresso.box_convergence import (
    KPOINT_SHARE,
    STEP_ANGSTROM,
    Box,
    cheapest,
    converge_box,
    foreseen,
    image_distances,
)
from mlpwf.calculators.espresso.convergence import Errors, Measurement, Row, Setting
from mlpwf.calculators.espresso.pw import kpoints_of
from mlpwf.calculators.espresso.study_figure import panels
from mlpwf.config import Label
from mlpwf.errors import DataError
from mlpwf.structures.frames import by_size
from mlpwf.structures.properties import Properties

TARGET = Errors(0.005, 0.002)
CHEAP, HIGH = Setting(40, 161, 1e-6, 360), Setting(80, 800, 1e-10)


def frames(edge, atoms, count=2):
    """Boxes of hydrogen molecules, each a little thinner than the one before."""
    random, found = np.random.default_rng(atoms), []
    for k in range(count):
        one = Atoms(f"H{atoms}", cell=[edge * (1 + 0.01 * k)] * 3, pbc=True)
        one.positions = random.uniform(0, edge, size=(atoms, 3))
        one.info["kind"] = "bulk"
        found.append(one)
    return found


SMALL, LARGE = frames(5.0, 4), frames(7.1, 12)


class Model:
    """Labels with errors of k-points (measured ones of toluene), cut-offs and threshold; cost grows with k-points."""

    def __init__(self, frames, of_kpoints=0.085, decay=0.85, of_cutoff=0.0025, of_threshold=0.0, failing=()):
        self.frames, self.asked, self.failing = frames, [], failing
        self.of_kpoints, self.decay, self.of_cutoff, self.of_threshold = of_kpoints, decay, of_cutoff, of_threshold
        random = np.random.default_rng(8)
        self.truth = [random.normal(size=(len(atoms), 3)) for atoms in frames]
        self.noise = [[unit(random.normal(size=(len(atoms), 3))) for atoms in frames] for _ in range(3)]

    def points(self, setting, atoms):
        return kpoints_of(Label().model_copy(update=setting.section()), atoms.cell.array)

    def sizes(self, setting, atoms):
        distance = self.points(setting, atoms).image_distance(atoms.cell.array)
        return (
            self.of_kpoints * np.exp(-self.decay * (distance - 7.1)),
            self.of_cutoff * np.exp(-(setting.cutoff_ry - 40) / 5),
            self.of_threshold * np.sqrt(setting.convergence_ry),
        )

    def forces(self, setting):
        return [
            true + sum(size * noise[k] for size, noise in zip(self.sizes(setting, atoms), self.noise, strict=True))
            for k, (true, atoms) in enumerate(zip(self.truth, self.frames, strict=True))
        ]

    def error(self, setting):
        """RMS force error of the worst frame against labels without any."""
        return max(rms(found - true) for found, true in zip(self.forces(setting), self.truth, strict=True))

    def __call__(self, setting):
        self.asked.append(setting)
        numbers = [len(self.points(setting, atoms).points) for atoms in self.frames]
        if setting in self.failing:
            raise DataError("rejected: not converged")
        labels = [
            Properties(
                0.0, forces, -np.eye(3) * len(a) * 0.1 * sum(self.sizes(setting, a)) / a.get_volume(), a.get_volume()
            )
            for a, forces in zip(self.frames, self.forces(setting), strict=True)
        ]
        cost = float(np.mean(numbers)) * len(self.frames[0]) ** 2 * setting.cutoff_ry
        return Measurement(labels, cost)


def rms(values):
    return float(np.sqrt(np.mean(values**2)))


def unit(values):
    return values / rms(values)


def of_lever(box, lever):
    return [row for row in box.rows if row.lever == lever]


@pytest.mark.parametrize("members", [SMALL, LARGE])
def test_the_chosen_k_points_meet_the_target_against_the_truth_and_fewer_do_not(members):
    model = Model(members)
    box = converge_box(model, members, TARGET, CHEAP, HIGH)
    assert box.converged
    assert box.chosen.lever == "box"
    assert model.error(box.chosen.setting) <= 1.02 * TARGET.force, "against labels without error"
    assert box.chosen.errors.force == pytest.approx(model.error(box.chosen.setting), rel=0.1), "measured, not inferred"
    *fewer, last = [row for row in of_lever(box, "k-points") if row.points <= box.chosen.points][:-1] + [box.chosen]
    nearer = [row for row in fewer if row.image_distance_angstrom < last.image_distance_angstrom - 1e-6]
    assert nearer
    assert all(row.errors.of(TARGET) > KPOINT_SHARE for row in nearer), "each is too coarse by itself"
    (truth,) = of_lever(box, "converged")
    assert (truth.setting.cutoff_ry, truth.errors) == (80, None)
    farthest = max(row.image_distance_angstrom for row in of_lever(box, "k-points"))
    assert truth.image_distance_angstrom == pytest.approx(farthest)
    assert all(setting.cutoff_ry == 40 for setting in model.asked if setting != truth.setting), "one dear measurement"


def test_a_box_whose_images_are_far_apart_needs_gamma_alone():
    members = frames(13.0, 16)
    box = converge_box(Model(members), members, TARGET, CHEAP, HIGH)
    assert box.chosen.points == 0
    assert box.chosen.setting.image_distance_angstrom == 12.6, "asked for as a distance, with 3% to spare"
    rows = of_lever(box, "k-points")
    assert [row.points for row in rows] == [0, 1], "one more k-point shows that Γ is converged"
    assert rows[1].image_distance_angstrom - rows[0].image_distance_angstrom > STEP_ANGSTROM


def test_an_explicit_grid_of_the_user_is_rated_against_the_same_reference_and_taken_if_it_is_cheaper():
    user = Setting(40, 161, 1e-6, 360, kpoints=(2, 2, 2, 1, 1, 1))
    box = converge_box(Model(LARGE), LARGE, TARGET, CHEAP, HIGH, user)
    assert box.rows[-1] is box.configured
    assert box.configured.points == 4
    assert box.configured.errors.force == pytest.approx(Model(LARGE).error(user), rel=0.1)
    assert box.best(TARGET) is box.chosen, "its four points cost more"
    through = Setting(40, 161, 1e-6, 360)
    box = converge_box(Model(LARGE), LARGE, TARGET, CHEAP, HIGH, through)
    assert box.configured.errors.force > 0.05
    assert box.best(TARGET) is box.chosen, "cheaper, but Γ misses the target"
    lean = Setting(38, 153, 1e-6, 340, image_distance_angstrom=12.0)
    box = converge_box(Model(LARGE, of_cutoff=0.0015), LARGE, TARGET, CHEAP, HIGH, lean)
    assert box.best(TARGET) is box.configured


def test_k_points_that_do_not_converge_have_no_reference_and_no_recommendation(monkeypatch):
    monkeypatch.setattr(kpoints, "MOST_POINTS", 4)
    members = frames(4.03, 4)  # cells of no other test: what a cell needs is remembered
    box = converge_box(Model(members, of_kpoints=1.0, decay=0.02), members, TARGET, CHEAP, HIGH, CHEAP)
    assert not box.converged
    assert box.chosen is None
    assert box.best(TARGET) is None
    assert box.agreement.of(TARGET) > 1 / 3
    assert {row.lever for row in box.rows} == {"k-points", "configured"}, "nothing dear was measured"
    assert all(row.errors is None for row in box.rows)


def test_two_k_points_that_agree_by_chance_are_no_reference():
    class Lucky(Model):
        def sizes(self, setting, atoms):
            distance = self.points(setting, atoms).image_distance(atoms.cell.array)
            first, *others = super().sizes(setting, atoms)
            return (0.02 if 7.9 < distance < 9.5 else first, *others)

    members = frames(4.0, 4, count=1)  # images 4.0, 5.7, 6.9, 8.0, 8.9, 9.8 Å apart
    box = converge_box(Lucky(members), members, TARGET, CHEAP, HIGH)
    rows = of_lever(box, "k-points")
    assert rows[3].errors.force == pytest.approx(rows[4].errors.force)
    assert rows[-1].image_distance_angstrom > 12
    assert Lucky(members).error(box.chosen.setting) <= 1.02 * TARGET.force


def test_cutoffs_that_miss_the_target_in_a_box_are_not_recommended_there():
    box = converge_box(Model(SMALL, of_cutoff=0.02), SMALL, TARGET, CHEAP, HIGH)
    assert box.converged
    assert box.chosen is None
    assert of_lever(box, "box")
    assert all(row.errors.force > TARGET.force for row in of_lever(box, "box"))
    assert box.closest.errors.force == min(row.errors.force for row in of_lever(box, "box"))
    assert cheapest({"a": [box]}, TARGET) is None


def test_a_threshold_too_loose_for_a_larger_box_is_tightened_before_k_points_are_added():
    box = converge_box(Model(SMALL, of_threshold=6.0), SMALL, TARGET, CHEAP, HIGH)
    first, second = of_lever(box, "box")
    assert first.errors.force > TARGET.force
    assert second is box.chosen
    assert second.setting.convergence_ry == pytest.approx(1e-7)
    assert second.setting.image_distance_angstrom == first.setting.image_distance_angstrom


def test_noise_of_a_loose_threshold_does_not_keep_k_points_from_converging():
    class Noisy(Model):
        def forces(self, setting):
            random = np.random.default_rng(len(self.asked))
            noise = 2.5 * np.sqrt(setting.convergence_ry)
            return [found + noise * unit(random.normal(size=found.shape)) for found in super().forces(setting)]

    box = converge_box(Noisy(SMALL), SMALL, TARGET, CHEAP, HIGH)
    quiet = converge_box(Model(SMALL), SMALL, TARGET, CHEAP, HIGH)
    assert box.converged
    assert len(of_lever(box, "k-points")) == len(of_lever(quiet, "k-points"))
    assert box.chosen.errors.force <= TARGET.force


def test_k_points_that_a_user_cannot_have_are_a_row_with_the_reason(monkeypatch):
    monkeypatch.setattr(kpoints, "MOST_POINTS", 16)
    members = frames(5.07, 4)
    far = Setting(40, 161, 1e-6, 360, image_distance_angstrom=30.0)
    box = converge_box(Model(members), members, TARGET, CHEAP, HIGH, far)
    assert "needs more" in box.configured.failure
    assert box.best(TARGET) is box.chosen is not None


def test_both_errors_together_may_ask_for_further_k_points():
    apart = Model(SMALL, of_cutoff=0.00492)
    box = converge_box(apart, SMALL, TARGET, CHEAP, HIGH)
    tried = of_lever(box, "box")
    assert tried[-1] is box.chosen
    assert len({row.setting.image_distance_angstrom for row in tried}) > 1


def test_a_k_point_set_without_labels_is_passed_over_and_a_reference_without_them_ends_the_study():
    whole = converge_box(Model(SMALL), SMALL, TARGET, CHEAP, HIGH)
    coarse, dear = of_lever(whole, "k-points")[1].setting, of_lever(whole, "converged")[0].setting
    box = converge_box(Model(SMALL, failing=[coarse]), SMALL, TARGET, CHEAP, HIGH)
    assert "not converged" in next(row.failure for row in box.rows if row.failure)
    assert box.chosen.setting == whole.chosen.setting
    box = converge_box(Model(SMALL, failing=[dear]), SMALL, TARGET, CHEAP, HIGH, CHEAP)
    assert box.converged
    assert box.chosen is None
    assert box.configured.errors is None


def test_image_distances_climb_through_the_lattice_and_name_the_same_points_for_a_slightly_smaller_cell(monkeypatch):
    cells = [np.eye(3) * 7.0, np.eye(3) * 7.1]
    distances = []
    for distance in image_distances(cells):
        distances.append(distance)
        if distance > 12:
            break
    assert distances == pytest.approx([6.7, 9.6, 11.7, 13.5])
    label = Label(kpoints="auto")
    counts = [
        [len(kpoints_of(label.model_copy(update={"image_distance_angstrom": d}), cell).points) for d in distances]
        for cell in (*cells, np.eye(3) * 6.95)
    ]
    assert counts == [[1, 1, 2, 4]] * 3
    monkeypatch.setattr(kpoints, "MOST_POINTS", 4)
    assert len(list(image_distances([np.eye(3) * 2.53]))) == 4, "it ends where there are no more"


def test_what_is_to_come_is_foreseen():
    cells = [atoms.cell.array for atoms in LARGE]
    expected = foreseen(cells, CHEAP, HIGH, TARGET)
    done = converge_box(model := Model(LARGE), LARGE, TARGET, CHEAP, HIGH)
    assert done.chosen is not None
    assert abs(len(expected) - len(dict.fromkeys(model.asked))) <= 1
    assert expected[-1].cutoff_ry == 80


def test_sizes_are_those_of_liquid_where_there_is_any():
    single = Atoms("H2", cell=[6] * 3, pbc=True, info={"kind": "single"})
    assert by_size([*LARGE, single, *SMALL]) == {4: [3, 4], 12: [0, 1]}
    assert by_size([single]) == {2: [0]}


def test_the_cheapest_box_is_that_of_the_lowest_price_by_atom():
    def box(atoms, cpu_s, force=0.004):
        row = Row("box", CHEAP, Errors(force, 0.001), cpu_s, atoms=atoms)
        return Box(atoms, [row], converged=True, chosen=row)

    studied = {"a": [box(4, 8.0), box(8, 12.0), box(16, 1.0, force=0.006)], "b": [box(8, 14.0)]}
    name, found, row = cheapest(studied, TARGET)
    assert (name, found.atoms, row.cpu_s_atom) == ("a", 8, 1.5), "the largest misses the target"


def test_panels_show_errors_against_the_distance_of_images_and_the_price_of_each_box():
    boxes = [converge_box(Model(members), members, TARGET, CHEAP, HIGH, CHEAP) for members in (SMALL, LARGE)]
    points, prices, *_ = panels({}, {"a": boxes}, TARGET)
    names = [curve.label for curve in points.curves]
    assert names == ["4 atoms, force", "4 atoms, virial", "12 atoms, force", "12 atoms, virial", "target"]
    rows = of_lever(boxes[0], "k-points")[:-1]
    assert list(points.curves[0].x) == [row.image_distance_angstrom for row in rows]
    assert list(points.curves[0].y) == [row.errors.force / TARGET.force for row in rows]
    cheap, configured = prices.curves
    assert list(cheap.y) == [box.chosen.cpu_s / box.atoms for box in boxes]
    assert list(configured.x) == [4, 12]
