"""A force field fitted to labels of a molecules whose energy is known: what it learns, and what keeps it in bounds."""

from __future__ import annotations

from collections import Counter
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule

from mlpwf.config import Site, Train
from mlpwf.errors import ConfigError, DataError
from mlpwf.potentials.base import TrainingJob
from mlpwf.potentials.molecular import CURVE, DEPLOYED, ORIGINAL, record
from mlpwf.potentials.molecular.class2 import Class2, references
from mlpwf.potentials.molecular.fit import (
    USUAL,
    Fitted,
    Labelled,
    Model,
    Normal,
    Prior,
    fitted,
    force_error,
    shifted,
    solve,
    wall_slope,
)
from mlpwf.potentials.molecular.pairs import INNER_ANGSTROM, PairBasis
from mlpwf.potentials.molecular.training import is_whole, labelled, molecules_of, resampled, train
from toy_water import CUTOFF, WATER, ToyWater, labelled_boxes, relaxed_box
from toy_water import labelled as with_label

PAIR_CUTOFF = 4.0


@pytest.fixture(scope="module")
def frames() -> list[Labelled]:
    """Labels of the toy water at two temperatures."""
    rng = np.random.default_rng(7)
    found = [atoms for temperature in (300, 500) for atoms in labelled_boxes(8, 3, temperature, rng)]
    return [labelled(atoms, [WATER]) for atoms in found]


@pytest.fixture(scope="module")
def water(frames: list[Labelled]) -> Fitted:
    """The force field of three quarters of them."""
    return fitted(molecules_of([WATER]), frames[::4] + frames[1::4] + frames[2::4], PAIR_CUTOFF)


def test_forces_of_labels_it_has_not_seen(frames: list[Labelled], water: Fitted) -> None:
    held = frames[3::4]
    size = float(np.sqrt(np.mean([np.square(frame.forces).mean() for frame in held])))
    assert force_error(water, held) < 0.05 * size
    energies = [frame.energy - water.model.design(frame.atoms, frame.species)[0] @ water.coefficients for frame in held]
    assert np.abs(energies).max() < 0.02 * len(held[0].atoms) * 0.1


