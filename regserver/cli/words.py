"""Values as people write and read them: durations, times, sizes, names of images."""

from __future__ import annotations

import argparse
import re
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_AGES = ((86400 * 365, "y"), (86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_MISSING = "-"


class Reference(NamedTuple):
    registry: str
    image: str
    tag: str | None


def seconds(text: str) -> int:
    """``90``, ``90s``, ``15m``, ``1h``, ``30d``."""
    match = re.fullmatch(r"([0-9]{1,9})([smhdw]?)", text.strip().lower())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration; write it as 90s, 15m, 1h or 30d")
    return int(match[1]) * _UNITS[match[2] or "s"]


def instant(text: str, sign: int) -> str:
    """RFC 3339 of a time or of a duration from now (``sign`` 1) or before now (-1)."""
    try:
        if re.fullmatch(r"[0-9]+[smhdw]?", text.strip().lower()):
            moment = datetime.now(UTC) + sign * timedelta(seconds=seconds(text))
        else:
            moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time; write it as 30d, 2027-01-31 or 2027-01-31T12:00:00Z"
        ) from None
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 up")
    return int(text)


def words(text: str) -> list[str]:
    """A list joined by commas; an empty text is an empty list."""
    return [word.strip() for word in text.split(",") if word.strip()]


def ahead(text: str) -> str:
    return instant(text, 1)


def ago(text: str) -> str:
    return instant(text, -1)


def reference(text: str) -> Reference:
    """``REGISTRY/IMAGE[:TAG]``, as after the host in ``docker pull``."""
    name, colon, tag = text.rpartition(":") if ":" in text.rpartition("/")[2] else (text, "", "")
    registry, slash, image = name.partition("/")
    if not registry or not slash or not image or (colon and not tag):
        raise argparse.ArgumentTypeError(f"{text!r} is no image; write it as REGISTRY/IMAGE, such as my-images/api")
    return Reference(registry, image, tag or None)


def image(text: str) -> Reference:
    found = reference(text)
    if found.tag is not None:
        raise argparse.ArgumentTypeError(f"{text!r} is a tag; leave :{found.tag} out to mean the image")
    return found


def tagged(text: str) -> Reference:
    found = reference(text)
    if found.tag is None:
        raise argparse.ArgumentTypeError(f"{text!r} has no tag; write it as REGISTRY/IMAGE:TAG")
    return found


# ---------------------------------------------------------------- for reading


def plain(value: Any) -> str:
    """Any value in one line; what a terminal would obey becomes a question mark."""
    match value:
        case None | "" | []:
            return _MISSING
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(plain(item) for item in value)
        case dict():
            return ", ".join(f"{key}: {plain(item)}" for key, item in value.items())
        case _:
            return "".join(character if character.isprintable() else "?" for character in str(value))


def amount(number: int, noun: str) -> str:
    """``1 tag``, ``2 tags``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def size(value: Any) -> str:
    """Bytes in binary units, three digits."""
    if not isinstance(value, int | float):
        return _MISSING
    amount, unit = float(value), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if amount < 1000 or unit == "PiB":
            break
        amount /= 1024
    digits = 0 if unit == "B" or amount >= 100 else 1 if amount >= 10 else 2
    return f"{amount:.{digits}f} {unit}"


def when(value: Any) -> str:
    """An RFC 3339 time in the local zone, and how far away it is."""
    if not isinstance(value, str):
        return _MISSING
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return plain(value)
    return f"{moment.astimezone():%Y-%m-%d %H:%M} ({distance(moment)})"


def distance(moment: datetime, now: datetime | None = None) -> str:
    away = round(((now or datetime.now(UTC)) - moment).total_seconds())
    if away == 0:
        return "now"
    for length, unit in _AGES:
        if abs(away) >= length:
            amount = f"{abs(away) // length} {unit}"
            return f"{amount} ago" if away > 0 else f"in {amount}"
    return "now"


def short_digest(value: Any) -> str:
    """The algorithm and twelve digits."""
    algorithm, colon, rest = plain(value).partition(":")
    return f"{algorithm}{colon}{rest[:12]}" if colon else algorithm
