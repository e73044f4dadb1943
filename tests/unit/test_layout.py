"""The rule that lays out labels on a machine, and the measurement of memory it rests on."""

import os
import shlex
import sys
import time

import pytest

from mlpwf.calculators.espresso import parallel
from mlpwf.calculators.espresso.parallel import (
    Layout,
    Timing,
    candidates,
    memory_below_mib,
    mpi_command,
    mpirun_of,
    peak_memory,
    propose,
    serial_command,
)
from mlpwf.config import Label, Site
from mlpwf.errors import ConfigError
from mlpwf.process import run_engine

GIB = 1024.0


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"cores": 2, "memory_mib": 8 * GIB, "label_mib": 100}, Layout(2, 1, 1)),
        ({"cores": 64, "memory_mib": 256 * GIB, "label_mib": 400}, Layout(64, 1, 1)),
        ({"cores": 1, "memory_mib": 2 * GIB, "label_mib": 400}, Layout(1, 1, 1)),
        ({"cores": 16, "memory_mib": 10 * GIB, "label_mib": GIB}, Layout(8, 2, 2)),
        ({"cores": 16, "memory_mib": 2 * GIB, "label_mib": GIB}, Layout(1, 8, 16)),
        ({"cores": 16, "memory_mib": 10 * GIB, "label_mib": GIB, "atoms": 12}, Layout(8, 1, 2)),
        ({"cores": 16, "memory_mib": 64 * GIB, "label_mib": GIB, "ranks": 4}, Layout(4, 4, 4)),
        ({"cores": 16, "memory_mib": 2 * GIB, "label_mib": GIB, "ranks": 4}, Layout(1, 4, 16)),
    ],
)
def test_serial_labels_on_every_core_and_ranks_only_where_memory_is_short(asked, expected):
    assert propose(**{"atoms": 120} | asked) == expected


def test_no_layout_takes_more_memory_or_cores_than_there_are():
    for cores in range(1, 70, 3):
        for memory in (1.2, 3.0, 10.0, 70.0):
            found = propose(60, cores, memory * GIB, GIB)
            assert found.labels * GIB <= 0.9 * memory * GIB
            assert found.labels * found.threads <= cores
            assert found.ranks <= found.threads
            assert cores // found.threads == found.labels, "as many jobs as a scheduler starts with label_threads"


def test_impossible_layouts_are_one_line():
    with pytest.raises(ConfigError, match="takes 3072 MiB; expected at most 90% of 2048 MiB"):
        propose(60, 4, 2 * GIB, 3 * GIB)
    with pytest.raises(ConfigError, match="--ranks is 8; expected at most the number of cores, 4"):
        propose(60, 4, 64 * GIB, GIB, ranks=8)


def test_the_serial_command_is_what_stands_behind_a_launcher():
    assert serial_command(["srun", "-n", "8", "/opt/qe/pw.x"]) == ["/opt/qe/pw.x"]
    assert serial_command(["env", "A=1", "/usr/bin/mpirun", "pw.x"]) == ["pw.x"]
    assert serial_command(["python", "-m", "qepy", "--pw.x"]) == ["python", "-m", "qepy", "--pw.x"]
    assert mpi_command(["pw.x"], 4)[-6:] == ["mpirun", "--bind-to", "none", "-n", "4", "pw.x"]


def test_mpirun_is_that_of_pw_and_never_that_of_this_python(tmp_path, monkeypatch):
    def program(folder, name):
        path = tmp_path / folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
        return str(path)

    monkeypatch.setattr(parallel.sys, "executable", program("venv", "python"))
    monkeypatch.setenv("PATH", os.pathsep.join(str(tmp_path / name) for name in ("venv", "site", "qe")))
    program("venv", "mpirun")
    program("qe", "pw.x")
    assert mpirun_of("pw.x") is None
    elsewhere = program("site", "mpirun")
    assert mpirun_of("pw.x") == elsewhere
    beside = program("qe", "mpirun")
    assert mpirun_of("pw.x") == beside


def test_what_the_site_has_now_is_tried_too(monkeypatch):
    monkeypatch.setattr(parallel, "mpirun_of", lambda name: "/usr/bin/mpirun")
    site = Site(pw=["srun", "-n", "4", "pw.x"], label_threads=4)
    tried = candidates(Layout(16, 1, 1), Layout(8, 2, 2), site, 16)
    assert list(tried) == [Layout(16, 1, 1), Layout(8, 2, 2), Layout(4, 4, 4)]
    assert tried[Layout(16, 1, 1)] == ["pw.x"]
    assert tried[Layout(4, 4, 4)] == site.pw
    monkeypatch.setattr(parallel, "mpirun_of", lambda name: None)
    assert list(candidates(Layout(2, 1, 1), Layout(1, 2, 2), Site(), 2)) == [Layout(2, 1, 1)], "no mpirun, no ranks"


def test_labels_an_hour_are_the_sum_over_labels_side_by_side():
    assert Timing(Layout(2, 1, 1), ("pw.x",), (10.0, 20.0)).labels_per_hour == 360 + 180
    assert Timing(Layout(2, 1, 1), ("pw.x",), failure="crashed").labels_per_hour == 0


@pytest.mark.parametrize("wrapped", [False, True])
def test_memory_is_that_of_the_program_and_of_all_below_it(tmp_path, wrapped):
    program = [sys.executable, "-c", "import time; x = bytearray(300 * 2**20); time.sleep(0.5)"]
    script = tmp_path / "run.sh"
    script.write_text(f"#!/bin/sh\n{shlex.join(program)}\ntrue\n")
    with peak_memory() as peak:
        run_engine(["sh", str(script)] if wrapped else program, folder=tmp_path, output=tmp_path / "out")
    assert 300 <= sum(peak.values()) < 400


def test_memory_of_this_process_is_not_taken_for_that_of_one_about_to_start():
    before = sum(memory_below_mib().values())
    ballast = bytearray(b"x") * (200 * 2**20)
    child = os.fork()
    if child == 0:
        time.sleep(1)
        os._exit(0)
    try:
        assert sum(memory_below_mib().values()) < before + 50
    finally:
        os.waitpid(child, 0)
    assert len(ballast)


def test_a_failed_label_is_a_failed_layout(tmp_path):
    from ase.build import molecule

    atoms = molecule("H2O", cell=[5] * 3, pbc=True)
    failed = parallel.measure(atoms, Label(), Site(), {}, Layout(2, 1, 1), ["false"], tmp_path)
    assert "pw.x did not begin: 'false' ended with exit status 1" in failed.failure
    missing = parallel.measure(atoms, Label(), Site(), {}, Layout(1, 1, 1), ["no-such-pw.x"], tmp_path)
    assert "cannot start 'no-such-pw.x'" in missing.failure
    assert not list(tmp_path.iterdir()), "no scratch folder is left"
