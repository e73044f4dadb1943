"""A Slurm cluster for each process that runs these tests, put right again after each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm.cluster import ACCOUNTING_PROGRAMS, PROGRAMS, Cluster, missing
from slurm.workflow import UNTIL_TOLD, Make, Small


def _require(programs: tuple[str, ...]) -> None:
    if absent := missing(programs):
        pytest.skip(
            f"no {', '.join(absent)} here; root can install Debian's slurm-wlm munge slurmdbd mariadb-server faketime"
        )


@pytest.fixture(scope="session")
def _cluster() -> Iterator[Cluster]:
    _require(PROGRAMS)
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def cluster(_cluster: Cluster) -> Iterator[Cluster]:
    """Three nodes n1, n2, n3 of four CPUs each, partitions cpu and urgent (which preempts), no accounting."""
    yield _cluster
    _cluster.restore()


@pytest.fixture
def make(cluster: Cluster, tmp_path: Path) -> Iterator[Make]:
    """Make a small workflow on the cluster, of jobs that do the given work."""
    made: list[Small] = []

    def one(work: str = UNTIL_TOLD, name: str = "work $(touch pwned)") -> Small:
        made.append(Small(tmp_path / name, cluster, work))
        return made[-1]

    yield one
    for small in made:
        small.close()


@pytest.fixture(scope="module")
def accounted_cluster() -> Iterator[Cluster]:
    """A cluster with slurmdbd and MariaDB: account proj, limits enforced. It takes seconds to start."""
    _require(PROGRAMS + ACCOUNTING_PROGRAMS)
    with Cluster(accounting=True) as cluster:
        yield cluster
