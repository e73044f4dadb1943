"""The error of labels: changes of the levers add, energies lose their mean, frames are taken by size and density."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mlpwf.calculators.espresso.label_error import CUTOFFS, KPOINTS, converged
from mlpwf.calculators.espresso.pw import kpoints_of
from mlpwf.campaign.records import Outcome
from mlpwf.config import Label
from mlpwf.errors import DataError
from mlpwf.label.error import COLUMNS, TOTAL, described, error_table, label_errors, label_once_more, sample
from mlpwf.structures.properties import Properties


def box(count, edge, kind="bulk"):
    atoms = Atoms(f"H{2 * count}", positions=np.random.default_rng(count).uniform(0, edge, (2 * count, 3)))
    atoms.set_cell([edge] * 3)
    atoms.pbc = True
    atoms.arrays["molecule"] = np.repeat(np.arange(count), 2)
    atoms.info["kind"] = kind
    return atoms


def changed(label, energy=0.0, force=0.0, virial=0.0):
    """A label whose first atom's x force, whose energy and whose virial's trace differ by so much."""
    forces = label.forces.copy()
    forces[0, 0] += force
    return Properties(label.energy + energy, forces, label.stress - np.eye(3) * virial / label.volume, label.volume)


def test_changes_of_the_levers_add_and_energies_lose_their_mean_per_atom():
    frames = [box(1, 5.0), box(2, 6.0)]
    labels = [
        Properties(-1.0, np.zeros((2, 3)), np.zeros((3, 3)), 125.0),
        Properties(-2.0, np.zeros((4, 3)), np.zeros((3, 3)), 216.0),
    ]
    better = {
        KPOINTS: [changed(labels[0], energy=0.02, force=0.3), changed(labels[1], energy=0.08, force=0.3)],
        CUTOFFS: [changed(labels[0], force=-0.1, virial=0.2), changed(labels[1], force=-0.1, virial=0.4)],
    }
    one, two, every = label_errors(frames, labels, better)
    assert [row.atoms for row in (one, two, every)] == [2, 4, None]
    assert one.errors[KPOINTS].force_rmse_ev_angstrom == pytest.approx(0.3 / np.sqrt(6))
    assert one.errors[TOTAL].force_rmse_ev_angstrom == pytest.approx(0.2 / np.sqrt(6)), "0.3 - 0.1"
    # 10 and 20 meV/atom, 15 in the mean
    assert one.errors[KPOINTS].energy_rmse_mev_atom == pytest.approx(5)
    assert every.errors[TOTAL].energy_rmse_mev_atom == pytest.approx(5)
    assert every.errors[CUTOFFS].energy_rmse_mev_atom == pytest.approx(0, abs=1e-9)
    kbar = 1602.1766
    assert one.errors[CUTOFFS].pressure_bias_kbar == pytest.approx(-0.2 / 125 * kbar, rel=1e-5), "too low"
    (alone, _) = label_errors(frames[:1], labels[:1], {lever: found[:1] for lever, found in better.items()})
    assert alone.errors[TOTAL].energy_rmse_mev_atom is None


def test_one_lever_is_converged_at_a_time():
    label = Label(cutoff_ry=30, density_cutoff_ry=121, fft_grid_ry=240, kpoints="gamma", convergence_ry=1e-6)
    cell = np.eye(3) * 7.0
    found = converged(label, cell)
    assert kpoints_of(found[KPOINTS], cell).image_distance(cell) >= 15
    assert (found[KPOINTS].cutoff_ry, found[KPOINTS].convergence_ry) == (30, 1e-6)
    assert found[CUTOFFS].kpoints == "gamma"
    assert (found[CUTOFFS].cutoff_ry, found[CUTOFFS].density_cutoff_ry) == (60, 480)
    assert found[CUTOFFS].convergence_ry == 1e-9
    dear = converged(label.model_copy(update={"cutoff_ry": 90.0, "kpoints": (2, 2, 2, 1, 1, 1)}), cell)
    assert dear[CUTOFFS].cutoff_ry == 135
    assert dear[KPOINTS].image_distance_angstrom == pytest.approx(1.3 * 14), "farther than the label's own"


def test_frames_are_taken_of_each_size_from_dense_to_thin_liquid_before_gas():
    frames = [box(1, edge) for edge in (5.0, 5.4, 5.2, 5.1)] + [box(2, 6.0), box(1, 9.0, "single")]
    assert sample(frames, 2) == [3, 1, 4]
    assert sample(frames, 9) == [0, 3, 2, 1, 4]
    assert sample(frames[-1:], 2) == [0]


# ---------------------------------------------------------------- frames labelled once more


def labelled_box(count, edge, force=0.0):
    atoms = box(count, edge)
    forces = np.zeros((len(atoms), 3))
    forces[:2, 0] = force, -force
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0 * len(atoms), forces=forces, stress=np.zeros(6))
    return atoms


def once_more(frames, reused=False):
    """Labelled again: k-points change a force by 0.1 eV/Å, cut-offs nothing; boxes of two molecules fail there."""
    beats = []

    def label(settings, atoms):
        if settings == "dense" and len(atoms) == 4:
            raise DataError("H4 was rejected: crashed (exit status 1)")
        force = 0.1 if settings == "many points" else 0.0
        outcome = Outcome(
            key="k", reused=reused, accepted=True, reason=None, detail=None, cpu_s=2.0, attempts=[]
        )  # fmt: skip
        return labelled_box(len(atoms) // 2, atoms.cell[0, 0], force), outcome

    levers = {KPOINTS: "many points", CUTOFFS: "dense"}
    return label_once_more(frames, lambda cell: levers, label, lambda: beats.append(1)), beats


def test_a_frame_that_fails_for_one_lever_is_left_out_and_named():
    measured, beats = once_more([labelled_box(1, 5.0), labelled_box(2, 6.0), labelled_box(1, 5.2)])
    assert [len(atoms) for atoms in measured.frames] == [2, 2]
    assert measured.failures == ["H4 was rejected: crashed (exit status 1)"]
    assert {lever: len(found) for lever, found in measured.better.items()} == {KPOINTS: 2, CUTOFFS: 2}
    assert measured.cpu_s == 10.0, "what the failed frame cost is spent all the same"
    assert len(beats) == 5
    assert [row.atoms for row in measured.rows] == [2, None]
    assert once_more([labelled_box(1, 5.0)], reused=True)[0].cpu_s == 0.0


def test_the_table_has_a_line_for_each_row_and_lever():
    measured, _ = once_more([labelled_box(1, 5.0), labelled_box(1, 5.2)])
    head, *lines = error_table(measured.rows).splitlines()
    assert head == ",".join(["atoms", "frames", "edge_angstrom", "lever", *COLUMNS])
    assert [line.split(",")[:4] for line in lines] == [
        [atoms, "2", "5.10", lever] for atoms in ("2", "all") for lever in (KPOINTS, CUTOFFS, TOTAL)
    ]
    assert lines[0].split(",")[4] == f"{1e3 * 0.1 / np.sqrt(3):.4g}"
    assert described(measured.rows)[0].startswith(f"2 atoms, 5.10 Å: force {KPOINTS} 57.7, {CUTOFFS} 0.0, total 57.7")


def test_of_a_single_frame_no_energy_is_told():
    measured, _ = once_more([labelled_box(1, 5.0)])
    energy = list(COLUMNS).index("energy_mev_atom")
    assert {line.split(",")[4 + energy] for line in error_table(measured.rows).splitlines()[1:]} == {""}


def test_where_every_frame_fails_this_is_said():
    measured, _ = once_more([labelled_box(2, 6.0)])
    assert measured.rows == []
    assert described(measured.rows) == ["no frame could be converged; the error of the labels is not known"]
