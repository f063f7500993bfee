"""Examples for readers of the description, made of the examples in its schemas."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from regserver.mgmt.schemas import REFERENCE

Document = Mapping[str, Any]
INLINE = 60  # characters of JSON that need no lines of their own


def resolved(schema: Document, resources: Document) -> Document:
    """The schema itself, where it is a reference."""
    return resources[schema["$ref"].removeprefix(REFERENCE)] if "$ref" in schema else schema


def example(schema: Document, resources: Document) -> Any:
    """A value that fits: the first example, the first of several words, or put together of its parts."""
    schema = resolved(schema, resources)
    for given in ("examples", "enum"):
        if schema.get(given):
            return schema[given][0]
    if "anyOf" in schema:
        return example(schema["anyOf"][0], resources)
    match schema.get("type"):
        case "object":
            always = schema.get("required", ())
            inner = {
                name: part for name, part in schema.get("properties", {}).items() if name in always or _telling(part)
            }
            return {name: example(part, resources) for name, part in inner.items()} | _keyed(schema, resources)
        case "array":
            return [example(schema["items"], resources)]
        case "integer" | "number":
            return schema.get("default", schema.get("minimum", 0))
        case "boolean":
            return schema.get("default", True)
        case _:
            return schema.get("default", "…")


def _telling(part: Document) -> bool:
    """Whether a field that may be missing is worth showing: not what is there in times of trouble only."""
    return "examples" in part or part.get("type") == "boolean"


def _keyed(schema: Document, resources: Document) -> dict[str, Any]:
    values = schema.get("additionalProperties")
    return {"registry.example.com": example(values, resources)} if isinstance(values, dict) and values else {}


def pretty(value: Any, indent: str = "") -> str:
    """JSON for people: what is short stays on its line."""
    line = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or (len(line) <= INLINE and indent):
        return line
    deeper = indent + "  "
    if isinstance(value, dict):
        parts = [f"{deeper}{json.dumps(name)}: {pretty(part, deeper)}" for name, part in value.items()]
        return "{\n" + ",\n".join(parts) + f"\n{indent}}}"
    return "[\n" + ",\n".join(deeper + pretty(part, deeper) for part in value) + f"\n{indent}]"


def command(method: str, path: str, operation: Document, resources: Document) -> str:
    """A call of curl that does it, with the server and the token in variables."""
    parameters = {parameter["name"]: parameter for parameter in operation["parameters"]}
    for name, parameter in parameters.items():
        if parameter["in"] == "path":
            path = path.replace(f"{{{name}}}", quote(example(parameter["schema"], resources), safe="$:"))
    query = urlencode({"force": "true"} if "force" in parameters else {})
    address = f'"$SERVER{path}{"?" + query if query else ""}"'
    words = ["curl", *([] if method == "get" else ["-X", method.upper()]), address]
    lines = [" ".join(words)]
    if operation.get("security") != []:
        lines.append('-H "Authorization: Bearer $TOKEN"')
    if "requestBody" in operation:
        lines.append('-H "Content-Type: application/json"')
        lines.append("-d " + shlex.quote(json.dumps(body(operation, resources), ensure_ascii=False)))
    return " \\\n  ".join(lines)


def body(operation: Document, resources: Document) -> Any:
    ((_, content),) = operation["requestBody"]["content"].items()
    return example(content["schema"], resources)
