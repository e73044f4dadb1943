"""A Slurm cluster for each process that runs these tests, put right again after each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from slurm.cluster import ACCOUNTING_PROGRAMS, PROGRAMS, Cluster, missing


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


@pytest.fixture(scope="module")
def accounted_cluster() -> Iterator[Cluster]:
    """A cluster with slurmdbd and MariaDB: account proj, limits enforced. It takes seconds to start."""
    _require(PROGRAMS + ACCOUNTING_PROGRAMS)
    with Cluster(accounting=True) as cluster:
        yield cluster
