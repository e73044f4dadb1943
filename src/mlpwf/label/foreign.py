"""What is found where labels are looked for: a label that passed the gate, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from mlpwf.calculators import gate
from mlpwf.calculators.base import ForeignError, Reason, Result, UnreadableError
from mlpwf.errors import DataError
from mlpwf.label.record import Raw
from mlpwf.label.store import Structure

UNKNOWN_VERSION = "unknown"


class Refusal(StrEnum):
    """Why a label of other work was refused, beside the reasons a calculator has."""

    UNREADABLE = "unreadable"
    INCOMPLETE = "incomplete"
    CONTRADICTION = "contradiction"
    OTHER_PHYSICS = "other physics"
    NO_PSEUDOPOTENTIAL = "no pseudopotential"
    CONFLICT = "conflict"


class Refused(Exception):  # noqa: N818 - an outcome, not an error
    """A label that was not taken: where it is, the typed reason and one line of detail."""

    def __init__(self, source: str, reason: Refusal | Reason, detail: str) -> None:
        super().__init__(f"{source}: {reason}: {detail}")
        self.source = source
        self.reason = reason
        self.detail = detail


REASONS = {
    gate.ContradictionError: Refusal.CONTRADICTION,
    ForeignError: Refusal.OTHER_PHYSICS,
    UnreadableError: Refusal.UNREADABLE,
    DataError: Refusal.INCOMPLETE,
}


def unfit(source: str, error: Exception) -> Refused:
    """The refusal an error stands for; one of a library is named by its kind."""
    detail = " ".join(str(error).split())[:300]
    for kind, reason in REASONS.items():
        if isinstance(error, kind):
            return Refused(source, reason, detail)
    return Refused(source, Refusal.UNREADABLE, f"it cannot be read ({type(error).__name__}: {detail})")


@dataclass(frozen=True)
class Found:
    """A label of a source that passed the gate; numbers in the source's order of atoms, which is `structure.order`.

    `asserted`: nothing but the user's word says by what physics it was computed.

    Raises
    ------
    Refused
        If its numbers cannot be those of one label.
    """

    source: str
    structure: Structure
    result: Result
    version: str | None
    cpu_s: float
    asserted: bool
    record: Raw | None = None
    """The record of another store, to be kept as it is."""
    key: str | None = None
    """The key of the label in the store it was exported from, where the source says it."""

    def __post_init__(self) -> None:
        try:
            gate.check_properties(self.result.properties, len(self.structure.numbers))
        except DataError as error:
            raise unfit(self.source, error) from None
