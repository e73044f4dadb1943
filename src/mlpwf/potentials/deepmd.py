"""DeePMD-kit: write its input and data, train, freeze, compress, and evaluate models.

Virials have DeePMD's sign: virial = -dE/d(strain) = -stress * volume, in eV.
"""

from __future__ import annotations

import atexit
import csv
import io
import json
import logging
import os
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlpwf.campaign.accounting import as_engine
from mlpwf.config.train import Train
from mlpwf.errors import DataError, EngineError
from mlpwf.potentials.metrics import Quantities
from mlpwf.process import TIMED_OUT, run_engine
from mlpwf.structures.molecules import rigid_motions

Array = NDArray[np.float64]

NEIGHBOUR_RESERVE = 1.25  # room for denser frames than those of the first cycle
PRECISION = "float64"  # float32 takes 14 ms instead of 20 ms a step, but its energy drifts in NVE
LEARNING_RATE_DECAY = 0.5  # share of the steps in which the rate of a plateau falls; before, it stays as it begins
LEARNING_RATE_STAGES = 100
CURVE_POINTS = 50
POINTS_PER_CHECKPOINT = 3  # dp saves only where it also writes a point of the curve
HARMLESS = re.compile(r"libcudart|implib-gen")  # what the CPU build prints on every start


# ---------------------------------------------------------------- labelled frames


def labelled(atoms: Atoms) -> Quantities:
    """Energy (eV), forces (eV/Å) and virial (eV) of a labelled frame.

    Raises
    ------
    DataError
        If a label is missing or not finite, or the frame has no periodic cell.
    """
    if not atoms.pbc.all() or atoms.get_volume() <= 0:
        raise DataError("a labelled frame has no periodic cell; expected three cell vectors: label it again")
    try:
        energy, forces = atoms.get_potential_energy(), atoms.get_forces(apply_constraint=False)
        stress = atoms.get_stress(voigt=False)
    except Exception as error:
        raise DataError(
            f"a frame of {atoms.get_chemical_formula()} lacks a label ({error}); expected energy, forces and stress"
        ) from None
    if not (np.isfinite(energy) and np.isfinite(forces).all() and np.isfinite(stress).all()):
        raise DataError(f"a label of {atoms.get_chemical_formula()} is not finite; remove it from the store")
    return Quantities(float(energy), np.array(forces, float), -np.array(stress, float) * atoms.get_volume())


def groups(frames: Sequence[Atoms]) -> list[NDArray[np.int64]]:
    """Indices of frames with the same sequence of elements, in a fixed order of groups."""
    found: dict[tuple[int, ...], list[int]] = {}
    for index, atoms in enumerate(frames):
        found.setdefault(tuple(int(n) for n in atoms.numbers), []).append(index)
    return [np.array(found[numbers]) for numbers in sorted(found, key=lambda n: (len(n), n))]


def rigid_coordinates(section: Train, frames: Sequence[Atoms]) -> int:
    """Generalised coordinates that hold the rigid motions of every molecule of any frame: six of each.

    None where `molecule_weight` is 0.

    Raises
    ------
    DataError
        If a frame numbers no molecules.
    """
    if section.molecule_weight == 0:
        return 0
    if any("molecule" not in atoms.arrays for atoms in frames):
        raise DataError(
            "a frame numbers no molecules; expected a column 'molecule', or train.molecule_weight: 0, "
            "which asks nothing of molecules"
        )
    return 6 * max(int(atoms.arrays["molecule"].max()) + 1 for atoms in frames)


