"""The text of a setting as a value. Each parser raises ValueError with the bounds in words, made for people."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

GIB = 2**30

Parser = Callable[[str], Any]


def switch(text: str) -> bool:
    value = _SWITCHES.get(text.strip().lower())
    if value is None:
        raise ValueError("must be true or false")
    return value


_SWITCHES = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def whole(least: int, most: int) -> Parser:
    """A whole number from ``least`` to ``most``, both included."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,18}", text.strip()) or not least <= int(text) <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return int(text)

    return parse


def gigabytes(text: str) -> int:
    """GiB, fractions allowed, as bytes."""
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text.strip()) or not float(text) > 0:
        raise ValueError("must be a number of GiB above 0, such as 50 or 0.5")
    return round(float(text) * GIB)


def path(text: str) -> Path:
    if not text or "\0" in text:
        raise ValueError("must be a path")
    return Path(text)


def listen(text: str) -> tuple[str, int]:
    """``HOST:PORT``; an IPv6 host in brackets; port 0 takes a free one."""
    host, colon, port = text.strip().rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    if not colon or not host or (":" in host) != bracketed or not re.fullmatch(r"[0-9]{1,5}", port):
        raise ValueError("must be HOST:PORT, such as 127.0.0.1:5000 or [::1]:5000")
    if int(port) > 65535:
        raise ValueError("must have a port from 0 to 65535")
    return host, int(port)


def public_url(text: str) -> str:
    """``http(s)://host[:port]`` and nothing after it: /v2 must be at the root of a host."""
    parts = urlsplit(text.strip())
    try:
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or "@" in parts.netloc or parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError("must be http(s)://HOST[:PORT] without a path: clients look for /v2/ at the root of a host")
    return f"{parts.scheme}://{parts.netloc.lower()}"


def database_url(text: str) -> str:
    """``postgresql://…``. What is wrong with it is said without it: it may hold a password."""
    try:
        parts = urlsplit(text.strip())
        valid = parts.scheme in {"postgresql", "postgres"} and parts.port != 0 and bool(parts.path.strip("/"))
    except ValueError:
        valid = False
    if not valid or not text.isprintable():
        raise ValueError("must be postgresql://USER[:PASSWORD]@HOST[:PORT]/DATABASE")
    return text.strip()


def networks(text: str) -> tuple[str, ...]:
    """Addresses or networks, separated by commas."""
    found = [part.strip() for part in text.split(",") if part.strip()]
    try:
        return tuple(str(ipaddress.ip_network(part)) for part in found)
    except ValueError:
        raise ValueError("must be addresses or networks such as 10.0.0.0/8, separated by commas") from None


def log_format(text: str) -> str:
    if text not in {"text", "json"}:
        raise ValueError("must be text or json")
    return text
