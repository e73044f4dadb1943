"""How far a long step is and when it ends, said now and then."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

EVERY_S = 20.0  # a line at most so often; steps that take less in all say nothing
FIRST_S = 1.0  # before, what is left cannot be told: a first part has imports and the like in it


class Progress:
    """Call it with the number of parts done; a line is logged at most every `EVERY_S`.

    The first line comes as soon as the parts done say that more than `EVERY_S` are left.

    Parameters
    ----------
    what
        What the line begins with.
    total
        Parts of the whole, at most: the time left is an upper bound where a step may end early.
    clock
        Seconds.
    """

    def __init__(self, what: str, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.what, self.total, self._clock = what, total, clock
        self._began, self._said = clock(), -float("inf")

    def __call__(self, done: int) -> None:
        now = self._clock()
        if not 0 < done < self.total or now - self._said < EVERY_S or now - self._began < FIRST_S:
            return
        left = (now - self._began) / done * (self.total - done)
        if left < EVERY_S and self._said < self._began:
            return
        self._said = now
        log.info("%s: %d of at most %d, %s left at most", self.what, done, self.total, in_words(left))


def in_words(seconds: float) -> str:
    """A duration with its unit: 40 s, 12 min, 3.4 h."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5970 else f"{seconds / 3600:.1f} h"


@contextmanager
def watched(
    watch: Callable[[int], None] | None, done: Callable[[], int], every_s: float = EVERY_S / 4
) -> Iterator[None]:
    """While the block runs, call `watch` with what `done` counts, every `every_s` seconds."""
    if watch is None:
        yield
        return
    over = threading.Event()

    def look() -> None:
        while not over.wait(every_s):
            watch(done())

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
