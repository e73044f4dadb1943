"""The pages of the documentation and the blocks of code in them."""

import re
import shlex
from pathlib import Path

PROJECT = Path(__file__).parents[1]
PAGES = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted((PROJECT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(path, *languages):
    """Fenced blocks of a page in these languages."""
    return [text for language, text in BLOCK.findall(path.read_text()) if language in languages]


def commands(path):
    """Words of every command in the page's shell blocks; variables that a block sets are filled in."""
    for block in blocks(path, "sh", "bash"):
        if block.startswith("#!"):
            continue  # a script, not commands to give
        variables = {}
        for line in block.replace("\\\n", " ").splitlines():
            for name, value in variables.items():
                line = line.replace(f"${name}", value)
            words = shlex.split(line, comments=True)
            if len(words) == 1 and re.fullmatch(r"[A-Z]+=.*", words[0]):
                variables.update([words[0].split("=", 1)])
            elif words:
                yield words


def spans(path):
    """Code in the running text of a page."""
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", BLOCK.sub("", path.read_text()))
