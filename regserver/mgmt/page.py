"""The description as a page: rendered here, complete in one file, without a script and without anything from elsewhere.

It is made of the document alone, so it cannot say anything else than that does.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from html import escape
from importlib import resources
from typing import Any, Final

from regserver.errors import ErrorCode
from regserver.mgmt.examples import command, example, pretty, resolved

STYLE: Final = resources.files("regserver.mgmt").joinpath("page.css").read_text(encoding="utf-8")
_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

Document = Mapping[str, Any]
Shown = tuple[str, str, Document]  # method, path, operation


def render(document: Document) -> str:
    """The whole page. ``document`` is what ``openapi.make_document`` makes."""
    title, shared = document["info"]["title"], document["components"]["schemas"]
    chapters = [(tag, _of(document, tag["name"])) for tag in document["tags"]]
    main = "".join(_chapter(tag, shown, shared) for tag, shown in chapters)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head><body>{_contents(document, chapters)}"
        f"<main>{_beginning(document)}{main}{_errors(document)}</main></body></html>\n"
    )


def _of(document: Document, tag: str) -> list[Shown]:
    return [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if operation["tags"] == [tag]
    ]


def _contents(document: Document, chapters: list[tuple[Document, list[Shown]]]) -> str:
    parts = [f'<a class="home" href="#top">{escape(document["info"]["title"])}</a><a href="#calls">How to call</a>']
    for tag, shown in chapters:
        links = "".join(_link(method, operation) for method, _, operation in shown)
        parts.append(f'<a class="chapter" href="#{_anchor(tag["name"])}">{escape(tag["name"])}</a><ul>{links}</ul>')
    return f'<nav aria-label="Contents">{"".join(parts)}<a class="chapter" href="#errors">Errors</a></nav>'


def _link(method: str, operation: Document) -> str:
    words = f"<span>{escape(operation['summary'])}</span>"
    return f'<li><a href="#{operation["operationId"]}">{_badge(method)}{words}</a></li>'


_CALL = """export SERVER=https://registry.example.com
export TOKEN=…
curl "$SERVER/v1/registries" -H "Authorization: Bearer $TOKEN"
"""


def _beginning(document: Document) -> str:
    info, schemes = document["info"], document["components"]["securitySchemes"].values()
    ways = "".join(f"<li><b>{scheme['scheme'].title()}</b>: {_prose(scheme['description'])}</li>" for scheme in schemes)
    return (
        f'<header id="top"><h1>{escape(info["title"])} <small>{escape(info["version"])}</small></h1>'
        f"<p>{_prose(info['description'])}</p>"
        '<p>For machines: <a href="openapi.json">openapi.json</a> (OpenAPI 3.1).</p></header>'
        f'<section id="calls"><h2>How to call</h2><p>Say who you are in <code>Authorization</code>:</p><ul>{ways}</ul>'
        f"<pre><code>{escape(_CALL.strip())}</code></pre></section>"
    )


def _chapter(tag: Document, shown: list[Shown], shared: Document) -> str:
    head = f"<h2>{escape(tag['name'])}</h2><p>{_prose(tag['description'])}</p>"
    operations = "".join(_operation(*one, shared) for one in shown)
    return f'<section id="{_anchor(tag["name"])}">{head}{operations}</section>'


def _operation(method: str, path: str, operation: Document, shared: Document) -> str:
    name = operation["operationId"]
    parts = [
        f'<h3>{escape(operation["summary"])} <a class="anchor" href="#{name}" aria-label="Link to this">#</a></h3>',
        f'<p class="path">{_badge(method)}<code>{_path(path)}</code></p>',
        f"<p>{_prose(operation['description'])}</p>" if "description" in operation else "",
        _scopes(operation),
        _parameters(operation["parameters"]),
        _body(operation, shared),
        _listing("Example", command(method, path, operation, shared)),
        _answers(operation, shared),
    ]
    return f'<article id="{name}">{"".join(parts)}</article>'


def _scopes(operation: Document) -> str:
    if operation["security"] == []:
        return '<p class="scopes">Open to everybody.</p>'
    scopes = [scope for way in operation["security"] for scope in way.get("token", [])]
    return f'<p class="scopes">Scopes: {" or ".join(f"<code>{escape(scope)}</code>" for scope in scopes)}</p>'


def _parameters(parameters: list[Document]) -> str:
    rows = [
        (_field(parameter["name"], parameter["required"]), parameter["in"], _type(parameter["schema"]),
         _prose(parameter["description"]))
        for parameter in parameters
    ]  # fmt: skip
    return _table(("Parameter", "In", "Type", "Meaning"), rows)


def _body(operation: Document, shared: Document) -> str:
    if "requestBody" not in operation:
        return ""
    ((_, content),) = operation["requestBody"]["content"].items()
    rows = list(_fields(content["schema"], shared, ""))
    if not rows:
        return ""
    note = "" if operation["requestBody"]["required"] else " <small>may be left out</small>"
    return f"<h4>Body{note}</h4>" + _table(("Field", "Type", "Meaning"), rows)


def _fields(schema: Document, shared: Document, prefix: str) -> Iterable[tuple[str, ...]]:
    """Every field of an object with those inside it, as dotted paths."""
    required = schema.get("required", [])
    for name, inner in schema.get("properties", {}).items():
        yield _field(prefix + name, name in required), _type(inner), _prose(inner.get("description", ""))
        for part in (inner, *inner.get("anyOf", ())):
            yield from _fields(resolved(part, shared), shared, f"{prefix}{name}.")
            yield from _fields(resolved(part.get("items", {}), shared), shared, f"{prefix}{name}[].")


def _answers(operation: Document, shared: Document) -> str:
    (status, success), *others = operation["responses"].items()
    found = [f'<h4>Answer <span class="status">{status}</span></h4>']
    schema = success.get("content", {}).get("application/json", {}).get("schema", {})
    stated = [f"<code>{escape(name)}</code>" for name in success["headers"] if name != "X-Request-Id"]
    if "properties" in schema:
        found.append(f"<pre><code>{escape(pretty(example(schema, shared)))}</code></pre>")
    if stated:
        found.append(f'<p class="scopes">Headers: {", ".join(stated)}</p>')
    if "properties" in schema:
        found.append(_folded("Fields", _table(("Field", "Type", "Meaning"), _data_fields(schema, shared))))
    rows = [(f'<span class="status">{code}</span>', _prose(answer["description"])) for code, answer in others]
    return "".join(found) + _folded("Refusals", _table(("Status", "Code and meaning"), rows))


def _data_fields(schema: Document, shared: Document) -> Iterable[tuple[str, ...]]:
    """Of ``data``, or of what it is a list of, without what may be missing marked: that is for requests."""
    data = schema["properties"]["data"]
    for part in data.get("anyOf", [data.get("items", data)])[-1:]:
        for name, kind, meaning in _fields(resolved(part, shared), shared, ""):
            yield name.replace(_REQUIRED, ""), kind, meaning


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{title}</summary>{content}</details>"


def _errors(document: Document) -> str:
    used = {
        name
        for methods in document["paths"].values()
        for operation in methods.values()
        for answer in operation["responses"].values()
        for name in re.findall(r"`(\w+)`:", answer["description"])
    }
    codes = sorted((code for code in ErrorCode if code.name.lower() in used), key=lambda code: (code.status, code.name))
    rows = [
        (f'<span class="status">{code.status}</span>', f"<code>{code.name.lower()}</code>", _prose(code.message))
        for code in codes
    ]
    shared = document["components"]["schemas"]
    shown = pretty(example(shared["Error"], shared))
    return (
        '<section id="errors"><h2>Errors</h2><p>One form for all. With <code>validation_failed</code> the details name '
        f"every field that is wrong, at once.</p><pre><code>{escape(shown)}</code></pre>"
        f"{_table(('Status', 'Code', 'Meaning'), rows)}</section>"
    )


# ---------------------------------------------------------------- words

_REQUIRED = ' <b class="required" title="must be given">*</b>'
_ENDLESS = 10**6  # a bound that is there for machines only


def _type(schema: Document) -> str:
    """What a value is, in a few words."""
    if "anyOf" in schema:
        return " or ".join(_type(part) for part in schema["anyOf"])
    if "$ref" in schema:
        return "object"
    if "enum" in schema:
        return " ".join(f"<code>{escape(str(word))}</code>" for word in schema["enum"])
    kind = str(schema.get("type", "any"))
    if kind == "array":
        return f"list of {_type(schema['items'])}"
    least, most = schema.get("minimum"), schema.get("maximum")
    bounds = f" {least:,}–{most:,}" if least is not None and most is not None and most < _ENDLESS else ""
    stated = f", {schema['default']} if not given" if "default" in schema else ""
    return escape({"integer": "whole number"}.get(kind, kind) + bounds + stated)


def _field(name: str, required: bool) -> str:
    return f"<code>{escape(name)}</code>{_REQUIRED if required else ''}"


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    if not lines:
        return ""
    head = "".join(f"<th>{name}</th>" for name in heads)
    return f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'


def _listing(title: str, text: str) -> str:
    return f"<h4>{title}</h4><pre><code>{escape(text)}</code></pre>"


def _badge(method: str) -> str:
    return f'<b class="method {method}">{"del" if method == "delete" else method}</b>'


def _path(path: str) -> str:
    return re.sub(r"\{(\w+)\}", r"<i>{\1}</i>", escape(path))


def _prose(text: str) -> str:
    """Text with its code between back-quotes, single or double."""
    return re.sub(r"(`+)(.+?)\1", r"<code>\2</code>", escape(text, quote=False))


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")
