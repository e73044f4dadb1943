"""The reckoning of the benchmark against DP-GEN."""

import csv
import importlib.util
import sys
from pathlib import Path

import dpdata
import numpy as np
import pytest
from ase.build import molecule

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def dpgen():
    spec = importlib.util.spec_from_file_location("benchmark_dpgen", PROJECT / "benchmarks" / "dpgen.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_labels_to_a_goal_lie_on_a_power_law(dpgen):
    labels = np.array([12, 24, 48])
    errors = 600 * labels**-0.5
    assert dpgen.reached(labels, errors, 600 * 30**-0.5) == pytest.approx(30)
    assert dpgen.reached(labels, errors, 1000) == 12
    assert dpgen.reached(labels, errors, 1) == np.inf


def needed(dpgen, rows):
    """Labels by whose goal, its labels, and rule."""
    return {(setter, labels, rule): count for _, setter, labels, rule, _, count, _ in dpgen.reach(rows)}


def test_a_rule_twice_as_thrifty_needs_half_the_labels(dpgen):
    rows = []
    for seed, off in ((0, 1.0), (1, 1.5)):
        rows.append(["water", "start", seed, 6, off * 300.0])
        for labels in (12, 24):
            error = 300 * (6 / labels) ** 0.5
            rows.append(["water", "dpgen", seed, labels, off * error])
            rows.append(["water", "mlpwf", seed, labels, off * error / 2**0.5])
    found = needed(dpgen, rows)
    assert found["dpgen", "24", "dpgen"] == "24"
    assert found["dpgen", "24", "mlpwf"] == "12"
    assert found["mlpwf", "12", "dpgen"] == "24"
    assert found["mlpwf", "24", "dpgen"] == ">24"
    assert {row[4] for row in dpgen.reach(rows)} == {2}


def test_a_goal_not_reached_is_a_lower_bound(dpgen):
    rows = [["water", "start", 0, 12, 300.0], ["water", "dpgen", 0, 24, 100.0], ["water", "random", 0, 24, 200.0]]
    assert needed(dpgen, rows) == {("dpgen", "24", "dpgen"): "24", ("dpgen", "24", "random"): ">24"}


def test_whole_programs_are_held_against_each_other_from_starts_of_their_own(dpgen):
    rows = [["water", "start", 0, 6, 100.0], ["water", "dpgen", 0, 12, 90.0], ["water", "mlpwf", 0, 12, 80.0]]
    rows += [["water", "start_energy", 0, 6, 200.0], ["water", "start_published", 0, 6, 300.0]]
    for labels, theirs, same, ours in ((12, 250.0, 180.0, 150.0), (24, 200.0, 140.0, 100.0)):
        rows += [["water", "dpgen_published", 0, labels, theirs], ["water", "dpgen_energy", 0, labels, same]]
        rows += [["water", "mlpwf_energy", 0, labels, ours]]
    found = needed(dpgen, rows)
    assert {key: count for key, count in found.items() if key[0] == "dpgen_published"} == {
        ("dpgen_published", "12", "mlpwf_energy"): "6", ("dpgen_published", "12", "dpgen_published"): "12",
        ("dpgen_published", "24", "mlpwf_energy"): "6", ("dpgen_published", "24", "dpgen_published"): "24",
    }  # fmt: skip
    assert {rule for setter, _, rule in found if setter == "dpgen"} == {"mlpwf", "dpgen"}
    assert found["mlpwf_energy", "12", "dpgen_published"] == ">24"
    assert found["mlpwf_energy", "12", "dpgen_energy"] == "20"  # 12 (24/12)^(log(180/150) / log(180/140))
    goals = [tuple(row[:4]) for row in dpgen.reach(rows)]
    assert len(goals) == len(set(goals))


def test_only_curves_that_came_as_far_are_compared(dpgen):
    rows = [["water", "start", 0, 6, 200.0], ["water", "mlpwf", 0, 12, 100.0], ["water", "mlpwf", 0, 24, 50.0]]
    rows += [["water", "random", 0, 12, 150.0]]
    found = needed(dpgen, rows)
    assert found["mlpwf", "12", "random"] == ">12"
    assert ("mlpwf", "24", "random") not in found


def test_parts_run_elsewhere_are_joined_and_later_ones_count(dpgen, tmp_path):
    table = tmp_path / "dpgen.csv"
    dpgen.write_table(table, dpgen.COLUMNS, [["water", "start", 0, 6, "1.0"], ["water", "dpgen", 0, 12, "2.0"]])
    rows = dpgen.joined(dpgen.kept(table), [["water", "dpgen", 0, 12, "3.0"], ["water", "dpgen", 0, 6, "4.0"]], 4)
    assert [list(map(str, row)) for row in rows] == [
        ["water", "dpgen", "0", "6", "4.0"], ["water", "dpgen", "0", "12", "3.0"], ["water", "start", "0", "6", "1.0"]
    ]  # fmt: skip
    assert dpgen.kept(tmp_path / "none.csv") == []


def test_trainings_differ_by_what_their_names_say(dpgen):
    ours, theirs = (dpgen.RULES[name] for name in ("mlpwf_shipped", "dpgen_published"))
    assert ours.training.steps == theirs.training.steps == dpgen.TRAIN.steps
    assert ours.training.learning_rate_schedule == dpgen.Train().learning_rate_schedule
    for name in ("energy_weight", "molecule_weight", "learning_rate"):
        assert getattr(ours.training, name) == getattr(dpgen.Train(), name)
    assert (theirs.training.learning_rate_schedule, theirs.training.energy_weight) == ("exponential", 0.02)
    for rules in dpgen.COMPARISONS[:3]:
        assert len({dpgen.RULES[rule].start for rule in rules}) == 1


def test_dp_gen_reads_the_frames_it_is_given(dpgen, tmp_path):
    atoms = molecule("H2O", cell=[[5, 0, 0], [1, 6, 0], [0.5, -0.5, 7]], pbc=True)
    atoms.info["step"] = 50
    dpgen.write_dump(tmp_path / "50.lammpstrj", atoms, ["H", "O"])
    system = dpdata.System(str(tmp_path / "50.lammpstrj"), fmt="lammps/dump", type_map=["H", "O"])
    assert [system["atom_names"][kind] for kind in system["atom_types"]] == atoms.get_chemical_symbols()
    assert system["cells"][0] == pytest.approx(atoms.cell.array, abs=1e-6)
    found = system.to("ase/structure")[0]
    assert found.get_all_distances(mic=True) == pytest.approx(atoms.get_all_distances(mic=True), abs=1e-6)


def test_labels_to_stable_dynamics_are_those_of_the_first_committee_that_lasts(dpgen, tmp_path):
    units = {  # labels; whether the short walkers last; whether 50 ps do
        "start/00": (6, True, False),
        "mlpwf/01": (12, True, True),
        "random/01": (12, False, None),
        "random/02": (18, True, None),
        "an_older_rule/01": (12, True, True),
    }
    for unit, (labels, lasts, stable) in units.items():
        folder = tmp_path / "water" / "seed0" / unit
        dpgen.write_json(folder / "done.json", {"labels": labels})
        dpgen.write_json(folder / "explore" / "420K" / "walkers.json", [{"steps": 9 + lasts, "wanted_steps": 10}])
        if stable is not None:
            dpgen.write_json(folder / "stable" / "done.json", {"stable": stable})
    assert dpgen.stability(tmp_path) == [["water", "mlpwf", 0, "12"], ["water", "random", 0, ">12"]]


def test_longer_published_trainings_are_rows_of_their_own(dpgen, tmp_path):
    for steps, inter in ((8000, 0.5), (80000, 0.2)):
        folder = tmp_path / "water" / "seed1" / "dpgen_shipped" / "03" / f"published{steps}"
        dpgen.write_json(folder / "done.json", {"labels": 24, "steps": steps, "cpu_s": 60.4})
        errors = {"force_inter_rmse_ev_angstrom": inter, "force_rmse_ev_angstrom": 0.1}
        dpgen.write_json(folder / "errors.json", errors)
    assert dpgen.joined([], dpgen.published_rows(tmp_path), 5) == [
        ["water", "dpgen_shipped", 1, 24, 8000, "500.0", "100.0", "60"],
        ["water", "dpgen_shipped", 1, 24, 80000, "200.0", "100.0", "60"],
    ]


def test_the_kept_table_is_drawn_as_means_over_seeds(dpgen):
    table = PROJECT / "benchmarks" / "dpgen.csv"
    with table.open(newline="") as handle:
        units = [row[:5] for row in csv.reader(handle)]
    axes = {axis.get_title(): axis for axis in dpgen.draw(table).axes}
    panels = {
        "toluene, usual training": ("", 3), "toluene, energy training": ("_energy", 3),
        "toluene, shipped training": ("_shipped", 3), "water, usual training": ("", 3),
    }  # fmt: skip
    assert set(axes) == set(panels)
    for title, (suffix, seeds) in panels.items():
        axis, system = axes[title], title.split(",")[0]
        lines = dict(zip(axis.get_legend_handles_labels()[1], axis.containers, strict=True))
        assert set(lines) >= {"mlpwf", "dpgen", "random"}
        for choice in ("mlpwf", "dpgen", "random"):
            container = lines[choice]
            unit = [system, f"{choice}{suffix}"]
            last = [float(inter) for *own, labels, inter in units if own[:2] == unit and labels == "24"]
            assert len(last) == seeds
            first = [float(row[4]) for row in units if row[:2] == [system, f"start{suffix}"]]
            assert container[0].get_ydata()[[0, -1]] == pytest.approx([np.mean(first), np.mean(last)])
