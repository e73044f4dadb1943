"""The cluster the other tests run on: jobs run on its nodes, daemons come back, and nothing is left of it."""

from __future__ import annotations

import signal
from pathlib import Path

from slurm.cluster import Cluster, missing, wait_until


def processes_of(mark: str) -> list[str]:
    """Processes with a text in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text())
        except OSError:
            continue
    return found


def test_a_job_runs_on_each_node(cluster: Cluster, tmp_path: Path) -> None:
    for node in cluster.nodes:
        script = f"echo $SLURMD_NODENAME > {tmp_path}/{node}"
        cluster.slurm("sbatch", "--wait", "-w", node, "-o", "/dev/null", "--wrap", script)
    assert [(tmp_path / node).read_text().strip() for node in cluster.nodes] == cluster.nodes


def test_a_cluster_is_put_right_again_and_leaves_nothing_behind() -> None:
    assert not missing(("faketime",))
    with Cluster(nodes=2, cpus=1) as cluster:
        folder = cluster.folder
        for _ in range(3):
            cluster.slurm("sbatch", "-o", "/dev/null", "--wrap", "sleep 1000")
        wait_until(lambda: list(cluster.jobs().values()).count("RUNNING") == 2, "two of the jobs to run")
        cluster.end("slurmctld", signal.SIGTERM)
        cluster.restart("n1", clock_offset=-30)
        cluster.restore()
        assert not cluster.jobs()
        job = cluster.slurm("sbatch", "--parsable", "-o", "/dev/null", "--wrap", "sleep 1000").strip()
        wait_until(lambda: cluster.jobs() == {job: "RUNNING"}, "the job to run")
    assert not folder.exists()
    assert not processes_of(str(folder))
