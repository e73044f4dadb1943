"""The frames that DP-GEN's own selection takes: run by DP-GEN's Python, see dpgen.py.

    python dpgen_pick.py MODEL_DEVI FP LOW HIGH BUDGET SEED ELEMENT...

MODEL_DEVI holds task.SSS.TTTTTT/{model_devi.out,traj/STEP.lammpstrj,job.json} as DP-GEN's exploration leaves
them, FP is an empty folder for its tasks. Prints a line `TASK STEP` for each frame it takes.
"""

import random
import sys
from pathlib import Path

from dpgen.generator.run import _make_fp_vasp_inner


def main(model_devi: str, fp: str, low: str, high: str, budget: str, seed: str, *elements: str) -> None:
    """Select by DP-GEN's standard levels, with its defaults (no level for the virial)."""
    random.seed(int(seed))
    tasks = _make_fp_vasp_inner(
        0, model_devi, fp, 0, 1e10, 1e10, float(low), float(high), 0, int(budget), [], list(elements), {}
    )
    for task in tasks:
        frame = (Path(task) / "conf.dump").readlink()
        print("picked", frame.parent.parent.name, frame.stem)


if __name__ == "__main__":
    main(*sys.argv[1:])
