"""What a request body may hold, declared once: reading a document against it finds every fault, not just the first.

Written here because the libraries that report all faults cost more start-up time than the whole server has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from regserver.errors import ErrorCode, RegistryError


class Fault(NamedTuple):
    """``field`` is a dotted path; ``code`` is stable, ``message`` is for people and repeats nothing that was sent."""

    field: str
    code: str
    message: str


Faults = list[Fault]


class Kind(Protocol):
    """Reads one JSON value; what is wrong with it goes into ``faults``, and then what it returns is not used."""

    def read(self, value: Any, path: str, faults: Faults) -> Any: ...


@dataclass(frozen=True, slots=True)
class Text:
    """A string. ``check`` returns (code, message) for what it does not accept, else None."""

    check: Callable[[str], tuple[str, str] | None]

    def read(self, value: Any, path: str, faults: Faults) -> Any:
        if not isinstance(value, str):
            faults.append(Fault(path, "wrong_type", "must be a string"))
        elif (found := self.check(value)) is not None:
            faults.append(Fault(path, *found))
        return value


@dataclass(frozen=True, slots=True)
class Flag:
    def read(self, value: Any, path: str, faults: Faults) -> Any:
        if not isinstance(value, bool):
            faults.append(Fault(path, "wrong_type", "must be true or false"))
        return value


@dataclass(frozen=True, slots=True)
class Number:
    """A number from ``least`` to ``most``, fractions allowed."""

    least: float
    most: float

    def read(self, value: Any, path: str, faults: Faults) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float):
            faults.append(Fault(path, "wrong_type", "must be a number"))
        elif not self.least <= value <= self.most:
            faults.append(Fault(path, "out_of_range", f"must be between {self.least:g} and {self.most:g}"))
        return value


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number from ``least`` to ``most``."""

    least: int
    most: int

    def read(self, value: Any, path: str, faults: Faults) -> Any:
        if isinstance(value, bool) or not isinstance(value, int):
            faults.append(Fault(path, "wrong_type", "must be a whole number"))
        elif not self.least <= value <= self.most:
            faults.append(Fault(path, "out_of_range", f"must be between {self.least} and {self.most}"))
        return value


@dataclass(frozen=True, slots=True)
class Nullable:
    kind: Kind

    def read(self, value: Any, path: str, faults: Faults) -> Any:
        return None if value is None else self.kind.read(value, path, faults)


@dataclass(frozen=True, slots=True)
class Record:
    """An object of these fields and no others. A field that is not sent is not in the result."""

    fields: Mapping[str, Kind]
    required: frozenset[str] = frozenset()

    def read(self, value: Any, path: str, faults: Faults) -> Any:
        if not isinstance(value, dict):
            faults.append(Fault(path, "wrong_type", "must be an object"))
            return {}
        result = {}
        for name, kind in self.fields.items():
            if name in value:
                result[name] = kind.read(value[name], _join(path, name), faults)
            elif name in self.required:
                faults.append(Fault(_join(path, name), "required", "must be given"))
        for name in value:
            if name not in self.fields:
                faults.append(Fault(_join(path, name[:64]), "unknown_field", "is not a field of this resource"))
        return result


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def refuse(faults: Faults) -> None:
    """Raises RegistryError VALIDATION_FAILED with all of them, if there is any."""
    if faults:
        raise RegistryError(ErrorCode.VALIDATION_FAILED, [fault._asdict() for fault in faults])


def read(record: Record, document: Mapping[str, Any]) -> dict[str, Any]:
    """The declared fields that the document holds. Raises RegistryError VALIDATION_FAILED with every fault."""
    faults: Faults = []
    values: dict[str, Any] = record.read(document, "", faults)
    refuse(faults)
    return values
