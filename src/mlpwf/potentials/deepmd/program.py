"""The program `dp`: train, freeze, compress."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlpwf.errors import EngineError
from mlpwf.potentials.deepmd import COMPRESSED, FROZEN
from mlpwf.potentials.deepmd.curve import followed
from mlpwf.process import TIMED_OUT, run_engine

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
        output = folder / f"{words[0]}.out"
        status = run_engine(
            [*self.command, *words], folder=folder, output=output, environment=thread_settings(self.threads)
        )
        if status != 0:
            ended = "ran out of time" if status == TIMED_OUT else f"ended with status {status}"
            raise EngineError(f"dp {words[0]} {ended}; expected 0: {last_words(output)} (whole output: {output})")

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
            self.run(words, folder)
        self.run(["freeze", "-c", ".", "-o", FROZEN], folder)
        _expect(folder / FROZEN)
        self.compress(folder)

    def compress(self, folder: Path) -> None:
        """Compress the frozen model in `folder`."""
        self.run(["compress", "-i", FROZEN, "-o", COMPRESSED], folder)
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
