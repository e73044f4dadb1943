"""Kill a verb in flight, as a lost node would."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def kill(words, work, checkpoints=3):
    """SIGKILL a production segment after some checkpoints; the folder of its checkpoints."""
    code = "import sys; from mlpwf.simulate.command import app; app(sys.argv[1:])"
    kill_once(code, words, work, (work / "checkpoint" / f"{checkpoints:06d}.json").exists)
    return work / "checkpoint"


def kill_once(code, words, work, due):
    """SIGKILL a Python program once `due()`, and wait until LAMMPS in `work` is gone too."""
    process = subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 900
    while not due():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    while any(str(work) in command for command in commands()):
        assert time.monotonic() < deadline, "LAMMPS outlived the verb that started it"
        time.sleep(0.05)


def commands():
    """Command lines of all processes."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
