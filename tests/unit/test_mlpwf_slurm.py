"""The Slurm executor's judgement of Slurm's words, and the batch script that guards a job's files."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from snakemake_executor_plugin_mlpwf_slurm import slurm
from snakemake_executor_plugin_mlpwf_slurm.ledger import Entry, Place

NODE = {"SLURM_JOB_ID": "7", "SLURMD_NODENAME": "n1"}
WAITS = "waiting for job 7 on n1, which still works on these files\n"
BATCH = "Batch job submission failed:"
POLICY = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (f"sbatch: error: AssocGrpSubmitJobsLimit sbatch: error: {BATCH} {POLICY}", "passing"),
        (f"sbatch: error: AssocMaxSubmitJobLimit sbatch: error: {BATCH} {POLICY}", "policy"),
        (f"sbatch: error: QOSMaxCpuPerJobLimit sbatch: error: {BATCH} {POLICY}", "policy"),
        (f"sbatch: error: {BATCH} Invalid account or account/partition combination specified", "site"),
        (f"sbatch: error: invalid partition specified: x {BATCH} Invalid partition name specified", "site"),
        (f"sbatch: error: {BATCH} Invalid qos specification", "site"),
        (f"sbatch: error: {BATCH} User's group not permitted to use this partition", "site"),
        (f"sbatch: error: {BATCH} Requested node configuration is not available", "job"),
        ("sbatch: error: Memory specification can not be satisfied", "job"),
        (f"sbatch: error: {BATCH} Requested time limit is invalid (missing or exceeds some limit)", "job"),
        (f"sbatch: error: {BATCH} Resource temporarily unavailable", "passing"),
        ("something no Slurm has said before", "unknown"),
    ],
)  # fmt: skip
def test_refusals_are_told_apart(words, kind):
    assert slurm.classify(words) == kind


def test_limits_in_words_of_slurm():
    limits = {"1-12:00:00": 2160, "2-00": 2880, "2:00:00": 120, "30:30": 30.5, "45": 45, "UNLIMITED": float("inf")}
    assert {limit: slurm.minutes_of(limit) for limit in limits} == limits


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A command on PATH that says something on stderr and ends with 1."""

    def make(words):
        path = tmp_path / "squeue"
        path.write_text(f"#!/bin/sh\necho '{words}' >&2\nexit 1\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    return make


@pytest.mark.parametrize(
    "words",
    [
        "slurm_load_jobs error: Unable to contact slurm controller (connect failure)",
        "slurm_load_jobs error: Socket timed out on send/recv operation",
        "slurm_load_jobs error: Zero Bytes were transmitted or received",
        "slurm_load_jobs error: Protocol authentication error",
    ],
)
def test_silence_is_no_refusal(program, words):
    program(words)
    with pytest.raises(slurm.SilentError, match=words.split(":")[0]):
        slurm.ask(["squeue"])


def test_a_refusal_keeps_slurms_words(program):
    program("squeue: error: Invalid account or account/partition combination specified")
    with pytest.raises(slurm.RefusedError, match="Invalid account") as found:
        slurm.ask(["squeue"])
    assert found.value.kind == "site"


def test_the_newest_active_job_is_found_by_its_comment():
    jobs = {
        "9": slurm.Listed("9", "RUNNING", "None", "mlpwf-slurm F K a b c"),
        "10": slurm.Listed("10", "FAILED", "None", "mlpwf-slurm F K a b d"),
        "11": slurm.Listed("11", "RUNNING", "None", "mlpwf-slurm F KK a b e"),
    }
    listing = slurm.Listing(0.0, jobs)
    assert listing.by_comment("mlpwf-slurm F K").number == "9"
    assert listing.by_comment("mlpwf-slurm F K a b d").number == "10"
    assert listing.by_comment("mlpwf-slurm F X") is None


@pytest.fixture
def place(tmp_path, monkeypatch):
    folder = tmp_path / "a $(touch pwned) `b`"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return Place("key")


def run(script):
    return subprocess.run(["bash"], input=script, text=True, capture_output=True, env=os.environ | NODE, check=False)


def test_the_script_says_how_the_job_ended(place):
    entry = Entry.new("f", "p")
    place.write(entry)
    assert (
        run(
            place.script(
                entry.submission, "name", 60, "echo $SLURM_JOB_END_TIME > made; exit_with() { return 3; }; exit_with"
            )
        ).returncode
        == 3
    )
    status = place.status(entry.submission)
    assert (status.number, status.exit) == ("7", 3)
    assert int(Path("made").read_text()) > 60
    assert not Path("pwned").exists()


def test_a_job_that_was_replaced_does_nothing(place):
    old, new = Entry.new("f", "p"), Entry.new("f", "p")
    place.write(new)
    assert run(place.script(old.submission, "name", 60, "touch made")).returncode == 0
    assert not Path("made").exists()
    assert place.status(new.submission) is None
    place.forget()
    assert run(place.script(new.submission, "name", 60, "touch made")).returncode == 0
    assert not Path("made").exists()


def begin(script):
    return subprocess.Popen(["bash", "-c", script], text=True, stdout=subprocess.PIPE, env=os.environ | NODE)


@pytest.mark.parametrize("code", [0, 3])
def test_a_job_that_slurm_started_twice_is_done_once(place, code):
    """The first lives on, on a node that was given up; the second waits, and ends as the first did."""
    entry = Entry.new("f", "p")
    place.write(entry)
    work = f"echo x >> made; while [ ! -e go ]; do sleep 0.05; done; (exit {code})"
    first = begin(place.script(entry.submission, "name", 60, work))
    while not Path("made").exists():
        assert first.poll() is None
    second = begin(place.script(entry.submission, "name", 60, work))
    assert second.stdout.readline() == WAITS
    place.forget()  # Slurm says it was cancelled: a third is submitted, and waits for the first too
    third = Entry.new("f", "p")
    place.write(third)
    last = begin(place.script(third.submission, "name", 60, work))
    assert last.stdout.readline() == WAITS
    place.write(entry)
    Path("go").touch()
    assert [job.wait(60) for job in (first, second)] == [code, code]
    assert last.wait(60) == 0
    assert Path("made").read_text() == "x\n"


def test_the_lock_of_a_job_that_said_its_end_goes_with_its_books(place):
    entry = Entry.new("f", "p")
    place.write(entry)
    assert run(place.script(entry.submission, "name", 60, "true")).returncode == 0
    place.forget(ended=True)
    assert not list(place.stem.parent.iterdir())


def test_every_test_the_table_names_exists():
    root = Path(__file__).parents[2]
    code = "".join(path.read_text() for path in [*root.glob("tests/slurm/*.py"), *root.glob("tests/cli/*.py")])
    named = re.findall(r"::(test_\w+)", (root / "docs" / "cluster.md").read_text())
    assert len(named) > 15
    assert [name for name in named if f"def {name}(" not in code] == []
