"""The Python that has mace-torch: where it is, and a worker in it that answers."""

from __future__ import annotations

import atexit
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from mlpwf.errors import EngineError, GoneError
from mlpwf.process import die_with_parent

WORKER = Path(__file__).with_name("worker.py")
VARIABLE = "MLPWF_MACE_PYTHON"
"""Environment variable that names the Python; unset: the one beside this environment."""
LENGTH_BYTES = 8
REMEDY = "install it by `./start mace`, or name its Python in the site file (mace_python)"


def interpreter(named: str | None = None) -> str:
    """The Python that has mace-torch: the one that a site names, or else the environment, or that of `./start mace`.

    Raises
    ------
    EngineError
        If there is none.
    """
    own = Path(sys.prefix)
    found = named or os.environ.get(VARIABLE) or str(own.with_name(f"{own.name}-mace") / "bin" / "python")
    if not os.access(found, os.X_OK):
        raise EngineError(f"{found}: no Python there; expected one with mace-torch: {REMEDY}")
    return os.path.abspath(found)  # programs run in folders of their own


def variables(threads: int) -> dict[str, str]:
    """Environment that keeps PyTorch to so many cores."""
    return {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}


class Server:
    """A process that evaluates MACE models; it ends with this one."""

    def __init__(self, threads: int) -> None:
        self.said = cast("IO[bytes]", tempfile.TemporaryFile())  # noqa: SIM115  it lives as long as the process
        self.process = subprocess.Popen(
            [interpreter(), str(WORKER), "serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.said,
            env={**os.environ, **variables(threads), "PYTHONPATH": ""},
            preexec_fn=die_with_parent(os.getpid()),
        )
        atexit.register(self.close)

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a request.

        Raises
        ------
        GoneError
            If the process has ended, or says that it cannot answer.
        """
        text = io.BytesIO()
        arrays: dict[str, Any] = {name: np.asarray(value) for name, value in request.items()}
        np.savez(text, **arrays)
        sink, source = cast("IO[bytes]", self.process.stdin), cast("IO[bytes]", self.process.stdout)
        try:
            sink.write(len(text.getvalue()).to_bytes(LENGTH_BYTES, "big") + text.getvalue())
            sink.flush()
        except BrokenPipeError:
            raise self._ended() from None
        length = source.read(LENGTH_BYTES)
        content = source.read(int.from_bytes(length, "big"))
        if not length or len(content) < int.from_bytes(length, "big"):
            raise self._ended()
        with np.load(io.BytesIO(content), allow_pickle=False) as answer:
            found = dict(answer)
        if "error" in found:
            raise GoneError(f"MACE cannot evaluate {request['model']}: {found['error']}")
        return found

    def _ended(self) -> GoneError:
        status = self.process.wait()
        self.said.seek(0)
        lines = [line.strip() for line in self.said.read().decode(errors="replace").splitlines() if line.strip()]
        last = lines[-1][:300] if lines else "no output"
        remedy = f": {REMEDY}" if "ModuleNotFoundError" in last else ""
        return GoneError(f"the process of MACE ended with status {status}; expected an answer: {last}{remedy}")

    def close(self) -> None:
        """End the process."""
        if self.process.poll() is None:
            cast("IO[bytes]", self.process.stdin).close()
            self.process.wait()


@cache
def _server(process: int) -> Server:
    return Server(int(os.environ.get("OMP_NUM_THREADS", "1")))


def ask(request: Mapping[str, Any]) -> dict[str, Any]:
    """What the server of this process answers; it is started when it is first asked."""
    return _server(os.getpid()).ask(request)
