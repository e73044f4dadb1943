"""What every rule file shares: the campaign, its folder, wildcards, cycles.

Parsed in every job of a cluster: only the standard library, yaml and what of mlpwf imports no more.
"""

import functools
import itertools
import json
import os
import sys
from pathlib import Path

from mlpwf.campaign.accounting import book_snakemake
from mlpwf.campaign import paths
from mlpwf.campaign.judgement import GOOD
from mlpwf.campaign.resolve import cycle_section
from mlpwf.campaign.run import only_looks, open_run
from mlpwf.config.label_engines import Capability
from mlpwf.errors import MlpwfError
from mlpwf.campaign.states import simulate_lengths, states
from mlpwf.potentials.base import Ability
from mlpwf.potentials.record import FINAL_RECORD, RECORD, record_path
from mlpwf.potentials.registry import engine

# Rules call mlpwf of the environment this Snakemake runs in, whether it is activated or not.
os.environ["PATH"] = os.pathsep.join(
    [str(Path(sys.executable).parent), os.environ["PATH"]]
)

try:
    RUN = open_run(
        config,
        job=not workflow.is_main_process,
        look=only_looks(sys.argv[1:]),
        files=[str(path) for path in workflow.configfiles],
    )
except MlpwfError as error:
    print(f"mlpwf: {error}", file=sys.stderr)
    raise SystemExit(2)

CAMPAIGN, SITE = RUN.campaign, RUN.site
if SITE.mace_python:  # every job inherits it
    os.environ["MLPWF_MACE_PYTHON"] = os.path.abspath(SITE.mace_python)
C = f"{RUN.results}/{CAMPAIGN.name}"
PATHS = paths.Campaign(Path(C))
CYCLE = PATHS.cycle("{cycle}")  # with wildcards, for outputs
LINE = PATHS.line("{line}").cycle("{cycle}")
SET = PATHS.set("{set}")
LOGS = f"logs/{CAMPAIGN.name}"
PLAN = RUN.plan
BASELINES = CAMPAIGN.select.baseline_lines  # such as arm/random/1
FORCE_FIELD = (
    CAMPAIGN.simulate.force_field
)  # where there is one, nothing is labelled, trained or validated
ENGINE = engine(CAMPAIGN.train.potential)
ORIGINAL, DEPLOYED = (ENGINE.files[role] for role in ("original", "deployed"))
SIMULATE_LENGTHS = simulate_lengths(CAMPAIGN.simulate)

# A campaign begun before labels' errors were measured has no such key, and repeats nothing for them.
LABEL_ERROR = (
    PATHS.label_error
    if not FORCE_FIELD
    and CAMPAIGN.label.can(Capability.LABEL_ERROR)
    and json.loads(Path(PATHS.config("label")).read_text()).get("error_frames")
    else []
)

# A campaign begun before production waited for a verdict has no such key, and goes on as it is.
GATED = "anyway" in json.loads(Path(PATHS.config("simulate")).read_text())

if workflow.remote_exec or workflow.subprocess_exec:  # the Snakemake of a cluster's job
    book_snakemake(C, int(os.environ.get("SLURM_CPUS_ON_NODE", 0)))


wildcard_constraints:
    cycle=r"\d{3}",
    line=r"cycle|arm/[a-z]+/\d+",
    set=r"(cycle|arm/[a-z]+/\d+)/\d{3}|test",
    batch=r"\d{3}",
    index=r"\d+",
    state=r"[A-Za-z0-9.]+(_[A-Za-z0-9.-]+)?",
    segment=r"\d{3}",
    length=r"[0-9.e+-]+",


def memory(stage, megabytes):
    """A resource function: memory that grows with each attempt, up to what a node of the stage has."""

    def most(wildcards, attempt):
        return min(megabytes * attempt, SITE.placed(stage).max_memory_mb or 10**9)

    return most


