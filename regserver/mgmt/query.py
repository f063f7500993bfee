"""Query parameters: pages, orders, filters, switches. Unknown ones are ignored; what is known must be right."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from aiohttp import web

from regserver.mgmt.declared import Fault, Faults, refuse
from regserver.model.ids import is_id
from regserver.model.times import parse_rfc3339
from regserver.web.facts import CHARACTER, is_text

E = TypeVar("E", bound=StrEnum)

MAX_PAGE = 10**9 - 1
MAX_PER_PAGE = 100
PER_PAGE = 20
MAX_FILTER_LENGTH = 255
FILTER = f"{CHARACTER}{{0,{MAX_FILTER_LENGTH}}}"
SWITCH = {"true": True, "1": True, "false": False, "0": False}
_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)
_WHOLE = re.compile(r"[0-9]{1,9}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Paging:
    page: int
    per_page: int

    @property
    def offset(self) -> int:
        return (self.page - 1) * self.per_page


class Query:
    """Collects what is wrong while values are asked for; ``finish`` raises it all at once, before any is used."""

    def __init__(self, request: web.Request) -> None:
        self._query = request.query
        self._faults: Faults = []

    def paging(self) -> Paging:
        return Paging(self._whole("page", 1, MAX_PAGE), self._whole("per_page", PER_PAGE, MAX_PER_PAGE))

    def sort(self, orders: type[E], default: E) -> E:
        return self.choice("sort", orders) or default

    def choice(self, field: str, words: type[E]) -> E | None:
        text = self._one(field)
        if text is None or text in list(words):
            return None if text is None else words(text)
        self._fault(field, "unknown_value", f"must be one of {', '.join(words)}")
        return None

    def moment(self, field: str) -> int | None:
        """A time as RFC 3339 has it, in milliseconds since 1970. A ``+`` that was not encoded arrives as a space."""
        text = self._one(field)
        found = parse_rfc3339(text.replace(" ", "+")) if text is not None else None
        if text is not None and found is None:
            self._fault(field, "invalid_format", "must be a time such as 2027-01-31T12:00:00Z")
        return found

    def identity(self, field: str, prefix: str) -> str | None:
        text = self._one(field)
        if text is not None and not is_id(prefix, text):
            self._fault(field, "invalid_format", f"must be an id that begins with {prefix}_")
        return text

    def text(self, field: str) -> str | None:
        text = self._one(field)
        if text is not None and (len(text) > MAX_FILTER_LENGTH or not is_text(text)):
            self._fault(field, "invalid_format", f"must be at most {MAX_FILTER_LENGTH} characters, none of control")
        return text

    def choices(self, field: str, words: type[E]) -> list[E] | None:
        """Some of these words, separated by commas."""
        text = self._one(field)
        parts = [] if text is None else text.split(",")
        if not set(parts) <= set(words):
            self._fault(field, "unknown_value", f"must be some of {', '.join(words)}, separated by commas")
            return None
        return None if text is None else [words(part) for part in parts]

    def number(self, field: str) -> int | None:
        return self.number_of(field, self._one(field))

    def number_of(self, field: str, text: str | None) -> int | None:
        """A whole number from 0 on. ``field`` may also be a header, whose ``text`` this is."""
        if text is not None and not _NUMBER.fullmatch(text):
            self._fault(field, "out_of_range", "must be a whole number of at most 18 digits")
            return None
        return None if text is None else int(text)

    def switch(self, field: str) -> bool:
        text = self._one(field)
        if text is not None and text not in SWITCH:
            self._fault(field, "wrong_type", "must be true or false")
        return SWITCH.get(text or "false", False)

    def finish(self) -> None:
        """Raises RegistryError VALIDATION_FAILED."""
        refuse(self._faults)

    def _whole(self, field: str, default: int, most: int) -> int:
        text = self._one(field)
        if text is None:
            return default
        if not _WHOLE.fullmatch(text) or not 1 <= int(text) <= most:
            self._fault(field, "out_of_range", f"must be a whole number between 1 and {most}")
            return default
        return int(text)

    def _one(self, field: str) -> str | None:
        values = self._query.getall(field, [])
        if len(values) > 1:
            self._fault(field, "repeated", "must be given once")
        return values[0] if values else None

    def _fault(self, field: str, code: str, message: str) -> None:
        self._faults.append(Fault(field, code, message))
