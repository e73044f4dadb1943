"""A campaign that version 0.1.0 left half done is resumed: nothing that it had finished is asked for again.

`half_done_0.1.0.tar.xz` is tiny_toluene as that version left it when it was killed in its production runs: all JSON
files of settings, verdicts and records, with the times of all files; what a dry run does not read is empty.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from campaign import PROJECT, SNAKEMAKE

CAMPAIGN = Path("results") / "tiny_toluene"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with tarfile.open(PROJECT / "tests" / "data" / "half_done_0.1.0.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def asked(folder: Path) -> dict[str, int]:
    """Jobs of a dry run, by rule."""
    words = ["-n", "--cores", "2", "--directory", str(folder)]
    config = ["--config", "system=tiny_toluene.yaml", "site=local.yaml"]
    done = subprocess.run([*SNAKEMAKE, *words, *config], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, re.M)}


def test_a_campaign_killed_in_production_asks_for_what_follows_alone(folder: Path) -> None:
    jobs = asked(folder)
    assert jobs.pop("total") == 10
    assert jobs == {
        "all": 1, "simulate_segment": 3, "simulate_collect": 3, "validate_model": 1, "analyse_dynamics": 1,
        "report_page": 1,
    }  # fmt: skip


def test_a_campaign_killed_in_a_cycle_keeps_its_labels_and_the_cycle_before(folder: Path) -> None:
    for name in ("cycle/001/train", "cycle/001/explore", "cycle/001/select", "train", "validate", "simulate"):
        shutil.rmtree(folder / CAMPAIGN / name, ignore_errors=True)
    jobs = asked(folder)
    assert not {"build_frames", "label_batch", "label_collect", "label_error"} & set(jobs)
    assert (jobs["train_model"], jobs["train_test"], jobs["explore_state"], jobs["select_frames"]) == (2, 1, 2, 1)
