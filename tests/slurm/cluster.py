"""A real Slurm on one machine: munged, slurmctld and a slurmd a node, on loopback, without systemd or cgroups.

Everything lives in one folder and answers on ports of its own, so that several clusters stand side by side. The
daemons are children of this process, end with it, and can be taken away one by one.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

PROGRAMS = ("munged", "munge", "slurmctld", "slurmd", "sbatch", "setpriv")
ACCOUNTING_PROGRAMS = ("slurmdbd", "mariadbd", "mariadb-install-db")
SYSTEM_PATH = os.pathsep.join((os.environ["PATH"], "/usr/local/sbin", "/usr/sbin", "/sbin"))
PATIENCE = 300.0  # seconds within which a daemon must answer, on a busy machine

SLURM_CONF = """\
ClusterName=tiny
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
MinJobAge={keep_seconds}
KillWait=3
OverTimeLimit=0
InactiveLimit=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
DefMemPerCPU=500
GresTypes=gpu
{accounting}
{nodes}
PartitionName=cpu Nodes=ALL Default=YES MaxTime=120 DefaultTime=5 State=UP PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=120 DefaultTime=5 State=UP PriorityTier=10
{extra}
"""
NODE = (
    "NodeName={name} Gres=gpu:1 NodeHostname={host} NodeAddr=127.0.0.1 Port={port}"
    " CPUs={cpus} Boards=1 SocketsPerBoard=1 CoresPerSocket={cpus} ThreadsPerCore=1 RealMemory=32000 State=UNKNOWN"
)
ACCOUNTING = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={dbd_port}
AccountingStoragePass={folder}/munge.socket
AccountingStorageEnforce=associations,limits,qos
AccountingStoreFlags=job_comment"""
SLURMDBD_CONF = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={dbd_port}
SlurmUser={user}
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={sql_port}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
"""
SQL = """\
CREATE USER IF NOT EXISTS slurm@127.0.0.1 IDENTIFIED BY 'slurm';
CREATE USER IF NOT EXISTS slurm@localhost IDENTIFIED BY 'slurm';
CREATE DATABASE IF NOT EXISTS slurm_acct_db;
GRANT ALL ON slurm_acct_db.* TO slurm@127.0.0.1;
GRANT ALL ON slurm_acct_db.* TO slurm@localhost;
"""


def missing(programs: Sequence[str]) -> list[str]:
    """The programs that are not installed."""
    return [program for program in programs if shutil.which(program, path=SYSTEM_PATH) is None]


def wait_until(condition: Callable[[], object], what: str, seconds: float = PATIENCE, step: float = 0.1) -> None:
    """Ask until the condition holds; a TimeoutError that says what was waited for."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}")
        time.sleep(step)


def free_ports() -> Iterator[int]:
    """Ports nobody listens on, below those the kernel gives to clients."""
    start = 20000 + (os.getpid() * 37) % 8000
    for port in range(start, 32000):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        yield port


