"""Wall-clock times as integer milliseconds since 1970 and as RFC 3339. No decision to delete rests on them."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def rfc3339(ms: int) -> str:
    """Whole seconds, UTC, with Z."""
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def parse_rfc3339(text: str) -> int | None:
    """Milliseconds since 1970; None for what is no time of RFC 3339 §5.6, or none that can be shown in UTC."""
    if not _RFC3339.fullmatch(text):
        return None
    try:
        return int(datetime.fromisoformat(text.upper()).astimezone(UTC).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
