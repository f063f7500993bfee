"""Identifiers: a prefix that names the kind, and a UUIDv7 (RFC 9562 §5.7).

The UUID stands in lower-case base32hex (RFC 4648 §7), which keeps its order: ids sort by age.
"""

from __future__ import annotations

import base64
import secrets
import time

_LENGTH = 26  # 128 bits in base32 without padding
_DIGITS = "0123456789abcdefghijklmnopqrstuv"
_PAIRS = [(high + low).encode() for high in _DIGITS for low in _DIGITS]


def uuid7() -> bytes:
    """48 bits of milliseconds, 12 more of their fraction (RFC 9562 §6.2, method 3), 62 random bits.

    The fraction orders what is made within one millisecond, such as two robots of one registry.
    """
    ms, rest = divmod(time.time_ns(), 1_000_000)
    fraction = rest * 4096 // 1_000_000
    value = (ms & (2**48 - 1)) << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | secrets.randbits(62)
    return value.to_bytes(16, "big")


class Series:
    """Many ids in no time: each is one more than the one before. Up to a million within one ``begin``."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.begin()

    def begin(self) -> None:
        """From the present moment on; the order of what came before is kept unless a clock goes back."""
        start = new_id(self._prefix).encode()
        self._head, self._tail = start[:-5], start[-1:]
        self._count = 0

    def next(self) -> bytes:
        high, low = divmod(self._count, 1024)
        if high == 1024:
            self.begin()
            return self.next()
        self._count += 1
        return self._head + _PAIRS[high] + _PAIRS[low] + self._tail


def new_id(prefix: str) -> str:
    return f"{prefix}_{base64.b32hexencode(uuid7()).decode().rstrip('=').lower()}"


def is_id(prefix: str, text: str) -> bool:
    head, _, rest = text.partition("_")
    return head == prefix and len(rest) == _LENGTH and all(character in _DIGITS for character in rest)


def id_ms(identity: str) -> int:
    """When the id was made, in milliseconds since 1970."""
    return int(identity.partition("_")[2][:10], 32) >> 2


def id_floor(prefix: str, ms: int) -> str:
    """Where ids of that millisecond and later begin in the order of ids; for a time that no id has, the nearest one."""
    stamp = min(max(ms, 0), 2**48 - 1)
    return f"{prefix}_{base64.b32hexencode((stamp << 80).to_bytes(16, 'big')).decode().rstrip('=').lower()}"


def new_secret() -> str:
    """128 random bits in hex: keys of the store, upload sessions."""
    return secrets.token_hex(16)
