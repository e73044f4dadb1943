"""What a check finds: one line of value found, value expected, remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from mlpwf.errors import MlpwfError


class Level(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True)
class Finding:
    """The end of one check; `where` is the node it was made on, empty for this machine."""

    check: str
    level: Level
    found: str
    expected: str = ""
    remedy: str = ""
    where: str = ""

    @property
    def line(self) -> str:
        """The finding in one line."""
        found = f"{self.where}: {self.found}" if self.where else self.found
        words = [found, f"expected {self.expected}" if self.expected else "", self.remedy]
        return f"{self.level:<8} {self.check:<18} " + "; ".join(" ".join(word.split()) for word in words if word)

    def document(self) -> dict[str, Any]:
        """The finding as plain JSON types."""
        return asdict(self)


def ok(check: str, found: str) -> Finding:
    """A check that ended well."""
    return Finding(check, Level.OK, found)


def warning(check: str, found: str, expected: str, remedy: str) -> Finding:
    """A check that a campaign may survive."""
    return Finding(check, Level.WARNING, found, expected, remedy)


def failed(check: str, found: str, expected: str, remedy: str) -> Finding:
    """A check without which no campaign comes to its end."""
    return Finding(check, Level.FAILED, found, expected, remedy)


def made(check: str, work: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """What a check finds; an error a user can act on is a finding too."""
    try:
        yield from work()
    except MlpwfError as error:
        yield Finding(check, Level.FAILED, str(error))
