"""The ledger: finished, failed and killed jobs."""

import os
import signal
import subprocess
import sys
import time

import pytest

from mlpwf.campaign import accounting
from mlpwf.campaign.accounting import accounted, read_costs

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
    assert entry.stage == "label"
    assert entry.finished is True
    assert 0.4 <= entry.engine_cpu_s < 0.7
    assert 0.2 <= entry.own_cpu_s < 0.4


def test_a_failed_job_is_booked(tmp_path):
    with pytest.raises(RuntimeError), accounted(tmp_path, "train"):
        raise RuntimeError
    assert [entry.finished for entry in read_costs(tmp_path)] == [False]
    assert not (tmp_path / accounting.RUNNING).exists()


def test_a_killed_job_is_booked_with_what_its_engine_used(tmp_path):
    """SIGKILL: the last heartbeat stays, and the next job in the folder moves it to the ledger."""
    script = (
        "import subprocess, sys\nfrom mlpwf.campaign import accounting\naccounting.HEARTBEAT_S = 0.1\n"
        f"with accounting.accounted({str(tmp_path)!r}, 'label'):\n    subprocess.run({burn(60)!r})"
    )
    job = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    running = tmp_path / accounting.RUNNING
    end = time.time() + 60
    while not (running.exists() and read_costs(tmp_path)[0].engine_cpu_s > 0.5):
        assert time.time() < end
        time.sleep(0.05)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    killed = read_costs(tmp_path)
    assert [(entry.stage, entry.finished) for entry in killed] == [("label", None)]
    with accounted(tmp_path, "label"):
        pass
    entries = read_costs(tmp_path)
    assert [entry.finished for entry in entries] == [False, True]
    assert entries[0].engine_cpu_s >= 0.5
    assert len((tmp_path / accounting.LEDGER).read_text().splitlines()) == 2


def test_a_cut_line_is_left_out(tmp_path):
    with accounted(tmp_path, "label"):
        pass
    with (tmp_path / accounting.LEDGER).open("a") as handle:
        handle.write('{"stage": "label", "fini')
    assert len(read_costs(tmp_path)) == 1
    with accounted(tmp_path, "train"):
        pass
    assert [entry.stage for entry in read_costs(tmp_path)] == ["label", "train"]


def test_a_command_is_booked_from_its_start(tmp_path):
    """What it took to import is its own; what it computes as an engine is an engine's."""
    script = (
        "import time\nfrom mlpwf.campaign import accounting\naccounting.book_whole_process()\n{0}\n"
        f"with accounting.accounted({str(tmp_path)!r}, 'train'), accounting.as_engine():\n"
        "    with accounting.as_engine():\n        {1}"
    )
    wait = "end = time.process_time() + {}\n{}while time.process_time() < end: pass"
    script = script.format(wait.format(0.4, ""), wait.format(0.6, " " * 8))
    subprocess.run([sys.executable, "-c", script], check=True)
    (entry,) = read_costs(tmp_path)
    assert 0.4 <= entry.own_cpu_s < 1.5
    assert 0.6 <= entry.engine_cpu_s < 0.9
    assert entry.wall_s >= 1.0
    assert entry.started <= time.time() - 1.0
    assert 5 < entry.peak_mb < 500


def test_snakemake_is_booked_to_its_end_and_when_killed(tmp_path):
    """An entry a process: of one that ended, all of it; of one that was killed, its last heartbeat."""
    script = "import sys, time\nfrom mlpwf.campaign import accounting\naccounting.HEARTBEAT_S = 0.1\n"
    script += f"accounting.book_snakemake({str(tmp_path)!r}, 3)\n"
    work = "end = time.process_time() + 0.5\nwhile time.process_time() < end: pass\n"
    subprocess.run([sys.executable, "-c", script + work], check=True)
    (entry,) = accounting.read_snakemake(tmp_path)
    assert entry.cores == 3
    assert 0.5 <= entry.cpu_s < 2
    killed = subprocess.Popen([sys.executable, "-c", script + "while True: pass"])
    end = time.time() + 60
    while not any(one.cpu_s > 0.5 and one != entry for one in accounting.read_snakemake(tmp_path)):
        assert time.time() < end
        time.sleep(0.05)
    killed.kill()
    killed.wait()
    assert len(accounting.read_snakemake(tmp_path)) == 2
