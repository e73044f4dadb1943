"""Fixtures shared by all tests."""

from __future__ import annotations

import compileall
import fcntl
import hashlib
import os
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

import pytest

# one process a core runs tests: threads of each would only get in each other's way
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Compile mlpwf once, also where PYTHONDONTWRITEBYTECODE would have each of the processes of a campaign do it."""
    if not hasattr(session.config, "workerinput"):
        compileall.compile_dir(Path(__file__).parents[1] / "src", quiet=1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest first, so that the other tests run beside it: campaigns, then the longest of the files."""
    items.sort(key=lambda item: (item.get_closest_marker("campaign") is None, item.path.name != "test_survival.py"))


@pytest.fixture(scope="session")
def water_models(request: pytest.FixtureRequest) -> list[Path]:
    """Two frozen DeePMD models of the toy water, trained once and kept in the cache of pytest."""
    import toy_water

    recipe = Path(toy_water.__file__).read_bytes() + version("deepmd-kit").encode()
    cache = request.config.cache.mkdir("toy_water")
    kept = cache / hashlib.sha256(recipe).hexdigest()[:16]
    models = [kept / f"{seed}.pb" for seed in (1, 2)]
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not all(model.is_file() for model in models):
            work = Path(tempfile.mkdtemp(dir=cache))
            trained = toy_water.train_models(work, (1, 2))
            kept.mkdir(exist_ok=True)
            for source, model in zip(trained, models, strict=True):
                os.replace(source, model)
            shutil.rmtree(work)
    return models
