"""Folders, locks, clocks and room of the machine this runs on."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlpwf.config import Campaign, Site
from mlpwf.findings import Finding, failed, ok, warning

CLOCK_S = 2.0  # Snakemake compares times of files that jobs on several machines write
LOCK_FILE = ".mlpwf-doctor.lock"
_TRY_LOCK = """
import fcntl, sys
with open(sys.argv[1], "a") as handle:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(7)
"""
_HELD = 7


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    folder = folder.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def writable(name: str, folder: Path) -> Iterator[Finding]:
    """Whether files can be made, renamed and taken away in a folder, which is made for it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".mlpwf-doctor-", delete=False) as handle:
            handle.write(b"x" * 100_000)
            os.fsync(handle.fileno())
        renamed = Path(handle.name).with_suffix(".renamed")
        Path(handle.name).rename(renamed)
        renamed.unlink()
    except OSError as error:
        yield failed(
            name, f"{folder}: {error.strerror}", "a folder to write to", "give its owner the right, or name another"
        )
        return
    yield ok(name, f"{folder} can be written to")


def locks(name: str, folder: Path, *, held_elsewhere: bool = False) -> Iterator[Finding]:
    """Whether one process keeps another out of a file; `held_elsewhere`: the other machine holds it now."""
    file = folder / LOCK_FILE
    try:
        with file.open("a") as handle:
            if not held_elsewhere:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            status = subprocess.run([sys.executable, "-c", _TRY_LOCK, str(file)], capture_output=True).returncode
            if not held_elsewhere:
                file.unlink()
    except OSError as error:
        yield failed(
            name, f"{folder}: {error.strerror}", "locks (flock)", "keep results and store on a file system with locks"
        )
        return
    if status == _HELD:
        yield ok(name, f"locks of {folder} keep another {'machine' if held_elsewhere else 'process'} out")
        return
    reach = "are not seen by other machines" if held_elsewhere else "keep nobody out"
    yield failed(
        name, f"locks of {folder} {reach}", "locks (flock) that all jobs see",
        "mount it with locks (NFS: without nolock or local_lock; Lustre: with -o flock), or name another folder",
    )  # fmt: skip


@contextmanager
def held_lock(folder: Path) -> Iterator[None]:
    """Hold the lock that `locks(…, held_elsewhere=True)` on another machine must find held."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK_FILE).open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    (folder / LOCK_FILE).unlink(missing_ok=True)


def clock(name: str, folder: Path) -> Iterator[Finding]:
    """This machine's clock against that of the file system."""
    with tempfile.NamedTemporaryFile(dir=existing(folder), prefix=".mlpwf-doctor-") as handle:
        before = time.time()
        handle.write(b"x")
        handle.flush()
        os.fsync(handle.fileno())
        after, written = time.time(), os.stat(handle.name).st_mtime
    ahead = before - written if before > written else min(0.0, after - written)
    how = f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} that of {folder}"
    if abs(ahead) > CLOCK_S:
        remedy = "have the clocks set (NTP, chrony): Snakemake orders files by their times"
        yield failed(name, f"the clock is {how}", f"at most {CLOCK_S:g} s", remedy)
    else:
        yield ok(name, f"the clock is that of {folder} within {CLOCK_S:g} s")


def needed_mb(campaign: Campaign) -> tuple[float, int]:
    """Room a whole campaign takes, in MB, and its number of files: a generous estimate."""
    c = campaign
    cycles, budget = c.select.maximum_cycles, c.select.budget
    labels = c.build.start_frames(len(c.system.molecules)) + c.build.test_frames + cycles * budget
    states = len(c.explore.temperatures_kelvin) * max(1, len(c.explore.densities_g_cm3))
    explored = cycles * states * c.explore.walkers * (c.explore.steps // c.explore.steps_between_frames)
    s = c.simulate
    frames = sum(s.lengths_ps) / s.linear_interval_ps * 20  # about so many log-spaced frames in an interval
    tensors = sum(s.lengths_ps) * 1e3 / s.stress_interval_fs
    bytes_an_atom, atoms = 120, 20 * sum(molecule.count for molecule in c.system.molecules.values())
    text = (3 * labels + explored) * atoms * bytes_an_atom
    production = frames * 4 * s.molecules * 12 + tensors * 32
    models = (cycles + 1) * c.train.models * 20e6
    files = 4 * labels + cycles * (50 + 20 * states * c.explore.walkers) + 200 * len(s.temperatures_kelvin)
    return (text + production + models) / 1e6, files


def room(name: str, folder: Path, megabytes: float, files: int) -> Iterator[Finding]:
    """Free room and files of the file system a folder is on."""
    place = existing(folder)
    free, inodes = shutil.disk_usage(place).free / 1e6, os.statvfs(place).f_favail
    found, expected = f"{free / 1e3:,.1f} GB free at {folder}", f"about {megabytes / 1e3:,.1f} GB for this campaign"
    remedy = "free room, name another folder, or ask for less (length_ps, budget)"
    if free < megabytes:
        yield failed(name, found, expected, remedy)
    elif free < 3 * megabytes:
        yield warning(name, found, expected + ", and three times that to be at ease", remedy)
    elif 0 < inodes < files:
        yield failed(name, f"{inodes:,} more files at {folder}", f"about {files:,} for this campaign", "free some")
    else:
        yield ok(name, f"{found}, {expected}")


def machine(campaign: Campaign, site: Site, results: Path, *, held_elsewhere: bool = False) -> Iterator[Finding]:
    """All of these checks."""
    store, megabytes_files = Path(site.label_store), needed_mb(campaign)
    for name, folder in (("results", results), ("store", store), ("scratch", Path(tempfile.gettempdir()))):
        findings = list(writable(name, folder))
        yield from findings
        if findings[-1].level != "ok" or name == "scratch":
            continue
        yield from locks(f"{name}: locks", folder, held_elsewhere=held_elsewhere)
        yield from clock(f"{name}: clock", folder)
        yield from room(f"{name}: room", folder, *megabytes_files)
    yield from room("scratch: room", Path(tempfile.gettempdir()), 1000, 1000)
