"""`mlpwf doctor --slurm` on a real Slurm: its limits, and the checks on a node."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlpwf.config import Site
from mlpwf.doctor import cluster as doctor
from mlpwf.doctor.cluster import Ask
from mlpwf.findings import Finding, Level, made
from slurm.cluster import Cluster
from snakemake_executor_plugin_mlpwf_slurm import slurm

PROJECT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@pytest.fixture
def here(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """The cluster, asked from a copy of the project."""
    point_at(cluster, tmp_path, monkeypatch)
    yield cluster
    cluster.slurm("scontrol", "update", "PartitionName=cpu", "State=UP")


def point_at(cluster: Cluster, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("Snakefile", "workflow", "config", "profiles"):
        source = PROJECT / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, folder / name)
    (folder / "slurm").symlink_to("profiles/slurm")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
    monkeypatch.setenv("PATH", f"{BIN}:{cluster.environment['PATH']}")


def ask(threads: int = 1, memory_mb: int = 100, minutes: int = 5, **place: str) -> Ask:
    return Ask(tuple((f"slurm_{name}", value) for name, value in place.items()), threads, memory_mb, minutes, ["work"])


def one(demand: Ask, site: Site | None = None, retries: int = 0) -> Finding:
    (finding,) = made("Slurm: job", lambda: doctor.fits(demand, site or Site(), {"retries": retries}))
    return finding


def test_a_job_that_fits(here: Cluster) -> None:
    for demand in (ask(), ask(partition="urgent"), ask(threads=4, memory_mb=32000, minutes=120), ask(gpus="1")):
        assert one(demand).level is Level.OK, one(demand).line
    longer = one(ask(minutes=121), retries=3)
    assert longer.level is Level.OK, longer.line
    assert "120 min" in longer.line
    assert "121" not in longer.line


@pytest.mark.parametrize(
    ("demand", "words"),
    [
        (ask(memory_mb=32001), "slurm.max_memory_mb: 32000"),
        (ask(threads=5), "at most 4 cores"),
        (ask(partition="nowhere"), "nowhere"),
        (ask(constraint="skylake"), "a job that Slurm takes"),
        (ask(gpus="2"), "a job that Slurm takes"),
        (ask(reservation="none-such"), "a job that Slurm takes"),
    ],
)
def test_a_job_that_does_not(here: Cluster, demand: Ask, words: str) -> None:
    finding = one(demand)
    assert finding.level is Level.FAILED, finding.line
    assert words in finding.line


def test_a_job_that_outgrows_its_partition(here: Cluster) -> None:
    finding = one(ask(memory_mb=10000), retries=3)
    assert finding.level is Level.WARNING
    assert "slurm.max_memory_mb: 32000" in finding.line
    capped = Site.model_validate({"slurm": {"max_memory_mb": 32000}})
    assert one(ask(memory_mb=10000), capped, retries=3).level is Level.OK


def test_a_partition_that_is_down(here: Cluster) -> None:
    here.slurm("scontrol", "update", "PartitionName=cpu", "State=DOWN")
    finding = one(ask())
    assert finding.level is Level.FAILED
    assert "partition cpu is DOWN" in finding.line


def test_a_slurm_that_does_not_answer(here: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "no.conf"))
    monkeypatch.setattr(slurm, "PATIENCE_SECONDS", 2.0)
    findings = list(doctor.cluster(None, Site(), Path("c"), Path("s"), tmp_path, 1.0))  # type: ignore[arg-type]
    assert [finding.level for finding in findings] == [Level.FAILED]


def test_what_the_rules_ask_for_is_snakemakes_own_word(here: Cluster, tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(
        "slurm: {partition: cpu, max_minutes: 100}\ntrain_threads: 3\n"
        "slurm_stages: {train: {partition: urgent, gpus: 1}}\n"
    )
    asks = doctor.planned(Path("config/systems/tiny_water.yaml"), Path("site.yaml"), Path("results"))
    by_rule = {rule: demand for demand in asks for rule in demand.rules}
    assert "all" not in by_rule
    assert {"build_frames", "label_batch", "train_model", "simulate_segment", "report_page"} <= set(by_rule)
    assert by_rule["train_model"].threads == 3
    assert dict(by_rule["train_model"].place) == {"slurm_partition": "urgent", "slurm_gpus": "1"}
    assert dict(by_rule["label_batch"].place) == {"slurm_partition": "cpu"}
    assert by_rule["label_batch"].minutes == 100
    assert by_rule["label_batch"].memory_mb > 0


def test_the_checks_come_back_from_a_node(here: Cluster, tmp_path: Path) -> None:
    """The whole command, with programs that fail at once: what it finds on the node jobs may go to, and here."""
    here.features("n2", "a100")
    Path("site.yaml").write_text(
        "slurm: {partition: cpu, max_minutes: 100, constraint: a100}\n"
        "pw: ['false']\ndp: ['false']\npseudopotential_folder: .\n"
    )
    command = [str(BIN / "mlpwf"), "doctor", "config/systems/tiny_water.yaml", "--site", "site.yaml", "--slurm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode == 2, done.stdout + done.stderr
    lines = [line.split(None, 2) for line in done.stdout.splitlines()]
    own = {(level, check) for level, check, *_ in lines if level == "failed"}
    assert {("failed", "dp"), ("failed", "potential")} == own
    there = [line for line in done.stdout.splitlines() if " n2: " in line]
    assert " n1: " not in done.stdout
    assert any(line.startswith("ok       results: locks") and "another machine" in line for line in there)
    assert any(line.startswith("failed   dp") for line in there)
    assert not list(Path("results").glob(".mlpwf*"))


def test_a_node_job_that_never_starts(here: Cluster) -> None:
    place = {"slurm_partition": "cpu", "slurm_options": "--hold"}
    Path("results").mkdir()
    work = doctor.on_nodes(place, Path("config/systems/tiny_water.yaml"), Path("s"), Path("results"), 0.1)
    (finding,) = list(work)
    assert finding.level is Level.FAILED
    assert "is still PENDING JobHeldUser" in finding.line
    assert not here.jobs()


def test_a_node_job_that_cannot_do_its_work(here: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "GRACE_S", 1.0)
    Path("results").mkdir()
    work = doctor.on_nodes({}, Path("config/systems/tiny_water.yaml"), Path("no-site.yaml"), Path("results"), 10)
    (finding,) = list(work)
    assert finding.level is Level.FAILED
    assert "no-site.yaml: no such file" in finding.line


def test_accounts_and_their_limits(accounted_cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import getpass

    point_at(accounted_cluster, tmp_path, monkeypatch)
    (finding,) = doctor.accounts([ask(account="proj")], 200)
    assert finding.level is Level.OK, finding.line
    (finding,) = doctor.accounts([ask(account="theirs")], 200)
    assert finding.level is Level.FAILED
    assert "one of proj" in finding.line
    assert one(ask(account="theirs")).level is Level.FAILED
    limit = ["sacctmgr", "-i", "modify", "user", getpass.getuser(), "set"]
    accounted_cluster.slurm(*limit, "MaxSubmitJobs=7")
    (finding,) = doctor.accounts([ask(account="proj")], 200)
    assert finding.level is Level.WARNING
    assert "--jobs 7" in finding.line
    accounted_cluster.slurm(*limit, "MaxSubmitJobs=-1")
