"""What a request body may hold, declared once: reading a document against it finds every fault, not just the first.

Written here because the libraries that report all faults cost more start-up time than the whole server has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from regserver.errors import ErrorCode, RegistryError
from regserver.model.times import parse_rfc3339


class Fault(NamedTuple):
    """``field`` is a dotted path; ``code`` is stable, ``message`` is for people and repeats nothing that was sent."""

    field: str
    code: str
    message: str


Faults = list[Fault]
Schema = Mapping[str, Any]  # JSON Schema, draft 2020-12


class Kind(Protocol):
    """Reads one JSON value; what is wrong with it goes into ``faults``, and then what it returns is not used."""

    def read(self, value: Any, path: str, faults: Faults) -> Any: ...

    def schema(self) -> Schema:
        """What ``read`` accepts, as it stands in the API's description."""
        ...


@dataclass(frozen=True, slots=True)
class Text:
    """A string. ``check`` returns (code, message) for what it does not accept, else None; ``form`` says the same in
    the words of JSON Schema, exactly."""

    check: Callable[[str], tuple[str, str] | None]
    form: Schema = field(default_factory=dict)

    def read(self, value: Any, path: str, faults: Faults) -> Any:
        if not isinstance(value, str):
            faults.append(Fault(path, "wrong_type", "must be a string"))
        elif (found := self.check(value)) is not None:
            faults.append(Fault(path, *found))
        return value

    def schema(self) -> Schema:
        return {"type": "string", **self.form}


@dataclass(frozen=True, slots=True)
class Texts:
    """A list of ``least`` to ``most`` strings, each as ``Text`` has it."""

    check: Callable[[str], tuple[str, str] | None]
    least: int
    most: int
    form: Schema = field(default_factory=dict)

    def read(self, value: Any, path: str, faults: Faults) -> Any:
        if not isinstance(value, list):
            faults.append(Fault(path, "wrong_type", "must be a list of strings"))
        elif not self.least <= len(value) <= self.most:
            faults.append(Fault(path, "invalid_length", f"must hold {self.least} to {self.most} entries"))
        else:
            for number, entry in enumerate(value):
                Text(self.check).read(entry, f"{path}.{number}", faults)
        return value

    def schema(self) -> Schema:
        return {"type": "array", "items": Text(self.check, self.form).schema()} | {
            "minItems": self.least,
            "maxItems": self.most,
        }


@dataclass(frozen=True, slots=True)
class Moment:
    """A time as RFC 3339 has it; read as milliseconds since 1970."""

    def read(self, value: Any, path: str, faults: Faults) -> Any:
        if not isinstance(value, str):
            faults.append(Fault(path, "wrong_type", "must be a string"))
            return value
        moment = parse_rfc3339(value)
        if moment is None:
            faults.append(Fault(path, "invalid_format", "must be a time such as 2027-01-31T12:00:00Z"))
        return moment

    def schema(self) -> Schema:
        return {"type": "string", "format": "date-time"}


@dataclass(frozen=True, slots=True)
class Flag:
    def read(self, value: Any, path: str, faults: Faults) -> Any:
        if not isinstance(value, bool):
            faults.append(Fault(path, "wrong_type", "must be true or false"))
        return value

    def schema(self) -> Schema:
        return {"type": "boolean"}


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

    def schema(self) -> Schema:
        return {"type": "number", "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number from ``least`` to ``most``; 1.0 is one (JSON Schema, "integer")."""

    least: int
    most: int

    def read(self, value: Any, path: str, faults: Faults) -> Any:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            faults.append(Fault(path, "wrong_type", "must be a whole number"))
        elif not self.least <= value <= self.most:
            faults.append(Fault(path, "out_of_range", f"must be between {self.least} and {self.most}"))
        return value

    def schema(self) -> Schema:
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True, slots=True)
class Nullable:
    kind: Kind

    def read(self, value: Any, path: str, faults: Faults) -> Any:
        return None if value is None else self.kind.read(value, path, faults)

    def schema(self) -> Schema:
        return {"anyOf": [self.kind.schema(), {"type": "null"}]}


@dataclass(frozen=True, slots=True)
class About:
    """A kind, what its field is for, and a value of it to show."""

    text: str
    kind: Kind
    example: Any = None

    def read(self, value: Any, path: str, faults: Faults) -> Any:
        return self.kind.read(value, path, faults)

    def schema(self) -> Schema:
        example = {} if self.example is None else {"examples": [self.example]}
        return {**self.kind.schema(), "description": self.text, **example}


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

    def schema(self) -> Schema:
        properties = {name: kind.schema() for name, kind in self.fields.items()}
        required = {"required": sorted(self.required)} if self.required else {}
        return {"type": "object", "properties": properties, **required, "additionalProperties": False}


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
