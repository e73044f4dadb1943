"""Run an external program so that nothing of it is lost and nothing outlives its parent."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from mlpwf.errors import EngineError
from mlpwf.files import no_room

TIMED_OUT = -1000
FULL_BYTES = 1 << 20  # a disk with less room than this is full: a program may have found less
FULL_WORDS = (b"No space left on device", b"Disk quota exceeded", b"File too large")
_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> Callable[[], None]:
    """What a new process calls to be killed when the process `parent` dies, however it dies."""
    libc = ctypes.CDLL(None)

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return ask


def live_with(parent: int) -> None:
    """In a worker process: end when the process `parent` does, however it does."""
    die_with_parent(parent)()


def run_engine(
    command: list[str],
    *,
    folder: Path,
    output: Path,
    environment: dict[str, str] | None = None,
    timeout_seconds: float | None = None,
) -> int:
    """Run `command` in `folder` without a shell; standard output and error go to `output`.

    The program is killed when this process dies, however it dies.

    Parameters
    ----------
    command
        Words of the command; the first is looked up on PATH.
    folder
        Working folder of the program.
    output
        File that receives everything the program prints.
    environment
        Variables set on top of this process's own.
    timeout_seconds
        Wall time after which the program is killed; None: unlimited.

    Returns
    -------
    int
        Exit status; negative for a signal; `TIMED_OUT` after the wall time.

    Raises
    ------
    EngineError
        If the program cannot be started at all, or filled its disk: what it wrote is then not to be judged.
    """
    with output.open("wb") as sink:
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                preexec_fn=die_with_parent(os.getpid()),
            )
        except OSError as error:
            raise EngineError(
                f"cannot start '{command[0]}' ({error.strerror}); expected a program on this machine: "
                "install it, or name it in the site file (config/sites)"
            ) from None
        try:
            status = process.wait(timeout_seconds)
            if _filled(folder, output, status):
                raise EngineError(no_room(folder))
            return status
        except subprocess.TimeoutExpired:
            return TIMED_OUT
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def _filled(folder: Path, output: Path, status: int) -> bool:
    """Whether a program met a full disk: there is no room, or it failed and says so."""
    if shutil.disk_usage(folder).free < FULL_BYTES:
        return True
    with output.open("rb") as printed:
        printed.seek(max(0, output.stat().st_size - 4096))
        end = printed.read()
    return status != 0 and any(words in end for words in FULL_WORDS)