def write_data(folder: Path, frames: Sequence[Atoms], elements: Sequence[str], coordinates: int = 0) -> list[str]:
    """Write labelled frames as deepmd/npy (float64), one system for each composition.

    Parameters
    ----------
    folder
        A new folder for the systems.
    frames
        Labelled frames.
    elements
        Type map.
    coordinates
        From `rigid_coordinates`: drdq.npy then holds `molecules.rigid_motions`, filled up with zeros. They are scaled
        so that the mean square over all coordinates is that over the frame's own. 0: no such file.

    Returns
    -------
    list of str
        The systems' folders, relative to the parent of `folder`.
    """
    import dpdata

    names = []
    for number, members in enumerate(groups(frames)):
        chosen = [frames[index] for index in members]
        labels = [labelled(atoms) for atoms in chosen]
        types = np.array([elements.index(symbol) for symbol in chosen[0].get_chemical_symbols()])
        system = dpdata.LabeledSystem(
            data={
                "atom_names": list(elements),
                "atom_numbs": [int(np.sum(types == kind)) for kind in range(len(elements))],
                "atom_types": types,
                "orig": np.zeros(3),
                "cells": np.array([atoms.cell.array for atoms in chosen]),
                "coords": np.array([atoms.positions for atoms in chosen]),
                "energies": np.array([label.energy for label in labels]),
                "forces": np.array([label.forces for label in labels]),
                "virials": np.array([label.virial for label in labels]),
            }
        )
        name = f"{folder.name}/{number:03d}"
        system.to("deepmd/npy", str(folder.parent / name), set_size=len(chosen), prec=np.float64)
        if coordinates:
            motions = np.zeros((len(chosen), len(types), 3, coordinates))
            for target, atoms in zip(motions, chosen, strict=True):
                own = rigid_motions(atoms)
                target[:, :, : own.shape[2]] = own * np.sqrt(coordinates / own.shape[2])
            np.save(folder.parent / name / "set.000" / "drdq.npy", motions.reshape(len(chosen), -1))
        names.append(name)
    return names


def most_neighbours(frames: Sequence[Atoms], elements: Sequence[str], cutoff: float) -> list[int]:
    """Most neighbours of each element around any atom, within `cutoff` Å."""
    from ase.data import atomic_numbers
    from ase.neighborlist import neighbor_list

    most = np.zeros(len(elements), dtype=int)
    for atoms in frames:
        i, j = neighbor_list("ij", atoms, cutoff)
        for kind, symbol in enumerate(elements):
            counts = np.bincount(i[atoms.numbers[j] == atomic_numbers[symbol]], minlength=len(atoms))
            most[kind] = max(most[kind], int(counts.max()))
    return most.tolist()


def neighbour_slots(most: Sequence[int]) -> list[int]:
    """Slots of the neighbour list: a reserve above what was counted, in fours."""
    return [max(4, 4 * int(np.ceil(NEIGHBOUR_RESERVE * count / 4))) for count in most]


# ---------------------------------------------------------------- training


def seeds(seed: int, index: int) -> dict[str, int]:
    """Seeds of committee member `index`; the same in every cycle."""
    state = np.random.SeedSequence([seed, index]).generate_state(3) >> 1
    return dict(zip(("descriptor", "fitting", "training"), (int(value) for value in state), strict=True))