def test_pairs_learn_the_repulsion_where_labels_are_and_never_attract_below(water: Fitted) -> None:
    """The toy's O–H energy, 20 exp(−r²) (1 − (r/R)²)³ eV, up to a constant; a wall where no label comes close."""
    pairs, start = water.model.pairs, water.model.starts[-1]
    number = int(pairs.number(np.array(0), np.array(1)))
    own = water.coefficients[start + number * pairs.functions : start + (number + 1) * pairs.functions]
    distances = np.linspace(water.shortest[number] + 0.1, CUTOFF, 30)
    exact = 20 * np.exp(-(distances**2)) * (1 - (distances / CUTOFF) ** 2) ** 3
    found = pairs.values(distances) @ own
    assert found - found[-1] == pytest.approx(exact, abs=0.02)
    for pair in range(pairs.kinds * (pairs.kinds + 1) // 2):
        own = water.coefficients[start + pair * pairs.functions : start + (pair + 1) * pairs.functions]
        inside = np.linspace(INNER_ANGSTROM, water.shortest[pair] - 0.3, 10)
        assert (pairs.slopes(inside) @ own < 0).all()


def test_bonds_and_angles_are_bound_at_any_distortion(water: Fitted) -> None:
    energy = water.model.intra[0]
    for term in energy.terms:
        if term.section in ("bond", "angle"):
            found = energy.coefficients(term, water.coefficients[water.model.starts[0] :])
            assert found["k2"] > 0
            assert found["k4"] > 0


def test_pairs_of_the_same_elements_are_alike_where_labels_do_not_tell_them_apart() -> None:
    """Methanol has hydrogens of two kinds: three kinds of pairs of H and H. Only their mean is free at last."""
    rng = np.random.default_rng(2)
    methanol = molecule("CH3OH")
    methanol.arrays["molecule"] = np.zeros(6, int)
    molecules = molecules_of([methanol])
    pairs = PairBasis(molecules.kinds, PAIR_CUTOFF)
    model = Model(molecules, (Class2(molecules.topologies[0], molecules.references[0]),), pairs)
    normal = Normal(np.diag(rng.uniform(1, 2, model.size)), rng.normal(size=model.size), 1.0)
    prior = Prior(model, normal, np.full(pairs.size // pairs.functions, INNER_ANGSTROM))
    symbols = model.kind_symbols()
    hydrogens = [kind for kind, symbol in enumerate(symbols) if symbol == "H"]
    numbers = [int(pairs.number(np.array(one), np.array(other))) for one, other in
               combinations_with_replacement(hydrogens, 2)]  # fmt: skip
    spread = []
    for alike in (0.0, 1.0, 1e6):
        found = solve(normal, prior.equations(USUAL._replace(alike=alike)))[model.starts[-1] :]
        splines = found.reshape(-1, pairs.functions)[numbers]
        spread.append(float(splines.std(axis=0).max()))
    assert len(numbers) == 3
    assert spread[0] > 1.5 * spread[1] > 1e3 * spread[2]


def test_the_wall_is_the_universal_repulsion() -> None:
    """Of two bare protons at a distance far below the screening length, Coulomb's force."""
    assert wall_slope(np.array([1e-4]), "H", "H")[0] == pytest.approx(-14.399645e8, rel=2e-3)


def test_references_move_to_where_first_powers_vanish() -> None:
    topology, positions = molecules_of([WATER]).topologies[0], WATER.positions
    energy = Class2(topology, references(topology, positions), linear=True)
    values = np.zeros(len(energy.features))
    for term in energy.terms:
        if term.section == "bond":  # 3 (x - 0.02)², x from the first reference
            values[energy.numbers[energy.name(term.products["k1"])]] = -0.12
            values[energy.numbers[energy.name(term.products["k2"])]] = 3.0
    moved = shifted(energy, values)
    for base, value in energy.references.items():
        assert moved[base] - value == pytest.approx(0.02 if base[0] == "bond" else 0.0, abs=1e-8)


def test_members_of_a_committee_are_of_labels_drawn_with_replacement(frames: list[Labelled]) -> None:
    assert [frame.weight for frame in resampled(frames, 1, 0)] == [1.0] * len(frames)
    drawn = resampled(frames, 1, 1)
    assert sum(frame.weight for frame in drawn) == len(frames)
    assert len(drawn) < len(frames)
    assert Counter(map(id, (f.atoms for f in drawn))) != Counter(map(id, (f.atoms for f in resampled(frames, 1, 2))))


def test_a_molecule_that_breaks_is_not_fitted(frames: list[Labelled]) -> None:
    broken = frames[0].atoms.copy()
    broken.positions[1] += 0.6 * (broken.positions[1] - broken.positions[0])
    molecules = molecules_of([WATER])
    assert is_whole(frames[0], molecules)
    assert not is_whole(labelled(with_label(broken), [WATER]), molecules)


def test_a_training_leaves_its_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    frames = labelled_boxes(3, 2, 300, rng)
    job = TrainingJob(tmp_path, frames, Train(engine="molecular", pair_cutoff_angstrom=4), Site(), 1, 1,
                      molecules=[WATER])  # fmt: skip
    trained = train(job, lambda *_: None)
    assert trained.elements == ["H", "O"]
    assert trained.cutoff_angstrom == 4
    assert (tmp_path / ORIGINAL).read_bytes() == (tmp_path / DEPLOYED).read_bytes()
    assert len((tmp_path / CURVE).read_text().splitlines()) == 46
    assert record.read(tmp_path / DEPLOYED).coefficients.size == trained.details["coefficients"]


def test_labels_of_broken_molecules_alone_are_refused(tmp_path: Path) -> None:
    broken = relaxed_box(8, np.random.default_rng(1))
    broken.positions[1] += 0.6 * (broken.positions[1] - broken.positions[0])
    section = Train(engine="molecular", pair_cutoff_angstrom=4)
    job = TrainingJob(tmp_path, [with_label(broken)], section, Site(), 1, 0, molecules=[WATER])
    with pytest.raises(DataError, match="1 labelled frames, none with whole molecules"):
        train(job, lambda *_: None)


def test_a_key_of_the_other_engine_is_refused() -> None:
    from mlpwf.config import parse

    with pytest.raises(ConfigError, match="steps is a key of the engine deepmd, and engine is molecular"):
        parse(Train, {"engine": "molecular", "steps": 500}, "system.yaml")


def test_the_toy_is_the_toy() -> None:
    """The labels of these tests have forces that are the gradient of their energy."""
    atoms = relaxed_box(8, np.random.default_rng(3))
    atoms.calc = ToyWater()
    assert np.abs(atoms.get_forces().sum(axis=0)).max() < 1e-10
