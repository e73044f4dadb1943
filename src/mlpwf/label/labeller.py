"""Label frames through the store: reuse what is known, compute what is not, climb the ladder of retries."""

from __future__ import annotations

import resource
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ase import Atoms

from mlpwf.calculators import xtb
from mlpwf.calculators.espresso import pw, retries
from mlpwf.calculators.espresso.acceptance import Aside, Reason, accept
from mlpwf.config import Label, Site
from mlpwf.label.store import Store, Structure, canonical, label_key, record_of
from mlpwf.structures.frames import minimum_distance


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
        self.settings, self.site, self.folder = settings, site, folder
        self.hashes: dict[str, str] = {}
        if settings.engine == "qe":
            place = Path(site.pseudopotential_folder)
            self.hashes = pw.pseudopotential_hashes(list(elements), settings, place)
            self.physics = pw.physics(settings, self.hashes)
        else:
            self.physics = xtb.physics(settings.engine)
        self.numerics = pw.numerics(settings)
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
        aside = self.store.get_aside(key)
        return _outcome(aside) if aside is not None and aside["numerics"] == self.numerics else None

    def _compute(self, key: str, structure: Structure) -> dict[str, Any]:
        """Climb the ladder until the label is accepted or no rung is left; store the outcome."""
        atoms = structure.atoms()
        attempts: list[dict[str, Any]] = []
        rung: retries.Rung | None = retries.ASKED
        started = time.time()
        while rung is not None:
            before = _cpu_s()
            try:
                result, version = self._run(atoms, rung)
            except Aside as aside:
                failure = aside
                attempts.append(_attempt(rung, before, aside))
                rung = retries.next_rung(aside, [a["rung"] for a in attempts], self.settings.retries)
                continue
            attempts.append(_attempt(rung, before))
            record = self._record(structure, attempts, started, version, result)
            self.store.put(key, record)
            return _outcome(record)
        record = self._record(structure, attempts, started, pw.version(failure.output or ""))
        record |= {"reason": str(failure.reason), "detail": failure.detail, "numerics": self.numerics}
        self.store.put_aside(key, record, failure.output)
        return _outcome(record)

    def _record(
        self,
        structure: Structure,
        attempts: list[dict[str, Any]],
        started: float,
        version: str | None,
        result: pw.Result | None = None,
    ) -> dict[str, Any]:
        cpu_s = sum(attempt["cpu_s"] for attempt in attempts)
        record = record_of(structure, self.physics, version, cpu_s, attempts, result)
        return record | {"wall_s": round(time.time() - started, 3)}

    def _run(self, atoms: Atoms, rung: retries.Rung) -> tuple[pw.Result, str | None]:
        """One try: its numbers and the engine's version, or Aside."""
        closest = minimum_distance(atoms)
        limit = self.settings.minimum_distance_angstrom
        if closest < limit:
            raise Aside(Reason.CLASH, f"two atoms are {closest:.3f} Å apart; at least {limit:g} Å expected")
        if self.settings.engine != "qe":
            try:
                return pw.Result(*xtb.label(atoms, self.settings.engine)), xtb.version()
            except ValueError as error:
                raise Aside(Reason.NOT_CONVERGED, str(error)) from None
        settings = rung.applied(self.settings)
        scratch = Path(tempfile.mkdtemp(dir=self.folder))
        try:
            status, text = pw.run(atoms, settings, self.site, scratch)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        try:
            return accept(status, text, atoms, settings, self.hashes), pw.version(text)
        except Aside as aside:
            aside.output = text
            raise


def _outcome(record: dict[str, Any]) -> dict[str, Any]:
    reason = record.get("reason")
    return {
        "accepted": reason is None,
        "reason": reason,
        "detail": record.get("detail"),
        "cpu_s": record["cpu_s"],
        "attempts": record.get("attempts", []),
    }


def _attempt(rung: retries.Rung, before: float, failure: Aside | None = None) -> dict[str, Any]:
    return {
        "rung": rung.name,
        "reason": str(failure.reason) if failure else None,
        "detail": failure.detail if failure else None,
        "cpu_s": round(_cpu_s() - before, 3),
    }


def _cpu_s() -> float:
    """CPU time of this process and its finished children, in s."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
