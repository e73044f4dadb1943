"""Whether a label store is whole: every file read, what is damaged named, nothing changed."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

from mlpwf.errors import DataError
from mlpwf.label.store import LABELS, REJECTED, Store

log = logging.getLogger(__name__)

PROGRESS_EVERY = 500
NAMED = 5  # damaged files named in the last line; all are named above it


@dataclass
class Checked:
    """What a store holds, and which of its files are damaged."""

    labels: int
    rejected: int
    unsealed: int = 0
    """Files without a checksum, as the first versions wrote them."""
    damaged: list[Path] = field(default_factory=list)

    def __str__(self) -> str:
        line = f"{self.labels} labels, {self.rejected} rejected, {self.unsealed} without a checksum"
        if not self.damaged:
            return f"{line}, none damaged"
        names = ", ".join(map(str, self.damaged[:NAMED])) + ", …" * (len(self.damaged) > NAMED)
        return f"{line}, {len(self.damaged)} damaged: {names}"


def checked(store: Store) -> Checked:
    """Every file of a store read (`Store.check`); damaged ones are named in the log."""
    shelves = {shelf: store.all_keys(shelf) for shelf in (LABELS, REJECTED)}
    found = Checked(len(shelves[LABELS]), len(shelves[REJECTED]))
    files = [(shelf, key) for shelf, keys in shelves.items() for key in keys]
    for done, (shelf, key) in enumerate(files, start=1):
        try:
            found.unsealed += not store.check(shelf, key)
        except DataError as error:
            log.info("label check: %s", error)
            found.damaged.append(store.path(shelf, key))
        if done % PROGRESS_EVERY == 0:
            log.info("label check: %d/%d files", done, len(files))
    return found
