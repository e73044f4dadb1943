"""Slurm's limits against what the rules ask for, and the checks of the machine on a node of each kind."""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mlpwf.config import Campaign, Site, read_yaml
from mlpwf.doctor.machine import held_lock
from mlpwf.errors import ConfigError, EngineError
from mlpwf.files import read_json
from mlpwf.findings import Finding, Level, failed, made, ok, warning

PROFILE = Path("slurm")  # where `snakemake --profile slurm` looks first
JOB_MINUTES, JOB_MEMORY_MB = 15, 4000
ANY_CORES = 65536
GRACE_S = 30.0  # a file that a node has written may take so long to be seen here


@dataclass(frozen=True)
class Ask:
    """What jobs of some rules ask Slurm for; `place` are the resources that name partition, account and the like."""

    place: tuple[tuple[str, str], ...]
    threads: int
    memory_mb: int
    minutes: int
    rules: list[str] = field(default_factory=list, compare=False, hash=False)

    @property
    def partition(self) -> str:
        """The partition by name, empty for the cluster's default."""
        return dict(self.place).get("slurm_partition", "")

    @property
    def words(self) -> str:
        """The demand in words."""
        size = f"{self.threads} cores, {self.memory_mb} MB, {self.minutes} min"
        return f"{', '.join(self.rules)}: {size} in {self.partition or 'the default partition'}"


@dataclass(frozen=True)
class Kind:
    """Nodes of one kind in a partition, one of them by name."""

    cores: int
    memory_mb: int
    features: str
    gres: str
    nodes: int
    node: str


def cluster(
    campaign: Campaign, site: Site, system: Path, site_file: Path, results: Path, minutes: float
) -> Iterator[Finding]:
    """All checks of Slurm; those on nodes wait up to `minutes` for their jobs."""
    answered = list(made("Slurm", _version))
    yield from answered
    if answered[-1].level is Level.FAILED:
        return
    asks: list[Ask] = []

    def demands() -> Iterator[Finding]:
        asks.extend(planned(system, site_file, results))
        rules = sum(len(ask.rules) for ask in asks)
        yield ok("dry run", f"snakemake --profile slurm -n: {rules} rules ask for {len(asks)} kinds of job")

    yield from made("dry run", demands)
    profile = _profile()
    fit = True
    for ask in asks:
        for finding in made("Slurm: job", lambda ask=ask: fits(ask, site, profile)):  # type: ignore[misc]
            fit = fit and finding.level is not Level.FAILED
            yield finding
    yield from made("Slurm: account", lambda: accounts(asks, int(profile.get("jobs", 1))))
    if not asks or not fit:
        return
    store = Path(site.label_store)
    with contextlib.ExitStack() as held:
        for folder in {results.resolve(), store.resolve()}:
            held.enter_context(held_lock(folder))
        for place in dict.fromkeys(ask.place for ask in asks):
            yield from made("node", lambda place=place: on_nodes(dict(place), system, site_file, results, minutes))  # type: ignore[misc]


def _version() -> Iterator[Finding]:
    yield ok("Slurm", f"{_ask('sinfo', '--version').strip()}, {_ask('scontrol', 'ping').strip().splitlines()[0]}")


def _ask(*command: str, text: str | None = None) -> str:
    """What a command of Slurm prints; an EngineError with its words where it does not answer, or says no."""
    from snakemake_executor_plugin_mlpwf_slurm import slurm

    try:
        return slurm.ask(command, text)
    except (slurm.SilentError, slurm.RefusedError) as error:
        raise EngineError(f"{command[0]}: {error}") from None


def _profile() -> dict[str, Any]:
    for path in sorted(PROFILE.glob("config*.yaml")):
        values = read_yaml(path)
        return values if isinstance(values, dict) else {}
    return {}


# ---------------------------------------------------------------- what the rules ask for