def minutes(stage, once):
    """A resource function: run time that grows with each attempt, up to what the partition of the stage allows."""

    def most(wildcards, attempt):
        return min(once * attempt, SITE.placed(stage).max_minutes or 10**6)

    return most


def cores(stage, once):
    """A threads function: cores that grow with each attempt, where the site allows more."""

    def most(wildcards, attempt):
        return max(once, min(once * attempt, SITE.placed(stage).max_cores or once))

    return most


def previous(cycle):
    """The number of the cycle before, as a folder name."""
    return f"{int(cycle) - 1:03d}"


def repeated(flag, name):
    """A params function: `flag` before each file of the named input, which may be one, or none."""

    def words(wildcards, input):
        found = input.get(name) or []
        files = [found] if isinstance(found, str) else found
        return [word for path in files for word in (flag, path)]

    return words


@functools.cache
def settings(section, cycle):
    """A section as a cycle goes by it: a cycle that is done keeps the settings it ran with."""
    return cycle_section(PATHS / "config", section, cycle)


def models_of(cycle, file, line="cycle"):
    """The files of a cycle's whole committee; the baselines of `select.baselines` share the first cycle."""
    line = "cycle" if cycle == "000" else line
    return [
        PATHS.line(line).cycle(cycle).train.model(k) / file
        for k in range(settings("train", cycle).models)
    ]


def labels_until(cycle, line="cycle"):
    """Labels of this cycle and all before it; the baselines of `select.baselines` share the first cycle."""
    return [
        PATHS.line(line if c else "cycle").cycle(c).label.labels
        for c in range(int(cycle) + 1)
    ]


def compared_cycles(cycle):
    """The cycles whose models' liquids must agree for the campaign to have converged in this one."""
    wanted = settings("select", cycle).liquid_cycles
    first = int(cycle) - wanted + 1
    return [f"{first + k:03d}" for k in range(wanted)] if first >= 0 else []


def final_cycle(wildcards):
    """The cycle the campaign ends with: found by walking the finished selections."""
    if PLAN:
        return f"{PLAN - 1:03d}"
    for number in itertools.count():
        cycle = f"{number:03d}"
        status = checkpoints.select_frames.get(cycle=cycle).output.status
        if json.loads(Path(status).read_text())["verdict"] != "continue":
            return cycle


def final_model(wildcards):
    """The final model as production runs it.

    A campaign that ended when train/final held one file had it under the name of the original: it keeps that name
    until it ends anew, so that none of its jobs has other inputs than it had.
    """
    folder = PATHS.final
    deployed, earlier, final = (
        folder / name for name in (DEPLOYED, ORIGINAL, FINAL_RECORD)
    )
    if PLAN or deployed.is_file() or not (earlier.is_file() and final.is_file()):
        return str(deployed)
    status = PATHS.cycle(final_cycle(wildcards)).select.status
    kept = isinstance(json.loads(final.read_text())["sha256"], str)
    ended_anew = status.stat().st_mtime > final.stat().st_mtime
    return str(earlier if kept and not ended_anew else deployed)


def verdict_on_potential():
    """What validate found of the final model."""
    return json.loads(Path(PATHS.validate.verdict).read_text())["verdict"]


def said_of_potential():
    """The verdict on the potential, for the last line of the terminal."""
    if FORCE_FIELD or not Path(PATHS.validate.verdict).is_file():
        return ""
    found = verdict_on_potential()
    without = found != GOOD and not CAMPAIGN.simulate.anyway
    remedy = "no production, which `simulate: {anyway: true}` would run; "
    return f"the verdict on its potential is '{found}'; {remedy if without else ''}"


def baseline_errors(wildcards):
    """Errors of every baseline of `select.baselines` in every cycle after the first."""
    cycles = range(1, int(final_cycle(wildcards)) + 1) if BASELINES else []
    return [
        PATHS.line(line).cycle(cycle).train.errors
        for line in BASELINES
        for cycle in cycles
    ]
