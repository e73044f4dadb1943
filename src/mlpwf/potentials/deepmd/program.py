"""The program `dp`: train, freeze, compress."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlpwf.errors import EngineError
from mlpwf.potentials.curve import followed
from mlpwf.potentials.deepmd import COMPRESSED, FROZEN
from mlpwf.process import TIMED_OUT, run_engine

FREEZE = ["freeze", "-c", ".", "-o", FROZEN]
COMPRESS = ["compress", "-i", FROZEN, "-o", COMPRESSED]
HARMLESS = re.compile(r"libcudart|implib-gen")  # what the CPU build prints on every start


def thread_settings(threads: int) -> dict[str, str]:
    """Environment that keeps DeePMD and TensorFlow to `threads` cores and quiet."""
    return {
        "OMP_NUM_THREADS": str(threads),
        "TF_INTRA_OP_PARALLELISM_THREADS": str(threads),
        "TF_INTER_OP_PARALLELISM_THREADS": "1",
        "DP_INTRA_OP_PARALLELISM_THREADS": str(threads),
        "DP_INTER_OP_PARALLELISM_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_ENABLE_ONEDNN_OPTS": "0",
    }


def last_words(output: Path) -> str:
    """The last line of a program's output that says something of an error, or else the last line."""
    lines = [line.strip() for line in output.read_text(errors="replace").splitlines() if line.strip()]
    lines = [line for line in lines if not HARMLESS.search(line)]
    telling = [line for line in lines if re.search(r"error|exception|killed|cannot|not found", line, re.IGNORECASE)]
    return (telling or lines or ["no output"])[-1][:300]


@dataclass(frozen=True)
class Program:
    """The program `dp`: its command words and the cores it may use."""

    command: list[str]
    threads: int = 1

    def run(self, words: list[str], folder: Path) -> None:
        """Run `dp WORDS` in `folder`; the output goes to `folder`/WORD.out.

        Raises
        ------
        EngineError
            With the last telling line of the output and the path to it.
        """
        status = self._child([*self.command, *words], folder, words[0])
        self._judge(status, words[0], folder)

    def run_all(self, commands: list[list[str]], folder: Path) -> None:
        """Run `dp WORDS` for each of these, until one fails, as `run` does.

        Where `dp` is that of this Python they share a process, since each imports TensorFlow for seconds.
        """
        if not self._is_ours():
            for words in commands:
                self.run(words, folder)
            return
        outputs = [folder / f"{words[0]}.out" for words in commands]
        for output in outputs:
            output.unlink(missing_ok=True)
        command = [sys.executable, "-m", "mlpwf.potentials.deepmd.chain", json.dumps(commands)]
        status = self._child(command, folder, commands[0][0])
        last = [words[0] for words, output in zip(commands, outputs, strict=True) if output.is_file()][-1]
        self._judge(status, last, folder)

    def _is_ours(self) -> bool:
        """Whether the command is `dp` of this Python's environment, and nothing more."""
        found = shutil.which(self.command[0]) if len(self.command) == 1 else None
        own = Path(sys.executable).parent / "dp"
        return found is not None and own.exists() and own.samefile(found)

    def _child(self, command: list[str], folder: Path, word: str) -> int:
        output = folder / f"{word}.out"
        return run_engine(command, folder=folder, output=output, environment=thread_settings(self.threads))

    def _judge(self, status: int, word: str, folder: Path) -> None:
        if status != 0:
            ended = "ran out of time" if status == TIMED_OUT else f"ended with status {status}"
            output = folder / f"{word}.out"
            raise EngineError(f"dp {word} {ended}; expected 0: {last_words(output)} (whole output: {output})")

    def train(
        self,
        folder: Path,
        settings: dict[str, Any],
        start: Path | None = None,
        restart: str | None = None,
        progress: Callable[[int, float], None] | None = None,
    ) -> None:
        """Train in `folder`, then freeze and compress the model.

        Parameters
        ----------
        folder
            Holds the data that `settings` names.
        settings
            Input of `dp train`, see `training_input`.
        start
            Frozen model whose weights and statistics are the starting point.
        restart
            Checkpoint in `folder` to resume from, see `latest_checkpoint`.
        progress
            Called with step and batch force error (eV/Å) at about every fifth of the steps.
        """
        (folder / "input.json").write_text(json.dumps(settings, indent=1) + "\n")
        words = ["train", "input.json"]
        if restart is not None:
            words += ["--restart", restart]
        elif start is not None:
            words += ["--init-frz-model", str(start.resolve())]
        with followed(folder / "lcurve.out", settings["training"]["numb_steps"], progress):
            self.run_all([words, FREEZE, COMPRESS], folder)
        _expect(folder / FROZEN)
        _expect(folder / COMPRESSED)

    def compress(self, folder: Path) -> None:
        """Compress the frozen model in `folder`."""
        self.run(COMPRESS, folder)
        _expect(folder / COMPRESSED)


def _expect(model: Path) -> None:
    if not model.is_file():
        raise EngineError(f"dp wrote no {model.name}; expected one in {model.parent}: see the .out files there")


def latest_checkpoint(folder: Path) -> tuple[str, int] | None:
    """Name and step of the last checkpoint of a training in `folder`, of which all files are there."""
    found = [
        (int(path.name.split("-")[-1].removesuffix(".index")), path.with_suffix(""))
        for path in folder.glob("model.ckpt-*.index")
    ]
    for step, prefix in sorted(found, reverse=True):
        if all(prefix.with_name(prefix.name + end).is_file() for end in (".data-00000-of-00001", ".meta")):
            return prefix.name, step
    return None
