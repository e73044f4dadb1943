"""The ledger: finished, failed and killed jobs."""

import os
import signal
import subprocess
import sys
import time

import pytest

from mlpwf import accounting
from mlpwf.accounting import accounted, read_costs

BURN = "import time; end = time.process_time() + {}\nwhile time.process_time() < end: pass"


def burn(seconds):
    return [sys.executable, "-c", BURN.format(seconds)]


def test_engines_and_own_time_are_apart(tmp_path):
    with accounted(tmp_path, "label"):
        subprocess.run(burn(0.4), check=True)
        end = time.process_time() + 0.2
        while time.process_time() < end:
            pass
    (entry,) = read_costs(tmp_path)
    assert entry["stage"] == "label"
    assert entry["finished"] is True
    assert 0.4 <= entry["engine_cpu_s"] < 0.7
    assert 0.2 <= entry["own_cpu_s"] < 0.4


def test_a_failed_job_is_booked(tmp_path):
    with pytest.raises(RuntimeError), accounted(tmp_path, "train"):
        raise RuntimeError
    assert [entry["finished"] for entry in read_costs(tmp_path)] == [False]
    assert not (tmp_path / accounting.RUNNING).exists()


def test_a_killed_job_is_booked_with_what_its_engine_used(tmp_path):
    """SIGKILL: the last heartbeat stays, and the next job in the folder moves it to the ledger."""
    script = (
        "import subprocess, sys\nfrom mlpwf import accounting\naccounting.HEARTBEAT_S = 0.1\n"
        f"with accounting.accounted({str(tmp_path)!r}, 'label'):\n    subprocess.run({burn(60)!r})"
    )
    job = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    running = tmp_path / accounting.RUNNING
    end = time.time() + 60
    while not (running.exists() and read_costs(tmp_path)[0]["engine_cpu_s"] > 0.5):
        assert time.time() < end
        time.sleep(0.05)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    killed = read_costs(tmp_path)
    assert [(entry["stage"], entry["finished"]) for entry in killed] == [("label", None)]
    with accounted(tmp_path, "label"):
        pass
    entries = read_costs(tmp_path)
    assert [entry["finished"] for entry in entries] == [False, True]
    assert entries[0]["engine_cpu_s"] >= 0.5
    assert len((tmp_path / accounting.LEDGER).read_text().splitlines()) == 2


def test_a_cut_line_is_left_out(tmp_path):
    with accounted(tmp_path, "label"):
        pass
    with (tmp_path / accounting.LEDGER).open("a") as handle:
        handle.write('{"stage": "label", "fini')
    assert len(read_costs(tmp_path)) == 1
    with accounted(tmp_path, "train"):
        pass
    assert [entry["stage"] for entry in read_costs(tmp_path)] == ["label", "train"]
