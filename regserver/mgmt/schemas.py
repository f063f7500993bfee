"""Words for what answers hold, in JSON Schema (draft 2020-12). What requests hold says ``declared`` by itself.

Every leaf has an example, so that whole answers can be shown. Objects are not closed: a client must bear a field that a
later version adds. The tests close them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from regserver.mgmt.declared import Schema
from regserver.model import digest as digests

REFERENCE = "#/components/schemas/"
RESOURCES: dict[str, Schema] = {}  # filled while modules are imported, then only read

_DIGEST = "sha256:7173b809ca12ec5dee4506cd86be934c4596dd234ee82c0662eac04a8c2c71dc"
_ID_LENGTH = 26


def text(example: str, about: str = "", **more: Any) -> Schema:
    """Without an example it is shown only where it must be there."""
    return _about({"type": "string", **more, **({"examples": [example]} if example else {})}, about)


def whole(example: int, about: str = "", *, least: int = 0) -> Schema:
    return _about({"type": "integer", "minimum": least, "examples": [example]}, about)


def number(example: float, about: str = "") -> Schema:
    return _about({"type": "number", "minimum": 0, "examples": [example]}, about)


def flag(about: str = "", *, example: bool = False) -> Schema:
    return _about({"type": "boolean", "examples": [example]}, about)


def one_of(values: Iterable[str], about: str = "") -> Schema:
    """One of these words; the first is the example."""
    return _about({"type": "string", "enum": [str(value) for value in values]}, about)


def identity(prefix: str) -> Schema:
    example = f"{prefix}_06a9v3k7fshb72q0e5dcm1n8p4"[: len(prefix) + 1 + _ID_LENGTH]
    return {"type": "string", "pattern": f"^{prefix}_[0-9a-v]{{{_ID_LENGTH}}}$", "examples": [example]}


def digest(about: str = "") -> Schema:
    return _about({"type": "string", "pattern": f"^{digests.FORM}$", "examples": [_DIGEST]}, about)


def time(about: str = "") -> Schema:
    """RFC 3339 in UTC, whole seconds."""
    form = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"
    return _about(
        {"type": "string", "format": "date-time", "pattern": form, "examples": ["2026-11-24T10:30:00Z"]}, about
    )


def nullable(schema: Schema, about: str = "") -> Schema:
    return _about({"anyOf": [schema, {"type": "null"}]}, about)


def array(items: Schema, about: str = "") -> Schema:
    return _about({"type": "array", "items": items}, about)


def mapping(values: Schema, about: str = "") -> Schema:
    """An object whose keys are data."""
    return _about({"type": "object", "additionalProperties": values}, about)


def record(fields: dict[str, Schema], *, optional: Iterable[str] = (), about: str = "") -> Schema:
    """An object in which every field stands but the ``optional`` ones."""
    required = [name for name in fields if name not in set(optional)]
    return _about({"type": "object", "properties": fields, "required": required}, about)


def resource(name: str, fields: dict[str, Schema], *, optional: Iterable[str] = (), about: str = "") -> Schema:
    """A record with a name of its own in the description. Raises ValueError for a second one of that name."""
    if name in RESOURCES:
        raise ValueError(f"there are two resources {name}")
    RESOURCES[name] = record(fields, optional=optional, about=about)
    return {"$ref": REFERENCE + name}


def single(data: Schema) -> Schema:
    return record({"data": data})


def page(items: Schema) -> Schema:
    return record({"data": array(items), "meta": META})


def _about(schema: dict[str, Any], about: str) -> Schema:
    return {**schema, "description": about} if about else schema


META = resource(
    "Meta",
    {
        "total": whole(1, "Of all pages together."),
        "page": whole(1, least=1),
        "per_page": whole(20, least=1),
    },
    about="Where a page stands in its list.",
)
