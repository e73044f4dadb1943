"""What can compute labels, by the name `label.engine` has for it.

Every job of a cluster reads this table when it parses the campaign, so it imports the standard library alone: a
calculator itself is named by its place, and imported when it is asked for (`mlpwf.calculators.registry`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from mlpwf.errors import ConfigError


class Capability(StrEnum):
    """What some calculators can do beside labels."""

    LABEL_ERROR = "label error"
    """Name converged settings, which the error of labels is measured against."""
    CONVERGENCE = "convergence"
    """Find the cheapest settings that meet a target."""
    PARALLEL = "parallel benchmark"
    """Measure how labels share a machine."""
    PSEUDOPOTENTIALS = "pseudopotentials"
    """Check a file for each element."""
    OUTPUTS = "outputs"
    """Read the label in an output of the program."""
    TIME_LIMIT = "time limit"
    """End a label after `label.timeout_seconds`."""


WITHOUT = {
    Capability.LABEL_ERROR: "whose labels have neither k-points nor cut-offs",
    Capability.CONVERGENCE: "which has no cut-offs",
    Capability.PARALLEL: "which runs no pw.x",
    Capability.PSEUDOPOTENTIALS: "which has no pseudopotentials",
    Capability.OUTPUTS: "which leaves no outputs to read",
    Capability.TIME_LIMIT: "which computes within the job and cannot be ended by itself",
}
"""What is said of a calculator that lacks a capability."""


@dataclass(frozen=True)
class LabelEngine:
    """One way to compute labels.

    Attributes
    ----------
    name
        Value of `label.engine`, and `engine` in the physics of each label.
    title
        What it is, for a reader of the report.
    program
        What it runs.
    calculator
        Place of its class, a subclass of `mlpwf.calculators.base.Calculator`: ``module:Class``.
    dft
        Whether its labels are from first principles; the report warns of others.
    capabilities
        What it can do beside labels; `tests/unit/test_calculators_contract.py` holds the class to it.
    """

    name: str
    title: str
    program: str
    calculator: str
    dft: bool = False
    capabilities: frozenset[Capability] = frozenset()

    def require(self, capability: Capability) -> None:
        """ConfigError unless it has a capability."""
        if capability not in self.capabilities:
            raise self.lacking(capability)

    def lacking(self, capability: Capability) -> ConfigError:
        """The error of a calculator that is asked for what it cannot do."""
        able = " or ".join(one.name for one in having(capability)) or "another engine"
        return ConfigError(f"label.engine is {self.name}, {WITHOUT[capability]}; expected {able}")


LABEL_ENGINES: dict[str, LabelEngine] = {}
DEFAULT_LABEL_ENGINE = "qe"
"""Of a section, and of a labelled frame, that names none."""


def register(engine: LabelEngine) -> None:
    """Make an engine known by its name."""
    LABEL_ENGINES[engine.name] = engine


def engine_title(name: str) -> str:
    """What an engine is, for a reader; the name of one that is not known here."""
    return LABEL_ENGINES[name].title if name in LABEL_ENGINES else name


def having(capability: Capability) -> Iterator[LabelEngine]:
    """The engines that have a capability."""
    return (engine for engine in LABEL_ENGINES.values() if capability in engine.capabilities)


register(
    LabelEngine(
        name="qe",
        title="Quantum ESPRESSO (pw.x)",
        program="pw.x",
        calculator="mlpwf.calculators.espresso.calculator:Espresso",
        dft=True,
        capabilities=frozenset(Capability),
    )
)
register(
    LabelEngine(
        name="gfn1",
        title="GFN1-xTB (semi-empirical, not DFT)",
        program="tblite",
        calculator="mlpwf.calculators.xtb:Xtb",
    )
)
register(
    LabelEngine(
        name="gfn2",
        title="GFN2-xTB (semi-empirical, not DFT)",
        program="tblite",
        calculator="mlpwf.calculators.xtb:Xtb",
    )
)
