"""DP-GEN 0.14 as a whole program, on this machine: two iterations for water, GFN2-xTB its labels.

    python benchmarks/dpgen_program.py run --dpgen dpgen/bin/dpgen

Its start labels, training settings, ladder of states and label engine are those of dpgen.py; exploring and
selecting are its own. Needs what dpgen.py has kept in --work. Prints the test error after each iteration.

`label FILE OUT` is what DP-GEN calls for each frame it takes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from dpgen import BUDGET, HERE, TRAIN, Stage

from mlpwf.engines import deepmd, xtb
from mlpwf.training import error_measures

ITERATIONS = 2


def parameters(stage: Stage) -> dict[str, Any]:
    """DP-GEN's param.json."""
    settings = deepmd.training_input(
        TRAIN, elements=stage.elements, slots=stage.slots(stage.start(0)), systems=[],
        seed=deepmd.seeds(0, 0), continued=False,
    )  # fmt: skip
    for section in (settings["model"]["descriptor"], settings["model"]["fitting_net"], settings["training"]):
        del section["seed"]
    low, high = stage.system.trust
    return {
        "type_map": stage.elements,
        "mass_map": "auto",
        "init_data_prefix": ".",
        "init_data_sys": ["init/000"],
        "sys_configs": [[f"box{index}.poscar" for index in range(3)]],
        "sys_format": "vasp/poscar",
        "numb_models": 4,
        "default_training_param": settings,
        "model_devi_dt": 0.0005,
        "model_devi_skip": 0,
        "model_devi_f_trust_lo": low,
        "model_devi_f_trust_hi": high,
        "model_devi_clean_traj": False,
        "model_devi_jobs": [
            {
                "sys_idx": [0],
                "temps": list(stage.system.ladder_kelvin),
                "trj_freq": 50,
                "nsteps": 2000,
                "ensemble": "nvt",
                "_idx": f"{iteration:02d}",
            }
            for iteration in range(ITERATIONS)
        ],
        "fp_style": "custom",
        "fp_task_max": BUDGET,
        "fp_task_min": 1,
        "fp_params": {
            "input_fn": "start.poscar", "input_fmt": "vasp/poscar", "output_fn": "labelled", "output_fmt": "deepmd/npy",
        },
    }  # fmt: skip


def machine() -> dict[str, Any]:
    """DP-GEN's machine.json: everything here, one after another."""
    python = Path(sys.executable).parent
    place = {"batch_type": "Shell", "context_type": "LazyLocalContext", "local_root": "./", "remote_root": "./"}
    room = {"number_node": 1, "cpu_per_node": 1, "gpu_per_node": 0, "queue_name": "", "group_size": 1000}

    def stage(command: str) -> list[dict[str, Any]]:
        return [{"command": command, "machine": place, "resources": room}]

    label = f"{sys.executable} {Path(__file__).resolve()} label start.poscar labelled"
    return {
        "api_version": "1.0",
        "deepmd_version": "3.2.0",
        "train": stage(str(python / "dp")),
        "model_devi": stage(str(python / "lmp")),
        "fp": [stage(label)[0] | {"user_backward_files": ["labelled"]}],
    }


def label(file: str, out: str) -> None:
    """Label one frame."""
    atoms = ase.io.read(file, format="vasp")
    energy, forces, stress = xtb.label(atoms, "gfn2")
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces, stress=stress)
    deepmd.write_data(Path("written"), [atoms], sorted(set(atoms.get_chemical_symbols()), key=["H", "C", "O"].index))
    shutil.move("written/000", out)


def errors(stage: Stage, folder: Path) -> list[str]:
    """Test errors of the models of each iteration."""
    found = []
    for iteration in sorted(folder.glob("iter.*")):
        models = sorted((iteration / "00.train").glob("graph.*.pb"))
        if not models:
            continue
        truth = [deepmd.labelled(atoms) for atoms in stage.test]
        masses = [atoms.get_masses() for atoms in stage.test]
        molecules = [atoms.arrays["molecule"] for atoms in stage.test]
        rated = [error_measures(truth, deepmd.predict(path, stage.test), masses, molecules) for path in models]
        inter = 1e3 * np.sqrt(np.mean([one["force_inter_rmse_ev_angstrom"] ** 2 for one in rated]))
        bought = sum(1 for _ in iteration.glob("02.fp/task.*"))
        found.append(f"{iteration.name}: inter {inter:.1f} meV/Å, {bought} frames labelled after it")
    return found


def run(arguments: argparse.Namespace) -> None:
    """Write DP-GEN's input, run it, rate its models."""
    stage, folder = Stage("water", arguments.work), arguments.work.resolve() / "program"
    folder.mkdir(parents=True, exist_ok=True)
    deepmd.write_data(folder / "init", stage.start(0), stage.elements)
    for index in range(3):
        box: Atoms = stage.box(5, index)
        box.wrap()
        ase.io.write(folder / f"box{index}.poscar", box[np.argsort(box.numbers, kind="stable")], format="vasp")
    (folder / "param.json").write_text(json.dumps(parameters(stage), indent=1))
    (folder / "machine.json").write_text(json.dumps(machine(), indent=1))
    environment = {**os.environ, **deepmd.thread_settings(1)}
    command = [str(arguments.dpgen.absolute()), "run", "param.json", "machine.json"]
    subprocess.run(command, cwd=folder, check=True, env=environment)
    print("\n".join(errors(stage, folder)))


def main() -> None:
    """`run` the program, or `label` a frame for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    running = verbs.add_parser("run")
    running.add_argument("--dpgen", type=Path, required=True, help="the program of DP-GEN 0.14")
    running.add_argument("--work", type=Path, default=HERE / "dpgen.work")
    labelling = verbs.add_parser("label")
    labelling.add_argument("file")
    labelling.add_argument("out")
    arguments = parser.parse_args()
    if arguments.verb == "run":
        run(arguments)
    else:
        label(arguments.file, arguments.out)


if __name__ == "__main__":
    main()
