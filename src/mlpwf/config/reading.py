"""The one reader of YAML: what may mean two things is refused, with its key and line.

Words and numbers are told apart as YAML 1.2 does (`1e-6` is a number, a date is a word). What YAML 1.1 turns into
something else in silence is refused: `NO` (false), `010` (8), `1:30` (90), a key given twice (the last wins).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from mlpwf.errors import ConfigError

LARGEST_FILE_BYTES = 1_000_000
DEEPEST = 40
MOST_NODES = 100_000  # with aliases written out
LARGEST, SMALLEST = 1e18, 1e-18

_CORE = "tag:yaml.org,2002:"
_WORDS = {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?(0|[1-9][0-9_]*)",
    "float": r"[-+]?([0-9][0-9_]*\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?",
    "merge": r"<<",
}  # fmt: skip
_QUOTES = "put it in quotes if it is a word"
_TRAPS = {
    r"(?i:yes|no|on|off)": f"true or false to YAML; {_QUOTES}, else write true or false",
    r"[-+]?0[0-9_]+|[-+]?0[oO][0-7_]+": f"an octal number to YAML; {_QUOTES}, else write it without the leading 0",
    r"[-+]?0[xX][0-9a-fA-F_]+|[-+]?0[bB][01_]+": f"no decimal number; {_QUOTES}, else write it as a decimal",
    r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?": f"a number to base 60 to YAML; {_QUOTES}, else write one number",
    r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[dD][-+]?[0-9]+": f"a number of Fortran; {_QUOTES}, else write e for D",
    r"(?i:[-+]?\.inf|\.nan)": "no finite number; write one",
}


class _Loader(yaml.SafeLoader):
    """Words by `_WORDS` and `_TRAPS` alone, and no deeper than `DEEPEST`."""

    yaml_implicit_resolvers: dict[str | None, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012
    depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        self.depth += 1
        if self.depth > DEEPEST:
            raise ConfigError(f"nested more than {DEEPEST} deep (line {self.peek_event().start_mark.line + 1})")
        node: Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


_TRAP_TAG = "!trap"
for _pattern, _what in _TRAPS.items():
    _Loader.add_implicit_resolver(_TRAP_TAG, re.compile(f"(?:{_pattern})$"), [None])
for _kind, _pattern in _WORDS.items():
    _Loader.add_implicit_resolver(f"{_CORE}{_kind}", re.compile(f"(?:{_pattern})$"), [None])


def read_yaml(source: Path | str) -> Any:
    """What a YAML file holds; no object is made of it.

    Raises
    ------
    ConfigError
        If there is none, it is not YAML, a key stands in it twice, or a word of it has two meanings: key and line.
    """
    loader = _Loader(_text(source))
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check(node)
        return loader.construct_document(node)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    except (yaml.YAMLError, ValueError) as error:
        said = " ".join(str(error).split())
        raise ConfigError(
            f"{source}: not a YAML file ({said}); put words that hold any of [ ] {{ }} : # , & * ! % @ in quotes"
        ) from None
    finally:
        loader.dispose()


def _text(source: Path | str) -> str:
    path = Path(source)
    try:
        if path.stat().st_size > LARGEST_FILE_BYTES:
            raise ConfigError(
                f"{source}: {path.stat().st_size / 1e6:.1f} MB; expected a config file, of at most "
                f"{LARGEST_FILE_BYTES / 1e6:g} MB"
            )
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{source}: no such file; give the path of a config file such as config/systems/tiny_toluene.yaml"
        ) from None
    except OSError as error:
        raise ConfigError(f"{source}: cannot be read ({error.strerror}); expected a YAML file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{source}: not a YAML file ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from None


def _check(root: Node) -> None:
    """ConfigError at the first key given twice, word of two meanings, number out of bounds, or alias that explodes."""
    sizes: dict[int, int | None] = {}  # nodes below each, aliases written out; None: not finished
    stack: list[tuple[Node, tuple[str, ...], bool]] = [(root, (), False)]
    while stack:
        node, keys, seen = stack.pop()
        children = list(_children(node))
        if seen:
            total = 1 + sum(sizes[id(child)] or 0 for child, _ in children)
            if total > MOST_NODES:
                raise ConfigError(f"{_place(node, keys)}: more than {MOST_NODES} values, its aliases written out")
            sizes[id(node)] = total
            continue
        if id(node) in sizes:
            if sizes[id(node)] is None:
                raise ConfigError(f"{_place(node, keys)}: an alias that holds itself; write out what is meant")
            continue
        sizes[id(node)] = None
        if isinstance(node, ScalarNode):
            _check_word(node, keys)
        if isinstance(node, MappingNode):
            _check_keys(node, keys)
        stack.append((node, keys, True))
        stack += [(child, keys + name, False) for child, name in reversed(children)]


def _children(node: Node) -> Iterator[tuple[Node, tuple[str, ...]]]:
    if isinstance(node, SequenceNode):
        yield from ((child, (str(k),)) for k, child in enumerate(node.value))
    elif isinstance(node, MappingNode):
        for key, value in node.value:
            yield from ((key, ()), (value, (_shown(key.value),)))


def _place(node: Node, keys: tuple[str, ...]) -> str:
    return f"{'.'.join(keys) or 'the file'} (line {node.start_mark.line + 1})"


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:20]}… ({len(text)} signs)"


def _check_keys(node: MappingNode, keys: tuple[str, ...]) -> None:
    lines: dict[str, int] = {}
    for key, _ in node.value:
        if not isinstance(key, ScalarNode):
            raise ConfigError(f"{_place(key, keys)}: a key is a list or a mapping; expected a word")
        line = key.start_mark.line + 1
        if key.value in lines:
            where = f"line {line}" if lines[key.value] == line else f"lines {lines[key.value]} and {line}"
            raise ConfigError(
                f"{'.'.join((*keys, _shown(key.value)))}: given twice ({where}); "
                "expected once: join the two or rename one"
            )
        lines[key.value] = line


def _check_word(node: ScalarNode, keys: tuple[str, ...]) -> None:
    word = node.value
    said = next((what for pattern, what in _TRAPS.items() if re.fullmatch(pattern, word)), None)
    if said and node.tag != f"{_CORE}str":
        raise ConfigError(f"{_place(node, keys)}: {_shown(word)} is {said}")
    if node.tag in (f"{_CORE}int", f"{_CORE}float"):
        size = abs(float(word.replace("_", "")))
        digits = re.sub(r"[eE].*", "", word)
        if size > LARGEST or (size < SMALLEST and re.search("[1-9]", digits)):
            raise ConfigError(
                f"{_place(node, keys)}: {_shown(word)} is out of all bounds; expected 0 or a number of {SMALLEST:g} to "
                f"{LARGEST:g} in size"
            )
