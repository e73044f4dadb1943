"""A `map` over processes, for sampler runs."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from logging.handlers import QueueHandler, QueueListener
from multiprocessing.queues import Queue
from typing import Any

from mlpwf.errors import EngineError
from mlpwf.process import live_with

Mapper = Callable[..., Iterable[Any]]
"""Like `map`."""


@contextmanager
def mapper(threads: int) -> Iterator[Mapper]:
    """A `map` over up to `threads` processes, each with one thread; what they log is logged here.

    Raises
    ------
    EngineError
        If a process is killed.
    """
    if threads == 1:
        yield map
        return
    context = multiprocessing.get_context("spawn")
    logged = context.Queue()
    listener = QueueListener(logged, _Again())
    listener.start()
    with ProcessPoolExecutor(threads, context, _begin_worker, (os.getpid(), logged)) as pool:
        try:
            yield pool.map
        except BrokenProcessPool:
            raise EngineError("a sampler process was killed; expected enough memory for --threads: lower it") from None
        finally:
            pool.shutdown(cancel_futures=True)
            listener.stop()


class _Again(logging.Handler):
    """What another process logged, logged here."""

    def emit(self, record: logging.LogRecord) -> None:
        logging.getLogger(record.name).handle(record)


def _begin_worker(parent: int, logged: Queue[logging.LogRecord]) -> None:
    """In a worker process: end with the parent, and send it what is logged."""
    live_with(parent)
    root = logging.getLogger("mlpwf")
    root.setLevel(logging.INFO)
    root.addHandler(QueueHandler(logged))