def planned(system: Path, site: Path, results: Path) -> list[Ask]:
    """What jobs of the campaign ask for, from Snakemake's own dry run of one cycle.

    Raises
    ------
    ConfigError
        If Snakemake cannot plan the campaign.
    """
    config = {"system": str(system), "site": str(site), "results": str(results), "plan": "1"}
    words = [sys.executable, "-m", "snakemake", "--profile", str(PROFILE), "--dry-run", "--nocolor", "--quiet", "host"]
    words += ["--cores", str(ANY_CORES)]  # a dry run without would show one core for every job
    words += ["--config", *(f"{name}={value}" for name, value in config.items())]
    done = subprocess.run(words, capture_output=True, text=True)
    said = done.stdout + done.stderr
    if done.returncode != 0:
        last = next((line for line in reversed(said.splitlines()) if line.strip()), "nothing")
        told = next((line.removeprefix("mlpwf: ") for line in said.splitlines() if line.startswith("mlpwf: ")), last)
        raise ConfigError(
            f"snakemake --profile slurm -n fails: {told}; run it by hand from the folder of the Snakefile"
        )
    return read_plan(said)


def read_plan(text: str) -> list[Ask]:
    """Demands in the words of a dry run, each with the rules that make it; the target itself is none."""
    found: dict[Ask, set[str]] = {}
    for block in re.split(r"^(?=(?:rule|checkpoint) \w+:$)", text, flags=re.M)[1:]:
        rule = block.split(":", 1)[0].split()[1]
        if rule == "all":
            continue
        block = re.split(r"^\S", block.split("\n", 1)[1], maxsplit=1, flags=re.M)[0]
        resources = dict(re.findall(r"(\w+)=([^,\n]*)", _after("resources", block)))
        ask = Ask(
            place=tuple(sorted((name, value) for name, value in resources.items() if name.startswith("slurm_"))),
            threads=int(_after("threads", block) or 1),
            memory_mb=int(resources.get("mem_mb", 0)),
            minutes=int(resources.get("runtime", 60)),
        )
        found.setdefault(ask, set()).add(rule)
    for ask, rules in found.items():
        ask.rules.extend(sorted(rules))
    return list(found)


def _after(key: str, block: str) -> str:
    match = re.search(rf"^ +{key}: (.*)$", block, re.M)
    return match[1] if match else ""


# ---------------------------------------------------------------- what Slurm allows


def _partition(name: str) -> Mapping[str, str]:
    """Facts of a partition, of the default one for an empty name."""
    lines = _ask("scontrol", "-o", "show", "partition", *([name] if name else [])).splitlines()
    every = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in lines]
    chosen = [facts for facts in every if name or facts.get("Default") == "YES"]
    if not chosen:
        raise ConfigError("Slurm has no default partition; name one in the site file: slurm.partition")
    return chosen[0]


def kinds_of(partition: str) -> list[Kind]:
    """Kinds of the nodes of a partition that answer."""
    lines = _ask("sinfo", "-h", "-p", partition, "-t", "idle,mix,alloc", "-N", "-o", "%c|%m|%f|%G|%N").splitlines()
    kinds: dict[tuple[str, ...], list[str]] = {}
    for line in dict.fromkeys(lines):
        *facts, node = line.split("|")
        kinds.setdefault(tuple(facts), []).append(node)
    return [
        Kind(int(cores), int(memory), features, gres, len(nodes), nodes[0])
        for (cores, memory, features, gres), nodes in kinds.items()
    ]


