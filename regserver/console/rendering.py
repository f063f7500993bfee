"""Templates: what they may call, and how hostile text is shown. Everything printed is escaped, by the environment."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import aiohttp_jinja2
import jinja2
from aiohttp import web
from markupsafe import Markup

from regserver.console import charts, links
from regserver.console.words import REASONS, SAID
from regserver.model.access import Access
from regserver.model.times import now_ms

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_STEPS = ((60, "second"), (60, "minute"), (24, "hour"), (30, "day"), (12, "month"), (10_000, "year"))


@functools.cache
def _environment() -> jinja2.Environment:
    """An application of the console's own holds it: the served one was closed to changes when it started."""
    return aiohttp_jinja2.setup(
        web.Application(),
        loader=jinja2.PackageLoader("regserver.console"),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        filters=_FILTERS,
        default_helpers=False,
    )


def render(template: str, values: Mapping[str, Any]) -> str:
    environment = _environment()
    tools = {"link": links, "chart": charts, "Access": Access, "SAID": SAID, "REASONS": REASONS}
    return environment.get_template(template).render({**tools, **values})


def visible(text: str) -> str:
    """Printable text stays; what a terminal or a browser would obey instead of showing it is written out: control
    characters, bidirectional overrides, lone surrogates."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or one in "\n\t" else one.encode("unicode_escape").decode("ascii") for one in text
    )


def _shown(value: Any) -> Any:
    """Of everything that a template prints. None prints nothing."""
    if value is None:
        return ""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def size(count: int | None) -> str:
    """Bytes as people read them: ``1.5 MiB``."""
    if count is None:
        return "–"
    value, unit = float(count), 0
    while value >= 1023.95 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{count} B" if unit == 0 else f"{value:.1f} {_UNITS[unit]}"


def ago(ms: int | None) -> str:
    """How long ago, in the largest whole unit."""
    if ms is None:
        return "never"
    value = max(0, (now_ms() - ms) // 1000)
    if value < 60:
        return "just now"
    for step, unit in _STEPS:
        if value < step:
            return f"{value} {unit}{'' if value == 1 else 's'} ago"
        value //= step
    return "long ago"


def moment(ms: int | None) -> str:
    """``2026-11-24 16:05 UTC``."""
    return "never" if ms is None else datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")


def short(digest: str | None) -> str:
    """Enough of a digest to know it again: the algorithm is said elsewhere."""
    return "" if digest is None else digest.rpartition(":")[2][:12]


def plural(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def sentence(text: str) -> str:
    """With a capital at its beginning; the rest stays as it is."""
    return text[:1].upper() + text[1:]


_FILTERS: dict[str, Callable[..., str]] = {
    "size": size,
    "ago": ago,
    "moment": moment,
    "short": short,
    "plural": plural,
    "sentence": sentence,
}
