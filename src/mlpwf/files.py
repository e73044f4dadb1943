"""Files that are whole or absent: atomic writes, hashes, one writer per job folder."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlpwf.errors import DataError

log = logging.getLogger(__name__)

# read once: it cannot be read without being set, for all threads, for an instant
_UMASK = os.umask(0o077)
os.umask(_UMASK)

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def no_room(path: Path | str) -> str:
    """What to say of a file, or a folder, that could not be written because its disk or quota is full."""
    folder = Path(path)
    while not folder.is_dir():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 1e6
    return (
        f"{path}: cannot be written whole, its disk or quota is full ({free:.1f} MB free); "
        "expected room for it: free some, then run the same command again, which goes on from what is done"
    )


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Give errors of the block that name no file, as those of a full disk, the name `path`."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


@contextmanager
def replacing(target: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `target`; rename it onto `target` on success.

    Nothing is left behind, and `target` is untouched, if the block raises.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.stem}-", suffix=target.suffix, dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        with naming(target):
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_UMASK)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(target: Path | str, text: str) -> None:
    """Write `text` to `target` atomically."""
    with replacing(target) as temporary:
        temporary.write_text(text)


def copy_whole(source: Path, target: Path) -> None:
    """Copy a file atomically."""
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)


def write_json(target: Path | str, document: Any) -> None:
    """Write JSON atomically. NaN and infinity are refused (ValueError)."""
    write_text(target, json.dumps(document, indent=1, allow_nan=False) + "\n")


def write_json_if_changed(target: Path | str, document: Any) -> bool:
    """Write JSON only when its content differs, so that timestamps carry meaning."""
    text = json.dumps(document, indent=1, allow_nan=False) + "\n"
    target = Path(target)
    if target.exists() and target.read_text() == text:
        return False
    write_text(target, text)
    return True


REMEDY = "if a stage of a campaign made it, remove it and run again"
"""For a file that cannot be read: it may be a user's own, which nobody should be told to delete."""


def read_json(source: Path | str) -> Any:
    """Read a JSON file.

    Raises
    ------
    DataError
        If the file is missing or is not JSON.
    """
    try:
        return json.loads(Path(source).read_text())
    except FileNotFoundError:
        raise DataError(f"{source}: no such file") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{source}: not a JSON file ({error}); expected one that mlpwf wrote; {REMEDY}") from None


def sha256(source: Path | str) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with Path(source).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sound(source: Path, expected: object, record: Path, remedy: str) -> str:
    """SHA-256 of a file, which must be the one `record` expects.

    Raises
    ------
    DataError
        If it is another, with what to do.
    """
    found = sha256(source)
    if found != expected:
        expectation = f"expected {str(expected)[:12]}…, of {record}"
        raise DataError(f"{source}: damaged (SHA-256 {found[:12]}…; {expectation}): {remedy}")
    return found


@contextmanager
def sole_writer(folder: Path | str) -> Iterator[None]:
    """Hold the folder's lock; wait, saying so, while another process works in it.

    The kernel releases the lock when its holder dies, however it dies, so a
    killed job never blocks the next one, and a job that outlived its workflow
    is waited for and not run twice.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            log.info("waiting for %s, still worked on by %s", folder, handle.read().strip() or "another process")
            fcntl.flock(handle, fcntl.LOCK_EX)
        with naming(folder / ".lock"):
            handle.truncate(0)
            handle.write(f"process {os.getpid()} on {socket.gethostname()}")
            handle.flush()
        yield
