"""Every command on a page exists with its options; those that take seconds are run."""

import os
import re
import shutil
import subprocess
import sys

import pytest
import typer
from snakemake.cli import get_argument_parser

import toy_trajectory
from doc_pages import PAGES, PROJECT, blocks, commands, spans
from mlpwf import cli

RUN = ("config", "plan", "status", "analyse")  # verbs of mlpwf that are run; so is `snakemake -n`
COMMANDS = [(path.name, words) for path in PAGES for words in commands(path)]
IDS = [f"{page}: {' '.join(words)}" for page, words in COMMANDS]
INLINE = sorted({span for path in PAGES for span in spans(path) if re.match(r"mlpwf [a-z]|mlpwf --", span)})
OTHERS = {"cd", "source", "git", "pip", "uv", "mkdir"}


@pytest.fixture(scope="module")
def program():
    """The command `mlpwf` with all its verbs."""
    cli._register()
    return typer.main.get_command(cli.app)


def parse(command, name, words, parent=None):
    """Parse words down to the last command; what is unknown or missing raises."""
    context = command.make_context(name, list(words), parent=parent)
    if hasattr(command, "commands"):
        verb, below, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        parse(below, verb, rest, context)


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=IDS)
def test_a_command_in_a_block_is_understood(program, page, words):
    name, *rest = words
    if name == "mlpwf":
        parse(program, name, rest)
    elif name == "snakemake":
        _, unknown = get_argument_parser().parse_known_args(rest)
        assert not unknown, f"{page}: snakemake has no {unknown}"
    elif name in ("python", "python3"):
        assert rest[0] == "-m" or (PROJECT / rest[0]).is_file(), f"{page}: {rest[0]} is missing"
    else:
        assert name in OTHERS or (PROJECT / name).is_file(), f"{page}: {name} is missing"


@pytest.mark.parametrize("span", INLINE)
def test_a_command_in_the_text_has_these_options(program, span):
    command, options = program, {option for parameter in program.params for option in parameter.opts}
    for word in span.split()[1:]:
        if word in getattr(command, "commands", {}):
            command = command.commands[word]
            options |= {option for parameter in command.params for option in parameter.opts} | {"--help"}
        elif word.startswith("--"):
            assert word.split("=")[0] in options, f"{span}: no option {word}"
        elif hasattr(command, "commands"):
            assert not word.islower(), f"{span}: no command {word}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder as a user has it: the project's workflow and config, the README's system, and trajectories."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("workflow", "Snakefile", "profiles", "slurm"):
        os.symlink(PROJECT / name, folder / name)
    shutil.copytree(PROJECT / "config", folder / "config")
    readme, page = PROJECT / "README.md", PROJECT / "docs" / "analyse.md"
    ethanol = next(block for block in blocks(readme, "yaml") if "ethanol" in block)
    (folder / "config" / "systems" / "ethanol.yaml").write_text(ethanol)
    states = next(block for block in blocks(page, "yaml") if "states:" in block)
    (folder / "states.yaml").write_text(states.replace("  - ...\n", ""))
    toy_trajectory.write_topology(folder / "box.data")
    for seed, name in enumerate(("run", "a", "b")):
        toy_trajectory.write_run(folder / f"{name}.xtc", folder / "box.data", seed=seed)
    return folder


def is_run(words):
    """Whether a command is run here."""
    return (words[0] == "mlpwf" and words[1] in RUN) or (words[0] == "snakemake" and "-n" in words)


RUNNABLE = list(dict.fromkeys(tuple(words) for _, words in COMMANDS if is_run(words)))


@pytest.mark.parametrize("words", RUNNABLE, ids=" ".join)
def test_a_quick_command_runs_as_it_is_written(folder, words):
    words = [word.replace("NAME", "tiny_water") for word in words]
    programs = os.path.dirname(sys.executable)
    run = subprocess.run(
        words, cwd=folder, capture_output=True, text=True, check=False,
        env=os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert run.returncode == 0, f"{run.stdout}\n{run.stderr}"


def test_most_pages_have_commands():
    assert len(RUNNABLE) > 5
    assert {page for page, _ in COMMANDS} >= {"README.md", "analyse.md", "cluster.md", "doctor.md", "labels.md"}
