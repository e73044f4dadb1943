"""Label frames through the store: reuse what is known, compute what is not, retry as the calculator says."""

from __future__ import annotations

import resource
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from ase import Atoms

from mlpwf.calculators.base import AS_ASKED, Attempt, Rejected, Result
from mlpwf.calculators.registry import calculator
from mlpwf.campaign import records
from mlpwf.config import Label, Site
from mlpwf.errors import DataError
from mlpwf.label.record import Computation, LabelRecord, RejectionRecord
from mlpwf.label.store import Store, Structure, canonical, label_key, labelled, record_of


class Labeller:
    """Labels frames with one set of settings, through the store.

    Parameters
    ----------
    settings
        Physics and numerics.
    site
        Where the programs, the pseudopotentials and the store are.
    folder
        Place for scratch folders, each gone when its label is done.
    elements
        All elements of the frames to come.

    Raises
    ------
    ConfigError
        If an element has no pseudopotential.
    """

    def __init__(self, settings: Label, site: Site, folder: Path, elements: Sequence[str]) -> None:
        self.settings, self.folder = settings, folder
        self.calculator = calculator(settings, site, elements)
        self.physics, self.numerics = self.calculator.physics, self.calculator.numerics
        self.store = Store(site.label_store)

    def key(self, atoms: Atoms) -> str:
        """Key of a frame's label in the store."""
        return label_key(canonical(atoms), self.physics)

    def knows(self, atoms: Atoms) -> bool:
        """Whether the store has an outcome for a frame, so that it costs nothing."""
        return self._known(self.key(atoms)) is not None

    def label(self, atoms: Atoms) -> records.Outcome:
        """What became of one frame: the store's outcome, or one computed now."""
        structure = canonical(atoms)
        key = label_key(structure, self.physics)
        known = self._known(key)
        if known is None:
            with self.store.in_flight(key):
                known = self._known(key)
                if known is None:
                    return _outcome(key, self._compute(key, structure), reused=False)
        return _outcome(key, known, reused=True)

    def labelled(self, atoms: Atoms) -> tuple[Atoms, records.Outcome]:
        """A frame with its label, and what became of it.

        Raises
        ------
        DataError
            If it was rejected.
        """
        outcome = self.label(atoms)
        record = self.store.get(outcome.key)
        if record is None:
            raise DataError(f"{atoms.get_chemical_formula()} was rejected: {outcome.reason} ({outcome.detail})")
        return labelled(atoms, canonical(atoms), record), outcome

    def _known(self, key: str) -> LabelRecord | RejectionRecord | None:
        record = self.store.get(key)
        if record is not None:
            return record
        rejected = self.store.get_rejected(key)
        return rejected if rejected is not None and rejected.numerics == self.numerics else None

    def _compute(self, key: str, structure: Structure) -> LabelRecord | RejectionRecord:
        """Attempt the label until it is accepted or the calculator knows no further attempt; store the outcome."""
        atoms = structure.atoms()
        attempts: list[records.Attempt] = []
        attempt: Attempt | None = Attempt(AS_ASKED, self.settings)
        started = time.time()
        while attempt is not None:
            before = _cpu_s()
            try:
                result = self._result(atoms, attempt)
            except Rejected as rejected:
                rejection = rejected
                attempts.append(_described(attempt, before, rejection))
                attempt = self.calculator.retry(rejection, [made.attempt for made in attempts])
                continue
            attempts.append(_described(attempt, before))
            computation = self._computation(structure, attempts, started, result.version)
            label = computation.accepted(result.properties)
            self.store.put(key, label)
            return label
        computation = self._computation(structure, attempts, started, rejection.version)
        record = computation.rejected(str(rejection.reason), rejection.detail, self.numerics)
        self.store.put_rejected(key, record, rejection.output)
        return record

    def _computation(
        self, structure: Structure, attempts: Sequence[records.Attempt], started: float, version: str | None
    ) -> Computation:
        cpu_s = sum(attempt.cpu_s for attempt in attempts)
        return record_of(structure, self.physics, version, cpu_s, attempts, time.time() - started)

    def _result(self, atoms: Atoms, attempt: Attempt) -> Result:
        """The numbers of one attempt, or Rejected."""
        scratch = Path(tempfile.mkdtemp(dir=self.folder))
        try:
            return self.calculator.checked(atoms, scratch, attempt.settings)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _outcome(key: str, record: LabelRecord | RejectionRecord, reused: bool) -> records.Outcome:
    reason, detail = (record.reason, record.detail) if isinstance(record, RejectionRecord) else (None, None)
    return records.Outcome(
        key=key,
        reused=reused,
        accepted=reason is None,
        reason=reason,
        detail=detail,
        cpu_s=record.cpu_s,
        attempts=record.attempts,
    )


def _described(attempt: Attempt, before: float, rejection: Rejected | None = None) -> records.Attempt:
    return records.Attempt(
        attempt=attempt.name,
        reason=str(rejection.reason) if rejection else None,
        detail=rejection.detail if rejection else None,
        cpu_s=round(_cpu_s() - before, 3),
    )


def _cpu_s() -> float:
    """CPU time of this process and its finished children, in s."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
