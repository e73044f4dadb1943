"""The contract of a calculator: what every engine of the table is held to, real or toy."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from mlpwf.calculators import gate
from mlpwf.calculators.base import AS_ASKED, Calculator, Reason, Rejected, Report, Result
from mlpwf.calculators.foresight import Box
from mlpwf.calculators.registry import calculator, class_of
from mlpwf.config import Label, Site
from mlpwf.config.label_engines import LABEL_ENGINES, Capability
from mlpwf.errors import ConfigError
from mlpwf.label.labeller import Labeller
from mlpwf.label.store import canonical, label_key
from mlpwf.structures.frames import quantised
from mlpwf.structures.properties import Properties


@dataclass(frozen=True)
class Case:
    """A calculator to be held to the contract.

    Attributes
    ----------
    label, site
        The sections it is made from.
    frame
        A periodic frame whose forces and stress are not small.
    broken
        A section, a site and a frame for which there is no label.
    numerics, physics
        Changes of the section that must not, and that must, change the key; physics is empty if there are none.
    force_step, strain_step
        Of the finite differences, in Å and of one.
    force_tolerance, virial_tolerance
        Of the finite differences, in eV/Å and eV.
    """

    label: Label
    site: Site
    frame: Atoms
    broken: tuple[Label, Site, Atoms]
    numerics: Mapping[str, Any]
    physics: Mapping[str, Any] = field(default_factory=dict)
    force_step: float = 1e-3
    strain_step: float = 1e-3
    force_tolerance: float = 2e-3
    virial_tolerance: float = 2e-2

    def made(self, **changes: Any) -> Calculator:
        """The calculator, its section changed."""
        return calculator(self.label.model_copy(update=changes), self.site, sorted(set(self.frame.symbols)))

    def result(self, frame: Atoms) -> Result:
        """The label of a frame, and what made it."""
        with tempfile.TemporaryDirectory() as folder:
            return self.made().checked(quantised(frame), Path(folder), self.label)

    def computed(self, frame: Atoms) -> Properties:
        """The label of a frame."""
        return self.result(frame).properties


def forces_are_minus_the_gradient_of_the_energy(case: Case) -> None:
    forces, step = case.computed(case.frame).forces, case.force_step
    atom, axis = np.unravel_index(np.abs(forces).argmax(), forces.shape)
    energies = []
    for sign in (1, -1):
        moved = case.frame.copy()
        moved.positions[atom, axis] += sign * step
        energies.append(case.computed(moved).energy)
    assert abs(forces[atom, axis]) > 10 * case.force_tolerance, "a force that is worth the test"
    assert forces[atom, axis] == pytest.approx((energies[1] - energies[0]) / (2 * step), abs=case.force_tolerance)


def stress_is_the_derivative_of_the_energy_by_strain(case: Case) -> None:
    found, step = case.computed(case.frame), case.strain_step
    assert found.volume == pytest.approx(case.frame.get_volume())
    virial = -found.virial
    axis = int(np.abs(np.diag(virial)).argmax())
    energies = []
    for sign in (1, -1):
        strained, scale = case.frame.copy(), np.ones(3)
        scale[axis] += sign * step
        strained.set_cell(case.frame.cell.array * scale, scale_atoms=True)
        energies.append(case.computed(strained).energy)
    derivative = (energies[0] - energies[1]) / (2 * step)
    assert abs(derivative) > 10 * case.virial_tolerance, "a stress that is worth the test"
    assert virial[axis, axis] == pytest.approx(derivative, abs=case.virial_tolerance)


def numbers_pass_the_gate_and_name_a_version(case: Case) -> None:
    result, count = case.result(case.frame), len(case.frame)
    assert np.abs(result.properties.forces.sum(axis=0)).max() < gate.FORCE_TOLERANCE_EV_ANGSTROM * np.sqrt(count)
    gate.check_properties(result.properties, count)
    assert result.version


def compute_is_deterministic(case: Case) -> None:
    one, other = (case.computed(case.frame) for _ in range(2))
    assert one.energy == other.energy
    assert np.array_equal(one.forces, other.forces)
    assert np.array_equal(one.stress, other.stress)


def the_key_follows_the_physics_and_not_the_numerics(case: Case) -> None:
    structure, own = canonical(case.frame), case.made()

    def key(**changes: Any) -> str:
        return label_key(structure, case.made(**changes).physics)

    assert json.loads(json.dumps(own.physics)) == own.physics, "plain JSON types"
    assert own.physics["engine"] == case.label.engine
    assert case.numerics, "at least one setting that is numerics"
    for name, value in case.numerics.items():
        assert getattr(case.label, name) != value
        assert key(**{name: value}) == key(), name
    for name, value in case.physics.items():
        assert getattr(case.label, name) != value
        assert key(**{name: value}) != key(), name


def attempts_change_numerics_alone(case: Case) -> None:
    own = case.made()
    for reason in Reason:
        tried = [AS_ASKED]
        while (attempt := own.retry(Rejected(reason, "exit status 1"), tried)) is not None:
            assert attempt.name not in tried
            tried.append(attempt.name)
            made = calculator(attempt.settings, case.site, own.elements)
            assert made.physics == own.physics, attempt.name
            assert len(tried) <= 1 + case.label.retries


def a_failed_run_has_a_typed_reason_and_is_never_a_label(case: Case, folder: Path) -> None:
    label, site, frame = case.broken
    labeller = Labeller(label, site.model_copy(update={"label_store": str(folder / "store")}), folder, ["H"])
    outcome = labeller.label(frame)
    assert not outcome.accepted
    assert outcome.reason in {str(reason) for reason in Reason}
    assert outcome.detail
    assert labeller.store.get(outcome.key) is None
    assert labeller.store.get_rejected(outcome.key).reason == outcome.reason
    assert labeller.store.check("aside", outcome.key), "sealed, with the raw output if there has to be one"
    assert labeller.label(frame).reused, "what is rejected is not computed again with the same numerics"
    assert [path.name for path in folder.iterdir()] == ["store"], "no scratch folder is left"


def atoms_that_clash_are_never_computed(case: Case) -> None:
    clash = Atoms("H2", [[0, 0, 0], [0, 0, 0.2]], cell=[5.0] * 3, pbc=True)
    with pytest.raises(Rejected, match=r"0\.200 Å apart") as caught:
        case.computed(clash)
    assert caught.value.reason is Reason.CLASH


def capabilities_say_the_truth(case: Case) -> None:
    own = case.made()
    for capability, method in METHODS.items():
        its_own = getattr(type(own), method) is not getattr(Calculator, method)
        assert its_own == (capability in own.engine.capabilities), capability
        if its_own:
            own.engine.require(capability)
            continue
        message = rf"^label\.engine is {own.engine.name}, [^\n]+; expected [^\n]+$"
        with pytest.raises(ConfigError, match=message):
            own.engine.require(capability)
        with pytest.raises(ConfigError, match=message):
            _asked(own, capability)


METHODS = {
    Capability.LABEL_ERROR: "converged",
    Capability.CONVERGENCE: "study",
    Capability.PSEUDOPOTENTIALS: "check_pseudopotentials",
    Capability.PARALLEL: "benchmark",
    Capability.OUTPUTS: "read_output",
}


def _asked(own: Calculator, capability: Capability) -> Any:
    """What a calculator answers that lacks a capability."""
    if capability is Capability.LABEL_ERROR:
        return own.converged(np.eye(3) * 5)
    if capability is Capability.CONVERGENCE:
        return own.study(None, None)  # type: ignore[arg-type]
    if capability is Capability.PSEUDOPOTENTIALS:
        return own.check_pseudopotentials(["H"])
    if capability is Capability.PARALLEL:
        return own.benchmark(Atoms("H2"), Path(), cores=1, memory_mib=1.0, ranks=1)
    return own.read_output(Path("absent"))


def what_it_can_it_does(case: Case) -> None:
    own, cell = case.made(), case.frame.cell.array
    if Capability.LABEL_ERROR in own.engine.capabilities:
        levers = own.converged(cell)
        assert levers
        for lever, section in levers.items():
            assert calculator(section, case.site, own.elements).physics != own.physics, lever
    if Capability.PSEUDOPOTENTIALS in own.engine.capabilities:
        assert isinstance(own.check_pseudopotentials(own.elements), Report)
    if Capability.OUTPUTS in own.engine.capabilities:
        assert not own.wrote(b"3\nLattice=")
    second = own.second_opinion()
    assert second is None or calculator(second, case.site, own.elements).physics != own.physics


def it_is_foreseen_and_diagnosed(case: Case) -> None:
    own = case.made()
    boxes = [Box(multiple, 2 * multiple, np.eye(3) * 8.0 * multiple ** (1 / 3)) for multiple in (1, 2)]
    foreseen = own.foresee(boxes, iter(()))
    assert foreseen.known == 0
    assert all(foreseen.label[box.multiple].cpu_s > 0 for box in boxes)
    measured = Capability.LABEL_ERROR in own.engine.capabilities
    assert all((box.multiple in foreseen.converged) == measured for box in boxes)
    dimer = Atoms("H2", [[0, 0, 0], [0, 0, 0.76]], cell=[4.5, 4.6, 5.5], pbc=True)
    findings = list(own.diagnose(dimer, boxes, 10.0))
    assert findings
    assert {str(finding.level) for finding in findings} == {"ok"}, [finding.line for finding in findings]


def its_entry_is_whole(case: Case) -> None:
    engine = LABEL_ENGINES[case.label.engine]
    assert engine.name == case.label.engine
    assert engine.title
    assert engine.program
    assert type(case.made()) is class_of(engine)


CONTRACT = (
    its_entry_is_whole,
    forces_are_minus_the_gradient_of_the_energy,
    stress_is_the_derivative_of_the_energy_by_strain,
    numbers_pass_the_gate_and_name_a_version,
    compute_is_deterministic,
    the_key_follows_the_physics_and_not_the_numerics,
    attempts_change_numerics_alone,
    a_failed_run_has_a_typed_reason_and_is_never_a_label,
    atoms_that_clash_are_never_computed,
    capabilities_say_the_truth,
    what_it_can_it_does,
    it_is_foreseen_and_diagnosed,
)