class Cluster:
    """A Slurm cluster with nodes n1, n2, …; a context that takes everything down at its end.

    Parameters
    ----------
    nodes, cpus
        Number of nodes, and of the CPUs each says it has.
    accounting
        Run slurmdbd with MariaDB too: account ``proj``, limits enforced.
    keep_seconds
        How long slurmctld remembers a job that ended.
    extra
        More lines for slurm.conf.
    """

    def __init__(
        self, nodes: int = 3, cpus: int = 4, accounting: bool = False, keep_seconds: int = 300, extra: str = ""
    ) -> None:
        self.nodes = [f"n{number}" for number in range(1, nodes + 1)]
        self.cpus = cpus
        self.accounting = accounting
        self.keep_seconds = keep_seconds
        self.extra = extra
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        self.wrong_clocks: set[str] = set()
        self.folder = Path()
        self.environment: dict[str, str] = {}

    def __enter__(self) -> Cluster:
        for attempt in range(3):  # a port may be taken between its choice and its use
            try:
                self._begin()
            except (TimeoutError, RuntimeError):
                self.stop()
                if attempt == 2:
                    raise
            except BaseException:
                self.stop()
                raise
            else:
                return self
        raise AssertionError

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        self.folder.chmod(0o755)
        self.environment = dict(
            {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH"))},
            SLURM_CONF=str(self.folder / "slurm.conf"),
            PATH=SYSTEM_PATH,
        )
        self._configure()
        self.start("munged")
        if self.accounting:
            self._start_database()
            self.start("slurmdbd")
            self._wait_for("sacctmgr", "-n", "list", "cluster")
            self.slurm("sacctmgr", "-i", "add", "cluster", "tiny")
            self.slurm("sacctmgr", "-i", "add", "account", "proj", "Description=proj", "Organization=proj")
            self.slurm("sacctmgr", "-i", "add", "user", getpass.getuser(), "Account=proj")
        self.start("slurmctld")
        for node in self.nodes:
            self.start(node)
        self.wait_for_nodes(*self.nodes)

    def _configure(self) -> None:
        ports = free_ports()
        host = socket.gethostname().split(".")[0]
        words = {"folder": self.folder, "host": host, "user": getpass.getuser(), "ctld_port": next(ports)}
        nodes = [NODE.format(name=node, host=host, port=next(ports), cpus=self.cpus) for node in self.nodes]
        accounting = "AccountingStorageType=accounting_storage/none"
        if self.accounting:
            self.sql_port = next(ports)
            words |= {"dbd_port": next(ports), "sql_port": self.sql_port}
            accounting = ACCOUNTING.format(**words)
            dbd = self.folder / "slurmdbd.conf"
            dbd.write_text(SLURMDBD_CONF.format(**words))
            dbd.chmod(0o600)
        (self.folder / "slurm.conf").write_text(
            SLURM_CONF.format(
                **words,
                accounting=accounting,
                nodes="\n".join(nodes),
                keep_seconds=self.keep_seconds,
                extra=self.extra,
            )
        )
        (self.folder / "gres.conf").write_text(
            f"NodeName={','.join(self.nodes)} Name=gpu Count=1 File=/dev/null\n"  # what a GPU looks like to Slurm
        )
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)

    def start(self, name: str, clock_offset: float = 0.0) -> None:
        """Start munged, slurmctld, slurmdbd or the slurmd of a node, whose clock may be wrong by seconds."""
        if name == "munged":
            self._start_munged()
            return
        command = [name, "-D"] if name.startswith("slurm") else ["slurmd", "-D", "-N", name]
        self.wrong_clocks.discard(name)
        if clock_offset:
            command = ["faketime", "-f", f"{clock_offset:+g}s", *command]
            self.wrong_clocks.add(name)
        self._spawn(name, command)

    def restart(self, name: str, clock_offset: float = 0.0) -> None:
        """End a daemon, if it is there, and start it again."""
        if name in self.daemons:
            self.end(name)
        self.start(name, clock_offset)

    def _start_munged(self) -> None:
        at = self.folder
        files = [f"--{what}-file={at}/munge.{what}" for what in ("key", "pid", "log", "seed")]
        self._spawn("munged", ["munged", "--foreground", "--force", f"--socket={at}/munge.socket", *files])
        self._wait_for("munge", "-n", f"--socket={at}/munge.socket")

    def _start_database(self) -> None:
        at = self.folder
        data = at / "sql"
        install = ["mariadb-install-db", "--no-defaults", f"--user={getpass.getuser()}", f"--datadir={data}"]
        self.slurm(*install, "--auth-root-authentication-method=normal", "--skip-test-db")
        self._spawn(
            "mariadbd",
            [
                "mariadbd",
                "--no-defaults",
                f"--user={getpass.getuser()}",
                f"--datadir={data}",
                f"--socket={at}/sql.socket",
            ]
            + [f"--pid-file={at}/mariadb.pid", "--bind-address=127.0.0.1", f"--port={self.sql_port}"]
            + ["--innodb-buffer-pool-size=64M", "--innodb-lock-wait-timeout=900", "--performance-schema=OFF"],
        )
        client = ["mariadb", "--no-defaults", "-uroot", f"--socket={at}/sql.socket"]
        self._wait_for(*client, "-e", "SELECT 1")
        self.slurm(*client, "-e", SQL)

    def _spawn(self, name: str, command: Sequence[str]) -> None:
        assert name not in self.daemons, f"{name} is already running"
        with (self.folder / f"{name}.out").open("ab") as sink:
            self.daemons[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                env=self.environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _wait_for(self, *command: str) -> None:
        def answers() -> bool:
            self._check_alive()
            return subprocess.run(command, env=self.environment, capture_output=True).returncode == 0

        wait_until(answers, f"an answer to {' '.join(command)}; the logs are in {self.folder}")

    def _check_alive(self) -> None:
        for name, daemon in self.daemons.items():
            if daemon.poll() is not None:
                words = (self.folder / f"{name}.out").read_text()[-2000:]
                raise RuntimeError(f"{name} ended with {daemon.returncode}: {words}")

    def wait_for_nodes(self, *nodes: str) -> None:
        """Wait until the nodes can take jobs."""

        def ready() -> bool:
            self._check_alive()
            command = ["sinfo", "-h", "-N", "-p", "cpu", "-t", "idle,mix,alloc", "-o", "%N %T"]
            answer = subprocess.run(command, env=self.environment, capture_output=True, text=True)
            lines = answer.stdout.splitlines()
            up = {line.split()[0] for line in lines if not line.endswith("*")}  # * says: does not answer
            return answer.returncode == 0 and up >= set(nodes)

        wait_until(ready, f"the nodes {' '.join(nodes)}; the logs are in {self.folder}")

    def end(self, name: str, how: signal.Signals = signal.SIGKILL) -> None:
        """End one daemon: slurmctld, slurmdbd, munged, mariadbd, or a node's slurmd."""
        daemon = self.daemons.pop(name)
        if daemon.poll() is None:
            os.killpg(daemon.pid, how)  # faketime runs its program as a child
        try:
            daemon.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(daemon.pid, signal.SIGKILL)
            daemon.wait()

    def slurm(self, *command: str) -> str:
        """What a command of Slurm prints; an error with its words where it fails."""
        answer = subprocess.run(command, env=self.environment, capture_output=True, text=True, cwd=self.folder)
        if answer.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} ended with {answer.returncode}: {answer.stderr}{answer.stdout}")
        return answer.stdout

    def jobs(self, *states: str) -> dict[str, str]:
        """Jobs that are queued or running (or in the given states): number to state."""
        chosen = ["-t", ",".join(states)] if states else []
        lines = self.slurm("squeue", "-h", "-o", "%A %T", *chosen).splitlines()
        return dict(line.split() for line in lines)

    def features(self, node: str, *names: str) -> None:
        """Say what a node has, as `--constraint` asks for it."""
        words = ",".join(names)
        self.slurm("scontrol", "update", f"NodeName={node}", f"AvailableFeatures={words}", f"ActiveFeatures={words}")

    def cancel_all(self) -> None:
        """Cancel every job, and wait until none is left on a node."""
        self.slurm("scancel", "-u", getpass.getuser())
        wait_until(lambda: not self.jobs(), "the cancelled jobs to end")

    def restore(self) -> None:
        """Put the cluster back as it began: every daemon there and on time, every node up and plain, no job."""
        for name in ("munged", "slurmctld", *self.nodes):
            if name not in self.daemons or name in self.wrong_clocks:
                self.restart(name)
        self._wait_for("scontrol", "ping")
        for node in self.nodes:
            self.features(node)
            if self.slurm("sinfo", "-h", "-n", node, "-p", "cpu", "-o", "%t").strip().startswith(("down", "drain")):
                self.slurm("scontrol", "update", f"NodeName={node}", "State=RESUME")
        self.cancel_all()
        self.wait_for_nodes(*self.nodes)

    def stop(self) -> None:
        """End every job and daemon of this cluster, and remove its folder."""
        for name in list(self.daemons):
            self.end(name)
        # twice: what is forked while one look is taken may escape it
        wait_until(lambda: self._none_left() and self._none_left(), f"the processes of {self.folder} to end")
        if self.folder != Path():
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = Path()

    def _none_left(self) -> bool:
        """End what the nodes left behind: job steps and their children carry the cluster's slurm.conf."""
        if self.folder == Path():
            return True
        mark = f"SLURM_CONF={self.folder / 'slurm.conf'}".encode()
        left = 0
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (process / "environ").read_bytes().split(b"\0") and process.name != str(os.getpid()):
                    os.kill(int(process.name), signal.SIGKILL)
                    left += 1
            except (OSError, ValueError):
                continue
        return left == 0
