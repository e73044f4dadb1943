"""Section `report`: the page a campaign ends with."""

from __future__ import annotations

from pydantic import Field

from mlpwf.config.base import Section


class Report(Section):
    """What stands on the page."""

    title: str | None = Field(None, max_length=200, description="title of the page; unset: the campaign's name")
