"""A campaign of ten cycles, five hundred labels a cycle and eight states: its store, its status, its report."""

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

sys.path.insert(0, str(Path(__file__).parents[1]))

from mlpwf.label.store import Store, canonical, label_key, record_of
from mlpwf.structures.properties import Properties
from report_campaign import campaign, put, table, walker

NOTHING = Properties(-1.0, np.zeros((3, 3)), np.zeros((3, 3)), 216.0)
CYCLES, LABELS, STATES, BATCH, ROWS = 10, 500, 8, 25, 12_800
MLPWF = str(Path(sys.executable).parent / "mlpwf")
MEASURED = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
sys.exit(done.returncode)
"""


def measured(*words):
    """CPU-s and MB of a command, and what it said."""
    command = [sys.executable, "-c", MEASURED, MLPWF, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *said, last = done.stdout.splitlines()
    cpu, memory = map(float, last.split())
    print(f"mlpwf {words[0]}: {cpu:.1f} CPU-s, {memory:.0f} MB")
    return cpu, memory, "\n".join(said) + done.stderr


def fullest(folder):
    """The most entries any folder has."""
    return max(Counter(path.parent for path in folder.rglob("*")).values())


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A campaign as its stages would have left it, with all that grows with the labels and the states."""
    root = campaign(tmp_path_factory.mktemp("large"), cycles=CYCLES)
    rng = np.random.default_rng(1)
    states = [f"{temperature}K_0.867" for temperature in range(150, 150 + 50 * STATES, 50)]
    header = ["state", "walker", "step", "max_devi_f", "max_devi_v", "verdict", "selected", "why", "distance"]
    for cycle in sorted((root / "cycle").iterdir()):
        for batch in range(LABELS // BATCH):
            entries = [
                {
                    "key": hashlib.sha256(os.urandom(8)).hexdigest(),
                    "accepted": True,
                    "reused": False,
                    "cpu_s": 1.0,
                    "reason": None,
                    "detail": None,
                    "attempts": [],
                }
                for _ in range(BATCH)
            ]
            put(cycle / "label" / "batch" / f"{batch:03d}.json", {"labels": entries})
            cost = {"stage": "label", "finished": True, "started": 0.0, "wall_s": 30.0, "engine_cpu_s": 25.0}
            cost |= {"own_cpu_s": 1.0, "peak_mb": 200.0}
            put(cycle / "label" / "batch" / f"{batch:03d}.work" / "cost.jsonl", cost)
        for state in states:
            put(
                cycle / "explore" / state / "walkers.json",
                [walker(state, int(cycle.name), k, "finished", 20_000) for k in range(4)],
            )
        deviations = np.exp(rng.normal(-1.5, 0.6, ROWS))
        rows = [
            (states[k % STATES], k % 4, 50 * k, f"{d:.6g}", "", "candidate", 0, "", "")
            for k, d in enumerate(deviations)
        ]
        table(cycle / "select" / "decisions.csv", header, rows)
    for job in range(300):
        put(root / "snakemake" / f"n1-{job}-0.json", {"started": 0.0, "wall_s": 30.0, "cpu_s": 1.5, "cores": 4})
    return root


def test_status_is_a_matter_of_seconds(large):
    cpu, memory, said = measured("status", large)
    assert "cycle 9" in said
    assert cpu < 10
    assert memory < 400


def test_the_report_is_a_matter_of_seconds(large):
    cpu, memory, _ = measured(
        "report", "--config", large / "config" / "report.json", "--campaign", large, "--out", large / "report"
    )
    page = large / "report" / "report.html"
    assert page.read_text().count("<svg") > 5
    assert page.stat().st_size < 20e6
    assert cpu < 60
    assert memory < 1000
    assert fullest(large) < 1000


def test_a_store_of_5000_labels(tmp_path):
    """Written and read through its own interface."""
    store = Store(tmp_path / "store")
    rng = np.random.default_rng(2)
    physics = {"engine": "gfn1"}
    water = Atoms("OH2", [(0, 0, 0), (0.96, 0, 0), (-0.24, 0.93, 0)], cell=[6, 6, 6], pbc=True)
    for _ in range(CYCLES * LABELS):
        atoms = water.copy()
        atoms.rattle(0.1, rng=rng)
        structure = canonical(atoms)
        record = record_of(structure, physics, "0", 1.0).accepted(NOTHING)
        store.put(label_key(structure, physics), record)
    assert len(store.all_keys()) == CYCLES * LABELS
    assert fullest(tmp_path) <= 256
    site = tmp_path / "site.json"
    site.write_text(json.dumps({"label_store": str(store.root), "seed": 1}))
    cpu, memory, said = measured("label", "check", "--site", site)
    assert f"{CYCLES * LABELS}" in said
    assert cpu < 60
    assert memory < 400
