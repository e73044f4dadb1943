"""Several commands of `dp` in one process: `python -m mlpwf.potentials.deepmd.chain '[["train", …], …]'`.

TensorFlow is imported once. What each command prints goes to COMMAND.out in the working folder.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from deepmd.main import main as dp


def main(argument: str) -> None:
    """Run the commands in order; an error ends the process as it ends `dp`."""
    for words in json.loads(argument):
        with Path(f"{words[0]}.out").open("wb") as sink:
            for stream in (1, 2):
                os.dup2(sink.fileno(), stream)
        dp(words)
        sys.stdout.flush()
        sys.stderr.flush()


if __name__ == "__main__":
    main(sys.argv[1])