def fits(ask: Ask, site: Site, profile: Mapping[str, Any]) -> Iterator[Finding]:
    """One demand against its partition, and against Slurm's own judgement of such a job."""
    from snakemake_executor_plugin_mlpwf_slurm.slurm import minutes_of

    name = "Slurm: job"
    facts = _partition(ask.partition)
    partition, longest = facts["PartitionName"], minutes_of(facts["MaxTime"])
    ask = replace(ask, minutes=int(min(ask.minutes, longest)))
    kinds = kinds_of(partition)
    if facts.get("State", "UP") != "UP" or not kinds:
        found = f"partition {partition} is {facts.get('State', 'UP')}, {sum(kind.nodes for kind in kinds)} nodes answer"
        yield failed(name, found, "a partition that is up", "name another in the site file: slurm.partition")
        return
    cores, memory = max(kind.cores for kind in kinds), max(kind.memory_mb for kind in kinds)
    if ask.memory_mb > memory:
        remedy = f"set slurm.max_memory_mb: {memory} in the site file, or name a partition of larger nodes"
        yield failed(name, ask.words, f"at most {memory} MB a node of {partition}", remedy)
    elif ask.threads > cores:
        remedy = "set label_threads, train_threads and md_threads in the site file"
        yield failed(name, ask.words, f"at most {cores} cores a node of {partition}", remedy)
    elif refusal := refused(ask):
        remedy = "mend partition, account, qos or constraint below `slurm` in the site file"
        yield failed(name, f"{ask.words}: {refusal}", "a job that Slurm takes", remedy)
    else:
        yield from _grown(ask, site, partition, memory, longest, 1 + int(profile.get("retries", 0)))


def _grown(ask: Ask, site: Site, partition: str, memory: int, longest: float, attempts: int) -> Iterator[Finding]:
    """What repeated jobs grow to; their time ends at the partition's limit by itself."""
    if ask.memory_mb * attempts > memory and site.slurm.max_memory_mb is None:
        found = f"{ask.words}, repeated up to {ask.memory_mb * attempts} MB"
        expected = f"at most {memory} MB in {partition}"
        yield warning("Slurm: job", found, expected, f"set slurm.max_memory_mb: {memory} in the site file")
    else:
        yield ok("Slurm: job", f"{ask.words}; the partition allows {memory} MB and {longest:.0f} min")


def options(ask: Ask, log: Path) -> list[str]:
    """Options of sbatch for a demand, as the executor writes them."""
    from snakemake_executor_plugin_mlpwf_slurm.placement import options_of

    resources = {**dict(ask.place), "mem_mb": ask.memory_mb, "runtime": ask.minutes}
    job = SimpleNamespace(threads=ask.threads, resources=resources)
    return options_of(job, ask.minutes, "mlpwf-doctor", "mlpwf-doctor", log)


def refused(ask: Ask, node: str = "") -> str:
    """Why Slurm would not take such a job, or not on this node, in its own words; empty where it would."""
    chosen = [f"--nodelist={node}"] if node else []
    try:
        _ask("sbatch", "--test-only", *options(ask, Path("/dev/null")), *chosen, text="#!/bin/sh\n")
    except EngineError as error:
        return str(error)
    return ""


def accounts(asks: Sequence[Ask], jobs: int) -> Iterator[Finding]:
    """The accounts named, and the limits on the number of jobs, where Slurm keeps accounts."""
    name, user = "Slurm: account", getpass.getuser()
    if "accounting_storage/none" in _ask("scontrol", "show", "config"):
        yield ok(name, "this Slurm keeps no accounts, and none are needed")
        return
    form = "account,maxsubmit,grpsubmit"
    lines = _ask("sacctmgr", "-n", "-P", "show", "assoc", f"user={user}", f"format={form}").splitlines()
    rows = [line.split("|") for line in lines if line.count("|") == 2]
    known = {row[0] for row in rows}
    for account in {dict(ask.place).get("slurm_account", "") for ask in asks}:
        if account and account not in known:
            had = f"one of {', '.join(sorted(known))}" if known else "an account; you have none, ask your site"
            yield failed(name, f"account {account} is not yours", had, "mend slurm.account in the site file")
            continue
        of_it = [row for row in rows if not account or row[0] == account]
        limits = [int(value) for row in of_it for value in row[1:] if value.isdigit()]
        if limits and min(limits) < jobs:
            remedy = f"--jobs {min(limits)}, or `jobs` in {PROFILE}: until jobs end, more are refused and sent again"
            yield warning(name, f"at most {min(limits)} jobs of yours at once", f"{jobs}, as the profile says", remedy)
        else:
            yield ok(
                name,
                f"{account or 'your default account'}; {f'at most {min(limits)}' if limits else 'any number of'} jobs",
            )


