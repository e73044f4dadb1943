"""Label frames through the store: reuse what is known, compute what is not, retry as the calculator says."""

from __future__ import annotations

import resource
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ase import Atoms

from mlpwf.calculators.base import AS_ASKED, Attempt, Rejected, Result
from mlpwf.calculators.registry import calculator
from mlpwf.config import Label, Site
from mlpwf.label.store import Store, Structure, canonical, label_key, record_of


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

    def label(self, atoms: Atoms) -> dict[str, Any]:
        """Outcome of one frame: key, accepted, reused, reason, detail, cpu_s, attempts."""
        structure = canonical(atoms)
        key = label_key(structure, self.physics)
        known = self._known(key)
        if known is None:
            with self.store.in_flight(key):
                known = self._known(key)
                if known is None:
                    return {"key": key, "reused": False, **self._compute(key, structure)}
        return {"key": key, "reused": True, **known}

    def _known(self, key: str) -> dict[str, Any] | None:
        record = self.store.get(key)
        if record is not None:
            return _outcome(record)
        rejected = self.store.get_rejected(key)
        return _outcome(rejected) if rejected is not None and rejected["numerics"] == self.numerics else None

    def _compute(self, key: str, structure: Structure) -> dict[str, Any]:
        """Attempt the label until it is accepted or the calculator knows no further attempt; store the outcome."""
        atoms = structure.atoms()
        attempts: list[dict[str, Any]] = []
        attempt: Attempt | None = Attempt(AS_ASKED, self.settings)
        started = time.time()
        while attempt is not None:
            before = _cpu_s()
            try:
                result = self._result(atoms, attempt)
            except Rejected as rejected:
                rejection = rejected
                attempts.append(_described(attempt, before, rejection))
                attempt = self.calculator.retry(rejection, [made["rung"] for made in attempts])
                continue
            attempts.append(_described(attempt, before))
            record = self._record(structure, attempts, started, result.version, result)
            self.store.put(key, record)
            return _outcome(record)
        record = self._record(structure, attempts, started, rejection.version)
        record |= {"reason": str(rejection.reason), "detail": rejection.detail, "numerics": self.numerics}
        self.store.put_rejected(key, record, rejection.output)
        return _outcome(record)

    def _record(
        self,
        structure: Structure,
        attempts: list[dict[str, Any]],
        started: float,
        version: str | None,
        result: Result | None = None,
    ) -> dict[str, Any]:
        cpu_s = sum(attempt["cpu_s"] for attempt in attempts)
        record = record_of(structure, self.physics, version, cpu_s, attempts, result)
        return record | {"wall_s": round(time.time() - started, 3)}

    def _result(self, atoms: Atoms, attempt: Attempt) -> Result:
        """The numbers of one attempt, or Rejected."""
        scratch = Path(tempfile.mkdtemp(dir=self.folder))
        try:
            return self.calculator.checked(atoms, scratch, attempt.settings)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _outcome(record: dict[str, Any]) -> dict[str, Any]:
    reason = record.get("reason")
    return {
        "accepted": reason is None,
        "reason": reason,
        "detail": record.get("detail"),
        "cpu_s": record["cpu_s"],
        "attempts": record.get("attempts", []),
    }


def _described(attempt: Attempt, before: float, rejection: Rejected | None = None) -> dict[str, Any]:
    """What a record says of an attempt; its name stands under the key that stores have had from the first."""
    return {
        "rung": attempt.name,
        "reason": str(rejection.reason) if rejection else None,
        "detail": rejection.detail if rejection else None,
        "cpu_s": round(_cpu_s() - before, 3),
    }


def _cpu_s() -> float:
    """CPU time of this process and its finished children, in s."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