SCHEDULES: dict[str, Callable[[int], dict[str, Any]]] = {
    "plateau": lambda steps: {"type": "wsd", "decay_phase_ratio": LEARNING_RATE_DECAY, "decay_type": "cosine"},
    "exponential": lambda steps: {"type": "exp", "decay_steps": max(1, steps // LEARNING_RATE_STAGES)},
}


def training_input(
    section: Train,
    *,
    elements: Sequence[str],
    slots: Sequence[int],
    systems: Sequence[str],
    seed: dict[str, int],
    continued: bool,
    coordinates: int = 0,
) -> dict[str, Any]:
    """The input of `dp train`: se_e2_a, energy, force and virial loss, and that of molecules as rigid bodies.

    The last is DeePMD-kit's loss of generalised forces, with the `coordinates` that `write_data` wrote.

    A learning rate with a plateau is high for the first half of the steps and falls on half a cosine then. Weights of
    the loss follow it. Falling exponentially from the start it does far less in as many steps (docs/training.md).
    """
    steps = section.steps_continued if continued else section.steps
    between = max(1, steps // CURVE_POINTS)
    rigid = {"start_pref_gf": section.molecule_weight, "limit_pref_gf": 1.0, "numb_generalized_coord": coordinates}
    return {
        "model": {
            "type_map": list(elements),
            "descriptor": {
                "type": "se_e2_a",
                "rcut": section.cutoff_angstrom,
                "rcut_smth": section.cutoff_smooth_angstrom,
                "sel": list(slots),
                "neuron": section.embedding_neurons,
                "axis_neuron": section.axis_neurons,
                "resnet_dt": False,
                "type_one_side": True,
                "precision": PRECISION,
                "seed": seed["descriptor"],
            },
            "fitting_net": {
                "neuron": section.fitting_neurons,
                "resnet_dt": True,
                "precision": PRECISION,
                "seed": seed["fitting"],
            },
        },
        "learning_rate": {
            **SCHEDULES[section.learning_rate_schedule](steps),
            "start_lr": section.learning_rate_continued if continued else section.learning_rate,
            "stop_lr": section.learning_rate_final,
        },
        "loss": {
            "type": "ener",
            "start_pref_e": section.energy_weight,
            "limit_pref_e": 1.0,
            "start_pref_f": 1000.0,
            "limit_pref_f": 1.0,
            "start_pref_v": section.virial_weight,
            "limit_pref_v": 1.0 if section.virial_weight else 0.0,
            **(rigid if coordinates else {}),
        },
        "training": {
            "training_data": {"systems": list(systems), "batch_size": 1},
            "numb_steps": steps,
            "seed": seed["training"],
            "disp_file": "lcurve.out",
            "disp_freq": between,
            "save_freq": POINTS_PER_CHECKPOINT * between,
            "save_ckpt": "model.ckpt",
            "max_ckpt_keep": 2,
        },
    }


def thread_settings(threads: int) -> dict[str, str]:
    """Environment that keeps DeePMD and TensorFlow to `threads` cores and quiet."""
    return {
        "OMP_NUM_THREADS": str(threads),
        "TF_INTRA_OP_PARALLELISM_THREADS": str(threads),
        "TF_INTER_OP_PARALLELISM_THREADS": "1",
        "DP_INTRA_OP_PARALLELISM_THREADS": str(threads),
        "DP_INTER_OP_PARALLELISM_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_ENABLE_ONEDNN_OPTS": "0",
    }


def last_words(output: Path) -> str:
    """The last line of a program's output that says something of an error, or else the last line."""
    lines = [line.strip() for line in output.read_text(errors="replace").splitlines() if line.strip()]
    lines = [line for line in lines if not HARMLESS.search(line)]
    telling = [line for line in lines if re.search(r"error|exception|killed|cannot|not found", line, re.IGNORECASE)]
    return (telling or lines or ["no output"])[-1][:300]


@dataclass(frozen=True)
class DeePMD:
    """The program `dp`: its command words and the cores it may use."""

    command: list[str]
    threads: int = 1

    def run(self, words: list[str], folder: Path) -> None:
        """Run `dp WORDS` in `folder`; the output goes to `folder`/WORD.out.

        Raises
        ------
        EngineError
            With the last telling line of the output and the path to it.
        """
        output = folder / f"{words[0]}.out"
        status = run_engine(
            [*self.command, *words], folder=folder, output=output, environment=thread_settings(self.threads)
        )
        if status != 0:
            ended = "ran out of time" if status == TIMED_OUT else f"ended with status {status}"
            raise EngineError(f"dp {words[0]} {ended}; expected 0: {last_words(output)} (whole output: {output})")

    def train(
        self,
        folder: Path,
        settings: dict[str, Any],
        start: Path | None = None,
        restart: str | None = None,
        progress: Callable[[int, float], None] | None = None,
    ) -> None:
        """Train in `folder` and freeze and compress the model: model.pb and compressed.pb.

        Parameters
        ----------
        folder
            Holds the data that `settings` names.
        settings
            Input of `dp train`, see `training_input`.
        start
            Frozen model whose weights and statistics are the starting point.
        restart
            Checkpoint in `folder` to go on from, see `latest_checkpoint`.
        progress
            Called with step and batch force error (eV/Å) at about every fifth of the steps.
        """
        (folder / "input.json").write_text(json.dumps(settings, indent=1) + "\n")
        words = ["train", "input.json"]
        if restart is not None:
            words += ["--restart", restart]
        elif start is not None:
            words += ["--init-frz-model", str(start.resolve())]
        with _followed(folder / "lcurve.out", settings["training"]["numb_steps"], progress):
            self.run(words, folder)
        self.run(["freeze", "-c", ".", "-o", "model.pb"], folder)
        _expect(folder / "model.pb")
        self.compress(folder)

    def compress(self, folder: Path) -> None:
        """From model.pb in `folder` to compressed.pb."""
        self.run(["compress", "-i", "model.pb", "-o", "compressed.pb"], folder)
        _expect(folder / "compressed.pb")


def _expect(model: Path) -> None:
    if not model.is_file():
        raise EngineError(f"dp wrote no {model.name}; expected one in {model.parent}: see the .out files there")


def latest_checkpoint(folder: Path) -> tuple[str, int] | None:
    """Name and step of the last checkpoint of a training in `folder`, of which all files are there."""
    found = [
        (int(path.name.split("-")[-1].removesuffix(".index")), path.with_suffix(""))
        for path in folder.glob("model.ckpt-*.index")
    ]
    for step, prefix in sorted(found, reverse=True):
        if all(prefix.with_name(prefix.name + end).is_file() for end in (".data-00000-of-00001", ".meta")):
            return prefix.name, step
    return None


def read_curve(source: Path) -> tuple[list[str], list[list[float]]]:
    """Header and rows of lcurve.out; a row cut short is left out, of a step found twice the last stays."""
    header: list[str] = []
    rows: dict[float, list[float]] = {}
    for line in source.read_text(errors="replace").splitlines():
        words = line.split()
        if line.startswith("#"):
            if "step" in words:
                header = words[1:]
            continue
        if header and len(words) == len(header):
            row = [float(word) for word in words]
            rows[row[0]] = row
    return header, [rows[step] for step in sorted(rows)]


def curve_csv(source: Path) -> str:
    """lcurve.out as CSV, columns named as in its header.

    Raises
    ------
    EngineError
        If the file is missing, empty or holds a value that is not finite.
    """
    if not source.is_file():
        raise EngineError(f"{source}: no such file; expected the learning curve of dp train")
    header, rows = read_curve(source)
    if not rows or not np.isfinite(rows).all():
        found = "not finite" if rows else "empty"
        raise EngineError(f"{source}: the learning curve is {found}; lower train.learning_rate or check the labels")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([[int(row[0]), *row[1:]] for row in rows])
    return text.getvalue()


@contextmanager
def _followed(curve: Path, steps: int, progress: Callable[[int, float], None] | None) -> Iterator[None]:
    """Report from a growing lcurve.out while the block runs."""
    done = threading.Event()

    def follow(reported: int = 0) -> None:
        while not done.wait(1.0):
            header, rows = read_curve(curve) if curve.is_file() else ([], [])
            column = next((i for i, name in enumerate(header) if name.startswith("rmse_f")), None)
            if progress and rows and column is not None and 5 * int(rows[-1][0]) // steps > reported:
                reported = 5 * int(rows[-1][0]) // steps
                progress(int(rows[-1][0]), rows[-1][column])

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


# ---------------------------------------------------------------- evaluation


@contextmanager
def _native_silence() -> Iterator[None]:
    """Leave out DeePMD-kit's native noise about absent GPU libraries: on import, on the first model, at exit."""
    if "deepmd.infer" in sys.modules:
        yield
        return
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.dup2(kept, 2)
    atexit.register(os.dup2, nowhere, 2)
    logging.getLogger("deepmd").setLevel(logging.ERROR)


def _open(model: Path) -> Any:
    """A model ready to be evaluated, on one core and without noise."""
    if not Path(model).is_file():
        raise DataError(f"{model}: no such model; expected a frozen model of mlpwf train")
    for name, value in thread_settings(1).items():
        os.environ.setdefault(name, value)
    with _native_silence():
        from deepmd.infer import DeepPot

        try:
            return DeepPot(str(model))
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise EngineError(f"{model}: not a model DeePMD-kit can read ({reason}); train it again") from None


def _batches(model: Any, frames: Sequence[Atoms]) -> Iterator[tuple[NDArray[np.int64], Array, Array, list[int]]]:
    """For each group of frames: indices, coordinates, cells and atom types."""
    elements = model.get_type_map()
    for members in groups(frames):
        symbols = frames[members[0]].get_chemical_symbols()
        unknown = sorted(set(symbols) - set(elements))
        if unknown:
            raise DataError(f"the model knows {', '.join(elements)}; a frame holds {', '.join(unknown)} as well")
        coordinates = np.array([frames[index].positions.ravel() for index in members])
        cells = np.array([frames[index].cell.array.ravel() for index in members])
        yield members, coordinates, cells, [elements.index(symbol) for symbol in symbols]


@as_engine()
def predict(model: Path, frames: Sequence[Atoms]) -> list[Quantities]:
    """Energy (eV), forces (eV/Å) and virial (eV) of each frame by a frozen model.

    Raises
    ------
    EngineError
        If the model cannot be read or gives a value that is not finite.
    """
    potential = _open(model)
    results: dict[int, Quantities] = {}
    for members, coordinates, cells, types in _batches(potential, frames):
        energies, forces, virials = potential.eval(coordinates, cells, types)[:3]
        if not (np.isfinite(energies).all() and np.isfinite(forces).all() and np.isfinite(virials).all()):
            raise EngineError(f"{model}: predicts values that are not finite; lower train.learning_rate")
        for row, index in enumerate(members):
            results[int(index)] = Quantities(
                float(energies[row].sum()),
                np.array(forces[row], float).reshape(-1, 3),
                np.array(virials[row], float).reshape(3, 3),
            )
    return [results[index] for index in range(len(frames))]


@as_engine()
def committee_forces(models: Sequence[Path], frames: Sequence[Atoms]) -> list[Array]:
    """Forces (eV/Å) of each frame by each model, shape (n_models, n_atoms, 3); not finite where a model fails."""
    results: list[list[Array]] = [[] for _ in frames]
    for path in models:
        potential = _open(path)
        for members, coordinates, cells, types in _batches(potential, frames):
            forces = np.asarray(potential.eval(coordinates, cells, types)[1], float)
            for row, index in enumerate(members):
                results[int(index)].append(forces[row].reshape(-1, 3))
    return [np.array(one) for one in results]


@as_engine()
def descriptors(model: Path, frames: Sequence[Atoms], elements: Sequence[str]) -> Array:
    """One vector for each frame: mean and spread of the atoms' descriptors, element by element.

    Does not change when atoms of an element are exchanged, nor by translation,
    rotation or wrapping.

    Parameters
    ----------
    model
        Frozen model that is not compressed.
    frames
        Frames of any compositions.
    elements
        The elements and their order; an element a frame lacks gives zeros.

    Returns
    -------
    ndarray
        Shape (n_frames, 2 * n_elements * descriptor size), no units.
    """
    potential = _open(model)
    rows: dict[int, Array] = {}
    for members, coordinates, cells, types in _batches(potential, frames):
        values = np.asarray(potential.eval_descriptor(coordinates, cells, types), float)
        values = values.reshape(len(members), len(types), -1)
        symbols = np.array(potential.get_type_map())[types]
        parts = []
        for element in elements:
            chosen = values[:, symbols == element]
            if chosen.shape[1] == 0:
                chosen = np.zeros((len(members), 1, values.shape[2]))
            parts += [chosen.mean(axis=1), chosen.std(axis=1)]
        rows.update(zip(members.tolist(), np.concatenate(parts, axis=1), strict=True))
    if not rows:
        return np.zeros((0, 0))
    return np.array([rows[index] for index in range(len(frames))])