# ---------------------------------------------------------------- on nodes


def on_nodes(place: Mapping[str, str], system: Path, site: Path, results: Path, minutes: float) -> Iterator[Finding]:
    """The checks of the machine, by a job on a node of each kind that such jobs may go to."""
    kinds = kinds_of(_partition(place.get("slurm_partition", ""))["PartitionName"])
    memory = min(JOB_MEMORY_MB, *(kind.memory_mb for kind in kinds))
    ask = Ask(tuple(place.items()), int(place.get("slurm_tasks", 1)), memory, JOB_MINUTES)
    kinds = [kind for kind in kinds if not refused(ask, kind.node)] or kinds[:1]
    numbers: dict[str, Path] = {}
    for k, kind in enumerate(kinds):
        answer = results.resolve() / f".mlpwf-doctor-{os.getpid()}-{len(place)}-{k}.json"
        words = [sys.executable, "-m", "mlpwf", "doctor", str(system.resolve()), "--site", str(site.resolve())]
        words += ["--results", str(results.resolve()), "--job", str(answer), "--gpus", place.get("slurm_gpus", "0")]
        chosen = [f"--nodelist={kind.node}"] if len(kinds) > 1 else []
        script = f"#!/bin/sh\nexec {shlex.join(words)}\n"
        number = _ask("sbatch", "--parsable", *options(ask, answer.with_suffix(".log")), *chosen, text=script)
        numbers[number.strip().split(";")[0]] = answer
    end = time.monotonic() + 60 * minutes
    try:
        for number in list(numbers):
            yield from _answer(number, numbers[number], end)
            numbers.pop(number)
    finally:
        for number, answer in numbers.items():
            with contextlib.suppress(EngineError):
                _ask("scancel", number)
            _tidy(answer)


def _answer(number: str, answer: Path, end: float) -> Iterator[Finding]:
    """What the job of one node has found, when it has."""
    gone_since, state = None, "PENDING||"
    while not answer.is_file():
        if time.monotonic() > end:
            words = " ".join(part for part in state.split("|") if part)
            yield failed(
                f"job {number}",
                f"is still {words}",
                "a small job that ends in time",
                "ask your site, or wait longer: --minutes",
            )
            with contextlib.suppress(EngineError):
                _ask("scancel", number)
            _tidy(answer)
            return
        with contextlib.suppress(EngineError):
            listed = _ask("squeue", "-h", "-t", "all", "-j", number, "-o", "%T|%r|%N").strip()
            state = listed or "gone||"
        active = state.split("|")[0] in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED")
        gone_since = None if active else gone_since or time.monotonic()
        if gone_since is not None and time.monotonic() > gone_since + GRACE_S:
            log = answer.with_suffix(".log")
            last = [
                line for line in (log.read_text(errors="replace") if log.is_file() else "").splitlines() if line.strip()
            ]
            said = last[-1] if last else f"no word in {log}: is this folder there on the node?"
            remedy = (
                "run the job's command on that node by hand: the project, its environment and results must be there"
            )
            yield failed(
                f"job {number}",
                f"{' '.join(state.replace('|', ' ').split())}: {said[:300]}",
                "the checks' findings",
                remedy,
            )
            _tidy(answer)
            return
        time.sleep(1.0)
    for document in read_json(answer):
        yield Finding(**{**document, "level": Level(document["level"])})
    _tidy(answer)


def _tidy(answer: Path) -> None:
    for path in (answer, answer.with_suffix(".log")):
        path.unlink(missing_ok=True)
