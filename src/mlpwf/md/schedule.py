"""The output schedule: which steps of a production run write what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mlpwf.errors import DataError


@dataclass(frozen=True)
class Output:
    """A step of a run at which something is kept: a frame, the pressure tensor, or both."""

    step: int
    frame: bool
    stress: bool


def outputs(interval: int, stress: int, start: int, stop: int) -> Iterator[Output]:
    """What a run keeps in (start, stop], in order.

    Frames: multiples of `interval`, and in every block between them the offsets
    1, 2, 4, 8, … < `interval`, so that each decade of lag times is sampled from
    every block. Pressure tensors: multiples of `stress`. The schedule counts from
    step 0 and does not depend on where a run is cut.

    Parameters
    ----------
    interval
        Steps from one linear frame to the next, a multiple of `stress`.
    stress
        Steps from one pressure tensor to the next.
    start, stop
        Steps since the start of production; `start` itself belongs to what came before.

    Raises
    ------
    DataError
        If `interval` is no multiple of `stress`.
    """
    if interval < 1 or stress < 1 or interval % stress:
        raise DataError(f"{interval} steps between linear frames; expected a multiple of {stress}")
    frames = {0, *(2**k for k in range(int(interval - 1).bit_length()))}
    offsets = sorted(frames | set(range(0, interval, stress)))
    for block in range(start - start % interval, stop + 1, interval):
        for offset in offsets:
            if start < block + offset <= stop:
                yield Output(block + offset, offset in frames, offset % stress == 0)
